//! Sampling as flags say it, and as it is shown.

use glimmer::Sampling;
use serde::Serialize;

use crate::args::SamplingArgs;

/// Sets what the flags say; the rest stays the model's own.
pub(crate) fn set_by_flags(sampling: &mut Sampling, args: &SamplingArgs) {
    let set = |to: &mut f32, value: Option<f32>| *to = value.unwrap_or(*to);
    set(&mut sampling.temperature, args.temperature);
    set(&mut sampling.top_p, args.top_p);
    set(&mut sampling.min_p, args.min_p);
    set(&mut sampling.repetition_penalty, args.repetition_penalty);
    set(&mut sampling.presence_penalty, args.presence_penalty);
    set(&mut sampling.frequency_penalty, args.frequency_penalty);
    sampling.top_k = args.top_k.unwrap_or(sampling.top_k);
    sampling.logit_bias.clone_from(&args.logit_bias);
    sampling.seed = args.seed.unwrap_or(sampling.seed);
}

/// The settings as they are shown and recorded.
#[derive(Debug, Serialize)]
pub(crate) struct Shown {
    temperature: f32,
    top_k: usize,
    top_p: f32,
    min_p: f32,
    repetition_penalty: f32,
    presence_penalty: f32,
    frequency_penalty: f32,
    seed: u64,
}

impl From<&Sampling> for Shown {
    fn from(s: &Sampling) -> Self {
        Shown {
            temperature: s.temperature,
            top_k: s.top_k,
            top_p: s.top_p,
            min_p: s.min_p,
            repetition_penalty: s.repetition_penalty,
            presence_penalty: s.presence_penalty,
            frequency_penalty: s.frequency_penalty,
            seed: s.seed,
        }
    }
}
