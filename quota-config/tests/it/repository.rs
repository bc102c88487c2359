//! The promise of [`PlanRepository`], held against every adapter.

use campaign::{CampaignId, RoundId, SeqNo};
use quota_config::{
    Draft, MemoryRepository, PlanRepository, RepositoryError, SqlRepository, State, StoredCommitments,
};
use std::path::Path;
use storage::{Sql, SqlOptions};

fn draft(campaign: u32, after: u64, source: &str) -> Draft {
    let plan = crate::support::compile_text(crate::support::SMALL).unwrap().plan;
    Draft {
        campaign: CampaignId(campaign),
        after: SeqNo(after),
        source: source.as_bytes().to_vec(),
        base_ms: 1_000,
        commitments: StoredCommitments::of(&plan),
        author: "李雷".into(),
        reason: "more cash".into(),
        at_ms: 2_000,
    }
}

async fn conforms(repository: &dyn PlanRepository) {
    let (one, two) = (CampaignId(1), CampaignId(2));
    assert_eq!(repository.newest(one).await.unwrap(), None);
    assert_eq!(repository.heads().await.unwrap(), []);
    assert!(matches!(repository.activate(one, SeqNo(1)).await, Err(RepositoryError::NotFound { .. })));
    assert!(matches!(repository.activate(one, SeqNo(0)).await, Err(RepositoryError::NotFound { .. })));

    // Reserved is not in force; numbers count per campaign.
    assert_eq!(repository.reserve(draft(1, 0, "a")).await.unwrap(), SeqNo(1));
    assert_eq!(repository.reserve(draft(2, 0, "x")).await.unwrap(), SeqNo(1));
    assert_eq!(repository.newest(one).await.unwrap(), None);
    assert_eq!(repository.get(one, SeqNo(1)).await.unwrap().unwrap().info.state, State::Reserved);
    repository.activate(one, SeqNo(1)).await.unwrap();
    repository.activate(one, SeqNo(1)).await.unwrap();
    let version = repository.newest(one).await.unwrap().unwrap();
    let sent = draft(1, 0, "a");
    assert_eq!((&version.source, &version.commitments), (&sent.source, &sent.commitments));
    assert!(quota_config::SeedCommitments::commitment(&version.commitments, one, RoundId(1)).is_some());
    let info = &version.info;
    assert_eq!((info.seq_no, info.after, info.state), (SeqNo(1), SeqNo(0), State::Active));
    assert_eq!(
        (info.author.as_str(), info.reason.as_str(), info.base_ms, info.at_ms),
        ("李雷", "more cash", 1_000, 2_000)
    );

    // Of two that follow the same one, the second is refused and stays a gap.
    assert_eq!(repository.reserve(draft(1, 1, "b")).await.unwrap(), SeqNo(2));
    assert_eq!(repository.reserve(draft(1, 1, "c")).await.unwrap(), SeqNo(3));
    repository.activate(one, SeqNo(3)).await.unwrap();
    let refused = repository.activate(one, SeqNo(2)).await;
    assert!(matches!(refused, Err(RepositoryError::Superseded { after: SeqNo(1), newest: SeqNo(3), .. })));
    repository.activate(one, SeqNo(1)).await.unwrap();
    assert_eq!(repository.heads().await.unwrap(), [(one, SeqNo(3))]);
    repository.activate(two, SeqNo(1)).await.unwrap();
    assert_eq!(repository.heads().await.unwrap(), [(one, SeqNo(3)), (two, SeqNo(1))]);
    let states: Vec<_> = repository.all(one).await.unwrap().iter().map(|v| (v.seq_no.0, v.state)).collect();
    assert_eq!(states, [(1, State::Active), (2, State::Reserved), (3, State::Active)]);
    assert_eq!(repository.get(one, SeqNo(9)).await.unwrap(), None);

    let anonymous = Draft { author: " ".into(), ..draft(1, 3, "d") };
    assert!(matches!(repository.reserve(anonymous).await, Err(RepositoryError::Draft(_))));
    let huge = Draft { source: vec![b'#'; quota_config::FILE_BYTES_MAX + 1], ..draft(1, 3, "d") };
    assert!(matches!(repository.reserve(huge).await, Err(RepositoryError::Draft(_))));
    assert_eq!(repository.reserve(draft(1, 3, "d")).await.unwrap(), SeqNo(4));
}

pub async fn open(path: &Path) -> SqlRepository {
    let sql = Sql::open(path, SqlOptions::default()).await.unwrap();
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
async fn sql_keeps_versions_and_notices_damage() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plans.db");
    let repository = open(&path).await;
    let seq_no = repository.reserve(draft(1, 0, "a")).await.unwrap();
    repository.activate(CampaignId(1), seq_no).await.unwrap();
    let before = repository.newest(CampaignId(1)).await.unwrap();
    drop(repository);
    let repository = open(&path).await;
    assert_eq!(repository.newest(CampaignId(1)).await.unwrap(), before);

    let sql = Sql::open(&path, SqlOptions::default()).await.unwrap();
    let mut write = sql.write().await.unwrap();
    storage::sqlx::query("UPDATE plan_version SET source = $1")
        .bind(&b"b"[..])
        .execute(&mut *write)
        .await
        .unwrap();
    write.commit().await.unwrap();
    let damaged = repository.newest(CampaignId(1)).await.unwrap_err();
    assert_eq!(
        damaged.to_string(),
        "campaign 1, SeqNo 1 is damaged in the repository (its source does not have its SHA-256): restore a backup"
    );
}
