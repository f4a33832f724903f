//! Ids back to text, one at a time: what is emitted is final, and no character is ever cut.
//!
//! Decoding a whole sequence is pushing every id, so a stream and [`crate::Tokenizer::decode`] cannot
//! disagree.

use std::sync::Arc;

use crate::TokenId;
use crate::chatglm6b::{self, Symbol};
use crate::sentencepiece::SPACE;
use crate::tokenizer::{Inner, Model, PieceText};

/// Decoding in progress; made by [`crate::Tokenizer::stream`].
#[derive(Clone, Debug)]
pub struct DecodeStream {
    tokenizer: Arc<Inner>,
    skip_special: bool,
    state: State,
}

#[derive(Clone, Debug)]
pub(crate) struct State {
    /// Bytes that may still become a character.
    bytes: Vec<u8>,
    /// SentencePiece: whether a dummy prefix would still be taken away.
    at_start: bool,
    /// SentencePiece: whether the last piece lost its dummy prefix.
    prefix_taken: bool,
    /// Whether any text was decoded.
    started: bool,
    /// ChatGLM-6B: text that may be the beginning of a symbol for white space.
    symbol: String,
}

impl DecodeStream {
    pub(crate) fn new(tokenizer: Arc<Inner>, skip_special: bool) -> Self {
        Self { tokenizer, skip_special, state: State::new() }
    }

    /// What `ids` hold back is theirs and comes no more.
    pub(crate) fn after(tokenizer: Arc<Inner>, ids: &[TokenId], skip_special: bool) -> Self {
        let mut stream = Self::new(tokenizer, skip_special);
        let mut before = String::new();
        ids.iter().for_each(|&id| stream.push_onto(id, &mut before));
        stream.state.finish(&stream.tokenizer, &mut before);
        stream.state.started |= !before.is_empty();
        stream
    }

    /// Adds an id; returns the text that is now final. An id outside the vocabulary adds nothing.
    pub fn push(&mut self, id: TokenId) -> String {
        let mut text = String::new();
        self.push_onto(id, &mut text);
        text
    }

    /// As [`Self::push`], appending to `text`.
    pub fn push_onto(&mut self, id: TokenId, text: &mut String) {
        self.state.push(&self.tokenizer, id, self.skip_special, text);
    }

    /// The text still held back; bytes that never became a character are U+FFFD.
    pub fn finish(mut self) -> String {
        let mut text = String::new();
        self.state.finish(&self.tokenizer, &mut text);
        text
    }
}

impl State {
    pub(crate) fn new() -> Self {
        Self { bytes: Vec::new(), at_start: true, prefix_taken: false, started: false, symbol: String::new() }
    }

    pub(crate) fn push(&mut self, tokenizer: &Inner, id: TokenId, skip_special: bool, text: &mut String) {
        let added = tokenizer.added.by_id(id);
        if skip_special && added.is_some_and(|token| token.special) {
            return;
        }
        match &tokenizer.model {
            Model::ByteBpe(bpe) => {
                match added {
                    Some(token) => self.bytes.extend_from_slice(token.content.as_bytes()),
                    None => self.bytes.extend_from_slice(bpe.vocab.bytes(id).unwrap_or_default()),
                }
                decode_joined(&mut self.bytes, text);
            }
            Model::WordPiece(wordpiece) => {
                // The reference leaves [CLS], [SEP] and [PAD] out unless asked otherwise.
                if added.is_none_or(|token| !token.special) {
                    text.push_str(&wordpiece.render(id, !self.started));
                    self.started = true;
                }
            }
            Model::SentencePiece(_) => self.push_piece(tokenizer.piece_text(id), tokenizer, text),
            Model::ChatGlm6b(_) => {
                let mut piece = String::new();
                self.push_piece(tokenizer.piece_text(id), tokenizer, &mut piece);
                self.restore_symbols(&piece, text);
            }
        }
    }

