//! What every book promises, whatever stands behind it.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::{AddressRates, Limited, Pass, RateBook};
use runtime::{Clock, SystemClock};

/// Doors that share one book.
pub type Doors = Vec<Arc<dyn RateBook>>;

/// An address that no other test has used.
fn address() -> IpAddr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let seed = u32::from_le_bytes(getrandom::u32().unwrap().to_le_bytes()) & 0x00ff_f000;
    Ipv4Addr::from(0x0a00_0000 | (seed + NEXT.fetch_add(1, Ordering::Relaxed))).into()
}

async fn passes(book: &dyn RateBook, limited: Limited, from: IpAddr) -> Result<(), u32> {
    match book.pass(limited, from) {
        Pass::Yes => Ok(()),
        Pass::Wait(ms) => Err(ms),
        Pass::Ask(word) => word.await,
    }
}

/// How many of `n` attempts, made in turn at all doors, pass.
async fn passed(doors: &Doors, limited: Limited, from: IpAddr, n: usize) -> u64 {
    let mut passed = 0;
    for i in 0..n {
        passed += u64::from(passes(&*doors[i % doors.len()], limited, from).await.is_ok());
    }
    passed
}

/// Runs all checks; `make` opens doors that share a new book.
pub async fn holds<F, Made>(make: F)
where
    F: Fn(AddressRates) -> Made,
    Made: Future<Output = Doors>,
{
    let rates = AddressRates { logins: 40, http: 400 };
    let doors = make(rates).await;
    let clock = SystemClock;
    for limited in Limited::ALL {
        let (rate, from) = (u64::from(rates.of(limited)), address());
        // Never more than a second's worth and what the time brought.
        let begun = clock.mono_ns();
        let got = passed(&doors, limited, from, rate as usize * 3).await;
        let ms = (clock.mono_ns() - begun) / 1_000_000 + 1;
        assert!(got * 1000 <= rate * (1000 + ms), "{limited:?}: {got} in {ms} ms at {rate}/s");
        // And not much less: what doors take ahead and lose is a small part.
        assert!(got * 10 >= rate * 7, "{limited:?}: only {got} of {rate}");
        // Another address and the other kind have limits of their own.
        assert_eq!(passed(&doors, limited, address(), doors.len()).await, doors.len() as u64);
        // Whoever waits as long as he was told gets through.
        // All at once: one after the other a busy machine might be slower than the rate.
        let all = (0..rate * 3).map(|_| passes(&*doors[0], limited, from));
        let said = futures_util::future::join_all(all).await;
        let told = said.into_iter().filter_map(Result::err).max().unwrap_or(0);
        assert!((1..=2_000).contains(&told), "{limited:?}: told {told}");
        tokio::time::sleep(std::time::Duration::from_millis(u64::from(told) + 30)).await;
        assert!(passed(&doors, limited, from, 1).await == 1, "{limited:?}: after {told} ms");
    }
    // A changed rate counts from the next sweep.
    let higher = AddressRates { logins: 90, ..rates };
    doors.iter().for_each(|door| door.sweep(higher));
    let got = passed(&doors, Limited::Login, address(), 200).await;
    assert!(got >= 63, "{got} of 90");
}
