//! The audit trail: who did what, when, in a chain of hashes.
//!
//! A row is written in the transaction of what it is about, so there is no change without its row and no row
//! without its change. Row n carries the SHA-256 of row n - 1 and its own over a fixed layout, and the newest
//! row's number and hash stand beside the trail; so an edited, inserted, removed or reordered row is found, the
//! last one included. Whoever can write the database can also write a whole new trail: a head that was noted
//! elsewhere ([`verify`] takes one) uncovers that too.
//!
//! Layout that is hashed, integers little-endian: 16 bytes `hongbao audit 1\n`, n u64, previous SHA-256,
//! at_ms u64, campaign u32 (0: none), SeqNo u64 (0: none), then who, role, action and detail, each as its
//! length in bytes u32 and UTF-8.

mod versions;

use crate::people::Role;
use crate::repository::{PlanRepository, RepositoryError};
use crate::wire::{self, Hex};
use campaign::{CampaignId, SeqNo};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

/// The first bytes of what is hashed: this layout and no other.
const MAGIC: &[u8; 16] = b"hongbao audit 1\n";

/// Rows that are read at once.
const PAGE: usize = 500;

/// What is written into the trail.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AuditEntry {
    /// When, ms UTC.
    pub at_ms: u64,
    /// Who.
    pub who: String,
    /// As what.
    pub role: Role,
    /// What was done: a word such as `activate`.
    pub action: String,
    /// The campaign, if it is about one.
    pub campaign: Option<CampaignId>,
    /// The version, if it is about one.
    pub seq_no: Option<SeqNo>,
    /// More, as JSON.
    pub detail: String,
}

/// A row of the trail, as it was read: no more is known of its fields than that they are text and numbers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct AuditRow {
    /// Its number: 1, 2, 3 ...
    #[serde(with = "wire::number")]
    pub n: u64,
    /// When, ms UTC.
    #[serde(with = "wire::number")]
    pub at_ms: u64,
    /// Who.
    pub who: String,
    /// As what.
    pub role: String,
    /// What was done.
    pub action: String,
    /// The campaign, if it is about one.
    #[serde(with = "wire::campaign_id_opt")]
    pub campaign: Option<CampaignId>,
    /// The version, if it is about one.
    #[serde(with = "wire::seq_no_opt")]
    pub seq_no: Option<SeqNo>,
    /// More, as JSON.
    pub detail: String,
    /// SHA-256 of the row before; zeros for the first.
    #[serde(with = "wire::sha256")]
    pub prev: [u8; 32],
    /// SHA-256 of this row.
    #[serde(with = "wire::sha256")]
    pub sha256: [u8; 32],
}

/// The newest row.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct AuditHead {
    /// Its number; 0: there is none.
    pub n: u64,
    /// Its SHA-256; zeros where there is none.
    pub sha256: [u8; 32],
}

impl AuditHead {
    /// The row that an entry becomes behind this one.
    pub fn next(&self, entry: AuditEntry) -> AuditRow {
        let mut row = AuditRow {
            n: self.n + 1,
            at_ms: entry.at_ms,
            who: entry.who,
            role: entry.role.name().to_string(),
            action: entry.action,
            campaign: entry.campaign,
            seq_no: entry.seq_no,
            detail: entry.detail,
            prev: self.sha256,
            sha256: [0; 32],
        };
        row.sha256 = row.digest();
        row
    }
}

impl AuditRow {
    /// SHA-256 over the row's fields in their fixed layout.
    pub fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(MAGIC);
        hash.update(self.n.to_le_bytes());
        hash.update(self.prev);
        hash.update(self.at_ms.to_le_bytes());
        hash.update(self.campaign.map_or(0, |c| c.0).to_le_bytes());
        hash.update(self.seq_no.map_or(0, |s| s.0).to_le_bytes());
        for text in [&self.who, &self.role, &self.action, &self.detail] {
            // Bounded long before by what a repository accepts.
            hash.update(u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes());
            hash.update(text.as_bytes());
        }
        hash.finalize().into()
    }

    /// The head that it is.
    pub fn head(&self) -> AuditHead {
        AuditHead { n: self.n, sha256: self.sha256 }
    }
}

/// Where the chain is broken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Broken {
    /// The first row that is not as it was written, or is missing.
    pub at: u64,
    /// What does not fit.
    pub why: String,
}

/// Follows the chain row by row.
#[derive(Clone, Debug, Default)]
pub struct Verifier {
    head: AuditHead,
}

impl Verifier {
    /// Takes the next row.
    ///
    /// # Errors
    /// When it is not the row that was written behind the one before.
    pub fn push(&mut self, row: &AuditRow) -> Result<(), Broken> {
        let at = self.head.n + 1;
        if row.n != at {
            return Err(Broken { at, why: format!("row {at} is missing; row {} comes instead", row.n) });
        }
        if row.prev != self.head.sha256 {
            let why = format!("row {at} names another row before it than the one that stands there");
            return Err(Broken { at, why });
        }
        if row.digest() != row.sha256 {
            return Err(Broken { at, why: format!("row {at} does not have its SHA-256: it was edited") });
        }
        self.head = row.head();
        Ok(())
    }

    /// The newest row so far.
    pub fn head(&self) -> AuditHead {
        self.head
    }

    /// Says whether the rows end where they should.
    ///
    /// # Errors
    /// When rows are missing behind, or there are more than the head knows.
    pub fn end(&self, head: AuditHead) -> Result<(), Broken> {
        let (last, noted) = (self.head.n, head.n);
        if last < noted {
            let why = format!("row {} is missing: {noted} rows were written", last + 1);
            return Err(Broken { at: last + 1, why });
        }
        if last > noted {
            let why = format!("only {noted} rows are noted: what follows was put in");
            return Err(Broken { at: noted + 1, why });
        }
        if self.head.sha256 != head.sha256 {
            let why = format!("row {last} is not the one whose SHA-256 was noted");
            return Err(Broken { at: last.max(1), why });
        }
        Ok(())
    }
}

