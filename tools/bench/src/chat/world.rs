//! A platform to chat on, and floods of messages over it.

use crate::Plan;
use crate::front::campaign::Campaign;
use crate::front::platform::{Platform, Setup};
use crate::measure::Samples;
use crate::report::{Figure, Report};
use anyhow::{Context, Result, bail};
use loadgen::chat::flood::{self, FloodConfig, FloodReport, Talk};
use loadgen::meter::cores;
use runtime::{Shutdown, SystemClock};

/// Bytes of a message.
pub const BODY: usize = 128;

/// Connections of a run that fit a quick one.
const QUICK_USERS: u32 = 200;

/// A platform, and whom nobody has used yet on it.
pub struct World {
    /// The platform.
    pub platform: Platform,
    next_user: u64,
}

/// What a flood is to be.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// With whom.
    pub talk: Talk,
    /// Users, each with a connection.
    pub users: u32,
    /// Messages a second.
    pub rate: f64,
    /// How long they count, in ms.
    pub run_ms: u64,
}

impl World {
    /// Starts a platform on which nothing can be won; `set` differs from what is shipped.
    pub fn start(plan: &Plan, set: &[&str]) -> Result<World> {
        let mut setup = Setup::held_back(Campaign { wins_per_second: 1, interval_ms: 1_000, times: 1 });
        setup.set.extend(set.iter().map(|&s| s.to_owned()));
        Ok(World { platform: Platform::start(&plan.scratch, setup)?, next_user: 1_000_000 })
    }

    /// So many users whom nobody has used: the first.
    pub fn users(&mut self, count: u32) -> u64 {
        let first = self.next_user;
        self.next_user += u64::from(count);
        first
    }

    /// A flood of people who never chatted before, and what CPU the platform took for it, in s a second.
    pub fn flood(&mut self, wanted: &Wanted) -> Result<(FloodReport, f64)> {
        let first_user = self.users(wanted.users);
        let config = self.config(wanted, first_user);
        let before = self.platform.cpu_s()?;
        let began = crate::measure::now_ns();
        let report = flood::run(&config, &SystemClock::shared(), &Shutdown::new());
        let seconds = (crate::measure::now_ns() - began) as f64 / 1e9;
        let report = report.with_context(|| format!("chat with {wanted:?}"));
        self.platform.must_run()?;
        Ok((report?, (self.platform.cpu_s()? - before) / seconds))
    }

    /// The flood's configuration.
    pub fn config(&self, wanted: &Wanted, first_user: u64) -> FloodConfig {
        FloodConfig {
            address: self.platform.frames,
            key: self.platform.key.clone(),
            users: wanted.users,
            first_user,
            talk: wanted.talk,
            rate: wanted.rate,
            body: BODY,
            warm_ms: if wanted.run_ms < 2_000 { 300 } else { 2_000 },
            run_ms: wanted.run_ms,
            wait_ms: 120_000,
        }
    }
}

/// Users of a run: fewer in a quick one.
pub fn people(plan: &Plan, users: u32) -> u32 {
    if plan.quick { users.min(QUICK_USERS) } else { users }
}

/// Length of one run that counts, in ms.
pub fn run_ms(plan: &Plan) -> u64 {
    if plan.quick { 1_000 } else { (plan.seconds * 1_000).clamp(1_000, 10_000) }
}

/// An error if anything was lost, doubled or refused.
pub fn clean(report: &FloodReport) -> Result<()> {
    let FloodReport { duplicates, holes, unanswered, refused, first_refusal, .. } = report;
    if duplicates + holes + unanswered + refused > 0 || report.acked == 0 {
        bail!(
            "{} messages acknowledged, {duplicates} came twice, {holes} did not come, {unanswered} were never answered, {refused} refused {first_refusal}",
            report.acked
        );
    }
    Ok(())
}

/// What one must know of some runs: how busy the machine was, and what was not answered at once.
pub fn busy(reports: &[(FloodReport, f64)]) -> String {
    let mean = |of: &dyn Fn(&(FloodReport, f64)) -> f64| {
        reports.iter().map(of).sum::<f64>() / reports.len().max(1) as f64
    };
    format!(
        "the platform took {:.0} % of {} cores and the generator {:.0} %; {} answers 'come again'",
        mean(&|r| r.1) * 100.0 / cores(),
        cores(),
        mean(&|r| r.0.cpu_share) * 100.0,
        reports.iter().map(|r| r.0.not_at_once).sum::<u64>()
    )
}

