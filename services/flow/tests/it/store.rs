//! The store's promises, on all adapters, and adapters compared on generated histories.

use crate::make::{batch, event, row, sign, won};
use campaign::{AwardId, CampaignId, NodeEpoch, NodeId, PrizeId, RoundId, UserId, VendorId};
use flow::core::{AlarmKind, AwardRow, Doubt, LaneState, Mark};
use flow::store::{AwardStore, MemoryAwardStore, PgAwardStore, SqlAwardStore, StoreError};
use proptest::prelude::*;
use records::{DeliveryEvent, DeliveryState};
use std::sync::Arc;
use storage::pg::{Pg, PgOptions};
use storage::{Sql, SqlOptions};
use testkit::servers::FreshDatabase;

pub async fn sql(dir: &std::path::Path) -> SqlAwardStore {
    let sql = Sql::open(&dir.join("flow.db"), SqlOptions::patient()).await.unwrap();
    SqlAwardStore::open(sql, 1).await.unwrap()
}

/// A database of its own on the real server.
pub async fn pg() -> Option<(FreshDatabase, PgAwardStore)> {
    let database = FreshDatabase::new()?;
    let store = pg_again(&database).await;
    Some((database, store))
}

/// Another process on the same database.
pub async fn pg_again(database: &FreshDatabase) -> PgAwardStore {
    let pg = Pg::open(PgOptions::patient(database.url())).await.unwrap();
    PgAwardStore::open(pg, 1).await.unwrap()
}

/// A store, and how it is opened anew.
enum Under {
    Memory(MemoryAwardStore),
    Sql(tempfile::TempDir, SqlAwardStore),
    Pg(Arc<FreshDatabase>, PgAwardStore),
}

impl Under {
    async fn all() -> Vec<Under> {
        let dir = tempfile::tempdir().unwrap();
        let store = sql(dir.path()).await;
        let mut all = vec![Under::Memory(MemoryAwardStore::new()), Under::Sql(dir, store)];
        all.extend(pg().await.map(|(database, store)| Under::Pg(Arc::new(database), store)));
        all
    }

    fn store(&self) -> &dyn AwardStore {
        match self {
            Under::Memory(store) => store,
            Under::Sql(_, store) => store,
            Under::Pg(_, store) => store,
        }
    }

    async fn reopen(&mut self) {
        match self {
            Under::Memory(_) => {}
            Under::Sql(dir, store) => *store = sql(dir.path()).await,
            Under::Pg(database, store) => *store = pg_again(database).await,
        }
    }
}

fn ids(records: &[flow::core::AwardRecord]) -> Vec<AwardId> {
    records.iter().map(|r| r.row.won.award).collect()
}

/// The statistics of the vendor of cash.
async fn cash(store: &dyn AwardStore) -> flow::core::StatValue {
    let lines = store.statistics().await.unwrap();
    lines.into_iter().find(|(k, _)| k.vendor == VendorId(5)).unwrap().1
}

const ALL: usize = 1000;
const PRIZE: (CampaignId, RoundId, PrizeId) = (CampaignId(1), RoundId(4), PrizeId(1));

#[tokio::test]
async fn awards_are_found_by_id_by_user_and_in_order() {
    for mut u in Under::all().await {
        let rows: Vec<AwardRow> = (0..50).map(|i| row(won(1, i, i % 5, 1 + (i % 2) as u32, i))).collect();
        let applied = u.store().apply(&batch(0, 3, rows.clone())).await.unwrap();
        assert_eq!((applied.new_awards, applied.refused.len()), (50, 0));
        for round in 0..3 {
            assert_eq!(u.store().award(rows[7].won.award).await.unwrap().unwrap().row, rows[7]);
            assert!(u.store().award(AwardId(5)).await.unwrap().is_none());
            let mine = u.store().awards_of(UserId(2), None, 4).await.unwrap();
            assert_eq!(ids(&mine), [2, 7, 12, 17].map(|i| rows[i].won.award));
            let more = u.store().awards_of(UserId(2), Some(rows[17].won.award), ALL).await.unwrap();
            assert_eq!(ids(&more), [22, 27, 32, 37, 42, 47].map(|i| rows[i].won.award));
            assert!(u.store().awards_of(UserId(9), None, ALL).await.unwrap().is_empty());
            let (mut scanned, mut after) = (Vec::new(), None);
            loop {
                let page = ids(&u.store().scan(after, 7).await.unwrap());
                let Some(last) = page.last() else { break };
                after = Some(*last);
                scanned.extend(page);
            }
            scanned.sort_unstable();
            assert_eq!(scanned, rows.iter().map(|r| r.won.award).collect::<Vec<_>>());
            let asked = [(9, 1), (2, 1), (3, 1), (2, 2), (3, 1)].map(|(u, c)| (UserId(u), CampaignId(c)));
            let wins = u.store().wins_of(&asked).await.unwrap();
            let of = |user: u64| rows.iter().map(|r| r.won).filter(|w| w.user.0 == user).collect::<Vec<_>>();
            assert_eq!(wins, [vec![], of(2), of(3), vec![], of(3)]);
            assert_eq!(u.store().unit_count(PRIZE.0, PRIZE.1, PRIZE.2).await.unwrap(), 25);
            // Anew; then with half of the users in their table, then all.
            match round {
                0 => u.reopen().await,
                _ => drop(u.store().index_users(25).await.unwrap()),
            }
        }
    }
}

