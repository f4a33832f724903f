//! Replies of every generation, taken apart: as a whole, token by token, character by character, and broken.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "test code outside a #[test] function")]

mod calls;
mod rendered_again;

use glimmer_chat::reply::{Reply, ReplyOptions, ReplyParser, ReplyPart};
use glimmer_chat::{ChatTemplate, Family};
use glimmer_tokenizer::{CHATGLM3_SPECIAL_TOKENS, Tokenizer};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Instant;

fn tokenizer(format: Family) -> &'static Tokenizer {
    static TOKENIZERS: OnceLock<[Tokenizer; 5]> = OnceLock::new();
    let all = TOKENIZERS.get_or_init(|| {
        let data = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tokenizer/tests/data");
        let [chatglm, chatglm2, glm4, glm45] = ["chatglm-6b", "chatglm2-6b", "glm4-hf", "glm45"]
            .map(|name| Tokenizer::from_dir(&data.join(name)).unwrap());
        // ChatGLM3's file is ChatGLM2's.
        let file = std::fs::read(data.join("chatglm2-6b/tokenizer.model")).unwrap();
        let chatglm3 = Tokenizer::from_sentencepiece(&file, CHATGLM3_SPECIAL_TOKENS).unwrap();
        [chatglm, chatglm2, glm4, glm45, chatglm3]
    });
    match format {
        Family::ChatGlm6b => &all[0],
        Family::ChatGlm2 | Family::CodeGeex2 => &all[1],
        Family::ChatGlm3 => &all[4],
        Family::Glm45 | Family::Glm47 => &all[3],
        _ => &all[2],
    }
}

/// The tools that the requests of these tests declare.
fn tools() -> Vec<Value> {
    vec![
        json!({"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {
            "city": {"type": "string"}, "days": {"type": "integer"}, "units": {"enum": ["C", "F"]},
            "region": {"anyOf": [{"type": "string"}, {"type": "null"}]}}}}}),
        json!({"type": "function", "function": {"name": "add"}}),
        json!({"name": "bare"}),
        json!({"type": "simple_browser"}),
        json!({"type": "cogview"}),
        json!({"type": "code_interpreter"}),
    ]
}

fn parser(format: Family, options: ReplyOptions) -> ReplyParser {
    ReplyParser::new(&ChatTemplate::native(format), tokenizer(format), options)
}

/// The ids of a reply; `<|assistant|>` in it is the token.
fn ids(format: Family, text: &str, by_character: bool) -> Vec<u32> {
    let tokenizer = tokenizer(format);
    let assistant = tokenizer.special_id("<|assistant|>");
    let mut ids = Vec::new();
    for (i, part) in text.split("<|assistant|>").enumerate() {
        if i > 0 {
            ids.extend(assistant);
        }
        if by_character {
            part.chars().for_each(|c| ids.extend(tokenizer.encode(c.encode_utf8(&mut [0; 4]))));
        } else {
            ids.extend(tokenizer.encode_parse_special(part));
        }
    }
    ids
}

fn events(format: Family, options: ReplyOptions, ids: &[u32]) -> Vec<ReplyPart> {
    let mut parser = parser(format, options);
    let mut events: Vec<ReplyPart> = ids.iter().flat_map(|id| parser.push(*id)).collect();
    events.extend(parser.finish());
    events
}

fn read_with(format: Family, options: ReplyOptions, text: &str) -> Reply {
    let whole = events(format, options.clone(), &ids(format, text, false)).into_iter().collect::<Reply>();
    // The SentencePiece models lose blanks when single characters are encoded.
    if !matches!(format, Family::ChatGlm6b | Family::ChatGlm2 | Family::CodeGeex2 | Family::ChatGlm3) {
        let split = events(format, options, &ids(format, text, true)).into_iter().collect::<Reply>();
        assert_eq!(whole, split, "{format}: {text:?}");
    }
    whole
}

fn read(format: Family, text: &str) -> Reply {
    read_with(format, ReplyOptions { tools: tools(), ..ReplyOptions::default() }, text)
}

