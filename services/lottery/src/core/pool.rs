//! The prizes of a running round on this node: leases in use, and the draw among them.
//!
//! One short lock a round, taken only when something can be winnable: whoever loses reads one number, the
//! instant at which the next unit of any prize comes. Where prizes are limited to regions, whoever is elsewhere reads
//! such a number for each prize that he can win.

use super::each::Each;
use super::lease::Lease;
use campaign::plan::pick_by_weight;
use campaign::{Fen, LeaseId, Places, Prize, PrizeId, Ranges, Regions, Round, RoundKeys, UnitAmounts};
use parking_lot::Mutex;
use records::LeaseGot;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Leases a node may hold of a prize: one to draw from while the other is fetched.
pub const LEASES_PER_PRIZE: usize = 2;

/// How exact the instant is at which somebody came last, ms: whoever draws within it of another writes nothing.
pub(super) const CAME_EXACT_MS: u64 = 32;

/// A unit that the draw reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hit {
    /// Position of the prize in the round.
    pub position: usize,
    /// The prize.
    pub prize: PrizeId,
    /// The unit.
    pub unit: u64,
    /// Its amount.
    pub fen: Fen,
    /// Lease that it is from.
    pub lease: LeaseId,
    /// Which try.
    pub try_no: u32,
    /// Prizes that the winning try passed because they were held back, one bit a position.
    pub held: u64,
}

/// A lease that was sealed: what its `LeaseClosed` says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sealed {
    /// The prize.
    pub prize: PrizeId,
    /// The lease.
    pub lease: LeaseId,
    /// Units used.
    pub used: u64,
    /// Units that go back.
    pub returned: Ranges,
    /// Lane position of its `LeaseGot`.
    pub got_at: u64,
}

/// How a prize of the round stands on this node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PrizeUse {
    /// The prize.
    pub prize: PrizeId,
    /// Leases held.
    pub leases: usize,
    /// Units left in them.
    pub left: u64,
    /// Units given out since the node began.
    pub given: u64,
    /// When somebody drew last who could have won it, ms UTC, give or take a few; 0: nobody yet.
    pub came_ms: u64,
}

/// How a plan draws among the prizes of a round: their order, their weights, and which units it knows of. A plan
/// beside another draws from the same pool with picks of its own.
pub struct Picks {
    all: Box<[Pick]>,
    /// Those that can't be won everywhere: position in the round, and where. Empty in most rounds.
    limited: Box<[(u8, Regions)]>,
}

#[derive(Clone, Copy)]
struct Pick {
    weight: u64,
    /// Units that the plan has: numbers from there on are of a later plan, which alone can give them out.
    units: u64,
    /// Where the prize stands in the pool.
    at: usize,
}

impl Picks {
    /// Prizes that an entry from a district can't win, one bit a position. In a round without prizes for some regions
    /// only, nothing is looked up.
    #[inline]
    pub fn barred(&self, places: &Places, district: u32) -> u64 {
        if self.limited.is_empty() {
            return 0;
        }
        let here = places.regions_of(district);
        self.limited.iter().fold(0, |bits, (i, regions)| bits | u64::from(!regions.allow(here)) << i)
    }

    /// Places in the pool of the prizes that are not barred.
    #[inline]
    fn open(&self, barred: u64) -> impl Iterator<Item = usize> {
        let open = self.all.iter().enumerate().filter(move |(i, _)| barred >> i & 1 == 0);
        open.map(|(_, pick)| pick.at)
    }
}

struct PrizePool {
    prize: PrizeId,
    amounts: UnitAmounts,
    leases: Vec<Lease>,
    given: u64,
    /// The plan in force has it. If not, its leases go back and no new ones come.
    planned: bool,
}

impl PrizePool {
    fn new(prize: &Prize) -> PrizePool {
        PrizePool {
            prize: prize.id,
            amounts: UnitAmounts::new(prize.id.0, prize.tranches.clone()),
            leases: Vec::with_capacity(LEASES_PER_PRIZE),
            given: 0,
            planned: true,
        }
    }
}

#[derive(Default)]
struct State {
    prizes: Vec<PrizePool>,
    /// No plan has the round any more: it takes no lease.
    retired: bool,
}

