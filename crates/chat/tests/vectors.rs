//! The published and verified prompts and ids of every format, from the shared folder.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "test code outside a #[test] function")]

mod support;

use glimmer_chat::{ChatTemplate, Conversation, Evidence, Family, Message, Role, Segment, stop_ids};
use glimmer_tokenizer::Tokenizer;
use support::{conversation, ids, lines, shared, tokenizer};

const SPELLINGS: [&str; 16] = [
    "<|endoftext|>",
    "[MASK]",
    "[gMASK]",
    "[sMASK]",
    "<sop>",
    "<eop>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|observation|>",
    "<think>",
    "</think>",
    "<tool_call>",
    "</tool_call>",
    "/nothink",
    "<unk>",
];

/// Whether something that a person wrote spells a special token of this tokenizer.
fn user_spells_special(segments: &[Segment], tokenizer: &Tokenizer) -> bool {
    segments.iter().any(|segment| match segment {
        Segment::User(text) => {
            SPELLINGS.iter().any(|s| text.contains(s) && tokenizer.special_id(s).is_some())
        }
        _ => false,
    })
}

fn check(file: &str, format: Family, tokenizer_name: &str) {
    let Some(shared) = shared() else { return };
    let tokenizer = tokenizer(tokenizer_name).unwrap();
    let template = ChatTemplate::native(format);
    let mut safe = 0;
    let cases = lines(shared.join("tokenizers/vectors/chat").join(file));
    for case in &cases {
        let name = format!("{file} {}", case["name"]);
        let rendered = template.render(&conversation(case)).unwrap_or_else(|e| panic!("{name}: {e}"));
        if let Some(prompt) = case["prompt"].as_str() {
            assert_eq!(rendered.prompt(), prompt, "{name}");
        }
        if case["ids"].is_null() {
            continue;
        }
        let official = rendered.ids_parse_special(&tokenizer).unwrap();
        assert_eq!(official, ids(&case["ids"]), "{name}");
        let ours = rendered.ids(&tokenizer).unwrap();
        if user_spells_special(rendered.segments(), &tokenizer) {
            if let Some(reference) =
                ["ids_raw_encoder", "ids_message_by_message"].iter().find_map(|k| case.get(k))
            {
                assert_eq!(ours, ids(reference), "{name}: as the reference without spellings");
            } else {
                assert_eq!(tokenizer.decode(&ours), tokenizer.decode(&official), "{name}");
            }
            assert!(
                ours.iter().filter(|id| tokenizer.is_special(**id)).count()
                    <= official.iter().filter(|id| tokenizer.is_special(**id)).count(),
                "{name}"
            );
        } else {
            assert_eq!(ours, official, "{name}");
            safe += 1;
        }
    }
    println!("{file}: {} cases, {safe} equal in both ways", cases.len());
}

#[test]
fn chatglm_6b() {
    check("chatglm-6b.jsonl", Family::ChatGlm6b, "chatglm-6b");
}

#[test]
fn chatglm2() {
    check("chatglm2-6b.jsonl", Family::ChatGlm2, "chatglm2-6b");
}

#[test]
fn chatglm3() {
    check("chatglm3-6b.jsonl", Family::ChatGlm3, "chatglm3-6b");
}

#[test]
fn glm4() {
    check("glm-4-9b-chat.jsonl", Family::Glm4, "glm-4-9b-chat");
    check("glm-4-9b-chat.jsonl", Family::Glm4, "glm-4-9b-chat-hf");
}

#[test]
fn glm4v() {
    check("glm-4v-9b.jsonl", Family::Glm4v, "glm-4-9b-chat");
}

#[test]
fn glm_edge() {
    // No ids: the vocabulary of this file is not the model's.
    check("glm-edge-chat.jsonl", Family::GlmEdge, "glm-4.5");
}

#[test]
fn glm_0414() {
    check("glm-4-0414.jsonl", Family::Glm40414, "glm-4-0414");
}

#[test]
fn glm_z1() {
    check("glm-z1-0414.jsonl", Family::GlmZ1, "glm-4-0414");
}

#[test]
fn glm_45() {
    check("glm-4.5.jsonl", Family::Glm45, "glm-4.5");
}

#[test]
fn glm_47() {
    check("glm-4.7.jsonl", Family::Glm47, "glm-4.5");
}

/// The models' own Jinja, run by our interpreter: the same text, the same ids.
#[test]
fn templates_agree_with_native_formats() {
    let Some(shared) = shared() else { return };
    for (file, template, tokenizer_name) in [
        ("glm-4-9b-chat", "glm-4-9b-chat", "glm-4-9b-chat"),
        ("glm-4-0414", "glm-4-0414", "glm-4-0414"),
        ("glm-z1-0414", "glm-z1-0414", "glm-4-0414"),
        ("glm-4.5", "glm-4.5-4.6", "glm-4.5"),
        ("glm-4.7", "glm-4.7", "glm-4.5"),
        ("glm-edge-chat", "glm-edge-chat", "glm-4.5"),
    ] {
        let source =
            std::fs::read_to_string(shared.join(format!("tokenizers/templates/{template}.jinja"))).unwrap();
        let native = ChatTemplate::detect(Some(&source), &Default::default()).unwrap();
        assert!(native.format().is_some(), "{template} is known");
        let jinja = ChatTemplate::jinja(&source).unwrap_or_else(|e| panic!("{template}: {e}"));
        let tokenizer = tokenizer(tokenizer_name).unwrap();
        for case in lines(shared.join(format!("tokenizers/vectors/chat/{file}.jsonl"))) {
            let name = format!("{template} {}", case["name"]);
            let conversation = conversation(&case);
            let ours = jinja.render(&conversation).unwrap_or_else(|e| panic!("{name}: {e}"));
            let theirs = native.render(&conversation).unwrap();
            assert_eq!(ours.prompt(), case["prompt"].as_str().unwrap(), "{name}");
            assert_eq!(ours.ids(&tokenizer).unwrap(), theirs.ids(&tokenizer).unwrap(), "{name}");
            let official = ours.ids_parse_special(&tokenizer).unwrap();
            assert_eq!(official, theirs.ids_parse_special(&tokenizer).unwrap(), "{name}");
        }
    }
}

