//! Adapters in a running engine: each request is computed as if it were alone, whatever the others have.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use glimmer_engine::{AdapterId, Engine, EngineOptions, Finish, Request};
use glimmer_models::{
    Adapter, DecoderSpec, LowRank, LowRankAdapter, Prefix, PrefixLayer, WeightAddress, WeightRole,
};
use support::{OPTIONS, at_rest, engine, fixture, greedy, hear, ids};

const BASE: &str = "glm4-9b-orig";

fn numbers(len: usize, seed: usize, size: f32) -> Vec<f32> {
    (0..len).map(|i| (((i * 7919 + seed * 104_729) % 997) as f32 / 498.5 - 1.0) * size).collect()
}

/// Pairs for queries and for the way into the feed-forward, DoRA's or plain ones.
fn pairs(spec: &DecoderSpec, rank: usize, with_magnitude: bool) -> Adapter {
    let mut pairs = Vec::new();
    for layer in 0..spec.layers.len() {
        for part in spec.parts(true).iter().filter(|part| part.layer == Some(layer)) {
            let glimmer_models::PartKind::Matrix(matrix) = &part.kind else { continue };
            let (role, rows) = match part.role {
                WeightRole::Qkv => matrix.sections[0],
                WeightRole::FfnUp => matrix.sections[0],
                _ => continue,
            };
            let pair = LowRank {
                rank,
                a: numbers(rank * matrix.cols, layer + rank, 0.3),
                b: numbers(rows * rank, layer + 2 * rank, 0.3),
                scale: 1.0,
                magnitude: with_magnitude.then(|| numbers(rows, rank, 0.5).iter().map(|m| m + 1.0).collect()),
            };
            pairs.push((WeightAddress { layer: Some(layer), role }, pair));
        }
    }
    Adapter::LowRank(LowRankAdapter { pairs })
}

fn prefix(spec: &DecoderSpec, slots: usize) -> Adapter {
    let layer = |(i, layer): (usize, &glimmer_models::LayerSpec)| {
        let heads = layer.attention.heads();
        PrefixLayer {
            keys: numbers(slots * heads.k_width(), i, 1.0),
            values: numbers(slots * heads.v_width(), i + 1, 1.0),
        }
    };
    Adapter::Prefix(Prefix {
        slots,
        shifts_positions: false,
        layers: spec.layers.iter().enumerate().map(layer).collect(),
    })
}

/// PEFT's own adapter, two others, and two prefixes: one that fills pages, one that does not.
fn load_all(engine: &Engine) -> Vec<Option<AdapterId>> {
    let spec = engine.spec();
    let own = Adapter::read(&fixture("lora-glm4-9b-orig"), spec).unwrap();
    let adapters = [own, pairs(spec, 3, false), pairs(spec, 17, true), prefix(spec, 8), prefix(spec, 64)];
    let mut all = vec![None];
    all.extend(adapters.map(|adapter| Some(engine.load_adapter(adapter).unwrap())));
    all
}

fn request(prompt: &[u32], adapter: Option<AdapterId>) -> Request {
    Request { adapter, logprobs: Some(0), ..greedy(prompt.to_vec(), 16) }
}

#[test]
fn a_batch_of_all_kinds_gives_each_its_own_answer() {
    let prompts: Vec<Vec<u32>> = (0..6).map(|i| (5..11 + 17 * i).collect()).collect();
    // Each alone, by an engine that never had another.
    let alone: Vec<_> = (0..6)
        .map(|i| {
            let engine = engine(BASE, OPTIONS);
            let adapter = load_all(&engine)[i];
            let heard = hear(&engine.answer(request(&prompts[i], adapter)));
            assert_eq!(heard.end, Ok(Finish::Length));
            (heard.tokens, heard.logprobs)
        })
        .collect();
    for options in [OPTIONS, EngineOptions { slots: 256, rows: 24, running: 6, ..OPTIONS }] {
        let engine = engine(BASE, options);
        let adapters = load_all(&engine);
        for _ in 0..2 {
            let all: Vec<_> = (0..6).map(|i| engine.answer(request(&prompts[i], adapters[i]))).collect();
            for (i, events) in all.iter().enumerate() {
                let heard = hear(events);
                assert!((heard.tokens, heard.logprobs) == alone[i], "number {i}");
            }
        }
        at_rest(&engine);
    }
    let distinct: std::collections::BTreeSet<_> = alone.iter().map(|(_, logprobs)| logprobs).collect();
    assert_eq!(distinct.len(), 6);
}

#[test]
fn pages_are_shared_by_those_of_the_same_adapter_alone() {
    let engine = engine(BASE, OPTIONS);
    let adapters = load_all(&engine);
    let prompt: Vec<u32> = (3..103).collect();
    for &adapter in &adapters {
        let cold = hear(&engine.answer(request(&prompt, adapter)));
        let warm = hear(&engine.answer(request(&prompt, adapter)));
        // 96 slots after a prefix of whole pages; with one of eight the last shared page ends at prompt token 88.
        let shared = if adapter == adapters[4] { 88 } else { 96 };
        assert_eq!((cold.cached, warm.cached), (0, shared), "{adapter:?}");
        assert_eq!((cold.tokens, cold.logprobs), (warm.tokens, warm.logprobs));
    }
    // The same numbers again are the same adapter.
    let again = engine.load_adapter(pairs(engine.spec(), 3, false)).unwrap();
    assert_eq!(hear(&engine.answer(request(&prompt, Some(again)))).cached, 96);
}