/// What a look at the whole trail found.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Verified {
    /// Whether every row is as it was written.
    pub ok: bool,
    /// Good rows from the first on.
    #[serde(with = "wire::number")]
    pub rows: u64,
    /// SHA-256 of the last of them, to be noted elsewhere.
    #[serde(with = "wire::sha256")]
    pub head: [u8; 32],
    /// Versions that are what their rows say they were; 0 where the chain itself is broken.
    #[serde(with = "wire::number")]
    pub versions: u64,
    /// Versions that were stored before the trail began: nothing here vouches for them.
    #[serde(with = "wire::number")]
    pub before_trail: u64,
    /// The first row that is wrong or missing.
    #[serde(with = "wire::number_opt")]
    pub broken_at: Option<u64>,
    /// What is wrong with it.
    pub why: Option<String>,
}

/// Recomputes the whole trail. `noted`: a row's number and hash that were noted outside of the database.
///
/// # Errors
/// When the repository can't be read.
pub async fn verify(
    repository: &dyn PlanRepository,
    noted: Option<AuditHead>,
) -> Result<Verified, RepositoryError> {
    chain(repository, noted, &mut |_| {}).await
}

/// Recomputes the whole trail and holds what is stored of versions against it: file, adjustments, commitments, people
/// and state. A version that was edited, put in or taken out behind the trail's back is found at the row that knows better.
///
/// # Errors
/// When the repository can't be read.
pub async fn verify_all(
    repository: &dyn PlanRepository,
    noted: Option<AuditHead>,
) -> Result<Verified, RepositoryError> {
    const TRIES: usize = 5;
    let mut tries = 0;
    loop {
        tries += 1;
        let mut told = versions::Told::default();
        let mut verified = chain(repository, noted, &mut |row| told.take(row)).await?;
        if !verified.ok {
            return Ok(verified);
        }
        let held = told.hold(repository).await?;
        // What somebody changed meanwhile has rows that were not looked at.
        let moved = repository.audit_head().await?.n != verified.rows;
        if held.broken.is_some() && moved && tries < TRIES {
            continue;
        }
        (verified.versions, verified.before_trail) = (held.good, held.before_trail);
        if let Some(broken) = held.broken {
            (verified.ok, verified.broken_at, verified.why) = (false, Some(broken.at), Some(broken.why));
        }
        return Ok(verified);
    }
}

async fn chain(
    repository: &dyn PlanRepository,
    noted: Option<AuditHead>,
    each: &mut (dyn FnMut(&AuditRow) + Send),
) -> Result<Verified, RepositoryError> {
    let mut verifier = Verifier::default();
    let outcome = follow(repository, &mut verifier, noted, each).await?;
    let (rows, sha256) = (verifier.head.n, verifier.head.sha256);
    let broken = outcome.err();
    Ok(Verified {
        ok: broken.is_none(),
        rows,
        head: sha256,
        versions: 0,
        before_trail: 0,
        broken_at: broken.as_ref().map(|b| b.at),
        why: broken.map(|b| b.why),
    })
}

async fn follow(
    repository: &dyn PlanRepository,
    verifier: &mut Verifier,
    noted: Option<AuditHead>,
    each: &mut (dyn FnMut(&AuditRow) + Send),
) -> Result<Result<(), Broken>, RepositoryError> {
    loop {
        let mut limit = PAGE;
        let mut unreadable = None;
        let rows = loop {
            match repository.audit(verifier.head.n, limit).await {
                Ok(rows) => break rows,
                // The rows before it first, for one of them may be the first that is wrong.
                Err(RepositoryError::AuditRow { n, what }) => {
                    let why = format!("row {n} can't be read: {what}");
                    let good = n.saturating_sub(verifier.head.n + 1);
                    unreadable = Some(Broken { at: verifier.head.n + 1 + good, why });
                    limit = usize::try_from(good).unwrap_or(0).min(limit - 1);
                    if limit == 0 {
                        break Vec::new();
                    }
                }
                Err(e) => return Err(e),
            }
        };
        for row in &rows {
            if let Err(broken) = verifier.push(row).and_then(|()| compare(row, noted)) {
                return Ok(Err(broken));
            }
            each(row);
        }
        if let Some(broken) = unreadable {
            return Ok(Err(broken));
        }
        if !rows.is_empty() {
            continue;
        }
        // Read behind the rows: it can only be ahead of them, by what was written meanwhile.
        let head = repository.audit_head().await?;
        if head.n > verifier.head.n && !repository.audit(verifier.head.n, 1).await.is_ok_and(|r| r.is_empty())
        {
            continue;
        }
        if let Some(noted) = noted.filter(|noted| noted.n > verifier.head.n) {
            let why = format!("row {} was noted, and the trail ends before it", noted.n);
            return Ok(Err(Broken { at: verifier.head.n + 1, why }));
        }
        return Ok(verifier.end(head));
    }
}

/// Holds a row against one that was noted outside.
fn compare(row: &AuditRow, noted: Option<AuditHead>) -> Result<(), Broken> {
    match noted.filter(|noted| noted.n == row.n && noted.sha256 != row.sha256) {
        Some(noted) => {
            let why = format!("row {} has {}, but {} was noted", row.n, Hex(&row.sha256), Hex(&noted.sha256));
            Err(Broken { at: row.n, why })
        }
        None => Ok(()),
    }
}
