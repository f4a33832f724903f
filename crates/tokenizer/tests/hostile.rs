//! Files that lie, texts that are made to be slow.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "these are tests")]

use std::path::Path;
use std::time::Instant;

use glimmer_tokenizer::{GgufVocab, Tokenizer, WordPieceOptions};
use serde_json::{Value, json};

fn data(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name);
    std::fs::read(path).unwrap()
}

fn load(name: &str) -> Tokenizer {
    Tokenizer::from_dir(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)).unwrap()
}

/// A `tokenizer.json` with one thing changed is refused with a message that names it.
#[test]
fn unsupported_components_are_refused_by_name() {
    let glm45: Value = serde_json::from_slice(&data("glm45/tokenizer.json")).unwrap();
    let changes: [(&str, Value, &str); 16] = [
        ("/model/type", json!("Unigram"), "Unigram"),
        ("/model/dropout", json!(0.1), "dropout"),
        ("/model/byte_fallback", json!(true), "byte_fallback"),
        ("/model/unk_token", json!("<unk>"), "unk_token"),
        ("/model/end_of_word_suffix", json!("</w>"), "end_of_word_suffix"),
        ("/normalizer", json!({"type": "NFKC"}), "NFKC"),
        ("/decoder", json!({"type": "Metaspace"}), "Metaspace"),
        ("/decoder", Value::Null, "none"),
        ("/pre_tokenizer", json!({"type": "Metaspace"}), "Metaspace"),
        ("/pre_tokenizer/pretokenizers/0/behavior", json!("Removed"), "Removed"),
        ("/pre_tokenizer/pretokenizers/0/invert", json!(true), "invert"),
        ("/pre_tokenizer/pretokenizers/0/pattern", json!({"String": " "}), "other than Regex"),
        ("/pre_tokenizer/pretokenizers/0/pattern/Regex", json!("("), "split pattern"),
        ("/pre_tokenizer/pretokenizers/1/add_prefix_space", json!(true), "add_prefix_space"),
        ("/post_processor", json!({"type": "RobertaProcessing"}), "RobertaProcessing"),
        ("/added_tokens/0/id", json!(5), "has the id 5"),
    ];
    for (pointer, value, named) in changes {
        let mut file = glm45.clone();
        *file.pointer_mut(pointer).unwrap() = value;
        let error =
            Tokenizer::from_tokenizer_json(&serde_json::to_vec(&file).unwrap()).unwrap_err().to_string();
        assert!(error.contains(named), "{pointer}: {error}");
    }
}

#[test]
fn broken_tokenizer_json() {
    let glm45: Value = serde_json::from_slice(&data("glm45/tokenizer.json")).unwrap();
    let vocab = "/model/vocab";
    type Change = fn(&mut Value);
    let changes: [(&str, Change, &str); 6] = [
        (vocab, |vocab| vocab["!"] = json!(1), "given to two"),
        (vocab, |vocab| vocab["new"] = json!(4_000_000_000u32), "beyond the limit"),
        (vocab, |vocab| drop(vocab.as_object_mut().unwrap().remove("a")), "not in the vocabulary"),
        (vocab, |vocab| vocab["long"] = json!(-1), "invalid value"),
        ("/model/merges", |merges| merges[0] = json!(["a"]), "two strings"),
        ("/model/merges", |merges| merges[0] = json!("ab"), "no pair"),
    ];
    for (pointer, change, named) in changes {
        let mut file = glm45.clone();
        change(file.pointer_mut(pointer).unwrap());
        let error =
            Tokenizer::from_tokenizer_json(&serde_json::to_vec(&file).unwrap()).unwrap_err().to_string();
        assert!(error.contains(named), "{error}");
    }
    for file in [&b""[..], b"{}", b"[]", b"null", b"\xFF", b"{\"model\": {}}"] {
        assert!(Tokenizer::from_tokenizer_json(file).is_err());
    }
}

