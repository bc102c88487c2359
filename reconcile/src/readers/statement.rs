//! A vendor's statement as `docs/vendor-protocol.md` describes it, and which time the statements of a vendor cover.
//!
//! A statement without its footer, or whose footer does not fit its rows, was cut off or changed and is refused whole.
//! Rows that stand in several statements (ranges overlap, or late rows were fetched again) are one row.

use super::csv::{Lines, TextError};
use crate::breaks::{Break, Kind};
use crate::rows::{Event, PaymentRow};
use campaign::{AwardId, Fen, VendorId};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

const HEADER: &str = "number,vendor_ref,award,payee,kind,fen,status,accepted_ms,finished_ms";

/// What a footer says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Footer {
    /// First instant of the range.
    pub from_ms: u64,
    /// First instant behind the range.
    pub to_ms: u64,
    /// The books as of this instant.
    pub cut_ms: u64,
    /// The vendor's last word on the range.
    pub complete: bool,
    /// Rows.
    pub rows: u64,
}

/// A row: one of our numbers, or a number that we never made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Line {
    /// One of ours.
    Ours(PaymentRow),
    /// Not one of ours.
    Foreign(Break),
}

/// Reads a statement file.
///
/// # Errors
/// With the line that is wrong; nothing of the statement is to be used then.
pub fn read_file(
    path: &Path,
    vendor: VendorId,
    sink: &mut dyn FnMut(Line) -> std::io::Result<()>,
) -> Result<Footer, TextError> {
    let name = path.display().to_string();
    let file = File::open(path).map_err(|e| TextError {
        file: name.clone(),
        line: 0,
        what: format!("can't be opened: {e}"),
    })?;
    read(BufReader::with_capacity(1 << 16, file), &name, vendor, sink)
}

/// Reads a statement.
///
/// # Errors
/// As [`read_file`].
pub fn read(
    input: impl BufRead,
    name: &str,
    vendor: VendorId,
    sink: &mut dyn FnMut(Line) -> std::io::Result<()>,
) -> Result<Footer, TextError> {
    let mut lines = Lines::new(input, name);
    lines.header(HEADER)?;
    let mut sums = Sums::default();
    let mut last_finished_ms = (0, 0);
    while let Some(line) = lines.next_line()? {
        if let Some(footer) = line.strip_prefix("#footer ") {
            let footer = sums.footer(&lines, footer)?;
            let (first, last) = last_finished_ms;
            if sums.rows > 0 && (first < footer.from_ms || last >= footer.to_ms) {
                return Err(
                    lines.error(format!("rows from {first} to {last} ms do not lie in the footer's range"))
                );
            }
            return match lines.next_line()? {
                None => Ok(footer),
                Some(_) => Err(lines.error("something stands behind the footer, which is the last line")),
            };
        }
        let (row, finished_ms) = row(&lines, &line, vendor, &mut sums)?;
        if sums.rows > 1 && finished_ms < last_finished_ms.1 {
            return Err(lines.error("`finished_ms` is below the row before: rows are sorted by it"));
        }
        last_finished_ms = (if sums.rows == 1 { finished_ms } else { last_finished_ms.0 }, finished_ms);
        if let Some(row) = row {
            sink(row).map_err(|e| lines.error(format!("can't be kept: {e}")))?;
        }
    }
    Err(lines.error("the statement has no footer: it was cut off; fetch it again"))
}

#[derive(Default)]
struct Sums {
    rows: u64,
    fen: i128,
    success: (u64, i128),
    reversed: (u64, i128),
}

