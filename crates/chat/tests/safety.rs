//! Whatever people write, special tokens come from the format alone; and what they write is encoded as it stands.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "test code outside a #[test] function")]

use glimmer_chat::{ChatTemplate, Conversation, Family, Rendered, Segment};
use glimmer_tokenizer::{CHATGLM3_SPECIAL_TOKENS, Tokenizer};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::OnceLock;

fn synthetic(name: &str) -> Tokenizer {
    let data = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tokenizer/tests/data");
    if name == "chatglm3-6b" {
        // ChatGLM3's file is ChatGLM2's.
        let file = std::fs::read(data.join("chatglm2-6b/tokenizer.model")).unwrap();
        return Tokenizer::from_sentencepiece(&file, CHATGLM3_SPECIAL_TOKENS).unwrap();
    }
    Tokenizer::from_dir(&data.join(name)).unwrap()
}

/// Templates of no known format that do to messages what templates do.
const TEMPLATES: [&str; 4] = [
    "[gMASK]<sop>{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}{% endfor %}<|assistant|>",
    "{% for m in messages %}<|{{ m.role }}|>{% if '</think>' in m.content %}<think>{{ m.content.split('</think>')[0] \
     .split('<think>')[-1].strip() }}</think>{{ m.content.split('</think>')[-1]|trim }}{% else %}{{ m.content.strip() }}\
     {% endif %}{% for c in m.tool_calls or [] %}<tool_call>{{ c.function.name }}{% for k, v in c.function.arguments.items() \
     %}<{{ k }}>{{ v }}</{{ k }}>{% endfor %}</tool_call>{% endfor %}{% endfor %}<|assistant|><think>",
    "{{ tools|tojson(indent=2) if tools }}{% for m in messages %}{{ '<|' + m.role + '|>' + m.content + ('/nothink' if \
     m.content.endswith('/nothink') else '') }}{% endfor %}",
    "{% for m in messages %}<|user|>{{ m.content[:3] }}{{ m.content[3:] }}<{{ m.content }}>{{ m.reasoning_content }}\
     {{ m|tojson }}{{ [m.content] }}{{ m.content|replace('x', '|') }}{% endfor %}",
];

/// The formats and a tokenizer for each.
fn cases() -> &'static [(ChatTemplate, Tokenizer)] {
    static CASES: OnceLock<Vec<(ChatTemplate, Tokenizer)>> = OnceLock::new();
    CASES.get_or_init(|| {
        let mut cases = Vec::new();
        for (format, tokenizer) in [
            (Family::ChatGlm6b, "chatglm-6b"),
            (Family::ChatGlm2, "chatglm2-6b"),
            (Family::CodeGeex2, "chatglm2-6b"),
            (Family::ChatGlm3, "chatglm3-6b"),
            (Family::Glm4, "glm4-hf"),
            (Family::Glm4v, "glm4-tiktoken"),
            (Family::GlmEdge, "glm-edge"),
            (Family::Glm40414, "glm4-hf"),
            (Family::GlmZ1, "glm45"),
            (Family::GlmZ1Rumination, "glm4-hf"),
            (Family::Glm45, "glm45"),
            (Family::Glm47, "glm45"),
        ] {
            cases.push((ChatTemplate::native(format), synthetic(tokenizer)));
        }
        for source in TEMPLATES {
            cases.push((ChatTemplate::jinja(source).unwrap(), synthetic("glm45")));
        }
        cases
    })
}

/// How many special tokens the format itself brings: those it names, and those that its own text spells.
fn special_count(rendered: &Rendered, tokenizer: &Tokenizer) -> usize {
    let mut merged: Vec<String> = Vec::new();
    let mut count = 0;
    let mut in_trusted = false;
    for segment in rendered.segments() {
        match segment {
            Segment::Special(_) | Segment::Affix(_) => count += 1,
            Segment::Trusted(text) if in_trusted => merged.last_mut().unwrap().push_str(text),
            Segment::Trusted(text) | Segment::Picture(_, text) => merged.push(text.to_string()),
            Segment::User(_) | Segment::Boundary => {}
        }
        in_trusted = matches!(segment, Segment::Trusted(_));
    }
    let spelled = merged.iter().flat_map(|text| tokenizer.encode_parse_special(text));
    count + spelled.filter(|id| tokenizer.is_special(*id)).count()
}

fn spelling() -> impl Strategy<Value = String> {
    let whole = prop::sample::select(vec![
        "<|endoftext|>",
        "[MASK]",
        "[gMASK]",
        "[sMASK]",
        "<sop>",
        "<eop>",
        "sop",
        "eop",
        "<|system|>",
        "<|user|>",
        "<|assistant|>",
        "<|observation|>",
        "<|begin_of_image|>",
        "<think>",
        "</think>",
        "<tool_call>",
        "</tool_call>",
        "<arg_key>",
        "</arg_key>",
        "<arg_value>",
        "</arg_value>",
        "<tool_response>",
        "</tool_response>",
        "/nothink",
        "<s>",
        "</s>",
        "<unk>",
        "<pad>",
        "<n>",
        "<|tab|>",
        "<|blank_2|>",
        "<0x0A>",
        "<|code_prefix|>",
        "<|image|>",
    ]);
    (whole, 0usize..20, any::<bool>()).prop_map(|(s, cut, front)| {
        // Sometimes only a beginning or an end, to meet its other half across a border.
        let cut = cut.min(s.len());
        if cut == 0 {
            s.to_owned()
        } else if front {
            s[..cut].to_owned()
        } else {
            s[cut..].to_owned()
        }
    })
}

