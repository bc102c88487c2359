//! The end of a run: networks heal, everybody hears everything, and unread counts are compared.

use protocol::v1;
use protocol::v1::chat_request::Ask;

use super::World;
use crate::LoadError;
use crate::chat::link::{Errand, Purpose, State};
use crate::chat::people;

impl World {
    /// Networks are good again; everybody connects once more and hears everything; then unread counts are compared.
    pub(super) fn settle(&mut self) -> Result<bool, LoadError> {
        self.healthy = true;
        let now_us = self.read_clock();
        for link in 0..self.links.len() {
            if self.links[link].state != State::Down {
                self.down(link, None);
            }
            self.links[link].reconnect = client::Reconnect::new(self.config.reconnect);
            // Not all in one instant.
            self.links[link].due_us = now_us + self.dice.below(500_000);
            self.links[link].wake_us = 0;
        }
        let end_us = now_us + self.config.grace_ms * 1_000;
        let members = self.members();
        let mut check_us = 0;
        while self.now_us < end_us {
            self.turn()?;
            if self.now_us < check_us {
                continue;
            }
            check_us = self.now_us + 100_000;
            let quiet = self.links.iter().all(|link| link.core.unsettled() == 0 && link.core.is_in_step());
            if quiet && members.iter().all(|(device, talk)| self.oracle.is_level(*device, *talk)) {
                return self.count_unread(end_us);
            }
        }
        Ok(false)
    }

    /// Asks one device of each user for his whole list.
    fn count_unread(&mut self, end_us: u64) -> Result<bool, LoadError> {
        let devices = self.config.devices as usize;
        for place in 0..self.config.users as usize {
            self.ask_list(place * devices, 0, 0);
        }
        while self.now_us < end_us && self.unread_done < self.config.users as usize {
            self.turn()?;
        }
        Ok(self.unread_done == self.config.users as usize)
    }

    fn ask_list(&mut self, link: usize, before_ms: u64, before_conversation: u64) {
        let page = v1::ConversationsRequest { before_ms, before_conversation, limit: 200 };
        let errand = Errand { request: Ask::Conversations(page), purpose: Purpose::Unread };
        self.links[link].errands.push_back(errand);
        self.links[link].wake_us = 0;
    }

    /// The conversations that each device must have been handed.
    pub(super) fn members(&self) -> Vec<(u32, u64)> {
        let devices = self.config.devices;
        let mut members = Vec::new();
        for group in &self.groups {
            for member in &group.members {
                members.extend((0..devices).map(|n| (member * devices + n, group.conversation)));
            }
        }
        for (link, at) in self.links.iter().enumerate() {
            let partner = people::partner(self.place(link), self.config.users);
            let talk = partner
                .and_then(|p| at.core.conversation_with(self.config.first_user + u64::from(p)))
                .or_else(|| {
                    // A device that never sent there knows the pair by the other devices.
                    let mine = link - link % devices as usize;
                    let user = self.config.first_user + u64::from(partner?);
                    let known = self.links[mine..mine + devices as usize].iter();
                    let others = partner? as usize * devices as usize;
                    let me = self.config.first_user + u64::from(self.place(link));
                    known.filter_map(|link| link.core.conversation_with(user)).next().or_else(|| {
                        let theirs = self.links[others..others + devices as usize].iter();
                        theirs.filter_map(|link| link.core.conversation_with(me)).next()
                    })
                });
            members.extend(talk.map(|talk| (link as u32, talk)));
        }
        members
    }

    /// A page of somebody's list, with unread counts.
    pub(super) fn unread(&mut self, at: usize, list: &v1::ConversationsAnswer) {
        let user = self.links[at].core.user();
        let mut counted = 0;
        for view in &list.conversations {
            self.oracle.read(user, view.conversation, view.read_seq);
            counted += self.oracle.unread(user, view.conversation, view.unread);
        }
        let sum = self.counted.entry(user).or_default();
        *sum += counted;
        let sum = *sum;
        match list.conversations.last().filter(|_| list.more) {
            Some(last) => self.ask_list(at, last.active_ms, last.conversation),
            None => {
                self.oracle.unread_total(user, list.unread_total, sum);
                self.unread_done += 1;
            }
        }
    }
}