fn row(
    lines: &Lines<impl BufRead>,
    line: &str,
    vendor: VendorId,
    sums: &mut Sums,
) -> Result<(Option<Line>, u64), TextError> {
    let [number, vendor_ref, award, _payee, _kind, fen, status, accepted, finished] = lines.fields(line)?;
    let fen: i64 = lines.parse("fen", &fen)?;
    let _accepted_ms: u64 = lines.parse("accepted_ms", &accepted)?;
    let finished_ms: u64 = lines.parse("finished_ms", &finished)?;
    if fen < 0 {
        return Err(lines.error("`fen` is below zero; every row's amount is positive"));
    }
    if vendor_ref.len() > 256 || number.len() > 64 {
        return Err(lines.error("`number` or `vendor_ref` is longer than any vendor's"));
    }
    let event = match status.as_str() {
        "success" => Event::Success,
        "failed" => Event::Failed,
        "reversed" => Event::Reversed,
        other => {
            return Err(lines.error(format!("`status` is `{other}`; it must be success, failed or reversed")));
        }
    };
    sums.rows += 1;
    sums.fen += i128::from(fen);
    let sum = match event {
        Event::Success => Some(&mut sums.success),
        Event::Reversed => Some(&mut sums.reversed),
        Event::Failed => None,
    };
    if let Some(sum) = sum {
        *sum = (sum.0 + 1, sum.1 + i128::from(fen));
    }
    let fen = Fen(fen);
    let ours = parse_number(&number).filter(|(id, _)| id.to_string() == award);
    let line = match ours {
        Some((award, generation)) => {
            Some(Line::Ours(PaymentRow { award, finished_ms, event, generation, vendor, fen, vendor_ref }))
        }
        // A dead number of somebody else moved nothing.
        None if event == Event::Failed => None,
        None => {
            let detail = format!("{status} under number {number} for award {award}; we make no such number");
            let subject = format!("{vendor}/{number}/{status}/{vendor_ref}");
            let found = Break::of(Kind::PaidNotInFlow, subject, detail).by(campaign::UserId(0), finished_ms);
            let fen = if event == Event::Reversed { Fen(-fen.0) } else { fen };
            Some(Line::Foreign(Break { vendor, found: fen, ..found }))
        }
    };
    Ok((line, finished_ms))
}

/// Award and generation of a number: the award's 26 characters and two decimal digits.
fn parse_number(number: &str) -> Option<(AwardId, u16)> {
    if number.len() != 28 || !number.is_ascii() {
        return None;
    }
    let (award, generation) = number.split_at(26);
    if !generation.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some((award.parse().ok()?, generation.parse().ok()?))
}

impl Sums {
    fn footer(&self, lines: &Lines<impl BufRead>, text: &str) -> Result<Footer, TextError> {
        let pairs: BTreeMap<&str, &str> = text.split(' ').filter_map(|p| p.split_once('=')).collect();
        let get = |key: &str| {
            pairs.get(key).copied().ok_or_else(|| lines.error(format!("the footer has no `{key}`")))
        };
        let number = |key: &str| -> Result<i128, TextError> { lines.parse(key, get(key)?) };
        for (key, found) in [
            ("rows", i128::from(self.rows)),
            ("fen", self.fen),
            ("success_rows", i128::from(self.success.0)),
            ("success_fen", self.success.1),
            ("reversed_rows", i128::from(self.reversed.0)),
            ("reversed_fen", self.reversed.1),
        ] {
            let says = number(key)?;
            if says != found {
                return Err(lines
                    .error(format!("the footer says {key}={says}, the rows give {found}: fetch it again")));
            }
        }
        Ok(Footer {
            from_ms: lines.parse("from_ms", get("from_ms")?)?,
            to_ms: lines.parse("to_ms", get("to_ms")?)?,
            cut_ms: lines.parse("cut_ms", get("cut_ms")?)?,
            complete: lines.parse("complete", get("complete")?)?,
            rows: self.rows,
        })
    }
}

/// Which time a vendor's final statements cover.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Coverage {
    vendors: BTreeMap<VendorId, Vec<(u64, u64)>>,
}

impl Coverage {
    /// Adds a statement. Only a complete one covers anything: in the others rows may be late.
    pub fn add(&mut self, vendor: VendorId, footer: &Footer) {
        let ranges = self.vendors.entry(vendor).or_default();
        if footer.complete && footer.from_ms < footer.to_ms {
            ranges.push((footer.from_ms, footer.to_ms));
            ranges.sort_unstable();
            ranges.dedup_by(|next, kept| {
                let joins = next.0 <= kept.1;
                if joins {
                    kept.1 = kept.1.max(next.1);
                }
                joins
            });
        }
    }

