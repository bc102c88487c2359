//! Laws that hold through any sequence of changes, by two people at once, with crashes between any two steps.

use crate::desk::{SMALL_ID, World, han, li, world};
use crate::support::SMALL;
use campaign::{SeqNo, VendorId};
use proptest::prelude::*;
use proptest::sample::Index;
use quota_config::{
    By, ChangeState, DeskError, Diff, Kind, PlanRepository, Policy, PrizeAt, ProposalState, RateTarget, Role,
    Rollout, State, Target, Version, compile_version,
};
use std::collections::BTreeMap;

#[derive(Clone, Debug)]
enum Op {
    Apply { weight: u32, limit: u32, raise: Raise, grey: Option<u16> },
    Pause(usize),
    Resume(usize),
    Stop(usize),
    Lower { second: bool, units: u64 },
    Rate { vendor: bool, per_second: u32 },
    Weight(u32),
    Promote,
    Withdraw,
    Rollback(Index),
    Approve(Index),
    Reject(Index),
}

#[derive(Clone, Copy, Debug)]
enum Raise {
    No,
    Small,
    Large,
}

#[derive(Clone, Debug)]
enum Move {
    /// One person.
    One(Op),
    /// Two people at once.
    Both(Op, Op),
    /// One person, whose process ends at a step, and who asks again, or doesn't.
    Crash { op: Op, steps: u32, done: bool, again: bool },
    /// A node brings the plan in force to the ledger.
    Register,
    /// Nodes take units.
    Grant { second: bool, units: u64 },
}

fn op() -> impl Strategy<Value = Op> {
    let raise = prop_oneof![3 => Just(Raise::No), 2 => Just(Raise::Small), 1 => Just(Raise::Large)];
    prop_oneof![
        4 => (0..4u32, 1..4u32, raise, prop::option::of(1..1000u16))
            .prop_map(|(weight, limit, raise, grey)| Op::Apply { weight, limit, raise, grey }),
        2 => (0..5usize).prop_map(Op::Pause),
        3 => (0..5usize).prop_map(Op::Resume),
        2 => (0..5usize).prop_map(Op::Stop),
        3 => (any::<bool>(), 1..40u64).prop_map(|(second, units)| Op::Lower { second, units }),
        2 => (any::<bool>(), 0..400u32).prop_map(|(vendor, per_second)| Op::Rate { vendor, per_second }),
        1 => (0..9u32).prop_map(Op::Weight),
        2 => Just(Op::Promote),
        1 => Just(Op::Withdraw),
        2 => any::<Index>().prop_map(Op::Rollback),
        4 => any::<Index>().prop_map(Op::Approve),
        1 => any::<Index>().prop_map(Op::Reject),
    ]
}

fn moves() -> impl Strategy<Value = Move> {
    prop_oneof![
        6 => op().prop_map(Move::One),
        3 => (op(), op()).prop_map(|(a, b)| Move::Both(a, b)),
        4 => (op(), 1..6u32, any::<bool>(), any::<bool>())
            .prop_map(|(op, steps, done, again)| Move::Crash { op, steps, done, again }),
        3 => Just(Move::Register),
        1 => (any::<bool>(), 1..30u64).prop_map(|(second, units)| Move::Grant { second, units }),
    ]
}

fn target(n: usize) -> Target {
    let texts = ["campaign", "round:1", "vendor:1", "prize:1/1", "prize:2/1"];
    texts[n].parse().unwrap()
}

fn prize(second: bool) -> PrizeAt {
    PrizeAt::new(if second { 2 } else { 1 }, 1)
}

/// A file on top of what is active: the tranches that are there, and perhaps one more.
async fn file(w: &World, weight: u32, limit: u32, raise: Raise) -> String {
    let active = w.repository.newest(SMALL_ID).await.unwrap().unwrap();
    let active = String::from_utf8(active.source).unwrap();
    let had = active.split_once("tranches: [").map_or("", |(_, rest)| rest.split_once(']').unwrap().0);
    let more = match raise {
        Raise::No => "",
        Raise::Small => "{units: 50, each: 2}",
        Raise::Large => "{units: 20000, each: 1}",
    };
    let all: Vec<&str> = [had, more].into_iter().filter(|t| !t.is_empty()).collect();
    let tranches =
        if all.is_empty() { String::new() } else { format!("\n      tranches: [{}]", all.join(", ")) };
    SMALL
        .replace("max: 20", &format!("max: 20{tranches}"))
        .replace("weight: 1", &format!("weight: {weight}"))
        .replace("prize_sets:", &format!("limits: {{wins_per_round: {limit}}}\nprize_sets:"))
}

