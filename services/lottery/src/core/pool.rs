//! The prizes of a running round on this node: leases in use, and the draw among them.
//!
//! One short lock a round, taken only when something can be winnable: whoever loses reads one number, the
//! instant at which the next unit of any prize comes.

use super::lease::Lease;
use campaign::plan::pick_by_weight;
use campaign::{Fen, LeaseId, PrizeId, Ranges, Round, RoundKeys, UnitAmounts};
use parking_lot::Mutex;
use records::LeaseGot;
use std::sync::atomic::{AtomicU64, Ordering};

/// Leases a node may hold of a prize: one to draw from while the other is fetched.
pub const LEASES_PER_PRIZE: usize = 2;

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

struct PrizePool {
    prize: PrizeId,
    weight: u64,
    amounts: UnitAmounts,
    leases: Vec<Lease>,
    given: u64,
}

/// A round's prizes on this node.
pub struct RoundPool {
    keys: RoundKeys,
    next_any: AtomicU64,
    state: Mutex<Vec<PrizePool>>,
}

impl RoundPool {
    /// A round with nothing leased.
    pub fn new(round: &Round, keys: RoundKeys) -> RoundPool {
        let pool = |p: &campaign::Prize| PrizePool {
            prize: p.id,
            weight: u64::from(p.weight),
            amounts: UnitAmounts::new(p.id.0, p.tranches.clone()),
            leases: Vec::with_capacity(LEASES_PER_PRIZE),
            given: 0,
        };
        let state = Mutex::new(round.prizes.iter().map(pool).collect());
        RoundPool { keys, next_any: AtomicU64::new(u64::MAX), state }
    }

    /// The same round under a new plan: leases stay, weights, amounts and the order of prizes follow the plan.
    pub fn renewed(&self, round: &Round) -> RoundPool {
        let fresh = RoundPool::new(round, self.keys);
        {
            let (mut old, mut new) = (self.state.lock(), fresh.state.lock());
            for prize in new.iter_mut() {
                if let Some(was) = old.iter_mut().find(|p| p.prize == prize.prize) {
                    prize.leases = std::mem::take(&mut was.leases);
                    prize.given = was.given;
                }
            }
            fresh.renew_next(&mut new, 0);
            self.next_any.store(u64::MAX, Ordering::Release);
        }
        fresh
    }

    /// Could anything be winnable at `now_ms`? No: every try loses.
    #[inline]
    pub fn may_hit(&self, now_ms: u64) -> bool {
        now_ms >= self.next_any.load(Ordering::Acquire)
    }

    /// Draws: up to `tries` picks by weight, each falling through to the prizes behind it. `settle` is asked
    /// to make the hit an award while the lock is held; when it refuses, the unit stays and the draw ends.
    pub fn draw<T>(
        &self,
        pick: impl Fn(&RoundKeys, u32) -> u64,
        tries: u32,
        now_ms: u64,
        settle: impl FnOnce(&Hit) -> Option<T>,
    ) -> Option<T> {
        let mut pools = self.state.lock();
        let winnable = winnable(&mut pools, now_ms);
        // Between the tries of one entry nothing changes: with nothing winnable every one of them loses.
        if winnable == 0 || tries == 0 {
            self.renew_next(&mut pools, now_ms);
            return None;
        }
        // With fall-through the first try that sees a winnable prize gets one.
        let try_no = 1;
        let random = pick(&self.keys, try_no);
        let start = pick_by_weight(pools.iter().map(|p| p.weight), random);
        let count = pools.len();
        let position = (start..count).chain(0..start).find(|p| winnable >> p & 1 == 1)?;
        let held = passed(start, position, count);
        let done = self.give(&mut pools[position], position, try_no, held, now_ms, settle);
        self.renew_next(&mut pools, now_ms);
        done
    }

    fn give<T>(
        &self,
        pool: &mut PrizePool,
        position: usize,
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
        let mut pools = self.state.lock();
        let Some(pool) = pools.iter_mut().find(|p| p.prize == got.prize) else { return false };
        if pool.leases.len() >= LEASES_PER_PRIZE || pool.leases.iter().any(|l| l.id == got.lease) {
            return false;
        }
        pool.leases.push(Lease::new(got, got_at, self.keys));
        self.renew_next(&mut pools, 0);
        true
    }

