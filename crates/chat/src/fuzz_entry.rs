//! What the fuzzer runs, here so that the stable tests can run it on the inputs it found.

use crate::{ChatTemplate, Conversation, Message, Role, Segment};

/// A character that only the conversation contains.
const OUTSIDE: char = '\u{2}';

/// A template and a conversation, from bytes: source, NUL, and either a conversation's JSON or the text of a message.
///
/// # Panics
/// If text of the conversation is taken for the template's own.
pub fn template(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (source, rest) = text.split_once('\0').unwrap_or((&text, ""));
    let Ok(template) = ChatTemplate::jinja(source) else { return };
    let mut conversation = serde_json::from_str::<Conversation>(rest).unwrap_or_else(|_| {
        let mut assistant = Message::new(Role::Assistant, rest);
        assistant.reasoning = Some(rest.to_owned());
        Conversation::new(vec![Message::new(Role::System, rest), Message::new(Role::User, rest), assistant])
    });
    for message in &mut conversation.messages {
        message.content.push(OUTSIDE);
    }
    let Ok(rendered) = template.render(&conversation) else { return };
    let spells = source.contains('\\') || source.contains(OUTSIDE);
    for segment in rendered.segments() {
        if let Segment::Trusted(text) = segment {
            assert!(spells || !text.contains(OUTSIDE), "text from outside is trusted: {text:?}");
        }
    }
}
