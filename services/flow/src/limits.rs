//! All bounds of flow, each with its reason.

/// Records of the lane taken in one transaction: large, because a transaction costs a sync whatever is in it.
pub const LANE_RECORDS_MAX: usize = 4_000;
/// Bytes of the lane taken in one transaction.
pub const LANE_BYTES_MAX: usize = 1 << 20;
/// Events of the journal taken in one transaction.
pub const EVENT_RECORDS_MAX: usize = 4_000;
/// Bytes of the journal taken in one transaction.
pub const EVENT_BYTES_MAX: usize = 1 << 20;
/// Bytes of orders put into one `produce`; half of what the queue takes, so that prefixes never matter.
pub const ORDER_BYTES_MAX: usize = 512 << 10;
/// Awards whose users are not in the table yet and are found through memory (some 100 bytes each). A full tail makes
/// `apply` move a part of it first.
pub const TAIL_ROWS_MAX: usize = 1_000_000;
/// Awards whose users are put into the table in one transaction: large and sorted, so that a page is dirtied for
/// several rows, but short enough not to hold up the next `apply` for long.
pub const INDEX_ROWS_MAX: usize = 50_000;
/// The table of users is filled when so many awards wait for it, or when there is nothing else to do.
pub const INDEX_ROWS_MIN: usize = 20_000;
/// Awards that one answer to 'my prizes' may have.
pub const AWARDS_OF_MAX: usize = 200;
/// Rows that one call of a scan may ask for.
pub const SCAN_ROWS_MAX: usize = 10_000;
/// Different lines of statistics; what a district would add above is counted under district 0.
pub const STATISTICS_MAX: usize = 200_000;
/// Orders repeated in one round.
pub const REPEAT_ORDERS_MAX: usize = 2_000;
/// Claims remembered, so that a burst of them makes one order.
pub const CLAIMS_MAX: usize = 65_536;
/// How long a claim is remembered.
pub const CLAIM_MEMORY_MS: u64 = 10_000;

const _: () = assert!(INDEX_ROWS_MIN <= INDEX_ROWS_MAX && INDEX_ROWS_MAX < TAIL_ROWS_MAX);
const _: () = assert!(LANE_RECORDS_MAX < TAIL_ROWS_MAX);
const _: () = assert!(ORDER_BYTES_MAX < queue::embedded::GROUP_BYTES_MAX);
