//! Text to token ids and back, for every generation of the GLM family.
//!
//! Five published formats are read: tiktoken rank files (GLM-4), SentencePiece models (unigram for
//! ChatGLM-6B, BPE with byte fallback for ChatGLM2/3 and CodeGeeX2), `tokenizer.json` (GLM-4 "-hf", GLM-Edge,
//! 0414, Z1, 4.5 and later, and BERT), the vocabulary inside a GGUF file, and BERT's `vocab.txt`. The ids are
//! those of the official implementation, to the letter.
//!
//! This crate knows nothing about conversations (that is `chat`) and does not parse GGUF containers (that is
//! `checkpoint`): [`GgufVocab`] carries plain values between them. Every input is hostile: files are parsed
//! with bounds and typed errors, and encoding stays near linear whatever the text.
#![forbid(unsafe_code)]

mod added_tokens;
mod byte_bpe;
mod byte_level;
mod charsmap;
mod chatglm6b;
mod decode;
mod directory;
mod error;
mod gguf;
mod merges;
mod model_proto;
mod pair_map;
mod piece_bpe;
mod sentencepiece;
mod splitter;
mod tiktoken;
mod tokenizer;
mod tokenizer_json;
mod trie;
mod unigram;
mod vocab;
mod wordpiece;

#[doc(hidden)]
pub mod fuzz_entry;

pub use added_tokens::AddedToken;
pub use decode::DecodeStream;
pub use error::TokenizerError;
pub use gguf::GgufVocab;
pub use sentencepiece::{CHATGLM2_SPECIAL_TOKENS, CHATGLM3_SPECIAL_TOKENS};
pub use tiktoken::glm4_special_tokens;
pub use tokenizer::{Encoding, Tokenizer, TokenizerKind};
pub use wordpiece::WordPieceOptions;

/// The number of a token in a vocabulary; the row of the embedding matrix.
pub type TokenId = u32;
