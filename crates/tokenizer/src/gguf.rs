//! A tokenizer as the metadata of a GGUF file, under llama.cpp's keys and conventions.
//!
//! llama.cpp's converters (`conversion/{chatglm,glm,bert}.py`) decide the spellings: byte-level tokens in
//! GPT-2's alphabet with merges (`gpt2`), SentencePiece BPE with scores (`llama`), WordPiece with U+2581 in
//! front of word starts (`bert`). ChatGLM-6B has no converter there; it takes the keys of llama.cpp's unigram
//! model (`t5`) and a `pre` of its own. Containers and their bytes are `checkpoint`'s business.
//!
//! `chatglm-bpe`, `glm4` and `glm5` are read with GLM-4's rule that a whole piece in the vocabulary is not merged.
//! llama.cpp follows it for the last two only, so `glm4` is what is written, for GLM-4-9B too.

use std::borrow::Cow;

use crate::added_tokens::AddedTokens;
use crate::byte_bpe::ByteBpe;
use crate::merges::Merges;
use crate::model_proto::{ModelProto, ModelType, Piece, PieceKind};
use crate::sentencepiece::{SPACE, SentencePiece};
use crate::splitter::Splitter;
use crate::tokenizer::{Inner, Model, TokenizerKind};
use crate::tokenizer_json::find_merge;
use crate::vocab::{ID_LIMIT, Vocab};
use crate::wordpiece::{WordPiece, WordPieceOptions};
use crate::{AddedToken, TokenId, Tokenizer, TokenizerError, byte_level, chatglm6b};

const FORMAT: &str = "GGUF vocabulary";

/// The `tokenizer.ggml.pre` of ChatGLM-6B, which llama.cpp does not know.
const CHATGLM6B_PRE: &str = "chatglm-6b";

/// The `tokenizer.ggml.*` metadata of a GGUF file; each field names its key.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GgufVocab<'a> {
    /// `model`: `gpt2`, `llama`, `bert` or `t5`.
    pub model: String,
    /// `pre`: how text is cut before merging: `chatglm-bpe`, `glm4`, `glm5`, `chatglm-spm`.
    pub pre: Option<String>,
    /// `tokens`: the spelling of every id.
    pub tokens: Vec<Cow<'a, str>>,
    /// `token_type`: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte. Empty: all normal.
    pub token_types: Vec<i32>,
    /// `scores`: of SentencePiece models; empty for others.
    pub scores: Vec<f32>,
    /// `merges`: of byte-level models, two tokens with a space between them; empty for others.
    pub merges: Vec<Cow<'a, str>>,
    /// `bos_token_id`.
    pub bos: Option<u32>,
    /// `eos_token_id`.
    pub eos: Option<u32>,
    /// `eot_token_id`.
    pub eot: Option<u32>,
    /// `eom_token_id`.
    pub eom: Option<u32>,
    /// `unknown_token_id`.
    pub unk: Option<u32>,
    /// `seperator_token_id` (spelled so).
    pub sep: Option<u32>,
    /// `padding_token_id`.
    pub pad: Option<u32>,
    /// `cls_token_id`.
    pub cls: Option<u32>,
    /// `mask_token_id`.
    pub mask: Option<u32>,
    /// `add_bos_token`.
    pub add_bos: Option<bool>,
    /// `add_eos_token`.
    pub add_eos: Option<bool>,
    /// `add_space_prefix`: SentencePiece's dummy prefix.
    pub add_space_prefix: Option<bool>,
    /// `remove_extra_whitespaces`.
    pub remove_extra_whitespaces: Option<bool>,
    /// `precompiled_charsmap`: SentencePiece's normalisation rules; empty where there are none.
    pub precompiled_charsmap: Vec<u8>,
}

