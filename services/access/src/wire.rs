//! The two messages of the hot path, read and written by hand.
//!
//! The generated code is right and general; at a million a second these two deserve less. Whatever looks unusual
//! (an unknown field, an odd wire type, a number of ten bytes, anything malformed) goes to the generated code, so
//! there is one truth about what a message is; property tests hold the two together.

use prost::DecodeError;
use prost::Message;
use protocol::calls::SubmitReply;
use protocol::frame::{FRAME_HEAD, FrameKind, put_message};
use protocol::v1::{Submit, SubmitAnswer};

/// Reads a Submit.
///
/// # Errors
/// What the generated decoder says.
#[inline]
pub fn read_submit(body: &[u8]) -> Result<Submit, DecodeError> {
    match read_usual(body) {
        Some(submit) => Ok(submit),
        None => Submit::decode(body),
    }
}

#[inline]
fn read_usual(body: &[u8]) -> Option<Submit> {
    let mut submit = Submit::default();
    let mut at = 0;
    while let Some(&tag) = body.get(at) {
        let value = read_number(body, &mut at)?;
        // Narrower fields take the low bits, as Protobuf has it.
        match tag {
            0x08 => submit.user = value,
            0x10 => submit.campaign = value as u32,
            0x18 => submit.round = value as u32,
            0x20 => submit.counter = value as u32,
            0x28 => submit.shakes = value as u32,
            0x30 => submit.district = value as u32,
            _ => return None,
        }
    }
    Some(submit)
}

/// The varint behind the tag at `at`; moves behind it. Up to nine bytes, which hold 63 bits.
#[inline]
fn read_number(body: &[u8], at: &mut usize) -> Option<u64> {
    let rest = body.get(*at + 1..)?;
    let mut value = 0;
    for (i, &byte) in rest.iter().take(9).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte < 0x80 {
            *at += i + 2;
            return Some(value);
        }
    }
    None
}

/// Longest frame of an answer without an award: head, five fields of up to six bytes, two of up to eleven.
const PLAIN_MAX: usize = FRAME_HEAD + 5 * 6 + 2 * 11;

/// Appends the frame of an answer. `user` is the user on gateway connections and 0 elsewhere.
#[inline]
pub fn put_answer(out: &mut Vec<u8>, id: u32, reply: SubmitReply, user: u64) {
    if reply.award.is_some() {
        put_message(out, FrameKind::SubmitAnswer, id, &answer(reply, user));
        return;
    }
    let mut frame = [0u8; PLAIN_MAX];
    let mut at = FRAME_HEAD;
    frame[4] = FrameKind::SubmitAnswer as u8;
    frame[5..9].copy_from_slice(&id.to_le_bytes());
    put_number(&mut frame, &mut at, 0x08, u64::from(reply.counter));
    put_number(&mut frame, &mut at, 0x10, u64::from(reply.next_counter));
    put_number(&mut frame, &mut at, 0x18, reply.outcome as u64);
    put_number(&mut frame, &mut at, 0x20, u64::from(reply.next_submit_ms));
    put_number(&mut frame, &mut at, 0x28, reply.until_ms);
    put_number(&mut frame, &mut at, 0x38, user);
    frame[..4].copy_from_slice(&((at - 4) as u32).to_le_bytes());
    out.extend_from_slice(&frame[..at]);
}

#[inline]
fn put_number(frame: &mut [u8; PLAIN_MAX], at: &mut usize, tag: u8, mut value: u64) {
    if value == 0 {
        return;
    }
    frame[*at] = tag;
    *at += 1;
    while value >= 0x80 {
        frame[*at] = value as u8 | 0x80;
        *at += 1;
        value >>= 7;
    }
    frame[*at] = value as u8;
    *at += 1;
}

/// The answer as a message.
pub fn answer(reply: SubmitReply, user: u64) -> SubmitAnswer {
    SubmitAnswer {
        counter: reply.counter,
        next_counter: reply.next_counter,
        outcome: reply.outcome as i32,
        next_submit_ms: reply.next_submit_ms,
        until_ms: reply.until_ms,
        award: reply.award.map(|award| *award),
        user,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use protocol::frame;
    use protocol::v1::{Award, Outcome};

    fn number() -> impl Strategy<Value = u64> {
        prop_oneof![Just(0), 0u64..300, any::<u32>().prop_map(u64::from), any::<u64>()]
    }

    proptest! {
        #[test]
        fn reads_what_prost_wrote(user in number(), c in number(), r in number(), n in number(), s in number(), d in number()) {
            let submit = Submit {
                user, campaign: c as u32, round: r as u32, counter: n as u32, shakes: s as u32, district: d as u32,
            };
            let bytes = submit.encode_to_vec();
            prop_assert_eq!(read_submit(&bytes).unwrap(), submit);
            // A user id of ten bytes is the generated code's; all else is read here.
            prop_assert_eq!(read_usual(&bytes).is_some(), user < 1 << 63);
        }

        /// On any bytes at all, the two say the same. Bytes are drawn near what a Submit looks like.
        #[test]
        fn agrees_with_prost_on_any_bytes(bytes in prop::collection::vec(
            prop_oneof![Just(0x08u8), Just(0x10), Just(0x18), Just(0x20), Just(0x28), Just(0x30), Just(0x38), Just(0xff), any::<u8>()],
            0..40,
        )) {
            match (read_usual(&bytes), Submit::decode(&bytes[..])) {
                (Some(ours), theirs) => prop_assert_eq!(Ok(ours), theirs),
                (None, theirs) => prop_assert_eq!(read_submit(&bytes), theirs),
            }
        }

        #[test]
        fn writes_what_prost_reads(
            id: u32, counter in number(), next in number(), outcome in 1i32..11, wait in number(), until in number(),
            user in number(), won: bool,
        ) {
            let award = won.then(|| Box::new(Award { award: "A".repeat(26), fen: -1, ..Award::default() }));
            let reply = SubmitReply {
                tag: 0, user, counter: counter as u32, next_counter: next as u32,
                outcome: Outcome::try_from(outcome).unwrap(), next_submit_ms: wait as u32, until_ms: until, award,
            };
            let mut out = vec![1, 2, 3];
            put_answer(&mut out, id, reply.clone(), user);
            let (frame, used) = frame::next(&out[3..], frame::FRAME_MAX).unwrap().unwrap();
            prop_assert_eq!((used, frame.kind, frame.id), (out.len() - 3, FrameKind::SubmitAnswer, id));
            prop_assert_eq!(SubmitAnswer::decode(frame.body).unwrap(), answer(reply, user));
        }
    }
}
