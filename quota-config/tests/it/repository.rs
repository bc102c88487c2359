//! The promise of [`PlanRepository`], held against every adapter.

use crate::support::draft;
use campaign::{CampaignId, RoundId, SeqNo};
use quota_config::{
    Adjustments, Approval, AuditEntry, Decision, Draft, Edit, Kind, MemoryRepository, NewProposal,
    NodeFailure, NodePlan, NodeReport, PlanRepository, ProposalState, Remembered, RepositoryError, Role,
    Rollout, SqlRepository, State, Target, Verdict,
};
use std::path::Path;
use storage::pg::{Pg, PgOptions};
use storage::sqlx;
use storage::{Migration, Sql, SqlOptions, migrate};
use testkit::servers::FreshDatabase;

const ONE: CampaignId = CampaignId(1);
const TWO: CampaignId = CampaignId(2);

fn entry(action: &str) -> AuditEntry {
    AuditEntry {
        at_ms: 7,
        who: "han".into(),
        role: Role::Approver,
        action: action.into(),
        campaign: Some(ONE),
        seq_no: Some(SeqNo(1)),
        detail: "{}".into(),
    }
}

async fn actions(repository: &dyn PlanRepository) -> Vec<String> {
    repository.audit(0, 1000).await.unwrap().into_iter().map(|row| row.action).collect()
}

/// Each node has one report, its last.
async fn reports(repository: &dyn PlanRepository) {
    let plan = |seq_no, failure| NodePlan { campaign: ONE, seq_no: Some(SeqNo(seq_no)), grey: None, failure };
    let wrong = NodeFailure { seq_no: SeqNo(3), what: "no such vendor\0".repeat(1_000) };
    for (node, at_ms, plans) in
        [(7, 5, vec![plan(1, None)]), (2, 6, vec![]), (7, 8, vec![plan(2, Some(wrong.clone()))])]
    {
        repository.report(NodeReport { node, at_ms, plans }).await.unwrap();
    }
    let mut reports = repository.reports().await.unwrap();
    let failure = reports[1].plans[0].failure.take().unwrap();
    assert!(failure.what.starts_with("no such vendorno") && failure.what.chars().count() == 2_000);
    let last = NodeReport { node: 7, at_ms: 8, plans: vec![plan(2, None)] };
    assert_eq!(reports, [NodeReport { node: 2, at_ms: 6, plans: vec![] }, last]);
}

