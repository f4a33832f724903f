//! SentencePiece's unigram segmentation: the path of pieces with the best total log probability.
//!
//! Kudo 2018, <https://arxiv.org/abs/1804.10959>, in the order and precision of `EncodeOptimized` in
//! SentencePiece's `unigram_model.cc`: sums are rounded to f32 at every node and a later path must be strictly
//! better, which decides ties.

use crate::TokenId;
use crate::model_proto::{Piece, PieceKind};
use crate::trie::Trie;

/// How much worse than the worst piece an unknown character is.
const UNKNOWN_PENALTY: f32 = 10.0;

#[derive(Clone, Debug)]
pub(crate) struct Unigram {
    trie: Trie,
    scores: Vec<f64>,
    unknown_score: f32,
    unknown_id: TokenId,
}

impl Unigram {
    pub(crate) fn new(pieces: &[Piece], unknown_id: TokenId) -> Self {
        let normal =
            || pieces.iter().filter(|piece| piece.kind == PieceKind::Normal).map(|piece| piece.score);
        let worst = normal().fold(f32::MAX, f32::min);
        // SentencePiece starts from FLT_MIN, the smallest positive number: a quirk that scores depend on.
        let best = normal().fold(f32::MIN_POSITIVE, f32::max);
        let mut trie = Trie::new();
        let mut scores = Vec::with_capacity(pieces.len());
        for (id, piece) in (0..).zip(pieces) {
            if matches!(piece.kind, PieceKind::Normal | PieceKind::UserDefined) {
                trie.insert(&piece.text, id);
            }
            scores.push(match piece.kind {
                // A user-defined symbol nearly always wins.
                PieceKind::UserDefined => f64::from(piece.text.len() as f32 * best) - 0.1,
                _ => f64::from(piece.score),
            });
        }
        Self { trie, scores, unknown_score: worst - UNKNOWN_PENALTY, unknown_id }
    }

    /// Calls `emit` with the id and the text of every piece of the best path, in order.
    pub(crate) fn encode<'t>(&self, text: &'t str, mut emit: impl FnMut(TokenId, &'t str)) {
        let mut best = vec![Node::UNREACHED; text.len() + 1];
        best[0] = Node { score: 0.0, start: 0, id: 0 };
        for (start, first) in text.char_indices() {
            let so_far = best[start].score;
            let first_end = start + first.len_utf8();
            let mut single = false;
            let mut node = Trie::ROOT;
            for (at, c) in text[start..].char_indices() {
                let Some(next) = self.trie.child(node, c) else { break };
                node = next;
                if let Some(id) = self.trie.value(node) {
                    let end = start + at + c.len_utf8();
                    best[end].improve(self.scores[id as usize] + f64::from(so_far), start, id);
                    single |= end == first_end;
                }
            }
            if !single {
                best[first_end].improve(f64::from(self.unknown_score + so_far), start, self.unknown_id);
            }
        }
        let mut path = Vec::new();
        let mut end = text.len();
        while end > 0 {
            path.push(end);
            end = best[end].start;
        }
        let mut start = 0;
        for end in path.into_iter().rev() {
            emit(best[end].id, &text[start..end]);
            start = end;
        }
    }
}

/// The best path that ends at a position.
#[derive(Clone, Copy)]
struct Node {
    score: f32,
    /// Where its last piece starts.
    start: usize,
    id: TokenId,
}

impl Node {
    const UNREACHED: Self = Self { score: 0.0, start: usize::MAX, id: 0 };

    fn improve(&mut self, score: f64, start: usize, id: TokenId) {
        if self.start == usize::MAX || score > f64::from(self.score) {
            *self = Self { score: score as f32, start, id };
        }
    }
}
