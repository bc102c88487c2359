//! Runs, medians, and the time they take.

use runtime::{Clock, SystemClock};

/// Nanoseconds on a clock that never goes back.
pub fn now_ns() -> u64 {
    SystemClock.mono_ns()
}

/// Things done per second, over the time that the closure takes; it returns how many it did.
pub fn rate(work: impl FnOnce() -> u64) -> f64 {
    let start = now_ns();
    let count = work();
    count as f64 * 1e9 / (now_ns() - start).max(1) as f64
}

/// Results of the runs of one side.
#[derive(Clone, Default, Debug)]
pub struct Samples(Vec<f64>);

impl Samples {
    /// Adds a run.
    pub fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    /// Runs so far.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    fn sorted(&self) -> Vec<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted
    }

    /// The middle run; the mean of the two middle ones of an even count; 0 without runs.
    pub fn median(&self) -> f64 {
        let sorted = self.sorted();
        match sorted.len() {
            0 => 0.0,
            n if n % 2 == 1 => sorted[n / 2],
            n => (sorted[n / 2 - 1] + sorted[n / 2]) / 2.0,
        }
    }

    /// Distance of the best and the worst run as a share of the median.
    pub fn spread(&self) -> f64 {
        let sorted = self.sorted();
        let (Some(first), Some(last)) = (sorted.first(), sorted.last()) else { return 0.0 };
        if self.median() == 0.0 { 0.0 } else { (last - first) / self.median() }
    }
}

/// Two sides that took turns.
#[derive(Clone, Default, Debug)]
pub struct Duel {
    /// What is measured.
    pub ours: Samples,
    /// What it is compared with.
    pub peer: Samples,
    ratios: Samples,
}

impl Duel {
    /// One warm-up of each side, then `runs` turns. Who goes first alternates.
    pub fn run(runs: usize, mut ours: impl FnMut() -> f64, mut peer: impl FnMut() -> f64) -> Duel {
        // Sides that can't fail.
        try_duel(runs, || Ok(ours()), || Ok(peer())).unwrap_or_default()
    }

    /// Adds a turn.
    pub fn push(&mut self, ours: f64, peer: f64) {
        self.ours.push(ours);
        self.peer.push(peer);
        self.ratios.push(ours / peer);
    }

    /// Median of the turns' ratios: neighbours in time are compared, not medians of different minutes.
    pub fn ratio(&self) -> f64 {
        self.ratios.median()
    }
}

/// [`Duel::run`] with sides that can fail; the first failure ends it.
pub fn try_duel(
    runs: usize,
    mut ours: impl FnMut() -> anyhow::Result<f64>,
    mut peer: impl FnMut() -> anyhow::Result<f64>,
) -> anyhow::Result<Duel> {
    let mut duel = Duel::default();
    for turn in 0..=runs {
        let (a, b) = if turn % 2 == 0 {
            let a = ours()?;
            (a, peer()?)
        } else {
            let b = peer()?;
            (ours()?, b)
        };
        if turn > 0 {
            duel.push(a, b);
        }
    }
    Ok(duel)
}

#[cfg(test)]
mod tests {
    use super::{Duel, Samples};

    #[test]
    fn medians_and_ratios() {
        let mut samples = Samples::default();
        [3.0, 1.0, 2.0, 10.0].into_iter().for_each(|v| samples.push(v));
        assert_eq!((samples.median(), samples.spread(), samples.len()), (2.5, 3.6, 4));
        let mut turn = 0.0;
        let duel = Duel::run(
            3,
            || 2.0,
            || {
                turn += 1.0;
                turn
            },
        );
        assert_eq!((duel.ours.len(), duel.peer.median()), (3, 3.0), "the warm-up does not count");
        assert_eq!(duel.ratio(), 2.0 / 3.0);
    }
}
