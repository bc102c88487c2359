//! Single values: numbers that travel as strings, money, times, text that others wrote.

use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// A number, a word or a truth value of an answer, as it is written. 64-bit numbers travel as strings, smaller ones as
/// numbers; here both are the same.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Word(pub String);

impl<'de> Deserialize<'de> for Word {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Word, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::Null => Ok(Word::default()),
            Value::String(text) => Ok(Word(clean(&text))),
            Value::Number(number) => Ok(Word(number.to_string())),
            Value::Bool(truth) => Ok(Word(truth.to_string())),
            other => Err(serde::de::Error::custom(format!("a number or a string was expected, not {other}"))),
        }
    }
}

impl std::fmt::Display for Word {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&self.0)
    }
}

impl Word {
    /// The number that it is, if it is a whole one.
    pub fn number(&self) -> Option<i64> {
        self.0.parse().ok()
    }

    /// The number that it is; 0 if it is none.
    pub fn count(&self) -> u64 {
        self.0.parse().unwrap_or(0)
    }
}

/// Text without control characters, so that a name or a reason that somebody else wrote can't steer the terminal.
/// Line feeds stay.
pub fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect()
}

/// Text on one line.
pub fn line(text: &str) -> String {
    clean(text).replace('\n', " ")
}

/// Thousands apart: `1234567` becomes `1,234,567`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Fen as yuan: `888` becomes `8.88 yuan`.
pub fn yuan(fen: i64) -> String {
    let sign = if fen < 0 { "-" } else { "" };
    let fen = fen.unsigned_abs();
    format!("{sign}{}.{:02} yuan", grouped(fen / 100), fen % 100)
}

/// An instant in the zone of this machine (`TZ`), with its offset; the number itself if it is none.
pub fn time(ms: &Word) -> String {
    let zone = jiff::tz::TimeZone::try_system().unwrap_or(jiff::tz::TimeZone::UTC);
    ms.number().map_or_else(|| ms.0.clone(), |number| time_in(number, &zone).unwrap_or_else(|| ms.0.clone()))
}

fn time_in(ms: i64, zone: &jiff::tz::TimeZone) -> Option<String> {
    let instant = jiff::Timestamp::from_millisecond(ms).ok()?;
    Some(instant.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S%:z").to_string())
}

/// Any value on one line, for a cell or an end of a difference.
pub fn short(value: &Value) -> String {
    match value {
        Value::Null => "none".to_owned(),
        Value::String(text) => line(text),
        Value::Array(items) => items.iter().map(short).collect::<Vec<_>>().join(", "),
        Value::Object(fields) => {
            let parts: Vec<String> =
                fields.iter().map(|(key, value)| format!("{} {}", line(key), named(key, value))).collect();
            parts.join(", ")
        }
        other => other.to_string(),
    }
}

/// A value whose key tells its unit: `_fen` is money, `_ms` behind `at` or `open` an instant.
pub fn named(key: &str, value: &Value) -> String {
    let word = match value {
        Value::String(text) => Word(text.clone()),
        Value::Number(number) => Word(number.to_string()),
        _ => return short(value),
    };
    match word.number() {
        Some(fen) if key.ends_with("_fen") || key == "fen" => yuan(fen),
        // Later than 2001: an instant and no duration.
        Some(ms) if key.ends_with("_ms") && ms > 1_000_000_000_000 => time(&word),
        _ => short(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn numbers_may_be_strings() {
        let words: Vec<Word> = serde_json::from_str(r#"["18446744073709551615", 7, null, true]"#).unwrap();
        assert_eq!(
            words.iter().map(|w| w.0.as_str()).collect::<Vec<_>>(),
            ["18446744073709551615", "7", "", "true"]
        );
        assert!(serde_json::from_str::<Word>("[1]").is_err());
    }

    #[test]
    fn money_is_exact_and_grouped() {
        assert_eq!(yuan(20_000_000), "200,000.00 yuan");
        assert_eq!(yuan(-5), "-0.05 yuan");
        assert_eq!(yuan(i64::MIN), "-92,233,720,368,547,758.08 yuan");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_000), "1,000");
    }

    #[test]
    fn times_are_told_with_their_offset() {
        let zone = jiff::tz::TimeZone::get("Asia/Shanghai").unwrap();
        assert_eq!(time_in(1_771_243_200_000, &zone).unwrap(), "2026-02-16 20:00:00+08:00");
        assert_eq!(time_in(i64::MAX, &zone), None);
    }

    #[test]
    fn nobody_steers_the_terminal() {
        assert_eq!(clean("a\x1b[2Jb\nc"), "a\u{fffd}[2Jb\nc");
        assert_eq!(short(&json!({"reason": "x\x07\ny", "fen": "150"})), "fen 1.50 yuan, reason x\u{fffd} y");
    }
}
