//! The engine over a real decoder: greedy answers equal the reference's whatever else is going on, equal beginnings are
//! computed once, a receiver that goes away frees everything, and a request that fails harms nobody else.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::{Path, PathBuf};
use std::sync::mpsc::Receiver;

use glimmer_checkpoint::Checkpoint;
use glimmer_cpu::{CpuDevice, CpuOptions};
use glimmer_engine::{Engine, EngineError, EngineOptions, Event, Finish, Request, Sampling};
use glimmer_models::{load, understand};
use glimmer_tensor::{Compute, KvType};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(name)
}

/// An integer tensor of a fixture's `expected.safetensors`, read by the checkpoint crate.
fn ids(name: &str, tensor: &str) -> Vec<u32> {
    let file = Checkpoint::open(&fixture(name).join("expected.safetensors")).unwrap();
    let view = file.tensor(tensor).unwrap();
    view.data.chunks_exact(8).map(|b| i64::from_le_bytes(b.try_into().unwrap()) as u32).collect()
}

fn engine(name: &str, options: EngineOptions) -> Engine {
    let checkpoint = Checkpoint::open(&fixture(name)).unwrap();
    let understood = understand(&checkpoint, None).unwrap();
    let device = CpuDevice::new(CpuOptions { threads: Some(1), compute: Compute::F32, isa: None }).unwrap();
    let decoder = load(&checkpoint, &understood, Box::new(device), &mut |_, _| {}).unwrap();
    Engine::start(decoder, options).unwrap()
}

const OPTIONS: EngineOptions =
    EngineOptions { context: 256, slots: 1024, rows: 64, running: 8, waiting: 64, kv_type: KvType::F32 };

fn greedy(prompt: Vec<u32>, max_tokens: usize) -> Request {
    Request {
        prompt,
        continued: 0,
        max_tokens,
        stop_ids: Vec::new(),
        sampling: Sampling::default(),
        logprobs: None,
        priority: 0,
    }
}

struct Heard {
    tokens: Vec<u32>,
    cached: usize,
    end: Result<Finish, String>,
}

fn hear(events: &Receiver<Event>) -> Heard {
    let mut heard = Heard { tokens: Vec::new(), cached: 0, end: Err("the engine fell silent".to_owned()) };
    for event in events {
        match event {
            Event::Prompt(prompt) => heard.cached = prompt.cached,
            Event::Token(token) => heard.tokens.push(token.id),
            Event::Finished(finish) => heard.end = Ok(finish),
            Event::Failed(error) => heard.end = Err(error.to_string()),
        }
    }
    heard
}

#[test]
fn answers_are_the_references_alone_and_in_a_crowd() {
    for name in ["chatglm-6b", "chatglm3-6b", "glm4-9b-orig", "glm-edge-1.5b-chat", "glm4-9b-0414"] {
        let engine = engine(name, OPTIONS);
        let (prompt, expected) = (ids(name, "gen.input_ids"), ids(name, "gen.new_ids"));
        assert_eq!(hear(&engine.answer(greedy(prompt.clone(), 16))).tokens, expected, "{name} alone");
        let long = ids(name, "long.input_ids");
        let crowd: Vec<_> = (0..12)
            .map(|i| {
                engine.answer(greedy(if i % 3 == 0 { prompt.clone() } else { long.clone() }, 16 + i % 2))
            })
            .collect();
        for (i, events) in crowd.iter().enumerate().filter(|(i, _)| i % 3 == 0) {
            let heard = hear(events);
            assert_eq!(heard.tokens[..16], expected, "{name}, number {i} of a crowd");
            assert_eq!(heard.end, Ok(Finish::Length));
        }
    }
}

#[test]
fn a_pool_too_small_for_all_changes_no_answer() {
    let name = "glm4-9b-0414";
    let roomy = engine(name, OPTIONS);
    let tight = engine(name, EngineOptions { slots: 128, context: 128, rows: 24, running: 6, ..OPTIONS });
    let prompts: Vec<Vec<u32>> = (0..9).map(|i| (5..25 + 3 * i).collect()).collect();
    let expected: Vec<_> =
        prompts.iter().map(|p| hear(&roomy.answer(greedy(p.clone(), 40))).tokens).collect();
    let answers: Vec<_> = prompts.iter().map(|p| tight.answer(greedy(p.clone(), 40))).collect();
    for (events, expected) in answers.iter().zip(expected) {
        assert_eq!(hear(events).tokens, expected);
    }
}

