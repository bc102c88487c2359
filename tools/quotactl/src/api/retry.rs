//! When to ask again. Free of I/O.
//!
//! Everything that is asked may be asked again: reading changes nothing, and a change carries an idempotency key, so
//! the server gives the first answer again instead of doing it twice. So a connection that broke, a time-out and an
//! answer that says "not now" all lead to another try, a bounded number of times, later each time.

use http::StatusCode;
use runtime::BackoffPolicy;

/// Tries in all.
pub const TRIES: u32 = 4;
/// Longest wait that a server may ask for, in seconds; one that asks for more is not waited for.
const RETRY_AFTER_S_MAX: u64 = 10;
const WAITS: BackoffPolicy = BackoffPolicy { first_ms: 200, max_ms: 2_000, repeats: 1, spread_permille: 500 };

/// How a try ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// Nobody answered, or not to the end.
    Broken,
    /// An answer, with the seconds of its `Retry-After`.
    Answered(StatusCode, Option<u64>),
}

/// How long to wait before the next try, in ms; `None`: the ending stands. `tries`: made so far, from 1.
pub fn wait_ms(ending: Ending, tries: u32, random: u64) -> Option<u64> {
    if tries >= TRIES {
        return None;
    }
    let wait_ms = WAITS.delay_ms(tries, random);
    match ending {
        Ending::Broken => Some(wait_ms),
        Ending::Answered(status, after_s) => {
            let again = match status.as_u16() {
                429 | 502..=504 => true,
                // In progress under the same key, says a server that adds when to come back.
                409 | 425 => after_s.is_some(),
                _ => false,
            };
            let asked_ms = after_s.unwrap_or(0).saturating_mul(1_000);
            (again && asked_ms <= RETRY_AFTER_S_MAX * 1_000).then_some(wait_ms.max(asked_ms))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_pass_is_asked_again() {
        let answered = |status: u16, after| {
            wait_ms(Ending::Answered(StatusCode::from_u16(status).unwrap(), after), 1, 0).is_some()
        };
        for status in [200, 202, 400, 401, 403, 404, 409, 412, 422, 500] {
            assert!(!answered(status, None), "{status}");
        }
        for status in [429, 502, 503, 504] {
            assert!(answered(status, None), "{status}");
        }
        assert!(answered(409, Some(1)));
        assert!(!answered(503, Some(11)), "nobody waits that long");
    }

    #[test]
    fn tries_are_bounded_and_come_later_each_time() {
        let waits: Vec<_> = (1..=TRIES).map(|tries| wait_ms(Ending::Broken, tries, 0)).collect();
        assert_eq!(waits, [Some(200), Some(400), Some(800), None]);
        let asked = Ending::Answered(StatusCode::SERVICE_UNAVAILABLE, Some(2));
        assert_eq!(wait_ms(asked, 1, 0), Some(2_000));
    }
}
