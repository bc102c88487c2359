//! Campaign file to [`Plan`]: the one place where a plan is made.
//!
//! Pure: the same source, options and commitments give the same plan on every node and years later. Acts in
//! three steps, each of which notes all it finds: read values; put rounds on the time line; hold the result
//! against the vendors' speed and against the plan before. There is a plan only if no step found an error.

use crate::bounds::{DAYS_MAX, PRIZES_TOTAL_MAX, ROUNDS_MAX};
use crate::capacity;
use crate::curves;
use crate::file::spec::{self, CampaignSpec};
use crate::file::spec_prize::PrizeList;
use crate::file::spec_round::RoundSpec;
use crate::file::value::show_duration;
use crate::file::yaml;
use crate::jurisdiction::Jurisdiction;
use crate::problem::{Mark, Path, Problem, Problems, Severity, Sink};
use crate::seeds::{SeedCommitment, SeedCommitments, StoredCommitments};
use crate::succession::{self, Places};
use crate::warnings;
use campaign::{CampaignId, Fen, Plan, Prize, PrizeId, Round, RoundId, SeqNo, VendorId};
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet};

/// What a compilation needs beside the source.
#[derive(Clone, Copy)]
pub struct CompileOptions<'a> {
    /// Version that the plan gets.
    pub seq_no: SeqNo,
    /// What `+20s` counts from where the file says `start: now` or nothing: ms UTC. Found once, when the
    /// campaign is first published, and stored; never the time of this compilation.
    pub base_ms: u64,
    /// Commitments for rounds that the plan before does not have.
    pub seeds: &'a dyn SeedCommitments,
    /// The plan that this one follows, if it is to be held against it.
    pub after: Option<After<'a>>,
}

/// The plan before, and when the new one takes over.
#[derive(Clone, Copy)]
pub struct After<'a> {
    /// The active plan with the highest SeqNo.
    pub plan: &'a Plan,
    /// Commitments of all rounds up to there, those that were taken out since among them.
    pub commitments: &'a StoredCommitments,
    /// Prizes of earlier plans that were taken out since, as they were last: their numbers mean the same units
    /// for ever. Only those that the new plan has again matter.
    pub gone: &'a [(RoundId, Prize)],
    /// Now, ms UTC: tells which rounds have begun.
    pub now_ms: u64,
}

/// A plan, and what looked odd in its file.
#[derive(Clone, PartialEq, Debug)]
pub struct Compiled {
    /// The plan.
    pub plan: Plan,
    /// What the file says beside the plan.
    pub stated: Stated,
    /// Warnings by line.
    pub warnings: Vec<Problem>,
}

/// What a file states that nothing is drawn or limited by: it is reckoned with and disclosed.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Stated {
    /// What one unit is worth, of prizes that are not cash, where the file says so.
    pub values: BTreeMap<(RoundId, PrizeId), Fen>,
    /// How fast vendors deliver by their own word, units a second.
    pub deliver_per_second: BTreeMap<VendorId, u64>,
}

/// Compiles a campaign file.
///
/// # Errors
/// All mistakes of the file, by line, with the warnings between them.
pub fn compile(source: &[u8], options: &CompileOptions<'_>) -> Result<Compiled, Problems> {
    compile_for(source, options, None)
}

/// Compiles a campaign file and holds it against the rules of a jurisdiction as well.
///
/// # Errors
/// All mistakes of the file, those against the jurisdiction among them, by line, with the warnings between them.
pub fn compile_for(
    source: &[u8],
    options: &CompileOptions<'_>,
    jurisdiction: Option<Jurisdiction>,
) -> Result<Compiled, Problems> {
    let mut sink = Sink::default();
    let compiled = compile_into(source, options, jurisdiction, &mut sink);
    let failed = sink.failed();
    let problems = sink.finish();
    match compiled {
        Some((plan, stated)) if !failed => Ok(Compiled { plan, stated, warnings: problems }),
        _ => Err(Problems(problems)),
    }
}

/// The campaign that a file is about, if it says so readably.
pub fn campaign_of(source: &[u8]) -> Option<CampaignId> {
    let root = yaml::parse(source, &mut Sink::default())?;
    let yaml::Data::Map(entries) = &root.data else { return None };
    let entry = entries.iter().find(|e| e.key == "campaign")?;
    match &entry.value.data {
        yaml::Data::Scalar { text, .. } => text.parse().ok().map(CampaignId),
        _ => None,
    }
}

