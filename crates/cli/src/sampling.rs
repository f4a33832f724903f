//! Which sampling an answer gets. For each setting: the flag, else the model's `generation_config.json` (in a GGUF
//! `general.sampling.*`), else what the model of this chat format was published with, else the likeliest token.

use std::hash::{BuildHasher, RandomState};

use glimmer_chat::Format;
use glimmer_checkpoint::Checkpoint;
use glimmer_engine::Sampling;
use glimmer_models::export::generation_config_json;
use serde::Serialize;
use serde_json::Value;

use crate::args::SamplingArgs;

/// What the flags leave open comes from the checkpoint and the format. Without `--seed` the seed is a new one.
pub(crate) fn sampling(args: &SamplingArgs, checkpoint: &Checkpoint, format: Option<Format>) -> Sampling {
    let mut sampling = format.map_or_else(Sampling::default, published);
    if let Some(config) = generation_config_json(checkpoint) {
        configured(&mut sampling, &config);
    }
    flagged(&mut sampling, args);
    sampling.seed = args.seed.unwrap_or_else(|| RandomState::new().hash_one(()) >> 32);
    sampling
}

fn published(format: Format) -> Sampling {
    let defaults = format.defaults();
    Sampling {
        temperature: if defaults.do_sample { defaults.temperature } else { 0.0 },
        top_p: defaults.top_p,
        top_k: defaults.top_k.unwrap_or(0) as usize,
        repetition_penalty: defaults.repetition_penalty,
        ..Sampling::default()
    }
}

/// Takes what `generation_config.json` sets, where it is a number that makes sense.
fn configured(sampling: &mut Sampling, config: &Value) {
    let number = |name: &str, accepts: fn(f32) -> bool| {
        config.get(name).and_then(Value::as_f64).map(|x| x as f32).filter(|&x| x.is_finite() && accepts(x))
    };
    let set = |to: &mut f32, value: Option<f32>| *to = value.unwrap_or(*to);
    match config.get("do_sample").and_then(Value::as_bool) {
        Some(false) => sampling.temperature = 0.0,
        // Sampling without a temperature is sampling at 1 (transformers' GenerationConfig).
        Some(true) => sampling.temperature = number("temperature", |x| x >= 0.0).unwrap_or(1.0),
        None => set(&mut sampling.temperature, number("temperature", |x| x >= 0.0)),
    }
    set(&mut sampling.top_p, number("top_p", |x| x > 0.0 && x <= 1.0));
    set(&mut sampling.min_p, number("min_p", |x| (0.0..=1.0).contains(&x)));
    set(&mut sampling.repetition_penalty, number("repetition_penalty", |x| x > 0.0));
    if let Some(top_k) = config.get("top_k").and_then(Value::as_u64) {
        sampling.top_k = top_k as usize;
    }
}

fn flagged(sampling: &mut Sampling, args: &SamplingArgs) {
    let set = |to: &mut f32, value: Option<f32>| *to = value.unwrap_or(*to);
    set(&mut sampling.temperature, args.temperature);
    set(&mut sampling.top_p, args.top_p);
    set(&mut sampling.min_p, args.min_p);
    set(&mut sampling.repetition_penalty, args.repetition_penalty);
    set(&mut sampling.presence_penalty, args.presence_penalty);
    set(&mut sampling.frequency_penalty, args.frequency_penalty);
    sampling.top_k = args.top_k.unwrap_or(sampling.top_k);
    sampling.logit_bias.clone_from(&args.logit_bias);
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(format: Option<Format>, config: &Value) -> (f32, f32, usize, f32) {
        let mut sampling = format.map_or_else(Sampling::default, published);
        configured(&mut sampling, config);
        (sampling.temperature, sampling.top_p, sampling.top_k, sampling.repetition_penalty)
    }

    #[test]
    fn the_file_goes_before_the_format_and_the_format_before_greedy() {
        let nothing = json!({});
        assert_eq!(of(None, &nothing), (0.0, 1.0, 0, 1.0));
        assert_eq!(of(Some(Format::Glm4), &nothing), (0.8, 0.8, 0, 1.0));
        assert_eq!(of(Some(Format::Glm40414), &nothing), (0.0, 1.0, 0, 1.0));
        assert_eq!(of(Some(Format::GlmEdge), &nothing), (0.6, 0.8, 0, 1.2));
        let config = json!({"do_sample": true, "temperature": 0.5, "top_k": 3});
        assert_eq!(of(Some(Format::Glm4), &config), (0.5, 0.8, 3, 1.0));
        assert_eq!(of(None, &json!({"do_sample": true})), (1.0, 1.0, 0, 1.0));
        assert_eq!(of(Some(Format::Glm4), &json!({"do_sample": false, "temperature": 0.5})).0, 0.0);
        // What makes no sense is left out.
        let wrong = json!({"temperature": "hot", "top_p": 7, "top_k": -1, "repetition_penalty": 0});
        assert_eq!(of(Some(Format::Glm4), &wrong), (0.8, 0.8, 0, 1.0));
    }
}
