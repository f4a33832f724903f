//! Reasoning within a budget, in every generation's form, from a model that writes whatever it likes.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::sync::mpsc::channel;

use glimmer::{
    AnswerForm, AnswerFormat, Completion, Conversation, Engine, Event, Family, FinishReason,
    GenerationParams, Limits, Model, OpenOptions, Overrides, Prompt, Sampling, Speculation,
};
use serde_json::{Value, json};

const THINKERS: [Family; 4] = [Family::GlmZ1, Family::GlmZ1Rumination, Family::Glm45, Family::Glm47];

/// Tokens of an answer.
const MOST: usize = 40;

fn engine(family: Family) -> Engine {
    let overrides = Overrides { chat_format: Some(family), ..Overrides::default() };
    let options = OpenOptions { overrides, ..OpenOptions::default() };
    let limits = Limits { running: 4, waiting: 8, ..Limits::default() };
    Model::open("demo", &options, &mut |_| {}).unwrap().start(&limits).unwrap()
}

fn conversation() -> Conversation {
    Conversation::of_user("Tell me something about rivers, please.")
}

fn params(seed: u64, budget: Option<usize>) -> GenerationParams {
    let temperature = [0.0, 1.0, 3.0][seed as usize % 3];
    GenerationParams {
        sampling: Sampling { temperature, seed, ..Sampling::default() },
        max_tokens: Some(MOST),
        // Of this model hardly any answer is as long.
        min_tokens: if seed.is_multiple_of(2) { MOST } else { 0 },
        thinking_budget: budget,
        speculation: if seed.is_multiple_of(2) { Speculation::Always } else { Speculation::Off },
        ..GenerationParams::default()
    }
}

fn ids(answer: &Completion) -> Vec<u32> {
    answer.tokens.iter().map(|token| token.id).collect()
}

fn answer(engine: &Engine, prompt: &Prompt, params: GenerationParams) -> Completion {
    engine.generate(prompt, params).unwrap().complete().unwrap()
}

/// The tag that closes reasoning, and what a generation has after it.
fn closing(engine: &Engine) -> Vec<u32> {
    let format = engine.text().chat().unwrap().template.format();
    let gap = if format == Some(Family::Glm47) { "" } else { "\n" };
    engine.text().tokenizer().unwrap().encode_parse_special(&format!("</think>{gap}"))
}

#[test]
fn a_budget_cuts_the_same_reasoning_short() {
    let mut cut = 0;
    for family in [Family::GlmZ1, Family::Glm47] {
        let engine = engine(family);
        let prompt = engine.text().prompt(&conversation()).unwrap();
        let closing = closing(&engine);
        for seed in 0..4 {
            let free = ids(&answer(&engine, &prompt, params(seed, None)));
            for budget in [0, 1, 7, MOST, 10_000] {
                let held = answer(&engine, &prompt, params(seed, Some(budget)));
                let said = ids(&held);
                let most = budget + closing.len();
                assert!(held.usage.reasoning <= most, "{family}: {budget}: {:?}", held.usage);
                if budget > free.len() || budget >= MOST {
                    assert_eq!(said, free, "{family}: what fits is left alone");
                    continue;
                }
                // A tag that the model has begun to spell itself is not begun again.
                assert_eq!(said[..budget], free[..budget], "{family}");
                let end = most.min(said.len());
                assert_eq!(said[budget..end], closing[..end - budget], "{family}: {budget}");
                assert!(!held.reply.text.contains("think>"), "{:?}", held.reply);
                cut += 1;
            }
        }
    }
    assert!(cut >= 12, "{cut}");
}

