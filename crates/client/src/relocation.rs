//! The server asks to connect elsewhere: where, and when.

use protocol::v1::Move;

/// Longest time over which clients are spread, in ms: who asks for more is not waited for.
const WITHIN_MAX_MS: u64 = 600_000;

/// A move, decided: connect there at that instant; then leave here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Relocation {
    /// Where, as [`Options::address`](crate::Options::address) takes it.
    pub address: String,
    /// When (monotonic ms).
    pub at_ms: u64,
}

impl Relocation {
    /// Decides. `address`: the present one; its kind of connection is kept. `random` is uniform. `None`: the server names
    /// no place that this connection could be made to.
    pub fn of(away: &Move, address: &str, now_ms: u64, random: u64) -> Option<Self> {
        let address = same_kind(address, &away.tcp, &away.websocket)?;
        let within_ms = u64::from(away.within_ms).min(WITHIN_MAX_MS);
        let at_ms = now_ms + ((u128::from(random) * u128::from(within_ms)) >> 64) as u64;
        Some(Self { address, at_ms })
    }
}

/// Which of a node's addresses is of the same kind as the present one; `None`: it has none.
pub(crate) fn same_kind(address: &str, tcp: &str, websocket: &str) -> Option<String> {
    let scheme = address.split_once("://").map_or("tcp", |(scheme, _)| scheme);
    let there = match scheme {
        // Nobody is led from a connection that can't be listened to, to one that can.
        "wss" => Some(websocket).filter(|url| url.starts_with("wss://")),
        "ws" => Some(websocket),
        _ => Some(tcp),
    }
    .filter(|there| !there.is_empty())?;
    Some(match scheme {
        "tls" => format!("tls://{there}"),
        _ => there.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_kind_of_connection_and_spreads_over_the_time() {
        let away = Move {
            tcp: "b:1".into(),
            websocket: "ws://b:2/v1/ws".into(),
            within_ms: 1_000,
            reason: String::new(),
        };
        let to =
            |address: &str, random| Relocation::of(&away, address, 500, random).map(|r| (r.address, r.at_ms));
        assert_eq!(to("a:1", 0), Some(("b:1".into(), 500)));
        assert_eq!(to("tls://a:1", u64::MAX), Some(("tls://b:1".into(), 1_499)));
        assert_eq!(to("ws://a:1/v1/ws", 1 << 63), Some(("ws://b:2/v1/ws".into(), 1_000)));
        assert_eq!(to("wss://a", 0), None, "not from a protected connection to an open one");
        assert_eq!(Relocation::of(&Move::default(), "a:1", 0, 0), None);
    }
}
