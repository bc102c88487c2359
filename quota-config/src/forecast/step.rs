//! One step of a round: what may be won in it, and what is.

use super::{Live, PrizeForecast};
use campaign::{Plan, Prize, Round, SLOT_MS, SlotRate, VendorId};

/// A prize on its way.
struct Row<'a> {
    prize: &'a Prize,
    vendor: usize,
    budget: u64,
    awarded: u64,
    /// Units that have been placed into slots and wait for a winner.
    held: u64,
    /// Most of these: what nodes hold ready.
    held_max: u64,
    /// Units released at the base instant (ms since the opening); the curve goes on from there.
    base_units: u64,
    base_ms: u64,
    exhausted_ms: Option<u64>,
    /// Fractions of units that demand and speeds leave over from step to step.
    won_part: f64,
    catch_up_part: u128,
    speed_part: u128,
}

/// How units are placed.
#[derive(Clone, Copy)]
pub(super) enum Grant {
    /// Along the curve.
    Curve,
    /// The rest, evenly over so many slots: the last seconds.
    Spread { slots: u64 },
}

struct VendorRow {
    id: VendorId,
    rate: SlotRate,
    /// Parts of a unit left over, in units times slots of distance.
    part: u128,
}

/// All prizes of a round.
pub(super) struct State<'a> {
    open_ms: u64,
    rows: Vec<Row<'a>>,
    vendors: Vec<VendorRow>,
    /// Which prize of a vendor is served first turns from step to step, as requests of nodes do.
    turn: usize,
}

impl<'a> State<'a> {
    pub fn new(plan: &Plan, round: &'a Round, begin_ms: u64, live: Option<&Live>) -> State<'a> {
        let mut vendors: Vec<VendorRow> = Vec::new();
        let mut rows = Vec::with_capacity(round.prizes.len());
        for prize in &round.prizes {
            let vendor = vendors.iter().position(|v| v.id == prize.vendor).unwrap_or_else(|| {
                let speed = plan.vendor(prize.vendor).map_or(0, |v| v.release_per_second);
                let rate = SlotRate::per_second(speed).unwrap_or(SlotRate::UNLIMITED);
                vendors.push(VendorRow { id: prize.vendor, rate, part: 0 });
                vendors.len() - 1
            });
            let standing = live.and_then(|l| l.prizes.iter().find(|s| s.prize == prize.id));
            let budget = standing.and_then(|s| s.budget).unwrap_or_else(|| prize.units());
            let awarded = standing.map_or(0, |s| s.awarded.min(budget));
            let since_open = begin_ms.saturating_sub(round.open_ms);
            let base =
                standing.and_then(|s| s.released).map(|units| (units.clamp(awarded, budget), since_open));
            let (base_units, base_ms) = base.unwrap_or((0, 0));
            rows.push(Row {
                prize,
                vendor,
                budget,
                awarded,
                held: 0,
                held_max: held_max(prize, budget),
                base_units,
                base_ms,
                exhausted_ms: (awarded >= budget).then_some(begin_ms),
                won_part: 0.0,
                catch_up_part: 0,
                speed_part: 0,
            });
        }
        State { open_ms: round.open_ms, rows, vendors, turn: 0 }
    }

    pub fn done(&self) -> bool {
        self.rows.iter().all(|r| r.awarded >= r.budget || r.prize.paused)
    }

    /// `grant`: how units are placed, or `None` when nothing is any more.
    pub fn step(&mut self, from_ms: u64, to_ms: u64, grant: Option<Grant>, entries: f64) {
        if let Some(grant) = grant {
            self.place(from_ms, to_ms, grant);
        }
        self.win(to_ms, entries);
        self.turn += 1;
    }

    fn place(&mut self, from_ms: u64, to_ms: u64, grant: Grant) {
        let (from, to) = (from_ms - self.open_ms, to_ms - self.open_ms);
        let mut vendor_room: Vec<u64> =
            self.vendors.iter_mut().map(|v| vendor_units(v, to_ms - from_ms)).collect();
        let count = self.rows.len();
        for i in (0..count).map(|i| (i + self.turn) % count) {
            let row = &mut self.rows[i];
            let left = &mut vendor_room[row.vendor];
            let units = row.room(from, to, grant).min(*left);
            row.held += units;
            *left -= units;
        }
    }

    /// Gives entries to prizes: each falls on a prize by weight, and on from prizes without a unit.
    fn win(&mut self, to_ms: u64, entries: f64) {
        let total: u64 = self.rows.iter().map(|r| r.held).sum();
        let few = entries < total as f64;
        let mut wins = vec![0.0f64; self.rows.len()];
        if few {
            let mut left = entries;
            // Each pass either uses the entries up or leaves a prize without a unit.
            for _ in 0..self.rows.len() {
                left -= self.pass(left, &mut wins);
                if left < 1e-9 {
                    break;
                }
            }
        }
        for (row, won) in self.rows.iter_mut().zip(wins) {
            let units = if few {
                row.won_part += won;
                let whole = (row.won_part as u64).min(row.held);
                row.won_part -= whole as f64;
                whole
            } else {
                row.held
            };
            row.held -= units;
            row.awarded += units;
            if row.awarded >= row.budget && row.exhausted_ms.is_none() {
                row.exhausted_ms = Some(to_ms);
            }
        }
    }

    /// Spreads entries until the first prize has no unit left; says how many were placed.
    fn pass(&self, entries: f64, wins: &mut [f64]) -> f64 {
        let count = self.rows.len();
        // What falls on a prize beyond its units in this step waits for the next as a fraction.
        let free: Vec<f64> =
            self.rows.iter().zip(&*wins).map(|(r, w)| (r.held as f64 - r.won_part - w).max(0.0)).collect();
        let open = |i: &usize| free[*i] > 1e-9;
        if !(0..count).any(|i| open(&i)) {
            return entries;
        }
        // Weight that falls on each open prize: its own and that of closed ones before it.
        let mut shares = vec![0.0f64; count];
        let total: u64 = self.rows.iter().map(|r| u64::from(r.prize.weight)).sum();
        for (i, row) in self.rows.iter().enumerate() {
            let at = (i..count).chain(0..i).find(open).unwrap_or(i);
            shares[at] += f64::from(row.prize.weight) / total.max(1) as f64;
        }
        if total == 0 {
            // Without weights every pick begins at the first prize.
            shares[(0..count).find(open).unwrap_or(0)] = 1.0;
        }
        let fits = (0..count).filter(|i| shares[*i] > 0.0).map(|i| free[i] / shares[i]);
        let placed = fits.fold(entries, f64::min);
        for (won, share) in wins.iter_mut().zip(&shares) {
            *won += placed * share;
        }
        placed
    }

    pub fn finish(self) -> Vec<PrizeForecast> {
        let of = |row: Row<'_>| PrizeForecast {
            prize: row.prize.id,
            name: row.prize.name.clone(),
            units: row.budget,
            awarded: row.awarded,
            exhausted_ms: row.exhausted_ms,
        };
        self.rows.into_iter().map(of).collect()
    }
}

