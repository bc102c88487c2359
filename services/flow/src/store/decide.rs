//! What applying a batch changes, given what is there. Pure.

use std::collections::{BTreeSet, HashMap};

use campaign::AwardId;

use crate::core::{Alarm, AlarmKind, AwardRow, Doubt, LaneBatch, Progress, StatBook, StatDelta};

/// Campaign, round, prize, number.
pub(in crate::store) type UnitKey = (u32, u32, u32, u64);

/// The unit of an award.
pub(in crate::store) fn unit_of(row: &AwardRow) -> UnitKey {
    (row.won.campaign.0, row.won.round.0, row.won.prize.0, row.won.unit)
}

/// What the tables hold of a batch's awards.
#[derive(Default)]
pub(in crate::store) struct Known {
    pub awards: HashMap<AwardId, AwardRow>,
    pub units: HashMap<UnitKey, AwardId>,
    /// Steps that came before their award.
    pub early: HashMap<AwardId, Progress>,
}

/// What to write.
#[derive(Default)]
pub(in crate::store) struct Decision {
    pub units: Vec<(UnitKey, AwardId)>,
    pub rows: Vec<AwardRow>,
    pub alarms: Vec<Alarm>,
    pub refused: BTreeSet<AwardId>,
    pub delta: StatDelta,
}

/// Goes through the batch in order. `known` takes in the units that the batch adds.
pub(in crate::store) fn decide(batch: &LaneBatch, known: &mut Known, book: &StatBook) -> Decision {
    let mut d = Decision { alarms: batch.alarms.clone(), ..Decision::default() };
    let count = batch.awards.len();
    d.rows.reserve(count);
    d.units.reserve(count);
    known.units.reserve(count);
    // Where the batch's own awards stand among the rows.
    let mut own: HashMap<AwardId, usize> = HashMap::with_capacity(count);
    for row in &batch.awards {
        let (mut row, id) = (*row, row.won.award);
        let alarm = |kind, other| Alarm { kind, award: id, node: batch.node, position: batch.from, other };
        let stored = own.get(&id).and_then(|at| d.rows.get(*at)).or_else(|| known.awards.get(&id));
        if let Some(stored) = stored {
            let doubted = stored.doubt != Doubt::None;
            let same = stored.won == row.won;
            if !same {
                d.alarms.push(alarm(AlarmKind::IdTwice, id));
            }
            if !same || doubted {
                d.refused.insert(id);
            }
            continue;
        }
        if row.doubt == Doubt::None {
            match *known.units.entry(unit_of(&row)).or_insert(id) {
                owner if owner != id => {
                    row.doubt = Doubt::UnitTwice;
                    d.alarms.push(alarm(AlarmKind::UnitTwice, owner));
                }
                _ => d.units.push((unit_of(&row), id)),
            }
        }
        if row.doubt != Doubt::None {
            d.refused.insert(id);
        }
        book.count_award(&row, &mut d.delta);
        if !known.early.is_empty()
            && let Some(progress) = known.early.get(&id)
        {
            book.count_step(&row, None, progress.state, &mut d.delta);
        }
        own.insert(id, d.rows.len());
        d.rows.push(row);
    }
    d
}
