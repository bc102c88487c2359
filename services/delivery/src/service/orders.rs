//! Takes orders from their topic into the book, and claims to the orders that are there.
//!
//! An order is believed when its MAC fits; a forged one raises an alarm and goes nowhere. A position of the topic is
//! committed after the book has everything below it. What is polled twice, because its partition went to another node
//! meanwhile, is known by its awards. While nothing is left in the topic, awards that were not claimed in
//! their term lapse: a claim that still waits in the topic is thus heard before.

use super::Shared;
use super::apply::{apply, raise};
use super::shards::CONFIRM_EVERY;
use crate::book::{Alarm, BATCH_MAX, BookError};
use crate::core::{Input, Lane, OrderRow, Step, first_step};
use campaign::{AwardId, VendorId};
use queue::{CommitError, Consumer};
use records::{Order, OrderKind, Record};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Duration;

/// The consumers' group.
pub const ORDERS_GROUP: &str = "delivery";
const POLL_RECORDS: usize = BATCH_MAX;
const POLL_BYTES: usize = 1024 * 1024;
/// Time between two rounds that were not full. A round costs a transaction with its sync and a position for each partition,
/// whatever is in it; what comes after a rest is taken at once.
const EVERY: Duration = Duration::from_millis(200);

/// Runs until shutdown.
pub(crate) async fn run(shared: std::sync::Arc<Shared>) -> anyhow::Result<()> {
    let mut consumer = shared.queue.consumer(queue::ORDERS, ORDERS_GROUP).await?;
    while !shared.shutdown.is_requested() {
        shared.confirm(&consumer.assignment());
        let mut rest = Duration::ZERO;
        let outcome = async {
            let began_ns = shared.clock.mono_ns();
            match round(&shared, &mut *consumer).await? {
                Some(taken) if taken >= POLL_RECORDS / 2 => {}
                Some(_) => {
                    let took = Duration::from_nanos(shared.clock.mono_ns().saturating_sub(began_ns));
                    rest = EVERY.saturating_sub(took);
                }
                None => confirming(&shared, &mut *consumer, housekeeping(&shared)).await?,
            }
            anyhow::Ok(())
        };
        let outcome = outcome.await;
        if !rest.is_zero() {
            tokio::select! {
                () = shared.shutdown.wait() => {}
                () = confirming(&shared, &mut *consumer, tokio::time::sleep(rest)) => {}
            }
        }
        if let Err(error) = outcome {
            tracing::error!(error = format!("{error:#}"), "orders could not be taken, trying again");
            consumer.rewind();
            let pause = tokio::time::sleep(Duration::from_millis(500));
            tokio::select! {
                () = shared.shutdown.wait() => {}
                () = confirming(&shared, &mut *consumer, pause) => {}
            }
        }
    }
    Ok(())
}

/// Does something that takes a while, and goes on confirming meanwhile what this node has.
async fn confirming<T>(shared: &Shared, consumer: &mut dyn Consumer, work: impl Future<Output = T>) -> T {
    tokio::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return done,
            () = tokio::time::sleep(CONFIRM_EVERY) => shared.confirm(&consumer.assignment()),
        }
    }
}

/// Waits until something may have come, at most so long.
async fn waiting(shared: &Shared, consumer: &mut dyn Consumer, longest: Duration) {
    let ends = tokio::time::Instant::now() + longest;
    while tokio::time::Instant::now() < ends && !shared.shutdown.is_requested() {
        tokio::select! {
            () = consumer.ready() => return,
            () = shared.shutdown.wait() => return,
            () = tokio::time::sleep(CONFIRM_EVERY) => shared.confirm(&consumer.assignment()),
        }
    }
}

/// Takes what has come, and says how many records that were; none when nothing came for a while.
async fn round(shared: &Shared, consumer: &mut dyn Consumer) -> anyhow::Result<Option<usize>> {
    let mut batches = consumer.poll(POLL_RECORDS, POLL_BYTES).await?;
    if batches.is_empty() {
        waiting(shared, consumer, Duration::from_millis(500)).await;
        if shared.shutdown.is_requested() {
            return Ok(Some(0));
        }
        shared.confirm(&consumer.assignment());
        batches = consumer.poll(POLL_RECORDS, POLL_BYTES).await?;
    }
    if batches.is_empty() {
        return Ok(None);
    }
    let taken = batches.iter().flat_map(|batch| &batch.groups).map(queue::Group::len).sum();
    let taking = async {
        let orders = believed(shared, batches.iter().flat_map(|batch| batch.records())).await;
        take(shared, orders).await
    };
    confirming(shared, consumer, taking).await?;
    for batch in batches {
        match consumer.commit_soon(batch.partition, batch.next()).await {
            Err(CommitError::Lost { partition, .. }) => {
                tracing::info!(partition, "orders handed over");
            }
            done => done?,
        }
    }
    Ok(Some(taken))
}

