//! A way to the database that breaks just when a commit is under way, and what the book makes of it.

use crate::book::{pg, pg_again};
use crate::support::{NOW_MS, award, order, policy};
use campaign::AwardId;
use delivery::book::{BookError, DeliveryBook, PgBook, Transition};
use delivery::core::{Input, OrderRow, Step, first_step, step};
use records::OrderKind;
use storage::pg::{Pg, PgOptions};
use testkit::between::{Between, Cut};

fn first(n: u64) -> Step {
    first_step(&order(n, OrderKind::AtOnce, 7), NOW_MS, true)
}

fn permit(row: &OrderRow) -> Transition {
    let input = Input::Permit { payee: "p".into(), merchant: "m".into(), body_sha256: [9; 32] };
    let step = step(row, &input, NOW_MS + 5, Some(&policy()), 0).unwrap();
    Transition { from_step: row.step, from_state: row.state, step }
}

async fn step_of(book: &dyn DeliveryBook, award: AwardId) -> u32 {
    book.rows(&[award]).await.unwrap().first().map_or(0, |row| row.step)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_without_an_answer_is_unsure_and_may_be_repeated() {
    let Some((database, direct)) = pg(2).await else { return };
    let between = Between::new(database.url());
    let pg = Pg::open(PgOptions::patient(between.url())).await.unwrap();
    let book = PgBook::open(pg, 2, NOW_MS).await.unwrap();
    for (n, cut, done) in [(1, Cut::Before, false), (2, Cut::Behind, true)] {
        between.cut_next(cut);
        let error = book.take_orders(&[first(n)]).await.unwrap_err();
        assert!(matches!(error, BookError::Unsure(_)), "{error}");
        assert_eq!(step_of(&direct, award(n)).await, u32::from(done));
        assert_eq!(book.take_orders(&[first(n)]).await.unwrap(), [!done]);
        between.cut_next(cut);
        let batch = [permit(&first(n).row)];
        let error = book.transition(&batch).await.unwrap_err();
        assert!(matches!(error, BookError::Unsure(_)), "{error}");
        assert_eq!(step_of(&direct, award(n)).await, 1 + u32::from(done));
        assert_eq!(book.transition(&batch).await.unwrap(), [!done]);
        assert_eq!(direct.history(award(n)).await.unwrap().len(), 2);
    }
    let again = pg_again(&database, 2).await;
    assert_eq!(again.counts().await.unwrap().iter().map(|c| c.orders).sum::<u64>(), 2);
}
