//! The JSON that goes over the wire, and the one place where refusals become status codes. The page for senders is
//! docs/vendor-protocol.md.

use std::borrow::Cow;

use hyper::StatusCode;
use serde::{Deserialize, Deserializer, Serialize};

use crate::payout::{Id, Kind, Order, Payout, Status, vendor_ref};
use crate::sign::SignatureError;

/// Longest body taken, bytes.
pub const BODY_MAX: usize = 4096;
/// Largest amount: what a JSON number holds exactly everywhere.
const FEN_MAX: i64 = (1 << 53) - 1;
/// Longest account name, bytes.
const ACCOUNT_LEN_MAX: usize = 64;

/// Why a call was not carried out.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // each says itself what it is
pub enum Refusal {
    #[error("{0}")]
    BadRequest(String),
    #[error("{0}")]
    BadSignature(#[from] SignatureError),
    #[error("only callers on this machine may do this")]
    NotLoopback,
    #[error("this payee has no account here")]
    NoAccount,
    #[error("no vendor with this number is configured")]
    NoVendor,
    #[error("there is nothing at this path")]
    NoPath,
    #[error("this path does not take this method")]
    BadMethod,
    #[error("no payout with this number was taken")]
    NotFound,
    #[error("this number was taken before with other data")]
    Mismatch,
    #[error("{0}")]
    NotReady(&'static str),
    #[error("a body has at most 4096 bytes")]
    BodyTooLarge,
    #[error("refused for good")]
    Refused,
    #[error("over capacity; nothing was taken")]
    OverCapacity { wait_ms: u64 },
    #[error("something went wrong inside")]
    Internal,
    #[error("closed for the moment")]
    Outage,
    #[error("payouts_max is reached; nothing was taken")]
    Full,
    #[error("the journal can't be written: {0}")]
    Journal(String),
}

impl Refusal {
    /// HTTP status and code.
    #[must_use]
    pub fn status_and_code(&self) -> (StatusCode, &'static str) {
        match self {
            Self::BadRequest(_) => (StatusCode::BAD_REQUEST, "BAD_REQUEST"),
            Self::BadSignature(_) => (StatusCode::UNAUTHORIZED, "BAD_SIGNATURE"),
            Self::NotLoopback => (StatusCode::FORBIDDEN, "NOT_LOOPBACK"),
            Self::NoAccount => (StatusCode::NOT_FOUND, "NO_ACCOUNT"),
            Self::NoVendor => (StatusCode::NOT_FOUND, "NO_VENDOR"),
            Self::NoPath => (StatusCode::NOT_FOUND, "NO_PATH"),
            Self::NotFound => (StatusCode::NOT_FOUND, "NOT_FOUND"),
            Self::BadMethod => (StatusCode::METHOD_NOT_ALLOWED, "BAD_METHOD"),
            Self::Mismatch => (StatusCode::CONFLICT, "MISMATCH"),
            Self::NotReady(_) => (StatusCode::CONFLICT, "NOT_READY"),
            Self::BodyTooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "BODY_TOO_LARGE"),
            Self::Refused => (StatusCode::UNPROCESSABLE_ENTITY, "REFUSED"),
            Self::OverCapacity { .. } => (StatusCode::TOO_MANY_REQUESTS, "OVER_CAPACITY"),
            Self::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL"),
            Self::Outage => (StatusCode::SERVICE_UNAVAILABLE, "OUTAGE"),
            Self::Full => (StatusCode::SERVICE_UNAVAILABLE, "FULL"),
            Self::Journal(_) => (StatusCode::SERVICE_UNAVAILABLE, "JOURNAL"),
        }
    }

    /// Time to wait, for those that name one.
    #[must_use]
    pub fn retry_after_ms(&self) -> Option<u64> {
        if let Self::OverCapacity { wait_ms } = self { Some((*wait_ms).max(1)) } else { None }
    }

    /// The body.
    #[must_use]
    pub fn body(&self) -> Vec<u8> {
        #[derive(Serialize)]
        struct Body<'a> {
            code: &'a str,
            message: String,
            #[serde(skip_serializing_if = "Option::is_none")]
            retry_after_ms: Option<u64>,
        }
        let code = self.status_and_code().1;
        json(&Body { code, message: self.to_string(), retry_after_ms: self.retry_after_ms() })
    }
}

