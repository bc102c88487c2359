//! A way to the database that breaks just when a commit is under way, and what the store makes of it.

use crate::make::{batch, event, row, won};
use crate::store::pg;
use flow::core::StatValue;
use flow::store::{AwardStore, PgAwardStore};
use records::DeliveryState;
use storage::pg::{Pg, PgOptions};
use testkit::between::{Between, Cut};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_without_an_answer_may_be_repeated() {
    let Some((database, direct)) = pg().await else { return };
    let between = Between::new(database.url());
    let through = Pg::open(PgOptions::patient(between.url())).await.unwrap();
    let store = PgAwardStore::open(through, 1).await.unwrap();
    for (from, cut) in [(0, Cut::Before), (1, Cut::Behind)] {
        let done = u64::from(cut == Cut::Behind);
        // The second one of each batch has the unit of the first.
        let (good, twice) = (won(1, 10 * from + 1, 7, 1, from), won(1, 10 * from + 2, 8, 1, from));
        let b = batch(from, from + 1, vec![row(good), row(twice)]);
        between.cut_next(cut);
        let error = store.apply(&b).await.unwrap_err();
        assert!(error.is_retryable(), "{error}");
        assert_eq!(direct.award(good.award).await.unwrap().is_some(), cut == Cut::Behind);
        let applied = store.apply(&b).await.unwrap();
        assert_eq!((applied.new_awards, applied.new_alarms), (2 - 2 * done, 1 - done));
        assert!(applied.refused.iter().copied().eq([twice.award]));
        let events =
            [event(&good, 1, DeliveryState::Ready, 50), event(&good, 2, DeliveryState::Delivered, 60)];
        between.cut_next(cut);
        assert!(store.apply_events(&events).await.unwrap_err().is_retryable());
        assert_eq!(store.apply_events(&events).await.unwrap().changed, 1 - done);
    }
    let sums = direct.statistics().await.unwrap().iter().fold(StatValue::default(), |mut sum, (_, v)| {
        sum.add(v);
        sum
    });
    assert_eq!((sums.awarded_units, sums.delivered_units), (2, 2));
    assert_eq!(direct.lanes().await.unwrap()[0].next, 2);
}
