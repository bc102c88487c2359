//! What stands in the bodies of the vendor protocol (`docs/vendor-protocol.md`), and what each answer means for us.

use super::{Believed, Payout};
use crate::core::{Answer, AskAnswer, Fact, FactKind, parse_number};
use campaign::Fen;
use serde::{Deserialize, Serialize};

/// What the protocol can't express, or what is not in the protocol.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ProtocolError {
    /// A name that is too long, empty, or has control characters.
    #[error("{0} has 1 to 64 bytes and no control characters")]
    Text(&'static str),
    /// An amount that is not allowed.
    #[error("{0} fen can't be paid: cash is at least 1, everything at most 9007199254740991")]
    Amount(i64),
    /// A body that does not parse, or that speaks of another thing.
    #[error("{0}")]
    Body(String),
}

/// Most fen of a payout.
const FEN_MAX: i64 = 9_007_199_254_740_991;

#[derive(Serialize)]
struct PayBody<'a> {
    number: &'a str,
    kind: &'static str,
    merchant_account: &'a str,
    payee: &'a str,
    fen: String,
    prize: u32,
    award: String,
}

/// The bytes of a payout: fields in this order, no spaces.
pub fn pay_body(payout: &Payout) -> Result<Vec<u8>, ProtocolError> {
    for (name, text) in [("payee", &payout.payee), ("merchant account", &payout.merchant)] {
        if !(1..=64).contains(&text.len()) || text.chars().any(char::is_control) {
            return Err(ProtocolError::Text(name));
        }
    }
    let least = i64::from(payout.kind == campaign::PrizeKind::Cash);
    if !(least..=FEN_MAX).contains(&payout.fen.0) {
        return Err(ProtocolError::Amount(payout.fen.0));
    }
    let body = PayBody {
        number: &payout.number,
        kind: payout.kind.name(),
        merchant_account: &payout.merchant,
        payee: &payout.payee,
        fen: payout.fen.0.to_string(),
        prize: payout.prize.0,
        award: payout.award.to_string(),
    };
    serde_json::to_vec(&body).map_err(|error| ProtocolError::Body(error.to_string()))
}

/// What a vendor says of a payout. Fields that we don't know are let pass: a vendor may add some.
#[derive(Deserialize)]
struct Told {
    number: String,
    status: String,
    #[serde(default)]
    vendor_ref: String,
    fen: String,
    #[serde(default)]
    code: String,
}

impl Told {
    /// Reads the body of a 200; one that speaks of another payout is as good as none.
    fn read(body: &[u8], number: &str, fen: Fen) -> Result<Told, String> {
        let told: Told = serde_json::from_slice(body).map_err(|e| format!("200 without sense: {e}"))?;
        if told.number != number {
            return Err("200 about another number".to_owned());
        }
        if told.fen.parse() != Ok(fen.0) {
            return Err(format!("200 about {} fen", told.fen));
        }
        Ok(told)
    }
}

#[derive(Deserialize, Default)]
struct Problem {
    #[serde(default)]
    code: String,
    #[serde(default)]
    retry_after_ms: u64,
}

/// Status, `Retry-After` in ms (0: none) and body of an answer.
pub struct Reply<'a> {
    /// HTTP status.
    pub status: u16,
    /// `Retry-After`, ms; 0: none.
    pub retry_after_ms: u64,
    /// The body.
    pub body: &'a [u8],
}

impl Reply<'_> {
    fn problem(&self) -> Problem {
        serde_json::from_slice(self.body).unwrap_or_default()
    }

    /// The finer of the two hints, at most a day: a vendor does not park a prize for longer.
    fn wait_ms(&self, problem: &Problem) -> u64 {
        let hint = if problem.retry_after_ms > 0 { problem.retry_after_ms } else { self.retry_after_ms };
        hint.min(86_400_000)
    }
}

