//! A crowd that talks while nodes are killed, begin anew, hand over and lose each other's words, and an oracle that knows
//! what was acknowledged: at the end every acknowledged message is in its conversation once, in its sender's order, without
//! holes, once in every member's timeline, and every unread count equals the count from messages.

use super::cluster::{Cluster, Ground};
use super::cut::Dice;
use crate::world::{into, to};
use futures_util::future::join_all;
use parking_lot::Mutex;
use protocol::v1::chat_answer::Answer;
use protocol::v1::chat_request::Ask;
use protocol::v1::{
    ChatMessage, ConversationsRequest, MakeGroup, MarkRead, MessageKind, RangeRequest, Send, SendOutcome,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const USERS: u64 = 16;

/// What the crowd knows.
#[derive(Default)]
struct Oracle {
    /// By conversation and seq.
    acked: BTreeMap<(u64, u64), (u64, Vec<u8>)>,
    /// By conversation.
    members: BTreeMap<u64, BTreeSet<u64>>,
    /// By user and conversation: read up to.
    read: BTreeMap<(u64, u64), u64>,
}

struct Crowd {
    cluster: Arc<Cluster>,
    oracle: Mutex<Oracle>,
    dice: Dice,
    is_over: AtomicBool,
}

impl Crowd {
    /// Sends until it is stored; hears who has sent what where.
    async fn tell(&self, send: Send) -> u64 {
        let answer = self.cluster.stored(send.clone()).await;
        assert_eq!(answer.outcome(), SendOutcome::Stored);
        let mut oracle = self.oracle.lock();
        let before = oracle.acked.insert((answer.conversation, answer.seq), (send.user, send.body));
        assert_eq!(before, None, "one seq, one message");
        answer.conversation
    }

    /// Pairs and groups, in which everybody is.
    async fn meet(&self) {
        for user in 1..=USERS {
            self.cluster.arrive(user, 1);
        }
        let pairs = (1..=USERS).map(|user| async move {
            let other = user % USERS + 1;
            let id = self.tell(to(user, 1, other, 1)).await;
            self.oracle.lock().members.insert(id, [user, other].into());
        });
        join_all(pairs).await;
        for group in 0..3u64 {
            let members: Vec<u64> = (1..=USERS).filter(|user| user % 3 != group).collect();
            let ask = MakeGroup { name: "g".to_owned(), members: members.clone(), request: group + 1 };
            let id = self.cluster.done(members[0], Ask::MakeGroup(ask)).await;
            self.oracle.lock().members.insert(id, members.into_iter().collect());
        }
    }

    fn mine(&self, user: u64) -> Vec<u64> {
        let oracle = self.oracle.lock();
        oracle.members.iter().filter(|(_, m)| m.contains(&user)).map(|(id, _)| *id).collect()
    }

    async fn talk(&self, user: u64, count: u64) {
        let mine = self.mine(user);
        // The first message of a pair has its number.
        let first = |id: &u64| {
            let oracle = self.oracle.lock();
            u64::from(
                oracle
                    .acked
                    .iter()
                    .any(|((conversation, _), (sender, _))| conversation == id && *sender == user),
            )
        };
        let mut counters: BTreeMap<u64, u64> = mine.iter().map(|id| (*id, first(id))).collect();
        for _ in 0..count {
            let id = mine[self.dice.below(mine.len() as u64) as usize];
            let counter = counters.entry(id).or_default();
            *counter += 1;
            self.tell(into(user, 1, id, *counter)).await;
            if self.dice.below(8) == 0 {
                self.read(user, id).await;
            }
            tokio::time::sleep(Duration::from_millis(self.dice.below(12))).await;
        }
    }

    async fn read(&self, user: u64, id: u64) {
        let top = self.oracle.lock().acked.range((id, 0)..=(id, u64::MAX)).next_back().map_or(0, |a| a.0.1);
        let seq = 1 + self.dice.below(top.max(1));
        let ask = Ask::MarkRead(MarkRead { conversation: id, seq });
        let Answer::ReadAt(read) = self.cluster.ask(user, ask).await.unwrap() else { panic!("no reading") };
        assert!(read.seq >= seq.min(top), "{read:?}");
        let mut oracle = self.oracle.lock();
        let known = oracle.read.entry((user, id)).or_default();
        *known = (*known).max(read.seq);
    }

    /// A device that syncs from where it is, again and again: in the end it has everything once.
    async fn device(&self, user: u64) -> Vec<(u64, u64, u64)> {
        let (mut cursor, mut all) = (1, Vec::new());
        loop {
            let is_last = self.is_over.load(Ordering::SeqCst);
            let (some, next, _) = self.cluster.sync(user, cursor).await;
            all.extend(some);
            cursor = next;
            if is_last {
                return all;
            }
            tokio::time::sleep(Duration::from_millis(20 + self.dice.below(100))).await;
        }
    }

    async fn messages(&self, user: u64, conversation: u64) -> Vec<ChatMessage> {
        let (mut all, mut from_seq) = (Vec::new(), 1);
        loop {
            let ask = RangeRequest { conversation, from_seq, limit: 200, ..RangeRequest::default() };
            let Answer::Range(range) = self.cluster.ask(user, Ask::Range(ask)).await.unwrap() else {
                panic!("no range")
            };
            from_seq += range.messages.len() as u64;
            all.extend(range.messages);
            if !range.more {
                return all;
            }
        }
    }

    /// Everything is as the oracle says.
    async fn check(&self, synced: &BTreeMap<u64, Vec<(u64, u64, u64)>>) {
        let members = self.oracle.lock().members.clone();
        let mut expected: BTreeMap<u64, BTreeSet<(u64, u64)>> = BTreeMap::new();
        let mut unread: BTreeMap<(u64, u64), u64> = BTreeMap::new();
        for (id, of) in &members {
            let one = of.iter().next().copied().unwrap();
            let messages = self.messages(one, *id).await;
            let seqs: Vec<u64> = messages.iter().map(|m| m.seq).collect();
            assert_eq!(
                seqs,
                (1..=messages.len() as u64).collect::<Vec<_>>(),
                "conversation {id} without holes"
            );
            let oracle = self.oracle.lock();
            let mut counters: BTreeMap<u64, u64> = BTreeMap::new();
            for message in messages.iter().filter(|m| m.kind() != MessageKind::Change) {
                let acked = oracle.acked.get(&(*id, message.seq));
                assert_eq!(acked, Some(&(message.sender, message.body.clone())), "{message:?}");
                let last = counters.insert(message.sender, message.counter).unwrap_or(0);
                assert_eq!(message.counter, last + 1, "each once, in its sender's order");
            }
            let here = oracle.acked.range((*id, 0)..=(*id, u64::MAX)).count();
            assert_eq!(here, messages.iter().filter(|m| m.kind() != MessageKind::Change).count());
            for user in of {
                expected.entry(*user).or_default().extend(seqs.iter().map(|seq| (*id, *seq)));
                let read = oracle.read.get(&(*user, *id)).copied().unwrap_or(0);
                let counts =
                    |m: &&ChatMessage| m.seq > read && m.sender != *user && m.kind() != MessageKind::Change;
                unread.insert((*user, *id), messages.iter().filter(counts).count() as u64);
            }
        }
        for user in 1..=USERS {
            let (entries, _, total) = self.cluster.sync(user, 1).await;
            let has: Vec<(u64, u64)> = entries.iter().map(|e| (e.1, e.2)).collect();
            let once: BTreeSet<(u64, u64)> = has.iter().copied().collect();
            assert_eq!(has.len(), once.len(), "user {user} has each once");
            assert_eq!(once, expected[&user], "timeline of user {user}");
            for id in members.keys() {
                let seqs: Vec<u64> = has.iter().filter(|e| e.0 == *id).map(|e| e.1).collect();
                assert!(seqs.is_sorted(), "user {user} in {id}: {seqs:?}");
            }
            assert_eq!(synced[&user], entries, "what the device of user {user} got bit by bit");
            // Whatever was pushed is what is stored, under the same cursor.
            let stored: BTreeSet<(u64, u64, u64)> = entries.into_iter().collect();
            let got = self.cluster.door.got.lock().get(&(user * 100 + 1, 1)).cloned().unwrap_or_default();
            for (target, conversation, seq, _) in got.entries {
                assert!(stored.contains(&(target.cursor, conversation, seq)), "pushed to user {user}");
            }
            let list = Ask::Conversations(ConversationsRequest { limit: 200, ..Default::default() });
            let Answer::Conversations(list) = self.cluster.ask(user, list).await.unwrap() else {
                panic!("no list")
            };
            for view in &list.conversations {
                assert_eq!(view.unread, unread[&(user, view.conversation)], "user {user}: {view:?}");
            }
            let sum: u64 = unread.iter().filter(|((u, _), _)| *u == user).map(|(_, count)| count).sum();
            assert_eq!((total, list.unread_total), (sum, sum), "unread of user {user}");
        }
    }
}

/// What is done to the nodes while the crowd talks.
async fn chaos(cluster: &Cluster) {
    let wait = |ms| tokio::time::sleep(Duration::from_millis(ms));
    cluster.trouble(20, 40);
    wait(400).await;
    cluster.kill(2).await;
    cluster.members(&[1, 3]);
    wait(500).await;
    cluster.start(4);
    cluster.members(&[1, 3, 4]);
    cluster.trouble(20, 40);
    wait(3_000).await;
    cluster.start(2);
    cluster.members(&[1, 2, 3, 4]);
    wait(700).await;
    // One is drained while another one dies.
    cluster.members(&[1, 2, 4]);
    let drained = cluster.node(3);
    tokio::join!(drained.drain(), async {
        cluster.kill(4).await;
        cluster.members(&[1, 2]);
    });
    cluster.stop(3).await;
    wait(300).await;
    cluster.start(3);
    cluster.members(&[1, 2, 3]);
    // One process is stopped for longer than its session lasts, and goes on.
    wait(500).await;
    cluster.with_node(1, |running| running.clock.jump(2_500));
    wait(300).await;
}

/// The seed, or `CHAT_SEED`, for a longer look by hand.
fn seed(usual: u64) -> u64 {
    std::env::var("CHAT_SEED").ok().and_then(|n| n.parse().ok()).unwrap_or(usual)
}

async fn talks(ground: Ground, usual: u64, count: u64) {
    let seed = seed(usual);
    let cluster = Cluster::of(ground, seed, &[1, 2, 3]).await;
    let crowd = Arc::new(Crowd {
        cluster: Arc::clone(&cluster),
        oracle: Mutex::default(),
        dice: Dice::new(seed),
        is_over: AtomicBool::new(false),
    });
    crowd.meet().await;
    let devices = join_all((1..=USERS).map(|user| {
        let crowd = Arc::clone(&crowd);
        async move { (user, crowd.device(user).await) }
    }));
    let talk = async {
        let all = (1..=USERS).map(|user| crowd.talk(user, count));
        tokio::join!(join_all(all), chaos(&cluster));
        cluster.trouble(0, 0);
        cluster.quiet().await;
        crowd.is_over.store(true, Ordering::SeqCst);
    };
    let (synced, ()) = tokio::join!(devices, talk);
    crowd.check(&synced.into_iter().collect()).await;
    assert!(cluster.post.carried.load(Ordering::SeqCst) > 0, "nodes have talked");
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_everything() {
    talks(Ground::memory(), 77, 60).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_everything_over_postgresql() {
    if let Some(ground) = Ground::postgres().await {
        talks(ground, 78, 40).await;
    }
}
