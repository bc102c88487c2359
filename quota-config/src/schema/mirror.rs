//! What a campaign file looks like, as types whose documentation is the help that editors show.
#![allow(dead_code)] // Only their shape is used.

use super::scalars;
use crate::bounds::{REGION_RANGES_MAX, ROUNDS_MAX, TRANCHES_MAX, VENDORS_MAX};
use campaign::curve::POINTS_MAX;
use campaign::plan::PRIZES_MAX;
use campaign::region::REGIONS_MAX;
use schemars::JsonSchema;
use serde_json::json;
use std::collections::BTreeMap;

/// A campaign: its rounds, what each gives out, how fast, through whom, and what one player may win.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, title = "hongbao campaign file")]
pub(super) struct Campaign {
    /// Number of the campaign. Chosen once, never used again for another.
    #[schemars(schema_with = "scalars::id")]
    campaign: u32,
    /// Name for people.
    #[schemars(schema_with = "scalars::name")]
    name: String,
    /// For people.
    #[schemars(default, schema_with = "scalars::text")]
    description: Option<String>,
    /// Name in the IANA database. Local times and 'wins per day' mean it.
    #[schemars(schema_with = "scalars::zone")]
    time_zone: String,
    /// What `+20s` counts from: a time, or `now`, the moment at which the campaign is first published.
    #[schemars(default, schema_with = "scalars::start")]
    start: Option<String>,
    /// Who delivers the prizes.
    #[schemars(length(max = VENDORS_MAX))]
    vendors: Vec<Vendor>,
    /// What one player may win, and how often he may try.
    #[schemars(default)]
    limits: Limits,
    /// Players begin in groups. Left out: all at once.
    #[schemars(default)]
    stagger: Stagger,
    /// How often apps submit.
    #[schemars(default)]
    client: Client,
    /// Named sets of districts that prizes can be limited to. A district is the app's own number, said with each submit.
    #[schemars(default, extend("maxProperties" = REGIONS_MAX))]
    regions: BTreeMap<String, Districts>,
    /// Named prize lists, for rounds that give out the same. Each round has units of its own.
    #[schemars(default)]
    prize_sets: BTreeMap<String, PrizeList>,
    /// The rounds. They don't overlap.
    #[schemars(length(min = 1, max = ROUNDS_MAX))]
    rounds: Vec<Round>,
}

