//! What a node asks the store, and what becomes of the answer.

use super::store::Store;
use super::world::{Event, World};
use chat::cluster::Want;
use chat::core::{Key, StoredConversation, StoredLink, StoredUser, stored};
use protocol::v1::SendAnswer;
use records::ChatMessage;

/// A question to the store.
#[derive(Clone)]
pub(super) enum Load {
    /// For a decision; the term of the conversation's bucket where it has one.
    Want(Want, u32),
    /// A timeline's user, under a term.
    User(u64, u32),
    /// A user's places in conversations, under a term.
    Links(u64, Vec<(u64, u64)>, u32),
    /// What is not handed on in a bucket.
    Unfanned(u16, u32),
}

/// An answer of the store.
pub(super) enum Data {
    Conversation(u64, Option<Box<StoredConversation>>, u32),
    Pair(u64, u64, Option<u64>),
    Glimpse(StoredUser),
    Sent(chat::core::SentKey, Option<SendAnswer>, u32),
    Messages(u64, Vec<ChatMessage>, u32),
    User(StoredUser, u32),
    Links(u64, Vec<(u64, u64)>, Option<Vec<StoredLink>>, u32),
    Unfanned(Vec<StoredConversation>, u32),
}

impl World {
    pub fn load(&mut self, n: usize, load: Load) {
        let (life, wait) = (self.nodes[n].life, self.between(1, 10));
        self.push(wait, Event::Load(n, life, load));
    }

    /// A question comes to the store.
    pub fn load_comes(&mut self, n: usize, life: u32, load: Load) {
        let trouble = self.config.store_trouble;
        let is_lost = self.is_out() || self.trouble(trouble);
        if is_lost && matches!(load, Load::Unfanned(..) | Load::User(..)) {
            // Asked until it is known.
            let wait = self.between(50, 300);
            return self.push(wait, Event::Load(n, life, load));
        }
        let data = match &load {
            Load::Links(user, asked, term) if is_lost => Some(Data::Links(*user, asked.clone(), None, *term)),
            _ if is_lost => None,
            load => read(&self.store, load),
        };
        let want = match load {
            Load::Want(want, _) => Some(want),
            _ => None,
        };
        let wait = if self.trouble(trouble) { self.between(50, 2_000) } else { self.between(1, 10) };
        self.push(wait, Event::Loaded(n, life, want, Box::new(data)));
    }

    /// The answer.
    pub fn loaded(&mut self, n: usize, want: Option<Want>, data: Option<Data>) {
        let now_ms = self.now_ms;
        let Some(up) = self.nodes[n].up.as_mut() else { return };
        let on = &mut up.conversations;
        want.iter().for_each(|want| on.answered(want));
        match data {
            None => {}
            Some(Data::Conversation(_, Some(found), term)) => on.install(*found, term, now_ms),
            Some(Data::Conversation(id, None, term)) => on.install_missing(id, term),
            Some(Data::Pair(low, high, id)) => on.install_pair(low, high, id, now_ms),
            Some(Data::Glimpse(user)) => on.install_user(user, now_ms),
            Some(Data::Sent(key, answer, term)) => on.install_found(key, answer, term),
            Some(Data::Messages(id, messages, term)) => on.give_messages(id, messages, term),
            Some(Data::User(user, term)) => up.timelines.install(user, term, now_ms),
            Some(Data::Links(user, asked, found, term)) => {
                up.timelines.resolve(user, &asked, found.as_deref(), term);
            }
            Some(Data::Unfanned(found, term)) => {
                self.counters.found_unfanned += found.len() as u64;
                found.into_iter().for_each(|c| on.install(c, term, now_ms));
            }
        }
        self.retry(n);
        self.pump(n);
    }
}

fn read(store: &Store, load: &Load) -> Option<Data> {
    Some(match load {
        Load::User(user, term) => Data::User(store.tables.user(*user), *term),
        Load::Links(user, asked, term) => {
            let links = asked.iter().filter_map(|(id, _)| store.tables.link(*user, *id)).collect();
            Data::Links(*user, asked.clone(), Some(links), *term)
        }
        Load::Unfanned(bucket, term) => Data::Unfanned(store.unfanned(*bucket), *term),
        Load::Want(Want::Messages { conversation, from, to }, term) => {
            Data::Messages(*conversation, store.tables.messages(*conversation, *from, *to), *term)
        }
        Load::Want(Want::Key(key), term) => match key {
            Key::User(user) => Data::Glimpse(store.tables.user(*user)),
            Key::Conversation(id) => Data::Conversation(*id, store.conversation_of(*id).map(Box::new), *term),
            Key::Pair(low, high) => {
                let name = chat::store::owned::Name::Pair { low: *low, high: *high };
                Data::Pair(*low, *high, store.tables.names.get(&name).copied())
            }
            Key::Sent(key) => Data::Sent(*key, store.sent(*key).map(|m| stored(&m)), *term),
            Key::Settled(_) | Key::Elsewhere(_) => return None,
        },
    })
}
