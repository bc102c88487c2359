mod model;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{ChatRules, Device, Event, Out, Target};
use model::{Down, GROUP, LARGE, PEOPLE, Server, pair};
use proptest::prelude::*;
use protocol::v1::{self, MessageKind};

const RULES: ChatRules = ChatRules {
    answer_ms: 60,
    answer_max_ms: 200,
    retry_min_ms: 5,
    hole_ms: 10,
    confirm_ms: 20,
    confirm_entries: 3,
    window: 4,
    unanswered_max: 8,
    queue_max: 1_000,
    early_max: 6,
    held_max: 4,
    conversations_max: 100,
    pull_max: 10_000,
};

/// A device and what its app got.
struct App {
    device: Device,
    /// Where each conversation begins for this device.
    base: HashMap<u64, u64>,
    got: BTreeMap<u64, Vec<u64>>,
    bodies: HashMap<u64, Vec<u8>>,
    stored: HashMap<u64, Vec<u8>>,
    refused: BTreeSet<u64>,
    /// Number of the connection; 0: none.
    connection: u32,
}

struct World {
    server: Server,
    apps: BTreeMap<(u64, u64), App>,
    /// Arrival, connection, frame.
    up: Vec<(u64, u32, (u64, u64), Out)>,
    down: Vec<(u64, u32, (u64, u64), Down)>,
    now_ms: u64,
    connections: u32,
    /// Percent of frames that come to harm.
    harm: u64,
    written: u32,
}

impl World {
    fn new(seed: u64, devices: &[(u64, u64)]) -> Self {
        let mut server = Server::new();
        server.dice = seed;
        let app = |(user, device)| App {
            device: Device::new(user, device, RULES),
            base: HashMap::new(),
            got: BTreeMap::new(),
            bodies: HashMap::new(),
            stored: HashMap::new(),
            refused: BTreeSet::new(),
            connection: 0,
        };
        let apps = devices.iter().map(|id| (*id, app(*id))).collect();
        Self { server, apps, up: vec![], down: vec![], now_ms: 1_000, connections: 0, harm: 0, written: 0 }
    }

    fn connect(&mut self, id: (u64, u64)) {
        self.connections += 1;
        self.server.arrive(id.0, id.1);
        let app = self.apps.get_mut(&id).unwrap();
        app.connection = self.connections;
        app.device.connected(self.now_ms);
    }

    fn disconnect(&mut self, id: (u64, u64)) {
        self.server.leave(id.0, id.1);
        let app = self.apps.get_mut(&id).unwrap();
        app.connection = 0;
        app.device.disconnected();
        // What was sent may still arrive; what was answered does not.
        self.down.retain(|(_, _, to, _)| *to != id);
    }

    /// How often a frame arrives, and when.
    fn fate(&mut self) -> Vec<u64> {
        let slow = if self.server.dice(100) < self.harm { 60 } else { 4 };
        let times = match self.server.dice(100) {
            dice if dice < self.harm / 2 => 0,
            dice if dice < self.harm => 2,
            _ => 1,
        };
        (0..times).map(|_| self.now_ms + self.server.dice(slow)).collect()
    }

    fn post(&mut self, out: Vec<((u64, u64), Down)>) {
        for (to, down) in out {
            let Some(connection) = self.apps.get(&to).map(|app| app.connection).filter(|c| *c != 0) else {
                continue;
            };
            for at in self.fate() {
                self.down.push((at, connection, to, down.clone()));
            }
        }
    }

    fn step(&mut self) {
        self.now_ms += 1;
        let ids: Vec<_> = self.apps.keys().copied().collect();
        for id in ids {
            let mut events = Vec::new();
            for _ in 0..20 {
                let app = self.apps.get_mut(&id).unwrap();
                let Some(out) = app.device.poll(self.now_ms, &mut events) else { break };
                let connection = app.connection;
                for at in self.fate() {
                    self.up.push((at, connection, id, out.clone()));
                }
            }
            self.apps.get_mut(&id).unwrap().take(events);
        }
        let now_ms = self.now_ms;
        let mut out = Vec::new();
        for (_, connection, from, heard) in extract(&mut self.up, |frame| frame.0 <= now_ms) {
            let before = out.len();
            self.server.hear(from, heard, &mut out);
            if self.apps[&from].connection != connection {
                // An answer goes where the question came from, and nobody is there any more.
                let pushes = out.split_off(before).into_iter();
                out.extend(pushes.filter(|(_, down)| matches!(down, Down::Push(_))));
            }
        }
        if now_ms.is_multiple_of(10) {
            self.server.tick(&mut out);
        }
        self.post(out);
        for (_, connection, to, down) in extract(&mut self.down, |frame| frame.0 <= now_ms) {
            let app = self.apps.get_mut(&to).unwrap();
            if app.connection == connection {
                app.hear(now_ms, down);
            }
        }
    }