/// Text, reasoning, and the calls with their arguments as JSON.
fn parts(reply: &Reply) -> (String, String, Vec<(String, Value)>) {
    let calls = reply.tool_calls.iter().map(|call| {
        let Value::String(text) = &call.arguments else { panic!("arguments are text") };
        (call.name.clone(), serde_json::from_str(text).unwrap_or_else(|e| panic!("{text:?}: {e}")))
    });
    (reply.text.clone(), reply.reasoning.clone(), calls.collect())
}

fn is_text(format: Family, text: &str, shown: &str) {
    let reply = read(format, text);
    assert_eq!((reply.text.as_str(), reply.tool_calls.len()), (shown, 0), "{format}: {text:?}");
}

#[test]
fn glm4_answers() {
    for format in [Family::Glm4, Family::Glm4v, Family::GlmEdge, Family::Glm40414] {
        is_text(format, "\n你好👋！很高兴见到你", "你好👋！很高兴见到你");
        is_text(format, "\n  Hello\n\nworld \n", "Hello\n\nworld");
        // A line that is no tool's name, arguments that are none, a name alone.
        is_text(format, "weather\n{\"city\": \"x\"}", "weather\n{\"city\": \"x\"}");
        is_text(format, "get_weather\nis a tool", "get_weather\nis a tool");
        is_text(format, "get_weather\n{city: 1}", "get_weather\n{city: 1}");
        is_text(format, "get_weather\n{'city': 1}", "get_weather\n{'city': 1}");
        is_text(format, "get_weather", "get_weather");
        is_text(format, "get_weather\n", "get_weather");
        is_text(format, "get_weat", "get_weat");
        is_text(format, "", "");
    }
}

#[test]
fn glm4_calls() {
    for format in [Family::Glm4, Family::Glm40414, Family::GlmZ1] {
        let reply = read(format, "get_weather\n{\"city\": \"北京\", \"days\": [1, {\"x\": \"}\\\"\"}]}");
        let arguments = json!({"city": "北京", "days": [1, {"x": "}\""}]});
        assert_eq!(parts(&reply), (String::new(), String::new(), vec![("get_weather".into(), arguments)]));
        assert!(!reply.unfinished_call);
        // Arguments stay as the model wrote them.
        assert_eq!(read(format, "\n add \n {\"a\":1}\n").tool_calls[0].arguments, json!("{\"a\":1}"));
        // Several calls are several assistant messages; text may come before.
        let reply = read(format, "\nLet me see.<|assistant|>add\n{\"a\": 1}<|assistant|>bare\n{}");
        assert_eq!(
            parts(&reply),
            (
                "Let me see.".into(),
                String::new(),
                vec![("add".into(), json!({"a": 1})), ("bare".into(), json!({}))]
            )
        );
        // What follows a call is text after all.
        assert_eq!(read(format, "add\n{\"a\": 1}\nmore").text, "more");
    }
}

#[test]
fn glm4_builtin_tools() {
    let call = |text: &str| parts(&read(Family::Glm4, text)).2;
    assert_eq!(
        call("simple_browser\nsearch(\"GLM-4 \\\"x\\\"\", recency_days=30)"),
        [("simple_browser".into(), json!({"query": "GLM-4 \\\"x\\\"", "recency_days": 30}))]
    );
    assert_eq!(
        call("cogview\nA cat, sitting.\nIn the sun."),
        [("cogview".into(), json!({"prompt": "A cat, sitting.\nIn the sun."}))]
    );
    assert_eq!(
        call("simple_browser\n{\"query\": \"q\"}"),
        [("simple_browser".into(), json!({"query": "q"}))]
    );
}

#[test]
fn calls_are_text_where_no_tools_were_asked_for() {
    for (format, text) in [
        (Family::Glm4, "add\n{\"a\": 1}"),
        (Family::Glm45, "<tool_call>add\n<arg_key>a</arg_key>\n<arg_value>1</arg_value>\n</tool_call>"),
    ] {
        let reply = read_with(format, ReplyOptions::default(), text);
        assert_eq!((reply.text.as_str(), reply.tool_calls.len()), (text, 0));
    }
}

