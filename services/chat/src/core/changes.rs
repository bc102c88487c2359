//! Changes of a conversation: who may make them, and what they do.
//!
//! Each is a message with a seq of its own. It goes to everybody who is in the conversation before or after it: who
//! comes sees it as his first message, who leaves as his last.

use super::conversation::{Conversation, Member};
use super::send::{Logged, counts};
use super::state::{Key, State};
use crate::limits;
use prost::Message as _;
use protocol::calls::CallError;
use protocol::v1::change::What;
use protocol::v1::{
    Change, ConversationKind, FanOut, GroupMade, Members, MessageKind, MutedSet, Recalled, Role, RoleSet,
};
use records::ChatMessage;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Why a decision stops.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Stop {
    /// Something must be in memory first.
    Need(Key),
    /// It can't be done.
    No(CallError),
}

impl From<Key> for Stop {
    fn from(key: Key) -> Stop {
        Stop::Need(key)
    }
}

impl From<CallError> for Stop {
    fn from(error: CallError) -> Stop {
        Stop::No(error)
    }
}

/// It came in the wrong state, or from the wrong person.
pub fn refuse<T>(why: &str) -> Result<T, Stop> {
    Err(Stop::No(CallError::Refused(why.to_owned())))
}

/// It can't be right.
pub fn invalid<T>(why: String) -> Result<T, Stop> {
    Err(Stop::No(CallError::Invalid(why)))
}

/// Checks a name for a group or a user.
///
/// # Errors
/// What is wrong with it.
pub fn check_name(name: &str) -> Result<(), Stop> {
    let chars = name.chars().count();
    if chars == 0 || chars > limits::NAME_CHARS_MAX || name.chars().any(char::is_control) {
        return invalid(format!(
            "a name has 1 to {} characters and no control characters; this one has {chars}",
            limits::NAME_CHARS_MAX
        ));
    }
    Ok(())
}

/// A change that a user asks for.
#[derive(Clone, Debug)]
pub enum Wish {
    /// These come in.
    Add(Vec<u64>),
    /// These go; alone oneself: leave.
    Remove(Vec<u64>),
    /// Somebody gets another role.
    Role(u64, i32),
    /// Somebody (0: everybody but owner and admins) may not write, or may again.
    Mute(u64, bool),
    /// Another name.
    Name(String),
    /// The end.
    Dissolve,
}

impl State {
    /// A member's view of a group that can be changed.
    fn group_of(&self, id: u64, user: u64) -> Result<(&Conversation, &Member), Stop> {
        let unknown = || CallError::NotFound("there is no such group, or you are not in it".to_owned());
        let conversation = self.settled(id)?.ok_or_else(unknown)?;
        let member = conversation.member(user).ok_or_else(unknown)?;
        if conversation.kind() != ConversationKind::Group {
            return refuse("this is no group");
        }
        if conversation.head.dissolved {
            return refuse("the group is dissolved");
        }
        Ok((conversation, member))
    }

    /// Decides about a group that a user makes; nothing to write when the same request made it before.
    ///
    /// # Errors
    /// What is needed, or why not.
    pub fn decide_group(
        &mut self,
        user: u64,
        (device, request): (u64, u64),
        name: &str,
        members: &[u64],
        now_ms: u64,
    ) -> Result<(u64, Vec<Logged>), Stop> {
        check_name(name)?;
        let maker = self.loaded(user)?;
        let made = |m: &&super::user::Made| m.device == device && m.request == request;
        if let Some(made) = maker.person.made.iter().find(made) {
            return Ok((made.conversation, Vec::new()));
        }
        let mut all: BTreeSet<u64> = members.iter().copied().filter(|m| *m != 0).collect();
        all.insert(user);
        if all.len() > limits::MADE_MEMBERS_MAX {
            let most = limits::MADE_MEMBERS_MAX;
            return invalid(format!(
                "a group is made with at most {most} members; add the others afterwards"
            ));
        }
        for member in &all {
            self.check_comes(*member, user)?;
        }
        let members: Vec<u64> = all.into_iter().collect();
        let large = members.len() > self.options.write_members_max;
        let what = What::Made(GroupMade { name: name.to_owned(), members });
        let id = self.new_id(now_ms)?;
        let body = Change { by: user, what: Some(what) }.encode_to_vec();
        let fan_out = if large { FanOut::Read } else { FanOut::Write };
        let message = ChatMessage {
            message_id: self.id(now_ms)?,
            conversation: id,
            seq: 1,
            device,
            counter: request,
            sent_ms: now_ms,
            kind: MessageKind::Change as u8,
            fan_out: fan_out as u8,
            body,
            ..ChatMessage::default()
        };
        Ok((id, vec![Logged::Message(Arc::new(message))]))
    }

