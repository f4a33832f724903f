//! Calls of a thousand generated sets of tools in every form, rendered, read, and rendered again; and replies cut at
//! every byte.

use std::collections::BTreeMap;

use glimmer_chat::reply::{Reply, ReplyOptions, ReplyPart};
use glimmer_chat::{ChatTemplate, Conversation, Family, Message, Role, ToolCall};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::{events, ids, parser, tokenizer, tools};

/// A call and the definition of its tool.
#[derive(Clone, Debug)]
struct Called {
    tool: Value,
    call: ToolCall,
}

/// Text of every kind. Where the tags of calls are text as well, a string that stands as it is cannot hold them; SentencePiece's
/// own mark for a blank becomes one.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => any::<String>().prop_map(|text| text.replace(['<', '\u{2581}'], "-")),
        1 => prop::sample::select(vec!["", " ", "\n", "null", "true", "123", "-0.50", "[1]", "{\"a\": 1}", "it's \"quoted\"",
            "a\\nb\\", "```", "\n\n  indented\n", "北京，天气👋", "\u{0}\u{7}\u{1f}\u{7f}", "\"", "'''", "{", "}"]).prop_map(str::to_owned),
        1 => "[a-z 北京\"\\\\]{1,40}".prop_map(|text| text.repeat(60)),
    ]
}

fn number() -> impl Strategy<Value = Value> {
    let written = |text: &str| serde_json::from_str(text).unwrap();
    prop_oneof![
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (-20i64..20).prop_map(Value::from),
        any::<f64>().prop_filter("JSON has no others", |x| x.is_finite()).prop_map(Value::from),
        (-1e6..1e6).prop_map(Value::from),
        prop::sample::select(vec![
            "-0.0",
            "1e3",
            "1E-7",
            "123456789012345678901234567890",
            "0.1",
            "1.50",
            "-1e300"
        ])
        .prop_map(written),
    ]
}

/// Names of arguments: identifiers mostly, as they come from programs.
fn key() -> impl Strategy<Value = String> {
    prop_oneof![4 => "[A-Za-z_][A-Za-z0-9_]{0,12}", 1 => "[a-z]{1,5}[-.$][a-z0-9]{1,5}", 1 => "[城市天气]{1,3}"]
}

fn nested() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        number(),
        any::<bool>().prop_map(Value::from),
        Just(Value::Null),
        text().prop_map(Value::from),
        Just(
            json!(["\\\"</arg_value>\n<arg_key>b</arg_key>", {"</arg_value></tool_call>": "<arg_value>\""}])
        ),
    ];
    leaf.prop_recursive(3, 24, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map(key(), inner, 0..5)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// A schema and a value that it allows.
fn argument() -> impl Strategy<Value = (Value, Value)> {
    let list = |value: &Value| json!({"type": if value.is_object() { "object" } else { "array" }});
    prop_oneof![
        3 => text().prop_map(|text| (json!({"type": "string"}), text.into())),
        1 => prop::collection::vec(text(), 1..4).prop_map(|texts| (json!({"enum": texts}), texts[0].clone().into())),
        1 => text().prop_filter("it stands for null", |text| text != "null")
            .prop_map(|text| (json!({"anyOf": [{"type": "string"}, {"type": "null"}]}), text.into())),
        1 => Just((json!({"type": ["string", "null"]}), Value::Null)),
        2 => number().prop_map(|number| (json!({"type": "number"}), number)),
        1 => any::<bool>().prop_map(|value| (json!({"type": "boolean"}), value.into())),
        2 => nested().prop_filter("an object or an array", |value| value.is_object() || value.is_array())
            .prop_map(move |value| (list(&value), value)),
        // No schema: what reads as JSON is JSON.
        1 => nested().prop_filter("no string that could be something else", |value| {
            value.as_str().is_none_or(|text| serde_json::from_str::<Value>(text.trim()).is_err())
        }).prop_map(|value| (json!({}), value)),
    ]
}

fn called() -> impl Strategy<Value = Called> {
    ("[a-zA-Z][a-zA-Z0-9_-]{0,20}", prop::collection::btree_map(key(), argument(), 0..6)).prop_map(
        |(name, arguments)| {
            let mut properties = Map::new();
            let mut given = Map::new();
            for (key, (schema, value)) in arguments {
                properties.insert(key.clone(), schema);
                given.insert(key, value);
            }
            let parameters = json!({"type": "object", "properties": properties});
            let tool = json!({"type": "function", "function": {"name": name, "parameters": parameters}});
            Called { tool, call: ToolCall { id: None, name, arguments: Value::Object(given) } }
        },
    )
}

/// Tools of different names, each called once.
fn calls() -> impl Strategy<Value = Vec<Called>> {
    prop::collection::vec(called(), 1..4).prop_map(|calls| {
        let by_name: BTreeMap<String, Called> =
            calls.into_iter().map(|call| (call.call.name.clone(), call)).collect();
        by_name.into_values().collect()
    })
}

/// Whether two values are the same to Python: digits of integers count, floats by their value.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => {
            let (a, b) = (a.to_string(), b.to_string());
            let is_integer = |text: &str| text.bytes().all(|c| c.is_ascii_digit() || c == b'-');
            a == b || !(is_integer(&a) && is_integer(&b)) && a.parse::<f64>() == b.parse::<f64>()
        }
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len()
                && a.iter().all(|(key, value)| b.get(key).is_some_and(|other| same(value, other)))
        }
        (a, b) => a == b,
    }
}

