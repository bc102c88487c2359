//! Numbers of a difference as people read them, and as JSON carries them.

use campaign::{PrizeId, PrizeKind, RoundId, VendorId};
use serde::Serializer;
use serde::ser::SerializeSeq as _;
use std::fmt::Display;

/// Digits in groups of three: `1,234,567`.
pub fn count(n: u128) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() * 4 / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// With its sign: `+2,000`, `-5`.
pub fn signed_count(n: i128) -> String {
    format!("{}{}", if n < 0 { '-' } else { '+' }, count(n.unsigned_abs()))
}

/// Fen as yuan: `200,000.00`; below zero with a minus.
pub fn yuan(fen: i128) -> String {
    let abs = fen.unsigned_abs();
    format!("{}{}.{:02}", if fen < 0 { "-" } else { "" }, count(abs / 100), abs % 100)
}

/// A number of more than 32 bits is text in JSON.
pub(crate) fn number<T: Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

/// Ids are numbers of 32 bits.
pub(crate) trait Id: Copy {
    /// The number.
    fn number(self) -> u32;
}

impl Id for RoundId {
    fn number(self) -> u32 {
        self.0
    }
}

impl Id for PrizeId {
    fn number(self) -> u32 {
        self.0
    }
}

impl Id for VendorId {
    fn number(self) -> u32 {
        self.0
    }
}

pub(crate) fn id<T: Id, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u32(value.number())
}

pub(crate) fn ids<T: Id, S: Serializer>(values: &[T], serializer: S) -> Result<S::Ok, S::Error> {
    let mut list = serializer.serialize_seq(Some(values.len()))?;
    for value in values {
        list.serialize_element(&value.number())?;
    }
    list.end()
}

pub(crate) fn kind<S: Serializer>(value: &PrizeKind, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(value.name())
}

/// A number of 64 bits that may not be there.
pub(crate) fn option<T: Display, S: Serializer>(value: &Option<T>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => serializer.collect_str(value),
        None => serializer.serialize_none(),
    }
}
