//! A crowd of players behind a gateway's credential, who write down what they are told.

use crate::http::{Answer, Client};
use crate::platform::{CAMPAIGN, PATIENCE, Place, Platform};
use crate::vendor::Vendor;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Connections that the players share.
const CONNECTIONS: usize = 4;

/// A draw: user and counter.
pub type Draw = (u64, u32);

/// What somebody won.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Won {
    pub award: String,
    pub prize: u64,
    pub fen: i64,
}

impl Won {
    /// Reads an award of an answer.
    pub fn of(award: &Value) -> Won {
        Won {
            award: award["award"].as_str().unwrap_or_default().to_owned(),
            prize: number(&award["prize"]),
            fen: number(&award["fen"]) as i64,
        }
    }
}

/// A number of proto3 JSON: perhaps a string, and left out when 0.
pub fn number(value: &Value) -> u64 {
    match value {
        Value::String(text) => text.parse().unwrap(),
        Value::Number(n) => n.as_u64().unwrap(),
        _ => 0,
    }
}

/// The outcome of a submit's answer, without its prefix.
#[track_caller]
pub fn outcome(answer: &Answer) -> &str {
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body["outcome"].as_str().and_then(|o| o.strip_prefix("OUTCOME_")).unwrap_or("?")
}

/// The body of a submit.
pub fn entry(user: u64, counter: u32) -> Value {
    json!({"user": user.to_string(), "campaign": CAMPAIGN, "round": 1, "counter": counter, "shakes": 3})
}

#[derive(Clone)]
struct Player {
    user: u64,
    next: u32,
    /// Largest counter that was sent.
    sent: u32,
    limited: bool,
}

/// A crowd.
pub struct Crowd {
    token: String,
    players: Vec<Player>,
    /// Every win that a player was told of.
    pub told: BTreeMap<Draw, Won>,
}

/// What one connection's players came to.
#[derive(Default)]
struct Heard {
    wins: Vec<(Draw, Won)>,
    outcomes: BTreeMap<String, u64>,
}

impl Crowd {
    /// Players 1 to `n`, of a place whose keys have been made.
    pub fn new(place: &Place, n: u64) -> Crowd {
        let player = |user| Player { user, next: 1, sent: 0, limited: false };
        Crowd { token: place.gateway_token(), players: (1..=n).map(player).collect(), told: BTreeMap::new() }
    }

