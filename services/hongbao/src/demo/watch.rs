//! What the platform's `/admin/status` says, as far as the demonstration needs it.

use campaign::{Plan, Round};
use serde_json::Value;

use super::view::{Picture, PrizeView};

/// States in which delivery waits for a person or an account, not for time.
const WITH_A_PERSON: [&str; 3] = ["held", "rejected", "reversed"];

/// The status at an instant.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Seen {
    /// Entries drawn since the platform's start.
    pub draws: u64,
    /// Awards in the award store.
    pub awarded: u64,
    /// Delivered, by the award store.
    pub delivered: u64,
    /// Awarded, and neither delivered nor lapsed.
    pub open: u64,
    /// Orders with a person, or held for want of an account.
    pub with_a_person: u64,
    /// Groups of the log that the award store has not taken in.
    pub lag: u64,
    /// Awarded units by campaign, round, prize.
    pub prizes: Vec<(u64, u64, u64, u64)>,
    /// Orders that wait, by vendor.
    pub backlog: Vec<(String, u64)>,
    /// Orders by vendor and state, without those that are done.
    pub states: Vec<(String, String, u64)>,
}

/// A number, which may be written as text. What is not there is 0.
fn number(value: &Value) -> u64 {
    value.as_u64().or_else(|| value.as_str()?.parse().ok()).unwrap_or(0)
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

impl Seen {
    /// Reads the status.
    pub fn of(status: &Value) -> Seen {
        let mut seen = Seen {
            draws: number(&status["node"]["draws"]),
            lag: number(&status["flow"]["lane_lag"]) + number(&status["flow"]["journal_lag"]),
            ..Seen::default()
        };
        for line in items(&status["statistics"]["prizes"]) {
            let awarded = number(&line["awarded_units"]);
            seen.awarded += awarded;
            seen.delivered += number(&line["delivered_units"]);
            seen.open += number(&line["open_units"]);
            seen.prizes.push((
                number(&line["campaign"]),
                number(&line["round"]),
                number(&line["prize"]),
                awarded,
            ));
        }
        for vendor in items(&status["delivery"]["vendors"]) {
            let name = vendor["name"].as_str().filter(|name| !name.is_empty());
            let name = name.map_or_else(|| format!("vendor {}", number(&vendor["vendor"])), str::to_owned);
            seen.backlog.push((name.clone(), number(&vendor["backlog"])));
            for (state, orders) in vendor["states"].as_object().into_iter().flatten() {
                let orders = number(orders);
                if WITH_A_PERSON.contains(&state.as_str()) {
                    seen.with_a_person += orders;
                }
                if orders > 0 && !["delivered", "lapsed"].contains(&state.as_str()) {
                    seen.states.push((name.clone(), state.clone(), orders));
                }
            }
        }
        seen
    }

    /// Nothing is left that time brings: all is delivered, lapsed, or with a person.
    pub fn is_drained(&self) -> bool {
        self.lag == 0
            && self.open == self.with_a_person
            && self.backlog.iter().all(|(_, waiting)| *waiting == 0)
    }

    /// What is not done yet, for people.
    pub fn still_open(&self) -> String {
        let states: Vec<String> =
            self.states.iter().map(|(vendor, state, orders)| format!("{vendor}: {orders} {state}")).collect();
        format!("{} awards open ({})", self.open, states.join(", "))
    }
}

/// The round that is open at an instant, or was last, or comes first.
pub(super) fn round_at(plan: &Plan, now_ms: u64) -> Option<&Round> {
    plan.rounds.iter().rev().find(|round| round.open_ms <= now_ms).or_else(|| plan.rounds.first())
}

/// What is going on, in a few words.
pub(super) fn phase(plan: &Plan, now_ms: u64) -> String {
    let seconds = |until_ms: u64| until_ms.saturating_sub(now_ms).div_ceil(1_000);
    let all = plan.rounds.len();
    let next = plan.rounds.iter().enumerate().find(|(_, round)| now_ms < round.close_ms);
    match next {
        None => "all rounds are over".to_owned(),
        Some((at, round)) if now_ms < round.open_ms => {
            format!("round {} of {all} in {} s", at + 1, seconds(round.open_ms))
        }
        Some((at, round)) => format!("round {} of {all}, {} s left", at + 1, seconds(round.close_ms)),
    }
}

/// The picture of what was seen.
pub(super) fn picture(plan: &Plan, seen: &Seen, now_ms: u64) -> Picture {
    let prizes = round_at(plan, now_ms).map_or_else(Vec::new, |round| {
        let of = |prize: &campaign::Prize| {
            let key = (u64::from(plan.campaign.0), u64::from(round.id.0), u64::from(prize.id.0));
            let awarded =
                seen.prizes.iter().filter(|(c, r, p, _)| (*c, *r, *p) == key).map(|(.., n)| n).sum();
            let budget = prize.tranches.iter().map(|tranche| tranche.units).sum();
            PrizeView { name: prize.name.clone(), awarded, budget }
        };
        round.prizes.iter().map(of).collect()
    });
    let mut phase = phase(plan, now_ms);
    if plan.rounds.iter().all(|round| round.close_ms <= now_ms) && seen.open > 0 {
        let waiting: u64 = seen.backlog.iter().map(|(_, waiting)| waiting).sum();
        phase = match waiting {
            0 => format!("{} to be claimed or lapse", seen.open),
            waiting => format!("{waiting} on the way"),
        };
    }
    Picture {
        phase,
        wins: seen.awarded,
        delivered: seen.delivered,
        prizes,
        backlog: seen.backlog.clone(),
        ..Picture::default()
    }
}

#[cfg(test)]
mod tests {
    use super::{Seen, phase, picture};
    use crate::demo::CAMPAIGN;
    use crate::demo::setup::plan_of;
    use serde_json::json;
    use std::path::Path;

    const BASE: u64 = 1_767_196_800_000;

    #[test]
    fn the_status_becomes_a_picture() {
        let plan = plan_of(CAMPAIGN.as_bytes(), Path::new("c.yaml"), BASE).unwrap();
        let line = |round: u32, awarded: u32, open: u32| {
            json!({ "campaign": 1, "round": round, "prize": 1, "vendor": 1, "awarded_units": awarded.to_string(),
                "delivered_units": (awarded - open).to_string(), "lapsed_units": "0", "open_units": open.to_string() })
        };
        let status = |open: u32, held: u32| {
            json!({
                "node": { "draws": 77 }, "flow": { "lane_lag": 0, "journal_lag": 0 },
                "statistics": { "prizes": [line(1, 5, 0), line(2, 9, open)] },
                "delivery": { "vendors": [
                    { "vendor": 1, "name": "Wallet", "backlog": open - held, "states": { "held": held, "ready": open - held, "delivered": 12 } },
                    { "vendor": 2, "name": "", "backlog": 0, "states": {} },
                ] },
            })
        };
        let seen = Seen::of(&status(4, 1));
        assert_eq!(
            (seen.draws, seen.awarded, seen.delivered, seen.open, seen.with_a_person),
            (77, 14, 10, 4, 1)
        );
        assert!(!seen.is_drained());
        assert!(seen.still_open().contains("4 awards open") && seen.still_open().contains("Wallet: 3 ready"));
        assert!(Seen::of(&status(1, 1)).is_drained());
        assert!(Seen::of(&status(0, 0)).is_drained());

        let picture = picture(&plan, &seen, BASE + 26_000);
        assert_eq!(picture.prizes.len(), 5);
        assert_eq!((picture.prizes[0].awarded, picture.prizes[0].budget), (9, 9_000));
        assert_eq!(picture.backlog[1].0, "vendor 2");
        assert_eq!(super::picture(&plan, &seen, BASE + 60_000).phase, "3 on the way");
        let unclaimed = Seen { backlog: vec![], ..seen };
        assert_eq!(super::picture(&plan, &unclaimed, BASE + 60_000).phase, "4 to be claimed or lapse");
    }

    #[test]
    fn phases_are_named() {
        let plan = plan_of(CAMPAIGN.as_bytes(), Path::new("c.yaml"), BASE).unwrap();
        let at = |ms: u64| phase(&plan, BASE + ms);
        assert_eq!(at(1_500), "round 1 of 3 in 5 s");
        assert_eq!(at(6_000), "round 1 of 3, 14 s left");
        assert_eq!(at(20_000), "round 2 of 3 in 5 s");
        assert_eq!(at(58_000), "all rounds are over");
    }
}
