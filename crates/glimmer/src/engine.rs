//! A model that runs: the engine, and the text that goes into it and comes out.

use std::sync::Arc;
use std::sync::mpsc::Receiver;

use glimmer_chat::Conversation;
use glimmer_engine::{Event, Request, Sink, Statistics};
use glimmer_models::DecoderSpec;
use glimmer_tensor::DeviceMemory;

use crate::{AnswerForm, DeltaReader, Error, Generation, GenerationParams, ModelText, Prompt};

/// A model that runs. Shared freely between threads; dropping it ends its thread once what was submitted is done.
pub struct Engine {
    text: Arc<ModelText>,
    engine: glimmer_engine::Engine,
}

impl Engine {
    pub(crate) fn new(text: Arc<ModelText>, engine: glimmer_engine::Engine) -> Self {
        Engine { text, engine }
    }

    /// The part that knows text.
    pub fn text(&self) -> &ModelText {
        &self.text
    }

    /// The decoder's facts.
    pub fn spec(&self) -> &DecoderSpec {
        self.engine.spec()
    }

    /// Tokens that a prompt and its answer may have together.
    pub fn context(&self) -> usize {
        self.engine.context()
    }

    /// What it runs on, for people.
    pub fn device(&self) -> &str {
        self.engine.device()
    }

    /// Bytes held.
    pub fn memory(&self) -> DeviceMemory {
        self.engine.memory()
    }

    /// What it does and has done, as of the end of the last step.
    pub fn statistics(&self) -> Statistics {
        self.engine.statistics()
    }

    /// Has a conversation answered as the model does by itself.
    ///
    /// # Errors
    /// When the model does not converse, or its format cannot say the conversation.
    pub fn chat(&self, conversation: &Conversation) -> Result<Generation, Error> {
        let prompt = self.text.prompt(conversation)?;
        self.generate(&prompt, self.defaults(&prompt))
    }

    /// How answers to a prompt are made unless somebody says otherwise, with a new seed each time.
    pub fn defaults(&self, prompt: &Prompt) -> GenerationParams {
        GenerationParams { sampling: self.text.sampling(prompt), ..GenerationParams::default() }
    }

    /// Has a prompt answered; calls of its tools are held to their form. What is wrong with the request itself comes as the
    /// first part.
    ///
    /// # Errors
    /// When the model has no tokenizer to read its answers with.
    pub fn generate(&self, prompt: &Prompt, params: GenerationParams) -> Result<Generation, Error> {
        let params = self.text.with_calls(prompt, params);
        let reader = self.reader(prompt, &params)?;
        let events = self.answer(self.request(prompt, &params));
        Ok(Generation::new(reader, events, params))
    }

    /// A reader of the events of one answer: for those who submit requests themselves.
    ///
    /// # Errors
    /// When the model has no tokenizer to read its answers with.
    pub fn reader(&self, prompt: &Prompt, params: &GenerationParams) -> Result<DeltaReader, Error> {
        let decoding = self.text.decoding(prompt, params)?;
        let reader = DeltaReader::new(decoding, prompt.ids.len(), params);
        Ok(reader.checking(params.form.as_ref()))
    }

    /// The request that a prompt and parameters come to.
    pub fn request(&self, prompt: &Prompt, params: &GenerationParams) -> Request {
        let own = if params.ignore_eos { &[][..] } else { self.text.stop_ids(prompt) };
        let form = params.form.as_ref();
        let ends = form.map_or(&[][..], AnswerForm::ends);
        Request {
            prompt: prompt.ids.clone(),
            continued: 0,
            max_tokens: params.max_tokens.unwrap_or(usize::MAX),
            min_tokens: params.min_tokens,
            stop_ids: [own, ends, &params.stop_ids].concat(),
            sampling: params.sampling.clone(),
            logprobs: params.logprobs,
            prompt_logprobs: params.prompt_logprobs,
            priority: params.priority,
            speculation: params.speculation,
            constraint: self.text.constraint(prompt, params),
            repetition_detection: params.repetition_detection,
            foretold: None,
        }
    }

    /// Hands over a request that is to be answered several times, once per sink: see
    /// [`glimmer_engine::Engine::submit_copies`]. Sinks are called on the engine's thread and must not block.
    pub fn submit(&self, request: Request, sinks: Vec<Sink>) {
        self.engine.submit_copies(request, sinks);
    }

    pub(crate) fn answer(&self, request: Request) -> Receiver<Event> {
        self.engine.answer(request)
    }
}