    pub(crate) fn finish(&mut self, tokenizer: &Inner, text: &mut String) {
        match &tokenizer.model {
            Model::ByteBpe(_) => text.push_str(&String::from_utf8_lossy(&std::mem::take(&mut self.bytes))),
            Model::WordPiece(_) => {}
            Model::SentencePiece(_) => self.flush_bytes(text),
            Model::ChatGlm6b(_) => {
                let mut rest = String::new();
                self.flush_bytes(&mut rest);
                self.restore_symbols(&rest, text);
                text.push_str(&std::mem::take(&mut self.symbol));
            }
        }
    }

    /// `SentencePieceProcessor::Decode`.
    fn push_piece(&mut self, piece: PieceText<'_>, tokenizer: &Inner, text: &mut String) {
        let before = text.len();
        if let PieceText::Byte(byte) = piece {
            self.bytes.push(byte);
            decode_separately(&mut self.bytes, text);
            self.started |= text.len() > before;
            return;
        }
        self.flush_bytes(text);
        self.started |= text.len() > before;
        if self.prefix_taken || self.started {
            self.at_start = false;
        }
        self.prefix_taken = false;
        match piece {
            PieceText::Hidden | PieceText::Byte(_) => {}
            PieceText::Literal(literal) => text.push_str(&literal),
            PieceText::Piece(mut piece) => {
                let (strips, squeezes) = tokenizer.prefix_rule();
                if self.at_start
                    && (strips || squeezes)
                    && let Some(rest) = piece.strip_prefix(SPACE)
                {
                    piece = rest;
                    self.prefix_taken = !squeezes;
                }
                text.extend(piece.chars().map(|c| if c == SPACE { ' ' } else { c }));
            }
        }
        self.started |= text.len() > before;
    }

    /// Bytes that no following byte can complete: each is U+FFFD.
    fn flush_bytes(&mut self, text: &mut String) {
        text.extend(self.bytes.drain(..).map(|_| char::REPLACEMENT_CHARACTER));
    }

    /// ChatGLM-6B: turns the symbols for white space back, holding back what may be the start of one.
    fn restore_symbols(&mut self, piece: &str, text: &mut String) {
        self.symbol.push_str(piece);
        let held = std::mem::take(&mut self.symbol);
        let mut rest = held.as_str();
        while let Some(at) = rest.find('<') {
            text.push_str(&rest[..at]);
            rest = &rest[at..];
            match chatglm6b::symbol_at(rest) {
                Symbol::Whole(len, meaning) => {
                    text.push_str(&meaning);
                    rest = &rest[len..];
                }
                Symbol::Unfinished => {
                    self.symbol.push_str(rest);
                    return;
                }
                Symbol::Not => {
                    text.push('<');
                    rest = &rest[1..];
                }
            }
        }
        text.push_str(rest);
    }
}

/// Moves every character that is complete from `bytes` to `text`. As in lossy decoding of the whole, a
/// maximal ill-formed sequence is one U+FFFD.
fn decode_joined(bytes: &mut Vec<u8>, text: &mut String) {
    decode(bytes, text, |ill_formed| ill_formed);
}

/// As [`decode_joined`], but every byte of an ill-formed sequence is a U+FFFD of its own, as in
/// SentencePiece.
fn decode_separately(bytes: &mut Vec<u8>, text: &mut String) {
    decode(bytes, text, |_| 1);
}

fn decode(bytes: &mut Vec<u8>, text: &mut String, consume: impl Fn(usize) -> usize) {
    let mut done = 0;
    while done < bytes.len() {
        match std::str::from_utf8(&bytes[done..]) {
            Ok(valid) => {
                text.push_str(valid);
                done = bytes.len();
            }
            Err(error) => {
                let (valid, _) = bytes[done..].split_at(error.valid_up_to());
                text.push_str(&String::from_utf8_lossy(valid));
                done += valid.len();
                match error.error_len() {
                    Some(ill_formed) => {
                        text.push(char::REPLACEMENT_CHARACTER);
                        done += consume(ill_formed);
                    }
                    None => break,
                }
            }
        }
    }
    bytes.drain(..done);
}
