//! Delivery on virtual time: its state machine and its book, driven step by step as its service drives them.
//!
//! Orders are polled, taken into the book and committed; what is due is written down as being sent and then sent;
//! answers, time-outs, questions and callbacks go through the state machine under the book's fence. A write to the book
//! may be done and its answer lost.

use crate::plan::{CASH_VENDOR, VOUCHER_VENDOR, mac_keys};
use crate::vendor::{Call, VendorStep};
use crate::world::{Event, World, now};
use campaign::{AwardId, UserId, VendorId};
use delivery::book::{DeliveryBook as _, MemoryBook, Transition};
use delivery::core::{
    Answer, AskAnswer, Fact, Input, Lane, OrderRow, Refused, RetrySchedule, Step, VendorPolicy, first_step,
    number_of, step,
};
use delivery::service::ORDERS_GROUP;
use hashring::bucket_of;
use queue::{Batch, Consumer, JOURNAL, ORDERS, Queue as _};
use records::{DeliveryState, Order, OrderKind, Record as _};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeSet;

/// The only shard of a book in memory.
const SHARD: u16 = 0;
/// Orders in one poll.
const POLL_RECORDS: usize = 50;
/// Rows that one round takes.
const ROUND_ROWS: usize = 20;
/// Behind the end of a claim's term, ms: a claim on its way is still heard.
const LAPSE_GRACE_MS: u64 = 2_000;
/// Both vendors.
const VENDORS: [VendorId; 2] = [CASH_VENDOR, VOUCHER_VENDOR];

/// A step of delivery.
pub(crate) enum DeliveryStep {
    Start,
    /// A stage of the orders' loop.
    Orders,
    /// Takes what is due to be sent.
    Send(VendorId),
    /// Takes what is due to be asked about.
    Ask(VendorId),
    /// Copies the journal into its topic.
    Publish,
    /// A vendor's answer to a payout comes in.
    Answered {
        award: AwardId,
        attempt: u32,
        generation: u16,
        answer: Box<Answer>,
    },
    /// The caller's patience with a call is over.
    TimedOut {
        award: AwardId,
        attempt: u32,
    },
    /// A vendor's answer to a question comes in.
    Asked {
        award: AwardId,
        attempt: u32,
        asked_ms: u64,
        answer: Box<AskAnswer>,
    },
}

/// Delivery, alive or not, and what survives it.
pub(crate) struct DeliverySide {
    pub life: u32,
    pub book: MemoryBook,
    consumer: Option<Box<dyn Consumer>>,
    todo: Vec<Batch>,
    taken: bool,
    /// Awards with a call or a question of this life under way.
    in_hand: BTreeSet<AwardId>,
}

impl DeliverySide {
    pub fn new() -> DeliverySide {
        DeliverySide {
            life: 0,
            book: MemoryBook::default(),
            consumer: None,
            todo: Vec::new(),
            taken: false,
            in_hand: BTreeSet::new(),
        }
    }
}

/// How patient delivery is: shorter than in life, in the same proportions.
pub(crate) fn policy() -> VendorPolicy {
    let delays = |ms: u64| RetrySchedule {
        delays_ms: vec![ms, 2 * ms, 4 * ms],
        spread_permille: 200,
        slow_down_min_ms: ms,
    };
    VendorPolicy {
        timeout_ms: 800,
        settle_ms: 400,
        begin_within_ms: 100,
        query_window_ms: 900_000,
        repeat_window_ms: 900_000,
        retry: delays(300),
        ask: delays(200),
        held_recheck_ms: 2_000,
        generation_max: 4,
    }
}

impl World {
    fn delivery_push(&mut self, in_ms: u64, step: DeliveryStep) {
        self.push(in_ms, Event::Delivery(self.delivery.life, step));
    }

    pub fn delivery_restart(&mut self, in_ms: u64) {
        self.delivery.life += 1;
        self.delivery.consumer = None;
        self.delivery.todo.clear();
        self.delivery.in_hand.clear();
        self.delivery_push(in_ms, DeliveryStep::Start);
    }

