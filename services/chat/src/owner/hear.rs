//! What other nodes say.

use super::OwnerNode;
use super::wire::{self, HeardError};
use crate::cluster::{Ack, Hand};
use std::sync::Arc;

impl OwnerNode {
    /// A node has said something. What this node can't use now is said again.
    pub(super) fn hear(&self, from: u16, bytes: &[u8]) {
        if let Err(error) = self.try_hear(from, bytes) {
            tracing::warn!(from, %error, "another chat node said something that can't be read");
        }
    }

    fn try_hear(&self, from: u16, bytes: &[u8]) -> Result<(), HeardError> {
        let say = wire::read(bytes)?;
        // Answers are of use without an epoch too.
        self.hear_relayed(say.relayed);
        let Some(reign) = self.reign_now() else { return Ok(()) };
        let mut hands: Vec<Arc<Hand>> = Vec::with_capacity(say.hands.len());
        for row in say.hands {
            let hand = wire::hand_of(row)?;
            if hand.key.node != from {
                return Err(HeardError::Number { what: "a hand of node", number: u32::from(hand.key.node) });
            }
            hands.push(Arc::new(hand));
        }
        let acks = say.acks.into_iter().map(wire::ack_of).collect::<Result<Vec<Ack>, _>>()?;
        if !hands.is_empty() {
            let now_ms = self.clock.now_ms();
            let mut lines = reign.lines.lock();
            hands.iter().for_each(|hand| lines.core.receive(hand, now_ms));
            drop(lines);
            self.wakes.lines.notify_one();
        }
        self.acked(&reign, &acks);
        self.heads(&reign, &say.heads);
        if !say.watches.is_empty() {
            self.watched(&reign, from, &say.watches);
        }
        self.hear_relays(&reign, from, say.relays);
        self.hear_presence(&reign, from, say.presence_watches, say.presence);
        Ok(())
    }
}