/// The ids of what the model itself writes in a conversation's last message.
fn written(format: Family, conversation: &Conversation) -> Vec<u32> {
    let (template, tokenizer) = (ChatTemplate::native(format), tokenizer(format));
    let ids = |conversation: &Conversation| template.render(conversation).unwrap().ids(tokenizer).unwrap();
    let mut whole = conversation.clone();
    whole.add_generation_prompt = false;
    let whole = ids(&whole);
    let mut before = conversation.clone();
    before.messages.pop();
    before.enable_thinking = Some(false);
    let before = ids(&before);
    // Z1's prompt opens reasoning, of which nothing is kept.
    let assistant = tokenizer.special_id("<|assistant|>");
    let begin = if whole.starts_with(&before) {
        before.len()
    } else {
        whole.iter().position(|id| Some(*id) == assistant).unwrap() + 1
    };
    whole[begin..].to_vec()
}

fn check(format: Family, calls: &[Called]) {
    let mut message = Message::new(Role::Assistant, "");
    message.tool_calls = calls.iter().map(|called| called.call.clone()).collect();
    let mut conversation = Conversation::new(vec![Message::new(Role::User, "q"), message]);
    conversation.tools = calls.iter().map(|called| called.tool.clone()).collect();
    conversation.enable_thinking = matches!(format, Family::Glm45 | Family::Glm47).then_some(false);
    let options = ReplyOptions { tools: conversation.tools.clone(), ..ReplyOptions::default() };
    let ids = written(format, &conversation);
    let reply: Reply = events(format, options, &ids).into_iter().collect();
    assert_eq!((reply.text.as_str(), reply.unfinished_call), ("", false), "{format}");
    assert_eq!(reply.tool_calls.len(), calls.len(), "{format}: {calls:?}\n{reply:?}");
    for (read, Called { call, .. }) in reply.tool_calls.iter().zip(calls) {
        let arguments = read.arguments.as_str().and_then(|text| serde_json::from_str::<Value>(text).ok());
        let good = arguments.as_ref().is_some_and(|arguments| same(arguments, &call.arguments));
        assert!(read.name == call.name && good, "{format}: {call:?}\n{read:?}");
    }
    // As history it is made of the same tokens.
    conversation.messages[1] = reply.into();
    assert_eq!(written(format, &conversation), ids, "{format}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn calls_of_glm4_are_read_again(calls in calls()) {
        check(Family::Glm4, &calls);
        check(Family::GlmZ1, &calls);
    }

    #[test]
    fn calls_of_chatglm3_are_read_again(calls in calls()) {
        check(Family::ChatGlm3, &calls);
    }

    #[test]
    fn calls_of_glm45_are_read_again(calls in calls()) {
        check(Family::Glm45, &calls);
    }

    #[test]
    fn calls_of_glm47_are_read_again(calls in calls()) {
        check(Family::Glm47, &calls);
    }
}

