//! The frames between services: kinds, and the two bodies of the hot path read and written by hand.
//!
//! Entries and replies without an award have one layout each, every field written, so that a batch is built by
//! copying and read by comparing tags. Any other bytes go to the generated code: there is one truth about what a
//! message is, and the property tests hold the two together.

use super::draws::{SubmitCall, SubmitReply};
use super::limits::{CALL_FRAME_MAX, REPLIES_BYTES};
use crate::frame::{FrameError, Parts, frame_kinds, put_parts, split};
use crate::v1::{Award, Outcome};
use prost::Message;

/// Messages generated from `proto/hongbao/calls/v1`.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub(super) mod v1 {
    include!(concat!(env!("OUT_DIR"), "/hongbao.calls.v1.rs"));
}

frame_kinds! {
    /// What a frame between services is. Numbers from 32 on, so that none is mistaken for a player's; heartbeat and
    /// error are the same on both.
    CallKind:
    /// No body, either way; answered by the same.
    Heartbeat = 3,
    /// The call of this correlation id failed; the body is the players' Error.
    Error = 16,
    /// First frame of the side that connects.
    Hello = 32,
    /// Answer to Hello.
    Challenge = 33,
    /// Answer to Challenge.
    Proof = 34,
    /// Answer to Proof: the connection is open.
    Welcome = 35,
    /// Entries to decide.
    Submits = 40,
    /// Decisions.
    Replies = 41,
    /// To flow: what has a user won? The body is the players' PrizesRequest.
    Prizes = 42,
    /// Answer to Prizes.
    PrizesAnswer = 43,
    /// To flow: the players' Claim.
    Claim = 44,
    /// Answer to Claim.
    ClaimAnswer = 45,
    /// To delivery: the players' Account.
    Account = 46,
    /// Answer to Account.
    AccountAnswer = 47,
    /// To flow: which positions has the award store passed?
    Passed = 48,
    /// Answer to Passed.
    PassedAnswer = 49,
    /// To flow: past wins of users.
    Wins = 50,
    /// Answer to Wins.
    WinsAnswer = 51,
    /// To chat, first on its connection: which access node this is.
    ChatOpen = 60,
    /// To chat: what has become of devices.
    ChatDevices = 61,
    /// To chat: messages to store.
    ChatSends = 62,
    /// Answers to them.
    ChatReplies = 63,
    /// To chat: any other request.
    ChatAsk = 64,
    /// Answer to ChatAsk: the players' ChatAnswer.
    ChatAskAnswer = 65,
    /// From chat, unasked: pushes for connections of the access node.
    ChatPushes = 66,
    /// From chat node to chat node, without an answer: the id is the number of the node that says it, the body is the chat
    /// service's own.
    PeerSays = 67,
}

impl CallKind {
    /// Whether it answers a call other than a submit.
    pub(super) fn is_answer(self) -> bool {
        use CallKind::{AccountAnswer, ClaimAnswer, PassedAnswer, PrizesAnswer, WinsAnswer};
        matches!(self, PrizesAnswer | ClaimAnswer | AccountAnswer | PassedAnswer | WinsAnswer)
    }
}

/// The first frame of a buffer.
#[inline]
pub(super) fn next(buffer: &[u8], max: usize) -> Result<Option<(Parts<'_, CallKind>, usize)>, FrameError> {
    split(buffer, max, CallKind::of)
}

/// Appends a frame with a message.
pub(super) fn put_message(out: &mut Vec<u8>, kind: CallKind, id: u32, message: &impl Message) {
    // A Vec grows, so encoding into it can't run out of room.
    put_parts(out, kind as u8, id, |out| message.encode_raw(out));
}

/// Appends a frame with no body.
pub(super) fn put_empty(out: &mut Vec<u8>, kind: CallKind, id: u32) {
    put_parts(out, kind as u8, id, |_| ());
}

