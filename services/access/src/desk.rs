//! The work on a submit that all its forms share: checks, batch, lottery, answer.
//!
//! A worker has one desk. What one read brought is entered, then decided with one call to each lottery node; what can
//! be answered here never gets that far. Nothing in here allocates, locks or asks for the time per submit.

use std::sync::Arc;

use protocol::calls::{ConnectionAt, Inbox, SubmitCall, SubmitReply};
use protocol::error::Code;
use protocol::v1::{self, Outcome, Submit};

use crate::asked::Asked;
use crate::campaigns::{Campaigns, Standing};
use crate::chat_desk::ChatDesk;
use crate::counters::{Count, Counters};
use crate::gates::Word;
use crate::limits::{PLANS_SETTLE_MS, SHAKES_MAX};
use crate::load::LoadGauge;
use crate::negative::{Exhausted, NegativeCache};
use crate::requests::Request;
use crate::routes::Routes;
use crate::shared::Shared;
use crate::token::{TokenCache, TokenError, Verified};

/// A worker's desk.
pub(crate) struct Desk {
    pub shared: Arc<Shared>,
    pub worker: usize,
    pub campaigns: Campaigns,
    pub gauge: LoadGauge,
    /// Frames to send, of the connection that has its turn.
    pub out: Vec<u8>,
    /// Slow requests of the connection that has its turn, with their correlation ids.
    pub requests: Vec<(u32, Request)>,
    /// A login of the connection that has its turn, which the book of rates has to admit first.
    pub admission: Option<(u32, Box<v1::Login>, Word)>,
    /// What goes to chat.
    pub chat: ChatDesk,
    /// Address of the connection that has its turn, while it has not logged in.
    pub at: ConnectionAt,
    /// The connection that has its turn has just logged in.
    pub logged_in: Option<LoggedIn>,
    /// Of this turn: wall clock, monotonic.
    pub now_ms: u64,
    pub mono_ms: u64,
    routes: Arc<Routes>,
    routes_version: u64,
    asked: Asked,
    negative: NegativeCache,
    tokens: TokenCache,
    /// For each node the batch, and what it said at once.
    calls: Vec<Vec<SubmitCall>>,
    replies: Vec<SubmitReply>,
}

/// A good login, as the table of connections has to know it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct LoggedIn {
    /// As which device it chats, user first, if it does; (0, 0) as a gateway.
    pub chats: Option<(u64, u64)>,
    /// Second at which its token expires.
    pub expires_s: u64,
}

/// Where a submit went.
pub(crate) enum Entered {
    /// Into the batch.
    Queued,
    /// It is answered.
    Answered(SubmitReply),
    /// It makes no sense.
    Refused(v1::Error),
}

/// The part of a tag that is the caller's own.
pub(crate) fn tag_id(tag: u64) -> u32 {
    tag as u32
}

impl Desk {
    pub fn new(shared: Arc<Shared>, worker: usize, token_mark_key: (u64, u64)) -> Self {
        let routes_version = shared.routes.version();
        let routes = shared.routes.get();
        Self {
            worker,
            campaigns: Campaigns::read(&*shared.plans),
            gauge: LoadGauge::default(),
            out: Vec::new(),
            requests: Vec::new(),
            admission: None,
            chat: ChatDesk::default(),
            at: ConnectionAt::default(),
            logged_in: None,
            now_ms: shared.clock.now_ms(),
            mono_ms: shared.mono_ms(),
            calls: (0..routes.len()).map(|_| Vec::new()).collect(),
            routes,
            routes_version,
            asked: Asked::new(),
            negative: NegativeCache::new(shared.limits.negative_entries),
            tokens: TokenCache::new(shared.limits.token_entries as usize, token_mark_key),
            replies: Vec::new(),
            shared,
        }
    }

    pub fn counters(&self) -> &Counters {
        &self.shared.faces[self.worker].counters
    }

