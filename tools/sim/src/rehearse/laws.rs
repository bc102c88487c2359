//! The laws of the money, held against the books at the end of every rehearsal.
//!
//! What is compared comes from different hands: the log's books, the ledger's rows, the decision core's counts, and
//! the published arithmetic of amounts. A rehearsal in which a law is broken is worth nothing, and says so.

use super::books::{Books, Given};
use super::ground::Ground;
use super::result::LawCheck;
use campaign::amounts::BLOCK_UNITS;
use campaign::{Prize, Tranche, UnitAmounts};
use lottery::core::Tally;
use lottery::ledger::PrizeReport;

/// Findings that are named; beyond that they are counted.
const NAMED_MAX: usize = 5;

/// What the laws are held against.
pub(super) struct Evidence<'a> {
    pub ground: &'a Ground,
    pub books: &'a Books,
    pub ledger: &'a [PrizeReport],
    /// What the decision cores counted, all together.
    pub tally: Tally,
    /// Submits that players made, answers that they heard, wins in the logs.
    pub submits: u64,
    pub answers: u64,
    pub logged: u64,
    /// Closes that the ledger refused, and leases that are still to be closed.
    pub refused: u64,
    pub closing: u64,
}

/// Checks every law.
pub(super) fn check(evidence: &Evidence<'_>) -> Vec<LawCheck> {
    let broken = evidence.books.broken.lock().clone();
    let mut units = Findings::default();
    let mut fen = Findings::default();
    let mut ledger = Findings::default();
    (0..evidence.ground.prizes.len()).for_each(|p| prize(evidence, p, &mut units, &mut fen, &mut ledger));
    units.extend(broken.budget.count, broken.budget.told);
    let mut limits = Findings::default();
    limits.extend(broken.limits.count, broken.limits.told);
    if evidence.refused + evidence.closing > 0 {
        let (refused, closing) = (evidence.refused, evidence.closing);
        ledger
            .add(format!("{refused} closes of leases were refused, {closing} leases are still to be closed"));
    }
    let sums = sums(evidence);
    vec![
        units.law("No unit is given out twice, and of no prize more than its budget"),
        fen.law("Every fen adds up: what was won and what was not are the budget, to the fen"),
        limits.law(
            "Nobody wins more often than the limits of a round, a day and the campaign allow, or outside of a prize's \
             regions",
        ),
        ledger.law("The quota ledger says the same as the log, and nothing is left locked"),
        sums.law("Every submit has one answer, every win one record"),
    ]
}

#[derive(Default)]
struct Findings {
    count: u64,
    named: Vec<String>,
}

impl Findings {
    fn add(&mut self, what: String) {
        self.extend(1, vec![what]);
    }

    fn extend(&mut self, count: u64, named: Vec<String>) {
        self.count += count;
        self.named.extend(named);
        self.named.truncate(NAMED_MAX);
    }

    fn law(self, law: &str) -> LawCheck {
        let more = self.count.saturating_sub(self.named.len() as u64);
        let mut detail = self.named.join("; ");
        if more > 0 {
            detail += &format!("; and {more} more");
        }
        LawCheck { law: law.to_owned(), holds: self.count == 0, detail }
    }
}

fn prize(
    evidence: &Evidence<'_>,
    number: usize,
    units: &mut Findings,
    fen: &mut Findings,
    ledger: &mut Findings,
) {
    let (round, at) = evidence.ground.prizes[number];
    let (round_id, prize) =
        (evidence.ground.plan.rounds[round].id, &evidence.ground.plan.rounds[round].prizes[at]);
    let name = format!("prize {round_id}/{}", prize.id);
    evidence.books.with_given(number, |given| {
        let (budget, awarded) = (prize.units(), given.awarded);
        let marked: u64 = given.words().iter().map(|word| u64::from(word.count_ones())).sum();
        if awarded > budget || marked != awarded || (budget..given.words().len() as u64 * 64).any(|u| given.has(u)) {
            units.add(format!("{name}: {awarded} units given out, {marked} of them different, of {budget}"));
        }
        let amounts = Amounts::of(evidence, round, prize, given);
        let whole = i128::from(prize.fen().0);
        if amounts.won != i128::from(given.fen) || amounts.won + amounts.left != whole || amounts.won > whole {
            fen.add(format!(
                "{name}: {} fen were won, the units won are {} and the others {}, the budget is {whole}",
                given.fen, amounts.won, amounts.left
            ));
        }
        let row = evidence.ledger.iter().find(|r| r.prize.round == round_id && r.prize.prize == prize.id);
        let Some(row) = row else { return ledger.add(format!("{name} is not in the ledger")) };
        let kept = row.fresh.len() + row.returned.len() + row.cancelled.len();
        if row.used != awarded || row.leased != 0 || row.budget != budget || kept + row.used != row.made {
            ledger.add(format!(
                "{name}: the ledger has {} used, {} leased, {kept} kept of {} made; the log has {awarded} awards",
                row.used, row.leased, row.made
            ));
        }
    });
}

