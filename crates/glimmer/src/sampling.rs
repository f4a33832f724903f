//! How tokens are chosen when nobody says: for each setting the model's `generation_config.json` (in a GGUF
//! `general.sampling.*`), else what models of its chat format were published with, else the likeliest token.

use std::hash::{BuildHasher, RandomState};

use glimmer_chat::Format;
use glimmer_engine::Sampling;
use glimmer_models::export::generation_config_json;
use serde_json::Value;

use crate::{Error, ModelFiles};

/// The defaults of a model: what its configuration sets, over what its chat format was published with.
pub(crate) fn defaults(format: Option<Format>, generation_config: Option<&Value>) -> Sampling {
    let mut sampling = format.map_or_else(Sampling::default, published);
    if let Some(config) = generation_config {
        configured(&mut sampling, config);
    }
    sampling
}

/// The configuration of a model's answers, where its files have one.
pub(crate) fn generation_config(files: &ModelFiles) -> Result<Option<Value>, Error> {
    Ok(generation_config_json(files.checkpoint()?))
}

/// A seed that nobody has had before. It is short enough for people to type again.
pub(crate) fn new_seed() -> u64 {
    RandomState::new().hash_one(()) >> 32
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(format: Option<Format>, config: &Value) -> (f32, f32, usize, f32) {
        let sampling = defaults(format, Some(config));
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
