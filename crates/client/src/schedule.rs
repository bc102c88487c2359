//! The rounds of a campaign, as a client keeps them: when it may submit, and when it need not.

use protocol::v1::CampaignView;

/// A round's time, ms UTC by the server's clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Window {
    /// The round.
    pub round: u32,
    /// First ms at which this client may submit: the opening and the delay of its group.
    pub start_ms: u64,
    /// Opening.
    pub open_ms: u64,
    /// First ms at which no entry counts.
    pub close_ms: u64,
}

/// A campaign's rounds. Views name only rounds that run or come; what was known before is kept.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Schedule {
    campaign: u32,
    interval_ms: u32,
    windows: Vec<Window>,
}

impl Schedule {
    /// The campaign of a view.
    pub fn new(view: &CampaignView) -> Self {
        let mut schedule = Self { campaign: view.campaign, ..Self::default() };
        schedule.update(view);
        schedule
    }

    /// Takes a newer view of the same campaign; one of another is ignored. Rounds move as it says.
    pub fn update(&mut self, view: &CampaignView) {
        if view.campaign != self.campaign {
            return;
        }
        self.interval_ms = view.interval_ms.max(view.submit_min_ms);
        for round in &view.rounds {
            let window = Window {
                round: round.round,
                start_ms: round.open_ms.saturating_add(round.start_delay_ms.into()),
                open_ms: round.open_ms,
                close_ms: round.close_ms,
            };
            match self.windows.iter_mut().find(|w| w.round == round.round) {
                Some(known) => *known = window,
                None => self.windows.push(window),
            }
        }
        self.windows.sort_unstable_by_key(|w| w.open_ms);
    }

    /// The campaign.
    pub fn campaign(&self) -> u32 {
        self.campaign
    }

    /// Least time from one submit to the next, in ms.
    pub fn interval_ms(&self) -> u32 {
        self.interval_ms
    }

    /// All rounds that have been heard of, by opening.
    pub fn windows(&self) -> &[Window] {
        &self.windows
    }

    /// The round that this client may submit for at an instant.
    pub fn at(&self, now_ms: u64) -> Option<Window> {
        self.windows.iter().find(|w| w.start_ms <= now_ms && now_ms < w.close_ms).copied()
    }

    /// The first instant, `from_ms` or later, at which this client may submit.
    pub fn next_start(&self, from_ms: u64) -> Option<u64> {
        let start = |w: &Window| w.start_ms.max(from_ms);
        self.windows.iter().filter(|w| start(w) < w.close_ms).map(start).min()
    }

    /// When the last round closes.
    pub fn last_close_ms(&self) -> Option<u64> {
        self.windows.iter().map(|w| w.close_ms).max()
    }
}

#[cfg(test)]
mod tests {
    use super::Schedule;
    use protocol::v1::{CampaignView, RoundView};

    fn view(rounds: &[(u32, u64, u64, u32)]) -> CampaignView {
        let rounds = rounds.iter().map(|&(round, open_ms, close_ms, start_delay_ms)| RoundView {
            round,
            open_ms,
            close_ms,
            start_delay_ms,
            ..RoundView::default()
        });
        CampaignView {
            campaign: 4,
            interval_ms: 2_000,
            submit_min_ms: 1_000,
            rounds: rounds.collect(),
            ..CampaignView::default()
        }
    }

    #[test]
    fn knows_when_to_submit() {
        let mut s = Schedule::new(&view(&[(2, 300, 400, 0), (1, 100, 200, 30)]));
        assert_eq!((s.at(129), s.at(130).map(|w| w.round), s.at(200)), (None, Some(1), None));
        assert_eq!(
            (s.next_start(0), s.next_start(150), s.next_start(200), s.next_start(400)),
            (Some(130), Some(150), Some(300), None)
        );
        // Round 1 is over and no longer shown; round 2 is longer than planned.
        s.update(&view(&[(2, 300, 500, 0)]));
        assert_eq!((s.windows().len(), s.last_close_ms(), s.interval_ms()), (2, Some(500), 2_000));
        s.update(&CampaignView { campaign: 5, ..view(&[(9, 0, 9_000, 0)]) });
        assert_eq!(s.last_close_ms(), Some(500));
    }
}
