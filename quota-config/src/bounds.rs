//! Every bound of a campaign file in one place. They keep a mistake, or a hostile file, from costing more than
//! a refusal: all of them are far above what an evening for a billion people needs.

use campaign::curve::POINTS_MAX;
use campaign::plan::CURVE_TAIL_MS;

/// Largest campaign file, in bytes.
pub const FILE_BYTES_MAX: usize = 16 << 20;
/// Deepest nesting of lists and maps. The format itself needs 7.
pub const DEPTH_MAX: usize = 16;
/// Most keys of one map.
pub const MAP_KEYS_MAX: usize = 1_000;
/// Most errors and warnings that one compilation lists; a file with more is likely not a campaign file.
pub const PROBLEMS_MAX: usize = 200;
/// Longest name, in characters.
pub const NAME_CHARS_MAX: usize = 100;
/// Most rounds of a campaign, repetitions counted out.
pub const ROUNDS_MAX: usize = 10_000;
/// Most prizes of all rounds together. A plan of this size takes some 60 MB.
pub const PRIZES_TOTAL_MAX: usize = 200_000;
/// Most tranches of a prize.
pub const TRANCHES_MAX: usize = 64;
/// Most vendors of a campaign.
pub const VENDORS_MAX: usize = 1_000;
/// Most districts and ranges of districts in all regions of a campaign together.
pub const REGION_RANGES_MAX: usize = 1_000;
/// From how many winners on that a prize needs from each district of its regions it is worth a warning.
pub const DISTRICT_WINNERS: u64 = 1_000;
/// Most units of a tranche. All tranches of a prize stay far within a `u64`.
pub const UNITS_MAX: u64 = 1_000_000_000_000;
/// Shortest round: below it hardly anything is left before the tail in which nothing new is released.
pub const ROUND_MS_MIN: u64 = 5_000;
/// Longest duration that a file may name (ten years), so that sums of times stay within range.
pub const DURATION_MS_MAX: u64 = 3_653 * 86_400_000;
/// Most local days that a campaign may span.
pub const DAYS_MAX: usize = 1_100;
/// Longest least interval between entries, and longest submit interval.
pub const INTERVAL_MS_MAX: u64 = 3_600_000;
/// Highest speed that may be named, units a second.
pub const SPEED_MAX: u64 = 1_000_000_000;
/// Catch-up speed where the file names none, in percent of the curve's mean speed.
pub const CATCH_UP_PERCENT_DEFAULT: u32 = 200;
/// Hours of the day in which a round looks like a slip: from one to six in the morning.
pub const SMALL_HOURS: std::ops::Range<i8> = 1..6;
/// From how long on a vendor's catching up after a round is worth a warning.
pub const CATCH_UP_LONG_MS: u64 = 3_600_000;
/// Versions of one campaign that a history returns at once.
pub const HISTORY_MAX: usize = 10_000;
/// Longest author, and longest reason, of a version, in bytes.
pub const REASON_BYTES_MAX: usize = 2_000;
/// Most adjustments of one version: far more than people make by hand in an evening, few enough to look at.
pub const ADJUSTMENTS_MAX: usize = 2_000;
/// Most people who approve one change.
pub const APPROVALS_MAX: usize = 16;
/// Lines that a version keeps of its summary, and bytes of each.
pub const SUMMARY_LINES_MAX: usize = 20;
/// Longest line of a stored summary, in bytes.
pub const SUMMARY_LINE_BYTES_MAX: usize = 500;
/// Most proposals of a campaign that wait at once: each may hold a whole file.
pub const PROPOSALS_WAITING_MAX: usize = 100;
/// Largest detail of an audit row, in bytes.
pub const AUDIT_DETAIL_BYTES_MAX: usize = 64 << 10;
/// Audit rows, versions and proposals that are read at once.
pub const PAGE_MAX: usize = 1_000;
/// Most answers that are remembered under idempotency keys.
pub const REMEMBERED_MAX: usize = 10_000;
/// How long they are.
pub const REMEMBERED_MS: u64 = 24 * 3_600_000;
/// Longest idempotency key.
pub const REMEMBERED_KEY_BYTES_MAX: usize = 400;
/// Largest answer that is remembered.
pub const REMEMBERED_BODY_BYTES_MAX: usize = 1 << 20;
/// Campaigns of which a node says what it runs.
pub const REPORT_PLANS_MAX: usize = 1_000;
/// Longest text in which it says why it does not run a version, in characters.
pub const REPORT_CHARS_MAX: usize = 2_000;
/// Most nodes that a grey release names.
pub const ROLLOUT_NODES_MAX: usize = 4_096;

const _: () = assert!(ROUND_MS_MIN > CURVE_TAIL_MS);
const _: () = assert!((UNITS_MAX as u128) * (TRANCHES_MAX as u128) < u64::MAX as u128);
const _: () = assert!(POINTS_MAX <= 4_096);
