//! What players do besides shaking: claim, look at their prizes, register accounts. Each errand is tried until it is
//! answered, within bounds.

use protocol::frame::{FrameKind, put_message};
use protocol::json;
use protocol::v1::{self, AwardState};

use super::answers::retry_of;
use super::links::{Asked, Kind, Turn};
use super::world::World;
use crate::http1::put_request;

/// An errand without an answer is tried again after so long, in ms.
const AGAIN_MS: u64 = 3_000;

/// And given up after so many times.
const TRIES_MAX: u32 = 40;

/// Looks and claims that one win may lead to.
const LOOKS_MAX: u32 = 3;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum What {
    Claim(String),
    Look(u32),
    Account(u32),
}

#[derive(Clone, Debug)]
pub(super) struct Errand {
    pub player: u32,
    pub what: What,
    tries: u32,
}

impl World {
    /// An errand that is due after `delay_ms`.
    pub(super) fn errand(&mut self, player: u32, what: What, delay_ms: u64) {
        // Places are not used again, so that a late answer can't meet another errand. Wins bound their number.
        let place = self.errands.len() as u32;
        self.errands.push(Some(Errand { player, what, tries: 0 }));
        self.errands_open += 1;
        self.errand_at(place, delay_ms);
    }

    fn errand_done(&mut self, place: u32) {
        if self.errands[place as usize].take().is_some() {
            self.errands_open -= 1;
        }
    }

    /// Registers with every vendor that the player has not been registered with.
    pub(super) fn register(&mut self, player: u32, spread_ms: u64) {
        if std::mem::replace(&mut self.players[player as usize].registered, true) {
            return;
        }
        for vendor in self.config.vendors.clone() {
            let delay_ms = if spread_ms == 0 { 0 } else { self.random() % spread_ms };
            self.errand(player, What::Account(vendor), delay_ms);
        }
    }

    /// What a win leads to.
    pub(super) fn after_win(&mut self, player: u32, award: &v1::Award) {
        let claimable = award.state == AwardState::Claimable as i32;
        if claimable && self.random() % 1000 < u64::from(self.config.claim_permille) {
            let delay_ms = self.random() % (2 * self.config.claim_delay_ms).max(1);
            self.errand(player, What::Claim(award.award.clone()), delay_ms);
        }
        if self.random() % 1000 < u64::from(self.config.look_permille) {
            let delay_ms = self.random() % (2 * self.config.look_delay_ms).max(1);
            self.errand(player, What::Look(0), delay_ms);
        }
    }

    /// An errand is due: sends it if its connection is there; looks again later in any case.
    pub(super) fn run_errand(&mut self, place: u32) {
        let Some(errand) = &mut self.errands[place as usize] else { return };
        let link = self.players[errand.player as usize].link as usize;
        if self.links[link].is_open() {
            errand.tries += 1;
            if errand.tries > TRIES_MAX {
                self.counts.errands_failed += 1;
                self.errand_done(place);
                return;
            }
            if self.links[link].kind == Kind::Http {
                self.links[link].turns.push_back(Turn::Errand(place));
                self.next_turn(link);
            } else {
                self.send_errand(link, place);
                self.dirty.push(link);
            }
        }
        self.errand_at(place, AGAIN_MS);
    }

    fn send_errand(&mut self, link: usize, place: u32) {
        let Some(errand) = self.errands[place as usize].clone() else { return };
        let user = self.players[errand.player as usize].core.user();
        let link = &mut self.links[link];
        let id = link.ask(Asked::Errand(place));
        let Some(wire) = &mut link.wire else { return };
        match errand.what {
            What::Claim(award) => {
                put_message(&mut wire.out, FrameKind::Claim, id, &v1::Claim { user, award })
            }
            What::Look(_) => {
                let request = v1::PrizesRequest { user, after: String::new(), limit: 200 };
                put_message(&mut wire.out, FrameKind::Prizes, id, &request);
            }
            What::Account(vendor) => {
                let account = v1::Account { user, vendor, account: account_of(user, vendor) };
                put_message(&mut wire.out, FrameKind::Account, id, &account);
            }
        }
    }

    /// The HTTP request of an errand; false when it is done meanwhile.
    pub(super) fn put_errand(&self, place: u32, token: &str, out: &mut Vec<u8>) -> bool {
        let Some(errand) = &self.errands[place as usize] else { return false };
        let user = self.players[errand.player as usize].core.user();
        let mut body = Vec::new();
        let path = match &errand.what {
            What::Claim(award) => {
                json::write(&v1::Claim { user, award: award.clone() }, &mut body);
                "/v1/claim"
            }
            What::Look(_) => "/v1/prizes?limit=200",
            What::Account(vendor) => {
                let account = v1::Account { user, vendor: *vendor, account: account_of(user, *vendor) };
                json::write(&account, &mut body);
                "/v1/account"
            }
        };
        put_request(out, path, token, "application/json", &body);
        true
    }

    /// The player whose errand it is.
    pub(super) fn errand_player(&self, place: u32) -> Option<u32> {
        self.errands[place as usize].as_ref().map(|errand| errand.player)
    }

    pub(super) fn claim_answered(&mut self, place: u32, answer: &v1::ClaimAnswer) {
        let Some(errand) = self.errands[place as usize].clone() else { return };
        self.counts.claims += 1;
        let state = answer.award.as_ref().map(|award| award.state);
        self.errand_done(place);
        if state == Some(AwardState::NeedsAccount as i32) {
            self.register(errand.player, 0);
        }
    }

    pub(super) fn prizes_answered(&mut self, place: u32, answer: &v1::PrizesAnswer) {
        let Some(errand) = self.errands[place as usize].clone() else { return };
        self.counts.looks += 1;
        self.errand_done(place);
        let is = |state: AwardState| answer.awards.iter().any(|award| award.state == state as i32);
        if is(AwardState::NeedsAccount) {
            self.register(errand.player, 0);
        } else if let (What::Look(looks), true) =
            (errand.what, is(AwardState::Won) || is(AwardState::OnTheWay))
            && looks + 1 < LOOKS_MAX
        {
            // Whether it needs an account may not be known yet.
            let delay_ms = self.config.look_delay_ms.max(1);
            self.errand(errand.player, What::Look(looks + 1), delay_ms);
        }
    }

    pub(super) fn account_answered(&mut self, place: u32) {
        self.counts.accounts += 1;
        self.errand_done(place);
    }

    /// An error in place of an answer: tried again if that can help.
    pub(super) fn errand_error(&mut self, place: u32, error: &v1::Error) {
        if self.errands[place as usize].is_some() && retry_of(error).is_none() {
            // A claim may run ahead of the award's way into the award store.
            let early = error.code == protocol::error::Code::NotFound.word();
            if !early {
                self.counts.errands_failed += 1;
                self.errand_done(place);
            }
        }
    }
}

fn account_of(user: u64, vendor: u32) -> String {
    format!("player-{user}-at-{vendor}")
}