async fn versions(repository: &dyn PlanRepository) {
    assert_eq!(repository.newest(ONE).await.unwrap(), None);
    assert_eq!(repository.heads().await.unwrap(), []);
    assert!(matches!(repository.activate(ONE, SeqNo(1), 5).await, Err(RepositoryError::NotFound { .. })));
    assert!(matches!(repository.activate(ONE, SeqNo(0), 5).await, Err(RepositoryError::NotFound { .. })));

    // Reserved is not in force; numbers count per campaign.
    let paused = Adjustments { paused: [Target::Campaign].into(), ..Adjustments::default() };
    let first = Draft { adjustments: paused, summary: vec!["more".into()], ..draft(1, 0, "a") };
    assert_eq!(repository.reserve(first.clone()).await.unwrap(), SeqNo(1));
    assert_eq!(repository.reserve(draft(2, 0, "x")).await.unwrap(), SeqNo(1));
    assert_eq!(repository.newest(ONE).await.unwrap(), None);
    assert_eq!(repository.get(ONE, SeqNo(1)).await.unwrap().unwrap().info.state, State::Reserved);
    repository.activate(ONE, SeqNo(1), 5).await.unwrap();
    repository.activate(ONE, SeqNo(1), 6).await.unwrap();
    let version = repository.newest(ONE).await.unwrap().unwrap();
    assert_eq!((&version.source, &version.commitments), (&first.source, &first.commitments));
    assert_eq!(version.adjustments, first.adjustments);
    assert!(quota_config::SeedCommitments::commitment(&version.commitments, ONE, RoundId(1)).is_some());
    let info = &version.info;
    assert_eq!((info.seq_no, info.after, info.state), (SeqNo(1), SeqNo(0), State::Active));
    assert_eq!(
        (info.author.as_str(), info.reason.as_str(), info.role),
        ("李雷", "more cash", Role::Operator)
    );
    assert_eq!((info.base_ms, info.at_ms, &info.summary), (first.base_ms, first.at_ms, &first.summary));

    // Of two that follow the same one, the second is refused and stays a gap.
    assert_eq!(repository.reserve(draft(1, 1, "b")).await.unwrap(), SeqNo(2));
    assert_eq!(repository.reserve(draft(1, 1, "c")).await.unwrap(), SeqNo(3));
    repository.activate(ONE, SeqNo(3), 5).await.unwrap();
    let refused = repository.activate(ONE, SeqNo(2), 5).await;
    assert!(matches!(refused, Err(RepositoryError::Superseded { after: SeqNo(1), newest: SeqNo(3), .. })));
    repository.activate(ONE, SeqNo(1), 5).await.unwrap();
    assert_eq!(repository.heads().await.unwrap(), [(ONE, SeqNo(3))]);
    repository.activate(TWO, SeqNo(1), 5).await.unwrap();
    assert_eq!(repository.heads().await.unwrap(), [(ONE, SeqNo(3)), (TWO, SeqNo(1))]);
    let states: Vec<_> = repository.all(ONE).await.unwrap().iter().map(|v| (v.seq_no.0, v.state)).collect();
    assert_eq!(states, [(1, State::Active), (2, State::Reserved), (3, State::Active)]);
    assert_eq!(repository.get(ONE, SeqNo(9)).await.unwrap(), None);

    let anonymous = Draft { author: " ".into(), ..draft(1, 3, "d") };
    assert!(matches!(repository.reserve(anonymous).await, Err(RepositoryError::Draft(_))));
    let huge = Draft { source: vec![b'#'; quota_config::FILE_BYTES_MAX + 1], ..draft(1, 3, "d") };
    assert!(matches!(repository.reserve(huge).await, Err(RepositoryError::Draft(_))));
    assert_eq!(repository.reserve(draft(1, 3, "d")).await.unwrap(), SeqNo(4));
    let said = actions(repository).await;
    let wanted = ["reserve", "reserve", "activate", "reserve", "reserve", "activate", "activate", "reserve"];
    assert_eq!(said, wanted);
}

