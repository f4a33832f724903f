//! SentencePiece models: normalisation, segmentation, byte fallback (Kudo and Richardson 2018,
//! <https://arxiv.org/abs/1808.06226>; `normalizer.cc` and `sentencepiece_processor.cc`).
//!
//! Training, sampling and offsets are not here.

use crate::charsmap::Charsmap;
use crate::model_proto::{ModelProto, ModelType, Piece, PieceKind};
use crate::piece_bpe::PieceBpe;
use crate::trie::Trie;
use crate::unigram::Unigram;
use crate::vocab::Vocab;
use crate::{TokenId, TokenizerError};

/// What the ChatGLM2-6B tokenizer appends to its 64,789 pieces.
pub const CHATGLM2_SPECIAL_TOKENS: &[&str] = &["[MASK]", "[gMASK]", "[sMASK]", "sop", "eop"];

/// What the ChatGLM3-6B tokenizer appends to the same pieces.
pub const CHATGLM3_SPECIAL_TOKENS: &[&str] = &[
    "[MASK]",
    "[gMASK]",
    "[sMASK]",
    "sop",
    "eop",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|observation|>",
];

/// The visible stand-in for a space, U+2581.
pub(crate) const SPACE: char = '\u{2581}';

const FORMAT: &str = "SentencePiece model";

#[derive(Clone, Debug)]
pub(crate) struct SentencePiece {
    pub(crate) pieces: Vec<Piece>,
    pub(crate) model_type: ModelType,
    pub(crate) charsmap: Option<Charsmap>,
    pub(crate) add_dummy_prefix: bool,
    pub(crate) remove_extra_whitespaces: bool,
    pub(crate) unk_surface: String,
    pub(crate) unknown_id: TokenId,
    vocab: Vocab,
    segmenter: Segmenter,
    user_defined: Trie,
    byte_ids: Option<Box<[TokenId; 256]>>,
}

#[derive(Clone, Debug)]
enum Segmenter {
    Unigram(Unigram),
    Bpe(PieceBpe),
}

impl SentencePiece {
    pub(crate) fn new(model: ModelProto) -> Result<Self, TokenizerError> {
        let supported = "models as ChatGLM-6B, ChatGLM2-6B and ChatGLM3-6B publish them";
        let unsupported = |component: &str| Err(TokenizerError::unsupported(component, supported));
        if model.treat_whitespace_as_suffix {
            return unsupported("SentencePiece's treat_whitespace_as_suffix");
        }
        if !model.escape_whitespaces {
            return unsupported("SentencePiece's escape_whitespaces = false");
        }
        if model.has_denormalizer {
            return unsupported("SentencePiece's denormalizer_spec");
        }
        let vocab = index(&model.pieces)?;
        let unknown = model.pieces.iter().position(|piece| piece.kind == PieceKind::Unknown);
        let unknown_id =
            unknown.ok_or_else(|| TokenizerError::malformed(FORMAT, "no unknown piece"))? as TokenId;
        let mut user_defined = Trie::new();
        for (id, piece) in (0..).zip(&model.pieces) {
            if piece.kind == PieceKind::UserDefined {
                user_defined.insert(&piece.text, id);
            }
        }
        let byte_ids = if model.byte_fallback { Some(byte_ids(&model.pieces)?) } else { None };
        let segmenter = match model.model_type {
            ModelType::Unigram => Segmenter::Unigram(Unigram::new(&model.pieces, unknown_id)),
            ModelType::Bpe => Segmenter::Bpe(PieceBpe::new(&model.pieces, &vocab, unknown_id)?),
        };
        let charsmap = match model.precompiled_charsmap.as_slice() {
            [] => None,
            blob => Some(Charsmap::parse(blob)?),
        };
        Ok(Self {
            model_type: model.model_type,
            charsmap,
            add_dummy_prefix: model.add_dummy_prefix,
            remove_extra_whitespaces: model.remove_extra_whitespaces,
            unk_surface: model.unk_surface,
            unknown_id,
            vocab,
            segmenter,
            user_defined,
            byte_ids,
            pieces: model.pieces,
        })
    }

    /// Appends the ids of `text`.
    pub(crate) fn encode(&self, text: &str, ids: &mut Vec<TokenId>) {
        let normalized = self.normalize(text);
        let mut after_unknown = false;
        let emit = |id: TokenId, piece: &str| {
            let unknown = id == self.unknown_id;
            match &self.byte_ids {
                Some(byte_ids) if unknown => ids.extend(piece.bytes().map(|byte| byte_ids[byte as usize])),
                // Without byte fallback a run of unknown characters is one token.
                _ if unknown && after_unknown => {}
                _ => ids.push(id),
            }
            after_unknown = unknown;
        };
        match &self.segmenter {
            Segmenter::Unigram(unigram) => unigram.encode(&normalized, emit),
            Segmenter::Bpe(bpe) => bpe.encode(&normalized, &self.user_defined, &self.vocab, emit),
        }
    }

    pub(crate) fn piece(&self, id: TokenId) -> Option<&Piece> {
        self.pieces.get(id as usize)
    }

