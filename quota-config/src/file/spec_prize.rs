//! Prizes of a campaign file.

use super::reader::{At, Keys, Wrong, at, list, name, scalar, word};
use super::spec::Known;
use super::spec_region::read_limits;
use super::value::{catch_up, duration_ms, duration_within, share, units, whole, whole32, yuan};
use super::yaml::{Data, Node};
use crate::bounds::{CATCH_UP_PERCENT_DEFAULT, DURATION_MS_MAX, SPEED_MAX, TRANCHES_MAX};
use crate::problem::{Mark, Path, Sink};
use campaign::curve::POINTS_MAX;
use campaign::plan::PRIZES_MAX;
use campaign::{Delivery, Fen, PrizeId, PrizeKind, Regions, Tranche, VendorId};
use std::fmt;
use std::rc::Rc;

/// Prizes that a round may have: a set, or what stands in the round itself.
pub(crate) struct PrizeList {
    pub mark: Mark,
    pub path: String,
    pub prizes: Vec<PrizeSpec>,
}

/// A prize.
pub(crate) struct PrizeSpec {
    pub mark: Mark,
    pub path: PrizePath,
    pub id: PrizeId,
    pub name: String,
    pub kind: PrizeKind,
    pub weight: u32,
    pub vendor: VendorId,
    pub delivery: Delivery,
    /// Where it can be won, and where that stands.
    pub regions: At<Regions>,
    pub curve: At<CurveSpec>,
    pub speed_max: Option<At<u64>>,
    pub catch_up_percent: u32,
    /// What one is worth, where it is not cash and the file says so.
    pub value: Option<At<Fen>>,
    pub tranches: Vec<Tranche>,
    /// Where the largest amount of each tranche stands.
    pub amounts: Vec<AmountAt>,
}

/// Where a prize stands in the document; text only when something is said of it, for there may be a great many.
#[derive(Clone)]
pub(crate) struct PrizePath {
    list: Rc<str>,
    index: usize,
}

impl fmt::Display for PrizePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]", self.list, self.index)
    }
}

/// Where the largest amount of a tranche stands.
#[derive(Clone, Copy)]
pub(crate) struct AmountAt {
    pub mark: Mark,
    /// Which of `tranches`; `None`: the one in the prize itself.
    tranche: Option<usize>,
    /// Its key; `None` where there is no amount.
    key: Option<&'static str>,
}

impl AmountAt {
    /// Its path in the document.
    pub fn path(&self, prize: &PrizeSpec) -> String {
        let tranche = self.tranche.map_or(String::new(), |i| format!(".tranches[{i}]"));
        let key = self.key.map_or(String::new(), |key| format!(".{key}"));
        format!("{}{tranche}{key}", prize.path)
    }
}

/// A release curve before the round's length is known.
pub(crate) enum CurveSpec {
    Even,
    FrontLoaded,
    Points(Vec<PointSpec>),
}

/// A point of a curve.
pub(crate) struct PointSpec {
    pub at: At<PointAt>,
    pub share: u64,
}

/// When a point is.
#[derive(Clone, Copy)]
pub(crate) enum PointAt {
    /// After the opening.
    Ms(u64),
    /// Share of the curve's whole time, parts per billion.
    Share(u64),
}

const MONEY: [&str; 4] = ["each", "sum", "min", "max"];
const KEYS: [&str; 18] = [
    "id",
    "name",
    "kind",
    "weight",
    "vendor",
    "regions",
    "units",
    "each",
    "sum",
    "min",
    "max",
    "value",
    "tranches",
    "curve",
    "speed_max",
    "catch_up",
    "deliver",
    "term",
];

/// Reads a list of prizes. Prizes with mistakes are left out; the mistakes are in the sink.
pub(crate) fn read_prizes(node: &Node<'_>, path: &Path<'_>, known: Known<'_>, sink: &mut Sink) -> PrizeList {
    let mut out = PrizeList { mark: node.mark, path: path.to_string(), prizes: Vec::new() };
    let text: Rc<str> = out.path.as_str().into();
    let Some(nodes) = list(node, path, sink) else { return out };
    if nodes.is_empty() {
        sink.error(node.mark, path, "no prizes", "list at least one");
    }
    if nodes.len() > PRIZES_MAX {
        let what = format!("{} prizes", nodes.len());
        sink.error(node.mark, path, what, format!("a round has at most {PRIZES_MAX}"));
        return out;
    }
    out.prizes.reserve_exact(nodes.len());
    for (i, node) in nodes.iter().enumerate() {
        let path = path.index(i);
        let at = PrizePath { list: Rc::clone(&text), index: i };
        let Some(prize) = read_prize(node, (&path, at), known, sink) else { continue };
        if let Some(first) = out.prizes.iter().find(|p| p.id == prize.id) {
            let what = format!("prize {} stands twice, first in line {}", prize.id, first.mark.line);
            sink.error(prize.mark, &path.key("id"), what, "each prize of a round has a number of its own");
        }
        out.prizes.push(prize);
    }
    out
}