    /// For late answers to the connection at a place, which knocks at its worker.
    pub fn inbox<R>(&self, place: u32) -> Arc<Inbox<R>> {
        let mail = Arc::clone(&self.shared.faces[self.worker].mail);
        Arc::new(Inbox::with_bell(mail, place))
    }

    /// Starts a connection's turn: what time it is, and whether plans or routes are new.
    pub fn begin(&mut self) {
        self.now_ms = self.shared.clock.now_ms();
        self.mono_ms = self.shared.mono_ms();
        if self.campaigns.refresh(&*self.shared.plans) {
            self.asked.turn(self.mono_ms);
        }
        let version = self.shared.routes.version();
        if version != self.routes_version {
            self.routes_version = version;
            self.routes = self.shared.routes.get();
            self.calls = (0..self.routes.len()).map(|_| Vec::new()).collect();
        }
    }

    /// Proves a token, or remembers that it did.
    pub fn verify(&mut self, token: &str) -> Result<Verified, TokenError> {
        let now_s = self.now_ms / 1000;
        let version = self.shared.keys.version();
        let mark = self.tokens.mark(token.as_bytes());
        if let Some(verified) = self.tokens.get(mark, version, now_s) {
            return Ok(verified.clone());
        }
        let verified = self.shared.keys.keys().verify(token, now_s, self.shared.audience.as_deref())?;
        self.tokens.put(mark, version, verified.clone());
        Ok(verified)
    }

    /// Checks a submit of a proved user and takes it into the batch, if there is any use. `id` comes back in the
    /// low half of the reply's tag.
    #[inline]
    pub fn enter(&mut self, id: u32, user: u64, submit: &Submit) -> Entered {
        self.counters().add(Count::Submits, 1);
        if submit.counter == 0 || submit.shakes == 0 || submit.shakes > SHAKES_MAX {
            return self.refuse(submit);
        }
        let Some(campaign) = self.campaigns.get(submit.campaign) else {
            return self.end(user, submit, Outcome::UnknownCampaign, Count::Unknown, 0, 0);
        };
        match campaign.standing(user, submit.round, self.now_ms) {
            Standing::Open => {}
            Standing::NoRound => {
                return self.end(user, submit, Outcome::UnknownCampaign, Count::Unknown, 0, 0);
            }
            Standing::NotOpen(until_ms) => {
                let wait_ms = self.wait_ms(until_ms, campaign.submit_max_ms);
                return self.end(user, submit, Outcome::NotOpen, Count::NotOpen, wait_ms, until_ms);
            }
        }
        if let Some(known) = self.negative.get(user, submit.campaign, self.asked.plans(), self.now_ms) {
            let same = submit.round == known.round && submit.counter >= known.next_counter;
            if same || campaign.is_later(submit.round, known.round) {
                let until_ms = if known.until_ms == u64::MAX { 0 } else { known.until_ms };
                let wait_ms = self.wait_ms(until_ms, campaign.submit_max_ms);
                return self.end(user, submit, Outcome::LimitReached, Count::Exhausted, wait_ms, until_ms);
            }
        }
        let place = self.routes.place(user);
        let mark = self.asked.mark(submit.campaign, submit.round);
        self.calls[place].push(SubmitCall {
            tag: u64::from(mark) << 32 | u64::from(id),
            user,
            campaign: submit.campaign,
            round: submit.round,
            counter: submit.counter,
            shakes: submit.shakes,
            district: submit.district,
        });
        Entered::Queued
    }

