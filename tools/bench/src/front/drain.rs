//! What was held back during a run, and how long it takes once it is let go.

use super::platform::Platform;
use crate::measure::now_ns;
use anyhow::Result;
use serde_json::Value;
use std::time::Duration;

/// How often it is looked. A look counts all orders, so it is no small thing.
const LOOK: Duration = Duration::from_secs(1);

/// What stands between winners and their prizes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Backlog {
    /// Awards won.
    pub won: u64,
    /// Awards that flow has stored.
    pub stored: u64,
    /// Awards that delivery has taken down.
    pub taken: u64,
    /// Of those, how many are to be sent or are under way.
    pub open: u64,
}

impl Backlog {
    /// How it stands now.
    pub fn of(platform: &Platform) -> Result<Backlog> {
        let status = platform.status()?;
        let vendors = status["delivery"]["vendors"].as_array().cloned().unwrap_or_default();
        let states = |v: &Value| -> u64 {
            v["states"].as_object().map_or(0, |s| s.values().filter_map(Value::as_u64).sum())
        };
        Ok(Backlog {
            won: status["node"]["wins"].as_u64().unwrap_or(0),
            stored: status["flow"]["awards"].as_u64().unwrap_or(0),
            taken: vendors.iter().map(states).sum(),
            open: vendors.iter().filter_map(|v| v["backlog"].as_u64()).sum(),
        })
    }

    /// Awards that are not yet where they will stay: delivered, or with the player to be claimed.
    pub fn left(&self) -> u64 {
        self.won.saturating_sub(self.taken) + self.open
    }
}

/// How long it took, in s since the release; `None`: not within the time given.
#[derive(Clone, Copy, Debug, Default)]
pub struct Drained {
    /// Until flow had stored every award.
    pub stored_s: Option<f64>,
    /// Until delivery had taken down every award.
    pub taken_s: Option<f64>,
    /// Until everything was delivered that is delivered without a claim.
    pub delivered_s: Option<f64>,
    /// What was left at the end.
    pub last: Backlog,
}

/// Lets delivery send, and waits until everything has arrived.
pub fn drain(platform: &mut Platform, within: Duration) -> Result<Drained> {
    let start_ns = now_ns();
    platform.release()?;
    let mut done = Drained::default();
    loop {
        platform.must_run()?;
        done.last = Backlog::of(platform)?;
        let now_s = (now_ns() - start_ns) as f64 / 1e9;
        if done.last.stored >= done.last.won {
            done.stored_s.get_or_insert(now_s);
        }
        if done.last.taken >= done.last.won {
            done.taken_s.get_or_insert(now_s);
            if done.last.open == 0 {
                done.delivered_s = Some(now_s);
                return Ok(done);
            }
        }
        if now_s > within.as_secs_f64() {
            return Ok(done);
        }
        std::thread::sleep(LOOK);
    }
}
