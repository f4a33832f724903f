//! What a published model needs, before anything of it is downloaded.

use std::path::Path;

use glimmer_checkpoint::Checkpoint;
use glimmer_models::export::{Mix, WeightTypes, Written, written};
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
    /// Activations of one step, and logits.
    pub scratch: u64,
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

    /// What the tensors of its GGUF take in a quantization, tensor by tensor as `glimmer convert` writes it; `None` for a
    /// quantization that it does not write. Names are llama.cpp's, to which Q4_K is Q4_K_M.
    pub fn weights(&self, quantization: &str) -> Option<Written> {
        let types = match quantization.to_ascii_uppercase().as_str() {
            "Q2_K" => WeightTypes::Mix(Mix::Q2_K_M),
            "Q3_K" => WeightTypes::Mix(Mix::Q3_K_M),
            "Q4_K" => WeightTypes::Mix(Mix::Q4_K_M),
            "Q5_K" => WeightTypes::Mix(Mix::Q5_K_M),
            "FP16" => WeightTypes::One(DType::F16),
            _ => WeightTypes::from_name(quantization)?,
        };
        written(&self.understood, types).ok()
    }

    /// What it needs beside its weights. ChatGLM-6B, which computes a whole context in one step, is planned for as long a one.
    pub fn fit(&self, load: Load) -> Fit {
        let spec = self.spec();
        let slots = load.context.saturating_mul(load.users);
        let limits = Limits {
            context: ContextLength::Tokens(load.context),
            cache_tokens: Some(slots),
            running: load.users,
            ..Limits::default()
        };
        let rows = limits.capacity(spec, load.device).rows;
        Fit { cache: spec.cache_bytes(slots, load.kv_type), scratch: spec.activation_bytes(rows) }
    }

    /// The longest context, in whole pages and at most the load's, that `bytes` hold beside the weights; 0 where not even a
    /// page fits.
    pub fn longest(&self, bytes: u64, load: Load) -> usize {
        let most = load.context;
        let fits = |pages: usize| {
            let Fit { cache, scratch } = self.fit(Load { context: (pages * PAGE_SLOTS).min(most), ..load });
            cache.saturating_add(scratch) <= bytes
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_is_counted_by_its_shape() {
        let model = PublishedModel::named("glm-4-9b-chat").unwrap();
        let load = |context, users| Load { context, users, kv_type: KvType::F16, device: DeviceKind::Cpu };
        // 40 layers, 2 heads of 128, keys and values, 2 bytes.
        assert_eq!(model.fit(load(131_072, 1)).cache, 40 * 2 * 128 * 2 * 2 * 131_072);
        assert_eq!(model.fit(load(1000, 3)).cache, 40_960 * 3008);
        // Users share a step.
        assert_eq!(model.fit(load(1000, 3)).scratch, model.fit(load(2000, 1)).scratch);
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
        assert_eq!(model.weights("Q4_K"), model.weights("q4_k_m"));
        assert_eq!(model.weights("fp16"), Some(half));
        assert!(model.weights("none").is_none() && model.weights("IQ2_M").is_none());
    }

    #[test]
    fn the_longest_context_fits_and_a_longer_one_does_not() {
        for name in ["glm-4-9b-chat", "chatglm-6b"] {
            let model = PublishedModel::named(name).unwrap();
            let load = |context| Load { context, users: 1, kv_type: KvType::F16, device: DeviceKind::Cuda };
            for bytes in [0, 1 << 20, 300 << 20, 3 << 30, 1 << 40] {
                let context = model.longest(bytes, load(8000));
                let total = |context| {
                    let Fit { cache, scratch } = model.fit(load(context));
                    cache + scratch
                };
                assert!(context == 0 || total(context) <= bytes, "{name} {bytes}");
                assert!(context == 8000 || total(context + PAGE_SLOTS) > bytes, "{name} {bytes} {context}");
            }
        }
    }
}
