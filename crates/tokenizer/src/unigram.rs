//! SentencePiece's unigram segmentation: the path of pieces with the best total log probability.
//!
//! Kudo 2018, <https://arxiv.org/abs/1804.10959>, in the order and precision of `EncodeOptimized` in
//! SentencePiece 0.2.3 (`unigram_model.cc`): sums are f32 and a later path must be strictly better, which
//! decides between paths that rounding makes equal. Releases before 0.2.3 round otherwise and so may cut a
//! run of hundreds of equal letters at other places.

use crate::TokenId;
use crate::model_proto::{Piece, PieceKind};
use crate::trie::Trie;

/// How much worse than the worst piece an unknown character is.
const UNKNOWN_PENALTY: f32 = 10.0;
/// Beyond this, sums start again from zero so that they keep their precision over long texts.
const RESET_THRESHOLD: f32 = 100_000.0;

#[derive(Clone, Debug)]
pub(crate) struct Unigram {
    trie: Trie,
    scores: Vec<f32>,
    unknown_score: f32,
    unknown_id: TokenId,
}

impl Unigram {
    pub(crate) fn new(pieces: &[Piece], unknown_id: TokenId) -> Self {
        let normal = pieces.iter().filter(|piece| piece.kind == PieceKind::Normal);
        let worst = normal.map(|piece| piece.score).fold(f32::MAX, f32::min);
        let mut trie = Trie::new();
        let mut scores = Vec::with_capacity(pieces.len());
        for (id, piece) in (0..).zip(pieces) {
            if matches!(piece.kind, PieceKind::Normal | PieceKind::UserDefined) {
                trie.insert(&piece.text, id);
            }
            scores.push(match piece.kind {
                // A user-defined symbol wins, and a longer one wins over its parts.
                PieceKind::UserDefined => (0.1 * (piece.text.len() as f64 - 1.0)) as f32,
                _ => piece.score,
            });
        }
        Self { trie, scores, unknown_score: worst - UNKNOWN_PENALTY, unknown_id }
    }

    /// Calls `emit` with the id and the text of every piece of the best path, in order.
    pub(crate) fn encode<'t>(&self, text: &'t str, mut emit: impl FnMut(TokenId, &'t str)) {
        let best = self.best_paths(text);
        let mut ends = Vec::new();
        let mut end = text.len();
        while end > 0 {
            ends.push(end);
            end -= best[end].len as usize;
        }
        let mut start = 0;
        for end in ends.into_iter().rev() {
            emit(best[end].id, &text[start..end]);
            start = end;
        }
    }

    /// The best path to every position of `text` between two characters.
    fn best_paths(&self, text: &str) -> Vec<Node> {
        let mut best = vec![Node::UNREACHED; text.len() + 1];
        let mut frontier = 0;
        for (start, first) in text.char_indices() {
            if best[start].score.abs() > RESET_THRESHOLD {
                let offset = best[start].score;
                best[start..=frontier].iter_mut().for_each(|node| node.score -= offset);
            }
            let so_far = best[start].score;
            let first_end = start + first.len_utf8();
            let mut single = false;
            let mut node = Trie::ROOT;
            for (at, c) in text[start..].char_indices() {
                let Some(next) = self.trie.child(node, c) else { break };
                node = next;
                if let Some(id) = self.trie.value(node) {
                    let end = start + at + c.len_utf8();
                    best[end].improve(self.scores[id as usize] + so_far, end - start, id);
                    single |= end == first_end;
                    frontier = frontier.max(end);
                }
            }
            if !single {
                best[first_end].improve(self.unknown_score + so_far, first_end - start, self.unknown_id);
                frontier = frontier.max(first_end);
            }
        }
        best
    }
}

/// The best path that ends at a position.
#[derive(Clone, Copy)]
struct Node {
    score: f32,
    /// The length of its last piece in bytes; 0 where no path ends yet.
    len: u32,
    id: TokenId,
}

impl Node {
    const UNREACHED: Self = Self { score: 0.0, len: 0, id: 0 };

    fn improve(&mut self, score: f32, len: usize, id: TokenId) {
        if self.len == 0 || score > self.score {
            *self = Self { score, len: len as u32, id };
        }
    }
}
