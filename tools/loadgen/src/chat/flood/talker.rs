//! One user's side of his conversation.

use std::collections::VecDeque;

/// One user's side of his conversation.
pub(super) struct Talker {
    pub conversation: u64,
    pub counter: u64,
    /// Unanswered: counter and intended instant (us), in order.
    pub open: VecDeque<(u64, u64)>,
    /// When what is open goes out again; 0: it need not.
    pub again_us: u64,
    /// Seqs: before the flood, the last one pushed, pushed ones, own ones.
    pub base: u64,
    pub last: u64,
    pub got: u64,
    pub own: u64,
    pub own_last: u64,
    pub cursor: u64,
    pub confirmed: u64,
    pub confirm_us: u64,
    /// Of a large conversation: accounted for up to here, what its heads left out, and whether the first of that is asked for.
    pub reached: u64,
    pub gaps: VecDeque<(u64, u64)>,
    pub pulling: bool,
}

impl Talker {
    pub fn new() -> Self {
        Self {
            conversation: 0,
            counter: 0,
            open: VecDeque::new(),
            again_us: 0,
            base: 0,
            last: 0,
            got: 0,
            own: 0,
            own_last: 0,
            cursor: 0,
            confirmed: 0,
            confirm_us: 0,
            reached: 0,
            gaps: VecDeque::new(),
            pulling: false,
        }
    }

    /// A message was pushed or pulled; `false`: a second time.
    #[inline]
    pub fn take(&mut self, seq: u64) -> bool {
        if seq <= self.last {
            return false;
        }
        (self.last, self.got) = (seq, self.got + 1);
        true
    }
}
