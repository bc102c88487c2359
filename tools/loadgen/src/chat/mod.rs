//! People who chat: [`crowd`] with the client's own core on bad networks and with an oracle at the end, [`flood`] by hand
//! and at a rate, for figures, and [`idle`] connections that only beat.
//!
//! A crowd proves that nothing is lost, doubled or out of order; a flood measures. Neither can do both: what proves keeps a
//! device's whole state for everybody, what measures must take less than a third of the machine that it shares with
//! the platform.

pub mod crowd;
mod fast;
pub mod flood;
pub mod idle;
mod link;
mod oracle;
mod people;

pub use link::Harm;
pub use oracle::Verdict;

/// What a message of the generator carries: whose it is among all of a run, and when it was meant to be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Stamp {
    /// The run in the upper half, so that an earlier run's messages are told apart; not 0.
    pub number: u64,
    /// Monotonic us.
    pub meant_us: u64,
}

/// Bytes of a stamp.
pub(crate) const STAMP_BYTES: usize = 16;

impl Stamp {
    /// Writes it in front of as many bytes as make `length`.
    pub fn put(self, out: &mut Vec<u8>, length: usize) {
        let end = out.len() + length.max(STAMP_BYTES);
        out.extend_from_slice(&self.number.to_le_bytes());
        out.extend_from_slice(&self.meant_us.to_le_bytes());
        out.resize(end, b'.');
    }

    /// Reads it from a body.
    #[inline]
    pub fn read(body: &[u8]) -> Option<Self> {
        let (number, rest) = body.split_first_chunk()?;
        let meant_us = rest.first_chunk()?;
        Some(Self { number: u64::from_le_bytes(*number), meant_us: u64::from_le_bytes(*meant_us) })
    }
}
