//! A vocabulary of the right size: GLM-4's own, which crate `tiktoken` carries, and for GLM-Edge as much of it.

use anyhow::Context;
use glimmer::Family;
use glimmer_tokenizer::{GgufVocab, Tokenizer};

/// Ranks of GLM-4, which are followed by the special tokens.
const GLM4_RANKS: u32 = 151_329;

/// Ranks of GLM-Edge. Its own vocabulary was trained apart; this one has its size, its special tokens and its way of
/// giving bytes their own value for an id.
const EDGE_RANKS: usize = 59_246;

/// The vocabulary of a published model, or one in its place. `None` where there is nothing to make one from.
pub(super) fn of(family: Family) -> anyhow::Result<Option<GgufVocab<'static>>> {
    let ranks = match family {
        Family::Glm4 | Family::Glm4v | Family::Glm40414 | Family::GlmZ1 | Family::GlmZ1Rumination => {
            glm4_ranks()?
        }
        Family::GlmEdge => {
            let longer = glm4_ranks()?.into_iter().filter(|token| token.len() > 1);
            (0..=u8::MAX).map(|byte| vec![byte]).chain(longer).take(EDGE_RANKS).collect()
        }
        _ => return Ok(None),
    };
    let mut vocab = Tokenizer::from_tiktoken(rank_file(&ranks).as_bytes(), None)?.to_gguf()?;
    if family == Family::Glm40414 {
        // As llama.cpp's converter has it; without it `[gMASK]<sop>` would be put before text.
        vocab.pre = Some("glm4".to_owned());
    }
    Ok(Some(vocab))
}

fn glm4_ranks() -> anyhow::Result<Vec<Vec<u8>>> {
    let glm4 = tiktoken::get_encoding("glm4").context("this build has no vocabulary of GLM-4")?;
    Ok((0..GLM4_RANKS).map(|rank| glm4.decode(&[rank])).collect())
}

/// Lines of a base64 token and its rank: tiktoken's file format.
fn rank_file(ranks: &[Vec<u8>]) -> String {
    ranks.iter().enumerate().map(|(rank, token)| format!("{} {rank}\n", base64(token))).collect()
}

/// Standard base64 with padding.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let word =
            three.iter().fold(0u32, |word, &byte| word << 8 | u32::from(byte)) << (8 * (3 - three.len()));
        for place in 0..4 {
            let six = (word >> (18 - 6 * place) & 63) as usize;
            text.push(if place <= three.len() { ALPHABET[six].into() } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_of_every_length() {
        for (bytes, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")]
        {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
        assert_eq!(base64(&[0xfb, 0xff, 0xfe]), "+//+");
    }

    #[test]
    fn sizes_and_special_tokens_are_the_published_ones() {
        for (family, endoftext) in
            [(Family::Glm4, 151_329), (Family::GlmEdge, 59_246), (Family::Glm40414, 151_329)]
        {
            let vocab = of(family).unwrap().unwrap();
            assert_eq!(vocab.eos, Some(endoftext), "{family:?}");
            assert_eq!(vocab.tokens.len(), endoftext as usize + 14, "{family:?}");
            let tokenizer = Tokenizer::from_gguf(&vocab).unwrap();
            assert_eq!(tokenizer.special_id("<|user|>"), Some(endoftext + 7), "{family:?}");
            let text = "Hello, 世界!\n";
            let ids = tokenizer.encode(text);
            assert!(ids.len() < text.len(), "{family:?}: {ids:?}");
            assert_eq!(tokenizer.decode(&ids), text, "{family:?}");
        }
        let glm4 = Tokenizer::from_gguf(&of(Family::Glm4).unwrap().unwrap()).unwrap();
        // Published ids.
        assert_eq!(glm4.encode("你好"), [109_377]);
    }
}