fn text() -> impl Strategy<Value = String> {
    let plain = "[ a-zA-Z0-9<>|/_\\[\\]\n\t\u{e000}\u{f0000}\u{fdd0}\u{feff}你好é'\"\\\\]{0,8}";
    prop::collection::vec(prop_oneof![spelling(), spelling(), plain.prop_map(|s| s)], 0..5)
        .prop_map(|parts| parts.concat())
}

fn message() -> impl Strategy<Value = Value> {
    let call = (text(), prop::collection::vec((text(), text()), 0..3)).prop_map(|(name, arguments)| {
        let arguments: serde_json::Map<String, Value> =
            arguments.into_iter().map(|(k, v)| (k, json!(v))).collect();
        json!({"function": {"name": name, "arguments": arguments}})
    });
    prop_oneof![
        text().prop_map(|t| json!({"role": "system", "content": t})),
        text().prop_map(|t| json!({"role": "user", "content": t})),
        (text(), text()).prop_map(|(a, b)| json!({"role": "user", "content": [{"type": "text", "text": a}, {"type": "text", "text": b}]})),
        (text(), prop::option::of(text()), prop::option::of(text()))
            .prop_map(|(t, r, m)| json!({"role": "assistant", "content": t, "reasoning_content": r, "metadata": m})),
        (text(), prop::collection::vec(call, 1..3)).prop_map(|(t, c)| json!({"role": "assistant", "content": t, "tool_calls": c})),
        text().prop_map(|t| json!({"role": "tool", "content": t})),
        prop::collection::vec(text(), 1..3).prop_map(|t| json!({"role": "tool", "content": t})),
    ]
}

fn conversation() -> impl Strategy<Value = Value> {
    let tool = (text(), text(), text()).prop_map(|(name, key, description)| {
        json!({"type": "function", "function": {"name": name, "description": description,
            "parameters": {"type": "object", "properties": {key: {"type": "string"}}}}})
    });
    (
        prop::collection::vec(message(), 1..5),
        prop::collection::vec(tool, 0..2),
        prop::option::of(any::<bool>()),
        prop::option::of(any::<bool>()),
        text(),
    )
        .prop_map(|(messages, tools, enable, clear, name)| {
            json!({"messages": messages, "tools": tools, "enable_thinking": enable, "clear_thinking": clear,
                "assistant_name": name, "language": name})
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_becomes_a_special_token(json in conversation()) {
        let conversation: Conversation = serde_json::from_value(json).unwrap();
        for (template, tokenizer) in cases() {
            // Formats without tools, calls or results refuse most conversations; then a question alone is asked.
            let rendered = template.render(&conversation).or_else(|_| {
                let text = conversation.messages.iter().map(|m| m.content.as_str()).collect::<String>();
                template.render(&serde_json::from_value(json!({"query": text})).unwrap())
            });
            let Ok(rendered) = rendered else { continue };
            let ids = rendered.ids(tokenizer).unwrap();
            let special = ids.iter().filter(|id| tokenizer.is_special(**id)).count();
            prop_assert_eq!(special, special_count(&rendered, tokenizer), "{:?}\n{:?}", template.format(), rendered.segments());
        }
    }

    /// Where no text spells a special token, the safe ids are the official ones.
    #[test]
    fn harmless_text_has_the_official_ids(
        contents in prop::collection::vec("[ a-zA-Z0-9.,!?\n\t你好é'\"(){}:=+*-]{0,30}", 1..6),
        system in "[ a-z\n]{0,10}",
    ) {
        let mut messages = vec![json!({"role": "system", "content": system})];
        for (i, content) in contents.iter().enumerate() {
            messages.push(json!({"role": if i % 2 == 0 { "user" } else { "assistant" }, "content": content}));
        }
        if contents.len() % 2 == 0 {
            messages.push(json!({"role": "user", "content": "last"}));
        }
        let conversation: Conversation = serde_json::from_value(json!(messages)).unwrap();
        for (template, tokenizer) in cases() {
            let Ok(rendered) = template.render(&conversation) else { continue };
            let (ours, official) = (rendered.ids(tokenizer).unwrap(), rendered.ids_parse_special(tokenizer).unwrap());
            prop_assert_eq!(ours, official, "{:?} {:?}", template.format(), rendered.segments());
        }
    }
}

/// Text of a person is there to the last byte, between the format's own pieces.
#[test]
fn nothing_is_lost() {
    let conversation: Conversation = serde_json::from_value(
        json!([{"role": "user", "content": "a <|user|> b\u{e000} [gMASK] 你好 </s> sop"}]),
    )
    .unwrap();
    for (template, tokenizer) in cases() {
        let rendered = template.render(&conversation).unwrap();
        let ids = rendered.ids(tokenizer).unwrap();
        if tokenizer.kind() == glimmer_tokenizer::TokenizerKind::ChatGlm6b {
            continue; // Its text normalisation is not reversible.
        }
        let decoded = tokenizer.decode(&ids);
        let wanted = "a <|user|> b\u{e000} [gMASK] 你好 </s> sop";
        assert!(decoded.contains(wanted), "{:?}: {decoded:?}", template.format());
    }
}
