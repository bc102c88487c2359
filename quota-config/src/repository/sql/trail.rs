//! Rows of the audit trail.

use super::engine::{self, Row, Store, Write};
use super::versions::campaign_of;
use crate::audit::{AuditEntry, AuditHead, AuditRow};
use crate::bounds::PAGE_MAX;
use crate::repository::RepositoryError;
use campaign::SeqNo;
use storage::sqlx::{self, Row as _};

/// Writes an entry behind the newest row, in the transaction of what it is about; says its number.
pub(super) async fn append(write: &mut Write, entry: AuditEntry) -> Result<u64, RepositoryError> {
    let head = sqlx::query("SELECT n, sha256 FROM plan_audit_head WHERE one = 1");
    let head = head.fetch_optional(&mut **write).await?;
    let row = head.as_ref().map(head_of).transpose()?.unwrap_or_default().next(entry);
    sqlx::query(
        "INSERT INTO plan_audit (n, at_ms, who, role, action, campaign, seq_no, detail, prev, sha256) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
    )
    .bind(row.n.cast_signed())
    .bind(row.at_ms.cast_signed())
    .bind(&row.who)
    .bind(&row.role)
    .bind(&row.action)
    .bind(row.campaign.map_or(0, |c| i64::from(c.0)))
    .bind(row.seq_no.map_or(0, |s| s.0.cast_signed()))
    .bind(&row.detail)
    .bind(row.prev.as_slice())
    .bind(row.sha256.as_slice())
    .execute(&mut **write)
    .await?;
    sqlx::query(
        "INSERT INTO plan_audit_head (one, n, sha256) VALUES (1, $1, $2) \
         ON CONFLICT (one) DO UPDATE SET n = excluded.n, sha256 = excluded.sha256",
    )
    .bind(row.n.cast_signed())
    .bind(row.sha256.as_slice())
    .execute(&mut **write)
    .await?;
    Ok(row.n)
}

fn head_of(row: &Row) -> Result<AuditHead, RepositoryError> {
    let n = row.try_get::<i64, _>("n").map(i64::cast_unsigned).map_err(|e| unreadable(0, &e))?;
    let sha256: &[u8] = row.try_get("sha256").map_err(|e| unreadable(n, &e))?;
    let sha256 = sha256.try_into();
    let short = |_| RepositoryError::AuditRow { n, what: "its noted SHA-256 has not 32 bytes".into() };
    Ok(AuditHead { n, sha256: sha256.map_err(short)? })
}

fn unreadable(n: u64, error: &sqlx::Error) -> RepositoryError {
    RepositoryError::AuditRow { n, what: error.to_string() }
}

fn row(row: &Row) -> Result<AuditRow, RepositoryError> {
    let n = row.try_get::<i64, _>("n").map(i64::cast_unsigned).map_err(|e| unreadable(0, &e))?;
    let number = |column: &str| row.try_get::<i64, _>(column).map_err(|e| unreadable(n, &e));
    let text = |column: &str| row.try_get::<String, _>(column).map_err(|e| unreadable(n, &e));
    let hash = |column: &str| {
        let bytes: &[u8] = row.try_get(column).map_err(|e| unreadable(n, &e))?;
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

pub(super) async fn rows(store: &Store, after: u64, limit: usize) -> Result<Vec<AuditRow>, RepositoryError> {
    let after = i64::try_from(after).unwrap_or(i64::MAX);
    let query = format!("SELECT * FROM plan_audit WHERE n > $1 ORDER BY n LIMIT {}", limit.min(PAGE_MAX));
    let mut read = engine::read(store).await?;
    let rows = sqlx::query(&query).bind(after).fetch_all(&mut *read).await?;
    rows.iter().map(row).collect()
}

pub(super) async fn head(store: &Store) -> Result<AuditHead, RepositoryError> {
    let query = sqlx::query("SELECT n, sha256 FROM plan_audit_head WHERE one = 1");
    let mut read = engine::read(store).await?;
    let row = query.fetch_optional(&mut *read).await?;
    Ok(row.as_ref().map(head_of).transpose()?.unwrap_or_default())
}
