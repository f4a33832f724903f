//! The one type everybody uses: [`Tokenizer`], whatever the format it was read from.

use std::path::Path;
use std::sync::Arc;

use crate::added_tokens::{AddedTokens, Stretch};
use crate::byte_bpe::ByteBpe;
use crate::decode::{DecodeStream, State};
use crate::model_proto::{ModelProto, ModelType, PieceKind};
use crate::sentencepiece::{SentencePiece, byte_of};
use crate::wordpiece::{WordPiece, WordPieceOptions};
use crate::{AddedToken, GgufVocab, TokenId, TokenizerError};
use crate::{byte_level, chatglm6b, directory, gguf, tiktoken, tokenizer_json};

/// Text to ids and back. Cheap to clone; shared between threads.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    inner: Arc<Inner>,
}

/// The format a tokenizer was read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TokenizerKind {
    /// A tiktoken rank file: GLM-4-9B, GLM-4V.
    Tiktoken,
    /// A SentencePiece BPE model: ChatGLM2, ChatGLM3, CodeGeeX2.
    SentencePiece,
    /// ChatGLM-6B: a SentencePiece unigram model with its text preparation.
    ChatGlm6b,
    /// A `tokenizer.json` with byte-level BPE.
    TokenizerJson,
    /// The vocabulary of a GGUF file, whichever model it holds.
    Gguf,
    /// BERT, from `vocab.txt` or `tokenizer.json`.
    WordPiece,
}

/// What [`Tokenizer::encode_as`] makes of text. By default the text alone, in which nothing is special.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Encoding {
    /// Put before and after the text what the official tokenizer does.
    pub add_special: bool,
    /// Take spellings of special tokens in the text for these tokens.
    pub parse_special: bool,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) kind: TokenizerKind,
    pub(crate) model: Model,
    pub(crate) added: AddedTokens,
    /// What a plain call of the official tokenizer puts before and after text.
    pub(crate) prefix: Vec<TokenId>,
    pub(crate) suffix: Vec<TokenId>,
}

#[derive(Debug)]
pub(crate) enum Model {
    ByteBpe(ByteBpe),
    SentencePiece(SentencePiece),
    ChatGlm6b(ChatGlm6b),
    WordPiece(WordPiece),
}

/// A unigram model whose ids start after the image tokens.
#[derive(Debug)]
pub(crate) struct ChatGlm6b {
    pub(crate) pieces: SentencePiece,
    pub(crate) image_tokens: u32,
}

