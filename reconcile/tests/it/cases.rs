//! Faults to plant in the perfect world, each with the kinds of breaks and the laws that it must show up as.

use crate::world::{Award, CASH, Group, NOW, OPEN, VOUCHER, World, set, won, won_from};
use campaign::{AwardId, LeaseId, NodeEpoch, NodeId, UnitRange};
use reconcile::readers::tables::LedgerLease;

/// A name, the fault, kinds, laws.
pub type Case = (&'static str, fn(&mut World), &'static [&'static str], &'static [u8]);

fn first(world: &World, prize: u32) -> Award {
    world.awards.iter().find(|a| a.prize == prize).unwrap().clone()
}

/// The lane with `extra` before the group that closes the leases.
fn lane_with(world: &World, extra: Vec<Vec<u8>>) -> Vec<Group> {
    let mut lane = world.default_lane();
    let closes = lane.pop().unwrap();
    lane.push(Group { epoch: 2, records: extra });
    lane.push(closes);
    lane
}

fn everywhere(world: &mut World, id: AwardId, change: impl Fn(&mut i64)) {
    world.awards.iter_mut().chain(&mut world.told).filter(|a| a.id == id).for_each(|a| change(&mut a.fen));
    world.steps.iter_mut().filter(|s| s.award == id).for_each(|s| change(&mut s.fen));
    world.payments.iter_mut().filter(|p| p.award == id.to_string()).for_each(|p| change(&mut p.fen));
}

/// Another award with everything that belongs to it.
fn another(world: &mut World, prize: u32, unit: u64, user: u64, counter: u32) -> Award {
    world.win(prize, unit, user);
    let award = world.awards.last_mut().unwrap();
    award.counter = counter;
    let award = award.clone();
    world.deliver(&award);
    world.pay(&award, 0, "success", award.time_ms + 20);
    award
}

pub const FLOW: &[Case] = &[
    (
        "a unit given twice",
        |w| {
            another(w, CASH, 0, 5_000, 1);
        },
        &["unit_twice", "lease_sums"],
        &[1, 7],
    ),
    (
        "a unit that no plan has",
        |w| {
            let mut a = another(w, CASH, 3, 5_000, 1);
            a.unit = 9_999;
            *w.awards.last_mut().unwrap() = a;
        },
        &["unit_not_planned", "lease_unknown", "lease_sums"],
        &[1, 7],
    ),
    ("a free unit awarded", |w| w.ledger.prizes[0].fresh = set("3,11"), &["unit_still_free"], &[1, 7]),
    ("a unit that stands nowhere", |w| w.ledger.prizes[0].fresh = set(""), &["unit_lost"], &[6, 7]),
    (
        "an amount that the seed does not give",
        |w| {
            let id = first(w, CASH).id;
            everywhere(w, id, |fen| *fen += 1);
        },
        &["award_amount"],
        &[1, 7],
    ),
    ("a forged award", |w| w.awards[4].mac_broken = true, &["mac_wrong"], &[1]),
    (
        "an award twice in the log",
        |w| w.lane = lane_with(w, vec![won(&first(w, CASH))]),
        &["award_twice", "lease_sums"],
        &[7],
    ),
    (
        "a draw that won twice",
        |w| {
            another(w, CASH, 11, 100, 1);
            w.ledger.prizes[0].fresh = set("");
        },
        &["draw_twice", "limit_round"],
        &[5],
    ),
    (
        "a user above the limit of a round",
        |w| {
            another(w, CASH, 11, 100, 2);
            w.ledger.prizes[0].fresh = set("");
        },
        &["limit_round"],
        &[5],
    ),
    (
        "a user above every limit",
        |w| {
            another(w, CASH, 11, 100, 2);
            another(w, VOUCHER, 5, 100, 3);
            w.ledger.prizes[0].fresh = set("");
            w.ledger.prizes[1].cancelled = set("");
        },
        &["limit_round", "limit_day", "limit_campaign"],
        &[5],
    ),
    (
        "a win behind the end of its lease",
        |w| {
            let mut lane = w.default_lane();
            let closes = lane.pop().unwrap();
            lane.insert(lane.len() - 1, closes);
            w.lane = lane;
        },
        &["won_after_close", "lease_sums"],
        &[7],
    ),
    (
        "a win from a lease that never came",
        |w| {
            let last = w.awards.pop().unwrap();
            w.lane = lane_with(w, vec![won_from(&last, 99)]);
            w.awards.push(last);
        },
        &["lease_unknown"],
        &[7],
    ),
    ("the ledger behind the plan", |w| w.ledger.prizes[0].made += 1, &["unit_lost", "ledger_plan"], &[6, 7]),
    ("a ledger that counts one more as used", |w| w.ledger.prizes[0].used = 1, &["ledger_sums"], &[7]),
    ("a ledger that does not add up", |w| w.ledger.prizes[0].leased = 3, &["ledger_sums"], &[7]),
    (
        "a unit locked behind a closed round",
        |w| {
            w.ledger.prizes[0].fresh = set("");
            w.ledger.prizes[0].leased = 1;
            let lease = LedgerLease {
                id: (NodeId(7), NodeEpoch(2), LeaseId(8)),
                key: w.ledger.prizes[0].key,
                units: vec![UnitRange { first: 11, count: 1 }],
            };
            w.ledger.open.push(lease);
        },
        &[],
        &[6],
    ),
    (
        "a player told of nothing",
        |w| {
            let mut ghost = first(w, CASH);
            ghost.id = AwardId::new(OPEN + 1, NodeId(9), NodeEpoch(1), 1);
            w.told.push(ghost);
        },
        &["told_not_in_flow"],
        &[2],
    ),
    ("a player told another amount", |w| w.told[2].fen += 1, &["told_differs"], &[2]),
];

pub const DELIVERY: &[Case] = &[
    (
        "an award without an order",
        |w| {
            let a = first(w, CASH);
            w.steps.retain(|s| s.award != a.id);
            w.unpay(&a);
        },
        &["order_missing"],
        &[4, 7],
    ),
    (
        "an order without an award",
        |w| {
            let a = w.awards.remove(0);
            w.told.remove(0);
            assert_eq!(a.unit, 0);
        },
        &["unit_lost", "order_without_award"],
        &[6, 7],
    ),
    (
        "an order of another amount",
        |w| {
            let id = first(w, CASH).id;
            w.steps.iter_mut().filter(|s| s.award == id).for_each(|s| s.fen += 1);
        },
        &["order_amount", "paid_amount"],
        &[7],
    ),
    (
        "an order of another user",
        |w| w.steps.iter_mut().take(3).for_each(|s| s.user += 1),
        &["order_differs"],
        &[7],
    ),
    (
        "a hole in the journal",
        |w| {
            w.steps.remove(1);
        },
        &["journal_hole"],
        &[4],
    ),
    (
        "an order refused for good",
        |w| {
            let a = first(w, CASH);
            w.set_state(&a, 11);
            w.unpay(&a);
        },
        &["open_person"],
        &[],
    ),
    (
        "money taken back, as the journal knows",
        |w| {
            let a = first(w, CASH);
            w.set_state(&a, 6);
            w.pay(&a, 0, "reversed", a.time_ms + 25);
        },
        &["open_person"],
        &[],
    ),
    (
        "an order still at work",
        |w| {
            let a = first(w, CASH);
            w.set_state(&a, 7);
            w.unpay(&a);
        },
        &["open_working"],
        &[],
    ),
    (
        "lapsed before its term",
        |w| {
            let a = first(w, VOUCHER);
            w.set_state(&a, 10);
            w.unpay(&a);
        },
        &["lapsed_early"],
        &[4],
    ),
    (
        "lapsed in its time",
        |w| {
            let a = first(w, VOUCHER);
            w.set_state(&a, 10);
            w.steps.iter_mut().rfind(|s| s.award == a.id).unwrap().at_ms = a.time_ms + 600_000;
            w.unpay(&a);
        },
        &[],
        &[],
    ),
];

pub const STATEMENTS: &[Case] = &[
    (
        "delivered and not on the final statement",
        |w| {
            let a = first(w, CASH);
            w.unpay(&a);
        },
        &["missing_at_vendor"],
        &[4, 7],
    ),
    (
        "delivered and not on the statement yet",
        |w| {
            let a = first(w, CASH);
            w.unpay(&a);
            w.complete = false;
        },
        &["not_yet_on_statement"],
        &[],
    ),
    (
        "delivered behind the statement's end",
        |w| {
            let a = first(w, CASH);
            w.steps.iter_mut().rfind(|s| s.award == a.id).unwrap().at_ms = NOW - 1_000_000;
            w.unpay(&a);
        },
        &["not_yet_on_statement"],
        &[],
    ),
    (
        "paid for an award that nobody knows",
        |w| {
            let mut ghost = first(w, CASH);
            ghost.id = AwardId::new(OPEN + 1, NodeId(9), NodeEpoch(1), 1);
            w.pay(&ghost, 0, "success", OPEN + 50);
        },
        &["paid_not_in_flow"],
        &[7],
    ),
    (
        "paid under a number that is not ours",
        |w| {
            let a = first(w, CASH);
            w.pay(&a, 0, "success", OPEN + 50);
            w.payments.last_mut().unwrap().number = "X17".into();
        },
        &["paid_not_in_flow"],
        &[7],
    ),
    ("paid another amount", |w| w.payments[0].fen += 1, &["paid_amount"], &[7]),
    (
        "paid under two numbers",
        |w| {
            let a = first(w, CASH);
            w.pay(&a, 1, "success", a.time_ms + 25);
        },
        &["paid_twice"],
        &[3, 7],
    ),
    (
        "paid twice under one number",
        |w| {
            let a = first(w, CASH);
            w.pay(&a, 0, "success", a.time_ms + 25);
            w.payments.last_mut().unwrap().reference = "R-other".into();
        },
        &["paid_twice"],
        &[3, 7],
    ),
    (
        "a row that is in the statement twice",
        |w| {
            let again = w.payments[0].clone();
            w.payments.push(again);
        },
        &[],
        &[],
    ),
    (
        "paid again after the first number was taken back",
        |w| {
            let a = first(w, CASH);
            w.pay(&a, 0, "reversed", a.time_ms + 22);
            w.pay(&a, 1, "success", a.time_ms + 25);
        },
        &[],
        &[],
    ),
    (
        "paid after a dead number",
        |w| {
            let a = first(w, CASH);
            w.unpay(&a);
            w.pay(&a, 0, "failed", a.time_ms + 15);
            w.pay(&a, 1, "success", a.time_ms + 25);
        },
        &[],
        &[],
    ),
    (
        "paid though refused",
        |w| {
            let a = first(w, CASH);
            w.set_state(&a, 11);
        },
        &["paid_against_journal"],
        &[7],
    ),
    (
        "unknown, and the statement says paid",
        |w| {
            let a = first(w, CASH);
            w.set_state(&a, 8);
        },
        &["resolved_paid"],
        &[],
    ),
    (
        "unknown, and the statement says dead",
        |w| {
            let a = first(w, CASH);
            w.set_state(&a, 8);
            w.unpay(&a);
            w.pay(&a, 0, "failed", a.time_ms + 25);
        },
        &["resolved_failed"],
        &[],
    ),
    (
        "taken back unnoticed",
        |w| {
            let a = first(w, CASH);
            w.pay(&a, 0, "reversed", a.time_ms + 25);
        },
        &["reversed_unnoticed"],
        &[],
    ),
    (
        "taken back by the journal alone",
        |w| {
            let a = first(w, CASH);
            w.set_state(&a, 6);
        },
        &["open_person", "reversal_missing"],
        &[],
    ),
];
