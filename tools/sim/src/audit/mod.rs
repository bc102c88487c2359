//! The auditor: reads what is written down (log, ledger rows, delivery journal, vendors' books, what players heard) and
//! checks the laws of the money. It never looks into a running component.

mod books;
mod evidence;
mod laws;
mod ledger;

pub(crate) use evidence::Evidence;

use crate::plan::NODE;
use campaign::{AwardId, NodeEpoch};
use flowlog::{LogReader, Position};
use records::{Ended, LeaseClosed, LeaseGot, Record as _, RecordKind, Won, kind_of};
use std::collections::BTreeMap;

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

/// An award, as the log has it.
pub(crate) struct Award {
    pub won: Won,
    pub epoch: NodeEpoch,
}

/// What the log says.
#[derive(Default)]
pub(crate) struct Log {
    pub awards: BTreeMap<AwardId, Award>,
    pub got: Vec<(NodeEpoch, LeaseGot)>,
    pub closed: Vec<(NodeEpoch, LeaseClosed)>,
}

/// Collects violations.
pub(crate) struct Audit<'a> {
    pub evidence: &'a Evidence<'a>,
    pub log: Log,
    violations: Vec<Violation>,
}

/// Checks every law.
pub(crate) fn audit(evidence: &Evidence<'_>, counters: &mut crate::Counters) -> Vec<Violation> {
    let mut audit = Audit { evidence, log: Log::default(), violations: Vec::new() };
    audit.read_log();
    audit.budgets();
    audit.told();
    audit.payments();
    audit.deliveries();
    audit.limits();
    audit.picks();
    let tried: Vec<_> = evidence.greys.iter().map(|p| p.seq_no).collect();
    counters.grey_awards = audit.log.awards.values().filter(|a| tried.contains(&a.won.seq_no)).count() as u64;
    counters.full_rounds = audit.stranded();
    audit.ledger();
    audit.leases();
    audit.books();
    audit.violations
}

impl Audit<'_> {
    pub fn broken(&mut self, law: u8, what: String) {
        if self.violations.len() < VIOLATIONS_MAX {
            self.violations.push(Violation { law, what });
        }
    }

    /// Reads the node's whole log: a `Won` in front of the end mark of its epoch, or of a later one, is an award.
    fn read_log(&mut self) {
        let options = crate::log::log_options();
        let mut reader =
            LogReader::new(self.evidence.disk.clone(), crate::log::log_dir(), &options, Position::ZERO);
        let mut last_ended = None::<NodeEpoch>;
        loop {
            let (epoch, records) = match reader.next_group(Position::MAX) {
                Ok(None) => return,
                Ok(Some(group)) => {
                    (NodeEpoch(group.epoch()), group.records().map(<[u8]>::to_vec).collect::<Vec<_>>())
                }
                Err(error) => return self.broken(2, format!("the log can't be read: {error}")),
            };
            for record in records {
                if let Err(error) = self.record(epoch, &record, &mut last_ended) {
                    self.broken(2, format!("a record of the log can't be read: {error}"));
                }
            }
        }
    }

    fn record(
        &mut self,
        epoch: NodeEpoch,
        bytes: &[u8],
        last_ended: &mut Option<NodeEpoch>,
    ) -> Result<(), records::DecodeError> {
        match kind_of(bytes)? {
            RecordKind::Won => {
                let won = Won::decode(bytes)?;
                if last_ended.is_some_and(|ended| ended >= epoch) {
                    return Ok(());
                }
                if (won.award.node(), won.award.epoch()) != (NODE, epoch) {
                    self.broken(1, format!("award {} stands in the group of epoch {epoch}", won.award));
                }
                if !crate::plan::mac_keys().verify(won.mac_key, &won.facts(), &won.mac) {
                    self.broken(1, format!("award {} has a wrong MAC", won.award));
                }
                if self.log.awards.insert(won.award, Award { won, epoch }).is_some() {
                    self.broken(7, format!("award {} stands in the log twice", won.award));
                }
            }
            RecordKind::Ended => {
                let ended = Ended::decode(bytes)?.epoch;
                *last_ended = Some(last_ended.map_or(ended, |e| e.max(ended)));
            }
            RecordKind::LeaseGot => self.log.got.push((epoch, LeaseGot::decode(bytes)?)),
            RecordKind::LeaseClosed => self.log.closed.push((epoch, LeaseClosed::decode(bytes)?)),
            _ => {}
        }
        Ok(())
    }
}