#[tokio::test]
async fn a_unit_given_twice_and_an_id_used_twice() {
    for mut u in Under::all().await {
        let (first, second) = (won(1, 1, 7, 1, 0), won(1, 2, 8, 1, 0));
        let mut other = won(1, 1, 9, 1, 5);
        sign(&mut other);
        let one = batch(0, 1, vec![row(first), row(second)]);
        let applied = u.store().apply(&one).await.unwrap();
        assert_eq!(applied.refused.iter().copied().collect::<Vec<_>>(), [second.award]);
        assert_eq!((applied.new_awards, applied.new_alarms), (2, 1));
        let two = batch(1, 2, vec![row(other)]);
        let applied = u.store().apply(&two).await.unwrap();
        assert_eq!((applied.new_awards, applied.new_alarms, applied.refused.len()), (0, 1, 1));
        u.reopen().await;
        // Again: the same refusals, nothing new.
        for (b, refused) in [(&one, second.award), (&two, other.award)] {
            let again = u.store().apply(b).await.unwrap();
            assert_eq!((again.new_awards, again.new_alarms), (0, 0));
            assert_eq!(again.refused.iter().copied().collect::<Vec<_>>(), [refused]);
            assert!(again.delta.is_empty());
        }
        let alarms = u.store().alarms(0, ALL).await.unwrap();
        let seen: Vec<_> =
            alarms.iter().map(|a| (a.number, a.alarm.kind, a.alarm.award, a.alarm.other)).collect();
        assert_eq!(
            seen,
            [
                (1, AlarmKind::UnitTwice, second.award, first.award),
                (2, AlarmKind::IdTwice, first.award, first.award)
            ]
        );
        assert_eq!(u.store().alarms(1, ALL).await.unwrap().len(), 1);
        assert_eq!(u.store().award(second.award).await.unwrap().unwrap().row.doubt, Doubt::UnitTwice);
        assert_eq!(u.store().award(first.award).await.unwrap().unwrap().row.won, first);
        assert_eq!(u.store().unit_count(PRIZE.0, PRIZE.1, PRIZE.2).await.unwrap(), 1);
        // The doubtful one is not counted and never due.
        assert_eq!(
            u.store().statistics().await.unwrap().iter().map(|(_, v)| v.awarded_units).sum::<i64>(),
            1
        );
        assert_eq!(ids(&u.store().orders_due(u64::MAX >> 1, ALL).await.unwrap()), [first.award]);
    }
}

#[tokio::test]
async fn lanes_have_no_gaps_and_keep_their_marks() {
    for mut u in Under::all().await {
        let mut b = batch(0, 4, vec![]);
        b.marks = vec![Mark { position: 2, index: 1, epoch: NodeEpoch(1) }];
        u.store().apply(&b).await.unwrap();
        let gap = u.store().apply(&batch(5, 6, vec![])).await;
        assert!(matches!(gap, Err(StoreError::Gap { node: NodeId(1), stored: 4, from: 5 })));
        u.store().apply(&batch(1, 3, vec![])).await.unwrap();
        let mut other = batch(0, 2, vec![]);
        other.node = NodeId(9);
        u.store().apply(&other).await.unwrap();
        u.reopen().await;
        let lanes = u.store().lanes().await.unwrap();
        assert_eq!(lanes.iter().map(|l| (l.node.0, l.next)).collect::<Vec<_>>(), [(1, 4), (9, 2)]);
        assert_eq!(lanes[0].marks, b.marks);
        assert_eq!(u.store().lane(NodeId(1)).await.unwrap(), lanes[0]);
        assert_eq!(u.store().lane(NodeId(7)).await.unwrap(), LaneState::new(NodeId(7)));
        let passed = u.store().passed(&[NodeId(9), NodeId(7), NodeId(1)]).await.unwrap();
        assert_eq!(passed, [(NodeId(9), 2), (NodeId(7), 0), (NodeId(1), 4)]);
    }
}

