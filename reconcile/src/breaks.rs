//! Breaks: differences that reconciliation found. A break's id follows from its kind and what it is about, so a second
//! run over the same books finds the same breaks under the same ids, and a person's note to one stays with it.

use crate::row;
use crate::rows::{Cell, PrizeKey};
use campaign::{AwardId, CampaignId, Fen, PrizeId, RoundId, UserId, VendorId};
use sha2::{Digest as _, Sha256};

/// How much a break matters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Class {
    /// Something that must never be: a person looks at it now.
    Alarm = 0,
    /// Something is missing and can be asked for again, through delivery's state machine.
    Redo = 1,
    /// A person decides.
    Person = 2,
    /// Time mends it, or it ages into one of the others.
    Wait = 3,
}

impl Class {
    /// All classes, gravest first.
    pub const ALL: [Class; 4] = [Class::Alarm, Class::Redo, Class::Person, Class::Wait];

    /// Word for files and reports.
    pub fn name(self) -> &'static str {
        match self {
            Class::Alarm => "alarm",
            Class::Redo => "redo",
            Class::Person => "person",
            Class::Wait => "wait",
        }
    }
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $class:ident, $word:literal, $action:literal;)*) => {
        /// What kind of difference it is. The word is part of a break's id and never changes.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[repr(u8)]
        pub enum Kind { $($(#[$doc])* $name = $number),* }

        impl Kind {
            /// All kinds.
            pub const ALL: &[Kind] = &[$(Kind::$name),*];

            /// How much it matters.
            pub fn class(self) -> Class {
                match self { $(Kind::$name => Class::$class),* }
            }

            /// Word for files.
            pub fn name(self) -> &'static str {
                match self { $(Kind::$name => $word),* }
            }

            /// What to do about it.
            pub fn action(self) -> &'static str {
                match self { $(Kind::$name => $action),* }
            }
        }
    };
}

kinds! {
    /// Two awards have one unit.
    UnitTwice = 1, Alarm, "unit_twice", "stop the prize; find out which award came from the unit's lease";
    /// The plan has no such unit.
    UnitNotPlanned = 2, Alarm, "unit_not_planned", "compare the award's SeqNo with the plans given";
    /// The ledger says that an awarded unit is free or cancelled.
    UnitStillFree = 3, Alarm, "unit_still_free", "stop the prize: the unit could be given again";
    /// Units that stand nowhere.
    UnitLost = 4, Person, "unit_lost", "look for the lease in the node's log and settle it";
    /// The amount is not the one that the seed gives the unit.
    AwardAmount = 5, Alarm, "award_amount", "stop delivery of the award; the seed's amount is the right one";
    /// The award's MAC is wrong.
    MacWrong = 6, Alarm, "mac_wrong", "treat the award as forged until its node's log is checked";
    /// One award id twice in the flow archive.
    AwardTwice = 7, Alarm, "award_twice", "compare the two places; ids must be unique";
    /// One draw gave two awards.
    DrawTwice = 8, Person, "draw_twice", "both stand if both were told; find the double failure behind it";
    /// More wins in a round than the limit.
    LimitRound = 9, Person, "limit_round", "the wins stand; find the double failure behind them";
    /// More wins in a day than the limit.
    LimitDay = 10, Person, "limit_day", "the wins stand; find the double failure behind them";
    /// More wins in the campaign than the limit.
    LimitCampaign = 11, Person, "limit_campaign", "the wins stand; find the double failure behind them";
    /// An award names a lease that its log has not got, or a unit outside the lease.
    LeaseUnknown = 12, Alarm, "lease_unknown", "stop the node: it gave out what it had no lease for";
    /// An award stands behind the end of its lease.
    WonAfterClose = 13, Alarm, "won_after_close", "stop the prize: the unit may have been granted again";
    /// What a lease's end says is not what the log has.
    LeaseSums = 14, Alarm, "lease_sums", "compare the lease's awards with the ledger's row";
    /// Awarded, and delivery does not know of it.
    OrderMissing = 20, Redo, "order_missing", "hand redo.csv to delivery";
    /// Awarded a moment ago; its order is on the way.
    OrderPending = 21, Wait, "order_pending", "none yet";
    /// Delivery has an order whose award is not in the flow.
    OrderWithoutAward = 22, Alarm, "order_without_award", "stop its delivery; find out where the order came from";
    /// Journal and flow disagree on whose it is or what it is.
    OrderDiffers = 23, Alarm, "order_differs", "stop its delivery; the flow archive is right";
    /// Journal and flow disagree on the amount.
    OrderAmount = 24, Alarm, "order_amount", "stop its delivery; the flow archive is right";
    /// The journal's steps have a hole.
    JournalHole = 25, Alarm, "journal_hole", "restore the journal from its topic";
    /// Refused for good, or taken back: a person decides.
    OpenPerson = 26, Person, "open_person", "decide: another account, a new number, or close it";
    /// Being delivered.
    OpenWorking = 27, Wait, "open_working", "none yet";
    /// Nothing has happened for too long.
    Stuck = 28, Person, "stuck", "see what delivery of it waits for";
    /// Lapsed before its term, or without one.
    LapsedEarly = 29, Alarm, "lapsed_early", "deliver it: the term was not over";
    /// Delivered by the journal, and not on the vendor's statement.
    MissingAtVendor = 40, Redo, "missing_at_vendor", "hand redo.csv to delivery, which asks the vendor by number";
    /// Delivered lately, and not on the statement yet.
    NotYetOnStatement = 41, Wait, "not_yet_on_statement", "take the next statement";
    /// Paid, and no award is known.
    PaidNotInFlow = 42, Alarm, "paid_not_in_flow", "ask the vendor for the money back; find out who sent it";
    /// Paid another amount than awarded.
    PaidAmount = 43, Alarm, "paid_amount", "settle the difference with the vendor";
    /// Paid more than once.
    PaidTwice = 44, Alarm, "paid_twice", "ask the vendor for the money back; find out which number came second";
    /// Paid, though the journal says that it was not sent, lapsed or was refused.
    PaidAgainstJournal = 45, Alarm, "paid_against_journal", "find out who sent it";
    /// The journal did not know the outcome; the statement does: paid.
    ResolvedPaid = 46, Redo, "resolved_paid", "hand redo.csv to delivery, which learns it from the vendor";
    /// The journal did not know the outcome; the statement does: the number is dead.
    ResolvedFailed = 47, Redo, "resolved_failed", "hand redo.csv to delivery, which sends it under a new number";
    /// Taken back by the vendor, and the journal has not heard.
    ReversedUnnoticed = 48, Person, "reversed_unnoticed", "hand it to delivery, then decide";
    /// Taken back by the journal, and not by a final statement.
    ReversalMissing = 49, Person, "reversal_missing", "ask the vendor about the reversal";
    /// A player was told of an award that is not in the flow.
    ToldNotInFlow = 60, Alarm, "told_not_in_flow", "pay the player; find out how the record was lost";
    /// A player was told something else than the flow has.
    ToldDiffers = 61, Alarm, "told_differs", "compare the player's answer with the record";
    /// Ledger and plan disagree on the units made.
    LedgerPlan = 70, Alarm, "ledger_plan", "see which SeqNo each stands at";
    /// The ledger's own numbers do not add up.
    LedgerSums = 71, Alarm, "ledger_sums", "stop grants of the prize; compare leases and prize row";
}

