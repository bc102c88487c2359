//! A connection that is kept up, whatever goes over it: dialling and back-off, frames both ways, heartbeats, silence.
//!
//! Those who have something to send append it where [`Traffic::fetch`] finds it, and wake the carrier. When a connection
//! ends, however it ends, the traffic hears why and answers everybody; the next one is tried after a back-off with random
//! spread.

use super::connect::{BACKOFF, connect};
use super::{CallOptions, Target};
use crate::calls::limits::{BUFFER_KEPT, TICK_MS};
use crate::calls::socket::{read, write};
use crate::calls::{Cluster, ServiceSet};
use parking_lot::Mutex;
use runtime::{Backoff, SharedClock, Shutdown};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::MissedTickBehavior;

/// What goes over a connection.
pub(super) trait Traffic: Send + Sync {
    /// What the carrier's task keeps for it while it is connected.
    type Scratch: Default + Send;

    /// There is a connection; so many attempts failed before it.
    fn begin(&self, target: &Target, failures: u32);

    /// There is none any more: nobody is taken, and everybody who was is answered.
    fn end(&self, why: &str, scratch: &mut Self::Scratch);

    /// Nothing is under way and nothing waits to be sent.
    fn is_idle(&self) -> bool;

    /// Exchanges frames that wait for an empty buffer.
    ///
    /// # Errors
    /// Why the connection has to end.
    fn fetch(&self, empty: &mut Vec<u8>) -> Result<(), String>;

    /// Takes all whole frames; gives how many bytes they have.
    ///
    /// # Errors
    /// Why the connection has to end.
    fn take(&self, input: &[u8], scratch: &mut Self::Scratch) -> Result<usize, String>;

    /// Looks at the clock. `beat`: a heartbeat is to be sent behind whatever waits.
    fn tick(&self, now_ms: u64, beat: bool, scratch: &mut Self::Scratch);
}

/// Keeps one connection up; its task runs [`Carrier::run`].
pub(super) struct Carrier {
    wake: Notify,
    stopping: AtomicBool,
    /// Attempts and connections that failed since the last greeting went well.
    failures: AtomicU32,
    last_error: Mutex<Option<String>>,
    clock: SharedClock,
    options: CallOptions,
}

/// What the task owns while it is connected.
#[derive(Default)]
struct Io<S> {
    input: Vec<u8>,
    unsent: Vec<u8>,
    sent: usize,
    beat_ms: u64,
    /// When something was last heard, and when the clock was last looked at (monotonic ms).
    heard_ms: u64,
    tick_ms: u64,
    scratch: S,
}

impl Carrier {
    pub fn new(clock: SharedClock, options: CallOptions) -> Carrier {
        Carrier {
            wake: Notify::new(),
            stopping: AtomicBool::new(false),
            failures: AtomicU32::new(0),
            last_error: Mutex::default(),
            clock,
            options,
        }
    }

    pub fn options(&self) -> &CallOptions {
        &self.options
    }

    pub fn failures(&self) -> u32 {
        self.failures.load(Ordering::Relaxed)
    }

    pub fn last_error(&self) -> Option<String> {
        self.last_error.lock().clone()
    }

    pub fn mono_ms(&self) -> u64 {
        self.clock.mono_ns() / 1_000_000
    }

