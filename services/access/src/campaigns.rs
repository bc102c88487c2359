//! What the front door knows of campaigns: which rounds are open for whom, and what clients are shown.
//!
//! Plans come from a [`PlanSource`]. Each worker makes its own compact table when the source's version changes, so a
//! submit reads a few numbers that lie side by side and never a plan.

use std::sync::Arc;

use campaign::UserId;
use campaign::plan::{Plan, Stagger};
use protocol::v1::{CampaignView, RoundView};

use crate::limits::RESEND_GRACE_MS;

/// Where plans come from. Both calls are cheap; `version` is asked for each batch and must be one atomic load. A
/// version seen means that `plans` gives at least what was current then.
pub trait PlanSource: Send + Sync {
    /// Changes whenever the plans do, and whenever a grey plan comes, goes or changes its share: what is known of
    /// users who can win nothing is then forgotten.
    fn version(&self) -> u64;

    /// The plans in force, one for each campaign.
    fn plans(&self) -> Arc<Vec<Arc<Plan>>>;
}

/// Plans that never change: for tools and tests.
pub struct FixedPlans(Arc<Vec<Arc<Plan>>>);

impl FixedPlans {
    /// A source of these plans.
    pub fn new(plans: Vec<Arc<Plan>>) -> Arc<Self> {
        Arc::new(Self(Arc::new(plans)))
    }
}

impl PlanSource for FixedPlans {
    fn version(&self) -> u64 {
        1
    }

    fn plans(&self) -> Arc<Vec<Arc<Plan>>> {
        Arc::clone(&self.0)
    }
}

#[derive(Clone, Copy)]
struct Window {
    round: u32,
    open_ms: u64,
    close_ms: u64,
}

/// A campaign, as a submit needs it.
pub struct Campaign {
    id: u32,
    stagger: Stagger,
    /// Shortest interval that clients are told.
    pub submit_min_ms: u32,
    /// Longest interval that clients are told.
    pub submit_max_ms: u32,
    /// By opening time.
    windows: Vec<Window>,
    plan: Arc<Plan>,
}

/// Whether a submit falls into its window.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// Let it through.
    Open,
    /// Nothing to be had before this instant (ms UTC; 0: never again).
    NotOpen(u64),
    /// The campaign has no such round.
    NoRound,
}

impl Campaign {
    fn new(plan: Arc<Plan>) -> Self {
        let mut windows: Vec<_> = plan
            .rounds
            .iter()
            .map(|r| Window { round: r.id.0, open_ms: r.open_ms, close_ms: r.close_ms })
            .collect();
        windows.sort_unstable_by_key(|w| w.open_ms);
        Self {
            id: plan.campaign.0,
            stagger: plan.stagger,
            submit_min_ms: plan.pacing.submit_min_ms,
            submit_max_ms: plan.pacing.submit_max_ms,
            windows,
            plan,
        }
    }

    /// Where a user's submit for a round stands at an instant.
    #[inline]
    pub fn standing(&self, user: u64, round: u32, now_ms: u64) -> Standing {
        let Some(window) = self.windows.iter().find(|w| w.round == round) else { return Standing::NoRound };
        let delay_ms = self.stagger.delay_ms(UserId(user));
        if now_ms < window.open_ms + delay_ms {
            return Standing::NotOpen(window.open_ms + delay_ms);
        }
        if now_ms >= window.close_ms.saturating_add(RESEND_GRACE_MS) {
            let next = self.windows.iter().find(|w| w.close_ms > now_ms);
            return Standing::NotOpen(next.map_or(0, |w| w.open_ms + delay_ms));
        }
        Standing::Open
    }

    /// Whether a round begins later than another.
    pub fn is_later(&self, round: u32, than: u32) -> bool {
        let opens = |id| self.windows.iter().find(|w| w.round == id).map(|w| w.open_ms);
        matches!((opens(round), opens(than)), (Some(this), Some(other)) if this > other)
    }

    /// As a client sees it: rounds that run or come.
    pub fn view(&self, user: u64, now_ms: u64) -> CampaignView {
        let start_delay_ms = self.stagger.delay_ms(UserId(user)) as u32;
        let rounds = self.plan.rounds.iter().filter(|r| now_ms < r.close_ms);
        CampaignView {
            campaign: self.id,
            name: self.plan.name.clone(),
            seq_no: self.plan.seq_no.0,
            rounds: rounds
                .map(|r| RoundView {
                    round: r.id.0,
                    name: r.name.clone(),
                    open_ms: r.open_ms,
                    close_ms: r.close_ms,
                    start_delay_ms,
                    seed_commitment: r.seed_commitment.to_vec(),
                })
                .collect(),
            interval_ms: self.plan.limits.interval_ms,
            submit_min_ms: self.submit_min_ms,
        }
    }
}

