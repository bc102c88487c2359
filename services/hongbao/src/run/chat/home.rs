//! Where an installation's conversations are: in one folder of one machine, or in PostgreSQL. A row there says which.
//!
//! A node that looks elsewhere would begin conversations anew beside the old ones, and everybody would seem to have lost his.
//! So who starts with another folder, or with the other store, is refused, with where they are.

use crate::config::Mistake;
use anyhow::Context as _;
use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::path::Path;
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

/// What stands there instead of a folder's name where they are in the database; no folder is named so.
const IN_DATABASE: &str = "postgresql";

/// Bytes of a name, in hex.
const NAME_HEX: usize = 32;

/// Where this node keeps conversations.
#[derive(Clone, Copy, Debug)]
pub enum Home<'a> {
    /// In this folder.
    Folder(&'a Path),
    /// In the installation's database.
    Database,
}

/// Makes this the place of the installation's conversations, or finds that it is.
///
/// # Errors
/// When they are elsewhere, or the database or the folder can't be read.
pub async fn claim(pg: &Pg, home: Home<'_>, node: u16, now_ms: u64) -> anyhow::Result<()> {
    let mine = match home {
        Home::Folder(folder) => name_of(folder)?,
        Home::Database => IN_DATABASE.to_owned(),
    };
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
    let since = format!("first used by chat node {of} at {since}");
    Err(Mistake(elsewhere(home, found == IN_DATABASE, &since)).into())
}

/// Where they are instead, and what to do.
fn elsewhere(home: Home<'_>, in_database: bool, since: &str) -> String {
    let lost = "If they are lost for good, delete the row of table chat_home, and everybody begins anew";
    match home {
        Home::Folder(folder) if in_database => format!(
            "the conversations of this installation are in PostgreSQL, {since}, and not in {}: start the role chat with \
             chat.store = \"postgresql\". {lost}",
            folder.display()
        ),
        Home::Folder(folder) => format!(
            "the conversations of this installation are in another data folder, {since}, and {} is not it: start the role \
             chat with that folder (--data). {lost}",
            folder.display()
        ),
        Home::Database => format!(
            "the conversations of this installation are in a data folder, {since}, and not in PostgreSQL: start the role \
             chat with chat.store = \"log\" and that folder (--data). {lost}"
        ),
    }
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
    use super::{Home, claim, name_of};
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
    async fn a_second_folder_and_the_other_store_are_refused() {
        let Some(database) = FreshDatabase::new() else { return };
        let pg = Pg::open(PgOptions::patient(database.url())).await.unwrap();
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let [one, other] = [Home::Folder(one.path()), Home::Folder(other.path())];
        claim(&pg, one, 3, 1_800_000_000_000).await.unwrap();
        claim(&pg, one, 4, 1_800_000_100_000).await.unwrap();
        let error = claim(&pg, other, 5, 1_800_000_200_000).await.unwrap_err().to_string();
        assert!(error.contains("chat node 3 at 2027-01-15") && error.contains("--data"), "{error}");
        let error = claim(&pg, Home::Database, 5, 1_800_000_200_000).await.unwrap_err().to_string();
        assert!(error.contains("chat node 3") && error.contains("chat.store = \"log\""), "{error}");
    }

    #[tokio::test]
    async fn any_node_may_use_the_database_and_no_folder_may_then() {
        let Some(database) = FreshDatabase::new() else { return };
        let pg = Pg::open(PgOptions::patient(database.url())).await.unwrap();
        for node in [7, 8, 9] {
            claim(&pg, Home::Database, node, 1_800_000_000_000).await.unwrap();
        }
        let folder = tempfile::tempdir().unwrap();
        let error = claim(&pg, Home::Folder(folder.path()), 9, 1_800_000_000_000).await.unwrap_err();
        let error = error.to_string();
        assert!(error.contains("are in PostgreSQL") && error.contains("chat node 7"), "{error}");
        assert!(error.contains("chat.store = \"postgresql\""), "{error}");
    }
}
