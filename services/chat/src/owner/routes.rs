//! Which node has which bucket, as far as this one knows: where hands, watches and passed on requests go.
//!
//! A guess. What it sends to the wrong node is passed over there, and sent again by a better guess.

use hashring::{BUCKET_COUNT, Bucket, Ring, bucket_of};
use ownership::BucketRow;

/// Nobody, as far as is known.
const NONE: u16 = u16::MAX;

/// The guess.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Routes {
    owners: Box<[u16; BUCKET_COUNT]>,
    /// This node.
    pub me: u16,
}

impl Routes {
    /// Nothing is known.
    pub fn nowhere(me: u16) -> Routes {
        Routes { owners: Box::new([NONE; BUCKET_COUNT]), me }
    }

    /// From the owners' book, what this node knows it owns, and for what is free the ring: whoever will have it.
    pub fn guess(me: u16, rows: &[BucketRow], mine: impl Fn(u16) -> bool, ring: Option<&Ring>) -> Routes {
        let mut routes = Routes::nowhere(me);
        if let Some(ring) = ring {
            Bucket::all().for_each(|bucket| routes.owners[bucket.index()] = ring.owner(bucket));
        }
        for row in rows.iter().filter(|row| !row.is_free()) {
            if let (Some((node, _)), Some(slot)) = (row.owner, routes.owners.get_mut(usize::from(row.bucket)))
                && node != me
            {
                *slot = node;
            }
        }
        for (bucket, slot) in (0u16..).zip(routes.owners.iter_mut()) {
            if mine(bucket) {
                *slot = me;
            }
        }
        routes
    }

    /// Who has the bucket of a user or a conversation.
    pub fn of(&self, id: u64) -> Option<u16> {
        let node = self.owners[bucket_of(id).index()];
        (node != NONE).then_some(node)
    }
}

#[cfg(test)]
mod tests {
    use super::Routes;
    use hashring::{Bucket, Member, Ring, bucket_of};
    use ownership::{BucketRow, ClaimBucket};

    #[test]
    fn the_book_goes_before_the_ring_and_what_is_known_before_the_book() {
        assert_eq!(Routes::nowhere(1).of(7), None);
        let ring = Ring::new(&[Member { node: 3, weight: 1 }], 1).unwrap();
        let (one, other) = (bucket_of(7).get(), bucket_of(8).get());
        let owned = |bucket, node| {
            let mut row = BucketRow::fresh(bucket);
            row.claim((node, 1), &ClaimBucket { bucket, term: 0 }).unwrap();
            row
        };
        let rows = [owned(one, 2), owned(other, 2)];
        let routes = Routes::guess(1, &rows, |bucket| bucket == other, Some(&ring));
        assert_eq!((routes.of(7), routes.of(8)), (Some(2), Some(1)));
        let free = Bucket::all().map(Bucket::get).find(|b| *b != one && *b != other).unwrap();
        let user = (1u64..).find(|user| bucket_of(*user).get() == free).unwrap();
        assert_eq!(routes.of(user), Some(3));
        // The book's word about this node's former epoch is nobody's.
        assert_eq!(Routes::guess(2, &rows, |_| false, Some(&ring)).of(7), Some(3));
    }
}