#[test]
fn rumination_has_its_own_tools() {
    let reply = read_with(
        Family::GlmZ1Rumination,
        ReplyOptions::default(),
        "<think>plan</think>search\n{\"query\": \"GLM\"}",
    );
    assert_eq!(
        parts(&reply),
        (String::new(), "plan".into(), vec![("search".into(), json!({"query": "GLM"}))])
    );
}

#[test]
fn chatglm3_replies() {
    is_text(Family::ChatGlm3, "\n 你好", "你好");
    is_text(Family::ChatGlm3, "\n现在是[[训练时间]]。", "现在是2023年。");
    is_text(Family::ChatGlm3, "Hello\nworld", "Hello\nworld");
    is_text(
        Family::ChatGlm3,
        "get_weather\n```python\ntool_call(city=open('x'))\n```",
        "get_weather\n```python\ntool_call(city=open('x'))\n```",
    );
    let reply = read(Family::ChatGlm3, "get_weather\n```python\ntool_call(city='北京', days=3)\n```");
    assert_eq!(parts(&reply).2, [("get_weather".into(), json!({"city": "北京", "days": 3}))]);
    let reply = read(Family::ChatGlm3, "interpreter\n```python\nprint('a')\nx = 1\n```");
    assert_eq!(parts(&reply).2, [("interpreter".into(), json!({"code": "print('a')\nx = 1"}))]);
    let reply = read(Family::ChatGlm3, "\nfirst<|assistant|>add\n```python\ntool_call(a=1)\n```");
    assert_eq!(parts(&reply), ("first".into(), String::new(), vec![("add".into(), json!({"a": 1}))]));
}

#[test]
fn the_oldest_models_get_their_finish() {
    let shown = |format, text| read(format, text).text;
    assert_eq!(
        shown(Family::ChatGlm6b, "你好,世界!Hello, world? 是[[训练时间]]:对"),
        "你好，世界！Hello, world? 是2023年：对"
    );
    assert_eq!(shown(Family::ChatGlm2, " [[训练时间]] "), "2023年");
    // CodeGeeX2 continues text.
    assert_eq!(shown(Family::CodeGeex2, "x\n    return 1\n"), "x\n    return 1\n");
}

#[test]
fn reasoning_comes_apart() {
    let inside = ReplyOptions { in_reasoning: true, tools: tools(), ..ReplyOptions::default() };
    let shown = |format, options: &ReplyOptions, text| {
        let reply = read_with(format, options.clone(), text);
        (reply.reasoning, reply.text)
    };
    let both = ("let me\n\nsee".to_owned(), "The answer".to_owned());
    for format in [Family::Glm45, Family::Glm47, Family::GlmZ1] {
        assert_eq!(shown(format, &inside, "\nlet me\n\nsee\n</think>\n\nThe answer\n"), both);
        // Some models write again what the prompt opened.
        assert_eq!(shown(format, &inside, "<think>let me\n\nsee</think>The answer"), both);
        assert_eq!(shown(format, &inside, "never closed"), ("never closed".into(), String::new()));
    }
    let outside = ReplyOptions { tools: tools(), ..ReplyOptions::default() };
    for format in [Family::Glm45, Family::Glm47] {
        assert_eq!(shown(format, &outside, "\n<think>let me\n\nsee</think>\nThe answer"), both);
        assert_eq!(
            shown(format, &outside, "\n<think></think>\nThe answer"),
            (String::new(), "The answer".into())
        );
        assert_eq!(
            shown(format, &outside, "no thought, a <think> tag"),
            (String::new(), "no thought, a <think> tag".into())
        );
        assert_eq!(shown(format, &outside, "\n<thi"), (String::new(), "<thi".into()));
    }
    // To GLM-4 the tags are text.
    assert_eq!(
        shown(Family::Glm4, &outside, "\n<think>x</think>"),
        (String::new(), "<think>x</think>".into())
    );
}

