//! A smaller model that guesses: answers are the same with and without it, whatever it guesses, however little room it has, and
//! when it fails; and it guesses as the large one chooses where the two think alike.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use glimmer_engine::{
    Companions, Engine, EngineOptions, Foretold, Request, Sampling, Speculation, Statistics,
};
use glimmer_tensor::{Compute, KvType};
use support::{OPTIONS, at_rest, decoder, engine, fixture, greedy, hear};

const NAME: &str = "glm-edge-1.5b-chat";

/// The fixture with this one as its draft.
fn drafted(draft: &str, options: EngineOptions) -> Engine {
    let [own, draft] = [NAME, draft].map(|name| decoder(&fixture(name), Compute::F32));
    Engine::start_with(own, Companions { draft: Some(draft), ..Companions::default() }, options).unwrap()
}

/// Answers of every kind of choice.
fn requests(speculation: Speculation) -> Vec<Request> {
    let samplings = [
        Sampling::default(),
        Sampling { temperature: 1.0, ..Sampling::default() },
        Sampling { temperature: 0.8, top_p: 0.9, ..Sampling::default() },
        Sampling { temperature: 1.5, top_k: 20, repetition_penalty: 1.2, ..Sampling::default() },
    ];
    let request = |i: usize| Request {
        sampling: Sampling { seed: i as u64, ..samplings[i % samplings.len()].clone() },
        speculation,
        ..greedy((3..20 + 9 * i as u32).collect(), 40)
    };
    (0..8).map(request).collect()
}

fn tokens(engine: &Engine, requests: &[Request]) -> Vec<Vec<u32>> {
    let heard: Vec<_> = requests.iter().map(|request| engine.answer(request.clone())).collect();
    heard.iter().map(|events| hear(events).tokens).collect()
}

/// The share of guesses that were right.
fn acceptance(statistics: &Statistics) -> f64 {
    statistics.draft_model_accepted as f64 / statistics.draft_model_tokens as f64
}

#[test]
fn answers_are_the_same_whoever_guesses() {
    let expected = tokens(&engine(NAME, OPTIONS), &requests(Speculation::Off));
    // Itself, and one that knows nothing.
    for (draft, is_alike) in [(NAME, true), ("glm4-9b-0414", false)] {
        for speculation in [Speculation::Always, Speculation::Auto] {
            let engine = drafted(draft, OPTIONS);
            assert_eq!(tokens(&engine, &requests(speculation)), expected, "{draft}, {speculation:?}");
            let statistics = at_rest(&engine);
            assert!(statistics.draft_model_tokens > 20, "{draft}: {statistics:?}");
            // What the two draw with is the same; penalties alone see the guesses before theirs.
            assert_eq!(acceptance(&statistics) > 0.95, is_alike, "{draft}: {statistics:?}");
        }
    }
}

#[test]
fn guesses_that_are_never_right_end() {
    let engine = drafted("glm4-9b-0414", OPTIONS);
    let long = |i: u32| Request { max_tokens: 120, ..greedy((3 + i..40 + i).collect(), 120) };
    let answers: Vec<Request> = (0..40).map(long).collect();
    tokens(&engine, &answers);
    let statistics = at_rest(&engine);
    assert!(statistics.draft_model_tokens < statistics.generated_tokens / 10, "{statistics:?}");
}

#[test]
fn little_room_changes_no_answer() {
    let expected = tokens(&engine(NAME, OPTIONS), &requests(Speculation::Off));
    for (slots, rows) in [(256, 8), (288, 24), (1024, 9)] {
        let options = EngineOptions { slots, rows, running: 6, kv_type: KvType::F32, ..OPTIONS };
        let engine = drafted(NAME, options);
        for _ in 0..2 {
            assert_eq!(tokens(&engine, &requests(Speculation::Always)), expected, "{slots}, {rows}");
        }
        assert!(at_rest(&engine).draft_model_accepted > 0);
    }
}

#[test]
fn what_is_foretold_is_as_right_as_is_said() {
    let plain = engine(NAME, OPTIONS);
    let request = Request { max_tokens: 200, ..greedy((3..30).collect(), 200) };
    let answer = hear(&plain.answer(request.clone())).tokens;
    for right in [0.0, 0.8, 1.0] {
        let engine = drafted("glm4-9b-0414", OPTIONS);
        let foretold = Some(Foretold { answer: answer.clone(), right });
        let request = Request { foretold, speculation: Speculation::Always, ..request.clone() };
        // What repeats itself is guessed without a model.
        let sampling = Sampling { temperature: 0.0, ..Sampling::default() };
        assert_eq!(hear(&engine.answer(Request { sampling, ..request })).tokens, answer);
        let statistics = at_rest(&engine);
        assert!((acceptance(&statistics) - right).abs() < 0.15, "{right}: {statistics:?}");
    }
}
