//! 'You won' and 'it arrived', once each, in the user's language.

use crate::world::{Ground, World};
use campaign::{AwardId, CampaignId, Fen, PrizeId, RoundId, UserId, VendorId};
use protocol::v1::SetProfile;
use protocol::v1::chat_request::Ask;
use queue::memory::MemoryQueue;
use queue::{JOURNAL, Queue, TopicOptions};
use records::{DeliveryEvent, DeliveryState, Record};
use runtime::{Shutdown, Tasks};
use std::sync::Arc;
use std::time::Duration;

fn event(award: u128, user: u64, step: u32, state: DeliveryState) -> Vec<u8> {
    let event = DeliveryEvent {
        award: AwardId(award),
        step,
        state,
        generation: 0,
        attempt: 0,
        at_ms: 1,
        due_ms: 0,
        vendor: VendorId(1),
        user: UserId(user),
        campaign: CampaignId(1),
        round: RoundId(1),
        prize: PrizeId(1),
        fen: Fen(520),
    };
    event.encode()
}

async fn texts(world: &World, user: u64) -> Vec<String> {
    let mut ids: Vec<u64> = world.timeline(user, 0).await.into_iter().map(|(id, _)| id).collect();
    ids.dedup();
    let mut texts = Vec::new();
    for id in ids {
        let messages = world.messages(user, id).await;
        texts.extend(messages.into_iter().map(|m| String::from_utf8(m.body).unwrap()));
    }
    texts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn notices_are_sent_once_over_kills_and_in_the_users_language() {
    let queue = MemoryQueue::new([TopicOptions::new(JOURNAL)]).unwrap();
    let port: Arc<dyn Queue> = Arc::new(queue.clone());
    let mut ground = Ground::sql(31).await;
    for kill in 0..4 {
        let world = World::start(&ground).await;
        if kill == 0 {
            let profile = SetProfile { name: String::new(), language: "en".into() };
            world.ask(2, Ask::SetProfile(profile)).await.unwrap();
            for award in 0..20u128 {
                let user = 1 + (award % 2) as u64;
                let steps = [
                    event(award, user, 1, DeliveryState::Ready),
                    event(award, user, 2, DeliveryState::Delivered),
                ];
                for step in steps {
                    port.produce(JOURNAL, (user % 4) as u16, &[&step]).await.unwrap();
                }
            }
        }
        world.ground.disk.go_down_after(if kill < 3 { 3 + 6 * kill } else { u64::MAX / 2 });
        let tasks = Tasks::new(Shutdown::new());
        chat::accounts::start(&world.node, &port, &tasks).await.unwrap();
        if kill < 3 {
            world
                .until("a kill or the end", |w| w.ground.disk.is_down() || w.node.status().messages >= 40)
                .await;
            tasks.shutdown().request();
            let _ = tasks.drain(Duration::from_secs(30)).await;
            ground = world.kill().await;
            continue;
        }
        let done = async {
            while port.lag(JOURNAL, "chat").await.unwrap() > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), done).await.unwrap();
        let (first, second) = (texts(&world, 1).await, texts(&world, 2).await);
        assert_eq!((first.len(), second.len()), (20, 20));
        let count = |all: &[String], word: &str| all.iter().filter(|t| t.contains(word)).count();
        assert_eq!(count(&second, "You have won a red envelope of 5.20 yuan!"), 10);
        assert_eq!(count(&second, "has arrived"), 10);
        assert_eq!(count(&first, "\u{4e2d}\u{4e86} 5.20"), 10);
        let drained = tasks.drain(Duration::from_secs(30)).await;
        assert!(drained.unfinished.is_empty() && drained.failure.is_none(), "{drained:?}");
        world.stop().await;
        return;
    }
}
