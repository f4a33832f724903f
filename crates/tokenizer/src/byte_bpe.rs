//! Byte-level byte-pair encoding: the one core behind tiktoken files, `tokenizer.json` and GGUF.
//!
//! GLM-4 takes a whole piece that is in the vocabulary before it merges anything (tiktoken's short cut,
//! `ignore_merges` in `tokenizer.json`): 893 of its tokens, such as " 好", cannot be reached by merging.

use crate::merges::{Merges, Scratch};
use crate::splitter::Splitter;
use crate::vocab::Vocab;
use crate::{TokenId, TokenizerError};

#[derive(Clone, Debug)]
pub(crate) struct ByteBpe {
    pub(crate) vocab: Vocab,
    pub(crate) merges: Merges,
    pub(crate) splitter: Splitter,
    /// Whether a piece that is a token becomes that token without merging.
    pub(crate) ignore_merges: bool,
    byte_ids: Box<[TokenId; 256]>,
}

impl ByteBpe {
    /// Fails if a byte that occurs in UTF-8 has no token of its own.
    pub(crate) fn new(
        vocab: Vocab,
        merges: Merges,
        splitter: Splitter,
        ignore_merges: bool,
        format: &'static str,
    ) -> Result<Self, TokenizerError> {
        let mut byte_ids = Box::new([TokenId::MAX; 256]);
        for (byte, id) in (0..=u8::MAX).zip(byte_ids.iter_mut()) {
            match vocab.find(&[byte]) {
                Some(found) => *id = found,
                None if matches!(byte, 0xC0 | 0xC1 | 0xF5..) => {}
                None => {
                    let what = format!("byte 0x{byte:02X} has no token");
                    return Err(TokenizerError::malformed(format, what));
                }
            }
        }
        Ok(Self { vocab, merges, splitter, ignore_merges, byte_ids })
    }

    /// Appends the ids of `text`.
    pub(crate) fn encode(&self, text: &str, ids: &mut Vec<TokenId>) {
        let mut scratch = Scratch::default();
        let mut symbols = Vec::new();
        self.splitter.split(text, |piece| {
            if self.ignore_merges
                && let Some(id) = self.vocab.find(piece.as_bytes())
            {
                ids.push(id);
                return;
            }
            symbols.clear();
            symbols.extend(piece.bytes().map(|byte| self.byte_ids[byte as usize]));
            self.merges.apply(&symbols, &mut scratch, ids);
        });
    }
}
