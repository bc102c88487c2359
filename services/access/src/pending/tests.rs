use super::*;
use crate::desk::LoggedIn;
use crate::limits::CLIENT_FRAME_MIN;
use proptest::prelude::*;
use protocol::frame;

const USER: u64 = 7;

/// A batch of one message each, pushed to `connection` as entries of these cursors.
fn batch(connection: u64, entries: &[(u64, u64)], body: usize) -> PushBatch {
    let mut batch = PushBatch::default();
    for &(after, cursor) in entries {
        let message =
            v1::ChatMessage { conversation: 5, seq: cursor, body: vec![1; body], ..Default::default() };
        let start = batch.bytes.len() as u32;
        message.encode(&mut batch.bytes).unwrap();
        let bytes = start..batch.bytes.len() as u32;
        batch.parts.push(Part { kind: PartKind::Message { conversation: 5, seq: cursor }, bytes });
        let message = batch.parts.len() as u32 - 1;
        batch.targets.push(Target { connection, user: USER, device: 1, after, cursor, message });
    }
    batch
}

fn parcel(batch: PushBatch) -> Parcel {
    let runs = vec![Run { start: 0, count: batch.targets.len() as u32 }];
    Parcel { batch: Arc::new(batch), runs }
}

struct World {
    slots: Slots,
    pending: Pending,
    counters: Counters,
    place: u32,
    connection: u64,
}

impl World {
    fn new() -> World {
        let mut slots = Slots::default();
        let place = slots.open(1, Count::LoginLate);
        slots.logged_in(place, LoggedIn { chats: Some((USER, 1)), expires_s: u64::MAX });
        let connection = crate::slots::address(1, 0, place, slots.generation(place)).connection;
        World { slots, pending: Pending::new(), counters: Counters::default(), place, connection }
    }

    fn push(&mut self, entries: &[(u64, u64)], body: usize) {
        let batch = batch(self.connection, entries, body);
        self.pending.sort(&mut self.slots, vec![parcel(batch)], 1_000, &self.counters);
    }

    /// All frames that the connection would be sent.
    fn written(&mut self, body_max: usize) -> Vec<v1::Push> {
        let mut all = Vec::new();
        while !self.slots.of(self.place).line.is_empty() {
            let mut out = Vec::new();
            let reader = Reader { gateway: false, body_max };
            self.pending.write(&mut self.slots.of(self.place).line, reader, &mut out, &self.counters);
            let mut at = 0;
            while let Some((frame, used)) = frame::next(&out[at..], body_max + 5).unwrap() {
                assert_eq!((frame.kind, frame.id), (FrameKind::Push, 0));
                all.push(v1::Push::decode(frame.body).unwrap());
                at += used;
            }
            assert_eq!(at, out.len());
        }
        all
    }
}

#[test]
fn all_that_waits_for_a_device_is_one_frame() {
    let mut world = World::new();
    world.push(&[(3, 4), (4, 5)], 10);
    world.push(&[(5, 9)], 10);
    let pushes = world.written(60_000);
    assert_eq!(pushes.len(), 1);
    assert_eq!((pushes[0].after, pushes[0].cursor, pushes[0].user), (3, 9, 0));
    assert_eq!(
        pushes[0].entries.iter().map(|e| (e.cursor, e.seq)).collect::<Vec<_>>(),
        [(4, 4), (5, 5), (9, 9)]
    );
    assert_eq!(pushes[0].entries[0].message.as_ref().unwrap().body, [1; 10]);
    assert_eq!(world.pending.used, 0);
    assert!(world.pending.held.iter().all(|held| held.uses == 0 && held.batch.targets.is_empty()));
}

#[test]
fn a_gap_is_never_bridged() {
    let mut world = World::new();
    world.push(&[(3, 4)], 10);
    world.push(&[(6, 7)], 10);
    world.push(&[(3, 4), (4, 7)], 10);
    let seen: Vec<_> = world.written(60_000).iter().map(|p| (p.after, p.cursor, p.entries.len())).collect();
    assert_eq!(seen, [(3, 4, 1), (6, 7, 1), (3, 7, 2)]);
}

#[test]
fn what_is_larger_than_a_frame_is_named_without_its_message() {
    let mut world = World::new();
    world.push(&[(0, 1), (1, 2), (2, 3)], 700);
    world.push(&[(3, 4)], 2_000);
    let pushes = world.written(CLIENT_FRAME_MIN - 5);
    let seen: Vec<_> = pushes.iter().map(|p| (p.after, p.cursor, p.entries[0].message.is_some())).collect();
    assert_eq!(seen, [(0, 1, true), (1, 2, true), (2, 3, true), (3, 4, false)]);
}

