//! The table of members, in PostgreSQL and in SQLite.

use async_trait::async_trait;
use runtime::SharedClock;
use storage::pg::Pg;
use storage::{Migration, Sql, SqlError, StoredRow};

use crate::pg::now_by;

/// A member counts as alive for so long after its last announcement, by the table's clock.
pub const MEMBER_DEAD_MS: u64 = 3_000;

/// Name under which [`MIGRATIONS`] are recorded.
pub const SERVICE: &str = "members";

/// The table.
pub const MIGRATIONS: &[Migration] = &[Migration {
    version: 1,
    name: "members",
    sql: "
CREATE TABLE member (
    role       TEXT   NOT NULL,
    node       BIGINT NOT NULL,
    address    TEXT   NOT NULL,
    weight     BIGINT NOT NULL,
    draining   BIGINT NOT NULL,
    seen_at_ms BIGINT NOT NULL,
    PRIMARY KEY (role, node)
);
",
}];

/// What a process can be.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Role {
    /// The front door.
    Access,
    /// Draws.
    Lottery,
    /// Awards.
    Flow,
    /// Deliveries.
    Delivery,
    /// The admin API.
    Console,
    /// Conversations and timelines.
    Chat,
}

impl Role {
    /// Every role.
    pub const ALL: [Role; 6] =
        [Role::Access, Role::Lottery, Role::Flow, Role::Delivery, Role::Console, Role::Chat];

    /// Its name in the table and in configurations.
    pub fn name(self) -> &'static str {
        match self {
            Role::Access => "access",
            Role::Lottery => "lottery",
            Role::Flow => "flow",
            Role::Delivery => "delivery",
            Role::Console => "console",
            Role::Chat => "chat",
        }
    }

    /// The role of this name.
    pub fn of_name(name: &str) -> Option<Role> {
        Role::ALL.into_iter().find(|role| role.name() == name)
    }
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Whether a member takes new work.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MemberState {
    /// It does.
    Serving,
    /// It finishes what it has and leaves: it stays in the list, with a weight of 0.
    Draining,
}

/// What a process says about one of its roles.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Announcement {
    /// The role.
    pub role: Role,
    /// Its number within the role.
    pub node: u16,
    /// Where it is called, `host:port`.
    pub address: String,
    /// Its share, see [`hashring::Member`].
    pub weight: u32,
    /// Whether it takes new work.
    pub state: MemberState,
}

/// Why a member was not announced or the table not read.
#[derive(Debug, thiserror::Error)]
pub enum MemberError {
    /// Two processes under one number.
    #[error(
        "{role} node {node} was announced from {address} less than {MEMBER_DEAD_MS} ms ago: give this process another \
         node number, or stop that one"
    )]
    Taken {
        /// The role.
        role: Role,
        /// The number.
        node: u16,
        /// Where the other process is.
        address: String,
    },
    /// The database.
    #[error(transparent)]
    Sql(#[from] SqlError),
}

/// Port: the table of members. Durability: none is needed. An announcement overwrites the one before it under the same
/// role and number; one from another address is refused while that is alive.
#[async_trait]
pub trait MemberTable: Send + Sync {
    /// Says that these are alive now.
    ///
    /// # Errors
    /// When a number is another live process's, or the table can't be written.
    async fn announce(&self, mine: &[Announcement]) -> Result<(), MemberError>;

    /// Who is alive now, by role and node.
    ///
    /// # Errors
    /// When the table can't be read.
    async fn alive(&self) -> Result<Vec<Announcement>, MemberError>;

    /// Takes these out of the list at once.
    ///
    /// # Errors
    /// When the table can't be written.
    async fn leave(&self, mine: &[Announcement]) -> Result<(), MemberError>;
}

/// The statement that announces; `now` is an expression, $6 or the database's clock.
fn put(now: &str) -> String {
    format!(
        "INSERT INTO member (role, node, address, weight, draining, seen_at_ms) VALUES ($1, $2, $3, $4, $5, {now}) \
         ON CONFLICT (role, node) DO UPDATE SET address = excluded.address, weight = excluded.weight, \
         draining = excluded.draining, seen_at_ms = excluded.seen_at_ms WHERE member.address = excluded.address OR \
         member.seen_at_ms <= excluded.seen_at_ms - {MEMBER_DEAD_MS}"
    )
}

fn select_alive(now: &str) -> String {
    format!(
        "SELECT role, node, address, weight, draining FROM member WHERE seen_at_ms > {now} - {MEMBER_DEAD_MS} \
         ORDER BY role, node"
    )
}

const HOLDER: &str = "SELECT address FROM member WHERE role = $1 AND node = $2";
const LEAVE: &str = "DELETE FROM member WHERE role = $1 AND node = $2 AND address = $3";

/// Nothing for a role that this program does not know: a newer release has it, and routes to it.
fn read(row: &impl StoredRow) -> Result<Option<Announcement>, SqlError> {
    let Some(role) = Role::of_name(row.text("role")?) else { return Ok(None) };
    let draining: u8 = row.int("draining")?;
    let state = if draining == 0 { MemberState::Serving } else { MemberState::Draining };
    let address = row.text("address")?.to_owned();
    Ok(Some(Announcement { role, node: row.int("node")?, address, weight: row.int("weight")?, state }))
}

