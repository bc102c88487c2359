//! What operators changed beside the file: pauses, stops, lowerings, weights, speeds.
//!
//! A state, not a list of events: each version carries all of it, so a version describes everything that runs and
//! compiling it needs nothing else. It lies on top of the compiled file. A name that the plan does not have is
//! refused when a version is compiled, so that a pause never silently pauses nothing; names that a *new* file has
//! no more are taken out before, and whoever applies it is told ([`Adjustments::fitted`]).
//!
//! Lowerings change nothing in the plan: what is effective stands in the ledger alone. What was asked is kept for
//! ever, even where a file has the prize no more, because the ledger never revives a cancelled unit.

use crate::problem::{Mark, Problem, Problems, Severity};
use campaign::{Plan, Prize, PrizeId, Round, RoundId, VendorId};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

/// A prize in its round, as `ROUND/PRIZE`: `2/11`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PrizeAt {
    /// The round.
    pub round: RoundId,
    /// The prize.
    pub prize: PrizeId,
}

impl PrizeAt {
    /// Prize `prize` of round `round`.
    pub fn new(round: u32, prize: u32) -> PrizeAt {
        PrizeAt { round: RoundId(round), prize: PrizeId(prize) }
    }

    fn find(self, plan: &mut Plan) -> Option<&mut Prize> {
        let round = plan.rounds.iter_mut().find(|r| r.id == self.round)?;
        round.prizes.iter_mut().find(|p| p.id == self.prize)
    }

    fn is_in(self, plan: &Plan) -> bool {
        plan.round(self.round).is_some_and(|r| r.position(self.prize).is_some())
    }
}

impl fmt::Display for PrizeAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.round, self.prize)
    }
}

/// What is paused or stopped: `campaign`, `round:2`, `vendor:3` or `prize:2/11`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Target {
    /// Everything.
    Campaign,
    /// All prizes of a round.
    Round(RoundId),
    /// All prizes that a vendor delivers.
    Vendor(VendorId),
    /// One prize.
    Prize(PrizeAt),
}

impl Target {
    /// Whether the prize belongs to it.
    pub fn covers(&self, round: &Round, prize: &Prize) -> bool {
        match *self {
            Target::Campaign => true,
            Target::Round(id) => round.id == id,
            Target::Vendor(id) => prize.vendor == id,
            Target::Prize(at) => round.id == at.round && prize.id == at.prize,
        }
    }

    /// Whether the plan has it.
    pub fn is_in(&self, plan: &Plan) -> bool {
        match *self {
            Target::Campaign => true,
            Target::Round(id) => plan.round(id).is_some(),
            Target::Vendor(id) => plan.vendor(id).is_some(),
            Target::Prize(at) => at.is_in(plan),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Campaign => f.write_str("campaign"),
            Target::Round(id) => write!(f, "round:{id}"),
            Target::Vendor(id) => write!(f, "vendor:{id}"),
            Target::Prize(at) => write!(f, "prize:{at}"),
        }
    }
}

/// What a speed can be set for: `vendor:3` or `prize:2/11`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum RateTarget {
    /// All prizes of a vendor together.
    Vendor(VendorId),
    /// One prize.
    Prize(PrizeAt),
}

impl fmt::Display for RateTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RateTarget::Vendor(id) => Target::Vendor(*id).fmt(f),
            RateTarget::Prize(at) => Target::Prize(*at).fmt(f),
        }
    }
}

/// A text that names no place in a plan.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`{text}` is not {expected}")]
pub struct TargetError {
    /// What was written.
    pub text: String,
    /// What may be written.
    pub expected: &'static str,
}

/// A number in its one way of writing, so that a name has one text.
fn number(text: &str) -> Option<u32> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0');
    if plain { text.parse().ok() } else { None }
}

fn prize_at(text: &str) -> Option<PrizeAt> {
    let (round, prize) = text.split_once('/')?;
    Some(PrizeAt { round: RoundId(number(round)?), prize: PrizeId(number(prize)?) })
}

