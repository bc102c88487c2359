//! Calls in any order, and everything forgotten now and then: the books in Redis say what those in memory say.

use super::books::redis;
use super::make::{message, walks};
use chat::store::RedisBooks;
use chat::store::books::*;
use testkit::SimRng;

/// The same call to both, and what they say. Arguments are evaluated twice.
macro_rules! both {
    ($memory:expr, $real:expr, $call:ident($($argument:expr),*)) => {{
        let one = format!("{:?}", $memory.$call($($argument),*).await.unwrap());
        (one, format!("{:?}", $real.$call($($argument),*).await.unwrap()))
    }};
}
fn tag(rng: &mut SimRng) -> Tag {
    Tag { term: 1 + rng.below(3) as u32, node: 1, epoch: 1, turn: rng.below(2) as u32 }
}

fn counts(rng: &mut SimRng) -> Vec<UnreadAt> {
    let one = |rng: &mut SimRng| UnreadAt {
        conversation: rng.below(4),
        count: rng.below(9),
        version: rng.below(6),
    };
    (0..rng.below(4)).map(|_| one(rng)).collect()
}

async fn walk(memory: &MemoryBooks, real: &RedisBooks, seed: u64) {
    let mut rng = SimRng::new(seed);
    let mut now_ms = 1_000;
    for step in 0..300 {
        now_ms += rng.below(20);
        let (user, device) = (seed * 100 + rng.below(2), rng.below(3));
        let (at_ms, until_ms) = (now_ms - rng.below(30), now_ms + rng.below(60));
        let route = Route { device, access: rng.below(2) as u16, connection: rng.below(2) };
        let answers = match rng.below(12) {
            0 => {
                let (tag, all) = (tag(&mut rng), counts(&mut rng));
                both!(memory, real, fill(user, tag, &all))
            }
            1 | 2 => {
                let (tag, some) = (tag(&mut rng), counts(&mut rng));
                both!(memory, real, set(user, tag, &some))
            }
            3 => {
                let tag = tag(&mut rng);
                both!(memory, real, read(user, tag))
            }
            4 => both!(memory, real, totals(&[user, user + 1])),
            5 if rng.one_in(4) => both!(memory, real, forget(user)),
            5 | 6 => both!(memory, real, beat(&[Beat { user, device, at_ms, until_ms }], now_ms)),
            7 => both!(memory, real, gone(user, device, at_ms)),
            8 => both!(memory, real, seen(&[user, user + 1], now_ms)),
            9 => both!(memory, real, route(&[(user, route)], until_ms, now_ms)),
            10 if rng.one_in(2) => both!(memory, real, unroute(user, route)),
            10 => both!(memory, real, routes(&[user], now_ms)),
            _ => {
                let from = 1 + rng.below(40);
                let run: Vec<_> = (from..=from + rng.below(9)).map(|seq| message(user, seq)).collect();
                both!(memory, real, keep(user, &run));
                let low = from - rng.below(from);
                both!(memory, real, recent(user, low, from + 20))
            }
        };
        assert_eq!(answers.0, answers.1, "seed {seed}, step {step}");
    }
}

#[tokio::test]
async fn both_kinds_of_books_say_the_same() {
    let memory = MemoryBooks::default();
    for seed in 1..=walks(4) {
        // Other keys are a server that was flushed.
        let Some(real) = redis().await else { return };
        memory.flush();
        walk(&memory, &real, seed).await;
    }
}