/// Parts with pieces of the same kind put together.
fn joined(parts: Vec<ReplyPart>) -> Vec<ReplyPart> {
    let mut all: Vec<ReplyPart> = Vec::new();
    for part in parts {
        match (all.last_mut(), &part) {
            (Some(ReplyPart::Text(text)), ReplyPart::Text(more))
            | (Some(ReplyPart::Reasoning(text)), ReplyPart::Reasoning(more))
            | (Some(ReplyPart::ToolCallArguments(text)), ReplyPart::ToolCallArguments(more)) => {
                text.push_str(more)
            }
            _ => all.push(part),
        }
    }
    all
}

fn is_beginning(some: &[ReplyPart], all: &[ReplyPart]) -> bool {
    let Some((last, before)) = some.split_last() else { return true };
    let Some(same) = all.get(before.len()) else { return false };
    before == &all[..before.len()]
        && match (last, same) {
            (ReplyPart::Text(a), ReplyPart::Text(b))
            | (ReplyPart::Reasoning(a), ReplyPart::Reasoning(b))
            | (ReplyPart::ToolCallArguments(a), ReplyPart::ToolCallArguments(b)) => b.starts_with(a.as_str()),
            (a, b) => a == b,
        }
}

/// The id of the token that is this byte.
fn byte_ids(format: Family) -> Vec<u32> {
    let tokenizer = tokenizer(format);
    let mut ids = vec![None; 256];
    for id in 0..tokenizer.len() as u32 {
        if let Some(&[byte]) = tokenizer.token_bytes(id).as_deref() {
            ids[usize::from(byte)].get_or_insert(id);
        }
    }
    ids.into_iter().map(|id| id.expect("a token for each byte")).collect()
}

#[test]
fn cut_at_every_byte_a_reply_is_a_beginning_of_itself() {
    let tagged = "\n<think>two calls, 你好</think>\nLet me check.\n<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>北京 \"x\"\n\
        </arg_value>\n<arg_key>region</arg_key>\n<arg_value>nul</arg_value>\n<arg_key>days</arg_key>\n<arg_value> 3 </arg_value>\n</tool_call>\n\
        <tool_call>add</tool_call> and so";
    let lines =
        "\nLet me see 👋.<|assistant|>add\n{\"a\": [1, {\"x\": \"}\\\"北京\"}]}<|assistant|>bare\n {}\n";
    let text = "\nget_wea... <tool_ca <th 天气👋 END is near";
    for (format, replies) in [
        (Family::Glm4, vec![lines, text]),
        (Family::Glm40414, vec![lines]),
        (Family::GlmZ1, vec![lines, "<think>so</think>\nget_weather\n{\"city\": \"北京\"}"]),
        (Family::Glm45, vec![tagged, text]),
        (Family::Glm47, vec![tagged, text]),
    ] {
        let bytes = byte_ids(format);
        let options = ReplyOptions { tools: tools(), stop: vec!["END".into()], ..ReplyOptions::default() };
        for reply in replies {
            let whole = joined(events(format, options.clone(), &ids(format, reply, false)));
            // Where a special token's spelling is cut in two there is no such token, but its first letters.
            let by_byte =
                |range: &[u8]| range.iter().map(|byte| bytes[usize::from(*byte)]).collect::<Vec<u32>>();
            for cut in 0..reply.len() {
                let start = (0..=cut).rev().find(|at| reply.is_char_boundary(*at)).unwrap();
                let end = (cut..=reply.len()).find(|at| reply.is_char_boundary(*at)).unwrap();
                let within_role = reply
                    .match_indices("<|assistant|>")
                    .any(|(at, role)| (at + 1..at + role.len()).contains(&cut));
                if within_role {
                    continue;
                }
                let mut parser = parser(format, options.clone());
                let mut begun: Vec<ReplyPart> = Vec::new();
                let mut first = ids(format, &reply[..start], false);
                first.extend(by_byte(&reply.as_bytes()[start..cut]));
                first.into_iter().for_each(|id| begun.extend(parser.push(id)));
                assert!(is_beginning(&joined(begun.clone()), &whole), "{format} {cut}: {begun:?}\n{whole:?}");
                let mut rest = by_byte(&reply.as_bytes()[cut..end]);
                rest.extend(ids(format, &reply[end..], false));
                rest.into_iter().for_each(|id| begun.extend(parser.push(id)));
                begun.extend(parser.finish());
                assert_eq!(joined(begun), whole, "{format} {cut}");
            }
        }
    }
}
