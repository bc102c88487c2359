//! Looking at servers before they are used: which one takes writes, and whether it may be leaned on.

use std::time::Duration;

use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{ConnectOptions as _, Connection as _, Executor as _, Row as _};

use super::PgOpenError;
use super::address::Target;

/// The oldest version that was tried.
const VERSION_MIN: u32 = 14;

/// What a server says about itself.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    /// Its place in the list of servers.
    pub index: usize,
    /// Major version.
    pub version: u32,
    /// Rises with each promotion; 0 where there is none.
    pub timeline: u32,
    /// A database that replicates by itself and has no standbys (CockroachDB, YugabyteDB).
    pub replicates_itself: bool,
}

/// One server's answer.
enum Found {
    Primary(Facts),
    Standby,
    /// Nothing came back, or it is not ready.
    Away(String),
}

/// The server that takes writes: of several that say so, the one that was promoted last. One with a timeline before
/// `timeline_min` has been replaced and does not count.
pub(super) async fn find_primary(
    targets: &[Target],
    connect_timeout_ms: u64,
    timeline_min: u32,
) -> Result<Facts, PgOpenError> {
    let (mut best, mut tried, mut any) = (None::<Facts>, Vec::new(), false);
    for (index, target) in targets.iter().enumerate() {
        let what = match probe(index, target, connect_timeout_ms).await? {
            Found::Primary(facts) if facts.timeline >= timeline_min => {
                if best.as_ref().is_none_or(|best| facts.timeline > best.timeline) {
                    best = Some(facts);
                }
                continue;
            }
            Found::Primary(facts) => {
                any = true;
                format!("a primary of timeline {}, replaced by timeline {timeline_min}", facts.timeline)
            }
            Found::Standby => {
                any = true;
                "a standby".to_owned()
            }
            Found::Away(why) => why,
        };
        tried.push(format!("{} ({}): {what}", target.at, target.who()));
    }
    let tried = tried.join("; ");
    match best {
        Some(facts) => Ok(facts),
        None if any => Err(PgOpenError::NoPrimary { tried }),
        None => Err(PgOpenError::Unreachable { tried }),
    }
}

async fn probe(index: usize, target: &Target, timeout_ms: u64) -> Result<Found, PgOpenError> {
    let asking = async {
        let mut connection = target.connect.clone().disable_statement_logging().connect().await?;
        let facts = ask(index, &mut connection).await?;
        let _ = connection.close().await;
        Ok::<_, sqlx::Error>(facts)
    };
    let error = match tokio::time::timeout(Duration::from_millis(timeout_ms), asking).await {
        Ok(Ok(Some(facts))) => return Ok(Found::Primary(facts)),
        Ok(Ok(None)) => return Ok(Found::Standby),
        Ok(Err(error)) => error,
        Err(_) => return Ok(Found::Away(format!("no answer within {timeout_ms} ms"))),
    };
    let code = error.as_database_error().and_then(|database| database.code());
    match (code.as_deref(), &error) {
        // Starting up or shutting down, or full of connections.
        (Some("57P03" | "57P01" | "53300"), _) | (None, sqlx::Error::Io(_)) => {
            Ok(Found::Away(error.to_string()))
        }
        _ => Err(PgOpenError::Refused { at: target.at.clone(), who: target.who(), why: error.to_string() }),
    }
}

/// What a server is; `None`: a standby.
async fn ask(index: usize, on: &mut PgConnection) -> Result<Option<Facts>, sqlx::Error> {
    let row = first(
        on,
        "SELECT version() AS version, current_setting('server_version_num') AS number, \
         CASE WHEN pg_is_in_recovery() THEN 1 ELSE 0 END AS standby",
    )
    .await?;
    let (text, number): (String, String) = (row.try_get("version")?, row.try_get("number")?);
    if row.try_get::<i32, _>("standby")? != 0 {
        return Ok(None);
    }
    let replicates_itself = text.contains("CockroachDB") || text.contains("-YB-");
    let version = number.parse::<u32>().unwrap_or(0) / 10_000;
    let timeline = if replicates_itself { 0 } else { timeline(on).await? };
    Ok(Some(Facts { index, version, timeline, replicates_itself }))
}

/// The first eight digits of a log file's name are the timeline.
async fn timeline(on: &mut PgConnection) -> Result<u32, sqlx::Error> {
    let row =
        first(on, "SELECT substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8) AS timeline").await?;
    Ok(u32::from_str_radix(&row.try_get::<String, _>("timeline")?, 16).unwrap_or(0))
}

/// Checks the server that was found.
pub(super) async fn check(
    facts: &Facts,
    target: &Target,
    development: bool,
    timeout_ms: u64,
) -> Result<(), PgOpenError> {
    if facts.replicates_itself {
        return Ok(());
    }
    if facts.version < VERSION_MIN {
        let (at, found) = (target.at.clone(), facts.version.to_string());
        return Err(PgOpenError::OldVersion { at, found, least: VERSION_MIN });
    }
    if development {
        return Ok(());
    }
    let asking = async {
        let mut connection = target.connect.clone().disable_statement_logging().connect().await?;
        let missing = what_is_missing(&mut connection).await?;
        let _ = connection.close().await;
        Ok::<_, sqlx::Error>(missing)
    };
    let tried = |why: &str| PgOpenError::Unreachable { tried: format!("{}: {why}", target.at) };
    let missing = match tokio::time::timeout(Duration::from_millis(timeout_ms), asking).await {
        Ok(answer) => answer.map_err(|error| tried(&error.to_string()))?,
        Err(_) => return Err(tried(&format!("no answer within {timeout_ms} ms"))),
    };
    match missing {
        Some(why) => Err(PgOpenError::NotReplicated { at: target.at.clone(), why }),
        None => Ok(()),
    }
}

/// What keeps a commit from being on two servers when it is answered.
async fn what_is_missing(on: &mut PgConnection) -> Result<Option<String>, sqlx::Error> {
    let row = first(
        on,
        "SELECT current_setting('synchronous_standby_names') AS names, current_setting('fsync') AS fsync, \
         (SELECT COUNT(*) FROM pg_stat_replication) AS standbys, \
         (SELECT COUNT(*) FROM pg_stat_replication WHERE sync_state IN ('sync', 'quorum')) AS synchronous",
    )
    .await?;
    let (names, fsync): (String, String) = (row.try_get("names")?, row.try_get("fsync")?);
    let (standbys, synchronous): (i64, i64) = (row.try_get("standbys")?, row.try_get("synchronous")?);
    Ok(if fsync != "on" {
        Some(format!("fsync is {fsync}"))
    } else if names.is_empty() {
        Some("synchronous_standby_names is empty".to_owned())
    } else if synchronous == 0 {
        Some(format!(
            "of {standbys} standbys none is seen to be synchronous (is {names:?} connected, and may this user read \
             pg_stat_replication? GRANT pg_monitor lets it)"
        ))
    } else {
        None
    })
}

/// How many synchronous standbys the server has now, as far as this user may see.
pub(super) async fn synchronous_standbys(on: &mut PgConnection) -> Result<u32, sqlx::Error> {
    let text = "SELECT COUNT(*) AS n FROM pg_stat_replication WHERE sync_state IN ('sync', 'quorum')";
    let count: i64 = first(on, text).await?.try_get("n")?;
    Ok(u32::try_from(count).unwrap_or(0))
}

async fn first(on: &mut PgConnection, text: &str) -> Result<PgRow, sqlx::Error> {
    on.fetch_one(text).await
}
