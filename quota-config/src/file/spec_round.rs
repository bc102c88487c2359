//! Rounds of a campaign file: single ones, and those that repeat within dates.

use super::reader::{At, Keys, Wrong, at, list, name, scalar};
use super::spec::Known;
use super::spec_prize::{PrizeList, read_prizes};
use super::value::{duration_within, whole32};
use super::yaml::{Data, Node};
use crate::bounds::{DURATION_MS_MAX, ROUND_MS_MIN, ROUNDS_MAX};
use crate::calendar::{Moment, Repeat, Zone, clock_time, date, moment};
use crate::problem::{Mark, Path, Sink, nearest};
use campaign::RoundId;
use std::collections::BTreeMap;

/// A round, or the first of those that repeat.
pub(crate) struct RoundSpec {
    pub mark: Mark,
    pub path: String,
    pub id: RoundId,
    pub name: String,
    /// When it opens, each time that it does, with a suffix for the name; at least one.
    pub opens: Vec<(Moment, String)>,
    pub opens_mark: Mark,
    pub duration: At<u64>,
    /// Which prize list; `None` after a mistake.
    pub prizes: Option<usize>,
}

const KEYS: [&str; 6] = ["id", "name", "open", "repeat", "duration", "prizes"];

/// Reads the rounds. Rounds with mistakes are left out.
pub(crate) fn read_rounds(
    node: &Node<'_>,
    path: &Path<'_>,
    zone: &Zone,
    known: Known<'_>,
    (lists, sets): (&mut Vec<PrizeList>, &BTreeMap<String, usize>),
    sink: &mut Sink,
) -> Option<Vec<RoundSpec>> {
    let nodes = list(node, path, sink)?;
    if nodes.is_empty() || nodes.len() > ROUNDS_MAX {
        let what = format!("{} rounds", nodes.len());
        sink.error(node.mark, path, what, format!("list 1 to {ROUNDS_MAX}"));
        return None;
    }
    let mut rounds = Vec::new();
    for (i, node) in nodes.iter().enumerate() {
        let path = path.index(i);
        let Some(keys) = Keys::open(node, &path, &KEYS, sink) else { continue };
        let id =
            keys.need("id", "give the round a number that is never used again", sink, scalar(whole32(1)));
        let title = keys.need("name", "give the round a name for people", sink, scalar(name));
        let opens = read_opens(&keys, zone, sink);
        let opens_mark = keys.get("open").or_else(|| keys.get("repeat")).map_or(keys.mark, |n| n.mark);
        let duration = duration_within(ROUND_MS_MIN, DURATION_MS_MAX);
        let duration = keys.need("duration", "say how long it lasts, as in 10m", sink, at(scalar(duration)));
        let cure = "list prizes, or name a set of prize_sets";
        let prizes = keys.need("prizes", cure, sink, |node, path, sink| match &node.data {
            Data::Scalar { text, .. } if node.kind() != "nothing" => {
                set_named(text, node.mark, path, sets, sink)
            }
            _ => {
                lists.push(read_prizes(node, path, known, sink));
                Some(lists.len() - 1)
            }
        });
        if let (Some(id), Some(name), Some(opens), Some(duration)) = (id, title, opens, duration) {
            let (mark, path, id) = (keys.mark, path.to_string(), RoundId(id));
            rounds.push(RoundSpec { mark, path, id, name, opens, opens_mark, duration, prizes });
        }
    }
    (rounds.len() == nodes.len()).then_some(rounds)
}

fn set_named(
    text: &str,
    mark: Mark,
    path: &Path<'_>,
    sets: &BTreeMap<String, usize>,
    sink: &mut Sink,
) -> Option<usize> {
    if let Some(index) = sets.get(text) {
        return Some(*index);
    }
    let names = || sets.keys().map(String::as_str);
    let cure = match nearest(text, names()) {
        Some(near) => format!("did you mean `{near}`?"),
        None if sets.is_empty() => "list the prizes here, or add the set under prize_sets".to_string(),
        None => format!("known are {}", names().take(10).collect::<Vec<_>>().join(", ")),
    };
    sink.error(mark, path, format!("there is no prize set `{text}`"), cure);
    None
}

fn read_opens(keys: &Keys<'_>, zone: &Zone, sink: &mut Sink) -> Option<Vec<(Moment, String)>> {
    if keys.get("repeat").is_some() {
        let cure = "keep `open` for a single round, `repeat` for many";
        keys.forbid(&["open"], "both `open` and `repeat`", cure, sink);
        return keys.opt("repeat", sink, |node, path, sink| read_repeat(node, path, zone, sink));
    }
    let cure = "say when: `open: 2026-02-16 20:00`, or `open: +20s` after the start, or `repeat`";
    let open = keys.need("open", cure, sink, scalar(|text| moment(text, zone)))?;
    Some(vec![(open, String::new())])
}

fn read_repeat(
    node: &Node<'_>,
    path: &Path<'_>,
    zone: &Zone,
    sink: &mut Sink,
) -> Option<Vec<(Moment, String)>> {
    let keys = Keys::open(node, path, &["from", "to", "first", "last", "every"], sink)?;
    let from = keys.need("from", "give the first date, as in 2026-02-10", sink, scalar(date));
    let to = keys.need("to", "give the last date, as in 2026-02-12", sink, at(scalar(date)));
    let first = keys.need("first", "give the first time of each day, as in 10:00", sink, scalar(clock_time));
    let last = keys.need("last", "give the last time of each day, as in 22:00", sink, at(scalar(clock_time)));
    let every = duration_within(ROUND_MS_MIN, 86_400_000);
    let every = keys.opt("every", sink, scalar(every));
    if keys.get("every").is_some() && every.is_none() {
        return None;
    }
    let (from, to, first, last) = (from?, to?, first?, last?);
    for (late, key, mark) in [(from > to.value, "to", to.mark), (first > last.value, "last", last.mark)] {
        if late {
            sink.error(mark, &path.key(key), "ends before it begins", "swap the two, or write the same");
            return None;
        }
    }
    let repeat = Repeat { from, to: to.value, first, last: last.value, every_ms: every.unwrap_or(3_600_000) };
    match repeat.openings(zone, ROUNDS_MAX) {
        Ok(openings) => Some(openings),
        Err(Wrong { what, cure }) => {
            sink.error(keys.mark, path, what, cure);
            None
        }
    }
}
