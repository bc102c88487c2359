//! What the log of a rehearsal remembers: every win in eight bytes, what was given out of each prize and to each
//! player. The laws are checked against this, not against what the decision core believes of itself.

use super::ground::{Bins, Ground};
use campaign::plan::CURVE_TAIL_MS;
use campaign::{Limits, UserId};
use lottery::core::{NoWin, Pending, WinLog};
use lottery::node::leases::LeaseLog;
use parking_lot::Mutex;

use records::{LeaseClosed, LeaseGot, Won};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Broken promises that are described; beyond that they are counted.
const TOLD_MAX: usize = 20;
/// Bits of a win that name the prize.
const PRIZE_BITS: u32 = 24;

/// A win: when, and of which prize. They order by time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Win(u64);

impl Win {
    fn new(after_ms: u64, prize: usize) -> Win {
        Win(after_ms << PRIZE_BITS | prize as u64)
    }

    /// Ms since the world began.
    pub fn after_ms(self) -> u64 {
        self.0 >> PRIZE_BITS
    }

    /// Number of the prize among all prizes of the plan.
    pub fn prize(self) -> usize {
        (self.0 & ((1 << PRIZE_BITS) - 1)) as usize
    }
}

/// What was given out of a prize.
#[derive(Clone, Default)]
pub(super) struct Given {
    /// One bit for each unit.
    seen: Vec<u64>,
    /// Units given out, and their sum.
    pub awarded: u64,
    pub fen: i64,
    /// Those of them given before the round's last seconds.
    pub before_tail: u64,
    /// First and last, ms UTC.
    pub first_ms: Option<u64>,
    pub last_ms: u64,
    /// By stretch of the round.
    pub bins: Vec<u32>,
}

impl Given {
    /// Marks a unit; false: it was given out before.
    fn mark(&mut self, unit: u64) -> bool {
        let (word, bit) = ((unit / 64) as usize, 1u64 << (unit % 64));
        if word >= self.seen.len() {
            self.seen.resize(word + 1, 0);
        }
        let fresh = self.seen[word] & bit == 0;
        self.seen[word] |= bit;
        fresh
    }

    /// Was this unit given out?
    pub fn has(&self, unit: u64) -> bool {
        self.seen.get((unit / 64) as usize).is_some_and(|word| word >> (unit % 64) & 1 == 1)
    }

    /// The bits of units, 64 a number; behind the end none was given.
    pub fn words(&self) -> &[u64] {
        &self.seen
    }

    fn count(&mut self, won: &Won, bins: &Bins, close_ms: u64) {
        self.awarded += 1;
        self.fen += won.fen.0;
        self.before_tail += u64::from(won.time_ms + CURVE_TAIL_MS < close_ms);
        self.first_ms = Some(self.first_ms.unwrap_or(u64::MAX).min(won.time_ms));
        self.last_ms = self.last_ms.max(won.time_ms);
        if self.bins.is_empty() {
            self.bins = vec![0; bins.count];
        }
        self.bins[bins.at(won.time_ms)] += 1;
    }
}

/// Promises broken.
#[derive(Clone, Default, Debug)]
pub(super) struct Broken {
    /// How many.
    pub count: u64,
    /// The first of them.
    pub told: Vec<String>,
}

impl Broken {
    pub fn add(&mut self, what: String) {
        self.count += 1;
        if self.told.len() < TOLD_MAX {
            self.told.push(what);
        }
    }
}

/// Which law a win broke.
#[derive(Clone, Default)]
pub(super) struct BrokenLaws {
    pub budget: Broken,
    pub limits: Broken,
}

/// All parts' books. Players are kept in atomic numbers because all share the table; one thread alone changes each.
pub(super) struct Books {
    ground: Arc<Ground>,
    prizes: Vec<Mutex<Given>>,
    /// For each player, from the lowest bits: wins in the campaign, wins in the round, the round's place.
    by_round: Box<[AtomicU64]>,
    /// For each player: wins on the day, and the day's number within the plan.
    by_day: Box<[AtomicU32]>,
    pub broken: Mutex<BrokenLaws>,
}

impl Books {
    pub fn new(ground: Arc<Ground>) -> Books {
        let players = ground.setup.players;
        Books {
            prizes: ground.prizes.iter().map(|_| Mutex::default()).collect(),
            by_round: (0..players).map(|_| AtomicU64::new(0)).collect(),
            by_day: (0..players).map(|_| AtomicU32::new(0)).collect(),
            broken: Mutex::default(),
            ground,
        }
    }

    /// Looks at what was given out of a prize.
    pub fn with_given<T>(&self, prize: usize, look: impl FnOnce(&Given) -> T) -> T {
        look(&self.prizes[prize].lock())
    }

    /// Players by their wins: place n has those who won n times; the last place those who won as often or more.
    pub fn wins_by_player(&self, most: usize) -> Vec<u64> {
        let mut players = vec![0; most + 1];
        for user in &self.by_round {
            let wins = (user.load(Ordering::Relaxed) & 0xffff) as usize;
            players[wins.min(most)] += 1;
        }
        players
    }