/// Sums of amounts by the published arithmetic, fen.
struct Amounts {
    won: i128,
    left: i128,
}

impl Amounts {
    fn of(evidence: &Evidence<'_>, round: usize, prize: &Prize, given: &Given) -> Amounts {
        let has = |unit: u64| given.has(unit);
        let given_below = given.words().len() as u64 * 64;
        let mut sum = Amounts { won: 0, left: 0 };
        let mut amounts = UnitAmounts::new(prize.id.0, prize.tranches.clone());
        let keys = &evidence.ground.keys[round];
        for tranche in &prize.tranches {
            if tranche.max.0 == 0 && tranche.fen.0 == 0 {
                continue;
            }
            let mut first = 0;
            while first < tranche.units {
                if tranche.first + first >= given_below {
                    // From here on nothing was won.
                    sum.left += block_sum(tranche, first, tranche.units - first);
                    break;
                }
                let count = BLOCK_UNITS.min(tranche.units - first);
                let block = tranche.first + first..tranche.first + first + count;
                if block.clone().any(has) {
                    for unit in block {
                        let fen = amounts.amount(keys, unit).map_or(0, |fen| i128::from(fen.0));
                        *(if has(unit) { &mut sum.won } else { &mut sum.left }) += fen;
                    }
                } else {
                    sum.left += block_sum(tranche, first, count);
                }
                first += count;
            }
        }
        sum
    }
}

/// The sum of a block of units without its single amounts: the difference of two rounded prefixes.
fn block_sum(tranche: &Tranche, first: u64, count: u64) -> i128 {
    let prefix = |units: u64| i128::from(tranche.fen.0) * i128::from(units) / i128::from(tranche.units);
    prefix(first + count) - prefix(first)
}

fn sums(evidence: &Evidence<'_>) -> Findings {
    let mut findings = Findings::default();
    let t = &evidence.tally;
    let decided =
        t.draws + t.again + t.too_early + t.not_open + t.limited + t.bad_counter + t.put_off + t.unknown;
    let (submits, answers) = (evidence.submits, evidence.answers);
    if decided != submits || answers != submits {
        findings.add(format!("{submits} submits, {decided} decisions, {answers} answers"));
    }
    if t.wins != evidence.logged {
        findings.add(format!("{} wins were decided, {} are in the log", t.wins, evidence.logged));
    }
    for (what, count) in [("wrong counters", t.bad_counter), ("put off", t.put_off), ("unknown", t.unknown)] {
        if count > 0 {
            findings
                .add(format!("{count} submits were answered with '{what}', which no player here deserves"));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::{Evidence, check};
    use crate::rehearse::books::Books;
    use crate::rehearse::ground::Ground;
    use crate::rehearse::{Setup, testing};
    use lottery::core::Tally;
    use std::sync::Arc;

    fn verdicts(spoil: impl FnOnce(&mut Evidence<'_>), books: &Books, ground: &Ground) -> Vec<bool> {
        let ledger = testing::ledger_of(ground);
        let tally = Tally::default();
        let mut evidence = Evidence {
            ground,
            books,
            ledger: &ledger,
            tally,
            submits: 0,
            answers: 0,
            logged: 0,
            refused: 0,
            closing: 0,
        };
        spoil(&mut evidence);
        check(&evidence).iter().map(|law| law.holds).collect()
    }

    #[test]
    fn a_law_that_is_broken_is_found() {
        let plan = testing::plan(1, 600, 30_000);
        let ground = Arc::new(Ground::new(&plan, &Setup::new(10)));
        let books = || Books::new(Arc::clone(&ground));
        assert_eq!(verdicts(|_| (), &books(), &ground), [true; 5], "nobody came, nothing is wrong");
        let counted = books();
        counted.prize(0).awarded = 1;
        assert_eq!(verdicts(|_| (), &counted, &ground), [false, true, true, false, true], "a unit too many");
        let paid = books();
        paid.prize(0).fen = 1;
        assert_eq!(verdicts(|_| (), &paid, &ground), [true, false, true, true, true]);
        let over = books();
        over.broken.lock().limits.add("x".into());
        assert_eq!(verdicts(|_| (), &over, &ground), [true, true, false, true, true]);
        assert_eq!(verdicts(|e| e.refused = 1, &books(), &ground), [true, true, true, false, true]);
        assert_eq!(verdicts(|e| e.tally.bad_counter = 1, &books(), &ground), [true, true, true, true, false]);
        assert_eq!(verdicts(|e| e.logged = 1, &books(), &ground), [true, true, true, true, false]);
    }
}
