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
    /// Several nodes: a record that stands in a lane behind the end of its epoch is accepted.
    BehindEnded,
    /// Several nodes: a win is answered when the lane has it, without a look at the session then.
    NoSessionCheck,
    /// Several nodes: a bucket is drawn for although the award store has not passed what its last owner left.
    NoWaiting,
    /// Several nodes: what was asked for in a call without an answer is asked for again under new numbers.
    NewNumbers,
}

#[cfg(feature = "planted")]
impl Fault {
    /// All of them.
    pub const ALL: [Fault; 9] = [
        Fault::NoSync,
        Fault::SettledTwice,
        Fault::ClosedEarly,
        Fault::UnknownIsFailed,
        Fault::LostIsNotDone,
        Fault::BehindEnded,
        Fault::NoSessionCheck,
        Fault::NoWaiting,
        Fault::NewNumbers,
    ];

    /// A world in which the fault can show.
    pub fn config(self) -> Config {
        let world = match self {
            Fault::BehindEnded | Fault::NoSessionCheck | Fault::NoWaiting | Fault::NewNumbers => {
                Config::cluster()
            }
            _ => Config::default(),
        };
        Config { fault: Some(self), ..world }
    }
}

/// How large the world is and how badly it is treated. What exactly happens is the seed's business.
#[derive(Clone, Debug)]
pub struct Config {
    /// Lottery nodes. One stands for itself, with everything in its own log; several share users over a ring, ship
    /// their logs into lanes, and end each other's epochs.
    pub nodes: u16,
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
    /// One shipment of so many to a lane goes wrong; 0: none.
    pub lane_trouble: u64,
    /// One message of so many between players and platform is lost; 0: none.
    pub network_loss: u64,
    /// The fault that is planted.
    #[cfg(feature = "planted")]
    pub fault: Option<Fault>,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            nodes: 1,
            rounds: 2,
            round_ms: 7_000,
            players: 40,
            units: 40,
            kills: 8,
            ledger_trouble: 12,
            lane_trouble: 20,
            network_loss: 20,
            #[cfg(feature = "planted")]
            fault: None,
        }
    }
}

impl Config {
    /// Several nodes that come, go, stop, freeze and die.
    pub fn cluster() -> Config {
        Config { nodes: 3, round_ms: 10_000, players: 50, units: 30, kills: 6, ..Config::default() }
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
    pub behind_ended: bool,
    pub no_session_check: bool,
    pub no_waiting: bool,
    pub new_numbers: bool,
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
            behind_ended: is(Fault::BehindEnded),
            no_session_check: is(Fault::NoSessionCheck),
            no_waiting: is(Fault::NoWaiting),
            new_numbers: is(Fault::NewNumbers),
        }
    }

    #[cfg(not(feature = "planted"))]
    pub(crate) fn planted(&self) -> Planted {
        Planted::default()
    }
}
