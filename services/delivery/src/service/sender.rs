//! Makes a vendor's calls: at its pace, so many at once, each with its time-out. Knows nothing of the book.
//!
//! It gets rows that are written down as being sent, and reports what became of each. It runs beside the vendor's
//! keeper, so that calls go out evenly while the keeper waits for its disk.

use super::{Shared, VendorRoom, shards};
use crate::core::{Answer, AskAnswer, Input, OrderRow, number_of};
use crate::pace::{CallKind, Outcome};
use crate::vendor::{Call, Question};
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::sync::mpsc;

/// A call to be made.
pub enum Job {
    /// A payout with the bytes whose hash is in the row.
    Pay(Box<OrderRow>, Vec<u8>),
    /// A question.
    Ask(Box<OrderRow>),
}

/// What became of a job.
pub struct Done {
    /// The row that it began with.
    pub row: OrderRow,
    /// What is to be told to the core.
    pub input: Input,
}

/// The sender of one vendor.
pub struct Sender {
    /// What all share.
    pub shared: Arc<Shared>,
    /// The vendor's part of it.
    pub room: Arc<VendorRoom>,
    /// From the keeper, who never sends more than the channel holds.
    pub jobs: mpsc::Receiver<Job>,
    /// Back to the keeper.
    pub done: mpsc::Sender<Done>,
}

impl Sender {
    /// Runs until the keeper hangs up; what has begun is waited for.
    pub async fn run(mut self) -> anyhow::Result<()> {
        let (mut pays, mut asks) = (VecDeque::new(), VecDeque::new());
        let mut calls: FuturesUnordered<BoxFuture<'static, Done>> = FuturesUnordered::new();
        let mut keeper_is_there = true;
        while keeper_is_there || !pays.is_empty() || !asks.is_empty() || !calls.is_empty() {
            let wait = self.begin(&mut pays, &mut asks, &mut calls).await?;
            tokio::select! {
                job = self.jobs.recv(), if keeper_is_there => match job {
                    Some(Job::Pay(row, body)) => pays.push_back((row, body)),
                    Some(Job::Ask(row)) => asks.push_back(row),
                    None => keeper_is_there = false,
                },
                Some(done) = calls.next(), if !calls.is_empty() => self.done.send(done).await?,
                () = tokio::time::sleep(wait) => {}
            }
        }
        Ok(())
    }

    /// Begins what may begin now; says how long to wait for the next.
    async fn begin(
        &self,
        pays: &mut VecDeque<(Box<OrderRow>, Vec<u8>)>,
        asks: &mut VecDeque<Box<OrderRow>>,
        calls: &mut FuturesUnordered<BoxFuture<'static, Done>>,
    ) -> anyhow::Result<Duration> {
        let room = &self.room;
        let mut wait = Duration::from_millis(250);
        let may_send = || self.shared.shards.may_send(self.shared.clock.mono_ns());
        while let Some((row, _)) = pays.front() {
            let now_ms = self.shared.clock.now_ms();
            // Too late to begin, or going home: it was written down, but nobody was called.
            if now_ms >= row.called_ms + room.policy.begin_within_ms || self.shared.shutdown.is_requested() {
                if let Some((row, _)) = pays.pop_front() {
                    room.queued.fetch_sub(1, Relaxed);
                    self.done.send(not_sent(*row)).await?;
                }
                continue;
            }
            if room.calling.load(Relaxed) >= room.config.concurrency || !may_send() {
                wait = wait.min(shards::CONFIRM_EVERY);
                break;
            }
            let turn = room.pacer.lock().take(CallKind::Pay, self.shared.clock.mono_ns());
            match turn {
                Ok(turn) => {
                    if let Some((row, body)) = pays.pop_front() {
                        room.queued.fetch_sub(1, Relaxed);
                        calls.push(self.pay(*row, body, turn.stamp_ns));
                    }
                }
                Err(at_ns) => {
                    wait = wait.min(self.until(at_ns));
                    break;
                }
            }
        }
        while !asks.is_empty() && room.asking.load(Relaxed) < room.asks_max() && may_send() {
            let turn = room.pacer.lock().take(CallKind::Ask, self.shared.clock.mono_ns());
            match turn {
                Ok(_) => {
                    if let Some(row) = asks.pop_front() {
                        calls.push(self.ask(*row));
                    }
                }
                Err(at_ns) => {
                    wait = wait.min(self.until(at_ns));
                    break;
                }
            }
        }
        Ok(wait)
    }

    fn until(&self, at_ns: u64) -> Duration {
        Duration::from_nanos(at_ns.saturating_sub(self.shared.clock.mono_ns()))
    }

    fn pay(&self, row: OrderRow, body: Vec<u8>, send_ns: u64) -> BoxFuture<'static, Done> {
        let (shared, room) = (self.shared.clone(), self.room.clone());
        room.calling.fetch_add(1, Relaxed);
        let call = Call {
            number: number_of(row.award, row.generation),
            attempt: row.attempt,
            body,
            fen: row.fen,
            send_ns,
            now_ms: shared.clock.now_ms(),
        };
        Box::pin(async move {
            let limit = Duration::from_millis(room.policy.timeout_ms);
            flowlog::fault::point("delivery.before_call");
            let answer = tokio::time::timeout(limit, room.vendor.submit(call)).await.ok();
            flowlog::fault::point("delivery.after_call");
            let outcome = match &answer {
                None | Some(Answer::Unknown { .. }) => Outcome::Failed,
                Some(Answer::NotTaken { over_limit: true, .. }) => Outcome::OverLimit,
                Some(_) => Outcome::Good,
            };
            room.heard(outcome, shared.clock.mono_ns());
            room.calling.fetch_sub(1, Relaxed);
            let (attempt, generation) = (row.attempt, row.generation);
            let input = match answer {
                Some(answer) => Input::Answered { attempt, generation, answer },
                None => Input::TimedOut { attempt },
            };
            Done { row, input }
        })
    }

    fn ask(&self, row: OrderRow) -> BoxFuture<'static, Done> {
        let (shared, room) = (self.shared.clone(), self.room.clone());
        room.asking.fetch_add(1, Relaxed);
        let asked_ms = shared.clock.now_ms();
        let number = number_of(row.award, row.generation);
        let question = Question { number, ask: shared.random() >> 12, fen: row.fen, now_ms: asked_ms };
        Box::pin(async move {
            let limit = Duration::from_millis(room.policy.timeout_ms);
            let answer = tokio::time::timeout(limit, room.vendor.query(question)).await;
            let answer = answer.unwrap_or(AskAnswer::NoAnswer {
                note: "no answer to the question in time".to_owned(),
                retry_after_ms: 0,
            });
            let outcome = match &answer {
                AskAnswer::NoAnswer { retry_after_ms: 0, .. } => Outcome::Failed,
                AskAnswer::NoAnswer { .. } => Outcome::OverLimit,
                _ => Outcome::Good,
            };
            room.heard(outcome, shared.clock.mono_ns());
            room.asking.fetch_sub(1, Relaxed);
            let input = Input::Asked { attempt: row.attempt, asked_ms, answer };
            Done { row, input }
        })
    }
}

fn not_sent(row: OrderRow) -> Done {
    let answer = Answer::NotTaken { retry_after_ms: 0, over_limit: false, code: "not sent".to_owned() };
    let input = Input::Answered { attempt: row.attempt, generation: row.generation, answer };
    Done { row, input }
}
