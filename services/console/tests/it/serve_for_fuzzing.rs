//! A console that stays up for `tools/fuzz-api.sh`, with a platform that is made up.

use crate::support::World;

/// Serves for as long as `CONSOLE_FUZZ_SECONDS` says; prints address and token.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "serves until it is stopped; run it by name for tools/fuzz-api.sh"]
async fn serve_for_fuzzing() {
    let seconds = std::env::var("CONSOLE_FUZZ_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(600);
    let world = World::new().await;
    world.begin().await;
    println!("{} {}", world.url, world.tokens["adam"]);
    tokio::time::sleep(std::time::Duration::from_secs(seconds)).await;
    world.end().await;
}
