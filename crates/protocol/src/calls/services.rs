//! Which calls a process serves, or wants of another.

use super::{Accounts, Awards, ChatHost, ChatPeerHost, Draws, Histories};
use std::fmt;
use std::ops::BitOr;
use std::sync::Arc;

/// A set of services. The bits stand in greetings, frozen.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ServiceSet(u32);

impl ServiceSet {
    /// [`Draws`].
    pub const DRAWS: ServiceSet = ServiceSet(1);
    /// [`Awards`].
    pub const AWARDS: ServiceSet = ServiceSet(2);
    /// [`Accounts`].
    pub const ACCOUNTS: ServiceSet = ServiceSet(4);
    /// [`Histories`].
    pub const HISTORIES: ServiceSet = ServiceSet(8);
    /// [`Chat`](super::Chat), with pushes back. A connection that asks for it carries nothing else.
    pub const CHAT: ServiceSet = ServiceSet(16);

    /// [`ChatPeerHost`]: what chat nodes of a cluster say to each other.
    pub const CHAT_PEERS: ServiceSet = ServiceSet(32);

    const NAMES: [&'static str; 6] = ["draws", "awards", "accounts", "histories", "chat", "chat peers"];

    /// The bits.
    pub(super) const fn bits(self) -> u32 {
        self.0
    }

    /// The set of these bits, known or not.
    pub(super) const fn of_bits(bits: u32) -> ServiceSet {
        ServiceSet(bits)
    }

    /// What is in this set and not in the other.
    pub const fn without(self, other: ServiceSet) -> ServiceSet {
        ServiceSet(self.0 & !other.0)
    }

    /// Whether everything of the other set is in this one.
    pub const fn contains(self, other: ServiceSet) -> bool {
        other.0 & !self.0 == 0
    }

    /// Nothing.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl BitOr for ServiceSet {
    type Output = ServiceSet;

    fn bitor(self, other: ServiceSet) -> ServiceSet {
        ServiceSet(self.0 | other.0)
    }
}

impl fmt::Display for ServiceSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (i, name) in Self::NAMES.iter().enumerate().filter(|(i, _)| self.0 & 1 << i != 0) {
            write!(f, "{separator}{name}")?;
            (separator, _) = (", ", i);
        }
        match self.0 >> Self::NAMES.len() {
            0 => Ok(()),
            unknown => write!(f, "{separator}services nobody here knows ({unknown:#b})"),
        }
    }
}

/// What a process serves to others: whatever it has.
#[derive(Clone, Default)]
pub struct Served {
    /// A lottery node.
    pub draws: Option<Arc<dyn Draws>>,
    /// Flow.
    pub awards: Option<Arc<dyn Awards>>,
    /// Delivery.
    pub accounts: Option<Arc<dyn Accounts>>,
    /// Flow's memory of wins.
    pub histories: Option<Arc<dyn Histories>>,
    /// A chat node.
    pub chat: Option<Arc<dyn ChatHost>>,
    /// A chat node that has others beside it.
    pub chat_peers: Option<Arc<dyn ChatPeerHost>>,
}

impl Served {
    /// Which of them are there.
    pub fn set(&self) -> ServiceSet {
        let there = |is: bool, service| if is { service } else { ServiceSet::default() };
        there(self.draws.is_some(), ServiceSet::DRAWS)
            | there(self.awards.is_some(), ServiceSet::AWARDS)
            | there(self.accounts.is_some(), ServiceSet::ACCOUNTS)
            | there(self.histories.is_some(), ServiceSet::HISTORIES)
            | there(self.chat.is_some(), ServiceSet::CHAT)
            | there(self.chat_peers.is_some(), ServiceSet::CHAT_PEERS)
    }
}
