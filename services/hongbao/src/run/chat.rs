//! The role chat: the node that keeps its own log, for an installation whose front doors are other processes.
//!
//! What it stores is in `DATA/chat` of one machine, as with `hongbao up`; so there is one such node in an installation, and its
//! folder must be the same after every restart. Both are seen to by a row in PostgreSQL that names the folder: a node with
//! another folder would begin conversations anew beside the old ones, and is refused.
//!
//! Official accounts read delivery's journal from the queue; their place in it is committed when their messages are durable,
//! and what comes twice is known by its mark.

use super::base::Base;
use crate::admin::NodeView;
use crate::config::Mistake;
use crate::run::section::CHAT_NODE_MAX;
use anyhow::Context as _;
use chat::{ChatNode, ChatOptions, accounts};
use runtime::Tasks;
use serde_json::{Value, json};
use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::path::Path;
use std::sync::Arc;
use storage::Migration;
use storage::pg::{Pg, migrate};

/// Name under which [`MIGRATIONS`] are recorded.
const SERVICE: &str = "chat home";

/// Which folder has the installation's conversations.
const MIGRATIONS: &[Migration] = &[Migration {
    version: 1,
    name: "home",
    sql: "
CREATE TABLE chat_home (
    one      BIGINT PRIMARY KEY CHECK (one = 1),
    folder   TEXT   NOT NULL,
    node     BIGINT NOT NULL,
    since_ms BIGINT NOT NULL
);
",
}];

/// The file that names a folder.
const NAME: &str = "home";

/// Bytes of a name, in hex.
const NAME_HEX: usize = 32;

/// Opens the node. Its threads and tasks end with `tasks`, official accounts with `behind`.
///
/// # Errors
/// When the folder is not this installation's, something in it can't be used, or a topic can't be read.
pub async fn open(
    base: &Base,
    data: &Path,
    (tasks, behind): (&Tasks, &Tasks),
) -> anyhow::Result<Arc<ChatNode>> {
    if !base.config.chat.enabled {
        return Err(Mistake(
            "chat.enabled is false, and this process has the role chat: leave out one of both".into(),
        )
        .into());
    }
    let folder = data.join("chat");
    std::fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    let (node, now_ms) = (base.config.node.id, base.clock.now_ms());
    debug_assert!(node <= CHAT_NODE_MAX, "checked with the configuration");
    claim_home(&base.pg, &folder, node, now_ms).await?;
    let options = ChatOptions { node, ..base.config.chat.options.clone() };
    let chat = ChatNode::open(options, &folder, base.clock.clone(), tasks).await?;
    let status = chat.status();
    tracing::info!(cursor = status.cursor, log_end = status.log_end, "chat has recovered");
    accounts::start(&chat, &base.queue()?, behind).await?;
    Ok(chat)
}

impl NodeView for ChatNode {
    fn status(&self) -> Value {
        json!(ChatNode::status(self))
    }
}

/// Makes this folder the one with the installation's conversations, or finds that it is.
async fn claim_home(pg: &Pg, folder: &Path, node: u16, now_ms: u64) -> anyhow::Result<()> {
    let mine = name_of(folder)?;
    migrate(pg, SERVICE, MIGRATIONS, now_ms).await?;
    let mut connection = pg.connection().await?;
    let claim = "INSERT INTO chat_home (one, folder, node, since_ms) VALUES (1, $1, $2, $3) ON CONFLICT (one) DO NOTHING";
    storage::sqlx::query(claim)
        .bind(&mine)
        .bind(i64::from(node))
        .bind(now_ms.cast_signed())
        .execute(&mut *connection)
        .await
        .context("saying in table chat_home where the conversations are")?;
    let (found, of, since_ms): (String, i64, i64) =
        storage::sqlx::query_as("SELECT folder, node, since_ms FROM chat_home WHERE one = 1")
            .fetch_one(&mut *connection)
            .await
            .context("reading table chat_home")?;
    if found == mine {
        return Ok(());
    }
    let since =
        jiff::Timestamp::from_millisecond(since_ms).map_or_else(|_| since_ms.to_string(), |t| t.to_string());
    Err(Mistake(format!(
        "the conversations of this installation are in another data folder, first used by chat node {of} at {since}, and {} \
         is not it: start the role chat with that folder (--data). If it is lost for good, delete the row of table \
         chat_home, and everybody begins anew",
        folder.display()
    ))
    .into())
}

/// The name of a folder, made at its first use.
fn name_of(folder: &Path) -> anyhow::Result<String> {
    let path = folder.join(NAME);
    match std::fs::read_to_string(&path) {
        Ok(text) => {
            let name = text.trim();
            if name.len() == NAME_HEX && name.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Ok(name.to_owned());
            }
            anyhow::bail!("{}: it names the folder by {NAME_HEX} hex digits, and does not", path.display())
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let mut bytes = [0u8; NAME_HEX / 2];
            getrandom::fill(&mut bytes)
                .map_err(|e| anyhow::anyhow!("the system gives no random numbers: {e}"))?;
            let name: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            write_durably(folder, &name).with_context(|| format!("writing {}", path.display()))?;
            Ok(name)
        }
        Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
    }
}

/// A name that is half written would be a mistake for ever: it is whole, or not there.
fn write_durably(folder: &Path, name: &str) -> std::io::Result<()> {
    let temporary = folder.join("home.new");
    let mut file = File::create(&temporary)?;
    file.write_all(name.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&temporary, folder.join(NAME))?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::{claim_home, name_of};
    use storage::pg::{Pg, PgOptions};
    use testkit::servers::FreshDatabase;

    #[test]
    fn a_folder_keeps_its_name() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let name = name_of(one.path()).unwrap();
        assert_eq!((name.len(), name_of(one.path()).unwrap()), (32, name.clone()));
        assert_ne!(name_of(other.path()).unwrap(), name);
        std::fs::write(one.path().join("home"), "x").unwrap();
        assert!(name_of(one.path()).unwrap_err().to_string().contains("32 hex digits"));
    }

    #[tokio::test]
    async fn a_second_folder_is_refused() {
        let Some(database) = FreshDatabase::new() else { return };
        let pg = Pg::open(PgOptions::development(database.url())).await.unwrap();
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        claim_home(&pg, one.path(), 3, 1_800_000_000_000).await.unwrap();
        claim_home(&pg, one.path(), 4, 1_800_000_100_000).await.unwrap();
        let error = claim_home(&pg, other.path(), 5, 1_800_000_200_000).await.unwrap_err().to_string();
        assert!(error.contains("chat node 3 at 2027-01-15") && error.contains("--data"), "{error}");
    }
}