impl GgufVocab<'_> {
    /// Appends unused tokens `[PAD{id}]` until there are `rows`, as many as the embedding matrix has:
    /// llama.cpp takes the number of tokens for the size of the vocabulary.
    pub fn pad_to(&mut self, rows: usize) {
        for id in self.tokens.len()..rows {
            self.push(format!("[PAD{id}]"), PieceKind::Unused, None);
        }
    }

    fn push(&mut self, token: String, kind: PieceKind, score: Option<f32>) {
        if score.is_some() || !self.scores.is_empty() {
            self.scores.push(score.unwrap_or_default());
        }
        self.tokens.push(token.into());
        self.token_types.push(kind as i32);
    }

    /// Every token with its type.
    fn typed(&self) -> Result<Vec<(TokenId, &str, PieceKind)>, TokenizerError> {
        let count = self.tokens.len();
        if count >= ID_LIMIT as usize {
            let what = "the number of tokens".into();
            return Err(TokenizerError::TooLarge { what, size: count as u64, limit: ID_LIMIT.into() });
        }
        for (name, len) in [("token types", self.token_types.len()), ("scores", self.scores.len())] {
            if len != 0 && len != count {
                let what = format!("{count} tokens but {len} {name}");
                return Err(TokenizerError::malformed(FORMAT, what));
            }
        }
        let kind = |id: TokenId| match self.token_types.get(id as usize) {
            None => Ok(PieceKind::Normal),
            Some(number) => PieceKind::from_number((*number).into()).ok_or_else(|| {
                TokenizerError::malformed(FORMAT, format!("token {id} has the type {number}"))
            }),
        };
        (0..).zip(&self.tokens).map(|(id, token)| Ok((id, token.as_ref(), kind(id)?))).collect()
    }

    fn pieces(&self) -> Result<Vec<Piece>, TokenizerError> {
        let score = |id: TokenId| self.scores.get(id as usize).copied().unwrap_or_default();
        let typed = self.typed()?.into_iter();
        Ok(typed.map(|(id, text, kind)| Piece { text: text.into(), score: score(id), kind }).collect())
    }
}

pub(crate) fn read(vocab: &GgufVocab<'_>) -> Result<Tokenizer, TokenizerError> {
    let pre = vocab.pre.as_deref().unwrap_or("default");
    let unsupported_pre = |supported| {
        let component = format!("tokenizer.ggml.pre {pre:?} of a {:?} vocabulary", vocab.model);
        Err(TokenizerError::unsupported(component, supported))
    };
    match (vocab.model.as_str(), pre) {
        ("gpt2", "chatglm-bpe" | "glm4" | "glm5") => read_byte_bpe(vocab, pre),
        ("gpt2", _) => unsupported_pre("chatglm-bpe, glm4, glm5"),
        ("llama", "chatglm-spm" | "default") => read_sentencepiece(vocab),
        ("llama", _) => unsupported_pre("chatglm-spm, default"),
        ("t5", CHATGLM6B_PRE) => read_chatglm6b(vocab),
        ("t5", _) => unsupported_pre(CHATGLM6B_PRE),
        ("bert", _) => read_wordpiece(vocab),
        (other, _) => {
            let component = format!("tokenizer.ggml.model {other:?}");
            Err(TokenizerError::unsupported(component, "gpt2, llama, bert, t5"))
        }
    }
}

fn read_byte_bpe(gguf: &GgufVocab<'_>, pre: &str) -> Result<Tokenizer, TokenizerError> {
    let mut vocab = Vocab::new();
    let mut added = Vec::new();
    let mut bytes = Vec::new();
    for (id, token, kind) in gguf.typed()? {
        match kind {
            PieceKind::Control | PieceKind::Unknown => added.push(AddedToken::special(token, id)),
            PieceKind::UserDefined => {
                added.push(AddedToken { special: false, ..AddedToken::special(token, id) });
            }
            PieceKind::Unused => {}
            PieceKind::Normal | PieceKind::Byte => match byte_level::to_bytes(token, &mut bytes) {
                Some(()) => vocab.insert(id, &bytes, true, FORMAT)?,
                None => vocab.insert(id, token.as_bytes(), false, FORMAT)?,
            },
        }
    }
    let merges = Merges::read(&gguf.merges, |priority, merge| {
        let (left, right) = merge.split_once(' ').ok_or_else(|| {
            TokenizerError::malformed(FORMAT, format!("merge {priority} {merge:?} is no pair"))
        })?;
        // Early converters wrote more than two parts for tokens that no pair reaches: such a line matches
        // nothing.
        if right.contains(' ') {
            return Ok(None);
        }
        find_merge(&vocab, left, right, priority, FORMAT).map(Some)
    })?;
    let bpe = ByteBpe::new(vocab, merges, Splitter::Glm4, true, FORMAT)?;
    let added = AddedTokens::new(added, |_| true)?;
    let prefix = if prefixes(gguf, pre, &added) { ids_of(&added, &["[gMASK]", "<sop>"]) } else { Vec::new() };
    Ok(Inner { kind: TokenizerKind::Gguf, model: Model::ByteBpe(bpe), added, prefix, suffix: Vec::new() }
        .into())
}

