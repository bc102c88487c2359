//! Nodes in real time: users who move, nodes that die, wake, come back, and come with an empty disk.

// The longest gaps are told.
#![allow(clippy::print_stdout)]

use super::world::{Life, NODES, Players, World, until};
use crate::world::{CAMPAIGN, Late, at_some_pace, timely};
use campaign::NodeId;
use lottery::ledger::QuotaLedger;
use lottery::node::cluster::{ClusterNode, EndByHandError, Exit, StartError, end_by_hand};
use protocol::calls::{Draws, Inbox, SubmitCall};
use protocol::v1::Outcome;
use queue::lanes::memory::Trouble;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Waker;

fn open(lives: &[&Life]) -> usize {
    lives.iter().map(|life| life.node.status().buckets.open).sum()
}

fn nodes<'a>(lives: &[&'a Life]) -> Vec<&'a ClusterNode> {
    lives.iter().map(|life| &*life.node).collect()
}

/// A node comes in mid-round and another is drained; the lanes lose answers meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_move_to_a_new_node_and_from_a_drained_one() {
    at_some_pace(they_move).await;
}

async fn they_move(pace: u64) -> Result<(), Late> {
    let world = World::new(pace, 1_500, 9_000, 300);
    world.roll.set(&[1, 2]);
    let (a, b) = (world.start(1).await, world.start(2).await);
    until("all buckets", || open(&[&a, &b]) == 4096).await;
    let mut players = Players::new(1..400);
    players.play(&world, &nodes(&[&a, &b]), 2_000).await;
    timely(players.told.len() > 10, || format!("players win: {}", players.told.len()))?;
    for trouble in [Trouble::Unsure { lands: 1 }, Trouble::Held, Trouble::Twice, Trouble::Unsure { lands: 0 }]
    {
        (1..=3).for_each(|node| world.lanes.trouble(node, trouble).unwrap());
    }
    let c = world.start(3).await;
    players.come_again();
    players.measure(world.clock.now_ms());
    world.roll.set(&[1, 2, 3]);
    players.play(&world, &nodes(&[&a, &b, &c]), 3_500).await;
    until("a third of the buckets", || open(&[&c]) > 1_000 && open(&[&a, &b, &c]) == 4096).await;
    println!("a node came: the longest gap of a user was {} ms", players.gap_ms);
    world.audit(&players.told).await;
    world.lanes.land(1, 100).unwrap();
    world.lanes.land(2, 100).unwrap();
    players.come_again();
    players.measure(world.clock.now_ms());
    world.roll.set(&[1, 3]);
    let old = Arc::clone(&b.node);
    let all: [&ClusterNode; 3] = [&a.node, &old, &c.node];
    let (exit, ()) = tokio::join!(b.stop(), players.play(&world, &all, 5_500));
    assert_eq!(exit, Exit::Drained);
    println!("a node was drained: the longest gap of a user was {} ms", players.gap_ms);
    until("all buckets", || open(&[&a, &c]) == 4096).await;
    let last = world.ledger.epochs(NodeId(2)).await.unwrap().pop().unwrap();
    assert!(last.ended.is_some() && last.end_position.is_some(), "it has ended its epoch itself: {last:?}");
    assert_eq!(world.ledger.open_leases(NodeId(2)).await.unwrap(), vec![]);
    let left = world.lanes.messages(2).unwrap().len();
    players.play(&world, &nodes(&[&a, &c]), 9_000).await;
    assert_eq!(world.lanes.messages(2).unwrap().len(), left, "it ships nothing more");
    assert_eq!((a.stop().await, c.stop().await), (Exit::Drained, Exit::Drained));
    world.audit_end(&players.told, players.kept_up(&world)).await;
    assert!(players.lost > 0, "nobody lost, {} won", players.told.len());
    assert!(!world.cache.is_empty(), "no wins are in the cache, with {} calls", world.flow.calls());
    assert!(world.flow.calls() > 0, "nobody's wins were asked for");
    Ok(())
}

