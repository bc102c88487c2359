//! Files that the players' side writes: what each player was told, and how many entries each round's last seconds had.

use super::csv::{Lines, TextError};
use crate::rows::ToldRow;
use campaign::{CampaignId, Fen, PrizeId, RoundId, UserId};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

const TOLD: &str = "award,user,campaign,round,prize,fen";
const TAILS: &str = "campaign,round,entries,units_left";

fn open(path: &Path) -> Result<Lines<BufReader<File>>, TextError> {
    let name = path.display().to_string();
    match File::open(path) {
        Ok(file) => Ok(Lines::new(BufReader::new(file), &name)),
        Err(e) => Err(TextError { file: name, line: 0, what: format!("can't be opened: {e}") }),
    }
}

/// Reads what players were told: CSV with the header `award,user,campaign,round,prize,fen`, one line for each
/// answer that named an award (the same award may be there several times: resends).
///
/// # Errors
/// With the line that is wrong.
pub fn read_told(
    path: &Path,
    sink: &mut dyn FnMut(ToldRow) -> std::io::Result<()>,
) -> Result<u64, TextError> {
    let mut lines = open(path)?;
    lines.header(TOLD)?;
    let mut count = 0;
    while let Some(line) = lines.next_line()? {
        let [award, user, campaign, round, prize, fen] = lines.fields(&line)?;
        let row = ToldRow {
            award: award.parse().map_err(|e| lines.error(format!("`award` is `{award}`: {e}")))?,
            user: UserId(lines.parse("user", &user)?),
            campaign: CampaignId(lines.parse("campaign", &campaign)?),
            round: RoundId(lines.parse("round", &round)?),
            prize: PrizeId(lines.parse("prize", &prize)?),
            fen: Fen(lines.parse("fen", &fen)?),
        };
        sink(row).map_err(|e| lines.error(format!("can't be kept: {e}")))?;
        count += 1;
    }
    Ok(count)
}

/// How a round's last three seconds went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tail {
    /// Entries in them by players below their limits.
    pub entries: u64,
    /// Units that were left when they began.
    pub units_left: u64,
}

/// Entries for each unit left that make it certain enough that all of them are won.
pub const ENTRIES_PER_UNIT: u64 = 10;

impl Tail {
    /// Did enough players come for everything to be given out?
    pub fn enough(self) -> bool {
        self.entries >= self.units_left.saturating_mul(ENTRIES_PER_UNIT)
    }
}

/// Tails by campaign and round.
pub type Tails = BTreeMap<(CampaignId, RoundId), Tail>;

/// Reads tails: CSV with the header `campaign,round,entries,units_left`, one line for each round.
///
/// # Errors
/// With the line that is wrong.
pub fn read_tails(path: &Path) -> Result<Tails, TextError> {
    let mut lines = open(path)?;
    lines.header(TAILS)?;
    let mut tails = Tails::new();
    while let Some(line) = lines.next_line()? {
        let [campaign, round, entries, units_left] = lines.fields(&line)?;
        let key = (CampaignId(lines.parse("campaign", &campaign)?), RoundId(lines.parse("round", &round)?));
        let tail = Tail {
            entries: lines.parse("entries", &entries)?,
            units_left: lines.parse("units_left", &units_left)?,
        };
        if tails.insert(key, tail).is_some() {
            return Err(lines.error(format!("round {} of campaign {} is there twice", key.1, key.0)));
        }
    }
    Ok(tails)
}