    /// Whether a user may be brought into one more conversation by another.
    fn check_comes(&self, member: u64, by: u64) -> Result<(), Stop> {
        let loaded = self.loaded(member)?;
        if loaded.links.len() >= limits::CONVERSATIONS_MAX {
            return refuse(&format!(
                "user {member} is in {} conversations; more are not possible",
                limits::CONVERSATIONS_MAX
            ));
        }
        if loaded.person.friend(by).is_some_and(|f| f.blocks) {
            return refuse(&format!("user {member} has blocked you"));
        }
        Ok(())
    }

    /// The next id.
    pub fn id(&mut self, now_ms: u64) -> Result<u64, Stop> {
        self.ids.next(now_ms).ok_or(Stop::No(CallError::Busy(50)))
    }

    /// The id of a new conversation.
    pub(super) fn new_id(&mut self, now_ms: u64) -> Result<u64, Stop> {
        self.conversation_id(now_ms).ok_or(Stop::No(CallError::Busy(50)))
    }

    /// Decides about a change; nothing to write when it is so already.
    ///
    /// # Errors
    /// What is needed, or why not.
    pub fn decide_change(
        &mut self,
        id: u64,
        user: u64,
        wish: &Wish,
        now_ms: u64,
    ) -> Result<Vec<Logged>, Stop> {
        let Some(what) = self.what_of(id, user, wish)? else { return Ok(Vec::new()) };
        let (conversation, _) = self.group_of(id, user)?;
        let (seq, fan_out) = (conversation.taken_seq + 1, conversation.head.fan_out as u8);
        let after = match &what {
            What::Joined(more) => conversation.members.len() + more.users.len(),
            _ => conversation.members.len(),
        };
        let grows = !conversation.head.is_large() && after > self.options.write_members_max;
        let mut records = Vec::new();
        let mut push = |state: &mut State, seq, what| -> Result<(), Stop> {
            let body = Change { by: user, what: Some(what) }.encode_to_vec();
            let message_id = state.id(now_ms)?;
            let kind = MessageKind::Change as u8;
            let message = ChatMessage {
                message_id,
                conversation: id,
                seq,
                sent_ms: now_ms,
                kind,
                fan_out,
                body,
                ..ChatMessage::default()
            };
            records.push(Logged::Message(Arc::new(message)));
            Ok(())
        };
        push(self, seq, what)?;
        if grows {
            push(self, seq + 1, What::FanOut(FanOut::Read as i32))?;
        }
        Ok(records)
    }

