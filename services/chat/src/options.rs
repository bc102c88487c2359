//! Settings of the chat service, with their defaults.

use serde::{Deserialize, Serialize};

/// Settings of chat (section `[chat]` of the configuration).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ChatOptions {
    /// Number of this node in the ids that it gives, 0 to 1,023; no other chat node may have it.
    pub node: u16,
    /// Two users may write to each other only when they are friends.
    pub friends_only: bool,
    /// Members up to which messages are written into timelines; larger groups are told of heads.
    pub write_members_max: usize,
    /// Most members of a group.
    pub members_max: usize,
    /// Devices of a user; a further one takes the place of the one silent longest.
    pub devices_max: usize,
    /// How often a device's heartbeat comes, in ms: it counts as online for two of them and ten seconds more.
    pub heartbeat_ms: u64,
    /// Time between two tellings of a large conversation's head, in ms.
    pub tick_ms: u64,
    /// Entries that a device has not confirmed for so long are pushed once more, in ms.
    pub again_ms: u64,
    /// Confirmed cursors go into the log so often, in ms.
    pub confirm_log_ms: u64,
    /// A checkpoint is made at least so often while there is something, in ms.
    pub checkpoint_ms: u64,
    /// ... and when so many users and conversations have changed.
    pub checkpoint_changes: usize,
    /// ... and when messages of so many bytes wait for the store. A commit moves what it has in one piece, which others have
    /// to wait for now and then, so that many small ones are noticed less than few large ones.
    pub checkpoint_bytes: usize,
    /// Sends refused with BUSY while so many bytes of messages wait for the store.
    pub unstored_bytes_max: usize,
    /// Sends refused with BUSY while so many records wait for the disk.
    pub pending_max: usize,
    /// Conversations kept in memory, about.
    pub conversations_max: usize,
    /// Users kept in memory, about.
    pub users_max: usize,
    /// Stored messages of a conversation that stay in memory.
    pub recent_messages: usize,
    /// Stored timeline entries of a user that stay in memory.
    pub recent_entries: usize,
    /// Language of texts for users who have said none.
    pub language: String,
    /// Words that no message may contain; may be swapped while it runs.
    pub words: Vec<String>,
    /// Official accounts and applications.
    pub accounts: crate::accounts::AccountsConfig,
}

impl Default for ChatOptions {
    fn default() -> ChatOptions {
        ChatOptions {
            node: 1,
            friends_only: true,
            write_members_max: 500,
            members_max: 100_000,
            devices_max: 10,
            heartbeat_ms: 30_000,
            tick_ms: 100,
            again_ms: 5_000,
            confirm_log_ms: 3_000,
            checkpoint_ms: 5_000,
            checkpoint_changes: 20_000,
            checkpoint_bytes: 6 << 20,
            unstored_bytes_max: 512 << 20,
            pending_max: 65_536,
            conversations_max: 200_000,
            users_max: 500_000,
            recent_messages: 16,
            recent_entries: 64,
            language: "zh-CN".to_owned(),
            words: Vec::new(),
            accounts: crate::accounts::AccountsConfig::default(),
        }
    }
}

/// Settings that contradict themselves.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("chat.{field}: {must}")]
pub struct OptionsError {
    /// Which one.
    pub field: &'static str,
    /// What would be right.
    pub must: String,
}

impl ChatOptions {
    /// Checks bounds and relations.
    ///
    /// # Errors
    /// The first setting that is wrong, and what would be right.
    pub fn check(&self) -> Result<(), OptionsError> {
        let wrong = |field, must: &str| Err(OptionsError { field, must: must.to_owned() });
        if self.node > crate::core::ids::NODE_MAX {
            return wrong("node", "0 to 1,023");
        }
        if self.write_members_max < 2 || self.write_members_max > 5_000 {
            return wrong("write_members_max", "2 to 5,000");
        }
        if self.members_max < self.write_members_max || self.members_max > 1_000_000 {
            return wrong("members_max", "at least write_members_max, at most 1,000,000");
        }
        if self.devices_max == 0 || self.devices_max > 32 {
            return wrong("devices_max", "1 to 32");
        }
        let times = [
            ("heartbeat_ms", self.heartbeat_ms),
            ("tick_ms", self.tick_ms),
            ("again_ms", self.again_ms),
            ("confirm_log_ms", self.confirm_log_ms),
            ("checkpoint_ms", self.checkpoint_ms),
        ];
        if let Some((field, _)) = times.into_iter().find(|(_, ms)| *ms < 10 || *ms > 3_600_000) {
            return wrong(field, "10 to 3,600,000 ms");
        }
        if self.checkpoint_bytes == 0 || self.checkpoint_bytes > self.unstored_bytes_max {
            return wrong("checkpoint_bytes", "at least 1, at most unstored_bytes_max");
        }
        if self.pending_max == 0 || self.pending_max > 1 << 20 {
            return wrong("pending_max", "1 to 1,048,576");
        }
        if self.recent_messages == 0 || self.recent_messages > 4_096 {
            return wrong("recent_messages", "1 to 4,096");
        }
        if self.recent_entries == 0 || self.recent_entries > 65_536 {
            return wrong("recent_entries", "1 to 65,536");
        }
        self.accounts.check()
    }

    /// How long a silent device counts as online, in ms.
    pub fn presence_ms(&self) -> u64 {
        2 * self.heartbeat_ms + 10_000
    }
}

#[cfg(test)]
mod tests {
    use super::ChatOptions;

    #[test]
    fn defaults_are_right_and_mistakes_are_named() {
        assert_eq!(ChatOptions::default().check(), Ok(()));
        let error = ChatOptions { tick_ms: 0, ..ChatOptions::default() }.check().unwrap_err();
        assert!(error.to_string().starts_with("chat.tick_ms: 10 to"));
        let late = ChatOptions { unstored_bytes_max: 1 << 20, ..ChatOptions::default() }.check();
        assert_eq!(
            late.unwrap_err().field,
            "checkpoint_bytes",
            "sends would be refused before a checkpoint is due"
        );
        let always = ChatOptions { checkpoint_bytes: 0, ..ChatOptions::default() }.check();
        assert_eq!(always.unwrap_err().field, "checkpoint_bytes", "one would be due all the time");
        let json = serde_json::json!({ "friends_only": false, "write_members_max": 10 });
        let options: ChatOptions = serde_json::from_value(json).unwrap();
        assert_eq!(
            (options.friends_only, options.write_members_max, options.members_max),
            (false, 10, 100_000)
        );
    }
}
