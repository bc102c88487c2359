//! A partition in the hands of a member: what has come, what was delivered, what is committed. No I/O.

use std::collections::VecDeque;

use super::checkpoints::{Checkpoint, Checkpoints};
use super::lookup::Committed;
use super::message;
use crate::lanes::{LaneState, Verdict, group_of};
use crate::{Group, Position};

/// Groups of a lane that may be delivered and not committed; behind that a member must commit.
const UNCOMMITTED_MAX: usize = 1 << 16;

/// A partition of a member.
pub(crate) struct Part {
    node: u16,
    is_lane: bool,
    /// Behind the last message that was taken. In a lane with its state; `None` before the first.
    tail: Option<Checkpoint>,
    committed: Option<Checkpoint>,
    /// To be committed with the next that are.
    wanted: Option<Checkpoint>,
    checkpoints: Checkpoints,
    ahead: VecDeque<(Group, Checkpoint)>,
    /// Bytes of the groups in `ahead`.
    pub bytes: usize,
    /// The place behind each group that was delivered and is not committed.
    delivered: VecDeque<(Position, Checkpoint)>,
    /// Messages below it were committed before they came.
    skip_below: i64,
    fault: Option<(Position, String)>,
    /// Is to go back to what is committed; until then nothing counts that comes.
    pub is_rewinding: bool,
    /// The client was told to fetch nothing.
    pub is_paused: bool,
}

/// What to do with a message that came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Came {
    /// It is there to be delivered.
    Ready,
    /// It is nothing, or not for now.
    Ignored,
    /// Messages before it are missing, from this offset on.
    Behind(i64),
}

/// What is to be committed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Point {
    /// Nothing: it is committed already.
    Done,
    /// This offset.
    At(Checkpoint),
    /// This offset, if the partition reaches it.
    AtMost(Checkpoint),
    /// It lies behind what was delivered.
    Ahead(Position),
    /// Too much was delivered since it.
    TooLate,
}

fn checkpoint(offset: i64, state: LaneState) -> Checkpoint {
    Checkpoint { offset, state }
}

impl Part {
    /// A partition that was assigned, with what is committed there.
    pub fn new(node: u16, is_lane: bool, committed: Option<Committed>) -> Result<Part, String> {
        let mut part = Part {
            node,
            is_lane,
            tail: None,
            committed: None,
            wanted: None,
            checkpoints: Checkpoints::default(),
            ahead: VecDeque::new(),
            bytes: 0,
            delivered: VecDeque::new(),
            skip_below: 0,
            fault: None,
            is_rewinding: false,
            is_paused: false,
        };
        if let Some(committed) = committed {
            let mut state = LaneState::ORIGIN;
            if is_lane {
                let text = &committed.metadata;
                part.checkpoints = Checkpoints::from_text(text)
                    .filter(|c| c.newest().is_some_and(|newest| newest.offset == committed.offset))
                    .ok_or_else(|| {
                        format!(
                            "offset {} is committed with a state that can't be read: {text:?}",
                            committed.offset
                        )
                    })?;
                state = part.checkpoints.newest().map_or(state, |newest| newest.state);
            }
            part.committed = Some(checkpoint(committed.offset, state));
        }
        part.tail = part.committed;
        Ok(part)
    }

    /// The offset to read from; none: from the first message.
    pub fn resume_at(&self) -> Option<i64> {
        self.tail.map(|t| t.offset)
    }

    /// The end of what has come, or was committed.
    fn reached(&self) -> i64 {
        self.tail.map_or(0, |t| t.offset).max(self.skip_below)
    }

    /// A message has come. `is_certain`: those before it are known to be gone.
    pub fn came(&mut self, offset: i64, payload: &[u8], is_certain: bool) -> Came {
        if self.is_rewinding || self.fault.is_some() {
            return Came::Ignored;
        }
        let tail = self.tail.unwrap_or(checkpoint(offset, LaneState::ORIGIN));
        if offset < tail.offset {
            return Came::Ignored;
        }
        if offset > tail.offset && !is_certain {
            return Came::Behind(tail.offset);
        }
        let mut state = tail.state;
        let judged = if self.is_lane {
            let verdict = state.accept(self.node, payload).map_err(|fault| fault.to_string());
            verdict.map(|verdict| match verdict {
                Verdict::Accepted(place) => Some(group_of(place, payload)),
                Verdict::Skipped(_) => None,
            })
        } else {
            message::decode(Position(offset as u64), payload).map(Some)
        };
        match judged {
            Err(why) => {
                let position = if self.is_lane { tail.state.next } else { Position(offset as u64) };
                self.fault = Some((position, why));
                Came::Ready
            }
            Ok(group) => {
                let behind = checkpoint(offset + 1, state);
                self.tail = Some(behind);
                match group {
                    Some(group) if offset >= self.skip_below => {
                        self.bytes += group.bytes();
                        self.ahead.push_back((group, behind));
                        Came::Ready
                    }
                    _ => Came::Ignored,
                }
            }
        }
    }

