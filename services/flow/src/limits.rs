//! All bounds of flow, each with its reason.

/// Records of the lane taken in one transaction: large, because a transaction costs a sync whatever is in it.
pub const LANE_RECORDS_MAX: usize = 8_000;
/// Bytes of the lane taken in one transaction.
pub const LANE_BYTES_MAX: usize = 2 << 20;
/// Time between two batches of a lane that were not full, ms. A transaction of a hundred awards costs as much beside its rows
/// (the sync, the first and last page of each table, the positions, the orders' groups) as with two thousand; after a
/// rest the first award is taken at once.
pub const LANE_EVERY_MS: u64 = 200;
/// The same for the journal.
pub const EVENTS_EVERY_MS: u64 = 200;
/// Newest awards that are known without reading them: delivery tells of their first steps within seconds. About 300
/// bytes each.
pub const RECENT_AWARDS_MAX: usize = 65_536;
/// Events of the journal taken in one transaction.
pub const EVENT_RECORDS_MAX: usize = 8_000;
/// Bytes of the journal taken in one transaction.
pub const EVENT_BYTES_MAX: usize = 1 << 20;
/// Bytes of orders put into one `produce`; half of what the queue takes, so that prefixes never matter.
pub const ORDER_BYTES_MAX: usize = 512 << 10;
/// Awards whose users are not in the table yet and are found through memory (some 100 bytes each). A full tail makes
/// `apply` move a part of it first.
pub const TAIL_ROWS_MAX: usize = 1_000_000;
/// Awards whose users are put into the table in one transaction: large and sorted, so that a page is dirtied for
/// several rows, but short enough not to hold up the next `apply` for long.
pub const INDEX_ROWS_MAX: usize = 100_000;
/// The table of users is filled when so many awards wait for it, or when there is nothing else to do.
pub const INDEX_ROWS_MIN: usize = 80_000;
/// Awards that one answer to 'my prizes' may have.
pub const AWARDS_OF_MAX: usize = 200;
/// Users whose past wins one call may ask for.
pub const WINS_USERS_MAX: usize = 512;
/// Rows that one call of a scan may ask for.
pub const SCAN_ROWS_MAX: usize = 10_000;
/// Different lines of statistics; what a district would add above is counted under district 0.
pub const STATISTICS_MAX: usize = 200_000;
/// Time between two readings of statistics that other processes write too, ms.
pub const SHARED_STATISTICS_EVERY_MS: u64 = 1_000;
/// Orders repeated in one round.
pub const REPEAT_ORDERS_MAX: usize = 2_000;
/// Claims remembered, so that a burst of them makes one order.
pub const CLAIMS_MAX: usize = 65_536;
/// How long a claim is remembered.
pub const CLAIM_MEMORY_MS: u64 = 10_000;

const _: () = assert!(INDEX_ROWS_MIN <= INDEX_ROWS_MAX && INDEX_ROWS_MAX < TAIL_ROWS_MAX);
const _: () = assert!(LANE_RECORDS_MAX < TAIL_ROWS_MAX);
const _: () = assert!(ORDER_BYTES_MAX < queue::embedded::GROUP_BYTES_MAX);
