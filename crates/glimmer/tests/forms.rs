//! Answers in a form, from a model that writes nearly at random.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use glimmer::{
    AnswerFormat, Conversation, Encoding, FinishReason, GenerationParams, Limits, Model, OpenOptions, Prompt,
    Sampling, Speculation,
};
use serde_json::{Value, json};

fn schemas() -> Vec<Value> {
    vec![
        json!({"type": "array", "items": {"type": "number"}, "minItems": 1, "maxItems": 4}),
        json!({"type": "object", "properties": {
            "when": {"type": "string", "format": "date"}, "code": {"type": "string", "pattern": "^[A-Z]{2}[0-9]+$", "maxLength": 6},
            "deep": {"type": "object", "properties": {"x": {"type": ["null", "boolean"]}}, "required": ["x"], "additionalProperties": false}
        }, "required": ["when", "code", "deep"], "additionalProperties": false}),
        json!({"anyOf": [{"const": "a b"}, {"type": "integer", "multipleOf": 7, "minimum": 0, "maximum": 70}]}),
        json!({"$ref": "#/$defs/tree", "$defs": {"tree": {"type": "object", "properties": {
            "v": {"enum": [1, 2]}, "next": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/tree"}]}
        }, "required": ["v", "next"], "additionalProperties": false}}}),
    ]
}

fn params(prompt: &Prompt, engine: &glimmer::Engine, format: &AnswerFormat, seed: u64) -> GenerationParams {
    GenerationParams {
        sampling: Sampling { temperature: 4.0, seed, ..Sampling::default() },
        max_tokens: Some(300),
        form: engine.text().form(format).unwrap(),
        speculation: if seed.is_multiple_of(2) { Speculation::Always } else { Speculation::Off },
        ..engine.defaults(prompt)
    }
}

#[test]
fn every_answer_satisfies_its_schema() {
    let model = Model::open("demo", &OpenOptions::default(), &mut |_| {}).unwrap();
    let engine = model.start(&Limits::default()).unwrap();
    let reply = engine.text().prompt(&Conversation::of_user("Say something.")).unwrap();
    let text = engine.text().continuation("Once", Encoding::default()).unwrap();
    let mut complete = 0;
    for schema in schemas() {
        let validator = jsonschema::validator_for(&schema).unwrap();
        let format = AnswerFormat::JsonSchema { schema: schema.clone(), strict: true };
        for seed in 0..6 {
            let prompt = if seed % 3 == 0 { &text } else { &reply };
            let answer = engine.generate(prompt, params(prompt, &engine, &format, seed)).unwrap();
            let answer = answer.complete().unwrap();
            if answer.finish == FinishReason::MaxTokens {
                continue;
            }
            assert_eq!(answer.finish, FinishReason::Stop);
            let value = serde_json::from_str(&answer.reply.text).unwrap_or_else(|_| panic!("{answer:?}"));
            assert!(validator.is_valid(&value), "{schema}: {value}");
            assert_eq!(answer.check, None);
            complete += 1;
        }
    }
    assert!(complete >= 20, "{complete}");
}

#[test]
fn guesses_and_company_change_no_answer() {
    let model = Model::open("demo", &OpenOptions::default(), &mut |_| {}).unwrap();
    let engine = model.start(&Limits { running: 3, waiting: 4, ..Limits::default() }).unwrap();
    let prompt = engine.text().prompt(&Conversation::of_user("A list, please.")).unwrap();
    let format = AnswerFormat::JsonSchema { schema: schemas().remove(1), strict: true };
    let ask = |speculation| {
        let params = GenerationParams { speculation, ..params(&prompt, &engine, &format, 3) };
        engine.generate(&prompt, params).unwrap()
    };
    let alone = ask(Speculation::Off).complete().unwrap().reply.text;
    let company: Vec<_> = [Speculation::Always, Speculation::Off, Speculation::Auto].map(ask).into();
    for answer in company {
        assert_eq!(answer.complete().unwrap().reply.text, alone);
    }
}

#[test]
fn an_interrupted_answer_goes_on_in_its_form() {
    let model = Model::open("demo", &OpenOptions::default(), &mut |_| {}).unwrap();
    let engine = model.start(&Limits::default()).unwrap();
    let prompt = engine.text().prompt(&Conversation::of_user("Hello.")).unwrap();
    let format = AnswerFormat::Regex("[a-z]{40}[0-9]{3}".to_owned());
    let whole = engine.generate(&prompt, params(&prompt, &engine, &format, 1)).unwrap().complete().unwrap();
    let ids: Vec<u32> = whole.tokens.iter().map(|token| token.id).collect();
    let mut request = engine.request(&prompt, &params(&prompt, &engine, &format, 1));
    let half = ids.len() / 2;
    request.prompt.extend(&ids[..half]);
    request.continued = half;
    let (sender, events) = std::sync::mpsc::channel();
    let sink = move |event| {
        let _ = sender.send(event);
        std::ops::ControlFlow::Continue(())
    };
    engine.submit(request, vec![Box::new(sink)]);
    let rest: Vec<u32> = events
        .iter()
        .filter_map(|event| if let glimmer::Event::Token(token) = event { Some(token.id) } else { None })
        .collect();
    assert_eq!(rest, ids[half..]);
}
