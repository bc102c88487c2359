//! Frames: length u32, kind u8, correlation id u32, body; little-endian. The length counts everything behind
//! itself (5 + body). An answer carries the correlation id of its request.

/// Bytes of a frame without a body: a heartbeat is exactly these.
pub const FRAME_HEAD: usize = 9;

/// Largest frame, length field excluded, unless Hello names a smaller one.
pub const FRAME_MAX: usize = 64 * 1024;

/// Smallest value of a length field.
const LENGTH_MIN: usize = FRAME_HEAD - 4;

macro_rules! frame_kinds {
    ($(#[$about:meta])* $kinds:ident: $($(#[$doc:meta])* $name:ident = $n:literal),* $(,)?) => {
        $(#[$about])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u8)]
        pub enum $kinds { $($(#[$doc])* $name = $n),* }

        impl $kinds {
            /// The kind of a number on the wire.
            #[inline]
            pub fn of(n: u8) -> Option<$kinds> {
                match n { $($n => Some($kinds::$name),)* _ => None }
            }
        }
    };
}
pub(crate) use frame_kinds;

frame_kinds! {
    /// What a frame is. The number stands on the wire, frozen.
    FrameKind:
    /// First frame of a client.
    Hello = 1,
    /// Answer to Hello.
    Welcome = 2,
    /// No body, either way; answered by the same.
    Heartbeat = 3,
    /// Who is speaking.
    Login = 4,
    /// Answer to Login.
    LoginDone = 5,
    /// An entry.
    Submit = 6,
    /// Answer to Submit.
    SubmitAnswer = 7,
    /// What have I won?
    Prizes = 8,
    /// Answer to Prizes.
    PrizesAnswer = 9,
    /// I want it.
    Claim = 10,
    /// Answer to Claim.
    ClaimAnswer = 11,
    /// What I am at a vendor.
    Account = 12,
    /// Answer to Account.
    AccountAnswer = 13,
    /// Running and coming rounds; no body.
    Campaigns = 14,
    /// Answer to Campaigns.
    CampaignsAnswer = 15,
    /// The request of this correlation id failed.
    Error = 16,
    /// A message to store.
    Send = 17,
    /// Answer to Send.
    SendAnswer = 18,
    /// From the server, unasked: something new.
    Push = 19,
    /// A device has everything up to a cursor; no answer.
    Confirm = 20,
    /// Any other request to the chat service: a ChatRequest.
    Ask = 21,
    /// Answer to Ask: a ChatAnswer.
    AskAnswer = 22,
    /// From the server: connect elsewhere.
    Move = 23,
}

/// A frame within a buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Frame<'a> {
    /// What it is.
    pub kind: FrameKind,
    /// Correlation id.
    pub id: u32,
    /// The message.
    pub body: &'a [u8],
}

/// Bytes that are no frame. The stream can't be followed any further.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FrameError {
    /// A length below the head's five bytes, or above the limit.
    #[error("frame length {length} is not between 5 and {max}")]
    Length {
        /// What the length field says.
        length: usize,
        /// The largest that is taken.
        max: usize,
    },
    /// A kind that is not spoken here.
    #[error("frame kind {0} is unknown; see docs/protocol.md for the kinds of protocol version 1")]
    Kind(u8),
}

/// The first frame of the buffer and how many bytes it takes; `None` when more bytes are needed.
#[inline]
pub fn next(buffer: &[u8], max: usize) -> Result<Option<(Frame<'_>, usize)>, FrameError> {
    let found = split(buffer, max, FrameKind::of)?;
    Ok(found.map(|((kind, id, body), used)| (Frame { kind, id, body }, used)))
}

/// Kind, correlation id and body of a frame.
pub(crate) type Parts<'a, K> = (K, u32, &'a [u8]);

/// The same for frames with kinds of another table, such as those between services.
#[inline]
pub(crate) fn split<K>(
    buffer: &[u8],
    max: usize,
    kind_of: impl Fn(u8) -> Option<K>,
) -> Result<Option<(Parts<'_, K>, usize)>, FrameError> {
    let Some(length) = buffer.first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_le_bytes(*length) as usize;
    if length < LENGTH_MIN || length > max {
        return Err(FrameError::Length { length, max });
    }
    if buffer.len() < 4 + length {
        // An unknown kind is said as soon as it can be seen, not after its body.
        return match buffer.get(4) {
            Some(&n) if kind_of(n).is_none() => Err(FrameError::Kind(n)),
            _ => Ok(None),
        };
    }
    let kind = kind_of(buffer[4]).ok_or(FrameError::Kind(buffer[4]))?;
    let id = u32::from_le_bytes([buffer[5], buffer[6], buffer[7], buffer[8]]);
    Ok(Some(((kind, id, &buffer[FRAME_HEAD..4 + length]), 4 + length)))
}

/// Appends a frame whose body `write` appends.
#[inline]
pub fn put(out: &mut Vec<u8>, kind: FrameKind, id: u32, write: impl FnOnce(&mut Vec<u8>)) {
    put_parts(out, kind as u8, id, write);
}

/// The same for frames with kinds of another table.
#[inline]
pub(crate) fn put_parts(out: &mut Vec<u8>, kind: u8, id: u32, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0, 0, 0, 0, kind]);
    out.extend_from_slice(&id.to_le_bytes());
    write(out);
    let length = (out.len() - start - 4) as u32;
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
}

/// Appends a frame with a message.
#[inline]
pub fn put_message(out: &mut Vec<u8>, kind: FrameKind, id: u32, message: &impl prost::Message) {
    // A Vec grows, so encoding into it can't run out of room.
    put(out, kind, id, |out| message.encode_raw(out));
}

#[cfg(test)]
mod tests {
    use super::{FRAME_HEAD, FRAME_MAX, Frame, FrameError, FrameKind, next, put};
    use proptest::prelude::*;

    #[test]
    fn a_heartbeat_is_nine_bytes() {
        let mut out = Vec::new();
        put(&mut out, FrameKind::Heartbeat, 7, |_| ());
        assert_eq!(out, [5, 0, 0, 0, 3, 7, 0, 0, 0]);
        assert_eq!(out.len(), FRAME_HEAD);
    }

    #[test]
    fn refuses_what_is_no_frame() {
        assert_eq!(next(&[4, 0, 0, 0], 100), Err(FrameError::Length { length: 4, max: 100 }));
        assert_eq!(next(&[101, 0, 0, 0], 100), Err(FrameError::Length { length: 101, max: 100 }));
        assert_eq!(next(&[50, 0, 0, 0, 99], 100), Err(FrameError::Kind(99)));
        assert!(next(b"GET / HTTP/1.1", FRAME_MAX).is_err());
    }

    proptest! {
        #[test]
        fn round_trips_however_it_is_cut(bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 1..6), cut in 0usize..400) {
            let mut all = Vec::new();
            for (i, body) in bodies.iter().enumerate() {
                put(&mut all, FrameKind::Submit, i as u32, |out| out.extend_from_slice(body));
            }
            let cut = cut.min(all.len());
            let (mut at, mut seen) = (0, 0);
            while let Some((frame, used)) = next(&all[at..cut], FRAME_MAX).unwrap() {
                prop_assert_eq!(frame, Frame { kind: FrameKind::Submit, id: seen as u32, body: &bodies[seen] });
                at += used;
                seen += 1;
            }
            prop_assert!(cut < all.len() || seen == bodies.len());
        }

        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = next(&bytes, FRAME_MAX);
        }
    }
}
