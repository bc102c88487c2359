//! Steps in any order, late, twice, from owners and from others: the store in PostgreSQL says and holds what the store
//! in memory does.

use super::make::{Both, adds, author, entry, member, memory, postgres, walks};
use chat::core::{Fanned, Person, StoredConversation, StoredLink, StoredUser};
use chat::store::owned::{ConversationStep, Fence, LinkRow, Name, Step, TimelineStep};
use chat::store::owners::{BucketTerm, OwnerTick};
use hashring::bucket_of;
use testkit::SimRng;

const CONVERSATIONS: u64 = 4;
const USERS: u64 = 4;

struct Walk<'a> {
    memory: &'a Both,
    real: &'a Both,
    rng: SimRng,
    /// Before every id of this walk.
    base: u64,
    nodes: [(u16, u32); 2],
    cursor: u64,
    done: Vec<(Fence, Step)>,
}

impl Walk<'_> {
    fn conversation(&mut self) -> u64 {
        self.base + 1 + self.rng.below(CONVERSATIONS)
    }

    fn user(&mut self) -> u64 {
        self.base + 1_001 + self.rng.below(USERS)
    }

    fn ids(&self) -> (Vec<u64>, Vec<u64>) {
        let base = self.base;
        ((base + 1..=base + CONVERSATIONS).collect(), (base + 1_001..=base + 1_000 + USERS).collect())
    }

    /// Buckets change hands, now and then.
    async fn owners(&mut self) {
        let (node, epoch) = self.nodes[self.rng.below(2) as usize];
        let mut tick = OwnerTick { node, epoch, ..OwnerTick::default() };
        let (conversations, users) = self.ids();
        let rows = self.memory.book.buckets().await.unwrap();
        for id in conversations.into_iter().chain(users) {
            let bucket = bucket_of(id).get();
            let term = rows.iter().find(|row| row.bucket == bucket).map_or(0, |row| row.term);
            if self.rng.one_in(6) {
                tick.seals.push(BucketTerm { bucket, term });
            }
            tick.claims.push(BucketTerm { bucket, term });
        }
        let answers =
            (self.memory.book.tick(&tick).await.unwrap(), self.real.book.tick(&tick).await.unwrap());
        assert_eq!(answers.0, answers.1);
    }

    /// What a node believes that it owns; now and then more than it does.
    async fn fence(&mut self) -> Fence {
        let (node, epoch) = self.nodes[self.rng.below(2) as usize];
        let rows = self.memory.book.buckets().await.unwrap();
        let wrong = self.rng.one_in(5);
        let mine = rows.iter().filter(|row| wrong || row.owner == Some((node, epoch)));
        let terms = mine.map(|row| (row.bucket, row.term)).collect();
        let epoch = epoch + u32::from(self.rng.one_in(20));
        Fence { node, epoch, terms }
    }

    async fn conversation_step(&mut self, id: u64) -> ConversationStep {
        let there = self.memory.shelf.conversations(&[id]).await.unwrap().pop().unwrap_or_default();
        let (version, last) = (there.version, there.head.last_seq);
        let version = match self.rng.below(8) {
            0 => version,
            1 => version + 2,
            _ => version + 1,
        };
        let before = if self.rng.one_in(8) { last + 1 } else { last };
        let count = self.rng.below(4);
        let mut step = adds(id, version.max(1), before + 1..=before + count.max(1));
        if count == 0 {
            step.rows.messages.clear();
            step.rows.head.last_seq = before;
        }
        let user = self.user();
        let (read, own) = (self.rng.below(9), self.rng.below(9));
        step.rows.members.push(member(user, read));
        step.rows.authors = vec![author(user, own)];
        if self.rng.one_in(3) {
            step.rows.gone = vec![self.user(), 2];
        }
        if version <= 1 {
            let (low, high) = (self.base, self.base + self.rng.below(2));
            step.name = match self.rng.below(3) {
                0 => Some(Name::Pair { low, high }),
                1 => Some(Name::Made { user: low, device: 1, request: high }),
                _ => None,
            };
        }
        step.fanned = self.fanned();
        step
    }

    fn fanned(&mut self) -> Fanned {
        Fanned { version: self.rng.below(6), seq: self.rng.below(12) }
    }

    fn timeline_step(&mut self, user: u64) -> TimelineStep {
        let mut step = TimelineStep { user, stamp: 1 + self.rng.below(6), ..TimelineStep::default() };
        for _ in 0..self.rng.below(5) {
            self.cursor += 1 + self.rng.below(3);
            let (conversation, seq) = (self.conversation(), 1 + self.rng.below(20));
            step.entries.push(entry(self.cursor, conversation, seq));
        }
        for _ in 0..self.rng.below(3) {
            let (conversation, version) = (self.conversation(), 1 + self.rng.below(6));
            let (is_member, large) = (!self.rng.one_in(3), self.rng.one_in(4));
            step.links.push(LinkRow { conversation, version, member: is_member, large });
        }
        if self.rng.one_in(2) {
            step.person = Some(Person { name: format!("n{}", self.rng.below(99)), ..Person::default() });
        }
        step
    }

    async fn step(&mut self) -> (Fence, Step) {
        if self.rng.one_in(4) && !self.done.is_empty() {
            let at = self.rng.below(self.done.len() as u64) as usize;
            return self.done[at].clone();
        }
        let mut step = Step::default();
        let (conversations, users) = self.ids();
        for id in conversations {
            match self.rng.below(5) {
                0 | 1 => step.conversations.push(self.conversation_step(id).await),
                2 => step.fanned.push((id, self.fanned())),
                _ => {}
            }
        }
        for user in users {
            if self.rng.one_in(2) {
                step.timelines.push(self.timeline_step(user));
            }
        }
        let fence = self.fence().await;
        self.done.push((fence.clone(), step.clone()));
        (fence, step)
    }

    async fn holds(&self, both: &Both) -> String {
        let (conversations, users) = self.ids();
        let shelf = &both.shelf;
        let mut all: Vec<StoredConversation> = shelf.conversations(&conversations).await.unwrap();
        all.sort_by_key(|c| c.id);
        let mut people: Vec<StoredUser> = shelf.users(&users).await.unwrap();
        people.sort_by_key(|u| u.id);
        people.iter_mut().for_each(|u| u.links.sort_by_key(|l| l.conversation));
        let mut text = format!("{all:#?}\n{people:#?}\n");
        let mut persons = shelf.persons(&users).await.unwrap();
        persons.sort_by_key(|(user, _)| *user);
        text += &format!("{persons:?}\n");
        for user in &users {
            let mut listed = shelf.listed(*user, &conversations).await.unwrap();
            listed.sort_by_key(|l| l.link.conversation);
            text += &format!("{listed:?}\n{:?}\n", shelf.acquainted(*user, &users).await.unwrap());
        }
        for user in users {
            let mut links: Vec<StoredLink> = shelf.links(user, &conversations).await.unwrap();
            links.sort_by_key(|l| l.conversation);
            let entries = shelf.entries(user, 3, 50).await.unwrap();
            text += &format!("{user}: {links:#?}\n{entries:?}\n");
        }
        let buckets: Vec<u16> = conversations.iter().map(|id| bucket_of(*id).get()).collect();
        let behind: Vec<u64> = shelf.unfanned(&buckets, self.base, 3).await.unwrap();
        let mut heads = shelf.heads(&conversations).await.unwrap();
        heads.sort_by_key(|h| h.0);
        text += &format!("{behind:?} {heads:?}\n");
        for high in [self.base, self.base + 1] {
            let made = Name::Made { user: self.base, device: 1, request: high };
            let pair = Name::Pair { low: self.base, high };
            let names = (shelf.named(made).await.unwrap(), shelf.named(pair).await.unwrap());
            text += &format!("{names:?} {:?}\n", shelf.pairs(&[(self.base, high)]).await.unwrap());
        }
        for id in conversations {
            let messages = shelf.messages(id, 2, 30).await.unwrap();
            text += &format!("{:?}\n", messages.iter().map(|m| m.message_id).collect::<Vec<_>>());
        }
        text
    }
}