#[test]
fn who_is_behind_hears_only_how_far_it_goes() {
    let mut world = World::new();
    world.push(&[(3, 4)], 10);
    world.slots.unsent(world.place, 1);
    world.push(&[(4, 5)], 10);
    world.push(&[(5, 6), (6, 8)], 10);
    assert_eq!(world.pending.used, 0, "nothing is kept for him");
    world.slots.unsent(world.place, 0);
    world.push(&[(8, 9)], 10);
    let seen: Vec<_> = world.written(60_000).iter().map(|p| (p.after, p.cursor, p.entries.len())).collect();
    assert_eq!(seen, [(8, 8, 0), (8, 9, 1)]);
    let many: Vec<_> = (0..u64::from(PUSH_PENDING_MAX) + 1).map(|i| (i, i + 1)).collect();
    world.push(&many, 10);
    assert_eq!(world.written(60_000).len(), 1);
    assert!(world.counters.get(Count::PushesBare) > 512);
}

#[test]
fn other_parts_and_gateways() {
    let mut world = World::new();
    world.slots.logged_in(world.place, LoggedIn { chats: Some((0, 0)), expires_s: u64::MAX });
    let mut batch = batch(world.connection, &[(1, 2)], 5);
    let head = v1::Head { conversation: 9, seq: 4, messages: vec![v1::ChatMessage::default()] };
    let read = v1::ReadAt { conversation: 9, seq: 3, unread: 1, unread_total: 2 };
    let presence = v1::PresenceOf { user: 4, online: true, seen_ms: 5 };
    let all = [
        (PartKind::Head, head.encode_to_vec()),
        (PartKind::Read, read.encode_to_vec()),
        (PartKind::Presence, presence.encode_to_vec()),
    ];
    for (kind, bytes) in all {
        let start = batch.bytes.len() as u32;
        batch.bytes.extend_from_slice(&bytes);
        batch.parts.push(Part { kind, bytes: start..batch.bytes.len() as u32 });
        let message = batch.parts.len() as u32 - 1;
        let connection = world.connection;
        batch.targets.push(Target { connection, user: USER, device: 1, after: 2, cursor: 2, message });
    }
    world.pending.sort(&mut world.slots, vec![parcel(batch)], 1_000, &world.counters);
    let mut out = Vec::new();
    let reader = Reader { gateway: true, body_max: 60_000 };
    world.pending.write(&mut world.slots.of(world.place).line, reader, &mut out, &world.counters);
    let push = v1::Push::decode(&out[FRAME_HEAD..]).unwrap();
    assert_eq!((push.user, push.device, push.after, push.cursor), (USER, 1, 1, 2));
    assert_eq!((push.entries.len(), &push.heads[..], &push.reads[..]), (1, &[head][..], &[read][..]));
    assert_eq!(push.presence, [presence]);
}

#[test]
fn a_word_to_sync_is_a_push_of_its_own_and_reaches_nobody_else() {
    let mut world = World::new();
    let word = |world: &World, user| {
        let mut bare = batch(world.connection, &[(3, 4), (9, 9), (9, 10)], 5);
        bare.parts[1] = Part { kind: PartKind::Bare, bytes: 0..0 };
        bare.targets.iter_mut().for_each(|target| target.user = user);
        parcel(bare)
    };
    let parcels = vec![word(&world, USER), word(&world, USER + 1)];
    world.pending.sort(&mut world.slots, parcels, 1_000, &world.counters);
    let seen: Vec<_> = world.written(60_000).iter().map(|p| (p.after, p.cursor, p.entries.len())).collect();
    assert_eq!(seen, [(3, 4, 1), (9, 9, 0), (9, 10, 1)]);
    assert_eq!(world.counters.get(Count::PushesStale), 3, "another user's are not for this connection");
}

proptest! {
    /// Whatever is left out or pushed again, a device that takes pushes only where they join on never believes that it has
    /// what it was not sent.
    #[test]
    fn a_device_never_believes_too_much(
        steps in prop::collection::vec((1u64..6, prop::bool::weighted(0.2), prop::bool::weighted(0.15), any::<bool>(), 0usize..900), 1..60),
        small: bool,
    ) {
        let mut world = World::new();
        let body_max = if small { CLIENT_FRAME_MIN - 5 } else { 60_000 };
        let (mut pushed, mut cursor) = (0u64, 0u64);
        let (mut has, mut sent) = (0u64, std::collections::BTreeSet::new());
        for (count, lost, again, read, body) in steps {
            let from = if again { pushed.saturating_sub(3) } else { pushed };
            cursor = cursor.max(from) + count;
            let entries: Vec<_> = (from + 1..=cursor).map(|c| (c - 1, c)).collect();
            pushed = cursor;
            if !lost {
                world.push(&entries, body);
            }
            if read {
                for push in world.written(body_max) {
                    let mut last = push.after;
                    for entry in &push.entries {
                        prop_assert!(entry.cursor > last && entry.cursor <= push.cursor);
                        last = entry.cursor;
                        sent.insert(entry.cursor);
                    }
                    if push.after <= has {
                        has = has.max(push.cursor);
                    } else {
                        // It syncs up to where the push begins, and takes the push.
                        sent.extend(has + 1..=push.after);
                        has = push.cursor;
                    }
                    prop_assert!((1..=has).all(|c| sent.contains(&c)), "believes to have {has}");
                }
            }
        }
        world.written(body_max);
        prop_assert_eq!(world.pending.used, 0);
    }
}