/// Units that were asked to be taken away, and whether some request was cut off for good.
type Asked = parking_lot::Mutex<BTreeMap<PrizeAt, u64>>;

async fn act(w: &World, op: &Op, by: &By) -> Result<ChangeState, DeskError> {
    let (desk, why) = (&w.desk, "a law");
    let change = match op {
        Op::Apply { weight, limit, raise, grey } => {
            let source = file(w, *weight, *limit, *raise).await;
            let rollout = grey.map(|users_per_mille| Rollout { users_per_mille, nodes: [].into() });
            desk.apply(source.as_bytes(), rollout, by, why).await
        }
        Op::Pause(n) => desk.pause(SMALL_ID, target(*n), by, why).await,
        Op::Resume(n) => desk.resume(SMALL_ID, target(*n), by, why).await,
        Op::Stop(n) => desk.stop(SMALL_ID, target(*n), by, why).await,
        Op::Lower { second, units } => desk.lower(SMALL_ID, prize(*second), *units, by, why).await,
        Op::Rate { vendor, per_second } => {
            let target =
                if *vendor { RateTarget::Vendor(VendorId(1)) } else { RateTarget::Prize(prize(false)) };
            desk.set_rate(SMALL_ID, target, *per_second, by, why).await
        }
        Op::Weight(weight) => desk.set_weight(SMALL_ID, prize(false), *weight, by, why).await,
        Op::Promote => desk.promote(SMALL_ID, by, why).await,
        Op::Withdraw => desk.withdraw(SMALL_ID, by, why).await,
        Op::Rollback(index) => {
            let count = w.repository.all(SMALL_ID).await.unwrap().len();
            desk.rollback(SMALL_ID, SeqNo(index.index(count) as u64 + 1), by, why).await
        }
        Op::Approve(index) | Op::Reject(index) => {
            let all = desk.proposals(None, None).await?;
            if all.is_empty() {
                return Ok(ChangeState::Unchanged);
            }
            let id = &all[index.index(all.len())].id;
            match op {
                Op::Approve(_) => desk.approve(id, by, why).await,
                _ => desk.reject(id, by, why).await,
            }
        }
    };
    change.map(|change| change.state)
}

/// Brakes get through whatever else is going on, and the ledger has them at once.
async fn check_brake(w: &World, op: &Op, came: &Result<ChangeState, DeskError>, alone: bool) {
    if let Op::Pause(n) | Op::Stop(n) = op {
        let state = came.as_ref().unwrap_or_else(|e| panic!("{op:?}: {e}"));
        assert!(matches!(state, ChangeState::Active | ChangeState::Unchanged), "{op:?}: {state:?}");
        if alone && *n != 4 {
            assert!(w.platform.rows.lock()[&prize(false)].paused, "{op:?}");
            assert!(w.plan().await.rounds[0].prizes[0].paused, "{op:?}");
        }
    }
    if let Op::Lower { .. } = op {
        let state = came.as_ref().unwrap_or_else(|e| panic!("{op:?}: {e}"));
        assert!(matches!(state, ChangeState::Active | ChangeState::Unchanged), "{op:?}: {state:?}");
    }
}

fn ask(asked: &Asked, op: &Op) {
    if let Op::Lower { second, units } = op {
        *asked.lock().entry(prize(*second)).or_default() += units;
    }
}