    pub fn delivery_kill(&mut self) {
        self.note(format_args!("delivery is killed"));
        let wait = self.between(10, 1_500);
        self.delivery_restart(wait);
    }

    pub fn delivery_step(&mut self, life: u32, step: DeliveryStep) {
        if life != self.delivery.life {
            return;
        }
        match step {
            DeliveryStep::Start => self.delivery_starts(),
            DeliveryStep::Orders => self.delivery_takes_orders(),
            DeliveryStep::Send(vendor) => self.delivery_sends(vendor),
            DeliveryStep::Ask(vendor) => self.delivery_asks(vendor),
            DeliveryStep::Publish => self.delivery_publishes(),
            DeliveryStep::Answered { award, attempt, generation, answer } => {
                let answer = self.planted_failure(*answer);
                self.heard(award, Input::Answered { attempt, generation, answer });
            }
            DeliveryStep::TimedOut { award, attempt } => {
                if self.delivery.in_hand.contains(&award) {
                    let input = self.time_out(award, attempt);
                    self.heard(award, input);
                }
            }
            DeliveryStep::Asked { award, attempt, asked_ms, answer } => {
                self.heard(award, Input::Asked { attempt, asked_ms, answer: *answer });
            }
        }
    }

    /// What a call without an answer means: that nobody knows. With the planted fault: that it failed.
    fn time_out(&mut self, award: AwardId, attempt: u32) -> Input {
        let row = self.order_row(award);
        match row.filter(|_| self.planted.unknown_is_failed) {
            Some(row) => {
                let answer = Answer::NumberDead { code: "no answer".to_owned() };
                Input::Answered { attempt, generation: row.generation, answer }
            }
            None => Input::TimedOut { attempt },
        }
    }

    fn planted_failure(&self, answer: Answer) -> Answer {
        match answer {
            Answer::Unknown { note } if self.planted.unknown_is_failed => Answer::NumberDead { code: note },
            answer => answer,
        }
    }

    fn delivery_starts(&mut self) {
        let queue = self.flow.queue.clone();
        match now(queue.consumer(ORDERS, ORDERS_GROUP)) {
            Ok(consumer) => self.delivery.consumer = Some(consumer),
            Err(error) => return self.problem(format!("delivery does not start: {error}")),
        }
        self.note(format_args!("delivery begins"));
        self.delivery_push(1, DeliveryStep::Orders);
        self.delivery_push(5, DeliveryStep::Publish);
        for vendor in VENDORS {
            self.delivery_push(1, DeliveryStep::Send(vendor));
            self.delivery_push(2, DeliveryStep::Ask(vendor));
        }
    }

    fn order_row(&self, award: AwardId) -> Option<OrderRow> {
        now(self.delivery.book.rows(&[award])).ok()?.pop()
    }

    /// Carries an input through the state machine into the book, as the service does: again from the new row when
    /// the fence was lost or the answer was.
    fn apply(&mut self, award: AwardId, input: &Input) -> Result<Step, Option<Refused>> {
        for _ in 0..20 {
            let Some(row) = self.order_row(award) else { return Err(None) };
            let random = self.rng.next_u64();
            let next = step(&row, input, self.now_ms(), Some(&policy()), random).map_err(Some)?;
            if let Some(alarm) = next.alarm {
                self.note(format_args!("delivery: ALARM {alarm}: {award}"));
            }
            let line = Transition { from_step: row.step, from_state: row.state, step: next.clone() };
            let won = now(self.delivery.book.transition(&[line])).is_ok_and(|won| won == [true]);
            let lost = self.trouble(60);
            if won {
                self.note(format_args!(
                    "delivery: {award} step {} {} generation {} attempt {}{}",
                    next.row.step,
                    next.row.state.name(),
                    next.row.generation,
                    next.row.attempt,
                    if lost { " (the book's answer is lost)" } else { "" }
                ));
            }
            if won && !lost {
                return Ok(next);
            }
        }
        Err(None)
    }

    fn heard(&mut self, award: AwardId, input: Input) {
        self.delivery.in_hand.remove(&award);
        // A refusal says that the order has moved on since; that is what fences are for.
        let _ = self.apply(award, &input);
    }

