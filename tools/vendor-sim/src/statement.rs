//! The statement: one CSV row for each event, read from the books as of a cut, streamed, with a footer.
//!
//! The books are read in slices, so that payouts go on meanwhile; since everything is planned when it is taken and the
//! cut is not in the future, no slice can miss what a later payout adds. The same question gives the same bytes.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::OwnedSemaphorePermit;

use crate::book::Book;
use crate::payout::{Payout, RowFate, vendor_ref};
use crate::wire::Refusal;

/// The first line.
pub const HEADER: &str = "number,vendor_ref,award,payee,kind,fen,status,accepted_ms,finished_ms\n";
/// Payouts looked at, or rows written, under one lock.
const SLICE: u32 = 512;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Question {
    /// First instant of the range, ms UTC.
    pub from_ms: u64,
    /// End of the range, not in it.
    pub to_ms: u64,
    /// The books as of just before this instant.
    pub cut_ms: u64,
    /// The final statement.
    pub complete: bool,
}

impl Question {
    /// From the query of the address. `now_ms` is the default cut and its latest.
    pub fn parse(query: &str, now_ms: u64) -> Result<Self, Refusal> {
        let bad = |message: String| Err(Refusal::BadRequest(message));
        let (mut from, mut to, mut cut, mut complete) = (None, None, None, None);
        for pair in query.split('&').filter(|p| !p.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let place = match key {
                "from_ms" => &mut from,
                "to_ms" => &mut to,
                "cut_ms" => &mut cut,
                "complete" => {
                    let Ok(value) = value.parse::<bool>() else {
                        return bad("complete is true or false".into());
                    };
                    complete = Some(value);
                    continue;
                }
                other => {
                    return bad(format!(
                        "unknown parameter {other:?}; known are from_ms, to_ms, cut_ms, complete"
                    ));
                }
            };
            let Ok(value) = value.parse::<u64>() else {
                return bad(format!("{key} is a whole number of ms since 1970"));
            };
            *place = Some(value);
        }
        let (Some(from_ms), Some(to_ms)) = (from, to) else {
            return bad("from_ms and to_ms are needed".into());
        };
        let q = Self { from_ms, to_ms, cut_ms: cut.unwrap_or(now_ms), complete: complete.unwrap_or(false) };
        if from_ms > to_ms {
            return bad("from_ms is after to_ms".into());
        }
        if q.cut_ms > now_ms {
            return bad(format!("cut_ms is in the future; it is {now_ms} now"));
        }
        if q.complete && to_ms > now_ms {
            return Err(Refusal::NotReady("the complete statement is there when to_ms is past"));
        }
        Ok(q)
    }

