//! Grey release: a second plan beside the active one, for a share of the users.
//!
//! It exists so that new odds, limits or speeds can be tried on few before they hold for all. Both plans draw from
//! the same leases, so a budget is never split and never counted twice; that is why they may differ only in what is
//! not about units: [`check`] says in what. Who is in follows from user and campaign alone ([`takes`]): every node
//! gives the same answer, and nobody falls out when the share grows.
//!
//! Release speeds are the ledger's and hold for all users; [`blended`] makes the plan that tells it. Pauses come from
//! the active plan. Nothing has to be recovered: a node that starts is told both plans.

use campaign::{CampaignId, Plan, Prize, Round, SeqNo};
use std::sync::Arc;

/// Everybody, in thousandths.
pub const WHOLE: u16 = 1_000;

/// A grey release as a node has it.
#[derive(Clone, Debug)]
pub struct Grey {
    /// The plan that is tried.
    pub plan: Arc<Plan>,
    /// Share of the users who draw under it on this node, in thousandths; 0: none, 1,000: all.
    pub users_per_mille: u16,
    /// Share with which its speeds count, in thousandths. The same on every node: where a release is by users, their
    /// share; where it is by nodes, the share of the nodes that have it.
    pub speeds_per_mille: u16,
}

impl Grey {
    /// A release to a share of the users, on every node.
    pub fn to_users(plan: Arc<Plan>, users_per_mille: u16) -> Grey {
        Grey { plan, users_per_mille, speeds_per_mille: users_per_mille }
    }
}

/// Why a plan is not taken as a grey one.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum GreyRefused {
    /// There is no active plan to stand beside.
    #[error("campaign {0} has no active plan here; a grey one stands beside an active one")]
    NoActive(CampaignId),
    /// A plan of another campaign.
    #[error("SeqNo {seq_no} is a plan of campaign {is}, not of campaign {campaign}")]
    Campaign {
        /// The plan's SeqNo.
        seq_no: SeqNo,
        /// The plan's campaign.
        is: CampaignId,
        /// The campaign that was named.
        campaign: CampaignId,
    },
    /// More than everybody.
    #[error("a share of {0} in 1,000 users is more than all of them")]
    Share(u16),
    /// The SeqNo of the active plan, which would make its wins and those of the active one look alike.
    #[error("SeqNo {0} is the active plan's own; a grey plan has one of its own")]
    SameSeqNo(SeqNo),
    /// It differs where it may not.
    #[error(
        "grey SeqNo {grey} differs from active SeqNo {active}: {path}: {what}; it may differ only in weights, \
         regions, limits, client pacing, stagger and speeds"
    )]
    Differs {
        /// The active plan.
        active: SeqNo,
        /// The grey plan.
        grey: SeqNo,
        /// Where, for people.
        path: String,
        /// What.
        what: &'static str,
    },
    /// The grey plan is the newer one, and has other pauses.
    #[error(
        "grey SeqNo {grey} is newer than active SeqNo {active} and has other pauses ({path}); a grey plan is made \
         with those of the active one, so read both again"
    )]
    Pauses {
        /// The active plan.
        active: SeqNo,
        /// The grey plan.
        grey: SeqNo,
        /// Where, for people.
        path: String,
    },
}

/// May `grey` stand beside `active`? A plan that is newer than the grey one may have other pauses; they are what counts.
///
/// # Errors
/// The first thing in which they differ and may not.
pub fn check(active: &Plan, grey: &Plan) -> Result<(), GreyRefused> {
    if grey.campaign != active.campaign {
        let (is, campaign) = (grey.campaign, active.campaign);
        return Err(GreyRefused::Campaign { seq_no: grey.seq_no, is, campaign });
    }
    if grey.seq_no == active.seq_no {
        return Err(GreyRefused::SameSeqNo(grey.seq_no));
    }
    let differs = |path: String, what| {
        Err(GreyRefused::Differs { active: active.seq_no, grey: grey.seq_no, path, what })
    };
    if let Some(what) = first_true([
        (active.name != grey.name, "another name"),
        (active.time_zone != grey.time_zone || active.days != grey.days, "other days"),
        (active.rounds.len() != grey.rounds.len(), "more or fewer rounds"),
        (!same_vendors(active, grey), "other vendors"),
    ]) {
        return differs(format!("campaign {}", active.campaign), what);
    }
    for (a, g) in active.rounds.iter().zip(&grey.rounds) {
        if let Some(what) = round_differs(a, g) {
            return differs(format!("round {}", a.id), what);
        }
        for (ap, gp) in a.prizes.iter().zip(&g.prizes) {
            let path = || format!("round {}, prize {}", a.id, ap.id);
            if let Some(what) = prize_differs(ap, gp) {
                return differs(path(), what);
            }
            if grey.seq_no > active.seq_no && ap.paused != gp.paused {
                let (active, grey, path) = (active.seq_no, grey.seq_no, path());
                return Err(GreyRefused::Pauses { active, grey, path });
            }
        }
    }
    Ok(())
}