    /// Is every event of the vendor between the two instants in a final statement?
    pub fn covers(&self, vendor: VendorId, from_ms: u64, to_ms: u64) -> bool {
        self.vendors.get(&vendor).is_some_and(|ranges| ranges.iter().any(|r| r.0 <= from_ms && to_ms < r.1))
    }

    /// Was any statement of the vendor given?
    pub fn knows(&self, vendor: VendorId) -> bool {
        self.vendors.contains_key(&vendor)
    }
}

#[cfg(test)]
mod tests {
    use super::{Coverage, Footer, HEADER, Line, read};
    use campaign::VendorId;

    const ROW: &str =
        "0123456789ABCDEFGHJKMNPQRS01,R1,0123456789ABCDEFGHJKMNPQRS,\"a,\"\"b\",cash,880,success,5,7\n";

    fn text(rows: &str, footer: &str) -> String {
        format!("{HEADER}\n{rows}{footer}")
    }

    fn footer(rows: u32, fen: u32) -> String {
        format!(
            "#footer rows={rows} fen={fen} success_rows={rows} success_fen={fen} reversed_rows=0 reversed_fen=0 from_ms=0 to_ms=10 cut_ms=20 complete=true\n"
        )
    }

    fn run(text: &str) -> Result<(Footer, Vec<Line>), String> {
        let mut lines = Vec::new();
        let footer = read(text.as_bytes(), "s.csv", VendorId(1), &mut |line| {
            lines.push(line);
            Ok(())
        });
        footer.map(|f| (f, lines)).map_err(|e| e.to_string())
    }

    #[test]
    fn reads_rows_and_checks_the_footer() {
        let (footer_read, lines) = run(&text(ROW, &footer(1, 880))).unwrap();
        assert_eq!((footer_read.to_ms, footer_read.complete), (10, true));
        assert!(matches!(&lines[0], Line::Ours(row) if row.generation == 1 && row.fen.0 == 880));
        let foreign = ROW.replace("RS01", "RS+1");
        assert!(matches!(&run(&text(&foreign, &footer(1, 880))).unwrap().1[0], Line::Foreign(_)));
        for (bad, why) in [
            (text(ROW, ""), "no footer"),
            (text(ROW, &footer(2, 880)), "rows=2"),
            (text(ROW, &footer(1, 881)), "fen=881"),
            (text(ROW, &footer(1, 880).replace("to_ms=10", "to_ms=7")), "footer's range"),
            (text(ROW, &(footer(1, 880) + "x")), "behind the footer"),
            (text(&ROW.replace("success", "maybe"), &footer(1, 880)), "`status` is `maybe`"),
            (text(&ROW.replace("880", "-1"), &footer(1, 880)), "below zero"),
            (text("a,b\n", &footer(1, 880)), "2 fields"),
            ("other\n".to_string(), "the header is `other`"),
        ] {
            let error = run(&bad).unwrap_err();
            assert!(error.contains(why), "{error} should say {why}");
        }
    }

    #[test]
    fn coverage_joins_ranges() {
        let mut coverage = Coverage::default();
        let footer = |from_ms, to_ms, complete| Footer { from_ms, to_ms, cut_ms: 99, complete, rows: 0 };
        coverage.add(VendorId(1), &footer(10, 20, true));
        coverage.add(VendorId(1), &footer(0, 10, true));
        coverage.add(VendorId(1), &footer(20, 40, false));
        assert!(coverage.covers(VendorId(1), 0, 19));
        assert!(!coverage.covers(VendorId(1), 0, 20));
        assert!(!coverage.covers(VendorId(2), 0, 1));
        assert!(coverage.knows(VendorId(1)) && !coverage.knows(VendorId(2)));
    }
}
