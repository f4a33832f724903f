//! A model that runs: the engine, and the text that goes into it and comes out.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use glimmer_chat::Conversation;
use glimmer_engine::{AdapterId, Event, Request, Sink, Statistics};
use glimmer_models::{Adapter, DecoderSpec};
use glimmer_tensor::DeviceMemory;

use crate::{AnswerForm, DeltaReader, Error, Generation, GenerationParams, ModelText, Prompt};

/// A model that runs. Shared freely between threads; dropping it ends its thread once what was submitted is done.
pub struct Engine {
    text: Arc<ModelText>,
    engine: glimmer_engine::Engine,
    /// By name.
    adapters: Mutex<BTreeMap<String, AdapterId>>,
}

impl Engine {
    pub(crate) fn new(text: Arc<ModelText>, engine: glimmer_engine::Engine) -> Self {
        Engine { text, engine, adapters: Mutex::default() }
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

    /// Loads an adapter ([`Adapter::read`]) under a name that [`GenerationParams::adapter`] may say from then on. It takes the
    /// place of one of that name.
    ///
    /// # Errors
    /// When the device cannot compute with it or has no memory left.
    pub fn load_adapter(&self, name: &str, adapter: Adapter) -> Result<(), Error> {
        let id = self.engine.load_adapter(adapter)?;
        let before = self.named_adapters().insert(name.to_owned(), id);
        before.into_iter().for_each(|id| self.engine.drop_adapter(id));
        Ok(())
    }

    /// Reads the adapter at `path` and loads it.
    ///
    /// # Errors
    /// Those of [`Adapter::read`] and of [`Engine::load_adapter`].
    pub fn open_adapter(&self, name: &str, path: &Path) -> Result<(), Error> {
        self.load_adapter(name, Adapter::read(path, self.spec())?)
    }

    /// Lets go of an adapter; whether there was one. Answers that it is computing are finished.
    pub fn drop_adapter(&self, name: &str) -> bool {
        let id = self.named_adapters().remove(name);
        id.into_iter().for_each(|id| self.engine.drop_adapter(id));
        id.is_some()
    }

    /// Whether an adapter of this name is loaded.
    pub fn has_adapter(&self, name: &str) -> bool {
        self.named_adapters().contains_key(name)
    }

    fn named_adapters(&self) -> MutexGuard<'_, BTreeMap<String, AdapterId>> {
        self.adapters.lock().unwrap_or_else(PoisonError::into_inner)
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
        // One that is not loaded is refused by the engine.
        let adapter = |name: &String| self.named_adapters().get(name).copied().unwrap_or_default();
        Request {
            prompt: prompt.ids.clone(),
            pictures: prompt.pictures.clone(),
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
            adapter: params.adapter.as_ref().map(adapter),
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