/// A node is killed in mid-round and never comes back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_others_take_over_from_a_dead_node() {
    at_some_pace(they_take_over).await;
}

async fn they_take_over(pace: u64) -> Result<(), Late> {
    let world = World::new(pace, 1_500, 11_000, 300);
    world.roll.set(&[1, 2, 3]);
    let (a, b, c) = (world.start(1).await, world.start(2).await, world.start(3).await);
    until("all buckets", || open(&[&a, &b, &c]) == 4096).await;
    let mut players = Players::new(1..400);
    world.by(1_000, "all three draw")?;
    players.play(&world, &nodes(&[&a, &b, &c]), 2_000).await;
    let by_hand = end_by_hand(&*world.ledger, &world.lanes, NodeId(2)).await;
    assert!(matches!(by_hand, Err(EndByHandError::Alive { node: 2, .. })), "{by_hand:?}");
    players.measure(world.clock.now_ms());
    b.kill().await;
    // The member list notices it after a while, and not at once.
    players.play(&world, &nodes(&[&a, &c]), 3_500).await;
    world.roll.set(&[1, 3]);
    players.play(&world, &nodes(&[&a, &c]), 8_000).await;
    until("all buckets", || open(&[&a, &c]) == 4096).await;
    println!("a node was killed: the longest gap of a user was {} ms", players.gap_ms);
    assert!(a.node.status().buried + c.node.status().buried > 0);
    world.audit(&players.told).await;
    players.play(&world, &nodes(&[&a, &c]), 11_000).await;
    a.stop().await;
    c.stop().await;
    world.audit_end(&players.told, players.kept_up(&world)).await;
    Ok(())
}

/// A node is cut off with wins on their way, and wakes when others have ended its epoch and have its users.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_zombie_tells_and_ships_nothing() {
    at_some_pace(a_zombie).await;
}

async fn a_zombie(pace: u64) -> Result<(), Late> {
    let world = World::new(pace, 1_500, 12_000, 300);
    world.roll.set(&[1, 2]);
    let (a, z) = (world.start(1).await, world.start(2).await);
    until("all buckets", || open(&[&a, &z]) == 4096).await;
    let mut players = Players::new(1..400);
    players.play(&world, &nodes(&[&a, &z]), 1_500).await;
    z.wire.cut.store(true, Ordering::SeqCst);
    let before = z.node.status().wins;
    players.play(&world, &nodes(&[&a, &z]), 2_500).await;
    z.line.cut.store(true, Ordering::SeqCst);
    let status = z.node.status();
    timely(status.pending > 0 && status.wins > before, || format!("wins are on their way: {status:?}"))?;
    // The next players' answers go to nobody: this is the zombie's own door.
    let (mine, mut out) = (Arc::new(Inbox::new()), Vec::new());
    world.roll.set(&[1]);
    players.play(&world, &nodes(&[&a]), 7_000).await;
    until("the users to draw elsewhere", || open(&[&a]) == 4096).await;
    let calls: Vec<SubmitCall> = (1..400)
        .map(|user| SubmitCall {
            user,
            counter: 1,
            campaign: CAMPAIGN,
            round: 1,
            shakes: 2,
            ..SubmitCall::default()
        })
        .collect();
    z.node.submit(&calls, &mine, &mut out);
    assert!(
        out.iter().all(|r| r.outcome == Outcome::Pending && r.award.is_none()),
        "it knows no more than it may say"
    );
    let in_lane = world.lanes.messages(2).unwrap().len();
    // What was under way arrives, behind the mark. Then it hears from the ledger.
    z.wire.cut.store(false, Ordering::SeqCst);
    until("the late groups", || world.lanes.messages(2).unwrap().len() > in_lane).await;
    // It has no session, and so sends nothing behind what was under way.
    until("all of them", || z.wire.under_way.load(Ordering::SeqCst) == 0).await;
    let landed = world.lanes.messages(2).unwrap().len();
    z.node.submit(&calls, &mine, &mut out);
    z.line.cut.store(false, Ordering::SeqCst);
    let zombie = Arc::clone(&z.node);
    assert_eq!(z.end().await, Exit::EpochEnded);
    zombie.submit(&calls, &mine, &mut out);
    mine.take(&mut out, Waker::noop());
    assert!(out.iter().all(|r| r.outcome == Outcome::Pending), "not when it wakes either");
    assert_eq!(world.lanes.messages(2).unwrap().len(), landed, "it ships nothing more");
    players.turn(&world, &nodes(&[&a])).await;
    world.audit(&players.told).await;
    // It starts anew on the same disk, whose last groups nobody counts.
    let again = world.start(2).await;
    assert!(
        again.started.epoch == 2 && !again.started.ended && again.started.shipped == 0,
        "{:?}",
        again.started
    );
    world.roll.set(&[1, 2]);
    players.play(&world, &nodes(&[&a, &again]), 12_000).await;
    until("its buckets", || open(&[&again]) > 1_000).await;
    a.stop().await;
    again.stop().await;
    world.audit_end(&players.told, players.kept_up(&world)).await;
    Ok(())
}

