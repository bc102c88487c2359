//! Addresses that open connections faster than any person, and their bans.
//!
//! Asked once for each new connection, before a byte is read. The count is a sliding second: the last whole second's
//! count, weighted by how much of it still lies within the window, and this second's. Memory is fixed: in a full set
//! the entry that was quiet longest makes room, banned ones last. An IPv6 address counts as its /64, because that
//! is what one subscriber gets.

use std::net::IpAddr;

const WAYS: usize = 8;
const SETS: usize = 4096;

#[derive(Clone, Copy, Default)]
struct Entry {
    /// 0: free. No address of ours maps to it.
    key: u128,
    second: u64,
    before: u32,
    now: u32,
    banned_until_ms: u64,
}

/// What to do with a new connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Admission {
    /// Let it in.
    Welcome,
    /// Its address is banned; true if it has just been.
    Banned(bool),
}

/// The table of addresses. 2.6 MB at most, resident only where it was used.
pub struct Floods {
    entries: Box<[Entry]>,
}

impl Default for Floods {
    fn default() -> Self {
        Self { entries: vec![Entry::default(); WAYS * SETS].into_boxed_slice() }
    }
}

/// What an address counts under: itself, or the /64 of an IPv6 one.
pub fn address_key(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) >> 64 << 64).into()),
    }
}

fn number(address: IpAddr) -> u128 {
    match address_key(address) {
        // As the mapped form ::ffff:a.b.c.d, so that 0.0.0.0 is not 0 either.
        IpAddr::V4(v4) => u128::from(v4.to_ipv6_mapped()),
        IpAddr::V6(v6) => u128::from(v6) | 1,
    }
}

impl Floods {
    /// Counts a new connection and says whether it may come in. `now_ms` is monotonic; more than `per_second` in a
    /// second bans the address for `ban_ms`, counted from the last attempt.
    pub fn admit(&mut self, address: IpAddr, now_ms: u64, per_second: u32, ban_ms: u32) -> Admission {
        let entry = self.entry(number(address), now_ms);
        entry.count(now_ms);
        let was_banned = now_ms < entry.banned_until_ms;
        if was_banned || entry.rate(now_ms) > u64::from(per_second) {
            entry.banned_until_ms = now_ms + u64::from(ban_ms);
            return Admission::Banned(!was_banned);
        }
        Admission::Welcome
    }

    /// Lifts the ban of an address; false if there was none.
    pub fn lift(&mut self, address: IpAddr, now_ms: u64) -> bool {
        let key = number(address);
        let found = self.entries.iter_mut().find(|e| e.key == key && now_ms < e.banned_until_ms);
        found.map(|entry| *entry = Entry::default()).is_some()
    }

    /// How many addresses are banned.
    pub fn banned(&self, now_ms: u64) -> usize {
        self.entries.iter().filter(|entry| now_ms < entry.banned_until_ms).count()
    }

    fn entry(&mut self, key: u128, now_ms: u64) -> &mut Entry {
        let mixed = ((key >> 64) as u64 ^ key as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let set = (mixed >> 48) as usize % SETS * WAYS;
        let ways = &mut self.entries[set..set + WAYS];
        let place = ways.iter().position(|e| e.key == key).unwrap_or_else(|| {
            let quiet = (0..WAYS).min_by_key(|i| (now_ms < ways[*i].banned_until_ms, ways[*i].second));
            let place = quiet.unwrap_or(0);
            ways[place] = Entry { key, second: now_ms / 1000, ..Entry::default() };
            place
        });
        &mut ways[place]
    }
}

impl Entry {
    fn count(&mut self, now_ms: u64) {
        let second = now_ms / 1000;
        if second != self.second {
            self.before = if second == self.second + 1 { self.now } else { 0 };
            self.now = 0;
            self.second = second;
        }
        self.now = self.now.saturating_add(1);
    }

    fn rate(&self, now_ms: u64) -> u64 {
        u64::from(self.now) + u64::from(self.before) * (1000 - now_ms % 1000) / 1000
    }
}

#[cfg(test)]
mod tests {
    use super::{Admission, Floods};
    use std::net::IpAddr;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_flood_is_banned_for_a_while_and_nobody_else_is() {
        let mut floods = Floods::default();
        for i in 0..100 {
            assert_eq!(floods.admit(ip("192.0.2.1"), 5_000 + i, 100, 1_000), Admission::Welcome);
        }
        assert_eq!(floods.admit(ip("192.0.2.1"), 5_100, 100, 1_000), Admission::Banned(true));
        assert_eq!(floods.admit(ip("192.0.2.1"), 5_200, 100, 1_000), Admission::Banned(false));
        assert_eq!(floods.admit(ip("192.0.2.2"), 5_200, 100, 1_000), Admission::Welcome);
        assert_eq!(floods.banned(5_300), 1);
        assert_eq!(floods.admit(ip("192.0.2.1"), 6_199, 100, 1_000), Admission::Banned(false));
        assert_eq!(floods.admit(ip("192.0.2.1"), 8_000, 100, 1_000), Admission::Welcome);
        assert_eq!(floods.banned(8_000), 0);
    }

    #[test]
    fn the_window_slides() {
        let mut floods = Floods::default();
        for i in 0..90 {
            assert_eq!(floods.admit(ip("192.0.2.1"), 900 + i, 100, 1_000), Admission::Welcome);
        }
        let refused =
            (0..90).filter(|_| floods.admit(ip("192.0.2.1"), 1_010, 100, 1_000) != Admission::Welcome);
        assert!(refused.count() > 0, "180 within a second, though not within one calendar second");
    }

    #[test]
    fn one_subscriber_of_ipv6_is_one_address_and_bans_can_be_lifted() {
        let mut floods = Floods::default();
        for i in 0..3 {
            floods.admit(ip(&format!("2001:db8::{i}")), 10, 2, 1_000);
        }
        assert_eq!(floods.admit(ip("2001:db8::99"), 10, 2, 1_000), Admission::Banned(false));
        assert!(floods.lift(ip("2001:db8::5"), 20) && !floods.lift(ip("2001:db8::5"), 20));
        assert_eq!(floods.admit(ip("2001:db8::1"), 20, 2, 1_000), Admission::Welcome);
        assert_eq!(floods.admit(ip("0.0.0.0"), 20, 2, 1_000), Admission::Welcome);
    }
}
