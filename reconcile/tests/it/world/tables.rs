//! Delivery journal and ledger, in SQLite or PostgreSQL.

use super::{World, vendor_of};
use reconcile::TableSource;
use std::path::Path;
use storage::sqlx::{self, Connection as _};

/// Shards that the journal has in PostgreSQL.
const SHARDS: u64 = 3;

const JOURNAL: &str = "CREATE TABLE delivery_journal (position INTEGER PRIMARY KEY, award BLOB NOT NULL, step INTEGER NOT NULL, \
     state INTEGER NOT NULL, generation INTEGER NOT NULL, attempt INTEGER NOT NULL, at_ms INTEGER NOT NULL, \
     due_ms INTEGER NOT NULL, vendor INTEGER NOT NULL, user_id INTEGER NOT NULL, campaign INTEGER NOT NULL, \
     round INTEGER NOT NULL, prize INTEGER NOT NULL, fen INTEGER NOT NULL, reason INTEGER NOT NULL, note TEXT NOT NULL)";
/// Columns of several widths: a reader must not care.
const JOURNAL_IN_SHARDS: &str = "CREATE TABLE delivery_journal (shard INTEGER NOT NULL, position BIGINT NOT NULL, \
     award BYTEA NOT NULL, step INTEGER NOT NULL, state SMALLINT NOT NULL, generation INTEGER NOT NULL, \
     attempt BIGINT NOT NULL, at_ms BIGINT NOT NULL, due_ms BIGINT NOT NULL, vendor BIGINT NOT NULL, \
     user_id BIGINT NOT NULL, campaign BIGINT NOT NULL, round BIGINT NOT NULL, prize BIGINT NOT NULL, fen BIGINT NOT NULL, \
     reason INTEGER NOT NULL, note TEXT NOT NULL, PRIMARY KEY (shard, position)); \
     CREATE TABLE delivery_shard (shard BIGINT NOT NULL PRIMARY KEY, position BIGINT NOT NULL)";
const LEDGER: [&str; 2] = [
    "CREATE TABLE ledger_prize (campaign BIGINT, round BIGINT, prize BIGINT, vendor BIGINT, close_ms BIGINT, made BIGINT, \
     fresh TEXT, came_back TEXT, cancelled TEXT, leased BIGINT, used BIGINT, paused BIGINT)",
    "CREATE TABLE ledger_lease (node BIGINT, epoch BIGINT, lease BIGINT, campaign BIGINT, round BIGINT, prize BIGINT, \
     ranges TEXT, closed_ms BIGINT)",
];

impl World {
    pub(super) async fn write_journal(&self, source: &TableSource) {
        let in_shards = matches!(source, TableSource::Postgres(_));
        let mut statements = vec![if in_shards { JOURNAL_IN_SHARDS } else { JOURNAL }.to_owned()];
        let mut ends = [0u64; SHARDS as usize];
        for s in &self.steps {
            let shard = if in_shards { s.user % SHARDS } else { 0 };
            let position = &mut ends[shard as usize];
            *position += 1;
            let award: String = s.award.0.to_be_bytes().iter().map(|b| format!("{b:02x}")).collect();
            let (at, award) = match in_shards {
                true => (format!("{shard}, {position}"), format!("'\\x{award}'")),
                false => (position.to_string(), format!("X'{award}'")),
            };
            statements.push(format!(
                "INSERT INTO delivery_journal VALUES ({at}, {award}, {}, {}, {}, 1, {}, {}, {}, {}, 1, 1, {}, {}, 0, '')",
                s.step, s.state, s.generation, s.at_ms, s.due_ms, vendor_of(s.prize), s.user, s.prize, s.fen
            ));
        }
        if in_shards {
            let shards = ends.iter().enumerate();
            statements
                .extend(shards.map(|(n, end)| format!("INSERT INTO delivery_shard VALUES ({n}, {end})")));
        }
        execute(source, &statements).await;
    }

    pub(super) async fn write_ledger(&self, source: &TableSource) {
        let mut statements = LEDGER.map(String::from).to_vec();
        for p in &self.ledger.prizes {
            // What is nowhere else is used; `used` of the world plants a difference.
            let used = p.used + p.made - p.fresh.len() - p.came_back.len() - p.cancelled.len() - p.leased;
            statements.push(format!(
                "INSERT INTO ledger_prize VALUES (1, 1, {}, 1, {}, {}, '{}', '{}', '{}', {}, {}, {})",
                p.key.prize,
                p.close_ms,
                p.made,
                p.fresh,
                p.came_back,
                p.cancelled,
                p.leased,
                used,
                u8::from(p.paused)
            ));
        }
        for l in &self.ledger.open {
            let ranges: Vec<String> =
                l.units.iter().map(|r| format!("{}-{}@17/5*1", r.first, r.end() - 1)).collect();
            statements.push(format!(
                "INSERT INTO ledger_lease VALUES ({}, {}, {}, 1, 1, {}, '{}', NULL)",
                l.id.0,
                l.id.1,
                l.id.2,
                l.key.prize,
                ranges.join(",")
            ));
        }
        execute(source, &statements).await;
    }
}

/// Runs statements in one transaction.
pub async fn execute(source: &TableSource, statements: &[String]) {
    match source {
        TableSource::Sqlite(path) => execute_sqlite(path, statements).await,
        TableSource::Postgres(url) => {
            let mut connection = sqlx::PgConnection::connect(url).await.unwrap();
            let all = format!("BEGIN; {}; COMMIT", statements.join("; "));
            sqlx::raw_sql(&all).execute(&mut connection).await.unwrap();
            connection.close().await.unwrap();
        }
    }
}

async fn execute_sqlite(path: &Path, statements: &[String]) {
    let sql = storage::Sql::open(path, storage::SqlOptions::patient()).await.unwrap();
    let mut write = sql.write().await.unwrap();
    for statement in statements {
        sqlx::query(statement).execute(&mut *write).await.unwrap();
    }
    write.commit().await.unwrap();
    sql.close().await;
}
