//! Cuts answers of chat down to the largest frame that a client takes. A page says `more` where something was cut off, so
//! the client asks for the rest; a single message that fits no frame is named without its body.

use prost::Message;
use protocol::v1::chat_answer::Answer;
use protocol::v1::{ChatAnswer, SyncAnswer};

/// Bytes that one element of a repeated field takes besides its own: tag and length.
const AROUND: usize = 4;

/// Cuts the answer down to `body_max` bytes; false if it can't be.
pub(crate) fn cut(answer: &mut ChatAnswer, body_max: usize) -> bool {
    if answer.encoded_len() <= body_max {
        return true;
    }
    // The numbers beside the lists, and what encloses them.
    let room = body_max.saturating_sub(96);
    match &mut answer.answer {
        Some(Answer::Sync(sync)) => cut_sync(sync, room),
        Some(Answer::Range(range)) => {
            range.more |= keep(&mut range.messages, room, 1);
            if let [only] = &mut range.messages[..]
                && only.encoded_len() > room
            {
                only.body.clear();
            }
        }
        Some(Answer::Conversations(list)) => {
            for view in list.conversations.iter_mut().filter(|view| view.encoded_len() > room / 8) {
                if let Some(last) = &mut view.last {
                    last.body.clear();
                }
            }
            list.more |= keep(&mut list.conversations, room, 0);
        }
        Some(Answer::Members(list)) => list.more |= keep(&mut list.members, room, 0),
        Some(Answer::Friends(list)) => list.more |= keep(&mut list.friends, room, 0),
        _ => {}
    }
    answer.encoded_len() <= body_max
}

fn cut_sync(sync: &mut SyncAnswer, room: usize) {
    // What a head brings can be asked for by range.
    sync.heads.iter_mut().for_each(|head| head.messages.clear());
    sync.more |= keep(&mut sync.heads, room / 2, 0);
    let heads: usize = sync.heads.iter().map(|head| head.encoded_len() + AROUND).sum();
    let room = room - heads.min(room);
    for entry in sync.entries.iter_mut().filter(|entry| entry.encoded_len() + AROUND > room) {
        entry.message = None;
    }
    if keep(&mut sync.entries, room, 1) {
        sync.more = true;
        if let Some(last) = sync.entries.last() {
            sync.cursor = last.cursor;
        }
    }
}

/// Keeps as many from the front as fit, `least` at any rate; true if some were cut off.
fn keep<M: Message>(all: &mut Vec<M>, room: usize, least: usize) -> bool {
    let mut used = 0;
    let fits = |one: &M| {
        used += one.encoded_len() + AROUND;
        used <= room
    };
    let count = all.iter().map(fits).take_while(|fits| *fits).count().max(least);
    let cut = count < all.len();
    all.truncate(count);
    cut
}

#[cfg(test)]
mod tests {
    use super::cut;
    use proptest::prelude::*;
    use prost::Message;
    use protocol::v1::chat_answer::Answer;
    use protocol::v1::{ChatAnswer, ChatMessage, Entry, Head, RangeAnswer, SyncAnswer};

    fn message(seq: u64, body: usize) -> ChatMessage {
        ChatMessage { conversation: u64::MAX >> 1, seq, body: vec![7; body], ..Default::default() }
    }

    proptest! {
        #[test]
        fn a_sync_always_fits_and_goes_on_where_it_was_cut(
            bodies in prop::collection::vec(0usize..3_072, 1..60),
            heads in 0usize..200,
            max in 1_019usize..65_531,
        ) {
            let entry = |(i, body): (usize, &usize)| {
                let cursor = i as u64 + 1;
                Entry { cursor, conversation: u64::MAX >> 1, seq: cursor, message: Some(message(cursor, *body)) }
            };
            let entries: Vec<_> = bodies.iter().enumerate().map(entry).collect();
            let head = |i| Head { conversation: i as u64, seq: 9, messages: vec![message(9, 500)] };
            let all = SyncAnswer {
                cursor: entries.len() as u64,
                entries: entries.clone(),
                heads: (0..heads).map(head).collect(),
                ..Default::default()
            };
            let mut answer = ChatAnswer { user: u64::MAX, answer: Some(Answer::Sync(all)) };
            prop_assert!(cut(&mut answer, max));
            prop_assert!(answer.encoded_len() <= max);
            let Some(Answer::Sync(sync)) = answer.answer else { panic!("still a sync") };
            prop_assert!(!sync.entries.is_empty());
            prop_assert_eq!(sync.entries.last().unwrap().cursor, sync.cursor);
            prop_assert!(sync.more || sync.entries.len() == entries.len());
            for (kept, was) in sync.entries.iter().zip(&entries) {
                prop_assert!(kept.message.is_none() || kept == was);
            }
        }

        #[test]
        fn a_range_too(bodies in prop::collection::vec(0usize..3_072, 1..60), max in 1_019usize..65_531) {
            let messages: Vec<_> = bodies.iter().enumerate().map(|(i, body)| message(i as u64, *body)).collect();
            let count = messages.len();
            let range = RangeAnswer { messages, first_seq: 1, last_seq: u64::MAX, more: false };
            let mut answer = ChatAnswer { user: u64::MAX, answer: Some(Answer::Range(range)) };
            prop_assert!(cut(&mut answer, max) && answer.encoded_len() <= max);
            let Some(Answer::Range(range)) = answer.answer else { panic!("still a range") };
            prop_assert!(!range.messages.is_empty() && (range.more || range.messages.len() == count));
        }
    }
}
