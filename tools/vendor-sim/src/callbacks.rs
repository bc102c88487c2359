//! Sends callbacks when they are due: signed, repeated on anything but 2xx, given up after the last repetition.
//!
//! At most [`IN_FLIGHT_MAX`] are under way; the others wait in the queue, which is bounded. A callback that was not
//! confirmed before the process ended is sent again after the next start.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, header};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::sign::{ID, SIGNATURE, TIMESTAMP};
use crate::vendor::Sim;
use crate::wire::{self, Event};

/// Callbacks under way at the same time.
const IN_FLIGHT_MAX: usize = 64;
/// Time for an answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Waits before the repetitions, ms.
const REPEAT_AFTER_MS: [u64; 5] = [500, 1_000, 2_000, 5_000, 10_000];

/// One callback to send.
#[derive(Debug, Clone, Copy)]
pub struct CallbackJob {
    /// Place of the vendor.
    pub vendor: usize,
    /// Place of the payout.
    pub index: u32,
    /// What it tells.
    pub event: Event,
    /// Times it was sent.
    pub tries: u8,
}

type HttpClient = Client<HttpConnector, Full<Bytes>>;

/// Runs until dropped.
pub async fn run(sim: Arc<Sim>) {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(TIMEOUT));
    let client: HttpClient = Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_max_idle_per_host(IN_FLIGHT_MAX)
        .build(connector);
    let slots = Arc::new(Semaphore::new(IN_FLIGHT_MAX));
    let mut tasks = JoinSet::new();
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        let job = sim.callbacks.pop(&sim.clock).await;
        while tasks.try_join_next().is_some() {}
        let (sim, client) = (sim.clone(), client.clone());
        tasks.spawn(async move {
            let _slot = slot;
            carry_out(&sim, &client, job).await;
        });
    }
}

async fn carry_out(sim: &Sim, client: &HttpClient, job: CallbackJob) {
    let vendor = &sim.vendors[job.vendor];
    let counters = &vendor.callback_counters;
    let url = vendor.live().callback_url.clone();
    if url.is_empty() {
        counters.given_up.up();
        return;
    }
    counters.sent.up();
    let (id, body) = wire::callback(vendor.id, job.index, vendor.book.lock().payout(job.index), job.event);
    if send(sim, client, job, &url, &id, body).await {
        counters.delivered.up();
        if let Err(error) = vendor.book.lock().told(job.index, job.event) {
            tracing::warn!(vendor = vendor.id, %error, "can't note a confirmed callback; it is sent again after a restart");
        }
        return;
    }
    counters.failed.up();
    let Some(wait_ms) = REPEAT_AFTER_MS.get(usize::from(job.tries)) else {
        counters.given_up.up();
        return;
    };
    let again = CallbackJob { tries: job.tries + 1, ..job };
    if sim.callbacks.push(sim.clock.now_ms() + wait_ms, again).is_err() {
        counters.dropped.up();
    }
}

async fn send(sim: &Sim, client: &HttpClient, job: CallbackJob, url: &str, id: &str, body: Vec<u8>) -> bool {
    let timestamp_s = sim.clock.now_ms() / 1000;
    let signature = sim.vendors[job.vendor].signer.sign(id, timestamp_s, &body);
    let request = Request::post(url)
        .header(header::CONTENT_TYPE, "application/json")
        .header(ID, id)
        .header(TIMESTAMP, timestamp_s)
        .header(SIGNATURE, signature)
        .body(Full::new(body.into()));
    let Ok(request) = request else { return false };
    match tokio::time::timeout(TIMEOUT, client.request(request)).await {
        Ok(Ok(response)) => response.status().is_success(),
        _ => false,
    }
}
