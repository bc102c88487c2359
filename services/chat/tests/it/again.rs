//! What is pushed once more: each unconfirmed entry once, when its time has come, and not what somebody has confirmed.

use crate::world::{World, into, options, to};
use chat::ChatOptions;
use chat::core::{At, Logged, Pushing, Sending, State, StoredUser};
use protocol::v1::Send;

const AGAIN_MS: u64 = 5_000;

/// Users 1 and 2, loaded; everything that is decided is durable at once.
struct Room {
    state: State,
    now_ms: u64,
    conversation: u64,
    counter: u64,
}

impl Room {
    fn new() -> Room {
        let options = ChatOptions { again_ms: AGAIN_MS, ..options() };
        let mut state = State::new(options, At::default(), 0, 0);
        state.ids.reserved(u64::MAX >> 30);
        for id in [1, 2] {
            assert!(state.install_user(StoredUser { id, ..StoredUser::default() }, 1_000_000));
        }
        state.install_pair(1, 2, None);
        let mut room = Room { state, now_ms: 1_000_000, conversation: 0, counter: 0 };
        room.arrive(1, 1);
        room
    }

    fn arrive(&mut self, user: u64, device: u64) {
        self.state.arrive(World::at(user, device), self.now_ms);
        let (_, records) = self.state.settle_user(user, self.now_ms);
        self.write(records);
    }

    /// Gives what was pushed.
    fn write(&mut self, records: Vec<Logged>) -> Vec<(u64, u64, u64)> {
        let mut out = Pushing::default();
        for logged in records {
            self.state.take(&logged, self.now_ms);
            self.state.apply(&logged, self.now_ms, &mut out).unwrap();
        }
        targets(out)
    }

    /// User 1 writes from a device; gives the message's cursor.
    fn say_from(&mut self, device: u64) -> u64 {
        self.counter += 1;
        let send = match self.conversation {
            0 => to(1, device, 2, self.counter),
            id => into(1, device, id, self.counter),
        };
        let send = Send { given_up: self.counter - 1, ..send };
        let Sending::Take(records) = self.state.decide_send(&send, &Ok(()), self.now_ms) else {
            panic!("not taken")
        };
        let Some(Logged::Message(message)) = records.last() else { panic!("no message") };
        self.conversation = message.conversation;
        self.write(records);
        self.state.cursor
    }

    fn say(&mut self) -> u64 {
        self.say_from(1)
    }

    fn confirm(&mut self, device: u64, cursor: u64) {
        self.state.confirm(World::at(2, device), cursor, self.now_ms);
    }

    /// Time passes: what goes out at its end, as (device, after, cursor) of user 2.
    fn pass(&mut self, ms: u64) -> Vec<(u64, u64, u64)> {
        self.now_ms += ms;
        let mut out = Pushing::default();
        self.state.tick(self.now_ms, &mut out);
        targets(out)
    }

    /// Time passes in small steps: everything that went out.
    fn pass_slowly(&mut self, ms: u64) -> Vec<(u64, u64, u64)> {
        (0..ms / 100).flat_map(|_| self.pass(100)).collect()
    }
}

fn targets(mut out: Pushing) -> Vec<(u64, u64, u64)> {
    let batches = out.take();
    let all = batches.into_iter().flat_map(|(_, batch)| batch.targets);
    all.filter(|t| t.user == 2).map(|t| (t.device, t.after, t.cursor)).collect()
}

#[test]
fn an_entry_goes_out_again_once_and_not_before_its_time() {
    let mut room = Room::new();
    room.arrive(2, 1);
    let before = room.state.cursor;
    let first = room.say();
    room.pass(AGAIN_MS - 100);
    // Younger than the time when the first one's comes.
    let second = room.say();
    assert_eq!(room.pass(100), [(1, before, first)], "the old one, and not the young one");
    let late: Vec<_> = room.pass_slowly(AGAIN_MS - 300);
    assert_eq!(late, [], "not before its own time");
    assert_eq!(room.pass_slowly(AGAIN_MS), [(1, first, second)], "its own time has come");
    assert_eq!(room.pass_slowly(10 * AGAIN_MS), [], "and then both are left for sync");
}

#[test]
fn a_stream_of_messages_repeats_each_of_them_once() {
    let mut room = Room::new();
    room.arrive(2, 1);
    let (mut sent, mut again) = (Vec::new(), Vec::new());
    for _ in 0..60 {
        let cursor = room.say();
        sent.push((cursor, room.now_ms));
        again.extend(room.pass(500).into_iter().map(|t| (t.2, room.now_ms)));
    }
    for _ in 0..100 {
        again.extend(room.pass(500).into_iter().map(|t| (t.2, room.now_ms)));
    }
    assert_eq!(sent.iter().map(|s| s.0).collect::<Vec<_>>(), again.iter().map(|a| a.0).collect::<Vec<_>>());
    for ((_, sent_ms), (cursor, again_ms)) in sent.iter().zip(&again) {
        let waited = again_ms - sent_ms;
        assert!(
            (AGAIN_MS..=2 * AGAIN_MS).contains(&waited),
            "entry {cursor} went out again after {waited} ms"
        );
    }
}

#[test]
fn what_was_confirmed_by_any_device_does_not_go_out_again() {
    let mut room = Room::new();
    room.arrive(2, 1);
    room.arrive(2, 2);
    let first = room.say();
    let second = room.say();
    room.pass(1_000);
    room.confirm(1, first);
    let again = room.pass_slowly(3 * AGAIN_MS);
    assert_eq!(again, [(1, first, second), (2, first, second)], "the second, to both devices");
    let third = room.say();
    room.confirm(2, third);
    assert_eq!(room.pass_slowly(3 * AGAIN_MS), []);
}

#[test]
fn who_comes_back_gets_nothing_again_of_what_was_pushed_before_he_came() {
    let mut room = Room::new();
    room.arrive(2, 1);
    room.say();
    room.pass(AGAIN_MS - 200);
    // The same device on a connection with the same number; the timer of the one before is still running.
    room.state.leave(World::at(2, 1), room.now_ms);
    room.arrive(2, 1);
    let (before, fresh) = (room.state.cursor, room.say());
    assert_eq!(room.pass_slowly(AGAIN_MS - 200), [], "neither what sync brings, nor what is young");
    assert_eq!(room.pass_slowly(AGAIN_MS), [(1, before, fresh)]);
}

#[test]
fn ones_own_messages_go_again_to_the_other_devices_only() {
    let mut room = Room::new();
    room.arrive(1, 2);
    let own = |room: &mut Room, ms: u64| {
        let mut got = Vec::new();
        for _ in 0..ms / 100 {
            room.now_ms += 100;
            let mut out = Pushing::default();
            room.state.tick(room.now_ms, &mut out);
            let all = out.take().into_iter().flat_map(|(_, batch)| batch.targets);
            got.extend(all.filter(|t| t.user == 1).map(|t| (t.device, t.cursor)));
        }
        got
    };
    let first = room.say_from(1);
    assert_eq!(own(&mut room, 4 * AGAIN_MS), [(2, first)]);
}