    /// The events of a payout that have a row: whether it is the reversal, and its time.
    fn events(&self, payout: &Payout) -> impl Iterator<Item = (bool, u64)> {
        let plan = &payout.plan;
        let visible = match plan.row {
            RowFate::InTime => true,
            RowFate::Late { visible_ms } => self.complete || visible_ms < self.cut_ms,
            RowFate::OnlyFinal => self.complete,
            RowFate::Never => false,
        };
        let finish = visible.then_some((false, plan.finish_ms));
        let reverse = plan.reverse_ms.map(|at| (true, at));
        let (range, cut) = (self.from_ms..self.to_ms, self.cut_ms);
        finish.into_iter().chain(reverse).filter(move |&(_, at)| range.contains(&at) && at < cut)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    at_ms: u64,
    index: u32,
    reversal: bool,
}

#[derive(Debug, Default, Clone, Copy)]
struct Sum {
    rows: u64,
    fen: i128,
}

impl Sum {
    fn add(&mut self, fen: i64) {
        self.rows += 1;
        self.fen += i128::from(fen);
    }
}

/// A statement being written, chunk by chunk.
#[derive(Debug)]
pub struct Statement {
    vendor: u32,
    book: Arc<Mutex<Book>>,
    question: Question,
    rows: VecDeque<Row>,
    all: Sum,
    success: Sum,
    reversed: Sum,
    begun: bool,
    ended: bool,
    /// Held until the last chunk: bounds how many are under way.
    _permit: Option<OwnedSemaphorePermit>,
}

impl Statement {
    /// Finds and sorts the rows: reads the whole book, so not for an async thread.
    pub fn prepare(
        vendor: u32,
        book: Arc<Mutex<Book>>,
        question: Question,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Self {
        let mut rows = Vec::new();
        let mut next = 0;
        loop {
            let book = book.lock();
            let end = book.len().min(next + SLICE);
            for index in next..end {
                let found = question.events(book.payout(index));
                rows.extend(found.map(|(reversal, at_ms)| Row { at_ms, index, reversal }));
            }
            if next == end {
                break;
            }
            next = end;
        }
        rows.sort_unstable();
        let (all, success, reversed) = Default::default();
        let rows = rows.into();
        Self {
            vendor,
            book,
            question,
            rows,
            all,
            success,
            reversed,
            begun: false,
            ended: false,
            _permit: permit,
        }
    }

    /// The next piece of the text, or none at its end.
    pub fn next_chunk(&mut self) -> Option<Bytes> {
        if self.ended {
            return None;
        }
        let mut text = String::with_capacity(128 * SLICE as usize);
        if !self.begun {
            text.push_str(HEADER);
            self.begun = true;
        }
        let book = self.book.clone();
        let book = book.lock();
        for _ in 0..SLICE {
            let Some(row) = self.rows.pop_front() else {
                drop(book);
                text.push_str(&self.footer());
                self.ended = true;
                break;
            };
            self.write_row(&mut text, row, book.payout(row.index));
        }
        Some(text.into())
    }

    fn write_row(&mut self, text: &mut String, row: Row, payout: &Payout) {
        use std::fmt::Write as _;
        let order = &payout.order;
        self.all.add(order.fen);
        let status = if row.reversal {
            self.reversed.add(order.fen);
            "reversed"
        } else if payout.plan.failed {
            "failed"
        } else {
            self.success.add(order.fen);
            "success"
        };
        let _ = writeln!(
            text,
            "{},{},{},{},{},{},{status},{},{}",
            order.number.as_str(),
            vendor_ref(self.vendor, row.index),
            order.award.as_str(),
            quoted(&order.payee),
            order.kind.as_str(),
            order.fen,
            payout.accepted_ms,
            row.at_ms,
        );
    }

    fn footer(&self) -> String {
        let Self { all, success, reversed, question: q, .. } = self;
        format!(
            "#footer rows={} fen={} success_rows={} success_fen={} reversed_rows={} reversed_fen={} from_ms={} to_ms={} cut_ms={} complete={}\n",
            all.rows,
            all.fen,
            success.rows,
            success.fen,
            reversed.rows,
            reversed.fen,
            q.from_ms,
            q.to_ms,
            q.cut_ms,
            q.complete
        )
    }
}

/// A CSV field as RFC 4180 has it.
fn quoted(field: &str) -> std::borrow::Cow<'_, str> {
    if field.contains([',', '"']) {
        format!("\"{}\"", field.replace('"', "\"\"")).into()
    } else {
        field.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Live, PPM};
    use crate::faults::Dice;
    use crate::testing::{order, quiet};

    fn book(dir: &tempfile::TempDir) -> Book {
        Book::open(dir.path(), 1, 10_000).unwrap()
    }

    fn text(book: Book, question: Question) -> (String, Book) {
        let book = Arc::new(Mutex::new(book));
        let mut statement = Statement::prepare(1, book.clone(), question, None);
        let mut all = Vec::new();
        while let Some(chunk) = statement.next_chunk() {
            all.extend_from_slice(&chunk);
        }
        drop(statement);
        (String::from_utf8(all).unwrap(), Arc::into_inner(book).unwrap().into_inner())
    }

    fn numbers(text: &str) -> Vec<&str> {
        let rows = text.lines().skip(1).filter(|l| !l.starts_with('#'));
        rows.map(|l| l.split(',').next().unwrap()).collect()
    }

    const ALL: Question = Question { from_ms: 0, to_ms: 10_000, cut_ms: 10_000, complete: false };

    #[test]
    fn rows_and_footer_look_as_the_page_says() {
        let dir = tempfile::tempdir().unwrap();
        let mut book = book(&dir);
        let mut odd = order("N1", "A1");
        odd.payee = "a,\"b\"".into();
        book.take(odd, 100, &Dice::new(1, 1), &quiet()).unwrap();
        let (text, _) = text(book, ALL);
        let want = "N1,R1000000000001,A1,\"a,\"\"b\"\"\",cash,880,success,100,100\n\
                    #footer rows=1 fen=880 success_rows=1 success_fen=880 reversed_rows=0 reversed_fen=0 from_ms=0 to_ms=10000 cut_ms=10000 complete=false\n";
        assert_eq!(text, format!("{HEADER}{want}"));
    }

    #[test]
    fn range_and_cut_choose_by_the_time_of_the_event() {
        let dir = tempfile::tempdir().unwrap();
        let mut book = book(&dir);
        let late = Live { late_ppm: PPM, late_ms_min: 100, late_ms_max: 100, ..quiet() };
        book.take(order("N1", "A1"), 0, &Dice::new(1, 1), &late).unwrap();
        book.take(order("N2", "A2"), 50, &Dice::new(1, 1), &quiet()).unwrap();
        let (all, book) = text(book, ALL);
        assert_eq!(numbers(&all), ["N2", "N1"], "sorted by the end, not by acceptance");
        let (first, book) = text(book, Question { to_ms: 100, ..ALL });
        assert_eq!(numbers(&first), ["N2"]);
        let (second, book) = text(book, Question { from_ms: 100, ..ALL });
        assert_eq!(numbers(&second), ["N1"]);
        let (cut, _) = text(book, Question { cut_ms: 100, ..ALL });
        assert_eq!(numbers(&cut), ["N2"]);
    }

