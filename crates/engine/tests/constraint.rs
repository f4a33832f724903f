//! Answers that must be something: the engine holds each to its constraint whatever the company, chunks and guesses, and a
//! constraint that fails ends its own request alone.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use glimmer_engine::{
    Constraint, ConstraintMaker, EngineOptions, Finish, Request, Sampling, Speculation, TokenMask,
};
use support::{OPTIONS, at_rest, engine, greedy, hear, ids};

const END: u32 = 2;
const VOCAB: u32 = 300;

/// The remainder by 3 of a token is that of its place; after one whose remainder by 5 is 0 two come that are known before;
/// after `length` tokens there is an end.
struct Toy {
    answer: Vec<u32>,
    length: usize,
    fails_at: Option<usize>,
}

fn may_follow(answer: &[u32], length: usize, id: u32) -> bool {
    if answer.len() >= length {
        return id == END;
    }
    let forced = forced(answer, length);
    id != END && id as usize % 3 == answer.len() % 3 && forced.first().is_none_or(|&first| first == id)
}

fn forced(answer: &[u32], length: usize) -> Vec<u32> {
    if answer.len() >= length {
        return vec![END];
    }
    let known =
        |place: usize| (30 + 3 * (place % 20) + place % 3) as u32 * 2 % 3 * 3 + 30 + (place % 3) as u32;
    match answer {
        [.., _, last] if last % 5 == 0 && answer.len() + 1 < length => (answer.len()..answer.len() + 2)
            .map(known)
            .map(|id| if id % 5 == 0 { id + 3 } else { id })
            .collect(),
        _ => Vec::new(),
    }
}

impl Constraint for Toy {
    fn mask(&mut self) -> Result<TokenMask, String> {
        assert_ne!(self.fails_at, Some(100 + self.answer.len()), "injected");
        if self.fails_at == Some(self.answer.len()) {
            return Err("injected".to_owned());
        }
        let mut words = vec![0; VOCAB.div_ceil(32) as usize];
        for id in (0..VOCAB).filter(|&id| may_follow(&self.answer, self.length, id)) {
            words[id as usize / 32] |= 1 << (id % 32);
        }
        Ok(TokenMask::Only(words))
    }

    fn accept(&mut self, id: u32) -> Result<(), String> {
        if self.answer.len() >= self.length && id == END {
            return Ok(());
        }
        assert!(id as usize % 3 == self.answer.len() % 3, "{id} after {:?}", self.answer);
        self.answer.push(id);
        Ok(())
    }

    fn forced(&mut self) -> Result<Vec<u32>, String> {
        // The end is told once.
        if self.answer.len() >= self.length {
            let is_told = self.fails_at.replace(usize::MAX) == Some(usize::MAX);
            return Ok(if is_told { Vec::new() } else { vec![END] });
        }
        Ok(forced(&self.answer, self.length))
    }
}

fn toy(length: usize, fails_at: Option<usize>) -> Option<ConstraintMaker> {
    Some(ConstraintMaker::new(move || Box::new(Toy { answer: Vec::new(), length, fails_at })))
}

fn samplings() -> [Sampling; 3] {
    let warm = Sampling { temperature: 1.0, seed: 11, ..Sampling::default() };
    let narrow = Sampling { top_p: 0.8, top_k: 40, repetition_penalty: 1.1, ..warm.clone() };
    [Sampling::default(), warm, narrow]
}

fn check(answer: &[u32], length: usize) {
    assert_eq!(answer.len(), length);
    for at in 0..length {
        assert!(answer[at] as usize % 3 == at % 3 && answer[at] != END, "{answer:?} at {at}");
    }
    for at in 2..length {
        let known = forced(&answer[..at], length);
        assert!(answer[at..].starts_with(&known[..known.len().min(length - at)]), "{answer:?} at {at}");
    }
}

