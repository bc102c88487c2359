//! The plan that runs, as people and programs read it.

use crate::schema;
use campaign::{Delivery, Plan, Prize, Round};
use quota_config::{Adjustments, GreyInfo, PrizeAt, Shown, VersionInfo};
use serde::Serialize;
use utoipa::ToSchema;

/// A plan.
#[derive(Serialize, ToSchema)]
pub(crate) struct PlanView {
    /// The campaign.
    campaign: u32,
    /// Its name.
    name: String,
    /// The version.
    #[schema(value_type = schema::Number)]
    seq_no: String,
    /// The grey one, if one is out.
    #[schema(value_type = Option<schema::GreyInfo>)]
    grey: Option<GreyInfo>,
    /// What the history shows of the version.
    #[schema(value_type = schema::VersionInfo)]
    version: VersionInfo,
    /// Name of its time zone.
    time_zone: String,
    /// All budgets as planned.
    budget: Budget,
    /// What a user may win, and how often he may try; 0: no such limit.
    limits: LimitsView,
    /// Staggered start.
    stagger: StaggerView,
    /// How clients behave.
    pacing: PacingView,
    /// Who delivers.
    vendors: Vec<VendorView>,
    /// Rounds by opening time.
    rounds: Vec<RoundView>,
    /// Where the next page of rounds begins; nothing: these were the last.
    next: Option<String>,
    /// Rounds in all.
    rounds_in_all: usize,
    /// What operators changed beside the file.
    #[schema(value_type = schema::Adjustments)]
    adjustments: Adjustments,
}

/// Units and money as planned. What was lowered is in the ledger: `status` shows it.
#[derive(Serialize, ToSchema)]
struct Budget {
    /// Units.
    #[schema(value_type = schema::Number)]
    units: String,
    /// Fen.
    #[schema(value_type = schema::Number)]
    fen: String,
}

#[derive(Serialize, ToSchema)]
struct LimitsView {
    wins_round: u16,
    wins_day: u16,
    wins_campaign: u16,
    participation_ms: u32,
    interval_ms: u32,
    shakes_per_second: u16,
}

#[derive(Serialize, ToSchema)]
struct StaggerView {
    groups: u32,
    step_ms: u32,
}

#[derive(Serialize, ToSchema)]
struct PacingView {
    submit_min_ms: u32,
    submit_max_ms: u32,
}

#[derive(Serialize, ToSchema)]
struct VendorView {
    vendor: u32,
    name: String,
    /// Units of all its prizes a second; 0: no limit.
    #[schema(value_type = schema::Number)]
    release_per_second: String,
}

#[derive(Serialize, ToSchema)]
struct RoundView {
    round: u32,
    name: String,
    /// ms UTC.
    #[schema(value_type = schema::Number)]
    open_ms: String,
    /// ms UTC.
    #[schema(value_type = schema::Number)]
    close_ms: String,
    /// SHA-256 of the seed.
    #[schema(value_type = schema::Sha256)]
    seed_commitment: String,
    prizes: Vec<PrizeView>,
}

#[derive(Serialize, ToSchema)]
struct PrizeView {
    /// `ROUND/PRIZE`.
    #[schema(value_type = schema::PrizeAt)]
    prize: String,
    name: String,
    /// `cash`, `voucher`, `goods` or `cover`.
    kind: &'static str,
    weight: u32,
    vendor: u32,
    /// Regions that it can be won in; none: everywhere.
    regions: Vec<String>,
    /// ms to claim it; nothing: it is delivered at once.
    #[schema(value_type = Option<schema::Number>)]
    claim_ms: Option<String>,
    /// Units ever planned.
    #[schema(value_type = schema::Number)]
    units: String,
    /// Money ever planned, fen.
    #[schema(value_type = schema::Number)]
    fen: String,
    /// Smallest amount, fen.
    #[schema(value_type = schema::Number)]
    min_fen: String,
    /// Largest amount, fen.
    #[schema(value_type = schema::Number)]
    max_fen: String,
    /// Units a second at most; 0: the curve alone.
    #[schema(value_type = schema::Number)]
    speed_max: String,
    /// Speed of catching up, in percent of the curve's mean speed.
    catch_up_percent: u32,
    /// Release curve.
    curve: Vec<PointView>,
    /// Nothing of it is given out.
    paused: bool,
    /// Units that were asked to be taken away.
    #[schema(value_type = schema::Number)]
    lowered: String,
}

