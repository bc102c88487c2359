//! Chat in a cluster on virtual time: nodes that own buckets of conversations and of timelines, and lose them.
//!
//! The nodes' own cores ([`chat::cluster`]) are driven here as the node drives them. What is between them and the world is
//! simulated: a store whose answers are lost and whose calls come late or again, hands and acknowledgements that are
//! lost, doubled and late, nodes that are killed, stand still and wake, buckets that change hands, devices on bad networks,
//! conversations and timelines that the store refuses for a while.
//! In the end everything is repaired, the cluster comes to rest, and an auditor who reads only what is stored and what
//! devices heard checks the laws of chat:
//!
//! 1. seqs are continuous, and a message that was acknowledged is there, once, in its sender's order;
//! 2. it is in the timeline of everybody who was in the conversation at its seq, once, and in nobody else's;
//! 3. a device has everything up to what it has confirmed, and in the end everything;
//! 4. unread counts are the counts from messages;
//! 5. what stands between two users is the same for both and for their conversation;
//! 6. what a user was told that he has read, or deleted, stays so over all owners, and none of his devices heard of more;
//!    in the end everybody sees whom he watches online.

mod ask;
mod audit;
mod audit_own;
mod book;
mod device;
mod load;
mod node;
mod presence;
mod push;
mod store;
mod world;

/// How large the world is and how badly it is treated.
#[derive(Clone, Debug)]
pub struct ChatConfig {
    /// Nodes.
    pub nodes: u16,
    /// Users.
    pub users: u64,
    /// Devices of each, at most.
    pub devices: u64,
    /// Messages and requests go on for so long, in ms.
    pub active_ms: u64,
    /// One call of so many to the store goes wrong; 0: none.
    pub store_trouble: u64,
    /// One message of so many between nodes, and between nodes and devices, goes wrong; 0: none.
    pub network_trouble: u64,
    /// Kills, stand-stills and drains, at most.
    pub upsets: u32,
    /// What is allotted counts as committed: sync reads past the committed cursor.
    #[cfg(feature = "planted")]
    pub reads_past: bool,
}

impl Default for ChatConfig {
    fn default() -> ChatConfig {
        ChatConfig {
            nodes: 3,
            users: 8,
            devices: 2,
            active_ms: 15_000,
            store_trouble: 10,
            network_trouble: 10,
            upsets: 10,
            #[cfg(feature = "planted")]
            reads_past: false,
        }
    }
}

/// How much happened in a run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ChatCounters {
    /// Messages in the store.
    pub messages: u64,
    /// Those of them that a sender heard of.
    pub told: u64,
    /// Entries of timelines.
    pub entries: u64,
    /// Changes of who is in a conversation.
    pub moves: u64,
    /// Nodes that were killed.
    pub kills: u64,
    /// Nodes that stood still and woke.
    pub freezes: u64,
    /// Epochs in which nodes served.
    pub epochs: u64,
    /// Buckets that changed hands.
    pub claims: u64,
    /// Steps that were refused because their bucket had another owner.
    pub refused: u64,
    /// Steps that were done and whose answer was lost.
    pub ambiguous: u64,
    /// Copies of steps that arrived behind later ones.
    pub late_steps: u64,
    /// Single conversations and timelines that the store refused.
    pub rests: u64,
    /// Ticks of nodes times conversations that had gone on without some of their timelines.
    pub late: u64,
    /// Hands that were lost, doubled or late.
    pub hand_troubles: u64,
    /// Entries that the store had already.
    pub known_entries: u64,
    /// Conversations that a new owner found not handed on.
    pub found_unfanned: u64,
    /// Syncs that were answered.
    pub syncs: u64,
    /// Entries that came by push.
    pub pushes: u64,
    /// Read positions that were pushed.
    pub read_pushes: u64,
    /// Comings and goings that were pushed.
    pub presence_pushes: u64,
    /// Read positions that were acknowledged.
    pub reads: u64,
    /// Deletions that were acknowledged.
    pub deletions: u64,
    /// Conversations and users that left memory in a break.
    pub evicted: u64,
    /// Events.
    pub events: u64,
}

/// Something that breaks a law.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChatViolation {
    /// The law, 1 to 6; 0: the cluster did not come to rest, or found itself wrong.
    pub law: u8,
    /// What was found.
    pub what: String,
}

impl std::fmt::Display for ChatViolation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "law {} of chat: {}", self.law, self.what)
    }
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct ChatReport {
    /// Hash of every event: the same for the same seed and configuration.
    pub trace_hash: u64,
    /// What breaks a law; empty if all hold.
    pub violations: Vec<ChatViolation>,
    /// How much happened.
    pub counters: ChatCounters,
    /// The last events, for people: ms since the world began, and what happened.
    pub tail: Vec<String>,
}

/// Lets a cluster chat, and audits it.
pub fn run(seed: u64, config: ChatConfig) -> ChatReport {
    let mut world = world::World::new(seed, config);
    world.run();
    let violations = audit::audit(&mut world);
    let mut counters = world.counters;
    counters.events = world.trace.events();
    let trace = world.trace;
    ChatReport { trace_hash: trace.hash(), violations, counters, tail: trace.tail() }
}