fn target(text: &str) -> Option<Target> {
    if text == "campaign" {
        return Some(Target::Campaign);
    }
    let (what, id) = text.split_once(':')?;
    match what {
        "round" => Some(Target::Round(RoundId(number(id)?))),
        "vendor" => Some(Target::Vendor(VendorId(number(id)?))),
        "prize" => Some(Target::Prize(prize_at(id)?)),
        _ => None,
    }
}

impl FromStr for PrizeAt {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<PrizeAt, TargetError> {
        let expected = "a prize of a round; write ROUND/PRIZE, as in 2/11";
        prize_at(text).ok_or_else(|| TargetError { text: text.to_string(), expected })
    }
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Target, TargetError> {
        let expected = "a target; write campaign, round:2, vendor:3 or prize:2/11";
        target(text).ok_or_else(|| TargetError { text: text.to_string(), expected })
    }
}

impl FromStr for RateTarget {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<RateTarget, TargetError> {
        match target(text) {
            Some(Target::Vendor(id)) => Ok(RateTarget::Vendor(id)),
            Some(Target::Prize(at)) => Ok(RateTarget::Prize(at)),
            _ => {
                let expected = "something with a speed; write vendor:3 or prize:2/11";
                Err(TargetError { text: text.to_string(), expected })
            }
        }
    }
}

