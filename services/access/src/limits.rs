//! Every bound of the front door in one place, each with its reason. [`Limits`] are set by configuration; those in
//! [`LiveLimits`] can be changed while it runs; the constants are facts of the design.

use std::sync::atomic::{AtomicU32, Ordering};

use serde::Deserialize;

use crate::token::TOKEN_BYTES_MAX;

/// What one read may bring: large enough that a gateway's burst of submits is one read, small enough to stay in a
/// core's second-level cache together with what it leads to.
pub const READ_BYTES: usize = 64 * 1024;

/// Largest frame taken from a client: all requests are small, and the longest token fits. It is what a connection can
/// make the server keep of a frame that has not come whole; Welcome names it.
pub const REQUEST_FRAME_MAX: usize = 4096;

/// Smallest frame that a client may bound answers to: a win with the longest prize name fits.
pub const CLIENT_FRAME_MIN: usize = 1024;

/// Largest HTTP body: ten times the largest request that makes sense.
pub const BODY_BYTES_MAX: usize = 16 * 1024;

/// Most shakes in one submit. Nobody shakes faster than 20 a second, and nobody's sum is older than ten minutes;
/// the plan's own cap is lottery's to apply.
pub const SHAKES_MAX: u32 = 12_000;

/// Longest vendor account: a WeChat openid has 28 characters, an e-mail address at most 254.
pub const ACCOUNT_BYTES_MAX: usize = 256;

/// Awards in a page when the client names no number.
pub const PRIZES_DEFAULT: u32 = 50;

/// Awards in a page at most.
pub const PRIZES_MAX: u32 = 200;

/// How long after its close a round's submits still go to lottery: a client whose win was 'pending', or whose answer
/// was lost, asks again with the same counter.
pub const RESEND_GRACE_MS: u64 = 60_000;

/// How long plans must have been in force here before 'limit reached' from another process is remembered: it may have
/// been said under older plans. Processes look for plans four times a second, and no call takes longer than this.
pub const PLANS_SETTLE_MS: u64 = 5_000;

/// Reads that one connection may make before others get their turn.
pub const READS_PER_TURN: usize = 2;

/// Connections on their way from the acceptor to one worker.
pub const HANDOVER_MAX: usize = 256;

/// Addresses that a limiter may still hold behind a sweep; beyond that, all share one bucket until the next.
pub const GATE_KEYS_MAX: usize = 100_000;

/// Targets of pushes that may wait for one connection: what is pushed to one device while its socket is busy for a
/// moment. Above it the device hears only how far its timeline has come, and syncs.
pub const PUSH_PENDING_MAX: u32 = 512;

/// The same for a gateway's connection, which carries many devices. Above it pushes are left out.
pub const GATEWAY_PUSH_PENDING_MAX: u32 = 65_536;

/// How long what a connection was sent may wait for its reader before pushes to it lose their messages, in ms.
pub const PUSH_PATIENCE_MS: u64 = 250;

/// Targets that may wait for one worker, and bytes of their messages. Above it pushes are left out: devices sync.
pub const MAIL_TARGETS_MAX: usize = 1 << 20;
/// See [`MAIL_TARGETS_MAX`].
pub const MAIL_BYTES_MAX: usize = 128 << 20;

/// Devices that one gateway connection carries.
pub const GATEWAY_DEVICES_MAX: usize = 65_536;

/// Between two reports of who has been heard of, in ms; chat counts on it.
pub const BEAT_MS: u64 = 5_000;

/// Devices in one report.
pub const BEAT_DEVICES_MAX: usize = 1_024;

/// Worker threads at most: a connection's address has 8 bits for its worker.
pub const WORKERS_MAX: usize = 256;

/// Connections of one worker that chat can address: 24 bits.
pub const PLACES_MAX: u32 = 1 << 24;

/// Bytes of pushes behind which they are sent before further ones are written.
pub const PUSH_OUT: usize = 64 * 1024;

/// Requests over bound in a row before a connection is cut: a client that honours the answers never gets there.
pub const STRIKES_MAX: u32 = 1_000;

const _: () = assert!(REQUEST_FRAME_MAX > TOKEN_BYTES_MAX + 256, "a login with the longest token fits");
const _: () = assert!(REQUEST_FRAME_MAX < protocol::frame::FRAME_MAX);
const _: () = assert!(READ_BYTES >= 4 * REQUEST_FRAME_MAX, "what is kept of a frame is little beside a read");
const _: () = assert!(ACCOUNT_BYTES_MAX * 8 < BODY_BYTES_MAX, "an account fits a body however it is escaped");
const _: () = assert!(PRIZES_DEFAULT <= PRIZES_MAX);

