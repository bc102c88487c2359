//! The last three seconds of each round: how many entries players made in them, and how many units were left for them.
//!
//! The entries come from the players' side; the units left are made less cancelled by the ledger, less what the flow
//! archive has as won before those seconds. Together they say whether enough players came for law 6.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use campaign::{CampaignId, RoundId};
use reconcile::readers::archive::bytes::Record;
use reconcile::readers::archive::read_lanes;
use reconcile::readers::players::ENTRIES_PER_UNIT;
use reconcile::readers::tables::{self, Tables};

use super::sources::Sources;

/// Header that reconcile reads.
const TAILS_HEADER: &str = "campaign,round,entries,units_left";
/// Columns that we need of a file with a line for each round.
const ROUND_COLUMNS: [&str; 3] = ["campaign", "round", "entries_last_3s"];
/// A round's last seconds, in which its curves are over.
const LAST_MS: u64 = campaign::plan::CURVE_TAIL_MS;

/// A round's end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct RoundTail {
    /// The campaign.
    pub campaign: CampaignId,
    /// The round.
    pub round: RoundId,
    /// Entries in its last 3 s.
    pub entries: u64,
    /// Units that were left when those began.
    pub units_left: u64,
}

impl RoundTail {
    /// For people.
    pub fn text(&self) -> String {
        let RoundTail { round, entries, units_left, .. } = self;
        let each = match units_left {
            0 => "nothing was left to win".to_owned(),
            left => format!("{:.1} each; {ENTRIES_PER_UNIT} are asked for", *entries as f64 / *left as f64),
        };
        format!("round {round}: {entries} entries in the last 3 s for {units_left} units left: {each}")
    }
}

/// The tails of all rounds of which the players' file has a line.
///
/// # Errors
/// When a source can't be read.
pub(crate) async fn round_tails(rounds: &Path, sources: &Sources) -> anyhow::Result<Vec<RoundTail>> {
    let entries = entries_in(rounds)?;
    let mut ledger = Tables::open(&sources.ledger).await?;
    let read = tables::read_ledger(&mut ledger).await;
    ledger.close().await;
    let mut left: BTreeMap<(CampaignId, RoundId), (u64, u64)> = BTreeMap::new();
    for prize in &read?.prizes {
        let round = left.entry((prize.key.campaign, prize.key.round)).or_default();
        round.0 += prize.made.saturating_sub(prize.cancelled.len());
        round.1 = prize.close_ms.saturating_sub(LAST_MS);
    }
    read_lanes(&sources.archives, sources.may_be_running()?, &mut |_, record| {
        if let Record::Won(won) = record
            && let Some((units, last_ms)) = left.get_mut(&(won.facts.campaign, won.facts.round))
            && won.time_ms < *last_ms
        {
            *units = units.saturating_sub(1);
        }
        Ok(())
    })?;
    let tail = |((campaign, round), entries)| {
        let units_left = left.get(&(campaign, round)).map_or(0, |(units, _)| *units);
        RoundTail { campaign, round, entries, units_left }
    };
    Ok(entries.into_iter().map(tail).collect())
}

/// Entries of each round's last seconds, from a file with a line for each round.
fn entries_in(path: &Path) -> anyhow::Result<BTreeMap<(CampaignId, RoundId), u64>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    let mut lines = text.lines().enumerate();
    let header: Vec<&str> = lines.next().map_or(Vec::new(), |(_, line)| line.split(',').collect());
    let place = |name: &str| {
        let found = header.iter().position(|column| *column == name);
        found.with_context(|| {
            format!("{}: the first line has no column `{name}`; it must have {ROUND_COLUMNS:?}, or be `{TAILS_HEADER}`", path.display())
        })
    };
    let [campaign, round, entries] =
        [place(ROUND_COLUMNS[0])?, place(ROUND_COLUMNS[1])?, place(ROUND_COLUMNS[2])?];
    let mut all = BTreeMap::new();
    for (at, line) in lines.filter(|(_, line)| !line.is_empty()) {
        let fields: Vec<&str> = line.split(',').collect();
        let field = |column: usize| fields.get(column).copied().unwrap_or_default();
        let number = |column: usize| {
            let wrong = || format!("{}:{}: `{}` is no whole number", path.display(), at + 1, field(column));
            field(column).parse::<u64>().with_context(wrong)
        };
        let id = |column: usize| Ok::<_, anyhow::Error>(u32::try_from(number(column)?)?);
        all.insert((CampaignId(id(campaign)?), RoundId(id(round)?)), number(entries)?);
    }
    Ok(all)
}

/// Writes tails for reconcile.
///
/// # Errors
/// When the file can't be written.
pub(crate) fn write_tails(tails: &[RoundTail], path: &Path) -> anyhow::Result<()> {
    let mut text = format!("{TAILS_HEADER}\n");
    for RoundTail { campaign, round, entries, units_left } in tails {
        text += &format!("{campaign},{round},{entries},{units_left}\n");
    }
    std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}

/// The file that reconcile takes: `rounds` itself if it is one, else one made of it in `work`.
///
/// # Errors
/// When a source can't be read or the file can't be written.
pub(super) async fn tails_file(rounds: &Path, sources: &Sources, work: &Path) -> anyhow::Result<PathBuf> {
    let text = std::fs::read_to_string(rounds).with_context(|| format!("reading {}", rounds.display()))?;
    if text.lines().next() == Some(TAILS_HEADER) {
        return Ok(rounds.to_owned());
    }
    let path = work.join("tails.csv");
    write_tails(&round_tails(rounds, sources).await?, &path)?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::{RoundTail, entries_in, write_tails};
    use campaign::{CampaignId, RoundId};
    use reconcile::readers::players::read_tails;

    #[test]
    fn the_players_file_is_read_by_its_header_and_what_is_written_is_read_by_reconcile() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rounds.csv");
        std::fs::write(&path, "campaign,round,open_ms,entries,entries_last_3s\n1,2,5,9,700\n").unwrap();
        let entries = entries_in(&path).unwrap();
        assert_eq!(entries[&(CampaignId(1), RoundId(2))], 700);
        let tail = RoundTail { campaign: CampaignId(1), round: RoundId(2), entries: 700, units_left: 70 };
        assert!(tail.text().contains("10.0 each"), "{}", tail.text());
        let tails = dir.path().join("tails.csv");
        write_tails(&[tail], &tails).unwrap();
        let read = read_tails(&tails).unwrap();
        assert!(read[&(CampaignId(1), RoundId(2))].enough());

        std::fs::write(&path, "campaign,round\n1,2\n").unwrap();
        assert!(entries_in(&path).unwrap_err().to_string().contains("entries_last_3s"));
        std::fs::write(&path, "campaign,round,entries_last_3s\n1,2,x\n").unwrap();
        assert!(format!("{:#}", entries_in(&path).unwrap_err()).contains(":2: `x`"));
    }
}
