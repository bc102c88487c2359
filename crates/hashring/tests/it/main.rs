//! The promises of the ring, over many member lists.

use std::collections::HashMap;

use hashring::{BUCKET_COUNT, Bucket, Member, Ring, RingError, TOTAL_WEIGHT_MAX, diff};
use proptest::prelude::*;

fn member(node: u16, weight: u32) -> Member {
    Member { node, weight }
}

fn counts(ring: &Ring) -> HashMap<u16, usize> {
    let mut counts = HashMap::new();
    for bucket in Bucket::all() {
        *counts.entry(ring.owner(bucket)).or_default() += 1;
    }
    counts
}

fn members(nodes_max: usize, weight_max: u32) -> impl Strategy<Value = Vec<Member>> {
    prop::collection::btree_map(any::<u16>(), 1..=weight_max, 1..=nodes_max)
        .prop_map(|nodes| nodes.into_iter().map(|(node, weight)| member(node, weight)).collect())
}

/// What may move when one of the nodes comes or goes: its fair share of the buckets, three standard deviations of
/// chance (of bucket placement and of point placement), and what the bound shifts, which is little.
fn movement_max(weight: u32, total: u32) -> usize {
    let share = f64::from(weight) / f64::from(total);
    let fair = BUCKET_COUNT as f64 * share;
    let of_buckets = (fair * (1.0 - share)).sqrt();
    let of_points = fair / (f64::from(weight) * 128.0).sqrt();
    (fair + 3.5 * of_buckets.hypot(of_points) + 0.03 * BUCKET_COUNT as f64) as usize
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_order_of_members_does_not_matter(
        (list, shuffled) in members(20, 4).prop_flat_map(|list| (Just(list.clone()), Just(list).prop_shuffle()))
    ) {
        prop_assert_eq!(Ring::new(&list, 3), Ring::new(&shuffled, 3));
    }

    #[test]
    fn no_node_is_above_its_bound_and_every_bucket_has_a_member(list in members(100, 8)) {
        let ring = Ring::new(&list, 1).unwrap();
        let total: u32 = list.iter().map(|member| member.weight).sum();
        let counts = counts(&ring);
        prop_assert_eq!(counts.values().sum::<usize>(), BUCKET_COUNT);
        prop_assert!(counts.keys().all(|node| list.iter().any(|member| member.node == *node)));
        for member in &list {
            let bound = (1.25 * BUCKET_COUNT as f64 * f64::from(member.weight) / f64::from(total)).ceil();
            let count = counts.get(&member.node).copied().unwrap_or(0);
            prop_assert!(count as f64 <= bound, "node {} has {count}, bound {bound}", member.node);
            prop_assert_eq!(ring.buckets_of(member.node).count(), count);
        }
    }

    #[test]
    fn little_more_than_its_share_moves_when_a_node_comes_or_goes(
        list in members(24, 3), which: prop::sample::Index
    ) {
        prop_assume!(list.len() >= 2);
        let with = Ring::new(&list, 1).unwrap();
        let mut fewer = list.clone();
        let gone = fewer.remove(which.index(list.len()));
        let without = Ring::new(&fewer, 2).unwrap();
        let total = list.iter().map(|member| member.weight).sum();
        let moved = diff(&with, &without);
        let most = movement_max(gone.weight, total);
        prop_assert!(moved.len() <= most, "{} moved, at most {most}: {list:?} without {gone:?}", moved.len());
        // The other way round it is the same moves backwards.
        let back = diff(&without, &with);
        prop_assert!(moved.iter().zip(&back).all(|(a, b)| (a.bucket, a.from, a.to) == (b.bucket, b.to, b.from)));
        // All of the node's buckets are among them.
        prop_assert_eq!(moved.iter().filter(|moved| moved.from == gone.node).count(), with.buckets_of(gone.node).count());
        prop_assert_eq!(without.buckets_of(gone.node).count(), 0);
    }

    #[test]
    fn a_drained_node_is_as_good_as_gone(list in members(12, 3), node: u16) {
        prop_assume!(list.iter().all(|member| member.node != node));
        let mut drained = list.clone();
        drained.push(member(node, 0));
        prop_assert_eq!(Ring::new(&list, 9), Ring::new(&drained, 9));
    }

    #[test]
    fn the_epoch_moves_nothing(list in members(12, 3), one: u64, two: u64) {
        let (old, new) = (Ring::new(&list, one).unwrap(), Ring::new(&list, two).unwrap());
        prop_assert_eq!(diff(&old, &new), vec![]);
        prop_assert_eq!((old.epoch(), new.epoch()), (one, two));
    }
}

/// The bound may cost movement in single cases; over many rings it must not: on average a node that goes moves 1/n
/// of the buckets and hardly more.
#[test]
fn on_average_one_nth_moves() {
    for nodes in [2u16, 3, 5, 10, 30] {
        let mut moved = 0;
        let rings = 40u16;
        for salt in 0..rings {
            let list: Vec<Member> = (0..nodes).map(|index| member(salt * 100 + index, 1)).collect();
            let with = Ring::new(&list, 1).unwrap();
            let without = Ring::new(&list[1..], 2).unwrap();
            moved += diff(&with, &without).len();
        }
        let mean = moved as f64 / f64::from(rings);
        let fair = BUCKET_COUNT as f64 / f64::from(nodes);
        assert!(mean < fair * 1.10, "{nodes} nodes: {mean} of a fair {fair}");
    }
}

#[test]
fn weights_are_shares() {
    let ring = Ring::new(&[member(1, 1), member(2, 2), member(3, 5)], 1).unwrap();
    let counts = counts(&ring);
    for (node, share) in [(1, 1.0 / 8.0), (2, 2.0 / 8.0), (3, 5.0 / 8.0)] {
        let fair = share * BUCKET_COUNT as f64;
        assert!((counts[&node] as f64 - fair).abs() < 0.26 * fair, "node {node}: {counts:?}");
    }
}

/// Frozen: nodes of different versions of the program must route alike during an upgrade.
#[test]
fn a_known_ring_stays_as_it_is() {
    let ring = Ring::new(&[member(1, 1), member(2, 1), member(3, 2)], 1).unwrap();
    let mut digest = 0xcbf2_9ce4_8422_2325u64; // FNV-1a over the owners
    for bucket in Bucket::all() {
        digest = (digest ^ u64::from(ring.owner(bucket))).wrapping_mul(0x0100_0000_01b3);
    }
    assert_eq!(digest, KNOWN_DIGEST, "{digest:#x}");
}

const KNOWN_DIGEST: u64 = 0xc95c_6c44_83c7_02ba;

#[test]
fn lists_that_make_no_ring_are_refused() {
    assert_eq!(Ring::new(&[], 1), Err(RingError::NoMembers));
    assert_eq!(Ring::new(&[member(1, 0)], 1), Err(RingError::NoMembers));
    assert_eq!(Ring::new(&[member(7, 1), member(8, 1), member(7, 2)], 1), Err(RingError::Twice(7)));
    assert_eq!(Ring::new(&[member(7, 0), member(7, 2)], 1), Err(RingError::Twice(7)));
    let heavy = TOTAL_WEIGHT_MAX as u32 + 1;
    assert_eq!(Ring::new(&[member(1, heavy)], 1), Err(RingError::TooHeavy(u64::from(heavy))));
    assert_eq!(
        Ring::new(&[member(1, u32::MAX), member(2, u32::MAX)], 1),
        Err(RingError::TooHeavy(2 * u64::from(u32::MAX)))
    );
    assert!(Ring::new(&[member(1, 1)], 1).unwrap().buckets_of(1).count() == BUCKET_COUNT);
}
