//! The text that players are owed: what there is to win, how many of it, and how it is drawn, in Chinese and in
//! English, made from the plan that runs.
//!
//! Weights are stated for what they are. They are not the chance to win: an entry picks a prize by weight and
//! takes the next one that is winnable at that instant, and wins nothing when none is. So the chance depends on
//! how many play; what is certain are the quantities, and these stand in full. Rounds that give out the same share
//! a section.

mod chinese;
mod english;

use crate::calendar::{self, Zone};
use crate::compile::Stated;
use crate::diff::percent;
use campaign::curve::WHOLE;
use campaign::{Delivery, Fen, Limits, Plan, Prize, PrizeId, PrizeKind, Region, Regions, Round, RoundId};
use serde::Serialize;

/// How many sections back a round may join: rounds that alternate share sections, and large plans stay linear.
const SECTIONS_BACK: usize = 8;
/// Most opening times that a section lists.
const TIMES_MAX: usize = 24;

/// The text in both languages, and the numbers in it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Disclosure {
    /// In Chinese.
    pub text_zh: String,
    /// In English.
    pub text_en: String,
    /// One row a section and prize.
    pub rows: Vec<DisclosureRow>,
}

/// What is disclosed of a prize.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct DisclosureRow {
    /// Rounds that give out this, each so much.
    #[serde(serialize_with = "crate::diff::text_ids")]
    pub rounds: Vec<RoundId>,
    /// The prize.
    #[serde(serialize_with = "crate::diff::text_id")]
    pub prize: PrizeId,
    /// Its name.
    pub name: String,
    /// What it is.
    #[serde(serialize_with = "crate::diff::text_kind")]
    pub kind: PrizeKind,
    /// Units in each of the rounds.
    #[serde(serialize_with = "crate::diff::text_number")]
    pub units: u64,
    /// Cash: the sum in each of the rounds, fen.
    #[serde(serialize_with = "crate::diff::text_number")]
    pub fen: i64,
    /// Cash: the smallest amount, fen.
    #[serde(serialize_with = "crate::diff::text_number")]
    pub min_fen: i64,
    /// Cash: the largest amount, fen. Others: what one is worth, 0 where that is not stated.
    #[serde(serialize_with = "crate::diff::text_number")]
    pub max_fen: i64,
    /// Weight of the pick.
    pub weight: u32,
    /// Share of the pick, in percent with two decimals.
    pub share: String,
    /// Regions that it can be won in; none: everywhere.
    pub regions: Vec<String>,
}

/// Rounds that give out the same.
struct Section<'a> {
    rounds: Vec<&'a Round>,
}

/// What both languages speak of.
struct Facts<'a> {
    plan: &'a Plan,
    stated: &'a Stated,
    zone: Zone,
    sections: Vec<Section<'a>>,
}

/// The disclosure of a plan.
pub fn disclosure(plan: &Plan, stated: &Stated) -> Disclosure {
    let zone = calendar::zone(&plan.time_zone).unwrap_or_else(|_| Zone::utc());
    let facts = Facts { plan, stated, zone, sections: sections(plan, stated) };
    Disclosure { text_zh: chinese::text(&facts), text_en: english::text(&facts), rows: rows(&facts) }
}

fn sections<'a>(plan: &'a Plan, stated: &Stated) -> Vec<Section<'a>> {
    let mut sections: Vec<Section<'a>> = Vec::new();
    for round in &plan.rounds {
        let length = |r: &Round| r.close_ms - r.open_ms;
        let value = |r: &Round, p: &Prize| stated.values.get(&(r.id, p.id)).copied();
        let same = |section: &Section<'_>| {
            let first = section.rounds[0];
            length(first) == length(round)
                && first.prizes == round.prizes
                && first.prizes.iter().all(|p| value(first, p) == value(round, p))
        };
        match sections.iter_mut().rev().take(SECTIONS_BACK).find(|s| same(s)) {
            Some(section) => section.rounds.push(round),
            None => sections.push(Section { rounds: vec![round] }),
        }
    }
    sections
}

fn rows(facts: &Facts<'_>) -> Vec<DisclosureRow> {
    let mut rows = Vec::new();
    for section in &facts.sections {
        let first = section.rounds[0];
        for prize in &first.prizes {
            let (min, max) = facts.range(first, prize);
            rows.push(DisclosureRow {
                rounds: section.rounds.iter().map(|r| r.id).collect(),
                prize: prize.id,
                name: prize.name.clone(),
                kind: prize.kind,
                units: prize.units(),
                fen: prize.fen().0,
                min_fen: min.0,
                max_fen: max.0,
                weight: prize.weight,
                share: share(first, prize),
                regions: facts.plan.regions_of(prize).map(|r| r.name.clone()).collect(),
            });
        }
    }
    rows
}

fn share(round: &Round, prize: &Prize) -> String {
    percent(u64::from(prize.weight), round.total_weight())
}

impl Facts<'_> {
    /// Smallest and largest amount of cash; what is stated of other prizes.
    fn range(&self, round: &Round, prize: &Prize) -> (Fen, Fen) {
        if prize.kind != PrizeKind::Cash {
            let value = self.stated.values.get(&(round.id, prize.id)).copied().unwrap_or(Fen::ZERO);
            return (value, value);
        }
        let min = prize.tranches.iter().map(|t| t.min).min().unwrap_or(Fen::ZERO);
        (min, prize.tranches.iter().map(|t| t.max).max().unwrap_or(Fen::ZERO))
    }

    /// Names of the regions that a prize is limited to; `None`: it can be won everywhere.
    fn regions(&self, prize: &Prize, between: &str) -> Option<String> {
        let names: Vec<&str> = self.plan.regions_of(prize).map(|r| r.name.as_str()).collect();
        (!names.is_empty()).then(|| names.join(between))
    }

    /// Regions that some prize is limited to.
    fn regions_used(&self) -> Vec<&Region> {
        let all = self.plan.rounds.iter().flat_map(|r| &r.prizes).fold(0, |bits, p| bits | p.regions.0);
        Regions(all).positions().filter_map(|i| self.plan.regions.get(i)).collect()
    }

    fn limits(&self) -> Limits {
        self.plan.limits
    }

    /// Opening and closing times of a section, at most [`TIMES_MAX`], and how many there are beyond.
    fn times(&self, section: &Section<'_>) -> (Vec<(RoundId, String, String, String)>, usize) {
        let show = |r: &&Round| {
            let (open, close) = (self.zone.show(r.open_ms), self.zone.show_near(r.close_ms, r.open_ms));
            (r.id, r.name.clone(), open, close)
        };
        let times = section.rounds.iter().take(TIMES_MAX).map(show).collect();
        (times, section.rounds.len().saturating_sub(TIMES_MAX))
    }
}

/// Whole seconds of a term, in the largest unit that fits: (number, unit).
fn term(prize: &Prize) -> Option<u64> {
    match prize.delivery {
        Delivery::AtOnce => None,
        Delivery::OnClaim { term_ms } => Some(term_ms),
    }
}

/// The points of a curve that is not even: (seconds after the opening, share).
fn uneven(prize: &Prize) -> Option<Vec<(String, String)>> {
    let points = prize.curve.points();
    if points.len() == 2 && points[0].at_ms == 0 {
        return None;
    }
    let seconds = |ms: u64| {
        if ms.is_multiple_of(1000) {
            (ms / 1000).to_string()
        } else {
            format!("{}.{:03}", ms / 1000, ms % 1000)
        }
    };
    Some(points.iter().map(|p| (seconds(p.at_ms), percent(p.share, WHOLE))).collect())
}