/// All campaigns under one version of the source.
pub struct Campaigns {
    version: u64,
    all: Vec<Campaign>,
}

impl Campaigns {
    /// The source's present plans.
    pub fn read(source: &dyn PlanSource) -> Self {
        // The version first: plans that change in between are read again at the next look.
        let version = source.version();
        Self { version, all: source.plans().iter().map(|plan| Campaign::new(Arc::clone(plan))).collect() }
    }

    /// Reads anew if the source has changed; true if it has.
    #[inline]
    pub fn refresh(&mut self, source: &dyn PlanSource) -> bool {
        let changed = source.version() != self.version;
        if changed {
            *self = Self::read(source);
        }
        changed
    }

    /// A campaign by its id.
    #[inline]
    pub fn get(&self, id: u32) -> Option<&Campaign> {
        self.all.iter().find(|campaign| campaign.id == id)
    }

    /// As a client sees them. `user` is 0 for a gateway, which computes start delays itself from `user mod groups`
    /// or takes them from the answers.
    pub fn views(&self, user: u64, now_ms: u64) -> Vec<CampaignView> {
        self.all.iter().map(|campaign| campaign.view(user, now_ms)).collect()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use campaign::plan::{ClientPacing, Limits, Round};
    use campaign::{CampaignId, RoundId, SeqNo};

    /// A campaign 1 with rounds 1 (1,000,000 to 1,600,000 ms) and 2 (2,000,000 to 2,600,000); two groups, 1 minute.
    pub(crate) fn plan() -> Plan {
        let round = |id: u32| Round {
            id: RoundId(id),
            name: format!("round {id}"),
            open_ms: u64::from(id) * 1_000_000,
            close_ms: u64::from(id) * 1_000_000 + 600_000,
            seed_key_id: 1,
            seed_commitment: [0; 32],
            prizes: vec![],
        };
        Plan {
            campaign: CampaignId(1),
            seq_no: SeqNo(7),
            name: "new year".into(),
            source_sha256: [0; 32],
            time_zone: "UTC".into(),
            days: vec![],
            limits: Limits { interval_ms: 2_000, ..Limits::default() },
            stagger: Stagger { groups: 2, step_ms: 60_000 },
            pacing: ClientPacing { submit_min_ms: 1_000, submit_max_ms: 3_000 },
            rounds: vec![round(1), round(2)],
            regions: Vec::new(),
            vendors: vec![],
        }
    }

    #[test]
    fn windows_open_by_group_and_close_behind_a_grace() {
        let campaign = Campaign::new(Arc::new(plan()));
        assert_eq!(campaign.standing(2, 1, 999_999), Standing::NotOpen(1_000_000));
        assert_eq!(campaign.standing(2, 1, 1_000_000), Standing::Open);
        assert_eq!(campaign.standing(3, 1, 1_059_999), Standing::NotOpen(1_060_000));
        assert_eq!(campaign.standing(3, 1, 1_060_000), Standing::Open);
        assert_eq!(campaign.standing(2, 1, 1_659_999), Standing::Open);
        assert_eq!(campaign.standing(3, 1, 1_660_000), Standing::NotOpen(2_060_000));
        assert_eq!(campaign.standing(3, 2, 2_660_000), Standing::NotOpen(0));
        assert_eq!(campaign.standing(2, 3, 1_000_000), Standing::NoRound);
        assert!(campaign.is_later(2, 1) && !campaign.is_later(1, 2) && !campaign.is_later(3, 1));
    }

    #[test]
    fn clients_see_what_runs_and_comes() {
        let campaigns = Campaigns::read(&*FixedPlans::new(vec![Arc::new(plan())]));
        let views = campaigns.views(3, 1_600_000);
        assert_eq!(
            views[0].rounds.iter().map(|r| (r.round, r.start_delay_ms)).collect::<Vec<_>>(),
            [(2, 60_000)]
        );
        assert_eq!((views[0].seq_no, views[0].interval_ms, views[0].submit_min_ms), (7, 2_000, 1_000));
        assert!(campaigns.get(2).is_none());
    }
}