/// Those orders whose MAC fits. The others raise an alarm.
async fn believed(shared: &Shared, records: impl Iterator<Item = &[u8]>) -> Vec<Order> {
    let (mut orders, mut alarms) = (Vec::new(), Vec::new());
    let now_ms = shared.clock.now_ms();
    let mut doubt = |kind: &str, award: AwardId, detail: String| {
        alarms.push(Alarm { kind: kind.to_owned(), award, detail, at_ms: now_ms, times: 1 });
    };
    for record in records {
        match Order::decode(record) {
            Err(error) => doubt("order can't be read", AwardId(0), error.to_string()),
            Ok(order) if !shared.mac_keys.verify(order.mac_key, &order.facts(), &order.mac) => {
                let detail = format!("user {}, {} fen, vendor {}", order.user, order.fen.0, order.vendor);
                doubt("order with a forged MAC", order.award, detail);
            }
            Ok(order) => orders.push(order),
        }
    }
    if !alarms.is_empty() {
        raise(shared, alarms).await;
    }
    orders
}

/// Brings orders into the book. Idempotent.
async fn take(shared: &Shared, orders: Vec<Order>) -> Result<(), BookError> {
    let now_ms = shared.clock.now_ms();
    let (mut first, mut seen, mut known) = (Vec::<Step>::new(), HashSet::new(), Vec::new());
    for order in &orders {
        if seen.insert(order.award) {
            first.push(first_step(order, now_ms, shared.vendors.contains_key(&order.vendor)));
        } else {
            known.push(*order);
        }
    }
    let mut awards_known = HashSet::new();
    for chunk in first.chunks(BATCH_MAX) {
        for (step, is_new) in chunk.iter().zip(shared.book.take_orders(chunk).await?) {
            if !is_new {
                awards_known.insert(step.row.award);
            }
        }
    }
    let mut again = HashSet::new();
    known.extend(orders.iter().filter(|o| awards_known.contains(&o.award) && again.insert(o.award)));
    meet(shared, known).await?;
    let vendors: BTreeSet<VendorId> = orders.iter().map(|order| order.vendor).collect();
    vendors.into_iter().for_each(|vendor| shared.kick(vendor));
    Ok(())
}

/// Orders of awards that the book has: a claim is passed on, a difference raises an alarm, all else is a repetition.
async fn meet(shared: &Shared, known: Vec<Order>) -> Result<(), BookError> {
    if known.is_empty() {
        return Ok(());
    }
    let mut awards: Vec<AwardId> = known.iter().map(|order| order.award).collect();
    awards.sort();
    awards.dedup();
    let mut rows: HashMap<AwardId, OrderRow> = HashMap::new();
    for chunk in awards.chunks(BATCH_MAX) {
        rows.extend(shared.book.rows(chunk).await?.into_iter().map(|row| (row.award, row)));
    }
    let (mut work, mut alarms) = (Vec::new(), Vec::new());
    for order in known {
        let Some(row) = rows.get(&order.award) else { continue };
        if !row.agrees_with(&order) {
            let detail = format!("{order:?}");
            alarms.push(super::apply::alarm("two orders differ", row, &detail, shared.clock.now_ms()));
        } else if order.kind == OrderKind::Claim {
            work.push((row.clone(), Input::Claim));
        }
    }
    apply(shared, work).await?;
    if !alarms.is_empty() {
        raise(shared, alarms).await;
    }
    Ok(())
}

/// What is done while no orders come: lapse what was not claimed, and bring to a person what no configured vendor
/// serves any more.
async fn housekeeping(shared: &Shared) -> Result<(), BookError> {
    let (now_ms, held) = (shared.clock.now_ms(), shared.shards.usable(shared.clock.mono_ns()));
    let before_ms = now_ms.saturating_sub(shared.config.lapse_grace_ms);
    let unclaimed = shared.book.lapse_due(&held, before_ms, BATCH_MAX).await?;
    apply(shared, unclaimed.into_iter().map(|row| (row, Input::Lapse)).collect()).await?;
    let counts = shared.book.counts().await?;
    let gone: BTreeSet<VendorId> =
        counts.iter().map(|c| c.vendor).filter(|v| !shared.vendors.contains_key(v)).collect();
    for vendor in gone {
        for lane in [Lane::Send, Lane::Ask] {
            let rows = shared.book.due(&held, vendor, lane, crate::core::TIME_MAX_MS, BATCH_MAX).await?;
            apply(shared, rows.into_iter().map(|row| (row, Input::VendorGone)).collect()).await?;
        }
    }
    Ok(())
}
