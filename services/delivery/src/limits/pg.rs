//! Settings in PostgreSQL, in the tables `delivery_limit` and `delivery_node` beside the book. A report's age is counted by
//! the database's clock.

use super::{LimitBook, NodeVendor, REPORT_MS, Setting};
use crate::book::{BookError, SERVICE, pg::MIGRATIONS};
use async_trait::async_trait;
use campaign::VendorId;
use storage::batch::{signed, unsigned};
use storage::pg::{Pg, migrate};
use storage::sqlx::postgres::{PgArguments, PgRow};
use storage::sqlx::{self, Postgres, Row};
use storage::{MigrationError, SqlError};

/// The database's clock, ms UTC.
const NOW_MS: &str = "(EXTRACT(EPOCH FROM clock_timestamp()) * 1000)::bigint";
/// Reports so old are removed, ms: their nodes are gone.
const GONE_MS: u64 = 60_000;

/// See the module. Cloning gives another handle to the same database.
#[derive(Clone, Debug)]
pub struct PgLimits {
    pg: Pg,
}

impl PgLimits {
    /// Brings the tables up to date and opens them.
    ///
    /// # Errors
    /// When the database was written by a newer program, or can't be written.
    pub async fn open(pg: Pg, now_ms: u64) -> Result<PgLimits, MigrationError> {
        migrate(&pg, SERVICE, MIGRATIONS, now_ms).await?;
        Ok(PgLimits { pg })
    }

    async fn read(
        &self,
        what: &'static str,
        query: sqlx::query::Query<'_, Postgres, PgArguments>,
    ) -> Result<Vec<PgRow>, BookError> {
        let asking = async {
            let mut connection = self.pg.connection().await?;
            query.fetch_all(&mut *connection).await.map_err(SqlError::from)
        };
        Ok(self.pg.within(what, asking).await?)
    }
}

/// A number that this program wrote itself; another can't be there but by a hand in the table.
fn number<T: TryFrom<i64>>(row: &PgRow, at: usize) -> Result<T, BookError> {
    let number: i64 = row.try_get(at).map_err(SqlError::from)?;
    T::try_from(number).map_err(|_| BookError::Broken(format!("{number} in a column of delivery's limits")))
}

fn setting(row: &PgRow) -> Result<Setting, BookError> {
    let per_second: Option<i64> = row.try_get(1).map_err(SqlError::from)?;
    Ok(Setting {
        vendor: VendorId(number(row, 0)?),
        per_second: per_second.map(|_| number(row, 1)).transpose()?,
        number: number(row, 2)?,
        who: row.try_get(3).map_err(SqlError::from)?,
        at_ms: unsigned(row.try_get(4).map_err(SqlError::from)?),
    })
}

const SET: &str = "INSERT INTO delivery_limit (vendor, per_second, number, who, at_ms) VALUES ($1, $2, $3, $4, $5) \
     ON CONFLICT (vendor) DO UPDATE SET per_second = excluded.per_second, number = excluded.number, \
     who = excluded.who, at_ms = excluded.at_ms WHERE delivery_limit.number < excluded.number RETURNING number";

#[async_trait]
impl LimitBook for PgLimits {
    async fn settings(&self) -> Result<Vec<Setting>, BookError> {
        let query =
            sqlx::query("SELECT vendor, per_second, number, who, at_ms FROM delivery_limit ORDER BY vendor");
        self.read("reading limits of vendors", query).await?.iter().map(setting).collect()
    }

    async fn set(&self, setting: &Setting) -> Result<bool, BookError> {
        // One statement, its own transaction: when the answer is lost it may have been done, and doing it again is harmless.
        let query = sqlx::query(SET)
            .bind(i64::from(setting.vendor.0))
            .bind(setting.per_second.map(i64::from))
            .bind(signed(setting.number))
            .bind(setting.who.replace('\0', ""))
            .bind(signed(setting.at_ms));
        Ok(!self.read("setting the limit of a vendor", query).await?.is_empty())
    }

    async fn report(&self, node: u16, vendors: &[NodeVendor]) -> Result<(), BookError> {
        let text = format!(
            "WITH gone AS (DELETE FROM delivery_node WHERE at_ms < {NOW_MS} - {GONE_MS} AND node <> $1) \
             INSERT INTO delivery_node (node, vendor, per_second, cut_off, at_ms) \
             SELECT $1, q.vendor, q.per_second, q.cut_off, {NOW_MS} \
             FROM UNNEST($2::bigint[], $3::bigint[], $4::bigint[]) AS q(vendor, per_second, cut_off) \
             ON CONFLICT (node, vendor) DO UPDATE SET per_second = excluded.per_second, cut_off = excluded.cut_off, \
             at_ms = excluded.at_ms"
        );
        let column = |of: fn(&NodeVendor) -> i64| vendors.iter().map(of).collect::<Vec<i64>>();
        let query = sqlx::query(&text)
            .bind(i64::from(node))
            .bind(column(|v| i64::from(v.vendor.0)))
            .bind(column(|v| i64::from(v.limit_per_second)))
            .bind(column(|v| i64::from(v.cut_off)));
        self.read("saying what a node delivers", query).await.map(|_| ())
    }

    async fn reports(&self) -> Result<Vec<NodeVendor>, BookError> {
        let text = format!(
            "SELECT node, vendor, per_second, cut_off FROM delivery_node WHERE at_ms >= {NOW_MS} - {REPORT_MS} \
             ORDER BY node, vendor"
        );
        let rows = self.read("reading what nodes deliver", sqlx::query(&text)).await?;
        let report = |row: &PgRow| {
            Ok(NodeVendor {
                node: number(row, 0)?,
                vendor: VendorId(number(row, 1)?),
                limit_per_second: number(row, 2)?,
                cut_off: number::<u8>(row, 3)? != 0,
            })
        };
        rows.iter().map(report).collect()
    }
}
