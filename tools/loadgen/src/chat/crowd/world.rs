//! The crowd's loop: who connects when, who writes to whom, and what came of it.

mod end;

use std::collections::HashMap;

use client::chat::{Device, Event, Target};
use protocol::v1::chat_answer::Answer;
use protocol::v1::chat_request::Ask;
use protocol::v1::{self, MessageKind};
use runtime::{SharedClock, Shutdown};

use super::{CrowdConfig, CrowdReport};
use crate::LoadError;
use crate::chat::Stamp;
use crate::chat::link::{Came, Dice, Errand, Fault, Harm, Link, Purpose, State};
use crate::chat::oracle::Oracle;
use crate::chat::people::{self, Group};
use crate::meter::{Latencies, cores, thread_cpu_ns};
use crate::net::{Poller, Ready, SCRATCH_BYTES};

/// Longest sleep of the loop, in ns.
const NAP_NS: u64 = 2_000_000;

pub(super) struct World {
    config: CrowdConfig,
    clock: SharedClock,
    poller: Poller,
    links: Vec<Link>,
    groups: Vec<Group>,
    /// Places in `groups` of each user.
    groups_of: Vec<Vec<usize>>,
    oracle: Oracle,
    report: CrowdReport,
    scratch: Vec<u8>,
    dice: Dice,
    now_us: u64,
    /// Each message under way, by device and ticket.
    sent: HashMap<(u32, u64), Stamp>,
    run: u64,
    /// Devices that are away until then (monotonic us).
    away_us: Vec<u64>,
    healthy: bool,
    acks: Latencies,
    deliveries: Latencies,
    /// Unread messages of each user, counted so far.
    counted: HashMap<u64, u64>,
    unread_done: usize,
}

impl World {
    pub fn new(config: CrowdConfig, clock: SharedClock) -> Result<Self, LoadError> {
        let mut dice = Dice(config.seed);
        let run = (clock.now_ms() & 0xffff_ffff).max(1) << 32;
        let groups = people::groups(
            config.users,
            config.groups,
            config.group_size,
            if config.large_permille > 0 { config.large } else { 0 },
        );
        let mut groups_of = vec![Vec::new(); config.users as usize];
        for (place, group) in groups.iter().enumerate() {
            group.members.iter().for_each(|member| groups_of[*member as usize].push(place));
        }
        let mut links = Vec::new();
        for place in 0..config.users {
            let user = config.first_user + u64::from(place);
            for _ in 0..config.devices {
                let core = Device::new(user, dice.number().max(1), config.rules);
                links.push(Link::new(core, config.reconnect));
            }
        }
        let count = links.len();
        Ok(Self {
            poller: Poller::new().map_err(LoadError::io("making a poller"))?,
            clock,
            links,
            groups,
            groups_of,
            oracle: Oracle::default(),
            report: CrowdReport::default(),
            scratch: vec![0; SCRATCH_BYTES],
            dice,
            now_us: 0,
            sent: HashMap::new(),
            run,
            away_us: vec![0; count],
            healthy: true,
            acks: Latencies::default(),
            deliveries: Latencies::default(),
            counted: HashMap::new(),
            unread_done: 0,
            config,
        })
    }

    pub fn run(mut self, shutdown: &Shutdown) -> Result<CrowdReport, LoadError> {
        let (cpu_ns, began_us) = (thread_cpu_ns(), self.read_clock());
        self.set_up(shutdown)?;
        self.oracle.begin();
        self.chat(shutdown)?;
        self.report.at_rest = self.settle()?;
        let members = self.members();
        self.report.verdict = self.oracle.judge(members.into_iter());
        let took_us = (self.read_clock() - began_us).max(1);
        let mut report = self.report;
        report.unsettled = self.links.iter().map(|link| link.core.unsettled() as u64).sum();
        report.ack_latency = self.acks.summary();
        report.delivery_latency = self.deliveries.summary();
        report.took_ms = took_us / 1_000;
        let cpu_us = (thread_cpu_ns() - cpu_ns) / 1_000;
        report.cpu_permille = (cpu_us as f64 * 1_000.0 / took_us as f64 / cores()) as u64;
        Ok(report)
    }