    /// Whether a poll would bring something.
    pub fn has_any(&self) -> bool {
        !self.ahead.is_empty() || self.fault.is_some()
    }

    /// Takes what fits into the bounds; if `any`, one group fits always.
    pub fn take(
        &mut self,
        max_records: usize,
        max_bytes: usize,
        any: bool,
    ) -> Result<Vec<Group>, (Position, String)> {
        if self.ahead.is_empty()
            && let Some(fault) = &self.fault
        {
            return Err(fault.clone());
        }
        let (mut taken, mut records, mut bytes) = (Vec::new(), 0, 0);
        while let Some((group, behind)) = self.ahead.front() {
            records += group.len();
            bytes += group.bytes();
            let first = any && taken.is_empty();
            if !first && (records > max_records || bytes > max_bytes) {
                break;
            }
            if self.is_lane {
                self.delivered.push_back((group.position.next(), *behind));
                if self.delivered.len() > UNCOMMITTED_MAX {
                    self.delivered.pop_front();
                }
            }
            if let Some((group, _)) = self.ahead.pop_front() {
                self.bytes -= group.bytes();
                taken.push(group);
            }
        }
        Ok(taken)
    }

    /// What a commit of a position means.
    pub fn point(&self, position: Position) -> Point {
        if !self.is_lane {
            let at = checkpoint(position.0 as i64, LaneState::ORIGIN);
            return match self.committed {
                Some(committed) if at.offset <= committed.offset => Point::Done,
                None if at.offset == 0 => Point::Done,
                _ if at.offset <= self.reached() => Point::At(at),
                _ => Point::AtMost(at),
            };
        }
        if position <= self.committed.map_or(Position::ZERO, |c| c.state.next) {
            return Point::Done;
        }
        match self.delivered.iter().rev().find(|(behind, _)| *behind == position) {
            // What follows and counts for nothing is done too.
            Some((behind, at))
                if self.ahead.is_empty() && self.delivered.back().is_some_and(|l| l.0 == *behind) =>
            {
                Point::At(self.tail.unwrap_or(*at))
            }
            Some((_, at)) => Point::At(*at),
            None => match self.delivered.back() {
                Some((last, _)) if position < *last => Point::TooLate,
                last => Point::Ahead(
                    last.map_or(self.committed.map_or(Position::ZERO, |c| c.state.next), |l| l.0),
                ),
            },
        }
    }

    /// Messages that count for nothing stand behind what is committed, and nothing else.
    pub fn idle_point(&self) -> Option<Checkpoint> {
        let tail = self.tail.filter(|_| self.is_lane && !self.is_rewinding)?;
        let quiet = self.ahead.is_empty() && self.delivered.is_empty() && self.fault.is_none();
        (quiet && tail.offset > self.committed.map_or(0, |c| c.offset)).then_some(tail)
    }

    /// It is to be committed soon.
    pub fn want(&mut self, at: Checkpoint) {
        if self.wanted.is_none_or(|wanted| wanted.offset < at.offset) {
            self.wanted = Some(at);
        }
    }

    /// What is to be committed now: what is wanted, or messages that count for nothing.
    pub fn due(&self) -> Option<Checkpoint> {
        let done = self.committed.map_or(0, |c| c.offset);
        self.wanted.filter(|wanted| wanted.offset > done && !self.is_rewinding).or_else(|| self.idle_point())
    }

    /// What stands beside the offset when it is committed.
    pub fn metadata(&self, at: Checkpoint) -> String {
        if self.is_lane { self.checkpoints.to_text(at) } else { String::new() }
    }

