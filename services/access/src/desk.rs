//! The work on a submit that all its forms share: checks, batch, lottery, answer.
//!
//! A worker has one desk. What one read brought is entered, then decided with one call to each lottery node; what can
//! be answered here never gets that far. Nothing in here allocates, locks or asks for the time per submit.

use std::sync::Arc;

use protocol::calls::{Inbox, SubmitCall, SubmitReply};
use protocol::error::Code;
use protocol::v1::{self, Outcome, Submit};

use crate::asked::Asked;
use crate::campaigns::{Campaigns, Standing};
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
mod tests {
    use super::*;
    use crate::campaigns::{PlanSource, tests::plan};
    use crate::shared::AccessDeps;
    use crate::token::{KeyCell, TokenKey, TokenKeys};
    use crate::{Limits, RouteTable, Routes};
    use campaign::plan::Plan;
    use campaign::{AwardId, SeqNo, UserId, VendorId};
    use hashring::Member;
    use parking_lot::Mutex;
    use protocol::calls::{Accounts, Awards, CallError, Draws};
    use runtime::{ManualClock, Metrics};
    use std::sync::atomic::{AtomicU64, Ordering};

    struct Node {
        outcome: Outcome,
        users: Mutex<Vec<u64>>,
    }

    impl Node {
        fn new(outcome: Outcome) -> Arc<Self> {
            Arc::new(Self { outcome, users: Mutex::default() })
        }
    }

    impl Draws for Node {
        fn submit(&self, calls: &[SubmitCall], _: &Arc<Inbox>, out: &mut Vec<SubmitReply>) {
            self.users.lock().extend(calls.iter().map(|call| call.user));
            out.extend(calls.iter().map(|call| SubmitReply {
                tag: call.tag,
                user: call.user,
                counter: call.counter,
                next_counter: call.counter,
                outcome: self.outcome,
                next_submit_ms: 100,
                until_ms: 0,
                award: None,
            }));
        }
    }

    struct Nobody;

    #[async_trait::async_trait]
    impl Awards for Nobody {
        async fn prizes(
            &self,
            _: UserId,
            _: Option<AwardId>,
            _: usize,
        ) -> Result<(Vec<v1::Award>, bool), CallError> {
            Err(CallError::Unavailable("nobody".into()))
        }

        async fn claim(&self, _: UserId, _: AwardId) -> Result<v1::Award, CallError> {
            Err(CallError::Unavailable("nobody".into()))
        }
    }

    #[async_trait::async_trait]
    impl Accounts for Nobody {
        async fn set_account(&self, _: UserId, _: VendorId, _: &str) -> Result<u64, CallError> {
            Err(CallError::Unavailable("nobody".into()))
        }
    }

    struct Swapped(AtomicU64, Mutex<Plan>);

    impl PlanSource for Swapped {
        fn version(&self) -> u64 {
            self.0.load(Ordering::Acquire)
        }

        fn plans(&self) -> Arc<Vec<Arc<Plan>>> {
            Arc::new(vec![Arc::new(self.1.lock().clone())])
        }
    }

    fn desk(routes: Arc<RouteTable>, plans: Arc<Swapped>) -> Desk {
        desk_at(ManualClock::new(1_100_000), routes, plans)
    }

    fn desk_at(clock: Arc<ManualClock>, routes: Arc<RouteTable>, plans: Arc<Swapped>) -> Desk {
        let keys = TokenKeys::new(vec![TokenKey::new("k", &[1; 32]).unwrap()]).unwrap();
        let deps = AccessDeps {
            clock,
            keys: KeyCell::new(keys),
            plans,
            routes,
            awards: Arc::new(Nobody),
            accounts: Arc::new(Nobody),
            metrics: Metrics::new(),
            extra: None,
        };
        Desk::new(Arc::new(Shared::new(deps, None, Limits::default(), 1, None)), 0, (1, 2))
    }

    fn submit(desk: &mut Desk, id: u32, user: u64) -> Option<SubmitReply> {
        let entry = Submit { campaign: 1, round: 1, counter: 1, shakes: 1, ..Submit::default() };
        match desk.enter(id, user, &entry) {
            Entered::Answered(reply) => Some(reply),
            Entered::Queued => None,
            Entered::Refused(error) => panic!("{error:?}"),
        }
    }

    fn decide(desk: &mut Desk) -> Vec<SubmitReply> {
        let mut said = Vec::new();
        desk.decide(&Arc::new(Inbox::new()), |_, reply| said.push(reply));
        said
    }

    #[test]
    fn each_user_goes_to_his_node_and_new_routes_count_from_the_next_turn() {
        let nodes = [Node::new(Outcome::Lost), Node::new(Outcome::Lost)];
        let ways =
            || nodes.iter().enumerate().map(|(i, node)| (i as u16, node.clone() as Arc<dyn Draws>)).collect();
        let members = [0, 1].map(|node| Member { node, weight: 1 });
        let table = RouteTable::new(Routes::of_members(&members, 1, ways()).unwrap());
        let mut desk = desk(table.clone(), Arc::new(Swapped(1.into(), Mutex::new(plan()))));
        desk.begin();
        for user in 1..=100 {
            assert!(submit(&mut desk, user as u32, 2 * user).is_none());
        }
        let said = decide(&mut desk);
        assert_eq!(said.len(), 100);
        assert!(said.iter().all(|reply| u64::from(tag_id(reply.tag)) * 2 == reply.user));
        let routes = table.get();
        for (number, node) in nodes.iter().enumerate() {
            let users = std::mem::take(&mut *node.users.lock());
            assert!(users.len() > 10 && users.iter().all(|user| routes.node_of(*user) == number as u16));
        }
        let members = [Member { node: 0, weight: 0 }, Member { node: 1, weight: 1 }];
        assert!(table.swap(Routes::of_members(&members, 2, ways()).unwrap()));
        desk.begin();
        for user in 1..=10 {
            submit(&mut desk, 0, 2 * user);
        }
        assert_eq!(decide(&mut desk).len(), 10);
        assert!(nodes[0].users.lock().is_empty() && nodes[1].users.lock().len() == 10);
    }