#[test]
fn budgets_hold_with_forms_and_tools() {
    let schema = json!({"type": "object", "properties": {"a": {"type": "integer", "maximum": 999, "minimum": 0}},
        "required": ["a"], "additionalProperties": false});
    let tools = vec![json!({"type": "function", "function": {"name": "get", "parameters": schema}})];
    let is_value =
        |value: &Value| value.as_object().is_some_and(|value| value.len() == 1) && value["a"].is_u64();
    let (mut texts, mut calls) = (0, 0);
    for family in THINKERS {
        let engine = engine(family);
        let mut asked = conversation();
        if family != Family::GlmZ1Rumination {
            asked.tools.clone_from(&tools);
        }
        let prompt = engine.text().prompt(&asked).unwrap();
        let make = |format: &AnswerFormat| engine.text().form(format).unwrap();
        let of = |required| AnswerFormat::Calls { tools: tools.clone(), required, single: true };
        let text = make(&AnswerFormat::JsonSchema { schema: schema.clone(), strict: true });
        let either = make(&of(true)).map(|calls: AnswerForm| calls.or(text.clone().unwrap()));
        // Rumination has tools of its own and knows no others.
        let calls_too = if asked.tools.is_empty() { 0 } else { 3 };
        let forms = [None, text, make(&of(false)), make(&of(true)), either];
        for form in &forms[..2 + calls_too] {
            for (seed, budget) in [(0, 0), (1, 3), (2, 12)] {
                let params = GenerationParams {
                    form: form.clone(),
                    max_tokens: Some(120),
                    min_tokens: 0,
                    ..params(seed, Some(budget))
                };
                let said = answer(&engine, &prompt, params);
                assert!(
                    said.usage.reasoning <= budget + closing(&engine).len(),
                    "{family}: {:?}",
                    said.usage
                );
                if form.as_ref().is_none_or(|form| *form == make(&of(false)).unwrap())
                    || said.finish == FinishReason::MaxTokens
                {
                    continue;
                }
                match said.reply.tool_calls.as_slice() {
                    [] => {
                        assert!(
                            is_value(&serde_json::from_str(&said.reply.text).unwrap()),
                            "{:?}",
                            said.reply
                        );
                        texts += 1;
                    }
                    made => {
                        let arguments = made[0].arguments.as_str().unwrap();
                        assert!(made.len() == 1 && said.reply.text.is_empty(), "{family}: {:?}", said.reply);
                        assert!(is_value(&serde_json::from_str(arguments).unwrap()), "{:?}", said.reply);
                        calls += 1;
                    }
                }
            }
        }
    }
    assert!(texts >= 10 && calls >= 10, "{texts} {calls}");
}

/// Copies, log-probabilities and answers that are gone on with.
#[test]
fn every_copy_has_its_budget() {
    let engine = engine(Family::Glm47);
    let prompt = engine.text().prompt(&conversation()).unwrap();
    let closing = closing(&engine);
    let params = GenerationParams { logprobs: Some(1), min_tokens: MOST, ..params(1, Some(6)) };
    let listen = |request, copies: usize| {
        let (sender, events) = channel();
        let sinks = (0..copies).map(|copy| {
            let sender = sender.clone();
            let sink: glimmer::Sink = Box::new(move |event| {
                let _ = sender.send((copy, event));
                std::ops::ControlFlow::Continue(())
            });
            sink
        });
        engine.submit(request, sinks.collect());
        drop(sender);
        let mut all = vec![Vec::new(); copies];
        for (copy, event) in events {
            if let Event::Token(token) = event {
                assert!(token.logprob.is_none_or(f32::is_finite));
                all[copy].push(token.id);
            }
        }
        all
    };
    let all = listen(engine.request(&prompt, &params), 3);
    assert!(all.iter().all(|ids| ids[6..6 + closing.len()] == closing));
    assert!(all[0] != all[1] && all[1] != all[2]);
    // Cut anywhere, in the closing tag, too.
    for begun in 4..=8 + closing.len() {
        let mut request = engine.request(&prompt, &params);
        request.prompt.extend(&all[0][..begun]);
        request.continued = begun;
        request.max_tokens -= begun;
        assert_eq!(listen(request, 1)[0], all[0][begun..], "{begun}");
    }
}

/// Without a budget or a form nothing holds an answer, and its logits need not be read.
#[test]
fn nothing_holds_an_answer_of_which_nothing_is_asked() {
    let engine = engine(Family::Glm47);
    let prompt = engine.text().prompt(&conversation()).unwrap();
    assert!(engine.request(&prompt, &params(0, None)).constraint.is_none());
    assert!(engine.request(&prompt, &params(0, Some(9))).constraint.is_some());
    let text = engine.text().continuation("Once", glimmer::Encoding::default()).unwrap();
    assert!(engine.request(&text, &params(0, Some(9))).constraint.is_none());
    let plain = self::engine(Family::Glm4);
    let prompt = plain.text().prompt(&conversation()).unwrap();
    assert!(plain.request(&prompt, &params(0, Some(9))).constraint.is_none(), "it does not think");
}

/// What a model wrote that skipped its reasoning is its answer, once, and no token of it was reasoning.
#[test]
fn an_answer_in_the_place_of_reasoning_is_none() {
    let engine = engine(Family::GlmZ1);
    let prompt = engine.text().prompt(&conversation()).unwrap();
    let mut skipped = 0;
    for seed in 0..20 {
        let said = answer(&engine, &prompt, GenerationParams { min_tokens: 3, ..params(seed, None) });
        if said.finish == FinishReason::Stop {
            assert!(!said.reply.text.is_empty() && said.reply.reasoning.is_empty(), "{:?}", said.reply);
            assert_eq!(said.usage.reasoning, 0);
            skipped += 1;
        } else {
            assert!(said.reply.text.is_empty() && said.usage.reasoning > 0, "{:?}", said.reply);
        }
    }
    assert!(skipped > 0);
}