/// What a SentencePiece token contributes to decoded text.
pub(crate) enum PieceText<'t> {
    /// Text with U+2581 for spaces.
    Piece(&'t str),
    Byte(u8),
    Literal(std::borrow::Cow<'t, str>),
    Hidden,
}

impl Tokenizer {
    /// Reads the tokenizer of a directory in Hugging Face layout: `tokenizer.json`, or `tokenizer.model`
    /// (tiktoken ranks or SentencePiece, told apart by content), or `ice_text.model`, or `vocab.txt`, in this
    /// order, with the help of `tokenizer_config.json` and `config.json` where they exist.
    ///
    /// # Errors
    /// When none of the files is there (the message says which were looked for), or one is malformed, too
    /// large, unsupported, or a Git LFS pointer (the message names the file).
    pub fn from_dir(dir: &Path) -> Result<Self, TokenizerError> {
        directory::load(dir)
    }

    /// Takes the tokenizer out of a GGUF file's metadata.
    ///
    /// # Errors
    /// When the model or its `pre` is not one of GLM's, or the lists contradict each other.
    pub fn from_gguf(vocab: &GgufVocab<'_>) -> Result<Self, TokenizerError> {
        gguf::read(vocab)
    }

    /// Reads a `tokenizer.json`: byte-level BPE as the GLM family uses it, or BERT's WordPiece. Truncation
    /// and padding are ignored.
    ///
    /// # Errors
    /// When a component is not supported (the message names it), a merge or an added token contradicts the
    /// vocabulary, or the JSON is malformed.
    pub fn from_tokenizer_json(file: &[u8]) -> Result<Self, TokenizerError> {
        tokenizer_json::read(file)
    }

    /// Reads a tiktoken rank file with GLM-4's splitter. Without `special` its tokens are
    /// [`crate::glm4_special_tokens`]. A plain call prefixes `[gMASK]<sop>`.
    ///
    /// # Errors
    /// When a line is no token with its rank (the message names the line), a rank or a token comes twice, a
    /// byte has no token, or a special token takes the id of an ordinary one.
    pub fn from_tiktoken(file: &[u8], special: Option<Vec<AddedToken>>) -> Result<Self, TokenizerError> {
        let bpe = tiktoken::parse(file)?;
        let special = special.unwrap_or_else(|| crate::glm4_special_tokens(tiktoken::first_free_id(&bpe)));
        if let Some(error) = special.iter().find_map(|token| tiktoken::taken(token, &bpe)) {
            return Err(error);
        }
        let added = AddedTokens::new(special, |_| true)?;
        let prefix = ["[gMASK]", "<sop>"].iter().filter_map(|token| added.id_of(token)).collect();
        Ok(Inner {
            kind: TokenizerKind::Tiktoken,
            model: Model::ByteBpe(bpe),
            added,
            prefix,
            suffix: Vec::new(),
        }
        .into())
    }

    /// Reads a SentencePiece model to which the official tokenizer appends `special`
    /// ([`crate::CHATGLM2_SPECIAL_TOKENS`], [`crate::CHATGLM3_SPECIAL_TOKENS`]), whose spellings are never
    /// recognised in text. A plain call prefixes `[gMASK]` and `sop`.
    ///
    /// # Errors
    /// When the protobuf is malformed or cut short (the message names the byte) or asks for what ChatGLM
    /// never uses.
    pub fn from_sentencepiece(file: &[u8], special: &[&str]) -> Result<Self, TokenizerError> {
        let model = ModelProto::parse(file)?;
        let unused = model.pieces.iter().any(|piece| piece.kind == PieceKind::Unused);
        if model.model_type == ModelType::Bpe && unused {
            let component = "a SentencePiece BPE model with unused pieces";
            return Err(TokenizerError::unsupported(component, "models without them"));
        }
        let numbered = (model.pieces.len() as TokenId..).zip(special);
        let special = numbered.map(|(id, spelling)| AddedToken::special(spelling, id)).collect();
        Self::from_model_proto(model, special, TokenizerKind::SentencePiece)
    }

    pub(crate) fn from_model_proto(
        model: ModelProto,
        special: Vec<AddedToken>,
        kind: TokenizerKind,
    ) -> Result<Self, TokenizerError> {
        let pieces = SentencePiece::new(model)?;
        let mut added = hidden_pieces(&pieces, 0);
        added.extend(special);
        let added = AddedTokens::new(added, |_| false)?;
        let prefix = ["[gMASK]", "sop"].iter().filter_map(|token| added.id_of(token)).collect();
        Ok(Inner { kind, model: Model::SentencePiece(pieces), added, prefix, suffix: Vec::new() }.into())
    }

    /// Reads ChatGLM-6B's `ice_text.model`. `image_tokens` is how many ids stand in front of its pieces:
    /// 20,000 in the first release, none in the final one. A file of the first release, which ends after its
    /// 130,000 text pieces, is completed. A plain call appends `[gMASK]` and `<sop>`.
    ///
    /// # Errors
    /// As [`Self::from_sentencepiece`].
    pub fn from_chatglm6b(file: &[u8], image_tokens: u32) -> Result<Self, TokenizerError> {
        Self::from_chatglm6b_proto(ModelProto::parse(file)?, image_tokens, TokenizerKind::ChatGlm6b)
    }

    pub(crate) fn from_chatglm6b_proto(
        mut model: ModelProto,
        image_tokens: u32,
        kind: TokenizerKind,
    ) -> Result<Self, TokenizerError> {
        if image_tokens >= crate::vocab::ID_LIMIT {
            return Err(TokenizerError::TooLarge {
                what: "the number of image tokens".into(),
                size: image_tokens.into(),
                limit: crate::vocab::ID_LIMIT.into(),
            });
        }
        if chatglm6b::is_first_release(&model) {
            chatglm6b::complete(&mut model);
        }
        let pieces = SentencePiece::new(model)?;
        let mut added = hidden_pieces(&pieces, image_tokens);
        for token in &mut added {
            let recognised = chatglm6b::RECOGNISED.contains(&token.content.as_str());
            (token.lstrip, token.rstrip) = (recognised, recognised);
        }
        let added = AddedTokens::new(added, |token| token.lstrip)?;
        let suffix = ["[gMASK]", "<sop>"].iter().filter_map(|token| added.id_of(token)).collect();
        let model = Model::ChatGlm6b(ChatGlm6b { pieces, image_tokens });
        Ok(Inner { kind, model, added, prefix: Vec::new(), suffix }.into())
    }

    /// Reads BERT's `vocab.txt`.
    ///
    /// # Errors
    /// When it is not UTF-8 or has no `[UNK]`.
    pub fn from_wordpiece(vocab_txt: &[u8], options: WordPieceOptions) -> Result<Self, TokenizerError> {
        Self::from_wordpiece_model(WordPiece::parse_vocab_txt(vocab_txt, options)?, TokenizerKind::WordPiece)
    }

    /// A WordPiece model with BERT's own special tokens, as far as its vocabulary has them.
    pub(crate) fn from_wordpiece_model(
        wordpiece: WordPiece,
        kind: TokenizerKind,
    ) -> Result<Self, TokenizerError> {
        let find = |spelling: &str| wordpiece.vocab.find(spelling.as_bytes());
        let names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];
        let special = names.iter().filter_map(|name| Some(AddedToken::special(name, find(name)?)));
        let added = AddedTokens::new(special.collect(), |_| true)?;
        let (prefix, suffix) = (find("[CLS]").into_iter().collect(), find("[SEP]").into_iter().collect());
        Ok(Inner { kind, model: Model::WordPiece(wordpiece), added, prefix, suffix }.into())
    }

    /// The same with text lower-cased first, whatever its own file says, accents kept if they were; `None` where that
    /// is not known to be the same as `tokenizers` does: only of WordPiece it is.
    pub fn lowercased(&self) -> Option<Self> {
        let Model::WordPiece(wordpiece) = &self.inner.model else { return None };
        let mut wordpiece = wordpiece.clone();
        let own = wordpiece.options;
        wordpiece.options.strip_accents = Some(own.strip_accents.unwrap_or(own.lowercase));
        wordpiece.options.lowercase = true;
        let Inner { kind, added, prefix, suffix, .. } = &*self.inner;
        let (added, prefix, suffix) = (added.clone(), prefix.clone(), suffix.clone());
        Some(Inner { kind: *kind, model: Model::WordPiece(wordpiece), added, prefix, suffix }.into())
    }

    /// The format it was read from.
    pub fn kind(&self) -> TokenizerKind {
        self.inner.kind
    }

    /// The number of ids, special ones included: one more than the largest id.
    #[allow(clippy::len_without_is_empty, reason = "a tokenizer without tokens cannot be loaded")]
    pub fn len(&self) -> usize {
        let model_end = match &self.inner.model {
            Model::ByteBpe(bpe) => bpe.vocab.id_end(),
            Model::SentencePiece(pieces) => pieces.pieces.len() as u32,
            Model::ChatGlm6b(model) => model.image_tokens + model.pieces.pieces.len() as u32,
            Model::WordPiece(wordpiece) => wordpiece.vocab.id_end(),
        };
        self.inner.added.iter().map(|token| token.id + 1).fold(model_end, u32::max) as usize
    }

    /// Plain text: no prefix, no suffix, and no spelling of a special token is recognised. ChatGLM-6B's text
    /// preparation is part of its encoding. BERT, whose text has no roles that could be forged, is encoded as
    /// its official tokenizer always does: between `[CLS]` and `[SEP]`, and with those spellings recognised.
    pub fn encode(&self, text: &str) -> Vec<TokenId> {
        match &self.inner.model {
            Model::WordPiece(_) => self.encode_parse_special(text),
            _ => self.encode_stretches(text, [Stretch::Text(0..text.len())]),
        }
    }

    /// What the official tokenizer does with text that contains spellings of special tokens: they become ids.
    /// ChatGLM2 and 3 never do that.
    pub fn encode_parse_special(&self, text: &str) -> Vec<TokenId> {
        self.encode_stretches(text, self.inner.added.split(text))
    }

    fn encode_stretches(&self, text: &str, stretches: impl IntoIterator<Item = Stretch>) -> Vec<TokenId> {
        // About one token for four bytes of ordinary text.
        let mut ids = Vec::with_capacity(text.len() / 4 + 2);
        if let Model::WordPiece(_) = &self.inner.model {
            ids.extend(&self.inner.prefix);
        }
        for stretch in stretches {
            match stretch {
                Stretch::Token(id) => ids.push(id),
                Stretch::Text(range) => self.encode_text(&text[range], &mut ids),
            }
        }
        if let Model::WordPiece(_) = &self.inner.model {
            ids.extend(&self.inner.suffix);
        }
        ids
    }

    fn encode_text(&self, text: &str, ids: &mut Vec<TokenId>) {
        match &self.inner.model {
            Model::ByteBpe(bpe) => bpe.encode(text, ids),
            Model::SentencePiece(pieces) => pieces.encode(text, ids),
            Model::ChatGlm6b(model) => {
                let start = ids.len();
                model.pieces.encode(&chatglm6b::prepare(text), ids);
                ids[start..].iter_mut().for_each(|id| *id += model.image_tokens);
            }
            Model::WordPiece(wordpiece) => wordpiece.encode(text, ids),
        }
    }

    /// [`Self::encode`] or [`Self::encode_parse_special`], with or without what [`Self::wrap`] adds.
    pub fn encode_as(&self, text: &str, encoding: Encoding) -> Vec<TokenId> {
        let encoded =
            if encoding.parse_special { self.encode_parse_special(text) } else { self.encode(text) };
        if !encoding.add_special {
            return encoded;
        }
        let (prefix, suffix) = self.wrap();
        [prefix, &encoded, suffix].concat()
    }

    /// What a plain call of the official tokenizer adds before and after the text that [`Self::encode`]
    /// encodes: nothing for BERT, whose encoding has it already.
    pub fn wrap(&self) -> (&[TokenId], &[TokenId]) {
        match &self.inner.model {
            Model::WordPiece(_) => (&[], &[]),
            _ => (&self.inner.prefix, &self.inner.suffix),
        }
    }

    /// The id of a special or added token, by the spelling of this model's generation: `<|user|>`, `[gMASK]`,
    /// `<sop>` (GLM-4) or `sop` (ChatGLM2/3), `<think>`.
    pub fn special_id(&self, spelling: &str) -> Option<TokenId> {
        self.inner.added.id_of(spelling)
    }

    /// Every token that ordinary text never becomes: special tokens, control pieces, added tokens.
    pub fn special_tokens(&self) -> impl Iterator<Item = (&str, TokenId)> {
        self.inner.added.iter().map(|token| (token.content.as_str(), token.id))
    }

    /// Whether `id` is one of [`Self::special_tokens`].
    pub fn is_special(&self, id: TokenId) -> bool {
        self.inner.added.by_id(id).is_some()
    }

    /// Whether [`Self::decode_skip_special`] leaves `id` out. Among GLM-4.5's added tokens `<|user|>` is left
    /// out and `<think>` stays.
    pub fn is_skipped(&self, id: TokenId) -> bool {
        self.inner.added.by_id(id).is_some_and(|token| token.special)
    }

    /// Text as the reference decoder gives it. Special tokens appear as they are spelled, except the control
    /// pieces of SentencePiece (`</s>`, all of ChatGLM-6B's) and BERT's special tokens, which the reference
    /// renders as nothing. Ids outside the vocabulary add nothing.
    pub fn decode(&self, ids: &[TokenId]) -> String {
        self.decode_with(ids, false)
    }

    /// As [`Self::decode`], without the tokens that [`Self::is_skipped`] names.
    pub fn decode_skip_special(&self, ids: &[TokenId]) -> String {
        self.decode_with(ids, true)
    }

    fn decode_with(&self, ids: &[TokenId], skip_special: bool) -> String {
        let mut state = State::new();
        let mut text = String::with_capacity(ids.len() * 4);
        for id in ids {
            state.push(&self.inner, *id, skip_special, &mut text);
        }
        state.finish(&self.inner, &mut text);
        text
    }

    /// Incremental [`Self::decode`].
    pub fn stream(&self) -> DecodeStream {
        DecodeStream::new(Arc::clone(&self.inner), false)
    }

    /// Incremental [`Self::decode_skip_special`].
    pub fn stream_skip_special(&self) -> DecodeStream {
        DecodeStream::new(Arc::clone(&self.inner), true)
    }

    /// As [`Self::stream`] or [`Self::stream_skip_special`], of ids that go on after others: a blank that SentencePiece
    /// leaves out at the beginning of a text is no part of a beginning here.
    pub fn stream_after(&self, ids: &[TokenId], skip_special: bool) -> DecodeStream {
        DecodeStream::after(Arc::clone(&self.inner), ids, skip_special)
    }

    /// The bytes one token stands for, wherever it appears: spaces are spaces, a byte piece is its byte, a
    /// special token is its spelling. `None` for an id that stands for no text.
    pub fn token_bytes(&self, id: TokenId) -> Option<Vec<u8>> {
        if let Some(token) = self.inner.added.by_id(id) {
            return Some(token.content.clone().into_bytes());
        }
        match &self.inner.model {
            Model::ByteBpe(bpe) => bpe.vocab.bytes(id).map(<[u8]>::to_vec),
            Model::WordPiece(wordpiece) => {
                let entry = wordpiece.vocab.bytes(id)?;
                Some(entry.strip_prefix(wordpiece.continuation.as_bytes()).unwrap_or(entry).to_vec())
            }
            Model::SentencePiece(_) | Model::ChatGlm6b(_) => Some(match self.inner.piece_text(id) {
                PieceText::Byte(byte) => vec![byte],
                PieceText::Literal(literal) => literal.into_owned().into_bytes(),
                PieceText::Hidden => return None,
                PieceText::Piece(piece) => {
                    let spaced = piece.replace(crate::sentencepiece::SPACE, " ");
                    match (&self.inner.model, chatglm6b::symbol_at(&spaced)) {
                        (Model::ChatGlm6b(_), chatglm6b::Symbol::Whole(len, meaning))
                            if len == spaced.len() =>
                        {
                            meaning.into_bytes()
                        }
                        _ => spaced.into_bytes(),
                    }
                }
            }),
        }
    }

    /// The vocabulary's own spelling of a token: `▁你好` in SentencePiece, `ä½łå¥½` in GPT-2's alphabet of
    /// bytes for byte-level BPE, `##ing` in WordPiece. Empty outside the vocabulary.
    pub fn token_text(&self, id: TokenId) -> String {
        if let Some(token) = self.inner.added.by_id(id) {
            return token.content.clone();
        }
        let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match &self.inner.model {
            Model::ByteBpe(bpe) => bpe.vocab.bytes(id).map(byte_level::to_spelling).unwrap_or_default(),
            Model::WordPiece(wordpiece) => wordpiece.vocab.bytes(id).map(lossy).unwrap_or_default(),
            Model::SentencePiece(pieces) => {
                pieces.piece(id).map(|piece| piece.text.clone()).unwrap_or_default()
            }
            Model::ChatGlm6b(model) => match id.checked_sub(model.image_tokens) {
                None => chatglm6b::image_token(id),
                Some(id) => model.pieces.piece(id).map(|piece| piece.text.clone()).unwrap_or_default(),
            },
        }
    }

    /// The vocabulary with everything a GGUF writer needs to carry it under llama.cpp's keys.
    ///
    /// # Errors
    /// When llama.cpp's keys cannot express it: another split pattern than GLM-4's, `ignore_merges = false`,
    /// a unigram model other than ChatGLM-6B's, a cased BERT.
    pub fn to_gguf(&self) -> Result<GgufVocab<'static>, TokenizerError> {
        gguf::write(&self.inner)
    }
}

