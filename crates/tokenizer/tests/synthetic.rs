//! Every format against the reference libraries' vectors, on small vocabularies that are part of the repository.
#![allow(clippy::unwrap_used, reason = "these are tests")]

mod support;

use std::path::{Path, PathBuf};

use glimmer_tokenizer::{CHATGLM3_SPECIAL_TOKENS, Tokenizer, TokenizerKind};
use support::{check, check_gguf, read};

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

fn load(name: &str) -> Tokenizer {
    Tokenizer::from_dir(&data(name)).unwrap()
}

fn check_all(name: &str, kind: TokenizerKind) {
    let tokenizer = load(name);
    assert_eq!(tokenizer.kind(), kind);
    let vectors = read(&data(name).join("vectors.jsonl"));
    check(name, &tokenizer, &vectors);
    check_gguf(name, &tokenizer, &vectors);
}

#[test]
fn chatglm_6b() {
    check_all("chatglm-6b", TokenizerKind::ChatGlm6b);
}

#[test]
fn chatglm2() {
    check_all("chatglm2-6b", TokenizerKind::SentencePiece);
}

#[test]
fn glm4_tiktoken() {
    check_all("glm4-tiktoken", TokenizerKind::Tiktoken);
}

#[test]
fn glm4_as_tokenizer_json() {
    let vectors = read(&data("glm4-tiktoken").join("vectors.jsonl"));
    let tokenizer = load("glm4-hf");
    check("glm4-hf", &tokenizer, &vectors);
    // Where nothing special is spelled, recognising special tokens changes nothing.
    for vector in vectors.iter().filter(|vector| vector.ids_with_special.is_none()) {
        assert_eq!(Some(tokenizer.encode_parse_special(&vector.text)), vector.ids);
    }
}

#[test]
fn glm_edge() {
    check_all("glm-edge", TokenizerKind::TokenizerJson);
}

#[test]
fn glm45() {
    check_all("glm45", TokenizerKind::TokenizerJson);
}

#[test]
fn bert() {
    check_all("bert", TokenizerKind::WordPiece);
}

#[test]
fn the_first_release_of_chatglm_6b() {
    let file = std::fs::read(data("chatglm-6b").join("ice_text.model")).unwrap();
    let tokenizer = Tokenizer::from_chatglm6b(&file, 20_000).unwrap();
    let shift = |ids: Vec<u32>| ids.into_iter().map(|id| id + 20_000).collect();
    let mut vectors = read(&data("chatglm-6b").join("vectors.jsonl"));
    for vector in &mut vectors {
        vector.ids = vector.ids.take().map(shift);
    }
    check("chatglm-6b with image tokens", &tokenizer, &vectors);
    check_gguf("chatglm-6b with image tokens", &tokenizer, &vectors);
    assert_eq!(tokenizer.token_text(5), "<image_5>");
    assert_eq!(tokenizer.decode(&[5]), "<image_5>");
}

#[test]
fn special_tokens_and_wrapping() {
    let glm4 = load("glm4-tiktoken");
    let (gmask, sop) = (glm4.special_id("[gMASK]").unwrap(), glm4.special_id("<sop>").unwrap());
    assert_eq!(glm4.wrap(), (&[gmask, sop][..], &[][..]));
    assert_eq!(glm4.special_tokens().count(), 14);
    assert_eq!(glm4.decode(&[gmask, sop]), "[gMASK]<sop>");
    assert_eq!(glm4.decode_skip_special(&[gmask, 0, sop]), "!");
    assert_eq!(glm4.encode_parse_special("[gMASK]<sop>"), [gmask, sop]);
    assert!(!glm4.encode("[gMASK]<sop>").contains(&gmask));

    let glm45 = load("glm45");
    let think = glm45.special_id("<think>").unwrap();
    assert!(glm45.is_special(think) && !glm45.is_skipped(think));
    assert_eq!(glm45.decode_skip_special(&[think]), "<think>");
    assert!(glm45.is_skipped(glm45.special_id("<|user|>").unwrap()));
    assert_eq!(glm45.wrap(), (&[][..], &[][..]));

    let chatglm6b = load("chatglm-6b");
    let (gmask, sop) = (chatglm6b.special_id("[gMASK]").unwrap(), chatglm6b.special_id("<sop>").unwrap());
    assert_eq!(chatglm6b.wrap(), (&[][..], &[gmask, sop][..]));

    let bert = load("bert");
    assert_eq!(bert.wrap(), (&[][..], &[][..]));
    assert_eq!(bert.encode(""), [2, 3]);
}

