//! What is asked of an answer.

use glimmer_engine::{RepetitionDetection, Sampling, Speculation};

use crate::AnswerForm;

/// How an answer is to be made. [`crate::Engine::defaults`] makes those of the model, to be changed as wanted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GenerationParams {
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Most new tokens; otherwise as many as the context has room for.
    pub max_tokens: Option<usize>,
    /// New tokens before which no stop id is chosen; stop strings end the answer all the same.
    pub min_tokens: usize,
    /// Strings that end the answer; they are no part of it.
    pub stop: Vec<String>,
    /// Ids that end it beside the model's own.
    pub stop_ids: Vec<u32>,
    /// Whether the model's own ids do not end it.
    pub ignore_eos: bool,
    /// Tell each token's log-probability, and those of this many of the likeliest in its place.
    pub logprobs: Option<usize>,
    /// The same for the tokens of the prompt.
    pub prompt_logprobs: Option<usize>,
    /// Higher goes first; 0 for all alike.
    pub priority: i32,
    /// Whether tokens may be guessed ahead. It changes no bit of the answer.
    pub speculation: Speculation,
    /// When the answer ends because it repeats itself: its last tokens, or a tool call, which occurs as often with the same
    /// arguments wherever it stands.
    pub repetition_detection: Option<RepetitionDetection>,
    /// Whether the answer ends after its first tool call.
    pub single_call: bool,
    /// What the answer must look like: what [`crate::ModelText::form`] makes of a format. It ends at the model's own ids even
    /// with `ignore_eos`.
    pub form: Option<AnswerForm>,
    /// Tokens of the answer after which its reasoning is closed, where the model still thinks; 0 closes at once what the prompt
    /// opened ([`crate::Conversation::enable_thinking`] has the template open none). It means nothing to text that goes on.
    pub thinking_budget: Option<usize>,
    /// The adapter that computes it, by the name that [`crate::Engine::load_adapter`] gave it; the model alone otherwise.
    pub adapter: Option<String>,
    /// Whether a full context only interrupts the answer, which [`crate::Generation::resume`] goes on with.
    pub resumable: bool,
}
