//! What befalls the cluster, and when: counted from the openings of the campaign's rounds.

use campaign::Plan;

/// Something that happens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Event {
    /// A Kafka broker is killed for good.
    KillBroker,
    /// A master of the Redis Cluster is killed for good, and memcached and Redis are emptied.
    FlushCaches,
    /// A lottery node is killed and never started again.
    KillLottery,
    /// Another lottery node joins.
    AddLottery,
    /// A lottery node is asked to end.
    DrainLottery,
    /// PostgreSQL's primary is killed, and the standby promoted.
    KillPrimary,
}

impl Event {
    /// For people, when it happens.
    pub fn text(self) -> &'static str {
        match self {
            Event::KillBroker => "Kafka broker 2 killed (SIGKILL)",
            Event::FlushCaches => "a Redis master killed (SIGKILL); memcached and Redis emptied",
            Event::KillLottery => "lottery node 2 killed (SIGKILL), for good",
            Event::AddLottery => "lottery node 4 joins",
            Event::DrainLottery => "lottery node 3 drained (SIGTERM)",
            Event::KillPrimary => "PostgreSQL's primary killed (SIGKILL), its standby promoted",
        }
    }

    /// What players wait for because of it, if it is a matter of routing.
    pub fn gap(self) -> Option<&'static str> {
        match self {
            Event::KillLottery => Some("after the kill of a lottery node"),
            Event::AddLottery => Some("in the hand-over to a new node"),
            Event::DrainLottery => Some("in the hand-over from a drained node"),
            Event::KillPrimary => Some("after the kill of PostgreSQL's primary"),
            Event::KillBroker => Some("after the kill of a Kafka broker"),
            Event::FlushCaches => None,
        }
    }
}

/// All events with their instants, ms UTC, in order. A campaign of fewer rounds has more of them in its last.
pub(super) fn events(plan: &Plan) -> Vec<(u64, Event)> {
    let mut rounds: Vec<_> = plan.rounds.iter().collect();
    rounds.sort_by_key(|round| round.open_ms);
    let at = |round: usize, permille: u64| {
        let round = rounds.get(round).or(rounds.last());
        round.map_or(0, |round| round.open_ms + (round.close_ms - round.open_ms) * permille / 1_000)
    };
    let mut all = vec![
        (at(0, 250), Event::FlushCaches),
        (at(0, 450), Event::KillBroker),
        (at(1, 200), Event::KillLottery),
        (at(1, 650), Event::AddLottery),
        (at(2, 150), Event::DrainLottery),
        (at(2, 400), Event::KillPrimary),
    ];
    all.sort_by_key(|(at_ms, _)| *at_ms);
    all
}

#[cfg(test)]
mod tests {
    use super::{Event, events};
    use crate::demo::{CAMPAIGN, setup};
    use std::path::Path;

    #[test]
    fn everything_happens_inside_a_round() {
        let base = 1_767_196_800_000;
        let plan = setup::plan_of(CAMPAIGN.as_bytes(), Path::new("c.yaml"), base).unwrap();
        let all = events(&plan);
        assert_eq!(all.len(), 6);
        assert_eq!(all[2], (base + 25_000 + 2_800, Event::KillLottery));
        for (at_ms, event) in all {
            let inside = plan.rounds.iter().any(|round| (round.open_ms..round.close_ms).contains(&at_ms));
            assert!(inside, "{event:?}");
        }
    }
}
