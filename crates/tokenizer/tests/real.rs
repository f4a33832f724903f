//! Every published tokenizer against the reference libraries' vectors, where the shared folder is present.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "these are tests")]

mod support;

use std::path::Path;

use glimmer_tokenizer::{Tokenizer, TokenizerKind};
use serde_json::Value;
use support::{check, check_gguf, ids_of, read, read_json, shared};

fn load(shared: &Path, name: &str) -> Tokenizer {
    Tokenizer::from_dir(&shared.join(name)).unwrap()
}

fn check_text(names: &[&str], vectors: &str, kind: TokenizerKind) {
    let Some(shared) = shared() else { return };
    let vectors = read(&shared.join("vectors/text").join(vectors));
    for name in names {
        let tokenizer = load(&shared, name);
        assert_eq!(tokenizer.kind(), kind);
        check(name, &tokenizer, &vectors);
        check_gguf(name, &tokenizer, &vectors);
    }
}

#[test]
fn chatglm_6b() {
    check_text(&["chatglm-6b"], "chatglm-6b.jsonl", TokenizerKind::ChatGlm6b);
}

#[test]
fn the_first_release_of_chatglm_6b() {
    let Some(shared) = shared() else { return };
    let tokenizer = load(&shared, "chatglm-6b-image20000");
    let mut vectors = read(&shared.join("vectors/text/chatglm-6b.jsonl"));
    for vector in &mut vectors {
        vector.ids = vector.ids.take().map(|ids| ids.into_iter().map(|id| id + 20_000).collect());
    }
    check("chatglm-6b-image20000", &tokenizer, &vectors);
    check_gguf("chatglm-6b-image20000", &tokenizer, &vectors);
    assert_eq!(tokenizer.special_id("[gMASK]"), Some(150_001));
    assert_eq!(tokenizer.special_id("<eop>"), Some(150_005));
    assert_eq!(tokenizer.len(), 150_344);
}

#[test]
fn chatglm2_and_3() {
    check_text(&["chatglm2-6b", "chatglm3-6b"], "chatglm2-6b.jsonl", TokenizerKind::SentencePiece);
}

#[test]
fn codegeex2() {
    check_text(&["codegeex2-6b"], "codegeex2-6b.jsonl", TokenizerKind::SentencePiece);
}

#[test]
fn glm4_tiktoken() {
    check_text(&["glm-4-9b-chat"], "glm-4-9b.jsonl", TokenizerKind::Tiktoken);
}

#[test]
fn glm4_as_tokenizer_json() {
    check_text(&["glm-4-9b-chat-hf", "glm-4-0414"], "glm-4-9b.jsonl", TokenizerKind::TokenizerJson);
}

/// `tokenizer.json` recognises special spellings; elsewhere the two kinds of ids are the same.
#[test]
fn recognising_special_tokens_changes_nothing_else() {
    let Some(shared) = shared() else { return };
    let vectors = read(&shared.join("vectors/text/glm-4-9b.jsonl"));
    for name in ["glm-4-9b-chat", "glm-4-9b-chat-hf", "glm-4-0414"] {
        let tokenizer = load(&shared, name);
        for vector in &vectors {
            let wanted = vector.ids_with_special.as_ref().or(vector.ids.as_ref()).unwrap();
            assert_eq!(&tokenizer.encode_parse_special(&vector.text), wanted, "{name}: {}", vector.id);
        }
    }
}

#[test]
fn glm45() {
    check_text(&["glm-4.5"], "glm-4.5.jsonl", TokenizerKind::TokenizerJson);
}

#[test]
fn text2vec() {
    check_text(&["text2vec-large-chinese"], "text2vec-large-chinese.jsonl", TokenizerKind::WordPiece);
}

/// `vocab.txt` alone gives what `tokenizer.json` gives.
#[test]
fn text2vec_from_vocab_txt() {
    let Some(shared) = shared() else { return };
    let dir = tempfile::tempdir().unwrap();
    for name in ["vocab.txt", "tokenizer_config.json"] {
        std::fs::copy(shared.join("text2vec-large-chinese").join(name), dir.path().join(name)).unwrap();
    }
    let vectors = read(&shared.join("vectors/text/text2vec-large-chinese.jsonl"));
    check("vocab.txt", &Tokenizer::from_dir(dir.path()).unwrap(), &vectors);
}