/// The bounds that configuration sets.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Connections of all kinds at the same time. Below the usual limit of 20,000 open files, with room for logs,
    /// databases and vendors. At the bound, new ones wait in the kernel's queue.
    pub connections_max: u32,
    /// New connections in a second from one address before it is banned: a household or an office stays far below.
    pub connections_per_second_address: u32,
    /// How long such an address stays banned, in ms.
    pub ban_ms: u32,
    /// Whether addresses of this machine are exempt from all limits by address: for load generators beside the server.
    pub loopback_exempt: bool,
    /// Logins in a second from one address. A carrier's NAT has many players behind one.
    pub logins_per_second_address: u32,
    /// HTTP requests in a second from one address.
    pub http_per_second_address: u32,
    /// Submits in a second on a player's connection: ten times what a client that honours the answers sends.
    pub user_submits_per_second: u32,
    /// Unanswered requests on a player's connection.
    pub user_outstanding_max: u32,
    /// Messages in a second on a player's connection: nobody types faster, and an app that sends more is broken.
    pub user_sends_per_second: u32,
    /// Other requests to chat in a second on a player's connection: a device that comes back far behind pages quickly.
    pub user_asks_per_second: u32,
    /// Submits in a second on a gateway's connection, whatever its token says.
    pub gateway_submits_per_second: u32,
    /// Unanswered requests on a gateway's connection, whatever its token says.
    pub gateway_outstanding_max: u32,
    /// Connections of one gateway, whatever its token says.
    pub gateway_connections_max: u32,
    /// Time from connect to a good login, in ms.
    pub login_ms: u32,
    /// Heartbeat that clients are asked for, in ms.
    pub heartbeat_ms: u32,
    /// Silence after which a connection is taken for dead, in ms: three heartbeats and some.
    pub silence_ms: u32,
    /// Answers that may wait for a reader that is slow, in bytes a connection.
    pub unsent_bytes_max: u32,
    /// How long a reader may take none of what waits for it, in ms.
    pub unsent_ms: u32,
    /// How long flow and delivery may take for an answer, in ms.
    pub call_ms: u32,
    /// How long an HTTP request waits for a win to become durable before it is told 'pending', in ms.
    pub late_ms: u32,
    /// How long connections get to take their last answers at shutdown, in ms.
    pub drain_ms: u32,
    /// How long connections get at shutdown to move to another node, in ms, where there is one; before `drain_ms`.
    pub move_ms: u32,
    /// Connections a second that are told to move: what the other nodes take in easily.
    pub moves_per_second: u32,
    /// Within which time a client that was told to move does, at an instant of its own choice, in ms.
    pub move_within_ms: u32,
    /// Entries of each worker's table of users who can win nothing for now (32 bytes each).
    pub negative_entries: u32,
    /// Entries of each worker's table of proved tokens (about 50 bytes each).
    pub token_entries: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 18_000,
            connections_per_second_address: 100,
            ban_ms: 60_000,
            loopback_exempt: false,
            logins_per_second_address: 200,
            http_per_second_address: 1_000,
            user_submits_per_second: 10,
            user_outstanding_max: 64,
            user_sends_per_second: 20,
            user_asks_per_second: 50,
            gateway_submits_per_second: 1_000_000,
            gateway_outstanding_max: 16_384,
            gateway_connections_max: 1_024,
            login_ms: 10_000,
            heartbeat_ms: 30_000,
            silence_ms: 100_000,
            unsent_bytes_max: 512 * 1024,
            unsent_ms: 10_000,
            call_ms: 5_000,
            late_ms: 5_000,
            drain_ms: 5_000,
            move_ms: 20_000,
            moves_per_second: 2_000,
            move_within_ms: 2_000,
            negative_entries: 65_536,
            token_entries: 16_384,
        }
    }
}

/// A bound that makes no sense.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("access limit {key} is {value}: it must be {must}")]
pub struct LimitsError {
    /// Which.
    pub key: &'static str,
    /// What it is.
    pub value: u32,
    /// What would be right.
    pub must: String,
}

impl Limits {
    /// Checks that the bounds can hold together.
    ///
    /// # Errors
    /// The first that can't.
    pub fn check(&self) -> Result<(), LimitsError> {
        let positive = [
            ("connections_max", self.connections_max),
            ("connections_per_second_address", self.connections_per_second_address),
            ("logins_per_second_address", self.logins_per_second_address),
            ("http_per_second_address", self.http_per_second_address),
            ("user_submits_per_second", self.user_submits_per_second),
            ("user_outstanding_max", self.user_outstanding_max),
            ("user_sends_per_second", self.user_sends_per_second),
            ("user_asks_per_second", self.user_asks_per_second),
            ("moves_per_second", self.moves_per_second),
            ("gateway_submits_per_second", self.gateway_submits_per_second),
            ("gateway_outstanding_max", self.gateway_outstanding_max),
            ("gateway_connections_max", self.gateway_connections_max),
            ("login_ms", self.login_ms),
            ("heartbeat_ms", self.heartbeat_ms),
            ("unsent_ms", self.unsent_ms),
        ];
        if let Some((key, value)) = positive.into_iter().find(|(_, value)| *value == 0) {
            return Err(LimitsError { key, value, must: "at least 1".to_owned() });
        }
        if self.silence_ms <= self.heartbeat_ms {
            let must = format!("longer than heartbeat_ms, {}", self.heartbeat_ms);
            return Err(LimitsError { key: "silence_ms", value: self.silence_ms, must });
        }
        let least = 2 * protocol::frame::FRAME_MAX as u32;
        if self.unsent_bytes_max < least {
            let must = format!("at least {least}, two of the largest frames");
            return Err(LimitsError { key: "unsent_bytes_max", value: self.unsent_bytes_max, must });
        }
        Ok(())
    }
}

