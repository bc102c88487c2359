//! What people do at the desk, one by one.

use crate::platform::{Crash, Crashing, Platform};
use crate::support::{EVENING_MS, KEY, SMALL};
use campaign::{CampaignId, Plan, SeqNo, VendorId};
use quota_config::{
    By, Change, ChangeState, Desk, DeskError, Edit, PlanRepository, Policy, PrizeAt, ProposalState,
    RateTarget, Role, Rollout, State, Target, compile_version,
};
use runtime::ManualClock;
use std::sync::Arc;

pub const SMALL_ID: CampaignId = CampaignId(4);

/// A desk, its platform, and the parts behind them.
pub struct World {
    pub desk: Desk,
    pub repository: Arc<Crashing>,
    pub platform: Arc<Platform>,
    pub crash: Arc<Crash>,
    pub clock: Arc<ManualClock>,
}

/// Ten seconds after the campaign was published and its first round began.
pub async fn world() -> World {
    let crash = Arc::new(Crash::default());
    let repository = Arc::new(Crashing { crash: Arc::clone(&crash), ..Crashing::default() });
    let platform = Arc::new(Platform { crash: Arc::clone(&crash), ..Platform::default() });
    let clock = ManualClock::new(EVENING_MS);
    let desk = Desk::new(
        Arc::clone(&repository) as Arc<dyn PlanRepository>,
        Policy::default(),
        Arc::new(KEY),
        Arc::clone(&platform) as _,
        Arc::clone(&clock) as _,
    );
    let first = desk.apply(SMALL.as_bytes(), None, &li(), "the evening begins").await.unwrap();
    assert_eq!((first.state, first.seq_no), (ChangeState::Active, Some(SeqNo(1))));
    clock.advance_ms(10_000);
    let world = World { desk, repository, platform, crash, clock };
    world.register().await;
    world
}

pub fn li() -> By {
    By::new("li", Role::Operator)
}

pub fn han() -> By {
    By::new("han", Role::Approver)
}

impl World {
    /// The plan in force.
    pub async fn plan(&self) -> Plan {
        let version = self.repository.newest(SMALL_ID).await.unwrap().unwrap();
        compile_version(&version).unwrap().plan
    }

    /// What a node does within a second.
    pub async fn register(&self) {
        self.platform.register(&self.plan().await);
    }

    async fn apply(&self, source: &str) -> Result<Change, DeskError> {
        self.desk.apply(source.as_bytes(), None, &li(), "a test").await
    }
}

pub const AT: fn() -> PrizeAt = || PrizeAt::new(1, 1);

fn raised(units: u32) -> String {
    SMALL.replace("max: 20", &format!("max: 20\n      tranches: [{{units: {units}, each: 2}}]"))
}

#[tokio::test]
async fn brakes_go_at_once_and_stay_under_a_new_file() {
    let w = world().await;
    let paused = w.desk.pause(SMALL_ID, Target::Vendor(VendorId(1)), &li(), "wallet is slow").await.unwrap();
    assert_eq!((paused.state, paused.seq_no), (ChangeState::Active, Some(SeqNo(2))));
    assert!(paused.effects[0].done && paused.effects[0].prize == Some(AT()), "{:?}", paused.effects);
    assert_eq!(paused.effects[1].what, "1 prize of a round that opens later is paused by SeqNo 2");
    // The ledger has it before any node.
    assert!(w.platform.rows.lock()[&AT()].paused);
    w.register().await;
    let again = w.desk.pause(SMALL_ID, Target::Vendor(VendorId(1)), &li(), "sure?").await.unwrap();
    assert_eq!((again.state, again.seq_no), (ChangeState::Unchanged, Some(SeqNo(2))));
    let applied = w.apply(&SMALL.replace("weight: 1", "weight: 3")).await.unwrap();
    assert_eq!(applied.state, ChangeState::Active);
    assert!(w.plan().await.rounds[0].prizes[0].paused);
    let nothing = w.desk.resume(SMALL_ID, Target::Campaign, &li(), "go").await.unwrap_err();
    assert_eq!(nothing.to_string(), "campaign is not paused by itself; what is: vendor:1");
    let resumed = w.desk.resume(SMALL_ID, Target::Vendor(VendorId(1)), &li(), "go").await.unwrap();
    assert_eq!(resumed.state, ChangeState::Active);
    w.register().await;
    assert!(!w.platform.rows.lock()[&AT()].paused);
    let unknown = w.desk.stop(SMALL_ID, "round:9".parse().unwrap(), &li(), "why").await.unwrap_err();
    assert_eq!(unknown.to_string(), "campaign 4, SeqNo 4 has no round:9");
    assert!(matches!(
        w.desk.pause(SMALL_ID, Target::Campaign, &By::new("wang", Role::Viewer), "x").await,
        Err(DeskError::NotAllowed { .. })
    ));
    assert!(matches!(w.desk.pause(SMALL_ID, Target::Campaign, &li(), " ").await, Err(DeskError::Refused(_))));
}

