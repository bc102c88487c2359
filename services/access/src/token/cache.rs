//! Tokens that were proved a moment ago, so that an HTTP request costs neither an HMAC nor a JSON parse.
//!
//! Keyed by a 128-bit SipHash of the whole token under a key that this process drew at random: whoever does not
//! know that key can't make another token with the same mark. Fixed size; a full set forgets the entry that
//! expires first. Emptied when the signing keys change.

use std::hash::Hasher;

use siphasher::sip128::{Hash128, Hasher128, SipHasher13};

use super::{Speaker, Verified};

const WAYS: usize = 4;

#[derive(Clone)]
struct Entry {
    mark: (u64, u64),
    verified: Verified,
}

/// A bounded table of proved tokens; one for each worker.
pub struct TokenCache {
    key: (u64, u64),
    key_version: u64,
    entries: Vec<Option<Entry>>,
    sets: usize,
}

impl TokenCache {
    /// Room for about `entries` tokens. `key` is random and known to nobody else.
    pub fn new(entries: usize, key: (u64, u64)) -> Self {
        let sets = (entries / WAYS).next_power_of_two().max(1);
        Self { key, key_version: 0, entries: vec![None; sets * WAYS], sets }
    }

    /// The mark of a token.
    pub fn mark(&self, token: &[u8]) -> (u64, u64) {
        let mut hasher = SipHasher13::new_with_keys(self.key.0, self.key.1);
        hasher.write(token);
        let Hash128 { h1, h2 } = hasher.finish128();
        (h1, h2)
    }

    /// Who speaks, if the token was proved under this version of the keys and has not expired.
    pub fn get(&mut self, mark: (u64, u64), key_version: u64, now_s: u64) -> Option<&Verified> {
        if self.key_version != key_version {
            self.key_version = key_version;
            self.entries.fill(None);
            return None;
        }
        let set = self.set(mark);
        self.entries[set..set + WAYS]
            .iter()
            .flatten()
            .find(|entry| entry.mark == mark && now_s < entry.verified.expires_s)
            .map(|entry| &entry.verified)
    }

    /// Keeps a token that was proved under `key_version`.
    pub fn put(&mut self, mark: (u64, u64), key_version: u64, verified: Verified) {
        if self.key_version != key_version {
            return;
        }
        let set = self.set(mark);
        let ways = &mut self.entries[set..set + WAYS];
        let place = (0..WAYS)
            .min_by_key(|i| match &ways[*i] {
                Some(entry) if entry.mark == mark => 0,
                Some(entry) => entry.verified.expires_s.saturating_add(1),
                None => 1,
            })
            .unwrap_or(0);
        ways[place] = Some(Entry { mark, verified });
    }

    fn set(&self, mark: (u64, u64)) -> usize {
        (mark.0 as usize & (self.sets - 1)) * WAYS
    }
}

impl Verified {
    /// The user, where a user speaks.
    pub fn user(&self) -> Option<u64> {
        match self.speaker {
            Speaker::User(user) => Some(user),
            Speaker::Gateway(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Speaker, TokenCache, Verified};

    #[test]
    fn remembers_until_expiry_rotation_or_a_full_set() {
        let mut cache = TokenCache::new(4, (1, 2));
        let verified = |user, expires_s| Verified { speaker: Speaker::User(user), expires_s };
        let mark = cache.mark(b"a");
        assert!(cache.get(mark, 1, 0).is_none());
        cache.put(mark, 1, verified(7, 100));
        assert_eq!(cache.get(mark, 1, 99).and_then(Verified::user), Some(7));
        assert!(cache.get(mark, 1, 100).is_none(), "expired");
        for (i, token) in [b"b", b"c", b"d", b"e"].into_iter().enumerate() {
            let mark = cache.mark(token);
            cache.put(mark, 1, verified(i as u64 + 10, 200));
        }
        assert!(cache.get(mark, 1, 0).is_none(), "the one that expires first made room");
        let kept = cache.mark(b"e");
        assert!(cache.get(kept, 1, 0).is_some());
        assert!(cache.get(kept, 2, 0).is_none(), "keys changed");
        cache.put(kept, 1, verified(9, 100));
        assert!(cache.get(kept, 2, 0).is_none(), "proved under old keys");
        assert_ne!(TokenCache::new(4, (1, 3)).mark(b"a"), mark);
    }
}
