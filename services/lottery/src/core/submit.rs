//! A batch of entries through the core.

use super::arena::Seen;
use super::campaigns::{CampaignCore, Stretch, Terms};
use super::line::{Admission, Line, RoundRules};
use super::pool::Hit;
use super::shard::{NotNow, Shard};
use super::table::{place_hash, user_hash};
use super::wanted::Wanted;
use super::wins::{Win, Wins, kept};
use super::{BUCKETS, Core, Seat};
use campaign::{AwardId, Plan, RoundKeys, UserId};
use protocol::calls::{Inbox, SubmitCall, SubmitReply};
use protocol::v1::{Award, AwardState, Outcome};
use records::{SnapshotWin, Won};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Calls whose lines are fetched together.
const BATCH: usize = 32;

/// Calls of whose users all lines are fetched: as many as a core can ask for at once. Waiting for marks first pays where
/// there are more.
const FEW: usize = 8;

/// Least wait named with 'pending'.
const PENDING_MS: u32 = 50;

/// Least wait named when the bucket is on its way from one node to another, or still loading.
const ELSEWHERE_MS: u32 = 100;

/// Least wait named when the node is full.
const BUSY_MS: u32 = 1_000;

/// The time of a batch, and whether a win may be decided at it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Now {
    /// The ledger's time, ms UTC.
    pub ms: u64,
    /// The node's session is valid and its time is not in doubt.
    pub may_win: bool,
}

/// A winner who waits for his record to be safe.
pub struct Pending {
    /// Where the reply goes.
    pub inbox: Arc<Inbox>,
    /// What he will hear.
    pub reply: SubmitReply,
}

/// Why a win can't be taken into the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoWin {
    /// Too many winners wait: the draw loses.
    TooManyPending,
    /// No room on the disk: wins are refused until there is some.
    Full,
    /// The log has failed, or is closing.
    Gone,
}

/// Where wins go. Order: records are in the log in the order of the calls. Durability: `append` returns before
/// the record is durable; the reply is given to the winner's inbox when it is, and not before.
pub trait WinLog: Send + Sync {
    /// Takes the record; gives the position of its group. On an error nothing was taken.
    fn append(&self, won: &Won, pending: Pending) -> Result<u64, NoWin>;

    /// Wins of groups before this position may be told.
    fn acknowledged(&self) -> u64;
}

