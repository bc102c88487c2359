//! Versions in SQL: SQLite of the embedded platform.

use super::{Draft, PlanRepository, RepositoryError, State, Version, VersionInfo, check_draft};
use crate::bounds::HISTORY_MAX;
use crate::seeds::StoredCommitments;
use async_trait::async_trait;
use campaign::{CampaignId, SeqNo};
use sha2::{Digest as _, Sha256};
use storage::sqlx::sqlite::SqliteRow;
use storage::sqlx::{self, Row as _};
use storage::{Migration, MigrationError, Sql, SqlError, migrate};

const MIGRATIONS: &[Migration] = &[Migration {
    version: 1,
    name: "versions of plans",
    sql: "CREATE TABLE plan_version (
    campaign    BIGINT NOT NULL,
    seq_no      BIGINT NOT NULL,
    after_seq   BIGINT NOT NULL,
    base_ms     BIGINT NOT NULL,
    source      BLOB   NOT NULL,
    sha256      BLOB   NOT NULL,
    commitments BLOB   NOT NULL,
    author      TEXT   NOT NULL,
    reason      TEXT   NOT NULL,
    at_ms       BIGINT NOT NULL,
    state       TEXT   NOT NULL CHECK (state IN ('reserved', 'active')),
    PRIMARY KEY (campaign, seq_no)
);
CREATE INDEX plan_version_active ON plan_version (campaign, seq_no) WHERE state = 'active';",
}];

const INFO: &str = "campaign, seq_no, after_seq, base_ms, sha256, author, reason, at_ms, state";

/// A repository in a database.
pub struct SqlRepository {
    sql: Sql,
}

impl SqlRepository {
    /// The repository in an open database; makes or updates its table. `now_ms` goes into the record of
    /// migrations.
    ///
    /// # Errors
    /// When the table can't be made, or a newer program has written it.
    pub async fn open(sql: Sql, now_ms: u64) -> Result<SqlRepository, MigrationError> {
        migrate(&sql, "quota-config", MIGRATIONS, now_ms).await?;
        Ok(SqlRepository { sql })
    }

    async fn reserve_in(&self, draft: &Draft) -> Result<SeqNo, SqlError> {
        let mut write = self.sql.write().await?;
        let next: i64 = sqlx::query_scalar(
            "SELECT CAST(COALESCE(MAX(seq_no), 0) + 1 AS BIGINT) FROM plan_version WHERE campaign = $1",
        )
        .bind(i64::from(draft.campaign.0))
        .fetch_one(&mut *write)
        .await?;
        sqlx::query(
            "INSERT INTO plan_version (campaign, seq_no, after_seq, base_ms, source, sha256, commitments, \
             author, reason, at_ms, state) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 'reserved')",
        )
        .bind(i64::from(draft.campaign.0))
        .bind(next)
        .bind(draft.after.0.cast_signed())
        .bind(draft.base_ms.cast_signed())
        .bind(&draft.source)
        .bind(Sha256::digest(&draft.source).as_slice())
        .bind(draft.commitments.to_bytes())
        .bind(&draft.author)
        .bind(&draft.reason)
        .bind(draft.at_ms.cast_signed())
        .execute(&mut *write)
        .await?;
        write.commit().await?;
        Ok(SeqNo(next.cast_unsigned()))
    }

    /// What it was made after and what is active, where those differ.
    async fn activate_in(&self, campaign: CampaignId, seq_no: SeqNo) -> Result<Activated, SqlError> {
        let mut write = self.sql.write().await?;
        let row =
            sqlx::query("SELECT after_seq, state FROM plan_version WHERE campaign = $1 AND seq_no = $2")
                .bind(i64::from(campaign.0))
                .bind(seq_no.0.cast_signed())
                .fetch_optional(&mut *write)
                .await?;
        let Some(row) = row else { return Ok(Activated::NotFound) };
        if row.try_get::<&str, _>("state")? == State::Active.name() {
            return Ok(Activated::Done);
        }
        let after = SeqNo(row.try_get::<i64, _>("after_seq")?.cast_unsigned());
        let head: i64 = sqlx::query_scalar(
            "SELECT CAST(COALESCE(MAX(seq_no), 0) AS BIGINT) FROM plan_version \
             WHERE campaign = $1 AND state = 'active'",
        )
        .bind(i64::from(campaign.0))
        .fetch_one(&mut *write)
        .await?;
        let newest = SeqNo(head.cast_unsigned());
        if newest != after {
            return Ok(Activated::Superseded { after, newest });
        }
        sqlx::query("UPDATE plan_version SET state = 'active' WHERE campaign = $1 AND seq_no = $2")
            .bind(i64::from(campaign.0))
            .bind(seq_no.0.cast_signed())
            .execute(&mut *write)
            .await?;
        write.commit().await?;
        Ok(Activated::Done)
    }
}

enum Activated {
    Done,
    NotFound,
    Superseded { after: SeqNo, newest: SeqNo },
}

