//! Players on bad networks: they resend what was not answered, under the same counter, and write down what they hear.

use crate::plan::{CAMPAIGN, CASH_VENDOR, DISTRICTS, TERM_MS, VOUCHER_VENDOR};
use crate::records::Told;
use crate::single::NodeStep;
use crate::world::{Event, World};
use campaign::{AwardId, Fen, PrizeId, RoundId, UserId};
use protocol::calls::{SubmitCall, SubmitReply};
use protocol::v1::{AwardState, Outcome};
use std::collections::BTreeMap;
use testkit::SimRng;

/// How long a player waits for an answer before asking again, ms.
const PATIENCE_MS: u64 = 400;

/// A player.
pub(crate) struct Player {
    pub user: UserId,
    /// Where he is, as his app says.
    pub district: u32,
    round: u32,
    /// The draw that is made next, or that has no answer yet.
    counter: u32,
    /// Rises with each thing that he waits for, so that old alarms are known.
    wait: u64,
    /// Nothing to be won in this round any more.
    limited: bool,
    /// Has an account at the vendors.
    pub registered: bool,
    /// Awards that he has heard of.
    heard: BTreeMap<AwardId, ()>,
    /// Awards that he has claimed and was told 'on its way'.
    pub claimed: BTreeMap<AwardId, u64>,
}

/// Something at a player's.
pub(crate) enum PlayerStep {
    /// Makes the next draw, or asks again.
    Enter,
    /// Looks whether an answer has come.
    Impatient(u64),
    /// Hears an answer.
    Hear(Box<SubmitReply>),
    /// Claims an award.
    Claim(AwardId),
    /// Gets an account at the vendors.
    Register,
}

impl Player {
    pub fn new(rng: &mut SimRng) -> Player {
        Player {
            user: UserId(1 + rng.next_u64() % 1_000_000_007),
            district: rng.below(DISTRICTS) as u32,
            round: 0,
            counter: 1,
            wait: 0,
            limited: false,
            registered: !rng.one_in(7),
            heard: BTreeMap::new(),
            claimed: BTreeMap::new(),
        }
    }
}

impl World {
    pub fn player_step(&mut self, i: usize, step: PlayerStep) {
        match step {
            PlayerStep::Enter => self.player_enters(i),
            PlayerStep::Impatient(wait) => {
                if self.players[i].wait == wait {
                    self.player_enters(i);
                }
            }
            PlayerStep::Hear(reply) => self.player_hears(i, &reply),
            PlayerStep::Claim(award) => self.player_claims(i, award),
            PlayerStep::Register => self.player_registers(i),
        }
    }

    /// The next thing that the player does, after `in_ms`.
    fn player_waits(&mut self, i: usize, in_ms: u64) {
        self.players[i].wait += 1;
        let wait = self.players[i].wait;
        self.push(in_ms, Event::Player(i, PlayerStep::Impatient(wait)));
    }

    fn player_enters(&mut self, i: usize) {
        if self.draining {
            return;
        }
        let (plan, now_ms) = (self.plan(), self.now_ms());
        let Some(round) = plan.round_at(now_ms) else {
            if let Some(next) = plan.next_round(now_ms) {
                let wait = next.open_ms - now_ms + self.rng.below(500);
                self.player_waits(i, wait);
            }
            return;
        };
        let player = &mut self.players[i];
        if player.round != round.id.0 {
            (player.round, player.counter, player.limited) = (round.id.0, 1, false);
        }
        if player.limited {
            let wait = (round.close_ms - now_ms).min(1_500);
            return self.player_waits(i, wait);
        }
        let call = SubmitCall {
            tag: i as u64,
            user: player.user.0,
            campaign: CAMPAIGN.0,
            round: player.round,
            counter: player.counter,
            shakes: 3,
            district: player.district,
        };
        self.player_waits(i, PATIENCE_MS);
        let copies = if self.trouble(self.config.network_loss) { self.rng.below(3) } else { 1 };
        for _ in 0..copies {
            let wait = self.between(1, 40);
            if self.cluster.is_on() {
                self.cluster_takes(wait, call);
            } else if self.node.is_up() {
                self.push(wait, Event::Node(self.node.life, NodeStep::Takes(vec![call])));
            }
        }
    }

    fn player_hears(&mut self, i: usize, reply: &SubmitReply) {
        // The wire carries no round: an answer that took until the next one is not looked at. His draw stands.
        let player = &self.players[i];
        let (current, interval) = (reply.counter == player.counter, u64::from(reply.next_submit_ms));
        let early = self.plan().round(RoundId(player.round)).is_none_or(|r| self.now_ms() < r.open_ms + 50);
        match reply.outcome {
            Outcome::Won | Outcome::Lost => {
                if early {
                    return;
                }
                self.write_down(i, reply);
                if current {
                    self.players[i].counter = reply.next_counter.max(reply.counter + 1);
                    let wait = interval + self.rng.below(100);
                    self.player_waits(i, wait);
                }
            }
            Outcome::LimitReached if current => self.players[i].limited = true,
            Outcome::TooEarly | Outcome::Pending | Outcome::BadCounter | Outcome::Busy if current => {
                let wait = interval.clamp(20, 1_000) + self.rng.below(20);
                self.player_waits(i, wait);
            }
            _ => {}
        }
    }

    fn write_down(&mut self, i: usize, reply: &SubmitReply) {
        let (at_ms, round) = (self.now_ms(), RoundId(self.players[i].round));
        let user = UserId(reply.user);
        let mut told = Told { at_ms, user, round, counter: reply.counter, won: None };
        if reply.outcome == Outcome::Lost {
            self.counters.losses_told += 1;
            self.told.push(told);
            return;
        }
        let Some(award) = &reply.award else {
            return self.problem(format!("user {user} has won without an award"));
        };
        let Ok(id) = award.award.parse::<AwardId>() else {
            return self.problem(format!("user {user} was told of award {}, which is no id", award.award));
        };
        told.round = RoundId(award.round);
        told.won = Some((id, PrizeId(award.prize), Fen(award.fen)));
        self.note(format_args!("player {user} hears that draw {} won {id}", reply.counter));
        self.told.push(told);
        self.counters.wins_told += 1;
        let is_new = self.players[i].heard.insert(id, ()).is_none();
        if is_new && award.state == AwardState::Claimable as i32 && self.rng.below(10) < 8 {
            let wait = self.between(10, TERM_MS + 800);
            self.push(wait, Event::Player(i, PlayerStep::Claim(id)));
        }
    }

    fn player_claims(&mut self, i: usize, award: AwardId) {
        let user = self.players[i].user;
        match self.flow_claim(user, award) {
            Some(true) => {
                let now_ms = self.now_ms();
                self.note(format_args!("player {user} claims {award}"));
                self.players[i].claimed.entry(award).or_insert(now_ms);
                if self.rng.one_in(8) {
                    self.push(30, Event::Player(i, PlayerStep::Claim(award)));
                }
            }
            Some(false) => {}
            None => {
                let wait = self.between(50, 500);
                self.push(wait, Event::Player(i, PlayerStep::Claim(award)));
            }
        }
    }

    fn player_registers(&mut self, i: usize) {
        if std::mem::replace(&mut self.players[i].registered, true) {
            return;
        }
        let user = self.players[i].user;
        self.note(format_args!("player {user} registers an account"));
        for vendor in [CASH_VENDOR, VOUCHER_VENDOR] {
            self.account_registered(user, vendor);
        }
    }
}
