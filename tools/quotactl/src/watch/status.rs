//! How the platform stands, read from the API's answer.
//!
//! Numbers travel as numbers or strings; what a platform does not tell is left out, not guessed.

use serde::Deserialize as _;
use serde_json::{Map, Value};

use crate::text::value::{Word, line, short};

/// Everything that is watched.
#[derive(Default, Debug, PartialEq, Eq, Clone)]
pub struct Platform {
    /// Nodes that draw.
    pub nodes: Vec<Node>,
    /// Prizes of all rounds.
    pub prizes: Vec<Prize>,
    /// Vendors that deliver.
    pub vendors: Vec<Vendor>,
    /// What the platform itself says is wrong.
    pub alarms: Vec<String>,
}

/// A node.
#[derive(Default, Debug, PartialEq, Eq, Clone)]
pub struct Node {
    /// Its number.
    pub id: String,
    /// Its epoch.
    pub epoch: String,
    /// Its session with the ledger, as the platform tells it.
    pub session: String,
    /// Whether it has no session: it draws nothing then.
    pub is_out: bool,
    /// What it runs.
    pub plans: Vec<Running>,
}

/// What a node runs of a campaign.
#[derive(Default, Debug, PartialEq, Eq, Clone)]
pub struct Running {
    /// The campaign.
    pub campaign: String,
    /// The version for all; empty: none yet.
    pub seq_no: String,
    /// The version for a share; empty: none.
    pub grey: String,
    /// A newer version that it can't put into force, and why.
    pub failure: Option<(String, String)>,
}

/// A prize of a round.
#[derive(Default, Debug, PartialEq, Eq, Clone)]
pub struct Prize {
    /// Campaign.
    pub campaign: String,
    /// `ROUND/PRIZE`.
    pub at: String,
    /// Its name, if it is told.
    pub name: String,
    /// Units that may be given at most, after what was taken away.
    pub budget: Option<u64>,
    /// Units handed to nodes.
    pub granted: Option<u64>,
    /// Units won.
    pub awarded: Option<u64>,
    /// Units in leases that are open.
    pub locked: Option<u64>,
    /// Leases that are open.
    pub leases: Option<u64>,
    /// Units a second, if the platform counts them.
    pub rate: Option<u64>,
    /// Whether it is held back.
    pub paused: bool,
}

/// A vendor.
#[derive(Default, Debug, PartialEq, Eq, Clone)]
pub struct Vendor {
    /// Its number.
    pub id: String,
    /// Its name, if it is told.
    pub name: String,
    /// Sends a second at most.
    pub limit: Option<u64>,
    /// Awards that wait.
    pub backlog: Option<u64>,
    /// Whether nothing is sent to it for now.
    pub cut_off: bool,
}

impl Platform {
    /// Reads the answer.
    pub fn read(value: &Value) -> Platform {
        let each = |key: &str| {
            value.get(key).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_object)
        };
        Platform {
            nodes: each("nodes").map(node).collect(),
            prizes: each("prizes").map(prize).collect(),
            vendors: each("vendors").map(vendor).collect(),
            alarms: value.get("alarms").and_then(Value::as_array).into_iter().flatten().map(short).collect(),
        }
    }

    /// Sum of a number over all prizes.
    pub fn sum(&self, of: impl Fn(&Prize) -> Option<u64>) -> u64 {
        self.prizes.iter().filter_map(of).fold(0, u64::saturating_add)
    }

    /// Awards that wait for all vendors.
    pub fn backlog(&self) -> u64 {
        self.vendors.iter().filter_map(|vendor| vendor.backlog).fold(0, u64::saturating_add)
    }
}

impl Prize {
    /// Units that are left to win.
    pub fn left(&self) -> Option<u64> {
        Some(self.budget?.saturating_sub(self.awarded?))
    }
}

fn node(fields: &Map<String, Value>) -> Node {
    let session = first(fields, &["session", "session_state"]);
    Node {
        id: text(fields, &["id", "node"]),
        epoch: text(fields, &["epoch", "node_epoch"]),
        is_out: matches!(session, Some(Value::Null | Value::Bool(false))),
        session: match session {
            None | Some(Value::Null) => "none".to_owned(),
            Some(Value::Bool(has)) => if *has { "held" } else { "none" }.to_owned(),
            Some(other) => line(&short(other)),
        },
        plans: plans(first(fields, &["plans", "seq_nos", "campaigns"])),
    }
}

