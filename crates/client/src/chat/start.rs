//! From a new connection to being in step: sync, for a new device the conversation list first, sync again while there is more.

use protocol::v1::ConversationsRequest;

/// Conversations that one page asks for.
const PAGE: u32 = 200;

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Phase {
    #[default]
    Offline,
    /// A request is due.
    Due {
        at_ms: u64,
    },
    /// It is under way.
    Asked {
        id: u32,
        late_ms: u64,
    },
    Live,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Start {
    phase: Phase,
    /// The list is being read: where the next page begins, and the cursor to go on from.
    list: Option<(u64, u64, u64)>,
    /// Whether the list was read before: what is new in it since then is no history.
    pub begun: bool,
    /// Pushes were dropped: once more when this is over.
    again: bool,
}

impl Start {
    /// Something is missing: sync.
    pub fn behind(&mut self, now_ms: u64) {
        self.phase = Phase::Due { at_ms: now_ms };
    }

    /// Something more is missing than what is being synced.
    pub fn more_behind(&mut self) {
        self.again = true;
    }

    pub fn disconnected(&mut self) {
        *self = Self { begun: self.begun, ..Self::default() };
    }

    pub fn is_live(&self) -> bool {
        self.phase == Phase::Live
    }

    pub fn is_fresh(&self) -> bool {
        !self.begun
    }

    pub fn is_asked(&self, asked: u32) -> bool {
        matches!(self.phase, Phase::Asked { id, .. } if id == asked)
    }

    /// The request that is due: a page of the list, or (`None`) a sync.
    #[allow(clippy::option_option)]
    pub fn poll(&mut self, now_ms: u64, id: u32, answer_ms: u64) -> Option<Option<ConversationsRequest>> {
        let due = match self.phase {
            Phase::Due { at_ms } => now_ms >= at_ms,
            Phase::Asked { late_ms, .. } => now_ms >= late_ms,
            Phase::Offline | Phase::Live => false,
        };
        if !due {
            return None;
        }
        self.phase = Phase::Asked { id, late_ms: now_ms + answer_ms };
        Some(self.list.map(|(before_ms, before_conversation, _)| ConversationsRequest {
            before_ms,
            before_conversation,
            limit: PAGE,
        }))
    }

    pub fn next_ms(&self) -> Option<u64> {
        match self.phase {
            Phase::Due { at_ms } => Some(at_ms),
            Phase::Asked { late_ms, .. } => Some(late_ms),
            Phase::Offline | Phase::Live => None,
        }
    }

    /// The request failed; again at `at_ms`.
    pub fn failed(&mut self, id: u32, at_ms: u64) {
        if self.is_asked(id) {
            self.phase = Phase::Due { at_ms };
        }
    }

    /// Begin with the list, and go on from `cursor`.
    pub fn list(&mut self, cursor: u64) {
        self.list = Some((0, 0, cursor));
        self.phase = Phase::Due { at_ms: 0 };
    }

    /// The next page begins behind this conversation.
    pub fn page(&mut self, (active_ms, conversation): (u64, u64)) {
        if let Some((.., cursor)) = self.list {
            self.list = Some((active_ms, conversation, cursor));
        }
        self.phase = Phase::Due { at_ms: 0 };
    }

    /// The list is read; gives the cursor to go on from.
    pub fn listed(&mut self) -> u64 {
        self.begun = true;
        self.list.take().map_or(0, |(.., cursor)| cursor)
    }

    pub fn live(&mut self, now_ms: u64) {
        self.begun = true;
        self.phase = if std::mem::take(&mut self.again) { Phase::Due { at_ms: now_ms } } else { Phase::Live };
    }
}
