//! What an engine asks of its device in a step: how little of the logits is read, and what is told while the next step is
//! computed.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use glimmer_engine::{Engine, EngineOptions, Event, Finish, Request, Sampling, Speculation};
use support::recorded::{Act, Acts, recorded};
use support::{OPTIONS, at_rest, greedy, hear};

const NAME: &str = "glm-edge-1.5b-chat";

fn engine(runs_ahead: bool, options: EngineOptions) -> (Engine, Acts) {
    let (decoder, acts) = recorded(NAME, runs_ahead);
    (Engine::start(decoder, options).unwrap(), acts)
}

/// Asks, and has the acts say when a token is told.
fn ask(engine: &Engine, acts: &Acts, request: Request) -> Receiver<Event> {
    let (sender, events) = channel();
    let acts = Arc::clone(acts);
    let sink = move |event| {
        if let Event::Token(_) = event {
            acts.lock().unwrap().push(Act::Told);
        }
        if sender.send(event).is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    };
    engine.submit(request, Box::new(sink));
    events
}

fn sampled(seed: u64, sampling: Sampling) -> Request {
    let sampling = Sampling { temperature: 0.7, seed, ..sampling };
    // A guess would be one more row of its step.
    let speculation = Speculation::Off;
    Request { sampling, speculation, ..greedy((3..30).map(|id| id + seed as u32).collect(), 40) }
}

/// Rows of each kind that were read.
fn rows(acts: &Acts) -> [usize; 3] {
    let mut rows = [0; 3];
    for act in acts.lock().unwrap().drain(..) {
        match act {
            Act::Likeliest(n) => rows[0] += n,
            Act::Candidates(n) => rows[1] += n,
            Act::Logits(n) => rows[2] += n,
            _ => {}
        }
    }
    rows
}

#[test]
fn candidates_are_read_in_place_of_logits() {
    let (engine, acts) = engine(false, OPTIONS);
    let mut whole_rows = 0;
    for (seed, sampling) in [
        Sampling { top_k: 20, ..Sampling::default() },
        Sampling { top_p: 0.4, ..Sampling::default() },
        Sampling { min_p: 0.3, ..Sampling::default() },
        Sampling { top_k: 40, top_p: 0.8, min_p: 0.05, ..Sampling::default() },
    ]
    .into_iter()
    .enumerate()
    {
        let request = sampled(seed as u64, sampling);
        let answer = hear(&ask(&engine, &acts, request.clone()));
        let [likeliest, candidates, logits] = rows(&acts);
        assert_eq!((likeliest, candidates), (0, 40), "a row of candidates for each token");
        whole_rows += logits;
        // Whoever wants log-probabilities has all logits read, and chooses the same.
        let told = hear(&ask(&engine, &acts, Request { logprobs: Some(0), ..request }));
        assert_eq!(told.tokens, answer.tokens);
        assert_eq!((answer.tokens.len(), rows(&acts)), (40, [0, 0, 40]));
    }
    assert!(whole_rows < 80, "of 160 rows {whole_rows} were read whole");
}

#[test]
fn of_a_mixed_step_each_row_is_read_as_it_is_wanted() {
    let (engine, acts) = engine(false, OPTIONS);
    let requests = [
        sampled(1, Sampling { top_k: 10, ..Sampling::default() }),
        Request { logprobs: Some(2), ..sampled(2, Sampling { top_k: 10, ..Sampling::default() }) },
        greedy((3..40).collect(), 40),
        sampled(4, Sampling::default()),
    ];
    let alone: Vec<_> = requests.iter().map(|r| hear(&ask(&engine, &acts, r.clone()))).collect();
    at_rest(&engine);
    rows(&acts);
    let together: Vec<_> = requests.iter().map(|r| ask(&engine, &acts, r.clone())).collect();
    for (alone, together) in alone.iter().zip(together) {
        let together = hear(&together);
        assert_eq!((&together.tokens, &together.logprobs), (&alone.tokens, &alone.logprobs));
        assert_eq!(together.end, Ok(Finish::Length));
    }
    let [likeliest, candidates, logits] = rows(&acts);
    assert!(likeliest + candidates <= 160 && logits >= 80, "{likeliest} {candidates} {logits}");
    assert!(logits < 120, "two of four want all of their rows, not {logits} in all");
}

/// Where a device runs ahead, a step's tokens are told when the next step is under way, and otherwise at once.
#[test]
fn tokens_are_told_while_the_next_step_is_computed() {
    for runs_ahead in [true, false] {
        let (engine, acts) = engine(runs_ahead, OPTIONS);
        let answers: Vec<_> =
            (0..3).map(|i| ask(&engine, &acts, greedy((3..20 + i).collect(), 12))).collect();
        answers.iter().for_each(|events| assert_eq!(hear(events).tokens.len(), 12));
        at_rest(&engine);
        let acts = acts.lock().unwrap().clone();
        // Between a launch and the read that waits for it, or behind that.
        let (mut waiting, mut meanwhile, mut behind) = (false, 0, 0);
        for act in &acts {
            match act {
                Act::Launched => waiting = true,
                Act::Likeliest(_) => waiting = false,
                Act::Told if waiting => meanwhile += 1,
                Act::Told => behind += 1,
                _ => {}
            }
        }
        assert_eq!(meanwhile + behind, 36);
        // When there is no next step, there is nothing to wait for.
        assert!(if runs_ahead { (1..=3).contains(&behind) } else { behind == 36 }, "{acts:?}");
    }
}

/// Receivers that go away, too little room and a crowd: what is told later is told whole, and changes no answer.
#[test]
fn running_ahead_changes_no_answer() {
    let options = EngineOptions { slots: 160, context: 128, rows: 24, running: 6, ..OPTIONS };
    let requests: Vec<Request> = (0..12)
        .map(|i| {
            let sampling = match i % 3 {
                0 => Sampling { top_p: 0.5, ..Sampling::default() },
                1 => Sampling { top_k: 5, ..Sampling::default() },
                _ => Sampling::default(),
            };
            Request { max_tokens: 10 + 3 * i as usize, ..sampled(i, sampling) }
        })
        .collect();
    let [mut plain, mut ahead] = [false, true].map(|runs_ahead| {
        let (engine, acts) = engine(runs_ahead, options);
        let answers: Vec<_> = requests.iter().map(|r| ask(&engine, &acts, r.clone())).collect();
        let long = |i| Request { max_tokens: 100, ..sampled(i, Sampling::default()) };
        let leaving = |event| match event {
            Event::Token(_) => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        };
        (0..6).for_each(|i| engine.submit(long(i), Box::new(leaving)));
        let heard: Vec<_> = answers.iter().map(hear).map(|heard| (heard.tokens, heard.end)).collect();
        let statistics = at_rest(&engine);
        assert_eq!((statistics.finished, statistics.cancelled, statistics.failed), (12, 6, 0));
        heard
    });
    assert_eq!(ahead, plain);
    assert!(ahead.drain(..).zip(plain.drain(..)).all(|(ahead, _)| ahead.1 == Ok(Finish::Length)));
}
