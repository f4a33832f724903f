//! A model that makes vectors of texts.

use glimmer_models::{EncodedText, Encoder, ModelError, Prompts, SentenceModules};
use glimmer_tokenizer::Tokenizer;

use crate::encoder_files::{self, ENCODING, transformer, weights};
use crate::{Error, ModelFiles, ModelKind, Overrides, Source};

/// Texts, as ids, to a vector each.
type Compute = dyn Fn(&[EncodedText]) -> Result<Vec<Vec<f32>>, Error> + Send + Sync;

/// A text encoder, ready to compute. It computes on all threads and is shared freely between them.
pub struct Embedder {
    name: String,
    created: u64,
    tokenizer: Tokenizer,
    prompts: Prompts,
    max_tokens: usize,
    width: usize,
    memory: u64,
    compute: Box<Compute>,
}

/// An encoder's files, and its modules. A head that scores pairs makes no vectors.
fn read(source: Source) -> Result<(ModelFiles, SentenceModules), Error> {
    let model = ModelFiles::new(source, Overrides::default());
    if model.kind() == ModelKind::Scores {
        let message =
            "its head scores pairs of texts; it ranks texts and makes no vectors of them".to_owned();
        return Err(ModelError::Config { file: model.path().display().to_string(), message }.into());
    }
    let modules = SentenceModules::read(model.source().directory())?;
    Ok((model, modules))
}

impl Embedder {
    /// Opens an encoder: its tokenizer, its weights, and the modules that sentence-transformers would run on them.
    ///
    /// # Errors
    /// When there is no such model, it is none that makes vectors, or it has a module that is not supported.
    pub fn open(source: impl Into<Source>) -> Result<Self, Error> {
        let (model, modules) = read(source.into())?;
        let (name, created) = (model.source().name(), model.created());
        let files = transformer(model, modules.directory());
        let tokenizer = encoder_files::tokenizer(&files, modules.lowercases())?;
        let prompts = modules.prompts().clone();
        let memory = weights(files.checkpoint()?);
        let encoder = Encoder::open(files.checkpoint()?, modules)?;
        let (max_tokens, width) = (encoder.max_tokens(), encoder.width());
        let compute = move |texts: &[EncodedText]| Ok(encoder.embed(texts)?);
        let embedder = Embedder::new(name, tokenizer, max_tokens, width, compute);
        Ok(Embedder { created, prompts, memory, ..embedder })
    }

    /// Bytes that an encoder will hold when it is opened, by the headers of its files.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn needed(source: impl Into<Source>) -> Result<u64, Error> {
        let (model, modules) = read(source.into())?;
        Ok(weights(transformer(model, modules.directory()).checkpoint()?))
    }

    /// An encoder that somebody else computes: `max_tokens` of a text at most, vectors of `width` elements.
    pub fn new(
        name: String,
        tokenizer: Tokenizer,
        max_tokens: usize,
        width: usize,
        compute: impl Fn(&[EncodedText]) -> Result<Vec<Vec<f32>>, Error> + Send + Sync + 'static,
    ) -> Self {
        let prompts = Prompts::default();
        Embedder {
            name,
            created: 0,
            tokenizer,
            prompts,
            max_tokens,
            width,
            memory: 0,
            compute: Box::new(compute),
        }
    }

    /// What to call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// When its files were made, in seconds since 1970.
    pub fn created(&self) -> u64 {
        self.created
    }

    /// What makes ids of text; [`Embedder::encode`] is the whole way.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Bytes of its weights; 0 where somebody else computes.
    pub fn memory(&self) -> u64 {
        self.memory
    }

    /// Most tokens of a text.
    pub fn max_tokens(&self) -> usize {
        self.max_tokens
    }

    /// Elements of a vector.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Text to ids, `[CLS]` and `[SEP]` among them, after the model's prompt of this name or, without a name, the one
    /// that it puts before every text.
    ///
    /// # Errors
    /// When it has no such prompt.
    pub fn encode(&self, text: &str, prompt: Option<&str>) -> Result<EncodedText, Error> {
        let unknown = || Error::UnknownPrompt {
            name: prompt.unwrap_or_default().to_owned(),
            known: self.prompts.names().collect::<Vec<_>>().join(", "),
        };
        let before = self.prompts.get(prompt).ok_or_else(unknown)?;
        if before.is_empty() {
            return Ok(self.tokenizer.encode_as(text, ENCODING).into());
        }
        let ids = self.tokenizer.encode_as(&format!("{before}{text}"), ENCODING);
        // Counted as sentence-transformers does: the prompt encoded alone, without a special token at its end.
        let alone = self.tokenizer.encode_as(before, ENCODING);
        let ends = alone.last().is_some_and(|&id| self.tokenizer.is_special(id));
        Ok(EncodedText { ids, prompt: alone.len().min(self.max_tokens).saturating_sub(usize::from(ends)) })
    }

    /// The vectors of texts, each `[width]`, after the prompt that the model puts before every text.
    ///
    /// # Errors
    /// When a text is longer than the encoder reads.
    pub fn embed(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, Error> {
        let texts = texts.iter().map(|text| self.encode(text, None)).collect::<Result<Vec<_>, _>>()?;
        self.embed_encoded(&texts)
    }

    /// The vectors of texts that are ids already, each `[width]`.
    ///
    /// # Errors
    /// When a text is longer than the encoder reads, or has ids outside its vocabulary.
    pub fn embed_encoded(&self, texts: &[EncodedText]) -> Result<Vec<Vec<f32>>, Error> {
        (self.compute)(texts)
    }
}