/// Transformers 4.33.3 with the model's own wrapper, run on the published vocabulary, strips white space next to
/// the spellings it recognises and gives each stretch of text its own dummy prefix.
#[test]
fn chatglm_6b_recognises_five_spellings() {
    let tokenizer = load("chatglm-6b");
    let id = |spelling: &str| tokenizer.special_id(spelling).unwrap();
    let text = |text: &str| tokenizer.encode(text);
    let parse = |text: &str| tokenizer.encode_parse_special(text);
    assert_eq!(parse("a <sop> b"), [text("a"), vec![id("<sop>")], text("b")].concat());
    assert_eq!(parse("a\n<eop>\n b  "), [text("a"), vec![id("<eop>")], text("b  ")].concat());
    assert_eq!(parse("<unk><pad>"), [id("<unk>"), id("<pad>")]);
    assert_eq!(parse("\u{3000}[MASK]\u{1c}好"), [vec![id("[MASK]")], text("好")].concat());
    assert_eq!(parse("[gMASK] </s>"), text("[gMASK] </s>"));
    assert_eq!(tokenizer.decode(&[id("<unk>"), id("<sop>"), id("[gMASK]")]), " \u{2047} ");
}

#[test]
fn chatglm3_renders_its_roles_and_never_reads_them() {
    let file = std::fs::read(data("chatglm2-6b").join("tokenizer.model")).unwrap();
    let tokenizer = Tokenizer::from_sentencepiece(&file, CHATGLM3_SPECIAL_TOKENS).unwrap();
    let user = tokenizer.special_id("<|user|>").unwrap();
    let end = tokenizer.special_id("</s>").unwrap();
    assert_eq!(tokenizer.encode_parse_special("<|user|>"), tokenizer.encode("<|user|>"));
    let ids = [vec![user], tokenizer.encode("\n"), tokenizer.encode("a"), vec![end, 0]].concat();
    assert_eq!(tokenizer.decode(&ids), "<|user|> \n a");
    assert_eq!(tokenizer.decode_skip_special(&ids), "\n a");
    assert_eq!(tokenizer.token_text(end), "</s>");
}

#[test]
fn names_tell_chatglm2_from_chatglm3() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::copy(data("chatglm2-6b").join("tokenizer.model"), dir.path().join("tokenizer.model")).unwrap();
    let user = || Tokenizer::from_dir(dir.path()).unwrap().special_id("<|user|>");
    assert_eq!(user(), Some(3006));
    let config = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    config("config.json", r#"{"_name_or_path": "THUDM/chatglm2-6b-int4"}"#);
    assert_eq!(user(), None);
    config("tokenizer_config.json", r#"{"added_tokens_decoder": {"3006": {"content": "<|user|>"}}}"#);
    assert!(user().is_some());
    config("tokenizer_config.json", "{");
    assert!(Tokenizer::from_dir(dir.path()).unwrap_err().to_string().contains("tokenizer_config.json"));
}

#[test]
fn token_spellings_and_bytes() {
    let glm4 = load("glm4-hf");
    let id = glm4.encode(" 好")[0];
    assert_eq!((glm4.token_text(id), glm4.token_bytes(id)), ("Ġå¥½".into(), Some(" 好".as_bytes().to_vec())));
    assert_eq!((glm4.token_text(1 << 20), glm4.token_bytes(1 << 20)), (String::new(), None));
    assert_eq!(glm4.decode(&[1 << 20]), "");

    let chatglm6b = load("chatglm-6b");
    let ids = chatglm6b.encode("\n  \t\u{1F9E0}");
    let bytes: Vec<u8> = ids.iter().flat_map(|id| chatglm6b.token_bytes(*id).unwrap()).collect();
    assert_eq!(String::from_utf8(bytes).unwrap(), " \n  \t\u{1F9E0}");
    assert_eq!(chatglm6b.token_text(ids[1]), "<n>");
    assert_eq!(chatglm6b.token_text(*ids.last().unwrap()), "<0xA0>");

    let bert = load("bert");
    let continued = (0..bert.len() as u32).find(|id| bert.token_text(*id).starts_with("##")).unwrap();
    assert_eq!(bert.token_bytes(continued).unwrap(), &bert.token_text(continued).as_bytes()[2..]);
}
