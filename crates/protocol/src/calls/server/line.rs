//! A caller's connection as every server has it: what came and is not taken yet, what waits to be sent, silence, and the end
//! of this process.

use super::Shared;
use crate::calls::limits::{BUFFER_KEPT, DRAIN_MS, SILENCE_MS, TICK_MS, UNSENT_MAX};
use crate::calls::socket::{interest, read, write_all};
use crate::calls::wire::{CallKind, put_message};
use crate::error::Code;
use runtime::Shutdown;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{Interval, MissedTickBehavior};

/// What a server waits for besides its socket: how often it looks at the clock.
pub(super) fn ticks() -> Interval {
    let mut ticks = tokio::time::interval(Duration::from_millis(TICK_MS));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// See the module.
pub(super) struct Line<'a> {
    shared: &'a Shared,
    stream: &'a TcpStream,
    input: Vec<u8>,
    /// Frames to be sent.
    pub out: Vec<u8>,
    /// So much of it has gone.
    sent: usize,
    heard_ms: u64,
    /// There once this process ends.
    drain_until_ms: Option<u64>,
}

impl<'a> Line<'a> {
    /// A connection on which `input` came behind the greeting.
    pub fn new(shared: &'a Shared, stream: &'a TcpStream, input: Vec<u8>) -> Line<'a> {
        let heard_ms = shared.mono_ms();
        Line { shared, stream, input, out: Vec::new(), sent: 0, heard_ms, drain_until_ms: None }
    }

    /// Bytes that wait to be sent.
    pub fn unsent(&self) -> usize {
        self.out.len() - self.sent
    }

    /// Writes what there is; true when nothing is left.
    pub fn flush(&mut self) -> Result<bool, String> {
        write_all(self.stream, &mut self.out, &mut self.sent)
    }

    /// Whether this process ends, and the connection with it: when all is `done`, or the time for that is over.
    pub fn is_over(&mut self, shutdown: &Shutdown, done: bool) -> bool {
        if !shutdown.is_requested() {
            return false;
        }
        let now_ms = self.shared.mono_ms();
        let until_ms = *self.drain_until_ms.get_or_insert(now_ms + DRAIN_MS);
        done || now_ms >= until_ms
    }

    /// This process ends: what is under way is answered.
    pub fn is_draining(&self) -> bool {
        self.drain_until_ms.is_some()
    }

    /// Waits until the socket has something or, unless `all_sent`, takes something. True: there is something to read.
    pub async fn ready(&self, all_sent: bool) -> Result<bool, String> {
        // Whoever does not read his answers is not read either.
        let may_read = self.unsent() < UNSENT_MAX;
        let ready = self.stream.ready(interest(may_read, all_sent)).await;
        Ok(ready.map_err(|error| error.to_string())?.is_readable() && may_read)
    }

    /// Reads what has come; false when that is nothing.
    pub fn read(&mut self) -> Result<bool, String> {
        let some = read(self.stream, &mut self.input)? > 0;
        if some {
            self.heard_ms = self.shared.mono_ms();
        }
        Ok(some)
    }

    /// What has come, to be given back with [`Line::taken`].
    pub fn take_input(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.input)
    }

    /// The first `used` bytes of what had come are done with.
    pub fn taken(&mut self, mut input: Vec<u8>, used: usize) {
        input.drain(..used);
        if !input.is_empty() || input.capacity() <= BUFFER_KEPT {
            self.input = input;
        }
    }

    /// Last words to whoever sends what makes no sense. What the connection ends with.
    pub fn complain(&mut self, error: String) -> String {
        let mut message = Code::Malformed.message(error.clone());
        message.fatal = true;
        put_message(&mut self.out, CallKind::Error, 0, &message);
        self.flush().map_or_else(|broken| broken, |_| error)
    }

    /// An error when the other side has been silent for too long.
    pub fn bear(&self) -> Result<(), String> {
        let silent_ms = self.shared.mono_ms().saturating_sub(self.heard_ms);
        if silent_ms >= SILENCE_MS {
            return Err(format!("nothing was heard for {silent_ms} ms"));
        }
        Ok(())
    }
}
