//! Rows of the audit trail.

use crate::audit::{AuditEntry, AuditHead, AuditRow};
use crate::bounds::PAGE_MAX;
use crate::repository::RepositoryError;
use crate::repository::sql::versions::campaign_of;
use campaign::SeqNo;
use storage::{AnyRow, Arg, Database, DatabaseWrite, SqlError, StoredRow as _};

const HEAD: &str = "SELECT n, sha256 FROM plan_audit_head WHERE one = 1";

/// Writes an entry behind the newest row, in the transaction of what it is about; says its number.
pub(super) async fn append(write: &mut DatabaseWrite, entry: AuditEntry) -> Result<u64, RepositoryError> {
    let head = write.rows(HEAD, &[]).await?;
    let row = head.first().map(head_of).transpose()?.unwrap_or_default().next(entry);
    write
        .execute(
            "INSERT INTO plan_audit (n, at_ms, who, role, action, campaign, seq_no, detail, prev, sha256) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
            &[
                Arg::Int(row.n.cast_signed()),
                Arg::Int(row.at_ms.cast_signed()),
                Arg::Text(&row.who),
                Arg::Text(&row.role),
                Arg::Text(&row.action),
                Arg::Int(row.campaign.map_or(0, |c| i64::from(c.0))),
                Arg::Int(row.seq_no.map_or(0, |s| s.0.cast_signed())),
                Arg::Text(&row.detail),
                Arg::Bytes(row.prev.as_slice()),
                Arg::Bytes(row.sha256.as_slice()),
            ],
        )
        .await?;
    write
        .execute(
            "INSERT INTO plan_audit_head (one, n, sha256) VALUES (1, $1, $2) \
         ON CONFLICT (one) DO UPDATE SET n = excluded.n, sha256 = excluded.sha256",
            &[Arg::Int(row.n.cast_signed()), Arg::Bytes(row.sha256.as_slice())],
        )
        .await?;
    Ok(row.n)
}

fn head_of(row: &AnyRow) -> Result<AuditHead, RepositoryError> {
    let n = row.bits("n").map_err(|e| unreadable(0, &e))?;
    let sha256 = row.bytes("sha256").map_err(|e| unreadable(n, &e))?;
    let sha256 = sha256.try_into();
    let short = |_| RepositoryError::AuditRow { n, what: "its noted SHA-256 has not 32 bytes".into() };
    Ok(AuditHead { n, sha256: sha256.map_err(short)? })
}

fn unreadable(n: u64, error: &SqlError) -> RepositoryError {
    RepositoryError::AuditRow { n, what: error.to_string() }
}

fn row(row: &AnyRow) -> Result<AuditRow, RepositoryError> {
    let n = row.bits("n").map_err(|e| unreadable(0, &e))?;
    let number = |column: &'static str| row.number(column).map_err(|e| unreadable(n, &e));
    let text = |column: &'static str| row.text(column).map(str::to_owned).map_err(|e| unreadable(n, &e));
    let hash = |column: &'static str| {
        let bytes = row.bytes(column).map_err(|e| unreadable(n, &e))?;
        let short = |_| RepositoryError::AuditRow { n, what: format!("its {column} has not 32 bytes") };
        <[u8; 32]>::try_from(bytes).map_err(short)
    };
    let campaign = number("campaign")?;
    Ok(AuditRow {
        n,
        at_ms: number("at_ms")?.cast_unsigned(),
        who: text("who")?,
        role: text("role")?,
        action: text("action")?,
        campaign: Some(campaign).filter(|c| *c != 0).map(campaign_of),
        seq_no: Some(number("seq_no")?).filter(|s| *s != 0).map(|s| SeqNo(s.cast_unsigned())),
        detail: text("detail")?,
        prev: hash("prev")?,
        sha256: hash("sha256")?,
    })
}

pub(super) async fn rows(sql: &Database, after: u64, limit: usize) -> Result<Vec<AuditRow>, RepositoryError> {
    let after = i64::try_from(after).unwrap_or(i64::MAX);
    let query = format!("SELECT * FROM plan_audit WHERE n > $1 ORDER BY n LIMIT {}", limit.min(PAGE_MAX));
    let rows = sql.rows(&query, &[Arg::Int(after)]).await?;
    rows.iter().map(row).collect()
}

pub(super) async fn head(sql: &Database) -> Result<AuditHead, RepositoryError> {
    Ok(sql.rows(HEAD, &[]).await?.first().map(head_of).transpose()?.unwrap_or_default())
}