    #[test]
    fn a_reversal_is_a_second_row_and_a_failure_moves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let mut book = book(&dir);
        let back = Live { reversed_ppm: PPM, reverse_ms_min: 50, reverse_ms_max: 50, ..quiet() };
        let fails = Live { fail_ppm: PPM, late_ms_min: 10, late_ms_max: 10, ..quiet() };
        book.take(order("N1", "A1"), 0, &Dice::new(1, 1), &back).unwrap();
        book.take(order("N2", "A2"), 0, &Dice::new(1, 1), &fails).unwrap();
        let (all, _) = text(book, ALL);
        assert_eq!(numbers(&all), ["N1", "N2", "N1"]);
        assert!(all.contains("failed,0,10\n") && all.contains("reversed,0,50\n"), "{all}");
        assert!(
            all.contains("rows=3 fen=2640 success_rows=1 success_fen=880 reversed_rows=1 reversed_fen=880"),
            "{all}"
        );
    }

    #[test]
    fn rows_are_left_out_as_configured_and_the_complete_statement_has_them() {
        let dir = tempfile::tempdir().unwrap();
        let mut book = book(&dir);
        let dice = Dice::new(1, 1);
        let set = |missing, late, never| Live {
            row_missing_ppm: missing,
            row_late_ppm: late,
            row_late_ms: 5_000,
            row_missing_final_ppm: never,
            ..quiet()
        };
        book.take(order("MISSING", "A1"), 0, &dice, &set(PPM, 0, 0)).unwrap();
        book.take(order("LATE", "A2"), 1, &dice, &set(0, PPM, 0)).unwrap();
        book.take(order("NEVER", "A3"), 2, &dice, &set(0, 0, PPM)).unwrap();
        book.take(order("GOOD", "A4"), 3, &dice, &quiet()).unwrap();
        let (early, book) = text(book, Question { cut_ms: 5_001, ..ALL });
        assert_eq!(numbers(&early), ["GOOD"]);
        let (later, book) = text(book, Question { cut_ms: 5_002, ..ALL });
        assert_eq!(numbers(&later), ["LATE", "GOOD"]);
        let (complete, _) = text(book, Question { complete: true, ..ALL });
        assert_eq!(numbers(&complete), ["MISSING", "LATE", "GOOD"]);
    }

    #[test]
    fn many_rows_are_streamed_in_order_and_come_out_the_same_after_more_payouts() {
        let dir = tempfile::tempdir().unwrap();
        let mut book = book(&dir);
        let dice = Dice::new(1, 1);
        let live =
            Live { late_ppm: 500_000, late_ms_min: 1, late_ms_max: 900, row_missing_ppm: 100_000, ..quiet() };
        for i in 0..3_000u64 {
            book.take(order(&format!("N{i}"), &format!("A{i}")), i, &dice, &live).unwrap();
        }
        let cut = Question { cut_ms: 3_000, ..ALL };
        let (before, mut book) = text(book, cut);
        book.take(order("M1", "B1"), 3_000, &dice, &live).unwrap();
        let (after, _) = text(book, cut);
        assert_eq!(before, after);
        let times: Vec<u64> = before
            .lines()
            .skip(1)
            .filter(|l| !l.starts_with('#'))
            .map(|l| l.rsplit(',').next().unwrap().parse().unwrap())
            .collect();
        assert!(times.is_sorted() && times.len() > 2_000 && times.len() < 2_900, "{}", times.len());
        assert!(before.contains(&format!("#footer rows={} ", times.len())));
    }

    #[test]
    fn questions_are_checked() {
        let says = |query: &str| Question::parse(query, 1_000).unwrap_err().to_string();
        assert!(says("from_ms=1").contains("needed"));
        assert!(says("from_ms=1&to_ms=x").contains("to_ms is a whole number"));
        assert!(says("from_ms=2&to_ms=1").contains("after to_ms"));
        assert!(says("from_ms=1&to_ms=2&cut_ms=1001").contains("future"));
        assert!(says("from_ms=1&to_ms=2&cat=1").contains("unknown parameter"));
        assert!(says("from_ms=1&to_ms=1001&complete=true").contains("past"));
        let q = Question { from_ms: 1, to_ms: 2, cut_ms: 1_000, complete: false };
        assert_eq!(Question::parse("to_ms=2&from_ms=1", 1_000).unwrap(), q);
    }
}
