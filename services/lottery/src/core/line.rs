//! A user's state in one campaign: one cache line, so that a losing entry costs one miss.

use campaign::{Limits, UserId};

/// `first_after_ms` of a user who has not entered the round yet.
pub const NOT_ENTERED: u32 = u32::MAX;

/// What the node knows of a user in a campaign. All zero: an empty place (user ids begin at 1).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C, align(64))]
pub struct Line {
    /// The user.
    pub user: u64,
    /// Last entry, ms UTC; 0: none.
    pub last_ms: u64,
    /// The campaign.
    pub campaign: u32,
    /// Round that `counter`, `first_after_ms` and `wins_round` belong to.
    pub round: u32,
    /// Counter of the last draw in the round; 0: none.
    pub counter: u32,
    /// Local day that `wins_day` belongs to.
    pub day: u32,
    /// First entry in the round, ms after its opening.
    pub first_after_ms: u32,
    /// Newest win of the user in the bucket's list of wins, plus 1; 0: none.
    pub wins_head: u32,
    /// Wins in the round.
    pub wins_round: u16,
    /// Wins on the day.
    pub wins_day: u16,
    /// Wins in the campaign.
    pub wins_campaign: u16,
}

const _: () = assert!(size_of::<Line>() == 64, "a user is one cache line");

impl Line {
    /// A user who comes for the first time.
    pub fn new(user: u64, campaign: u32) -> Line {
        Line { user, campaign, first_after_ms: NOT_ENTERED, ..Line::default() }
    }

    /// This user's in this campaign.
    #[inline]
    pub fn is_of(&self, user: u64, campaign: u32) -> bool {
        self.user == user && self.campaign == campaign
    }

    /// Nobody's.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.user == 0
    }
}

/// What an entry must know about its round: copied out of the plan once, so that the hot path reads one place.
#[derive(Clone, Copy, Debug)]
pub struct RoundRules {
    /// The round.
    pub round: u32,
    /// Opening, ms UTC.
    pub open_ms: u64,
    /// Closing, ms UTC.
    pub close_ms: u64,
    /// When the next round opens, ms UTC; 0: none comes.
    pub next_open_ms: u64,
    /// When the next local day begins, ms UTC; 0: the campaign has no further day.
    pub next_day_ms: u64,
    /// Limits of the plan.
    pub limits: Limits,
    /// Shortest submit interval to name.
    pub submit_min_ms: u32,
    /// Staggered start.
    pub stagger: campaign::plan::Stagger,
}

/// What becomes of a submit before any prize is looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Admission {
    /// A new draw with so many tries; the line has been moved on.
    Draw {
        /// Tries of the entry, at least 1.
        tries: u32,
    },
    /// The counter was used before: the stored outcome answers.
    Again,
    /// No entry: wait so many ms.
    TooEarly(u32),
    /// The user's group may not begin before this instant.
    NotOpen(u64),
    /// Nothing more can be won before this instant; 0: in this campaign.
    Limited(u64),
    /// A counter that can't be.
    BadCounter,
}

impl RoundRules {
    /// Least wait before the next submit.
    #[inline]
    pub fn next_submit_ms(&self) -> u32 {
        self.limits.interval_ms.max(self.submit_min_ms)
    }

    /// Takes an entry of `shakes` shakes in: rolls the line over to this round and day, checks counter, limits
    /// and interval, and moves the line on when it is a draw.
    #[inline]
    pub fn admit(&self, line: &mut Line, counter: u32, shakes: u32, day: u32, now_ms: u64) -> Admission {
        if line.round != self.round {
            line.round = self.round;
            line.counter = 0;
            line.wins_round = 0;
            line.first_after_ms = NOT_ENTERED;
        }
        if line.day != day {
            line.day = day;
            line.wins_day = 0;
        }
        if counter != 0 && counter <= line.counter {
            return Admission::Again;
        }
        if let Some(until) = self.limit_reached(line, now_ms) {
            return Admission::Limited(until);
        }
        let start = self.open_ms + self.stagger.delay_ms(UserId(line.user));
        if now_ms < start {
            return Admission::NotOpen(start);
        }
        if counter == 0 {
            return Admission::BadCounter;
        }
        match self.counter_from_ms(counter).saturating_sub(now_ms) {
            0 => {}
            // The next draw of someone whose last entry a restart forgot: early, not wrong.
            wait if wait <= u64::from(self.limits.interval_ms) => return Admission::TooEarly(wait as u32),
            _ => return Admission::BadCounter,
        }
        let next_ms = line.last_ms + u64::from(self.limits.interval_ms);
        if now_ms < next_ms && line.last_ms != 0 {
            return Admission::TooEarly((next_ms - now_ms) as u32);
        }
        let tries = shakes.clamp(1, self.shakes_possible(line, start, now_ms));
        line.counter = counter;
        line.last_ms = now_ms;
        if line.first_after_ms == NOT_ENTERED {
            line.first_after_ms = (now_ms - self.open_ms).min(u64::from(NOT_ENTERED - 1)) as u32;
        }
        Admission::Draw { tries }
    }

