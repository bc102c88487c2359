//! `hongbao admin nodes | end-epoch | archive`: what an operator asks of a cluster's servers, without any of its processes.

use crate::cli::print;
use crate::config::{self, ChatStore, Config};
use crate::run::servers;
use anyhow::Context as _;
use campaign::NodeId;
use chat::store::owners::{OwnerBook as _, PgOwners};
use chat::store::{PgShelf, SCHEMA};
use clap::Args;
use lottery::ledger::{PgLedger, QuotaLedger};
use lottery::node::cluster::end_by_hand;
use ownership::NodeRow;
use ownership::members::{Announcement, MemberState, MemberTable as _, PgMembers, Role};
use queue::kafka::KafkaLanes;
use queue::lanes::{Lanes as _, export};
use runtime::{Clock as _, SystemClock, exit};
use serde::Serialize;
use serde_json::json;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Which cluster.
#[derive(Args)]
pub struct Which {
    /// Configuration file with the section [cluster].
    #[arg(long)]
    config: Option<PathBuf>,
    /// One setting: `--set cluster.postgres=postgres://...`.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
}

impl Which {
    fn load(&self) -> anyhow::Result<Config> {
        let config = config::load(self.config.as_deref(), &self.set)?;
        config.cluster.check(config.node.id, &[])?;
        Ok(config)
    }
}

/// A lottery node as the ledger and its lane have it.
#[derive(Serialize)]
struct NodeLine {
    node: u16,
    epoch: u32,
    /// `alive`, `dead` (its session is over and nobody has ended the epoch yet) or `ended`.
    session: &'static str,
    seen_ago_ms: u64,
    buckets: usize,
    low_water: u64,
    lane_position: Option<u64>,
    end_position: Option<u64>,
    open_leases: usize,
}

/// A chat node as the owners' book has it.
#[derive(Serialize)]
struct ChatLine {
    node: u16,
    epoch: u32,
    /// As of a lottery node.
    session: &'static str,
    seen_ago_ms: u64,
    buckets: usize,
}

/// Shows who is there: processes with their roles, of each lottery node epoch, session, buckets, lane and leases, and where
/// several chat nodes share the conversations, epoch, session and buckets of each.
pub async fn nodes(which: &Which, as_json: bool) -> anyhow::Result<u8> {
    let config = which.load()?;
    let pg = servers::postgres_now(&config, &config.cluster.postgres).await?;
    let ledger = PgLedger::open(pg.clone(), SystemClock.now_ms()).await?;
    let members = PgMembers::new(pg).alive().await?;
    let lanes = KafkaLanes::new(&servers::kafka_soon(&config, &SystemClock::shared()).await?)?;
    let rows = ledger.buckets(None).await?;
    let mut known: BTreeSet<u16> = rows.iter().filter_map(|row| row.owner.map(|owner| owner.0)).collect();
    known.extend(members.iter().filter(|member| member.role == Role::Lottery).map(|member| member.node));
    let now_ms = SystemClock.now_ms();
    let mut lines = Vec::new();
    for node in known {
        let Some(row) = ledger.epochs(NodeId(node)).await?.pop() else { continue };
        let owned = |owner: Option<(u16, u32)>| owner == Some((row.node, row.epoch));
        lines.push(NodeLine {
            node,
            epoch: row.epoch,
            session: session(&row, now_ms),
            seen_ago_ms: now_ms.saturating_sub(row.seen_at_ms),
            buckets: rows.iter().filter(|b| b.released.is_none() && owned(b.owner)).count(),
            low_water: row.low_water,
            lane_position: lanes.end(node).await.ok().map(|end| end.next.0),
            end_position: row.end_position,
            open_leases: ledger.open_leases(NodeId(node)).await?.len(),
        });
    }
    let chat = chat_lines(&config, &members).await?;
    if as_json {
        let value = json!({ "members": shown(&members), "lottery": lines, "chat": chat });
        print(&serde_json::to_string_pretty(&value)?);
    } else {
        print(&(table(&members, &lines) + &chat_table(&chat)));
    }
    Ok(exit::OK)
}

/// Chat nodes that own buckets or are there.
async fn chat_lines(config: &Config, members: &[Announcement]) -> anyhow::Result<Vec<ChatLine>> {
    if !config.chat.enabled || config.chat.store != ChatStore::Postgresql {
        return Ok(Vec::new());
    }
    let pg = servers::postgres_now_in(config, Some(SCHEMA), &config.cluster.postgres).await?;
    let shelf = PgShelf::on(pg, SystemClock.now_ms()).await?;
    let book = PgOwners::new(shelf.pg().clone());
    let mut rows = book.buckets().await?;
    rows.retain(|row| row.released.is_none());
    let mut known: BTreeSet<u16> = rows.iter().filter_map(|row| row.owner.map(|owner| owner.0)).collect();
    known.extend(members.iter().filter(|member| member.role == Role::Chat).map(|member| member.node));
    let now_ms = SystemClock.now_ms();
    let mut lines = Vec::new();
    for node in known {
        let Some(row) = book.epochs(node).await?.pop() else { continue };
        let owned = |owner: Option<(u16, u32)>| owner == Some((row.node, row.epoch));
        lines.push(ChatLine {
            node,
            epoch: row.epoch,
            session: session(&row, now_ms),
            seen_ago_ms: now_ms.saturating_sub(row.seen_at_ms),
            buckets: rows.iter().filter(|bucket| owned(bucket.owner)).count(),
        });
    }
    Ok(lines)
}