    fn read_clock(&mut self) -> u64 {
        self.now_us = self.clock.mono_ns() / 1_000;
        self.now_us
    }

    fn place(&self, link: usize) -> u32 {
        link as u32 / self.config.devices
    }

    fn harm(&self) -> Harm {
        if self.healthy { Harm::default() } else { self.config.harm }
    }

    /// Logs in, befriends, makes groups, and waits until every device is in step.
    fn set_up(&mut self, shutdown: &Shutdown) -> Result<(), LoadError> {
        let devices = self.config.devices as usize;
        for place in 0..self.config.users {
            if let Some(partner) = people::partner(place, self.config.users) {
                let user = self.config.first_user + u64::from(partner);
                let request = Ask::Befriend(v1::Befriend { user });
                let link = &mut self.links[place as usize * devices];
                link.errands.push_back(Errand { request, purpose: Purpose::Befriend });
            }
        }
        let end_us = self.now_us + self.config.grace_ms * 1_000;
        let mut made = false;
        loop {
            self.turn()?;
            let quiet = self.links.iter().all(|link| link.errands.is_empty() && link.core.is_in_step());
            if quiet && made {
                return Ok(());
            }
            if quiet {
                // Friends first: whoever makes a group may have to know its members.
                (0..self.groups.len()).for_each(|place| self.make_group(place));
                made = true;
            }
            if self.now_us >= end_us || shutdown.is_requested() {
                let open = self.links.iter().filter(|link| link.is_open()).count();
                let fault = self.report.first_fault.clone().unwrap_or_else(|| "nothing failed".to_owned());
                return Err(LoadError::Server(format!(
                    "logins and groups were not done within {} ms: {open} of {} devices are logged in; first fault: {fault}",
                    self.config.grace_ms,
                    self.links.len()
                )));
            }
        }
    }

    fn make_group(&mut self, place: usize) {
        let group = &self.groups[place];
        let Some(request) = group.next(self.config.first_user, self.run | (place as u64 + 1)) else { return };
        let maker = group.members[0] as usize * self.config.devices as usize;
        self.links[maker].errands.push_back(Errand { request, purpose: Purpose::Group(place) });
    }

    /// Sends by the clock, while networks do their worst.
    fn chat(&mut self, shutdown: &Shutdown) -> Result<(), LoadError> {
        self.healthy = false;
        let start_us = self.read_clock();
        let end_us = start_us + self.config.run_ms * 1_000;
        let mut harm_us = start_us + 1_000_000;
        let mut number = 0u64;
        while self.now_us < end_us && !shutdown.is_requested() {
            loop {
                let meant_us = start_us + (number as f64 * 1e6 / self.config.rate) as u64;
                if meant_us > self.now_us {
                    break;
                }
                number += 1;
                self.send(number, meant_us);
            }
            if self.now_us >= harm_us {
                harm_us += 1_000_000;
                self.do_harm();
            }
            self.turn()?;
        }
        Ok(())
    }

    fn send(&mut self, number: u64, meant_us: u64) {
        let link = self.dice.below(self.links.len() as u64) as usize;
        let place = self.place(link);
        let share = self.dice.below(1000) as u32;
        let mine = &self.groups_of[place as usize];
        let large = self.config.large_permille > 0 && place < self.config.large;
        let small = mine.len() - usize::from(large);
        let target = if large && share < self.config.large_permille {
            Target::Conversation(self.groups[mine[small]].conversation)
        } else if small > 0 && share < self.config.large_permille + self.config.group_permille {
            let group = mine[self.dice.below(small as u64) as usize];
            Target::Conversation(self.groups[group].conversation)
        } else {
            match people::partner(place, self.config.users) {
                Some(partner) => Target::User(self.config.first_user + u64::from(partner)),
                None => return,
            }
        };
        let mut body = Vec::new();
        let number = self.run | number;
        let stamp = Stamp { number, meant_us };
        stamp.put(&mut body, self.config.body);
        match self.links[link].core.send(target, MessageKind::Text, body) {
            Ok(ticket) => {
                self.report.sent += 1;
                self.sent.insert((link as u32, ticket), stamp);
                self.links[link].wake_us = 0;
            }
            Err(_) => self.report.held_back += 1,
        }
    }

