//! What a rehearsal finds, as it is shown and stored. Serialized, 64-bit numbers are text; times are ms UTC.

use serde::{Serialize, Serializer};
use std::fmt::Display;

fn text<T: Display, S: Serializer>(value: &T, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(value)
}

fn text_or_null<T: Display, S: Serializer>(value: &Option<T>, to: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => to.collect_str(value),
        None => to.serialize_none(),
    }
}

fn texts<S: Serializer>(values: &[u64], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(values.iter().map(ToString::to_string))
}

/// A rehearsal.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Rehearsal {
    /// The campaign.
    pub campaign: u32,
    /// Its name.
    pub name: String,
    /// Version of the plan.
    #[serde(serialize_with = "text")]
    pub seq_no: u64,
    /// Time zone of the campaign.
    pub time_zone: String,
    /// Local days: (first ms UTC, days since 1970-01-01), for showing times.
    #[serde(skip)]
    pub days: Vec<(u64, u32)>,
    /// What was rehearsed with.
    pub setup: SetupSummary,
    /// Everything together.
    pub totals: Totals,
    /// Each round, by time.
    pub rounds: Vec<RoundResult>,
    /// Each vendor.
    pub vendors: Vec<VendorResult>,
    /// Each lottery node.
    pub nodes: Vec<NodeResult>,
    /// Players by their wins; the last line has everybody who won as often or more.
    pub wins_per_player: Vec<WinsLine>,
    /// What a person should look at.
    pub warnings: Vec<Warning>,
    /// The laws of the money, checked.
    pub laws: Vec<LawCheck>,
}

/// What was rehearsed with.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct SetupSummary {
    /// Players there are.
    #[serde(serialize_with = "text")]
    pub players: u64,
    /// Lottery nodes.
    pub nodes: usize,
    /// Virtual nodes that they were rehearsed as.
    pub parts: usize,
    /// The seed.
    #[serde(serialize_with = "text")]
    pub seed: u64,
    /// Shakes of a submit.
    pub shakes: u32,
    /// How long a player stays; `null`: to the end.
    #[serde(serialize_with = "text_or_null")]
    pub stay_ms: Option<u64>,
}

/// Sums over the whole campaign.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Totals {
    /// Players that came.
    #[serde(serialize_with = "text")]
    pub players: u64,
    /// Submits they made.
    #[serde(serialize_with = "text")]
    pub submits: u64,
    /// Submits that were draws.
    #[serde(serialize_with = "text")]
    pub draws: u64,
    /// Draws that won.
    #[serde(serialize_with = "text")]
    pub wins: u64,
    /// Submits of players who could win no more just then.
    #[serde(serialize_with = "text")]
    pub limited: u64,
    /// Submits that came too early or outside of a round.
    #[serde(serialize_with = "text")]
    pub refused: u64,
    /// Players who won at least once.
    #[serde(serialize_with = "text")]
    pub winners: u64,
    /// Units planned.
    #[serde(serialize_with = "text")]
    pub units: u64,
    /// Money planned, fen.
    #[serde(serialize_with = "text")]
    pub fen: i64,
    /// Money won, fen.
    #[serde(serialize_with = "text")]
    pub fen_won: i64,
    /// Most submits of a second on all nodes together.
    #[serde(serialize_with = "text")]
    pub peak_per_second: u64,
    /// The second.
    #[serde(serialize_with = "text")]
    pub peak_ms: u64,
}

/// How a round went.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct RoundResult {
    /// The round.
    pub round: u32,
    /// Its name.
    pub name: String,
    /// Opening.
    #[serde(serialize_with = "text")]
    pub open_ms: u64,
    /// Closing.
    #[serde(serialize_with = "text")]
    pub close_ms: u64,
    /// Submits.
    #[serde(serialize_with = "text")]
    pub submits: u64,
    /// Draws.
    #[serde(serialize_with = "text")]
    pub draws: u64,
    /// Wins.
    #[serde(serialize_with = "text")]
    pub wins: u64,
    /// Units planned.
    #[serde(serialize_with = "text")]
    pub units: u64,
    /// Units that nobody won.
    #[serde(serialize_with = "text")]
    pub unissued: u64,
    /// Money planned, fen.
    #[serde(serialize_with = "text")]
    pub fen: i64,
    /// Money won, fen.
    #[serde(serialize_with = "text")]
    pub fen_won: i64,
    /// Draws in the last three seconds.
    #[serde(serialize_with = "text")]
    pub tail_entries: u64,
    /// Units that were left when they began.
    #[serde(serialize_with = "text")]
    pub tail_units: u64,
    /// The first over the second; `null` when nothing was left. Below 10 units may well stay behind.
    pub entries_per_unit: Option<f64>,
    /// By the minute (in rounds of more than a day: longer).
    pub minutes: Vec<Stretch>,
    /// Width of the stretches of all curves of this round, ms.
    #[serde(serialize_with = "text")]
    pub step_ms: u64,
    /// Submits in each stretch.
    #[serde(serialize_with = "texts")]
    pub submits_by_step: Vec<u64>,
    /// Draws in each stretch.
    #[serde(serialize_with = "texts")]
    pub draws_by_step: Vec<u64>,
    /// Wins in each stretch.
    #[serde(serialize_with = "texts")]
    pub wins_by_step: Vec<u64>,
    /// Its prizes, in the order of the plan.
    pub prizes: Vec<PrizeResult>,
}

