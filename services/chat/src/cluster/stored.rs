//! What timelines need of their users' stored parts: who is to be read, what was read, and places that only the store knows.

use super::timelines::Timelines;
use crate::core::{StoredLink, StoredUser};
use hashring::bucket_of;

impl Timelines {
    /// A user's stored part could not be read: it is to be tried again.
    pub fn want(&mut self, user: u64) {
        if self.lines.contains_key(&user) {
            self.wanted.insert(user);
        }
    }

    /// Users whose stored part is to be read; whoever takes them reads them, each once, and brings them in with
    /// [`install`](Timelines::install).
    pub fn wants(&mut self) -> Vec<u64> {
        let wanted = std::mem::take(&mut self.wanted);
        let (later, now): (Vec<u64>, Vec<u64>) = wanted.into_iter().partition(|u| self.is_left_alone(*u));
        self.wanted.extend(later);
        now
    }

    /// A user's stored part. `term`: of his bucket, when the reading began.
    pub fn install(&mut self, stored: StoredUser, term: u32, now_ms: u64) {
        let user = stored.id;
        if self.term(bucket_of(user).get()) != Some(term) {
            return;
        }
        self.unreadable.was_read(&user);
        let Some(line) = self.line(user, now_ms) else { return };
        line.install(stored);
        line.count_large();
        self.register(user, now_ms);
        self.rewatch(user);
        self.make_ready(user);
        self.doubt(user);
        self.telling.insert(user);
    }

    pub(super) fn doubt(&mut self, user: u64) {
        if self.lines.get(&user).is_some_and(|line| !line.doubts.is_empty()) {
            self.doubtful.insert(user);
        }
    }

    /// Places that only the store knows ([`OwnedShelf::links`](crate::store::OwnedShelf::links)): users, each with
    /// conversations and what [`resolve`](Timelines::resolve) is to be told of them. Whoever takes them reads them, and says
    /// what came of each.
    pub fn doubts(&mut self) -> Vec<(u64, Vec<(u64, u64)>)> {
        let mut doubts = Vec::new();
        for user in std::mem::take(&mut self.doubtful) {
            if self.is_left_alone(user) {
                self.doubtful.insert(user);
                continue;
            }
            let Some(line) = self.lines.get_mut(&user) else { continue };
            line.asked += 1;
            doubts.push((user, std::mem::take(&mut line.doubts).into_iter().collect()));
        }
        doubts
    }

    /// What the store says of places in doubt; `None` when it could not be read, and is to be read again. `term`: of the
    /// user's bucket, when the reading began.
    pub fn resolve(&mut self, user: u64, asked: &[(u64, u64)], found: Option<&[StoredLink]>, term: u32) {
        if self.term(bucket_of(user).get()) != Some(term) {
            return;
        }
        let Some(line) = self.lines.get_mut(&user) else { return };
        line.asked = line.asked.saturating_sub(1);
        match found {
            Some(found) => {
                line.resolve(asked, found);
                self.telling.insert(user);
            }
            None => line.doubts.extend(asked.iter().copied()),
        }
        self.doubt(user);
        self.rewatch(user);
    }
}
