//! From a bucket to a node.

use std::collections::HashMap;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::{BUCKET_COUNT, Bucket};

/// Virtual nodes for each unit of weight. With 128 the share of a node of weight 1 lies within about a tenth of what is
/// fair before the bound is applied.
pub const POINTS_PER_WEIGHT: u32 = 128;

/// The sum of all weights may not be higher: it bounds the ring's memory while it is built (2^21 points).
pub const TOTAL_WEIGHT_MAX: u64 = 16_384;

// Different seeds, so that a point, a bucket and the order of overflow never share a hash by construction.
const SEED_POINT: u64 = 0x706f_696e_7400_0001;
const SEED_BUCKET: u64 = 0x6275_636b_6574_0001;
const SEED_ORDER: u64 = 0x6f72_6465_7200_0001;

/// A node that may serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Member {
    /// Its number.
    pub node: u16,
    /// Its share: 1 for a usual machine, 2 for one twice as strong; 0 while it is drained.
    pub weight: u32,
}

/// Why there can't be a ring of these members.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RingError {
    /// Nobody is there to take the buckets.
    #[error("no member has a weight above 0, so no node could take a bucket; at least one must")]
    NoMembers,
    /// A node is listed twice.
    #[error("node {0} is listed twice; each node once")]
    Twice(u16),
    /// The weights are too large.
    #[error(
        "the weights sum up to {0}, the highest sum is {TOTAL_WEIGHT_MAX}; divide all by the same number"
    )]
    TooHeavy(u64),
}

/// A bucket that changed hands between two rings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Move {
    /// Which bucket.
    pub bucket: Bucket,
    /// Its node before.
    pub from: u16,
    /// Its node after.
    pub to: u16,
}

/// The node of each bucket under one version of the member list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ring {
    epoch: u64,
    owners: Box<[u16; BUCKET_COUNT]>,
}

impl Ring {
    /// The ring of these members, in whatever order they come. `epoch` is the version of the member list.
    ///
    /// # Errors
    /// When no member has a weight, a node is listed twice, or the weights are too large.
    pub fn new(members: &[Member], epoch: u64) -> Result<Self, RingError> {
        let nodes = checked(members)?;
        let circle = Circle::new(&nodes);
        let room = Bounds::new(&nodes);
        Ok(Self { epoch, owners: assign(&circle, room) })
    }

    /// The version of the member list that it was made from.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The node of a bucket.
    pub fn owner(&self, bucket: Bucket) -> u16 {
        self.owners[bucket.index()]
    }

    /// The buckets of a node, ascending; none if it isn't a member or is drained.
    pub fn buckets_of(&self, node: u16) -> impl Iterator<Item = Bucket> + '_ {
        Bucket::all().filter(move |bucket| self.owner(*bucket) == node)
    }
}

/// What changes hands on the way from one ring to another, ascending by bucket.
pub fn diff(old: &Ring, new: &Ring) -> Vec<Move> {
    Bucket::all()
        .map(|bucket| Move { bucket, from: old.owner(bucket), to: new.owner(bucket) })
        .filter(|moved| moved.from != moved.to)
        .collect()
}

/// Members with a weight, ascending by node, so that the order they came in can't matter.
fn checked(members: &[Member]) -> Result<Vec<Member>, RingError> {
    let mut nodes = members.to_vec();
    nodes.sort_unstable();
    if let Some(pair) = nodes.windows(2).find(|pair| pair[0].node == pair[1].node) {
        return Err(RingError::Twice(pair[0].node));
    }
    nodes.retain(|member| member.weight > 0);
    let total: u64 = nodes.iter().map(|member| u64::from(member.weight)).sum();
    match total {
        0 => Err(RingError::NoMembers),
        total if total > TOTAL_WEIGHT_MAX => Err(RingError::TooHeavy(total)),
        _ => Ok(nodes),
    }
}

/// All virtual nodes in the order of their place. The number of a node's points depends on its own weight
/// alone, so another's coming or going moves none of them.
struct Circle {
    points: Vec<(u64, u16)>,
}

impl Circle {
    fn new(nodes: &[Member]) -> Self {
        let mut points = Vec::new();
        for member in nodes {
            points.extend((0..member.weight * POINTS_PER_WEIGHT).map(|index| {
                let mut name = [0; 6];
                name[..2].copy_from_slice(&member.node.to_le_bytes());
                name[2..].copy_from_slice(&index.to_le_bytes());
                (xxh3_64_with_seed(&name, SEED_POINT), member.node)
            }));
        }
        // Points at the same place are ordered by node, which is as good as any order that is the same everywhere.
        points.sort_unstable();
        Self { points }
    }

    /// Nodes in the order in which a bucket meets their points, each as often as it has points; ends after one round.
    fn clockwise_of(&self, bucket: Bucket) -> impl Iterator<Item = u16> + '_ {
        let place = xxh3_64_with_seed(&bucket.get().to_le_bytes(), SEED_BUCKET);
        let first = self.points.partition_point(|(at, _)| *at < place);
        self.points[first..].iter().chain(&self.points[..first]).map(|(_, node)| *node)
    }
}

/// How many more buckets each node may take.
struct Bounds {
    room: HashMap<u16, u64>,
}

impl Bounds {
    fn new(nodes: &[Member]) -> Self {
        let total: u64 = nodes.iter().map(|member| u64::from(member.weight)).sum();
        // ceil(5/4 x 4096 x weight / total)
        let bound = |weight: u32| (BUCKET_COUNT as u64 * 5 * u64::from(weight)).div_ceil(4 * total);
        Self { room: nodes.iter().map(|member| (member.node, bound(member.weight))).collect() }
    }

    fn take(&mut self, node: u16) -> bool {
        match self.room.get_mut(&node) {
            Some(left) if *left > 0 => {
                *left -= 1;
                true
            }
            _ => false,
        }
    }
}

fn assign(circle: &Circle, mut room: Bounds) -> Box<[u16; BUCKET_COUNT]> {
    let mut order: Vec<Bucket> = Bucket::all().collect();
    order.sort_unstable_by_key(|bucket| {
        (xxh3_64_with_seed(&bucket.get().to_le_bytes(), SEED_ORDER), bucket.get())
    });
    let mut owners = Box::new([0; BUCKET_COUNT]);
    let mut overflow = Vec::new();
    for bucket in order {
        match circle.clockwise_of(bucket).next().filter(|node| room.take(*node)) {
            Some(node) => owners[bucket.index()] = node,
            None => overflow.push(bucket),
        }
    }
    for bucket in overflow {
        // The bounds sum up to at least 5/4 of all buckets and every node has a point, so one with room is met.
        if let Some(node) = circle.clockwise_of(bucket).find(|node| room.take(*node)) {
            owners[bucket.index()] = node;
        }
    }
    owners
}
