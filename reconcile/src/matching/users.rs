//! The pass by user: nobody has more wins than the plan allows in a round, a day or the campaign, and no draw has two.
//!
//! Where the limits changed while the user played, the most generous of the plans under which he won counts.

use super::{Findings, Groups};
use crate::breaks::{Break, Kind};
use crate::plans::Plans;
use crate::rows::UserRow;
use campaign::{CampaignId, Limits, UserId};
use std::collections::BTreeMap;
use std::io;

/// Wins within a scope, and the most generous limit; `None`: no limit.
#[derive(Clone, Copy)]
struct Wins {
    count: u64,
    limit: Option<u16>,
    last_ms: u64,
}

impl Wins {
    fn add(&mut self, limit: u16, time_ms: u64) {
        self.count += 1;
        self.last_ms = self.last_ms.max(time_ms);
        self.limit = match (self.limit, limit) {
            (None, _) | (_, 0) => None,
            (Some(a), b) => Some(a.max(b)),
        };
    }
}

impl Default for Wins {
    fn default() -> Wins {
        // Below every limit; the first win sets it.
        Wins { count: 0, limit: Some(0), last_ms: 0 }
    }
}

#[derive(Default)]
struct User {
    campaign: Wins,
    rounds: BTreeMap<u32, Wins>,
    days: BTreeMap<u32, Wins>,
}

/// Checks every user's wins. `rows` are sorted by campaign, user, round, counter.
///
/// # Errors
/// When the rows can't be read on, or a break not be kept.
pub fn match_users(
    rows: impl Iterator<Item = io::Result<UserRow>>,
    plans: &Plans,
    findings: &mut Findings<'_>,
) -> io::Result<()> {
    let mut rows = Groups::new(rows);
    while let Some((campaign, user)) = rows.peek()?.map(|r| (r.campaign, r.user)) {
        let mut wins = User::default();
        let mut last: Option<UserRow> = None;
        while let Some(row) = rows.next_if(|r| (r.campaign, r.user) == (campaign, user))? {
            if last.as_ref().is_some_and(|b| b.award == row.award) {
                continue;
            }
            if let Some(before) = last.as_ref().filter(|b| (b.round, b.counter) == (row.round, row.counter)) {
                draw_twice(before, &row, findings)?;
            }
            let Limits { wins_round, wins_day, wins_campaign, .. } = plans.limits(campaign, row.seq_no);
            wins.campaign.add(wins_campaign, row.time_ms);
            wins.rounds.entry(row.round.0).or_default().add(wins_round, row.time_ms);
            wins.days.entry(row.day).or_default().add(wins_day, row.time_ms);
            last = Some(row);
        }
        let whole = [(0, wins.campaign)];
        excess(Kind::LimitCampaign, "campaign", campaign, user, whole, findings)?;
        excess(Kind::LimitRound, "round", campaign, user, wins.rounds, findings)?;
        excess(Kind::LimitDay, "day", campaign, user, wins.days, findings)?;
    }
    Ok(())
}

fn draw_twice(before: &UserRow, row: &UserRow, findings: &mut Findings<'_>) -> io::Result<()> {
    let detail = format!("counter {} of round {} also won {}", row.counter, row.round, before.award);
    let found = Break { award: row.award, ..Break::of(Kind::DrawTwice, row.award.to_string(), detail) };
    findings.add(Break { campaign: row.campaign, round: row.round, ..found.by(row.user, row.time_ms) })
}

fn excess(
    kind: Kind,
    scope: &str,
    campaign: CampaignId,
    user: UserId,
    wins: impl IntoIterator<Item = (u32, Wins)>,
    findings: &mut Findings<'_>,
) -> io::Result<()> {
    for (number, wins) in wins {
        let Some(limit) = wins.limit.filter(|&l| wins.count > u64::from(l)) else { continue };
        let subject = format!("campaign {campaign} user {user} {scope} {number}");
        let found = Break::of(kind, subject, format!("{} wins, {limit} allowed", wins.count));
        findings.add(Break { campaign, ..found.by(user, wins.last_ms) })?;
    }
    Ok(())
}