#[test]
fn special_ids_of_every_generation() {
    let Some(shared) = shared() else { return };
    type Ids<'t> = &'t [(&'t str, u32)];
    let expected: [(&str, usize, Ids); 7] = [
        (
            "chatglm-6b",
            130_344,
            &[("[MASK]", 130_000), ("[gMASK]", 130_001), ("<sop>", 130_004), ("<pad>", 3)],
        ),
        ("chatglm2-6b", 64_794, &[("[MASK]", 64_789), ("[gMASK]", 64_790), ("sop", 64_792), ("</s>", 2)]),
        ("chatglm3-6b", 64_798, &[("<|system|>", 64_794), ("<|user|>", 64_795), ("<|observation|>", 64_797)]),
        ("glm-4-9b-chat", 151_343, &[("<|endoftext|>", 151_329), ("<sop>", 151_333), ("<|user|>", 151_336)]),
        ("glm-4-9b-chat-hf", 151_343, &[("[gMASK]", 151_331), ("<|end_of_video|>", 151_342)]),
        ("glm-4.5", 151_365, &[("<think>", 151_350), ("/nothink", 151_360), ("<|video|>", 151_364)]),
        ("text2vec-large-chinese", 21_128, &[("[PAD]", 0), ("[UNK]", 100), ("[CLS]", 101), ("[SEP]", 102)]),
    ];
    for (name, len, tokens) in expected {
        let tokenizer = load(&shared, name);
        assert_eq!(tokenizer.len(), len, "{name}");
        for (spelling, id) in tokens {
            assert_eq!(tokenizer.special_id(spelling), Some(*id), "{name}: {spelling}");
            assert_eq!(tokenizer.token_text(*id), *spelling);
            assert!(tokenizer.is_special(*id));
        }
    }
    assert_eq!(load(&shared, "glm-4-9b-chat").wrap().0, [151_331, 151_333]);
    assert_eq!(load(&shared, "glm-4-9b-chat-hf").wrap().0, [151_331, 151_333]);
    assert!(load(&shared, "glm-4-0414").wrap().0.is_empty());
    assert_eq!(load(&shared, "chatglm3-6b").wrap().0, [64_790, 64_792]);
    assert_eq!(load(&shared, "chatglm-6b").wrap().1, [130_001, 130_004]);
}

/// Ids that third parties published: the text between what a plain call adds.
#[test]
fn published_vectors() {
    let Some(shared) = shared() else { return };
    let mut checked = 0;
    for vector in read_json(&shared.join("vectors/known_public_vectors.jsonl")) {
        let name = match vector["tokenizer"].as_str().unwrap() {
            "glm-4-9b" => "glm-4-9b-chat",
            name => name,
        };
        let Some(text) = vector["text"].as_str() else {
            println!("{name}: no text: {}", vector["kind"]);
            continue;
        };
        let tokenizer = load(&shared, name);
        let (prefix, suffix) = tokenizer.wrap();
        let wrapped = [prefix, &tokenizer.encode(text), suffix].concat();
        let ids = ids_of(&vector, "ids").unwrap();
        let plain = tokenizer.encode(text);
        let special = tokenizer.encode_parse_special(text);
        assert!([&wrapped, &plain, &special].contains(&&ids), "{name} {text:?}: {wrapped:?}, not {ids:?}");
        checked += 1;
    }
    println!("{checked} published vectors agree");
}

/// Rendered prompts of the generations whose reference renders first and tokenises then.
#[test]
fn rendered_chats() {
    let Some(shared) = shared() else { return };
    for (chat, name) in [
        ("glm-4-0414", "glm-4-0414"),
        ("glm-z1-0414", "glm-4-0414"),
        ("glm-4.5", "glm-4.5"),
        ("glm-4.7", "glm-4.5"),
        ("glm-4-9b-chat", "glm-4-9b-chat"),
    ] {
        let tokenizer = load(&shared, name);
        let vectors = read_json(&shared.join(format!("vectors/chat/{chat}.jsonl")));
        for vector in &vectors {
            let prompt = vector["prompt"].as_str().unwrap();
            let ids = ids_of(vector, "ids").unwrap();
            assert_eq!(tokenizer.encode_parse_special(prompt), ids, "{chat}: {}", vector["name"]);
            assert_eq!(tokenizer.decode(&ids), prompt, "{chat}: {}", vector["name"]);
        }
        println!("{chat}: {} prompts agree", vectors.len());
    }
    // These two wrap the whole prompt; only ChatGLM-6B's wrapper recognises spellings.
    for name in ["chatglm-6b", "chatglm2-6b"] {
        let tokenizer = load(&shared, name);
        for vector in read_json(&shared.join(format!("vectors/chat/{name}.jsonl"))) {
            let (before, after) = tokenizer.wrap();
            let prompt = tokenizer.encode_parse_special(vector["prompt"].as_str().unwrap());
            let ids = [before, &prompt, after].concat();
            assert_eq!(Some(ids), ids_of(&vector, "ids"), "{name}: {}", vector["name"]);
        }
    }
}

/// The merges derived from GLM-4's ranks are, line for line, those of the published `tokenizer.json`.
#[test]
fn merges_derived_from_ranks_are_the_published_ones() {
    let Some(shared) = shared() else { return };
    let gguf = load(&shared, "glm-4-9b-chat").to_gguf().unwrap();
    let file = std::fs::read(shared.join("glm-4-0414/tokenizer.json")).unwrap();
    let file: Value = serde_json::from_slice(&file).unwrap();
    let published = file["model"]["merges"].as_array().unwrap();
    assert_eq!(gguf.merges.len(), published.len());
    for (derived, published) in gguf.merges.iter().zip(published) {
        let (left, right) = derived.split_once(' ').unwrap();
        assert_eq!((left, right), (published[0].as_str().unwrap(), published[1].as_str().unwrap()));
    }
    assert_eq!(load(&shared, "glm-4-0414").to_gguf().unwrap().merges, gguf.merges);
}