/// Campaign 1 stands at SeqNo 3 with 4 reserved.
async fn greys(repository: &dyn PlanRepository) {
    let share = |users_per_mille| Rollout { users_per_mille, nodes: [2].into() };
    let out = repository.set_grey(ONE, SeqNo(2), share(10), entry("grey")).await;
    assert!(matches!(out, Err(RepositoryError::Superseded { .. })));
    assert!(repository.set_grey(ONE, SeqNo(4), share(1001), entry("grey")).await.is_err());
    assert!(repository.set_grey(ONE, SeqNo(4), Rollout::default(), entry("grey")).await.is_err());
    for _ in 0..2 {
        repository.set_grey(ONE, SeqNo(4), share(10), entry("grey")).await.unwrap();
    }
    repository.set_grey(ONE, SeqNo(4), share(20), entry("wider")).await.unwrap();
    assert_eq!(repository.greys().await.unwrap(), [(ONE, SeqNo(4), share(20))]);
    let (version, rollout) = repository.grey(ONE).await.unwrap().unwrap();
    assert_eq!((version.info.seq_no, version.info.state, rollout), (SeqNo(4), State::Grey, share(20)));
    assert_eq!(repository.heads().await.unwrap()[0], (ONE, SeqNo(3)));

    // While it is out: no second one and no file, but brakes.
    assert_eq!(repository.reserve(draft(1, 3, "e")).await.unwrap(), SeqNo(5));
    let refused = repository.activate(ONE, SeqNo(5), 5).await;
    assert!(matches!(refused, Err(RepositoryError::GreyOut { grey: SeqNo(4), .. })));
    let refused = repository.set_grey(ONE, SeqNo(5), share(10), entry("grey")).await;
    assert!(matches!(refused, Err(RepositoryError::GreyOut { grey: SeqNo(4), .. })));
    let pause = Draft { kind: Kind::Pause, ..draft(1, 3, "c") };
    assert_eq!(repository.reserve(pause).await.unwrap(), SeqNo(6));
    repository.activate(ONE, SeqNo(6), 5).await.unwrap();
    assert!(repository.activate(ONE, SeqNo(4), 5).await.is_err());
    // Its promotion ends it in the same step, and only once.
    let promotion = Draft { kind: Kind::Promote, of: Some(SeqNo(4)), ..draft(1, 6, "d") };
    assert_eq!(repository.reserve(promotion.clone()).await.unwrap(), SeqNo(7));
    repository.activate(ONE, SeqNo(7), 5).await.unwrap();
    assert_eq!(repository.get(ONE, SeqNo(4)).await.unwrap().unwrap().info.state, State::Promoted);
    assert_eq!(repository.grey(ONE).await.unwrap(), None);
    let again = Draft { after: SeqNo(7), ..promotion };
    assert_eq!(repository.reserve(again).await.unwrap(), SeqNo(8));
    let refused = repository.activate(ONE, SeqNo(8), 5).await;
    assert!(matches!(refused, Err(RepositoryError::NotGrey { seq_no: SeqNo(4), .. })));

    assert_eq!(repository.reserve(draft(1, 7, "f")).await.unwrap(), SeqNo(9));
    repository.set_grey(ONE, SeqNo(9), share(10), entry("grey")).await.unwrap();
    for _ in 0..2 {
        repository.end_grey(ONE, SeqNo(9), entry("withdraw")).await.unwrap();
    }
    assert!(matches!(
        repository.end_grey(ONE, SeqNo(7), entry("withdraw")).await,
        Err(RepositoryError::NotGrey { .. })
    ));
    let said = actions(repository).await;
    let wanted = [
        "grey", "wider", "reserve", "reserve", "activate", "reserve", "activate", "reserve", "reserve",
        "grey", "withdraw",
    ];
    assert_eq!(said[8..], wanted);
}

fn proposal(id: &str, at_ms: u64) -> NewProposal {
    NewProposal {
        id: id.into(),
        campaign: ONE,
        after: SeqNo(7),
        edit: Edit::Resume { target: Target::Campaign },
        source: Some(b"file".to_vec()),
        author: "li".into(),
        role: Role::Operator,
        reason: "again".into(),
        at_ms,
        needs_two: vec!["the stop of campaign is lifted".into()],
        summary: Vec::new(),
    }
}

