//! What an engine is planned for.

use glimmer_engine::EngineOptions;
use glimmer_models::{DecoderSpec, ModelError, PositionLayout, Positions};
use glimmer_tensor::{Capacity, KvType};

use crate::DeviceKind;

/// The context that is planned for when nobody says how long it shall be, in tokens.
const DEFAULT_CONTEXT: usize = 8192;

/// Tokens that one step of an engine for many computes on the processor: enough to keep it busy.
pub const STEP_TOKENS: usize = 256;

/// Tokens that one step computes with a card, which reads its weights once for all of them and has multiprocessors idle
/// with fewer.
const CARD_STEP_TOKENS: usize = 512;

/// How many tokens a prompt and its answer may have together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ContextLength {
    /// What the model was trained for, at most 8,192.
    #[default]
    Auto,
    /// What the model was trained for.
    Trained,
    /// This many, even more than it was trained for.
    Tokens(usize),
}

impl ContextLength {
    /// The number of tokens for a model.
    pub fn of(self, spec: &DecoderSpec) -> usize {
        match self {
            ContextLength::Auto => spec.context.min(DEFAULT_CONTEXT),
            ContextLength::Trained => spec.context,
            ContextLength::Tokens(tokens) => tokens,
        }
    }
}

/// How much an engine has room for, fixed when it starts. By default: one request at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Tokens of a prompt and its answer together.
    pub context: ContextLength,
    /// Tokens in the cache, shared by all requests and remembered prefixes; the context where nothing is said.
    pub cache_tokens: Option<usize>,
    /// Tokens that one step computes; [`step_tokens`] where nothing is said.
    pub step_tokens: Option<usize>,
    /// ChatGLM-6B computes a context in one step: the longest one that will come. Any where nothing is said; it means
    /// nothing to other models.
    pub indivisible: Option<usize>,
    /// Requests computed at once.
    pub running: usize,
    /// Requests that may wait.
    pub waiting: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            context: ContextLength::Auto,
            cache_tokens: None,
            step_tokens: None,
            indivisible: None,
            running: 1,
            waiting: 1,
        }
    }
}

impl Limits {
    /// For one prompt that is known, and at most `max_tokens` after it: no more room than can be used.
    ///
    /// # Errors
    /// When the prompt is none that the model can read.
    pub fn for_prompt(
        spec: &DecoderSpec,
        context: ContextLength,
        prompt: &[u32],
        max_tokens: Option<usize>,
    ) -> Result<Self, ModelError> {
        let used = prompt.len().saturating_add(max_tokens.unwrap_or(usize::MAX));
        Ok(Limits {
            context: ContextLength::Tokens(context.of(spec).min(used)),
            indivisible: Some(indivisible(spec, prompt)?),
            ..Limits::default()
        })
    }

    /// What an engine with these limits is planned for on a device.
    pub fn capacity(&self, spec: &DecoderSpec, device: DeviceKind) -> Capacity {
        self.engine_options(spec, device, KvType::F16).capacity()
    }

    pub(crate) fn engine_options(
        &self,
        spec: &DecoderSpec,
        device: DeviceKind,
        kv_type: KvType,
    ) -> EngineOptions {
        let context = self.context.of(spec);
        let step = self.step_tokens.unwrap_or_else(|| step_tokens(spec, device).min(context));
        let indivisible = match spec.positions {
            Positions::ChatGlm6b { .. } => self.indivisible.unwrap_or(context),
            Positions::Sequential { .. } | Positions::SharedByPicture | Positions::OfGrid => 0,
        };
        EngineOptions {
            context,
            slots: self.cache_tokens.unwrap_or(context),
            rows: step.max(indivisible),
            running: self.running,
            waiting: self.waiting,
            kv_type,
        }
    }
}

/// Tokens of a prompt that one step computes when one person waits for it. On the processor few enough for what lies
/// between the layers to stay in its caches: wide models keep it as busy with fewer of them.
pub fn step_tokens(spec: &DecoderSpec, device: DeviceKind) -> usize {
    match (device, spec.hidden) {
        (DeviceKind::Cuda, _) => CARD_STEP_TOKENS,
        (_, 0..3072) => STEP_TOKENS,
        (_, 3072..4096) => STEP_TOKENS / 2,
        _ => STEP_TOKENS / 4,
    }
}

/// Tokens that one step computes for many at once.
pub fn serving_step_tokens(spec: &DecoderSpec, device: DeviceKind) -> usize {
    step_tokens(spec, device).max(STEP_TOKENS)
}

/// Tokens at the beginning of a prompt that one step has to compute together: ChatGLM-6B's context, which attends both
/// ways; 0 for other models.
///
/// # Errors
/// When the prompt is none that the model can read.
pub fn indivisible(spec: &DecoderSpec, prompt: &[u32]) -> Result<usize, ModelError> {
    Ok(PositionLayout::of_prompt(spec.positions, prompt)?.prefix_len())
}
