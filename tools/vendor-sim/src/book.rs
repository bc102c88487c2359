//! The books of one vendor: what it took, for whom, and which accounts it knows. In memory, with the journal behind it.
//!
//! A payout is in the books exactly when its line is in the journal. A number once taken stays taken.

use std::collections::hash_map::Entry as MapEntry;
use std::collections::{HashMap, HashSet};
use std::path::Path;

use crate::config::Live;
use crate::faults::Dice;
use crate::journal::{Journal, JournalError, Line};
use crate::payout::{Id, Order, Payout, Status};
use crate::wire::{Event, Refusal};

/// Accounts registered through the API.
const ACCOUNTS_MAX: usize = 2_000_000;

#[derive(Debug)]
struct Entry {
    payout: Payout,
    /// The place of the last earlier payout for the same award.
    earlier: Option<u32>,
}

/// Sums that survive a restart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Payouts taken.
    pub accepted: u64,
    /// Their fen.
    pub accepted_fen: i128,
    /// Payouts taken while another number of the same award was alive.
    pub double_payments: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Book {
    journal: Journal,
    entries: Vec<Entry>,
    by_number: HashMap<Id, u32>,
    latest_of_award: HashMap<Id, u32>,
    accounts: HashSet<Box<str>>,
    payouts_max: u32,
    tally: Tally,
}

/// The result of a payout call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// Place in the books.
    pub index: u32,
    /// It was there before.
    pub duplicate: bool,
}

impl Book {
    /// Reads the journal of this vendor under `dir`, or starts one.
    pub fn open(dir: &Path, vendor: u32, payouts_max: u32) -> Result<Self, JournalError> {
        let path = dir.join(format!("vendor-{vendor}.jsonl"));
        let (mut entries, mut by_number) = (Vec::new(), HashMap::new());
        let (mut latest_of_award, mut accounts, mut tally) =
            (HashMap::new(), HashSet::new(), Tally::default());
        let journal = Journal::open(&path, vendor, |line| {
            match line {
                Line::Payout(payout) => {
                    enter(&mut entries, &mut by_number, &mut latest_of_award, &mut tally, *payout)?;
                }
                Line::Account { payee } => drop(accounts.insert(payee.into_boxed_str())),
                Line::Told { number, event } => {
                    let index = by_number.get(&number).ok_or("tells of a number that was not taken")?;
                    mark(&mut entries[*index as usize].payout, event);
                }
                Line::Journal { .. } => return Err("a first line in the middle".into()),
            }
            Ok(())
        })?;
        Ok(Self { journal, entries, by_number, latest_of_award, accounts, payouts_max, tally })
    }

    /// Takes an order at `now_ms`, or finds it taken. Nothing is changed when it is refused.
    pub fn take(&mut self, order: Order, now_ms: u64, dice: &Dice, live: &Live) -> Result<Taken, Refusal> {
        if let Some(&index) = self.by_number.get(&order.number) {
            let same = self.entries[index as usize].payout.order == order;
            return if same { Ok(Taken { index, duplicate: true }) } else { Err(Refusal::Mismatch) };
        }
        if dice.without_account(live, &order.payee) && !self.accounts.contains(&*order.payee) {
            return Err(Refusal::NoAccount);
        }
        if dice.refused(live, order.number.as_str()) {
            return Err(Refusal::Refused);
        }
        if self.entries.len() >= self.payouts_max as usize {
            return Err(Refusal::Full);
        }
        let plan = dice.plan(live, order.number.as_str(), now_ms);
        let payout = Payout { order, accepted_ms: now_ms, plan, finish_told: false, reverse_told: false };
        let line = Line::Payout(Box::new(payout));
        self.journal.write(&line).map_err(|e| Refusal::Journal(e.to_string()))?;
        let Line::Payout(payout) = line else { unreachable!("made three lines above") };
        let Self { entries, by_number, latest_of_award, tally, .. } = self;
        let index = enter(entries, by_number, latest_of_award, tally, *payout).map_err(Refusal::Journal)?;
        Ok(Taken { index, duplicate: false })
    }

    /// Registers an account; again is the same.
    pub fn register(&mut self, payee: &str) -> Result<(), Refusal> {
        if self.accounts.contains(payee) {
            return Ok(());
        }
        if self.accounts.len() >= ACCOUNTS_MAX {
            return Err(Refusal::Full);
        }
        self.journal
            .write(&Line::Account { payee: payee.to_owned() })
            .map_err(|e| Refusal::Journal(e.to_string()))?;
        self.accounts.insert(payee.into());
        Ok(())
    }

    /// The place of a number.
    #[must_use]
    pub fn find(&self, number: &Id) -> Option<u32> {
        self.by_number.get(number).copied()
    }

    /// The payout at a place that this book gave out.
    #[must_use]
    pub fn payout(&self, index: u32) -> &Payout {
        &self.entries[index as usize].payout
    }

    /// Payouts in the books; their places are 0 to this.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.by_number.len() as u32 // bounded by payouts_max
    }

    /// No payouts.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Registered accounts.
    #[must_use]
    pub fn accounts(&self) -> usize {
        self.accounts.len()
    }

    /// Sums.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// A callback was answered with 2xx; it is not sent again after a restart.
    pub fn told(&mut self, index: u32, event: Event) -> std::io::Result<()> {
        let payout = &mut self.entries[index as usize].payout;
        let known = if event == Event::Finish { payout.finish_told } else { payout.reverse_told };
        if !known {
            self.journal.write(&Line::Told { number: payout.order.number, event })?;
            mark(payout, event);
        }
        Ok(())
    }
}