    /// A vendor says something unasked. Whoever is alive hears it; the vendor comes again otherwise.
    pub fn delivery_called_back(&mut self, award: AwardId, fact: Fact) {
        if self.delivery.consumer.is_some() {
            let _ = self.apply(award, &Input::Callback(fact));
        }
    }

    pub fn account_registered(&mut self, user: UserId, vendor: VendorId) {
        for row in now(self.delivery.book.held(user, vendor, 100)).unwrap_or_default() {
            let _ = self.apply(row.award, &Input::AccountRegistered { account: payee(user) });
        }
    }

    fn delivery_takes_orders(&mut self) {
        if self.delivery.todo.is_empty() {
            let Some(consumer) = &mut self.delivery.consumer else { return };
            match now(consumer.poll(POLL_RECORDS, 1 << 20)) {
                Ok(todo) => (self.delivery.todo, self.delivery.taken) = (todo, false),
                Err(error) => return self.problem(format!("delivery can't read its orders: {error}")),
            }
            if self.delivery.todo.is_empty() {
                self.delivery_lapses();
                let wait = self.between(20, 150);
                return self.delivery_push(wait, DeliveryStep::Orders);
            }
        } else if !self.delivery.taken {
            self.delivery.taken = true;
            let orders: Vec<Order> = self
                .delivery
                .todo
                .iter()
                .flat_map(Batch::records)
                .filter_map(|r| Order::decode(r).ok())
                .collect();
            orders.iter().for_each(|order| self.delivery_takes(order));
        } else {
            let batch = self.delivery.todo.remove(0);
            let Some(consumer) = &mut self.delivery.consumer else { return };
            if let Err(error) = now(consumer.commit(batch.partition, batch.next())) {
                self.problem(format!("delivery can't commit: {error}"));
            }
        }
        let wait = self.between(0, 10);
        self.delivery_push(wait, DeliveryStep::Orders);
    }

    fn delivery_takes(&mut self, order: &Order) {
        if !mac_keys().verify(order.mac_key, &order.facts(), &order.mac) {
            return self.problem(format!("an order with a wrong MAC: {}", order.award));
        }
        let first = first_step(order, self.now_ms(), true);
        let is_new =
            now(self.delivery.book.take_orders(std::slice::from_ref(&first))).is_ok_and(|new| new == [true]);
        if is_new {
            self.note(format_args!("delivery: order of {} is {}", order.award, first.row.state.name()));
            return;
        }
        match self.order_row(order.award) {
            Some(row) if !row.agrees_with(order) => {
                self.problem(format!("two orders of {} differ", order.award));
            }
            Some(_) if order.kind == OrderKind::Claim => drop(self.apply(order.award, &Input::Claim)),
            _ => {}
        }
    }

    fn delivery_lapses(&mut self) {
        let before = self.now_ms().saturating_sub(LAPSE_GRACE_MS);
        for row in now(self.delivery.book.lapse_due(&[SHARD], before, ROUND_ROWS)).unwrap_or_default() {
            let _ = self.apply(row.award, &Input::Lapse);
        }
    }

    /// Writes down what is about to be sent, and sends it.
    fn delivery_sends(&mut self, vendor: VendorId) {
        let due = now(self.delivery.book.due(&[SHARD], vendor, Lane::Send, self.now_ms(), ROUND_ROWS))
            .unwrap_or_default();
        for row in due {
            let registered = self.players.iter().any(|p| p.user == row.user && p.registered);
            if !registered && row.attempt == 0 {
                let _ = self.apply(row.award, &Input::NoAccountKnown);
                continue;
            }
            let body = body_of(&row);
            let body_sha256 = Sha256::digest(&body).into();
            let input = Input::Permit { payee: payee(row.user), merchant: "m".to_owned(), body_sha256 };
            if let Ok(next) = self.apply(row.award, &input)
                && next.send
            {
                self.call(&next.row, body);
            }
        }
        let wait = self.between(10, 80);
        self.delivery_push(wait, DeliveryStep::Send(vendor));
    }

