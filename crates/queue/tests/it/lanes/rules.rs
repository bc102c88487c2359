//! Each rule of acceptance, by itself.

use super::{Log, ended};
use bytes::Bytes;
use queue::Position;
use queue::lanes::{LaneFault, LaneState, Skip, Verdict, foreign_mark};

const NODE: u16 = 7;

/// Judges messages in order: the position of each that counts, or why it doesn't.
fn judge(state: &mut LaneState, messages: &[Bytes]) -> Vec<Result<u64, Skip>> {
    let verdict = |m: &Bytes| match state.accept(NODE, m).unwrap() {
        Verdict::Accepted(place) => Ok(place.position.0),
        Verdict::Skipped(skip) => Err(skip),
    };
    messages.iter().map(verdict).collect()
}

fn fault(state: &LaneState, message: &[u8]) -> LaneFault {
    let mut copy = *state;
    let fault = copy.accept(NODE, message).unwrap_err();
    assert_eq!(copy, *state, "a fault changes nothing");
    fault
}

fn mark(epoch: u32) -> Bytes {
    Bytes::from(foreign_mark(NODE, epoch, &ended(NODE, epoch), 5).unwrap())
}

#[test]
fn groups_that_follow_on_are_accepted_and_again_skipped() {
    let mut state = LaneState::ORIGIN;
    let groups = Log::new(NODE, 1).groups(3);
    assert_eq!(judge(&mut state, &groups), [Ok(0), Ok(1), Ok(2)]);
    assert_eq!(judge(&mut state, &groups[1..]), [Err(Skip::Twice), Err(Skip::Twice)]);
    assert_eq!((state.next, state.epoch, state.epoch_seq, state.ended_up_to), (Position(3), 1, 3, 0));
}

#[test]
fn a_mark_takes_the_next_position_and_ends_its_epoch() {
    let mut state = LaneState::ORIGIN;
    let mut log = Log::new(NODE, 1);
    let groups = log.groups(4);
    assert_eq!(judge(&mut state, &groups[..2]), [Ok(0), Ok(1)]);
    assert_eq!(judge(&mut state, &[mark(1), mark(1)]), [Ok(2), Err(Skip::MarkTwice)]);
    assert_eq!(judge(&mut state, &groups[2..]), [Err(Skip::Ended), Err(Skip::Ended)]);
    // Its log went on to 4 without the lane, so the next epoch leaves 3 out.
    log.begin(2);
    assert_eq!(judge(&mut state, &log.groups(2)), [Ok(4), Ok(5)]);
    assert_eq!(judge(&mut state, &[mark(1)]), [Err(Skip::MarkTwice)]);
    assert_eq!(judge(&mut state, &[mark(2), mark(3)]), [Ok(6), Ok(7)]);
}

#[test]
fn a_mark_may_come_before_any_group() {
    let mut state = LaneState::ORIGIN;
    let mut log = Log::new(NODE, 1);
    let lost = log.groups(3);
    assert_eq!(judge(&mut state, &[mark(1)]), [Ok(0)]);
    assert_eq!(judge(&mut state, &lost), [Err(Skip::Ended); 3]);
    log.begin(2);
    assert_eq!(judge(&mut state, &log.groups(1)), [Ok(3)]);
}

#[test]
fn a_node_that_ended_its_epoch_itself_needs_no_mark() {
    let mut state = LaneState::ORIGIN;
    let mut log = Log::new(NODE, 4);
    let mut groups = log.groups(2);
    groups.push(log.group(&[b"x", &ended(NODE, 4)]));
    groups.push(log.group(&[&ended(NODE, 4)]));
    assert_eq!(judge(&mut state, &groups), [Ok(0), Ok(1), Ok(2), Err(Skip::Ended)]);
    // A mark that comes late takes no position away.
    assert_eq!(judge(&mut state, &[mark(4)]), [Err(Skip::MarkTwice)]);
    log.begin(5);
    assert_eq!(judge(&mut state, &log.groups(1)), [Ok(4)]);
    assert_eq!(judge(&mut state, &[mark(4), mark(3)]), [Err(Skip::MarkTwice); 2]);
}

