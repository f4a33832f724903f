//! One request at a time over a paged cache: prompts in chunks, then a token per step.

use std::ops::ControlFlow;

use glimmer_models::{Decoder, ModelError, PositionLayout};
use glimmer_tensor::{Batch, Capacity, KvType, PAGE_SLOTS};

use crate::{PagePool, Sampler, Sampling};

/// Sizes that are fixed when the engine starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineOptions {
    /// Tokens a request may hold, prompt and answer together.
    pub context: usize,
    /// Rows per step; longer prompts are computed in chunks.
    pub rows: usize,
    /// Whether [`Engine::all_logits`] will be asked for (a row of logits per row of a step instead of one).
    pub all_logits: bool,
    /// Precision of the cache.
    pub kv_type: KvType,
}

/// What to generate from.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// The prompt, not empty.
    pub prompt: Vec<u32>,
    /// Most new tokens.
    pub max_tokens: usize,
    /// Ids that end the answer; they are not part of it.
    pub stop_ids: Vec<u32>,
    /// How tokens are chosen.
    pub sampling: Sampling,
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// A stop id was chosen.
    Stop(u32),
    /// `max_tokens` or the context is used up.
    Length,
    /// The receiver wanted no more.
    Cancelled,
}

/// How a request went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// New tokens handed over.
    pub tokens: usize,
    /// Why it ended.
    pub finish: Finish,
}