fn info(row: &SqliteRow) -> Result<VersionInfo, RepositoryError> {
    let number = |column: &str| row.try_get::<i64, _>(column).map(i64::cast_unsigned).map_err(SqlError::from);
    let text = |column: &str| row.try_get::<String, _>(column).map_err(SqlError::from);
    let campaign = CampaignId(u32::try_from(number("campaign")?).unwrap_or(u32::MAX));
    let seq_no = SeqNo(number("seq_no")?);
    let damaged = |what| RepositoryError::Damaged { campaign, seq_no, what };
    let sha256: &[u8] = row.try_get("sha256").map_err(SqlError::from)?;
    Ok(VersionInfo {
        campaign,
        seq_no,
        after: SeqNo(number("after_seq")?),
        base_ms: number("base_ms")?,
        sha256: sha256.try_into().map_err(|_| damaged("its SHA-256 has not 32 bytes"))?,
        author: text("author")?,
        reason: text("reason")?,
        at_ms: number("at_ms")?,
        state: match text("state")?.as_str() {
            "reserved" => State::Reserved,
            "active" => State::Active,
            _ => return Err(damaged("its state is neither reserved nor active")),
        },
    })
}

fn version(row: &SqliteRow) -> Result<Version, RepositoryError> {
    let info = info(row)?;
    let damaged = |what| RepositoryError::Damaged { campaign: info.campaign, seq_no: info.seq_no, what };
    let source: Vec<u8> = row.try_get("source").map_err(SqlError::from)?;
    if <[u8; 32]>::from(Sha256::digest(&source)) != info.sha256 {
        return Err(damaged("its source does not have its SHA-256"));
    }
    let stored: &[u8] = row.try_get("commitments").map_err(SqlError::from)?;
    let commitments =
        StoredCommitments::from_bytes(stored).ok_or_else(|| damaged("its seed commitments can't be read"))?;
    Ok(Version { info, source, commitments })
}

#[async_trait]
impl PlanRepository for SqlRepository {
    async fn reserve(&self, draft: Draft) -> Result<SeqNo, RepositoryError> {
        check_draft(&draft)?;
        Ok(self.sql.within("reserving a SeqNo", self.reserve_in(&draft)).await?)
    }

    async fn activate(&self, campaign: CampaignId, seq_no: SeqNo) -> Result<(), RepositoryError> {
        match self.sql.within("activating a SeqNo", self.activate_in(campaign, seq_no)).await? {
            Activated::Done => Ok(()),
            Activated::NotFound => Err(RepositoryError::NotFound { campaign, seq_no }),
            Activated::Superseded { after, newest } => {
                Err(RepositoryError::Superseded { campaign, seq_no, after, newest })
            }
        }
    }

    async fn newest(&self, campaign: CampaignId) -> Result<Option<Version>, RepositoryError> {
        let query = format!(
            "SELECT {INFO}, source, commitments FROM plan_version \
             WHERE campaign = $1 AND state = 'active' ORDER BY seq_no DESC LIMIT 1"
        );
        let query = sqlx::query(&query).bind(i64::from(campaign.0)).fetch_optional(self.sql.readers());
        let row = self.sql.within("reading the newest plan", query).await?;
        row.as_ref().map(version).transpose()
    }

    async fn get(&self, campaign: CampaignId, seq_no: SeqNo) -> Result<Option<Version>, RepositoryError> {
        let query = format!(
            "SELECT {INFO}, source, commitments FROM plan_version WHERE campaign = $1 AND seq_no = $2"
        );
        let query = sqlx::query(&query).bind(i64::from(campaign.0)).bind(seq_no.0.cast_signed());
        let row = self.sql.within("reading a plan", query.fetch_optional(self.sql.readers())).await?;
        row.as_ref().map(version).transpose()
    }

    async fn all(&self, campaign: CampaignId) -> Result<Vec<VersionInfo>, RepositoryError> {
        let query = format!(
            "SELECT {INFO} FROM plan_version WHERE campaign = $1 ORDER BY seq_no DESC LIMIT {HISTORY_MAX}"
        );
        let query = sqlx::query(&query).bind(i64::from(campaign.0)).fetch_all(self.sql.readers());
        let rows = self.sql.within("reading the history", query).await?;
        rows.iter().rev().map(info).collect()
    }

    async fn heads(&self) -> Result<Vec<(CampaignId, SeqNo)>, RepositoryError> {
        let query = sqlx::query_as::<_, (i64, i64)>(
            "SELECT campaign, MAX(seq_no) FROM plan_version WHERE state = 'active' \
             GROUP BY campaign ORDER BY campaign",
        );
        let rows = self.sql.within("looking for new plans", query.fetch_all(self.sql.readers())).await?;
        let head = |(campaign, seq_no): (i64, i64)| {
            (CampaignId(u32::try_from(campaign).unwrap_or(u32::MAX)), SeqNo(seq_no.cast_unsigned()))
        };
        Ok(rows.into_iter().map(head).collect())
    }
}
