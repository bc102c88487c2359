//! New versions reach readers; bad ones do not.

use crate::support::{EVENING_MS, KEY, SMALL, compile_text, publisher};
use campaign::{CampaignId, SeqNo};
use quota_config::{
    Agent, Draft, MemoryRepository, Outcome, PlanCell, PlanRepository, StoredCommitments, publish_file,
};
use std::sync::Arc;

const SMALL_ID: CampaignId = CampaignId(4);

/// A version that was never compiled: what a damaged or a newer program could leave.
async fn force(repository: &dyn PlanRepository, campaign: CampaignId, after: u64, source: &str) -> SeqNo {
    let draft = Draft {
        campaign,
        after: SeqNo(after),
        source: source.as_bytes().to_vec(),
        base_ms: EVENING_MS,
        commitments: StoredCommitments::of(&compile_text(SMALL).unwrap().plan),
        author: "li".into(),
        reason: "by force".into(),
        at_ms: EVENING_MS,
    };
    let seq_no = repository.reserve(draft).await.unwrap();
    repository.activate(campaign, seq_no).await.unwrap();
    seq_no
}

#[tokio::test]
async fn readers_see_whole_plans_and_bad_ones_never() {
    let repository = MemoryRepository::new();
    let cell = PlanCell::new();
    let (mut agent, mut reader) = (Agent::new(cell.clone()), cell.reader());
    assert_eq!(agent.poll(&repository).await.unwrap(), []);
    assert!(reader.plan(SMALL_ID).is_none());

    publish_file(&repository, SMALL.as_bytes(), &publisher(EVENING_MS), &KEY).await.unwrap();
    let swapped = |campaign, seq_no| Outcome::Swapped { campaign, seq_no };
    assert_eq!(agent.poll(&repository).await.unwrap(), [swapped(SMALL_ID, SeqNo(1))]);
    assert_eq!(agent.poll(&repository).await.unwrap(), []);
    assert_eq!(**reader.plan(SMALL_ID).unwrap(), compile_text(SMALL).unwrap().plan);

    // A second campaign stands beside the first.
    let other = SMALL.replace("campaign: 4", "campaign: 5");
    publish_file(&repository, other.as_bytes(), &publisher(EVENING_MS), &KEY).await.unwrap();
    assert_eq!(agent.poll(&repository).await.unwrap(), [swapped(CampaignId(5), SeqNo(1))]);
    assert_eq!(reader.current().iter().count(), 2);

    // A bad version is told once, and the plan before goes on.
    force(&repository, SMALL_ID, 1, "campaign: 4\nunits: lots\n").await;
    let outcomes = agent.poll(&repository).await.unwrap();
    assert!(
        matches!(&outcomes[..], [Outcome::Failed { failure, .. }] if failure.what.contains("unknown key"))
    );
    assert_eq!(agent.poll(&repository).await.unwrap(), []);
    assert_eq!(reader.plan(SMALL_ID).unwrap().seq_no, SeqNo(1));
    let failures: Vec<_> = reader.current().failures().map(|(campaign, f)| (campaign, f.seq_no)).collect();
    assert_eq!(failures, [(SMALL_ID, SeqNo(2))]);
    // A file of another campaign under this one's number is no plan for it.
    force(&repository, SMALL_ID, 2, &other).await;
    let outcomes = agent.poll(&repository).await.unwrap();
    assert!(
        matches!(&outcomes[..], [Outcome::Failed { failure, .. }] if failure.what == "its file is about campaign 5")
    );

    force(&repository, SMALL_ID, 3, &SMALL.replace("weight: 1", "weight: 2")).await;
    assert_eq!(agent.poll(&repository).await.unwrap(), [swapped(SMALL_ID, SeqNo(4))]);
    assert_eq!(reader.plan(SMALL_ID).unwrap().rounds[0].prizes[0].weight, 2);
    assert_eq!(reader.current().failures().count(), 0);
}

#[tokio::test]
async fn an_older_plan_never_replaces_a_newer_one() {
    let cell = PlanCell::new();
    let plan = compile_text(SMALL).unwrap().plan;
    let newer = campaign::Plan { seq_no: SeqNo(5), ..plan.clone() };
    assert!(cell.install(newer));
    assert!(!cell.install(plan));
    assert_eq!(cell.plans().get(SMALL_ID).unwrap().seq_no, SeqNo(5));
}

#[tokio::test]
async fn a_restarted_node_runs_the_same_plan() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plans.db");
    let mut plans = Vec::new();
    for run in 0..2u64 {
        let repository = crate::repository::open(&path).await;
        publish_file(&repository, SMALL.as_bytes(), &publisher(EVENING_MS + run * 77_000), &KEY)
            .await
            .unwrap();
        let cell = PlanCell::new();
        Agent::new(cell.clone()).poll(&repository).await.unwrap();
        plans.push(cell.plans().get(SMALL_ID).unwrap().clone());
    }
    assert_eq!(plans[0], plans[1]);
}

#[tokio::test]
async fn the_agent_notices_by_itself_and_ends_when_asked() {
    let repository = Arc::new(MemoryRepository::new());
    let (cell, shutdown) = (PlanCell::new(), runtime::Shutdown::new());
    let mut reader = cell.reader();
    let running = Agent::new(cell).run(repository.clone(), shutdown.clone());
    let watching = async {
        tokio::task::yield_now().await;
        publish_file(&*repository, SMALL.as_bytes(), &publisher(EVENING_MS), &KEY).await.unwrap();
        while reader.plan(SMALL_ID).is_none() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        shutdown.request();
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), async { tokio::join!(running, watching) })
        .await
        .unwrap();
}