impl From<Inner> for Tokenizer {
    fn from(inner: Inner) -> Self {
        Self { inner: Arc::new(inner) }
    }
}

impl Inner {
    /// What a SentencePiece token contributes to decoded text.
    pub(crate) fn piece_text(&self, id: TokenId) -> PieceText<'_> {
        let (pieces, first) = match &self.model {
            Model::SentencePiece(pieces) => (pieces, 0),
            Model::ChatGlm6b(model) => (&model.pieces, model.image_tokens),
            Model::ByteBpe(_) | Model::WordPiece(_) => return PieceText::Hidden,
        };
        let Some(index) = id.checked_sub(first) else {
            return PieceText::Literal(chatglm6b::image_token(id).into());
        };
        let Some(piece) = pieces.piece(index) else {
            let appended = self.added.by_id(id);
            return appended.map_or(PieceText::Hidden, |token| PieceText::Literal((&token.content).into()));
        };
        match piece.kind {
            PieceKind::Normal | PieceKind::UserDefined => PieceText::Piece(&piece.text),
            PieceKind::Byte => byte_of(&piece.text).map_or(PieceText::Hidden, PieceText::Byte),
            // ChatGLM2's wrapper renders <unk>, which is also its <pad>, as nothing.
            PieceKind::Unknown if matches!(self.model, Model::SentencePiece(_)) => PieceText::Hidden,
            PieceKind::Unknown => PieceText::Literal((&pieces.unk_surface).into()),
            PieceKind::Control | PieceKind::Unused => PieceText::Hidden,
        }
    }

    /// Whether SentencePiece's decoder takes a dummy prefix away, and whether all leading ones.
    pub(crate) fn prefix_rule(&self) -> (bool, bool) {
        match &self.model {
            Model::SentencePiece(pieces) => (pieces.add_dummy_prefix, pieces.remove_extra_whitespaces),
            Model::ChatGlm6b(model) => (model.pieces.add_dummy_prefix, model.pieces.remove_extra_whitespaces),
            Model::ByteBpe(_) | Model::WordPiece(_) => (false, false),
        }
    }
}

/// The unknown and control pieces of a SentencePiece model, as special tokens.
fn hidden_pieces(pieces: &SentencePiece, first: u32) -> Vec<AddedToken> {
    let hidden = |kind| matches!(kind, PieceKind::Unknown | PieceKind::Control);
    let numbered = (first..).zip(&pieces.pieces);
    numbered
        .filter(|(_, piece)| hidden(piece.kind))
        .map(|(id, piece)| AddedToken::special(&piece.text, id))
        .collect()
}
