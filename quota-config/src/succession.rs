//! What a plan may not change of the one before: everything that money or a published commitment rests on.
//!
//! Tranches number units, and the numbers of won units stand in the log for ever: tranches are only added to.
//! A round that has begun keeps its opening and its prizes; one that is over does not change at all.

use crate::compile::After;
use crate::problem::{Mark, Path, Sink};
use campaign::{Plan, Prize, PrizeId, Round, RoundId};
use std::collections::BTreeMap;

/// Where rounds and prizes stand in the new file.
#[derive(Default)]
pub(crate) struct Places {
    pub rounds_mark: Mark,
    pub zone_mark: Mark,
    pub rounds: BTreeMap<RoundId, (Mark, String)>,
    pub prizes: BTreeMap<(RoundId, PrizeId), (Mark, String)>,
}

/// Notes what the new plan changes and may not.
pub(crate) fn check(after: &After<'_>, next: &Plan, places: &Places, sink: &mut Sink) {
    let (old, now_ms) = (after.plan, after.now_ms);
    let begun = old.rounds.iter().any(|r| r.open_ms <= now_ms);
    if begun && old.time_zone != next.time_zone {
        let what = format!("the time zone was {} when the first round began", old.time_zone);
        let cure = "days and their limits count in it: keep it";
        sink.error(places.zone_mark, &Path::ROOT.key("time_zone"), what, cure);
    }
    let kept: BTreeMap<RoundId, &Round> = next.rounds.iter().map(|r| (r.id, r)).collect();
    for round in &old.rounds {
        match kept.get(&round.id) {
            Some(new) => check_round(round, new, now_ms, places, sink),
            None if round.open_ms <= now_ms => {
                let what = format!("round {} has begun and is missing", round.id);
                let cure = format!("put it back as it is in SeqNo {}", old.seq_no);
                sink.error(places.rounds_mark, &Path::ROOT.key("rounds"), what, cure);
            }
            None => {}
        }
    }
    for (id, prize) in after.gone {
        let back = kept.get(id).and_then(|r| Some((r, r.prizes.iter().find(|p| p.id == prize.id)?)));
        if let Some((round, new)) = back {
            check_prize((round, false), prize, new, places, sink);
        }
    }
    for round in &next.rounds {
        if round.open_ms < now_ms && old.round(round.id).is_none() {
            let (mark, path) = place(places.rounds.get(&round.id), places);
            let what = format!("round {} is new and would have opened already", round.id);
            sink.error(mark, &path, what, "open it later than now");
        }
    }
}

fn check_round(old: &Round, new: &Round, now_ms: u64, places: &Places, sink: &mut Sink) {
    let (mark, path) = place(places.rounds.get(&old.id), places);
    let begun = old.open_ms <= now_ms;
    let over = old.close_ms <= now_ms;
    if begun && old.open_ms != new.open_ms {
        let what = format!("round {} has begun: its opening can't move", old.id);
        sink.error(mark, &path, what, "keep the time");
    } else if !begun && new.open_ms < now_ms {
        let what = format!("round {} would have opened already", old.id);
        sink.error(mark, &path, what, "open it later than now");
    }
    if old.close_ms != new.close_ms && (over || (begun && new.close_ms <= now_ms)) {
        let what = format!("round {} {}", old.id, if over { "is over" } else { "would be over already" });
        sink.error(mark, &path, what, "keep its duration; to end a running round, stop it");
    }
    for prize in &old.prizes {
        match new.prizes.iter().find(|p| p.id == prize.id) {
            Some(next) => check_prize((old, over), prize, next, places, sink),
            None if begun => {
                let what =
                    format!("prize {} of round {} is missing, and the round has begun", prize.id, old.id);
                sink.error(mark, &path, what, "put it back; to end it, stop it");
            }
            None => {}
        }
    }
    if over && new.prizes.len() > old.prizes.len() {
        let what = format!("round {} is over and would get a new prize", old.id);
        sink.error(mark, &path, what, "add it to a round that is still to come");
    }
}

fn check_prize((round, over): (&Round, bool), old: &Prize, new: &Prize, places: &Places, sink: &mut Sink) {
    let (mark, path) = place(places.prizes.get(&(round.id, old.id)), places);
    let which = format!("prize {} of round {}", old.id, round.id);
    if old.kind != new.kind {
        let what = format!("{which} was {} and becomes {}", old.kind.name(), new.kind.name());
        sink.error(mark, &path, what, "a different thing is a new prize with a new number");
    }
    if !new.tranches.starts_with(&old.tranches) {
        let what = format!("{which}: units or amounts that were planned before are changed");
        let cure =
            "keep them and raise with a further entry under `tranches`; lowering is a command, not an edit";
        sink.error(mark, &path, what, cure);
    } else if over && new.tranches.len() > old.tranches.len() {
        let what = format!("{which}: the round is over, its budget can't be raised");
        sink.error(mark, &path, what, "add the units to a round that is still to come");
    }
}

fn place(place: Option<&(Mark, String)>, places: &Places) -> (Mark, String) {
    place.cloned().unwrap_or_else(|| (places.rounds_mark, "rounds".to_string()))
}
