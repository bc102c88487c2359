//! Random worlds with random faults: the verdicts are those of an oracle that keeps everything in memory and asks each
//! question of each award by itself.

use crate::world::{Award, CASH, NOW, VOUCHER, World};
use proptest::prelude::*;
use reconcile::run;
use std::collections::BTreeMap;

/// What happens to an award on its way.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Fine,
    NoOrder,
    State(u8),
    Unpaid,
    PaidTwice,
    Reversed,
    Failed(u8),
    WrongAmount,
    Hole,
    Untold,
    ForgedMac,
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        8 => Just(Fate::Fine),
        1 => Just(Fate::NoOrder),
        3 => (1u8..=11).prop_map(Fate::State),
        1 => Just(Fate::Unpaid),
        1 => Just(Fate::PaidTwice),
        1 => Just(Fate::Reversed),
        1 => (1u8..=11).prop_map(Fate::Failed),
        1 => Just(Fate::WrongAmount),
        1 => Just(Fate::Hole),
        1 => Just(Fate::Untold),
        1 => Just(Fate::ForgedMac),
    ]
}

fn apply(world: &mut World, award: &Award, fate: Fate) {
    match fate {
        Fate::Fine => {}
        Fate::NoOrder => {
            world.steps.retain(|s| s.award != award.id);
            world.unpay(award);
        }
        Fate::State(state) => world.set_state(award, state),
        Fate::Unpaid => world.unpay(award),
        Fate::PaidTwice => world.pay(award, 1, "success", award.time_ms + 40),
        Fate::Reversed => world.pay(award, 0, "reversed", award.time_ms + 40),
        Fate::Failed(state) => {
            world.unpay(award);
            world.pay(award, 0, "failed", award.time_ms + 20);
            world.set_state(award, state);
        }
        Fate::WrongAmount => {
            let id = award.id.to_string();
            world.payments.iter_mut().filter(|p| p.award == id).for_each(|p| p.fen += 1);
        }
        Fate::Hole => world.steps.retain(|s| s.award != award.id || s.step != 2),
        Fate::Untold => world.told.retain(|t| t.id != award.id),
        Fate::ForgedMac => {
            world.awards.iter_mut().filter(|a| a.id == award.id).for_each(|a| a.mac_broken = true)
        }
    }
}

#[derive(Default, PartialEq, Debug)]
struct Sums {
    delivered: (i64, i64),
    open: (i64, i64),
    lapsed: (i64, i64),
    statement: (i64, i64),
}

/// The oracle: lists of everything, and the rules read off the design for one award at a time.
fn oracle(world: &World) -> (BTreeMap<&'static str, u64>, BTreeMap<u32, Sums>) {
    let mut kinds: BTreeMap<&'static str, u64> = BTreeMap::new();
    let mut sums: BTreeMap<u32, Sums> = BTreeMap::new();
    for award in &world.awards {
        let mut found = |kind| *kinds.entry(kind).or_default() += 1;
        let sum = sums.entry(award.prize).or_default();
        let id = award.id.to_string();
        let rows: Vec<_> = world.payments.iter().filter(|p| p.award == id).collect();
        let of = |status| rows.iter().filter(|p| p.status == status).count() as i64;
        let fen = |status| rows.iter().filter(|p| p.status == status).map(|p| p.fen).sum::<i64>();
        let (live, live_fen) = (of("success") - of("reversed"), fen("success") - fen("reversed"));
        sum.statement = (sum.statement.0 + live, sum.statement.1 + live_fen);
        if award.mac_broken {
            found("mac_wrong");
        }
        if live > 1 {
            found("paid_twice");
        }
        let steps: Vec<_> = world.steps.iter().filter(|s| s.award == award.id).collect();
        let Some(last) = steps.last() else {
            found("order_missing");
            continue;
        };
        if steps.iter().zip(1..).any(|(s, n)| s.step != n) {
            found("journal_hole");
        }
        if live == 1 && live_fen != award.fen || live == 0 && of("reversed") == 0 && of("success") > 0 {
            found("paid_amount");
        }
        let column = match last.state {
            5 => &mut sum.delivered,
            10 => &mut sum.lapsed,
            _ => &mut sum.open,
        };
        *column = (column.0 + 1, column.1 + last.fen);
        if last.state == 10 {
            // Cash has no term, and nothing of this world is old enough.
            found("lapsed_early");
        }
        match (last.state, live > 0) {
            (5, true) => {}
            (5, false) if of("reversed") > 0 => found("reversed_unnoticed"),
            (5, false) => found("missing_at_vendor"),
            (6, paid) => {
                found("open_person");
                if paid {
                    // Kinds are counted once each: the final statement has it as paid.
                    *kinds.entry("reversal_missing").or_default() += 1;
                }
            }
            (1 | 10 | 11, true) => found("paid_against_journal"),
            (11, false) => found("open_person"),
            (1 | 10, false) => {}
            (_, true) => found("resolved_paid"),
            (3 | 4 | 8, false) if of("failed") > 0 => found("resolved_failed"),
            (_, false) => found("open_working"),
        }
    }
    (kinds, sums)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn verdicts_are_the_oracles(fates in prop::collection::vec(fate(), 45), memory in prop_oneof![Just(1usize), Just(64 << 20)]) {
        let mut world = World::perfect(30, 17);
        for (award, fate) in world.awards.clone().iter().zip(&fates) {
            apply(&mut world, award, *fate);
        }
        let (kinds, sums) = oracle(&world);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let settlement = runtime.block_on(async {
            let mut inputs = world.write(folder.path()).await;
            inputs.memory = memory;
            inputs.terms.now_ms = NOW;
            run(&inputs).await.unwrap()
        });
        let got: BTreeMap<&str, u64> = settlement.counts.iter().map(|(k, n)| (k.name(), *n)).collect();
        prop_assert_eq!(&got, &kinds);
        for line in &settlement.prizes {
            let of = |s: reconcile::matching::Sum| (s.units, s.fen.0);
            let t = &line.totals;
            let want = &sums[&line.key.prize.0];
            prop_assert_eq!(of(t.delivered), want.delivered);
            prop_assert_eq!(of(t.open), want.open);
            prop_assert_eq!(of(t.lapsed), want.lapsed);
            prop_assert_eq!(of(t.statement), want.statement);
        }
        prop_assert!([CASH, VOUCHER].iter().all(|p| sums.contains_key(p)));
    }
}
