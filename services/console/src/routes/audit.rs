//! The audit trail.

use super::{Listed, Refusals};
use crate::config::PAGE_MAX;
use crate::extract::{Page, Query, Viewer};
use crate::problem::Problem;
use crate::schema;
use crate::shared::Rooms;
use axum::extract::State;
use quota_config::{AuditRow, Verified};

/// Rows of the trail, by number.
#[utoipa::path(get, path = "/v1/audit", tag = "audit", params(Page), responses(
    (status = 200, description = "Rows", body = schema::AuditRows), Refusals
))]
pub(super) async fn rows(
    State(rooms): State<Rooms>,
    Viewer(_): Viewer,
    Query(page): Query<Page>,
) -> Result<axum::Json<Listed<AuditRow>>, Problem> {
    let (limit, after) = (page.limit()?, page.after_number()?);
    if after > i64::MAX as u64 {
        // No repository counts that far.
        return Ok(axum::Json(Listed { items: Vec::new(), next: None }));
    }
    let items = rooms.desk.audit(after, limit.saturating_add(1).min(PAGE_MAX)).await?;
    let full = items.len() == PAGE_MAX && limit == PAGE_MAX;
    let last = items.last().map(|row| row.n.to_string());
    let mut listed = Listed::of(items, limit, |row| row.n.to_string());
    if full {
        listed.next = last;
    }
    Ok(axum::Json(listed))
}

/// Recomputes the whole trail. A broken one is an answer, not a refusal.
#[utoipa::path(get, path = "/v1/audit/verify", tag = "audit", responses(
    (status = 200, description = "What was found", body = schema::Verified), Refusals
))]
pub(super) async fn verify(
    State(rooms): State<Rooms>,
    Viewer(_): Viewer,
) -> Result<axum::Json<Verified>, Problem> {
    let _turn = rooms.heavy().await?;
    Ok(axum::Json(rooms.desk.verify_audit(None).await?))
}