fn chat_table(lines: &[ChatLine]) -> String {
    if lines.is_empty() {
        return String::new();
    }
    let mut text = "\n\n   chat  epoch  session  seen ms ago  buckets".to_owned();
    for n in lines {
        // Writing into a string does not fail.
        let _ = write!(
            text,
            "\n{:>7} {:>6}  {:<7} {:>12} {:>8}",
            n.node, n.epoch, n.session, n.seen_ago_ms, n.buckets
        );
    }
    text
}

fn session(row: &NodeRow, now_ms: u64) -> &'static str {
    match row.ended {
        Some(_) => "ended",
        None if row.is_alive(now_ms) => "alive",
        None => "dead",
    }
}

fn shown(members: &[Announcement]) -> serde_json::Value {
    let member = |m: &Announcement| {
        json!({ "role": m.role.name(), "node": m.node, "address": m.address, "weight": m.weight,
                "draining": m.state == MemberState::Draining })
    };
    members.iter().map(member).collect()
}

fn table(members: &[Announcement], lines: &[NodeLine]) -> String {
    // Writing into a string does not fail.
    let mut text = format!("{:<9} {:>5}  {:<22} {}\n", "role", "node", "calls at", "state");
    for m in members {
        let state = if m.state == MemberState::Draining { "draining" } else { "serving" };
        let _ = writeln!(text, "{:<9} {:>5}  {:<22} {state}", m.role.name(), m.node, m.address);
    }
    let _ = writeln!(
        text,
        "\nlottery  epoch  session  seen ms ago  buckets  low water  lane position  end position  open leases"
    );
    let or_dash = |position: Option<u64>| position.map_or_else(|| "-".to_owned(), |p| p.to_string());
    for n in lines {
        let _ = writeln!(
            text,
            "{:>7} {:>6}  {:<7} {:>12} {:>8} {:>10} {:>14} {:>13} {:>12}",
            n.node,
            n.epoch,
            n.session,
            n.seen_ago_ms,
            n.buckets,
            n.low_water,
            or_dash(n.lane_position),
            or_dash(n.end_position),
            n.open_leases
        );
    }
    text.trim_end().to_owned()
}

/// Ends the epoch of a dead node by hand: what the other nodes do by themselves, with the same checks.
pub async fn end_epoch(which: &Which, node: u16) -> anyhow::Result<u8> {
    let config = which.load()?;
    let pg = servers::postgres_now(&config, &config.cluster.postgres).await?;
    let ledger = PgLedger::open(pg, SystemClock.now_ms()).await?;
    let lanes = KafkaLanes::new(&servers::kafka_soon(&config, &SystemClock::shared()).await?)?;
    let buried = end_by_hand(&ledger, &lanes, NodeId(node)).await?;
    let ended = if buried.ended { "ended now" } else { "had ended before" };
    print(&format!(
        "epoch {} of node {} {ended}; {} leases settled, {} units went back, {} leases left for a person",
        buried.epoch, buried.node, buried.settled, buried.returned, buried.refused
    ));
    Ok(if buried.refused == 0 { exit::OK } else { exit::CHECK_FAILED })
}

/// Copies the lanes to an archive folder, byte for byte; going on where the last copy ended.
pub async fn archive(which: &Which, into: &Path) -> anyhow::Result<u8> {
    let config = which.load()?;
    let groups = copy_lanes(&config, into, &mut |line| print(&line)).await?;
    print(&format!("{groups} groups added in {}", into.display()));
    Ok(exit::OK)
}

/// The same, telling `told` of each lane; how many groups were added.
///
/// # Errors
/// When brokers are away, a lane is not whole, or the folder can't be written.
pub async fn copy_lanes(config: &Config, into: &Path, told: &mut dyn FnMut(String)) -> anyhow::Result<u64> {
    std::fs::create_dir_all(into).with_context(|| format!("making {}", into.display()))?;
    let lanes = KafkaLanes::new(&servers::kafka_soon(config, &SystemClock::shared()).await?)?;
    let mut groups = 0;
    for node in 0..config.cluster.lanes {
        if lanes.end(node).await?.next.0 == 0 {
            continue;
        }
        let exported = export::export(&lanes, node, into).await?;
        groups += exported.groups;
        told(format!("lane {node}: {} groups added, up to position {}", exported.groups, exported.next.0));
    }
    Ok(groups)
}
