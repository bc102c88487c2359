//! What a rehearsal is told beside the plan: who comes, how players behave, who delivers, how many nodes there are.

use super::arrivals::Arrivals;
use super::districts::Districts;
use campaign::Plan;
use delivery::pace::LIMIT_MAX;
use std::collections::BTreeSet;
use std::str::FromStr;

/// Most players: each takes about a hundred bytes.
pub const PLAYERS_MAX: u64 = 100_000_000;
/// Most virtual nodes, those that a node is split into for its threads among them.
pub const PARTS_MAX: usize = 64;
/// Calls at once that a vendor takes if nothing else is said and its limit needs no more; delivery's own default.
const CONCURRENCY: u32 = 64;
/// Most calls at once of a vendor, as in delivery's settings.
const CONCURRENCY_MAX: u32 = 4_096;
/// Latency of a vendor of which nothing is said, ms.
const LATENCY_MS: u32 = 100;
/// Longest latency of a vendor, ms: delivery waits no longer for a call.
const LATENCY_MAX_MS: u32 = 600_000;

/// How players play. All of them alike, apart from chance.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Behaviour {
    /// A player leaves so long after he came, ms; `None`: when the last round has closed.
    pub stay_ms: Option<u64>,
    /// Shakes of each submit.
    pub shakes: u32,
    /// The first submit of a round comes within so many ms behind the instant at which the player may begin.
    pub first_within_ms: u32,
    /// A submit comes up to so many ms later than the answer before allowed: hands and networks.
    pub jitter_ms: u32,
    /// Winners of prizes that must be claimed who do so, in percent.
    pub claims_percent: u8,
    /// They claim within so many ms, and within the prize's term.
    pub claim_within_ms: u64,
}

impl Default for Behaviour {
    /// Everybody stays to the end, shakes three times a submit, begins within a second, and claims within a minute.
    fn default() -> Behaviour {
        Behaviour {
            stay_ms: None,
            shakes: 3,
            first_within_ms: 1_000,
            jitter_ms: 100,
            claims_percent: 100,
            claim_within_ms: 60_000,
        }
    }
}

/// How a vendor takes its orders.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VendorSetup {
    /// The vendor.
    pub vendor: u32,
    /// Its declared limit, calls a second; 0: it takes none.
    pub per_second: u32,
    /// How long a call takes, ms.
    pub latency_ms: u32,
    /// Calls at once.
    pub concurrency: u32,
}

impl VendorSetup {
    /// A vendor with as many calls at once as its limit needs (twice over), and at least delivery's default.
    pub fn new(vendor: u32, per_second: u32, latency_ms: u32) -> VendorSetup {
        let needed = u64::from(per_second) * u64::from(latency_ms) / 500;
        let concurrency = needed.clamp(u64::from(CONCURRENCY), u64::from(CONCURRENCY_MAX)) as u32;
        VendorSetup { vendor, per_second, latency_ms, concurrency }
    }

    /// A vendor of which nothing is said: as fast as its prizes are released, 100 ms a call.
    pub fn of_plan(vendor: &campaign::Vendor) -> VendorSetup {
        let limit = match vendor.release_per_second {
            0 => LIMIT_MAX,
            limit => u32::try_from(limit).unwrap_or(LIMIT_MAX).min(LIMIT_MAX),
        };
        VendorSetup::new(vendor.id.0, limit, LATENCY_MS)
    }
}

/// `ID=RATE:LATENCY_MS` or `ID=RATE:LATENCY_MS:CONCURRENCY`, as in `1=2000:50`.
impl FromStr for VendorSetup {
    type Err = SetupError;

    fn from_str(text: &str) -> Result<VendorSetup, SetupError> {
        let wrong = |what: &str| SetupError::Vendor { text: text.to_owned(), what: what.to_owned() };
        let (vendor, rest) = text.split_once('=').ok_or_else(|| wrong("there is no '='"))?;
        let vendor = vendor.trim().parse().map_err(|_| wrong("the vendor is no number"))?;
        let mut parts = rest.split(':').map(|part| part.trim().parse::<u32>());
        let mut next = |what: &str| parts.next().map(|n| n.map_err(|_| wrong(what))).transpose();
        let missing = || wrong("rate and latency are needed");
        let rate = next("the rate is no whole number")?.ok_or_else(missing)?;
        let latency = next("the latency is no whole number of ms")?.ok_or_else(missing)?;
        let concurrency = next("the calls at once are no whole number")?;
        if next("too many parts")?.is_some() {
            return Err(wrong("too many parts"));
        }
        let mut setup = VendorSetup::new(vendor, rate, latency);
        setup.concurrency = concurrency.unwrap_or(setup.concurrency);
        if rate > LIMIT_MAX || latency > LATENCY_MAX_MS || !(1..=CONCURRENCY_MAX).contains(&setup.concurrency)
        {
            let what = format!(
                "at most {LIMIT_MAX} a second, {LATENCY_MAX_MS} ms and 1 to {CONCURRENCY_MAX} calls at once"
            );
            return Err(wrong(&what));
        }
        Ok(setup)
    }
}

/// What a rehearsal is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Setup {
    /// Players there are.
    pub players: u64,
    /// When they come.
    pub arrivals: Arrivals,
    /// Where they are; `None`: nobody knows, and nobody wins what is limited to regions.
    pub districts: Option<Districts>,
    /// How they play.
    pub behaviour: Behaviour,
    /// Lottery nodes of the cluster.
    pub nodes: usize,
    /// Threads to rehearse on. A node that more than one thread works for is rehearsed as that many.
    pub threads: usize,
    /// Vendors that are not as the plan alone would have them.
    pub vendors: Vec<VendorSetup>,
    /// From a win to its record being durable, ms.
    pub log_ms: u32,
    /// Where all chance comes from.
    pub seed: u64,
}