#[test]
fn an_equal_beginning_is_reused_and_changes_nothing() {
    let engine = engine("glm-edge-1.5b-chat", OPTIONS);
    let first: Vec<u32> = (3..103).collect();
    let cold = hear(&engine.answer(greedy(first.clone(), 20)));
    let warm = hear(&engine.answer(greedy(first.clone(), 20)));
    assert_eq!((cold.cached, warm.cached), (0, 96));
    assert_eq!(cold.tokens, warm.tokens);
    // The next turn of the same conversation finds prompt and answer.
    let next: Vec<u32> =
        first.iter().chain(&cold.tokens).copied().chain([9, 8, 7, 6, 5, 4, 3, 9, 8, 7]).collect();
    assert_eq!(hear(&engine.answer(greedy(next, 4))).cached, 96);
}

#[test]
fn a_receiver_that_goes_away_frees_its_pages() {
    let engine =
        engine("glm-edge-1.5b-chat", EngineOptions { context: 128, slots: 128, running: 1, ..OPTIONS });
    for _ in 0..20 {
        let events = engine.answer(greedy((3..60).collect(), 60));
        let _ = events.recv();
        drop(events);
    }
    let heard = hear(&engine.answer(greedy((3..60).collect(), 60)));
    assert_eq!((heard.tokens.len(), heard.end), (60, Ok(Finish::Length)));
}

#[test]
fn requests_that_cannot_be_served_are_told_so_and_harm_nobody() {
    let engine = engine("chatglm-6b", EngineOptions { context: 100, slots: 128, rows: 32, ..OPTIONS });
    let failed = |prompt: Vec<u32>| hear(&engine.answer(greedy(prompt, 4))).end.unwrap_err();
    assert_eq!(failed(Vec::new()), EngineError::EmptyPrompt.to_string());
    assert_eq!(
        failed(vec![7; 101]),
        "ChatGLM-6B needs <sop> (id 284) in the prompt; it ends with [gMASK] <sop>"
    );
    let long: Vec<u32> = (10..60).chain([281, 284]).collect();
    assert_eq!(failed(long), "a bidirectional context of 51 tokens does not fit a step of 32 rows");
    let too_long: Vec<u32> = [10, 281, 284].into_iter().chain((0..100).map(|i| i + 10)).collect();
    assert_eq!(failed(too_long), "the prompt has 103 tokens, the context 100");
    let outside = failed(vec![10, 281, 284, 300]);
    assert!(outside.contains("token id 300 is outside the vocabulary of 300"), "{outside}");
    let (prompt, expected) = (ids("chatglm-6b", "gen.input_ids"), ids("chatglm-6b", "gen.new_ids"));
    assert_eq!(hear(&engine.answer(greedy(prompt, 16))).tokens, expected);
}

#[test]
fn stop_ids_end_an_answer_and_the_context_does() {
    let name = "glm4-9b-orig";
    let engine = engine(name, EngineOptions { context: 40, slots: 64, ..OPTIONS });
    let (prompt, expected) = (ids(name, "gen.input_ids"), ids(name, "gen.new_ids"));
    let stop = expected[5];
    let first = expected.iter().position(|&t| t == stop).unwrap();
    let request = Request { stop_ids: vec![stop], ..greedy(prompt.clone(), 16) };
    let heard = hear(&engine.answer(request));
    assert_eq!((heard.tokens.as_slice(), heard.end), (&expected[..first], Ok(Finish::Stop(stop))));
    let heard = hear(&engine.answer(greedy(prompt.clone(), 1000)));
    assert_eq!((heard.tokens.len(), heard.end), (40 - prompt.len() + 1, Ok(Finish::ContextFull)));
}

#[test]
fn log_probabilities_come_with_tokens_when_asked_for() {
    let name = "glm4-9b-orig";
    let engine = engine(name, OPTIONS);
    let request = Request { logprobs: Some(3), ..greedy(ids(name, "gen.input_ids"), 5) };
    for event in engine.answer(request) {
        if let Event::Token(token) = event {
            assert_eq!(token.top.len(), 3);
            assert_eq!(token.top[0], (token.id, token.logprob.unwrap()));
            assert!(
                token.top[0].1 >= token.top[1].1 && token.top[1].1 >= token.top[2].1 && token.top[0].1 < 0.0
            );
        }
    }
}

#[test]
fn an_answer_that_is_gone_on_with_is_the_answer_in_one() {
    let engine = engine("glm-edge-1.5b-chat", OPTIONS);
    let sampling = Sampling {
        temperature: 1.5,
        repetition_penalty: 1.1,
        frequency_penalty: 0.3,
        presence_penalty: 0.2,
        seed: 7,
        ..Sampling::default()
    };
    let request = Request { sampling, ..greedy((3..40).collect(), 30) };
    let whole = hear(&engine.answer(request.clone())).tokens;
    for begun in [1, 12, 29] {
        let prompt = [&request.prompt, &whole[..begun]].concat();
        let rest = Request { prompt, continued: begun, max_tokens: 30 - begun, ..request.clone() };
        assert_eq!(hear(&engine.answer(rest)).tokens, whole[begun..]);
    }
}