    /// Has the batch decided, one call to each node; what is known at once goes to `each`, the rest comes through the
    /// inbox. Gives the number of calls made and of replies handed over.
    pub fn decide(
        &mut self,
        inbox: &Arc<Inbox>,
        mut each: impl FnMut(&mut Vec<u8>, SubmitReply),
    ) -> (u32, u32) {
        let (mut asked, mut said) = (0, 0);
        for place in 0..self.calls.len() {
            if self.calls[place].is_empty() {
                continue;
            }
            let mut calls = std::mem::take(&mut self.calls[place]);
            let mut replies = std::mem::take(&mut self.replies);
            self.routes.draws(place).submit(&calls, inbox, &mut replies);
            asked += calls.len() as u32;
            said += replies.len() as u32;
            for mut reply in replies.drain(..) {
                if let Some((campaign, round)) = self.asked.of((reply.tag >> 32) as u32) {
                    // In one process lottery has every plan before the front door.
                    self.learn(campaign, round, &reply);
                    self.stretch(campaign, &mut reply);
                }
                self.count(&reply);
                each(&mut self.out, reply);
            }
            calls.clear();
            // Same length as before: routes change only between turns.
            self.calls[place] = calls;
            self.replies = replies;
        }
        (asked, said)
    }

    /// Prepares a reply that came through an inbox.
    pub fn late(&mut self, reply: &mut SubmitReply) {
        if let Some((campaign, round)) = self.asked.of((reply.tag >> 32) as u32) {
            // Another process may have decided under plans that were older than the front door's.
            if self.asked.settled_ms(self.mono_ms) >= PLANS_SETTLE_MS {
                self.learn(campaign, round, reply);
            }
            self.stretch(campaign, reply);
        }
        self.count(reply);
    }

    fn refuse(&self, submit: &Submit) -> Entered {
        self.counters().add(Count::Invalid, 1);
        let text = if submit.counter == 0 {
            "counter is 0; the first draw of a round has counter 1".to_owned()
        } else {
            let shakes = submit.shakes;
            format!("shakes is {shakes}; one submit brings 1 to {SHAKES_MAX}")
        };
        Entered::Refused(Code::Invalid.message(text))
    }

    fn end(
        &self,
        user: u64,
        submit: &Submit,
        outcome: Outcome,
        count: Count,
        next_submit_ms: u32,
        until_ms: u64,
    ) -> Entered {
        self.counters().add(count, 1);
        let (counter, next_counter) = (submit.counter, submit.counter);
        let tag = 0;
        Entered::Answered(SubmitReply {
            tag,
            user,
            counter,
            next_counter,
            outcome,
            next_submit_ms,
            until_ms,
            award: None,
        })
    }

    /// The wait until an instant; where there is none, the longest interval.
    fn wait_ms(&self, until_ms: u64, otherwise_ms: u32) -> u32 {
        if until_ms == 0 {
            return otherwise_ms;
        }
        u32::try_from(until_ms.saturating_sub(self.now_ms)).unwrap_or(u32::MAX)
    }

    #[inline]
    fn learn(&mut self, campaign: u32, round: u32, reply: &SubmitReply) {
        if reply.outcome != Outcome::LimitReached {
            return;
        }
        self.negative.put(Exhausted {
            user: reply.user,
            until_ms: if reply.until_ms == 0 { u64::MAX } else { reply.until_ms },
            campaign,
            round,
            next_counter: reply.next_counter,
            plans: self.asked.plans(),
        });
    }

    /// Under load clients are asked to come less often. An instant that lottery computed is left alone.
    #[inline]
    fn stretch(&self, campaign: u32, reply: &mut SubmitReply) {
        let stretched = matches!(
            reply.outcome,
            Outcome::Lost | Outcome::Won | Outcome::Busy | Outcome::Unavailable | Outcome::BadCounter
        );
        if let (true, Some(campaign)) = (stretched, self.campaigns.get(campaign)) {
            let (min_ms, max_ms) = (campaign.submit_min_ms, campaign.submit_max_ms);
            reply.next_submit_ms = self.gauge.interval_ms(reply.next_submit_ms, min_ms, max_ms);
        }
    }

    #[inline]
    fn count(&self, reply: &SubmitReply) {
        let counters = self.counters();
        match reply.outcome {
            Outcome::Lost => counters.add(Count::Draws, 1),
            Outcome::Won => {
                counters.add(Count::Draws, 1);
                counters.add(Count::Wins, 1);
            }
            _ => counters.add(Count::NoDraw, 1),
        }
    }
}

#[cfg(test)]
mod tests;
