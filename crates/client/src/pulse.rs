//! Has what happens on a connection decide how often its heartbeats go out.
//!
//! A beat is a probe when nothing else had gone either way for the whole interval before it: only then does its answer
//! show that the network bears such a silence. A probe fails when the connection turns out to be dead before the answer; a
//! connection that ends at any other moment says nothing about the network.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::{AdaptiveHeartbeat, HeartbeatRules, Session, SessionError};

/// What is known of networks, for all connections of an app, one after the other. Cheap to clone; the clones share it.
#[derive(Clone, Debug)]
pub struct Heartbeats(Arc<Mutex<AdaptiveHeartbeat>>);

impl Heartbeats {
    /// Nothing is known of any network.
    pub fn new(rules: HeartbeatRules) -> Self {
        Self(Arc::new(Mutex::new(AdaptiveHeartbeat::new(rules))))
    }

    /// The device is on this network now: an SSID, an operator's name, whatever tells networks apart. Connections made
    /// from now on learn about it.
    pub fn on_network(&self, name: &str) {
        self.0.lock().on_network(name);
    }

    /// The interval in use, in ms.
    pub fn interval_ms(&self) -> u64 {
        self.0.lock().interval_ms()
    }

    /// Whether the search on this network is over for now.
    pub fn is_settled(&self) -> bool {
        self.0.lock().is_settled()
    }
}

/// One connection's part in it.
#[derive(Debug)]
pub(crate) struct Pulse {
    heartbeats: Option<Heartbeats>,
    /// How long an answer to a beat may take, in ms.
    answer_ms: u64,
    /// A beat is unanswered before which there was nothing for the whole interval.
    probing: bool,
}

impl Pulse {
    /// Without `heartbeats` the server's wish is followed.
    pub fn new(heartbeats: Option<Heartbeats>, answer_ms: u64) -> Self {
        Self { heartbeats, answer_ms, probing: false }
    }

    /// The server has said how often it wants to hear something; the session has taken it over.
    pub fn welcomed(&mut self, session: &mut Session) {
        let Some(heartbeats) = &self.heartbeats else { return };
        let mut known = heartbeats.0.lock();
        known.limit(session.heartbeat_ms());
        known.connected();
        session.set_heartbeat_ms(known.interval_ms());
        session.answer_beats_within(self.answer_ms);
    }

    /// [`Session::tick`], looking on.
    pub fn tick(
        &mut self,
        session: &mut Session,
        now_ms: u64,
        out: &mut Vec<u8>,
    ) -> Result<(), SessionError> {
        let (silent_ms, before) = (session.silent_ms(now_ms), out.len());
        session.tick(now_ms, out)?;
        if out.len() > before {
            // The beat before was sent a little earlier than its answer was heard. A beat behind an unanswered one is no
            // probe, and takes nothing from it.
            self.probing |= silent_ms * 10 >= session.heartbeat_ms() * 9;
        }
        Ok(())
    }

    /// A heartbeat was answered.
    pub fn answered(&mut self, session: &mut Session) {
        let Some(heartbeats) = &self.heartbeats else { return };
        if std::mem::take(&mut self.probing) {
            let mut known = heartbeats.0.lock();
            known.succeeded();
            session.set_heartbeat_ms(known.interval_ms());
        }
    }

    /// The connection is dead.
    pub fn broken(&mut self) {
        if std::mem::take(&mut self.probing)
            && let Some(heartbeats) = &self.heartbeats
        {
            heartbeats.0.lock().failed();
        }
    }
}
