//! The prizes of a running round on this node: leases in use, and the draw among them.
//!
//! One short lock a round, taken only when something can be winnable: whoever loses reads one number, the
//! instant at which the next unit of any prize comes.

use super::lease::Lease;
use campaign::plan::pick_by_weight;
use campaign::{Fen, LeaseId, Prize, PrizeId, Ranges, Round, RoundKeys, UnitAmounts};
use parking_lot::Mutex;
use records::LeaseGot;
use std::sync::atomic::{AtomicU64, Ordering};

/// Leases a node may hold of a prize: one to draw from while the other is fetched.
pub const LEASES_PER_PRIZE: usize = 2;

/// How exact the instant is at which somebody came last, ms: whoever draws within it of another writes nothing.
const CAME_EXACT_MS: u64 = 32;

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
}

/// How a plan draws among the prizes of a round: their order, their weights, and which units it knows of. A plan
/// beside another draws from the same pool with picks of its own.
pub struct Picks(Box<[Pick]>);

#[derive(Clone, Copy)]
struct Pick {
    weight: u64,
    /// Units that the plan has: numbers from there on are of a later plan, which alone can give them out.
    units: u64,
    /// Where the prize stands in the pool.
    at: usize,
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
            state: Mutex::new(state),
        };
        let picks = picks(round, (0..round.prizes.len()).collect());
        (pool, picks)
    }

    /// Follows a new plan, and says how it draws: new prizes come in, amounts of added tranches are known, prizes that
    /// the plan has no more give their leases back. Leases stay where they are. A plan with the same prizes and
    /// tranches as the one before (`was`) changes nothing here and takes no lock.
    pub fn follow(&self, round: &Round, was: Option<(&Round, &Picks)>) -> Picks {
        if let Some((before, old)) = was.filter(|(before, _)| same_units(before, round)) {
            debug_assert_eq!(before.prizes.len(), old.0.len());
            return picks(round, old.0.iter().map(|p| p.at).collect());
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
        picks(round, places)
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

    /// Somebody draws at `now_ms` who is below his limits.
    #[inline]
    pub fn came(&self, now_ms: u64) {
        if now_ms > self.came_ms.load(Ordering::Relaxed) + CAME_EXACT_MS {
            self.came_ms.store(now_ms, Ordering::Relaxed);
        }
    }

    /// When somebody came last, ms UTC, give or take a few; 0: nobody yet.
    pub fn came_ms(&self) -> u64 {
        self.came_ms.load(Ordering::Relaxed)
    }

    /// Leases with a unit that could have been won before `before_ms`, and was not.
    pub fn overdue(&self, before_ms: u64) -> Vec<LeaseId> {
        let mut state = self.state.lock();
        let leases = state.prizes.iter_mut().flat_map(|p| &mut p.leases);
        let due = |l: &mut Lease| l.next(before_ms).is_some_and(|(instant, _)| instant < before_ms);
        leases.filter_map(|l| due(l).then_some(l.id)).collect()
    }

    /// Draws as a plan does: up to `tries` picks by its weights, each falling through to the prizes behind it. `settle`
    /// is asked to make the hit an award while the lock is held; when it refuses, the unit stays and the draw ends.
    pub fn draw<T>(
        &self,
        picks: &Picks,
        pick: impl Fn(&RoundKeys, u32) -> u64,
        tries: u32,
        now_ms: u64,
        settle: impl FnOnce(&Hit) -> Option<T>,
    ) -> Option<T> {
        let mut state = self.state.lock();
        let pools = &mut state.prizes;
        let winnable = winnable(pools, picks, now_ms);
        // Between the tries of one entry nothing changes: with nothing winnable every one of them loses.
        if winnable == 0 || tries == 0 {
            self.renew_next(pools, now_ms);
            return None;
        }
        // With fall-through the first try that sees a winnable prize gets one.
        let try_no = 1;
        let random = pick(&self.keys, try_no);
        let start = pick_by_weight(picks.0.iter().map(|p| p.weight), random);
        let count = picks.0.len();
        let position = (start..count).chain(0..start).find(|p| winnable >> p & 1 == 1)?;
        let held = passed(start, position, count);
        let Pick { at, units, .. } = picks.0[position];
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
        let usage = |p: &PrizePool| PrizeUse {
            prize: p.prize,
            leases: p.leases.len(),
            left: p.leases.iter().map(Lease::left).sum(),
            given: p.given,
        };
        state.prizes.iter().filter(|p| p.planned).map(usage).collect()
    }

    /// Lane position of the oldest `LeaseGot` in use.
    pub fn oldest_got(&self) -> Option<u64> {
        self.state.lock().prizes.iter().flat_map(|p| p.leases.iter().map(|l| l.got_at)).min()
    }

    /// Publishes the instant of the next unit of any prize.
    fn renew_next(&self, pools: &mut [PrizePool], now_ms: u64) {
        let next = pools
            .iter_mut()
            .flat_map(|p| p.leases.iter_mut())
            .filter_map(|l| l.next(now_ms).map(|(instant, _)| instant))
            .min();
        self.next_any.store(next.unwrap_or(u64::MAX), Ordering::Release);
    }
}

fn picks(round: &Round, places: Vec<usize>) -> Picks {
    let pick = |(p, at): (&Prize, usize)| Pick { weight: u64::from(p.weight), units: p.units(), at };
    Picks(round.prizes.iter().zip(places).map(pick).collect())
}

/// Do both have the same prizes in the same order, with the same units?
fn same_units(a: &Round, b: &Round) -> bool {
    let same = |(a, b): (&Prize, &Prize)| a.id == b.id && a.tranches == b.tranches;
    a.prizes.len() == b.prizes.len() && a.prizes.iter().zip(&b.prizes).all(same)
}

/// One bit for each prize position of the plan that has a unit whose instant has come.
fn winnable(pools: &mut [PrizePool], picks: &Picks, now_ms: u64) -> u64 {
    let mut bits = 0;
    for (i, pick) in picks.0.iter().enumerate() {
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
mod tests {
    use super::{RoundPool, passed};
    use crate::core::lease::tests::got;
    use crate::core::tests_support::round;
    use campaign::{Fen, RoundSeed, Tranche};

    #[test]
    fn falls_through_to_what_is_winnable_and_says_what_was_held() {
        let round = round(&[(1, 100, 50), (2, 1, 50), (3, 1, 50)]);
        let (pool, picks) = RoundPool::new(&round, RoundSeed([1; 32]).keys());
        assert!(!pool.may_hit(u64::MAX - 1));
        assert!(pool.install(&got(1, 3, &[(0, 2, 1000, 2, 1)]), 4));
        assert!(!pool.install(&got(1, 3, &[(0, 2, 1000, 2, 1)]), 4), "the same lease again");
        assert!(!pool.install(&got(9, 8, &[(0, 2, 1000, 2, 1)]), 4), "no such prize");
        assert!(!pool.may_hit(99_999));
        assert_eq!(pool.draw(&picks, |_, _| 0, 3, 99_999, |h| Some(*h)), None);
        let hit = pool.draw(&picks, |_, _| 0, 3, 100_100, |h| Some(*h)).unwrap();
        assert_eq!((hit.position, hit.held, hit.try_no), (2, 0b011, 1));
        assert!(pool.draw(&picks, |_, _| 0, 3, 100_100, |_| None::<()>).is_none(), "refused: the unit stays");
        assert!(pool.draw(&picks, |_, _| u64::MAX, 1, 100_100, |h| Some(*h)).is_some_and(|h| h.held == 0));
        assert!(!pool.may_hit(u64::MAX - 1));
        let sealed = pool.seal(|_| false);
        assert_eq!((sealed.len(), sealed[0].used, sealed[0].returned.len()), (1, 2, 0));
    }

    #[test]
    fn a_new_plan_keeps_the_leases_and_has_its_own_order() {
        let first = round(&[(1, 1, 50), (2, 1, 50)]);
        let (pool, old) = RoundPool::new(&first, RoundSeed([1; 32]).keys());
        pool.install(&got(1, 2, &[(0, 5, 1000, 5, 1)]), 4);
        let second = round(&[(2, 7, 50), (3, 1, 50)]);
        let new = pool.follow(&second, Some((&first, &old)));
        assert_eq!(pool.oldest_got(), Some(4));
        assert_eq!(pool.draw(&new, |_, _| 0, 1, 200_000, |h| Some(*h)).unwrap().position, 0);
        assert_eq!(pool.draw(&old, |_, _| 0, 1, 200_000, |h| Some(*h)).unwrap().position, 1, "beside it");
        assert!(!pool.install(&got(2, 1, &[(0, 5, 1000, 5, 1)]), 4), "the plan has it no more");
        assert!(pool.install(&got(3, 3, &[(0, 5, 1000, 5, 1)]), 4));
        let same = pool.follow(&round(&[(2, 9, 50), (3, 4, 50)]), Some((&second, &new)));
        assert_eq!(pool.draw(&same, |_, _| u64::MAX, 1, 200_000, |h| Some(*h)).unwrap().prize.0, 3);
        pool.follow(&first, None);
        let sealed = pool.seal(|_| false);
        assert_eq!((sealed.len(), sealed[0].prize.0, sealed[0].returned.len()), (1, 3, 4), "no plan has it");
        assert!(!pool.retire());
        assert_eq!(pool.seal(|_| false)[0].used, 2);
        assert!(pool.retire() && !pool.install(&got(9, 2, &[(9, 1, 1000, 1, 1)]), 4));
    }

    #[test]
    fn units_of_a_later_plan_are_given_under_it_alone() {
        let first = round(&[(1, 1, 2), (2, 1, 2)]);
        let (pool, old) = RoundPool::new(&first, RoundSeed([1; 32]).keys());
        pool.install(&got(1, 1, &[(2, 1, 1000, 1, 1)]), 4);
        pool.install(&got(2, 2, &[(0, 1, 1000, 1, 1)]), 4);
        let mut raised = first.clone();
        raised.prizes[0].tranches.push(Tranche {
            first: 2,
            units: 1,
            fen: Fen(70),
            min: Fen(70),
            max: Fen(70),
        });
        let new = pool.follow(&raised, Some((&first, &old)));
        let hit = pool.draw(&old, |_, _| 0, 1, 200_000, |h| Some(*h)).unwrap();
        assert_eq!((hit.prize.0, hit.held), (2, 1), "the old plan passes it over");
        assert_eq!(pool.draw(&old, |_, _| 0, 1, 200_000, |h| Some(*h)), None);
        let hit = pool.draw(&new, |_, _| 0, 1, 200_000, |h| Some(*h)).unwrap();
        assert_eq!((hit.unit, hit.fen), (2, Fen(70)));
    }

    #[test]
    fn passed_goes_around() {
        assert_eq!(passed(2, 1, 4), 0b1101);
        assert_eq!(passed(2, 2, 4), 0);
    }
}