#[test]
fn tagged_calls() {
    let spaced = "\n<think>two calls</think>\nLet me check.\n<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>北京 \"x\"\n</arg_value>\n\
        <arg_key>days</arg_key>\n<arg_value> 3 </arg_value>\n</tool_call>\n<tool_call>add\n<arg_key>a</arg_key>\n<arg_value>[1, {\"k\": null}]</arg_value>\n\
        <arg_key>b</arg_key>\n<arg_value>plain</arg_value>\n</tool_call>";
    let tight = "<think>two calls</think>Let me check.<tool_call>get_weather<arg_key>city</arg_key><arg_value>北京 \"x\"\n</arg_value>\
        <arg_key>days</arg_key><arg_value>3</arg_value></tool_call><tool_call>add<arg_key>a</arg_key><arg_value>[1, {\"k\": null}]</arg_value>\
        <arg_key>b</arg_key><arg_value>plain</arg_value></tool_call>";
    for format in [Family::Glm45, Family::Glm47] {
        for text in [spaced, tight] {
            let calls = vec![
                ("get_weather".into(), json!({"city": "北京 \"x\"\n", "days": 3})),
                ("add".into(), json!({"a": [1, {"k": null}], "b": "plain"})),
            ];
            let reply = read(format, text);
            assert_eq!(parts(&reply), ("Let me check.".into(), "two calls".into(), calls));
            assert!(!reply.unfinished_call);
        }
        // Calls without arguments.
        for text in [
            "<tool_call>add</tool_call>",
            "<tool_call>add\n</tool_call>",
            "<tool_call>\n add \n\n</tool_call>",
        ] {
            assert_eq!(parts(&read(format, text)).2, [("add".into(), json!({}))], "{text:?}");
        }
        // A string that may be left out is null where it says so, and is passed on in pieces where it does not.
        for (text, value) in
            [("null", json!(null)), ("nul", json!("nul")), ("null and void", json!("null and void"))]
        {
            let call = format!(
                "<tool_call>get_weather<arg_key>region</arg_key><arg_value>{text}</arg_value></tool_call>"
            );
            assert_eq!(parts(&read(format, &call)).2[0].1, json!({"region": value}), "{text:?}");
        }
        // A string stays one, whatever it looks like; a schema's enum counts.
        let reply = read(
            format,
            "<tool_call>get_weather<arg_key>city</arg_key><arg_value>123</arg_value><arg_key>units</arg_key><arg_value>C</arg_value></tool_call>",
        );
        assert_eq!(parts(&reply).2[0].1, json!({"city": "123", "units": "C"}));
    }
}

#[test]
fn broken_tags_break_nothing() {
    let shown = |text: &str| read(Family::Glm45, text);
    // Cut off anywhere: no end, and the text before is there.
    let whole = "text<tool_call>add\n<arg_key>a</arg_key>\n<arg_value>1</arg_value>\n</tool_call>";
    for cut in 0..whole.len() {
        let reply = shown(&whole[..cut]);
        assert!(reply.text.starts_with(&"text"[..cut.min(4)]), "{cut}");
        assert_eq!(reply.unfinished_call, cut >= 19, "{cut}: {reply:?}");
    }
    assert_eq!(shown("<tool_call>").text, "<tool_call>");
    assert_eq!(shown("<tool_call></tool_call>").text, "<tool_call></tool_call>");
    assert_eq!(shown(&format!("<tool_call>{}", "n".repeat(1000))).tool_calls.len(), 0);
    // Junk between tags, a key without a value, a call that was never closed before the next.
    assert_eq!(
        parts(&shown("<tool_call>add\nwell <arg_key>a</arg_key> is <arg_value>1</arg_value> so</tool_call>"))
            .2[0]
            .1,
        json!({"a": 1})
    );
    assert_eq!(
        parts(&shown(
            "<tool_call>add<arg_key>a</arg_key><arg_key>b</arg_key><arg_value>1</arg_value></tool_call>"
        ))
        .2[0]
            .1,
        json!({"b": 1})
    );
    let two = shown("<tool_call>add<arg_key>a</arg_key><arg_value>1</arg_value><tool_call>bare</tool_call>");
    assert_eq!(parts(&two).2, [("add".into(), json!({"a": 1})), ("bare".into(), json!({}))]);
}

