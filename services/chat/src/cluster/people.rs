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
        let is_sure = |other: &u64| *other == user || person.friend(*other).is_some_and(Friend::is_friend);
        let (surely, perhaps) = others.iter().copied().partition(is_sure);
        Some(MaySee { surely, perhaps })
    }

    /// Whether everything that was changed of a user's own part is durable. `term`: of his bucket, when it was changed;
    /// nothing: the bucket went meanwhile, and what was changed may have come to nothing.
    pub fn is_stored(&self, user: u64, term: u32) -> Option<bool> {
        (self.term(bucket_of(user).get()) == Some(term)).then(|| !self.is_storing(user))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{Hand, HandKey, Place};
    use crate::core::{Head, Member, Person, Pushing, StoredLink, StoredUser};
    use crate::options::ChatOptions;
    use crate::store::owned::{Outcomes, TimelineOutcome};
    use prost::Message as _;
    use protocol::calls::{ConnectionAt, DeviceAt, PartKind};
    use protocol::v1::{FanOut, ReadAt};
    use std::sync::Arc;

    const USER: u64 = 3;
    const SMALL: u64 = 5;
    const LARGE: u64 = 20;

    fn link(conversation: u64, version: u64, last_seq: u64) -> StoredLink {
        let fan_out = if conversation == LARGE { FanOut::Read } else { FanOut::Write };
        let head = Head { last_seq, fan_out: fan_out as u32, ..Head::default() };
        let member = Member { user: USER, ..Member::default() };
        StoredLink { conversation, version, head, member, own: 0 }
    }

    /// The owner of a user with a device, whose step is stored.
    fn owner(person: Person) -> Timelines {
        let mut on = Timelines::new(ChatOptions::default(), 1, 1);
        on.own(bucket_of(USER).get(), 1);
        let at = ConnectionAt { access: 1, connection: 8 };
        assert!(on.arrive(DeviceAt { user: USER, device: 9, at }, 1_000));
        assert!(on.standing(USER, 1_000).is_none() && on.devices(USER, 1_000).is_none());
        assert_eq!(on.wants(), [USER]);
        let stored = StoredUser { id: USER, person, links: vec![link(SMALL, 4, 6), link(LARGE, 4, 10)] };
        on.install(stored, 1, 1_000);
        assert_eq!(on.is_stored(USER, 1), Some(false));
        let mut out = Pushing::default();
        let batch = on.batch(&mut out).unwrap();
        let outcomes =
            Outcomes { timelines: vec![TimelineOutcome::Added { new: vec![] }], ..Outcomes::default() };
        on.stepped(&batch, &outcomes, 1_000, &mut out);
        assert_eq!((on.is_stored(USER, 1), on.is_stored(USER, 2), out.targets()), (Some(true), None, 0));
        on
    }

    fn told(out: &mut Pushing) -> Vec<ReadAt> {
        let mut reads = Vec::new();
        for (_, batch) in out.take() {
            for part in batch.parts.iter().filter(|part| part.kind == PartKind::Read) {
                let bytes = &batch.bytes[part.bytes.start as usize..part.bytes.end as usize];
                reads.push(ReadAt::decode(bytes).unwrap());
            }
        }
        reads
    }

    #[test]
    fn devices_hear_of_a_reading_with_all_that_is_unread() {
        let mut on = owner(Person::default());
        let standing = on.standing(USER, 1_000).unwrap();
        assert_eq!((standing.unread, standing.large), (6, vec![LARGE]));
        let key = HandKey { node: 2, epoch: 1, term: 1, conversation: SMALL, version: 5, to_seq: 6 };
        let place = Place {
            user: USER,
            first_seq: 7,
            until_seq: 6,
            member: true,
            tell: true,
            unread: 2,
            read_seq: 4,
            ..Place::default()
        };
        let hand = Arc::new(Hand { key, large: false, messages: Vec::new(), places: vec![place] });
        on.receive(&hand, 1_100);
        let mut out = Pushing::default();
        assert!(on.batch(&mut out).is_none(), "nothing of it is stored");
        assert_eq!(on.acks().len(), 1);
        // Nobody says how a large conversation goes on: the store is asked, and asked again.
        assert!(told(&mut out).is_empty());
        let doubts = on.doubts();
        assert_eq!(doubts, [(USER, vec![(LARGE, 4)])]);
        on.resolve(USER, &doubts[0].1, None, 1);
        on.batch(&mut out);
        assert!(told(&mut out).is_empty());
        let doubts = on.doubts();
        on.resolve(USER, &doubts[0].1, Some(&[link(LARGE, 8, 17)]), 1);
        on.batch(&mut out);
        let read = ReadAt { conversation: SMALL, seq: 4, unread: 2, unread_total: 19 };
        assert_eq!(told(&mut out), [read]);
        on.batch(&mut out);
        assert!(told(&mut out).is_empty());
        // Handed again, since somebody may have heard it and told nobody: the same once more.
        on.receive(&hand, 1_200);
        on.batch(&mut out);
        let doubts = on.doubts();
        on.resolve(USER, &doubts[0].1, Some(&[link(LARGE, 8, 17)]), 1);
        on.batch(&mut out);
        assert_eq!(told(&mut out), [read]);
    }

    #[test]
    fn a_user_sees_himself_his_friends_and_perhaps_others() {
        let mut person = Person::default();
        for (user, asks, asked) in [(7, true, true), (8, true, false), (9, false, false)] {
            let friend = person.friend_mut(user, user);
            (friend.asks, friend.asked) = (asks, asked);
        }
        let mut on = owner(person);
        let see = on.may_see(USER, &[9, 8, 7, USER], 1_000).unwrap();
        assert_eq!((see.surely, see.perhaps), (vec![7, USER], vec![9, 8]));
        let (friends, more) = on.friends(USER, &FriendsRequest::default(), 1_000).unwrap();
        assert_eq!((friends.iter().map(|f| f.user).collect::<Vec<_>>(), more), (vec![7, 8], false));
        let devices = on.devices(USER, 1_000).unwrap().devices;
        assert_eq!((devices.len(), devices[0].device, devices[0].online), (1, 9, true));
    }
}