fn first_true<const N: usize>(tests: [(bool, &'static str); N]) -> Option<&'static str> {
    tests.into_iter().find(|t| t.0).map(|t| t.1)
}

fn same_vendors(a: &Plan, b: &Plan) -> bool {
    let ids = |plan: &Plan| plan.vendors.iter().map(|v| (v.id, v.name.clone())).collect::<Vec<_>>();
    ids(a) == ids(b)
}

fn round_differs(a: &Round, g: &Round) -> Option<&'static str> {
    first_true([
        (a.id != g.id, "another round in its place"),
        (a.name != g.name, "another name"),
        ((a.open_ms, a.close_ms) != (g.open_ms, g.close_ms), "another time"),
        ((a.seed_key_id, a.seed_commitment) != (g.seed_key_id, g.seed_commitment), "another seed"),
        (a.prizes.len() != g.prizes.len(), "more or fewer prizes"),
    ])
}

fn prize_differs(a: &Prize, g: &Prize) -> Option<&'static str> {
    first_true([
        (a.id != g.id, "another prize in its place"),
        (a.name != g.name, "another name"),
        (a.kind != g.kind, "another kind"),
        (a.vendor != g.vendor, "another vendor"),
        (a.delivery != g.delivery, "another delivery"),
        (a.curve != g.curve, "another curve"),
        (a.catch_up_percent != g.catch_up_percent, "another catch-up speed"),
        (a.tranches != g.tranches, "another budget"),
    ])
}

/// Is the user among so many in a thousand? Whoever is among few is among more; the answer does not hang on which
/// bucket the user is in, nor on anything that changes with a plan.
#[inline]
pub fn takes(user: u64, campaign: CampaignId, per_mille: u16) -> bool {
    let hash = xxhash_rust::xxh3::xxh3_64_with_seed(&user.to_le_bytes(), SEED ^ u64::from(campaign.0));
    campaign::seed::below(hash, u64::from(WHOLE)) < u64::from(per_mille)
}

/// Sets this choice apart from everything else that is hashed from a user's number.
const SEED: u64 = 0x6772_6579_2072_656c;

/// The plan that the ledger is told while `grey` stands beside `active`: the active one, with speeds that lie between
/// theirs by the share, under the newer SeqNo of the two. They may stand beside each other ([`check`]). It is a function of what the repository holds, so that every
/// node tells the ledger the same.
pub fn blended(active: &Plan, grey: &Plan, per_mille: u16) -> Plan {
    let mut plan = active.clone();
    plan.seq_no = active.seq_no.max(grey.seq_no);
    let mut told =
        speeds_of(grey).zip(speeds_of(active)).map(|(tried, base)| between(base, tried, per_mille));
    let prizes = plan.rounds.iter_mut().flat_map(|r| &mut r.prizes).map(|p| &mut p.speed_max);
    let vendors = plan.vendors.iter_mut().map(|v| &mut v.release_per_second);
    for (speed, told) in prizes.chain(vendors).zip(&mut told) {
        *speed = told;
    }
    plan
}

/// The speeds of all prizes and vendors that the ledger is told while `grey` stands beside `active`.
pub fn speeds(active: &Plan, grey: Option<&Grey>) -> Vec<u64> {
    match grey {
        None => speeds_of(active).collect(),
        Some(g) => {
            let both = speeds_of(active).zip(speeds_of(&g.plan));
            both.map(|(base, tried)| between(base, tried, g.speeds_per_mille)).collect()
        }
    }
}

fn speeds_of(plan: &Plan) -> impl Iterator<Item = u64> {
    let prizes = plan.rounds.iter().flat_map(|r| &r.prizes).map(|p| p.speed_max);
    prizes.chain(plan.vendors.iter().map(|v| v.release_per_second))
}

/// `base + share x (tried - base)`, rounded down, which is never 0 when both are limits. 0 is 'no limit', and there is
/// nothing between a limit and none: there the base stands until the share is everybody, so that a trial on few users
/// neither overruns a vendor nor slows all the others down.
fn between(base: u64, tried: u64, per_mille: u16) -> u64 {
    let share = i128::from(per_mille.min(WHOLE));
    match (base, tried) {
        _ if share == i128::from(WHOLE) => tried,
        (0, _) | (_, 0) => base,
        _ => {
            let more = (i128::from(tried) - i128::from(base)) * share;
            (i128::from(base) + more.div_euclid(i128::from(WHOLE))) as u64
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{GreyRefused, between, blended, check, takes};
    use crate::core::tests_support::plan;
    use campaign::{CampaignId, Curve, DistrictRange, Fen, Limits, Plan, Region, Regions, SeqNo, Tranche};
    use proptest::prelude::*;

    fn base() -> Plan {
        plan(Limits::default(), &[(1, 1, 5), (2, 3, 7)])
    }

    fn tried() -> Plan {
        let mut grey = base();
        grey.seq_no = SeqNo(2);
        grey
    }

    #[test]
    fn may_differ_in_what_is_not_about_units() {
        let mut grey = tried();
        grey.rounds[0].prizes[0].weight = 9;
        let districts = vec![DistrictRange { first: 5, last: 5 }];
        grey.regions = vec![Region { name: "south".into(), districts }];
        grey.rounds[0].prizes[0].regions = Regions(1);
        grey.rounds[0].prizes[1].speed_max = 50;
        grey.vendors[0].release_per_second = 7;
        grey.limits.wins_day = 3;
        grey.pacing.submit_max_ms += 1;
        grey.stagger.groups = 4;
        grey.source_sha256 = [1; 32];
        assert_eq!(check(&base(), &grey), Ok(()));
        assert_eq!(check(&base(), &base()), Err(GreyRefused::SameSeqNo(SeqNo(1))));
        grey.campaign = CampaignId(2);
        assert!(matches!(check(&base(), &grey), Err(GreyRefused::Campaign { .. })));
    }

    #[test]
    fn may_differ_in_nothing_else() {
        type Edit = fn(&mut Plan);
        let edits: [(Edit, &str); 10] = [
            (|p| p.days[1].0 += 1, "other days"),
            (|p| p.rounds.clear(), "more or fewer rounds"),
            (|p| p.vendors.clear(), "other vendors"),
            (|p| p.rounds[0].close_ms += 1, "another time"),
            (|p| p.rounds[0].seed_commitment[0] ^= 1, "another seed"),
            (|p| p.rounds[0].prizes.truncate(1), "more or fewer prizes"),
            (|p| p.rounds[0].prizes.reverse(), "another prize in its place"),
            (|p| p.rounds[0].prizes[1].kind = campaign::PrizeKind::Cover, "another kind"),
            (|p| p.rounds[0].prizes[1].curve = Curve::even(0, 99), "another curve"),
            (
                |p| {
                    let more = Tranche { first: 7, units: 1, fen: Fen(1), min: Fen(1), max: Fen(1) };
                    p.rounds[0].prizes[1].tranches.push(more);
                },
                "another budget",
            ),
        ];
        for (edit, want) in edits {
            let mut grey = tried();
            edit(&mut grey);
            match check(&base(), &grey) {
                Err(GreyRefused::Differs { what, .. }) => assert_eq!(what, want),
                other => panic!("{want}: {other:?}"),
            }
        }
    }

    #[test]
    fn pauses_are_those_of_the_newest_active_plan() {
        let (mut active, grey) = (base(), tried());
        active.rounds[0].prizes[1].paused = true;
        assert!(matches!(check(&active, &grey), Err(GreyRefused::Pauses { .. })), "read at two moments");
        active.seq_no = SeqNo(3);
        assert_eq!(check(&active, &grey), Ok(()));
        let told = blended(&active, &grey, 10);
        assert!(told.seq_no == SeqNo(3) && told.rounds[0].prizes[1].paused);
    }

    #[test]
    fn speeds_lie_between_by_the_share() {
        assert_eq!([0, 1, 500, 999, 1000].map(|s| between(100, 300, s)), [100, 100, 200, 299, 300]);
        assert_eq!([0, 1, 500, 999, 1000].map(|s| between(300, 100, s)), [300, 299, 200, 100, 100]);
        assert_eq!([0, 500, 1000].map(|s| between(0, 7, s)), [0, 0, 7]);
        assert_eq!([0, 500, 1000].map(|s| between(7, 0, s)), [7, 7, 0]);
        let (mut active, mut grey) = (base(), tried());
        active.rounds[0].prizes[0].speed_max = 10;
        (active.vendors[0].release_per_second, grey.vendors[0].release_per_second) = (1_000, 2_000);
        grey.rounds[0].prizes[0].speed_max = 20;
        grey.rounds[0].prizes[0].weight = 99;
        let told = blended(&active, &grey, 300);
        let first = &told.rounds[0].prizes[0];
        assert_eq!((told.seq_no, first.speed_max, first.weight), (SeqNo(2), 13, 1));
        assert_eq!(told.vendors[0].release_per_second, 1_300);
    }

    #[test]
    fn the_share_is_what_was_asked_for_in_every_bucket() {
        let mut buckets = [0u64; 16];
        let users = 160_000u64;
        for user in (1..=users).filter(|u| takes(*u, CampaignId(4), 250)) {
            buckets[hashring::bucket_of(user).index() & 15] += 1;
        }
        assert!(buckets.iter().all(|n| (2_250..2_750).contains(n)), "{buckets:?}");
        let both = (1..=users).filter(|u| takes(*u, CampaignId(4), 250) && takes(*u, CampaignId(5), 250));
        assert!((9_000..11_000).contains(&both.count()), "campaigns choose independently");
    }

    proptest! {
        #[test]
        fn a_larger_share_has_the_smaller_in_it(user in any::<u64>(), campaign in any::<u32>(), a in 0u16..=1000, b in 0u16..=1000) {
            let campaign = CampaignId(campaign);
            prop_assert!(!takes(user, campaign, a.min(b)) || takes(user, campaign, a.max(b)));
            prop_assert!(takes(user, campaign, 1000) && !takes(user, campaign, 0));
        }

        #[test]
        fn a_blend_of_limits_is_a_limit_between_them(a in 1u64..1_000_000, b in 1u64..1_000_000, s in 0u16..=1000) {
            let n = between(a, b, s);
            prop_assert!(a.min(b) <= n && n <= a.max(b));
        }
    }
}