/// Body of an entry, and of its place in the list with tag and length.
const ENTRY: usize = 34;
const ENTRY_ROW: usize = ENTRY + 2;

/// Body of a reply without an award, and of its place in the list.
const REPLY: usize = 30;
const REPLY_ROW: usize = REPLY + 2;

/// Field 1, length-delimited: how an element of both lists begins.
const ELEMENT: u8 = 0x0a;

fn u32_at(row: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([row[at], row[at + 1], row[at + 2], row[at + 3]])
}

fn u64_at(row: &[u8], at: usize) -> u64 {
    u64::from(u32_at(row, at)) | u64::from(u32_at(row, at + 4)) << 32
}

/// Appends a frame of submits.
pub(super) fn put_submits(out: &mut Vec<u8>, id: u32, calls: &[SubmitCall]) {
    put_parts(out, CallKind::Submits as u8, id, |out| {
        out.reserve(calls.len() * ENTRY_ROW);
        for call in calls {
            let mut row = [0u8; ENTRY_ROW];
            (row[0], row[1]) = (ELEMENT, ENTRY as u8);
            row[2] = 0x09;
            row[3..11].copy_from_slice(&call.user.to_le_bytes());
            let numbers = [call.campaign, call.round, call.counter, call.shakes, call.district];
            for (i, number) in numbers.into_iter().enumerate() {
                // Fields 2 to 6, each four bytes wide.
                row[11 + 5 * i] = 0x15 + 8 * i as u8;
                row[12 + 5 * i..16 + 5 * i].copy_from_slice(&number.to_le_bytes());
            }
            out.extend_from_slice(&row);
        }
    });
}

/// Appends the entries of a frame, marked with its correlation id and their places.
pub(super) fn read_submits(
    id: u32,
    body: &[u8],
    calls: &mut Vec<SubmitCall>,
) -> Result<(), prost::DecodeError> {
    let before = calls.len();
    let mark = u64::from(id) << 32;
    let (rows, rest) = body.as_chunks::<ENTRY_ROW>();
    let usual = rest.is_empty()
        && rows.iter().all(|row| {
            let tags = row[0] == ELEMENT && row[1] == ENTRY as u8 && row[2] == 0x09;
            tags && (0..5).all(|i| row[11 + 5 * i] == 0x15 + 8 * i as u8)
        });
    if !usual {
        let submits = v1::Submits::decode(body)?;
        calls.extend(submits.entries.iter().enumerate().map(|(i, entry)| SubmitCall {
            tag: mark | i as u64,
            user: entry.user,
            campaign: entry.campaign,
            round: entry.round,
            counter: entry.counter,
            shakes: entry.shakes,
            district: entry.district,
        }));
        return Ok(());
    }
    calls.reserve(rows.len());
    for row in rows {
        let i = (calls.len() - before) as u64;
        calls.push(SubmitCall {
            tag: mark | i,
            user: u64_at(row, 3),
            campaign: u32_at(row, 12),
            round: u32_at(row, 17),
            counter: u32_at(row, 22),
            shakes: u32_at(row, 27),
            district: u32_at(row, 32),
        });
    }
    Ok(())
}

/// Appends frames of replies, as many as their size asks for. Takes the replies out of `replies`.
pub(super) fn put_replies(out: &mut Vec<u8>, replies: &mut Vec<SubmitReply>) {
    let mut replies = replies.drain(..).peekable();
    while replies.peek().is_some() {
        put_parts(out, CallKind::Replies as u8, 0, |out| {
            let end = out.len() + REPLIES_BYTES;
            while out.len() < end
                && let Some(reply) = replies.next()
            {
                put_reply(out, reply);
            }
        });
    }
}

