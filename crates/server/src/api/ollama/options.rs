//! `options`: what Ollama's clients say of how tokens are chosen, and of the machine. Where they say nothing the model's own
//! way counts, not Ollama's.

use glimmer::GenerationParams;
use serde_json::Value;

use crate::api::generation_request::{sampling, stop_strings};
use crate::app::App;
use crate::http::params::Params;

/// What concerns the machine and not the answer, or steers what is off here: the operator decides how models are loaded
/// (`num_ctx` is `--ctx`), and no answer goes on beyond its context (`num_keep`).
const NOTED: [&str; 19] = [
    "num_ctx",
    "num_keep",
    "num_gpu",
    "main_gpu",
    "num_thread",
    "num_batch",
    "num_gqa",
    "numa",
    "use_mmap",
    "use_mlock",
    "low_vram",
    "f16_kv",
    "draft_num_predict",
    "logits_all",
    "vocab_only",
    "embedding_only",
    "mirostat_eta",
    "mirostat_tau",
    "penalize_newline",
];

/// Takes the options into what is asked of an answer by a model of so many tokens.
pub(crate) fn read(options: &mut Params, app: &App, vocab: usize, wanted: &mut GenerationParams) {
    // It is how clients say that any will do.
    let seed = options.integer("seed", i64::MIN..=i64::MAX).filter(|&seed| seed != -1);
    let mut chosen = sampling(options, wanted.sampling.clone(), vocab, app);
    chosen.seed = seed.map_or(wanted.sampling.seed, |seed| seed as u64);
    match options.integer("repeat_last_n", -1..=i64::from(i32::MAX)) {
        Some(0) => chosen.repetition_penalty = 1.0,
        Some(1..) if chosen.repetition_penalty != 1.0 => options.unsupported(
            "repeat_last_n",
            "`options.repeat_last_n`: the penalty is for all tokens of prompt and answer, which is -1; 0 is none",
        ),
        _ => {}
    }
    wanted.sampling = chosen;
    let has_stop = options.has("stop");
    let stop = stop_strings(options, "stop");
    if has_stop {
        wanted.stop = stop;
    }
    // -1 and -2 are up to the context's end.
    if let Some(most) = options.integer("num_predict", -2..=i64::from(i32::MAX)) {
        let limit = app.options.limits.answer_tokens;
        match usize::try_from(most) {
            Ok(most) if most > limit => {
                options.wrong("num_predict", &format!("at most {limit} on this server"));
            }
            Ok(most) => wanted.max_tokens = Some(most),
            Err(_) => wanted.max_tokens = Some(limit).filter(|&limit| limit < usize::MAX),
        }
    }
    for (name, off) in [("typical_p", 1.0), ("tfs_z", 1.0), ("mirostat", 0.0)] {
        if options.value(name).is_some_and(|value| value.as_f64() != Some(off)) {
            options
                .unsupported(name, format!("`options.{name}`: tokens are not chosen so here; {off} is off"));
        }
    }
    for name in NOTED {
        let value = options.value(name);
        if value.is_some_and(|value| !matches!(value, Value::Number(_) | Value::Bool(_))) {
            options.wrong(name, "a number, or true or false");
        }
    }
}