impl Cell for Kind {
    fn put(&self, out: &mut Vec<u8>) {
        (*self as u8).put(out);
    }
    fn take(input: &mut &[u8]) -> Option<Self> {
        let number = u8::take(input)?;
        Kind::ALL.iter().copied().find(|k| *k as u8 == number)
    }
}

row! {
    /// A break. Sorts by kind, then by what it is about.
    pub struct Break {
        /// What kind.
        pub kind: Kind,
        /// Campaign; 0 where none is known.
        pub campaign: CampaignId,
        /// Round; 0 where none is known.
        pub round: RoundId,
        /// Prize; 0 where none is known.
        pub prize: PrizeId,
        /// What it is about: the award, or what else names it.
        pub subject: String,
        /// The award; 0 where there is none.
        pub award: AwardId,
        /// The player; 0 where none is known.
        pub user: UserId,
        /// The vendor; 0 where none is known.
        pub vendor: VendorId,
        /// Amount that should be.
        pub expected: Fen,
        /// Amount that is.
        pub found: Fen,
        /// Since when, ms UTC; 0 where that is not known.
        pub since_ms: u64,
        /// A few words with the numbers.
        pub detail: String,
    }
}

impl Break {
    /// A break about something that has no award.
    pub fn of(kind: Kind, subject: impl Into<String>, detail: impl Into<String>) -> Break {
        Break {
            kind,
            campaign: CampaignId(0),
            round: RoundId(0),
            prize: PrizeId(0),
            subject: subject.into(),
            award: AwardId(0),
            user: UserId(0),
            vendor: VendorId(0),
            expected: Fen::ZERO,
            found: Fen::ZERO,
            since_ms: 0,
            detail: detail.into(),
        }
    }

    /// A break about an award.
    pub fn of_award(kind: Kind, award: AwardId, key: PrizeKey, detail: impl Into<String>) -> Break {
        Break { award, ..Break::of(kind, award.to_string(), detail).on(key) }
    }

    /// The same, of a prize.
    pub fn on(mut self, key: PrizeKey) -> Break {
        (self.campaign, self.round, self.prize) = (key.campaign, key.round, key.prize);
        self
    }

    /// The same, of a player and since an instant.
    pub fn by(mut self, user: UserId, since_ms: u64) -> Break {
        (self.user, self.since_ms) = (user, since_ms);
        self
    }

    /// The same, with the amount that should be and the one that is.
    pub fn amounts(mut self, expected: Fen, found: Fen) -> Break {
        (self.expected, self.found) = (expected, found);
        self
    }

    /// Its stable id: 16 hexadecimal digits, the beginning of SHA-256 over kind, a zero byte, subject.
    pub fn id(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(self.kind.name());
        hash.update([0]);
        hash.update(&self.subject);
        hash.finalize()[..8].iter().map(|b| format!("{b:02x}")).collect()
    }

    /// How old it is, ms.
    pub fn age_ms(&self, now_ms: u64) -> u64 {
        if self.since_ms == 0 { 0 } else { now_ms.saturating_sub(self.since_ms) }
    }
}

#[cfg(test)]
mod tests {
    use super::{Break, Kind};

    #[test]
    fn ids_follow_from_kind_and_subject_alone() {
        let a = Break::of(Kind::PaidTwice, "X", "one");
        assert_eq!(a.id(), Break { since_ms: 9, ..Break::of(Kind::PaidTwice, "X", "two") }.id());
        assert_ne!(a.id(), Break::of(Kind::PaidAmount, "X", "one").id());
        assert_ne!(a.id(), Break::of(Kind::PaidTwice, "Y", "one").id());
        assert_eq!(a.id().len(), 16);
    }

    #[test]
    fn words_and_numbers_are_unique() {
        let mut words: Vec<&str> = Kind::ALL.iter().map(|k| k.name()).collect();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), Kind::ALL.len());
    }
}