async fn walk(memory: &Both, real: &Both, seed: u64) {
    let nodes = [2 * seed as u16 + 1, 2 * seed as u16 + 2];
    let mut epochs = Vec::new();
    for node in nodes {
        let begun = memory.book.begin(node, 0).await.unwrap();
        assert_eq!(begun, real.book.begin(node, 0).await.unwrap());
        epochs.push((node, begun.epoch));
    }
    let mut walk = Walk {
        memory,
        real,
        rng: SimRng::new(seed),
        base: 10_000 * (seed + 1),
        nodes: [epochs[0], epochs[1]],
        cursor: 0,
        done: Vec::new(),
    };
    for turn in 0..60 {
        if turn % 8 == 0 {
            walk.owners().await;
        }
        let (fence, step) = walk.step().await;
        let one = memory.shelf.step(&fence, &step).await.unwrap();
        let other = real.shelf.step(&fence, &step).await.unwrap();
        assert_eq!(one, other, "seed {seed}, turn {turn}: {fence:?} {step:#?}");
        if turn % 15 == 14 {
            let (one, other) = (walk.holds(memory).await, walk.holds(real).await);
            let differs = one.lines().zip(other.lines()).position(|(one, other)| one != other);
            assert!(one == other, "seed {seed}, turn {turn}, line {differs:?} of\n{one}\nand of\n{other}");
        }
    }
    for (node, epoch) in epochs {
        for both in [memory, real] {
            both.book.end(node, epoch, ownership::EndReason::BySelf).await.unwrap();
        }
    }
}

#[tokio::test]
async fn both_stores_do_the_same() {
    let Some(real) = postgres().await else { return };
    let memory = memory();
    for seed in 0..walks(4) {
        walk(&memory, &real, seed).await;
    }
}
