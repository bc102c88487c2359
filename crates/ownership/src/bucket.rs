//! Owners of user buckets: one row a bucket, and a term that rises with each change of hands.
//!
//! Only the owner draws for a bucket's users. It changes hands when the owner has sealed it and left the lane
//! position behind its last win, or when the owner's epoch was ended and the mark's position is known. Seal and
//! claim name the term they saw and do nothing under any other, so an old copy of a call can't move a bucket.

/// The end of a part of a node's lane: the groups below `position`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct LaneEnd {
    /// The node whose lane it is.
    pub lane: u16,
    /// First group that is not part of it.
    pub position: u64,
}

/// A bucket's row. A bucket without a row is as [`BucketRow::fresh`] says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BucketRow {
    /// The bucket.
    pub bucket: u16,
    /// Node and epoch that own it, or owned it last; `None`: nobody ever did.
    pub owner: Option<(u16, u32)>,
    /// Rises with each claim; 0 before the first.
    pub term: u32,
    /// Set when the owner gave it up: where its wins end. The bucket is free then.
    pub released: Option<LaneEnd>,
    /// What the award store must have passed before the owner draws; rising by lane, each at most once.
    pub wait_for: Vec<LaneEnd>,
}

/// A node gives a bucket up: every win of the bucket stands in its lane below `position`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SealBucket {
    /// The bucket.
    pub bucket: u16,
    /// The term under which the node owns it.
    pub term: u32,
    /// End of the part of the node's own lane that has every win of the bucket.
    pub position: u64,
}

/// A node asks for a free bucket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClaimBucket {
    /// The bucket.
    pub bucket: u16,
    /// The term the node has seen in the row; 0 where there is none yet.
    pub term: u32,
}

/// A bucket that the caller owns now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Claimed {
    /// The bucket.
    pub bucket: u16,
    /// The caller's term.
    pub term: u32,
    /// What the award store must have passed before the caller draws for the bucket.
    pub wait_for: Vec<LaneEnd>,
}

/// A bucket that was not given, and what stands in its row instead.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClaimRefused {
    /// The bucket.
    pub bucket: u16,
    /// The row's term.
    pub term: u32,
    /// The row's owner.
    pub owner: Option<(u16, u32)>,
    /// It may be claimed under the term named here.
    pub free: bool,
}

impl BucketRow {
    /// A bucket that nobody has owned yet.
    pub fn fresh(bucket: u16) -> BucketRow {
        BucketRow { bucket, owner: None, term: 0, released: None, wait_for: Vec::new() }
    }

    /// May it be claimed?
    pub fn is_free(&self) -> bool {
        self.owner.is_none() || self.released.is_some()
    }

    /// Gives the bucket up. `true` if the caller's term has been sealed, now or before; the first position
    /// stays. `false` if the row is under another term or owner: the caller is not the owner then either.
    pub fn seal(&mut self, owner: (u16, u32), ask: &SealBucket) -> bool {
        if self.owner != Some(owner) || self.term != ask.term {
            return false;
        }
        self.released.get_or_insert(LaneEnd { lane: owner.0, position: ask.position });
        true
    }

    /// Makes the caller the owner under the next term. What the predecessor left joins what already stands in
    /// `wait_for`. A repeated call gets the same answer, as long as the caller is still the owner.
    ///
    /// # Errors
    /// When the bucket is not free, or not under the term that the call names.
    pub fn claim(&mut self, by: (u16, u32), ask: &ClaimBucket) -> Result<Claimed, ClaimRefused> {
        let repeated =
            self.owner == Some(by) && self.released.is_none() && self.term.checked_sub(1) == Some(ask.term);
        if !repeated {
            let Some(next) = self.term.checked_add(1).filter(|_| self.is_free() && self.term == ask.term)
            else {
                let (bucket, term, owner, free) = (self.bucket, self.term, self.owner, self.is_free());
                return Err(ClaimRefused { bucket, term, owner, free });
            };
            if let Some(left) = self.released.take() {
                self.wait(left);
            }
            (self.owner, self.term) = (Some(by), next);
        }
        Ok(Claimed { bucket: self.bucket, term: self.term, wait_for: self.wait_for.clone() })
    }

    /// Frees the bucket of an ended epoch: `node` had it under `epoch` or an earlier one, and everything of these
    /// epochs that counts stands in the lane below `position`.
    pub fn release_ended(&mut self, node: u16, epoch: u32, position: u64) {
        if self.owner.is_some_and(|(n, e)| n == node && e <= epoch) {
            self.released.get_or_insert(LaneEnd { lane: node, position });
        }
    }

    fn wait(&mut self, left: LaneEnd) {
        match self.wait_for.binary_search_by_key(&left.lane, |w| w.lane) {
            Ok(i) => self.wait_for[i].position = self.wait_for[i].position.max(left.position),
            Err(i) => self.wait_for.insert(i, left),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: (u16, u32) = (1, 1);
    const B: (u16, u32) = (2, 1);

    fn claim(term: u32) -> ClaimBucket {
        ClaimBucket { bucket: 9, term }
    }
    fn seal(term: u32, position: u64) -> SealBucket {
        SealBucket { bucket: 9, term, position }
    }

    #[test]
    fn hands_over_with_every_position() {
        let mut row = BucketRow::fresh(9);
        assert_eq!(row.claim(A, &claim(0)).unwrap().term, 1);
        assert_eq!(row.claim(A, &claim(0)).unwrap().term, 1, "a repeated call");
        assert!(!row.claim(B, &claim(1)).unwrap_err().free);
        assert!(row.seal(A, &seal(1, 40)));
        assert!(row.seal(A, &seal(1, 99)), "a repeated seal");
        assert!(row.claim(A, &claim(0)).is_err(), "an old copy of the claim");
        let got = row.claim(B, &claim(1)).unwrap();
        assert_eq!((got.term, got.wait_for), (2, vec![LaneEnd { lane: 1, position: 40 }]));
        assert!(!row.seal(A, &seal(1, 40)), "an old copy of the seal");
        assert!(row.seal(B, &seal(2, 7)));
        assert_eq!(row.claim((1, 2), &claim(2)).unwrap().wait_for.len(), 2);
    }

    #[test]
    fn a_seal_of_an_older_term_of_the_same_owner_does_nothing() {
        let mut row = BucketRow::fresh(9);
        row.claim(A, &claim(0)).unwrap();
        assert!(row.seal(A, &seal(1, 10)));
        assert_eq!(row.claim(A, &claim(1)).unwrap().term, 2);
        assert!(!row.seal(A, &seal(1, 10)));
        assert!(!row.is_free());
    }

    #[test]
    fn an_ended_epoch_frees_its_buckets_once() {
        let mut row = BucketRow::fresh(9);
        row.release_ended(1, 1, 5);
        assert_eq!(row, BucketRow::fresh(9));
        row.claim(A, &claim(0)).unwrap();
        row.release_ended(1, 1, 5);
        row.release_ended(1, 2, 8);
        assert_eq!(row.released, Some(LaneEnd { lane: 1, position: 5 }));
        row.claim((1, 3), &claim(1)).unwrap();
        row.release_ended(1, 2, 8);
        assert!(!row.is_free(), "a later epoch of the node is not concerned");
    }
}