/// What nodes hold of a prize when few players come: two seconds at catch-up speed, at least one unit.
fn held_max(prize: &Prize, budget: u64) -> u64 {
    let span_ms = u128::from((prize.curve.end_ms() - prize.curve.begin_ms()).max(1));
    let units = u128::from(budget) * u128::from(prize.catch_up_percent) * 2_000 / (100 * span_ms);
    u64::try_from(units).unwrap_or(u64::MAX).max(1)
}

/// Units that a vendor's limit lets through in a step; what is left of a unit counts in the next.
fn vendor_units(vendor: &mut VendorRow, ms: u64) -> u64 {
    if vendor.rate == SlotRate::UNLIMITED {
        return u64::MAX;
    }
    share(
        &mut vendor.part,
        u128::from(vendor.rate.per_slot),
        u128::from(vendor.rate.every) * u128::from(SLOT_MS),
        ms,
    )
}

/// Whole units of `num / den` a ms in so many ms; the rest is kept for the next step.
fn share(part: &mut u128, num: u128, den: u128, ms: u64) -> u64 {
    *part += num * u128::from(ms);
    let units = *part / den;
    *part %= den;
    u64::try_from(units).unwrap_or(u64::MAX)
}

impl Row<'_> {
    fn released(&self, ms: u64) -> u64 {
        self.prize.curve.released(self.base_units, self.base_ms, self.budget, ms.max(self.base_ms))
    }

    /// Units that may be placed in the step, before the vendor's limit.
    fn room(&mut self, from: u64, to: u64, grant: Grant) -> u64 {
        let out = self.awarded + self.held;
        let left = self.budget - out;
        if left == 0 || self.prize.paused {
            return 0;
        }
        let ms = to - from;
        let speed = match self.prize.speed_max {
            0 => u64::MAX,
            most => share(&mut self.speed_part, u128::from(most), 1_000, ms),
        };
        if let Grant::Spread { slots } = grant {
            return left.div_ceil(slots).min(speed);
        }
        let until = self.released(to);
        let curve = &self.prize.curve;
        let span_ms = u128::from((curve.end_ms() - curve.begin_ms()).max(1));
        let per_ms = u128::from(self.budget) * u128::from(self.prize.catch_up_percent);
        let catch_up = share(&mut self.catch_up_part, per_ms, 100 * span_ms, ms);
        let on_curve = until - self.released(from);
        let ready = self.held_max.max(on_curve).saturating_sub(self.held);
        on_curve.max(catch_up).min(speed).min(until.saturating_sub(out)).min(ready)
    }
}