/// Strings of JSON may spell the tags; those that never end do not take the rest of the call.
#[test]
fn json_ends_where_it_ends() {
    let whole = r#"{"x": "</arg_value></tool_call>\"</arg_value>", "</arg_value>": ["<arg_key>"]}"#;
    let call = |a: &str| {
        let value =
            |key: &str, value: &str| format!("<arg_key>{key}</arg_key><arg_value>{value}</arg_value>");
        format!("<tool_call>add{}{}</tool_call>after", value("a", a), value("b", "1"))
    };
    for format in [Family::Glm45, Family::Glm47] {
        for (a, value) in [
            (whole, serde_json::from_str(whole).unwrap()),
            ("[\"</arg_value>\"] \n", json!(["</arg_value>"])),
            ("[\"x", json!("[\"x")),
            ("[\"\\", json!("[\"\\")),
            ("[\"x\"", json!("[\"x\"")),
            ("{\"x\": \"y\n", json!("{\"x\": \"y\n")),
            ("\"x", json!("\"x")),
        ] {
            let reply = read(format, &call(a));
            assert_eq!(parts(&reply).2, [("add".into(), json!({"a": value, "b": 1}))], "{format}: {a}");
            assert_eq!((reply.text.as_str(), reply.unfinished_call), ("after", false));
        }
    }
}

/// Arguments that turn out to be no JSON when some were told already: no such call is complete.
#[test]
fn broken_arguments_have_no_end() {
    for format in [Family::Glm4, Family::Glm40414, Family::GlmZ1] {
        for arguments in ["{\"a\": 1,}", "{\"a\": =}", "{\"a\": \"\\ud800\"}", "{\"a\": [1"] {
            let reply = read(format, &format!("add\n{arguments} more"));
            assert!(reply.unfinished_call && reply.text.is_empty(), "{format}: {reply:?}");
            let reply = read(format, &format!("add\n{arguments}<|assistant|>bare\n{{}}"));
            assert_eq!(parts(&reply).2, [("bare".into(), json!({}))], "{format}");
        }
    }
}

#[test]
fn stop_strings_end_the_answer() {
    let options =
        ReplyOptions { stop: vec!["END".into(), "\n\n".into()], tools: tools(), ..ReplyOptions::default() };
    for (text, shown, stopped) in [
        ("\nabc END def", "abc", Some("END")),
        ("\nabc\n\ndef", "abc", Some("\n\n")),
        ("\nabc EN", "abc EN", None),
        ("END", "", Some("END")),
    ] {
        let mut parser = parser(Family::Glm40414, options.clone());
        let mut reply = Reply::default();
        for id in ids(Family::Glm40414, text, false) {
            parser.push(id).into_iter().for_each(|event| reply.push(event));
        }
        assert_eq!(parser.stopped(), stopped, "{text:?}");
        parser.finish().into_iter().for_each(|event| reply.push(event));
        assert_eq!(reply.text.trim_end(), shown, "{text:?}");
    }
    // Not in reasoning, not in arguments.
    let reply = read_with(
        Family::Glm47,
        ReplyOptions { in_reasoning: true, ..options },
        "END</think>x<tool_call>add<arg_key>a</arg_key><arg_value>END</arg_value></tool_call>",
    );
    assert_eq!(parts(&reply), ("x".into(), "END".into(), vec![("add".into(), json!({"a": "END"}))]));
}

#[test]
fn arguments_come_in_pieces() {
    let text = format!(
        "<tool_call>get_weather<arg_key>city</arg_key><arg_value>{}</arg_value></tool_call>",
        "北京 \"quoted\" ".repeat(50)
    );
    let pieces = |format, text: &str| {
        let options = ReplyOptions { tools: tools(), ..ReplyOptions::default() };
        let events = events(format, options, &ids(format, text, true));
        events.iter().filter(|event| matches!(event, ReplyPart::ToolCallArguments(_))).count()
    };
    assert!(pieces(Family::Glm47, &text) > 100);
    assert!(pieces(Family::Glm4, &format!("add\n{{\"a\": \"{}\"}}", "x".repeat(500))) > 100);
}

