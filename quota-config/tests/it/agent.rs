//! New versions reach readers; bad ones do not.

use crate::support::{EVENING_MS, KEY, SMALL, compile_text, draft, publisher};
use campaign::{CampaignId, NodeId, SeqNo};
use quota_config::{
    Adjustments, Agent, AuditEntry, MemoryRepository, Outcome, PlanCell, PlanRepository, Role, Rollout,
    Target, publish_file,
};
use std::sync::Arc;

const SMALL_ID: CampaignId = CampaignId(4);

/// A version that was never compiled: what a damaged or a newer program could leave.
async fn force(repository: &dyn PlanRepository, campaign: CampaignId, after: u64, source: &str) -> SeqNo {
    let draft = draft(campaign.0, after, source);
    let seq_no = repository.reserve(draft).await.unwrap();
    repository.activate(campaign, seq_no, EVENING_MS).await.unwrap();
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
    tokio::time::timeout(std::time::Duration::from_secs(120), async { tokio::join!(running, watching) })
        .await
        .unwrap();
}

fn entry(action: &str) -> AuditEntry {
    AuditEntry {
        at_ms: EVENING_MS,
        who: "li".into(),
        role: Role::Operator,
        action: action.into(),
        campaign: Some(SMALL_ID),
        seq_no: None,
        detail: "{}".into(),
    }
}

#[tokio::test]
async fn a_grey_plan_goes_to_its_share_and_under_the_active_pauses() {
    let repository = MemoryRepository::new();
    let (named, other) = (PlanCell::new(), PlanCell::new());
    let mut agents = [Agent::for_node(named.clone(), NodeId(3)), Agent::for_node(other.clone(), NodeId(4))];
    let mut poll = async |repository: &MemoryRepository| {
        let mut all = Vec::new();
        for agent in &mut agents {
            all.push(agent.poll(repository).await.unwrap());
        }
        all
    };
    force(&repository, SMALL_ID, 0, SMALL).await;
    let grey = repository.reserve(draft(4, 1, &SMALL.replace("weight: 1", "weight: 7"))).await.unwrap();
    let rollout = Rollout { users_per_mille: 300, nodes: [3].into() };
    repository.set_grey(SMALL_ID, grey, rollout, entry("grey")).await.unwrap();
    let said = poll(&repository).await;
    let grey_on = |whole_node| Outcome::Grey { campaign: SMALL_ID, seq_no: grey, whole_node };
    assert_eq!((&said[0][1], &said[1][1]), (&grey_on(true), &grey_on(false)));
    assert_eq!(poll(&repository).await, [vec![], vec![]]);
    let weight = |cell: &PlanCell| {
        let plans = cell.plans();
        let active = plans.get(SMALL_ID).unwrap().rounds[0].prizes[0].weight;
        (active, plans.grey(SMALL_ID).map(|grey| grey.plan.rounds[0].prizes[0].weight))
    };
    assert_eq!((weight(&named), weight(&other)), ((1, Some(7)), (1, Some(7))));
    let on = |cell: &PlanCell| cell.plans().grey(SMALL_ID).unwrap().clone();
    assert_eq!((on(&named).whole_node, on(&other).whole_node), (true, false));
    assert_eq!(on(&other).rollout.users_per_mille, 300);
    // The ledger hears of the active one.
    assert_eq!(named.plans().get(SMALL_ID).unwrap().seq_no, SeqNo(1));
    let report = named.plans().report();
    assert_eq!((report[0].seq_no, report[0].grey), (Some(SeqNo(1)), Some(grey)));

    // A pause of the active plan reaches the grey one too.
    let paused = Adjustments { paused: [Target::Campaign].into(), ..Adjustments::default() };
    let pause =
        quota_config::Draft { adjustments: paused, kind: quota_config::Kind::Pause, ..draft(4, 1, SMALL) };
    let seq_no = repository.reserve(pause).await.unwrap();
    repository.activate(SMALL_ID, seq_no, EVENING_MS).await.unwrap();
    poll(&repository).await;
    assert!(on(&named).plan.rounds[0].prizes[0].paused);
    assert_eq!(weight(&named).1, Some(7));

    repository.end_grey(SMALL_ID, grey, entry("withdraw")).await.unwrap();
    let ended = vec![Outcome::GreyEnded { campaign: SMALL_ID }];
    assert_eq!(poll(&repository).await, [ended.clone(), ended]);
    assert_eq!(weight(&named), (1, None));

    // One that moves money is refused, even by the node, and everybody keeps the active plan.
    let more = SMALL.replace("max: 20", "max: 20\n      tranches: [{units: 50, each: 2}]");
    let grey = repository.reserve(draft(4, seq_no.0, &more)).await.unwrap();
    let rollout = Rollout { users_per_mille: 1000, nodes: [].into() };
    repository.set_grey(SMALL_ID, grey, rollout, entry("grey")).await.unwrap();
    let said = poll(&repository).await;
    assert!(matches!(&said[0][..], [Outcome::Failed { failure, .. }] if failure.seq_no == grey), "{said:?}");
    assert_eq!(weight(&named), (1, None));
    assert_eq!(named.plans().report()[0].failure.as_ref().unwrap().seq_no, grey);
}