fn compile_into(
    source: &[u8],
    options: &CompileOptions<'_>,
    jurisdiction: Option<Jurisdiction>,
    sink: &mut Sink,
) -> Option<(Plan, Stated)> {
    let root = yaml::parse(source, sink)?;
    let spec = spec::read(&root, sink)?;
    let start_ms = spec.start.map_or(options.base_ms, |moment| moment.resolve(options.base_ms));
    let openings = openings(&spec, start_ms, sink)?;
    check_times(&spec, &openings, sink);
    let mut built = Built::default();
    for opening in &openings {
        built.list(&spec, opening.round, sink);
    }
    let vendors: Vec<_> = spec.vendors.iter().map(|v| v.vendor.clone()).collect();
    capacity::check(&spec, &built.lists, sink);
    if let Some(jurisdiction) = jurisdiction {
        jurisdiction.check(&spec, sink);
    }
    let days = days(&spec, &openings, sink)?;
    if sink.failed() {
        return None;
    }
    let mut rounds = Vec::with_capacity(openings.len());
    for opening in &openings {
        let Some(seed) = commitment(spec.campaign.value, opening.id, options) else {
            let what = format!("there is no seed commitment for round {}", opening.id);
            let cure = "the stored version is damaged: restore it from a backup";
            sink.error(opening.round.mark, &opening.round.path, what, cure);
            continue;
        };
        rounds.push(Round {
            id: opening.id,
            name: format!("{}{}", opening.round.name, opening.suffix),
            open_ms: opening.open_ms,
            close_ms: opening.close_ms(),
            seed_key_id: seed.key_id,
            seed_commitment: seed.sha256,
            prizes: built.next(opening.round),
        });
    }
    let plan = Plan {
        campaign: spec.campaign.value,
        seq_no: options.seq_no,
        name: spec.name.clone(),
        source_sha256: Sha256::digest(source).into(),
        time_zone: spec.zone.name.clone(),
        days,
        limits: spec.limits,
        stagger: spec.stagger.value,
        pacing: spec.pacing,
        rounds,
        vendors,
        regions: spec.regions.iter().map(|r| r.region.clone()).collect(),
    };
    if let Some(after) = options.after {
        succession::check(&after, &plan, &places(&spec, &openings), sink);
    }
    warnings::note(&spec, &plan, sink);
    Some((plan, stated(&spec, &openings)))
}

fn stated(spec: &CampaignSpec, openings: &[Opening<'_>]) -> Stated {
    let mut stated = Stated::default();
    for opening in openings {
        let prizes = opening.round.prizes.iter().flat_map(|list| &spec.lists[*list].prizes);
        let values = prizes.filter_map(|p| Some(((opening.id, p.id), p.value?.value)));
        stated.values.extend(values);
    }
    let speeds = spec.vendors.iter().filter_map(|v| Some((v.vendor.id, v.deliver_per_second?.value)));
    stated.deliver_per_second = speeds.collect();
    stated
}

fn commitment(campaign: CampaignId, round: RoundId, options: &CompileOptions<'_>) -> Option<SeedCommitment> {
    let before = options.after.and_then(|after| after.commitments.commitment(campaign, round));
    before.or_else(|| options.seeds.commitment(campaign, round))
}

/// One opening of a round on the time line.
struct Opening<'s> {
    id: RoundId,
    open_ms: u64,
    suffix: &'s str,
    round: &'s RoundSpec,
}

impl Opening<'_> {
    fn close_ms(&self) -> u64 {
        self.open_ms.saturating_add(self.round.duration.value)
    }
}

/// All openings by time. `None` when they are too many.
fn openings<'s>(spec: &'s CampaignSpec, start_ms: u64, sink: &mut Sink) -> Option<Vec<Opening<'s>>> {
    let mut openings = Vec::new();
    let mut prizes = 0;
    let mut seen: BTreeMap<RoundId, Mark> = BTreeMap::new();
    for round in &spec.rounds {
        for (i, (moment, suffix)) in round.opens.iter().enumerate() {
            let Some(id) = u32::try_from(i).ok().and_then(|i| round.id.0.checked_add(i)).map(RoundId) else {
                let cure = "begin with a lower number";
                sink.error(round.mark, &round.path, "the numbers of these rounds go too high", cure);
                return None;
            };
            if let Some(first) = seen.insert(id, round.mark)
                && first != round.mark
            {
                let what = format!("round {id} stands twice, first in line {}", first.line);
                sink.error(
                    round.mark,
                    &round.path,
                    what,
                    "each round has a number of its own; `repeat` counts up",
                );
            }
            openings.push(Opening { id, open_ms: moment.resolve(start_ms), suffix, round });
            prizes += round.prizes.map_or(0, |list| spec.lists[list].prizes.len());
        }
    }
    if openings.len() > ROUNDS_MAX || prizes > PRIZES_TOTAL_MAX {
        let what = format!("{} rounds with {prizes} prizes in all", openings.len());
        let cure =
            format!("a campaign has at most {ROUNDS_MAX} rounds and {PRIZES_TOTAL_MAX} prizes: split it");
        sink.error(spec.rounds_mark, &Path::ROOT.key("rounds"), what, cure);
        return None;
    }
    openings.sort_by_key(|o| (o.open_ms, o.id));
    Some(openings)
}

