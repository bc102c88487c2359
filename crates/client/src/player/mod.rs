//! One player's draws.
//!
//! Shakes add up until the interval that the last answer named is over; then one submit carries the sum. At most one
//! draw is under way. It is asked again under its own counter when its answer is late, its connection broke, or the
//! answer said so, and it is given up only when its round has been over for so long that nobody would answer. Answers
//! are told apart by the attempt that they belong to, so a late answer of an earlier draw changes nothing. An answer
//! that is not final counts only for the newest attempt: an older attempt's 'too early' says nothing about a newer
//! one that may just have been drawn.
//!
//! All times are ms UTC by the server's clock and are handed in.

use protocol::v1::{Outcome, Submit, SubmitAnswer};

use crate::Schedule;

/// Most shakes that one submit carries; the server takes no more. The rest waits for the next.
pub const SUBMIT_SHAKES_MAX: u32 = 12_000;

/// Wins that a player remembers to recognise a repeated answer. Answers are repeated within minutes, and nobody wins
/// so often in that time.
const WINS_KEPT: usize = 1_024;

/// Length of an award id.
const AWARD_BYTES: usize = 26;

/// How patient a player is. All times in ms.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PlayerRules {
    /// An answer that takes longer is taken for lost, and the draw is asked again.
    pub answer_ms: u32,
    /// Each resend of a draw waits twice as long as the one before, up to this.
    pub answer_max_ms: u32,
    /// No resend follows an answer faster than this, whatever the answer names.
    pub retry_min_ms: u32,
    /// A draw is given up when its round has been over for so long.
    pub give_up_ms: u32,
}

impl Default for PlayerRules {
    fn default() -> Self {
        Self { answer_ms: 3_000, answer_max_ms: 12_000, retry_min_ms: 200, give_up_ms: 60_000 }
    }
}

/// A submit to send.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Outgoing {
    /// The message.
    pub submit: Submit,
    /// Number of the attempt: hand it back with the answer.
    pub attempt: u32,
    /// Whether the same draw was asked before.
    pub resend: bool,
}

/// What an answer meant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Heard {
    /// The draw under way is over and lost.
    Lost,
    /// A win that had not been heard before. `settled` says whether it was the draw under way.
    Won {
        /// False for a late answer to an earlier draw.
        settled: bool,
    },
    /// A win that had been heard before.
    KnownWin,
    /// The draw goes on: it will be asked again.
    Later(Outcome),
    /// It was no entry; the shakes go into the next submit.
    NoEntry(Outcome),
    /// Nothing more to win for now; the player is silent until then.
    Silent(Outcome),
    /// An answer to something that is over.
    Stale,
    /// An answer that makes no sense; the draw will be asked again.
    Nonsense,
    /// The request was refused for good; the player is silent until the round is over.
    Refused,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// No draw under way; `due_ms`: no submit before.
    Idle,
    /// A draw to be asked (again) at `due_ms`.
    Ask,
    /// A draw whose answer is awaited until `due_ms`.
    Sent,
}

/// One player in one campaign.
#[derive(Clone, Debug)]
pub struct Player {
    user: u64,
    district: u32,
    round: u32,
    /// Of the round above.
    close_ms: u64,
    /// Of the draw under way, or of the next.
    counter: u32,
    waiting: u32,
    drawn: u32,
    attempt: u32,
    first_attempt: u32,
    phase: Phase,
    due_ms: u64,
    quiet_until_ms: u64,
    wins: Vec<[u8; AWARD_BYTES]>,
}

impl Player {
    /// A player who has not shaken yet.
    pub fn new(user: u64, district: u32) -> Self {
        Self {
            user,
            district,
            round: 0,
            close_ms: 0,
            counter: 1,
            waiting: 0,
            drawn: 0,
            attempt: 0,
            first_attempt: 0,
            phase: Phase::Idle,
            due_ms: 0,
            quiet_until_ms: 0,
            wins: Vec::new(),
        }
    }

    /// Who it is.
    pub fn user(&self) -> u64 {
        self.user
    }