    /// It is committed.
    pub fn committed(&mut self, at: Checkpoint) {
        if self.committed.is_some_and(|c| c.offset >= at.offset) {
            return;
        }
        self.committed = Some(at);
        self.wanted = self.wanted.filter(|wanted| wanted.offset > at.offset);
        if self.is_lane {
            self.checkpoints.reached(at);
        }
        while self.delivered.front().is_some_and(|(_, behind)| behind.offset <= at.offset) {
            self.delivered.pop_front();
        }
        // A commit in front of what was delivered skips.
        while self.ahead.front().is_some_and(|(_, behind)| behind.offset <= at.offset) {
            if let Some((group, _)) = self.ahead.pop_front() {
                self.bytes -= group.bytes();
            }
        }
        self.skip_below = self.skip_below.max(at.offset);
    }

    /// The offset that is committed.
    pub fn committed_offset(&self) -> Option<i64> {
        self.committed.map(|c| c.offset)
    }

    /// Forgets what was not committed. It must be read again from [`Part::resume_at`] on, and is deaf until
    /// [`Part::is_rewinding`] is taken back.
    pub fn rewind(&mut self) {
        self.ahead.clear();
        self.delivered.clear();
        self.wanted = None;
        (self.bytes, self.fault, self.is_rewinding, self.tail) = (0, None, true, self.committed);
    }
}

#[cfg(test)]
mod tests {
    use super::{Came, Part, Point};
    use crate::Position;
    use crate::kafka::lookup::Committed;
    use crate::kafka::message::encode;

    fn part(committed: Option<i64>) -> Part {
        let committed = committed.map(|offset| Committed { offset, metadata: String::new() });
        Part::new(0, false, committed).unwrap()
    }

    #[test]
    fn begins_where_it_must_and_goes_on_without_a_gap() {
        let mut new = part(None);
        assert_eq!(new.came(7, &encode(&[b"a"]), false), Came::Ready, "the first that is kept");
        assert_eq!(new.came(7, &encode(&[b"a"]), false), Came::Ignored);
        assert_eq!(new.came(9, &encode(&[b"a"]), false), Came::Behind(8));
        assert_eq!(new.came(9, &encode(&[b"a"]), true), Came::Ready);
        let mut old = part(Some(5));
        assert_eq!(old.came(4, &encode(&[b"a"]), false), Came::Ignored);
        assert_eq!(old.came(6, &encode(&[b"a"]), false), Came::Behind(5));
        assert_eq!(old.came(5, &encode(&[b"a"]), false), Came::Ready);
    }

    #[test]
    fn commits_what_was_delivered_and_skips_what_was_not() {
        let mut p = part(None);
        for offset in 0..6 {
            p.came(offset, &encode(&[b"a"]), false);
        }
        assert_eq!(p.take(2, 1000, true).unwrap().len(), 2);
        let Point::At(at) = p.point(Position(4)) else { panic!("{:?}", p.point(Position(4))) };
        p.committed(at);
        assert_eq!(p.point(Position(3)), Point::Done);
        assert!(matches!(p.point(Position(7)), Point::AtMost(_)));
        assert_eq!(p.take(9, 1000, true).unwrap()[0].position, Position(4));
        p.rewind();
        assert_eq!((p.resume_at(), p.bytes), (Some(4), 0));
        assert_eq!(p.came(4, &encode(&[b"a"]), false), Came::Ignored, "deaf until it has gone back");
        p.is_rewinding = false;
        assert_eq!(p.came(4, &encode(&[b"a"]), false), Came::Ready);
    }

    #[test]
    fn what_is_wanted_is_due_until_it_is_committed() {
        let mut p = part(None);
        for offset in 0..6 {
            p.came(offset, &encode(&[b"a"]), false);
        }
        p.take(9, 1000, true).unwrap();
        assert_eq!(p.due(), None);
        let at = |n| match p.point(Position(n)) {
            Point::At(at) => at,
            other => panic!("{other:?}"),
        };
        let (two, four) = (at(2), at(4));
        p.want(four);
        p.want(two);
        assert_eq!(p.due(), Some(four), "never back");
        p.committed(two);
        assert_eq!(p.due(), Some(four), "an answer about less");
        p.committed(four);
        assert_eq!(p.due(), None);
    }

    #[test]
    fn damage_stops_it_behind_what_was_good() {
        let mut p = part(None);
        p.came(0, &encode(&[b"a"]), false);
        assert_eq!(p.came(1, b"rubbish", false), Came::Ready);
        p.came(2, &encode(&[b"b"]), false);
        assert_eq!(p.take(9, 99, true).unwrap().len(), 1);
        assert_eq!(p.take(9, 99, true).unwrap_err().0, Position(1));
    }
}