/// A revision of a known template that names the model otherwise is that template, with that name.
#[test]
fn the_name_in_the_template_is_kept() {
    let Some(shared) = shared() else { return };
    let source = std::fs::read_to_string(shared.join("tokenizers/templates/glm-4-9b-chat.jinja")).unwrap();
    let older = source.replace("名为 GLM-4 的", "名为 ChatGLM 的");
    let template = ChatTemplate::detect(Some(&older), &Default::default()).unwrap();
    assert_eq!(template.format(), Some(Family::Glm4));
    let conversation = serde_json::from_str(r#"[{"role": "system", "content": null, "tools": []}]"#).unwrap();
    assert!(template.render(&conversation).unwrap().prompt().contains("你是一个名为 ChatGLM 的"));
    let changed = source.replace("可用工具", "工具");
    assert_eq!(ChatTemplate::detect(Some(&changed), &Default::default()).unwrap().format(), None);
}

/// Vectors that other projects published: whole prompts, and conversations.
#[test]
fn known_public_vectors() {
    let Some(shared) = shared() else { return };
    let mut count = 0;
    for case in lines(shared.join("tokenizers/vectors/known_public_vectors.jsonl")) {
        let kind = case["kind"].as_str().unwrap();
        let (format, name) = match case["tokenizer"].as_str().unwrap() {
            "chatglm-6b" if kind.starts_with("full") => (Family::ChatGlm6b, "chatglm-6b"),
            "chatglm2-6b" if kind.starts_with("full") => (Family::CodeGeex2, "chatglm2-6b"),
            "codegeex2-6b" => (Family::CodeGeex2, "codegeex2-6b"),
            "chatglm3-6b" if kind.starts_with("chat") => (Family::ChatGlm3, "chatglm3-6b"),
            "glm-4-9b" if kind.starts_with("chat") => (Family::Glm4, "glm-4-9b-chat"),
            _ => continue,
        };
        let conversation = match case["text"].as_str() {
            // A prompt as it stands: one question of ChatGLM-6B, or text that CodeGeeX2's format leaves alone.
            Some(text) => Conversation::new(vec![Message::new(Role::User, text)]),
            None => conversation(&case),
        };
        let tokenizer = tokenizer(name).unwrap();
        let rendered = ChatTemplate::native(format).render(&conversation).unwrap();
        assert_eq!(rendered.ids(&tokenizer).unwrap(), ids(&case["ids"]), "{case}");
        assert_eq!(rendered.ids_parse_special(&tokenizer).unwrap(), ids(&case["ids"]), "{case}");
        count += 1;
    }
    println!("{count} public vectors");
}

/// The ids that end each generation's replies.
#[test]
fn stop_ids_of_the_published_tokenizers() {
    if shared().is_none() {
        return;
    }
    for (name, format, expected) in [
        ("chatglm-6b", Family::ChatGlm6b, vec![130_005]),
        ("chatglm-6b-image20000", Family::ChatGlm6b, vec![150_005]),
        ("chatglm2-6b", Family::ChatGlm2, vec![2]),
        ("codegeex2-6b", Family::CodeGeex2, vec![2]),
        ("chatglm3-6b", Family::ChatGlm3, vec![2, 64_795, 64_797]),
        ("glm-4-9b-chat", Family::Glm4, vec![151_329, 151_336, 151_338]),
        ("glm-4-9b-chat", Family::Glm4v, vec![151_329, 151_336, 151_338]),
        ("glm-4-0414", Family::GlmZ1, vec![151_329, 151_336, 151_338]),
        ("glm-4.5", Family::Glm45, vec![151_329, 151_336, 151_338]),
    ] {
        assert_eq!(stop_ids(Some(format), &tokenizer(name).unwrap(), &[]), expected, "{name}");
    }
}

/// What each published directory tells of its format without a template.
#[test]
fn published_tokenizers_tell_their_format() {
    if shared().is_none() {
        return;
    }
    for (name, model_type, format) in [
        ("chatglm-6b", "chatglm", Family::ChatGlm6b),
        ("chatglm-6b-image20000", "chatglm", Family::ChatGlm6b),
        ("chatglm2-6b", "chatglm", Family::ChatGlm2),
        ("chatglm3-6b", "chatglm", Family::ChatGlm3),
        ("glm-4-9b-chat", "chatglm", Family::Glm4),
        ("glm-4-9b-chat-hf", "glm", Family::Glm4),
        ("glm-4-0414", "glm4", Family::Glm40414),
        ("glm-4.5", "glm4_moe", Family::Glm45),
    ] {
        let evidence = Evidence { model_type: Some(model_type.to_owned()), ..Evidence::default() };
        let evidence = evidence.with_special_tokens(tokenizer(name).unwrap().special_tokens());
        assert_eq!(ChatTemplate::detect(None, &evidence).unwrap().format(), Some(format), "{name}");
    }
}