/// Campaign 1 stands at SeqNo 7.
async fn proposals(repository: &dyn PlanRepository) {
    let stored = repository.propose(proposal("p-1", 10)).await.unwrap();
    assert_eq!((stored.state, stored.decision.clone()), (ProposalState::Waiting, None));
    assert_eq!(repository.propose(proposal("p-1", 11)).await.unwrap(), stored);
    repository.propose(proposal("p-2", 12)).await.unwrap();
    assert_eq!(repository.proposal("p-1").await.unwrap(), Some(stored));
    assert_eq!(repository.proposal("p-3").await.unwrap(), None);
    let ids = async |campaign, state| {
        let list = repository.proposals(campaign, state).await.unwrap();
        assert!(list.iter().all(|p| p.source.is_none()));
        list.into_iter().map(|p| p.id).collect::<Vec<_>>()
    };
    assert_eq!(ids(Some(ONE), Some(ProposalState::Waiting)).await, ["p-1", "p-2"]);
    assert!(ids(Some(TWO), None).await.is_empty());

    let decision =
        Decision { name: "han".into(), role: Role::Approver, reason: "no".into(), at_ms: 20, seq_no: None };
    for _ in 0..2 {
        let settled = repository.decide("p-1", Verdict::Rejected, decision.clone()).await.unwrap();
        assert_eq!((settled.state, &settled.decision), (ProposalState::Rejected, &Some(decision.clone())));
    }
    let again = repository.decide("p-1", Verdict::Superseded, decision.clone()).await;
    assert!(matches!(again, Err(RepositoryError::Decided { state: ProposalState::Rejected, .. })));
    // A version carries out what waits, and nothing else.
    let approval = Approval { name: "han".into(), role: Role::Approver, reason: "yes".into(), at_ms: 30 };
    let carried = |after, id: &str| Draft {
        proposal: Some(id.into()),
        approvals: vec![approval.clone()],
        ..draft(1, after, "g")
    };
    assert_eq!(repository.reserve(carried(7, "p-1")).await.unwrap(), SeqNo(10));
    assert!(matches!(repository.activate(ONE, SeqNo(10), 31).await, Err(RepositoryError::Decided { .. })));
    assert_eq!(repository.reserve(carried(7, "p-2")).await.unwrap(), SeqNo(11));
    repository.activate(ONE, SeqNo(11), 31).await.unwrap();
    let settled = repository.proposal("p-2").await.unwrap().unwrap();
    let decision = settled.decision.unwrap();
    assert_eq!((settled.state, decision.seq_no), (ProposalState::Approved, Some(SeqNo(11))));
    assert_eq!((decision.name.as_str(), decision.reason.as_str(), decision.at_ms), ("han", "yes", 31));
    assert_eq!(
        repository.newest(ONE).await.unwrap().unwrap().info.approvals,
        std::slice::from_ref(&approval)
    );
    assert_eq!(repository.reserve(carried(11, "p-2")).await.unwrap(), SeqNo(12));
    assert!(repository.activate(ONE, SeqNo(12), 32).await.is_err());
    // The second person signs the row.
    let row = repository.audit(0, 1000).await.unwrap().into_iter().rfind(|r| r.action == "activate").unwrap();
    assert_eq!((row.who.as_str(), row.role.as_str()), ("han", "approver"));
    assert!(ids(None, Some(ProposalState::Waiting)).await.is_empty());
}

async fn memory_of_answers(repository: &dyn PlanRepository) {
    let day = 24 * 3_600_000;
    let answer = |key: &str, at_ms, status| Remembered {
        key: key.into(),
        request_sha256: [3; 32],
        status,
        content_type: "application/json".into(),
        body: b"{}".to_vec(),
        at_ms,
    };
    assert_eq!(repository.remembered("k").await.unwrap(), None);
    repository.remember(answer("k", 1_000, 201)).await.unwrap();
    repository.remember(answer("k", 2_000, 500)).await.unwrap();
    assert_eq!(repository.remembered("k").await.unwrap(), Some(answer("k", 1_000, 201)));
    repository.remember(answer("l", day + 1_000, 200)).await.unwrap();
    assert_eq!(repository.remembered("k").await.unwrap(), None);
    let huge = Remembered { body: vec![0; (1 << 20) + 1], ..answer("m", 0, 200) };
    assert!(matches!(repository.remember(huge).await, Err(RepositoryError::Draft(_))));
}

async fn conforms(repository: &dyn PlanRepository) {
    versions(repository).await;
    reports(repository).await;
    greys(repository).await;
    proposals(repository).await;
    memory_of_answers(repository).await;
    let n = repository.audit_append(entry("look")).await.unwrap();
    let verified = quota_config::audit::verify(repository, None).await.unwrap();
    assert_eq!((verified.ok, verified.rows), (true, n));
    assert_eq!(repository.audit(n - 2, 1).await.unwrap()[0].n, n - 1);
}

pub async fn open(path: &Path) -> SqlRepository {
    let sql = Sql::open(path, SqlOptions::patient()).await.unwrap();
    SqlRepository::open(sql, 0).await.unwrap()
}

#[tokio::test]
async fn memory_conforms() {
    conforms(&MemoryRepository::new()).await;
}

#[tokio::test]
async fn sql_conforms() {
    let folder = tempfile::tempdir().unwrap();
    conforms(&open(&folder.path().join("plans.db")).await).await;
}

#[tokio::test]
async fn postgres_conforms() {
    let Some(database) = FreshDatabase::new() else { return };
    let pg = Pg::open(PgOptions::patient(database.url())).await.unwrap();
    conforms(&SqlRepository::open_postgres(pg.clone(), 0).await.unwrap()).await;
    // A second process finds the tables, and what the first has written.
    let again = SqlRepository::open_postgres(pg, 0).await.unwrap();
    assert!(again.newest(ONE).await.unwrap().is_some());
}