    fn do_harm(&mut self) {
        let (harm, now_us) = (self.config.harm, self.now_us);
        for link in 0..self.links.len() {
            if self.dice.permille(harm.cut) {
                self.down(link, None);
            }
            if self.dice.permille(harm.stall) {
                self.links[link].stalled_us = now_us + self.dice.below(harm.stall_ms * 1_000);
            }
            let second = !(link as u32).is_multiple_of(self.config.devices);
            if second && self.away_us[link] <= now_us && self.dice.permille(harm.offline) {
                self.away_us[link] = now_us + self.dice.below(harm.offline_ms * 1_000);
                self.report.absences += 1;
                self.down(link, None);
                self.links[link].due_us = self.away_us[link];
                self.links[link].wake_us = self.away_us[link];
            }
        }
    }

    /// One round of the loop.
    fn turn(&mut self) -> Result<(), LoadError> {
        self.read_clock();
        for link in 0..self.links.len() {
            if self.now_us >= self.links[link].wake_us {
                self.tend(link);
            }
        }
        let mut ready = Vec::new();
        self.poller.wait(NAP_NS, &mut ready).map_err(LoadError::io("polling"))?;
        self.read_clock();
        for ready in ready {
            self.ready(ready);
        }
        Ok(())
    }

    fn tend(&mut self, at: usize) {
        let now_us = self.now_us;
        let link = &mut self.links[at];
        match link.state {
            State::Down if now_us >= link.due_us && now_us >= self.away_us[at] => {
                let turn = at + link.opened as usize + link.reconnect.failures() as usize;
                let address = self.config.frames[turn % self.config.frames.len()];
                if !link.dial(address, &self.poller, at as u64, now_us) {
                    self.down(at, None);
                }
            }
            State::Down => link.due_us = link.due_us.max(self.away_us[at]),
            State::Connecting | State::Greeting if now_us >= link.due_us => {
                self.down(at, Some(Fault::Io(std::io::ErrorKind::TimedOut.into())));
            }
            _ => {}
        }
        self.exchange(at, false);
    }

    fn ready(&mut self, ready: Ready) {
        let at = ready.key as usize;
        let now_us = self.now_us;
        if self.links[at].state == State::Connecting {
            let connected = self.links[at].wire.as_ref().map(crate::net::Wire::connected);
            if let Some(Err(error)) = connected {
                return self.down(at, Some(error.into()));
            }
            let token = self.config.key.user(self.links[at].core.user(), self.clock.now_ms());
            self.links[at].greet(token, now_us);
        }
        self.exchange(at, ready.readable);
    }

    /// Hears and speaks on one connection. What was heard is dealt with first: an answered errand is not sent again.
    fn exchange(&mut self, at: usize, readable: bool) {
        let (harm, now_us) = (self.harm(), self.now_us);
        let mut came = Came::default();
        let link = &mut self.links[at];
        let how = (&harm, &mut self.dice);
        let mut done = if readable {
            link.read(now_us, &mut self.scratch, how, &mut came)
        } else {
            link.thaw(now_us, how, &mut came)
        };
        self.take(at, came);
        if done.is_ok() {
            let mut came = Came::default();
            let link = &mut self.links[at];
            link.speak(now_us, &harm, &mut self.dice, &mut came.events);
            done = link.beat(now_us).map_err(Fault::from);
            self.take(at, came);
        }
        if done.is_ok() {
            done = self.links[at].flush(&self.poller, at as u64, now_us).map_err(Fault::from);
        }
        if let Err(fault) = done {
            return self.down(at, Some(fault));
        }
        let link = &mut self.links[at];
        link.wake_us = link.next_us(now_us);
    }