#[test]
fn an_adapter_that_is_dropped_finishes_what_it_has() {
    let engine = engine(BASE, OPTIONS);
    let id = engine.load_adapter(pairs(engine.spec(), 4, false)).unwrap();
    let prompt: Vec<u32> = (3..40).collect();
    let whole = hear(&engine.answer(Request { max_tokens: 100, ..request(&prompt, Some(id)) }));
    let running = engine.answer(Request { max_tokens: 100, ..request(&prompt, Some(id)) });
    engine.drop_adapter(id);
    let late = engine.answer(request(&prompt, Some(id)));
    // Its place is another's only when it is done.
    let other = engine.load_adapter(pairs(engine.spec(), 5, true)).unwrap();
    let others = hear(&engine.answer(request(&prompt, Some(other))));
    let heard = hear(&running);
    assert!(heard.tokens == whole.tokens && heard.logprobs == whole.logprobs);
    let error = hear(&late).end.unwrap_err();
    assert!(error.contains("adapter"), "{error}");
    at_rest(&engine);
    assert_eq!(hear(&engine.answer(request(&prompt, Some(other)))).logprobs, others.logprobs);
    let unknown = hear(&engine.answer(request(&prompt, Some(AdapterId::default()))));
    assert!(unknown.end.is_err());
}

/// Scores of a prompt are counted from its own first token, and the context has room for what is left of it.
#[test]
fn slots_of_a_prefix_are_no_tokens() {
    let engine = engine(BASE, OPTIONS);
    let id = Some(engine.load_adapter(prefix(engine.spec(), 8)).unwrap());
    let prompt: Vec<u32> = (3..60).collect();
    let scored = Request { prompt_logprobs: Some(0), ..request(&prompt, id) };
    let heard = hear(&engine.answer(scored));
    let indices: Vec<usize> = heard.scores.iter().map(|score| score.index).collect();
    assert_eq!(indices, (1..prompt.len()).collect::<Vec<_>>());
    assert!(heard.scores.iter().all(|score| score.id == prompt[score.index]));
    assert_eq!(heard.tokens, hear(&engine.answer(request(&prompt, id))).tokens);
    let long: Vec<u32> = (3..251).collect();
    let full = hear(&engine.answer(request(&long, id))).end.unwrap_err();
    assert!(full.contains("context"), "{full}");
    assert_eq!(hear(&engine.answer(request(&long[..240], id))).tokens.len(), 8);
}

/// ChatGLM-6B's context attends both ways, and comes after the prefix.
#[test]
fn a_prefix_before_a_context_that_attends_both_ways() {
    let name = "chatglm-6b";
    let prompt = ids(name, "long.input_ids");
    let alone = |slots: usize| {
        let engine = engine(name, OPTIONS);
        let id = Some(engine.load_adapter(prefix(engine.spec(), slots)).unwrap());
        hear(&engine.answer(request(&prompt, id))).logprobs
    };
    let expected = [8, 64].map(alone);
    let engine = engine(name, OPTIONS);
    let adapters = [8, 64].map(|slots| Some(engine.load_adapter(prefix(engine.spec(), slots)).unwrap()));
    for _ in 0..2 {
        let all = adapters.map(|id| engine.answer(request(&prompt, id)));
        for (events, expected) in all.iter().zip(&expected) {
            assert_eq!(hear(events).logprobs, *expected);
        }
    }
    assert_ne!(expected[0], expected[1]);
}

/// `PREFIX_TUNING`, whose positions count from behind the prefix: what PEFT's greedy loop writes
/// (`tools/make_peft_references.py`).
#[test]
fn a_prefix_of_pefts_is_counted() {
    let data = fixture("../crates/models/tests/data/peft");
    let engine = engine("glm-4-9b-chat-hf", OPTIONS);
    let adapter = Adapter::read(&data.join("prefix"), engine.spec()).unwrap();
    let Adapter::Prefix(prefix) = &adapter else { panic!("no prefix") };
    let unshifted = Adapter::Prefix(Prefix { shifts_positions: false, ..prefix.clone() });
    let [ids, expected] =
        ["ids", "prefix.new_ids"].map(|tensor| ids("../crates/models/tests/data/peft", tensor));
    let mut written = [adapter, unshifted].map(|adapter| {
        let adapter = Some(engine.load_adapter(adapter).unwrap());
        hear(&engine.answer(Request { adapter, ..greedy(ids.clone(), expected.len()) })).tokens
    });
    assert_eq!(written[0], expected);
    written.sort();
    assert_ne!(written[0], written[1], "positions matter");
}
