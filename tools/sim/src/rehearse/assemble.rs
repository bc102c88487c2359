//! From what was counted to what is shown.

use super::books::Books;
use super::ground::Ground;
use super::laws::{self, Evidence};
use super::part::Part;
use super::record::Recorder;
use super::result::{
    NodeResult, PrizeResult, Rehearsal, RoundResult, SetupSummary, Stretch, Totals, VendorResult, WinsLine,
};
use super::run::World;
use super::vendors::{self, VendorRun};
use super::{RehearseError, warnings};
use campaign::Plan;
use lottery::core::Tally;

/// Most lines of the histogram of wins by player.
const WINS_LINES: usize = 20;

/// Everything that was found in a world that has come to rest.
pub(super) fn assemble(mut world: World) -> Result<Rehearsal, RehearseError> {
    let ledger = world.ledger()?;
    let (come, ground, books) = (world.come(), world.ground.clone(), world.books.clone());
    let mut tally = Tally::default();
    let (mut submits, mut answers, mut logged, mut refused, mut closing) = (0, 0, 0, 0, 0);
    let mut wins = Vec::new();
    for part in world.parts() {
        let part: &mut Part = part;
        add(&mut tally, &part.tally());
        let calls = part.calls();
        (submits, answers) = (submits + calls.0, answers + calls.1);
        logged += part.log().count();
        let leases = part.leases();
        (closing, refused) = (closing + leases.0 as u64, refused + leases.1);
        wins.push(part.log().wins());
    }
    let evidence = Evidence {
        ground: &ground,
        books: &books,
        ledger: &ledger,
        tally,
        submits,
        answers,
        logged,
        refused,
        closing,
    };
    let laws = laws::check(&evidence);
    let recorder = world.recorder.clone();
    // The cores' memory is not needed any more, and deliveries need some.
    drop(world);
    let plan = &ground.plan;
    let runs: Vec<VendorRun> = plan
        .vendors
        .iter()
        .map(|vendor| {
            let (due, unclaimed) = vendors::orders(&ground, &wins, vendor.id);
            vendors::run(ground.setup.vendor(vendor), ground.from_ms, &due, unclaimed)
        })
        .collect();
    let rounds: Vec<_> = (0..plan.rounds.len()).map(|i| round(&ground, &books, &recorder, i)).collect();
    let players = books.wins_by_player(WINS_LINES);
    let mut rehearsal = Rehearsal {
        campaign: plan.campaign.0,
        name: plan.name.clone(),
        seq_no: plan.seq_no.0,
        time_zone: plan.time_zone.clone(),
        days: plan.days.clone(),
        setup: SetupSummary {
            players: ground.setup.players,
            nodes: ground.setup.nodes,
            parts: ground.setup.parts(),
            seed: ground.setup.seed,
            shakes: ground.setup.behaviour.shakes,
            stay_ms: ground.setup.behaviour.stay_ms,
        },
        totals: Totals {
            players: come,
            submits,
            draws: tally.draws,
            wins: tally.wins,
            limited: tally.limited,
            refused: tally.too_early + tally.not_open,
            winners: players.iter().skip(1).sum(),
            units: rounds.iter().map(|r| r.units).sum(),
            fen: rounds.iter().map(|r| r.fen).sum(),
            fen_won: rounds.iter().map(|r| r.fen_won).sum(),
            peak_per_second: recorder.all.peak,
            peak_ms: recorder.all.peak_ms,
        },
        rounds,
        vendors: runs.iter().map(|run| vendor(plan, run)).collect(),
        nodes: nodes(&recorder),
        wins_per_player: histogram(players, come),
        warnings: Vec::new(),
        laws,
    };
    rehearsal.warnings = warnings::of(&ground, &rehearsal);
    Ok(rehearsal)
}

fn add(sum: &mut Tally, t: &Tally) {
    sum.draws += t.draws;
    sum.wins += t.wins;
    sum.again += t.again;
    sum.too_early += t.too_early;
    sum.not_open += t.not_open;
    sum.limited += t.limited;
    sum.bad_counter += t.bad_counter;
    sum.put_off += t.put_off;
    sum.unknown += t.unknown;
}

/// Players who came, by their wins; those who never came have none and are left out.
fn histogram(mut players: Vec<u64>, come: u64) -> Vec<WinsLine> {
    let winners: u64 = players.iter().skip(1).sum();
    players[0] = come.saturating_sub(winners);
    let last = players.iter().rposition(|n| *n > 0).unwrap_or(0);
    let line = |(wins, players): (usize, &u64)| WinsLine { wins, players: *players };
    players[..=last].iter().enumerate().map(line).collect()
}

fn nodes(recorder: &Recorder) -> Vec<NodeResult> {
    let node = |(i, load): (usize, &super::record::NodeLoad)| NodeResult {
        node: i + 1,
        submits: load.sum.submits,
        draws: load.sum.draws,
        wins: load.sum.wins,
        peak_per_second: load.peak,
        peak_ms: load.peak_ms,
    };
    recorder.nodes.iter().enumerate().map(node).collect()
}