/// Sorts the answer to a payout.
pub fn answer(reply: &Reply<'_>, number: &str, fen: Fen) -> Answer {
    if reply.status == 200 {
        return match Told::read(reply.body, number, fen) {
            Err(note) => Answer::Unknown { note },
            Ok(told) => match told.status.as_str() {
                "success" => Answer::Accepted { is_final: true, vendor_ref: told.vendor_ref },
                "accepted" | "processing" => {
                    Answer::Accepted { is_final: false, vendor_ref: told.vendor_ref }
                }
                "failed" => Answer::NumberDead { code: told.code },
                "reversed" => Answer::Reversed { vendor_ref: told.vendor_ref },
                other => Answer::Unknown { note: format!("unfamiliar status {other}") },
            },
        };
    }
    let problem = reply.problem();
    let retry_after_ms = reply.wait_ms(&problem);
    match (reply.status, problem.code.as_str()) {
        (401, "BAD_SIGNATURE") => {
            Answer::NotTaken { retry_after_ms: 0, over_limit: false, code: problem.code }
        }
        (404, "NO_ACCOUNT") => Answer::NoAccount,
        (429, "OVER_CAPACITY") => Answer::NotTaken { retry_after_ms, over_limit: true, code: problem.code },
        (400, "BAD_REQUEST")
        | (404, "NO_VENDOR" | "NO_PATH")
        | (405, "BAD_METHOD")
        | (409, "MISMATCH")
        | (413, "BODY_TOO_LARGE")
        | (422, "REFUSED") => Answer::RefusedForGood { code: problem.code },
        (status, code) => Answer::Unknown { note: format!("{status} {code}") },
    }
}

/// Sorts the answer to a question.
pub fn ask_answer(reply: &Reply<'_>, number: &str, fen: Fen) -> AskAnswer {
    if reply.status == 200 {
        return match Told::read(reply.body, number, fen) {
            Err(note) => AskAnswer::Unfamiliar { note },
            Ok(told) => match told.status.as_str() {
                "success" => AskAnswer::Success { vendor_ref: told.vendor_ref },
                "accepted" | "processing" => AskAnswer::Pending { vendor_ref: told.vendor_ref },
                "failed" => AskAnswer::Failed { code: told.code },
                "reversed" => AskAnswer::Reversed { vendor_ref: told.vendor_ref },
                other => AskAnswer::Unfamiliar { note: format!("unfamiliar status {other}") },
            },
        };
    }
    let problem = reply.problem();
    match (reply.status, problem.code.as_str()) {
        (404, "NOT_FOUND") => AskAnswer::NotFound,
        (status, code) => {
            let retry_after_ms = reply.wait_ms(&problem);
            AskAnswer::NoAnswer { note: format!("{status} {code}"), retry_after_ms }
        }
    }
}

#[derive(Deserialize)]
struct CallbackBody {
    #[serde(rename = "type")]
    kind: String,
    #[serde(flatten)]
    told: Told,
}

/// Reads a callback whose signature has been checked.
pub fn callback(body: &[u8]) -> Result<Believed, ProtocolError> {
    let body: CallbackBody =
        serde_json::from_slice(body).map_err(|error| ProtocolError::Body(error.to_string()))?;
    let told = body.told;
    let (award, generation) = parse_number(&told.number)
        .ok_or_else(|| ProtocolError::Body("its number is none of ours".to_owned()))?;
    let fen = told.fen.parse().map_err(|_| ProtocolError::Body("fen is no integer".to_owned()))?;
    let kind = match (body.kind.as_str(), told.status.as_str()) {
        ("payout.finished", "success") => FactKind::Success { vendor_ref: told.vendor_ref },
        ("payout.finished", "failed") => FactKind::Failed { code: told.code },
        ("payout.reversed", "reversed") => FactKind::Reversed { vendor_ref: told.vendor_ref },
        (kind, status) => return Err(ProtocolError::Body(format!("type {kind} with status {status}"))),
    };
    Ok(Believed { award, fact: Fact { generation, fen: Some(Fen(fen)), kind } })
}

/// The vendor that a callback names; only good for choosing the key that it is then checked with.
pub fn vendor_named_by(body: &[u8]) -> Option<u32> {
    #[derive(Deserialize)]
    struct Named {
        vendor: u32,
    }
    serde_json::from_slice::<Named>(body).ok().map(|named| named.vendor)
}

#[cfg(test)]
mod tests {
    use super::{Answer, AskAnswer, Reply, answer, ask_answer, callback, pay_body};
    use crate::core::FactKind;
    use crate::vendor::Payout;
    use campaign::{AwardId, Fen, PrizeId, PrizeKind};

    const NUMBER: &str = "0123456789ABCDEFGHJKMNPQRS01";

    fn told(status: &str) -> String {
        format!(
            r#"{{"number":"{NUMBER}","status":"{status}","vendor_ref":"R1","fen":"880","accepted_ms":1}}"#
        )
    }

    fn sorted(status: u16, body: &str) -> Answer {
        answer(&Reply { status, retry_after_ms: 2_000, body: body.as_bytes() }, NUMBER, Fen(880))
    }