/// A round's prizes on this node. It outlives plans: a new one changes it in place ([`RoundPool::follow`]), so that a
/// lease that comes in, or is looked for, at that moment is never in a pool that nobody uses any more.
pub struct RoundPool {
    keys: RoundKeys,
    next_any: AtomicU64,
    /// When somebody drew last who could have won, ms UTC.
    came_ms: AtomicU64,
    /// Of each prize, once a plan limits one to regions.
    each: OnceLock<Box<Each>>,
    state: Mutex<State>,
}

impl RoundPool {
    /// A round with nothing leased, and how its plan draws.
    pub fn new(round: &Round, keys: RoundKeys) -> (RoundPool, Picks) {
        let state = State { prizes: round.prizes.iter().map(PrizePool::new).collect(), retired: false };
        let pool = RoundPool {
            keys,
            next_any: AtomicU64::new(u64::MAX),
            came_ms: AtomicU64::new(0),
            each: OnceLock::new(),
            state: Mutex::new(state),
        };
        let picks = pool.picks(round, (0..round.prizes.len()).collect());
        (pool, picks)
    }

    /// Follows a new plan, and says how it draws: new prizes come in, amounts of added tranches are known, prizes that
    /// the plan has no more give their leases back. Leases stay where they are. A plan with the same prizes and
    /// tranches as the one before (`was`) changes nothing here and takes no lock.
    pub fn follow(&self, round: &Round, was: Option<(&Round, &Picks)>) -> Picks {
        if let Some((before, old)) = was.filter(|(before, _)| same_units(before, round)) {
            debug_assert_eq!(before.prizes.len(), old.all.len());
            return self.picks(round, old.all.iter().map(|p| p.at).collect());
        }
        // Made before the lock, and what it replaces dropped behind it: draws wait for neither.
        let mut fresh: Vec<Option<PrizePool>> =
            round.prizes.iter().map(|p| Some(PrizePool::new(p))).collect();
        let mut places = Vec::with_capacity(fresh.len());
        let mut state = self.state.lock();
        state.retired = false;
        state.prizes.iter_mut().for_each(|p| p.planned = false);
        for (prize, new) in round.prizes.iter().zip(&mut fresh) {
            let place = match state.prizes.iter().position(|p| p.prize == prize.id) {
                Some(known) => known,
                None => {
                    state.prizes.extend(new.take());
                    state.prizes.len() - 1
                }
            };
            let known = &mut state.prizes[place];
            known.planned = true;
            if let Some(new) = new {
                std::mem::swap(&mut known.amounts, &mut new.amounts);
            }
            places.push(place);
        }
        drop(state);
        self.picks(round, places)
    }

    /// How the plan of `round` draws; `places`: where its prizes stand in the pool.
    fn picks(&self, round: &Round, places: Vec<usize>) -> Picks {
        let pick = |(p, at): (&Prize, usize)| Pick { weight: u64::from(p.weight), units: p.units(), at };
        let limited = round.prizes.iter().enumerate().filter(|(_, p)| !p.regions.is_everywhere());
        let limited: Box<[_]> = limited.map(|(i, p)| (i as u8, p.regions)).collect();
        if !limited.is_empty() && self.each.get().is_none() {
            let mut state = self.state.lock();
            self.each.get_or_init(|| Box::new(Each::new()));
            self.renew_next(&mut state.prizes, 0);
        }
        Picks { all: round.prizes.iter().zip(places).map(pick).collect(), limited }
    }

    /// No plan has the round any more. False: leases are out; its pool is still needed, to give them back.
    pub fn retire(&self) -> bool {
        let mut state = self.state.lock();
        state.prizes.iter_mut().for_each(|p| p.planned = false);
        state.retired = state.prizes.iter().all(|p| p.leases.is_empty());
        state.retired
    }

    /// The round's keys.
    pub fn keys(&self) -> &RoundKeys {
        &self.keys
    }

    /// Could anything be winnable at `now_ms`? No: every try loses.
    #[inline]
    pub fn may_hit(&self, now_ms: u64) -> bool {
        now_ms >= self.next_any.load(Ordering::Acquire)
    }