/// A node is killed and comes back before anybody noticed; and then on another machine, with an empty disk.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_comes_back_with_its_disk_and_without() {
    at_some_pace(it_comes_back).await;
}

async fn it_comes_back(pace: u64) -> Result<(), Late> {
    let world = World::new(pace, 1_500, 14_000, 300);
    world.roll.set(&[1]);
    let first = world.start(1).await;
    assert!(first.started.fresh && first.started.first == 0);
    until("all buckets", || open(&[&first]) == 4096).await;
    let mut players = Players::new(1..400);
    players.play(&world, &nodes(&[&first]), 1_500).await;
    // What it wins now is in its log and not in the lane.
    first.wire.cut.store(true, Ordering::SeqCst);
    players.play(&world, &nodes(&[&first]), 2_300).await;
    let unshipped = first.node.status().unshipped;
    timely(unshipped > 0, || "it has won what no lane has".to_owned())?;
    first.kill().await;
    let second = world.start(1).await;
    let started = second.started;
    assert!(started.epoch == 2 && started.ended && started.shipped > 0, "{started:?}");
    timely(started.settled > 0, || format!("{started:?}"))?;
    let elsewhere = world.folder(77);
    let twin = world.try_start_in(1, &elsewhere).await.err();
    assert!(matches!(twin, Some(StartError::InUse { node: 1, epoch: 2, .. })), "{twin:?}");
    players.play(&world, &nodes(&[&second]), 7_500).await;
    until("all buckets", || open(&[&second]) == 4096).await;
    world.audit(&players.told).await;
    second.kill().await;
    std::fs::remove_dir_all(world.folder(1)).unwrap();
    let third = world.start(1).await;
    assert!(
        third.started.fresh && third.started.epoch == 3 && third.started.first > 0,
        "{:?}",
        third.started
    );
    players.play(&world, &nodes(&[&third]), 12_000).await;
    third.kill().await;
    let fourth = world.start(1).await;
    assert_eq!((fourth.started.fresh, fourth.started.epoch), (false, 4));
    players.play(&world, &nodes(&[&fourth]), 14_000).await;
    fourth.stop().await;
    world.audit_end(&players.told, players.kept_up(&world)).await;
    let old = end_by_hand(&*world.ledger, &world.lanes, NodeId(1)).await.unwrap();
    assert!(!old.ended && old.settled == 0, "nothing is left to do: {old:?}");
    let nobody = end_by_hand(&*world.ledger, &world.lanes, NodeId(NODES - 1)).await;
    assert!(matches!(nobody, Err(EndByHandError::Unknown(_))));
    Ok(())
}
