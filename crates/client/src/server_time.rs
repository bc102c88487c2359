//! The server's clock, as seen from here: rounds open by the server's time, not by the telephone's.

/// Offset between this machine's clock and the server's. All times in ms.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ServerTime {
    offset_ms: i64,
    /// Half of the round trip of the sample in use: how far it may be off.
    doubt_ms: Option<u64>,
}

impl ServerTime {
    /// Takes a server's time that was asked for at `asked_ms` and came at `heard_ms` (both by the local clock). The
    /// sample with the shortest round trip is the best one and stays, but one that it can't be reconciled with
    /// (a clock was set) replaces it.
    pub fn sample(&mut self, asked_ms: u64, heard_ms: u64, server_ms: u64) {
        let trip_ms = heard_ms.saturating_sub(asked_ms);
        let doubt_ms = trip_ms.div_ceil(2);
        let offset_ms = server_ms as i64 + (trip_ms / 2) as i64 - heard_ms as i64;
        let better = self.doubt_ms.is_none_or(|doubt| doubt_ms <= doubt);
        let apart =
            self.doubt_ms.is_some_and(|doubt| offset_ms.abs_diff(self.offset_ms) > doubt + doubt_ms + 1);
        if better || apart {
            (self.offset_ms, self.doubt_ms) = (offset_ms, Some(doubt_ms));
        }
    }

    /// Whether the server's time is known at all.
    pub fn is_known(&self) -> bool {
        self.doubt_ms.is_some()
    }

    /// The server's time at a local instant.
    pub fn at(&self, local_ms: u64) -> u64 {
        local_ms.saturating_add_signed(self.offset_ms)
    }

    /// The local instant of a server's time.
    pub fn local(&self, server_ms: u64) -> u64 {
        server_ms.saturating_add_signed(-self.offset_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::ServerTime;

    #[test]
    fn the_shortest_round_trip_counts_until_a_clock_is_set() {
        let mut t = ServerTime::default();
        assert!(!t.is_known());
        t.sample(1_000, 1_100, 50_050);
        assert_eq!((t.at(1_100), t.local(50_100)), (50_100, 1_100));
        t.sample(2_000, 2_400, 51_100);
        assert_eq!(t.at(1_100), 50_100, "a slower sample that agrees changes nothing");
        t.sample(3_000, 3_010, 52_007);
        assert_eq!(t.at(3_010), 52_012);
        t.sample(4_000, 4_400, 9_000);
        assert_eq!(t.at(4_400), 9_200, "the server's clock was set back");
    }
}
