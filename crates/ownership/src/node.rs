//! Node epochs and sessions: one row for each time a node began anew.
//!
//! A node raises its epoch before it serves and draws only while its session is fresh. An epoch that has ended
//! never comes back, so whoever acts under it can be refused by a look at one row. Earlier epochs of a node are
//! always ended: a new one begins only behind the end of the last.

/// An epoch may be ended by others when it was last seen so long ago, by the ledger's clock. A node stops
/// answering 2 s after it sent its last successful call, so nobody answers any more by then.
pub const SESSION_DEAD_MS: u64 = 3_000;

/// The highest node number: 12 bits, because award ids carry it.
pub const NODE_MAX: u16 = 0xfff;

/// The highest epoch: 22 bits, because award ids carry it.
pub const EPOCH_MAX: u32 = (1 << 22) - 1;

/// Why an epoch was ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum EndReason {
    /// The node ended it itself, after its whole log was in the lane.
    BySelf = 1,
    /// Somebody found the session dead.
    Expired = 2,
}

impl EndReason {
    /// The reason of a stored number.
    pub fn from_u8(value: u8) -> Option<EndReason> {
        [EndReason::BySelf, EndReason::Expired].into_iter().find(|r| *r as u8 == value)
    }
}

/// An epoch of a node, with its session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeRow {
    /// The node.
    pub node: u16,
    /// Its epoch, from 1.
    pub epoch: u32,
    /// When it began, ms UTC by the ledger's clock.
    pub began_ms: u64,
    /// Last successful call of the node in this epoch, ms UTC by the ledger's clock.
    pub seen_at_ms: u64,
    /// End of that part of the node's lane (groups below this position) whose leases, those of earlier epochs
    /// too, are all closed. Never moves back.
    pub low_water: u64,
    /// When and why it was ended, if it was.
    pub ended: Option<(u64, EndReason)>,
    /// End of the lane up to and including the epoch's `Ended` mark, once it was found there.
    pub end_position: Option<u64>,
}

/// Why a node can't begin anew.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BeginError {
    /// The last epoch is still open.
    #[error(
        "node {node} has epoch {epoch} open: end it first (is a second process running under this node number?)"
    )]
    StillOpen {
        /// The node.
        node: u16,
        /// Its open epoch.
        epoch: u32,
    },
    /// 22 bits are used up.
    #[error("node {node} has used all {EPOCH_MAX} epochs: give the machine another node number")]
    UsedUp {
        /// The node.
        node: u16,
    },
    /// Not a node number.
    #[error("node {node} is above {NODE_MAX}, the highest number that fits an award id")]
    NoSuchNumber {
        /// The number.
        node: u16,
    },
}

/// Why a session was not renewed. Whoever gets this answers nobody, ships nothing more and begins anew.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SessionError {
    /// The epoch was ended.
    #[error("epoch {epoch} of node {node} has been ended: the node must begin anew")]
    EpochEnded {
        /// The node.
        node: u16,
        /// The epoch.
        epoch: u32,
    },
    /// There is no such epoch.
    #[error("the ledger knows no epoch {epoch} of node {node}: begin one first")]
    EpochUnknown {
        /// The node.
        node: u16,
        /// The epoch.
        epoch: u32,
    },
}

/// Why an epoch was not ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum EndError {
    /// There is no such epoch.
    #[error("the ledger knows no epoch {epoch} of node {node}")]
    EpochUnknown {
        /// The node.
        node: u16,
        /// The epoch.
        epoch: u32,
    },
    /// The node was seen too recently for anyone else to end its epoch.
    #[error(
        "node {node} was seen {ago_ms} ms ago; its epoch may be ended {SESSION_DEAD_MS} ms after its last call"
    )]
    StillSeen {
        /// The node.
        node: u16,
        /// How long ago.
        ago_ms: u64,
    },
}

/// Why an end position was not recorded.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PositionError {
    /// There is no such epoch.
    #[error("the ledger knows no epoch {epoch} of node {node}")]
    EpochUnknown {
        /// The node.
        node: u16,
        /// The epoch.
        epoch: u32,
    },
    /// The epoch is open: a mark in its lane ends nothing yet.
    #[error("epoch {epoch} of node {node} is open: end it before its mark is recorded")]
    NotEnded {
        /// The node.
        node: u16,
        /// The epoch.
        epoch: u32,
    },
}