/// The reply goes on after `<|assistant|>` in the middle of a call, with another call that is cut off as well.
#[test]
fn a_call_cut_off_by_another_is_none() {
    let text = "<tool_call>add<arg_key><|assistant|><tool_call>get_weather\n";
    let options = ReplyOptions { tools: tools(), ..ReplyOptions::default() };
    let reply: Reply = events(Family::Glm45, options, &ids(Family::Glm45, text, true)).into_iter().collect();
    let names: Vec<&str> = reply.tool_calls.iter().map(|call| call.name.as_str()).collect();
    assert_eq!((names.as_slice(), reply.unfinished_call), (&["get_weather"][..], true));
}

/// A model that answers at once, in place of the reasoning that the prompt opened, has answered, or called.
#[test]
fn skipped_reasoning_is_the_answer() {
    let read = |format, text: &str| {
        let options = ReplyOptions { in_reasoning: true, tools: tools(), ..ReplyOptions::default() };
        let mut parser = parser(format, options);
        let mut events: Vec<ReplyPart> =
            ids(format, text, true).into_iter().flat_map(|id| parser.push(id)).collect();
        events.extend(parser.finish_whole());
        events.into_iter().collect::<Reply>()
    };
    for format in [Family::Glm45, Family::Glm47, Family::GlmZ1] {
        let reply = read(format, "\nThe answer.\n");
        assert_eq!((reply.text.as_str(), reply.reasoning.as_str()), ("The answer.", ""));
        // Closed, and nothing after it.
        let reply = read(format, "Hm.</think>");
        assert_eq!((reply.text.as_str(), reply.reasoning.as_str()), ("", "Hm."));
    }
    let reply =
        read(Family::Glm47, "I call.<tool_call>add<arg_key>a</arg_key><arg_value>1</arg_value></tool_call>");
    assert_eq!((reply.text.as_str(), reply.tool_calls.len(), reply.unfinished_call), ("I call.", 1, false));
    let reply = read(Family::GlmZ1, "add\n{\"a\": 1}");
    assert_eq!((reply.text.as_str(), reply.tool_calls.len()), ("", 1));
}

/// Where a reply is calls from its beginning or a text, nothing in a text is a call.
#[test]
fn calls_at_the_beginning_only() {
    let read = |format, text: &str, by_character| {
        let options = ReplyOptions { tools: tools(), ..ReplyOptions::default() };
        let mut parser = parser(format, options).calls_first();
        let mut events: Vec<ReplyPart> =
            ids(format, text, by_character).into_iter().flat_map(|id| parser.push(id)).collect();
        events.extend(parser.finish_whole());
        events.into_iter().collect::<Reply>()
    };
    for by_character in [true, false] {
        for format in [Family::Glm45, Family::Glm47] {
            for text in ["{\"a\": \"<tool_call>add</tool_call>\"}", "<tool_cal", "a <tool_call>add", "<"] {
                let reply = read(format, &format!("<think>So.</think>\n{text}"), by_character);
                assert_eq!((reply.text.as_str(), reply.reasoning.as_str()), (text, "So."));
                assert!(reply.tool_calls.is_empty());
            }
            let calls = "\n<tool_call>add</tool_call>\n<tool_call>bare</tool_call>";
            let reply = read(format, calls, by_character);
            let names: Vec<&str> = reply.tool_calls.iter().map(|call| call.name.as_str()).collect();
            assert_eq!((reply.text.as_str(), names.as_slice()), ("", &["add", "bare"][..]));
        }
        let reply = read(Family::Glm4, "{\"a\": 1}\nadd\n{}", by_character);
        assert_eq!((reply.text.as_str(), reply.tool_calls.len()), ("{\"a\": 1}\nadd\n{}", 0));
        assert_eq!(read(Family::Glm4, "add\n{}", by_character).tool_calls.len(), 1);
    }
}