    /// Somebody draws at `now_ms` who is below his limits and can win every prize.
    #[inline]
    pub fn came(&self, now_ms: u64) {
        if now_ms > self.came_ms.load(Ordering::Relaxed) + CAME_EXACT_MS {
            self.came_ms.store(now_ms, Ordering::Relaxed);
        }
    }

    /// Somebody draws at `now_ms` who is below his limits and can't win the prizes of `barred`. Could anything else be
    /// winnable? No: every try loses.
    pub fn came_barred(&self, picks: &Picks, barred: u64, now_ms: u64) -> bool {
        let Some(each) = self.each.get() else {
            self.came(now_ms);
            return self.may_hit(now_ms);
        };
        let mut may_hit = false;
        for at in picks.open(barred) {
            if !each.came(at, now_ms) {
                self.came(now_ms);
            }
            may_hit |= each.may_hit(at, now_ms);
        }
        may_hit
    }

    /// When somebody came last who could win the prize at a place in the pool.
    fn came_for(&self, at: usize) -> u64 {
        let all = self.came_ms.load(Ordering::Relaxed);
        self.each.get().map_or(all, |each| all.max(each.came_ms(at)))
    }

    /// Leases with a unit that could have been won before `before_ms`, and was not, of prizes that nobody has come for
    /// since then.
    pub fn overdue(&self, before_ms: u64) -> Vec<LeaseId> {
        if self.came_ms.load(Ordering::Relaxed) > before_ms {
            return Vec::new();
        }
        let mut state = self.state.lock();
        let pools = state.prizes.iter_mut().enumerate();
        let idle = pools.filter(|(at, _)| self.came_for(*at) <= before_ms);
        let leases = idle.flat_map(|(_, p)| &mut p.leases);
        let due = |l: &mut Lease| l.next(before_ms).is_some_and(|(instant, _)| instant < before_ms);
        leases.filter_map(|l| due(l).then_some(l.id)).collect()
    }

    /// Draws as a plan does: up to `tries` picks by its weights, each falling through to the prizes behind it. `settle`
    /// is asked to make the hit an award while the lock is held; when it refuses, the unit stays and the draw ends.
    /// Prizes of `barred` ([`Picks::barred`]) are passed over like those that have nothing to give.
    pub fn draw<T>(
        &self,
        (picks, barred): (&Picks, u64),
        pick: impl Fn(&RoundKeys, u32) -> u64,
        tries: u32,
        now_ms: u64,
        settle: impl FnOnce(&Hit) -> Option<T>,
    ) -> Option<T> {
        let mut state = self.state.lock();
        let pools = &mut state.prizes;
        let winnable = winnable(pools, picks, now_ms) & !barred;
        // Between the tries of one entry nothing changes: with nothing winnable every one of them loses.
        if winnable == 0 || tries == 0 {
            self.renew_next(pools, now_ms);
            return None;
        }
        // With fall-through the first try that sees a winnable prize gets one.
        let try_no = 1;
        let random = pick(&self.keys, try_no);
        let start = pick_by_weight(picks.all.iter().map(|p| p.weight), random);
        let count = picks.all.len();
        let position = (start..count).chain(0..start).find(|p| winnable >> p & 1 == 1)?;
        let held = passed(start, position, count);
        let Pick { at, units, .. } = picks.all[position];
        let done = self.give(&mut pools[at], (position, units), try_no, held, now_ms, settle);
        self.renew_next(pools, now_ms);
        done
    }

    fn give<T>(
        &self,
        pool: &mut PrizePool,
        (position, units): (usize, u64),
        try_no: u32,
        held: u64,
        now_ms: u64,
        settle: impl FnOnce(&Hit) -> Option<T>,
    ) -> Option<T> {
        let PrizePool { prize, amounts, leases, given, .. } = pool;
        let (_, unit, i) = leases
            .iter_mut()
            .enumerate()
            .filter_map(|(i, lease)| lease.next(now_ms).map(|(instant, unit)| (instant, unit, i)))
            .filter(|(_, unit, _)| *unit < units)
            .min()?;
        let lease = &mut leases[i];
        // A unit without an amount stands in no tranche of the plan: it is not given.
        let fen = amounts.amount(&self.keys, unit)?;
        let hit = Hit { position, prize: *prize, unit, fen, lease: lease.id, try_no, held };
        let done = settle(&hit)?;
        lease.take();
        *given += 1;
        Some(done)
    }

