//! tiktoken rank files (GLM-4-9B, GLM-4V): lines of a base64 token and its rank, which is also its id.
//!
//! Merging takes the pair whose union has the lowest rank, leftmost first, as tiktoken does
//! (<https://github.com/openai/tiktoken>).

use crate::byte_bpe::ByteBpe;
use crate::merges::{Merge, Merges};
use crate::splitter::Splitter;
use crate::vocab::{TOKEN_BYTES_LIMIT, Vocab, show};
use crate::{AddedToken, TokenId, TokenizerError};

const FORMAT: &str = "tiktoken rank file";

/// GLM-4's special tokens, numbered from `first`: what `ChatGLM4Tokenizer` appends to its ranks.
pub fn glm4_special_tokens(first: TokenId) -> Vec<AddedToken> {
    const SPELLINGS: [&str; 14] = [
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
        "<|begin_of_image|>",
        "<|end_of_image|>",
        "<|begin_of_video|>",
        "<|end_of_video|>",
    ];
    SPELLINGS.iter().zip(first..).map(|(spelling, id)| AddedToken::special(spelling, id)).collect()
}

/// Reads a rank file with GLM-4's splitter.
pub(crate) fn parse(file: &[u8]) -> Result<ByteBpe, TokenizerError> {
    let mut vocab = Vocab::new();
    let mut token = Vec::new();
    for (number, line) in (1..).zip(file.split(|byte| *byte == b'\n')) {
        let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        let (spelling, rank) = match (words.next(), words.next(), words.next()) {
            (None, ..) => continue,
            (Some(spelling), Some(rank), None) => (spelling, rank),
            _ => return Err(at_line(number, "expected a base64 token and a rank")),
        };
        decode_base64(spelling, &mut token).ok_or_else(|| at_line(number, "the token is not base64"))?;
        let rank = std::str::from_utf8(rank).ok().and_then(|rank| rank.parse().ok());
        let rank = rank.ok_or_else(|| at_line(number, "the rank is not a number"))?;
        if token.is_empty() {
            return Err(at_line(number, "the token is empty"));
        }
        vocab.insert(rank, &token, true, FORMAT)?;
    }
    let merges = merges_by_rank(&vocab)?;
    ByteBpe::new(vocab, merges, Splitter::Glm4, true, FORMAT)
}

/// Every pair of tokens whose union is a token, with that token's rank for a priority.
fn merges_by_rank(vocab: &Vocab) -> Result<Merges, TokenizerError> {
    vocab.check_split_cost()?;
    let mut merges = Merges::with_capacity(vocab.id_end() as usize * 2);
    for (merged, token) in vocab.iter() {
        for at in 1..token.len() {
            if let Some(left) = vocab.find(&token[..at])
                && let Some(right) = vocab.find(&token[at..])
            {
                merges.insert(left, right, Merge { priority: merged, merged });
            }
        }
    }
    Ok(merges)
}

fn at_line(number: usize, what: &str) -> TokenizerError {
    TokenizerError::malformed(FORMAT, format!("line {number}: {what}"))
}

/// Standard base64 with padding.
fn decode_base64(text: &[u8], bytes: &mut Vec<u8>) -> Option<()> {
    bytes.clear();
    if !text.len().is_multiple_of(4) || text.len() / 4 * 3 > TOKEN_BYTES_LIMIT + 3 {
        return None;
    }
    let padding = text.iter().rev().take_while(|c| **c == b'=').count();
    if padding > 2 {
        return None;
    }
    let (mut word, mut bits) = (0u32, 0);
    for c in &text[..text.len() - padding] {
        let six = match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        word = word << 6 | u32::from(six);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((word >> bits) as u8);
        }
    }
    Some(())
}

/// Whether a file looks like tiktoken ranks rather than a SentencePiece model.
pub(crate) fn looks_like_ranks(file: &[u8]) -> bool {
    let Some(line) = file.split(|byte| *byte == b'\n').find(|line| !line.trim_ascii().is_empty()) else {
        return false;
    };
    let mut words = line.trim_ascii().splitn(2, |byte| *byte == b' ');
    let mut token = Vec::new();
    let is_base64 = words.next().is_some_and(|word| decode_base64(word, &mut token).is_some());
    is_base64 && words.next().is_some_and(|rank| rank.iter().all(u8::is_ascii_digit))
}

/// The first id after the ranks, where the special tokens of a file without a configuration begin.
pub(crate) fn first_free_id(bpe: &ByteBpe) -> TokenId {
    bpe.vocab.id_end()
}

/// An error about a special token that claims the id of an ordinary one.
pub(crate) fn taken(token: &AddedToken, bpe: &ByteBpe) -> Option<TokenizerError> {
    let owner = bpe.vocab.bytes(token.id)?;
    let what = format!("special token {:?} has id {}, which is {}", token.content, token.id, show(owner));
    Some(TokenizerError::malformed("special tokens", what))
}
