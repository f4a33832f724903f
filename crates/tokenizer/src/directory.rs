//! Which tokenizer a model directory in Hugging Face layout holds.
//!
//! The files beside it settle what its own bytes cannot say: `tokenizer_config.json` lists GLM-4's special
//! tokens, ChatGLM-6B's image tokens and BERT's casing; ChatGLM2 and ChatGLM3 share one file and differ by
//! name.

use std::path::Path;

use glimmer_config::file::{read_bytes, read_object};
use glimmer_config::{Configuration, Family};
use serde_json::Value;

use crate::model_proto::{ModelProto, looks_like_model};
use crate::sentencepiece::{CHATGLM2_SPECIAL_TOKENS, CHATGLM3_SPECIAL_TOKENS};
use crate::{AddedToken, TokenId, Tokenizer, TokenizerError, WordPieceOptions};
use crate::{chatglm6b, tiktoken};

/// GLM-4's `tokenizer.json` has 20 MB.
const FILE_LIMIT: u64 = 100 << 20;

pub(crate) fn load(dir: &Path) -> Result<Tokenizer, TokenizerError> {
    type Loader = fn(&[u8], &Path) -> Result<Tokenizer, TokenizerError>;
    const FILES: [(&str, Loader); 4] = [
        ("tokenizer.json", |file, _| Tokenizer::from_tokenizer_json(file)),
        ("tokenizer.model", load_tokenizer_model),
        ("ice_text.model", load_ice_text),
        ("vocab.txt", load_vocab_txt),
    ];
    for (name, loader) in FILES {
        let path = dir.join(name);
        if let Some(file) = read_bytes(&path, FILE_LIMIT)? {
            return loader(&file, dir).map_err(|error| error.in_file(&path));
        }
    }
    Err(TokenizerError::Missing {
        dir: dir.to_path_buf(),
        looked_for: "tokenizer.json, tokenizer.model, ice_text.model, vocab.txt",
    })
}

fn load_tokenizer_model(file: &[u8], dir: &Path) -> Result<Tokenizer, TokenizerError> {
    let config = read_object(&dir.join("tokenizer_config.json"))?.unwrap_or_default();
    if tiktoken::looks_like_ranks(file) {
        return Tokenizer::from_tiktoken(file, added_tokens(&config)?);
    }
    if !looks_like_model(file) {
        let what = "neither tiktoken ranks nor a SentencePiece model";
        return Err(TokenizerError::malformed("tokenizer.model", what));
    }
    let special = if has_roles(&config, dir)? { CHATGLM3_SPECIAL_TOKENS } else { CHATGLM2_SPECIAL_TOKENS };
    Tokenizer::from_sentencepiece(file, special)
}

/// ChatGLM2 and CodeGeeX2 have no role tokens. Their files are ChatGLM3's to the byte, so only names tell: without any,
/// the roles are there, in ids that ChatGLM2 leaves unused.
fn has_roles(config: &Value, dir: &Path) -> Result<bool, TokenizerError> {
    if added_tokens(config)?.is_some_and(|tokens| tokens.iter().any(|token| token.content == "<|user|>")) {
        return Ok(true);
    }
    let family = Configuration::read(dir)?.evidence().decide().map(|decision| decision.family);
    Ok(!matches!(family, Some(Family::ChatGlm2 | Family::CodeGeex2)))
}

/// `num_image_tokens` says how many image tokens come first; the official code assumes the first release's
/// 20,000 where `tokenizer_config.json` is silent. Without that file, the vocabulary itself tells the
/// releases apart.
fn load_ice_text(file: &[u8], dir: &Path) -> Result<Tokenizer, TokenizerError> {
    let path = dir.join("tokenizer_config.json");
    let image_tokens = match read_object(&path)? {
        Some(config) => match &config["num_image_tokens"] {
            Value::Null => chatglm6b::FIRST_RELEASE_IMAGE_TOKENS,
            number => number.as_u64().and_then(|count| u32::try_from(count).ok()).ok_or_else(|| {
                let what = format!("num_image_tokens is {number}");
                TokenizerError::malformed("tokenizer_config.json", what).in_file(&path)
            })?,
        },
        None if chatglm6b::is_first_release(&ModelProto::parse(file)?) => {
            chatglm6b::FIRST_RELEASE_IMAGE_TOKENS
        }
        None => 0,
    };
    Tokenizer::from_chatglm6b(file, image_tokens)
}

fn load_vocab_txt(file: &[u8], dir: &Path) -> Result<Tokenizer, TokenizerError> {
    let config = read_object(&dir.join("tokenizer_config.json"))?.unwrap_or_default();
    let default = WordPieceOptions::default();
    let options = WordPieceOptions {
        split_chinese: config["tokenize_chinese_chars"].as_bool().unwrap_or(default.split_chinese),
        strip_accents: config["strip_accents"].as_bool(),
        lowercase: config["do_lower_case"].as_bool().unwrap_or(default.lowercase),
        ..default
    };
    Tokenizer::from_wordpiece(file, options)
}

/// The `added_tokens_decoder` of a `tokenizer_config.json`.
fn added_tokens(config: &Value) -> Result<Option<Vec<AddedToken>>, TokenizerError> {
    let Some(tokens) = config["added_tokens_decoder"].as_object() else { return Ok(None) };
    let parse = |(id, token): (&String, &Value)| {
        let id: TokenId = id.parse().ok()?;
        let flag = |name: &str| token[name].as_bool().unwrap_or(false);
        Some(AddedToken {
            content: token["content"].as_str()?.into(),
            id,
            special: flag("special"),
            single_word: flag("single_word"),
            lstrip: flag("lstrip"),
            rstrip: flag("rstrip"),
            normalized: flag("normalized"),
        })
    };
    let read = |entry: (&String, &Value)| {
        let id = entry.0.clone();
        parse(entry).ok_or_else(|| {
            let what = format!("added_tokens_decoder[{id:?}] has no content or no number for an id");
            TokenizerError::malformed("tokenizer_config.json", what)
        })
    };
    tokens.iter().map(read).collect::<Result<_, _>>().map(Some)
}