    #[test]
    fn a_newer_plan_gives_exhausted_users_a_chance_again() {
        let node = Node::new(Outcome::LimitReached);
        let plans = Arc::new(Swapped(1.into(), Mutex::new(plan())));
        let mut desk = desk(RouteTable::new(Routes::single(0, node.clone())), plans.clone());
        desk.begin();
        assert!(submit(&mut desk, 0, 2).is_none());
        assert_eq!(decide(&mut desk)[0].outcome, Outcome::LimitReached);
        assert_eq!(submit(&mut desk, 0, 2).map(|reply| reply.outcome), Some(Outcome::LimitReached));
        assert!(submit(&mut desk, 0, 4).is_none(), "another user");
        decide(&mut desk);
        plans.1.lock().seq_no = SeqNo(8);
        plans.0.store(2, Ordering::Release);
        desk.begin();
        assert!(submit(&mut desk, 0, 2).is_none());
        decide(&mut desk);
        assert_eq!(*node.users.lock(), [2, 4, 2]);
    }

    /// A node in another process: every reply comes late.
    struct Late(Outcome);

    impl Draws for Late {
        fn submit(&self, calls: &[SubmitCall], inbox: &Arc<Inbox>, _: &mut Vec<SubmitReply>) {
            let mut said = Vec::new();
            Node::new(self.0).submit(calls, inbox, &mut said);
            inbox.put_all(said);
        }
    }

    /// One submit of user 2, decided elsewhere.
    fn late(desk: &mut Desk) -> SubmitReply {
        assert!(submit(desk, 0, 2).is_none());
        let (inbox, mut said) = (Arc::new(Inbox::new()), Vec::new());
        assert_eq!(desk.decide(&inbox, |_, _| ()), (1, 0));
        assert!(inbox.take(&mut said, std::task::Waker::noop()));
        desk.late(&mut said[0]);
        said.remove(0)
    }

    #[test]
    fn what_another_process_says_is_learnt_once_its_plans_are_surely_ours() {
        let plans = Arc::new(Swapped(1.into(), Mutex::new(plan())));
        let clock = ManualClock::new(1_100_000);
        let routes = RouteTable::new(Routes::single(0, Arc::new(Late(Outcome::LimitReached))));
        let mut desk = desk_at(clock.clone(), routes, plans.clone());
        plans.0.store(2, Ordering::Release);
        desk.begin();
        late(&mut desk);
        late(&mut desk);
        clock.advance_ms(PLANS_SETTLE_MS);
        desk.begin();
        assert_eq!(late(&mut desk).outcome, Outcome::LimitReached);
        assert_eq!(submit(&mut desk, 0, 2).map(|reply| reply.outcome), Some(Outcome::LimitReached));
        // A grey plan came or went: the version says so, though no plan in force has another SeqNo.
        plans.0.store(3, Ordering::Release);
        desk.begin();
        late(&mut desk);
    }

    #[test]
    fn a_pending_draw_is_never_answered_from_what_is_known() {
        let plans = Arc::new(Swapped(1.into(), Mutex::new(plan())));
        let clock = ManualClock::new(1_100_000);
        let node = RouteTable::new(Routes::single(0, Arc::new(Late(Outcome::Pending))));
        let mut desk = desk_at(clock.clone(), node, plans);
        clock.advance_ms(PLANS_SETTLE_MS);
        desk.begin();
        for _ in 0..3 {
            let reply = late(&mut desk);
            assert_eq!((reply.outcome, reply.next_submit_ms), (Outcome::Pending, 100));
        }
    }

    #[test]
    fn load_stretches_what_comes_late_too() {
        let plans = Arc::new(Swapped(1.into(), Mutex::new(plan())));
        let node = RouteTable::new(Routes::single(0, Arc::new(Late(Outcome::Lost))));
        let mut desk = desk(node, plans);
        desk.gauge.observe(100, 100);
        assert_eq!(late(&mut desk).next_submit_ms, 3_000);
    }

    #[test]
    fn load_stretches_the_interval_of_those_who_will_come_back() {
        for (outcome, calm, loaded) in [(Outcome::Lost, 1_000, 3_000), (Outcome::TooEarly, 100, 100)] {
            let plans = Arc::new(Swapped(1.into(), Mutex::new(plan())));
            let mut desk = desk(RouteTable::new(Routes::single(0, Node::new(outcome))), plans);
            desk.begin();
            submit(&mut desk, 0, 2);
            assert_eq!(decide(&mut desk)[0].next_submit_ms, calm);
            desk.gauge.observe(100, 100);
            submit(&mut desk, 0, 2);
            assert_eq!(decide(&mut desk)[0].next_submit_ms, loaded);
        }
    }
}
