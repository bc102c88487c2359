//! The poll loop, the players' turns and what answers mean. Connections come and go in [`super::wires`].

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;

use client::{Player, Schedule, ServerTime};
use protocol::v1;
use runtime::{SharedClock, Shutdown};

use super::errands::Errand;
use super::links::{Asked, Kind, Link, Turn};
use super::told::Told;
use super::{Counts, PlayersConfig, PlayersReport, Progress, RoundReport, Wait};
use crate::LoadError;
use crate::fast::put_submit;
use crate::meter::{Latencies, cores, thread_cpu_ns};
use crate::net::{Poller, SCRATCH_BYTES};

/// Longest sleep of the loop, in us.
const NAP_US: u64 = 20_000;

/// Between two looks at the campaigns, in ms.
const CAMPAIGNS_MS: u64 = 5_000;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Wake {
    Player(u32),
    Link(u32),
    Errand(u32),
    Campaigns,
}

pub(super) struct Slot {
    pub core: Player,
    pub link: u32,
    /// Until when shakes have been counted (server's ms).
    shaken_ms: u64,
    /// The timer that counts; others are of the past.
    timer_us: u64,
    /// When the draw under way was meant to be asked (monotonic us).
    pub intended_us: u64,
    /// When it was asked first (server's ms); `None` once it was asked again.
    pub asked_ms: Option<u64>,
    /// Behind a round's opening, as far as known.
    pub delay_ms: u64,
    pub registered: bool,
}

pub(super) struct World {
    pub config: PlayersConfig,
    pub clock: SharedClock,
    pub poller: Poller,
    pub players: Vec<Slot>,
    pub links: Vec<Link>,
    /// Links with something to send.
    pub dirty: Vec<usize>,
    pub errands: Vec<Option<Errand>>,
    pub errands_open: usize,
    pub counts: Counts,
    pub time: ServerTime,
    pub schedule: Option<Schedule>,
    pub told: Told,
    pub scratch: Vec<u8>,
    timers: BinaryHeap<Reverse<(u64, Wake)>>,
    pub rounds: Vec<(RoundReport, HashSet<u32>)>,
    pub lost: Latencies,
    pub won: Latencies,
    pub waits: Vec<Wait>,
    seed: u64,
    pub now_us: u64,
    wall_ms: u64,
    /// What went wrong first, in case nothing ever goes right.
    pub first_error: Option<LoadError>,
}

impl World {
    pub fn new(config: PlayersConfig, clock: SharedClock) -> Result<Self, LoadError> {
        let told = Told::new(config.told.as_deref())?;
        let mut world = Self {
            poller: Poller::new().map_err(LoadError::io("making a poller"))?,
            players: Vec::with_capacity(config.players as usize),
            links: Vec::new(),
            dirty: Vec::new(),
            errands: Vec::new(),
            errands_open: 0,
            counts: Counts::default(),
            time: ServerTime::default(),
            schedule: None,
            told,
            scratch: vec![0; SCRATCH_BYTES],
            timers: BinaryHeap::new(),
            rounds: Vec::new(),
            lost: Latencies::default(),
            won: Latencies::default(),
            waits: Vec::new(),
            seed: config.seed,
            now_us: 0,
            wall_ms: 0,
            first_error: None,
            clock,
            config,
        };
        world.read_clock();
        world.settle_players();
        Ok(world)
    }

    /// Gives each player a connection: by chance which kind, in turn which one.
    fn settle_players(&mut self) {
        let config = self.config.clone();
        let policy = config.reconnect;
        let shared = config.own_permille + config.http_permille < 1000;
        let gateways = if shared { config.gateways as usize } else { 0 };
        let https = if config.http_permille > 0 { config.http_connections as usize } else { 0 };
        let addresses = (Arc::from(config.frames.as_slice()), Arc::from(config.http.as_slice()));
        let (frames, http): (Arc<[SocketAddr]>, Arc<[SocketAddr]>) = addresses;
        self.links.extend((0..gateways).map(|n| Link::new(Kind::Gateway, &frames, n, policy)));
        self.links.extend((0..https).map(|n| Link::new(Kind::Http, &http, n, policy)));
        for i in 0..config.players {
            let dice = (self.random() % 1000) as u32;
            let link = if dice < config.http_permille {
                gateways + i as usize % https
            } else if dice < config.http_permille + config.own_permille {
                self.links.push(Link::new(Kind::Own, &frames, i as usize, policy));
                self.links.len() - 1
            } else {
                i as usize % gateways
            };
            self.links[link].players.push(i);
            self.players.push(Slot {
                core: Player::new(config.first_user + u64::from(i), 0),
                link: link as u32,
                shaken_ms: 0,
                timer_us: 0,
                intended_us: 0,
                asked_ms: None,
                delay_ms: 0,
                registered: config.vendors.is_empty(),
            });
        }
        for link in 0..self.links.len() {
            // A thousand connections a second at most, so that a listener's queue holds them.
            self.at(self.now_us + link as u64 * 1_000, Wake::Link(link as u32));
        }
        self.at(self.now_us, Wake::Campaigns);
    }

