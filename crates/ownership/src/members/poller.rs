//! Announcing oneself and reading who else is there.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use hashring::Member;
use parking_lot::{Mutex, RwLock};

use super::table::{Announcement, MemberError, MemberState, MemberTable, Role};
use super::{MemberList, Members};

/// Between two announcements, and between two readings.
pub const BEAT_MS: u64 = 250;

/// Keeps this process's announcements fresh and the lists of all roles up to date.
pub struct Poller {
    table: Arc<dyn MemberTable>,
    mine: Mutex<Vec<Announcement>>,
    roles: BTreeMap<Role, Arc<RoleMembers>>,
}

/// The members of one role.
#[derive(Debug, Default)]
pub struct RoleMembers(RwLock<RoleState>);

#[derive(Debug)]
struct RoleState {
    list: Arc<MemberList>,
    addresses: BTreeMap<u16, Arc<str>>,
}

impl Default for RoleState {
    fn default() -> RoleState {
        RoleState { list: Arc::new(MemberList { epoch: 0, members: Vec::new() }), addresses: BTreeMap::new() }
    }
}

impl RoleMembers {
    /// Takes what was read; the epoch rises if anything is different.
    fn set(&self, alive: &[&Announcement]) {
        let weight = |member: &Announcement| match member.state {
            MemberState::Serving => member.weight,
            MemberState::Draining => 0,
        };
        let members: Vec<Member> =
            alive.iter().map(|member| Member { node: member.node, weight: weight(member) }).collect();
        let addresses: BTreeMap<u16, Arc<str>> =
            alive.iter().map(|member| (member.node, Arc::from(member.address.as_str()))).collect();
        let mut state = self.0.write();
        if state.list.epoch == 0 || state.list.members != members || state.addresses != addresses {
            let epoch = state.list.epoch + 1;
            *state = RoleState { list: Arc::new(MemberList { epoch, members }), addresses };
        }
    }
}

impl Members for RoleMembers {
    fn current(&self) -> Arc<MemberList> {
        Arc::clone(&self.0.read().list)
    }

    fn address(&self, node: u16) -> Option<Arc<str>> {
        self.0.read().addresses.get(&node).cloned()
    }
}

impl Poller {
    /// For a process that has these roles; none for one that only looks. Until the first [`Poller::beat`] every list is
    /// empty and has epoch 0.
    pub fn new(table: Arc<dyn MemberTable>, mine: Vec<Announcement>) -> Poller {
        let roles = Role::ALL.into_iter().map(|role| (role, Arc::default())).collect();
        Poller { table, mine: Mutex::new(mine), roles }
    }

    /// The members of a role, for whoever routes to it.
    pub fn members(&self, role: Role) -> Arc<RoleMembers> {
        self.roles.get(&role).cloned().unwrap_or_default()
    }

    /// The list of a role as of now.
    pub fn current(&self, role: Role) -> Arc<MemberList> {
        self.members(role).current()
    }

    /// Announces this process and reads who is alive. A list that was not read stays as it was.
    ///
    /// # Errors
    /// When a number is another live process's, or the table is away.
    pub async fn beat(&self) -> Result<(), MemberError> {
        let mine = self.mine.lock().clone();
        let announced = if mine.is_empty() { Ok(()) } else { self.table.announce(&mine).await };
        let alive = self.table.alive().await?;
        for (role, members) in &self.roles {
            members.set(&alive.iter().filter(|member| member.role == *role).collect::<Vec<_>>());
        }
        announced
    }

    /// Announces one's roles as draining from the next beat on (and at once, if it can): nobody sends new work.
    ///
    /// # Errors
    /// When the table is away; the next beat says it again.
    pub async fn drain(&self) -> Result<(), MemberError> {
        self.mine.lock().iter_mut().for_each(|member| member.state = MemberState::Draining);
        self.beat().await
    }

    /// Announces one's roles as serving, after [`Poller::drain`] at a start: from here on others send work.
    ///
    /// # Errors
    /// When the table is away; the next beat says it again.
    pub async fn serve(&self) -> Result<(), MemberError> {
        self.mine.lock().iter_mut().for_each(|member| member.state = MemberState::Serving);
        self.beat().await
    }

    /// Takes one's roles out of the list. The last thing that a process does; no beat may follow.
    ///
    /// # Errors
    /// When the table is away; the others notice within 3 s then.
    pub async fn leave(&self) -> Result<(), MemberError> {
        let mine = std::mem::take(&mut *self.mine.lock());
        self.table.leave(&mine).await
    }