impl NodeRow {
    /// The row of a node that begins anew. `latest` is its row with the highest epoch; `above` is the highest
    /// epoch that the node's own log knows (0: none), so that a ledger restored from a backup gives none twice.
    ///
    /// # Errors
    /// When the last epoch is open, or numbers are used up.
    pub fn begin(
        latest: Option<&NodeRow>,
        node: u16,
        above: u32,
        now_ms: u64,
    ) -> Result<NodeRow, BeginError> {
        if node > NODE_MAX {
            return Err(BeginError::NoSuchNumber { node });
        }
        if let Some(open) = latest.filter(|row| row.is_open()) {
            return Err(BeginError::StillOpen { node, epoch: open.epoch });
        }
        let last = latest.map_or(0, |row| row.epoch).max(above);
        if last >= EPOCH_MAX {
            return Err(BeginError::UsedUp { node });
        }
        let low_water = latest.map_or(0, |row| row.low_water);
        let (began_ms, seen_at_ms, epoch) = (now_ms, now_ms, last + 1);
        Ok(NodeRow { node, epoch, began_ms, seen_at_ms, low_water, ended: None, end_position: None })
    }

    /// Not ended yet.
    pub fn is_open(&self) -> bool {
        self.ended.is_none()
    }

    /// Open, and seen so recently that nobody may end it.
    pub fn is_alive(&self, now_ms: u64) -> bool {
        self.is_open() && now_ms.saturating_sub(self.seen_at_ms) < SESSION_DEAD_MS
    }

    /// Renews the session. `seen_at_ms` never runs back.
    ///
    /// # Errors
    /// When the epoch was ended.
    pub fn renew(&mut self, now_ms: u64) -> Result<(), SessionError> {
        if !self.is_open() {
            return Err(SessionError::EpochEnded { node: self.node, epoch: self.epoch });
        }
        self.seen_at_ms = self.seen_at_ms.max(now_ms);
        Ok(())
    }

    /// Ends the epoch; `false` if it had ended already, whoever did it.
    ///
    /// # Errors
    /// When somebody else wants it and the node was seen less than [`SESSION_DEAD_MS`] ago.
    pub fn end(&mut self, reason: EndReason, now_ms: u64) -> Result<bool, EndError> {
        if !self.is_open() {
            return Ok(false);
        }
        if reason == EndReason::Expired && self.is_alive(now_ms) {
            let ago_ms = now_ms.saturating_sub(self.seen_at_ms);
            return Err(EndError::StillSeen { node: self.node, ago_ms });
        }
        self.ended = Some((now_ms, reason));
        Ok(true)
    }

    /// Records where the epoch's mark stands; the first recorded counts and is answered.
    ///
    /// # Errors
    /// When the epoch is open.
    pub fn record_end_position(&mut self, position: u64) -> Result<u64, PositionError> {
        if self.is_open() {
            return Err(PositionError::NotEnded { node: self.node, epoch: self.epoch });
        }
        Ok(*self.end_position.get_or_insert(position))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_begins_behind_the_end_of_the_last() {
        let mut first = NodeRow::begin(None, 7, 0, 1_000).unwrap();
        assert_eq!((first.epoch, first.low_water), (1, 0));
        first.low_water = 12;
        assert_eq!(
            NodeRow::begin(Some(&first), 7, 0, 1_001),
            Err(BeginError::StillOpen { node: 7, epoch: 1 })
        );
        assert_eq!(first.end(EndReason::BySelf, 1_002), Ok(true));
        assert_eq!(first.end(EndReason::Expired, 1_003), Ok(false));
        let second = NodeRow::begin(Some(&first), 7, 0, 1_004).unwrap();
        assert_eq!((second.epoch, second.low_water), (2, 12));
        assert_eq!(NodeRow::begin(Some(&first), 7, 40, 1_004).unwrap().epoch, 41);
        assert_eq!(NodeRow::begin(None, 7, EPOCH_MAX, 0), Err(BeginError::UsedUp { node: 7 }));
        assert_eq!(NodeRow::begin(None, 4096, 0, 0), Err(BeginError::NoSuchNumber { node: 4096 }));
    }

    #[test]
    fn others_end_an_epoch_only_when_its_session_is_dead() {
        let mut row = NodeRow::begin(None, 1, 0, 1_000).unwrap();
        row.renew(2_000).unwrap();
        row.renew(1_500).unwrap();
        assert_eq!(row.seen_at_ms, 2_000);
        assert_eq!(row.end(EndReason::Expired, 4_999), Err(EndError::StillSeen { node: 1, ago_ms: 2_999 }));
        assert_eq!(row.record_end_position(5), Err(PositionError::NotEnded { node: 1, epoch: 1 }));
        assert_eq!(row.end(EndReason::Expired, 5_000), Ok(true));
        assert_eq!(row.renew(5_001), Err(SessionError::EpochEnded { node: 1, epoch: 1 }));
        assert_eq!(row.record_end_position(5), Ok(5));
        assert_eq!(row.record_end_position(9), Ok(5));
    }
}
