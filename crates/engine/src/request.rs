//! What is asked of the engine and what it says back.

use std::ops::ControlFlow;
use std::time::Instant;

use glimmer_models::ModelError;
use glimmer_tensor::DeviceError;

use crate::{AdapterId, ConstraintMaker, PromptPicture, RepetitionDetection, Sampling};

/// Receives a request's events. Breaking off is the only cancellation: the request's pages are free at the next step.
pub type Sink = Box<dyn FnMut(Event) -> ControlFlow<()> + Send>;

/// What to generate from, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// The prompt, not empty.
    pub prompt: Vec<u32>,
    /// The pictures in it, in order. For each of a picture's rows the prompt has a token, whose id stands for it.
    pub pictures: Vec<PromptPicture>,
    /// How many of the prompt's last tokens are the beginning of the answer, made earlier and to be gone on with: for
    /// penalties and random numbers they are part of it.
    pub continued: usize,
    /// Most new tokens; [`room_for_answer`] says how many there can be.
    pub max_tokens: usize,
    /// Tokens that the answer has before one of `stop_ids` may be chosen; those that it is `continued` with count.
    pub min_tokens: usize,
    /// Ids that end the answer; they are not part of it.
    pub stop_ids: Vec<u32>,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Report each token's log-probability and this many of the best alternatives'.
    pub logprobs: Option<usize>,
    /// The same for the tokens of the prompt. They are computed even where they are remembered.
    pub prompt_logprobs: Option<usize>,
    /// Higher goes first; 0 for all alike.
    pub priority: i32,
    /// Whether tokens may be guessed ahead.
    pub speculation: Speculation,
    /// What the answer must be: each copy of it has its own.
    pub constraint: Option<ConstraintMaker>,
    /// When it ends because it repeats itself; not before `min_tokens`.
    pub repetition_detection: Option<RepetitionDetection>,
    /// The adapter that computes it; the model alone where there is none.
    pub adapter: Option<AdapterId>,
    /// What the answer will be, so that it can be measured what guesses are worth that are right so often.
    pub foretold: Option<Foretold>,
}

/// An answer that is known beforehand. A smaller model that guesses then works as ever, and what it guesses is right with a given
/// probability.
#[derive(Clone, Debug, PartialEq)]
pub struct Foretold {
    /// Its tokens.
    pub answer: Vec<u32>,
    /// How often a guess is right, from 0 to 1.
    pub right: f64,
}

impl Foretold {
    /// The guess for the token of this index.
    pub(crate) fn guess(&self, index: usize) -> Option<u32> {
        let token = *self.answer.get(index)?;
        let is_right = crate::sampling::uniform(0, index as u64) < self.right;
        Some(if is_right { token } else { token ^ 1 })
    }
}

impl Default for Request {
    /// No prompt; the best token, always, until the context is full.
    fn default() -> Self {
        Request {
            prompt: Vec::new(),
            pictures: Vec::new(),
            continued: 0,
            max_tokens: usize::MAX,
            min_tokens: 0,
            stop_ids: Vec::new(),
            sampling: Sampling::default(),
            logprobs: None,
            prompt_logprobs: None,
            priority: 0,
            speculation: Speculation::Auto,
            constraint: None,
            repetition_detection: None,
            adapter: None,
            foretold: None,
        }
    }
}

/// How many new tokens a request can have: prompt and answer together are at most the context.
///
/// # Errors
/// [`EngineError::TooLong`] when the prompt alone is more than that, or leaves no room for a token where one is wanted.
pub fn room_for_answer(prompt: usize, max_tokens: usize, context: usize) -> Result<usize, EngineError> {
    match context.checked_sub(prompt) {
        Some(room) if room > 0 || max_tokens == 0 => Ok(room.min(max_tokens)),
        _ => Err(EngineError::TooLong { prompt, context }),
    }
}

/// Whether an answer's next tokens are guessed from those it has, and the guesses computed together. The answer is the
/// same either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Speculation {
    /// As many guesses as pay, by what recent ones and recent steps were worth.
    #[default]
    Auto,
    /// Never.
    Off,
    /// As many as there are, whatever they cost.
    Always,
}

/// What happens to a request, in order: any number of `Prompt` and `Token`, perhaps `Stop`, then `Finished` or `Failed`.
#[derive(Debug)]
pub enum Event {
    /// A chunk of the prompt was computed.
    Prompt(PromptProgress),
    /// A token was chosen.
    Token(Token),
    /// A stop id was chosen, which is no part of the answer: told where log-probabilities are asked for.
    Stop(Token),
    /// The answer is complete.
    Finished(Finish),
    /// The answer cannot be completed; tokens before stay valid.
    Failed(EngineError),
}