    fn down(&mut self, at: usize, why: Option<Fault>) {
        let (now_us, random) = (self.now_us, self.dice.number());
        let link = &mut self.links[at];
        if link.fall() {
            self.report.drops += 1;
            link.due_us = now_us + link.reconnect.dropped(now_us / 1_000, random) * 1_000;
        } else {
            self.report.connect_failures += 1;
            link.due_us = now_us + link.reconnect.failed(random) * 1_000;
        }
        link.wake_us = link.due_us;
        if let Some(why) = why {
            self.report.first_fault.get_or_insert_with(|| format!("device {at}: {why}"));
        }
    }

    fn take(&mut self, at: usize, came: Came) {
        for event in came.events {
            self.event(at, event);
        }
        for answer in came.answers {
            self.answer(at, answer);
        }
    }

    fn event(&mut self, at: usize, event: Event) {
        let device = at as u32;
        let user = self.links[at].core.user();
        match event {
            Event::Message(message) => {
                let stamp = Stamp::read(&message.body).filter(|stamp| stamp.number >> 32 == self.run >> 32);
                self.oracle.handed(device, &message, stamp.map_or(0, |stamp| stamp.number));
                if let Some(stamp) = stamp
                    && message.sender != user
                    && device.is_multiple_of(self.config.devices)
                {
                    self.deliveries.record_us(self.now_us.saturating_sub(stamp.meant_us));
                    // Some read what they get, some of them at once.
                    if self.dice.permille(100) {
                        let now_ms = self.now_us / 1_000;
                        self.links[at].core.mark_read(now_ms, message.conversation, message.seq);
                    }
                }
            }
            Event::Begins { conversation, seq } => {
                self.oracle.begins(device, conversation, seq);
                self.links[at].core.mark_read(self.now_us / 1_000, conversation, seq);
            }
            Event::Skipped { from, to, .. } => self.oracle.skipped(from, to),
            Event::Stored { ticket, seq, conversation } => {
                if let Some(stamp) = self.sent.remove(&(device, ticket)) {
                    self.oracle.acked(stamp.number, conversation, seq);
                    self.acks.record_us(self.now_us.saturating_sub(stamp.meant_us));
                }
            }
            Event::Refused { ticket, outcome, reason } => {
                self.report.refused += 1;
                self.report.first_fault.get_or_insert_with(|| format!("{outcome:?}: {reason}"));
                if let Some(stamp) = self.sent.remove(&(device, ticket)) {
                    self.oracle.refused(stamp.number);
                }
            }
            Event::Read(read) => self.oracle.read(user, read.conversation, read.seq),
            Event::Conversation(_) | Event::UnreadTotal(_) | Event::Presence(_) | Event::InStep => {}
        }
    }

    fn answer(&mut self, at: usize, answer: Result<v1::ChatAnswer, v1::Error>) {
        let Some(errand) = self.links[at].errands.pop_front() else { return };
        let answer = match answer {
            Ok(answer) => answer.answer,
            Err(error) => {
                let again_us = self.now_us + u64::from(error.retry_after_ms.max(200)) * 1_000;
                let text = format!("{:?}: {} ({})", errand.purpose, error.message, error.code);
                self.report.first_fault.get_or_insert(text);
                let link = &mut self.links[at];
                link.errands.push_front(errand);
                link.asked = Some((0, again_us));
                return;
            }
        };
        match (errand.purpose, answer) {
            (Purpose::Group(place), Some(Answer::Done(done))) => {
                self.groups[place].made(done.conversation);
                if !self.groups[place].is_made() {
                    self.make_group(place);
                }
            }
            (Purpose::Unread, Some(Answer::Conversations(list))) => self.unread(at, &list),
            _ => {}
        }
    }
}
