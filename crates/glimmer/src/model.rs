//! Opening a model: from a place to weights on a device.

use std::sync::Arc;

use glimmer_engine::Companions;
use glimmer_models::vision::Tower;
use glimmer_models::{Decoder, DecoderSpec, load_split};
use glimmer_tensor::{Compute, KvType};
use glimmer_tokenizer::Tokenizer;

use crate::tower::FEATURES;
use crate::{
    DeviceKind, DeviceOptions, DevicePlan, Engine, Error, Limits, ModelFiles, ModelText, Overrides,
    Placement, Session, Source,
};

/// What [`Model::open`] tells while it works.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Progress<'a> {
    /// Something that may make results wrong.
    Warning(&'a str),
    /// Something good to know.
    Note(&'a str),
    /// What each of several devices is going to hold.
    Placed(&'a [DevicePlan]),
    /// Bytes of weights read, and all of them.
    Loading {
        /// Read.
        done: u64,
        /// In all.
        total: u64,
    },
}

/// How to open a model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpenOptions {
    /// What is known better than the files say it.
    pub overrides: Overrides,
    /// What computes, and how precisely.
    pub device: DeviceOptions,
}

/// A model whose weights are on a device.
pub struct Model {
    text: Arc<ModelText>,
    decoder: Decoder,
    device: DeviceKind,
    kv_type: KvType,
    draft: Option<Decoder>,
    tower: Option<Tower>,
}

impl Model {
    /// Opens a model: reads what its files say, and brings its weights to the device. Where as many layers as fit go to a
    /// card, that is beside the cache of [`Limits::default`]; [`crate::OpenDevice::place`] is for others.
    ///
    /// ```
    /// use glimmer::{Conversation, Limits, Model, OpenOptions};
    ///
    /// # fn main() -> Result<(), glimmer::Error> {
    /// let model = Model::open("demo", &OpenOptions::default(), &mut |_| {})?;
    /// let engine = model.start(&Limits::default())?;
    /// let answer = engine.chat(&Conversation::of_user("3 + 4?"))?.complete()?;
    /// assert!(answer.reply.text.contains('7'));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// When there is no such model, a file cannot be read or does not hold together, or the device cannot be had.
    pub fn open(
        source: impl Into<Source>,
        options: &OpenOptions,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<Self, Error> {
        let files = ModelFiles::new(source, options.overrides.clone());
        for warning in &files.understood()?.warnings {
            progress(Progress::Warning(warning));
        }
        let device = options.device.open(Compute::Auto, progress)?;
        let capacity = Limits::default().capacity(files.spec()?, device.kind);
        let placement = device.place(&files, capacity, progress)?;
        Model::load(&files, placement, progress)
    }

    /// Brings the weights of files that are known already to their devices.
    ///
    /// # Errors
    /// When a tensor is missing, has another shape or type than the configuration says, or cannot be quantized, or memory
    /// runs out.
    pub fn load(
        files: &ModelFiles,
        placement: Placement,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<Self, Error> {
        let Placement { devices, tower, kind, kv_type, quantize, .. } = placement;
        let weights = files.weights(quantize)?;
        if let Some(warning) = weights.second_rounding()? {
            progress(Progress::Warning(&warning));
        }
        let mut each = |done, total| progress(Progress::Loading { done, total });
        // A vocabulary takes as long as a part of the weights.
        let (text, decoder) = std::thread::scope(|scope| {
            let text = scope.spawn(|| ModelText::read(files));
            let decoder = load_split(weights, devices, &mut each);
            (text.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), decoder)
        });
        let tower = tower.map(|tower| tower.load(files)).transpose()?;
        Ok(Model { text: Arc::new(text?), decoder: decoder?, device: kind, kv_type, draft: None, tower })
    }

    /// The part that knows text.
    pub fn text(&self) -> &ModelText {
        &self.text
    }

    /// The decoder's facts.
    pub fn spec(&self) -> &DecoderSpec {
        self.decoder.spec()
    }

    /// The same, with a smaller model of the same vocabulary that guesses how answers go on. They are the same with and without
    /// it, and sooner there where it is often right; where its guesses do not pay it is not asked.
    ///
    /// # Errors
    /// [`Error::Draft`] where the two do not write with the same tokens.
    pub fn with_draft(self, draft: Model) -> Result<Self, Error> {
        let [own, others] = [&self.text, &draft.text].map(|text| text.tokenizer());
        check_draft(self.text.name(), own?, draft.text.name(), others?)?;
        Ok(Model { draft: Some(draft.decoder), ..self })
    }

    /// Starts an engine with room for `limits`.
    ///
    /// # Errors
    /// When the memory cannot be had.
    pub fn start(self, limits: &Limits) -> Result<Engine, Error> {
        let options = limits.engine_options(self.decoder.spec(), self.device, self.kv_type);
        let tower = self.tower.map(|tower| (tower, FEATURES));
        let companions = Companions { draft: self.draft, tower, listener: None };
        let engine = glimmer_engine::Engine::start_with(self.decoder, companions, options)?;
        Ok(Engine::new(self.text, engine))
    }

    /// The model computing one sequence by hand, of at most `slots` tokens in steps of at most `rows`, all of which may
    /// have logits where `logits_rows` is as large.
    ///
    /// # Errors
    /// When the memory cannot be had.
    pub fn session(self, slots: usize, rows: usize, logits_rows: usize) -> Result<Session, Error> {
        Session::plan(self.decoder, slots, rows, logits_rows, self.kv_type)
    }

    /// The decoder by itself, with the precision its cache is to have.
    pub fn into_decoder(self) -> (Decoder, KvType) {
        (self.decoder, self.kv_type)
    }
}

/// Whether a model may guess for another. Ids that only one of them has, which a vocabulary is filled up with, are no matter.
///
/// # Errors
/// [`Error::Draft`] names both, and the first token that differs.
pub fn check_draft(model: &str, own: &Tokenizer, draft: &str, others: &Tokenizer) -> Result<(), Error> {
    let both = own.len().min(others.len()) as u32;
    match (0..both).find(|&id| own.token_bytes(id) != others.token_bytes(id)) {
        Some(id) => Err(Error::Draft { model: model.to_owned(), draft: draft.to_owned(), id }),
        None => Ok(()),
    }
}
