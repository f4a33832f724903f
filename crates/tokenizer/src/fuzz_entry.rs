//! The bodies of the fuzz targets, kept here so that tests can replay their corpora without a fuzzer.
//!
//! Each loads hostile bytes and, if they load, puts text through: nothing may panic, and a stream must say
//! what decoding the whole says.

use std::collections::HashSet;

use crate::{Tokenizer, WordPieceOptions};

/// `Tokenizer::from_tokenizer_json`.
pub fn tokenizer_json(data: &[u8]) {
    exercise(Tokenizer::from_tokenizer_json(data), data);
}

/// `Tokenizer::from_tiktoken`.
pub fn tiktoken(data: &[u8]) {
    exercise(Tokenizer::from_tiktoken(data, None), data);
}

/// `Tokenizer::from_sentencepiece`, `from_chatglm6b` and, since it is so small, `from_wordpiece`.
pub fn sentencepiece(data: &[u8]) {
    exercise(Tokenizer::from_sentencepiece(data, crate::CHATGLM3_SPECIAL_TOKENS), data);
    exercise(Tokenizer::from_chatglm6b(data, 3), data);
    exercise(Tokenizer::from_wordpiece(data, WordPieceOptions::default()), data);
}

fn exercise(loaded: Result<Tokenizer, crate::TokenizerError>, data: &[u8]) {
    let tokenizer = match loaded {
        Ok(tokenizer) => tokenizer,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    let text = String::from_utf8_lossy(&data[..data.len().min(2048)]);
    for text in
        [text.as_ref(), "Hello  world's 12345\n\t  \u{4f60}\u{597d} \u{1F600}<|user|>[gMASK] e\u{301}"]
    {
        for ids in [tokenizer.encode(text), tokenizer.encode_parse_special(text)] {
            let whole = tokenizer.decode(&ids);
            let mut stream = tokenizer.stream();
            let mut streamed: String = ids.iter().map(|id| stream.push(*id)).collect();
            streamed += &stream.finish();
            assert_eq!(streamed, whole);
            tokenizer.decode_skip_special(&ids);
        }
    }
    let end = tokenizer.len() as u32 + 1;
    for id in (0..end.min(300)).chain(end.saturating_sub(20)..end) {
        tokenizer.token_bytes(id);
        tokenizer.token_text(id);
        tokenizer.decode(&[id, id]);
    }
    if let Ok(vocab) = tokenizer.to_gguf()
        && let Ok(again) = Tokenizer::from_gguf(&vocab)
    {
        again.decode(&again.encode(&text));
    }
}

/// A tokenizer for the fuzz targets of other crates: its ids are all bytes, then longer pieces of text, each once, then
/// special tokens.
pub fn toy(pieces: &[&[u8]], special: &[&str]) -> Option<Tokenizer> {
    let bytes: Vec<[u8; 1]> = (0..=u8::MAX).map(|byte| [byte]).collect();
    let mut known = HashSet::new();
    let pieces = pieces.iter().copied().filter(|piece| piece.len() > 1 && known.insert(*piece));
    let words: Vec<&[u8]> = bytes.iter().map(<[u8; 1]>::as_slice).chain(pieces).collect();
    let lines = words.iter().enumerate().map(|(id, word)| format!("{} {id}\n", base64(word)));
    let first = words.len() as u32;
    let special = special.iter().zip(first..).map(|(text, id)| crate::AddedToken::special(text, id));
    Tokenizer::from_tiktoken(lines.collect::<String>().as_bytes(), Some(special.collect())).ok()
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let word =
            chunk.iter().fold(0_u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for at in 0..4 {
            let digit = DIGITS[(word >> (18 - 6 * at)) as usize & 63] as char;
            text.push(if at <= chunk.len() { digit } else { '=' });
        }
    }
    text
}