    /// SplitMix64 (Steele, Lea, Flood 2014).
    pub fn random(&mut self) -> u64 {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.seed;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn read_clock(&mut self) {
        self.now_us = self.clock.mono_ns() / 1_000;
        self.wall_ms = self.clock.now_ms();
    }

    /// Local wall clock at the last reading, ms UTC.
    pub fn wall_ms(&self) -> u64 {
        self.wall_ms
    }

    pub fn server_ms(&self) -> u64 {
        self.time.at(self.wall_ms)
    }

    pub fn at(&mut self, due_us: u64, wake: Wake) {
        self.timers.push(Reverse((due_us, wake)));
    }

    pub fn errand_at(&mut self, place: u32, delay_ms: u64) {
        self.at(self.now_us + delay_ms * 1_000, Wake::Errand(place));
    }

    /// Plays to the end.
    pub fn run(
        mut self,
        shutdown: &Shutdown,
        progress: &mut dyn FnMut(&Progress),
    ) -> Result<PlayersReport, LoadError> {
        let (began_us, began_cpu) = (self.now_us, thread_cpu_ns());
        let (mut second, mut draws) = (0, 0);
        let mut ready = Vec::new();
        let ended = loop {
            let due_us = self.timers.peek().map_or(u64::MAX, |Reverse((due, _))| *due);
            let nap_us = due_us.saturating_sub(self.now_us).min(NAP_US);
            self.poller.wait(nap_us * 1_000, &mut ready).map_err(LoadError::io("polling"))?;
            self.read_clock();
            for ready in &ready {
                self.ready(*ready)?;
            }
            self.run_timers();
            self.flush();
            self.told.flush()?;
            let passed_ms = (self.now_us - began_us) / 1_000;
            if passed_ms / 1_000 > second {
                second = passed_ms / 1_000;
                let answered = self.counts.lost + self.counts.won;
                progress(&self.progress(second, answered - draws));
                draws = answered;
            }
            if let Some(why) = self.is_over(shutdown, passed_ms)? {
                break why;
            }
        };
        let took_ms = (self.now_us - began_us) / 1_000;
        self.report(ended, took_ms, (thread_cpu_ns() - began_cpu) / 1_000_000)
    }

    fn is_over(&mut self, shutdown: &Shutdown, passed_ms: u64) -> Result<Option<&'static str>, LoadError> {
        if shutdown.is_requested() {
            return Ok(Some("stopped"));
        }
        if self.config.duration_ms.is_some_and(|duration| passed_ms >= duration) {
            return Ok(Some("its time was up"));
        }
        let Some(schedule) = self.schedule.as_ref() else {
            if passed_ms < self.config.wait_ms {
                return Ok(None);
            }
            let what = self
                .config
                .campaign
                .map_or("no campaign with rounds".to_owned(), |id| format!("no rounds of campaign {id}"));
            let waited_ms = self.config.wait_ms;
            return Err(self
                .first_error
                .take()
                .unwrap_or(LoadError::Server(format!("{what} came within {waited_ms} ms"))));
        };
        let close_ms = schedule.last_close_ms().unwrap_or(0);
        let now_ms = self.server_ms();
        if now_ms < close_ms {
            return Ok(None);
        }
        if now_ms >= close_ms + self.config.grace_ms {
            return Ok(Some("the last round's grace is over"));
        }
        // Looking at all players each time would be much; once in a while is enough.
        let quiet = self.errands_open == 0 && passed_ms.is_multiple_of(8) && self.under_way() == 0;
        Ok(quiet.then_some("every round is over and everything answered"))
    }

    fn under_way(&self) -> usize {
        self.players.iter().filter(|slot| slot.core.draw().is_some()).count()
    }