/// Whether a plain call of the official tokenizer puts `[gMASK]<sop>` before text, as GLM-4-9B's does.
/// llama.cpp's converter calls GLM-Edge, which does not, `chatglm-bpe` as well; what is written here has
/// `[gMASK]` for its beginning, but so has llama.cpp's GLM-4.5, whose template holds the prefix.
fn prefixes(gguf: &GgufVocab<'_>, pre: &str, added: &AddedTokens) -> bool {
    const GLM_EDGE_ENDOFTEXT: TokenId = 59_246;
    match pre {
        "chatglm-bpe" => added.id_of("<|endoftext|>") != Some(GLM_EDGE_ENDOFTEXT),
        _ => gguf.bos.is_some() && gguf.bos == added.id_of("[gMASK]") && added.id_of("<think>").is_none(),
    }
}

fn read_sentencepiece(gguf: &GgufVocab<'_>) -> Result<Tokenizer, TokenizerError> {
    let mut pieces = gguf.pieces()?;
    // What follows the last piece of the SentencePiece file was appended by the tokenizer's own code.
    let is_text =
        |piece: &Piece| matches!(piece.kind, PieceKind::Normal | PieceKind::Byte | PieceKind::Unknown);
    let end = pieces.iter().rposition(is_text).map_or(0, |last| last + 1);
    let appended = pieces.split_off(end);
    let named = (end as TokenId..).zip(&appended).filter(|(_, piece)| piece.kind != PieceKind::Unused);
    let special = named.map(|(id, piece)| AddedToken {
        special: piece.kind == PieceKind::Control,
        ..AddedToken::special(&piece.text, id)
    });
    let special = special.collect();
    let model = ModelProto {
        byte_fallback: pieces.iter().any(|piece| piece.kind == PieceKind::Byte),
        pieces,
        model_type: ModelType::Bpe,
        add_dummy_prefix: gguf.add_space_prefix.unwrap_or(true),
        remove_extra_whitespaces: gguf.remove_extra_whitespaces.unwrap_or(false),
        precompiled_charsmap: gguf.precompiled_charsmap.clone(),
        ..ModelProto::empty()
    };
    Tokenizer::from_model_proto(model, special, TokenizerKind::Gguf)
}

fn read_chatglm6b(gguf: &GgufVocab<'_>) -> Result<Tokenizer, TokenizerError> {
    let mut pieces = gguf.pieces()?;
    let is_image = |(id, piece): &(TokenId, &Piece)| piece.text == chatglm6b::image_token(*id);
    let image_tokens = (0..).zip(&pieces).take_while(is_image).count();
    pieces.drain(..image_tokens);
    // Rows of the embedding matrix that have no token.
    let end = pieces.iter().rposition(|piece| piece.kind != PieceKind::Unused).map_or(0, |last| last + 1);
    pieces.truncate(end);
    let model = ModelProto {
        byte_fallback: pieces.iter().any(|piece| piece.kind == PieceKind::Byte),
        pieces,
        model_type: ModelType::Unigram,
        add_dummy_prefix: gguf.add_space_prefix.unwrap_or(true),
        remove_extra_whitespaces: gguf.remove_extra_whitespaces.unwrap_or(true),
        precompiled_charsmap: gguf.precompiled_charsmap.clone(),
        ..ModelProto::empty()
    };
    Tokenizer::from_chatglm6b_proto(model, image_tokens as u32, TokenizerKind::Gguf)
}

