//! How many deliveries a second the book can keep, alone: order, sending, delivered. Measured by hand, asserted nowhere.

use crate::support::{NOW_MS, order, policy};
use delivery::book::{DeliveryBook, SqlBook, Transition};
use delivery::core::{Answer, Input, Lane, OrderRow, first_step, step};
use records::OrderKind;

fn moved(row: &OrderRow, input: &Input) -> Transition {
    let step = step(row, input, NOW_MS + 5, Some(&policy()), 0).unwrap();
    Transition { from_step: row.step, from_state: row.state, step }
}

#[tokio::test]
#[ignore = "a measurement: cargo test --release -p delivery -- --ignored book_keeping --nocapture"]
#[allow(clippy::print_stdout, clippy::disallowed_methods)]
async fn book_keeping() {
    let (_folder, sql) = crate::book::sql().await;
    let book = SqlBook::open(sql, NOW_MS).await.unwrap();
    let (batches, size) = (100u64, 1_000u64);
    let started = std::time::Instant::now();
    for batch in 0..batches {
        let range = batch * size + 1..=(batch + 1) * size;
        let steps: Vec<_> =
            range.map(|n| first_step(&order(n, OrderKind::AtOnce, 7), NOW_MS, true)).collect();
        book.take_orders(&steps).await.unwrap();
        let due = book.due(campaign::VendorId(7), Lane::Send, NOW_MS, size as usize).await.unwrap();
        let input =
            Input::Permit { payee: "openid-4711".into(), merchant: "m-1".into(), body_sha256: [9; 32] };
        let sends: Vec<Transition> = due.iter().map(|row| moved(row, &input)).collect();
        book.transition(&sends).await.unwrap();
        let answer = Answer::Accepted { is_final: true, vendor_ref: "R1000000000042".into() };
        let input = Input::Answered { attempt: 1, generation: 0, answer };
        let ends: Vec<Transition> = sends.iter().map(|t| moved(&t.step.row, &input)).collect();
        assert!(book.transition(&ends).await.unwrap().iter().all(|won| *won));
    }
    let rate = (batches * size) as f64 / started.elapsed().as_secs_f64();
    println!("{rate:.0} deliveries/s of book-keeping in batches of {size}");
}