#[test]
fn answers_are_what_they_must_be_whatever_is_computed_with_them() {
    for name in ["glm4-9b-0414", "chatglm-6b"] {
        let roomy = engine(name, OPTIONS);
        let tight = engine(name, EngineOptions { slots: 256, rows: 24, running: 5, ..OPTIONS });
        let prompt = ids(name, "gen.input_ids");
        for (sampling, length) in samplings().iter().zip([40, 41, 60]) {
            let ask = |speculation| Request {
                sampling: sampling.clone(),
                stop_ids: vec![END],
                speculation,
                constraint: toy(length, None),
                ..greedy(prompt.clone(), 200)
            };
            let alone = hear(&roomy.answer(ask(Speculation::Off)));
            assert_eq!(alone.end, Ok(Finish::Stop(END)));
            check(&alone.tokens, length);
            let free = Request { constraint: None, ..ask(Speculation::Off) };
            let free_alone = hear(&roomy.answer(Request { max_tokens: 40, ..free.clone() })).tokens;
            for engine in [&roomy, &tight] {
                let company: Vec<_> = (0..9)
                    .map(|i| match i % 3 {
                        0 => engine.answer(ask(Speculation::Always)),
                        1 => engine.answer(ask(Speculation::Off)),
                        _ => engine.answer(Request { max_tokens: 40, ..free.clone() }),
                    })
                    .collect();
                for (i, events) in company.iter().enumerate() {
                    let heard = hear(events);
                    let expected = if i % 3 == 2 { &free_alone } else { &alone.tokens };
                    assert_eq!(heard.tokens, *expected, "{name} {sampling:?} number {i}");
                }
            }
        }
        assert!(at_rest(&tight).preemptions > 0 || name == "chatglm-6b");
        assert!(at_rest(&roomy).accepted_tokens > 0, "forced tokens are computed together");
    }
}

#[test]
fn log_probabilities_come_with_forced_tokens_and_the_end() {
    let name = "glm4-9b-0414";
    let engine = engine(name, OPTIONS);
    let request = Request {
        logprobs: Some(0),
        stop_ids: vec![END],
        constraint: toy(30, None),
        ..greedy(ids(name, "gen.input_ids"), 200)
    };
    let told = hear(&engine.answer(request.clone()));
    let silent = hear(&engine.answer(Request { logprobs: None, ..request }));
    assert_eq!((told.logprobs.len(), told.end), (31, Ok(Finish::Stop(END))));
    assert_eq!(silent.tokens, told.tokens);
}

#[test]
fn limits_cut_a_constrained_answer_anywhere_and_it_can_be_gone_on_with() {
    let name = "glm4-9b-0414";
    let engine = engine(name, OPTIONS);
    let request = Request {
        sampling: samplings()[1].clone(),
        stop_ids: vec![END],
        constraint: toy(50, None),
        ..greedy(ids(name, "gen.input_ids"), 200)
    };
    let whole = hear(&engine.answer(request.clone())).tokens;
    for begun in [1, 7, 20, 33, 48] {
        let cut = hear(&engine.answer(Request { max_tokens: begun, ..request.clone() }));
        assert_eq!((cut.tokens.as_slice(), cut.end), (&whole[..begun], Ok(Finish::Length)));
        let prompt = [&request.prompt, &whole[..begun]].concat();
        let rest = hear(&engine.answer(Request { prompt, continued: begun, ..request.clone() }));
        assert_eq!((rest.tokens.as_slice(), rest.end), (&whole[begun..], Ok(Finish::Stop(END))));
    }
    // An end that must not come yet comes all the same where nothing else may.
    let late = hear(&engine.answer(Request { min_tokens: 100, ..request.clone() }));
    assert_eq!((late.tokens, late.end), (whole, Ok(Finish::Stop(END))));
}

#[test]
fn a_constraint_that_fails_ends_its_own_request_only() {
    let name = "glm4-9b-0414";
    let engine = engine(name, OPTIONS);
    let ask = |fails_at| Request {
        stop_ids: vec![END],
        constraint: toy(30, fails_at),
        ..greedy(ids(name, "gen.input_ids"), 200)
    };
    let expected = hear(&engine.answer(ask(None)));
    let is_chosen = |at: &usize| forced(&expected.tokens[..*at], 30).is_empty();
    let at = (5..30).find(|at| is_chosen(at) && is_chosen(&(at - 1)) && is_chosen(&(at - 2))).unwrap();
    let company: Vec<_> =
        [None, Some(at), Some(100 + at), None, Some(0)].map(|fails_at| engine.answer(ask(fails_at))).into();
    let heard: Vec<_> = company.iter().map(hear).collect();
    for good in [0, 3] {
        assert_eq!(heard[good].tokens, expected.tokens);
    }
    let failed = Err("the answer cannot be held to its form: injected".to_owned());
    assert_eq!((heard[1].tokens.as_slice(), &heard[1].end), (&expected.tokens[..at], &failed));
    assert_eq!((heard[4].tokens.len(), &heard[4].end), (0, &failed));
    assert_eq!(heard[2].tokens, expected.tokens[..at]);
    assert!(heard[2].end.as_ref().unwrap_err().contains("a fault in the program"), "{:?}", heard[2].end);
    assert_eq!(hear(&engine.answer(ask(None))).tokens, expected.tokens);
    assert_eq!(at_rest(&engine).failed, 3);
}
