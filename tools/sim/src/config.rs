//! What a run is made of.

/// A fault built into the platform on purpose: an auditor that does not find it is worth nothing.
#[cfg(feature = "planted")]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The disk says that a sync is done and has done nothing.
    NoSync,
    /// Leases of an ended epoch are settled a second time, by somebody who has not read the lane.
    SettledTwice,
    /// A lease is closed in the ledger while a win taken from it is not in the log yet.
    ClosedEarly,
    /// A payout whose outcome nobody knows is taken for one that failed, and sent again under a new number.
    UnknownIsFailed,
    /// A ledger call whose answer was lost is taken for one that was not done.
    LostIsNotDone,
}

#[cfg(feature = "planted")]
impl Fault {
    /// All of them.
    pub const ALL: [Fault; 5] = [
        Fault::NoSync,
        Fault::SettledTwice,
        Fault::ClosedEarly,
        Fault::UnknownIsFailed,
        Fault::LostIsNotDone,
    ];
}

/// How large the world is and how badly it is treated. What exactly happens is the seed's business.
#[derive(Clone, Debug)]
pub struct Config {
    /// Rounds of the campaign.
    pub rounds: u32,
    /// Length of a round, ms; at least 5,000.
    pub round_ms: u64,
    /// Most players.
    pub players: u64,
    /// Most units of a prize of a round.
    pub units: u64,
    /// Process kills and power failures, at most.
    pub kills: u32,
    /// One call of so many to the ledger goes wrong; 0: none.
    pub ledger_trouble: u64,
    /// One message of so many between players and platform is lost; 0: none.
    pub network_loss: u64,
    /// The fault that is planted.
    #[cfg(feature = "planted")]
    pub fault: Option<Fault>,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            rounds: 2,
            round_ms: 7_000,
            players: 40,
            units: 40,
            kills: 8,
            ledger_trouble: 12,
            network_loss: 20,
            #[cfg(feature = "planted")]
            fault: None,
        }
    }
}

/// The points at which a fault can be planted. Without the feature every answer is `false`, and the compiler removes
/// what hangs on it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Planted {
    pub no_sync: bool,
    pub settled_twice: bool,
    pub closed_early: bool,
    pub unknown_is_failed: bool,
    pub lost_is_not_done: bool,
}

impl Config {
    #[cfg(feature = "planted")]
    pub(crate) fn planted(&self) -> Planted {
        let is = |fault| self.fault == Some(fault);
        Planted {
            no_sync: is(Fault::NoSync),
            settled_twice: is(Fault::SettledTwice),
            closed_early: is(Fault::ClosedEarly),
            unknown_is_failed: is(Fault::UnknownIsFailed),
            lost_is_not_done: is(Fault::LostIsNotDone),
        }
    }

    #[cfg(not(feature = "planted"))]
    pub(crate) fn planted(&self) -> Planted {
        Planted::default()
    }
}