/// The bounds that an operator changes while it runs. Read with plain loads.
#[derive(Debug)]
pub struct LiveLimits {
    /// See [`Limits::connections_per_second_address`].
    pub connections_per_second_address: AtomicU32,
    /// See [`Limits::ban_ms`].
    pub ban_ms: AtomicU32,
    /// See [`Limits::user_submits_per_second`]; takes effect on connections at their next read.
    pub user_submits_per_second: AtomicU32,
    /// See [`Limits::user_sends_per_second`].
    pub user_sends_per_second: AtomicU32,
    /// See [`Limits::user_asks_per_second`].
    pub user_asks_per_second: AtomicU32,
    /// See [`Limits::logins_per_second_address`].
    pub logins_per_second_address: AtomicU32,
    /// See [`Limits::http_per_second_address`].
    pub http_per_second_address: AtomicU32,
}

impl LiveLimits {
    /// The limits to start with.
    pub fn new(limits: &Limits) -> Self {
        Self {
            connections_per_second_address: limits.connections_per_second_address.into(),
            ban_ms: limits.ban_ms.into(),
            user_submits_per_second: limits.user_submits_per_second.into(),
            user_sends_per_second: limits.user_sends_per_second.into(),
            user_asks_per_second: limits.user_asks_per_second.into(),
            logins_per_second_address: limits.logins_per_second_address.into(),
            http_per_second_address: limits.http_per_second_address.into(),
        }
    }
}

/// A change of [`LiveLimits`]: what is absent stays.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsChange {
    /// See [`Limits::connections_per_second_address`].
    pub connections_per_second_address: Option<u32>,
    /// See [`Limits::ban_ms`].
    pub ban_ms: Option<u32>,
    /// See [`Limits::user_submits_per_second`].
    pub user_submits_per_second: Option<u32>,
    /// See [`Limits::user_sends_per_second`].
    pub user_sends_per_second: Option<u32>,
    /// See [`Limits::user_asks_per_second`].
    pub user_asks_per_second: Option<u32>,
    /// See [`Limits::logins_per_second_address`].
    pub logins_per_second_address: Option<u32>,
    /// See [`Limits::http_per_second_address`].
    pub http_per_second_address: Option<u32>,
}

impl LiveLimits {
    /// Applies a change. A rate of 0 counts as 1: shutting players out is another switch's work.
    pub fn change(&self, change: &LimitsChange) {
        let set = |to: &AtomicU32, value: Option<u32>, least: u32| {
            if let Some(value) = value {
                to.store(value.max(least), Ordering::Relaxed);
            }
        };
        set(&self.connections_per_second_address, change.connections_per_second_address, 1);
        set(&self.ban_ms, change.ban_ms, 0);
        set(&self.user_submits_per_second, change.user_submits_per_second, 1);
        set(&self.user_sends_per_second, change.user_sends_per_second, 1);
        set(&self.user_asks_per_second, change.user_asks_per_second, 1);
        set(&self.logins_per_second_address, change.logins_per_second_address, 1);
        set(&self.http_per_second_address, change.http_per_second_address, 1);
    }
}

#[cfg(test)]
mod tests {
    use super::{Limits, LimitsChange, LiveLimits};
    use std::sync::atomic::Ordering;

    #[test]
    fn defaults_hold_together_and_nonsense_is_named() {
        assert_eq!(Limits::default().check(), Ok(()));
        let error = Limits { silence_ms: 30_000, ..Limits::default() }.check().unwrap_err().to_string();
        assert!(error.contains("silence_ms") && error.contains("longer than heartbeat_ms"), "{error}");
        let error = Limits { login_ms: 0, ..Limits::default() }.check().unwrap_err();
        assert_eq!(error.key, "login_ms");
    }

    #[test]
    fn live_changes_touch_what_they_name() {
        let live = LiveLimits::new(&Limits::default());
        live.change(&LimitsChange {
            ban_ms: Some(5),
            user_submits_per_second: Some(0),
            ..LimitsChange::default()
        });
        assert_eq!(live.ban_ms.load(Ordering::Relaxed), 5);
        assert_eq!(live.user_submits_per_second.load(Ordering::Relaxed), 1);
        assert_eq!(live.logins_per_second_address.load(Ordering::Relaxed), 200);
    }
}