    /// Seals the leases that are used up, and those that `wanted` names.
    pub fn seal(&self, wanted: impl Fn(LeaseId) -> bool) -> Vec<Sealed> {
        let mut sealed = Vec::new();
        let mut pools = self.state.lock();
        for pool in pools.iter_mut() {
            for lease in pool.leases.extract_if(.., |l| l.left() == 0 || wanted(l.id)) {
                let (id, got_at) = (lease.id, lease.got_at);
                let (used, returned) = lease.seal();
                sealed.push(Sealed { prize: pool.prize, lease: id, used, returned, got_at });
            }
        }
        self.renew_next(&mut pools, 0);
        sealed
    }

    /// How the prizes stand.
    pub fn usage(&self) -> Vec<PrizeUse> {
        let pools = self.state.lock();
        let usage = |p: &PrizePool| PrizeUse {
            prize: p.prize,
            leases: p.leases.len(),
            left: p.leases.iter().map(Lease::left).sum(),
            given: p.given,
        };
        pools.iter().map(usage).collect()
    }

    /// Lane position of the oldest `LeaseGot` in use.
    pub fn oldest_got(&self) -> Option<u64> {
        self.state.lock().iter().flat_map(|p| p.leases.iter().map(|l| l.got_at)).min()
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

/// One bit for each prize position that has a unit whose instant has come.
fn winnable(pools: &mut [PrizePool], now_ms: u64) -> u64 {
    let mut bits = 0;
    for (i, pool) in pools.iter_mut().enumerate() {
        let due = |l: &mut Lease| l.next(now_ms).is_some_and(|(instant, _)| instant <= now_ms);
        bits |= u64::from(pool.leases.iter_mut().any(due)) << i;
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
    use campaign::RoundSeed;

    #[test]
    fn falls_through_to_what_is_winnable_and_says_what_was_held() {
        let round = round(&[(1, 100, 50), (2, 1, 50), (3, 1, 50)]);
        let pool = RoundPool::new(&round, RoundSeed([1; 32]).keys());
        assert!(!pool.may_hit(u64::MAX - 1));
        assert!(pool.install(&got(1, 3, &[(0, 2, 1000, 2, 1)]), 4));
        assert!(!pool.install(&got(1, 3, &[(0, 2, 1000, 2, 1)]), 4), "the same lease again");
        assert!(!pool.install(&got(9, 8, &[(0, 2, 1000, 2, 1)]), 4), "no such prize");
        assert!(!pool.may_hit(99_999));
        assert_eq!(pool.draw(|_, _| 0, 3, 99_999, |h| Some(*h)), None);
        let hit = pool.draw(|_, _| 0, 3, 100_100, |h| Some(*h)).unwrap();
        assert_eq!((hit.position, hit.held, hit.try_no), (2, 0b011, 1));
        assert!(pool.draw(|_, _| 0, 3, 100_100, |_| None::<()>).is_none(), "refused: the unit stays");
        assert!(pool.draw(|_, _| u64::MAX, 1, 100_100, |h| Some(*h)).is_some_and(|h| h.held == 0));
        assert!(!pool.may_hit(u64::MAX - 1));
        let sealed = pool.seal(|_| false);
        assert_eq!((sealed.len(), sealed[0].used, sealed[0].returned.len()), (1, 2, 0));
    }

    #[test]
    fn a_new_plan_keeps_the_leases() {
        let pool = RoundPool::new(&round(&[(1, 1, 50), (2, 1, 50)]), RoundSeed([1; 32]).keys());
        pool.install(&got(1, 2, &[(0, 5, 1000, 5, 1)]), 4);
        let renewed = pool.renewed(&round(&[(2, 7, 50), (1, 1, 50)]));
        assert!(!pool.may_hit(200_000) && renewed.may_hit(200_000));
        assert_eq!(renewed.oldest_got(), Some(4));
        assert_eq!(renewed.draw(|_, _| 0, 1, 200_000, |h| Some(*h)).unwrap().position, 0);
        let sealed = renewed.seal(|_| true);
        assert_eq!((sealed[0].used, sealed[0].returned.len()), (1, 4));
    }

    #[test]
    fn passed_goes_around() {
        assert_eq!(passed(2, 1, 4), 0b1101);
        assert_eq!(passed(2, 2, 4), 0);
    }
}