/// Why a request cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Nothing to continue.
    #[error("the prompt is empty")]
    EmptyPrompt,
    /// The prompt does not fit.
    #[error("the prompt has {prompt} tokens, the context {context}")]
    TooLong {
        /// Tokens of the prompt.
        prompt: usize,
        /// Slots of the context.
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
    /// The model.
    #[error(transparent)]
    Model(#[from] ModelError),
}

/// A decoder with its cache.
pub struct Engine {
    decoder: Decoder,
    pool: PagePool,
    options: EngineOptions,
}

/// A sequence being computed.
struct Sequence {
    layout: PositionLayout,
    pages: Vec<u32>,
    len: usize,
}

impl Engine {
    /// Plans the decoder's memory.
    ///
    /// # Errors
    /// When it cannot be had.
    pub fn new(mut decoder: Decoder, options: EngineOptions) -> Result<Self, EngineError> {
        let pages = options.context.div_ceil(PAGE_SLOTS).max(1);
        let rows = options.rows.clamp(1, pages * PAGE_SLOTS);
        let logits_rows = if options.all_logits { rows } else { 1 };
        decoder.plan(Capacity { rows, logits_rows, pages }, options.kv_type)?;
        Ok(Engine { decoder, pool: PagePool::new(pages), options: EngineOptions { rows, ..options } })
    }

    /// The decoder.
    pub fn decoder(&self) -> &Decoder {
        &self.decoder
    }

    /// Tokens a request may hold.
    pub fn context(&self) -> usize {
        self.options.context
    }

    /// The logits of every position of `ids`, handed over chunk by chunk: `[chunk, vocab]`.
    ///
    /// # Errors
    /// When the ids do not fit or a value is not finite.
    pub fn all_logits(&mut self, ids: &[u32], each: &mut dyn FnMut(&[f32])) -> Result<(), EngineError> {
        let mut sequence = self.start(ids)?;
        let mut logits = Vec::new();
        let result = self.prefill(
            &mut sequence,
            ids,
            |chunk| (0..chunk).collect(),
            &mut |logits| each(logits),
            &mut logits,
        );
        self.pool.release(&mut sequence.pages);
        result
    }

    /// Answers a request, handing over each new id as it is chosen.
    ///
    /// # Errors
    /// When the prompt does not fit or a value is not finite. Tokens handed over before stay valid.
    pub fn generate(
        &mut self,
        request: &Request,
        emit: &mut dyn FnMut(u32) -> ControlFlow<()>,
    ) -> Result<Outcome, EngineError> {
        let mut sequence = self.start(&request.prompt)?;
        let outcome = self.answer(&mut sequence, request, emit);
        self.pool.release(&mut sequence.pages);
        outcome
    }

    fn start(&mut self, ids: &[u32]) -> Result<Sequence, EngineError> {
        if ids.is_empty() {
            return Err(EngineError::EmptyPrompt);
        }
        if ids.len() > self.options.context {
            return Err(EngineError::TooLong { prompt: ids.len(), context: self.options.context });
        }
        let layout = PositionLayout::of_prompt(self.decoder.spec().positions, ids)?;
        if layout.prefix_len() > self.options.rows {
            return Err(EngineError::Indivisible { context: layout.prefix_len(), rows: self.options.rows });
        }
        Ok(Sequence { layout, pages: Vec::new(), len: 0 })
    }

    fn answer(
        &mut self,
        sequence: &mut Sequence,
        request: &Request,
        emit: &mut dyn FnMut(u32) -> ControlFlow<()>,
    ) -> Result<Outcome, EngineError> {
        let ended = |tokens, finish| Ok(Outcome { tokens, finish });
        if request.max_tokens == 0 {
            return ended(0, Finish::Length);
        }
        let mut logits = Vec::new();
        let last = request.prompt.len() - 1;
        let mut seen = 0;
        let only_last = |chunk: usize| {
            seen += chunk;
            if seen > last { vec![chunk - 1] } else { Vec::new() }
        };
        self.prefill(sequence, &request.prompt, only_last, &mut |_| {}, &mut logits)?;
        let mut sampler = Sampler::new(request.sampling.clone(), &request.prompt);
        for index in 0.. {
            let id = sampler.next(&logits);
            if request.stop_ids.contains(&id) {
                return ended(index, Finish::Stop(id));
            }
            if emit(id).is_break() {
                return ended(index + 1, Finish::Cancelled);
            }
            if index + 1 == request.max_tokens || sequence.len == self.options.context {
                return ended(index + 1, Finish::Length);
            }
            self.step(sequence, &[id], vec![0], &mut logits)?;
        }
        unreachable!("the loop ends by returning")
    }

    /// Computes `ids` in chunks. `wanted` says which rows of a chunk have logits, `each` receives them.
    fn prefill(
        &mut self,
        sequence: &mut Sequence,
        ids: &[u32],
        mut wanted: impl FnMut(usize) -> Vec<usize>,
        each: &mut dyn FnMut(&[f32]),
        logits: &mut Vec<f32>,
    ) -> Result<(), EngineError> {
        let mut rest = ids;
        while !rest.is_empty() {
            let (chunk, after) = rest.split_at(rest.len().min(self.options.rows));
            self.step(sequence, chunk, wanted(chunk.len()), logits)?;
            each(logits);
            rest = after;
        }
        Ok(())
    }

    /// Computes `ids` as the sequence's next rows; `logits` then holds those of the `wanted` rows.
    fn step(
        &mut self,
        sequence: &mut Sequence,
        ids: &[u32],
        wanted: Vec<usize>,
        logits: &mut Vec<f32>,
    ) -> Result<(), EngineError> {
        let slots = sequence.len..sequence.len + ids.len();
        if !self.pool.grow(&mut sequence.pages, slots.end) {
            return Err(EngineError::TooLong { prompt: slots.end, context: self.pool.slots() });
        }
        let mut rope_pos = Vec::new();
        sequence.layout.extend(slots.clone(), &mut rope_pos);
        let rows = wanted.len();
        let mut batch = Batch::default();
        sequence.len = slots.end;
        batch.push(ids, slots, &rope_pos, sequence.layout.prefix_len(), sequence.pages.clone(), wanted);
        self.decoder.forward(&batch)?;
        logits.clear();
        if rows > 0 {
            self.decoder.logits(rows, logits)?;
        }
        Ok(())
    }
}
