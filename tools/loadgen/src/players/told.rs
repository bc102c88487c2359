//! What players were told, on file as it is told.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use campaign::AwardId;
use protocol::v1::Award;

use crate::LoadError;

/// The facts of a row behind the award id.
type Facts = (u64, u32, u32, u32, i64);

pub(super) struct Told {
    file: Option<BufWriter<File>>,
    seen: HashMap<AwardId, Facts>,
    pub contradictions: u64,
    dirty: bool,
}

impl Told {
    pub fn new(path: Option<&Path>) -> Result<Self, LoadError> {
        let open = |path: &Path| -> std::io::Result<_> {
            let mut file = BufWriter::new(File::create(path)?);
            writeln!(file, "award,user,campaign,round,prize,fen")?;
            file.flush()?;
            Ok(file)
        };
        let file = match path {
            Some(path) => Some(open(path).map_err(LoadError::io(format!("creating {}", path.display())))?),
            None => None,
        };
        Ok(Self { file, seen: HashMap::new(), contradictions: 0, dirty: false })
    }

    /// Takes what a player was told; false when it had been told before.
    pub fn hear(&mut self, user: u64, award: &Award) -> Result<bool, LoadError> {
        let Ok(id) = award.award.parse::<AwardId>() else {
            self.contradictions += 1;
            return Ok(false);
        };
        let facts = (user, award.campaign, award.round, award.prize, award.fen);
        match self.seen.entry(id) {
            Entry::Occupied(known) => {
                self.contradictions += u64::from(*known.get() != facts);
                return Ok(false);
            }
            Entry::Vacant(new) => drop(new.insert(facts)),
        }
        if let Some(file) = &mut self.file {
            let (user, campaign, round, prize, fen) = facts;
            writeln!(file, "{id},{user},{campaign},{round},{prize},{fen}")
                .map_err(LoadError::io("writing what players were told"))?;
            self.dirty = true;
        }
        Ok(true)
    }

    /// Hands what was written to the system: it survives this process.
    pub fn flush(&mut self) -> Result<(), LoadError> {
        if std::mem::take(&mut self.dirty)
            && let Some(file) = &mut self.file
        {
            file.flush().map_err(LoadError::io("writing what players were told"))?;
        }
        Ok(())
    }

    pub fn count(&self) -> u64 {
        self.seen.len() as u64
    }
}
