//! SentencePiece's BPE: characters are merged into pieces, the best score first (`bpe_model.cc`).
//!
//! Scores become merge priorities and the search for a merged piece becomes a table of pairs, so that the
//! byte-level core does the work.

use std::collections::HashMap;

use crate::merges::{Merge, Merges, Scratch};
use crate::model_proto::{Piece, PieceKind};
use crate::pair_map::PairMap;
use crate::trie::Trie;
use crate::vocab::Vocab;
use crate::{TokenId, TokenizerError};

/// A character that is no part of any piece.
const UNKNOWN: u32 = u32::MAX;

#[derive(Clone, Debug)]
pub(crate) struct PieceBpe {
    merges: Merges,
    /// Symbols of single characters: the piece's id, or a number past all ids for a character that only
    /// occurs inside pieces.
    characters: HashMap<char, u32>,
    /// Characters that stand side by side in some piece: between any others text can be cut.
    neighbours: PairMap<()>,
    piece_count: u32,
    unknown_id: TokenId,
}

impl PieceBpe {
    /// `vocab` finds the pieces that can be produced: normal and user-defined ones.
    pub(crate) fn new(pieces: &[Piece], vocab: &Vocab, unknown_id: TokenId) -> Result<Self, TokenizerError> {
        vocab.check_split_cost()?;
        let priorities = priorities(pieces);
        let mut characters = HashMap::new();
        let mut next_symbol = pieces.len() as u32;
        let producible = |piece: &Piece| matches!(piece.kind, PieceKind::Normal | PieceKind::UserDefined);
        for c in pieces.iter().filter(|piece| producible(piece)).flat_map(|piece| piece.text.chars()) {
            characters.entry(c).or_insert_with(|| {
                vocab.find(c.encode_utf8(&mut [0; 4]).as_bytes()).unwrap_or_else(|| {
                    next_symbol += 1;
                    next_symbol - 1
                })
            });
        }
        let symbol = |text: &str| {
            vocab.find(text.as_bytes()).or_else(|| {
                let mut chars = text.chars();
                let only = chars.next().filter(|_| chars.next().is_none())?;
                characters.get(&only).copied()
            })
        };
        let mut neighbours = PairMap::with_capacity(pieces.len() * 2);
        for piece in pieces.iter().filter(|piece| producible(piece)) {
            for (left, right) in piece.text.chars().zip(piece.text.chars().skip(1)) {
                neighbours.insert_new(left as u32, right as u32, ());
            }
        }
        let mut merges = Merges::with_capacity(pieces.len() * 2);
        for (merged, piece) in (0..).zip(pieces).filter(|(_, piece)| producible(piece)) {
            for (at, _) in piece.text.char_indices().skip(1) {
                let (left, right) = piece.text.split_at(at);
                if let Some(left) = symbol(left)
                    && let Some(right) = symbol(right)
                {
                    merges.insert(left, right, Merge { priority: priorities[merged as usize], merged });
                }
            }
        }
        Ok(Self { merges, characters, neighbours, piece_count: pieces.len() as u32, unknown_id })
    }

    /// Calls `emit` with the id and the text of every piece. User-defined symbols are never merged.
    pub(crate) fn encode<'t>(
        &self,
        text: &'t str,
        user_defined: &Trie,
        vocab: &Vocab,
        mut emit: impl FnMut(TokenId, &'t str),
    ) {
        let mut segment = Segment::default();
        let mut start = 0;
        let mut previous = None;
        let mut at = 0;
        while let Some(c) = text[at..].chars().next() {
            let frozen =
                if user_defined.is_empty() { None } else { user_defined.longest_prefix(&text[at..]) };
            let joined = previous.is_some_and(|previous| self.neighbours.get(previous, c as u32).is_some());
            if frozen.is_some() || !joined {
                self.merge(&text[start..at], &mut segment, vocab, &mut emit);
                start = at;
            }
            if let Some((len, id)) = frozen {
                emit(id, &text[at..at + len]);
                at += len;
                start = at;
                previous = None;
            } else {
                segment.symbols.push(self.characters.get(&c).copied().unwrap_or(UNKNOWN));
                at += c.len_utf8();
                previous = Some(c as u32);
            }
        }
        self.merge(&text[start..], &mut segment, vocab, &mut emit);
    }

    /// Merges one segment, whose symbols are in `segment`, and leaves it empty for the next.
    fn merge<'t>(
        &self,
        mut text: &'t str,
        segment: &mut Segment,
        vocab: &Vocab,
        emit: &mut impl FnMut(TokenId, &'t str),
    ) {
        segment.merged.clear();
        self.merges.apply(&segment.symbols, &mut segment.scratch, &mut segment.merged);
        segment.symbols.clear();
        for symbol in &segment.merged {
            let known = vocab.bytes(*symbol).filter(|_| *symbol < self.piece_count);
            let len = known.map_or_else(|| text.chars().next().map_or(0, char::len_utf8), <[u8]>::len);
            let (piece, rest) = text.split_at(len);
            emit(if known.is_some() { *symbol } else { self.unknown_id }, piece);
            text = rest;
        }
    }
}

/// A stretch of text that no merge can leave, and the memory for merging it.
#[derive(Default)]
struct Segment {
    symbols: Vec<u32>,
    merged: Vec<u32>,
    scratch: Scratch,
}

/// Scores ranked from the best (0) to the worst; equal scores share a rank.
fn priorities(pieces: &[Piece]) -> Vec<u32> {
    let mut order: Vec<usize> = (0..pieces.len()).collect();
    order.sort_by(|a, b| pieces[*b].score.total_cmp(&pieces[*a].score));
    let mut ranks = vec![0; pieces.len()];
    let mut rank = 0;
    for (at, piece) in order.iter().enumerate() {
        if at > 0 && pieces[order[at - 1]].score != pieces[*piece].score {
            rank += 1;
        }
        ranks[*piece] = rank;
    }
    ranks
}