/// What went on between two instants.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Stretch {
    /// Its beginning.
    #[serde(serialize_with = "text")]
    pub from_ms: u64,
    /// Draws.
    #[serde(serialize_with = "text")]
    pub draws: u64,
    /// Wins.
    #[serde(serialize_with = "text")]
    pub wins: u64,
    /// Wins over draws.
    pub odds: f64,
}

/// How a prize was given out.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct PrizeResult {
    /// The prize.
    pub prize: u32,
    /// Its name.
    pub name: String,
    /// `cash`, `voucher`, `goods` or `cover`.
    pub kind: &'static str,
    /// Who delivers it.
    pub vendor: u32,
    /// Units planned.
    #[serde(serialize_with = "text")]
    pub units: u64,
    /// Units won.
    #[serde(serialize_with = "text")]
    pub won: u64,
    /// Units that nobody won.
    #[serde(serialize_with = "text")]
    pub unissued: u64,
    /// Money planned, fen.
    #[serde(serialize_with = "text")]
    pub fen: i64,
    /// Money won, fen.
    #[serde(serialize_with = "text")]
    pub fen_won: i64,
    /// Wins over the round's draws.
    pub odds: f64,
    /// First win.
    #[serde(serialize_with = "text_or_null")]
    pub first_ms: Option<u64>,
    /// When the last unit was won; `null`: some were left.
    #[serde(serialize_with = "text_or_null")]
    pub exhausted_ms: Option<u64>,
    /// Most units by which the wins were behind the curve, at the end of a stretch.
    #[serde(serialize_with = "text")]
    pub behind_max: u64,
    /// Units that the curve has released at the end of each stretch.
    #[serde(serialize_with = "texts")]
    pub released: Vec<u64>,
    /// Units won by then.
    #[serde(serialize_with = "texts")]
    pub won_by: Vec<u64>,
}

/// How a vendor fared.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct VendorResult {
    /// The vendor.
    pub vendor: u32,
    /// Its name.
    pub name: String,
    /// Its limit, calls a second.
    pub per_second: u32,
    /// How long a call takes, ms.
    pub latency_ms: u32,
    /// Calls at once.
    pub concurrency: u32,
    /// Orders that came due.
    #[serde(serialize_with = "text")]
    pub orders: u64,
    /// Those that were delivered.
    #[serde(serialize_with = "text")]
    pub delivered: u64,
    /// Wins that nobody claimed.
    #[serde(serialize_with = "text")]
    pub unclaimed: u64,
    /// Sends that waited for one of the calls under way to end.
    #[serde(serialize_with = "text")]
    pub crowded: u64,
    /// When the last order came due.
    #[serde(serialize_with = "text_or_null")]
    pub last_order_ms: Option<u64>,
    /// When the last one was delivered.
    #[serde(serialize_with = "text_or_null")]
    pub done_ms: Option<u64>,
    /// Most orders that waited at once.
    #[serde(serialize_with = "text")]
    pub backlog_max: u64,
    /// When that was.
    #[serde(serialize_with = "text")]
    pub backlog_max_ms: u64,
    /// Wait from order to delivery, ms: median.
    #[serde(serialize_with = "text")]
    pub wait_p50_ms: u64,
    /// 99 of 100 wait no longer.
    #[serde(serialize_with = "text")]
    pub wait_p99_ms: u64,
    /// The longest wait.
    #[serde(serialize_with = "text")]
    pub wait_max_ms: u64,
    /// First ms of the first stretch.
    #[serde(serialize_with = "text")]
    pub from_ms: u64,
    /// Width of the stretches, ms.
    #[serde(serialize_with = "text")]
    pub step_ms: u64,
    /// Orders that wait at the end of each stretch.
    #[serde(serialize_with = "texts")]
    pub backlog: Vec<u64>,
}

/// What a lottery node had to do.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct NodeResult {
    /// The node, from 1.
    pub node: usize,
    /// Submits.
    #[serde(serialize_with = "text")]
    pub submits: u64,
    /// Draws.
    #[serde(serialize_with = "text")]
    pub draws: u64,
    /// Wins.
    #[serde(serialize_with = "text")]
    pub wins: u64,
    /// Most submits of a second.
    #[serde(serialize_with = "text")]
    pub peak_per_second: u64,
    /// The second.
    #[serde(serialize_with = "text")]
    pub peak_ms: u64,
}

/// Players who won equally often.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct WinsLine {
    /// Wins.
    pub wins: usize,
    /// Players.
    #[serde(serialize_with = "text")]
    pub players: u64,
}

/// What a person should look at.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Warning {
    /// What kind: `unissued`, `tail`, `behind`, `paused`, `vendor_late`, `vendor_off`, `vendor_calls`, `load`, `players`.
    pub code: &'static str,
    /// In English.
    pub text: String,
    /// In Chinese.
    pub text_zh: String,
}

/// A law, checked.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct LawCheck {
    /// What it says.
    pub law: String,
    /// It holds.
    pub holds: bool,
    /// What was found, if it does not.
    pub detail: String,
}

impl Rehearsal {
    /// Every law holds.
    pub fn holds(&self) -> bool {
        self.laws.iter().all(|law| law.holds)
    }

    /// The documented JSON (`docs/rehearsal.md`), indented.
    pub fn json(&self) -> String {
        // Numbers, texts and lists only: it can't fail.
        serde_json::to_string_pretty(self).unwrap_or_default()
    }
}
