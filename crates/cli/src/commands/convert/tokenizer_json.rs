//! A GGUF's byte-level vocabulary as the `tokenizer.json` and `tokenizer_config.json` of a directory.

use glimmer_tokenizer::{GgufVocab, TokenId};
use serde_json::{Map, Value, json};

/// How GLM-4 and its successors cut text before merging; the two `pre` names that llama.cpp has for it.
const GLM4_PATTERN: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const GLM4_PRES: [&str; 2] = ["chatglm-bpe", "glm4"];

/// GGUF's numbers of token types.
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const UNUSED: i32 = 5;

/// `tokenizer.json`; `prefix` are the ids that a plain call puts before text. `None` where the vocabulary is of another
/// kind (SentencePiece has a format of its own).
pub(in crate::commands) fn tokenizer_json(vocab: &GgufVocab<'_>, prefix: &[TokenId]) -> Option<Value> {
    let pre = vocab.pre.as_deref().unwrap_or("");
    if vocab.model != "gpt2" || !GLM4_PRES.contains(&pre) {
        return None;
    }
    let (mut tokens, mut added) = (Map::new(), Vec::new());
    for (id, token) in vocab.tokens.iter().enumerate() {
        match vocab.token_types.get(id).copied().unwrap_or(1) {
            kind @ (CONTROL | USER_DEFINED) => added.push(json!({
                "id": id,
                "content": token,
                "single_word": false,
                "lstrip": false,
                "rstrip": false,
                "normalized": false,
                "special": kind == CONTROL,
            })),
            UNUSED => {}
            _ => drop(tokens.insert(token.to_string(), id.into())),
        }
    }
    let merges: Vec<Value> =
        vocab.merges.iter().filter_map(|m| m.split_once(' ')).map(|(a, b)| json!([a, b])).collect();
    let byte_level = |add_prefix_space: bool, trim_offsets: bool, use_regex: bool| {
        json!({
            "type": "ByteLevel",
            "add_prefix_space": add_prefix_space,
            "trim_offsets": trim_offsets,
            "use_regex": use_regex,
        })
    };
    let mut processors = vec![byte_level(true, false, true)];
    if !prefix.is_empty() {
        processors.push(template(vocab, prefix));
    }
    let split = json!({
        "type": "Split",
        "pattern": {"Regex": GLM4_PATTERN},
        "behavior": "Isolated",
        "invert": false,
    });
    Some(json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": null,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level(false, true, false)]},
        "post_processor": {"type": "Sequence", "processors": processors},
        "decoder": byte_level(true, true, true),
        "model": {
            "type": "BPE",
            "dropout": null,
            "unk_token": null,
            "continuing_subword_prefix": null,
            "end_of_word_suffix": null,
            "fuse_unk": false,
            "byte_fallback": false,
            "ignore_merges": true,
            "vocab": tokens,
            "merges": merges,
        },
    }))
}

/// The post-processor that puts ids before text.
fn template(vocab: &GgufVocab<'_>, prefix: &[TokenId]) -> Value {
    let named: Vec<_> = prefix.iter().filter_map(|&id| Some((id, vocab.tokens.get(id as usize)?))).collect();
    let special = named.iter().map(|(_, name)| json!({"SpecialToken": {"id": name, "type_id": 0}}));
    let text = |name: &str, kind: u32| json!({"Sequence": {"id": name, "type_id": kind}});
    let single: Vec<Value> = special.chain([text("A", 0)]).collect();
    let pair: Vec<Value> = single.iter().cloned().chain([text("B", 1)]).collect();
    let ids: Map<String, Value> = named
        .iter()
        .map(|(id, name)| (name.to_string(), json!({"id": name, "ids": [id], "tokens": [name]})))
        .collect();
    json!({"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": ids})
}

/// `tokenizer_config.json`, by which transformers finds the class.
pub(in crate::commands) fn tokenizer_config(vocab: &GgufVocab<'_>, context: usize) -> Value {
    let token = |id: Option<TokenId>| id.and_then(|id| vocab.tokens.get(id as usize));
    json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": token(vocab.eos),
        "pad_token": token(vocab.pad),
        "model_max_length": context,
        "clean_up_tokenization_spaces": false,
    })
}