    /// There is something to send.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// Ends once everything under way is answered.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    /// Keeps the connection until it is stopped, or shutdown is requested, and what is under way is answered.
    pub async fn run<T: Traffic>(
        &self,
        traffic: &T,
        target: &Target,
        cluster: &Cluster,
        (from, wants): (Arc<str>, ServiceSet),
        shutdown: &Shutdown,
    ) {
        let mut backoff = Backoff::new(BACKOFF);
        while !self.is_stopping() && !shutdown.is_requested() {
            let mut io = Io::default();
            let ended = match connect(&self.options, target, cluster, (&from, wants), &mut io.input).await {
                Ok(stream) => {
                    backoff.succeeded();
                    io.heard_ms = self.mono_ms();
                    *self.last_error.lock() = None;
                    traffic.begin(target, self.failures.swap(0, Ordering::Relaxed));
                    let ended = tokio::select! {
                        ended = self.serve(traffic, &stream, &mut io) => ended,
                        () = shutdown.wait() => {
                            self.stop();
                            Ok(())
                        }
                    };
                    // Asked to stop from outside: what is under way is still waited for.
                    let ended =
                        if ended.is_ok() { self.serve(traffic, &stream, &mut io).await } else { ended };
                    let why = ended.as_ref().err().map_or("this process ends", String::as_str);
                    traffic.end(why, &mut io.scratch);
                    ended
                }
                Err(error) => Err(error),
            };
            let Err(error) = ended else { return };
            self.failed(target, wants, error);
            // Without randomness everybody comes back at the nominal time, which is no worse than late.
            let delay_ms = backoff.failed(getrandom::u64().unwrap_or(0));
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(delay_ms)) => {}
                () = self.stopped() => return,
                () = shutdown.wait() => return,
            }
        }
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    async fn stopped(&self) {
        while !self.is_stopping() {
            self.wake.notified().await;
        }
    }

    fn failed(&self, target: &Target, wants: ServiceSet, error: String) {
        let before = self.failures.fetch_add(1, Ordering::Relaxed);
        let (node, address) = (target.node, &target.address);
        if before == 0 {
            tracing::warn!(node, address, ?wants, error, "no connection; trying again with back-off");
        } else {
            tracing::debug!(node, address, ?wants, error, "still no connection");
        }
        *self.last_error.lock() = Some(error);
    }

    /// Moves frames both ways. Ends well only when it is stopped and nothing is under way.
    async fn serve<T: Traffic>(
        &self,
        traffic: &T,
        stream: &TcpStream,
        io: &mut Io<T::Scratch>,
    ) -> Result<(), String> {
        let mut tick = tokio::time::interval(Duration::from_millis(TICK_MS));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        io.tick_ms = self.mono_ms();
        loop {
            let all_sent = flush(traffic, stream, io)?;
            if self.is_stopping() && all_sent && traffic.is_idle() {
                return Ok(());
            }
            let interest =
                if all_sent { Interest::READABLE } else { Interest::READABLE | Interest::WRITABLE };
            tokio::select! {
                ready = stream.ready(interest) => {
                    if ready.map_err(|error| error.to_string())?.is_readable() {
                        self.read(traffic, stream, io)?;
                    }
                }
                () = self.wake.notified(), if all_sent => {}
                _ = tick.tick() => self.tick(traffic, stream, io)?,
            }
        }
    }

    fn read<T: Traffic>(
        &self,
        traffic: &T,
        stream: &TcpStream,
        io: &mut Io<T::Scratch>,
    ) -> Result<(), String> {
        if read(stream, &mut io.input)? == 0 {
            return Ok(());
        }
        io.heard_ms = self.mono_ms();
        let taken = traffic.take(&io.input, &mut io.scratch)?;
        io.input.drain(..taken);
        if io.input.is_empty() && io.input.capacity() > BUFFER_KEPT {
            io.input = Vec::new();
        }
        Ok(())
    }

    /// Looks at the clock: what the traffic waits for, a heartbeat that is due, silence.
    fn tick<T: Traffic>(
        &self,
        traffic: &T,
        stream: &TcpStream,
        io: &mut Io<T::Scratch>,
    ) -> Result<(), String> {
        let now_ms = self.mono_ms();
        let between_ms = now_ms.saturating_sub(std::mem::replace(&mut io.tick_ms, now_ms));
        if between_ms >= u64::from(self.options.dead_ms / 2) {
            // It is this process that stood still: nothing can be said of the other one for that time.
            io.heard_ms = (io.heard_ms + between_ms).min(now_ms);
        }
        let beat = now_ms >= io.beat_ms + u64::from(self.options.heartbeat_ms);
        if beat {
            io.beat_ms = now_ms;
        }
        traffic.tick(now_ms, beat, &mut io.scratch);
        if now_ms.saturating_sub(io.heard_ms) < u64::from(self.options.dead_ms) {
            return Ok(());
        }
        // Its word may have come and not been read yet.
        self.read(traffic, stream, io)?;
        match now_ms.saturating_sub(io.heard_ms) {
            ms if ms >= u64::from(self.options.dead_ms) => Err(format!("nothing was heard for {ms} ms")),
            _ => Ok(()),
        }
    }
}

/// Writes what there is; true when nothing is left.
fn flush<T: Traffic>(traffic: &T, stream: &TcpStream, io: &mut Io<T::Scratch>) -> Result<bool, String> {
    if io.sent == io.unsent.len() {
        io.unsent.clear();
        if io.unsent.capacity() > BUFFER_KEPT {
            io.unsent = Vec::new();
        }
        io.sent = 0;
        traffic.fetch(&mut io.unsent)?;
    }
    while io.sent < io.unsent.len() {
        match write(stream, &io.unsent[io.sent..])? {
            0 => return Ok(false),
            n => io.sent += n,
        }
    }
    Ok(true)
}