async fn go(w: &World, asked: &Asked, step: &Move) {
    match step {
        Move::One(op) => {
            ask(asked, op);
            let person = if matches!(op, Op::Approve(_) | Op::Reject(_)) { han() } else { li() };
            let came = act(w, op, &person).await;
            check_brake(w, op, &came, true).await;
        }
        Move::Both(a, b) => {
            ask(asked, a);
            ask(asked, b);
            let (people_a, people_b) = (li(), By::new("zhao", Role::Admin));
            let (came_a, came_b) = tokio::join!(act(w, a, &people_a), act(w, b, &people_b));
            check_brake(w, a, &came_a, false).await;
            check_brake(w, b, &came_b, false).await;
        }
        Move::Crash { op, steps, done, again } => {
            ask(asked, op);
            let person = if matches!(op, Op::Approve(_)) { han() } else { li() };
            w.crash.arm(*steps, *done);
            let came = act(w, op, &person).await;
            w.crash.restart();
            let before = paused_for_good(w).await;
            for finished in w.desk.finish().await.unwrap() {
                assert_eq!(finished.error, None, "{finished:?}");
            }
            check_no_secrets(w).await;
            if let Some(before) = before.filter(|_| !matches!(op, Op::Pause(_) | Op::Stop(_))) {
                // A pause cut off long ago does not come back behind a resumption.
                assert_eq!(paused(&w.plan().await), before, "the start paused what was to go on");
            }
            // Done to the end and then cut off: asking again would be asking for more.
            let done_and_lost = matches!(op, Op::Lower { .. }) && is_in_force(w, op).await;
            if came.is_err() && !done_and_lost && *again {
                let again = act(w, op, &person).await;
                check_brake(w, op, &again, true).await;
            }
        }
        Move::Register => {
            w.register().await;
            let plan = w.plan().await;
            let rows = w.platform.rows.lock();
            for round in &plan.rounds {
                for prize in &round.prizes {
                    let at = PrizeAt { round: round.id, prize: prize.id };
                    assert_eq!(rows[&at].paused, prize.paused, "prize {at}, SeqNo {}", plan.seq_no);
                }
            }
        }
        Move::Grant { second, units } => w.platform.grant(prize(*second), *units),
    }
    check_ledger(w, asked).await;
}

/// Whether the newest version is the lowering that was asked for: what an operator sees in the history.
async fn is_in_force(w: &World, op: &Op) -> bool {
    let all = w.repository.all(SMALL_ID).await.unwrap();
    let newest = w.repository.newest(SMALL_ID).await.unwrap().unwrap();
    matches!(op, Op::Lower { .. })
        && all.last().is_some_and(|last| last.seq_no == newest.info.seq_no)
        && newest.info.kind == Kind::Lower
}

/// After a start the plan says whatever the ledger has done of pauses and lowerings.
async fn check_no_secrets(w: &World) {
    let version = w.repository.newest(SMALL_ID).await.unwrap().unwrap();
    let plan = compile_version(&version).unwrap().plan;
    let rows = w.platform.rows.lock();
    for round in &plan.rounds {
        for prize in &round.prizes {
            let at = PrizeAt { round: round.id, prize: prize.id };
            let lowered = version.adjustments.lowered.get(&at).copied().unwrap_or(0);
            assert_eq!(rows[&at].cancelled, lowered, "prize {at}");
            let ahead = rows[&at].is_ahead_of(version.info.seq_no);
            assert!(!ahead || !rows[&at].paused || prize.paused, "prize {at}");
        }
    }
}

/// The prizes that the active plan has paused, if the ledger has no newer word about any.
async fn paused_for_good(w: &World) -> Option<Vec<PrizeAt>> {
    let plan = w.plan().await;
    let any_ahead = w.platform.rows.lock().values().any(|row| row.is_ahead_of(plan.seq_no));
    (!any_ahead).then(|| paused(&plan))
}

fn paused(plan: &campaign::Plan) -> Vec<PrizeAt> {
    let prizes = plan.rounds.iter().flat_map(|round| round.prizes.iter().map(move |prize| (round.id, prize)));
    let paused = prizes.filter(|(_, prize)| prize.paused);
    paused.map(|(round, prize)| PrizeAt { round, prize: prize.id }).collect()
}

async fn check_ledger(w: &World, asked: &Asked) {
    let rows = w.platform.rows.lock();
    for (at, row) in &*rows {
        assert!(row.cancelled + row.granted <= row.made);
        let most = asked.lock().get(at).copied().unwrap_or(0);
        assert!(row.cancelled <= most, "prize {at}: {} taken away, {most} asked for", row.cancelled);
    }
}

