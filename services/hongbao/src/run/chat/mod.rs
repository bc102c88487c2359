//! The role chat, for an installation whose front doors are other processes.
//!
//! `chat.store` says in which form. `"log"`: the one node that keeps its own log, with everything in `DATA/chat` of its machine,
//! as with `hongbao up`. `"postgresql"`: one of any number of nodes that share the conversations ([`owners`]). An installation
//! stays with what it began with; who starts in the other form, or with another folder, is refused ([`home`]).
//!
//! Official accounts read delivery's journal from the queue; their place in it is committed when their messages are durable,
//! and what comes twice is known by its mark.

mod home;
mod owners;

use self::home::Home;
use super::base::Base;
use crate::admin::NodeView;
use crate::config::{ChatStore, Mistake};
use crate::run::section::CHAT_NODE_MAX;
use anyhow::Context as _;
use chat::{ChatNode, ChatOptions, accounts};
use protocol::calls::{ChatHost, ChatPeerHost};
use runtime::Tasks;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;

pub use owners::Owner;

/// Sets of tasks that the node's parts end with.
#[derive(Clone, Copy)]
pub struct Stages<'a> {
    /// First: what is handed over to other nodes.
    pub hand_over: &'a Tasks,
    /// Then: official accounts.
    pub behind: &'a Tasks,
    /// Last: the node itself.
    pub node: &'a Tasks,
}

/// A chat node of one of the two forms.
#[derive(Clone)]
pub enum ChatRole {
    /// With its own log.
    Log(Arc<ChatNode>),
    /// One among others.
    Owner(Arc<Owner>),
}

impl ChatRole {
    /// Opens the node.
    ///
    /// # Errors
    /// When the conversations are elsewhere, something of this installation's can't be used, or a topic can't be read.
    pub async fn open(base: &Base, data: &Path, stages: Stages<'_>) -> anyhow::Result<ChatRole> {
        let section = &base.config.chat;
        if !section.enabled {
            let text = "chat.enabled is false, and this process has the role chat: leave out one of both";
            return Err(Mistake(text.into()).into());
        }
        let (node, now_ms) = (base.config.node.id, base.clock.now_ms());
        debug_assert!(node <= CHAT_NODE_MAX, "checked with the configuration");
        let options = ChatOptions { node, ..section.options.clone() };
        if section.store == ChatStore::Postgresql {
            home::claim(&base.pg, Home::Database, node, now_ms).await?;
            return Ok(ChatRole::Owner(Owner::open(base, options, stages).await?));
        }
        let folder = data.join("chat");
        std::fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        home::claim(&base.pg, Home::Folder(&folder), node, now_ms).await?;
        let chat = ChatNode::open(options, &folder, base.clock.clone(), stages.node).await?;
        let status = chat.status();
        tracing::info!(cursor = status.cursor, log_end = status.log_end, "chat has recovered");
        accounts::start(&chat, &base.queue()?, stages.behind).await?;
        Ok(ChatRole::Log(chat))
    }

    /// Returns when the node may be given work.
    pub async fn has_begun(&self) {
        if let ChatRole::Owner(owner) = self {
            owner.has_begun().await;
        }
    }

    /// For front doors.
    pub fn host(&self) -> Arc<dyn ChatHost> {
        match self {
            ChatRole::Log(chat) => Arc::clone(chat) as _,
            ChatRole::Owner(owner) => Arc::clone(owner.node()) as _,
        }
    }

    /// For other chat nodes.
    pub fn peers(&self) -> Option<Arc<dyn ChatPeerHost>> {
        match self {
            ChatRole::Log(_) => None,
            ChatRole::Owner(owner) => Some(Arc::clone(owner.node()) as _),
        }
    }

    /// For operators.
    pub fn view(&self) -> Arc<dyn NodeView> {
        match self {
            ChatRole::Log(chat) => Arc::clone(chat) as _,
            ChatRole::Owner(owner) => Arc::clone(owner) as _,
        }
    }
}

impl NodeView for ChatNode {
    fn status(&self) -> Value {
        json!(ChatNode::status(self))
    }
}
