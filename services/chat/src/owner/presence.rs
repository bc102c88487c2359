//! Who is online: the questions and words of the timelines' core, carried to other owners and back.

use super::OwnerNode;
use super::lines::Lines;
use super::read::told;
use super::reign::Reign;
use super::say::Sayings;
use crate::cluster::{PresenceWord, USERS_MAX, presence_answer};
use crate::core::few;
use protocol::calls::{CallError, DeviceAt};
use protocol::peers as v1;
use protocol::v1::{PresenceAnswer, PresenceOf, PresenceRequest};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// How long an answer waits for what other owners say; of whom nothing was heard by then counts as away.
const PATIENCE: Duration = Duration::from_millis(500);

impl OwnerNode {
    pub(super) async fn presence(
        &self,
        who: DeviceAt,
        ask: PresenceRequest,
    ) -> Result<PresenceAnswer, CallError> {
        few(ask.users.len(), USERS_MAX, "users")?;
        let user = who.user;
        let may_see =
            self.look(user, |lines, now_ms, _| Ok(lines.core.may_see(user, &ask.users, now_ms))).await?;
        let mut seen: BTreeSet<u64> = may_see.surely.into_iter().collect();
        if !may_see.perhaps.is_empty() {
            seen.extend(self.stores.shelf.acquainted(user, &may_see.perhaps).await.map_err(told)?);
        }
        let allowed: Vec<u64> = ask.users.iter().copied().filter(|other| seen.contains(other)).collect();
        let until = tokio::time::Instant::now() + PATIENCE;
        let view = loop {
            let mut news = self.line_news.subscribe();
            let look = |lines: &mut Lines, now_ms, _| {
                Ok(Some(lines.core.presence(who, &allowed, ask.watch, now_ms)))
            };
            let view = self.look(user, look).await?;
            if view.missing.is_empty() || tokio::time::timeout_at(until, news.changed()).await.is_err() {
                break view;
            }
        };
        let persons = match &allowed[..] {
            [] => Vec::new(),
            users => self.stores.shelf.persons(users).await.map_err(told)?,
        };
        Ok(presence_answer(&allowed, &view.said, &persons))
    }

    /// What the timelines have to ask and to say; what is for this node's own is done at once.
    pub(super) fn turn_presence(&self, lines: &mut Lines, now_ms: u64) -> Sayings {
        let mut sayings = Sayings::default();
        let me = self.options.node;
        let asks = lines.core.presence_asks();
        if !asks.is_empty() {
            let routes = Arc::clone(&self.routes.read());
            let mut mine = Vec::new();
            for user in asks {
                match routes.of(user) {
                    Some(node) if node == me => mine.push(user),
                    Some(node) => sayings.to(node).presence_watch(user),
                    // Asked again.
                    None => {}
                }
            }
            lines.core.presence_asked(me, &mine, now_ms);
        }
        for (node, words) in lines.core.presence_words(now_ms) {
            if node == me {
                lines.core.presence_said(&words, now_ms, &mut lines.out);
                self.tell_lines(false);
                continue;
            }
            for PresenceWord { presence, term, number } in words {
                let PresenceOf { user, online, seen_ms } = presence;
                sayings.to(node).presence(v1::PresenceTold { user, online, seen_ms, term, number });
            }
        }
        sayings
    }

    /// What another node asks and says.
    pub(super) fn hear_presence(
        &self,
        reign: &Reign,
        from: u16,
        watches: Vec<v1::PresenceWatch>,
        told: Vec<v1::PresenceTold>,
    ) {
        if watches.is_empty() && told.is_empty() {
            return;
        }
        let now_ms = self.clock.now_ms();
        let users: Vec<u64> = watches.into_iter().map(|watch| watch.user).collect();
        let word = |told: v1::PresenceTold| {
            let v1::PresenceTold { user, online, seen_ms, term, number } = told;
            PresenceWord { presence: PresenceOf { user, online, seen_ms }, term, number }
        };
        let words: Vec<PresenceWord> = told.into_iter().map(word).collect();
        let mut guard = reign.lines.lock();
        let lines = &mut *guard;
        lines.core.presence_asked(from, &users, now_ms);
        lines.core.presence_said(&words, now_ms, &mut lines.out);
        self.flush(reign, guard);
        self.wakes.lines.notify_one();
        if !words.is_empty() {
            self.tell_lines(false);
        }
    }
}
