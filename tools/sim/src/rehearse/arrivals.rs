//! When players come: a table, read from CSV, with the players between two of its rows spread evenly.
//!
//! Arrivals are open loop: nobody stays away because it is crowded.

/// Most rows: a week by the second.
const ROWS_MAX: usize = 700_000;
/// Largest offset from the first opening, ms: a year.
const OFFSET_MAX_MS: i64 = 366 * 86_400_000;
/// How long the last row lasts when it is the only one, ms.
const LAST_MS: i64 = 60_000;
/// Decimals of a share.
const SHARE_DECIMALS: usize = 6;

/// When players come, relative to the opening of the first round.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Arrivals {
    /// (ms since the first opening, players that have come by then), both rising.
    points: Vec<(i64, u64)>,
}

/// What is wrong with a table of arrivals.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("line {line}: {what}; {cure}")]
pub struct ArrivalsError {
    /// Line, from 1; 0: the file as a whole.
    pub line: usize,
    /// What is wrong.
    pub what: String,
    /// What would be right.
    pub cure: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Counts {
    Players,
    Shares,
}

impl Arrivals {
    /// All players evenly between two instants (ms since the first opening).
    pub fn evenly(players: u64, from_ms: i64, to_ms: i64) -> Arrivals {
        Arrivals { points: vec![(from_ms, 0), (to_ms.max(from_ms + 1), players)] }
    }

    /// Rows of (ms since the first opening, weight): of all players, those of a row's share of the weights come evenly
    /// until the next row; the last one lasts as long as the one before it.
    ///
    /// # Errors
    /// Rows that do not rise, or have no weight at all. Lines are counted from 1.
    pub fn shares(rows: &[(i64, u64)], players: u64) -> Result<Arrivals, ArrivalsError> {
        let rows: Vec<_> = rows.iter().enumerate().map(|(i, r)| (i + 1, r.0, r.1)).collect();
        build(&rows, Counts::Shares, players)
    }

    /// Reads CSV: a header `minute,players`, `second,players` or `ms,players` (or `share` for `players`), then rows
    /// of an offset from the first opening and how many come from there until the next row.
    ///
    /// # Errors
    /// The first mistake, with its line and its cure.
    pub fn parse(text: &str, players: u64) -> Result<Arrivals, ArrivalsError> {
        let lines = text.trim_start_matches('\u{feff}').lines().enumerate().map(|(i, l)| (i + 1, l.trim()));
        let mut lines = lines.filter(|(_, l)| !l.is_empty() && !l.starts_with('#'));
        let Some((line, head)) = lines.next() else {
            return Err(error(0, "the file has no rows", "begin with the line `minute,players`"));
        };
        let (unit_decimals, unit_ms, counts) = header(line, head)?;
        let mut rows = Vec::new();
        for (line, text) in lines {
            let Some((at, count)) = text.split_once(',') else {
                return Err(error(
                    line,
                    format!("'{text}' is not two columns"),
                    "write an offset, a comma and a number",
                ));
            };
            let at = fixed(at.trim(), unit_decimals).and_then(|at| at.checked_mul(unit_ms));
            let Some(at) = at.filter(|at| at.abs() <= OFFSET_MAX_MS) else {
                let cure = "write a number, at most a year from the first opening; before the opening it is negative";
                return Err(error(line, format!("'{text}' does not begin with an offset"), cure));
            };
            let decimals = if counts == Counts::Shares { SHARE_DECIMALS } else { 0 };
            let count = fixed(count.trim().trim_end_matches('%').trim_end(), decimals);
            let Some(count) = count.and_then(|n| u64::try_from(n).ok()) else {
                return Err(error(
                    line,
                    format!("'{text}' does not end with a number of players"),
                    "write a whole number from 0 (a share: with up to 6 decimals)",
                ));
            };
            rows.push((line, at, count));
            if rows.len() > ROWS_MAX {
                return Err(error(line, format!("more than {ROWS_MAX} rows"), "take longer steps"));
            }
        }
        build(&rows, counts, players)
    }

    /// Players that come in all.
    pub fn total(&self) -> u64 {
        self.points.last().map_or(0, |p| p.1)
    }

    /// First and last instant, ms since the first opening.
    pub fn span(&self) -> (i64, i64) {
        let at = |p: Option<&(i64, u64)>| p.map_or(0, |p| p.0);
        (at(self.points.first()), at(self.points.last()))
    }

    /// Players that have come before an instant.
    pub fn by(&self, at_ms: i64) -> u64 {
        let i = self.points.partition_point(|p| p.0 <= at_ms);
        let Some(before) = i.checked_sub(1).map(|i| self.points[i]) else { return 0 };
        let Some(next) = self.points.get(i) else { return before.1 };
        let part = u128::from(next.1 - before.1) * (at_ms - before.0) as u128;
        before.1 + (part / (next.0 - before.0) as u128) as u64
    }

