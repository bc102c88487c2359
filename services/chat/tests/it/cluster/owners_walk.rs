//! Calls in any order, with the clock moving between them: the book in PostgreSQL says what the book in memory says.

use super::make::{Both, memory, postgres};
use chat::store::owners::{BucketTerm, OwnerTick};
use ownership::EndReason;
use testkit::SimRng;

/// One walk; the books go on from where the last one left them.
async fn walk(memory: &Both, real: &Both, seed: u64, steps: u32) {
    let mut rng = SimRng::new(seed);
    let mut epochs = [1u32; 3];
    for step in 0..steps {
        let node = rng.below(3) as u16;
        let epoch = epochs[usize::from(node)] - u32::from(rng.one_in(8));
        let (one, other);
        match rng.below(10) {
            0 => {
                let ms = [100, 1_000, 2_999, 3_000][rng.below(4) as usize];
                memory.clock.advance_ms(ms);
                real.clock.advance_ms(ms);
                continue;
            }
            1 => {
                let above = if rng.one_in(9) { epoch + 5 } else { 0 };
                let (a, b) = (memory.book.begin(node, above).await, real.book.begin(node, above).await);
                if let Ok(begun) = &a {
                    epochs[usize::from(node)] = begun.epoch;
                }
                (one, other) = (said(a), said(b));
            }
            2 => {
                let reason = if rng.one_in(3) { EndReason::BySelf } else { EndReason::Expired };
                one = said(memory.book.end(node, epoch, reason).await);
                other = said(real.book.end(node, epoch, reason).await);
            }
            _ => {
                let mut tick = OwnerTick { node, epoch, ..OwnerTick::default() };
                for row in memory.book.buckets().await.unwrap() {
                    let term = row.term.saturating_sub(u32::from(rng.one_in(6)));
                    let to = if rng.one_in(2) { &mut tick.seals } else { &mut tick.claims };
                    if rng.one_in(3) {
                        to.push(BucketTerm { bucket: row.bucket, term });
                    }
                }
                if rng.one_in(3) {
                    tick.claims.push(BucketTerm { bucket: rng.below(12) as u16, term: 0 });
                }
                one = said(memory.book.tick(&tick).await);
                other = said(real.book.tick(&tick).await);
            }
        }
        assert_eq!(one, other, "seed {seed}, step {step}");
    }
    assert_eq!(memory.book.buckets().await.unwrap(), real.book.buckets().await.unwrap(), "seed {seed}");
    for node in 0..3 {
        assert_eq!(
            memory.book.epochs(node).await.unwrap(),
            real.book.epochs(node).await.unwrap(),
            "seed {seed}"
        );
    }
}

fn said<T: std::fmt::Debug, E: std::fmt::Display>(answer: Result<T, E>) -> Result<String, String> {
    answer.map(|answer| format!("{answer:?}")).map_err(|error| error.to_string())
}

#[tokio::test]
async fn both_books_say_the_same() {
    let Some(real) = postgres().await else { return };
    let memory = memory();
    for seed in 0..super::make::walks(3) {
        walk(&memory, &real, seed, 150).await;
    }
}