    #[test]
    fn the_body_is_that_of_the_page() {
        let award: AwardId = "0123456789ABCDEFGHJKMNPQRS".parse().unwrap();
        let payout = Payout {
            number: NUMBER.to_owned(),
            award,
            kind: PrizeKind::Cash,
            prize: PrizeId(3),
            fen: Fen(880),
            merchant: "m-1".to_owned(),
            payee: "openid-42".to_owned(),
        };
        let expected = r#"{"number":"0123456789ABCDEFGHJKMNPQRS01","kind":"cash","merchant_account":"m-1","payee":"openid-42","fen":"880","prize":3,"award":"0123456789ABCDEFGHJKMNPQRS"}"#;
        assert_eq!(pay_body(&payout).unwrap(), expected.as_bytes());
        assert!(pay_body(&Payout { fen: Fen(0), ..payout.clone() }).is_err());
        assert!(pay_body(&Payout { payee: "a\nb".to_owned(), ..payout.clone() }).is_err());
        assert!(pay_body(&Payout { payee: "x".repeat(65), ..payout }).is_err());
    }

    #[test]
    fn answers_are_sorted_as_the_page_says() {
        let accepted = |is_final| Answer::Accepted { is_final, vendor_ref: "R1".to_owned() };
        assert_eq!(sorted(200, &told("success")), accepted(true));
        assert_eq!(sorted(200, &told("processing")), accepted(false));
        assert!(matches!(sorted(200, &told("failed")), Answer::NumberDead { .. }));
        assert!(matches!(sorted(200, &told("reversed")), Answer::Reversed { .. }));
        assert!(matches!(sorted(200, &told("queued")), Answer::Unknown { .. }));
        assert!(matches!(sorted(200, &told("success").replace("880", "881")), Answer::Unknown { .. }));
        assert!(matches!(sorted(200, &told("success").replace("RS01", "RS02")), Answer::Unknown { .. }));
        assert!(matches!(sorted(200, "<html>"), Answer::Unknown { .. }));
        let code = |code: &str| format!(r#"{{"code":"{code}","message":"x","retry_after_ms":1500}}"#);
        for (status, name) in [(400, "BAD_REQUEST"), (404, "NO_VENDOR"), (409, "MISMATCH"), (422, "REFUSED")]
        {
            assert_eq!(sorted(status, &code(name)), Answer::RefusedForGood { code: name.to_owned() });
        }
        assert_eq!(sorted(404, &code("NO_ACCOUNT")), Answer::NoAccount);
        assert!(matches!(sorted(401, &code("BAD_SIGNATURE")), Answer::NotTaken { over_limit: false, .. }));
        let over =
            Answer::NotTaken { retry_after_ms: 1500, over_limit: true, code: "OVER_CAPACITY".to_owned() };
        assert_eq!(sorted(429, &code("OVER_CAPACITY")), over);
        for (status, name) in [(400, "NEW"), (418, ""), (500, "SYSTEM"), (503, "BAD_REQUEST"), (429, "")] {
            assert!(matches!(sorted(status, &code(name)), Answer::Unknown { .. }), "{status} {name}");
        }
    }

    #[test]
    fn questions_and_callbacks_are_sorted_as_the_page_says() {
        let ask = |status, body: &str| {
            ask_answer(&Reply { status, retry_after_ms: 0, body: body.as_bytes() }, NUMBER, Fen(880))
        };
        assert_eq!(ask(200, &told("success")), AskAnswer::Success { vendor_ref: "R1".to_owned() });
        assert_eq!(ask(404, r#"{"code":"NOT_FOUND"}"#), AskAnswer::NotFound);
        assert!(matches!(ask(404, "gateway"), AskAnswer::NoAnswer { .. }));
        assert!(matches!(ask(200, &told("odd")), AskAnswer::Unfamiliar { .. }));

        let body =
            told("success").replace("{\"number", "{\"type\":\"payout.finished\",\"vendor\":1,\"number");
        let believed = callback(body.as_bytes()).unwrap();
        assert_eq!((believed.fact.generation, believed.fact.fen), (1, Some(Fen(880))));
        assert_eq!(believed.fact.kind, FactKind::Success { vendor_ref: "R1".to_owned() });
        assert!(callback(body.replace("finished", "reversed").as_bytes()).is_err());
        assert!(callback(b"{}").is_err());
    }
}