fn read_wordpiece(gguf: &GgufVocab<'_>) -> Result<Tokenizer, TokenizerError> {
    let mut vocab = Vocab::new();
    for (id, token, kind) in gguf.typed()? {
        match (kind, token.strip_prefix(SPACE)) {
            (PieceKind::Unused, _) => {}
            (PieceKind::Normal, Some(start)) => vocab.insert(id, start.as_bytes(), true, FORMAT)?,
            (PieceKind::Normal, None) => vocab.insert(id, format!("##{token}").as_bytes(), true, FORMAT)?,
            _ => vocab.insert(id, token.as_bytes(), true, FORMAT)?,
        }
    }
    let wordpiece = WordPiece::new(vocab, WordPieceOptions::default())?;
    Tokenizer::from_wordpiece_model(wordpiece, TokenizerKind::Gguf)
}

pub(crate) fn write(tokenizer: &Inner) -> Result<GgufVocab<'static>, TokenizerError> {
    match &tokenizer.model {
        Model::ByteBpe(bpe) => write_byte_bpe(bpe, tokenizer),
        Model::SentencePiece(model) => write_sentencepiece(model, &tokenizer.added),
        Model::ChatGlm6b(model) => Ok(write_chatglm6b(&model.pieces, model.image_tokens, &tokenizer.added)),
        Model::WordPiece(wordpiece) => write_wordpiece(wordpiece, &tokenizer.added),
    }
}

fn write_byte_bpe(bpe: &ByteBpe, tokenizer: &Inner) -> Result<GgufVocab<'static>, TokenizerError> {
    let unsupported = |component: &str| {
        let supported = "GLM-4's split pattern with ignore_merges = true";
        Err(TokenizerError::unsupported(format!("a GGUF file with {component}"), supported))
    };
    if !matches!(bpe.splitter, Splitter::Glm4) {
        return unsupported("another split pattern");
    }
    if !bpe.ignore_merges {
        return unsupported("ignore_merges = false");
    }
    let added = &tokenizer.added;
    let mut gguf = GgufVocab { model: "gpt2".into(), pre: Some("glm4".into()), ..GgufVocab::default() };
    let end = added.iter().map(|token| token.id + 1).fold(bpe.vocab.id_end(), u32::max);
    for id in 0..end {
        match (added.by_id(id), bpe.vocab.bytes(id)) {
            (Some(token), _) if token.special => gguf.push(token.content.clone(), PieceKind::Control, None),
            (Some(token), _) => gguf.push(token.content.clone(), PieceKind::UserDefined, None),
            (None, Some(bytes)) => gguf.push(byte_level::to_spelling(bytes), PieceKind::Normal, None),
            (None, None) => gguf.pad_to(id as usize + 1),
        }
    }
    let mut merges: Vec<_> = bpe.merges.iter().map(|(pair, merge)| (merge.priority, pair)).collect();
    merges.sort_unstable();
    let spell = |id: TokenId| bpe.vocab.bytes(id).map(byte_level::to_spelling).unwrap_or_default();
    gguf.merges =
        merges.iter().map(|(_, (left, right))| (spell(*left) + " " + &spell(*right)).into()).collect();

    let endoftext = added.id_of("<|endoftext|>");
    gguf.eos = endoftext;
    gguf.unk = endoftext;
    gguf.pad = endoftext;
    gguf.eot = added.id_of("<|user|>");
    gguf.bos = tokenizer.prefix.first().copied().or(endoftext);
    if added.id_of("<think>").is_some() {
        gguf.bos = added.id_of("[gMASK]");
        gguf.eom = added.id_of("<|observation|>");
    }
    gguf.add_bos = Some(false);
    Ok(gguf)
}

