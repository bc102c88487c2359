//! Requests at the owner of a user's timeline about his own things: where he stands, friends, devices, whom he may see.
//!
//! Each answers nothing when the user's own part is not in memory: it is wanted then
//! ([`Timelines::wants`]), and whoever asked tries again when it has come; or never, when his bucket is another node's
//! ([`Timelines::owns`]).

use super::answers::Standing;
use super::timelines::Timelines;
use crate::core::{Friend, devices_answer, friends_page};
use hashring::bucket_of;
use protocol::v1::{DevicesAnswer, FriendsRequest};

/// Whom of some users another may see.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct MaySee {
    /// These: himself, and his friends.
    pub surely: Vec<u64>,
    /// Of these the ones who are in a group with him, which the store knows
    /// ([`acquainted`](crate::store::OwnedShelf::acquainted)).
    pub perhaps: Vec<u64>,
}

impl Timelines {
    /// Unread messages and large conversations of a user.
    pub fn standing(&mut self, user: u64, now_ms: u64) -> Option<Standing> {
        self.user(user, now_ms)?;
        let line = self.lines.get(&user)?;
        Some(Standing { unread: line.user.unread, large: line.large() })
    }

    /// A page of a user's friends, and whether there are more.
    pub fn friends(&mut self, user: u64, ask: &FriendsRequest, now_ms: u64) -> Option<(Vec<Friend>, bool)> {
        let person = &self.user(user, now_ms)?.loaded.as_ref()?.person;
        Some(friends_page(person, ask.after_user, ask.limit))
    }

    /// A user's devices.
    pub fn devices(&mut self, user: u64, now_ms: u64) -> Option<DevicesAnswer> {
        let user = self.user(user, now_ms)?;
        Some(devices_answer(&user.loaded.as_ref()?.person, &user.conns))
    }

    /// Whose presence a user may see.
    pub fn may_see(&mut self, user: u64, others: &[u64], now_ms: u64) -> Option<MaySee> {
        let person = &self.user(user, now_ms)?.loaded.as_ref()?.person;
        let is_sure =
            |other: &u64| *other == user || person.friend(*other).is_some_and(Friend::is_friend);
        let (surely, perhaps) = others.iter().copied().partition(is_sure);
        Some(MaySee { surely, perhaps })
    }

    /// Whether everything that was changed of a user's own part is durable. `term`: of his bucket, when it was changed;
    /// nothing: the bucket went meanwhile, and what was changed may have come to nothing.
    pub fn is_stored(&self, user: u64, term: u32) -> Option<bool> {
        (self.term(bucket_of(user).get()) == Some(term)).then(|| !self.is_storing(user))
    }
}