#[tokio::test]
async fn a_stop_goes_without_the_ledger_and_ends_with_two() {
    let w = world().await;
    *w.platform.away.lock() = true;
    let stopped = w.desk.stop(SMALL_ID, Target::Campaign, &li(), "wrong sums").await.unwrap();
    assert_eq!(stopped.state, ChangeState::Active);
    assert!(!stopped.effects[0].done);
    *w.platform.away.lock() = false;
    w.register().await;
    assert!(w.platform.rows.lock().values().all(|row| row.paused));
    let waiting = w.desk.resume(SMALL_ID, Target::Campaign, &li(), "corrected").await.unwrap();
    assert_eq!((waiting.state, waiting.seq_no), (ChangeState::Waiting, None));
    assert_eq!(waiting.preview.needs_two, ["the stop of campaign is lifted"]);
    assert!(w.plan().await.rounds[0].prizes[0].paused);
    let id = waiting.proposal.unwrap();
    assert_eq!(id.len(), 14);
    let myself = w.desk.approve(&id, &By::new("li", Role::Admin), "fine").await;
    assert!(matches!(myself, Err(DeskError::SamePerson(_))));
    let operator = w.desk.approve(&id, &By::new("wang", Role::Operator), "fine").await;
    assert!(matches!(operator, Err(DeskError::NotAllowed { .. })));
    let approved = w.desk.approve(&id, &han(), "checked").await.unwrap();
    assert_eq!((approved.state, approved.seq_no), (ChangeState::Active, Some(SeqNo(3))));
    assert!(!w.plan().await.rounds[0].prizes[0].paused);
    let history = w.desk.history(SMALL_ID, SeqNo(2), 10).await.unwrap();
    assert_eq!((history[0].author.as_str(), history[0].approvals[0].name.as_str()), ("li", "han"));
    assert!(matches!(w.desk.approve(&id, &han(), "twice").await, Err(DeskError::Decided { .. })));
    assert!(w.desk.verify_audit(None).await.unwrap().ok);
}

#[tokio::test]
async fn proposals_take_brakes_over_and_yield_to_everything_else() {
    let w = world().await;
    let first = w.apply(&raised(20_000)).await.unwrap();
    assert_eq!(first.state, ChangeState::Waiting, "{:?}", first.preview.needs_two);
    let second = w.apply(&raised(30_000)).await.unwrap();
    w.desk.stop(SMALL_ID, "round:2".parse().unwrap(), &li(), "stop").await.unwrap();
    w.register().await;
    let approved = w.desk.approve(first.proposal.as_ref().unwrap(), &han(), "yes").await.unwrap();
    assert_eq!(approved.seq_no, Some(SeqNo(3)));
    let plan = w.plan().await;
    assert_eq!(plan.rounds[0].prizes[0].units(), 20_100);
    assert_eq!((plan.rounds[0].prizes[0].paused, plan.rounds[1].prizes[0].paused), (false, true));
    let late = w.desk.approve(second.proposal.as_ref().unwrap(), &han(), "yes").await;
    assert!(matches!(late, Err(DeskError::Superseded { by: SeqNo(3), .. })), "{late:?}");
    let state = w.desk.proposal(second.proposal.as_ref().unwrap()).await.unwrap().state;
    assert_eq!(state, ProposalState::Superseded);
    // One may be refused, or taken back by who made it.
    let rate = w.desk.set_rate(SMALL_ID, RateTarget::Prize(AT()), 50, &li(), "slower").await.unwrap();
    assert_eq!(rate.state, ChangeState::Active);
    for (who, may) in [(li(), true), (han(), true), (By::new("wang", Role::Operator), false)] {
        let faster = w.desk.set_rate(SMALL_ID, RateTarget::Prize(AT()), 61, &li(), "faster").await.unwrap();
        assert_eq!(faster.state, ChangeState::Waiting);
        let rejected = w.desk.reject(&faster.proposal.unwrap(), &who, "no").await;
        assert_eq!(rejected.is_ok_and(|change| change.state == ChangeState::Rejected), may);
    }
}