/// The highest rate that is held: from `aim` up by steps to `most`, or down. Each is tried once more before it is given up;
/// `one` is a run at a rate, and whether it was held.
pub fn highest<T>(
    (aim, step, most): (u64, u64, u64),
    mut one: impl FnMut(u64) -> Result<(T, bool)>,
) -> Result<Option<(u64, T)>> {
    let mut at = |rate: u64| -> Result<Option<(u64, T)>> {
        for _ in 0..2 {
            let (done, held) = one(rate)?;
            if held {
                return Ok(Some((rate, done)));
            }
        }
        Ok(None)
    };
    let (mut rate, mut best) = (aim, at(aim)?);
    if best.is_some() {
        while rate + step <= most
            && let Some(higher) = at(rate + step)?
        {
            (rate, best) = (rate + step, Some(higher));
        }
    } else {
        while best.is_none() && rate > step {
            rate -= step;
            best = at(rate)?;
        }
    }
    Ok(best)
}

/// A search for the highest rate of messages a second that is held: acknowledged soon enough, and hardly anything left behind.
pub struct Hold {
    /// The figure.
    pub name: &'static str,
    /// The rate that is tried first, in messages a second.
    pub aim: u64,
    /// From it the search goes up or down by so many.
    pub step: u64,
    /// No more than so many are tried.
    pub most: u64,
    /// Acknowledgements take less at p99, in ms.
    pub p99_ms: f64,
    /// What is wanted.
    pub goal: &'static str,
}

/// Of the messages asked for, so many are acknowledged.
const HELD_SHARE: f64 = 0.99;

impl Hold {
    /// Searches. `flood` is a run at a rate, `of` its report, and `busy` what one must know of some runs.
    pub fn find<T>(
        &self,
        plan: &Plan,
        report: &mut Report,
        mut flood: impl FnMut(u64) -> Result<T>,
        of: impl Fn(&T) -> &FloodReport,
        busy: impl Fn(&[T]) -> String,
    ) -> Result<()> {
        let step = plan.sized(self.step);
        let best = highest((plan.sized(self.aim), step, plan.sized(self.most)), |rate| {
            let done = flood(rate)?;
            let held = clean(of(&done)).is_ok()
                && ms(of(&done).ack_latency.p99_us) < self.p99_ms
                && of(&done).acked_per_second >= rate as f64 * HELD_SHARE;
            Ok((done, held))
        })?;
        let mut samples = Samples::default();
        samples.push(best.as_ref().map_or(0.0, |(rate, _)| *rate as f64));
        let told = best.map_or("none was held".to_owned(), |(_, done)| {
            let FloodReport { ack_latency: ack, delivery_latency: delivery, .. } = of(&done);
            format!(
                "at it p50 {:.1} and p99 {:.1} ms to the acknowledgement, p99 {:.1} ms to the receiver; {}",
                ms(ack.p50_us),
                ms(ack.p99_us),
                ms(delivery.p99_us),
                busy(std::slice::from_ref(&done))
            )
        });
        let note = format!(
            "highest rate, in steps of {step}, that was acknowledged to {:.0} % with p99 below {} ms in one of two runs of {:.0} s; {told}",
            HELD_SHARE * 100.0,
            self.p99_ms,
            run_ms(plan) as f64 / 1e3
        );
        alone(report, self.name, &samples, "messages/s", self.goal, &note);
        Ok(())
    }
}

/// Milliseconds.
pub fn ms(us: u64) -> f64 {
    us as f64 / 1e3
}

/// Adds a figure without a peer.
pub fn alone(report: &mut Report, name: &str, samples: &Samples, unit: &str, goal: &str, note: &str) {
    report.add(Figure::alone(name, samples, unit, goal, note.to_owned()));
}

#[cfg(test)]
mod tests {
    use super::highest;

    #[test]
    fn finds_the_highest_rate_that_is_held() {
        let find = |limit: u64| {
            let mut tries = 0;
            let one = |rate: u64| {
                tries += 1;
                // The first run at each rate is spoilt.
                Ok(((), rate <= limit && tries % 2 == 0))
            };
            highest((40, 10, 90), one).unwrap().map(|(rate, ())| rate)
        };
        assert_eq!([65, 40, 35, 12, 500].map(find), [Some(60), Some(40), Some(30), Some(10), Some(90)]);
        assert_eq!(find(5), None);
    }
}
