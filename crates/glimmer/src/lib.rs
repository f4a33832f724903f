//! Opens and runs the GLM family of language models.
//!
//! ```
//! use glimmer::{Conversation, Limits, Model, OpenOptions};
//!
//! # fn main() -> Result<(), glimmer::Error> {
//! let model = Model::open("demo", &OpenOptions::default(), &mut |_| {})?;
//! let engine = model.start(&Limits::default())?;
//! for delta in engine.chat(&Conversation::of_user("What can you do?"))? {
//!     print!("{}", delta?.text());
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # From a name to an answer
//!
//! | step | type |
//! |---|---|
//! | A name becomes the place of files. | [`Resolver`], [`Local`], [`Source`] |
//! | What the files say is read when it is asked for: configuration, tokenizer, chat template, stop ids. | [`ModelFiles`] |
//! | Layers are given to devices, and weights brought there. | [`DeviceOptions`], [`Placement`], [`Model`] |
//! | Memory is planned and a thread started; nothing is allocated afterwards. | [`Limits`], [`Engine`] |
//! | What a conversation shows is cut to what the model reads of it. | [`Vision`], [`View`] |
//! | A conversation or a text becomes ids. | [`ModelText`], [`Prompt`] |
//! | Ids come back and become text, reasoning, tool calls and scores. | [`Generation`], [`DeltaReader`], [`Delta`] |
//! | How it ended, what it took. | [`FinishReason`], [`Usage`], [`Timings`] |
//!
//! [`Registry`] keeps loaded models by name, [`Embedder`] makes vectors of texts, [`Reranker`] scores of pairs, [`Session`]
//! shows the numbers themselves.
//!
//! It knows no network, no terminal and no API's JSON. An answer's bits depend on its prompt and parameters alone: not on
//! what else is computed, nor on the number of threads.
#![forbid(unsafe_code)]

mod answer_check;
mod answer_form;
mod calls;
mod cards;
mod delta;
mod demo;
mod device;
mod embedder;
mod encoder_files;
mod engine;
mod error;
mod facts;
mod files;
mod fit;
mod generation;
mod gguf_vocabulary;
mod held;
mod limits;
mod model;
mod params;
mod placement;
mod registry;
mod repeated_calls;
mod reranker;
mod sampling;
mod session;
mod source;
mod text;
mod thinking;
mod tower;
mod vision;

pub use answer_form::{AnswerForm, AnswerFormat};
pub use cards::{CardUse, card_use};
pub use delta::{Delta, DeltaReader, FinishReason, Timings, Usage};
pub use demo::DEMO;
pub use device::{DeviceKind, DeviceOptions, OpenDevice};
pub use embedder::Embedder;
pub use engine::Engine;
pub use error::Error;
pub use facts::{ModelFacts, Tensor};
pub use files::{ModelFiles, Overrides, is_mmproj};
pub use fit::{Fit, Load, PublishedModel, converted};
pub use generation::{Completion, Generation};
pub use glimmer_models::{EncodedPair, EncodedText};
pub use limits::{ContextLength, Limits, STEP_TOKENS, indivisible, serving_step_tokens, step_tokens};
pub use model::{Model, OpenOptions, Progress, check_draft};
pub use params::GenerationParams;
pub use placement::{DevicePlan, GpuLayers, Placed, Placement};
pub use registry::{
    Change, KnownModel, Lease, LeaseError, Leasing, Loaded, LoadedModel, ModelKind, ModelState, ModelStatus,
    Observer, Open, OpenError, Opener, PlannedMemory, Prepared, Registry, RegistryLimits, Shelf,
};
pub use reranker::Reranker;
pub use session::{Session, check_ids};
pub use source::{Local, Resolver, Source};
pub use text::{Chat, ModelText, Prompt};
pub use vision::{View, Vision};

pub use glimmer_chat::reply::{Reply, ReplyPart};
pub use glimmer_chat::{
    ChatError, ChatTemplate, Conversation, Medium, Message, Role, Sight, ToolCall, rounds,
};
pub use glimmer_checkpoint::OutputFile;
pub use glimmer_config::{Configuration, Escaped, Family, FileError, file, is_harmful, json, json_line};
pub use glimmer_cpu::{free_memory, give_back_freed};
pub use glimmer_engine::{
    EngineError, Event, Foretold, PromptPicture, PromptProgress, RepetitionDetection, Request, Sampler,
    Sampling, Score, Sink, Speculation, Statistics, Token, room_for_answer,
};
pub use glimmer_grammar::{GrammarError, Unmasked};
pub use glimmer_models::export::{Quantization, Written};
pub use glimmer_models::{Adapter, Decoder, DecoderSpec, ModelError};
pub use glimmer_picture::{Limits as PictureLimits, Pages, Picture, PictureError};
pub use glimmer_tensor::{Capacity, Compute, DeviceMemory, FreeMemory, KvType};
pub use glimmer_tokenizer::{DecodeStream, Encoding, Tokenizer};