    fn write(&mut self, id: (u64, u64), target: Target, bad: bool) {
        self.written += 1;
        let body = if bad { b"bad".to_vec() } else { format!("{} of {id:?}", self.written).into_bytes() };
        let app = self.apps.get_mut(&id).unwrap();
        if let Ok(ticket) = app.device.send(target, MessageKind::Text, body.clone()) {
            app.bodies.insert(ticket, body);
        }
    }

    /// The network is good, everybody is online, until nothing is under way.
    fn settle(&mut self) {
        self.harm = 0;
        let ids: Vec<_> = self.apps.keys().copied().collect();
        for id in ids {
            self.disconnect(id);
            self.connect(id);
        }
        for _ in 0..20_000 {
            self.step();
            let done = |app: &App| app.device.unsettled() == 0 && app.device.is_in_step();
            if self.up.is_empty()
                && self.down.is_empty()
                && self.server.heads.is_empty()
                && self.apps.values().all(done)
            {
                return;
            }
        }
        let left: Vec<_> = self.apps.values().map(|app| &app.device).collect();
        panic!("never at rest: {left:#?}");
    }

    fn check(&self) {
        for ((user, number), app) in &self.apps {
            for conversation in self.server.talks.keys() {
                let base = app.base.get(conversation).copied().unwrap_or(0);
                let want: Vec<u64> =
                    self.server.visible(*user, *conversation).into_iter().filter(|seq| *seq > base).collect();
                let got = app.got.get(conversation).cloned().unwrap_or_default();
                assert_eq!(got, want, "device {number} of {user}, conversation {conversation}");
            }
            let all: Vec<_> = self.server.talks.values().flat_map(|talk| &talk.log).collect();
            for body in app.stored.values() {
                let times = all.iter().filter(|message| message.body == *body).count();
                assert_eq!(times, 1, "{:?}", String::from_utf8_lossy(body));
            }
            for (ticket, body) in &app.bodies {
                let (stored, refused) = (app.stored.contains_key(ticket), app.refused.contains(ticket));
                assert!(stored != refused, "{:?}: {stored} {refused}", String::from_utf8_lossy(body));
                // Who is refused for not being a member may be one again when a copy arrives late.
                if refused && body == b"bad" {
                    assert!(!all.iter().any(|message| message.body == *body), "refused and stored");
                }
            }
        }
    }
}

fn extract<T>(from: &mut Vec<T>, which: impl Fn(&T) -> bool) -> Vec<T> {
    let (taken, left) = from.drain(..).partition(|item| which(item));
    *from = left;
    taken
}

impl App {
    fn hear(&mut self, now_ms: u64, down: Down) {
        let mut events = Vec::new();
        match down {
            Down::Push(push) => self.device.on_push(now_ms, push, &mut events),
            Down::SendAnswer(id, answer) => self.device.on_send_answer(now_ms, id, &answer, &mut events),
            Down::Answer(id, answer) => self.device.on_answer(now_ms, id, answer, &mut events),
            Down::Error(id, error) => self.device.on_error(now_ms, id, &error, &mut events),
        }
        self.take(events);
    }

    fn take(&mut self, events: Vec<Event>) {
        for event in events {
            match event {
                Event::Message(message) => {
                    let got = self.got.entry(message.conversation).or_default();
                    assert!(got.last().is_none_or(|last| *last < message.seq), "out of order or twice");
                    got.push(message.seq);
                }
                Event::Begins { conversation, seq } => {
                    assert!(
                        self.base.insert(conversation, seq).is_none()
                            && !self.got.contains_key(&conversation)
                    );
                }
                Event::Stored { ticket, .. } => {
                    let body = self.bodies[&ticket].clone();
                    assert!(self.stored.insert(ticket, body).is_none(), "told twice");
                }
                Event::Refused { ticket, .. } => {
                    assert!(self.refused.insert(ticket), "told twice");
                }
                Event::Skipped { .. } => panic!("{event:?}"),
                _ => {}
            }
        }
    }

    /// The app is closed and opened again.
    fn restart(&mut self) {
        let state = self.device.state();
        self.device = Device::restore(state, 0, RULES);
    }
}

#[test]
fn two_people_talk() {
    let mut w = World::new(7, &[(1, 11), (2, 21), (2, 22)]);
    [(1, 11), (2, 21), (2, 22)].into_iter().for_each(|id| w.connect(id));
    for _ in 0..50 {
        w.step();
    }
    for n in 0..20 {
        w.write((1, 11), Target::User(2), n == 7);
        w.step();
        w.write((2, 21), Target::User(1), false);
    }
    w.settle();
    w.check();
    let talk = pair(1, 2);
    assert_eq!(w.server.talks[&talk].log.len(), 39);
    assert_eq!(w.apps[&(1, 11)].refused.len(), 1);
    assert_eq!(w.apps[&(2, 22)].got[&talk].len(), 39);
    assert_eq!(w.apps[&(1, 11)].device.conversation_with(2), Some(talk));
}

