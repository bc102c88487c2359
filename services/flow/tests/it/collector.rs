//! What the collector makes of a lane.

use crate::make::{bytes, keys, plan, plans, row, sign, won};
use campaign::{NodeEpoch, NodeId, SeqNo};
use flow::core::{AlarmKind, CollectError, Collector, LaneBatch, LaneGroup, LaneState, PlanSet};
use proptest::prelude::*;
use records::{Ended, EpochBegan, Won};

fn group(epoch: u32, position: u64, records: &[Vec<u8>]) -> LaneGroup<'_> {
    LaneGroup { epoch: NodeEpoch(epoch), position, records: records.iter().map(Vec::as_slice).collect() }
}

fn collect(lane: &LaneState, groups: &[LaneGroup<'_>]) -> Result<LaneBatch, CollectError> {
    Collector::new(keys()).collect(lane, groups, &plans())
}

fn lane() -> LaneState {
    LaneState::new(NodeId(1))
}

fn ended(epoch: u32) -> Vec<u8> {
    bytes(&Ended { node: NodeId(1), epoch: NodeEpoch(epoch) })
}

#[test]
fn awards_get_what_their_plan_says() {
    let (a, b) = (won(1, 1, 7, 1, 0), won(1, 2, 8, 2, 0));
    let began = bytes(&EpochBegan { node: NodeId(1), epoch: NodeEpoch(1), time_ms: 9 });
    let records = [began, bytes(&a), bytes(&b)];
    let batch = collect(&lane(), &[group(1, 0, &records)]).unwrap();
    assert_eq!(batch.awards, [row(a), row(b)]);
    assert_eq!((batch.from, batch.next, batch.alarms.len()), (0, 1, 0));
}

#[test]
fn what_is_wrong_becomes_an_alarm_and_no_award() {
    let mut forged = won(1, 1, 7, 1, 0);
    forged.fen.0 += 1;
    let mut other_key = won(1, 2, 7, 1, 1);
    other_key.mac_key = 99;
    let foreign = won(2, 3, 7, 1, 2);
    let mut no_prize = won(1, 4, 7, 9, 3);
    sign(&mut no_prize);
    let records = [forged, other_key, foreign, no_prize].map(|w| bytes(&w));
    let batch = collect(&lane(), &[group(1, 0, &records)]).unwrap();
    let kinds: Vec<_> = batch.alarms.iter().map(|a| (a.kind, a.award)).collect();
    assert_eq!(
        kinds,
        [
            (AlarmKind::BadMac, forged.award),
            (AlarmKind::BadMac, other_key.award),
            (AlarmKind::ForeignId, foreign.award),
            (AlarmKind::NoSuchPrize, no_prize.award)
        ]
    );
    assert_eq!(batch.awards.len(), 1, "the last one is kept, with a doubt");
}

#[test]
fn only_a_higher_epoch_may_leave_positions_out() {
    let began = |epoch| vec![bytes(&EpochBegan { node: NodeId(1), epoch: NodeEpoch(epoch), time_ms: 9 })];
    let (one, end, two) = (began(1), vec![ended(1)], began(2));
    let all = [group(1, 0, &one), group(1, 1, &end), group(2, 7, &two), group(2, 8, &two)];
    let mut state = lane();
    let batch = collect(&state, &all).unwrap();
    assert_eq!((batch.from, batch.next, batch.epoch), (0, 9, NodeEpoch(2)));
    let marks = batch.marks;
    assert!(matches!(
        collect(&state, &[group(1, 0, &one), group(1, 7, &one)]),
        Err(CollectError::Gap { expected: 1, found: 7, .. })
    ));
    // In the middle of a lane, and again from before the place.
    state.pass(2, NodeEpoch(1));
    assert!(collect(&state, &[group(2, 7, &two)]).is_err(), "nothing has ended");
    marks.iter().for_each(|mark| assert!(state.end(*mark)));
    let batch = collect(&state, &[group(2, 7, &two)]).unwrap();
    assert_eq!((batch.from, batch.next), (2, 8));
    assert!(collect(&state, &[group(1, 7, &one)]).is_err());
    state.pass(8, NodeEpoch(2));
    let again = collect(&state, &all).unwrap();
    assert_eq!((again.from, again.next), (0, 9));
    assert!(collect(&state, &[group(2, 9, &two)]).is_err());
}

#[test]
fn waits_for_a_plan_and_takes_a_later_one() {
    let records = [bytes(&won(1, 1, 7, 1, 0))];
    let groups = [group(1, 0, &records)];
    let empty = Collector::new(keys()).collect(&lane(), &groups, &PlanSet::new());
    assert!(matches!(empty, Err(CollectError::NoPlan { .. })));
    let mut early = plan();
    early.seq_no = SeqNo(0);
    let old = PlanSet::new();
    old.insert(&early);
    assert!(matches!(
        Collector::new(keys()).collect(&lane(), &groups, &old),
        Err(CollectError::NoPlan { .. })
    ));
    // `plans` has SeqNo 2, the award was decided under 1.
    assert_eq!(collect(&lane(), &groups).unwrap().awards.len(), 1);
}

#[test]
fn refuses_gaps_and_what_it_cannot_read() {
    let records = [bytes(&won(1, 1, 7, 1, 0))];
    let mut begun = lane();
    begun.pass(0, NodeEpoch(1));
    let gap = collect(&begun, &[group(1, 1, &records)]);
    assert_eq!(gap, Err(CollectError::Gap { node: NodeId(1), expected: 0, found: 1 }));
    let gap = collect(&lane(), &[group(1, 0, &records), group(1, 2, &records)]);
    assert_eq!(gap, Err(CollectError::Gap { node: NodeId(1), expected: 1, found: 2 }));
    let newer = [vec![0x02, 9, 0, 0]];
    assert!(matches!(collect(&lane(), &[group(1, 0, &newer)]), Err(CollectError::Record { index: 0, .. })));
    let other = [bytes(&Ended { node: NodeId(2), epoch: NodeEpoch(1) })];
    assert!(matches!(collect(&lane(), &[group(1, 0, &other)]), Err(CollectError::OtherNode { .. })));
}

/// A lane: groups of (epoch, what stands in them).
#[derive(Clone, Debug)]
enum Entry {
    Win,
    End(u32),
}

#[test]
fn positions_may_be_left_out_behind_the_end_of_an_epoch() {
    let mut sequence = 0;
    let mut one = |epoch| {
        sequence += 1;
        vec![bytes(&won(epoch, sequence, sequence, 1, sequence))]
    };
    let records = [one(1), vec![ended(1)], one(2), one(2), vec![ended(2)], one(3)];
    let places = [(1, 0), (1, 1), (2, 7), (2, 8), (2, 9), (3, 12)];
    let all: Vec<_> = places.iter().zip(&records).map(|((e, p), r)| group(*e, *p, r)).collect();
    let whole = collect(&lane(), &all).unwrap();
    assert_eq!((whole.from, whole.next, whole.awards.len()), (0, 13, 4));
    // In two batches, wherever it is cut; the second follows on. And all of it again.
    for cut in 1..all.len() {
        let mut state = lane();
        let first = collect(&state, &all[..cut]).unwrap();
        first.marks.iter().for_each(|mark| assert!(state.end(*mark)));
        state.next = first.next;
        let second = collect(&state, &all[cut..]).unwrap();
        assert_eq!((second.from, second.next), (first.next, 13));
        second.marks.iter().for_each(|mark| assert!(state.end(*mark)));
        state.next = second.next;
        assert_eq!(collect(&state, &all).unwrap().awards, whole.awards);
    }
    // In the middle of an epoch it is a gap, and so it is where nothing has ended.
    let gap = collect(&lane(), &[all[0].clone(), all[1].clone(), all[2].clone(), group(2, 9, &records[3])]);
    assert_eq!(gap, Err(CollectError::Gap { node: NodeId(1), expected: 8, found: 9 }));
    let gap = collect(&lane(), &[all[0].clone(), all[2].clone()]);
    assert_eq!(gap, Err(CollectError::Gap { node: NodeId(1), expected: 1, found: 7 }));
}

fn lanes() -> impl Strategy<Value = Vec<(u32, Vec<Entry>)>> {
    let entry = prop_oneof![4 => Just(Entry::Win), 1 => (1u32..5).prop_map(Entry::End)];
    proptest::collection::vec((1u32..5, proptest::collection::vec(entry, 1..4)), 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// However a lane is cut into batches and given again from any earlier place, the awards are the same: those that
    /// have no end mark of their epoch or a later one before them.
    #[test]
    fn the_same_awards_however_it_is_delivered(lane_groups in lanes(), cuts in proptest::collection::vec((0usize..12, 1usize..12), 1..12)) {
        let mut sequence = 0;
        let mut groups: Vec<(u32, Vec<Vec<u8>>)> = Vec::new();
        let (mut want, mut best) = (Vec::new(), 0);
        for (epoch, entries) in &lane_groups {
            let mut records = Vec::new();
            for entry in entries {
                match entry {
                    Entry::Win => {
                        sequence += 1;
                        let won: Won = won(*epoch, sequence, sequence, 1, sequence);
                        if *epoch > best {
                            want.push(won.award);
                        }
                        records.push(bytes(&won));
                    }
                    Entry::End(e) => {
                        best = best.max(*e);
                        records.push(ended(*e));
                    }
                }
            }
            groups.push((*epoch, records));
        }
        let all: Vec<LaneGroup<'_>> = (0u64..).zip(&groups).map(|(p, (e, r))| group(*e, p, r)).collect();
        let mut state = lane();
        let mut got = std::collections::BTreeSet::new();
        let mut twice = Vec::new();
        for (from, count) in cuts.into_iter().chain((0..all.len()).map(|i| (i, 1))) {
            let from = from.min(state.next as usize);
            let to = (from + count).min(all.len());
            let batch = collect(&state, &all[from..to]).unwrap();
            prop_assert_eq!(&batch, &collect(&state, &all[from..to]).unwrap());
            for mark in &batch.marks {
                state.end(*mark);
            }
            state.pass(batch.next, batch.epoch);
            twice.extend(batch.awards.iter().map(|a| a.won.award));
            got.extend(batch.awards.iter().map(|a| a.won.award));
        }
        prop_assert!(twice.iter().all(|id| want.contains(id)));
        want.sort_unstable();
        prop_assert_eq!(got.into_iter().collect::<Vec<_>>(), want);
    }
}