#[derive(Serialize, ToSchema)]
struct PointView {
    /// From the opening, ms.
    #[schema(value_type = schema::Number)]
    at_ms: String,
    /// Share that is released by then, 0 to 1.
    share: f64,
}

impl PlanView {
    /// The view with at most `limit` rounds behind round `after`, in the order of the plan.
    pub fn of(shown: &Shown, grey: Option<GreyInfo>, after: u64, limit: usize) -> PlanView {
        let plan = &shown.plan;
        let begin = plan.rounds.iter().position(|r| u64::from(r.id.0) == after).map_or(0, |i| i + 1);
        let page: Vec<&Round> = plan.rounds.iter().skip(begin).take(limit).collect();
        let more = begin + page.len() < plan.rounds.len();
        let (limits, stagger, pacing) = (plan.limits, plan.stagger, plan.pacing);
        PlanView {
            campaign: plan.campaign.0,
            name: plan.name.clone(),
            seq_no: shown.info.seq_no.to_string(),
            grey,
            version: shown.info.clone(),
            time_zone: plan.time_zone.clone(),
            budget: budget(plan),
            limits: LimitsView {
                wins_round: limits.wins_round,
                wins_day: limits.wins_day,
                wins_campaign: limits.wins_campaign,
                participation_ms: limits.participation_ms,
                interval_ms: limits.interval_ms,
                shakes_per_second: limits.shakes_per_second,
            },
            stagger: StaggerView { groups: stagger.groups, step_ms: stagger.step_ms },
            pacing: PacingView { submit_min_ms: pacing.submit_min_ms, submit_max_ms: pacing.submit_max_ms },
            vendors: plan.vendors.iter().map(vendor).collect(),
            next: page.last().filter(|_| more).map(|round| round.id.to_string()),
            rounds: page.into_iter().map(|r| round(&shown.plan, r, &shown.adjustments)).collect(),
            rounds_in_all: plan.rounds.len(),
            adjustments: shown.adjustments.clone(),
        }
    }
}

/// Sums of many prizes may leave the range of 64 bits.
fn budget(plan: &Plan) -> Budget {
    let prizes = || plan.rounds.iter().flat_map(|r| &r.prizes);
    Budget {
        units: prizes().map(|p| u128::from(p.units())).sum::<u128>().to_string(),
        fen: prizes().map(|p| i128::from(p.fen().0)).sum::<i128>().to_string(),
    }
}

fn vendor(vendor: &campaign::Vendor) -> VendorView {
    let release_per_second = vendor.release_per_second.to_string();
    VendorView { vendor: vendor.id.0, name: vendor.name.clone(), release_per_second }
}

fn round(plan: &Plan, round: &Round, adjustments: &Adjustments) -> RoundView {
    RoundView {
        round: round.id.0,
        name: round.name.clone(),
        open_ms: round.open_ms.to_string(),
        close_ms: round.close_ms.to_string(),
        seed_commitment: hex::encode(round.seed_commitment),
        prizes: round.prizes.iter().map(|p| prize((plan, round), p, adjustments)).collect(),
    }
}

fn prize((plan, round): (&Plan, &Round), prize: &Prize, adjustments: &Adjustments) -> PrizeView {
    let at = PrizeAt { round: round.id, prize: prize.id };
    let point = |p: &campaign::curve::Point| PointView {
        at_ms: p.at_ms.to_string(),
        share: p.share as f64 / campaign::curve::WHOLE as f64,
    };
    PrizeView {
        prize: at.to_string(),
        name: prize.name.clone(),
        kind: prize.kind.name(),
        weight: prize.weight,
        vendor: prize.vendor.0,
        regions: plan.regions_of(prize).map(|r| r.name.clone()).collect(),
        claim_ms: match prize.delivery {
            Delivery::AtOnce => None,
            Delivery::OnClaim { term_ms } => Some(term_ms.to_string()),
        },
        units: prize.units().to_string(),
        fen: prize.fen().0.to_string(),
        min_fen: prize.tranches.iter().map(|t| t.min.0).min().unwrap_or(0).to_string(),
        max_fen: prize.tranches.iter().map(|t| t.max.0).max().unwrap_or(0).to_string(),
        speed_max: prize.speed_max.to_string(),
        catch_up_percent: prize.catch_up_percent,
        curve: prize.curve.points().iter().map(point).collect(),
        paused: prize.paused,
        lowered: adjustments.lowered.get(&at).copied().unwrap_or(0).to_string(),
    }
}