fn is_draining(member: &Announcement) -> i64 {
    i64::from(member.state == MemberState::Draining)
}

/// The table in PostgreSQL; time is the server's.
#[derive(Clone)]
pub struct PgMembers {
    pg: Pg,
    clock: Option<SharedClock>,
}

impl PgMembers {
    /// A table that [`storage::pg::migrate`] has made.
    pub fn new(pg: Pg) -> PgMembers {
        PgMembers { pg, clock: None }
    }

    /// With a clock that is handed in instead of the server's: where time is simulated.
    pub fn with_clock(pg: Pg, clock: SharedClock) -> PgMembers {
        PgMembers { pg, clock: Some(clock) }
    }

    /// The table's time as an expression.
    fn now(&self) -> String {
        now_by(self.clock.as_ref())
    }
}

#[async_trait]
impl MemberTable for PgMembers {
    async fn announce(&self, mine: &[Announcement]) -> Result<(), MemberError> {
        let text = put(&self.now());
        let mut connection = self.pg.connection().await?;
        for member in mine {
            let done = sqlx::query(&text)
                .bind(member.role.name())
                .bind(i64::from(member.node))
                .bind(&member.address)
                .bind(i64::from(member.weight))
                .bind(is_draining(member))
                .execute(&mut *connection)
                .await
                .map_err(SqlError::from)?;
            if done.rows_affected() == 0 {
                let holder = sqlx::query_scalar(HOLDER)
                    .bind(member.role.name())
                    .bind(i64::from(member.node))
                    .fetch_optional(&mut *connection)
                    .await
                    .map_err(SqlError::from)?;
                return Err(taken(member, holder));
            }
        }
        Ok(())
    }

    async fn alive(&self) -> Result<Vec<Announcement>, MemberError> {
        let mut connection = self.pg.connection().await?;
        let text = select_alive(&self.now());
        let rows = sqlx::query(&text).fetch_all(&mut *connection).await.map_err(SqlError::from)?;
        Ok(rows.iter().filter_map(|row| read(row).transpose()).collect::<Result<_, _>>()?)
    }

    async fn leave(&self, mine: &[Announcement]) -> Result<(), MemberError> {
        let mut connection = self.pg.connection().await?;
        for member in mine {
            sqlx::query(LEAVE)
                .bind(member.role.name())
                .bind(i64::from(member.node))
                .bind(&member.address)
                .execute(&mut *connection)
                .await
                .map_err(SqlError::from)?;
        }
        Ok(())
    }
}

/// The table in SQLite; time is the given clock's, since all who use the file are on one machine.
#[derive(Clone)]
pub struct SqlMembers {
    sql: Sql,
    clock: SharedClock,
}

impl SqlMembers {
    /// A table that [`storage::migrate`] has made.
    pub fn new(sql: Sql, clock: SharedClock) -> SqlMembers {
        SqlMembers { sql, clock }
    }
}

#[async_trait]
impl MemberTable for SqlMembers {
    async fn announce(&self, mine: &[Announcement]) -> Result<(), MemberError> {
        let text = put("$6");
        let mut transaction = self.sql.write().await?;
        for member in mine {
            let done = sqlx::query(&text)
                .bind(member.role.name())
                .bind(i64::from(member.node))
                .bind(&member.address)
                .bind(i64::from(member.weight))
                .bind(is_draining(member))
                .bind(self.clock.now_ms().cast_signed())
                .execute(&mut *transaction)
                .await
                .map_err(SqlError::from)?;
            if done.rows_affected() == 0 {
                let holder = sqlx::query_scalar(HOLDER)
                    .bind(member.role.name())
                    .bind(i64::from(member.node))
                    .fetch_optional(&mut *transaction)
                    .await
                    .map_err(SqlError::from)?;
                return Err(taken(member, holder));
            }
        }
        Ok(transaction.commit().await.map_err(SqlError::from)?)
    }

    async fn alive(&self) -> Result<Vec<Announcement>, MemberError> {
        let text = select_alive("$1");
        let query = sqlx::query(&text).bind(self.clock.now_ms().cast_signed());
        let rows = query.fetch_all(self.sql.readers()).await.map_err(SqlError::from)?;
        Ok(rows.iter().filter_map(|row| read(row).transpose()).collect::<Result<_, _>>()?)
    }

    async fn leave(&self, mine: &[Announcement]) -> Result<(), MemberError> {
        let mut transaction = self.sql.write().await?;
        for member in mine {
            sqlx::query(LEAVE)
                .bind(member.role.name())
                .bind(i64::from(member.node))
                .bind(&member.address)
                .execute(&mut *transaction)
                .await
                .map_err(SqlError::from)?;
        }
        Ok(transaction.commit().await.map_err(SqlError::from)?)
    }
}

fn taken(member: &Announcement, holder: Option<String>) -> MemberError {
    let address = holder.unwrap_or_else(|| "another address".to_owned());
    MemberError::Taken { role: member.role, node: member.node, address }
}