    /// Takes a win down; the number of its prize.
    fn take(&self, won: &Won) -> Option<usize> {
        let ground = &self.ground;
        let found = ground.round_of(won.round, won.time_ms);
        let found = found.and_then(|round| Some((round, ground.prize_of(round, won.prize)?)));
        let Some((round, prize)) = found else {
            let what = format!(
                "award {} is of prize {}/{}, which the plan has not",
                won.award, won.round, won.prize
            );
            self.broken.lock().budget.add(what);
            return None;
        };
        let close_ms = ground.plan.rounds[round].close_ms;
        let fresh = {
            let mut given = self.prizes[prize].lock();
            given.count(won, &ground.bins[round], close_ms);
            given.mark(won.unit)
        };
        if !fresh || won.time_ms >= close_ms {
            let (round, prize, unit) = (won.round, won.prize, won.unit);
            let what = format!(
                "unit {unit} of prize {round}/{prize} was given out twice, or behind the round's end"
            );
            self.broken.lock().budget.add(what);
        }
        let planned = &ground.plan.rounds[round].prizes[prize - ground.first_prize[round]];
        if !planned.regions.is_everywhere() && !ground.plan.can_be_won_in(planned, won.district) {
            let (round, prize, district) = (won.round, won.prize, won.district);
            let what =
                format!("prize {round}/{prize} was won in district {district}, outside of its regions");
            self.broken.lock().limits.add(what);
        }
        self.player(won, round);
        Some(prize)
    }

    /// Counts a player's win and holds it against his limits.
    fn player(&self, won: &Won, round: usize) {
        let at = won.user.0.wrapping_sub(1) as usize;
        let (Some(by_round), Some(by_day)) = (self.by_round.get(at), self.by_day.get(at)) else {
            let what = format!("award {} is user {}'s, who does not play", won.award, won.user);
            return self.broken.lock().limits.add(what);
        };
        let place = round as u64 + 1;
        let before = by_round.load(Ordering::Relaxed);
        let in_round = if before >> 32 == place { (before >> 16 & 0xffff) + 1 } else { 1 };
        let in_campaign = (before & 0xffff) + 1;
        by_round.store(place << 32 | in_round.min(0xffff) << 16 | in_campaign.min(0xffff), Ordering::Relaxed);
        let days = &self.ground.plan.days;
        let day = days.partition_point(|d| d.1 < won.day) as u32 + 1;
        let before = by_day.load(Ordering::Relaxed);
        let on_day = if before >> 16 == day { (before & 0xffff) + 1 } else { 1 };
        by_day.store(day << 16 | on_day.min(0xffff), Ordering::Relaxed);
        let limits = &self.ground.plan.limits;
        if let Some(what) = over(limits, won.user, in_round, u64::from(on_day), in_campaign) {
            self.broken.lock().limits.add(what);
        }
    }

    #[cfg(test)]
    pub fn prize(&self, prize: usize) -> parking_lot::MutexGuard<'_, Given> {
        self.prizes[prize].lock()
    }
}

/// Which limit these wins are over.
fn over(limits: &Limits, user: UserId, in_round: u64, on_day: u64, in_campaign: u64) -> Option<String> {
    let all = [
        ("round", in_round, limits.wins_round),
        ("day", on_day, limits.wins_day),
        ("campaign", in_campaign, limits.wins_campaign),
    ];
    let (what, wins, limit) = all.into_iter().find(|(_, n, limit)| *limit != 0 && *n > u64::from(*limit))?;
    Some(format!("user {user} won {wins} times in a {what} that allows {limit}"))
}

/// The log of one virtual node.
pub(super) struct PartLog {
    books: Arc<Books>,
    from_ms: u64,
    latency_ms: u64,
    state: Mutex<State>,
    acknowledged: AtomicU64,
}

#[derive(Default)]
struct State {
    /// Records that are not durable yet: when they are, and who waits for them.
    waiting: VecDeque<(u64, Option<Pending>)>,
    /// Records there are.
    records: u64,
    wins: Vec<Win>,
}

impl PartLog {
    /// A log whose records are durable so long after they were taken.
    pub fn new(books: Arc<Books>, from_ms: u64, latency_ms: u64) -> PartLog {
        PartLog { books, from_ms, latency_ms, state: Mutex::default(), acknowledged: AtomicU64::new(1) }
    }

    /// Tells the winners whose records are durable by now. False: nobody waits any more.
    pub fn release(&self, now_ms: u64) -> bool {
        let mut state = self.state.lock();
        if state.waiting.is_empty() {
            return false;
        }
        while let Some((_, waits)) = state.waiting.pop_front_if(|w| w.0 <= now_ms) {
            if let Some(Pending { inbox, reply }) = waits {
                inbox.put(reply);
            }
        }
        let safe = state.records - state.waiting.len() as u64;
        self.acknowledged.store(safe + 1, Ordering::Release);
        true
    }

    /// All wins, by time.
    pub fn wins(&self) -> Vec<Win> {
        std::mem::take(&mut self.state.lock().wins)
    }

    /// Wins taken down.
    pub fn count(&self) -> u64 {
        self.state.lock().wins.len() as u64
    }

    fn take(&self, now_ms: u64, waits: Option<Pending>, win: Option<Win>) -> u64 {
        let mut state = self.state.lock();
        state.waiting.push_back((now_ms + self.latency_ms, waits));
        state.records += 1;
        state.wins.extend(win);
        state.records
    }
}

/// Order: as the records come. Durability: `latency_ms` of virtual time later, at the first look behind that.
impl WinLog for PartLog {
    fn append(&self, won: &Won, pending: Pending) -> Result<u64, NoWin> {
        let prize = self.books.take(won);
        let win = prize.map(|prize| Win::new(won.time_ms - self.from_ms, prize));
        Ok(self.take(won.time_ms, Some(pending), win))
    }

    fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Acquire)
    }
}

/// The log as leases write to it, at an instant.
pub(super) struct LeaseSide<'a>(pub &'a PartLog, pub u64);

impl LeaseLog for LeaseSide<'_> {
    fn got(&mut self, _record: &LeaseGot) -> Option<u64> {
        Some(self.0.take(self.1, None, None))
    }

    fn closed(&mut self, _record: &LeaseClosed) -> Option<u64> {
        Some(self.0.take(self.1, None, None))
    }
}