#[test]
fn what_was_sent_and_forgotten_is_not_mistaken_for_a_resend() {
    let mut w = World::new(3, &[(1, 11), (2, 21)]);
    w.connect((1, 11));
    (0..30).for_each(|_| w.step());
    let kept = w.apps[&(1, 11)].device.state();
    w.write((1, 11), Target::Conversation(GROUP), false);
    w.settle();
    w.disconnect((1, 11));
    let app = w.apps.get_mut(&(1, 11)).unwrap();
    app.device = Device::restore(kept, 5, RULES);
    (app.got, app.bodies, app.stored) = Default::default();
    w.write((1, 11), Target::Conversation(GROUP), false);
    w.settle();
    w.check();
    assert_eq!(w.server.talks[&GROUP].log.len(), 2);
}

#[test]
fn refuses_what_it_cannot_hold() {
    use super::SendError;
    let mut device = Device::new(1, 1, ChatRules { queue_max: 1, ..RULES });
    let send = |device: &mut Device, target, bytes| device.send(target, MessageKind::Text, vec![0; bytes]);
    assert_eq!(send(&mut device, Target::User(0), 1), Err(SendError::Nobody));
    assert_eq!(send(&mut device, Target::User(2), 3_073), Err(SendError::Long(3_073)));
    let ticket = send(&mut device, Target::User(2), 1).unwrap();
    assert_eq!(send(&mut device, Target::User(2), 1), Err(SendError::Full(1)));
    assert_eq!((device.give_up(ticket), device.give_up(ticket)), (Some(true), None));
    assert_eq!(device.next_ms(0), None, "nothing happens without a connection");
}

#[test]
fn too_much_to_pull_is_named_and_left_out() {
    let mut device = Device::new(1, 1, ChatRules { pull_max: 10, ..RULES });
    let mut events = Vec::new();
    device.connected(0);
    let Some(Out::Ask(id, _)) = device.poll(0, &mut events) else { panic!() };
    let head = v1::Head { conversation: LARGE, seq: 500, messages: vec![] };
    let sync = v1::SyncAnswer { cursor: 1, heads: vec![head], ..Default::default() };
    let answer = |answer| v1::ChatAnswer { answer: Some(answer), user: 0 };
    device.on_answer(1, id, answer(v1::chat_answer::Answer::Sync(sync)), &mut events);
    events.clear();
    // Where the conversation begins for this user is asked first.
    let Some(Out::Ask(id, _)) = device.poll(1, &mut events) else { panic!() };
    let range = v1::RangeAnswer { first_seq: 5, last_seq: 500, more: true, ..Default::default() };
    device.on_answer(2, id, answer(v1::chat_answer::Answer::Range(range)), &mut events);
    let Some(Out::Ask(_, request)) = device.poll(2, &mut events) else { panic!() };
    assert_eq!(events, [Event::Skipped { conversation: LARGE, from: 5, to: 490 }]);
    let Some(v1::chat_request::Ask::Range(range)) = request.ask else { panic!() };
    assert_eq!((range.from_seq, range.to_seq), (491, 500));
    // Read positions go out lazily and once.
    assert!(device.mark_read(1, LARGE, 495) && !device.mark_read(1, GROUP, 1));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]
    /// Frames are dropped, delayed and repeated, devices lose their connections, are closed and opened again.
    #[test]
    fn each_message_once_in_order_without_holes(
        seed: u64,
        harm in 0u64..60,
        steps in prop::collection::vec((0u8..40, any::<u8>(), 0u8..12), 1..120),
    ) {
        let devices: Vec<_> = (1..=PEOPLE).flat_map(|user| [(user, 10 * user + 1), (user, 10 * user + 2)]).collect();
        let mut w = World::new(seed, &devices);
        w.harm = harm;
        devices.iter().for_each(|id| w.connect(*id));
        for (what, dice, pass) in steps {
            let id = devices[dice as usize % devices.len()];
            let other = 1 + (id.0 + u64::from(dice) % (PEOPLE - 1)) % PEOPLE;
            match what {
                0 => w.disconnect(id),
                1 | 2 => { w.disconnect(id); w.connect(id); }
                3 => { w.disconnect(id); w.apps.get_mut(&id).unwrap().restart(); w.connect(id); }
                4 => {
                    let mut out = Vec::new();
                    w.server.toggle(id.0, &mut out);
                    w.post(out);
                }
                5..15 => w.write(id, Target::Conversation(GROUP), what == 5),
                15..22 => w.write(id, Target::Conversation(LARGE), what == 15),
                _ => w.write(id, Target::User(other), what == 22),
            }
            (0..pass).for_each(|_| w.step());
        }
        w.settle();
        w.check();
    }
}