    /// Beats until `stop` is ready. Failures are told once when they begin and once when they end.
    pub async fn run(&self, stop: impl Future<Output = ()>) {
        let mut stop = std::pin::pin!(stop);
        let mut failing = false;
        loop {
            match self.beat().await {
                Ok(()) if failing => {
                    failing = false;
                    tracing::info!("the member list is read again");
                }
                Ok(()) => {}
                Err(error) if !failing => {
                    failing = true;
                    tracing::warn!(%error, "not announced, or the member list not read; routing goes on with the last one");
                }
                Err(_) => {}
            }
            tokio::select! {
                () = &mut stop => return,
                () = tokio::time::sleep(Duration::from_millis(BEAT_MS)) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{MIGRATIONS, PgMembers, SERVICE, SqlMembers};
    use super::*;
    use runtime::ManualClock;
    use storage::pg::{Pg, PgOptions};
    use storage::{Sql, SqlOptions};
    use testkit::servers::FreshDatabase;

    fn lottery(node: u16, address: &str) -> Announcement {
        let (role, address, state) = (Role::Lottery, address.to_owned(), MemberState::Serving);
        Announcement { role, node, address, weight: 1, state }
    }

    /// What both tables do.
    async fn members_come_drain_and_leave(table: Arc<dyn MemberTable>) {
        let one = Poller::new(Arc::clone(&table), vec![lottery(1, "[::1]:1")]);
        let access = Announcement { role: Role::Access, ..lottery(1, "host:9") };
        let two = Poller::new(Arc::clone(&table), vec![lottery(2, "b:2"), access]);
        let seen = one.members(Role::Lottery);
        assert_eq!((seen.current().epoch, seen.current().members.len()), (0, 0));
        one.beat().await.unwrap();
        assert_eq!((seen.current().epoch, seen.current().members.len()), (1, 1));
        two.beat().await.unwrap();
        one.beat().await.unwrap();
        one.beat().await.unwrap();
        assert_eq!((seen.current().epoch, seen.current().members.len()), (2, 2), "no change, no new epoch");
        assert_eq!(seen.address(2).as_deref(), Some("b:2"));
        assert_eq!(one.current(Role::Access).members.len(), 1);
        assert_eq!(one.current(Role::Flow).members.len(), 0);
        // Another process under a number that is in use.
        let twin = Poller::new(Arc::clone(&table), vec![lottery(2, "c:3")]);
        let error = twin.beat().await.unwrap_err();
        assert!(matches!(&error, MemberError::Taken { node: 2, address, .. } if address == "b:2"), "{error}");
        two.drain().await.unwrap();
        one.beat().await.unwrap();
        assert_eq!(seen.current().members, [Member { node: 1, weight: 1 }, Member { node: 2, weight: 0 }]);
        assert!(hashring::Bucket::all().all(|b| seen.current().ring().unwrap().owner(b) == 1));
        two.leave().await.unwrap();
        one.beat().await.unwrap();
        assert_eq!((seen.current().epoch, seen.current().members.len()), (4, 1));
        twin.beat().await.unwrap();
    }

    #[tokio::test(flavor = "current_thread")]
    async fn in_sqlite() {
        let folder = tempfile::tempdir().unwrap();
        let sql = Sql::open(&folder.path().join("members.db"), SqlOptions::patient()).await.unwrap();
        storage::migrate(&sql, SERVICE, MIGRATIONS, 0).await.unwrap();
        let clock = ManualClock::new(10_000);
        let table = Arc::new(SqlMembers::new(sql, clock.clone()));
        members_come_drain_and_leave(table.clone()).await;
        clock.advance_ms(2_999);
        assert_eq!(table.alive().await.unwrap().len(), 2);
        clock.advance_ms(1);
        assert_eq!(table.alive().await.unwrap(), []);
        table.announce(&[lottery(2, "new:1")]).await.unwrap();
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_role_of_a_newer_release_hides_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let sql = Sql::open(&folder.path().join("members.db"), SqlOptions::patient()).await.unwrap();
        storage::migrate(&sql, SERVICE, MIGRATIONS, 0).await.unwrap();
        let table = SqlMembers::new(sql.clone(), ManualClock::new(10_000));
        table.announce(&[lottery(2, "a:1")]).await.unwrap();
        let mut transaction = sql.write().await.unwrap();
        let newer =
            "INSERT INTO member SELECT 'oracle', node, address, weight, draining, seen_at_ms FROM member";
        sqlx::query(newer).execute(&mut *transaction).await.unwrap();
        transaction.commit().await.unwrap();
        assert_eq!(table.alive().await.unwrap(), [lottery(2, "a:1")]);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn in_postgres() {
        let Some(database) = FreshDatabase::new() else { return };
        let pg = Pg::open(PgOptions::patient(database.url())).await.unwrap();
        storage::pg::migrate(&pg, SERVICE, MIGRATIONS, 0).await.unwrap();
        let clock = ManualClock::new(10_000);
        let table = Arc::new(PgMembers::with_clock(pg.clone(), clock.clone()));
        members_come_drain_and_leave(table.clone()).await;
        clock.advance_ms(2_999);
        assert_eq!(table.alive().await.unwrap().len(), 2);
        clock.advance_ms(1);
        assert_eq!(table.alive().await.unwrap(), []);
        // And by the server's clock: once, this machine must ask within three seconds.
        let table = PgMembers::new(pg.clone());
        let mut tries = 0;
        while tries == 0 || table.alive().await.unwrap() != [lottery(5, "e:5")] {
            assert!(tries < 50, "who was announced is never alive");
            table.announce(&[lottery(5, "e:5")]).await.unwrap();
            tries += 1;
        }
        let late = "UPDATE member SET seen_at_ms = seen_at_ms - 3000";
        sqlx::query(late).execute(&mut *pg.connection().await.unwrap()).await.unwrap();
        assert_eq!(table.alive().await.unwrap(), []);
        table.announce(&[lottery(2, "new:1")]).await.unwrap();
    }
}
