//! `chat.sync`: a device comes back 10,000 messages behind, on a connection of its own, and pages until it has them all.
//!
//! The messages are in groups of 100, in which everybody writes; when the last of them has long been in the store and
//! left memory, members come one after the other with a cursor from before.

use super::world::{BODY, Wanted, World, alone, clean};
use crate::Plan;
use crate::measure::{Samples, now_ns};
use crate::report::Report;
use anyhow::{Result, bail};
use client::{Connection, Credential, Options};
use loadgen::chat::flood::{self, Talk};
use protocol::v1::chat_answer::Answer;
use protocol::v1::chat_request::Ask;
use protocol::v1::{ChatRequest, SyncRequest};
use runtime::{Clock, Shutdown, SystemClock};
use std::time::Duration;

/// What this file measures.
pub const FIGURES: &[&str] = &["chat.sync", "chat.sync.first"];

const GROUP: u32 = 100;
const MESSAGES: u64 = 10_000;

/// Messages a second in the group, while it is filled: ten of each member.
const RATE: f64 = 1_000.0;

/// Between the last message and the first who comes: several checkpoints.
const REST: Duration = Duration::from_secs(12);

/// Entries that a device asks for at a time.
const PAGE: u32 = 500;

/// Patience with an answer, in ms.
const ANSWER_MS: u64 = 30_000;

/// What one member found.
struct Synced {
    first_ms: f64,
    all_ms: f64,
    pages: u32,
    entries: u64,
    messages: u64,
    bytes: u64,
}

/// Measures it.
pub fn run(plan: &Plan, report: &mut Report) -> Result<()> {
    let mut world = World::start(plan, &[])?;
    let messages = plan.sized(MESSAGES);
    let run_ms = messages * 1_000 / RATE as u64;
    let wanted = Wanted { talk: Talk::Groups(GROUP), users: GROUP, rate: RATE, run_ms };
    let first_user = world.users(GROUP);
    let mut config = world.config(&wanted, first_user);
    config.warm_ms = 0;
    let filled = flood::run(&config, &SystemClock::shared(), &Shutdown::new())?;
    clean(&filled)?;
    std::thread::sleep(if plan.quick { Duration::from_millis(500) } else { REST });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut first, mut all, mut last) = (Samples::default(), Samples::default(), None);
    for turn in 0..=plan.runs.max(5) as u64 {
        let user = first_user + turn;
        let synced = runtime.block_on(sync(&world, user))?;
        if synced.entries < filled.acked {
            bail!("user {user} was given {} entries of {} messages", synced.entries, filled.acked);
        }
        // The first warms up.
        if turn > 0 {
            first.push(synced.first_ms);
            all.push(synced.all_ms);
            last = Some(synced);
        }
    }
    let Some(Synced { pages, entries, messages, bytes, .. }) = last else { bail!("nobody synced") };
    let note = format!(
        "from the beginning of the connection, login and all, to the last of {entries} entries with {messages} messages of {BODY} B beside them, {:.1} MB in {pages} pages of at most {PAGE}, one asked for after the other; read from the store, nothing else going on",
        bytes as f64 / 1e6
    );
    alone(report, "chat.sync", &all, "ms", "reported", &note);
    let note = "from the beginning of the connection to the first page";
    alone(report, "chat.sync.first", &first, "ms", "reported", note);
    Ok(())
}

async fn sync(world: &World, user: u64) -> Result<Synced> {
    let start = now_ns();
    let since_ms = || (now_ns() - start) as f64 / 1e6;
    let options = Options {
        address: world.platform.frames.to_string(),
        tls: None,
        heartbeats: None,
        credential: Credential::User(world.platform.key.user(user, SystemClock.now_ms())),
        device: 1 << 40 | user,
        client: "bench".to_owned(),
        answer_ms: ANSWER_MS,
        clock: SystemClock::shared(),
    };
    let mut connection = Connection::open(options).await?;
    let mut seen = Synced { first_ms: 0.0, all_ms: 0.0, pages: 0, entries: 0, messages: 0, bytes: 0 };
    // A cursor from before everything, as a device has that was there first.
    let mut cursor = 1;
    loop {
        let ask = SyncRequest { cursor, limit: PAGE, pulled: Vec::new() };
        let request = ChatRequest { ask: Some(Ask::Sync(ask)), ..ChatRequest::default() };
        let answer = connection.ask(&request).await?.answer;
        let Some(Answer::Sync(page)) = answer else { bail!("no page, but {answer:?}") };
        seen.pages += 1;
        seen.entries += page.entries.len() as u64;
        let bodies = page.entries.iter().filter_map(|e| e.message.as_ref()).map(|m| m.body.len() as u64);
        (seen.messages, seen.bytes) =
            bodies.fold((seen.messages, seen.bytes), |(n, bytes), body| (n + 1, bytes + body));
        if seen.pages == 1 {
            seen.first_ms = since_ms();
        }
        if !page.more {
            seen.all_ms = since_ms();
            return Ok(seen);
        }
        if page.cursor <= cursor {
            bail!("a page that leads nowhere");
        }
        cursor = page.cursor;
    }
}