    /// The change that a wish comes to, if any.
    fn what_of(&self, id: u64, user: u64, wish: &Wish) -> Result<Option<What>, Stop> {
        let (conversation, me) = self.group_of(id, user)?;
        let (leads, owns) = (me.leads(), me.role == Role::Owner as u32);
        Ok(match wish {
            Wish::Add(users) => {
                check_count(users)?;
                let set: BTreeSet<u64> = users.iter().copied().filter(|u| *u != 0).collect();
                let users: Vec<u64> = set.into_iter().filter(|u| conversation.member(*u).is_none()).collect();
                if conversation.members.len() + users.len() > self.options.members_max {
                    return refuse(&format!("a group has at most {} members", self.options.members_max));
                }
                users.iter().try_for_each(|u| self.check_comes(*u, user))?;
                (!users.is_empty()).then_some(What::Joined(Members { users }))
            }
            Wish::Remove(users) => {
                check_count(users)?;
                let mut gone = Vec::new();
                for who in users.iter().collect::<BTreeSet<_>>() {
                    let Some(member) = conversation.member(*who) else { continue };
                    if *who == user && owns {
                        return refuse("the owner makes somebody else owner first, or dissolves the group");
                    }
                    if *who != user && !(leads && member.role < me.role) {
                        return refuse("only owner and admins remove members, and none of their own rank");
                    }
                    gone.push(*who);
                }
                (!gone.is_empty()).then_some(What::Left(Members { users: gone }))
            }
            Wish::Role(who, role) => {
                if !owns {
                    return refuse("only the owner gives roles");
                }
                if !matches!(Role::try_from(*role), Ok(Role::Member | Role::Admin | Role::Owner))
                    || *who == user
                {
                    return invalid("a role is member, admin or owner, and somebody else's".to_owned());
                }
                let Some(member) = conversation.member(*who) else {
                    return Err(CallError::NotFound(format!("user {who} is not in the group")).into());
                };
                let set = What::Role(RoleSet { user: *who, role: *role });
                (member.role.cast_signed() != *role).then_some(set)
            }
            Wish::Mute(who, muted) => {
                if !leads {
                    return refuse("only owner and admins mute");
                }
                let now = match (who, conversation.member(*who)) {
                    (0, _) => conversation.head.muted_all,
                    (_, None) => {
                        return Err(CallError::NotFound(format!("user {who} is not in the group")).into());
                    }
                    (_, Some(member)) if member.role >= me.role => {
                        return refuse("nobody mutes those of his own rank");
                    }
                    (_, Some(member)) => member.muted,
                };
                (now != *muted).then_some(What::Muted(MutedSet { user: *who, muted: *muted }))
            }
            Wish::Name(name) => {
                check_name(name)?;
                if !leads {
                    return refuse("only owner and admins rename the group");
                }
                (conversation.head.name != *name).then(|| What::Name(name.clone()))
            }
            Wish::Dissolve => {
                if !owns {
                    return refuse("only the owner dissolves the group");
                }
                Some(What::Dissolved(true))
            }
        })
    }

    /// Decides about recalling a message that was read before; nothing to write when it is recalled already.
    ///
    /// # Errors
    /// What is needed, or why not.
    pub fn decide_recall(
        &mut self,
        user: u64,
        message: &ChatMessage,
        now_ms: u64,
    ) -> Result<Vec<Logged>, Stop> {
        let (id, seq) = (message.conversation, message.seq);
        let unknown =
            || CallError::NotFound("there is no such message, or you are not in the conversation".into());
        let conversation = self.settled(id)?.ok_or_else(unknown)?;
        let member = conversation.member(user).ok_or_else(unknown)?;
        if !member.sees(seq) {
            return Err(unknown().into());
        }
        if !counts(message.kind) {
            return refuse("this is no message of a user");
        }
        let fresh = message.sender == user && now_ms <= message.sent_ms + limits::RECALL_MS;
        let leads = conversation.kind() == ConversationKind::Group && member.leads();
        if !fresh && !leads {
            return refuse("a message is recalled by its sender within two minutes, or by owner and admins");
        }
        if conversation.head.is_recalled(seq) {
            return Ok(Vec::new());
        }
        let (next, fan_out) = (conversation.taken_seq + 1, conversation.head.fan_out as u8);
        let recall = ChatMessage {
            message_id: self.id(now_ms)?,
            conversation: id,
            seq: next,
            // Whose message it is: what is not counted any more is his.
            counter: message.sender,
            sent_ms: now_ms,
            kind: MessageKind::Recall as u8,
            fan_out,
            body: Recalled { seq, by: user }.encode_to_vec(),
            ..ChatMessage::default()
        };
        Ok(vec![Logged::Message(Arc::new(recall))])
    }
}

fn check_count(users: &[u64]) -> Result<(), Stop> {
    let most = limits::CHANGED_MEMBERS_MAX;
    if users.is_empty() || users.len() > most {
        return invalid(format!("{} users; 1 to {most} at a time", users.len()));
    }
    Ok(())
}
