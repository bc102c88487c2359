//! The crowd's connections: shared, own, HTTP. Bytes in and out; what they mean is the world's business.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use client::{Credential, Reconnect, ReconnectPolicy, Session};
use protocol::v1::Submit;

use crate::net::Wire;

/// What a request was for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Asked {
    Submit { player: u32, attempt: u32 },
    Errand(u32),
    Campaigns,
}

/// Whose a connection is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Gateway,
    Own,
    Http,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    Down,
    Connecting,
    /// Hello and Login are out.
    Greeting,
    Open,
}

/// A request that waits for its turn on an HTTP connection.
#[derive(Clone, Copy, Debug)]
pub(super) enum Turn {
    Submit { player: u32, attempt: u32, submit: Submit },
    Errand(u32),
    Campaigns,
}

pub(super) struct Link {
    pub kind: Kind,
    /// Where it may connect, and how many of its attempts have failed or ended: the next one goes to the next address.
    addresses: Arc<[SocketAddr]>,
    turn: usize,
    pub state: State,
    pub wire: Option<Wire>,
    pub session: Option<Session>,
    pub reconnect: Reconnect,
    /// When to look after it next (monotonic us).
    pub due_us: u64,
    pub players: Vec<u32>,
    pub asked: HashMap<u32, Asked>,
    pub next_id: u32,
    pub turns: VecDeque<Turn>,
    /// HTTP: what is under way, since when.
    pub current: Option<(Asked, u64)>,
    pub was_open: bool,
}

impl Link {
    /// The `number`-th of its kind: they begin at different addresses.
    pub fn new(kind: Kind, addresses: &Arc<[SocketAddr]>, number: usize, policy: ReconnectPolicy) -> Self {
        Self {
            kind,
            addresses: Arc::clone(addresses),
            turn: number,
            state: State::Down,
            wire: None,
            session: None,
            reconnect: Reconnect::new(policy),
            due_us: 0,
            players: Vec::new(),
            asked: HashMap::new(),
            next_id: 0,
            turns: VecDeque::new(),
            current: None,
            was_open: false,
        }
    }

    /// Where it connects, or is connected.
    pub fn address(&self) -> SocketAddr {
        // A kind without an address has no link.
        self.addresses[self.turn % self.addresses.len()]
    }

    pub fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// The next correlation id for this request.
    pub fn ask(&mut self, asked: Asked) -> u32 {
        self.next_id = self.next_id.wrapping_add(1);
        self.asked.insert(self.next_id, asked);
        self.next_id
    }

    /// The socket is connected: says who speaks.
    pub fn greet(&mut self, credential: &Credential, now_ms: u64) {
        let Some(wire) = &mut self.wire else { return };
        self.session = Some(Session::begin(credential, crate::CLIENT, now_ms, &mut wire.out));
        self.state = State::Greeting;
    }

    /// Forgets the connection and all that was asked on it.
    pub fn fall(&mut self) -> Vec<Asked> {
        self.turn += 1;
        self.wire = None;
        self.session = None;
        self.state = State::Down;
        let turns = self.turns.drain(..).map(|turn| match turn {
            Turn::Submit { player, attempt, .. } => Asked::Submit { player, attempt },
            Turn::Errand(errand) => Asked::Errand(errand),
            Turn::Campaigns => Asked::Campaigns,
        });
        let mut lost: Vec<_> = turns.chain(self.current.take().map(|(asked, _)| asked)).collect();
        lost.extend(self.asked.drain().map(|(_, asked)| asked));
        lost
    }
}