    /// The first instant at which more than `come` players have come; `None`: no more come.
    pub fn next_after(&self, come: u64) -> Option<i64> {
        let i = self.points.partition_point(|p| p.1 <= come);
        let next = self.points.get(i)?;
        let before = self.points[i.saturating_sub(1)];
        let (due, gap) = (u128::from(come + 1 - before.1), (next.0 - before.0).max(0) as u128);
        Some(before.0 + (due * gap).div_ceil(u128::from((next.1 - before.1).max(1))) as i64)
    }
}

fn error(line: usize, what: impl Into<String>, cure: impl Into<String>) -> ArrivalsError {
    ArrivalsError { line, what: what.into(), cure: cure.into() }
}

fn header(line: usize, head: &str) -> Result<(usize, i64, Counts), ArrivalsError> {
    let mut columns = head.split(',').map(|c| c.trim().to_ascii_lowercase());
    let (at, count) = (columns.next().unwrap_or_default(), columns.next().unwrap_or_default());
    // Decimals of the unit that are read, and ms of what is left then.
    let unit = match at.as_str() {
        "minute" => Some((3, 60)),
        "second" => Some((3, 1)),
        "ms" => Some((0, 1)),
        _ => None,
    };
    let counts = match count.as_str() {
        "players" => Some(Counts::Players),
        "share" => Some(Counts::Shares),
        _ => None,
    };
    match (unit, counts, columns.next()) {
        (Some((decimals, ms)), Some(counts), None) => Ok((decimals, ms, counts)),
        _ => Err(error(
            line,
            format!("'{head}' is no header"),
            "begin with `minute,players`, `second,players` or `ms,players`, or with `share` for `players`",
        )),
    }
}

/// A decimal number times 10^decimals, exactly; `None` where that is no whole number.
fn fixed(text: &str, decimals: usize) -> Option<i64> {
    let (sign, digits) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    let is_number = |t: &str| t.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !is_number(whole) || !is_number(part) || part.len() > decimals {
        return None;
    }
    let all = format!("{whole}{part}{}", "0".repeat(decimals - part.len()));
    all.parse::<i64>().ok().map(|n| sign * n)
}

fn build(rows: &[(usize, i64, u64)], counts: Counts, players: u64) -> Result<Arrivals, ArrivalsError> {
    let Some(last) = rows.last() else {
        return Err(error(
            0,
            "there are no rows behind the header",
            "write at least one, as in `-1,5000000`",
        ));
    };
    if let Some(pair) = rows.windows(2).find(|pair| pair[1].1 <= pair[0].1) {
        let what = format!("the offset is not behind that of line {}", pair[0].0);
        return Err(error(pair[1].0, what, "sort the rows by time, one row for an instant"));
    }
    let weights: u128 = rows.iter().map(|r| u128::from(r.2)).sum();
    if weights == 0 {
        return Err(error(last.0, "nobody comes", "give at least one row players"));
    }
    let share = |sum: u128| match counts {
        Counts::Players => u64::try_from(sum).unwrap_or(u64::MAX),
        Counts::Shares => (u128::from(players) * sum / weights) as u64,
    };
    let mut points = Vec::with_capacity(rows.len() + 1);
    let mut sum = 0u128;
    for &(line, at, count) in rows {
        points.push((at, share(sum)));
        sum += u128::from(count);
        if share(sum) > players {
            let what = format!("{sum} players have come by here, but there are {players}");
            return Err(error(line, what, "raise --players, or write fewer into the rows"));
        }
    }
    let step = rows.windows(2).next_back().map_or(LAST_MS, |pair| pair[1].1 - pair[0].1);
    points.push((last.1 + step, share(sum)));
    Ok(Arrivals { points })
}

#[cfg(test)]
mod tests {
    use super::Arrivals;
    use proptest::prelude::*;

    #[test]
    fn reads_a_table() {
        let a = Arrivals::parse("# an evening\nminute, players\n-1,60\n\n0,100\n1.5,20\n", 1000).unwrap();
        assert_eq!((a.total(), a.span()), (180, (-60_000, 180_000)));
        assert_eq!(
            [a.by(-60_001), a.by(-30_000), a.by(0), a.by(45_000), a.by(999_999)],
            [0, 30, 60, 110, 180]
        );
        let shares = Arrivals::parse("ms,share\n0,25%\n100,75.0\n", 1000).unwrap();
        assert_eq!((shares.by(100), shares.total()), (250, 1000));
        assert_eq!(Arrivals::shares(&[(0, 1), (100, 3)], 1000), Ok(shares));
    }

    #[test]
    fn names_line_and_cure() {
        let told = |text: &str| Arrivals::parse(text, 100).unwrap_err();
        for (text, line, cure) in [
            ("", 0, "minute,players"),
            ("time,players\n", 1, "begin with"),
            ("ms,players\n", 0, "at least one"),
            ("ms,players\n0;5\n", 2, "a comma"),
            ("ms,players\n0.5,5\n", 2, "a number"),
            ("minute,players\n# x\n\n0,many\n", 4, "whole number"),
            ("minute,players\n0,5\n0,6\n", 3, "sort the rows"),
            ("minute,players\n0,0\n", 2, "at least one row"),
            ("minute,players\n0,60\n1,60\n", 3, "raise --players"),
            ("minute,players\n0,-5\n", 2, "from 0"),
        ] {
            let e = told(text);
            assert!(e.line == line && e.cure.contains(cure), "{text:?}: {e}");
        }
    }

    proptest! {
        #[test]
        fn the_next_one_comes_when_it_is_said(rows in prop::collection::vec((1i64..5_000, 0u64..50), 1..8), come in 0u64..100) {
            let mut at = -7_000;
            let rows: Vec<(i64, u64)> = rows.iter().map(|(gap, n)| { at += gap; (at, *n) }).collect();
            prop_assume!(rows.iter().any(|r| r.1 > 0));
            let players: u64 = rows.iter().map(|r| r.1).sum();
            let a = Arrivals::shares(&rows, players).unwrap();
            match a.next_after(come) {
                None => prop_assert!(come >= a.total()),
                Some(at) => prop_assert!(a.by(at) > come && a.by(at - 1) <= come, "{at}: {} {}", a.by(at), a.by(at - 1)),
            }
        }
    }
}
