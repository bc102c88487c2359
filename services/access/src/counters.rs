//! What a worker counted. One thread writes each set, so an addition is a plain load and store; readers sum all sets.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident: $label:literal),* $(,)?) => {
        /// Something that is counted.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Count { $($(#[$doc])* $name),* }

        impl Count {
            /// All of them, in the order of their numbers.
            pub const ALL: &[Count] = &[$(Count::$name),*];

            /// Name of its metric, labels included.
            pub fn metric(self) -> &'static str {
                match self { $(Count::$name => $label),* }
            }
        }
    };
}

counters! {
    /// Connections accepted.
    Connections: "hongbao_access_connections_total",
    /// Connections that ended.
    Closed: "hongbao_access_closed_total",
    /// Good logins.
    Logins: "hongbao_access_logins_total",
    /// Logins refused: token.
    LoginsBad: "hongbao_access_refused_total{reason=\"token\"}",
    /// Logins and HTTP requests refused: too many from one address.
    AddressRate: "hongbao_access_refused_total{reason=\"address_rate\"}",
    /// Connections refused: banned address.
    BannedConnections: "hongbao_access_refused_total{reason=\"banned\"}",
    /// Submits that lottery answered otherwise.
    NoDraw: "hongbao_access_refused_total{reason=\"lottery\"}",
    /// Submits that ended here: outside their window.
    NotOpen: "hongbao_access_refused_total{reason=\"not_open\"}",
    /// Submits that ended here: nothing more to win.
    Exhausted: "hongbao_access_refused_total{reason=\"limit_reached\"}",
    /// Submits that ended here: no such campaign or round.
    Unknown: "hongbao_access_refused_total{reason=\"unknown_campaign\"}",
    /// Requests refused: makes no sense.
    Invalid: "hongbao_access_refused_total{reason=\"invalid\"}",
    /// Requests refused: over the connection's rate.
    OverRate: "hongbao_access_refused_total{reason=\"connection_rate\"}",
    /// Requests refused: too many unanswered.
    OverOutstanding: "hongbao_access_refused_total{reason=\"outstanding\"}",
    /// Bans begun.
    Bans: "hongbao_access_bans_total",
    /// HTTP requests.
    HttpRequests: "hongbao_access_http_requests_total",
    /// Submits received.
    Submits: "hongbao_access_submits_total",
    /// Submits that lottery answered with a loss or a win.
    Draws: "hongbao_access_draws_total",
    /// Wins among them.
    Wins: "hongbao_access_wins_total",
    /// Connections that became WebSockets.
    WebSockets: "hongbao_access_websockets_total",
    /// Connections whose TLS handshake failed.
    TlsFailed: "hongbao_access_tls_failed_total",
    /// Messages received for chat.
    Sends: "hongbao_access_sends_total",
    /// Other requests received for chat.
    Asks: "hongbao_access_asks_total",
    /// Push frames written.
    Pushes: "hongbao_access_pushes_total",
    /// What they held: messages, heads, reads, presences.
    Pushed: "hongbao_access_pushed_total",
    /// Pushes of which a device that was behind heard only how far its timeline has come.
    PushesBare: "hongbao_access_pushes_left_out_total{reason=\"behind\"}",
    /// Pushes to connections that were gone.
    PushesStale: "hongbao_access_pushes_left_out_total{reason=\"gone\"}",
    /// Pushes left out because the front door was behind.
    PushesDropped: "hongbao_access_pushes_left_out_total{reason=\"full\"}",
    /// Connections that were told to move to another node.
    Moves: "hongbao_access_moves_total",
    /// Connections cut for malformed input.
    Malformed: "hongbao_access_cut_total{reason=\"malformed\"}",
    /// Connections cut: no login in time.
    LoginLate: "hongbao_access_cut_total{reason=\"no_login\"}",
    /// Connections cut: silent for too long.
    Silent: "hongbao_access_cut_total{reason=\"silent\"}",
    /// Connections cut: does not read its answers.
    SlowReader: "hongbao_access_cut_total{reason=\"slow_reader\"}",
    /// Connections cut: token expired.
    Expired: "hongbao_access_cut_total{reason=\"token_expired\"}",
    /// Connections cut: went on far over its bounds.
    Strikes: "hongbao_access_cut_total{reason=\"over_bounds\"}",
    /// Bytes read from frame connections.
    BytesIn: "hongbao_access_bytes_total{direction=\"in\"}",
    /// Bytes written to frame connections.
    BytesOut: "hongbao_access_bytes_total{direction=\"out\"}",
}

/// One thread's counts, on cache lines of its own.
#[derive(Debug)]
#[repr(align(128))]
pub struct Counters([AtomicU64; Count::ALL.len()]);

impl Default for Counters {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl Counters {
    /// Adds. Only the thread that owns the set may: two writers would lose counts.
    #[inline]
    pub fn add(&self, count: Count, by: u64) {
        let cell = &self.0[count as usize];
        cell.store(cell.load(Ordering::Relaxed) + by, Ordering::Relaxed);
    }

    /// The count so far.
    pub fn get(&self, count: Count) -> u64 {
        self.0[count as usize].load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::{Count, Counters};

    #[test]
    fn each_has_a_cell_and_a_name_of_its_own() {
        let counters = Counters::default();
        for (i, count) in Count::ALL.iter().enumerate() {
            counters.add(*count, i as u64 + 1);
        }
        let mut names: Vec<_> = Count::ALL.iter().map(|count| count.metric()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Count::ALL.len());
        assert!(Count::ALL.iter().enumerate().all(|(i, count)| counters.get(*count) == i as u64 + 1));
    }
}
