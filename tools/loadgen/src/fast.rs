//! The two messages of the hot path by hand; what looks unusual goes to the generated code.

use prost::Message;
use protocol::frame::{FRAME_HEAD, FrameKind};
use protocol::v1::{Outcome, Submit, SubmitAnswer};

/// Head, user of up to eleven bytes, five fields of up to six.
const SUBMIT_MAX: usize = FRAME_HEAD + 11 + 5 * 6;

/// Appends the frame of a submit.
#[inline]
pub(crate) fn put_submit(out: &mut Vec<u8>, id: u32, submit: &Submit) {
    let mut frame = [0u8; SUBMIT_MAX];
    let mut at = FRAME_HEAD;
    frame[4] = FrameKind::Submit as u8;
    frame[5..9].copy_from_slice(&id.to_le_bytes());
    put(&mut frame, &mut at, 0x08, submit.user);
    put(&mut frame, &mut at, 0x10, submit.campaign.into());
    put(&mut frame, &mut at, 0x18, submit.round.into());
    put(&mut frame, &mut at, 0x20, submit.counter.into());
    put(&mut frame, &mut at, 0x28, submit.shakes.into());
    put(&mut frame, &mut at, 0x30, submit.district.into());
    frame[..4].copy_from_slice(&((at - 4) as u32).to_le_bytes());
    out.extend_from_slice(&frame[..at]);
}

#[inline]
fn put(frame: &mut [u8; SUBMIT_MAX], at: &mut usize, tag: u8, mut value: u64) {
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

/// What a bench reads of an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Said {
    pub outcome: i32,
    pub next_counter: u32,
    pub next_submit_ms: u32,
}

/// Reads an answer; `None` when it is none.
#[inline]
pub(crate) fn read_answer(body: &[u8]) -> Option<Said> {
    usual(body).or_else(|| {
        let answer = SubmitAnswer::decode(body).ok()?;
        let SubmitAnswer { outcome, next_counter, next_submit_ms, .. } = answer;
        Some(Said { outcome, next_counter, next_submit_ms })
    })
}

#[inline]
fn usual(body: &[u8]) -> Option<Said> {
    let mut said = Said::default();
    let mut at = 0;
    while let Some(&tag) = body.get(at) {
        at += 1;
        let value = number(body, &mut at)?;
        match tag {
            0x08 | 0x28 | 0x38 => {}
            0x10 => said.next_counter = value as u32,
            0x18 => said.outcome = value as i32,
            0x20 => said.next_submit_ms = value as u32,
            // The award of a winner; its inside is nobody's business here.
            0x32 if said.outcome == Outcome::Won as i32 => {
                at = at.checked_add(usize::try_from(value).ok()?).filter(|end| *end <= body.len())?;
            }
            _ => return None,
        }
    }
    Some(said)
}

#[inline]
fn number(body: &[u8], at: &mut usize) -> Option<u64> {
    let rest = body.get(*at..)?;
    let mut value = 0;
    for (i, &byte) in rest.iter().take(9).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte < 0x80 {
            *at += i + 1;
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use protocol::frame::{FRAME_MAX, next};
    use protocol::v1::Award;

    proptest! {
        #[test]
        fn prost_reads_what_is_written(id: u32, user: u64, c: u32, r in 0u32..3, n: u32, s in 0u32..500, d in 0u32..2) {
            let submit = Submit { user, campaign: c, round: r, counter: n, shakes: s, district: d };
            let mut out = vec![9];
            put_submit(&mut out, id, &submit);
            let (frame, used) = next(&out[1..], FRAME_MAX).unwrap().unwrap();
            prop_assert_eq!((used + 1, frame.kind, frame.id), (out.len(), FrameKind::Submit, id));
            prop_assert_eq!(Submit::decode(frame.body).unwrap(), submit);
        }

        #[test]
        fn reads_what_prost_wrote(counter: u32, next_counter: u32, outcome in 0i32..12, wait: u32, until: u64, user: u64, won: bool) {
            let award = won.then(|| Award { award: "A".repeat(26), fen: -1, ..Award::default() });
            let answer = SubmitAnswer { counter, next_counter, outcome, next_submit_ms: wait, until_ms: until, award, user };
            let said = Said { outcome, next_counter, next_submit_ms: wait };
            prop_assert_eq!(read_answer(&answer.encode_to_vec()), Some(said));
        }

        #[test]
        fn never_disagrees_with_prost(bytes in prop::collection::vec(prop_oneof![Just(0x10u8), Just(0x18), Just(0x20), Just(2), any::<u8>()], 0..24)) {
            if let (Some(said), Ok(answer)) = (usual(&bytes), SubmitAnswer::decode(&bytes[..])) {
                let read = Said { outcome: answer.outcome, next_counter: answer.next_counter, next_submit_ms: answer.next_submit_ms };
                prop_assert_eq!(said, read);
            }
        }
    }
}