#[tokio::test]
async fn lowering_counts_what_the_ledger_took() {
    let w = world().await;
    let lowered = w.desk.lower(SMALL_ID, AT(), 30, &li(), "less").await.unwrap();
    assert_eq!((lowered.effects[0].effective_units, lowered.effects[0].taken), (Some(70), Some(30)));
    w.register().await;
    w.platform.grant(AT(), 60);
    let lowered = w.desk.lower(SMALL_ID, AT(), 30, &li(), "less").await.unwrap();
    assert_eq!((lowered.effects[0].effective_units, lowered.effects[0].taken), (Some(60), Some(10)));
    assert!(!lowered.effects[0].done && lowered.effects[0].what.contains("20 are granted"), "{lowered:?}");
    // The try under SeqNo 3 is a gap; what was taken stands in SeqNo 4, and no more.
    let shown = w.desk.active(SMALL_ID).await.unwrap();
    assert_eq!((shown.info.seq_no, shown.adjustments.lowered[&AT()]), (SeqNo(4), 40));
    assert_eq!(w.desk.show(SMALL_ID, SeqNo(3)).await.unwrap().info.state, State::Reserved);
    let nothing = w.desk.lower(SMALL_ID, AT(), 5, &li(), "less").await.unwrap();
    assert_eq!((nothing.seq_no, nothing.effects[0].taken), (Some(SeqNo(6)), Some(0)));
    w.register().await;
    assert!(matches!(w.desk.lower(SMALL_ID, AT(), 0, &li(), "less").await, Err(DeskError::Refused(_))));
}

#[tokio::test]
async fn a_crash_between_two_steps_is_repeated_safely() {
    for steps in 1..=3 {
        for done in [false, true] {
            let w = world().await;
            w.crash.arm(steps, done);
            let cut = w.desk.lower(SMALL_ID, AT(), 30, &li(), "less").await;
            assert!(cut.is_err());
            w.crash.restart();
            let again = w.desk.lower(SMALL_ID, AT(), 30, &li(), "less").await.unwrap();
            let twice = steps == 3 && done;
            // The last step had been done: it was in force, and asking again is asking for more.
            assert_eq!(again.effects[0].effective_units, Some(if twice { 40 } else { 70 }), "{steps} {done}");
            let states: Vec<_> =
                w.desk.history(SMALL_ID, SeqNo(1), 9).await.unwrap().iter().map(|v| v.state).collect();
            let (gap, active) = (State::Reserved, State::Active);
            let wanted = match (steps, done) {
                (1, false) => vec![active],
                (3, true) => vec![active, active],
                _ => vec![gap, active],
            };
            assert_eq!(states, wanted);
            assert!(w.desk.verify_audit(None).await.unwrap().ok);
        }
    }
}

#[tokio::test]
async fn many_small_raises_are_a_large_one() {
    let w = world().await;
    let more = |tranches: u32| {
        let list: Vec<_> = (0..tranches).map(|_| "{units: 1500, each: 2}").collect();
        SMALL.replace("max: 20", &format!("max: 20\n      tranches: [{}]", list.join(", ")))
    };
    // 6,000 yuan in two rounds, and 6,000 more: one person may add 10,000.
    assert_eq!(w.apply(&more(1)).await.unwrap().state, ChangeState::Active);
    w.desk.pause(SMALL_ID, "round:2".parse().unwrap(), &li(), "later").await.unwrap();
    let second = w.apply(&more(2)).await.unwrap();
    assert_eq!(second.state, ChangeState::Waiting);
    let why = &second.preview.needs_two[0];
    assert_eq!(why, "12,800.00 yuan are added within 24 hours; one person may add 10,000.00");
    // Two agree, and a new count begins.
    w.desk.approve(&second.proposal.unwrap(), &han(), "fine").await.unwrap();
    assert_eq!(w.apply(&more(3)).await.unwrap().state, ChangeState::Active);
    assert_eq!(w.apply(&more(4)).await.unwrap().state, ChangeState::Waiting);
    w.clock.advance_ms(25 * 3_600_000);
    let vendor = RateTarget::Vendor(VendorId(1));
    let rate = async |n| w.desk.set_rate(SMALL_ID, vendor, n, &li(), "faster").await.unwrap();
    assert_eq!(rate(100).await.state, ChangeState::Active);
    // Back to more is no raise above what there was before the window's first change.
    assert_eq!(rate(119).await.state, ChangeState::Active);
    assert_eq!(rate(142).await.state, ChangeState::Active);
    w.clock.advance_ms(25 * 3_600_000);
    for (speed, state) in [
        (150, ChangeState::Active),
        (160, ChangeState::Active),
        (170, ChangeState::Active),
        (180, ChangeState::Waiting),
    ] {
        let change = rate(speed).await;
        assert_eq!(change.state, state, "{speed}");
        let told =
            "vendor:1.release_per_second is raised by 27% within 24 hours; one person may raise it by 20%";
        assert!(state == ChangeState::Active || change.preview.needs_two == [told], "{change:?}");
    }
    // No limit is the highest raise of all; the file's word, here the same, too.
    assert_eq!(rate(0).await.state, ChangeState::Waiting);
    let file = w.desk.rate_of_file(SMALL_ID, vendor, &li(), "as written").await.unwrap();
    assert_eq!(file.state, ChangeState::Waiting, "{:?}", file.preview.needs_two);
}

