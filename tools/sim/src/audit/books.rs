//! The second opinion: reconcile settles the same records with readers of its own, which share no code with what wrote
//! them, and must find every law kept.

use super::{Audit, Source};
use crate::log::LOG_DIR;
use crate::plan::{CAMPAIGN, CASH_VENDOR, NODE, VOUCHER_VENDOR, mac_key, seed_key};
use crate::vendor::{Payment, Status};
use campaign::{AwardId, NodeEpoch, NodeId};
use reconcile::readers::archive::bytes::{Record, SEGMENT_HEADER, SegmentHead};
use reconcile::readers::archive::{Lane, Place};
use reconcile::readers::players::Tail;
use reconcile::readers::statement::{Footer, Line};
use reconcile::readers::tables::{Ledger, LedgerLease, LedgerPrize};
use reconcile::rows::{Event, PaymentRow, PrizeKey, State, StepRow, ToldRow};
use reconcile::{Books, Plans, Seeds, Settlement, Terms, Verdict};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use testkit::SimDisk;

/// Enough for all rows of a run, so that nothing is spilled to a real disk.
const MEMORY_BYTES: usize = 256 << 20;

impl Audit<'_> {
    /// Every law as reconcile judges it.
    pub fn books(&mut self) {
        match self.settle() {
            Err(why) => self.broken(7, format!("reconcile can't settle: {why}")),
            Ok(settlement) => {
                for law in settlement.laws.iter().filter(|law| law.verdict != Verdict::Holds) {
                    self.broken(
                        law.law,
                        format!("reconcile: {}: {:?}: {}", law.name, law.verdict, law.detail),
                    );
                }
            }
        }
    }

    fn settle(&self) -> Result<Settlement, String> {
        // Nothing is written there: the memory is enough.
        let mut books = Books::new(Path::new("nowhere"), MEMORY_BYTES, vec![mac_key()]);
        self.archive(&mut books)?;
        self.journal(&mut books)?;
        self.statements(&mut books)?;
        self.players(&mut books)?;
        books.ledger(self.ledger_rows());
        let plans = self.evidence.versions().cloned().collect();
        let seeds = Seeds { keys: vec![seed_key()], ..Seeds::default() };
        let plans = Plans::new(plans, &seeds).map_err(|e| e.to_string())?;
        let terms = Terms { responsible: "the simulation".to_owned(), ..Terms::at(self.evidence.now_ms) };
        books.settle(&plans, &terms, &mut |_| Ok(())).map_err(|e| e.to_string())
    }

    fn archive(&self, books: &mut Books) -> Result<(), String> {
        match &self.evidence.source {
            Source::Log(disk) => Self::segments(disk, books),
            Source::Lanes(_) => self.lanes(books),
        }
    }

    /// Groups of lanes, as the auditor has judged them.
    fn lanes(&self, books: &mut Books) -> Result<(), String> {
        let mut ended: BTreeMap<NodeId, NodeEpoch> = BTreeMap::new();
        for group in &self.log.groups {
            let (node, epoch) = (group.node, NodeEpoch(group.epoch));
            let place = Place { node, epoch, position: group.position };
            for bytes in &group.records {
                let record = Record::parse(bytes)?;
                if let Record::Ended { epoch, .. } = &record {
                    let last = ended.entry(node).or_insert(*epoch);
                    *last = (*last).max(*epoch);
                } else if ended.get(&node).is_some_and(|e| *e >= epoch) {
                    continue;
                }
                books.record(place, &record)?;
            }
        }
        books.groups(self.log.groups.len() as u64);
        Ok(())
    }

    fn segments(disk: &SimDisk, books: &mut Books) -> Result<(), String> {
        let mut lane = Lane::new(NODE);
        let in_log = |path: &std::path::PathBuf| {
            path.starts_with(LOG_DIR) && path.extension().is_some_and(|e| e == "seg")
        };
        // Names are positions with leading zeros: their order is the log's.
        for path in disk.paths().into_iter().filter(in_log) {
            let bytes = disk.contents(&path).unwrap_or_default();
            let name = path.display().to_string();
            let Some((header, mut rest)) = bytes.split_first_chunk::<SEGMENT_HEADER>() else {
                return Err(format!("{name} is shorter than its header"));
            };
            let head = SegmentHead::parse(header).map_err(|e| format!("{name}: {e:?}"))?;
            let mut sink = |place, record| books.record(place, &record);
            lane.segment(&head, &name, &mut rest, &mut sink).map_err(|e| format!("{e:?}"))?;
        }
        books.groups(lane.groups());
        Ok(())
    }

    fn journal(&self, books: &mut Books) -> Result<(), String> {
        books.given().journal = true;
        for line in &self.evidence.journal {
            let e = line.event;
            let row = StepRow {
                award: e.award,
                step: e.step,
                state: State::from_u8(e.state as u8).ok_or("a state that no state has")?,
                generation: e.generation,
                at_ms: e.at_ms,
                due_ms: e.due_ms,
                vendor: e.vendor,
                user: e.user,
                campaign: e.campaign,
                round: e.round,
                prize: e.prize,
                fen: e.fen,
            };
            books.step(row).map_err(|e| e.to_string())?;
        }
        Ok(())
    }

    fn statements(&self, books: &mut Books) -> Result<(), String> {
        for vendor in [CASH_VENDOR, VOUCHER_VENDOR] {
            let payments = self.evidence.payments.values().filter(|p| p.vendor == vendor);
            let rows: Vec<PaymentRow> = payments.map(statement_row).collect();
            let now_ms = self.evidence.now_ms;
            let footer = Footer {
                from_ms: 0,
                to_ms: now_ms + 1,
                cut_ms: now_ms,
                complete: true,
                rows: rows.len() as u64,
            };
            for row in rows {
                books.statement_line(Line::Ours(row)).map_err(|e| e.to_string())?;
            }
            books.statement(vendor, &footer);
        }
        Ok(())
    }

    fn players(&self, books: &mut Books) -> Result<(), String> {
        books.given().told = true;
        let mut seen: BTreeSet<AwardId> = BTreeSet::new();
        for told in self.evidence.told {
            let Some((award, prize, fen)) = told.won.filter(|w| seen.insert(w.0)) else { continue };
            let (user, round) = (told.user, told.round);
            let row = ToldRow { award, user, campaign: CAMPAIGN, round, prize, fen };
            books.told(row).map_err(|e| e.to_string())?;
        }
        let tails = self.evidence.plan().rounds.iter().map(|round| {
            let full = self.is_full(round);
            (
                (CAMPAIGN, round.id),
                // Where something was broken on purpose, what is left over proves nothing.
                if full { Tail { entries: 10, units_left: 1 } } else { Tail { entries: 0, units_left: 1 } },
            )
        });
        books.tails(tails.collect());
        Ok(())
    }

    fn ledger_rows(&self) -> Ledger {
        let key =
            |k: lottery::ledger::PrizeKey| PrizeKey { campaign: k.campaign, round: k.round, prize: k.prize };
        let prizes = self.evidence.ledger.prizes.values().map(|p| LedgerPrize {
            key: key(p.key),
            close_ms: p.close_ms,
            paused: p.paused,
            made: p.made,
            fresh: p.fresh.clone(),
            came_back: p.returned.clone(),
            cancelled: p.cancelled.clone(),
            leased: p.leased,
            used: p.used,
        });
        let open = self.evidence.ledger.leases.values().filter(|l| l.closed.is_none()).map(|l| LedgerLease {
            id: (l.key.node, l.key.epoch, l.key.lease),
            key: key(l.prize),
            units: l.ranges.iter().map(|r| r.units).collect(),
        });
        Ledger { prizes: prizes.collect(), open: open.collect() }
    }
}

fn statement_row(payment: &Payment) -> PaymentRow {
    let (event, finished_ms) = match payment.status {
        Status::Paid { at_ms } => (Event::Success, at_ms),
        Status::Failed { at_ms } => (Event::Failed, at_ms),
        Status::Pending { at_ms, pays: true } => (Event::Success, at_ms),
        Status::Pending { at_ms, pays: false } => (Event::Failed, at_ms),
    };
    PaymentRow {
        award: payment.award,
        finished_ms,
        event,
        generation: payment.generation,
        vendor: payment.vendor,
        fen: payment.fen,
        vendor_ref: format!("R{}{}", payment.award, payment.generation),
    }
}