/// How far a prompt is. The first report comes when the request is admitted, before anything is computed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PromptProgress {
    /// Tokens computed or found remembered.
    pub done: usize,
    /// Tokens in all.
    pub total: usize,
    /// Tokens found remembered.
    pub cached: usize,
    /// The log-probabilities of further tokens of the prompt, in order, where asked for. The first token has none, nor
    /// has one within a context that attends both ways.
    pub scores: Vec<Score>,
}

/// How probable a token of the prompt was.
#[derive(Clone, Debug, PartialEq)]
pub struct Score {
    /// Its place in the prompt.
    pub index: usize,
    /// Its id.
    pub id: u32,
    /// Its log-probability after those before it.
    pub logprob: f32,
    /// The most probable ids there and their log-probabilities, best first.
    pub top: Vec<(u32, f32)>,
}

/// A chosen token.
#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    /// Its id.
    pub id: u32,
    /// When it was chosen.
    pub at: Instant,
    /// Whether it had been guessed.
    pub guessed: bool,
    /// Guesses, of it and of tokens after it, that were computed in vain because they were wrong about it.
    pub rejected: usize,
    /// Its log-probability, where asked for.
    pub logprob: Option<f32>,
    /// The best alternatives and their log-probabilities, best first.
    pub top: Vec<(u32, f32)>,
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// A stop id was chosen.
    Stop(u32),
    /// `max_tokens` were chosen.
    Length,
    /// The context is full, before that.
    ContextFull,
    /// It repeats itself, as [`Request::repetition_detection`] says.
    Repetition,
}

/// Why a request cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Nothing to continue.
    #[error("the prompt is empty")]
    EmptyPrompt,
    /// The prompt does not fit, or nothing fits after it.
    #[error("the prompt has {prompt} tokens, the context {context}: no room for an answer")]
    TooLong {
        /// Tokens of the prompt.
        prompt: usize,
        /// Tokens that prompt and answer may have.
        context: usize,
    },
    /// ChatGLM-6B's context attends both ways and cannot be cut.
    #[error("a bidirectional context of {context} tokens does not fit a step of {rows} rows")]
    Indivisible {
        /// Tokens of the context.
        context: usize,
        /// Rows per step.
        rows: usize,
    },
    /// A token has no row in the embedding.
    #[error("token id {id} is outside the vocabulary of {vocab}")]
    OutsideVocabulary {
        /// The id.
        id: u32,
        /// Rows of the embedding.
        vocab: usize,
    },
    /// A sampling parameter is not a number that can be used.
    #[error("{name} is {value}")]
    Sampling {
        /// The parameter.
        name: &'static str,
        /// Its value.
        value: f32,
    },
    /// What the answer must be cannot be told any more, or be satisfied.
    #[error("the answer cannot be held to its form: {0}")]
    Constraint(String),
    /// The adapter that was asked for is not loaded, or is not any more.
    #[error("the adapter is not loaded any more")]
    NoAdapter,
    /// A picture's rows are more than the prompt has.
    #[error("a picture's rows end at {end}, the prompt at {prompt}")]
    OutsidePrompt {
        /// Where the last picture's rows end.
        end: usize,
        /// Tokens of the prompt.
        prompt: usize,
    },
    /// The tower is another model's.
    #[error(
        "the tower's features are {width} wide, the decoder's rows {hidden}: they are of different models"
    )]
    ForeignTower {
        /// Of features.
        width: usize,
        /// Of the decoder's rows.
        hidden: usize,
    },
    /// The tower cannot see a picture.
    #[error("{0}")]
    Picture(String),
    /// The model has no tower.
    #[error("the model sees no pictures")]
    SeesNothing,
    /// Too many requests wait already.
    #[error("the queue is full ({waiting} requests wait)")]
    QueueFull {
        /// Requests waiting.
        waiting: usize,
    },
    /// The engine's thread has ended.
    #[error("the engine has stopped")]
    Stopped,
    /// The model.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The engine's thread cannot be had.
    #[error("cannot start the engine's thread: {0}")]
    Thread(std::io::Error),
    /// A fault of the program in this request's path. Other requests go on.
    #[error("a fault in the program: {0}")]
    Fault(String),
}

impl EngineError {
    /// Whether the engine itself has ended, or ends with this: no request is served by it any more.
    pub fn is_end(&self) -> bool {
        matches!(self, EngineError::Stopped | EngineError::Model(ModelError::Device(DeviceError::Lost(_))))
    }
}