/// `{"7": "12"}`, or `[{"campaign": 7, "seq_no": "12", "grey": null, "failure": {"seq_no": "13", "what": "..."}}]`.
fn plans(value: Option<&Value>) -> Vec<Running> {
    match value {
        Some(Value::Object(by_campaign)) => by_campaign
            .iter()
            .map(|(campaign, seq_no)| Running {
                campaign: line(campaign),
                seq_no: short(seq_no),
                ..Running::default()
            })
            .collect(),
        Some(Value::Array(items)) => items.iter().filter_map(Value::as_object).map(running).collect(),
        _ => Vec::new(),
    }
}

fn running(fields: &Map<String, Value>) -> Running {
    let failure = fields.get("failure").and_then(Value::as_object);
    Running {
        campaign: text(fields, &["campaign"]),
        seq_no: text(fields, &["seq_no"]),
        grey: text(fields, &["grey"]),
        failure: failure.map(|failure| (text(failure, &["seq_no"]), text(failure, &["what"]))),
    }
}

fn prize(fields: &Map<String, Value>) -> Prize {
    let (round, prize) = (text(fields, &["round"]), text(fields, &["prize", "at"]));
    let at = if round.is_empty() || prize.contains('/') { prize } else { format!("{round}/{prize}") };
    Prize {
        campaign: text(fields, &["campaign"]),
        at,
        name: text(fields, &["name"]),
        budget: number(fields, &["budget", "effective_units", "budget_units"]),
        granted: number(fields, &["granted", "granted_units"]),
        awarded: number(fields, &["awarded", "awarded_units"]),
        locked: number(fields, &["locked", "locked_units"]),
        leases: number(fields, &["open_leases", "leases"]),
        rate: number(fields, &["per_second", "rate", "rate_per_second"]),
        paused: truth(fields, &["paused"]),
    }
}

fn vendor(fields: &Map<String, Value>) -> Vendor {
    Vendor {
        id: text(fields, &["vendor", "id"]),
        name: text(fields, &["name"]),
        limit: number(fields, &["limit_per_second", "limit"]),
        backlog: number(fields, &["backlog", "open", "queued"]),
        cut_off: truth(fields, &["cut_off"]),
    }
}

fn first<'a>(fields: &'a Map<String, Value>, keys: &[&str]) -> Option<&'a Value> {
    keys.iter().find_map(|key| fields.get(*key))
}

fn text(fields: &Map<String, Value>, keys: &[&str]) -> String {
    first(fields, keys)
        .and_then(|value| Word::deserialize(value).ok())
        .map_or(String::new(), |word| line(&word.0))
}

fn number(fields: &Map<String, Value>, keys: &[&str]) -> Option<u64> {
    let value = first(fields, keys)?;
    let word = Word::deserialize(value).ok()?;
    word.0.parse().ok().or_else(|| value.as_f64().map(|number| number.round() as u64))
}

fn truth(fields: &Map<String, Value>, keys: &[&str]) -> bool {
    match first(fields, keys) {
        Some(Value::Bool(truth)) => *truth,
        Some(Value::String(text)) => !text.is_empty() && text != "false",
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn numbers_and_shapes_are_read_leniently() {
        let platform = Platform::read(&json!({
            "nodes": [{"id": 1, "epoch": "5", "seq_nos": {"7": "12"}, "session": true},
                      {"node": 2, "epoch": 6, "plans": [{"campaign": 7, "seq_no": "11"}], "session": null}],
            "prizes": [{"campaign": 7, "round": 2, "prize": 11, "budget": "100", "awarded": 40, "paused": false,
                        "rate": 2.6}, {"prize": "3/1"}],
            "vendors": [{"vendor": 3, "backlog": "9", "limit": 20, "cut_off": true}],
        }));
        let told = |node: usize| {
            let plan = &platform.nodes[node].plans[0];
            (plan.campaign.as_str(), plan.seq_no.as_str())
        };
        assert_eq!((told(0), told(1)), (("7", "12"), ("7", "11")));
        assert!(!platform.nodes[0].is_out && platform.nodes[1].is_out);
        assert_eq!((platform.prizes[0].at.as_str(), platform.prizes[0].left()), ("2/11", Some(60)));
        assert_eq!((platform.prizes[0].rate, platform.prizes[1].budget), (Some(3), None));
        assert_eq!(platform.prizes[1].at, "3/1");
        assert_eq!((platform.vendors[0].backlog, platform.vendors[0].cut_off), (Some(9), true));
        assert_eq!(platform.backlog(), 9);
        assert_eq!(Platform::read(&json!([])), Platform::default());
    }
}