fn read_prize(
    node: &Node<'_>,
    (path, at_path): (&Path<'_>, PrizePath),
    known: Known<'_>,
    sink: &mut Sink,
) -> Option<PrizeSpec> {
    let keys = Keys::open(node, path, &KEYS, sink)?;
    let id = keys.need("id", "give the prize a number that is never used again", sink, scalar(whole32(1)));
    let title = keys.need("name", "give the prize a name for people", sink, scalar(name));
    let kinds =
        [PrizeKind::Cash, PrizeKind::Voucher, PrizeKind::Goods, PrizeKind::Cover].map(|k| (k.name(), k));
    let kind = keys.need("kind", "write cash, voucher, goods or cover", sink, scalar(word(&kinds)));
    let weight = "give its weight against the other prizes; 0: only when they are out";
    let weight = keys.need("weight", weight, sink, scalar(whole32(0)));
    let vendor =
        keys.need("vendor", "give the number of the vendor that delivers it", sink, at(scalar(whole32(1))));
    if let Some(vendor) = vendor
        && !known.vendors.contains(&vendor.value)
    {
        let listed: Vec<String> = known.vendors.iter().take(10).map(u32::to_string).collect();
        let what = format!("vendor {} is not under `vendors`", vendor.value);
        sink.error(vendor.mark, &path.key("vendor"), what, format!("listed there: {}", listed.join(", ")));
    }
    let regions = keys.opt(
        "regions",
        sink,
        at(|node: &_, path: &_, sink: &mut _| read_limits(node, path, known.regions, sink)),
    );
    let regions = regions.unwrap_or(At { value: Regions::EVERYWHERE, mark: keys.mark });
    let delivery = read_delivery(&keys, sink);
    let curve = keys.opt("curve", sink, at(read_curve));
    let speed_max = keys.opt("speed_max", sink, at(scalar(whole(1, SPEED_MAX))));
    let percent = keys.opt("catch_up", sink, scalar(catch_up)).unwrap_or(CATCH_UP_PERCENT_DEFAULT);
    let value = keys.opt("value", sink, at(scalar(amount)));
    if kind == Some(PrizeKind::Cash) {
        keys.forbid(&["value"], "cash is worth its amount", "leave it out", sink);
    }
    let tranches = read_budget(&keys, kind, sink);
    Some(PrizeSpec {
        mark: keys.mark,
        path: at_path,
        id: PrizeId(id?),
        name: title?,
        kind: kind?,
        weight: weight?,
        vendor: VendorId(vendor?.value),
        delivery: delivery?,
        regions,
        curve: curve.unwrap_or(At { value: CurveSpec::Even, mark: keys.mark }),
        speed_max,
        catch_up_percent: percent,
        value,
        amounts: tranches.as_ref().map(|t| t.iter().map(|t| t.amount).collect()).unwrap_or_default(),
        tranches: tranches?.into_iter().map(|t| t.tranche).collect(),
    })
}

fn read_delivery(keys: &Keys<'_>, sink: &mut Sink) -> Option<Delivery> {
    let words = [("at_once", false), ("on_claim", true)];
    let on_claim = match keys.get("deliver") {
        None => false,
        Some(_) => keys.opt("deliver", sink, scalar(word(&words)))?,
    };
    if on_claim {
        let cure = "say how long the player may wait with the claim, as in `term: 24h`";
        let term_ms = keys.need("term", cure, sink, scalar(duration_within(1_000, DURATION_MS_MAX)))?;
        return Some(Delivery::OnClaim { term_ms });
    }
    keys.forbid(
        &["term"],
        "a term belongs to `deliver: on_claim`",
        "leave it out, or deliver on claim",
        sink,
    );
    Some(Delivery::AtOnce)
}

/// A tranche, where it stands, and where the largest amount of it does.
struct TrancheSpec {
    tranche: Tranche,
    mark: Mark,
    amount: AmountAt,
}

/// The tranches: the one that stands in the prize itself, then those of `tranches`.
fn read_budget(keys: &Keys<'_>, kind: Option<PrizeKind>, sink: &mut Sink) -> Option<Vec<TrancheSpec>> {
    let mut tranches = Vec::new();
    let mut good = true;
    match (keys.get("units"), keys.get("tranches")) {
        (None, Some(_)) => {
            keys.forbid(&MONEY, "an amount without units", "add `units`, or leave it out", sink)
        }
        _ => match read_tranche(keys, kind, None, sink) {
            Some(tranche) => tranches.push(tranche),
            None => good = false,
        },
    }
    if keys.get("tranches").is_some() {
        match keys.opt("tranches", sink, |node, path, sink| read_tranches(node, path, kind, sink)) {
            Some(more) => tranches.extend(more),
            None => good = false,
        }
    }
    let (mut first, mut total) = (0, Fen::ZERO);
    for tranche in &mut tranches {
        tranche.tranche.first = first;
        first += tranche.tranche.units;
        match total.checked_add(tranche.tranche.fen) {
            Some(sum) => total = sum,
            None => {
                sink.error(tranche.mark, keys.path, "more money than can be counted", "lower the sum");
                return None;
            }
        }
    }
    good.then_some(tranches)
}

fn read_tranches(
    node: &Node<'_>,
    path: &Path<'_>,
    kind: Option<PrizeKind>,
    sink: &mut Sink,
) -> Option<Vec<TrancheSpec>> {
    let nodes = list(node, path, sink)?;
    if nodes.is_empty() || nodes.len() >= TRANCHES_MAX {
        let what = format!("{} tranches", nodes.len());
        sink.error(node.mark, path, what, format!("list 1 to {}", TRANCHES_MAX - 1));
        return None;
    }
    let mut tranches = Vec::new();
    for (i, node) in nodes.iter().enumerate() {
        let path = path.index(i);
        if let Some(keys) = Keys::open(node, &path, &["units", "each", "sum", "min", "max"], sink)
            && let Some(tranche) = read_tranche(&keys, kind, Some(i), sink)
        {
            tranches.push(tranche);
        }
    }
    (tranches.len() == nodes.len()).then_some(tranches)
}

/// Units and money: `each`, or `sum` with `min` and `max`; neither where the prize is not cash.
fn read_tranche(
    keys: &Keys<'_>,
    kind: Option<PrizeKind>,
    index: Option<usize>,
    sink: &mut Sink,
) -> Option<TrancheSpec> {
    let mark = keys.mark;
    let count = keys.need("units", "say how many there are", sink, at(scalar(units)));
    if kind.is_some_and(|k| k != PrizeKind::Cash) {
        keys.forbid(&MONEY, "only cash has an amount", "leave it out, or write `kind: cash`", sink);
        let (units, none) = (count?.value, Fen::ZERO);
        let tranche = Tranche { first: 0, units, fen: none, min: none, max: none };
        return Some(TrancheSpec { tranche, mark, amount: AmountAt { mark, tranche: index, key: None } });
    }
    kind?;
    let money = if keys.get("each").is_some() {
        keys.forbid(
            &MONEY[1..],
            "a fixed amount has no range",
            "keep `each`, or `sum`, `min` and `max`",
            sink,
        );
        keys.opt("each", sink, scalar(amount)).map(|each| (None, each, each))
    } else if MONEY.iter().any(|key| keys.get(key).is_some()) {
        let sum = keys.need("sum", "give the sum of all amounts in yuan", sink, scalar(amount));
        let min = keys.need("min", "give the smallest amount in yuan", sink, scalar(amount));
        let max = keys.need("max", "give the largest amount in yuan", sink, scalar(amount));
        sum.zip(min).zip(max).map(|((sum, min), max)| (Some(sum), min, max))
    } else {
        let cure = "write `each: 8.88` for fixed amounts, or `sum`, `min` and `max` for random ones";
        sink.error(keys.mark, keys.path, "a cash prize without an amount", cure);
        None
    };
    let (count, (sum, min, max)) = (count?, money?);
    let units = count.value;
    let Some(fen) = sum.or_else(|| min.checked_mul(units)) else {
        sink.error(
            count.mark,
            &keys.path.key("units"),
            "more money than can be counted",
            "lower units or amount",
        );
        return None;
    };
    let tranche = Tranche { first: 0, units, fen, min, max };
    if let Err(e) = tranche.check() {
        let node = keys.get("sum").unwrap_or_else(|| unreachable!("a fixed amount always splits"));
        sink.error(
            node.mark,
            &keys.path.key("sum"),
            e.to_string(),
            "change sum, units or range so that they fit",
        );
        return None;
    }
    warn_of_range(keys, &tranche, sink);
    let key = if keys.get("each").is_some() { "each" } else { "max" };
    let place = keys.get(key).map_or(mark, |n| n.mark);
    let amount = AmountAt { mark: place, tranche: index, key: Some(key) };
    Some(TrancheSpec { tranche, mark, amount })
}

/// Ranges that are legal and hardly meant.
fn warn_of_range(keys: &Keys<'_>, tranche: &Tranche, sink: &mut Sink) {
    let mark = |key: &str| keys.get(key).map_or(keys.mark, |n| n.mark);
    if tranche.min == Fen(1) {
        let key = if keys.get("each").is_some() { "each" } else { "min" };
        let cure = "many wallets pay nothing so small, and players are not pleased: write 0.10 or more";
        sink.warning(mark(key), &keys.path.key(key), "a player may win 0.01 yuan", cure);
    }
    if keys.get("each").is_some() || tranche.units < 2 {
        return;
    }
    let cure = "write `each` for a fixed amount, or change the sum";
    let all = |amount: Fen| amount.checked_mul(tranche.units) == Some(tranche.fen);
    for (amount, word) in [(tranche.min, "smallest"), (tranche.max, "largest")] {
        if all(amount) {
            let what = format!("the sum makes every unit the {word} amount, {amount} yuan");
            sink.warning(mark("sum"), &keys.path.key("sum"), what, cure);
            return;
        }
    }
}

/// An amount of money that can be paid.
fn amount(text: &str) -> Result<Fen, Wrong> {
    match yuan(text)? {
        Fen::ZERO => Err(Wrong::new("an amount of 0", "write at least 0.01")),
        fen => Ok(fen),
    }
}

fn read_curve(node: &Node<'_>, path: &Path<'_>, sink: &mut Sink) -> Option<CurveSpec> {
    if let Data::List(nodes) = &node.data {
        if nodes.len() < 2 || nodes.len() > POINTS_MAX {
            let what = format!("{} points", nodes.len());
            sink.error(node.mark, path, what, format!("a curve has 2 to {POINTS_MAX}, from 0% to 100%"));
            return None;
        }
        let mut points = Vec::new();
        for (i, node) in nodes.iter().enumerate() {
            points.extend(read_point(node, &path.index(i), sink));
        }
        return (points.len() == nodes.len()).then_some(CurveSpec::Points(points));
    }
    scalar(|text| match word(&[("even", false), ("front-loaded", true)])(text) {
        Ok(false) => Ok(CurveSpec::Even),
        Ok(true) => Ok(CurveSpec::FrontLoaded),
        Err(wrong) => Err(Wrong::new(wrong.what, format!("{}, or a list of points", wrong.cure))),
    })(node, path, sink)
}

fn read_point(node: &Node<'_>, path: &Path<'_>, sink: &mut Sink) -> Option<PointSpec> {
    let keys = Keys::open(node, path, &["at", "share"], sink)?;
    let time = keys.need(
        "at",
        "say when: 5m after the opening, 50% of the time, or end",
        sink,
        at(scalar(point_at)),
    );
    let part = keys.need("share", "say how much is released by then, as in 60%", sink, scalar(share));
    Some(PointSpec { at: time?, share: part? })
}

fn point_at(text: &str) -> Result<PointAt, Wrong> {
    if text == "end" {
        return Ok(PointAt::Share(campaign::curve::WHOLE));
    }
    if text.ends_with('%') {
        return share(text).map(PointAt::Share);
    }
    duration_ms(text).map(PointAt::Ms).map_err(|wrong| {
        Wrong::new(
            wrong.what,
            "write a time after the opening (30s, 5m), a share of the time (50%), or `end`",
        )
    })
}