    /// Everybody plays until the instant, or until the platform is gone. The outcomes that were heard.
    pub fn play(
        &mut self,
        at: SocketAddr,
        until: Instant,
        meanwhile: impl FnOnce(),
    ) -> BTreeMap<String, u64> {
        let token = self.token.as_str();
        let share = self.players.len().div_ceil(CONNECTIONS);
        let heard: Vec<Heard> = std::thread::scope(|scope| {
            let threads: Vec<_> = self
                .players
                .chunks_mut(share)
                .map(|players| scope.spawn(move || play(&mut Client::new(at, token), players, until)))
                .collect();
            meanwhile();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let mut outcomes = BTreeMap::new();
        for heard in heard {
            heard.wins.into_iter().for_each(|(draw, won)| self.hear(draw, won));
            heard.outcomes.into_iter().for_each(|(name, n)| *outcomes.entry(name).or_default() += n);
        }
        outcomes
    }

    /// Everybody plays for so long on a platform that must not go away.
    pub fn play_for(&mut self, platform: &mut Platform, time: Duration) -> BTreeMap<String, u64> {
        let outcomes = self.play(platform.http, Instant::now() + time, || {});
        assert!(!platform.has_ended(), "it went away");
        outcomes
    }

    /// Plays until there are new wins; how many.
    #[track_caller]
    pub fn win_some(&mut self, platform: &mut Platform) -> usize {
        let (before, since) = (self.told.len(), Instant::now());
        loop {
            let outcomes = self.play_for(platform, Duration::from_millis(150));
            if self.told.len() > before {
                return self.told.len() - before;
            }
            assert!(since.elapsed() < PATIENCE, "nobody wins any more: {outcomes:?}");
        }
    }

    /// Lets everybody try again who was told that he can win no more; how many they are.
    pub fn try_again(&mut self) -> usize {
        let limited = self.players.iter_mut().map(|p| std::mem::take(&mut p.limited));
        limited.filter(|limited| *limited).count()
    }

    #[track_caller]
    fn hear(&mut self, draw: Draw, won: Won) {
        if let Some(before) = self.told.insert(draw, won.clone()) {
            assert_eq!(before, won, "draw {draw:?} was told two prizes");
        }
    }

    /// Sends every counter that was ever sent once more. Every win that was told must be told again, under its award id.
    #[track_caller]
    pub fn resend_all(&mut self, platform: &mut Platform) {
        let (at, token, told) = (platform.http, self.token.as_str(), &self.told);
        let share = self.players.len().div_ceil(CONNECTIONS);
        let heard: Vec<Vec<(Draw, Won)>> = std::thread::scope(|scope| {
            let threads: Vec<_> = self
                .players
                .chunks(share)
                .map(|players| scope.spawn(move || resend(&mut Client::new(at, token), players, told)))
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(!platform.has_ended(), "it went away");
        heard.into_iter().flatten().for_each(|(draw, won)| self.hear(draw, won));
    }

    /// Waits until every award that was told is in its player's list.
    #[track_caller]
    pub fn check_lists(&self, platform: &Platform) {
        self.check_lists_for(platform, &self.told);
    }

    /// Waits until these are in their players' lists.
    #[track_caller]
    pub fn check_lists_for(&self, platform: &Platform, told: &BTreeMap<Draw, Won>) {
        let mut client = platform.client(&self.token);
        let mut wanted: BTreeMap<u64, BTreeSet<&Won>> = BTreeMap::new();
        for ((user, _), won) in told {
            wanted.entry(*user).or_default().insert(won);
        }
        let since = Instant::now();
        for (user, wins) in wanted {
            loop {
                let listed = prizes(&mut client, user);
                let listed: BTreeSet<Won> = listed.iter().map(Won::of).collect();
                let missing: Vec<_> = wins.iter().filter(|won| !listed.contains(**won)).collect();
                if missing.is_empty() {
                    break;
                }
                assert!(
                    since.elapsed() < PATIENCE,
                    "user {user} was told of these, and does not have them: {missing:?}"
                );
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    }

    /// Claims a dozen of what waits for its claim, and waits until these and everything that needs no claim are paid:
    /// each once, each with its amount.
    #[track_caller]
    pub fn check_delivery(&self, platform: &Platform, vendor: &Vendor) {
        let mut client = platform.client(&self.token);
        let claims = self.told.iter().filter(|(_, won)| won.prize == 2).take(12);
        let mut wanted: Vec<&Won> = self.told.values().filter(|won| won.prize == 1).collect();
        for ((user, _), won) in claims {
            let body = json!({"user": user.to_string(), "award": won.award});
            let answer = client.post("/v1/claim", &body).unwrap();
            assert_eq!(answer.status, 200, "{answer:?}");
            wanted.push(won);
        }
        assert!(!wanted.is_empty());
        let since = Instant::now();
        loop {
            let paid = vendor.paid();
            let open = wanted.iter().filter(|won| !paid.contains_key(&won.award)).count();
            if open == 0 {
                break;
            }
            assert!(since.elapsed() < PATIENCE, "{open} of {} prizes are not paid", wanted.len());
            std::thread::sleep(Duration::from_millis(50));
        }
        let paid = vendor.paid();
        wanted.iter().for_each(|won| assert_eq!(paid[&won.award], won.fen, "{won:?}"));
        vendor.check();
    }
}

/// A user's whole list, page by page.
pub fn prizes(client: &mut Client, user: u64) -> Vec<Value> {
    let mut all: Vec<Value> = Vec::new();
    loop {
        let after = all.last().map_or(String::new(), |a| format!("&after={}", a["award"].as_str().unwrap()));
        let answer = client.get(&format!("/v1/prizes?user={user}&limit=100{after}")).unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
        all.extend(answer.body["awards"].as_array().into_iter().flatten().cloned());
        if answer.body["more"] != Value::Bool(true) {
            return all;
        }
    }
}

/// The players of one connection, in turn.
fn play(client: &mut Client, players: &mut [Player], until: Instant) -> Heard {
    let mut heard = Heard::default();
    while Instant::now() < until {
        let begun = Instant::now();
        for player in players.iter_mut().filter(|p| !p.limited) {
            let counter = player.next;
            player.sent = player.sent.max(counter);
            let Ok(answer) = client.post("/v1/submit", &entry(player.user, counter)) else { return heard };
            if answer.status == 503 {
                return heard;
            }
            let name = outcome(&answer).to_owned();
            match name.as_str() {
                "WON" => {
                    heard.wins.push(((player.user, counter), Won::of(&answer.body["award"])));
                    player.next = number(&answer.body["nextCounter"]) as u32;
                }
                "LOST" => player.next = number(&answer.body["nextCounter"]) as u32,
                "LIMIT_REACHED" => player.limited = true,
                "PENDING" | "TOO_EARLY" | "BUSY" | "UNAVAILABLE" => {}
                _ => panic!("counter {counter} of user {}: {answer:?}", player.user),
            }
            *heard.outcomes.entry(name).or_default() += 1;
        }
        // A round of everybody takes at least the least interval.
        std::thread::sleep(Duration::from_millis(11).saturating_sub(begun.elapsed()));
    }
    heard
}

/// All draws of these players again, in order. Wins that were not told before are possible: their answers were lost.
fn resend(client: &mut Client, players: &[Player], told: &BTreeMap<Draw, Won>) -> Vec<(Draw, Won)> {
    let mut wins = Vec::new();
    for player in players {
        for counter in 1..=player.sent {
            let draw = (player.user, counter);
            let since = Instant::now();
            let answer = loop {
                let answer = client.post("/v1/submit", &entry(player.user, counter)).unwrap();
                if !matches!(outcome(&answer), "PENDING" | "TOO_EARLY" | "BUSY") {
                    break answer;
                }
                assert!(since.elapsed() < PATIENCE, "{draw:?} is never answered: {answer:?}");
                std::thread::sleep(Duration::from_millis(5));
            };
            let won = (outcome(&answer) == "WON").then(|| Won::of(&answer.body["award"]));
            if let Some(before) = told.get(&draw) {
                assert_eq!(won.as_ref(), Some(before), "{draw:?} was told a win: {answer:?}");
            }
            wins.extend(won.map(|won| (draw, won)));
        }
    }
    wins
}
