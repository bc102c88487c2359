//! Generated bad weather: what a wire and the server behind it go through while somebody calls, and that everybody is
//! answered once all the same.

use crate::world::{Mode, Server, Wire, eventually};
use proptest::prelude::*;
use std::fmt::Debug;
use std::time::Duration;

#[derive(Clone, Debug)]
pub enum Step<D> {
    /// The caller does this.
    Do(D),
    Wire(Mode),
    /// The server's sockets are closed and another one takes its address.
    Restart,
    Wait(u64),
}

/// Up to 24 steps; `weight` of `weight + 8` are the caller's.
pub fn steps<D: Clone + Debug>(
    weight: u32,
    deeds: impl Strategy<Value = D>,
) -> impl Strategy<Value = Vec<Step<D>>> {
    let step = prop_oneof![
        weight => deeds.prop_map(Step::Do),
        1 => Just(Step::Wire(Mode::Hold)),
        1 => Just(Step::Wire(Mode::Cut)),
        2 => Just(Step::Wire(Mode::Carry)),
        1 => Just(Step::Restart),
        3 => (0u64..30).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 1..25)
}

/// Goes through the steps: `turn` does what the caller does and hears what has come; `serve` begins a server anew at the
/// old one's address. The last server.
pub async fn through<H, D>(
    steps: Vec<Step<D>>,
    wire: &Wire,
    mut server: Server<H>,
    serve: impl Fn(&Server<H>) -> Server<H>,
    mut turn: impl FnMut(Option<D>),
) -> Server<H> {
    for step in steps {
        let mut deed = None;
        match step {
            Step::Do(what) => deed = Some(what),
            Step::Wire(mode) => wire.set(mode),
            Step::Restart => {
                server.kill().await;
                server = serve(&server);
            }
            Step::Wait(ms) => tokio::time::sleep(Duration::from_millis(ms)).await,
        }
        turn(deed);
    }
    server
}

/// Waits until everybody who asked is answered, whatever the wire does. `tags` hears what has come, and says whom for.
pub async fn all_answered(asked: u64, mut tags: impl FnMut() -> Vec<u64>) {
    eventually("everybody is answered", || tags().len() as u64 >= asked).await;
}

/// Nobody hears twice, even when what was held comes after all.
pub async fn nobody_twice(wire: &Wire, asked: u64, mut tags: impl FnMut() -> Vec<u64>) {
    wire.set(Mode::Carry);
    tokio::time::sleep(Duration::from_millis(20)).await;
    let mut tags = tags();
    tags.sort_unstable();
    assert_eq!(tags, (0..asked).collect::<Vec<_>>());
}

/// Runs one case in a runtime of its own.
pub fn block_on(case: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(case);
    runtime.shutdown_background();
}