    /// Until when the user can win nothing, if that is so.
    #[inline]
    fn limit_reached(&self, line: &Line, now_ms: u64) -> Option<u64> {
        let reached = |wins: u16, limit: u16| limit != 0 && wins >= limit;
        let l = &self.limits;
        if reached(line.wins_campaign, l.wins_campaign) {
            return Some(0);
        }
        if reached(line.wins_day, l.wins_day) {
            return Some(self.next_day_ms);
        }
        let over = l.participation_ms != 0
            && line.first_after_ms != NOT_ENTERED
            && now_ms > self.open_ms + u64::from(line.first_after_ms) + u64::from(l.participation_ms);
        (over || reached(line.wins_round, l.wins_round)).then_some(self.next_open_ms)
    }

    /// When a user who entered as often as allowed since the round began could first have this counter.
    #[inline]
    fn counter_from_ms(&self, counter: u32) -> u64 {
        self.open_ms + u64::from(counter - 1) * u64::from(self.limits.interval_ms.max(1))
    }

    /// What a hand can have shaken since the last entry, or since the user could begin; at least 1.
    #[inline]
    fn shakes_possible(&self, line: &Line, start_ms: u64, now_ms: u64) -> u32 {
        let since = now_ms - line.last_ms.max(start_ms).min(now_ms);
        let n = since.min(3_600_000) * u64::from(self.limits.shakes_per_second) / 1000;
        (n as u32).max(1)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::{Admission, Line, RoundRules};
    use campaign::Limits;

    pub(crate) fn rules() -> RoundRules {
        RoundRules {
            round: 7,
            open_ms: 100_000,
            close_ms: 160_000,
            next_open_ms: 200_000,
            next_day_ms: 900_000,
            limits: Limits {
                wins_round: 1,
                wins_day: 2,
                wins_campaign: 3,
                participation_ms: 30_000,
                interval_ms: 2_000,
                shakes_per_second: 5,
            },
            submit_min_ms: 1_000,
            stagger: campaign::plan::Stagger::default(),
        }
    }

    #[test]
    fn an_entry_follows_another_after_the_interval() {
        let (r, mut line) = (rules(), Line::new(1, 1));
        assert_eq!(r.admit(&mut line, 1, 3, 5, 100_000), Admission::Draw { tries: 1 });
        assert_eq!(r.admit(&mut line, 1, 3, 5, 100_001), Admission::Again);
        assert_eq!(r.admit(&mut line, 2, 3, 5, 101_999), Admission::TooEarly(1));
        assert_eq!(
            r.admit(&mut line, 3, 3, 5, 101_999),
            Admission::BadCounter,
            "nobody can have come so often"
        );
        assert_eq!(r.admit(&mut line, 2, 3, 5, 102_000), Admission::Draw { tries: 3 });
        assert_eq!(
            r.admit(&mut line, 3, 99, 5, 103_999),
            Admission::TooEarly(1),
            "no faster than the interval"
        );
        assert_eq!(r.admit(&mut line, 3, 99, 5, 104_500), Admission::Draw { tries: 12 });
        assert_eq!(r.admit(&mut line, 4, 1, 5, 106_499), Admission::TooEarly(1));
        assert_eq!(r.admit(&mut line, 0, 1, 5, 108_000), Admission::BadCounter);
        assert_eq!(line.counter, 3, "what was no entry leaves the counter alone");
    }

    #[test]
    fn limits_say_until_when() {
        let (r, mut line) = (rules(), Line::new(1, 1));
        assert_eq!(r.admit(&mut line, 1, 1, 5, 110_000), Admission::Draw { tries: 1 });
        assert_eq!(r.admit(&mut line, 2, 1, 5, 140_001), Admission::Limited(200_000), "30 s are over");
        line.wins_round = 1;
        assert_eq!(r.admit(&mut line, 2, 1, 5, 115_000), Admission::Limited(200_000));
        line.wins_day = 2;
        assert_eq!(r.admit(&mut line, 2, 1, 5, 115_000), Admission::Limited(900_000));
        line.wins_campaign = 3;
        assert_eq!(r.admit(&mut line, 2, 1, 5, 115_000), Admission::Limited(0));
        assert_eq!(
            r.admit(&mut line, 1, 1, 5, 115_000),
            Admission::Again,
            "a resend is answered all the same"
        );
    }

    #[test]
    fn a_new_round_and_a_new_day_begin_anew() {
        let (mut r, mut line) = (rules(), Line::new(1, 1));
        line = Line { round: 6, counter: 50, wins_round: 1, day: 5, wins_day: 2, wins_campaign: 2, ..line };
        assert_eq!(r.admit(&mut line, 1, 1, 5, 110_000), Admission::Limited(900_000));
        assert_eq!(r.admit(&mut line, 1, 1, 6, 110_000), Admission::Draw { tries: 1 });
        assert_eq!((line.wins_round, line.wins_day, line.wins_campaign), (0, 0, 2));
        r.stagger = campaign::plan::Stagger { groups: 2, step_ms: 60_000 };
        let mut odd = Line::new(1, 1);
        assert_eq!(r.admit(&mut odd, 1, 1, 5, 110_000), Admission::NotOpen(160_000));
    }
}