    fn progress(&self, second: u64, draws_per_second: u64) -> Progress {
        let now_ms = self.server_ms();
        let windows = self.schedule.iter().flat_map(|schedule| schedule.windows());
        let round = windows.filter(|w| w.open_ms <= now_ms && now_ms < w.close_ms).map(|w| w.round).next();
        Progress {
            second,
            round: round.unwrap_or(0),
            open: self.links.iter().filter(|link| link.is_open()).count(),
            connections: self.links.len(),
            under_way: self.under_way(),
            draws_per_second,
            counts: self.counts.clone(),
        }
    }

    fn report(mut self, ended: &'static str, took_ms: u64, cpu_ms: u64) -> Result<PlayersReport, LoadError> {
        let mut rounds: Vec<_> = std::mem::take(&mut self.rounds)
            .into_iter()
            .map(|(round, players)| RoundReport { players: players.len() as u64, ..round })
            .collect();
        rounds.sort_by_key(|round| round.open_ms);
        if let Some(path) = &self.config.rounds {
            let mut text =
                "campaign,round,open_ms,close_ms,entries,entries_last_3s,players,wins_told\n".to_owned();
            for r in &rounds {
                let RoundReport {
                    campaign,
                    round,
                    open_ms,
                    close_ms,
                    entries,
                    entries_last_3s,
                    players,
                    wins_told,
                } = r;
                text += &format!(
                    "{campaign},{round},{open_ms},{close_ms},{entries},{entries_last_3s},{players},{wins_told}\n"
                );
            }
            std::fs::write(path, text).map_err(LoadError::io(format!("writing {}", path.display())))?;
        }
        Ok(PlayersReport {
            players: self.config.players,
            took_ms,
            ended,
            unanswered: self.under_way(),
            errands_open: self.errands_open,
            rounds,
            told: self.told.count(),
            contradictions: self.told.contradictions,
            lost_latency: self.lost.summary(),
            won_latency: self.won.summary(),
            waits: std::mem::take(&mut self.waits),
            cpu_ms,
            cpu_permille: (cpu_ms as f64 * 1000.0 / (took_ms.max(1) as f64 * cores())) as u64,
            counts: self.counts,
        })
    }

    fn run_timers(&mut self) {
        while let Some(Reverse((due_us, wake))) = self.timers.peek().copied()
            && due_us <= self.now_us
        {
            self.timers.pop();
            match wake {
                Wake::Player(player) if self.players[player as usize].timer_us == due_us => {
                    self.turn(player, due_us)
                }
                Wake::Player(_) => {}
                Wake::Link(link) => self.tend(link as usize),
                Wake::Errand(place) => self.run_errand(place),
                Wake::Campaigns => self.ask_campaigns(),
            }
        }
    }

    fn ask_campaigns(&mut self) {
        let pause_ms = if self.schedule.is_some() { CAMPAIGNS_MS } else { 250 };
        self.at(self.now_us + pause_ms * 1_000, Wake::Campaigns);
        // An own connection's view would be that of one player's group.
        let open = |kind| move |link: &Link| link.is_open() && link.kind == kind;
        let found = [Kind::Gateway, Kind::Http, Kind::Own]
            .into_iter()
            .find_map(|kind| self.links.iter().position(open(kind)));
        if let Some(link) = found {
            self.send_campaigns(link);
        }
    }

    /// Takes what the server says of campaigns; players begin when they have not yet.
    pub fn campaigns(&mut self, campaigns: &[v1::CampaignView], link: usize) {
        let wanted = |view: &&v1::CampaignView| match self.config.campaign {
            Some(id) => view.campaign == id,
            None => !view.rounds.is_empty(),
        };
        let known = self.schedule.as_ref().map(Schedule::campaign);
        let Some(view) =
            campaigns.iter().filter(wanted).find(|view| known.is_none_or(|id| id == view.campaign))
        else {
            return;
        };
        let mut view = view.clone();
        if self.links[link].kind == Kind::Own {
            let delay_ms = view.rounds.first().map_or(0, |round| u64::from(round.start_delay_ms));
            for player in self.links[link].players.clone() {
                self.players[player as usize].delay_ms = delay_ms;
            }
            view.rounds.iter_mut().for_each(|round| round.start_delay_ms = 0);
        }
        let changed = match &mut self.schedule {
            Some(schedule) => {
                let before = schedule.clone();
                schedule.update(&view);
                *schedule != before
            }
            none if !view.rounds.is_empty() => {
                *none = Some(Schedule::new(&view));
                true
            }
            _ => false,
        };
        if changed {
            (0..self.players.len()).for_each(|player| self.arm(player as u32, 0));
        }
    }

