//! Release curves: how much of what is left has been released by which instant.
//!
//! A curve is a rising line through points (ms since the round opened, share released in parts per billion),
//! from 0 at the first to 1,000,000,000 at the last. The ledger keeps a base (units released at an instant);
//! what is released later follows the curve from there, so a change shapes only what is still to come.

/// One whole, in parts per billion.
pub const WHOLE: u64 = 1_000_000_000;

/// Most points a curve may have.
pub const POINTS_MAX: usize = 256;

/// A point of a curve.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Point {
    /// Milliseconds since the round opened.
    pub at_ms: u64,
    /// Share released by then, parts per billion.
    pub share: u64,
}

/// A release curve.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Curve(Vec<Point>);

/// Why points are not a curve.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CurveError {
    /// Fewer than two, or more than [`POINTS_MAX`].
    #[error("a release curve has 2 to {POINTS_MAX} points, not {0}")]
    Count(usize),
    /// The first point's share is not 0 or the last one's not the whole.
    #[error("a release curve goes from 0 to the whole; this one goes from {from} to {to} ppb")]
    Ends {
        /// Share at the first point.
        from: u64,
        /// Share at the last point.
        to: u64,
    },
    /// Time does not rise, or the share falls, at this point (counted from 0).
    #[error("point {0} of the release curve is not later than the one before, or releases less")]
    Falls(usize),
}

impl Curve {
    /// A curve through the points.
    pub fn new(points: Vec<Point>) -> Result<Curve, CurveError> {
        if points.len() < 2 || points.len() > POINTS_MAX {
            return Err(CurveError::Count(points.len()));
        }
        for (i, pair) in points.windows(2).enumerate() {
            if pair[1].at_ms <= pair[0].at_ms || pair[1].share < pair[0].share {
                return Err(CurveError::Falls(i + 1));
            }
        }
        let (from, to) = (points[0].share, points[points.len() - 1].share);
        if from != 0 || to != WHOLE {
            return Err(CurveError::Ends { from, to });
        }
        Ok(Curve(points))
    }

    /// The same speed from `from_ms` to `to_ms`. `to_ms` is moved up to at least 1 ms behind `from_ms`.
    pub fn even(from_ms: u64, to_ms: u64) -> Curve {
        let to_ms = to_ms.max(from_ms + 1);
        Curve(vec![Point { at_ms: from_ms, share: 0 }, Point { at_ms: to_ms, share: WHOLE }])
    }

    /// The points.
    pub fn points(&self) -> &[Point] {
        &self.0
    }

    /// When the first unit may come, ms since the round opened.
    pub fn begin_ms(&self) -> u64 {
        self.0[0].at_ms
    }

    /// When everything has been released, ms since the round opened.
    pub fn end_ms(&self) -> u64 {
        self.0[self.0.len() - 1].at_ms
    }

    /// Share released by `at_ms`, parts per billion, rounded down.
    pub fn share(&self, at_ms: u64) -> u64 {
        let i = self.0.partition_point(|p| p.at_ms <= at_ms);
        if i == 0 {
            return 0;
        }
        let a = self.0[i - 1];
        let Some(b) = self.0.get(i) else { return WHOLE };
        let part = u128::from(b.share - a.share) * u128::from(at_ms - a.at_ms);
        a.share + (part / u128::from(b.at_ms - a.at_ms)) as u64
    }

    /// Units released by `at_ms`, when `base_units` were released at `base_ms` and `budget_units` will be
    /// released in all. Never below the base, never above the budget; the whole budget from the curve's end.
    pub fn released(&self, base_units: u64, base_ms: u64, budget_units: u64, at_ms: u64) -> u64 {
        if budget_units <= base_units {
            return budget_units;
        }
        if at_ms >= self.end_ms() {
            return budget_units;
        }
        let from = self.share(base_ms);
        let now = self.share(at_ms).max(from);
        if from >= WHOLE {
            return budget_units;
        }
        let rest = u128::from(budget_units - base_units);
        base_units + (rest * u128::from(now - from) / u128::from(WHOLE - from)) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::{Curve, CurveError, Point, WHOLE};
    use proptest::prelude::*;

    #[test]
    fn refuses_what_is_no_curve() {
        let p = |at_ms, share| Point { at_ms, share };
        assert_eq!(Curve::new(vec![p(0, 0)]), Err(CurveError::Count(1)));
        assert_eq!(Curve::new(vec![p(0, 0), p(0, WHOLE)]), Err(CurveError::Falls(1)));
        assert_eq!(Curve::new(vec![p(0, 1), p(9, WHOLE)]), Err(CurveError::Ends { from: 1, to: WHOLE }));
        assert_eq!(Curve::new(vec![p(0, 0), p(5, 9), p(9, 8)]), Err(CurveError::Falls(2)));
    }

    #[test]
    fn a_paused_prize_spreads_the_rest() {
        let curve = Curve::even(0, 1000);
        assert_eq!(curve.released(0, 0, 100, 500), 50);
        // paused at 500 with 50 out, resumed at 750: the other 50 over the last quarter
        assert_eq!(curve.released(50, 750, 100, 750), 50);
        assert_eq!(curve.released(50, 750, 100, 875), 75);
        assert_eq!(curve.released(50, 750, 100, 1000), 100);
    }

    proptest! {
        #[test]
        fn rises_from_base_to_budget(
            steps in prop::collection::vec((1u64..500, 0u64..1000), 1..12),
            base in 0u64..1000, more in 0u64..10_000, base_at in 0u64..3000, times in prop::collection::vec(0u64..8000, 1..20),
        ) {
            let total: u64 = steps.iter().map(|s| s.1).sum::<u64>().max(1);
            let (mut at, mut sum) = (0, 0);
            let mut points = vec![Point { at_ms: 0, share: 0 }];
            for (dt, share) in &steps {
                at += dt;
                sum += share;
                points.push(Point { at_ms: at, share: sum * WHOLE / total });
            }
            points.last_mut().unwrap().share = WHOLE;
            let curve = Curve::new(points).unwrap();
            let mut sorted = times;
            sorted.sort_unstable();
            let mut last = base;
            for t in sorted {
                let now = curve.released(base, base_at, base + more, t);
                prop_assert!(now >= last && now <= base + more);
                last = now;
            }
            prop_assert_eq!(curve.released(base, base_at, base + more, curve.end_ms()), base + more);
        }
    }
}