#[tokio::test]
async fn steps_move_an_award_forward_only() {
    use DeliveryState::{Delivered, New, Ready, RetryAt, Reversed, Sending};
    for mut u in Under::all().await {
        let (a, b) = (won(1, 1, 7, 1, 0), won(1, 2, 8, 2, 0));
        u.store().apply(&batch(0, 1, vec![row(a), row(b)])).await.unwrap();
        assert_eq!(u.store().orders_due(5_000, ALL).await.unwrap().len(), 2);
        assert_eq!(ids(&u.store().orders_due(1_002, ALL).await.unwrap()), [a.award], "won before");
        // At once and not taken yet: waits since it was won. On claim: waits for its player.
        assert_eq!(u.store().backlog().await.unwrap(), [(VendorId(5), a.time_ms)]);
        let steps = [event(&a, 1, Ready, 50), event(&a, 2, Sending, 60), event(&b, 1, New, 55)];
        assert_eq!(u.store().apply_events(&steps).await.unwrap().changed, 2);
        assert_eq!(u.store().backlog().await.unwrap(), [(VendorId(5), 50)]);
        assert!(u.store().orders_due(5_000, ALL).await.unwrap().is_empty());
        let old = u.store().apply_events(&[event(&a, 1, Ready, 50)]).await.unwrap();
        assert_eq!((old.changed, old.delta.len()), (0, 0));
        u.reopen().await;
        u.store().apply_events(&[event(&a, 3, RetryAt, 70), event(&b, 2, Ready, 80)]).await.unwrap();
        assert_eq!(u.store().backlog().await.unwrap(), [(VendorId(5), 50), (VendorId(6), 80)]);
        u.store().apply_events(&[event(&a, 4, Delivered, 90)]).await.unwrap();
        assert_eq!(u.store().backlog().await.unwrap(), [(VendorId(6), 80)]);
        let progress = u.store().award(a.award).await.unwrap().unwrap().progress.unwrap();
        assert_eq!((progress.step, progress.state, progress.at_ms, progress.since_ms), (4, Delivered, 90, 0));
        let before = cash(u.store()).await;
        assert_eq!((before.delivered_units, before.delivered_fen, before.open_units()), (1, a.fen, 0));
        u.store().apply_events(&[event(&a, 5, Reversed, 95)]).await.unwrap();
        let after = cash(u.store()).await;
        assert_eq!((after.delivered_units, after.open_fen()), (0, a.fen));
    }
}