/// Rounds one after the other, long enough for the last stagger group.
fn check_times(spec: &CampaignSpec, openings: &[Opening<'_>], sink: &mut Sink) {
    let mut told = BTreeSet::new();
    // The round that closes last of those before: a long one may overlap several.
    let mut before = openings.first();
    for second in openings.iter().skip(1) {
        let Some(first) = before else { break };
        if second.close_ms() > first.close_ms() {
            before = Some(second);
        }
        let places = (first.round.mark, second.round.mark);
        if second.open_ms < first.close_ms() && told.insert(places) {
            let what = format!(
                "round {} opens at {}, before round {} (line {}) closes at {}",
                second.id,
                spec.zone.show(second.open_ms),
                first.id,
                first.round.mark.line,
                spec.zone.show(first.close_ms())
            );
            let cure = "rounds follow one another: open it later, or shorten the one before";
            sink.error(second.round.opens_mark, &second.round.path, what, cure);
        }
    }
    let stagger = spec.stagger.value;
    let last_ms = u64::from(stagger.groups.saturating_sub(1)) * u64::from(stagger.step_ms);
    let shortest = spec.rounds.iter().min_by_key(|r| r.duration.value);
    if let Some(round) = shortest
        && last_ms >= round.duration.value
    {
        let what = format!(
            "the last group would begin {} after the opening, but round {} lasts {}",
            show_duration(last_ms),
            round.id,
            show_duration(round.duration.value)
        );
        sink.error(
            spec.stagger.mark,
            &Path::ROOT.key("stagger"),
            what,
            "take fewer groups or a smaller step",
        );
    }
}

fn days(spec: &CampaignSpec, openings: &[Opening<'_>], sink: &mut Sink) -> Option<Vec<(u64, u32)>> {
    let first_ms = openings.first()?.open_ms;
    let last_ms = openings.iter().map(|o| o.close_ms() - 1).max()?;
    let days = spec.zone.days(first_ms, last_ms);
    if days.is_none() {
        let what = format!("the rounds span more than {DAYS_MAX} days, or lie out of range");
        sink.error(spec.zone_mark, &Path::ROOT.key("rounds"), what, "check the dates, or split the campaign");
    }
    days
}

/// Prize lists of each length of round, built once however many rounds share them.
#[derive(Default)]
struct Built {
    lists: BTreeMap<(usize, u64), Vec<Prize>>,
    /// How many openings still want each.
    wanted: BTreeMap<(usize, u64), usize>,
}

impl Built {
    /// Builds what an opening wants.
    fn list(&mut self, spec: &CampaignSpec, round: &RoundSpec, sink: &mut Sink) {
        let Some(list) = round.prizes else { return };
        let key = (list, round.duration.value);
        *self.wanted.entry(key).or_default() += 1;
        self.lists.entry(key).or_insert_with(|| build(&spec.lists[list], key.1, sink));
    }

    /// What an opening wants; the last that wants a list has it without a copy.
    fn next(&mut self, round: &RoundSpec) -> Vec<Prize> {
        let Some(list) = round.prizes else { return Vec::new() };
        let key = (list, round.duration.value);
        match self.wanted.get_mut(&key) {
            Some(more) if *more > 1 => {
                *more -= 1;
                self.lists.get(&key).cloned().unwrap_or_default()
            }
            _ => self.lists.remove(&key).unwrap_or_default(),
        }
    }
}

fn build(list: &PrizeList, duration_ms: u64, sink: &mut Sink) -> Vec<Prize> {
    let mut prizes = Vec::with_capacity(list.prizes.len());
    for spec in &list.prizes {
        let Some(curve) = curves::build(spec, duration_ms, sink) else { continue };
        prizes.push(Prize {
            id: spec.id,
            name: spec.name.clone(),
            kind: spec.kind,
            weight: spec.weight,
            regions: spec.regions.value,
            vendor: spec.vendor,
            delivery: spec.delivery,
            curve,
            speed_max: spec.speed_max.map_or(0, |s| s.value),
            catch_up_percent: spec.catch_up_percent,
            paused: false,
            tranches: spec.tranches.clone(),
        });
    }
    if !prizes.is_empty() && prizes.iter().all(|p| p.weight == 0) {
        let cure = "players then get them in the order of the file: give at least one a weight";
        sink.warning(list.mark, &list.path, "no prize has a weight", cure);
    }
    prizes
}

fn places(spec: &CampaignSpec, openings: &[Opening<'_>]) -> Places {
    let mut places = Places { rounds_mark: spec.rounds_mark, zone_mark: spec.zone_mark, ..Places::default() };
    for opening in openings {
        let round = opening.round;
        places.rounds.insert(opening.id, (round.opens_mark, round.path.clone()));
        for prize in round.prizes.iter().flat_map(|list| &spec.lists[*list].prizes) {
            places.prizes.insert((opening.id, prize.id), (prize.mark, prize.path.to_string()));
        }
    }
    places
}

impl Compiled {
    /// The warnings as text, one a line; empty if there are none.
    pub fn warnings_text(&self) -> String {
        debug_assert!(self.warnings.iter().all(|w| w.severity == Severity::Warning));
        Problems(self.warnings.clone()).to_string()
    }
}