macro_rules! serde_as_text {
    ($($name:ident),*) => {$(
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<$name, D::Error> {
                String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}

serde_as_text!(PrizeAt, Target, RateTarget);

/// Everything that operators changed beside the file. Empty parts are left out of its JSON, so that nothing
/// changed is `{}`.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Adjustments {
    /// What gives out nothing for now, stopped things among it.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub paused: BTreeSet<Target>,
    /// What was stopped: resuming it takes a second person. A part of `paused`.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub stopped: BTreeSet<Target>,
    /// Units asked to be taken away, in all. What became of it is the ledger's to say.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", with = "numbers")]
    pub lowered: BTreeMap<PrizeAt, u64>,
    /// Weights instead of those of the file.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub weights: BTreeMap<PrizeAt, u32>,
    /// Units a second of a prize instead of the file's `speed_max`; 0: no limit.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub speeds: BTreeMap<PrizeAt, u32>,
    /// Units a second of a vendor instead of the file's `release_per_second`; 0: no limit.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", with = "vendors")]
    pub vendor_speeds: BTreeMap<VendorId, u32>,
}

/// Units as text: they may need more than 53 bits.
mod numbers {
    use super::*;

    pub fn serialize<S: Serializer>(map: &BTreeMap<PrizeAt, u64>, s: S) -> Result<S::Ok, S::Error> {
        s.collect_map(map.iter().map(|(at, units)| (at, units.to_string())))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<BTreeMap<PrizeAt, u64>, D::Error> {
        let texts = BTreeMap::<PrizeAt, String>::deserialize(d)?;
        let parse = |(at, text): (PrizeAt, String)| Some((at, text.parse().ok()?));
        let map: Option<_> = texts.into_iter().map(parse).collect();
        map.ok_or_else(|| serde::de::Error::custom("lowered units are whole numbers in text"))
    }
}

/// Vendors by number.
mod vendors {
    use super::*;

    pub fn serialize<S: Serializer>(map: &BTreeMap<VendorId, u32>, s: S) -> Result<S::Ok, S::Error> {
        s.collect_map(map.iter().map(|(id, n)| (id.to_string(), n)))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<BTreeMap<VendorId, u32>, D::Error> {
        let texts = BTreeMap::<String, u32>::deserialize(d)?;
        let parse = |(id, n): (String, u32)| Some((VendorId(number(&id)?), n));
        let map: Option<_> = texts.into_iter().map(parse).collect();
        map.ok_or_else(|| serde::de::Error::custom("vendors are named by number"))
    }
}

impl Adjustments {
    /// Canonical JSON: equal adjustments have equal text.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_else(|_| unreachable!("maps with keys of text are JSON"))
    }

    /// Reads [`Adjustments::to_json`]'s text.
    ///
    /// # Errors
    /// What is not understood.
    pub fn from_json(text: &str) -> Result<Adjustments, String> {
        serde_json::from_str(text).map_err(|e| e.to_string())
    }

    /// How many single changes these are; a version has at most a bounded number of them.
    pub fn count(&self) -> usize {
        let speeds = self.speeds.len() + self.vendor_speeds.len();
        self.paused.len() + self.stopped.len() + self.lowered.len() + self.weights.len() + speeds
    }

    /// Whether nothing is changed.
    pub fn is_empty(&self) -> bool {
        *self == Adjustments::default()
    }

    /// Whether something pauses the prize.
    pub fn pauses(&self, round: &Round, prize: &Prize) -> bool {
        let at = PrizeAt { round: round.id, prize: prize.id };
        let of = [Target::Campaign, Target::Round(round.id), Target::Vendor(prize.vendor), Target::Prize(at)];
        of.iter().any(|target| self.paused.contains(target) || self.stopped.contains(target))
    }

    /// Those of a version with a new file: pauses, stops and lowerings go on; weights and speeds are the file's.
    pub fn under_new_file(&self) -> Adjustments {
        let (paused, stopped) = (self.paused.clone(), self.stopped.clone());
        Adjustments { paused, stopped, lowered: self.lowered.clone(), ..Adjustments::default() }
    }

    /// These weights and speeds with the pauses, stops and lowerings of `active`: what a grey version and a
    /// rollback run with.
    pub fn with_brakes_of(&self, active: &Adjustments) -> Adjustments {
        let (weights, speeds) = (self.weights.clone(), self.speeds.clone());
        Adjustments { weights, speeds, vendor_speeds: self.vendor_speeds.clone(), ..active.under_new_file() }
    }

    /// Those that the plan has places for, and what had to be dropped, in words.
    pub fn fitted(&self, plan: &Plan) -> (Adjustments, Vec<String>) {
        let mut kept = self.clone();
        let mut dropped = Vec::new();
        let mut drop =
            |what: String| dropped.push(format!("{what} is dropped: the new file has no such thing"));
        kept.stopped.retain(|t| {
            t.is_in(plan) || {
                drop(format!("the stop of {t}"));
                false
            }
        });
        let stopped = &self.stopped;
        kept.paused.retain(|t| {
            t.is_in(plan) || {
                if !stopped.contains(t) {
                    drop(format!("the pause of {t}"));
                }
                false
            }
        });
        kept.weights.retain(|at, n| {
            at.is_in(plan) || {
                drop(format!("weight {n} of prize {at}"));
                false
            }
        });
        kept.speeds.retain(|at, n| {
            at.is_in(plan) || {
                drop(format!("speed {n} of prize {at}"));
                false
            }
        });
        kept.vendor_speeds.retain(|id, n| {
            plan.vendor(*id).is_some() || {
                drop(format!("speed {n} of vendor {id}"));
                false
            }
        });
        (kept, dropped)
    }

    /// Lays them over a compiled file.
    ///
    /// # Errors
    /// Everything that they name and the plan does not have. The plan is then half changed: throw it away.
    pub fn apply_to(&self, plan: &mut Plan) -> Result<(), Problems> {
        let mut problems = Vec::new();
        let mut missing = |path: String, what: String| {
            let cure =
                "the stored adjustments do not fit the stored file: roll back, or apply a file that has it";
            let (mark, severity) = (Mark::default(), Severity::Error);
            problems.push(Problem { mark, severity, path, what, cure: cure.to_string() });
        };
        for target in self.paused.union(&self.stopped).filter(|target| !target.is_in(plan)) {
            missing("adjustments.paused".into(), format!("the plan has no {target}"));
        }
        for (at, weight) in &self.weights {
            match at.find(plan) {
                Some(prize) => prize.weight = *weight,
                None => missing("adjustments.weights".into(), format!("the plan has no prize {at}")),
            }
        }
        for (at, speed) in &self.speeds {
            match at.find(plan) {
                Some(prize) => prize.speed_max = u64::from(*speed),
                None => missing("adjustments.speeds".into(), format!("the plan has no prize {at}")),
            }
        }
        for (id, speed) in &self.vendor_speeds {
            match plan.vendors.iter_mut().find(|v| v.id == *id) {
                Some(vendor) => vendor.release_per_second = u64::from(*speed),
                None => missing("adjustments.vendor_speeds".into(), format!("the plan has no vendor {id}")),
            }
        }
        if !problems.is_empty() {
            return Err(Problems(problems));
        }
        self.pause(plan);
        Ok(())
    }

    fn pause(&self, plan: &mut Plan) {
        if self.paused.is_empty() && self.stopped.is_empty() {
            return;
        }
        for round in &mut plan.rounds {
            for i in 0..round.prizes.len() {
                round.prizes[i].paused = self.pauses(round, &round.prizes[i]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Adjustments, PrizeAt, RateTarget, Target};
    use campaign::{RoundId, VendorId};
    use proptest::prelude::*;

    #[test]
    fn texts_name_one_thing_each() {
        for (text, target) in [
            ("campaign", Target::Campaign),
            ("round:2", Target::Round(RoundId(2))),
            ("vendor:3", Target::Vendor(VendorId(3))),
            ("prize:2/11", Target::Prize(PrizeAt::new(2, 11))),
        ] {
            assert_eq!(text.parse(), Ok(target));
            assert_eq!(target.to_string(), text);
        }
        for bad in [
            "",
            "round",
            "round:",
            "round:02",
            "round:+2",
            "prize:2",
            "prize:2/",
            "prize:2/4294967296",
            "x:1",
        ] {
            assert!(bad.parse::<Target>().is_err(), "{bad}");
        }
        let said = "round:2".parse::<RateTarget>().unwrap_err().to_string();
        assert_eq!(said, "`round:2` is not something with a speed; write vendor:3 or prize:2/11");
    }

    #[test]
    fn json_is_short_and_strict() {
        assert_eq!(Adjustments::default().to_json(), "{}");
        let mut some = Adjustments::default();
        some.paused.insert(Target::Prize(PrizeAt::new(2, 11)));
        some.lowered.insert(PrizeAt::new(2, 11), u64::MAX);
        some.vendor_speeds.insert(VendorId(3), 5);
        let json =
            r#"{"paused":["prize:2/11"],"lowered":{"2/11":"18446744073709551615"},"vendor_speeds":{"3":5}}"#;
        assert_eq!(some.to_json(), json);
        assert!(Adjustments::from_json(r#"{"pausd":[]}"#).is_err());
        assert!(Adjustments::from_json(r#"{"lowered":{"2/11":"-1"}}"#).is_err());
    }

    fn target() -> impl Strategy<Value = Target> {
        prop_oneof![
            Just(Target::Campaign),
            (1..9u32).prop_map(|n| Target::Round(RoundId(n))),
            (1..9u32).prop_map(|n| Target::Vendor(VendorId(n))),
            (1..9u32, 1..9u32).prop_map(|(r, p)| Target::Prize(PrizeAt::new(r, p))),
        ]
    }

    proptest! {
        #[test]
        fn json_comes_back(
            paused in prop::collection::btree_set(target(), 0..5),
            lowered in prop::collection::btree_map((1..9u32, 1..9u32), any::<u64>(), 0..5),
            weights in prop::collection::btree_map((1..9u32, 1..9u32), any::<u32>(), 0..5),
            vendor_speeds in prop::collection::btree_map(1..9u32, any::<u32>(), 0..5),
        ) {
            let adjustments = Adjustments {
                stopped: paused.iter().take(2).copied().collect(),
                paused,
                lowered: lowered.into_iter().map(|((r, p), n)| (PrizeAt::new(r, p), n)).collect(),
                speeds: weights.iter().map(|((r, p), n)| (PrizeAt::new(*p, *r), *n)).collect(),
                weights: weights.into_iter().map(|((r, p), n)| (PrizeAt::new(r, p), n)).collect(),
                vendor_speeds: vendor_speeds.into_iter().map(|(id, n)| (VendorId(id), n)).collect(),
            };
            let json = adjustments.to_json();
            prop_assert_eq!(Adjustments::from_json(&json).unwrap(), adjustments);
        }
    }
}