    /// `Normalizer::Normalize`: the rules, the dummy prefix, the squeezing of blanks, and U+2581 for spaces.
    fn normalize(&self, text: &str) -> String {
        let mut rest = text;
        if self.remove_extra_whitespaces {
            while !rest.is_empty() {
                let (replacement, len) = self.normalize_prefix(rest);
                if replacement != " " {
                    break;
                }
                rest = &rest[len..];
            }
        }
        let mut normalized = String::with_capacity(text.len() + text.len() / 2 + SPACE.len_utf8());
        if rest.is_empty() {
            return normalized;
        }
        if self.add_dummy_prefix {
            normalized.push(SPACE);
        }
        let mut after_space = self.remove_extra_whitespaces;
        while !rest.is_empty() {
            let (replacement, len) = self.normalize_prefix(rest);
            let replacement = if after_space { replacement.trim_start_matches(' ') } else { replacement };
            normalized.extend(replacement.chars().map(|c| if c == ' ' { SPACE } else { c }));
            if !replacement.is_empty() {
                after_space = replacement.ends_with(' ');
            }
            after_space &= self.remove_extra_whitespaces;
            rest = &rest[len..];
        }
        if self.remove_extra_whitespaces {
            normalized.truncate(normalized.trim_end_matches(SPACE).len());
        }
        normalized
    }

    /// What the start of a non-empty `text` becomes, and how many bytes of it that covers.
    fn normalize_prefix<'t>(&'t self, text: &'t str) -> (&'t str, usize) {
        if !self.user_defined.is_empty()
            && let Some((len, _)) = self.user_defined.longest_prefix(text)
        {
            return (&text[..len], len);
        }
        if let Some(charsmap) = &self.charsmap
            && let Some((len, replacement)) = charsmap.longest_prefix(text)
        {
            return (replacement, len);
        }
        let len = text.chars().next().map_or(0, char::len_utf8);
        (&text[..len], len)
    }
}

/// The byte a byte piece such as `<0x0A>` stands for.
pub(crate) fn byte_of(piece: &str) -> Option<u8> {
    let digits = piece.strip_prefix("<0x")?.strip_suffix('>')?;
    let is_hex = digits.len() == 2 && digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'A'..=b'F'));
    is_hex.then(|| u8::from_str_radix(digits, 16).ok())?
}

fn byte_ids(pieces: &[Piece]) -> Result<Box<[TokenId; 256]>, TokenizerError> {
    let mut ids = Box::new([TokenId::MAX; 256]);
    for (id, piece) in (0..).zip(pieces) {
        if piece.kind == PieceKind::Byte {
            let byte = byte_of(&piece.text).ok_or_else(|| {
                TokenizerError::malformed(FORMAT, format!("piece {id} {:?} is no byte", piece.text))
            })?;
            ids[byte as usize] = id;
        }
    }
    match ids.iter().position(|id| *id == TokenId::MAX) {
        None => Ok(ids),
        Some(byte) => Err(TokenizerError::malformed(FORMAT, format!("no piece for byte 0x{byte:02X}"))),
    }
}

/// Pieces that text can become are findable; `<unk>`, control and byte pieces are not.
fn index(pieces: &[Piece]) -> Result<Vocab, TokenizerError> {
    let mut vocab = Vocab::new();
    for (id, piece) in (0..).zip(pieces) {
        if piece.text.is_empty() {
            return Err(TokenizerError::malformed(FORMAT, format!("piece {id} is empty")));
        }
        let findable = matches!(piece.kind, PieceKind::Normal | PieceKind::UserDefined);
        vocab.insert(id, piece.text.as_bytes(), findable, FORMAT)?;
    }
    Ok(vocab)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(model_type: ModelType, pieces: &[(&str, f32, PieceKind)]) -> SentencePiece {
        let pieces = pieces.iter().map(|(text, score, kind)| Piece {
            text: (*text).into(),
            score: *score,
            kind: *kind,
        });
        SentencePiece::new(ModelProto { pieces: pieces.collect(), model_type, ..ModelProto::empty() })
            .unwrap()
    }

    fn encode(model: &SentencePiece, text: &str) -> Vec<TokenId> {
        let mut ids = Vec::new();
        model.encode(text, &mut ids);
        ids
    }

    #[test]
    fn unigram_takes_the_best_path_and_joins_unknown_characters() {
        use PieceKind::{Normal, Unknown, UserDefined};
        let pieces = [
            ("<unk>", 0.0, Unknown),
            ("\u{2581}", -1.0, Normal),
            ("a", -2.0, Normal),
            ("ab", -2.5, Normal),
            ("b", -1.0, Normal),
            ("<n>", 0.0, UserDefined),
        ];
        let model = model(ModelType::Unigram, &pieces);
        assert_eq!(encode(&model, "ab"), [1, 3]);
        assert_eq!(encode(&model, "  a   b "), [1, 2, 1, 4]);
        assert_eq!(encode(&model, "好吗a<n>"), [1, 0, 2, 5]);
        assert!(encode(&model, "   ").is_empty());
    }

    #[test]
    fn bpe_merges_by_score_through_characters_that_are_no_pieces() {
        use PieceKind::{Normal, Unknown};
        let pieces = [
            ("<unk>", 0.0, Unknown),
            ("bc", -1.0, Normal),
            ("ab", -2.0, Normal),
            ("\u{2581}", -3.0, Normal),
            ("abc", -4.0, Normal),
            ("a", -5.0, Normal),
        ];
        let model = model(ModelType::Bpe, &pieces);
        // b and c are no pieces, yet b+c is the best merge.
        assert_eq!(encode(&model, "abc"), [3, 4]);
        assert_eq!(encode(&model, "bca"), [3, 1, 5]);
        assert_eq!(encode(&model, "b"), [3, 0]);
    }

    #[test]
    fn byte_pieces() {
        assert_eq!(byte_of("<0x0A>"), Some(10));
        assert_eq!(byte_of("<0xFF>"), Some(255));
        for not in ["<0x0a>", "<0x+1>", "0x0A", "<0x0A", "<0x>"] {
            assert_eq!(byte_of(not), None);
        }
    }
}
