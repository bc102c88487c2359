//! The chat service beside the draw, in the same process.

use crate::config::{ChatSection, ChatStore, Mistake};
use chat::{ChatNode, accounts};
use queue::Queue;
use runtime::{SharedClock, Tasks};
use std::path::Path;
use std::sync::Arc;

/// Opens it, if the configuration has it: its log and its database are in `DATA/chat`. What official accounts say comes
/// behind the answers, with everything else that does.
///
/// # Errors
/// When something in the folder can't be used, a topic can't be read, or conversations are to be kept elsewhere.
pub async fn open(
    section: &ChatSection,
    data: &Path,
    clock: &SharedClock,
    queue: &Arc<dyn Queue>,
    (tasks, behind): (&Tasks, &Tasks),
) -> anyhow::Result<Option<Arc<ChatNode>>> {
    if !section.enabled {
        return Ok(None);
    }
    if section.store == ChatStore::Postgresql {
        let text = "chat.store is \"postgresql\", which is for `hongbao run --role chat`: with `hongbao up` it is \"log\"";
        return Err(Mistake(text.into()).into());
    }
    let node = ChatNode::open(section.options.clone(), &data.join("chat"), clock.clone(), tasks).await?;
    let status = node.status();
    tracing::info!(messages = status.cursor, log_end = status.log_end, "chat has recovered");
    accounts::start(&node, queue, behind).await?;
    Ok(Some(node))
}
