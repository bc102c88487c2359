//! The auditor: reads what is written down (log, ledger rows, delivery journal, vendors' books, what players heard) and
//! checks the laws of the money. It never looks into a running component.

mod books;
mod evidence;
mod lane;
mod laws;
mod ledger;

pub(crate) use evidence::{Evidence, Source};

use crate::plan::NODE;
use campaign::{AwardId, NodeEpoch, NodeId};
use flowlog::{LogReader, Position};
use lane::LaneGroup;
use records::{Ended, LeaseClosed, LeaseGot, Record as _, RecordKind, Won, kind_of};
use std::collections::BTreeMap;
use testkit::SimDisk;

/// Violations that are reported; more are counted only.
const VIOLATIONS_MAX: usize = 50;

/// Something that breaks a law.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// The law, 1 to 7; 0: the platform refused to go on.
    pub law: u8,
    /// What was found.
    pub what: String,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "law {}: {}", self.law, self.what)
    }
}

/// An epoch of a node.
pub(crate) type Life = (NodeId, NodeEpoch);

/// An award, as its lane has it.
pub(crate) struct Award {
    pub won: Won,
    pub life: Life,
}

/// What the lanes say: the node's own log, or the queue's topic where there are several nodes.
#[derive(Default)]
pub(crate) struct Log {
    pub groups: Vec<LaneGroup>,
    pub awards: BTreeMap<AwardId, Award>,
    pub got: Vec<(Life, LeaseGot)>,
    pub closed: Vec<(Life, LeaseClosed)>,
}

/// Collects violations.
pub(crate) struct Audit<'a> {
    pub evidence: &'a Evidence<'a>,
    pub log: Log,
    /// Groups that stand in a lane behind the end of their epoch.
    behind: u64,
    violations: Vec<Violation>,
}

/// Checks every law.
pub(crate) fn audit(evidence: &Evidence<'_>, counters: &mut crate::Counters) -> Vec<Violation> {
    let mut audit = Audit { evidence, log: Log::default(), behind: 0, violations: Vec::new() };
    audit.read_lanes();
    audit.budgets();
    audit.told();
    audit.payments();
    audit.deliveries();
    audit.limits();
    audit.places();
    audit.picks();
    let tried: Vec<_> = evidence.greys.iter().map(|p| p.seq_no).collect();
    counters.grey_awards = audit.log.awards.values().filter(|a| tried.contains(&a.won.seq_no)).count() as u64;
    counters.full_rounds = audit.stranded();
    audit.ledger();
    audit.leases();
    audit.books();
    counters.behind_ended = audit.behind;
    audit.violations
}

impl Audit<'_> {
    pub fn broken(&mut self, law: u8, what: String) {
        if self.violations.len() < VIOLATIONS_MAX {
            self.violations.push(Violation { law, what });
        }
    }

    /// Reads every lane: a `Won` in front of the end mark of its epoch, or of a later one, is an award.
    fn read_lanes(&mut self) {
        match &self.evidence.source {
            Source::Log(disk) => {
                let groups = self.own_log(disk);
                self.lane(groups);
            }
            Source::Lanes(lanes) => {
                for (node, messages) in lanes {
                    match lane::groups(*node, messages) {
                        Ok((groups, behind)) => {
                            self.behind += behind;
                            self.lane(groups);
                        }
                        Err(why) => self.broken(2, why),
                    }
                }
            }
        }
    }

    /// The groups of the only node's log.
    fn own_log(&mut self, disk: &SimDisk) -> Vec<LaneGroup> {
        let options = crate::log::log_options(NODE);
        let mut reader = LogReader::new(disk.clone(), crate::log::log_dir(), &options, Position::ZERO);
        let mut groups = Vec::new();
        loop {
            match reader.next_group(Position::MAX) {
                Ok(None) => return groups,
                Ok(Some(group)) => groups.push(LaneGroup {
                    node: NodeId(group.node()),
                    epoch: group.epoch(),
                    position: group.position().0,
                    records: group.records().map(<[u8]>::to_vec).collect(),
                }),
                Err(error) => {
                    self.broken(2, format!("the log can't be read: {error}"));
                    return groups;
                }
            }
        }
    }

    fn lane(&mut self, groups: Vec<LaneGroup>) {
        let mut last_ended = None::<NodeEpoch>;
        for group in &groups {
            for record in &group.records {
                let life = (group.node, NodeEpoch(group.epoch));
                if let Err(error) = self.record(life, record, &mut last_ended) {
                    let (node, position) = (group.node, group.position);
                    self.broken(2, format!("group {position} of node {node} can't be read: {error}"));
                }
            }
        }
        self.log.groups.extend(groups);
    }

    fn record(
        &mut self,
        life: Life,
        bytes: &[u8],
        last_ended: &mut Option<NodeEpoch>,
    ) -> Result<(), records::DecodeError> {
        let over = last_ended.is_some_and(|ended| ended >= life.1);
        match kind_of(bytes)? {
            RecordKind::Won => {
                let won = Won::decode(bytes)?;
                if over {
                    return Ok(());
                }
                if (won.award.node(), won.award.epoch()) != life {
                    let (node, epoch) = life;
                    self.broken(
                        1,
                        format!("award {} stands in a group of node {node}, epoch {epoch}", won.award),
                    );
                }
                if !crate::plan::mac_keys().verify(won.mac_key, &won.facts(), &won.mac) {
                    self.broken(1, format!("award {} has a wrong MAC", won.award));
                }
                if self.log.awards.insert(won.award, Award { won, life }).is_some() {
                    self.broken(7, format!("award {} stands in the log twice", won.award));
                }
            }
            RecordKind::Ended => {
                let ended = Ended::decode(bytes)?.epoch;
                *last_ended = Some(last_ended.map_or(ended, |e| e.max(ended)));
            }
            RecordKind::LeaseGot if !over => self.log.got.push((life, LeaseGot::decode(bytes)?)),
            RecordKind::LeaseClosed if !over => self.log.closed.push((life, LeaseClosed::decode(bytes)?)),
            _ => {}
        }
        Ok(())
    }
}
