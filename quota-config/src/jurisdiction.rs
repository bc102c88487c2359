//! What the law of a place asks of a campaign file.
//!
//! Only what can be read off numbers is checked. For China (`cn`): the highest prize of a draw is worth at most
//! 50,000 yuan (Anti-Unfair Competition Law; SAMR's Interim Provisions on Regulating Promotional Conduct), and
//! release over time or by region must be disclosed. It helps people who know the law; it replaces none of them.

use crate::diff::yuan;
use crate::file::spec::CampaignSpec;
use crate::file::spec_prize::{CurveSpec, PrizeSpec};
use crate::problem::{Path, Sink};
use crate::warnings::list_of;
use campaign::{Fen, PrizeKind};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Highest value of a prize in China, in fen.
pub const CN_TOP_PRIZE_FEN: Fen = Fen(5_000_000);

/// A place whose rules are known.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Jurisdiction {
    /// Mainland China.
    Cn,
}

impl fmt::Display for Jurisdiction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Jurisdiction::Cn => f.write_str("cn"),
        }
    }
}

/// A word that names no known jurisdiction.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`{0}` is no jurisdiction that is known here; write cn")]
pub struct UnknownJurisdiction(pub String);

impl FromStr for Jurisdiction {
    type Err = UnknownJurisdiction;

    fn from_str(text: &str) -> Result<Jurisdiction, UnknownJurisdiction> {
        match text {
            "cn" => Ok(Jurisdiction::Cn),
            _ => Err(UnknownJurisdiction(text.to_string())),
        }
    }
}

impl Jurisdiction {
    /// Holds a file against the rules.
    pub(crate) fn check(self, spec: &CampaignSpec, sink: &mut Sink) {
        match self {
            Jurisdiction::Cn => cn(spec, sink),
        }
    }
}

fn cn(spec: &CampaignSpec, sink: &mut Sink) {
    for prize in spec.rounds.iter().filter_map(|r| list_of(spec, r)).flat_map(|list| &list.prizes) {
        // A set that several rounds share is looked at once each time; equal problems are told once.
        top_prize(prize, sink);
        uneven_release(prize, sink);
        regional_release(spec, prize, sink);
    }
    let openings: usize = spec.rounds.iter().map(|r| r.opens.len()).sum();
    let what = match openings {
        1 => "its prizes are released little by little while the round is open".to_string(),
        n => format!("its prizes are released in {n} rounds, little by little while each is open"),
    };
    let cure =
        "release over time must be disclosed: publish the disclosure text, which says so round by round";
    sink.warning(spec.rounds_mark, &Path::ROOT.key("rounds"), what, cure);
}

fn top_prize(prize: &PrizeSpec, sink: &mut Sink) {
    let top = yuan(i128::from(CN_TOP_PRIZE_FEN.0));
    let cure = format!("the highest prize of a draw is worth at most {top} yuan in China");
    for (tranche, at) in prize.tranches.iter().zip(&prize.amounts) {
        if tranche.max > CN_TOP_PRIZE_FEN {
            let what = format!("up to {} yuan to one winner", yuan(i128::from(tranche.max.0)));
            sink.error(at.mark, &at.path(prize), what, cure.as_str());
        }
    }
    match prize.value {
        Some(value) if value.value > CN_TOP_PRIZE_FEN => {
            let what = format!("a prize worth {} yuan", yuan(i128::from(value.value.0)));
            sink.error(value.mark, &format!("{}.value", prize.path), what, cure);
        }
        None if prize.kind != PrizeKind::Cash => {
            let what = format!("the file does not say what a {} is worth", prize.kind.name());
            let cure = format!("add `value` in yuan, so that the bound of {top} yuan can be checked");
            sink.warning(prize.mark, &prize.path, what, cure);
        }
        _ => {}
    }
}

fn uneven_release(prize: &PrizeSpec, sink: &mut Sink) {
    let how = match &prize.curve.value {
        CurveSpec::Even => return,
        CurveSpec::FrontLoaded => "most of it in the first half of the round",
        CurveSpec::Points(_) => "at different speeds over the round",
    };
    let what = format!("prize {} is released {how}", prize.id);
    let cure = "players' odds depend on when they come, which must be disclosed: the disclosure text says it";
    sink.warning(prize.curve.mark, &format!("{}.curve", prize.path), what, cure);
}

fn regional_release(spec: &CampaignSpec, prize: &PrizeSpec, sink: &mut Sink) {
    let names: Vec<&str> = prize
        .regions
        .value
        .positions()
        .filter_map(|i| Some(spec.regions.get(i)?.region.name.as_str()))
        .collect();
    if names.is_empty() {
        return;
    }
    let what = format!("prize {} can be won in {} only", prize.id, names.join(", "));
    let cure = "release by region must be disclosed: publish the disclosure text, which names the regions";
    sink.warning(prize.regions.mark, &format!("{}.regions", prize.path), what, cure);
}
