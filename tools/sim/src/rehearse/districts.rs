//! Where players are: a table of districts and how many of the players each has, read from CSV.
//!
//! A player's district follows from his number by chance and stays his for the whole rehearsal; when he comes has
//! nothing to do with it. Nothing is kept for a player: it is made again for each of his submits.

use super::ground::chance;
use campaign::seed;

/// Most rows.
const ROWS_MAX: usize = 100_000;
/// Largest weight of a row; the sum stays far within a `u64`.
const WEIGHT_MAX: u64 = 1_000_000_000_000;
/// Decimals of a share.
const DECIMALS: usize = 6;

/// Districts of players by their weights.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Districts {
    /// (sum of the weights up to and with this one, district).
    rows: Vec<(u64, u32)>,
}

/// What is wrong with a table of districts.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("line {line}: {what}; {cure}")]
pub struct DistrictsError {
    /// Line, from 1; 0: the file as a whole.
    pub line: usize,
    /// What is wrong.
    pub what: String,
    /// What would be right.
    pub cure: &'static str,
}

fn error(line: usize, what: impl Into<String>, cure: &'static str) -> DistrictsError {
    DistrictsError { line, what: what.into(), cure }
}

impl Districts {
    /// Reads CSV: a header `district,players` (or `share` for `players`), then rows of a district's number (0: not known)
    /// and how many are there, of which only the proportions count.
    ///
    /// # Errors
    /// The first mistake, with its line and its cure.
    pub fn parse(text: &str) -> Result<Districts, DistrictsError> {
        let lines = text.trim_start_matches('\u{feff}').lines().enumerate().map(|(i, l)| (i + 1, l.trim()));
        let mut lines = lines.filter(|(_, l)| !l.is_empty() && !l.starts_with('#'));
        let begin = "begin with the line `district,players`, or with `share` for `players`";
        let Some((line, head)) = lines.next() else { return Err(error(0, "the file has no rows", begin)) };
        let columns: Vec<String> = head.split(',').map(|c| c.trim().to_ascii_lowercase()).collect();
        if columns != ["district", "players"] && columns != ["district", "share"] {
            return Err(error(line, format!("'{head}' is no header"), begin));
        }
        let (mut sum, mut rows, mut seen) = (0, Vec::new(), std::collections::BTreeSet::new());
        for (line, text) in lines {
            let (district, count) = text.split_once(',').unwrap_or((text, ""));
            let Some(district) = whole(district.trim()).and_then(|n| u32::try_from(n).ok()) else {
                let what = format!("'{text}' does not begin with a district");
                return Err(error(line, what, "write its number, from 0 (not known) to 4294967295"));
            };
            if !seen.insert(district) {
                return Err(error(
                    line,
                    format!("district {district} stands twice"),
                    "write one row for each",
                ));
            }
            let Some(weight) = weight(count.trim().trim_end_matches('%').trim_end()) else {
                let what = format!("'{text}' does not end with a number of players");
                return Err(error(line, what, "write a number from 0 to 1000000, with up to 6 decimals"));
            };
            if rows.len() == ROWS_MAX {
                return Err(error(line, format!("more than {ROWS_MAX} rows"), "join small districts"));
            }
            sum += weight;
            if weight > 0 {
                rows.push((sum, district));
            }
        }
        if rows.is_empty() {
            return Err(error(0, "nobody is anywhere", "give at least one district players"));
        }
        Ok(Districts { rows })
    }

    /// The district of the player with a number.
    #[inline]
    pub fn of(&self, player: u32, seed: u64) -> u32 {
        let all = self.rows.last().map_or(0, |r| r.0);
        let at = seed::below(chance(seed ^ 0x6469_7374_7269_6374, u64::from(player)), all);
        self.rows.get(self.rows.partition_point(|r| r.0 <= at)).map_or(0, |r| r.1)
    }

    /// Whether players may be in a district for which `is` holds.
    pub(super) fn any(&self, is: impl Fn(u32) -> bool) -> bool {
        self.rows.iter().any(|r| is(r.1))
    }
}

fn whole(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) { None } else { text.parse().ok() }
}

/// A decimal number in millionths.
fn weight(text: &str) -> Option<u64> {
    let (units, part) = text.split_once('.').unwrap_or((text, "0"));
    whole(part).filter(|_| part.len() <= DECIMALS)?;
    let part: u64 = format!("{part:0<DECIMALS$}").parse().ok()?;
    let all = whole(units)?.checked_mul(1_000_000)?.checked_add(part)?;
    Some(all).filter(|n| *n <= WEIGHT_MAX)
}

#[cfg(test)]
mod tests {
    use super::Districts;

    #[test]
    fn players_are_where_the_table_says() {
        let d = Districts::parse("# where\ndistrict, share\n0,10%\n110101,0\n310000,62.5\n440100,27.5\n")
            .unwrap();
        let mut count = [0u32; 3];
        for player in 0..100_000 {
            let place = [0, 310_000, 440_100].iter().position(|x| *x == d.of(player, 7));
            count[place.unwrap()] += 1;
            assert_eq!(d.of(player, 7), d.of(player, 7));
        }
        for (n, share) in count.iter().zip([10_000u32, 62_500, 27_500]) {
            assert!(n.abs_diff(share) < 800, "{count:?}");
        }
        assert!(d.any(|x| x == 0) && !d.any(|x| x == 110_101));
        assert_ne!(
            (0..99).map(|p| d.of(p, 1)).collect::<Vec<_>>(),
            (0..99).map(|p| d.of(p, 2)).collect::<Vec<_>>()
        );
    }

    #[test]
    fn mistakes_are_told_by_line() {
        for (text, line, what) in [
            ("", 0, "no rows"),
            ("place,players\n", 1, "no header"),
            ("district,players\n", 0, "nobody is anywhere"),
            ("district,players\n5,0\n", 0, "nobody is anywhere"),
            ("district,players\nx,1\n", 2, "begin with a district"),
            ("district,players\n\n4294967296,1\n", 3, "begin with a district"),
            ("district,players\n5\n", 2, "end with a number"),
            ("district,players\n5,-1\n", 2, "end with a number"),
            ("district,players\n5,1.1234567\n", 2, "end with a number"),
            ("district,players\n5,1\n5,1\n", 3, "stands twice"),
        ] {
            let e = Districts::parse(text).unwrap_err();
            assert!(e.line == line && e.what.contains(what), "{text:?}: {e}");
        }
    }
}
