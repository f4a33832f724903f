//! The engine over a real decoder: greedy answers equal the reference's whatever else is going on, equal beginnings are
//! computed once, a receiver that goes away frees everything, and a request that fails harms nobody else.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that cannot go on has failed")]

mod support;

use std::ops::ControlFlow;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

use glimmer_checkpoint::Checkpoint;
use glimmer_engine::{
    Companions, Engine, EngineError, EngineOptions, Event, Finish, PageEvent, PageKey, Request, Sampling,
    Score, Speculation,
};
use glimmer_tensor::{Compute, KvType};
use support::{OPTIONS, at_rest, decoder, engine, engine_of, fixture, greedy, hear, ids};

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

/// One latent for each token: pages are remembered and shared, and answers are the reference's, as with keys and values.
#[test]
fn latents_are_remembered_and_shared() {
    let dir = fixture("../../shared/fixtures/glm-4.7-flash");
    if !dir.exists() {
        println!("SKIPPED: {} is not there", dir.display());
        return;
    }
    let name = "../../shared/fixtures/glm-4.7-flash";
    let engine = engine(name, OPTIONS);
    let (prompt, expected) = (ids(name, "gen.input_ids"), ids(name, "gen.new_ids"));
    let long: Vec<u32> = (3..103).collect();
    let cold = hear(&engine.answer(greedy(long.clone(), 20)));
    let crowd: Vec<_> = (0..9)
        .map(|i| engine.answer(greedy(if i % 2 == 0 { prompt.clone() } else { long.clone() }, 16)))
        .collect();
    for (i, events) in crowd.iter().enumerate() {
        let heard = hear(events);
        let wanted = if i % 2 == 0 { &expected } else { &cold.tokens };
        assert_eq!(heard.tokens[..16], wanted[..16], "number {i} of a crowd");
        assert_eq!(heard.cached, if i % 2 == 0 { 0 } else { 96 });
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
fn a_listener_can_follow_what_is_remembered() {
    let told = || {
        let events = Arc::new(Mutex::new(Vec::new()));
        let sender = Arc::clone(&events);
        let listener = Box::new(move |event| sender.lock().unwrap().push(event));
        let decoder = decoder(&fixture("glm-edge-1.5b-chat"), Compute::F32);
        let options = EngineOptions { context: 128, slots: 128, ..OPTIONS };
        let companions = Companions { listener: Some(listener), ..Companions::default() };
        let engine = Engine::start_with(decoder, companions, options).unwrap();
        for first in [3, 53, 103, 3] {
            hear(&engine.answer(greedy((first..first + 70).collect(), 4)));
        }
        let remembered = at_rest(&engine).pages_cached;
        drop(engine);
        (Arc::into_inner(events).unwrap().into_inner().unwrap(), remembered)
    };
    let (events, remembered) = told();
    let mut stored = std::collections::HashSet::new();
    for event in &events {
        match *event {
            PageEvent::Stored { key, parent, ids } => {
                assert_eq!(key, PageKey::new(parent, &ids, &[]));
                assert!(stored.insert(key));
            }
            PageEvent::Removed { key } => assert!(stored.remove(&key)),
        }
    }
    assert_eq!(stored.len(), remembered);
    assert!(events.len() > 6, "something had to go: {events:?}");
    assert_eq!((events, remembered), told(), "another run has the same keys");
}

#[test]
fn a_listener_that_panics_harms_no_request() {
    let name = "glm-edge-1.5b-chat";
    let listener = Box::new(|_| panic!("injected"));
    let decoder = decoder(&fixture(name), Compute::F32);
    let companions = Companions { listener: Some(listener), ..Companions::default() };
    let engine = Engine::start_with(decoder, companions, OPTIONS).unwrap();
    let (prompt, expected) = (ids(name, "gen.input_ids"), ids(name, "gen.new_ids"));
    let long = greedy((3..103).collect(), 2);
    for _ in 0..2 {
        assert_eq!(hear(&engine.answer(long.clone())).end, Ok(Finish::Length));
        assert_eq!(hear(&engine.answer(greedy(prompt.clone(), 16))).tokens, expected);
    }
    assert_eq!(at_rest(&engine).failed, 0);
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
    assert_eq!(failed(too_long), "the prompt has 103 tokens, the context 100: no room for an answer");
    let outside = failed(vec![10, 281, 284, 300]);
    assert!(outside.contains("token id 300 is outside the vocabulary of 300"), "{outside}");
    let mad = Sampling { temperature: f32::NAN, ..Sampling::default() };
    let mad = hear(&engine.answer(Request { sampling: mad, ..greedy(vec![10, 281, 284], 4) }));
    assert_eq!(mad.end, Err("temperature is NaN".to_owned()));
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
    assert_eq!((heard.tokens.len(), heard.end), (40 - prompt.len(), Ok(Finish::ContextFull)));
}

#[test]
fn prompt_and_answer_are_at_most_the_context() {
    let engine = engine("glm4-9b-orig", EngineOptions { context: 70, slots: 128, ..OPTIONS });
    let ask = |prompt: u32, max_tokens, speculation| {
        let request = Request { speculation, ..greedy((3..3 + prompt).collect(), max_tokens) };
        let heard = hear(&engine.answer(request));
        (heard.tokens.len(), heard.end)
    };
    for speculation in [Speculation::Off, Speculation::Always] {
        for prompt in [1, 30, 31, 32, 33, 63, 64, 65, 68, 69] {
            let room = 70 - prompt as usize;
            assert_eq!(ask(prompt, usize::MAX, speculation), (room, Ok(Finish::ContextFull)));
            assert_eq!(ask(prompt, room + 1, speculation), (room, Ok(Finish::ContextFull)));
            assert_eq!(ask(prompt, room, speculation), (room, Ok(Finish::Length)));
        }
        let refusal =
            |prompt| Err(format!("the prompt has {prompt} tokens, the context 70: no room for an answer"));
        assert_eq!(ask(70, 1, speculation), (0, refusal(70)));
        assert_eq!(ask(71, 0, speculation), (0, refusal(71)));
        // Nothing but the prompt is wanted.
        assert_eq!(ask(70, 0, speculation), (0, Ok(Finish::Length)));
    }
    at_rest(&engine);
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
    // The stop id has one, too, though it is no part of the answer.
    let asked = |stop_ids| Request { logprobs: Some(1), stop_ids, ..greedy(ids(name, "gen.input_ids"), 16) };
    let whole = hear(&engine.answer(asked(Vec::new())));
    let first = whole.tokens.iter().position(|&token| token == whole.tokens[5]).unwrap();
    let stopped = hear(&engine.answer(asked(vec![whole.tokens[5]])));
    assert_eq!(
        (stopped.tokens.as_slice(), stopped.logprobs.as_slice()),
        (&whole.tokens[..first], &whole.logprobs[..=first])
    );
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

#[test]
fn a_sink_that_panics_ends_its_own_request_only() {
    let name = "glm-edge-1.5b-chat";
    let engine = engine(name, OPTIONS);
    let (prompt, expected) = (ids(name, "gen.input_ids"), ids(name, "gen.new_ids"));
    for panics_at in [0, 1, 2, 7] {
        let (failures, failed) = channel();
        let mut heard = 0;
        let good: Vec<_> = (0..3).map(|_| engine.answer(greedy(prompt.clone(), 16))).collect();
        let sink = move |event| {
            if let Event::Failed(error) = event {
                failures.send(error.to_string()).unwrap();
                return ControlFlow::Continue(());
            }
            heard += 1;
            assert!(heard <= panics_at, "injected");
            ControlFlow::Continue(())
        };
        engine.submit(greedy(prompt.clone(), 16), Box::new(sink));
        for events in &good {
            assert_eq!(hear(events).tokens, expected);
        }
        assert_eq!(failed.recv().unwrap(), "a fault in the program: injected");
        at_rest(&engine);
    }
    // Even its last event, and its drop.
    struct Unlucky;
    impl Drop for Unlucky {
        fn drop(&mut self) {
            panic!("injected at the end");
        }
    }
    let unlucky = Unlucky;
    let sink = move |_| {
        let _ = &unlucky;
        ControlFlow::Continue(())
    };
    engine.submit(greedy(prompt.clone(), 2), Box::new(sink));
    assert_eq!(hear(&engine.answer(greedy(prompt, 16))).tokens, expected);
    let statistics = at_rest(&engine);
    assert_eq!((statistics.failed, statistics.finished), (4, 4 * 3 + 2));
}

#[test]
fn a_request_that_breaks_the_model_breaks_no_other() {
    let name = "glm4-9b-0414";
    let copy = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(fixture(name)).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
    }
    // The embedding of one token is not a number.
    let checkpoint = Checkpoint::open(copy.path()).unwrap();
    let table = checkpoint.info("model.embed_tokens.weight").unwrap().clone();
    drop(checkpoint);
    let mut bytes = std::fs::read(&table.file).unwrap();
    let row = table.bytes / table.shape[0];
    bytes[table.offset as usize + 77 * row..][..row].fill(0xff);
    std::fs::write(&table.file, bytes).unwrap();

    let engine = engine_of(copy.path(), Compute::F32, EngineOptions { rows: 16, ..OPTIONS });
    let (prompt, expected) = (ids(name, "gen.input_ids"), ids(name, "gen.new_ids"));
    assert!(!prompt.contains(&77) && !expected.contains(&77));
    for place in [0, 20, 49] {
        let mut bad: Vec<u32> = (100..150).collect();
        bad[place] = 77;
        let answers: Vec<_> = (0..6)
            .map(|i| engine.answer(greedy(if i % 2 == 0 { prompt.clone() } else { bad.clone() }, 16)))
            .collect();
        for (i, events) in answers.iter().enumerate() {
            let heard = hear(events);
            if i % 2 == 0 {
                assert_eq!((heard.tokens.as_slice(), heard.end), (expected.as_slice(), Ok(Finish::Length)));
            } else {
                assert!(heard.end.unwrap_err().contains("not finite"));
            }
        }
        at_rest(&engine);
    }
}

#[test]
fn prompt_log_probabilities_are_the_references() {
    for name in ["glm4-9b-orig", "glm-edge-1.5b-chat", "chatglm3-6b", "chatglm-6b"] {
        let engine = engine(name, EngineOptions { running: 2, rows: 64, ..OPTIONS });
        let prompt = ids(name, "long.input_ids");
        let stored = Checkpoint::open(&fixture(name).join("expected.safetensors")).unwrap();
        let logits = stored.vector_f32("long.logits").unwrap();
        let vocab = logits.len() / prompt.len();
        // ChatGLM-6B's context attends both ways: what follows is no prediction there.
        let context = if name == "chatglm-6b" { prompt.iter().position(|&id| id == 284).unwrap() } else { 0 };
        // Remembered or not, alone and twice: they are always computed.
        hear(&engine.answer(greedy(prompt.clone(), 3)));
        let request = Request { prompt_logprobs: Some(2), ..greedy(prompt.clone(), 0) };
        for events in [engine.answer(request.clone()), engine.answer(request.clone())] {
            let heard = hear(&events);
            assert_eq!((heard.end, heard.tokens.len()), (Ok(Finish::Length), 0));
            let places: Vec<usize> = heard.scores.iter().map(|s| s.index).collect();
            assert_eq!(places, (context + 1..prompt.len()).collect::<Vec<_>>(), "{name}");
            for Score { index: place, id, logprob, top } in heard.scores {
                assert_eq!(id, prompt[place]);
                let row = &logits[(place - 1) * vocab..place * vocab];
                let sum: f64 = row.iter().map(|&l| f64::from(l).exp()).sum();
                let log = |id: u32| f64::from(row[id as usize]) - sum.ln();
                assert!((f64::from(logprob) - log(id)).abs() < 2e-4, "{name}, token {place}");
                let best = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                assert!(top.len() == 2 && (row[top[0].0 as usize] - best).abs() < 2e-4);
                assert!(top.iter().all(|&(id, l)| (f64::from(l) - log(id)).abs() < 2e-4));
            }
        }
        // With an answer after them that is the same as ever.
        let expected = hear(&engine.answer(greedy(prompt.clone(), 9))).tokens;
        assert_eq!(hear(&engine.answer(Request { max_tokens: 9, ..request })).tokens, expected);
        at_rest(&engine);
    }
}

#[test]
fn copies_are_the_answers_of_their_seeds_and_compute_the_prompt_once() {
    for name in ["glm-edge-1.5b-chat", "chatglm-6b"] {
        let prompt: Vec<u32> = match name {
            "chatglm-6b" => (10..70).chain([281, 284]).collect(),
            _ => (3..73).collect(),
        };
        let sampling = Sampling { temperature: 1.0, seed: 40, ..Sampling::default() };
        let request = Request { sampling: sampling.clone(), ..greedy(prompt.clone(), 20) };
        let alone: Vec<_> = (0..5)
            .map(|i| {
                let sampling = Sampling { seed: 40 + i, ..sampling.clone() };
                let engine = engine(name, OPTIONS);
                hear(&engine.answer(Request { sampling, ..request.clone() })).tokens
            })
            .collect();
        assert_ne!(alone[0], alone[1]);
        let engine = engine(name, OPTIONS);
        let copies: Vec<_> = engine.answers(request, 5).iter().map(|events| hear(events).tokens).collect();
        assert_eq!(copies, alone, "{name}");
        let statistics = at_rest(&engine);
        let shared = (prompt.len() - 1) / 32 * 32;
        assert_eq!(statistics.prompt_tokens as usize, prompt.len() + 4 * (prompt.len() - shared));
        assert_eq!(statistics.cached_tokens as usize, 4 * shared);
        assert_eq!((statistics.finished, statistics.generated_tokens), (5, 100));
    }
}

#[test]
fn a_queue_takes_all_copies_or_none_and_forgets_who_went_away() {
    let options = EngineOptions { running: 1, waiting: 3, ..OPTIONS };
    let engine = engine("glm-edge-1.5b-chat", options);
    for events in engine.answers(greedy((3..40).collect(), 4), 4) {
        assert!(hear(&events).end.unwrap_err().starts_with("the queue is full"));
    }
    let long = engine.answer(greedy((3..40).collect(), 200));
    // It runs, so the queue is empty; then it is full of people who leave.
    assert!(matches!(long.recv().unwrap(), Event::Prompt(_)));
    drop(engine.answers(greedy((3..40).collect(), 200), 3));
    let patient = engine.answer(greedy((3..40).collect(), 2));
    drop(long);
    assert_eq!(hear(&patient).tokens.len(), 2);
    at_rest(&engine);
}

#[test]
fn speculation_changes_no_bit_of_any_answer() {
    let names = [
        "chatglm-6b",
        "chatglm-6b-int4",
        "chatglm-6b-int8",
        "chatglm2-6b",
        "chatglm2-6b-32k",
        "chatglm2-6b-int4",
        "chatglm3-6b",
        "chatglm3-6b-32k",
        "glm-4-9b-chat-hf",
        "glm-edge-1.5b-chat",
        "glm-edge-k256",
        "glm4-32b-0414",
        "glm4-9b-0414",
        "glm4-9b-orig",
        "glm4-9b-orig-k256",
    ];
    for (name, compute, kv_type) in
        names.iter().flat_map(|name| [(name, Compute::F32, KvType::F32), (name, Compute::Auto, KvType::F16)])
    {
        let engine = engine_of(&fixture(name), compute, EngineOptions { kv_type, ..OPTIONS });
        let mut prompts = vec![ids(name, "gen.input_ids"), ids(name, "long.input_ids")];
        // One that repeats itself, so that there is much to guess.
        let often = prompts[0].repeat(5);
        prompts.push(often);
        let samplings = [
            Sampling::default(),
            Sampling { temperature: 0.4, seed: 5, ..Sampling::default() },
            Sampling {
                temperature: 0.9,
                top_p: 0.8,
                repetition_penalty: 1.1,
                seed: 6,
                ..Sampling::default()
            },
        ];
        let mut accepted = 0;
        for (prompt, sampling) in prompts.iter().flat_map(|p| samplings.iter().map(move |s| (p, s))) {
            let ask = |speculation| Request {
                sampling: sampling.clone(),
                logprobs: Some(0),
                speculation,
                ..greedy(prompt.clone(), 60)
            };
            let plain = hear(&engine.answer(ask(Speculation::Off)));
            assert_eq!(plain.tokens.len(), 60);
            // Alone, and in company with others that guess.
            let company: Vec<_> = [Speculation::Always, Speculation::Auto, Speculation::Always]
                .map(|speculation| engine.answer(ask(speculation)))
                .into();
            for events in &company {
                let guessed = hear(events);
                assert_eq!(guessed.tokens, plain.tokens, "{name} {compute:?} {sampling:?}");
                assert_eq!(guessed.logprobs, plain.logprobs, "{name} {compute:?} {sampling:?}");
            }
            accepted = engine.statistics().accepted_tokens;
        }
        let statistics = at_rest(&engine);
        println!("{name} {compute:?}: {accepted} of {} guesses were right", statistics.drafted_tokens);
        assert!(statistics.drafted_tokens > 0);
    }
}

#[test]
fn guesses_end_with_the_answer() {
    let name = "glm4-9b-orig";
    let engine = engine(name, EngineOptions { context: 100, slots: 128, ..OPTIONS });
    let prompt = ids(name, "gen.input_ids").repeat(3);
    let ask = |speculation, max_tokens| Request { speculation, ..greedy(prompt.clone(), max_tokens) };
    let plain = hear(&engine.answer(ask(Speculation::Off, 1000)));
    assert_eq!(plain.end, Ok(Finish::ContextFull));
    let guessed = hear(&engine.answer(ask(Speculation::Always, 1000)));
    let statistics = at_rest(&engine);
    let (accepted, made) = (statistics.accepted_tokens, statistics.drafted_tokens);
    assert!(0 < accepted && accepted < made, "{accepted} of {made} guesses were right");
    assert_eq!(guessed.guesses, (accepted, made - accepted));
    assert_eq!((guessed.tokens, guessed.end), (plain.tokens.clone(), plain.end));
    for max_tokens in 1..12 {
        let guessed = hear(&engine.answer(ask(Speculation::Always, max_tokens)));
        assert_eq!(
            (guessed.tokens.as_slice(), guessed.end),
            (&plain.tokens[..max_tokens], Ok(Finish::Length))
        );
        let stop = plain.tokens[max_tokens];
        let until = plain.tokens.iter().position(|&id| id == stop).unwrap();
        let request = Request { stop_ids: vec![stop], ..ask(Speculation::Always, 1000) };
        let guessed = hear(&engine.answer(request));
        assert_eq!(
            (guessed.tokens.as_slice(), guessed.end),
            (&plain.tokens[..until], Ok(Finish::Stop(stop)))
        );
    }
    at_rest(&engine);
}

#[test]
fn sixty_four_of_all_kinds_at_once_are_each_as_alone() {
    let name = "glm-edge-1.5b-chat";
    let reference = engine(name, EngineOptions { running: 1, rows: 256, ..OPTIONS });
    let options = EngineOptions { slots: 512, rows: 48, running: 12, waiting: 200, ..OPTIONS };
    let engine = engine(name, options);
    let request = |i: u64| {
        let beginning = (0..40).map(|t| (t * 7 + i as u32 % 3) % 250);
        let own = (0..(i * 13 % 60) as u32 + 1).map(|t| (t * 11 + i as u32) % 250);
        let temperature = if i.is_multiple_of(2) { 0.0 } else { 0.8 };
        let penalty = if i.is_multiple_of(5) { 1.2 } else { 1.0 };
        Request {
            prompt: beginning.chain(own).collect(),
            max_tokens: (i * 7 % 50) as usize + 1,
            sampling: Sampling { temperature, repetition_penalty: penalty, seed: i, ..Sampling::default() },
            logprobs: Some(0),
            prompt_logprobs: (i % 4 == 1).then_some(1),
            priority: (i % 3) as i32 - 1,
            speculation: [Speculation::Always, Speculation::Auto, Speculation::Off][i as usize % 3],
            ..Request::default()
        }
    };
    for round in 0..3 {
        let asked: Vec<_> = (0..64u64)
            .map(|i| match i % 8 {
                6 => vec![engine.answer(Request { prompt: vec![3; 300], ..Request::default() })],
                7 => engine.answers(request(i), 3),
                _ => vec![engine.answer(request(i))],
            })
            .collect();
        let mut asked: Vec<_> = asked.into_iter().map(Some).collect();
        // Some leave at once, some after their first word.
        for i in (0..64).step_by(9) {
            let left = asked[i].take().unwrap();
            if i % 2 == round % 2 {
                let _ = left[0].recv();
            }
        }
        for (i, answers) in asked.iter().enumerate() {
            for (copy, events) in answers.iter().flatten().enumerate() {
                let heard = hear(events);
                if i % 8 == 6 {
                    assert_eq!(
                        heard.end,
                        Err("the prompt has 300 tokens, the context 256: no room for an answer".to_owned())
                    );
                    continue;
                }
                let mut alone = request(i as u64);
                alone.sampling.seed += copy as u64;
                alone.speculation = Speculation::Off;
                let alone = hear(&reference.answer(alone));
                assert_eq!((heard.tokens, heard.logprobs), (alone.tokens, alone.logprobs), "request {i}");
                assert!(copy > 0 || heard.scores == alone.scores, "request {i}");
            }
        }
        assert!(at_rest(&engine).preemptions > 0);
    }
}