fn put_reply(out: &mut Vec<u8>, reply: SubmitReply) {
    if let Some(award) = reply.award {
        let message = v1::Reply {
            mark: reply.tag,
            next_counter: reply.next_counter,
            next_submit_ms: reply.next_submit_ms,
            until_ms: reply.until_ms,
            outcome: reply.outcome as i32,
            award: Some(*award),
        };
        prost::encoding::message::encode(1, &message, out);
        return;
    }
    let mut row = [0u8; REPLY_ROW];
    (row[0], row[1]) = (ELEMENT, REPLY as u8);
    row[2] = 0x09;
    row[3..11].copy_from_slice(&reply.tag.to_le_bytes());
    row[11] = 0x15;
    row[12..16].copy_from_slice(&reply.next_counter.to_le_bytes());
    row[16] = 0x1d;
    row[17..21].copy_from_slice(&reply.next_submit_ms.to_le_bytes());
    row[21] = 0x21;
    row[22..30].copy_from_slice(&reply.until_ms.to_le_bytes());
    // Outcomes are below 128: one byte.
    (row[30], row[31]) = (0x28, reply.outcome as u8);
    out.extend_from_slice(&row);
}

/// A reply as it came over the wire.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct ReplyRow {
    pub mark: u64,
    pub next_counter: u32,
    pub next_submit_ms: u32,
    pub until_ms: u64,
    pub outcome: Outcome,
    pub award: Option<Box<Award>>,
}

/// Why a body is no list of replies.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub(super) enum RepliesError {
    #[error(transparent)]
    Decode(#[from] prost::DecodeError),
    #[error("outcome {0} is unknown here")]
    Outcome(i32),
}

/// Hands over the replies of a frame, one by one.
pub(super) fn read_replies(mut body: &[u8], mut each: impl FnMut(ReplyRow)) -> Result<(), RepliesError> {
    while let Some((row, rest)) = body.split_first_chunk::<REPLY_ROW>() {
        let usual = row[0] == ELEMENT
            && row[1] == REPLY as u8
            && (row[2], row[11], row[16], row[21], row[30]) == (0x09, 0x15, 0x1d, 0x21, 0x28)
            && row[31] < 0x80;
        if !usual {
            break;
        }
        each(ReplyRow {
            mark: u64_at(row, 3),
            next_counter: u32_at(row, 12),
            next_submit_ms: u32_at(row, 17),
            until_ms: u64_at(row, 22),
            outcome: outcome(i32::from(row[31]))?,
            award: None,
        });
        body = rest;
    }
    // From the first unusual one on: an award makes its element longer, so wins come here.
    while !body.is_empty() {
        let Some((element, rest)) = element(body) else {
            return read_unusual(body, each);
        };
        each(row_of(v1::Reply::decode(element)?)?);
        body = rest;
    }
    Ok(())
}

/// The body of the first element of the list, where it is laid out as it should be.
fn element(body: &[u8]) -> Option<(&[u8], &[u8])> {
    let [ELEMENT, rest @ ..] = body else { return None };
    let mut rest = rest;
    let length = prost::encoding::decode_varint(&mut rest).ok()?;
    rest.split_at_checked(usize::try_from(length).ok()?)
}

fn read_unusual(body: &[u8], mut each: impl FnMut(ReplyRow)) -> Result<(), RepliesError> {
    for reply in v1::Replies::decode(body)?.replies {
        each(row_of(reply)?);
    }
    Ok(())
}

fn row_of(reply: v1::Reply) -> Result<ReplyRow, RepliesError> {
    Ok(ReplyRow {
        mark: reply.mark,
        next_counter: reply.next_counter,
        next_submit_ms: reply.next_submit_ms,
        until_ms: reply.until_ms,
        outcome: outcome(reply.outcome)?,
        award: reply.award.map(Box::new),
    })
}

fn outcome(number: i32) -> Result<Outcome, RepliesError> {
    match Outcome::try_from(number) {
        Ok(Outcome::Unspecified) | Err(_) => Err(RepliesError::Outcome(number)),
        Ok(outcome) => Ok(outcome),
    }
}

const _: () = assert!(REPLIES_BYTES < CALL_FRAME_MAX);

#[cfg(test)]
mod tests;
