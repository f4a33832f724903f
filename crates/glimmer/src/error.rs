//! What can be wrong with a model, or with what is asked of it.

use std::path::PathBuf;
use std::sync::Arc;

use glimmer_chat::ChatError;
use glimmer_checkpoint::CheckpointError;
use glimmer_config::FileError;
use glimmer_engine::EngineError;
use glimmer_grammar::GrammarError;
use glimmer_models::ModelError;
use glimmer_picture::{PictureError, ProcessorError};
use glimmer_tensor::DeviceError;
use glimmer_tokenizer::TokenizerError;

/// An error of this library. Each says what is wrong and where.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of weights or its configuration.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// What the model is, or its weights.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The tokenizer's file.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The vocabulary inside a GGUF.
    #[error("{}: {source}", path.display())]
    Vocabulary {
        /// The GGUF.
        path: PathBuf,
        /// What is wrong.
        source: TokenizerError,
    },
    /// The chat format, or a conversation that it cannot say.
    #[error(transparent)]
    Chat(#[from] ChatError),
    /// A request that cannot be served.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A picture or a video that cannot be shown to the model.
    #[error(transparent)]
    Picture(#[from] PictureError),
    /// What the model's files say of pictures.
    #[error(transparent)]
    Processor(#[from] ProcessorError),
    /// The model has no tower, or none that is loaded.
    #[error(
        "{model} sees no pictures; models that do: GLM-4V, GLM-4.1V, GLM-4.5V, GLM-4.6V, GLM-Edge-V, GLM-OCR"
    )]
    Blind {
        /// Its name.
        model: String,
    },
    /// A file of a tower where the model is no GGUF.
    #[error("{}: only a GGUF has its vision tower in another file; this model is none", path.display())]
    NoPlaceForTower {
        /// The file.
        path: PathBuf,
    },
    /// A tower that is not this decoder's.
    #[error("{}: {why}; name the file that belongs to this model", path.display())]
    OtherTower {
        /// Its file.
        path: PathBuf,
        /// What does not go together.
        why: String,
    },
    /// Pictures in a prompt whose special tokens anybody may spell.
    #[error(
        "a prompt in which spelt special tokens count has no place for pictures; leave one of the two out"
    )]
    Spelt,
    /// What an answer must look like.
    #[error(transparent)]
    Grammar(#[from] GrammarError),
    /// The device.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The device that was asked for is not to be had.
    #[error("{0}")]
    NoDevice(String),
    /// More layers were asked for than the cards have room for.
    #[error(
        "{wanted} layers do not fit beside their cache: the card's free memory has room for {fit}; \
             --gpu-layers auto takes as many as fit, a shorter --ctx or a smaller --kv-type makes room"
    )]
    LayersDoNotFit {
        /// Layers that were to be on cards.
        wanted: usize,
        /// Those that fit.
        fit: usize,
    },
    /// A model that is to guess for another writes with other tokens.
    #[error("{draft} cannot guess for {model}: their vocabularies differ, first in token {id}")]
    Draft {
        /// The model whose answers are to be guessed.
        model: String,
        /// The one that is to guess.
        draft: String,
        /// The first token that is another.
        id: u32,
    },
    /// A small file beside the weights.
    #[error(transparent)]
    File(#[from] FileError),
    /// There is nothing at this path.
    #[error("{}: no such file or directory", .0.display())]
    NotFound(PathBuf),
    /// The model has weights but nothing that turns text into ids.
    #[error(
        "{}: there is no tokenizer (tokenizer.json, tokenizer.model, ice_text.model, vocab.txt, or the vocabulary \
         inside a GGUF)", .0.display()
    )]
    NoTokenizer(PathBuf),
    /// A token id without a row in the embedding.
    #[error("id {id} (number {number} of the prompt) is outside the vocabulary of {vocab}")]
    OutsideVocabulary {
        /// The id.
        id: u32,
        /// Its place in the prompt, from 1.
        number: usize,
        /// Rows of the embedding.
        vocab: usize,
    },
    /// More tokens than a sequence was planned for.
    #[error("{tokens} tokens do not fit the cache of {slots}")]
    CacheFull {
        /// Tokens.
        tokens: usize,
        /// Slots of the cache.
        slots: usize,
    },
    /// A prompt that an encoder does not have.
    #[error("the model has no prompt called {:?}; it has {known}", .name.chars().take(60).collect::<String>())]
    UnknownPrompt {
        /// What was asked for.
        name: String,
        /// The names of its prompts.
        known: String,
    },
    /// A name that could not be turned into files.
    #[error(transparent)]
    Unresolved(Box<dyn std::error::Error + Send + Sync>),
    /// A name that another model has already.
    #[error("two models are called {0}")]
    NameTaken(String),
    /// An error that was met when the model was opened and matters now.
    #[error(transparent)]
    Earlier(Arc<Error>),
}

impl Error {
    /// Whether the engine that met it has ended, because its device is lost: nothing more can be asked of it.
    pub fn is_end(&self) -> bool {
        matches!(self, Error::Engine(error) if error.is_end())
    }

    /// Whether nothing tells the model's chat format, so that naming one would help.
    pub fn is_unknown_format(&self) -> bool {
        match self {
            Error::Chat(ChatError::UnknownFormat { .. }) => true,
            Error::Earlier(error) => error.is_unknown_format(),
            _ => false,
        }
    }
}
