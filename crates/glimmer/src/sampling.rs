//! How tokens are chosen when nobody says: for each setting the model's `generation_config.json` (in a GGUF
//! `general.sampling.*`), else what models of its chat format were published with, else the likeliest token.

use std::hash::{BuildHasher, RandomState};

use glimmer_config::{Configuration, Family, SamplingDefaults};
use glimmer_engine::Sampling;

/// The defaults of a model: what its configuration sets, over what its chat format was published with.
pub(crate) fn defaults(format: Option<Family>, configuration: &Configuration) -> Sampling {
    let published = format.map(SamplingDefaults::published).unwrap_or_default();
    let defaults = configuration.sampling().or(published);
    let greedy = Sampling::default();
    Sampling {
        temperature: defaults.temperature().unwrap_or(greedy.temperature),
        top_k: defaults.top_k.unwrap_or(greedy.top_k),
        top_p: defaults.top_p.unwrap_or(greedy.top_p),
        min_p: defaults.min_p.unwrap_or(greedy.min_p),
        repetition_penalty: defaults.repetition_penalty.unwrap_or(greedy.repetition_penalty),
        ..greedy
    }
}

/// A seed that nobody has had before. It is short enough for people to type again.
pub(crate) fn new_seed() -> u64 {
    RandomState::new().hash_one(()) >> 32
}
