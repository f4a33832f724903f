//! What a published model needs, before anything of it is downloaded.

use std::path::Path;

use glimmer_checkpoint::Checkpoint;
use glimmer_cpu::{default_threads, working_bytes};
use glimmer_models::export::{Mix, Quantization, WeightTypes, Written, written};
use glimmer_models::{DecoderSpec, Understood, published_config, understand};
use glimmer_tensor::{DType, KvType, PAGE_SLOTS};

use crate::device::DeviceKind;
use crate::limits::{ContextLength, Limits};

/// A published model that runs here, known by its configuration alone.
pub struct PublishedModel {
    understood: Understood,
}

/// How much it shall hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Tokens of one conversation.
    pub context: usize,
    /// Conversations at once, each of that length.
    pub users: usize,
    /// Precision of the cache.
    pub kv_type: KvType,
    /// What computes: a card has more rows in a step.
    pub device: DeviceKind,
}

/// Bytes by purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fit {
    /// Keys and values.
    pub cache: u64,
    /// Activations of one step, logits, and on the processor what its kernels work in. (A card's own is not counted.)
    pub scratch: u64,
    /// Of these, what kernels work in.
    pub working: u64,
}

impl Fit {
    /// Both.
    pub fn total(&self) -> u64 {
        self.cache.saturating_add(self.scratch)
    }
}

impl Load {
    /// What it needs beside the weights: what an engine with as much room holds. ChatGLM-6B, which computes a whole context
    /// in one step, is planned for as long a one.
    pub fn needs(self, spec: &DecoderSpec) -> Fit {
        let slots = self.context.saturating_mul(self.users);
        let limits = Limits {
            context: ContextLength::Tokens(self.context),
            cache_tokens: Some(slots),
            running: self.users,
            ..Limits::default()
        };
        let capacity = limits.capacity(spec, self.device);
        let plan = spec.plan(0..spec.layers.len(), capacity, self.kv_type);
        let working = match self.device {
            DeviceKind::Cpu => working_bytes(&plan, spec.most_columns(), default_threads()) as u64,
            _ => 0,
        };
        let activations = spec.activation_bytes(capacity.rows, capacity.logits_rows);
        Fit { cache: plan.kv_bytes() as u64, scratch: activations.saturating_add(working), working }
    }

    /// The longest context, in whole pages and at most this one, that `bytes` hold beside the weights; 0 where not even a
    /// page fits.
    pub fn longest(self, spec: &DecoderSpec, bytes: u64) -> usize {
        let most = self.context;
        let fits = |pages: usize| {
            Load { context: (pages * PAGE_SLOTS).min(most), ..self }.needs(spec).total() <= bytes
        };
        // Longer ones need more: the last that fits is looked for by halving.
        let (mut good, mut bad) = (0, most.div_ceil(PAGE_SLOTS) + 1);
        while bad - good > 1 {
            let middle = good + (bad - good) / 2;
            if fits(middle) { good = middle } else { bad = middle }
        }
        (good * PAGE_SLOTS).min(most)
    }
}

impl PublishedModel {
    /// The model of this name in the catalogue's spelling; `None` where there is none, or no decoder for it.
    pub fn named(name: &str) -> Option<Self> {
        let checkpoint = Checkpoint::without_weights(Path::new(name), published_config(name)?);
        Some(PublishedModel { understood: understand(&checkpoint, None).ok()? })
    }

    /// Its decoder.
    pub fn spec(&self) -> &DecoderSpec {
        &self.understood.spec
    }

    /// What its files say.
    pub fn understood(&self) -> &Understood {
        &self.understood
    }

    /// What its weights take in a quantization: [`converted`].
    pub fn weights(&self, quantization: &str) -> Option<Written> {
        converted(&self.understood, quantization)
    }
}

/// What the tensors of a model's GGUF take in a quantization, tensor by tensor as `glimmer convert` writes it; `None` for a
/// quantization that it does not write. Names are llama.cpp's, to which Q4_K is Q4_K_M, and those of [`Quantization`].
pub fn converted(understood: &Understood, quantization: &str) -> Option<Written> {
    if let Some((loaded, _)) = Quantization::NAMES.iter().find(|(_, name)| *name == quantization) {
        return written(None, understood, loaded.types()).ok();
    }
    let types = match quantization.to_ascii_uppercase().as_str() {
        "Q2_K" => WeightTypes::Mix(Mix::Q2_K_M),
        "Q3_K" => WeightTypes::Mix(Mix::Q3_K_M),
        "Q4_K" => WeightTypes::Mix(Mix::Q4_K_M),
        "Q5_K" => WeightTypes::Mix(Mix::Q5_K_M),
        "FP16" => WeightTypes::One(DType::F16),
        _ => WeightTypes::from_name(quantization)?,
    };
    written(None, understood, types).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_is_counted_by_its_shape() {
        let model = PublishedModel::named("glm-4-9b-chat").unwrap();
        let load = |context, users| Load { context, users, kv_type: KvType::F16, device: DeviceKind::Cpu };
        // 40 layers, 2 heads of 128, keys and values, 2 bytes.
        let needs = |load: Load| load.needs(model.spec());
        assert_eq!(needs(load(131_072, 1)).cache, 40 * 2 * 128 * 2 * 2 * 131_072);
        assert_eq!(needs(load(1000, 3)).cache, 40_960 * 3008);
        // Users share a step, and each has a row of logits, with the states that they are of.
        let on_card = |context, users| Load { device: DeviceKind::Cuda, ..load(context, users) };
        let more = needs(on_card(1000, 3)).scratch - needs(on_card(2000, 1)).scratch;
        assert_eq!(more, 2 * 4 * (151_552 + 2 * 4096));
        assert!(PublishedModel::named("glm-5").is_none());
    }

    #[test]
    fn weights_are_what_convert_writes() {
        let model = PublishedModel::named("glm-edge-1.5b-chat").unwrap();
        let half = model.weights("F16").unwrap();
        assert_eq!(half.parameters, 1_593_427_968);
        assert_eq!(half.embedding, 59_264 * 2048 * 2);
        // Norms are F32.
        assert_eq!(half.bytes, 2 * half.parameters + 2 * 57 * 2048);
        // Its head is a matrix of its own: of the embedding only rows are read.
        assert_eq!((half.head, half.read()), (half.embedding, half.bytes - half.embedding));
        assert_eq!(model.weights("Q4_K"), model.weights("q4_k_m"));
        assert_eq!(model.weights("fp16"), Some(half));
        // What is quantized while it is loaded is in one type.
        assert_eq!(model.weights("8-bit"), model.weights("Q8_0"));
        assert!(model.weights("4-bit").unwrap().bytes < model.weights("Q4_K_S").unwrap().bytes);
        assert!(model.weights("none").is_none() && model.weights("IQ2_M").is_none());
    }

    #[test]
    fn the_longest_context_fits_and_a_longer_one_does_not() {
        for name in ["glm-4-9b-chat", "chatglm-6b"] {
            let model = PublishedModel::named(name).unwrap();
            let load = |context| Load { context, users: 1, kv_type: KvType::F16, device: DeviceKind::Cuda };
            for bytes in [0, 1 << 20, 300 << 20, 3 << 30, 1 << 40] {
                let context = load(8000).longest(model.spec(), bytes);
                let total = |context| load(context).needs(model.spec()).total();
                assert!(context == 0 || total(context) <= bytes, "{name} {bytes}");
                assert!(context == 8000 || total(context + PAGE_SLOTS) > bytes, "{name} {bytes} {context}");
            }
        }
    }
}