/// Wins over draws.
fn odds(wins: u64, draws: u64) -> f64 {
    if draws == 0 { 0.0 } else { wins as f64 / draws as f64 }
}

fn round(ground: &Ground, books: &Books, recorder: &Recorder, index: usize) -> RoundResult {
    let (round, load, bins) = (&ground.plan.rounds[index], &recorder.rounds[index], &ground.bins[index]);
    let draws = load.sum.draws;
    let first = ground.first_prize[index];
    let prizes: Vec<_> = (0..round.prizes.len()).map(|at| prize(ground, books, index, at, draws)).collect();
    let before_tail: u64 =
        (0..round.prizes.len()).map(|at| books.with_given(first + at, |given| given.before_tail)).sum();
    let units: u64 = prizes.iter().map(|p| p.units).sum();
    let tail_units = units.saturating_sub(before_tail);
    let by_minute = ground.minutes[index];
    let minute = |(i, sum): (usize, &super::part::SlotSum)| Stretch {
        from_ms: by_minute.open_ms + i as u64 * by_minute.width_ms,
        draws: sum.draws,
        wins: sum.wins,
        odds: odds(sum.wins, sum.draws),
    };
    RoundResult {
        round: round.id.0,
        name: round.name.clone(),
        open_ms: round.open_ms,
        close_ms: round.close_ms,
        submits: load.sum.submits,
        draws,
        wins: load.sum.wins,
        units,
        unissued: prizes.iter().map(|p| p.unissued).sum(),
        fen: prizes.iter().map(|p| p.fen).sum(),
        fen_won: prizes.iter().map(|p| p.fen_won).sum(),
        tail_entries: load.tail_entries,
        tail_units,
        entries_per_unit: (tail_units > 0).then(|| load.tail_entries as f64 / tail_units as f64),
        minutes: load.minutes.iter().enumerate().map(minute).collect(),
        step_ms: bins.width_ms,
        submits_by_step: load.bins.iter().map(|b| b.submits).collect(),
        draws_by_step: load.bins.iter().map(|b| b.draws).collect(),
        wins_by_step: load.bins.iter().map(|b| b.wins).collect(),
        prizes,
    }
}

fn prize(ground: &Ground, books: &Books, round: usize, at: usize, draws: u64) -> PrizeResult {
    let (prize, bins) = (&ground.plan.rounds[round].prizes[at], &ground.bins[round]);
    let length_ms = ground.plan.rounds[round].close_ms - bins.open_ms;
    let units = prize.units();
    books.with_given(ground.first_prize[round] + at, |given| {
        // Where nobody won anything the curves say nothing either: a campaign may have very many prizes.
        let count = if draws == 0 { 0 } else { bins.count };
        let end = |i: usize| ((i as u64 + 1) * bins.width_ms).min(length_ms);
        let released = |i: usize| if prize.paused { 0 } else { prize.curve.released(0, 0, units, end(i)) };
        let released: Vec<u64> = (0..count).map(released).collect();
        let mut sum = 0;
        let won_by: Vec<u64> = (0..count)
            .map(|i| {
                sum += given.bins.get(i).map_or(0, |n| u64::from(*n));
                sum
            })
            .collect();
        PrizeResult {
            prize: prize.id.0,
            name: prize.name.clone(),
            kind: prize.kind.name(),
            vendor: prize.vendor.0,
            units,
            won: given.awarded,
            unissued: units.saturating_sub(given.awarded),
            fen: prize.fen().0,
            fen_won: given.fen,
            odds: odds(given.awarded, draws),
            first_ms: given.first_ms,
            exhausted_ms: (units > 0 && given.awarded >= units).then_some(given.last_ms),
            behind_max: released.iter().zip(&won_by).map(|(r, w)| r.saturating_sub(*w)).max().unwrap_or(0),
            released,
            won_by,
        }
    })
}

fn vendor(plan: &Plan, run: &VendorRun) -> VendorResult {
    let known = plan.vendors.iter().find(|v| v.id.0 == run.setup.vendor);
    let [p50, p99, max] = run.wait_ms;
    VendorResult {
        vendor: run.setup.vendor,
        name: known.map(|v| v.name.clone()).unwrap_or_default(),
        per_second: run.setup.per_second,
        latency_ms: run.setup.latency_ms,
        concurrency: run.setup.concurrency,
        orders: run.orders,
        delivered: run.delivered,
        unclaimed: run.unclaimed,
        crowded: run.crowded,
        last_order_ms: run.last_order_ms,
        done_ms: run.done_ms,
        backlog_max: run.peak,
        backlog_max_ms: run.peak_ms,
        wait_p50_ms: p50,
        wait_p99_ms: p99,
        wait_max_ms: max,
        from_ms: run.from_ms,
        step_ms: run.width_ms,
        backlog: run.backlog.clone(),
    }
}