#[test]
fn a_higher_epoch_ends_the_lower_ones() {
    let mut state = LaneState::ORIGIN;
    let mut log = Log::new(NODE, 1);
    let first = log.groups(2);
    let mut old = log.clone();
    log.begin(3);
    assert_eq!(judge(&mut state, &first), [Ok(0), Ok(1)]);
    assert_eq!(judge(&mut state, &log.groups(1)), [Ok(2)]);
    assert_eq!(judge(&mut state, &old.groups(3)), [Err(Skip::Ended); 3]);
    assert_eq!(judge(&mut state, &[mark(2)]), [Err(Skip::MarkTwice)]);
}

#[test]
fn what_no_rule_allows_is_a_fault_that_names_the_place() {
    let mut log = Log::new(NODE, 1);
    let groups = log.groups(3);
    let origin = LaneState::ORIGIN;
    let said = fault(&origin, &groups[1]).to_string();
    assert!(
        said.contains("lane of node 7, group 0 of epoch 0: epoch 1 begins with its group number 1"),
        "{said}"
    );
    let mut state = origin;
    judge(&mut state, &groups[..1]);
    let said = fault(&state, &groups[2]).why;
    assert!(said.contains("group 2, number 2 of its epoch, comes where group 1, number 1 must"), "{said}");
    // The same place, another history.
    let mut other = Log { hash: [9; 32], next: 1, seq: 1, ..Log::new(NODE, 1) };
    assert!(fault(&state, &other.group(&[b"x"])).why.contains("hash chain"));
    // A jump without an end; one to the front; a chain that begins in the middle of nowhere.
    let mut next = Log { next: 2, ..Log::new(NODE, 2) };
    assert!(fault(&state, &next.group(&[b"x"])).why.contains("epoch 1 has not ended: groups are missing"));
    assert!(fault(&state, &next.group(&[b"x"])).why.contains("begins with its group number 1"));
    let mut back = Log { next: 0, ..Log::new(NODE, 2) };
    assert!(fault(&state, &back.group(&[b"x"])).why.contains("begins at group 0, but 1 comes next"));
    let mut foreign = Log { hash: [1; 32], next: 1, ..Log::new(NODE, 2) };
    assert!(fault(&state, &foreign.group(&[b"x"])).why.contains("does not begin with the hash"));
    let mut jump = Log { next: 1, ..Log::new(NODE, 2) };
    assert!(
        fault(&origin, &jump.group(&[b"x"])).why.contains("groups are missing"),
        "nothing before the first"
    );
}

#[test]
fn what_is_no_group_of_the_lane_is_a_fault() {
    let origin = LaneState::ORIGIN;
    let good = Log::new(NODE, 1).groups(1).remove(0);
    assert!(fault(&origin, b"x").why.contains("no whole group"));
    assert!(fault(&origin, &good[..good.len() - 1]).why.contains("bytes and its group"));
    let mut damaged = good.to_vec();
    *damaged.last_mut().unwrap() ^= 1;
    assert!(fault(&origin, &damaged).why.contains("CRC of the group's body"));
    assert!(fault(&origin, &Log::new(8, 1).groups(1)[0]).why.contains("node 7 belongs here"));
    assert!(fault(&origin, &Log::new(NODE, 0).groups(1)[0]).why.contains("epoch 0"));
    for (node, epoch) in [(8, 1), (NODE, 2)] {
        let wrong = Log::new(NODE, 1).group(&[&ended(node, epoch)]);
        assert!(fault(&origin, &wrong).why.contains("a record Ended of node"));
    }
    // A mark with something else in it.
    let mut header = flowlog::format::GroupHeader::decode(&mark(1)).unwrap();
    header.epoch = 2;
    let mut wrong = header.encode().to_vec();
    wrong.extend_from_slice(&mark(1)[88..]);
    assert!(fault(&origin, &wrong).why.contains("an end mark of epoch 2 must"));
}

#[test]
fn a_state_is_kept_as_text() {
    let mut state = LaneState::ORIGIN;
    assert_eq!(LaneState::from_text(&state.to_text()), Some(state));
    judge(&mut state, &Log::new(NODE, 1).groups(2));
    judge(&mut state, &[mark(1)]);
    let text = state.to_text();
    assert_eq!(LaneState::from_text(&text), Some(state));
    for wrong in ["", "1,2", &text[1..text.len() - 2], &format!("{text},1"), &text.replace(',', ";")] {
        assert_eq!(LaneState::from_text(wrong).filter(|s| *s == state), None, "{wrong}");
    }
}
