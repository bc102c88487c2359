//! Who talks with whom: pairs of neighbours, groups of neighbours, and one large group of the first so many.

use protocol::v1;
use protocol::v1::chat_request::Ask;

/// Members that one request names at most.
const NAMED_MAX: usize = 200;

/// A group to be made: by its first member, the rest in further requests.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    /// Places of its members, from 0.
    pub members: Vec<u32>,
    /// Its conversation, once it is made.
    pub conversation: u64,
    /// Members named so far.
    pub named: usize,
}

impl Group {
    pub fn new(members: Vec<u32>) -> Self {
        Self { members, conversation: 0, named: 0 }
    }

    /// The next request of its making; `None`: it is made. `request`: the maker's own number for it.
    pub fn next(&self, first_user: u64, request: u64) -> Option<Ask> {
        let from = self.named.max(1);
        let users: Vec<u64> = self
            .members
            .iter()
            .skip(from)
            .take(NAMED_MAX)
            .map(|place| first_user + u64::from(*place))
            .collect();
        if self.conversation == 0 {
            let name = format!("group {request}");
            return Some(Ask::MakeGroup(v1::MakeGroup { name, members: users, request }));
        }
        let conversation = self.conversation;
        (!users.is_empty()).then_some(Ask::AddMembers(v1::AddMembers { conversation, users }))
    }

    /// A request was answered.
    pub fn made(&mut self, conversation: u64) {
        if self.conversation == 0 {
            self.conversation = conversation;
        }
        self.named = (self.named.max(1) + NAMED_MAX).min(self.members.len());
    }

    pub fn is_made(&self) -> bool {
        self.conversation != 0 && self.named >= self.members.len()
    }
}

/// Groups of `size` neighbours each, `count` of them, going round through `users`; then one of the first `large`.
pub(crate) fn groups(users: u32, count: u32, size: u32, large: u32) -> Vec<Group> {
    let size = size.min(users);
    let around = |n: u32| {
        (0..size).map(move |i| ((u64::from(n) * u64::from(size) + u64::from(i)) % u64::from(users)) as u32)
    };
    let mut groups: Vec<_> = (0..count).map(|n| Group::new(around(n).collect())).collect();
    if large > 0 {
        groups.push(Group::new((0..large.min(users)).collect()));
    }
    groups
}

/// The neighbour that a user talks with alone.
pub(crate) fn partner(place: u32, users: u32) -> Option<u32> {
    Some(place ^ 1).filter(|partner| *partner < users)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_made_in_steps() {
        let mut group = groups(500, 0, 0, 450).remove(0);
        let mut named = 1;
        while let Some(ask) = group.next(1_000, 7) {
            let users = match ask {
                Ask::MakeGroup(make) => make.members,
                Ask::AddMembers(add) => add.users,
                other => panic!("{other:?}"),
            };
            assert_eq!(users[0], 1_000 + named);
            named += users.len() as u64;
            group.made(55);
        }
        assert!(named == 450 && group.is_made() && group.conversation == 55);
        assert_eq!(groups(5, 2, 3, 0)[1].members, [3, 4, 0]);
        assert_eq!((partner(4, 6), partner(4, 5)), (Some(5), None));
    }
}
