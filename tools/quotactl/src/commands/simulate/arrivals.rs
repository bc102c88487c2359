//! When players arrive: the CSV that `hongbao rehearse` reads, as the JSON that the admin API takes.
//!
//! A header `minute,players`, `second,players` or `ms,players` (or `share` for `players`), then rows of an offset from
//! the first opening, and how many come from there until the next row. `#` begins a comment line.

use serde_json::{Value, json};

use crate::failure::Failure;

/// Most rows: a week by the second.
const ROWS_MAX: usize = 700_000;
/// Decimals that an offset or a share may have.
const DECIMALS: usize = 6;

/// Reads the rows. `label`: what to call the file.
///
/// # Errors
/// The first mistake, with its line and what would be right.
pub fn read(text: &str, label: &str) -> Result<Vec<Value>, Failure> {
    let wrong = |line: usize, what: &str| Failure::Refused(format!("{label}:{line}: {what}"));
    let lines = text.trim_start_matches('\u{feff}').lines().enumerate().map(|(i, line)| (i + 1, line.trim()));
    let mut lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let (at, head) =
        lines.next().ok_or_else(|| wrong(1, "the file has no rows; begin with the line `minute,players`"))?;
    let unit_ms = unit_ms(head).ok_or_else(|| {
        wrong(at, "the header is not known; write `minute,players`, `second,share` or the like")
    })?;
    let mut rows = Vec::new();
    let mut before = None;
    for (at, line) in lines {
        let Some((offset, count)) = line.split_once(',') else {
            return Err(wrong(at, "this is not two columns; write an offset, a comma and a number"));
        };
        let offset_ms =
            micros(offset.trim()).and_then(|micros| micros.checked_mul(unit_ms)).map(|n| n / 1_000_000);
        let offset_ms = offset_ms.ok_or_else(|| wrong(at, "the offset is no number"))?;
        if before.is_some_and(|before| before >= offset_ms) {
            return Err(wrong(at, "offsets have to rise from row to row"));
        }
        before = Some(offset_ms);
        let count = count.trim().trim_end_matches('%').trim_end();
        let share = micros(count).filter(|share| *share >= 0);
        let share = share.ok_or_else(|| wrong(at, "the second column is no number from 0 up"))?;
        rows.push(json!({ "at_ms": offset_ms.to_string(), "share": share as f64 / 1e6 }));
        if rows.len() > ROWS_MAX {
            return Err(wrong(at, &format!("more than {ROWS_MAX} rows; take longer steps")));
        }
    }
    if rows.is_empty() {
        return Err(wrong(1, "there is a header and nothing behind it"));
    }
    Ok(rows)
}

/// How many ms the first column counts in; `None`: the header is wrong.
fn unit_ms(head: &str) -> Option<i64> {
    let columns: Vec<String> = head.split(',').map(|column| column.trim().to_ascii_lowercase()).collect();
    let [at, count] = columns.as_slice() else { return None };
    if !["players", "share"].contains(&count.as_str()) {
        return None;
    }
    match at.as_str() {
        "minute" => Some(60_000),
        "second" => Some(1_000),
        "ms" => Some(1),
        _ => None,
    }
}

/// A decimal number in millionths.
fn micros(text: &str) -> Option<i64> {
    let (negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(part) || part.len() > DECIMALS {
        return None;
    }
    let part: i64 = format!("{part:0<DECIMALS$}").parse().ok()?;
    let number = whole.parse::<i64>().ok()?.checked_mul(1_000_000)?.checked_add(part)?;
    Some(if negative { -number } else { number })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_become_offsets_in_ms() {
        let rows = read("# evening\nminute,share\n-1.5,10\n0,12.25%\n\n2,0\n", "a.csv").unwrap();
        let expected = json!([
            {"at_ms": "-90000", "share": 10.0}, {"at_ms": "0", "share": 12.25}, {"at_ms": "120000", "share": 0.0}
        ]);
        assert_eq!(Value::Array(rows), expected);
    }

    #[test]
    fn mistakes_are_told_by_line() {
        for (text, told) in [
            ("", "a.csv:1: the file has no rows"),
            ("hour,players\n", "a.csv:1: the header"),
            ("ms,players\n", "a.csv:1: there is a header"),
            ("ms,players\n1\n", "a.csv:2: this is not two columns"),
            ("ms,players\nx,1\n", "a.csv:2: the offset"),
            ("ms,players\n1,-1\n", "a.csv:2: the second column"),
            ("ms,players\n\n5,1\n5,1\n", "a.csv:4: offsets have to rise"),
        ] {
            let error = read(text, "a.csv").unwrap_err().to_string();
            assert!(error.starts_with(told), "{error}");
        }
    }
}
