//! The small world without a fault settles; with a planted fault, exactly that fault is found, under the right laws.

use crate::cases::{Case, DELIVERY, FLOW, STATEMENTS};
use crate::world::{OPEN, World, execute};
use reconcile::readers::copies::OneCopy;
use reconcile::{Settlement, Verdict, report, run};
use runtime::exit;

fn broken(settlement: &Settlement) -> Vec<u8> {
    settlement.laws.iter().filter(|l| l.verdict == Verdict::Broken).map(|l| l.law).collect()
}

#[tokio::test]
async fn a_case_for_a_person_has_its_history_and_a_journal_with_a_hole_is_refused() {
    let mut world = World::perfect(12, 6);
    let award = world.awards[0].clone();
    world.set_state(&award, 11);
    world.unpay(&award);
    let settlement = settle(&world).await;
    assert_eq!(settlement.breaks[0].detail, "refused for good; journal: 1 ready, 2 sending, 3 rejected");
    let folder = tempfile::tempdir().unwrap();
    let inputs = world.write(folder.path()).await;
    let delete = "DELETE FROM delivery_journal WHERE position = 7".to_owned();
    execute(inputs.delivery.as_ref().unwrap(), &[delete]).await;
    let error = run(&inputs).await.unwrap_err().to_string();
    assert!(error.contains("position 7 is missing"), "{error}");
}

fn kinds(settlement: &Settlement) -> Vec<&'static str> {
    settlement.counts.iter().map(|(kind, _)| kind.name()).collect()
}

async fn settle(world: &World) -> Settlement {
    let folder = tempfile::tempdir().unwrap();
    run(&world.write(folder.path()).await).await.unwrap()
}

#[tokio::test]
async fn a_perfect_world_settles() {
    let world = World::perfect(12, 6);
    let settlement = settle(&world).await;
    assert!(settlement.all_hold(), "{}", report::text(&settlement));
    assert_eq!((settlement.exit_code(), settlement.break_count(), settlement.matched), (0, 0, 16));
    let cash = &settlement.prizes[0].totals;
    assert_eq!((cash.budget.units, cash.budget.fen.0), (12, 3_600));
    let won: i64 = world.awards.iter().map(|a| a.fen).sum();
    for sum in [cash.awarded, cash.delivered, cash.statement] {
        assert_eq!((sum.units, sum.fen.0), (11, won));
    }
    assert_eq!((cash.unissued.units, cash.unissued.fen.0), (1, 3_600 - won));
    let vouchers = &settlement.prizes[1].totals;
    assert_eq!((vouchers.budget.units, vouchers.awarded.units, vouchers.locked.units), (5, 5, 0));
    for text in [report::text(&settlement), report::html(&settlement)] {
        assert!(
            text.contains("never over budget") && text.contains("36.00") && text.contains("holds"),
            "{text}"
        );
    }
    let json: serde_json::Value = serde_json::from_str(&report::json(&settlement)).unwrap();
    assert_eq!(json["laws"].as_array().unwrap().len(), 7);
    assert_eq!(json["laws"][0]["holds"], true);
    assert_eq!(json["prizes"][0]["budget_fen"], 3_600);
    assert_eq!(json["prizes"][0]["unissued_units"], 1);
    assert!(
        report::csv::prizes_csv(&settlement).lines().nth(1).unwrap().starts_with("1,1,1,prize 1,12,3600,11,")
    );
}

#[tokio::test]
async fn sources_that_are_missing_are_named_and_not_called_good() {
    let folder = tempfile::tempdir().unwrap();
    let mut inputs = World::perfect(12, 6).write(folder.path()).await;
    (inputs.told, inputs.tails, inputs.ledger) = (None, None, None);
    inputs.statements.clear();
    let settlement = run(&inputs).await.unwrap();
    let unchecked: Vec<u8> =
        settlement.laws.iter().filter(|l| l.verdict == Verdict::NotChecked).map(|l| l.law).collect();
    assert_eq!(
        (unchecked, broken(&settlement), settlement.exit_code()),
        (vec![2, 3, 6, 7], vec![], exit::NOT_ALL_CHECKED)
    );
}

