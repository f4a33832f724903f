//! Conversations as they were answered lately. Where the next prompt of one departs from what was computed for the last, the
//! answer says so: from there on nothing was remembered.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError};

use glimmer::Conversation;

use crate::record::usage::Departure;

/// Ids of all turns that are kept: 16 MiB.
const IDS: usize = 4 << 20;

/// Turns of conversations with a model: what was read and written, by the messages that asked for it.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    hasher: RandomState,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    by_key: HashMap<u64, Vec<Arc<[u32]>>>,
    /// The oldest first.
    order: VecDeque<(u64, Arc<[u32]>)>,
    ids: usize,
}

/// A turn that is being answered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Turn {
    key: u64,
    pub(crate) departure: Option<Departure>,
}

impl Turns {
    /// A conversation's next turn, whose prompt these ids are; `render` makes the ids of a conversation.
    pub(crate) fn turn(
        &self,
        conversation: &Conversation,
        ids: &[u32],
        render: impl Fn(&Conversation) -> Option<Vec<u32>>,
    ) -> Turn {
        let mut key = 0_u64;
        let next = |message| {
            // A message that cannot be written is like no other.
            key = self.hasher.hash_one((key, serde_json::to_string(message).ok()));
            key
        };
        let keys: Vec<u64> = conversation.messages.iter().map(next).collect();
        let departure = self.shared(&keys, ids).map(|(messages, token)| {
            // Messages that were known, and the answer to them.
            let most = (messages + 1).min(conversation.messages.len());
            Departure { message: message_at(token, most, conversation, ids, render), token }
        });
        Turn { key, departure }
    }

    /// How many messages the latest turn before had, and how many ids of it the prompt begins with, if these are not all.
    fn shared(&self, keys: &[u64], ids: &[u32]) -> Option<(usize, usize)> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, turns) =
            keys.iter().enumerate().rev().find_map(|(at, key)| Some((at, kept.by_key.get(key)?)))?;
        let shared = turns.iter().map(|turn| (common(turn, ids), turn.len()));
        let (shared, all) = shared.max()?;
        (shared < all.min(ids.len())).then_some((at + 1, shared))
    }

    /// Keeps what was read and written in a turn.
    pub(crate) fn keep(&self, turn: Turn, ids: &[u32]) {
        let ids: Arc<[u32]> = ids.into();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.ids += ids.len();
        kept.by_key.entry(turn.key).or_default().push(Arc::clone(&ids));
        kept.order.push_back((turn.key, ids));
        while kept.ids > IDS {
            let Some((key, oldest)) = kept.order.pop_front() else { break };
            kept.ids -= oldest.len();
            if let Some(turns) = kept.by_key.get_mut(&key) {
                turns.retain(|turn| !Arc::ptr_eq(turn, &oldest));
                if turns.is_empty() {
                    kept.by_key.remove(&key);
                }
            }
        }
    }
}

fn common(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// The message that has a token of a prompt in it, among the first `most`: the last of those without which the prompt does not
/// reach the token.
fn message_at(
    token: usize,
    most: usize,
    conversation: &Conversation,
    ids: &[u32],
    render: impl Fn(&Conversation) -> Option<Vec<u32>>,
) -> Option<usize> {
    let reaches = |messages: usize| {
        let mut beginning = conversation.clone();
        beginning.messages.truncate(messages);
        beginning.add_generation_prompt = false;
        render(&beginning).is_some_and(|own| own.len() > token && common(&own, ids) >= token)
    };
    let (mut below, mut reached) = (0, most);
    while below < reached {
        let middle = (below + reached) / 2;
        if reaches(middle) { reached = middle } else { below = middle + 1 }
    }
    reached.checked_sub(1)
}

#[cfg(test)]
mod tests {
    use glimmer::{Message, Role};

    use super::*;

    /// A token for what comes first, one for each message, and one for each letter of it; blanks around it are left out.
    fn render(conversation: &Conversation) -> Option<Vec<u32>> {
        let mut ids = vec![conversation.tools.len() as u32];
        for message in &conversation.messages {
            ids.push(if message.role == Role::User { 1000 } else { 1001 });
            ids.extend(message.content.trim().chars().map(u32::from));
        }
        ids.extend(conversation.add_generation_prompt.then_some(1001));
        Some(ids)
    }

    /// Asks with a conversation, and answers.
    fn ask(turns: &Turns, conversation: &mut Conversation, written: &str) -> Option<Departure> {
        let ids = render(conversation).unwrap();
        let turn = turns.turn(conversation, &ids, render);
        let answer: Vec<u32> = written.chars().map(u32::from).collect();
        turns.keep(turn, &[ids, answer].concat());
        conversation.messages.push(Message::new(Role::Assistant, written));
        conversation.messages.push(Message::new(Role::User, "and?"));
        turn.departure
    }

    #[test]
    fn a_prompt_that_goes_on_departs_nowhere() {
        let (turns, mut conversation) = (Turns::default(), Conversation::of_user("hello"));
        for turn in 0..50 {
            assert_eq!(ask(&turns, &mut conversation, &format!("answer {turn}")), None);
        }
        let again = conversation.clone();
        assert_eq!(ask(&turns, &mut conversation, "x"), None);
        assert_eq!(ask(&turns, &mut again.clone(), "y"), None, "the same question twice");
        assert_eq!(ask(&turns, &mut Conversation::of_user("help"), ""), None, "another conversation");
    }

    #[test]
    fn where_a_prompt_departs_is_told() {
        let (turns, mut conversation) = (Turns::default(), Conversation::of_user("hello"));
        ask(&turns, &mut conversation, "one");
        ask(&turns, &mut conversation, "two ");
        // The blank is not rendered again: `0 U hello A one U and? A two`.
        let departure = ask(&turns, &mut conversation, "three");
        assert_eq!(departure, Some(Departure { message: Some(3), token: 20 }));
        let mut edited = conversation.clone();
        edited.messages[5].content = "thief".to_owned();
        let departure = ask(&turns, &mut edited, "four");
        assert_eq!(departure, Some(Departure { message: Some(5), token: 20 + 1 + 5 + 2 }));
        conversation.tools = vec![serde_json::json!({"name": "new"})];
        assert_eq!(ask(&turns, &mut conversation, ""), Some(Departure { message: None, token: 0 }));
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let turns = Turns::default();
        let long = vec![7; IDS / 4];
        for key in 0..20 {
            turns.keep(Turn { key, departure: None }, &long);
            let kept = turns.kept.lock().unwrap();
            assert!(kept.ids <= IDS && kept.order.len() == kept.by_key.len(), "{}", kept.ids);
        }
    }
}