    /// Sets the player's timer to his next step, `later_us` behind it.
    pub fn arm(&mut self, player: u32, later_us: u64) {
        let Some(schedule) = &self.schedule else { return };
        let slot = &self.players[player as usize];
        let Some(mut next_ms) = slot.core.next_ms(schedule) else { return };
        let server_ms = self.time.at(self.wall_ms);
        if slot.core.draw().is_none() {
            // The core's instant may lie in a round that is over by now; a new draw begins now at the earliest.
            let Some(start_ms) = schedule.next_start(next_ms.max(server_ms)) else { return };
            next_ms = start_ms;
            if let Some(window) = schedule.at(next_ms) {
                next_ms = next_ms.max(window.open_ms + slot.delay_ms);
            }
        }
        let ahead_ms = next_ms.saturating_sub(server_ms);
        // Never due at once: a turn that sets its own timer must not be taken again before the clock moves.
        let due_us = (self.now_us + ahead_ms * 1_000 + later_us).max(self.now_us + 1);
        self.players[player as usize].timer_us = due_us;
        self.at(due_us, Wake::Player(player));
    }

    /// A player's turn: shakes, and a submit if it is time.
    fn turn(&mut self, player: u32, due_us: u64) {
        let server_ms = self.server_ms();
        let Some(schedule) = &self.schedule else { return };
        let slot = &self.players[player as usize];
        // Without a connection nobody plays; when it is there again, everybody on it is woken.
        if !self.links[slot.link as usize].is_open() {
            return;
        }
        let idle = slot.core.draw().is_none();
        let begin_ms = schedule.at(server_ms).map(|window| window.open_ms + slot.delay_ms);
        if idle && begin_ms.is_some_and(|begin_ms| server_ms < begin_ms) {
            return self.arm(player, 0);
        }
        if let (true, Some(begin_ms)) = (idle, begin_ms) {
            let since_ms = server_ms - slot.shaken_ms.max(begin_ms).min(server_ms);
            let mean = since_ms as f64 * self.config.shakes_per_second / 1000.0;
            let chance = (self.random() >> 11) as f64 / (1u64 << 53) as f64;
            let slot = &mut self.players[player as usize];
            slot.core.on_shake((mean + chance) as u32);
            slot.shaken_ms = server_ms;
        }
        let Some(schedule) = &self.schedule else { return };
        let slot = &mut self.players[player as usize];
        let out = slot.core.poll(server_ms, schedule, &self.config.rules);
        let Some(out) = out else {
            // Not yet, or no shakes yet.
            let pause_us = (1_000_000.0 / self.config.shakes_per_second) as u64;
            let later_us = if idle { self.random() % pause_us.max(1) } else { 500 };
            return self.arm(player, later_us);
        };
        if out.resend {
            slot.asked_ms = None;
            self.counts.resends += 1;
        } else {
            slot.intended_us = due_us;
            slot.asked_ms = Some(server_ms);
        }
        self.counts.submits += 1;
        let link = slot.link as usize;
        let attempt = out.attempt;
        if self.links[link].kind == Kind::Http {
            self.links[link].turns.push_back(Turn::Submit { player, attempt, submit: out.submit });
            self.next_turn(link);
        } else {
            let id = self.links[link].ask(Asked::Submit { player, attempt });
            if let Some(wire) = &mut self.links[link].wire {
                put_submit(&mut wire.out, id, &out.submit);
            }
            self.dirty.push(link);
        }
        self.arm(player, 0);
    }

    /// A link is open: its players go on.
    pub fn wake_players(&mut self, link: usize) {
        for player in self.links[link].players.clone() {
            if self.random() % 1000 < u64::from(self.config.registered_permille) {
                self.register(player, 1_000);
            }
            self.arm(player, 0);
        }
    }

    /// A link is down: what was under way on it is to be asked again.
    pub fn unplug_players(&mut self, link: usize) {
        let server_ms = self.server_ms();
        for player in self.links[link].players.clone() {
            self.players[player as usize].core.on_disconnect(server_ms);
        }
    }
}
