//! Calls of generated tools, in every generation's form: written by tokens at random under masks, they fit their schemas, are
//! read the same however they are cut, and come back from the generation's own template.

use glimmer_chat::reply::{CallStyle, Reply, ReplyOptions, ReplyParser, ReplyPart};
use glimmer_chat::{Conversation, Family, Message, Role};
use glimmer_grammar::{Beginning, Matcher};
use serde_json::{Map, Value, json};

use super::grammar;
use super::kit::{Dice, Kit};

/// Lists of tools for each form.
const SETS: u64 = 1000;
/// Tokens after which an answer is given up: it may be a list without an end.
const TOKENS: usize = 1200;

/// A schema of a value, as deep as there is room for.
fn schema(dice: &mut Dice, room: usize) -> Value {
    let kinds = if room == 0 { 19 } else { 25 };
    match dice.below(kinds) {
        0 => json!({"type": "string"}),
        1 => json!({"type": "string", "minLength": 2, "maxLength": 9}),
        2 => json!({"type": "string", "minLength": 150}),
        3 => {
            json!({"type": "string", "pattern": dice.pick(&["^[A-Z]{2}-\\d+$", "b", "^(?:yes|no)$", "^北.*京$", "^\\S+ \\S+$"])})
        }
        4 => json!({"type": "string", "format": dice.pick(&["ipv4", "uuid", "email"]), "maxLength": 40}),
        5 => json!({"enum": ["a b", "c\"d", "北京", "it's", "\\", "</b>", "é"]}),
        6 => json!({"enum": [1, "one", null, true, 2.5]}),
        7 => json!({"type": "integer", "minimum": -3, "maximum": 120}),
        8 => json!({"type": "integer", "exclusiveMinimum": 0, "exclusiveMaximum": 50, "multipleOf": 7}),
        9 => json!({"type": "integer"}),
        10 => json!({"type": "number"}),
        11 => json!({"type": "number", "minimum": -1.5, "maximum": 20.25}),
        12 => json!({"type": "number", "exclusiveMinimum": 0}),
        13 => json!({"type": "boolean"}),
        14 => json!({"const": *dice.pick(&[7, -1, 0])}),
        15 => json!({"type": ["string", "null"], "maxLength": 5}),
        16 => json!({"anyOf": [{"type": "string", "maxLength": 4}, {"type": "null"}]}),
        17 => json!({"$ref": "#/$defs/colour", "description": "A colour"}),
        18 => json!({"type": "null"}),
        19 => json!({"type": "array", "items": schema(dice, room - 1), "minItems": 1, "maxItems": 3}),
        20 => json!({"type": "array", "items": schema(dice, room - 1)}),
        21 => json!({"type": "array", "items": false, "prefixItems": [schema(dice, 0), schema(dice, 0)]}),
        22 => json!({"anyOf": [{"type": "integer"}, {"type": "array", "items": {"type": "boolean"}}]}),
        23 => json!({"$ref": "#/$defs/tree"}),
        _ => object(dice, room - 1),
    }
}

/// A schema of an object that has no others than its properties.
fn object(dice: &mut Dice, room: usize) -> Value {
    const NAMES: [&str; 7] = ["city", "n", "a-b", "天气", "max_tokens", "x.y", "it's"];
    let (mut properties, mut required) = (Map::new(), Vec::new());
    for name in NAMES.iter().take(dice.below(NAMES.len() + 1)) {
        properties.insert((*name).to_owned(), schema(dice, room));
        if dice.below(2) == 0 {
            required.push(*name);
        }
    }
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
}

fn tools(dice: &mut Dice) -> Vec<Value> {
    let tool = |name: &&str| {
        if dice.below(8) == 0 {
            return json!({"type": "function", "function": {"name": name}});
        }
        let mut parameters = object(dice, 2);
        parameters["$defs"] = json!({
            "colour": {"enum": ["red", "蓝色"]},
            "tree": {"type": "object", "required": ["v"], "additionalProperties": false, "properties": {
                "v": {"type": "integer"}, "next": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/tree"}]}}},
        });
        json!({"type": "function", "function": {"name": name, "parameters": parameters}})
    };
    let mut tools: Vec<Value> = ["get", "get_time", "list-files", "查询"].iter().map(tool).collect();
    tools.truncate(1 + dice.below(4));
    tools
}

impl Kit {
    /// Calls and an end, of tokens that are chosen at random; after some they are drawn to those that end things.
    fn write(&self, matcher: &mut Matcher, dice: &mut Dice) -> Option<Vec<u32>> {
        let mut ids = Vec::new();
        while ids.len() < TOKENS {
            let id = match matcher.forced().first() {
                Some(&id) => id,
                None if matcher.is_complete() => return Some(ids),
                None => self.choose(&matcher.mask().unwrap(), dice, ids.len()),
            };
            matcher.accept(id).unwrap();
            if self.ends.contains(&id) {
                return Some(ids);
            }
            ids.push(id);
        }
        None
    }

    /// The same text in tokens of a byte each, but for special tokens.
    fn in_bytes(&self, ids: &[u32]) -> Vec<u32> {
        let table = self.compiler.table();
        let bytes = |&id: &u32| match table.bytes(id) {
            [] => vec![id],
            bytes => bytes.iter().flat_map(|&byte| table.spell(&[byte]).unwrap()).collect(),
        };
        ids.iter().flat_map(bytes).collect()
    }

    /// The calls as the template writes them, read again.
    fn rendered_again(&self, tools: &[Value], reply: &Reply) -> Reply {
        let results = reply.tool_calls.iter().map(|_| Message::new(Role::Observation, "{}"));
        let mut conversation = Conversation::of_user("?");
        conversation.add_generation_prompt = false;
        let ids = |conversation: &Conversation| {
            self.template.render(conversation).unwrap().ids(&self.tokenizer).unwrap()
        };
        let before = ids(&conversation);
        conversation.messages.push(reply.clone().into());
        conversation.messages.extend(results);
        let after = ids(&conversation);
        let rest = after.strip_prefix(before.as_slice()).unwrap();
        let end = self.tokenizer.special_id("<|observation|>").unwrap();
        let written: Vec<u32> = rest[1..].iter().copied().take_while(|&id| id != end).collect();
        let options = ReplyOptions {
            tools: tools.to_vec(),
            in_reasoning: self.family == Family::Glm47,
            ..ReplyOptions::default()
        };
        let mut parser = ReplyParser::new(&self.template, &self.tokenizer, options);
        let mut parts: Vec<_> = written.iter().flat_map(|&id| parser.push(id)).collect();
        parts.extend(parser.finish_whole());
        parts.into_iter().collect()
    }
}

/// Parts as one text, in which neighbours of a kind are one.
fn flat(parts: &[ReplyPart], text: &mut String) {
    for part in parts {
        match part {
            ReplyPart::Text(more) | ReplyPart::Reasoning(more) | ReplyPart::ToolCallArguments(more) => {
                text.push_str(more);
            }
            ReplyPart::ToolCallStart { name } => text.push_str(&format!("\u{1}{name}\u{2}")),
            ReplyPart::ToolCallEnd => text.push('\u{3}'),
            ReplyPart::ReasoningSkipped => {}
        }
    }
}

/// Whether two values are the same, with numbers as doubles have them.
fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| equal(a, b)))
        }
        _ => a == b,
    }
}

