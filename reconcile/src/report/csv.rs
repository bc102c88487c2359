//! Lists as CSV: breaks, what is to be done again, prizes. The first two are written while they are found, however many
//! there are, beside their place and moved there when they are whole.

use crate::breaks::{Break, Class};
use crate::matching::Terms;
use crate::readers::csv::quoted;
use crate::settlement::{COLUMNS, Settlement};
use std::fs::{self, File};
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};

/// First line of `breaks.csv`.
pub const BREAKS_HEADER: &str = "id,class,kind,subject,campaign,round,prize,user,vendor,expected_fen,found_fen,since_ms,age_ms,responsible,detail,action";
/// First line of `redo.csv`.
pub const REDO_HEADER: &str = "award,kind,break_id,campaign,round,prize,user,vendor,fen";

/// A list that is being written.
struct List {
    out: BufWriter<File>,
    path: PathBuf,
}

impl List {
    fn create(folder: &Path, name: &str, header: &str) -> io::Result<List> {
        let path = folder.join(name);
        let mut out = BufWriter::new(File::create(path.with_extension("csv.tmp"))?);
        writeln!(out, "{header}")?;
        Ok(List { out, path })
    }

    fn finish(self) -> io::Result<()> {
        self.out.into_inner().map_err(|e| e.into_error())?.sync_all()?;
        fs::rename(self.path.with_extension("csv.tmp"), &self.path)
    }
}

/// `breaks.csv` and `redo.csv`.
pub struct Lists {
    breaks: List,
    redo: List,
    now_ms: u64,
    responsible: String,
}

impl Lists {
    /// Begins both in a folder, which is made if missing.
    ///
    /// # Errors
    /// When they can't be made.
    pub fn create(folder: &Path, terms: &Terms) -> io::Result<Lists> {
        fs::create_dir_all(folder)?;
        Ok(Lists {
            breaks: List::create(folder, "breaks.csv", BREAKS_HEADER)?,
            redo: List::create(folder, "redo.csv", REDO_HEADER)?,
            now_ms: terms.now_ms,
            responsible: terms.responsible.clone(),
        })
    }

    /// Adds a break to the lists that it belongs to.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn add(&mut self, b: &Break) -> io::Result<()> {
        let (id, kind) = (b.id(), b.kind);
        write!(self.breaks.out, "{id},{},{},{},", kind.class().name(), kind.name(), quoted(&b.subject))?;
        write!(self.breaks.out, "{},{},{},{},{},", b.campaign, b.round, b.prize, b.user, b.vendor)?;
        write!(self.breaks.out, "{},{},{},{},", b.expected.0, b.found.0, b.since_ms, b.age_ms(self.now_ms))?;
        writeln!(
            self.breaks.out,
            "{},{},{}",
            quoted(&self.responsible),
            quoted(&b.detail),
            quoted(kind.action())
        )?;
        if kind.class() == Class::Redo && b.award.0 != 0 {
            write!(self.redo.out, "{},{},{id},{},{},", b.award, kind.name(), b.campaign, b.round)?;
            writeln!(self.redo.out, "{},{},{},{}", b.prize, b.user, b.vendor, b.expected.0)?;
        }
        Ok(())
    }

    /// Puts both lists in their places.
    ///
    /// # Errors
    /// When they can't be written to the end.
    pub fn finish(self) -> io::Result<()> {
        self.breaks.finish()?;
        self.redo.finish()
    }
}

/// The prizes as CSV.
pub fn prizes_csv(settlement: &Settlement) -> String {
    let mut out = String::from("campaign,round,prize,name");
    for (name, _) in COLUMNS {
        out += &format!(",{name}_units,{name}_fen");
    }
    out.push('\n');
    for line in &settlement.prizes {
        out += &format!("{},{},{},{}", line.key.campaign, line.key.round, line.key.prize, quoted(&line.name));
        for (_, column) in COLUMNS {
            let sum = column(&line.totals);
            out += &format!(",{},{}", sum.units, sum.fen.0);
        }
        out.push('\n');
    }
    out
}
