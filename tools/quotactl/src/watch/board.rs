//! What `watch` knows: the newest answer, the one before it, and how often nobody answered. Free of I/O.

use super::alarms;
use super::status::{Platform, Prize};

/// The last looks.
#[derive(Default)]
pub struct Board {
    now: Option<Look>,
    before: Option<Look>,
    failure: Option<String>,
}

/// An answer and when it came.
struct Look {
    mono_ns: u64,
    platform: Platform,
}

impl Board {
    /// Takes an answer.
    pub fn answered(&mut self, mono_ns: u64, platform: Platform) {
        self.before = self.now.replace(Look { mono_ns, platform });
        self.failure = None;
    }

    /// Notes that there was none.
    pub fn failed(&mut self, why: String) {
        self.failure = Some(why);
    }

    /// The newest answer.
    pub fn platform(&self) -> Option<&Platform> {
        self.now.as_ref().map(|look| &look.platform)
    }

    /// Why there is no newer one, and how old it is, in seconds.
    pub fn stale(&self, mono_ns: u64) -> Option<(u64, &str)> {
        let why = self.failure.as_deref()?;
        let since = self.now.as_ref().map_or(0, |look| mono_ns.saturating_sub(look.mono_ns) / 1_000_000_000);
        Some((since, why))
    }

    /// All alarms.
    pub fn alarms(&self) -> Vec<String> {
        let silent = self.failure.as_ref().map(|why| format!("no answer: {why}"));
        silent.into_iter().chain(self.platform().map(alarms::find).unwrap_or_default()).collect()
    }

    /// Units of a prize that are won in a second: as the platform counts them, or from the last two answers.
    pub fn rate(&self, prize: &Prize) -> Option<u64> {
        prize.rate.or_else(|| {
            let (now, before) = (self.now.as_ref()?, self.before.as_ref()?);
            let same = |of: &&Prize| of.campaign == prize.campaign && of.at == prize.at;
            let earlier = before.platform.prizes.iter().find(same)?.awarded?;
            let ms = now.mono_ns.checked_sub(before.mono_ns)? / 1_000_000;
            prize.awarded?.saturating_sub(earlier).saturating_mul(1_000).checked_div(ms)
        })
    }

    /// Seconds until a prize is exhausted at its rate.
    pub fn lasts_s(&self, prize: &Prize) -> Option<u64> {
        let left = prize.left().filter(|left| *left > 0)?;
        left.checked_div(self.rate(prize)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn looked(awarded: u64) -> Platform {
        Platform::read(
            &json!({"prizes": [{"campaign": 7, "prize": "2/11", "budget": "1000", "awarded": awarded}]}),
        )
    }

    #[test]
    fn rates_come_from_two_answers() {
        let mut board = Board::default();
        board.answered(1_000_000_000, looked(100));
        assert_eq!(board.rate(&looked(100).prizes[0]), None);
        board.answered(3_000_000_000, looked(180));
        let prize = board.platform().unwrap().prizes[0].clone();
        assert_eq!((board.rate(&prize), board.lasts_s(&prize)), (Some(40), Some(20)));
        board.answered(4_000_000_000, looked(180));
        assert_eq!((board.rate(&prize), board.lasts_s(&prize)), (Some(0), None));
    }

    #[test]
    fn an_answer_stays_until_the_next() {
        let mut board = Board::default();
        board.answered(1_000_000_000, looked(1));
        board.failed("connection refused".into());
        assert!(board.platform().is_some());
        assert_eq!(board.stale(6_500_000_000), Some((5, "connection refused")));
        assert_eq!(board.alarms(), ["no answer: connection refused"]);
        board.answered(7_000_000_000, looked(1));
        assert_eq!(board.stale(7_000_000_000), None);
    }
}
