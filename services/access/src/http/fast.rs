//! The two JSON bodies of the hot path by hand: a submit as clients write it, and an answer without an award.
//!
//! The generated reader tries a number first and then a string, or the other way round, and every miss costs a formatted
//! error. Here only the usual is read; whatever looks unusual (escapes, unknown keys, a key twice, numbers with signs)
//! is left to the generated code, whose word counts, on errors too.

use protocol::calls::SubmitReply;
use protocol::v1::Submit;

/// Reads a submit as it usually looks; `None`: ask the generated reader.
pub(super) fn read_submit(body: &[u8]) -> Option<Submit> {
    let mut text = Text { rest: body };
    let mut fields = [None::<u64>; KEYS.len()];
    text.byte(b'{')?;
    loop {
        let key = text.key()?;
        text.byte(b':')?;
        let value = text.number()?;
        let most = if key == 0 { u64::MAX } else { u32::MAX.into() };
        if value > most || fields[key].replace(value).is_some() {
            return None;
        }
        match text.any()? {
            b',' => {}
            b'}' => break,
            _ => return None,
        }
    }
    text.space();
    if !text.rest.is_empty() {
        return None;
    }
    let [user, campaign, round, counter, shakes, district] = fields.map(Option::unwrap_or_default);
    // Within bounds: looked at above.
    let small = |value: u64| value as u32;
    Some(Submit {
        user,
        campaign: small(campaign),
        round: small(round),
        counter: small(counter),
        shakes: small(shakes),
        district: small(district),
    })
}

const KEYS: [&[u8]; 6] = [b"user", b"campaign", b"round", b"counter", b"shakes", b"district"];

struct Text<'a> {
    rest: &'a [u8],
}

impl Text<'_> {
    fn space(&mut self) {
        while let [b' ' | b'\t' | b'\r' | b'\n', rest @ ..] = self.rest {
            self.rest = rest;
        }
    }

    /// The next byte that is no space.
    fn any(&mut self) -> Option<u8> {
        self.space();
        let (&first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(first)
    }

    fn byte(&mut self, wanted: u8) -> Option<()> {
        (self.any()? == wanted).then_some(())
    }

    /// A key in quotes, as its number.
    fn key(&mut self) -> Option<usize> {
        self.byte(b'"')?;
        let end = self.rest.iter().take(KEY_MAX + 1).position(|b| *b == b'"')?;
        let found = KEYS.iter().position(|key| *key == &self.rest[..end])?;
        self.rest = &self.rest[end + 1..];
        Some(found)
    }

    /// Digits, in quotes or not.
    fn number(&mut self) -> Option<u64> {
        self.space();
        let quoted = self.rest.first() == Some(&b'"');
        let rest = if quoted { &self.rest[1..] } else { self.rest };
        let digits = rest.iter().take(DIGITS_MAX + 1).take_while(|b| b.is_ascii_digit()).count();
        if digits == 0 || digits > DIGITS_MAX || (digits > 1 && rest[0] == b'0') {
            return None;
        }
        let value = rest[..digits]
            .iter()
            .try_fold(0u64, |value, digit| value.checked_mul(10)?.checked_add(u64::from(digit - b'0')))?;
        let rest = &rest[digits..];
        self.rest = match rest.first() {
            Some(b'"') if quoted => &rest[1..],
            // A fraction or an exponent may be a whole number all the same.
            Some(b',' | b'}' | b' ' | b'\t' | b'\r' | b'\n') if !quoted => rest,
            _ => return None,
        };
        Some(value)
    }
}

/// Longest key.
const KEY_MAX: usize = 8;
/// Digits of the largest number.
const DIGITS_MAX: usize = 20;

/// Appends the answer to a submit that won nothing; `false`, and nothing is appended, when it did.
pub(super) fn write_answer(reply: &SubmitReply, user: u64, out: &mut Vec<u8>) -> bool {
    if reply.award.is_some() {
        return false;
    }
    let mut put = |text: &str| out.extend_from_slice(text.as_bytes());
    put("{\"counter\":");
    decimal(&mut put, reply.counter.into());
    put(",\"nextCounter\":");
    decimal(&mut put, reply.next_counter.into());
    put(",\"outcome\":\"");
    put(reply.outcome.as_str_name());
    put("\",\"nextSubmitMs\":");
    decimal(&mut put, reply.next_submit_ms.into());
    put(",\"untilMs\":\"");
    decimal(&mut put, reply.until_ms);
    put("\",\"user\":\"");
    decimal(&mut put, user);
    put("\"}");
    true
}

fn decimal(put: &mut impl FnMut(&str), mut value: u64) {
    let mut digits = [0u8; DIGITS_MAX];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    // Digits are ASCII.
    put(std::str::from_utf8(&digits[at..]).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use protocol::json;
    use protocol::v1::{Award, Outcome, SubmitAnswer};

    fn number() -> impl Strategy<Value = u64> {
        prop_oneof![Just(0), 0u64..300, any::<u32>().prop_map(u64::from), any::<u64>()]
    }

    #[test]
    fn what_clients_write_is_read_here() {
        let usual =
            br#" { "user" : "18446744073709551615", "campaign":3 ,"round":"1","counter":7,"shakes":3}"#;
        let read = read_submit(usual).unwrap();
        assert_eq!(read, json::read(usual).unwrap());
        assert_eq!((read.user, read.counter), (u64::MAX, 7));
    }

    proptest! {
        #[test]
        fn reads_what_was_written(user in number(), c: u32, r: u32, n: u32, s: u32, d: u32) {
            let submit = Submit { user, campaign: c, round: r, counter: n, shakes: s, district: d };
            let mut body = Vec::new();
            json::write(&submit, &mut body);
            prop_assert_eq!(read_submit(&body), Some(submit));
        }

        /// On any text at all, what is read here is what the generated reader reads. Text is made of pieces of submits.
        #[test]
        fn agrees_with_the_generated_reader(pieces in prop::collection::vec(prop::sample::select(vec![
            "{", "}", "\"user\"", "\"counter\"", "\"shakes\"", "\"sh\\u0061kes\"", "\"x\"", ":", ":", ",", " ", "\n",
            "0", "1", "00", "12", "\"7\"", "\"07\"", "\"\"", "4294967295", "4294967296", "1e2", "1.0", "-1", "+1", "null",
            "18446744073709551615", "18446744073709551616", "\"18446744073709551616\"", "{\"user\":", "\"round\":3,",
        ]), 0..12)) {
            let body = pieces.concat();
            if let Some(read) = read_submit(body.as_bytes()) {
                prop_assert_eq!(json::read::<Submit>(body.as_bytes()), Ok(read), "{}", body);
            }
        }

        #[test]
        fn writes_what_the_generated_writer_writes(
            counter: u32, next_counter: u32, outcome in 1i32..11, wait: u32, until in number(), user in number(), won: bool,
        ) {
            let outcome = Outcome::try_from(outcome).unwrap();
            let award = won.then(|| Box::new(Award::default()));
            let reply = SubmitReply { tag: 0, user, counter, next_counter, outcome, next_submit_ms: wait, until_ms: until, award };
            let answer: SubmitAnswer = crate::wire::answer(reply.clone(), user);
            let (mut ours, mut theirs) = (Vec::new(), Vec::new());
            json::write(&answer, &mut theirs);
            prop_assert_eq!(write_answer(&reply, user, &mut ours), !won);
            prop_assert_eq!(ours.as_slice(), if won { &b""[..] } else { &theirs });
        }
    }
}
