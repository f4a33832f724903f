//! An engine over a real decoder, and what is heard of an answer.

#![allow(dead_code, reason = "not every topic uses all of it")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

pub(crate) mod recorded;

use std::path::{Path, PathBuf};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use glimmer_checkpoint::Checkpoint;
use glimmer_cpu::{CpuDevice, CpuOptions};
use glimmer_engine::{Engine, EngineOptions, Event, Finish, Request, Score, Statistics};
use glimmer_models::{Decoder, ModelWeights, load, understand};
use glimmer_tensor::{Compute, KvType};

pub(crate) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(name)
}

/// An integer tensor of a fixture's `expected.safetensors`, read by the checkpoint crate.
pub(crate) fn ids(name: &str, tensor: &str) -> Vec<u32> {
    let file = Checkpoint::open(&fixture(name).join("expected.safetensors")).unwrap();
    let view = file.tensor(tensor).unwrap();
    view.data.chunks_exact(8).map(|b| i64::from_le_bytes(b.try_into().unwrap()) as u32).collect()
}

pub(crate) fn engine(name: &str, options: EngineOptions) -> Engine {
    engine_of(&fixture(name), Compute::F32, options)
}

pub(crate) fn engine_of(directory: &Path, compute: Compute, options: EngineOptions) -> Engine {
    Engine::start(decoder(directory, compute), options).unwrap()
}

pub(crate) fn decoder(directory: &Path, compute: Compute) -> Decoder {
    let checkpoint = Checkpoint::open(directory).unwrap();
    let understood = understand(&checkpoint, None).unwrap();
    let device = CpuDevice::new(CpuOptions { threads: Some(1), compute, isa: None }).unwrap();
    load(ModelWeights::stored(&checkpoint, &understood), Box::new(device), &mut |_, _| {}).unwrap()
}

pub(crate) const OPTIONS: EngineOptions =
    EngineOptions { context: 256, slots: 1024, rows: 64, running: 8, waiting: 64, kv_type: KvType::F32 };

pub(crate) fn greedy(prompt: Vec<u32>, max_tokens: usize) -> Request {
    Request { prompt, max_tokens, ..Request::default() }
}

pub(crate) struct Heard {
    pub(crate) tokens: Vec<u32>,
    /// Bits of their log-probabilities, where asked for.
    pub(crate) logprobs: Vec<u32>,
    pub(crate) cached: usize,
    /// Tokens that had been guessed, and guesses that were wrong.
    pub(crate) guesses: (u64, u64),
    pub(crate) scores: Vec<Score>,
    pub(crate) end: Result<Finish, String>,
}

pub(crate) fn hear(events: &Receiver<Event>) -> Heard {
    let (tokens, logprobs, scores) = (Vec::new(), Vec::new(), Vec::new());
    let end = Err("the engine fell silent".to_owned());
    let mut heard = Heard { tokens, logprobs, cached: 0, guesses: (0, 0), scores, end };
    for event in events {
        match event {
            Event::Prompt(prompt) => {
                heard.cached = prompt.cached;
                heard.scores.extend(prompt.scores);
            }
            Event::Token(token) => {
                heard.tokens.push(token.id);
                heard.guesses.0 += u64::from(token.guessed);
                heard.guesses.1 += token.rejected as u64;
                heard.logprobs.extend(token.logprob.map(f32::to_bits));
            }
            Event::Stop(token) => heard.logprobs.extend(token.logprob.map(f32::to_bits)),
            Event::Finished(finish) => heard.end = Ok(finish),
            Event::Failed(error) => heard.end = Err(error.to_string()),
        }
    }
    heard
}

/// The statistics once nothing is left to do.
pub(crate) fn at_rest(engine: &Engine) -> Statistics {
    let begin = Instant::now();
    loop {
        let statistics = engine.statistics();
        if statistics.running + statistics.waiting == 0 {
            assert_eq!(statistics.pages_used, 0, "{statistics:?}");
            return statistics;
        }
        assert!(begin.elapsed() < Duration::from_secs(20), "{statistics:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