/// Megabytes, and nesting without bound: no failure, no more time than reading takes.
#[test]
fn hostile_replies() {
    let deep = "[".repeat(100_000);
    let long = "x".repeat(1 << 20);
    let cases = [
        (Family::Glm4, format!("add\n{{\"a\": {deep}")),
        (Family::Glm4, format!("add\n{{\"a\": \"{long}")),
        (Family::Glm4, format!("add\n{}", " ".repeat(1 << 20))),
        (Family::Glm4, "add\n{\"a\": 1}\n".repeat(50_000)),
        (Family::Glm4, "\n".repeat(1 << 20)),
        (Family::ChatGlm3, format!("add\n```python\ntool_call(a={deep})\n```")),
        (Family::ChatGlm3, format!("add\n```python\ntool_call(a='{long}")),
        (
            Family::Glm45,
            format!("<tool_call>add<arg_key>a</arg_key><arg_value>{deep}</arg_value></tool_call>"),
        ),
        (Family::Glm45, format!("<tool_call>add<arg_key>a</arg_key><arg_value>{long}")),
        (Family::Glm45, format!("<tool_call>get_weather<arg_key>city</arg_key><arg_value>{long}")),
        (Family::Glm45, format!("<tool_call>add<arg_key>{long}")),
        (Family::Glm45, format!("<tool_call>add{}", "<arg_ke".repeat(50_000))),
        (Family::Glm45, "<tool_call>".repeat(50_000)),
        (Family::Glm45, "<tool_call>add".repeat(50_000)),
        (Family::Glm45, "<tool_call>add</tool_call>".repeat(50_000)),
        (Family::Glm45, format!("<think>{}", "</thin".repeat(50_000))),
        (Family::ChatGlm6b, "[[训练".repeat(50_000)),
        (Family::ChatGlm6b, ",中".repeat(100_000)),
    ];
    for (format, text) in cases {
        let ids = ids(format, &text, true);
        let options = ReplyOptions {
            tools: tools(),
            stop: vec!["xxxxxxxxy".into(), "ab".into()],
            ..ReplyOptions::default()
        };
        let began = Instant::now();
        let reply: Reply = events(format, options, &ids).into_iter().collect();
        let shown: String = text.chars().take(60).collect();
        println!(
            "{:6.2} s  {format} {shown:?}: {} calls",
            began.elapsed().as_secs_f64(),
            reply.tool_calls.len()
        );
        assert!(began.elapsed().as_secs() < 20, "{shown}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// However a reply is cut into tokens, the same comes of it, and nothing of its text is lost.
    #[test]
    fn streams_add_up_to_the_whole(
        parts in prop::collection::vec(prop::sample::select(vec![
            "<think>", "</think>", "<tool_call>", "</tool_call>", "<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>",
            "add", "get_weather", "city", "\n", " ", "{", "}", "\"a\": ", "1", "[", "]", "北京", "text", "<", "/", "tool", "END", "EN",
            "<|assistant|>", "{\"a\": 1}", "\\", "\"", "simple_browser", "search(\"q\", recency_days=1)",
        ]), 0..25),
        in_reasoning in any::<bool>(),
    ) {
        let text = parts.concat();
        for format in [Family::Glm4, Family::GlmZ1, Family::Glm45, Family::Glm47] {
            let options = ReplyOptions { tools: tools(), stop: vec!["END".into()], in_reasoning };
            let whole: Reply = events(format, options.clone(), &ids(format, &text, false)).into_iter().collect();
            let split: Reply = events(format, options, &ids(format, &text, true)).into_iter().collect();
            prop_assert_eq!(&whole, &split, "{} {:?}", format, text);
            for call in &whole.tool_calls[..whole.tool_calls.len() - usize::from(whole.unfinished_call)] {
                if format == Family::Glm45 || format == Family::Glm47 {
                    let Value::String(json) = &call.arguments else { panic!("arguments are text") };
                    prop_assert!(serde_json::from_str::<Value>(json).is_ok(), "{:?}: {}", text, json);
                }
            }
        }
    }
}
