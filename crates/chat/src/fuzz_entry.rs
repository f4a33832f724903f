//! What the fuzzer runs, here so that the stable tests can run it on the inputs it found.

use std::collections::HashMap;

use glimmer_config::Family;
use glimmer_tokenizer::{TokenId, fuzz_entry};
use serde_json::{Value, json};

use crate::reply::{ReplyOptions, ReplyParser, ReplyPart};
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

/// Bytes of a reply.
const REPLY: usize = 1024;
/// What is a token of its own in some tokenizers and text in others.
const TAGS: [&str; 9] = [
    "<think>",
    "</think>",
    "<tool_call>",
    "</tool_call>",
    "<arg_key>",
    "</arg_key>",
    "<arg_value>",
    "</arg_value>",
    "<|observation|>",
];

/// A reply, from bytes: two that say of which generation and to what, one for where it is cut, and its text. What comes out is
/// the same however it is cut, and a call that is complete has JSON for its arguments.
///
/// # Panics
/// If it is not so.
pub fn reply(data: &[u8]) {
    let [generation, asked, seed, text @ ..] = data else { return };
    let text = &text[..text.len().min(REPLY)];
    let formats = Family::NAMES;
    let (format, _) = formats[usize::from(*generation) % formats.len()];
    let template = ChatTemplate::native(format);
    let has_tags = asked & 8 != 0;
    let special = if has_tags { TAGS.as_slice() } else { &TAGS[8..] };
    let special = [&["<|assistant|>"], special].concat();
    let pieces = pieces(text, *seed, &special);
    let words: Vec<&[u8]> = pieces.iter().filter(|piece| !is_special(piece, &special)).copied().collect();
    let Some(tokenizer) = fuzz_entry::toy(&words, &special) else { return };
    let read = |ids: &[TokenId]| {
        let options = ReplyOptions {
            tools: if asked & 1 == 0 { tools() } else { Vec::new() },
            stop: if asked & 2 == 0 { vec!["END".to_owned(), "}\n".to_owned()] } else { Vec::new() },
            in_reasoning: asked & 4 != 0,
        };
        let mut parser = ReplyParser::new(&template, &tokenizer, options);
        let mut parts: Vec<ReplyPart> = ids.iter().flat_map(|&id| parser.push(id)).collect();
        parts.extend(if asked & 16 == 0 { parser.finish() } else { parser.finish_whole() });
        parts
    };
    let ids: HashMap<Vec<u8>, TokenId> =
        (0..tokenizer.len() as TokenId).filter_map(|id| Some((tokenizer.token_bytes(id)?, id))).collect();
    let by_piece: Vec<TokenId> = pieces.iter().map(|piece| ids[*piece]).collect();
    let bytes = pieces.iter().flat_map(|piece| match is_special(piece, &special) {
        true => vec![ids[*piece]],
        false => piece.iter().map(|byte| TokenId::from(*byte)).collect(),
    });
    let by_byte = joined(read(&bytes.collect::<Vec<_>>()));
    check_calls(&by_byte);
    assert_eq!(joined(read(&by_piece)), by_byte);
}

fn check_calls(parts: &[ReplyPart]) {
    for at in (0..parts.len()).filter(|&at| parts[at] == ReplyPart::ToolCallEnd) {
        let Some([ReplyPart::ToolCallStart { .. }, ReplyPart::ToolCallArguments(json)]) =
            at.checked_sub(2).map(|start| &parts[start..at])
        else {
            panic!("a call's end without its beginning: {parts:?}");
        };
        assert!(matches!(serde_json::from_str(json), Ok(Value::Object(_))), "no JSON: {json:?}");
    }
}

fn tools() -> Vec<Value> {
    let properties = json!({
        "a": {"type": "string"}, "b": {"type": "integer"}, "c": {"type": ["string", "null"]}, "d": {},
    });
    vec![
        json!({"name": "get", "parameters": {"type": "object", "properties": properties}}),
        json!({"name": "get_time"}),
        json!({"type": "code_interpreter"}),
    ]
}

fn is_special(piece: &[u8], special: &[&str]) -> bool {
    special.iter().any(|text| text.as_bytes() == piece)
}

/// A text cut at places that follow from a seed; special tokens are pieces.
fn pieces<'t>(text: &'t [u8], seed: u8, special: &[&str]) -> Vec<&'t [u8]> {
    let (mut pieces, mut rest, mut state) = (Vec::new(), text, u32::from(seed));
    while !rest.is_empty() {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let spelt = |rest: &[u8]| {
            special.iter().find(|text| rest.starts_with(text.as_bytes())).map(|text| text.len())
        };
        let most = rest.len().min(1 + (state >> 24) as usize % 9);
        let length =
            spelt(rest).unwrap_or_else(|| (1..most).find(|&at| spelt(&rest[at..]).is_some()).unwrap_or(most));
        let (piece, further) = rest.split_at(length);
        pieces.push(piece);
        rest = further;
    }
    pieces
}

fn joined(parts: Vec<ReplyPart>) -> Vec<ReplyPart> {
    let mut all: Vec<ReplyPart> = Vec::new();
    for part in parts {
        match (all.last_mut(), &part) {
            (Some(ReplyPart::Text(text)), ReplyPart::Text(more))
            | (Some(ReplyPart::Reasoning(text)), ReplyPart::Reasoning(more))
            | (Some(ReplyPart::ToolCallArguments(text)), ReplyPart::ToolCallArguments(more)) => {
                text.push_str(more);
            }
            _ => all.push(part),
        }
    }
    all
}
