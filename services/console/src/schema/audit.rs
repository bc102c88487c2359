//! Shapes of the audit trail.

use super::{Number, Sha256};
use utoipa::ToSchema;

objects! {
    /// A row of the audit trail.
    AuditRow {
        n: Number,
        at_ms: Number,
        who: String,
        role: String,
        action: String,
        #[schema(required)]
        campaign: Option<u32>,
        #[schema(required)]
        seq_no: Option<Number>,
        /// More, as JSON in text: these bytes are what the hash is over.
        detail: String,
        /// SHA-256 of the row before; zeros for the first.
        prev: Sha256,
        sha256: Sha256,
    }
    /// A page of the trail.
    AuditRows {
        items: Vec<AuditRow>,
        #[schema(required)]
        next: Option<String>,
    }
    /// What a look at the whole trail found.
    Verified {
        ok: bool,
        /// Good rows from the first on.
        rows: Number,
        /// SHA-256 of the last of them, to be noted elsewhere.
        head: Sha256,
        /// Versions that are what their rows say they were.
        versions: Number,
        /// Versions that were stored before the trail began: nothing vouches for them.
        before_trail: Number,
        /// The first row that is wrong or missing.
        #[schema(required)]
        broken_at: Option<Number>,
        #[schema(required)]
        why: Option<String>,
    }
}