fn write_sentencepiece(
    model: &SentencePiece,
    added: &AddedTokens,
) -> Result<GgufVocab<'static>, TokenizerError> {
    if model.model_type != ModelType::Bpe {
        let component = "a GGUF file with a SentencePiece unigram model";
        return Err(TokenizerError::unsupported(component, "ChatGLM-6B's, SentencePiece BPE models"));
    }
    let mut gguf = sentencepiece_keys(model, "llama", "chatglm-spm");
    push_pieces(&mut gguf, model);
    let mut appended: Vec<_> = added.iter().filter(|token| token.id as usize >= model.pieces.len()).collect();
    appended.sort_by_key(|token| token.id);
    for token in appended {
        gguf.pad_to(token.id as usize);
        let kind = if token.special { PieceKind::Control } else { PieceKind::UserDefined };
        gguf.push(token.content.clone(), kind, None);
    }
    gguf.unk = Some(model.unknown_id);
    gguf.pad = Some(model.unknown_id);
    // llama.cpp's converter renames these two.
    gguf.bos = added.id_of("<s>").or_else(|| added.id_of("<bos>"));
    gguf.eos = added.id_of("</s>").or_else(|| added.id_of("<eos>"));
    Ok(gguf)
}

fn write_chatglm6b(model: &SentencePiece, image_tokens: u32, added: &AddedTokens) -> GgufVocab<'static> {
    let mut gguf = sentencepiece_keys(model, "t5", CHATGLM6B_PRE);
    for id in 0..image_tokens {
        gguf.push(chatglm6b::image_token(id), PieceKind::Unused, Some(0.0));
    }
    push_pieces(&mut gguf, model);
    gguf.unk = Some(image_tokens + model.unknown_id);
    gguf.bos = added.id_of("<sop>");
    gguf.eos = added.id_of("<eop>");
    gguf.pad = added.id_of("<pad>");
    gguf.mask = added.id_of("[MASK]");
    gguf
}

fn sentencepiece_keys(model: &SentencePiece, name: &str, pre: &str) -> GgufVocab<'static> {
    GgufVocab {
        model: name.into(),
        pre: Some(pre.into()),
        add_bos: Some(false),
        add_eos: Some(false),
        add_space_prefix: Some(model.add_dummy_prefix),
        remove_extra_whitespaces: Some(model.remove_extra_whitespaces),
        precompiled_charsmap: model.charsmap.as_ref().map(|map| map.blob().to_vec()).unwrap_or_default(),
        ..GgufVocab::default()
    }
}

fn push_pieces(gguf: &mut GgufVocab<'_>, model: &SentencePiece) {
    for piece in &model.pieces {
        gguf.push(piece.text.clone(), piece.kind, Some(piece.score));
    }
}

fn write_wordpiece(wordpiece: &WordPiece, added: &AddedTokens) -> Result<GgufVocab<'static>, TokenizerError> {
    let as_bert = WordPiece { vocab: Vocab::new(), ..wordpiece.clone() };
    let lowercases = WordPieceOptions { strip_accents: Some(true), ..WordPieceOptions::default() };
    let options = as_bert.options;
    let usual = WordPieceOptions { strip_accents: Some(options.strip_accents.unwrap_or(true)), ..options };
    if usual != lowercases || as_bert.continuation != "##" || as_bert.word_limit != 100 || !as_bert.cleanup {
        let component = "a GGUF file with a WordPiece model that is not BERT's uncased one";
        return Err(TokenizerError::unsupported(component, "lower-casing, accents stripped, prefix ##"));
    }
    let mut gguf = GgufVocab { model: "bert".into(), pre: Some("default".into()), ..GgufVocab::default() };
    for (id, entry) in wordpiece.vocab.iter() {
        gguf.pad_to(id as usize);
        let entry = String::from_utf8_lossy(entry);
        match (added.by_id(id), entry.strip_prefix("##")) {
            (Some(_), _) => gguf.push(entry.into_owned(), PieceKind::Control, None),
            (None, Some(rest)) => gguf.push(rest.into(), PieceKind::Normal, None),
            (None, None) => gguf.push(format!("{SPACE}{entry}"), PieceKind::Normal, None),
        }
    }
    gguf.cls = added.id_of("[CLS]");
    gguf.bos = gguf.cls;
    gguf.sep = added.id_of("[SEP]");
    gguf.unk = Some(wordpiece.unknown_id);
    gguf.pad = added.id_of("[PAD]");
    gguf.mask = added.id_of("[MASK]");
    Ok(gguf)
}

fn ids_of(added: &AddedTokens, spellings: &[&str]) -> Vec<TokenId> {
    spellings.iter().filter_map(|spelling| added.id_of(spelling)).collect()
}