#[tokio::test]
async fn a_preview_says_when_prizes_run_out() {
    let w = world().await;
    let slow = SMALL.replace("{id: 1, name: Wallet}", "{id: 1, name: Wallet, release_per_second: 20}");
    let preview = w.desk.preview(slow.as_bytes(), None).await.unwrap();
    assert_eq!(preview.exhaustion.len(), 0, "{preview:?}");
    let early = SMALL.replace(
        "max: 20",
        "max: 20\n      curve: [{at: 0s, share: 0%}, {at: 30s, share: 100%}, {at: end, share: 100%}]",
    );
    let preview = w.desk.preview(early.as_bytes(), None).await.unwrap();
    assert_eq!(preview.exhaustion.len(), 2, "{preview:?}");
    let ends = "round 2, Cash: exhausted 20:05:30 instead of 20:05:57";
    assert!(preview.summary.iter().any(|line| line == ends), "{:?}", preview.summary);
    assert_eq!(preview.warnings.len(), 0, "{preview:?}");
    *w.platform.away.lock() = true;
    let preview = w.desk.preview(early.as_bytes(), None).await.unwrap();
    assert!(
        preview.warnings[0].starts_with("how round 1 stands is not known (connection lost)"),
        "{preview:?}"
    );
}

#[tokio::test]
async fn rollback_brings_back_everything_but_brakes_and_units() {
    let w = world().await;
    w.desk.set_weight(SMALL_ID, AT(), 5, &li(), "more often").await.unwrap();
    w.apply(&SMALL.replace("name: Small", "name: Smaller")).await.unwrap();
    w.desk.pause(SMALL_ID, "round:2".parse().unwrap(), &li(), "later").await.unwrap();
    let back = w.desk.rollback(SMALL_ID, SeqNo(2), &li(), "it was better").await.unwrap();
    assert_eq!(back.seq_no, Some(SeqNo(5)));
    let plan = w.plan().await;
    assert_eq!((plan.name.as_str(), plan.rounds[0].prizes[0].weight), ("Small", 5));
    assert!(plan.rounds[1].prizes[0].paused);
    let shown = w.desk.show(SMALL_ID, SeqNo(5)).await.unwrap();
    assert_eq!(shown.info.of, Some(SeqNo(2)));
    w.apply(&raised(50)).await.unwrap();
    let refused = w.desk.rollback(SMALL_ID, SeqNo(5), &li(), "less").await.unwrap_err().to_string();
    assert!(
        refused
            .contains("prize 1/1 has got 50 units since, prize 2/1 has got 50 units since. Take them away"),
        "{refused}"
    );
    assert!(matches!(w.desk.rollback(SMALL_ID, SeqNo(6), &li(), "x").await, Err(DeskError::Refused(_))));
    let dry = w.desk.dry_run(SMALL_ID, &Edit::Rollback { to: SeqNo(5) }, &li()).await;
    assert!(dry.is_err());
}