async fn check(cases: &[Case]) {
    for (name, plant, want, laws) in cases {
        let mut world = World::perfect(12, 6);
        plant(&mut world);
        let settlement = settle(&world).await;
        let text = report::text(&settlement);
        assert_eq!(kinds(&settlement), *want, "{name}\n{text}");
        assert_eq!(broken(&settlement), *laws, "{name}\n{text}");
        let code = if laws.is_empty() { exit::OK } else { exit::CHECK_FAILED };
        assert_eq!(settlement.exit_code(), code, "{name}\n{text}");
    }
}

#[tokio::test]
async fn faults_of_the_flow_are_found() {
    check(FLOW).await;
}

#[tokio::test]
async fn faults_of_delivery_are_found() {
    check(DELIVERY).await;
}

#[tokio::test]
async fn faults_of_payment_are_found() {
    check(STATEMENTS).await;
}

#[tokio::test]
async fn what_waits_too_long_becomes_somebodys() {
    let mut world = World::perfect(12, 6);
    let (a, b) = (world.awards[0].clone(), world.awards[1].clone());
    world.unpay(&a);
    world.set_state(&b, 7);
    world.unpay(&b);
    world.complete = false;
    let folder = tempfile::tempdir().unwrap();
    let mut inputs = world.write(folder.path()).await;
    assert_eq!(kinds(&run(&inputs).await.unwrap()), ["open_working", "not_yet_on_statement"]);
    (inputs.terms.statement_ms, inputs.terms.stuck_ms) = (1_000, 1_000);
    assert_eq!(kinds(&run(&inputs).await.unwrap()), ["stuck", "missing_at_vendor"]);
    // A minute after the win an order is on its way; later it is missing.
    world.steps.retain(|s| s.award != a.id);
    let folder = tempfile::tempdir().unwrap();
    let mut inputs = world.write(folder.path()).await;
    inputs.terms.order_ms = 3_600_000;
    let settlement = run(&inputs).await.unwrap();
    assert_eq!(kinds(&settlement), ["order_pending", "open_working"]);
    assert!(settlement.all_hold(), "{}", report::text(&settlement));
}

#[tokio::test]
async fn enough_players_leave_nothing() {
    let world = World::perfect(12, 6);
    let folder = tempfile::tempdir().unwrap();
    let mut inputs = world.write(folder.path()).await;
    std::fs::write(inputs.tails.as_ref().unwrap(), "campaign,round,entries,units_left\n1,1,10,1\n").unwrap();
    assert_eq!(broken(&run(&inputs).await.unwrap()), [6]);
    inputs.tails = None;
    assert_eq!(run(&inputs).await.unwrap().exit_code(), exit::NOT_ALL_CHECKED);
}

#[tokio::test]
async fn how_safely_it_was_kept_stands_beside_law_2() {
    let folder = tempfile::tempdir().unwrap();
    let mut inputs = World::perfect(12, 6).write(folder.path()).await;
    let law_2 = |settlement: &Settlement| settlement.laws[1].detail.clone();
    inputs.replicated = Some(true);
    assert!(law_2(&run(&inputs).await.unwrap()).ends_with("as told"));
    let time = |n: u64| OneCopy {
        from_ms: OPEN + n * 1_000,
        to_ms: Some(OPEN + n * 1_000 + 500),
        server: "pg".into(),
    };
    inputs.one_copy = vec![time(1), OneCopy { to_ms: None, ..time(0) }];
    let settlement = run(&inputs).await.unwrap();
    let want = "as told; with one copy only: pg from 2025-12-31T16:00:00Z on, pg from 2025-12-31T16:00:01Z to 2025-12-31T16:00:01.5Z";
    assert!(law_2(&settlement).ends_with(want), "{}", law_2(&settlement));
    assert!(settlement.all_hold());
    (inputs.replicated, inputs.one_copy) = (Some(false), (0..11).map(time).collect());
    let detail = law_2(&run(&inputs).await.unwrap());
    assert!(
        detail.contains("; not replicated; with one copy only: pg") && detail.ends_with("and 3 times more"),
        "{detail}"
    );
}
