//! What flow decides, free of I/O and time.

mod award;
mod collector;
mod lane;
mod plan_view;
mod repeat;
mod statistics;
mod view;

pub use award::{Alarm, AlarmKind, AwardRecord, AwardRow, Doubt, Progress, on_the_way};
pub use collector::{CollectError, Collector, LaneBatch, LaneGroup};
pub use lane::{LaneState, Mark};
pub use plan_view::{PlanAnswer, PlanSet, PlanView, PrizeFacts};
pub use repeat::{RepeatConfig, RepeatSchedule, Round};
pub use statistics::{StatBook, StatDelta, StatKey, StatValue};
pub use view::{EtaLimits, award_view, public_state};
