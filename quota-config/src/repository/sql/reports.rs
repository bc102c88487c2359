//! What nodes say that they run: one row a node.

use crate::desk::NodePlan;
use crate::repository::{NodeReport, RepositoryError};
use storage::{Arg, Database, StoredRow as _};

pub(super) async fn report(sql: &Database, report: &NodeReport) -> Result<(), RepositoryError> {
    let plans = serde_json::to_string(&report.plans).map_err(|e| RepositoryError::Draft(e.to_string()))?;
    let mut write = sql.write().await?;
    write
        .execute(
            "INSERT INTO plan_node (node, at_ms, plans) VALUES ($1, $2, $3) \
         ON CONFLICT (node) DO UPDATE SET at_ms = excluded.at_ms, plans = excluded.plans",
            &[Arg::Int(i64::from(report.node)), Arg::Int(report.at_ms.cast_signed()), Arg::Text(&plans)],
        )
        .await?;
    write.commit(sql).await?;
    Ok(())
}

/// A row that can't be read says nothing: the node writes it anew.
pub(super) async fn all(sql: &Database) -> Result<Vec<NodeReport>, RepositoryError> {
    let rows = sql.rows("SELECT node, at_ms, plans FROM plan_node ORDER BY node", &[]).await?;
    let mut reports = Vec::with_capacity(rows.len());
    for row in &rows {
        let Ok(node) = u16::try_from(row.number("node")?) else { continue };
        let Ok(plans) = serde_json::from_str::<Vec<NodePlan>>(row.text("plans")?) else { continue };
        reports.push(NodeReport { node, at_ms: row.bits("at_ms")?, plans });
    }
    Ok(reports)
}
