//! A model that makes vectors of texts.

use glimmer_checkpoint::Checkpoint;
use glimmer_models::{EncodedText, Encoder, ModelError, Prompts, SentenceModules};
use glimmer_tokenizer::{Encoding, Tokenizer};

use crate::{Error, ModelFiles, Overrides, Source};

/// As the model's own tokenizer does it when it is called with a text alone.
const ENCODING: Encoding = Encoding { add_special: true, parse_special: true };

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

/// Bytes of a checkpoint's weights, which an encoder holds as f32.
fn weights(checkpoint: &Checkpoint) -> u64 {
    let elements = checkpoint.tensors().iter().map(|tensor| tensor.shape.iter().product::<usize>() as u64);
    elements.sum::<u64>().saturating_mul(size_of::<f32>() as u64)
}

/// The encoder's own files where its modules lie beside them.
fn files_of(model: &ModelFiles, modules: &SentenceModules) -> Option<ModelFiles> {
    let is_within = modules.directory() != model.source().directory();
    is_within.then(|| ModelFiles::new(modules.directory(), Overrides::default()))
}

impl Embedder {
    /// Opens an encoder: its tokenizer, its weights, and the modules that sentence-transformers would run on them.
    ///
    /// # Errors
    /// When there is no such model, it is none that makes vectors, or it has a module that is not supported.
    pub fn open(source: impl Into<Source>) -> Result<Self, Error> {
        let model = ModelFiles::new(source, Overrides::default());
        let modules = SentenceModules::read(model.source().directory())?;
        let within = files_of(&model, &modules);
        let files = within.as_ref().unwrap_or(&model);
        let mut tokenizer = files.tokenizer()?.clone();
        if modules.lowercases() {
            tokenizer = tokenizer.lowercased().ok_or_else(|| ModelError::Config {
                file: modules.directory().display().to_string(),
                message: "do_lower_case is only supported with a WordPiece tokenizer".to_owned(),
            })?;
        }
        let prompts = modules.prompts().clone();
        let memory = weights(files.checkpoint()?);
        let encoder = Encoder::open(files.checkpoint()?, modules)?;
        let (max_tokens, width) = (encoder.max_tokens(), encoder.width());
        let compute = move |texts: &[EncodedText]| Ok(encoder.embed(texts)?);
        let embedder = Embedder::new(model.source().name(), tokenizer, max_tokens, width, compute);
        Ok(Embedder { created: model.created(), prompts, memory, ..embedder })
    }

    /// Bytes that an encoder will hold when it is opened, by the headers of its files.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn needed(source: impl Into<Source>) -> Result<u64, Error> {
        let model = ModelFiles::new(source, Overrides::default());
        let modules = SentenceModules::read(model.source().directory())?;
        Ok(weights(files_of(&model, &modules).as_ref().unwrap_or(&model).checkpoint()?))
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
