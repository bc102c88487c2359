//! A vendor's statement.

use super::{NOW, OPEN, Payment, World};
use campaign::VendorId;
use reconcile::StatementFile;
use std::fmt::Write as _;
use std::path::Path;

impl World {
    pub(super) fn write_statement(&self, folder: &Path, vendor: u32) -> StatementFile {
        let mut rows: Vec<&Payment> =
            self.payments.iter().filter(|p| p.vendor == vendor && p.at_ms < self.to_ms).collect();
        rows.sort_by_key(|p| p.at_ms);
        let mut text =
            String::from("number,vendor_ref,award,payee,kind,fen,status,accepted_ms,finished_ms\n");
        for p in &rows {
            writeln!(
                text,
                "{},{},{},\"o,1\",cash,{},{},{OPEN},{}",
                p.number, p.reference, p.award, p.fen, p.status, p.at_ms
            )
            .unwrap();
        }
        let of = |status| {
            let (mut n, mut fen) = (0, 0);
            for p in rows.iter().filter(|p| p.status == status) {
                (n, fen) = (n + 1, fen + p.fen);
            }
            (n, fen)
        };
        let ((s, sf), (r, rf)) = (of("success"), of("reversed"));
        let all: i64 = rows.iter().map(|p| p.fen).sum();
        writeln!(
            text,
            "#footer rows={} fen={all} success_rows={s} success_fen={sf} reversed_rows={r} reversed_fen={rf} from_ms=0 to_ms={} cut_ms={NOW} complete={}",
            rows.len(), self.to_ms, self.complete
        )
        .unwrap();
        let path = folder.join(format!("statement-{vendor}.csv"));
        std::fs::write(&path, text).unwrap();
        StatementFile { vendor: VendorId(vendor), path }
    }
}
