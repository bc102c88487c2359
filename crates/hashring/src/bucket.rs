//! From a user to a bucket: stored data and clients depend on it, so it never changes.

use std::fmt;

use xxhash_rust::xxh3::xxh3_64;

/// How many buckets there are.
pub const BUCKET_COUNT: usize = 4096;

const BUCKET_BITS: u32 = 12;
const _: () = assert!(1 << BUCKET_BITS == BUCKET_COUNT);

/// A group of users that always stay together; 0 to 4095.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bucket(u16);

impl Bucket {
    /// The bucket with this number, if there is one.
    pub const fn new(number: u16) -> Option<Self> {
        if (number as usize) < BUCKET_COUNT { Some(Self(number)) } else { None }
    }

    /// Its number, below 4096.
    pub const fn get(self) -> u16 {
        self.0
    }

    /// Its number as an index into an array of [`BUCKET_COUNT`].
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// All buckets in ascending order.
    pub fn all() -> impl ExactSizeIterator<Item = Bucket> + Clone {
        (0..BUCKET_COUNT as u16).map(Bucket)
    }
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The bucket of a user: the top 12 bits of XXH3-64 (seed 0) over the id's eight bytes, little-endian.
pub fn bucket_of(user: u64) -> Bucket {
    Bucket((xxh3_64(&user.to_le_bytes()) >> (u64::BITS - BUCKET_BITS)) as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Frozen: data on disk is keyed by these. The hashes were computed with the reference implementation in C
    /// (`XXH3_64bits` of xxHash 0.8).
    #[test]
    fn known_users_stay_in_their_buckets() {
        for (user, hash) in KNOWN {
            assert_eq!(xxh3_64(&user.to_le_bytes()), hash, "user {user}");
            assert_eq!(u64::from(bucket_of(user).get()), hash >> 52, "user {user}");
        }
    }

    const KNOWN: [(u64, u64); 6] = [
        (1, 0x2fbc_5935_64db_792e),
        (2, 0x2086_c65c_91ee_e243),
        (42, 0xd5a6_f8c8_38df_27c8),
        (1_000_000, 0x2c27_ac07_1308_6960),
        (1 << 63, 0x828f_2476_789a_0e5f),
        (u64::MAX, 0x5111_c7e4_7d78_4413),
    ];

    #[test]
    fn users_spread_evenly() {
        let mut users = vec![0u32; BUCKET_COUNT];
        for user in 1..=409_600 {
            users[bucket_of(user).index()] += 1;
        }
        // 100 expected in each; five and a half standard deviations either way.
        let (least, most) = (users.iter().min().copied(), users.iter().max().copied());
        assert!(least > Some(45) && most < Some(155), "{least:?} {most:?}");
    }

    #[test]
    fn numbers_are_checked() {
        assert_eq!(Bucket::new(4095).map(Bucket::get), Some(4095));
        assert_eq!(Bucket::new(4096), None);
        assert_eq!(Bucket::all().len(), BUCKET_COUNT);
    }
}