#[tokio::test]
async fn a_grey_version_goes_out_wider_and_to_all() {
    let w = world().await;
    let share = |users_per_mille| Rollout { users_per_mille, nodes: [].into() };
    let apply =
        async |source: &str, rollout| w.desk.apply(source.as_bytes(), Some(rollout), &li(), "try it").await;
    let money = apply(&raised(50), share(10)).await.unwrap_err().to_string();
    assert!(money.contains("prize:1/1.tranches: a grey release changes weights"), "{money}");
    let heavier = SMALL.replace("weight: 1", "weight: 9");
    let grey = apply(&heavier, share(10)).await.unwrap();
    assert_eq!((grey.state, grey.seq_no), (ChangeState::Grey, Some(SeqNo(2))));
    assert_eq!(w.plan().await.rounds[0].prizes[0].weight, 1);
    assert!(matches!(w.apply(&raised(50)).await, Err(DeskError::Repository(_))));
    assert!(w.desk.set_weight(SMALL_ID, AT(), 2, &li(), "x").await.is_err());
    let wider = apply(&heavier, share(500)).await.unwrap();
    // A further number, so that the ledger takes its speeds by the wider share.
    assert_eq!((wider.state, wider.seq_no), (ChangeState::Grey, Some(SeqNo(3))));
    assert_eq!(w.desk.show(SMALL_ID, SeqNo(2)).await.unwrap().info.state, State::Withdrawn);
    let same = apply(&heavier, share(500)).await.unwrap();
    assert_eq!((same.state, same.seq_no), (ChangeState::Unchanged, Some(SeqNo(3))));
    let stopped = w.desk.stop(SMALL_ID, "round:2".parse().unwrap(), &li(), "stop").await.unwrap();
    assert_eq!(stopped.seq_no, Some(SeqNo(4)));
    let narrower = apply(&heavier, share(400)).await.unwrap();
    assert_eq!((narrower.state, narrower.seq_no), (ChangeState::Grey, Some(SeqNo(5))));
    let all = w.desk.promote(SMALL_ID, &li(), "good").await.unwrap();
    assert_eq!((all.state, all.seq_no), (ChangeState::Active, Some(SeqNo(6))));
    let plan = w.plan().await;
    assert_eq!((plan.rounds[0].prizes[0].weight, plan.rounds[1].prizes[0].paused), (9, true));
    assert_eq!(w.desk.show(SMALL_ID, SeqNo(5)).await.unwrap().info.state, State::Promoted);
    assert!(w.desk.promote(SMALL_ID, &li(), "again").await.is_err());

    apply(&SMALL.replace("weight: 1", "weight: 7"), share(1)).await.unwrap();
    let withdrawn = w.desk.withdraw(SMALL_ID, &li(), "bad").await.unwrap();
    assert_eq!((withdrawn.state, withdrawn.seq_no), (ChangeState::Withdrawn, Some(SeqNo(7))));
    assert!(w.desk.grey_out(SMALL_ID).await.unwrap().is_none());
    assert_eq!(w.plan().await.rounds[0].prizes[0].weight, 9);
    assert!(w.desk.verify_audit(None).await.unwrap().ok);
}

#[tokio::test]
async fn previews_do_nothing_and_say_what_is_dropped() {
    let w = world().await;
    let rows = w.desk.audit(0, 100).await.unwrap().len();
    w.desk.set_weight(SMALL_ID, AT(), 5, &li(), "more often").await.unwrap();
    w.desk.pause(SMALL_ID, "round:2".parse().unwrap(), &li(), "later").await.unwrap();
    let without = SMALL.replace("  - {id: 2, name: Two, open: +5m, duration: 1m, prizes: cash}\n", "");
    let preview = w.desk.preview(without.as_bytes(), None).await.unwrap();
    assert_eq!(preview.base_seq_no, SeqNo(3));
    assert_eq!(
        preview.warnings,
        [
            "the pause of round:2 is dropped: the new file has no such thing",
            "weight 5 of prize 1/1 was set by hand; the file counts again"
        ]
    );
    let dry = w.desk.dry_run(SMALL_ID, &Edit::Stop { target: Target::Campaign }, &li()).await.unwrap();
    assert_eq!((dry.state, dry.preview.needs_two.is_empty()), (ChangeState::DryRun, true));
    assert_eq!(w.desk.audit(0, 100).await.unwrap().len(), rows + 4);
    // A stop goes with its round only when two agree.
    w.desk.stop(SMALL_ID, "round:2".parse().unwrap(), &li(), "stop").await.unwrap();
    let gone = w.apply(&without).await.unwrap();
    assert_eq!(
        (gone.state, &gone.preview.needs_two[..]),
        (ChangeState::Waiting, &["the stop of round:2 is lifted".to_string()][..])
    );
    let json = serde_json::to_value(&gone).unwrap();
    assert_eq!(
        (&json["state"], &json["seq_no"], &json["campaign"]),
        (&"waiting".into(), &serde_json::Value::Null, &4.into())
    );
    w.desk.set_vendor_limit(VendorId(1), Some(50), &li(), "gently").await.unwrap();
    assert!(w.desk.set_vendor_limit(VendorId(9), Some(50), &li(), "gently").await.is_err());
    assert_eq!(w.desk.campaigns().await.unwrap()[0].name, "Small");
}
