//! How a stage of a process that gives things back ends: it has time for as long as it gets somewhere.
//!
//! A lottery node hands its users over, a chat node its conversations, and how long that takes is the database's business. A
//! process that gave up after a fixed time would leave what is left to others only when its session is dead, seconds later,
//! although it was about to give it back. So what counts is how long nothing has moved. Meanwhile the log says what is being
//! waited for. Who has got nowhere for so long ends with exit code 1: nothing is lost then either, but somebody has to look.

use runtime::{Drained, Tasks};
use serde_json::Value;
use std::time::Duration;
use tokio::time::Instant;

/// Says what is left. A change of it is progress.
pub type Left = Box<dyn Fn() -> Value + Send + Sync>;

/// How often it is looked.
const LOOK: Duration = Duration::from_millis(50);
/// How often it is said what is being waited for.
const TELL: Duration = Duration::from_secs(5);

/// Ends a stage: within `patience`, or, where it is known what is left, when that has not changed for so long.
pub async fn end(part: &'static str, stage: &Tasks, left: Option<&Left>, patience: Duration) -> Drained {
    let Some(left) = left else { return stage.drain(patience).await };
    stage.shutdown().request();
    let (began, mut last) = (Instant::now(), left());
    let (mut moved, mut told) = (began, began);
    while stage.running() > 0 && moved.elapsed() < patience {
        tokio::time::sleep(LOOK).await;
        let now = left();
        if now != last {
            (last, moved) = (now, Instant::now());
        }
        if told.elapsed() >= TELL {
            told = Instant::now();
            let (seconds, still) = (began.elapsed().as_secs(), moved.elapsed().as_secs());
            tracing::info!(part, seconds, unmoved_seconds = still, left = %last, "still giving back");
        }
    }
    if stage.running() > 0 {
        let seconds = patience.as_secs();
        tracing::error!(part, seconds, left = %last, "nothing has moved for too long; others take over what is left when this process's session is dead");
    }
    stage.drain(Duration::ZERO).await
}

#[cfg(test)]
mod tests {
    use super::{Left, end};
    use runtime::{Shutdown, TaskKind, Tasks};
    use serde_json::json;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    const PATIENCE: Duration = Duration::from_millis(300);

    /// A stage whose task ends once it has been looked at so often.
    fn stage(looks: &Arc<AtomicU64>, until: u64) -> Tasks {
        let (stage, looks) = (Tasks::new(Shutdown::new()), Arc::clone(looks));
        stage.spawn("giver", TaskKind::Service, async move {
            while looks.load(Ordering::SeqCst) < until {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Ok(())
        });
        stage
    }

    #[tokio::test]
    async fn who_gets_somewhere_has_time() {
        let looks = Arc::new(AtomicU64::new(0));
        // 20 looks take three times as long as patience lasts, and each of them sees less.
        let stage = stage(&looks, 20);
        let left: Left = Box::new(move || json!(100 - looks.fetch_add(1, Ordering::SeqCst)));
        assert!(end("test", &stage, Some(&left), PATIENCE).await.unfinished.is_empty());
    }

    #[tokio::test]
    async fn who_gets_nowhere_is_given_up() {
        let looks = Arc::new(AtomicU64::new(0));
        let stage = stage(&looks, u64::MAX);
        let left: Left = Box::new(|| json!({ "buckets": 7 }));
        assert_eq!(end("test", &stage, Some(&left), PATIENCE).await.unfinished, ["giver"]);
    }

    #[tokio::test]
    async fn where_nothing_is_known_the_time_counts() {
        let stage = stage(&Arc::default(), 1);
        assert_eq!(end("test", &stage, None, PATIENCE).await.unfinished, ["giver"]);
    }
}
