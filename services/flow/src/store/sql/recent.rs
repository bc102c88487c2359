//! The newest awards with their delivery's progress, in memory.
//!
//! Delivery tells of an award's first steps within seconds of its win; what is known of it is then here and need not be
//! read from the table. An award that is not here is read there: nothing but time depends on what is kept.

use std::collections::{HashMap, VecDeque};

use campaign::AwardId;

use crate::core::{AwardRecord, Progress};
use crate::limits::RECENT_AWARDS_MAX;

/// At most [`RECENT_AWARDS_MAX`] awards, each with its number in the table.
#[derive(Default)]
pub(super) struct Recent {
    awards: HashMap<AwardId, (i64, AwardRecord)>,
    order: VecDeque<AwardId>,
}

impl Recent {
    /// Takes in an award that was stored just now; the oldest one goes.
    pub fn push(&mut self, seq: i64, record: AwardRecord) {
        let id = record.row.won.award;
        if self.awards.insert(id, (seq, record)).is_none() {
            self.order.push_back(id);
        }
        if self.order.len() > RECENT_AWARDS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.awards.remove(&oldest);
        }
    }

    /// An award as it is stored, if it is here.
    pub fn get(&self, id: AwardId) -> Option<&(i64, AwardRecord)> {
        self.awards.get(&id)
    }

    /// Takes in progress that was stored just now.
    pub fn went_on(&mut self, id: AwardId, progress: Progress) {
        if let Some((_, record)) = self.awards.get_mut(&id) {
            record.progress = Some(progress);
        }
    }
}