macro_rules! tally {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// Decisions, counted.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
        pub struct Tally { $($(#[$doc])* pub $name: u64),* }

        impl Tally {
            pub(super) fn add(&mut self, other: &Tally) {
                $(self.$name += other.$name;)*
            }
        }
    };
}

tally! {
    /// Entries for which a draw was made.
    draws,
    /// Draws that won.
    wins,
    /// Resends that got their stored answer.
    again,
    /// Entries before their interval was over.
    too_early,
    /// Entries outside a round.
    not_open,
    /// Entries of users who can win no more.
    limited,
    /// Counters that can't be.
    bad_counter,
    /// Entries that must be sent again: a bucket is loading, a node is full, the disk is full.
    put_off,
    /// Campaigns nobody knows.
    unknown,
}

/// What came of a draw.
enum Drawn {
    Lost,
    /// The record, and the position of its group.
    Won(Box<Won>, u64),
    /// The log takes no wins: the entry never was.
    Refused,
}

impl Drawn {
    /// Writes the outcome into the user's state and gives the reply, if there is one now.
    #[inline]
    fn settle(
        self,
        rules: &RoundRules,
        call: &SubmitCall,
        line: &mut Line,
        before: Line,
        wins: &mut Wins,
        tally: &mut Tally,
    ) -> Option<SubmitReply> {
        match self {
            Drawn::Lost => {
                tally.draws += 1;
                Some(reply(call, line.counter + 1, Outcome::Lost, rules.next_submit_ms(), 0))
            }
            Drawn::Won(won, position) => {
                tally.draws += 1;
                tally.wins += 1;
                wins.add(line, kept(&won), position);
                None
            }
            Drawn::Refused => {
                *line = before;
                tally.put_off += 1;
                Some(reply(call, call.counter, Outcome::Unavailable, BUSY_MS, 0))
            }
        }
    }
}

/// What entries of one campaign at one instant have in common.
struct Scope<'a> {
    campaign: &'a CampaignCore,
    /// What the user draws under: the active plan's terms, or those of a grey one.
    terms: &'a Terms,
    stretch: &'a Stretch,
}

impl Core {
    /// Decides a batch. Replies that can be given at once go to `out`; winners' go to the log, which puts them
    /// into `inbox` when they are safe.
    pub fn submit(&self, now: Now, calls: &[SubmitCall], inbox: &Arc<Inbox>, out: &mut Vec<SubmitReply>) {
        match calls.len() {
            0 | 1 => self.submit_at_once::<1>(now, calls, inbox, out),
            2..=FEW => self.submit_at_once::<FEW>(now, calls, inbox, out),
            _ => calls.chunks(BATCH).for_each(|c| self.submit_at_once::<BATCH>(now, c, inbox, out)),
        }
    }

    /// The same for up to `N` calls: first asks for their users' lines, then decides.
    #[inline]
    fn submit_at_once<const N: usize>(
        &self,
        now: Now,
        calls: &[SubmitCall],
        inbox: &Arc<Inbox>,
        out: &mut Vec<SubmitReply>,
    ) {
        let mut ahead = [(0, Seen::default()); N];
        let ahead = &mut ahead[..calls.len()];
        let by_marks = calls.len() > FEW;
        for ((hash, seen), call) in ahead.iter_mut().zip(calls) {
            *hash = user_hash(call.user);
            let (shard, bucket) = self.place(bucket_of(*hash));
            *seen = shard.sight.homes(bucket, place_hash(*hash, call.campaign));
            match by_marks {
                true => shard.sight.prefetch_marks(seen),
                false => shard.sight.prefetch_lines(seen),
            }
        }
        if by_marks {
            ahead.iter_mut().for_each(|(hash, seen)| self.place(bucket_of(*hash)).0.sight.look(seen));
        }
        out.reserve(calls.len());
        for ((hash, seen), call) in ahead.iter().zip(calls) {
            if let Some(reply) = self.decide(now, (*hash, seen), call, inbox) {
                out.push(reply);
            }
        }
    }

    #[inline]
    fn decide(
        &self,
        now: Now,
        (hash, seen): (u64, &Seen),
        call: &SubmitCall,
        inbox: &Arc<Inbox>,
    ) -> Option<SubmitReply> {
        let (shard, bucket) = self.place(bucket_of(hash));
        let mut seat = shard.seat.lock();
        let Seat { shard, campaigns, tally, wanted } = &mut *seat;
        let Some(campaign) = campaigns.get(call.campaign) else {
            tally.unknown += 1;
            return Some(reply(call, 1, Outcome::UnknownCampaign, 0, 0));
        };
        let terms = campaign.terms(call.user);
        let scope = &Scope { campaign, terms, stretch: terms.at(now.ms) };
        let (line, wins) = match shard.user_seen(bucket, seen, call.user, call.campaign) {
            Some(user) => user,
            None => match shard.user(bucket, place_hash(hash, call.campaign), call.user, call.campaign) {
                Ok(user) => user,
                Err(not_now) => {
                    tally.put_off += 1;
                    return Some(self.put_off(&terms.plan, call, not_now, (bucket, hash), shard, wanted));
                }
            },
        };
        let Some((index, rules)) = scope.stretch.round.as_ref().filter(|(_, r)| r.round == call.round) else {
            return Some(self.out_of_round(scope, now, call, line, wins, tally));
        };
        let before = *line;
        let refuse = |line: &Line, outcome, wait_ms, until_ms| {
            Some(reply(call, line.counter + 1, outcome, wait_ms, until_ms))
        };
        match rules.admit(line, call.counter, call.shakes, scope.stretch.day, now.ms) {
            Admission::Draw { tries } => {
                let drawn = self.draw(scope, (*index, rules), now, call, tries, inbox);
                drawn.settle(rules, call, line, before, wins, tally)
            }
            Admission::Again => {
                tally.again += 1;
                let stored = wins.find(line, call.round, call.counter);
                Some(self.stored(&scope.terms.plan, Some(rules), call, line.counter + 1, stored))
            }
            Admission::TooEarly(wait) => {
                tally.too_early += 1;
                refuse(line, Outcome::TooEarly, wait, 0)
            }
            Admission::NotOpen(at) => {
                tally.not_open += 1;
                refuse(line, Outcome::NotOpen, rules.next_submit_ms(), at)
            }
            Admission::Limited(until) => {
                tally.limited += 1;
                refuse(line, Outcome::LimitReached, rules.next_submit_ms(), until)
            }
            Admission::BadCounter => {
                tally.bad_counter += 1;
                refuse(line, Outcome::BadCounter, rules.next_submit_ms(), 0)
            }
        }
    }

    /// The answer to a user who can't draw here now. What he has won in a bucket that is being given up is still told.
    #[cold]
    fn put_off(
        &self,
        plan: &Plan,
        call: &SubmitCall,
        why: NotNow,
        (bucket, hash): (usize, u64),
        shard: &Shard,
        wanted: &mut Wanted,
    ) -> SubmitReply {
        if why == NotNow::Wanted {
            wanted.add(bucket_of(hash) as u16, shard.term(bucket), call.user, call.campaign);
            self.wants.store(true, Ordering::Relaxed);
        }
        let held = shard.held(bucket, place_hash(hash, call.campaign), call.user, call.campaign);
        if let Some((line, wins)) = held
            && let Some(win) = wins.find(line, call.round, call.counter)
        {
            let next = if line.round == call.round { line.counter + 1 } else { call.counter + 1 };
            return self.stored(plan, None, call, next, Some(win));
        }
        let (outcome, wait_ms) = match why {
            NotNow::Crowded => (Outcome::Busy, BUSY_MS),
            NotNow::Pending => (Outcome::Pending, ELSEWHERE_MS),
            NotNow::Wanted => (Outcome::Pending, PENDING_MS),
        };
        reply(call, call.counter, outcome, wait_ms, 0)
    }

    /// Draws for an entry that was admitted. A hit is in the log when this returns.
    #[inline]
    fn draw(
        &self,
        scope: &Scope<'_>,
        (index, rules): (usize, &RoundRules),
        now: Now,
        call: &SubmitCall,
        tries: u32,
        inbox: &Arc<Inbox>,
    ) -> Drawn {
        let pool = &scope.campaign.round_by_index(index).pool;
        if !now.may_win {
            return Drawn::Lost;
        }
        let picks = scope.terms.picks(index);
        let barred = picks.barred(scope.terms.places(), call.district);
        let may_hit = match barred {
            0 => {
                pool.came(now.ms);
                pool.may_hit(now.ms)
            }
            _ => pool.came_barred(picks, barred, now.ms),
        };
        if !may_hit {
            return Drawn::Lost;
        }
        let mut refused = None;
        let pick = |keys: &RoundKeys, try_no| keys.pick(UserId(call.user), call.counter, try_no);
        let won = pool.draw((picks, barred), pick, tries, now.ms, |hit| {
            let won = self.won(scope, now, call, hit);
            let reply = self.winning_reply(&scope.terms.plan, rules, call, &kept(&won));
            let appended = self.log.append(&won, Pending { inbox: Arc::clone(inbox), reply });
            appended.map(|position| (won, position)).map_err(|why| refused = Some(why)).ok()
        });
        match (won, refused) {
            (Some((won, position)), _) => Drawn::Won(Box::new(won), position),
            (None, None | Some(NoWin::TooManyPending)) => Drawn::Lost,
            (None, Some(NoWin::Full | NoWin::Gone)) => Drawn::Refused,
        }
    }

    /// A submit for a round that does not run now: a win of that draw id is still told.
    fn out_of_round(
        &self,
        scope: &Scope<'_>,
        now: Now,
        call: &SubmitCall,
        line: &Line,
        wins: &Wins,
        tally: &mut Tally,
    ) -> SubmitReply {
        let plan = &scope.terms.plan;
        let next = if line.round == call.round { line.counter + 1 } else { 1 };
        if let Some(win) = wins.find(line, call.round, call.counter) {
            tally.again += 1;
            return self.stored(plan, None, call, next, Some(win));
        }
        tally.not_open += 1;
        let open = match &scope.stretch.round {
            Some((_, rules)) => rules.open_ms,
            None => plan.next_round(now.ms).map_or(0, |r| r.open_ms),
        };
        reply(call, next, Outcome::NotOpen, plan.pacing.submit_min_ms, open)
    }

    /// The answer to a draw id that was used before.
    fn stored(
        &self,
        plan: &Plan,
        rules: Option<&RoundRules>,
        call: &SubmitCall,
        next: u32,
        win: Option<&Win>,
    ) -> SubmitReply {
        let wait = rules.map_or(plan.pacing.submit_min_ms, RoundRules::next_submit_ms);
        match win {
            None => reply(call, next, Outcome::Lost, wait, 0),
            Some(win) if win.position >= self.log.acknowledged() && win.position != 0 => {
                reply(call, next, Outcome::Pending, PENDING_MS, 0)
            }
            Some(win) => SubmitReply {
                award: Some(Box::new(award_view(plan, &win.kept))),
                ..reply(call, next, Outcome::Won, wait, 0)
            },
        }
    }

    fn winning_reply(
        &self,
        plan: &Plan,
        rules: &RoundRules,
        call: &SubmitCall,
        win: &SnapshotWin,
    ) -> SubmitReply {
        let lost = reply(call, call.counter + 1, Outcome::Won, rules.next_submit_ms(), 0);
        SubmitReply { award: Some(Box::new(award_view(plan, win))), ..lost }
    }

    /// The record of a hit.
    fn won(&self, scope: &Scope<'_>, now: Now, call: &SubmitCall, hit: &Hit) -> Won {
        let plan = &scope.terms.plan;
        let (time_ms, sequence) = self.next_award(now.ms);
        let key = self.config.mac_keys.newest();
        let mut won = Won {
            award: AwardId::new(time_ms, self.config.node, self.config.epoch, sequence),
            campaign: plan.campaign,
            round: campaign::RoundId(call.round),
            day: scope.stretch.day,
            user: UserId(call.user),
            counter: call.counter,
            try_no: hit.try_no as u8,
            district: call.district,
            prize: hit.prize,
            unit: hit.unit,
            fen: hit.fen,
            lease: hit.lease,
            seq_no: plan.seq_no,
            held: hit.held,
            time_ms: now.ms,
            shakes: call.shakes,
            mac_key: key.id,
            mac: [0; 16],
        };
        won.mac = key.mac(&won.facts());
        won
    }
}

#[inline]
fn bucket_of(hash: u64) -> usize {
    (hash >> 52) as usize & (BUCKETS - 1)
}

#[inline]
fn reply(call: &SubmitCall, next_counter: u32, outcome: Outcome, wait_ms: u32, until_ms: u64) -> SubmitReply {
    SubmitReply {
        tag: call.tag,
        user: call.user,
        counter: call.counter,
        next_counter,
        outcome,
        next_submit_ms: wait_ms,
        until_ms,
        award: None,
    }
}

/// A fresh win as its player sees it.
fn award_view(plan: &Plan, win: &SnapshotWin) -> Award {
    let prize = plan.round(win.round).and_then(|r| r.prizes.iter().find(|p| p.id == win.prize));
    let (kind, name) = prize.map_or((0, String::new()), |p| (p.kind as i32, p.name.clone()));
    let won_ms = win.award.time_ms();
    let (state, lapse_ms) = match prize.map(|p| p.delivery) {
        Some(campaign::Delivery::OnClaim { term_ms }) => (AwardState::Claimable, won_ms + term_ms),
        _ => (AwardState::Won, 0),
    };
    Award {
        award: win.award.to_string(),
        campaign: win.campaign.0,
        round: win.round.0,
        prize: win.prize.0,
        prize_name: name,
        kind,
        fen: win.fen.0,
        won_ms,
        state: state as i32,
        lapse_ms,
        eta_hours: 0,
    }
}

#[cfg(test)]
mod tests;
