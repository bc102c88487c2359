//! The chat service beside the draw, in the same process.

use crate::config::ChatSection;
use chat::ChatNode;
use runtime::{SharedClock, Tasks};
use std::path::Path;
use std::sync::Arc;

/// Opens it, if the configuration has it: its log and its database are in `DATA/chat`.
///
/// # Errors
/// When something in the folder can't be used.
pub async fn open(
    section: &ChatSection,
    data: &Path,
    clock: &SharedClock,
    tasks: &Tasks,
) -> anyhow::Result<Option<Arc<ChatNode>>> {
    if !section.enabled {
        return Ok(None);
    }
    let node = ChatNode::open(section.options.clone(), &data.join("chat"), clock.clone(), tasks).await?;
    let status = node.status();
    tracing::info!(messages = status.cursor, log_end = status.log_end, "chat has recovered");
    Ok(Some(node))
}