    /// The call is on its way: it arrives even if we are killed now, but never later than the vendor has declared.
    fn call(&mut self, row: &OrderRow, body: Vec<u8>) {
        let p = policy();
        let (award, attempt, generation) = (row.award, row.attempt, row.generation);
        self.delivery.in_hand.insert(award);
        let call = Call {
            vendor: row.vendor,
            number: number_of(award, generation),
            fen: row.fen,
            body,
            life: self.delivery.life,
            award,
            attempt,
            generation,
        };
        let slow = self.trouble(12);
        let there = if slow { self.between(1, p.timeout_ms + p.settle_ms) } else { self.between(1, 40) };
        self.push(there, Event::Vendor(VendorStep::Takes(Box::new(call))));
        self.delivery_push(p.timeout_ms, DeliveryStep::TimedOut { award, attempt });
    }

    /// Asks about what is accepted or unknown, and finds what a dead process left in `sending`.
    fn delivery_asks(&mut self, vendor: VendorId) {
        let now_ms = self.now_ms();
        let due =
            now(self.delivery.book.due(&[SHARD], vendor, Lane::Ask, now_ms, ROUND_ROWS)).unwrap_or_default();
        for row in due {
            if self.delivery.in_hand.contains(&row.award) {
                continue;
            }
            if row.state == DeliveryState::Sending {
                let input = self.time_out(row.award, row.attempt);
                let _ = self.apply(row.award, &input);
                continue;
            }
            self.delivery.in_hand.insert(row.award);
            let answer = if self.trouble(10) {
                AskAnswer::NoAnswer { note: "simulated".to_owned(), retry_after_ms: 0 }
            } else {
                self.vendor.ask(&number_of(row.award, row.generation), now_ms)
            };
            self.note(format_args!("delivery: asks about {}: {answer:?}", row.award));
            let wait = self.between(2, 60);
            let (award, attempt) = (row.award, row.attempt);
            let step = DeliveryStep::Asked { award, attempt, asked_ms: now_ms, answer: Box::new(answer) };
            self.delivery_push(wait, step);
        }
        let wait = self.between(10, 100);
        self.delivery_push(wait, DeliveryStep::Ask(vendor));
    }

    /// Copies the journal's new lines; killed before the position is kept, it copies some again.
    fn delivery_publishes(&mut self) {
        let from = now(self.delivery.book.published(SHARD)).unwrap_or(0);
        let lines = now(self.delivery.book.journal(SHARD, from, 40)).unwrap_or_default();
        let queue = self.flow.queue.clone();
        for line in &lines {
            let partition = (bucket_of(line.event.user.0).index() % 2) as u16;
            if let Err(error) = now(queue.produce(JOURNAL, partition, &[&line.event.encode()])) {
                self.problem(format!("the journal can't be published: {error}"));
            }
        }
        if let Some(last) = lines.last().filter(|_| !self.trouble(40)) {
            // Memory: it is done.
            let _ = now(self.delivery.book.set_published(SHARD, last.position));
        }
        let wait = self.between(10, 120);
        self.delivery_push(wait, DeliveryStep::Publish);
    }

    pub fn delivery_at_rest(&self) -> bool {
        let book = &self.delivery.book;
        let lag = self.flow.queue.lag(ORDERS, ORDERS_GROUP).unwrap_or(u64::MAX);
        let rows = now(book.scan(None, usize::MAX)).unwrap_or_default();
        let published = now(book.published(SHARD)).unwrap_or(0)
            == now(book.journal(SHARD, 0, usize::MAX)).map_or(1, |j| j.len() as u64);
        lag == 0 && self.delivery.todo.is_empty() && published && rows.iter().all(|row| row.lane().is_none())
    }
}

fn payee(user: UserId) -> String {
    format!("account-{user}")
}

fn body_of(row: &OrderRow) -> Vec<u8> {
    let number = number_of(row.award, row.generation);
    format!("{number} {} {} {}", payee(row.user), row.prize, row.fen.0).into_bytes()
}
