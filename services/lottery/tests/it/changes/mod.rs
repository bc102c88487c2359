//! Any sequence of changes in the middle of a round keeps the laws of the money.
//!
//! Two nodes draw from one ledger on virtual time, each with its own lane, while operators raise, lower, pause, stop,
//! resume, change weights, regions, speeds and limits, and try grey plans; nodes notice new versions when they come to it, are
//! killed and start anew, answers are lost, and old calls arrive late. An auditor reads lanes, ledger and plans.

mod audit;
mod node;
pub mod world;

use lottery::ledger::{MemoryLedger, SqlLedger};
use proptest::prelude::*;
use runtime::ManualClock;
use std::sync::Arc;
use storage::{Sql, SqlOptions};
use world::{OPEN_MS, Op, World};

fn prize() -> impl Strategy<Value = u32> {
    1u32..4
}

/// Where each prize can be won: everywhere more often than not.
fn regions() -> impl Strategy<Value = [u64; 3]> {
    prop::array::uniform3(prop_oneof![2 => Just(0u64), 1 => 1u64..4])
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        5 => (1u64..500).prop_map(Op::Wait),
        4 => (0usize..2).prop_map(Op::Notice),
        1 => Just(Op::Fetch),
        2 => (0usize..2, any::<u64>()).prop_map(|(node, keep)| Op::Kill { node, keep }),
        2 => any::<prop::sample::Index>().prop_map(Op::Late),
        2 => (0usize..2).prop_map(|node| Op::LoseAnswer { node }),
        2 => (prize(), 1u64..40).prop_map(|(prize, units)| Op::Raise { prize, units }),
        2 => (prize(), 1u64..60).prop_map(|(prize, units)| Op::Lower { prize, units }),
        2 => (prize(), any::<bool>()).prop_map(|(prize, gap)| Op::Pause { prize, gap }),
        2 => prize().prop_map(|prize| Op::Resume { prize }),
        1 => Just(Op::StopAll),
        2 => prop::array::uniform3(0u32..6).prop_map(Op::Weights),
        2 => (prize(), 0u64..30, 0u64..40).prop_map(|(prize, speed, vendor)| Op::Speeds { prize, speed, vendor }),
        2 => (1u16..4).prop_map(Op::Limit),
        2 => (regions(), 2u32..5).prop_map(|(regions, last)| Op::Regions(regions, last)),
        3 => (0u16..=1000, prop::array::uniform3(0u32..6), regions(), 1u16..4, 0u64..30).prop_map(
            |(share, weights, regions, limit, speed)| Op::Grey { share, weights, regions, limit, speed }
        ),
        1 => (0u16..=1000).prop_map(Op::Share),
        1 => Just(Op::Promote),
        1 => Just(Op::Withdraw),
    ]
}

fn run<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
}

async fn play(ops: &[Op], mut world: World) {
    for op in ops {
        world.apply(op).await;
        world.audit().await;
    }
    world.finish().await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]
    #[test]
    fn no_sequence_of_changes_breaks_a_law(ops in prop::collection::vec(op(), 1..60)) {
        let clock = ManualClock::new(OPEN_MS - 500);
        let ledger = Arc::new(MemoryLedger::new(clock.clone()));
        run(async { play(&ops, World::new(clock, ledger).await).await });
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3, ..ProptestConfig::default() })]
    #[test]
    fn nor_does_it_in_sql(ops in prop::collection::vec(op(), 20..50)) {
        let folder = tempfile::tempdir().unwrap();
        run(async {
            let clock = ManualClock::new(OPEN_MS - 500);
            let sql = Sql::open(&folder.path().join("ledger.db"), SqlOptions::patient()).await.unwrap();
            let ledger = Arc::new(SqlLedger::open(sql, clock.clone()).await.unwrap());
            play(&ops, World::new(clock, ledger).await).await;
        });
    }
}
