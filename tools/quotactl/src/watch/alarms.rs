//! What deserves a person's look, found in how the platform stands. Free of I/O.

use std::collections::BTreeMap;

use super::status::{Platform, Prize, Running};
use crate::text::value::grouped;

/// A backlog that takes longer than this at the vendor's limit is told, in seconds.
const CATCH_UP_S: u64 = 60;
/// Prizes that one alarm names.
const PRIZES_MAX: usize = 6;

/// All alarms, the worst first.
pub fn find(platform: &Platform) -> Vec<String> {
    let mut out = platform.alarms.clone();
    for node in platform.nodes.iter().filter(|node| node.is_out) {
        out.push(format!("node {} has no session: it draws nothing", node.id));
    }
    out.extend(behind(platform));
    for vendor in &platform.vendors {
        let backlog = vendor.backlog.unwrap_or(0);
        if vendor.cut_off {
            out.push(format!("vendor {} is cut off, {} awards wait", vendor.id, grouped(backlog)));
            continue;
        }
        match vendor.limit {
            Some(0) if backlog > 0 => {
                out.push(format!(
                    "vendor {} is limited to nothing, {} awards wait",
                    vendor.id,
                    grouped(backlog)
                ));
            }
            Some(limit) if limit > 0 && backlog / limit > CATCH_UP_S => out.push(format!(
                "vendor {} is {} awards behind: {} at its limit",
                vendor.id,
                grouped(backlog),
                duration(backlog / limit)
            )),
            _ => {}
        }
    }
    out.extend(together(platform, "exhausted", |prize| {
        !prize.paused && prize.left() == Some(0) && prize.budget.is_some_and(|budget| budget > 0)
    }));
    out.extend(together(platform, "paused", |prize| prize.paused));
    out
}

/// What holds for many prizes at the end of an evening, in one line.
fn together(platform: &Platform, what: &str, of: impl Fn(&Prize) -> bool) -> Option<String> {
    let prizes: Vec<&Prize> = platform.prizes.iter().filter(|prize| of(prize)).collect();
    let told: Vec<String> = prizes
        .iter()
        .take(PRIZES_MAX)
        .map(|prize| format!("{} of campaign {}", prize.at, prize.campaign))
        .collect();
    let more = match prizes.len().saturating_sub(PRIZES_MAX) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    match prizes.len() {
        0 => None,
        1 => Some(format!("prize {} is {what}", told.join(""))),
        count => Some(format!("{count} prizes are {what}: {}{more}", told.join(", "))),
    }
}

/// Nodes that run another SeqNo than the newest of their campaign, and those that can't run a newer one.
fn behind(platform: &Platform) -> Vec<String> {
    let mut newest: BTreeMap<&str, u64> = BTreeMap::new();
    let plans = || platform.nodes.iter().flat_map(|node| node.plans.iter().map(move |plan| (&node.id, plan)));
    for (_, plan) in plans() {
        let newest = newest.entry(&plan.campaign).or_default();
        *newest = (*newest).max(plan.seq_no.parse().unwrap_or(0));
    }
    let mut out = Vec::new();
    for (id, plan) in plans() {
        let Running { campaign, seq_no, failure, .. } = plan;
        let newest = newest.get(campaign.as_str()).copied().unwrap_or(0);
        if let Some((failed, why)) = failure {
            out.push(format!("node {id} can't run SeqNo {failed} of campaign {campaign}: {why}"));
        } else if seq_no.parse().unwrap_or(0) < newest {
            let runs = if seq_no.is_empty() { "none" } else { seq_no };
            out.push(format!("node {id} runs SeqNo {runs} of campaign {campaign}, others {newest}"));
        }
    }
    out
}

/// Seconds as people say them: `90 s`, `12 min`, `6.5 h`.
pub fn duration(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        _ => format!("{}.{} h", seconds / 3_600, seconds % 3_600 / 360),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_wrong_is_told_and_nothing_else() {
        let fine = json!({
            "nodes": [{"id": 1, "session": true, "plans": {"7": "12"}}],
            "prizes": [{"campaign": 7, "prize": "2/11", "budget": "10", "awarded": "9"},
                       {"campaign": 7, "prize": "2/12", "budget": "0", "awarded": "0"}],
            "vendors": [{"vendor": 3, "limit": 10, "backlog": "600"}, {"vendor": 4, "backlog": "99999"}],
        });
        assert_eq!(find(&Platform::read(&fine)), Vec::<String>::new());
        let bad = json!({
            "nodes": [{"id": 1, "session": true, "plans": {"7": "12"}}, {"id": 2, "session": null, "plans": {"7": "9"}},
                      {"node": 3, "session": true, "plans": [{"campaign": 7, "seq_no": "12", "grey": "13",
                       "failure": {"seq_no": "14", "what": "damaged"}}]}],
            "prizes": [{"campaign": 7, "prize": "2/11", "budget": "10", "awarded": "10"},
                       {"campaign": 7, "prize": "2/12", "paused": true}],
            "vendors": [{"vendor": 3, "limit": 10, "backlog": "36000"}, {"vendor": 4, "cut_off": true, "backlog": "5"},
                        {"vendor": 5, "limit": 0, "backlog": "1"}],
            "alarms": ["plan 13 of campaign 7 does not compile"],
        });
        assert_eq!(
            find(&Platform::read(&bad)),
            [
                "plan 13 of campaign 7 does not compile",
                "node 2 has no session: it draws nothing",
                "node 2 runs SeqNo 9 of campaign 7, others 12",
                "node 3 can't run SeqNo 14 of campaign 7: damaged",
                "vendor 3 is 36,000 awards behind: 60 min at its limit",
                "vendor 4 is cut off, 5 awards wait",
                "vendor 5 is limited to nothing, 1 awards wait",
                "prize 2/11 of campaign 7 is exhausted",
                "prize 2/12 of campaign 7 is paused",
            ]
        );
        let many: Vec<_> =
            (1..9).map(|n| json!({"campaign": 7, "at": format!("1/{n}"), "paused": true})).collect();
        let told = find(&Platform::read(&json!({ "prizes": many })));
        assert_eq!(told.len(), 1);
        assert!(
            told[0].starts_with("8 prizes are paused: 1/1 of campaign 7, ")
                && told[0].ends_with(" and 2 more")
        );
        assert_eq!([90, 720, 23_400].map(duration), ["90 s", "12 min", "6.5 h"]);
    }
}