    /// Shakes that have not been submitted yet.
    pub fn waiting_shakes(&self) -> u32 {
        self.waiting
    }

    /// Shakes of the draw under way; 0: none is.
    pub fn drawn_shakes(&self) -> u32 {
        self.drawn
    }

    /// Round and counter of the draw under way.
    pub fn draw(&self) -> Option<(u32, u32)> {
        (self.phase != Phase::Idle).then_some((self.round, self.counter))
    }

    /// Adds shakes. Beyond what a submit may carry they are not counted.
    pub fn on_shake(&mut self, shakes: u32) {
        self.waiting = self.waiting.saturating_add(shakes).min(SUBMIT_SHAKES_MAX);
    }

    /// The submit that is due, if one is. It counts as sent.
    pub fn poll(&mut self, now_ms: u64, schedule: &Schedule, rules: &PlayerRules) -> Option<Outgoing> {
        if now_ms < self.due_ms {
            return None;
        }
        if self.phase != Phase::Idle {
            if now_ms < self.close_ms.saturating_add(rules.give_up_ms.into()) {
                return Some(self.send(now_ms, schedule.campaign(), rules));
            }
            self.idle(now_ms, 0);
        }
        if self.waiting == 0 || now_ms < self.quiet_until_ms {
            return None;
        }
        let window = schedule.at(now_ms)?;
        if window.round != self.round {
            self.round = window.round;
            self.counter = 1;
        }
        self.close_ms = window.close_ms;
        self.drawn = std::mem::take(&mut self.waiting);
        self.first_attempt = self.attempt.wrapping_add(1);
        Some(self.send(now_ms, schedule.campaign(), rules))
    }

    /// When to poll next: the draw's next step, or the first instant at which a new one may begin. `None`: not
    /// before the schedule changes. Whether there are shakes is not asked.
    pub fn next_ms(&self, schedule: &Schedule) -> Option<u64> {
        match self.phase {
            Phase::Idle if self.quiet_until_ms == u64::MAX => None,
            Phase::Idle => schedule.next_start(self.due_ms.max(self.quiet_until_ms)),
            _ => Some(self.due_ms),
        }
    }

    fn send(&mut self, now_ms: u64, campaign: u32, rules: &PlayerRules) -> Outgoing {
        self.attempt = self.attempt.wrapping_add(1);
        let resends = self.attempt.wrapping_sub(self.first_attempt);
        let wait_ms = u64::from(rules.answer_ms) << resends.min(16);
        self.phase = Phase::Sent;
        self.due_ms = now_ms + wait_ms.min(rules.answer_max_ms.max(rules.answer_ms).into());
        let submit = Submit {
            user: self.user,
            campaign,
            round: self.round,
            counter: self.counter,
            shakes: self.drawn,
            district: self.district,
        };
        Outgoing { submit, attempt: self.attempt, resend: resends > 0 }
    }

    /// Takes the answer to an attempt.
    pub fn on_answer(
        &mut self,
        now_ms: u64,
        attempt: u32,
        answer: &SubmitAnswer,
        rules: &PlayerRules,
    ) -> Heard {
        let outcome = answer.outcome();
        let ours = self.is_under_way(attempt);
        match outcome {
            Outcome::Won => return self.won(now_ms, ours, answer, rules),
            Outcome::Lost if ours => {
                self.settle(now_ms, answer);
                return Heard::Lost;
            }
            _ => {}
        }
        if !ours || attempt != self.attempt {
            return Heard::Stale;
        }
        let pause_ms = now_ms + u64::from(answer.next_submit_ms.max(rules.retry_min_ms));
        match outcome {
            Outcome::Pending | Outcome::Busy | Outcome::Unavailable | Outcome::UnknownCampaign => {
                self.ask_again(pause_ms);
                Heard::Later(outcome)
            }
            Outcome::TooEarly => {
                self.not_entered(now_ms + u64::from(answer.next_submit_ms));
                Heard::NoEntry(outcome)
            }
            Outcome::BadCounter => {
                self.counter = answer.next_counter.max(1);
                self.not_entered(pause_ms);
                Heard::NoEntry(outcome)
            }
            Outcome::NotOpen if answer.until_ms != 0 && answer.until_ms < self.close_ms => {
                self.not_entered(answer.until_ms.max(now_ms + u64::from(rules.retry_min_ms)));
                Heard::NoEntry(outcome)
            }
            Outcome::NotOpen => {
                let until_ms = if answer.until_ms == 0 { self.close_ms } else { answer.until_ms };
                self.not_entered(pause_ms);
                self.quiet_until_ms = until_ms;
                Heard::Silent(outcome)
            }
            Outcome::LimitReached => {
                self.idle(now_ms + u64::from(rules.retry_min_ms), 0);
                self.waiting = 0;
                self.quiet_until_ms = if answer.until_ms == 0 { u64::MAX } else { answer.until_ms };
                Heard::Silent(outcome)
            }
            Outcome::Unspecified | Outcome::Lost | Outcome::Won => {
                self.ask_again(pause_ms);
                Heard::Nonsense
            }
        }
    }