fn arguments(reply: &Reply) -> Vec<Value> {
    let read = |arguments: &Value| serde_json::from_str(arguments.as_str().unwrap()).unwrap();
    reply.tool_calls.iter().map(|call| read(&call.arguments)).collect()
}

/// Every call is one of the tools, with arguments that its schema allows.
fn check(reply: &Reply, tools: &[Value]) {
    assert!(reply.text.is_empty() && !reply.unfinished_call && !reply.tool_calls.is_empty(), "{reply:?}");
    for (call, arguments) in reply.tool_calls.iter().zip(arguments(reply)) {
        let tool = tools.iter().find(|tool| tool["function"]["name"] == call.name.as_str());
        let function = &tool.unwrap_or_else(|| panic!("{call:?}"))["function"];
        let Some(schema) = function.get("parameters") else {
            assert_eq!(arguments, json!({}));
            continue;
        };
        let validator = jsonschema::options().should_validate_formats(true).build(schema).unwrap();
        if let Err(error) = validator.validate(&arguments) {
            panic!("{error}\n{schema}\n{arguments}");
        }
    }
}

fn test(family: Family, sets: u64) {
    let kit = Kit::new(family);
    let mut whole = 0;
    for seed in 0..sets {
        let mut dice = Dice(seed);
        let tools = tools(&mut dice);
        let compiled = kit.compiler.compile(&grammar(&tools, kit.style, false)).unwrap();
        assert!(compiled.unmasked().is_empty(), "{:?}", compiled.unmasked());
        let beginning = if kit.style == CallStyle::Python { Beginning::OnLine } else { Beginning::Trimmed };
        let mut matcher = kit.compiler.matcher(&compiled, beginning);
        let Some(ids) = kit.write(&mut matcher, &mut dice) else { continue };
        whole += 1;
        let parts = kit.read(&tools, &ids);
        let reply: Reply = parts.iter().cloned().collect();
        check(&reply, &tools);
        for call in &reply.tool_calls {
            let checked = compiled.check_call(&call.name, call.arguments.as_str().unwrap());
            assert_eq!(checked, None, "masks saw to it");
        }

        let again = kit.rendered_again(&tools, &reply);
        let names = |reply: &Reply| reply.tool_calls.iter().map(|call| call.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&reply), names(&again), "{family}");
        let pairs: Vec<_> = arguments(&reply).into_iter().zip(arguments(&again)).collect();
        assert!(pairs.iter().all(|(a, b)| equal(a, b)), "{family}: {pairs:?}");

        let (mut all, mut so_far) = (String::new(), String::new());
        flat(&parts, &mut all);
        let mut parser = kit.parser(&tools);
        for id in kit.in_bytes(&ids) {
            flat(&parser.push(id), &mut so_far);
            assert!(all.starts_with(&so_far), "{family}: {so_far:?} is no beginning of {all:?}");
        }
        flat(&parser.finish_whole(), &mut so_far);
        assert_eq!(so_far, all, "{family}: cut at every byte");
    }
    println!("{family}: {whole} of {sets}");
    assert!(whole as u64 > sets * 9 / 10, "{family}: {whole}");
}

#[test]
fn of_glm_4() {
    test(Family::Glm4, SETS);
}

#[test]
fn of_glm_z1() {
    // The form is that of GLM-4, the template another.
    test(Family::GlmZ1, SETS / 10);
}

#[test]
fn of_chatglm3() {
    test(Family::ChatGlm3, SETS);
}

#[test]
fn of_glm_4_5() {
    test(Family::Glm45, SETS);
}

#[test]
fn of_glm_4_7() {
    test(Family::Glm47, SETS);
}