    /// Takes a lease into use. Its `LeaseGot` is in the log. False: the prize is not in the round, or has its
    /// leases already.
    pub fn install(&self, got: &LeaseGot, got_at: u64) -> bool {
        let mut state = self.state.lock();
        let State { prizes, retired } = &mut *state;
        let planned = prizes.iter_mut().find(|p| p.prize == got.prize && p.planned && !*retired);
        let Some(pool) = planned else { return false };
        if pool.leases.len() >= LEASES_PER_PRIZE || pool.leases.iter().any(|l| l.id == got.lease) {
            return false;
        }
        pool.leases.push(Lease::new(got, got_at, self.keys));
        self.renew_next(prizes, 0);
        true
    }

    /// Seals the leases that are used up, those that `wanted` names, and those of prizes that no plan has any more.
    pub fn seal(&self, wanted: impl Fn(LeaseId) -> bool) -> Vec<Sealed> {
        let mut sealed = Vec::new();
        let mut state = self.state.lock();
        for pool in &mut state.prizes {
            let all = !pool.planned;
            for lease in pool.leases.extract_if(.., |l| all || l.left() == 0 || wanted(l.id)) {
                let (id, got_at) = (lease.id, lease.got_at);
                let (used, returned) = lease.seal();
                sealed.push(Sealed { prize: pool.prize, lease: id, used, returned, got_at });
            }
        }
        self.renew_next(&mut state.prizes, 0);
        sealed
    }

    /// How the prizes stand that the plan has.
    pub fn usage(&self) -> Vec<PrizeUse> {
        let state = self.state.lock();
        let usage = |(at, p): (usize, &PrizePool)| PrizeUse {
            prize: p.prize,
            leases: p.leases.len(),
            left: p.leases.iter().map(Lease::left).sum(),
            given: p.given,
            came_ms: self.came_for(at),
        };
        state.prizes.iter().enumerate().filter(|(_, p)| p.planned).map(usage).collect()
    }

    /// Lane position of the oldest `LeaseGot` in use.
    pub fn oldest_got(&self) -> Option<u64> {
        self.state.lock().prizes.iter().flat_map(|p| p.leases.iter().map(|l| l.got_at)).min()
    }

    /// Publishes the instant of the next unit of any prize, and of each where that is kept.
    fn renew_next(&self, pools: &mut [PrizePool], now_ms: u64) {
        let each = self.each.get();
        let mut next_any = u64::MAX;
        for (at, pool) in pools.iter_mut().enumerate() {
            let instants = pool.leases.iter_mut().filter_map(|l| l.next(now_ms).map(|(instant, _)| instant));
            let next = instants.min().unwrap_or(u64::MAX);
            if let Some(each) = each {
                each.set_next(at, next);
            }
            next_any = next_any.min(next);
        }
        self.next_any.store(next_any, Ordering::Release);
    }
}

/// Do both have the same prizes in the same order, with the same units?
fn same_units(a: &Round, b: &Round) -> bool {
    let same = |(a, b): (&Prize, &Prize)| a.id == b.id && a.tranches == b.tranches;
    a.prizes.len() == b.prizes.len() && a.prizes.iter().zip(&b.prizes).all(same)
}

/// One bit for each prize position of the plan that has a unit whose instant has come.
fn winnable(pools: &mut [PrizePool], picks: &Picks, now_ms: u64) -> u64 {
    let mut bits = 0;
    for (i, pick) in picks.all.iter().enumerate() {
        let due = |l: &mut Lease| {
            l.next(now_ms).is_some_and(|(instant, unit)| instant <= now_ms && unit < pick.units)
        };
        bits |= u64::from(pools[pick.at].leases.iter_mut().any(due)) << i;
    }
    bits
}

/// Bits of the positions from `start` up to, not including, `end`, around the end of `count`.
fn passed(start: usize, end: usize, count: usize) -> u64 {
    (start..count).chain(0..start).take_while(|p| *p != end).fold(0, |bits, p| bits | 1 << p)
}

#[cfg(test)]
mod tests;