/// Districts of a region: numbers from 1 on, and ranges such as 310000-319999. They don't overlap.
#[derive(JsonSchema)]
#[schemars(transparent)]
pub(super) struct Districts(#[schemars(length(min = 1, max = REGION_RANGES_MAX))] Vec<District>);

/// A district's number, or a range of them.
#[derive(JsonSchema)]
#[schemars(transparent)]
pub(super) struct District(#[schemars(schema_with = "scalars::districts")] String);

/// Prizes of a round.
#[derive(JsonSchema)]
#[schemars(transparent)]
pub(super) struct PrizeList(#[schemars(length(min = 1, max = PRIZES_MAX))] Vec<Prize>);

/// A vendor.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct Vendor {
    /// Number of the vendor. Chosen once, never used again for another.
    #[schemars(schema_with = "scalars::id")]
    id: u32,
    /// Name for people.
    #[schemars(schema_with = "scalars::name")]
    name: String,
    /// Units of all its prizes together that may be released in a second. Left out: no such limit.
    #[schemars(default, schema_with = "scalars::speed")]
    release_per_second: Option<u64>,
    /// How fast it delivers by its own word, units a second. Limits nothing; warns when it would fall far behind.
    #[schemars(default, schema_with = "scalars::speed")]
    deliver_per_second: Option<u64>,
}

/// What one player may win, and how often he may try. Left out: no such limit.
#[derive(JsonSchema, Default)]
#[schemars(deny_unknown_fields)]
pub(super) struct Limits {
    /// Wins in a round.
    #[schemars(default, schema_with = "scalars::wins")]
    wins_per_round: Option<u16>,
    /// Wins in a day of the campaign's time zone.
    #[schemars(default, schema_with = "scalars::wins")]
    wins_per_day: Option<u16>,
    /// Wins in the campaign.
    #[schemars(default, schema_with = "scalars::wins")]
    wins_per_campaign: Option<u16>,
    /// How long a player takes part in a round from his first entry; `whole_round` if left out.
    #[schemars(default, schema_with = "scalars::participation")]
    participation: Option<String>,
    /// Least time from entry to entry; 2s if left out.
    #[schemars(default, schema_with = "scalars::duration")]
    interval: Option<String>,
    /// Shakes that count in a second of shaking; 5 if left out.
    #[schemars(default, schema_with = "scalars::shakes")]
    shakes_per_second: Option<u16>,
}

/// Group g (user id modulo `groups`) begins g steps after the opening.
#[derive(JsonSchema, Default)]
#[schemars(deny_unknown_fields)]
pub(super) struct Stagger {
    /// Number of groups.
    #[schemars(schema_with = "scalars::groups")]
    groups: u32,
    /// Time between the starts of neighbouring groups.
    #[schemars(schema_with = "scalars::duration")]
    step: String,
}

/// The submit interval that apps are told.
#[derive(JsonSchema, Default)]
#[schemars(deny_unknown_fields)]
pub(super) struct Client {
    /// Shortest interval: 1s, or `limits.interval` if that is longer, if left out.
    #[schemars(default, schema_with = "scalars::duration")]
    submit_min: Option<String>,
    /// How far load may stretch it; 3s if left out.
    #[schemars(default, schema_with = "scalars::duration")]
    submit_max: Option<String>,
}

/// A round, or many of the same kind.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, extend("oneOf" = json!([{"required": ["open"]}, {"required": ["repeat"]}])))]
pub(super) struct Round {
    /// Number of the round, or of the first of those that repeat. Never used again for another.
    #[schemars(schema_with = "scalars::id")]
    id: u32,
    /// Name for people.
    #[schemars(schema_with = "scalars::name")]
    name: String,
    /// When it opens: local time (2026-02-16 20:00), a time with its offset, or after the start (+20s).
    #[schemars(default, schema_with = "scalars::moment")]
    open: Option<String>,
    /// Opens many rounds, instead of `open`.
    #[schemars(default)]
    repeat: Repeat,
    /// How long it lasts, at least 5s.
    #[schemars(schema_with = "scalars::duration")]
    duration: String,
    /// Its prizes, or the name of a prize set.
    prizes: Prizes,
}

/// A list of prizes, or the name of a prize set.
#[derive(JsonSchema)]
#[schemars(untagged)]
pub(super) enum Prizes {
    /// The name of a prize set.
    Set(#[schemars(schema_with = "scalars::text")] String),
    /// Prizes of this round alone.
    List(PrizeList),
}

/// Openings at the same local times of each day within dates.
#[derive(JsonSchema, Default)]
#[schemars(deny_unknown_fields)]
pub(super) struct Repeat {
    /// First date, as in 2026-02-10.
    #[schemars(schema_with = "scalars::date")]
    from: String,
    /// Last date.
    #[schemars(schema_with = "scalars::date")]
    to: String,
    /// First time of each day, as in 10:00.
    #[schemars(schema_with = "scalars::time")]
    first: String,
    /// Last time of each day.
    #[schemars(schema_with = "scalars::time")]
    last: String,
    /// From opening to opening; 1h if left out.
    #[schemars(default, schema_with = "scalars::duration")]
    every: Option<String>,
}

/// A prize of a round.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, extend("allOf" = prize_rules()))]
pub(super) struct Prize {
    /// Number of the prize, unique in its round. Never used again for another.
    #[schemars(schema_with = "scalars::id")]
    id: u32,
    /// Name for people.
    #[schemars(schema_with = "scalars::name")]
    name: String,
    /// What it is.
    kind: Kind,
    /// Chance against the other prizes of the round; 0: only by falling through.
    #[schemars(schema_with = "scalars::weight")]
    weight: u32,
    /// Number of the vendor that delivers it.
    #[schemars(schema_with = "scalars::id")]
    vendor: u32,
    /// Names of the regions that it can be won in; left out: everywhere. For whoever is elsewhere, or in a district that is
    /// not known, it is as if it had nothing to give.
    #[schemars(default, length(min = 1, max = REGIONS_MAX))]
    regions: Vec<RegionName>,
    /// How many there are.
    #[schemars(default, schema_with = "scalars::units")]
    units: Option<u64>,
    /// Cash: the fixed amount of each unit, in yuan.
    #[schemars(default, schema_with = "scalars::yuan")]
    each: Option<f64>,
    /// Cash: the sum in yuan that is split among the units at random.
    #[schemars(default, schema_with = "scalars::yuan")]
    sum: Option<f64>,
    /// Cash: the smallest amount, in yuan.
    #[schemars(default, schema_with = "scalars::yuan")]
    min: Option<f64>,
    /// Cash: the largest amount, in yuan.
    #[schemars(default, schema_with = "scalars::yuan")]
    max: Option<f64>,
    /// What one is worth, in yuan. Not for cash.
    #[schemars(default, schema_with = "scalars::yuan")]
    value: Option<f64>,
    /// Further units: how a budget is raised later.
    #[schemars(default, length(min = 1, max = TRANCHES_MAX - 1))]
    tranches: Vec<Tranche>,
    /// How the units are released over the round.
    #[schemars(default)]
    curve: Curve,
    /// Units a second at most. Left out: no such limit.
    #[schemars(default, schema_with = "scalars::speed")]
    speed_max: Option<u64>,
    /// Speed at which what is behind the curve is caught up, in percent of the curve's mean; 200% if left out.
    #[schemars(default, schema_with = "scalars::percent")]
    catch_up: Option<String>,
    /// When it goes out; `at_once` if left out.
    #[schemars(default)]
    deliver: Deliver,
    /// With `on_claim`: how long after the win the player may ask for it.
    #[schemars(default, schema_with = "scalars::duration")]
    term: Option<String>,
}

/// The name of a region.
#[derive(JsonSchema)]
#[schemars(transparent)]
pub(super) struct RegionName(#[schemars(schema_with = "scalars::name")] String);

/// What hangs together in a prize: money and kind, units and tranches, term and delivery.
fn prize_rules() -> serde_json::Value {
    let has = |key: &str| json!({"required": [key]});
    let none = json!({"not": {"anyOf": [has("each"), has("sum"), has("min"), has("max")]}});
    let range = json!({"required": ["sum", "min", "max"], "not": has("each")});
    let fixed = json!({
        "required": ["each"],
        "not": {"anyOf": [has("sum"), has("min"), has("max")]}
    });
    let kind = |kind: &str| json!({"properties": {"kind": {"const": kind}}, "required": ["kind"]});
    json!([
        {"anyOf": [has("units"), has("tranches")]},
        {"if": has("units"), "else": none.clone()},
        {
            "if": kind("cash"),
            "then": {
                "if": has("units"),
                "then": {"oneOf": [fixed.clone(), range.clone()]},
                "not": has("value"),
                "properties": {"tranches": {"items": {"oneOf": [fixed, range]}}}
            },
            "else": {"allOf": [none.clone(), {"properties": {"tranches": {"items": none}}}]}
        },
        {
            "if": {"properties": {"deliver": {"const": "on_claim"}}, "required": ["deliver"]},
            "then": has("term"),
            "else": {"not": has("term")}
        }
    ])
}

/// What a prize is.
#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
pub(super) enum Kind {
    /// Money into a wallet.
    Cash,
    /// A voucher code or coupon.
    Voucher,
    /// Virtual goods.
    Goods,
    /// A cover for red envelopes.
    Cover,
}

/// When a prize goes out.
#[derive(JsonSchema, Default)]
#[schemars(rename_all = "snake_case")]
pub(super) enum Deliver {
    /// As soon as it is won.
    #[default]
    AtOnce,
    /// When the player asks for it, within `term`.
    OnClaim,
}

/// Units that were added to a prize.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct Tranche {
    /// How many.
    #[schemars(schema_with = "scalars::units")]
    units: u64,
    /// Cash: the fixed amount of each.
    #[schemars(default, schema_with = "scalars::yuan")]
    each: Option<f64>,
    /// Cash: the sum that is split among them.
    #[schemars(default, schema_with = "scalars::yuan")]
    sum: Option<f64>,
    /// Cash: the smallest amount.
    #[schemars(default, schema_with = "scalars::yuan")]
    min: Option<f64>,
    /// Cash: the largest amount.
    #[schemars(default, schema_with = "scalars::yuan")]
    max: Option<f64>,
}

/// How units are released over a round: a word, or points with straight lines between.
#[derive(JsonSchema)]
#[schemars(untagged)]
pub(super) enum Curve {
    /// A shape by its name.
    Shape(Shape),
    /// A shape of one's own, from 0% to 100%.
    Points(#[schemars(length(min = 2, max = POINTS_MAX))] Vec<CurvePoint>),
}

impl Default for Curve {
    fn default() -> Curve {
        Curve::Shape(Shape::Even)
    }
}

/// A curve by its name.
#[derive(JsonSchema)]
#[schemars(rename_all = "kebab-case")]
pub(super) enum Shape {
    /// The same speed all the time.
    Even,
    /// Half in the first fifth of the time, four fifths by half-time.
    FrontLoaded,
}

/// A point of a curve.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct CurvePoint {
    /// A time after the opening (30s), a share of the curve's time (50%), or `end`.
    #[schemars(schema_with = "scalars::point_at")]
    at: String,
    /// How much is released by then, 0% to 100%.
    #[schemars(schema_with = "scalars::share")]
    share: String,
}