    /// Takes an error in place of an answer. `retry_ms`: when the same may be asked again; `None`: never.
    pub fn on_error(
        &mut self,
        now_ms: u64,
        attempt: u32,
        retry_ms: Option<u32>,
        rules: &PlayerRules,
    ) -> Heard {
        if !self.is_under_way(attempt) || attempt != self.attempt {
            return Heard::Stale;
        }
        match retry_ms {
            Some(retry_ms) => {
                self.ask_again(now_ms + u64::from(retry_ms.max(rules.retry_min_ms)));
                Heard::Later(Outcome::Unspecified)
            }
            None => {
                self.idle(now_ms, 0);
                self.quiet_until_ms = self.close_ms;
                Heard::Refused
            }
        }
    }

    /// The answer is not waited for any longer; the draw is due again at once.
    pub fn on_timeout(&mut self, now_ms: u64) {
        if self.phase == Phase::Sent {
            self.ask_again(now_ms);
        }
    }

    /// The connection broke: what was under way is due again as soon as there is another.
    pub fn on_disconnect(&mut self, now_ms: u64) {
        self.on_timeout(now_ms);
    }

    fn is_under_way(&self, attempt: u32) -> bool {
        let behind_first = attempt.wrapping_sub(self.first_attempt);
        self.phase != Phase::Idle && behind_first <= self.attempt.wrapping_sub(self.first_attempt)
    }

    fn won(&mut self, now_ms: u64, ours: bool, answer: &SubmitAnswer, rules: &PlayerRules) -> Heard {
        let id = answer
            .award
            .as_ref()
            .and_then(|award| <[u8; AWARD_BYTES]>::try_from(award.award.as_bytes()).ok());
        let Some(id) = id else {
            if ours {
                self.ask_again(now_ms + u64::from(rules.retry_min_ms));
            }
            return Heard::Nonsense;
        };
        let known = self.wins.contains(&id);
        if !known {
            if self.wins.len() == WINS_KEPT {
                self.wins.remove(0);
            }
            self.wins.push(id);
        }
        if ours {
            self.settle(now_ms, answer);
        }
        if known { Heard::KnownWin } else { Heard::Won { settled: ours } }
    }

    /// The draw is over; the next has a higher counter.
    fn settle(&mut self, now_ms: u64, answer: &SubmitAnswer) {
        self.counter = self.counter.saturating_add(1).max(answer.next_counter);
        self.idle(now_ms + u64::from(answer.next_submit_ms), 0);
    }

    /// The draw was none; its shakes wait again.
    fn not_entered(&mut self, due_ms: u64) {
        self.idle(due_ms, self.drawn);
    }

    fn idle(&mut self, due_ms: u64, shakes_back: u32) {
        self.phase = Phase::Idle;
        self.due_ms = due_ms;
        self.drawn = 0;
        self.on_shake(shakes_back);
    }

    fn ask_again(&mut self, due_ms: u64) {
        self.phase = Phase::Ask;
        self.due_ms = due_ms;
    }
}

#[cfg(test)]
mod tests;