/// A vocabulary that lists its special tokens among the ordinary ones, even with merges that lead to one.
#[test]
fn plain_text_never_becomes_a_special_token_of_the_vocabulary() {
    let mut file: Value = serde_json::from_slice(&data("glm45/tokenizer.json")).unwrap();
    let count = file["model"]["vocab"].as_object().unwrap().len();
    file["model"]["vocab"]["/x"] = json!(count);
    file["model"]["vocab"]["qz"] = json!(count + 1);
    file["model"]["merges"].as_array_mut().unwrap().insert(0, json!(["q", "z"]));
    let flags =
        json!({"single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true});
    for (content, id) in [("/x", count), ("qz", count + 1)] {
        let mut token = flags.clone();
        token["content"] = json!(content);
        token["id"] = json!(id);
        file["added_tokens"][id - count] = token;
    }
    let tokenizer = Tokenizer::from_tokenizer_json(&serde_json::to_vec(&file).unwrap()).unwrap();
    assert_eq!(tokenizer.encode_parse_special("/x qz"), [count as u32, 220, count as u32 + 1]);
    assert!(tokenizer.encode("/x qz").iter().all(|id| !tokenizer.is_special(*id)));
    assert_eq!(tokenizer.decode(&tokenizer.encode("/x qz")), "/x qz");
}

#[test]
fn broken_tiktoken_files() {
    let ranks = data("glm4-tiktoken/tokenizer.model");
    for (line, named) in [
        ("IQ== x", "rank is not a number"),
        ("I! 1", "not base64"),
        ("IQ==", "expected a base64 token"),
        ("IQ== 1 2", "expected a base64 token"),
        ("IQ== 99999", "has two ids"),
        ("ISEhISEh 0", "given to two"),
        ("ISEhISEh 4194304", "beyond the limit"),
    ] {
        let file = [&ranks, format!("\n{line}\n").as_bytes()].concat();
        let error = Tokenizer::from_tiktoken(&file, None).unwrap_err().to_string();
        assert!(error.contains(named), "{line}: {error}");
    }
    let error = Tokenizer::from_tiktoken(b"IQ== 0\n", None).unwrap_err().to_string();
    assert!(error.contains("byte 0x00"), "{error}");
    assert!(Tokenizer::from_tiktoken(b"", None).is_err());
}

#[test]
fn broken_sentencepiece_models() {
    let file = data("chatglm2-6b/tokenizer.model");
    for cut in (0..file.len()).step_by(997) {
        // Every prefix either fails with a message or, cut between pieces, lacks what a model needs.
        assert!(Tokenizer::from_sentencepiece(&file[..cut], &[]).is_err(), "cut at {cut}");
    }
    let error = Tokenizer::from_sentencepiece(&file[..100], &[]).unwrap_err().to_string();
    assert!(error.contains("byte"), "{error}");
    assert!(Tokenizer::from_wordpiece(&file, WordPieceOptions::default()).is_err());
    assert!(Tokenizer::from_chatglm6b(&file, u32::MAX).is_err());
}

#[test]
fn broken_gguf_vocabularies() {
    let good = load("glm4-tiktoken").to_gguf().unwrap();
    type Change = fn(&mut GgufVocab<'_>);
    let changes: [(Change, &str); 8] = [
        (|vocab| vocab.model = "rwkv".into(), "rwkv"),
        (|vocab| vocab.pre = Some("qwen2".into()), "qwen2"),
        (|vocab| vocab.pre = None, "default"),
        (|vocab| vocab.token_types.truncate(7), "token types"),
        (|vocab| vocab.token_types[3] = 77, "type 77"),
        (|vocab| vocab.merges[0] = "ab".into(), "no pair"),
        (|vocab| vocab.merges[0] = "好 b".into(), "not in the vocabulary"),
        (|vocab| vocab.tokens[1] = vocab.tokens[0].clone(), "two ids"),
    ];
    for (change, named) in changes {
        let mut vocab = good.clone();
        change(&mut vocab);
        let error = Tokenizer::from_gguf(&vocab).unwrap_err().to_string();
        assert!(error.contains(named), "{error}");
    }
    assert!(Tokenizer::from_gguf(&GgufVocab::default()).is_err());
}

/// What early converters wrote: a merge of three parts for a token that no pair reaches.
#[test]
fn merges_of_many_parts_match_nothing() {
    let tokenizer = load("glm4-tiktoken");
    let mut vocab = tokenizer.to_gguf().unwrap();
    vocab.pre = Some("chatglm-bpe".into());
    vocab.merges.insert(0, "a b c".into());
    let again = Tokenizer::from_gguf(&vocab).unwrap();
    assert_eq!(again.encode("abc and so on"), tokenizer.encode("abc and so on"));
    assert_eq!(again.wrap(), tokenizer.wrap());
}

#[test]
fn directories_without_a_tokenizer() {
    let dir = tempfile::tempdir().unwrap();
    let error = || Tokenizer::from_dir(dir.path()).unwrap_err().to_string();
    assert!(error().contains("tokenizer.json, tokenizer.model, ice_text.model, vocab.txt"));
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    write("tokenizer.model", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n");
    assert!(error().contains("tokenizer.model: is a Git LFS pointer"), "{}", error());
    write("tokenizer.model", "what is this?");
    assert!(error().contains("neither tiktoken ranks nor a SentencePiece model"), "{}", error());
    std::fs::remove_file(dir.path().join("tokenizer.model")).unwrap();
    std::fs::write(dir.path().join("ice_text.model"), data("chatglm-6b/ice_text.model")).unwrap();
    let tokenizer = || Tokenizer::from_dir(dir.path()).unwrap();
    assert_eq!(tokenizer().token_text(0), "<unk>");
    write("tokenizer_config.json", "{}");
    assert_eq!(tokenizer().token_text(0), "<image_0>");
    write("tokenizer_config.json", r#"{"num_image_tokens": -1}"#);
    assert!(error().contains("num_image_tokens is -1"), "{}", error());
}

/// Near-linear on everything: ten times the text takes about ten times as long. The times are printed; what is
/// asserted is only far from quadratic, so that a busy machine cannot fail it.
#[test]
fn a_megabyte_of_anything() {
    let texts: [(&str, String); 8] = [
        ("one letter", "a".repeat(1 << 20)),
        ("spaces", " ".repeat(1 << 20)),
        ("newlines", "\n".repeat(1 << 20)),
        ("alternating", "ab".repeat(1 << 19)),
        ("space and letter", " a".repeat(1 << 19)),
        ("one Chinese character", "好".repeat(1 << 18)),
        ("bytes without a token", "\u{1F9E0}".repeat(1 << 18)),
        ("beginnings of special tokens", "<|use".repeat(1 << 18)),
    ];
    for name in ["chatglm-6b", "chatglm2-6b", "glm4-tiktoken", "glm45", "bert"] {
        let tokenizer = load(name);
        for (what, text) in &texts {
            let start = Instant::now();
            let ids = tokenizer.encode_parse_special(text);
            let encoded = start.elapsed();
            let decoded = tokenizer.decode(&ids);
            println!(
                "{name}: {what}: {} tokens in {encoded:.2?}, back in {:.2?}",
                ids.len(),
                start.elapsed() - encoded
            );
            assert!(start.elapsed().as_secs() < 60, "{name}: {what}");
            if tokenizer.wrap().0.len() == 2 {
                assert_eq!(&decoded, text);
            }
        }
    }
}
