//! Unread messages, by one rule for every size of conversation: what was counted behind the read position, less one's
//! own, less what one deleted.
//!
//! Every number in it is either a position or a count that never changes once it is known, so resending, recalling and
//! deleting can't make it drift, and counting the messages anew gives the same. Small conversations are added up in
//! their members' totals as they change; large ones are added when a total is read.

use super::conversation::Member;

/// Messages of a conversation, as far as counting them goes.
#[derive(Clone, Copy, Debug)]
pub struct Counted<'a> {
    /// The last message.
    pub last_seq: u64,
    /// Seqs that don't count, rising.
    pub uncounted: &'a [u64],
    /// For each of those the sender of a recalled message, or 0.
    pub recalled_of: &'a [u64],
}

impl Counted<'_> {
    /// Counted messages up to a seq.
    fn up_to(&self, seq: u64) -> u64 {
        seq - self.uncounted.partition_point(|s| *s <= seq) as u64
    }

    /// Unread messages of a member who has sent `own` counted messages in all, recalled ones too.
    pub fn unread(&self, member: &Member, own: u64) -> u64 {
        let base = member.read_seq;
        if base >= self.last_seq {
            return 0;
        }
        let counted = self.up_to(self.last_seq) - self.up_to(base);
        let behind = self.uncounted.partition_point(|s| *s <= base);
        let own_recalled = self.recalled_of[behind..].iter().filter(|s| **s == member.user).count() as u64;
        let own_behind = own.saturating_sub(member.own_at_read).saturating_sub(own_recalled);
        let deleted = member.deleted[member.deleted.partition_point(|d| d >> 1 <= base)..]
            .iter()
            .filter(|d| **d & 1 == 1 && self.uncounted.binary_search(&(**d >> 1)).is_err())
            .count() as u64;
        counted.saturating_sub(own_behind).saturating_sub(deleted)
    }
}
