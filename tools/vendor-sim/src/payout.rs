//! A payout as the vendor keeps it. Its whole future is planned when it is taken; what it is at any moment follows from
//! the plan and the time, so a restart has nothing to catch up with.

use serde::{Deserialize, Serialize};

/// 1-32 ASCII letters and digits, kept in place.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Id {
    len: u8,
    bytes: [u8; 32],
}

impl Id {
    /// None if it is empty, too long, or has other characters.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let len = u8::try_from(text.len()).ok().filter(|l| (1..=32).contains(l))?;
        if !text.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return None;
        }
        let mut bytes = [0; 32];
        bytes[..text.len()].copy_from_slice(text.as_bytes());
        Some(Self { len, bytes })
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..usize::from(self.len)]).unwrap_or_default()
    }
}

impl Serialize for Id {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("1-32 ASCII letters and digits are needed"))
    }
}

impl std::fmt::Debug for Id {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What is paid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Kind {
    Cash,
    Voucher,
    Goods,
    Cover,
}

impl Kind {
    /// As on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cash => "cash",
            Self::Voucher => "voucher",
            Self::Goods => "goods",
            Self::Cover => "cover",
        }
    }
}

/// What becomes of a payout's row in the statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RowFate {
    /// There from the start.
    InTime,
    /// There from an instant on.
    Late {
        /// ms UTC.
        visible_ms: u64,
    },
    /// Only in the complete statement.
    OnlyFinal,
    /// Not even there.
    Never,
}

/// All that will become of a payout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// When it is decided, ms UTC.
    pub finish_ms: u64,
    /// Decided against the payee.
    pub failed: bool,
    /// Shows a status outside the protocol until decided.
    pub unfamiliar: bool,
    /// When the money comes back, ms UTC.
    pub reverse_ms: Option<u64>,
    /// Its row.
    pub row: RowFate,
    /// Copies of each callback: none is due, or 0 (lost), 1, 2.
    pub callbacks: Option<u8>,
}

/// What a payout is at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Status {
    Accepted,
    Processing,
    Unfamiliar,
    Success,
    Failed,
    Reversed,
}

impl Status {
    /// As on the wire; `unfamiliar` is the text configured for it.
    #[must_use]
    pub fn as_str(self, unfamiliar: &str) -> &str {
        match self {
            Self::Accepted => "accepted",
            Self::Processing => "processing",
            Self::Unfamiliar => unfamiliar,
            Self::Success => "success",
            Self::Failed => "failed",
            Self::Reversed => "reversed",
        }
    }
}

/// What a sender asks for: every field counts when a number comes again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// The sender's idempotency key.
    pub number: Id,
    /// The award it is for.
    pub award: Id,
    /// What.
    pub kind: Kind,
    /// The sender's prize number.
    pub prize: u32,
    /// How much.
    pub fen: i64,
    /// The sender's account.
    pub merchant_account: Box<str>,
    /// The receiver's account.
    pub payee: Box<str>,
}

/// An order, taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payout {
    /// What was asked for.
    pub order: Order,
    /// When it was taken, ms UTC.
    pub accepted_ms: u64,
    /// What becomes of it.
    pub plan: Plan,
    /// The callback of its end was answered with 2xx.
    #[serde(skip)]
    pub finish_told: bool,
    /// The same for its reversal.
    #[serde(skip)]
    pub reverse_told: bool,
}

impl Payout {
    /// What it is at `now_ms`.
    #[must_use]
    pub fn status(&self, now_ms: u64) -> Status {
        let plan = &self.plan;
        if plan.reverse_ms.is_some_and(|at| at <= now_ms) {
            Status::Reversed
        } else if plan.finish_ms <= now_ms {
            if plan.failed { Status::Failed } else { Status::Success }
        } else if plan.unfamiliar {
            Status::Unfamiliar
        } else if now_ms < self.accepted_ms.midpoint(plan.finish_ms) {
            Status::Accepted
        } else {
            Status::Processing
        }
    }

    /// When it became what it is at `now_ms`, if that is final.
    #[must_use]
    pub fn finished_ms(&self, now_ms: u64) -> Option<u64> {
        match self.status(now_ms) {
            Status::Reversed => self.plan.reverse_ms,
            Status::Success | Status::Failed => Some(self.plan.finish_ms),
            _ => None,
        }
    }
}

/// The vendor's own name for the payout at this place of its books.
#[must_use]
pub fn vendor_ref(vendor: u32, index: u32) -> String {
    format!("R{vendor}{:012}", index + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::payout;

    #[test]
    fn ids_take_letters_and_digits_up_to_32() {
        assert_eq!(Id::parse(&"Z".repeat(32)).unwrap().as_str(), "Z".repeat(32));
        for bad in ["", "a-b", "ä", &"Z".repeat(33)] {
            assert!(Id::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_status_follows_from_plan_and_time() {
        let mut p = payout("N1", "A1", 100);
        assert_eq!((p.status(100), p.finished_ms(100)), (Status::Success, Some(100)));
        p.plan.finish_ms = 300;
        p.plan.reverse_ms = Some(500);
        let seen = [100, 199, 200, 299, 300, 499, 500].map(|t| p.status(t));
        use Status::{Accepted, Processing, Reversed, Success};
        assert_eq!(seen, [Accepted, Accepted, Processing, Processing, Success, Success, Reversed]);
        assert_eq!(
            (p.finished_ms(299), p.finished_ms(300), p.finished_ms(500)),
            (None, Some(300), Some(500))
        );
        p.plan.unfamiliar = true;
        assert_eq!((p.status(299), p.status(300)), (Status::Unfamiliar, Status::Success));
        p.plan.failed = true;
        p.plan.reverse_ms = None;
        assert_eq!(p.status(300), Status::Failed);
    }
}