/// Serialises a plain struct of ours.
pub fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("plain structs with text keys always serialise")
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PayoutBody<'a> {
    #[serde(borrow)]
    number: Cow<'a, str>,
    kind: Kind,
    #[serde(borrow)]
    merchant_account: Cow<'a, str>,
    #[serde(borrow)]
    payee: Cow<'a, str>,
    #[serde(deserialize_with = "fen")]
    fen: i64,
    prize: u32,
    #[serde(borrow)]
    award: Cow<'a, str>,
}

/// A string of digits or an integer.
fn fen<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    struct Fen;
    impl serde::de::Visitor<'_> for Fen {
        type Value = i64;
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("fen as an integer or a string of digits, 0 to 9007199254740991")
        }
        fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<i64, E> {
            let fen = i64::try_from(value).ok().filter(|f| *f <= FEN_MAX);
            fen.ok_or_else(|| E::invalid_value(serde::de::Unexpected::Unsigned(value), &self))
        }
        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<i64, E> {
            let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            let fen = text.parse::<i64>().ok().filter(|f| digits && *f <= FEN_MAX);
            fen.ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(text), &self))
        }
    }
    deserializer.deserialize_any(Fen)
}

/// Reads and checks the body of a payout.
pub fn parse_order(body: &[u8]) -> Result<Order, Refusal> {
    let b: PayoutBody<'_> = serde_json::from_slice(body).map_err(|e| Refusal::BadRequest(e.to_string()))?;
    let id = |name: &str, text: &str| {
        Id::parse(text).ok_or_else(|| Refusal::BadRequest(format!("{name} is 1-32 ASCII letters and digits")))
    };
    let (number, award) = (id("number", &b.number)?, id("award", &b.award)?);
    check_account("merchant_account", &b.merchant_account)?;
    check_account("payee", &b.payee)?;
    if b.kind == Kind::Cash && b.fen == 0 {
        return Err(Refusal::BadRequest("fen is 1 or more for cash".into()));
    }
    let merchant_account = b.merchant_account.into();
    Ok(Order {
        number,
        award,
        kind: b.kind,
        prize: b.prize,
        fen: b.fen,
        merchant_account,
        payee: b.payee.into(),
    })
}

/// Reads and checks the body of an account.
pub fn parse_account(body: &[u8]) -> Result<String, Refusal> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct AccountBody {
        payee: String,
    }
    let b: AccountBody = serde_json::from_slice(body).map_err(|e| Refusal::BadRequest(e.to_string()))?;
    check_account("payee", &b.payee)?;
    Ok(b.payee)
}

fn check_account(name: &str, text: &str) -> Result<(), Refusal> {
    if (1..=ACCOUNT_LEN_MAX).contains(&text.len()) && !text.chars().any(char::is_control) {
        return Ok(());
    }
    Err(Refusal::BadRequest(format!("{name} is 1-64 bytes without control characters")))
}

/// The number and the attempt that an id `{number}_{attempt}` names.
pub fn parse_message_id(id: &str) -> Result<(&str, u64), Refusal> {
    id.split_once('_').and_then(|(number, attempt)| Some((number, attempt.parse().ok()?))).ok_or_else(|| {
        Refusal::BadRequest("webhook-id is the number, `_`, and the attempt in decimal".into())
    })
}

/// A payout as answered to its sender.
#[derive(Serialize)]
pub struct PayoutAnswer<'a> {
    number: &'a str,
    status: &'a str,
    vendor_ref: String,
    fen: String,
    accepted_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    finished_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    duplicate: bool,
}

/// Why payouts fail, where they do.
const FAILED_CODE: &str = "ACCOUNT_FROZEN";

/// The answer for the payout at `index` of the vendor's books, as of `now_ms`.
pub fn payout_answer(
    vendor: u32,
    index: u32,
    payout: &Payout,
    now_ms: u64,
    unfamiliar: &str,
    duplicate: bool,
) -> Vec<u8> {
    let status = payout.status(now_ms);
    json(&PayoutAnswer {
        number: payout.order.number.as_str(),
        status: status.as_str(unfamiliar),
        vendor_ref: vendor_ref(vendor, index),
        fen: payout.order.fen.to_string(),
        accepted_ms: payout.accepted_ms,
        finished_ms: payout.finished_ms(now_ms),
        code: (status == Status::Failed).then_some(FAILED_CODE),
        duplicate,
    })
}