/// The active versions from the newest to the first.
async fn chain(w: &World) -> Vec<Version> {
    let mut chain = Vec::new();
    let mut seq_no = w.repository.newest(SMALL_ID).await.unwrap().unwrap().info.seq_no;
    while seq_no.0 > 0 {
        let version = w.repository.get(SMALL_ID, seq_no).await.unwrap().unwrap();
        assert_eq!(version.info.state, State::Active, "SeqNo {seq_no}");
        assert!(version.info.after < seq_no);
        seq_no = version.info.after;
        chain.push(version);
    }
    chain
}

/// Why a version would have taken two, and whether it had them.
fn check_two(before: Option<&Version>, version: &Version, grey: Option<&Version>) {
    let plan = |v: &Version| compile_version(v).unwrap().plan;
    let old = before.map(plan);
    let mut diff = Diff::between(old.as_ref(), &plan(version));
    if let Some(before) = before {
        let lifted = before.adjustments.stopped.difference(&version.adjustments.stopped);
        diff.stops_lifted = lifted.map(Target::to_string).collect();
    }
    let info = &version.info;
    let reasons = Policy::default().needs_two(&diff, None);
    if matches!(info.kind, Kind::Pause | Kind::Stop | Kind::Lower) {
        assert!(reasons.is_empty(), "SeqNo {}: {reasons:?}", info.seq_no);
        assert!(info.approvals.is_empty());
    }
    // A grey version that two people put out may be promoted by either of them.
    let authors = [Some(&info.author), grey.map(|g| &g.info.author)];
    let differs = |name: &String| authors.iter().flatten().any(|author| *author != name);
    let another = info.approvals.iter().any(|a| a.role >= Role::Approver && differs(&a.name));
    assert!(reasons.is_empty() || another, "SeqNo {} by one person: {reasons:?}", info.seq_no);
}

/// The grey version that a promotion or a wider share comes from, as it first went out.
async fn first_grey(w: &World, version: &Version) -> Option<Version> {
    let mut first = None;
    let mut at = version.clone();
    while let Some(of) = at.info.of.filter(|_| matches!(at.info.kind, Kind::Promote | Kind::Widen)) {
        at = w.repository.get(SMALL_ID, of).await.unwrap().unwrap();
        first = Some(at.clone());
    }
    first
}

async fn check_history(w: &World) {
    let chain = chain(w).await;
    let active = |v: &&quota_config::VersionInfo| v.state == State::Active;
    let all = w.repository.all(SMALL_ID).await.unwrap();
    assert_eq!(all.iter().filter(active).count(), chain.len());
    for pair in chain.windows(2) {
        let grey = first_grey(w, &pair[0]).await;
        check_two(Some(&pair[1]), &pair[0], grey.as_ref());
    }
    for info in all.iter().filter(|v| matches!(v.state, State::Grey | State::Withdrawn | State::Promoted)) {
        let grey = w.repository.get(SMALL_ID, info.seq_no).await.unwrap().unwrap();
        let over = w.repository.get(SMALL_ID, info.after).await.unwrap().unwrap();
        let first = first_grey(w, &grey).await;
        check_two(Some(&over), &grey, first.as_ref());
    }
    for proposal in w.desk.proposals(None, None).await.unwrap() {
        let carried =
            all.iter().filter(|v| v.proposal.as_ref() == Some(&proposal.id) && v.state != State::Reserved);
        let wanted = usize::from(proposal.state == ProposalState::Approved);
        assert_eq!(carried.count(), wanted, "{} is {}", proposal.id, proposal.state.name());
    }
    let verified = w.desk.verify_audit(None).await.unwrap();
    assert!(verified.ok, "{:?}", verified.why);
    let rows = w.desk.audit(0, 1000).await.unwrap();
    let activated = rows.iter().filter(|row| row.action == "activate").count();
    assert_eq!(activated, chain.len());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn laws_hold_through_any_changes(steps in prop::collection::vec(moves(), 1..30)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let w = world().await;
            let asked = Asked::default();
            for step in &steps {
                go(&w, &asked, step).await;
                w.clock.advance_ms(100);
            }
            go(&w, &asked, &Move::Register).await;
            check_history(&w).await;
        });
    }
}