impl Setup {
    /// So many players, who come in the minute before the first opening; one node, two threads.
    pub fn new(players: u64) -> Setup {
        Setup {
            players,
            arrivals: Arrivals::evenly(players, -60_000, 0),
            districts: None,
            behaviour: Behaviour::default(),
            nodes: 1,
            threads: 2,
            vendors: Vec::new(),
            log_ms: 1,
            seed: 1,
        }
    }

    /// Virtual nodes that are rehearsed: the nodes, each split so that every thread has one.
    pub fn parts(&self) -> usize {
        self.nodes * self.threads.div_ceil(self.nodes.max(1))
    }

    /// The vendor's setup: what was said, or what follows from the plan.
    pub fn vendor(&self, vendor: &campaign::Vendor) -> VendorSetup {
        let said = self.vendors.iter().find(|v| v.vendor == vendor.id.0);
        said.copied().unwrap_or_else(|| VendorSetup::of_plan(vendor))
    }

    /// Looks for what can't be.
    ///
    /// # Errors
    /// The first mistake, with what would be right.
    pub fn check(&self, plan: &Plan) -> Result<(), SetupError> {
        let range = |what, value: u64, least, most| {
            let fits = (least..=most).contains(&value);
            if fits { Ok(()) } else { Err(SetupError::Range { what, value, least, most }) }
        };
        if plan.rounds.is_empty() {
            return Err(SetupError::NoRounds);
        }
        range("players", self.players, 1, PLAYERS_MAX)?;
        range("players that come", self.arrivals.total(), 1, self.players)?;
        range("nodes", self.nodes as u64, 1, PARTS_MAX as u64)?;
        range("threads", self.threads as u64, 1, PARTS_MAX as u64)?;
        range("nodes times the threads of each", self.parts() as u64, 1, PARTS_MAX as u64)?;
        range("shakes of a submit", u64::from(self.behaviour.shakes), 1, 1_000)?;
        range("ms of the first submit", u64::from(self.behaviour.first_within_ms), 0, 600_000)?;
        range("ms of jitter", u64::from(self.behaviour.jitter_ms), 0, 60_000)?;
        range("percent of claims", u64::from(self.behaviour.claims_percent), 0, 100)?;
        range("ms from win to record", u64::from(self.log_ms), 0, 60_000)?;
        let known: BTreeSet<u32> = plan.vendors.iter().map(|v| v.id.0).collect();
        for (at, vendor) in self.vendors.iter().enumerate() {
            if !known.contains(&vendor.vendor) {
                return Err(SetupError::NoSuchVendor { vendor: vendor.vendor, known: list(&known) });
            }
            if self.vendors[..at].iter().any(|v| v.vendor == vendor.vendor) {
                return Err(SetupError::VendorTwice(vendor.vendor));
            }
        }
        Ok(())
    }
}

fn list(numbers: &BTreeSet<u32>) -> String {
    let texts: Vec<String> = numbers.iter().map(ToString::to_string).collect();
    texts.join(", ")
}

/// What is wrong with a setup.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SetupError {
    /// Too few or too many.
    #[error("{value} {what}: it must be {least} to {most}")]
    Range {
        /// Of what.
        what: &'static str,
        /// What was given.
        value: u64,
        /// Least.
        least: u64,
        /// Most.
        most: u64,
    },
    /// Nothing to rehearse.
    #[error("the plan has no rounds; there is nothing to rehearse")]
    NoRounds,
    /// A vendor as text.
    #[error(
        "vendor '{text}': {what}; write ID=RATE:LATENCY_MS, as in 1=2000:50, with calls at once behind it if you like: 1=2000:50:128"
    )]
    Vendor {
        /// What was written.
        text: String,
        /// What is wrong.
        what: String,
    },
    /// A vendor that the plan does not have.
    #[error("the plan has no vendor {vendor}; it has {known}")]
    NoSuchVendor {
        /// The vendor.
        vendor: u32,
        /// Those of the plan.
        known: String,
    },
    /// A vendor given twice.
    #[error("vendor {0} is given twice; once is right")]
    VendorTwice(u32),
}

#[cfg(test)]
mod tests {
    use super::{Setup, VendorSetup};

    #[test]
    fn reads_vendors() {
        let read = |text: &str| text.parse::<VendorSetup>();
        assert_eq!(
            read("1=2000:50"),
            Ok(VendorSetup { vendor: 1, per_second: 2000, latency_ms: 50, concurrency: 200 })
        );
        assert_eq!(read("7=10:5:3").map(|v| v.concurrency), Ok(3));
        for bad in ["1", "x=1:2", "1=2", "1=2:x", "1=2:3:4:5", "1=2:3:0", "1=9999999:3", "=1:2"] {
            let told = read(bad).unwrap_err().to_string();
            assert!(told.contains(bad) && told.contains("1=2000:50"), "{told}");
        }
    }

    #[test]
    fn every_thread_has_a_part() {
        let parts = |nodes, threads| Setup { nodes, threads, ..Setup::new(1) }.parts();
        assert_eq!([parts(1, 1), parts(1, 2), parts(3, 2), parts(2, 3)], [1, 2, 3, 4]);
    }
}