/// Writers on two connections: the numbers stay without a hole, and the trail one chain.
#[tokio::test]
async fn writers_in_postgres_wait_for_each_other() {
    let Some(database) = FreshDatabase::new() else { return };
    let pg = Pg::open(PgOptions::patient(database.url())).await.unwrap();
    let repository = std::sync::Arc::new(SqlRepository::open_postgres(pg, 0).await.unwrap());
    let writers = (0..8).map(|n| {
        let repository = std::sync::Arc::clone(&repository);
        async move { repository.reserve(draft(1, 0, &format!("version {n}"))).await.unwrap() }
    });
    let mut seq_nos = futures_util::future::join_all(writers).await;
    seq_nos.sort();
    assert_eq!(seq_nos, (1..=8).map(SeqNo).collect::<Vec<_>>());
    let verified = quota_config::audit::verify(&*repository, None).await.unwrap();
    assert_eq!((verified.ok, verified.rows), (true, 8));
}

#[tokio::test]
async fn sql_keeps_versions_and_notices_damage() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plans.db");
    let repository = open(&path).await;
    let seq_no = repository.reserve(draft(1, 0, "a")).await.unwrap();
    repository.activate(ONE, seq_no, 5).await.unwrap();
    let before = repository.newest(ONE).await.unwrap();
    drop(repository);
    let repository = open(&path).await;
    assert_eq!(repository.newest(ONE).await.unwrap(), before);

    let sql = Sql::open(&path, SqlOptions::patient()).await.unwrap();
    let mut write = sql.write().await.unwrap();
    sqlx::query("UPDATE plan_version SET source = $1").bind(&b"b"[..]).execute(&mut *write).await.unwrap();
    write.commit().await.unwrap();
    let damaged = repository.newest(ONE).await.unwrap_err();
    assert_eq!(
        damaged.to_string(),
        "campaign 1, SeqNo 1 is damaged in the repository (its source does not have its SHA-256): restore a backup"
    );
}

/// What a database of the first release has.
const FIRST_RELEASE: &str = include_str!("first_release.sql");

#[tokio::test]
async fn a_database_of_the_first_release_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plans.db");
    let sql = Sql::open(&path, SqlOptions::patient()).await.unwrap();
    let first = [Migration { version: 1, name: "versions of plans", sql: FIRST_RELEASE.trim_end() }];
    migrate(&sql, "quota-config", &first, 0).await.unwrap();
    let old = draft(1, 0, "a");
    let mut write = sql.write().await.unwrap();
    for (seq_no, state) in [(1, "active"), (2, "reserved")] {
        sqlx::query(
            "INSERT INTO plan_version (campaign, seq_no, after_seq, base_ms, source, sha256, commitments, author, \
             reason, at_ms, state) VALUES (1, $1, $1 - 1, 5, $2, $3, $4, 'li', 'why', 6, $5)",
        )
        .bind(seq_no)
        .bind(&old.source)
        .bind(<sha2::Sha256 as sha2::Digest>::digest(&old.source).as_slice())
        .bind(old.commitments.to_bytes())
        .bind(state)
        .execute(&mut *write)
        .await
        .unwrap();
    }
    write.commit().await.unwrap();
    sql.close().await;

    let repository = open(&path).await;
    let version = repository.newest(ONE).await.unwrap().unwrap();
    assert_eq!(
        (version.info.seq_no, version.info.kind, version.info.role),
        (SeqNo(1), Kind::File, Role::Operator)
    );
    assert!(version.adjustments.is_empty() && version.info.approvals.is_empty());
    assert_eq!((version.info.base_ms, version.info.at_ms), (5, 6));
    repository.activate(ONE, SeqNo(2), 7).await.unwrap();
    assert_eq!(repository.heads().await.unwrap(), [(ONE, SeqNo(2))]);
    assert!(quota_config::audit::verify(&repository, None).await.unwrap().ok);
}