#[tokio::test]
async fn a_step_may_come_before_its_award() {
    for mut u in Under::all().await {
        let a = won(1, 1, 7, 1, 0);
        u.store().apply_events(&[event(&a, 2, DeliveryState::Delivered, 50)]).await.unwrap();
        u.reopen().await;
        u.store().apply_events(&[event(&a, 1, DeliveryState::Ready, 40)]).await.unwrap();
        let applied = u.store().apply(&batch(0, 1, vec![row(a)])).await.unwrap();
        assert_eq!(
            applied.delta.values().map(|v| (v.awarded_units, v.delivered_units)).collect::<Vec<_>>(),
            [(1, 1)]
        );
        let stored = u.store().award(a.award).await.unwrap().unwrap();
        assert_eq!(stored.progress.unwrap().state, DeliveryState::Delivered);
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// So many awards; a part of them with units and ids that were used before.
    Apply {
        awards: Vec<(u8, u8, bool)>,
        again: bool,
    },
    Events(Vec<(u8, u8, u8)>),
    Index(usize),
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let award = (any::<u8>(), 0u8..40, any::<bool>());
    let step = prop_oneof![
        4 => (proptest::collection::vec(award, 0..12), prop::bool::weighted(0.3))
            .prop_map(|(awards, again)| Step::Apply { awards, again }),
        4 => proptest::collection::vec((0u8..60, 1u8..6, 1u8..=11), 1..12).prop_map(Step::Events),
        1 => (1usize..20).prop_map(Step::Index),
        1 => Just(Step::Reopen),
    ];
    proptest::collection::vec(step, 1..14)
}

async fn same(model: &dyn AwardStore, sql: &dyn AwardStore) {
    let (mut a, mut b) = (model.scan(None, ALL).await.unwrap(), sql.scan(None, ALL).await.unwrap());
    a.sort_unstable_by_key(|r| r.row.won.award);
    b.sort_unstable_by_key(|r| r.row.won.award);
    assert_eq!(a, b);
    for user in 0..8 {
        let mine = model.awards_of(UserId(user), None, 7).await.unwrap();
        assert_eq!(mine, sql.awards_of(UserId(user), None, 7).await.unwrap());
        let after = mine.first().map(|r| r.row.won.award);
        assert_eq!(
            model.awards_of(UserId(user), after, 3).await.unwrap(),
            sql.awards_of(UserId(user), after, 3).await.unwrap()
        );
    }
    assert_eq!(model.lanes().await.unwrap(), sql.lanes().await.unwrap());
    assert_eq!(model.alarms(0, ALL).await.unwrap(), sql.alarms(0, ALL).await.unwrap());
    assert_eq!(model.statistics().await.unwrap(), sql.statistics().await.unwrap());
    assert_eq!(model.backlog().await.unwrap(), sql.backlog().await.unwrap());
    let (mut due, mut wanted) =
        (sql.orders_due(1_020, ALL).await.unwrap(), model.orders_due(1_020, ALL).await.unwrap());
    due.sort_unstable_by_key(|r| r.row.won.award);
    wanted.sort_unstable_by_key(|r| r.row.won.award);
    assert_eq!(wanted, due);
    let users: Vec<_> = (0..9).map(|user| (UserId(user), CampaignId(1))).collect();
    assert_eq!(model.wins_of(&users).await.unwrap(), sql.wins_of(&users).await.unwrap());
    for prize in 1..3 {
        let (c, r, p) = (CampaignId(1), RoundId(4), PrizeId(prize));
        assert_eq!(model.unit_count(c, r, p).await.unwrap(), sql.unit_count(c, r, p).await.unwrap());
    }
}

async fn run(steps: Vec<Step>, mut under: Under) {
    let model = MemoryAwardStore::new();
    let (mut next, mut last) = (0, batch(0, 0, vec![]));
    for step in steps {
        match step {
            Step::Apply { awards, again } => {
                let rows: Vec<_> = awards
                    .iter()
                    .map(|(user, n, other)| {
                        let n = u64::from(*n);
                        let unit = if *other { n / 2 } else { 100 + n };
                        row(won(1, n, u64::from(*user % 8), 1 + (n % 2) as u32, unit))
                    })
                    .collect();
                if !again {
                    last = batch(next, next + 2, rows);
                    next += 2;
                }
                assert_eq!(model.apply(&last).await.unwrap(), under.store().apply(&last).await.unwrap());
            }
            Step::Events(events) => {
                let events: Vec<DeliveryEvent> = events
                    .iter()
                    .map(|(n, step, state)| {
                        let n = u64::from(*n);
                        let state = DeliveryState::from_u8(*state).unwrap();
                        event(&won(1, n, 1, 1 + (n % 2) as u32, n), u32::from(*step), state, 2_000 + n)
                    })
                    .collect();
                assert_eq!(
                    model.apply_events(&events).await.unwrap(),
                    under.store().apply_events(&events).await.unwrap()
                );
            }
            Step::Index(rows) => drop(under.store().index_users(rows).await.unwrap()),
            Step::Reopen => under.reopen().await,
        }
        same(&model, under.store()).await;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn sql_does_what_memory_does(steps in steps()) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
            let dir = tempfile::tempdir().unwrap();
            let store = sql(dir.path()).await;
            run(steps, Under::Sql(dir, store)).await;
        });
    }

}

/// One database for all cases, emptied before each.
#[test]
fn postgresql_does_what_memory_does() {
    use proptest::test_runner::{Config, TestRunner};
    let Some(database) = FreshDatabase::new() else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let config = Config { cases: 10, failure_persistence: None, ..Config::default() };
    let database = Arc::new(database);
    runtime.block_on(pg_again(&database));
    let done = TestRunner::new(config).run(&steps(), |steps| {
        runtime.block_on(async {
            empty(&database).await;
            run(steps, Under::Pg(Arc::clone(&database), pg_again(&database).await)).await;
        });
        Ok(())
    });
    done.unwrap();
}

async fn empty(database: &FreshDatabase) {
    let pg = Pg::open(PgOptions::patient(database.url())).await.unwrap();
    let text = "TRUNCATE flow_award, flow_unit, flow_lane, flow_lane_mark, flow_alarm, flow_statistic; \
                UPDATE flow_mark SET value = 0";
    storage::sqlx::raw_sql(text).execute(&mut *pg.connection().await.unwrap()).await.unwrap();
}