fn mark(payout: &mut Payout, event: Event) {
    match event {
        Event::Finish => payout.finish_told = true,
        Event::Reverse => payout.reverse_told = true,
    }
}

/// Enters a payout, new or from the journal, and counts whether its award was being paid already.
fn enter(
    entries: &mut Vec<Entry>,
    by_number: &mut HashMap<Id, u32>,
    latest_of_award: &mut HashMap<Id, u32>,
    tally: &mut Tally,
    payout: Payout,
) -> Result<u32, String> {
    let index = u32::try_from(entries.len()).map_err(|_| "more than 2^32 payouts")?;
    match by_number.entry(payout.order.number) {
        MapEntry::Occupied(_) => return Err(format!("number {:?} was taken twice", payout.order.number)),
        MapEntry::Vacant(place) => drop(place.insert(index)),
    }
    let earlier = latest_of_award.insert(payout.order.award, index);
    let mut other = earlier;
    while let Some(place) = other {
        let entry: &Entry = &entries[place as usize];
        if !matches!(entry.payout.status(payout.accepted_ms), Status::Failed | Status::Reversed) {
            tally.double_payments += 1;
            break;
        }
        other = entry.earlier;
    }
    tally.accepted += 1;
    tally.accepted_fen += i128::from(payout.order.fen);
    entries.push(Entry { payout, earlier });
    Ok(index)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::PPM;
    use crate::testing::{order, quiet};

    const DICE: fn() -> Dice = || Dice::new(1, 1);

    #[test]
    fn a_number_is_taken_once_and_remembered_over_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let mut book = Book::open(dir.path(), 1, 10).unwrap();
        let first = book.take(order("N1", "A1"), 100, &DICE(), &quiet()).unwrap();
        assert_eq!(first, Taken { index: 0, duplicate: false });
        let kept = book.payout(0).clone();
        drop(book);
        let mut book = Book::open(dir.path(), 1, 10).unwrap();
        let again = book.take(order("N1", "A1"), 900, &DICE(), &quiet()).unwrap();
        assert_eq!(again, Taken { index: 0, duplicate: true });
        assert_eq!(*book.payout(0), kept);
        assert_eq!(book.tally(), Tally { accepted: 1, accepted_fen: 880, double_payments: 0 });
    }

    #[test]
    fn any_other_field_makes_a_mismatch() {
        let dir = tempfile::tempdir().unwrap();
        let mut book = Book::open(dir.path(), 1, 10).unwrap();
        book.take(order("N1", "A1"), 100, &DICE(), &quiet()).unwrap();
        let changes: [fn(&mut Order); 6] = [
            |o| o.fen += 1,
            |o| o.prize += 1,
            |o| o.payee = "x".into(),
            |o| o.merchant_account = "x".into(),
            |o| o.award = Id::parse("A2").unwrap(),
            |o| o.kind = crate::payout::Kind::Cover,
        ];
        for change in changes {
            let mut other = order("N1", "A1");
            change(&mut other);
            let result = book.take(other, 100, &DICE(), &quiet());
            assert!(matches!(result, Err(Refusal::Mismatch)), "{result:?}");
        }
        assert_eq!(book.len(), 1);
    }

    #[test]
    fn a_second_number_is_a_double_payment_unless_the_first_is_dead() {
        let dir = tempfile::tempdir().unwrap();
        let mut book = Book::open(dir.path(), 1, 10).unwrap();
        let fails = Live { fail_ppm: PPM, late_ms_min: 100, late_ms_max: 100, ..quiet() };
        book.take(order("N1", "A1"), 0, &DICE(), &fails).unwrap();
        book.take(order("N2", "A1"), 100, &DICE(), &quiet()).unwrap();
        assert_eq!(book.tally().double_payments, 0);
        book.take(order("N3", "A1"), 200, &DICE(), &fails).unwrap();
        assert_eq!(book.tally().double_payments, 1);
        // N3 is dead by then, but N2 behind it was paid.
        book.take(order("N4", "A1"), 900, &DICE(), &quiet()).unwrap();
        assert_eq!(book.tally().double_payments, 2);
        let tally = book.tally();
        drop(book);
        assert_eq!(Book::open(dir.path(), 1, 10).unwrap().tally(), tally);
    }

    #[test]
    fn payees_without_an_account_are_taken_once_they_have_one() {
        let dir = tempfile::tempdir().unwrap();
        let live = Live { require_account: true, ..quiet() };
        let mut book = Book::open(dir.path(), 1, 10).unwrap();
        let result = book.take(order("N1", "A1"), 0, &DICE(), &live);
        assert!(matches!(result, Err(Refusal::NoAccount)), "{result:?}");
        book.register("openid-42").unwrap();
        drop(book);
        let mut book = Book::open(dir.path(), 1, 10).unwrap();
        assert!(book.take(order("N1", "A1"), 0, &DICE(), &live).is_ok());
    }

    #[test]
    fn refusals_and_a_full_book_take_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let mut book = Book::open(dir.path(), 1, 1).unwrap();
        let refuses = Live { refuse_ppm: PPM, ..quiet() };
        assert!(matches!(book.take(order("N1", "A1"), 0, &DICE(), &refuses), Err(Refusal::Refused)));
        book.take(order("N2", "A2"), 0, &DICE(), &quiet()).unwrap();
        assert!(matches!(book.take(order("N3", "A3"), 0, &DICE(), &quiet()), Err(Refusal::Full)));
        assert!(book.take(order("N2", "A2"), 0, &DICE(), &quiet()).unwrap().duplicate);
        assert_eq!(book.len(), 1);
    }
}