/// Which event a callback tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// Success or failure.
    Finish,
    /// The money came back.
    Reverse,
}

/// Id and body of a callback.
pub fn callback(vendor: u32, index: u32, payout: &Payout, event: Event) -> (String, Vec<u8>) {
    #[derive(Serialize)]
    struct Body<'a> {
        r#type: &'a str,
        vendor: u32,
        number: &'a str,
        award: &'a str,
        vendor_ref: String,
        status: &'a str,
        fen: String,
        accepted_ms: u64,
        finished_ms: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        code: Option<&'static str>,
    }
    let plan = &payout.plan;
    let (r#type, status, finished_ms) = match event {
        Event::Finish if plan.failed => ("payout.finished", "failed", plan.finish_ms),
        Event::Finish => ("payout.finished", "success", plan.finish_ms),
        Event::Reverse => ("payout.reversed", "reversed", plan.reverse_ms.unwrap_or(plan.finish_ms)),
    };
    let number = payout.order.number.as_str();
    let body = json(&Body {
        r#type,
        vendor,
        number,
        award: payout.order.award.as_str(),
        vendor_ref: vendor_ref(vendor, index),
        status,
        fen: payout.order.fen.to_string(),
        accepted_ms: payout.accepted_ms,
        finished_ms,
        code: (status == "failed").then_some(FAILED_CODE),
    });
    (format!("cb_{number}_{status}"), body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{order, payout};

    const GOOD: &str = r#"{"number":"N1","kind":"cash","merchant_account":"m-1","payee":"openid-42","fen":"880","prize":3,"award":"A1"}"#;

    #[test]
    fn an_order_is_read_with_fen_as_text_or_number() {
        assert_eq!(parse_order(GOOD.as_bytes()).unwrap(), order("N1", "A1"));
        let number = GOOD.replace("\"880\"", "880");
        assert_eq!(parse_order(number.as_bytes()).unwrap(), order("N1", "A1"));
    }

    #[test]
    fn a_bad_order_is_told_what_is_wrong() {
        for (from, to, says) in [
            ("N1", "N-1", "number is 1-32"),
            ("A1", "", "award is 1-32"),
            ("cash", "gold", "unknown variant"),
            ("openid-42", "a\\nb", "payee is 1-64"),
            ("m-1", "", "merchant_account is 1-64"),
            ("\"880\"", "-1", "invalid"),
            ("\"880\"", "8.8", "invalid"),
            ("\"880\"", "\"+88\"", "invalid"),
            ("\"880\"", "\"9007199254740992\"", "invalid"),
            ("\"880\"", "0", "1 or more for cash"),
            ("\"prize\":3", "\"prize\":-3", "invalid"),
            ("\"prize\":3", "\"prise\":3", "unknown field"),
            (",\"award\":\"A1\"", "", "missing field `award`"),
        ] {
            let error = parse_order(GOOD.replace(from, to).as_bytes()).unwrap_err().to_string();
            assert!(error.contains(says), "{to}: {error}");
        }
    }

    #[test]
    fn answers_look_as_the_page_says() {
        let mut p = payout("N1", "A1", 100);
        let text =
            |p: &Payout, now, dup| String::from_utf8(payout_answer(1, 41, p, now, "ODD", dup)).unwrap();
        assert_eq!(
            text(&p, 100, false),
            r#"{"number":"N1","status":"success","vendor_ref":"R1000000000042","fen":"880","accepted_ms":100,"finished_ms":100}"#
        );
        p.plan.finish_ms = 300;
        p.plan.failed = true;
        assert_eq!(
            text(&p, 100, true),
            r#"{"number":"N1","status":"accepted","vendor_ref":"R1000000000042","fen":"880","accepted_ms":100,"duplicate":true}"#
        );
        assert!(text(&p, 300, false).contains(r#""code":"ACCOUNT_FROZEN""#));
        let (id, body) = callback(1, 41, &p, Event::Finish);
        assert_eq!(id, "cb_N1_failed");
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((&body["type"], &body["status"]), (&"payout.finished".into(), &"failed".into()));
    }

    #[test]
    fn message_ids_name_number_and_attempt() {
        assert_eq!(parse_message_id("N1_12").unwrap(), ("N1", 12));
        assert!(parse_message_id("N1").is_err() && parse_message_id("N1_x").is_err());
    }
}
