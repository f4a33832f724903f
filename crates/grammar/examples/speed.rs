//! How long schemas take to compile and masks to compute, with GLM-4's published vocabulary.
//!
//! `cargo run --release -p glimmer-grammar --example speed [FILE]`; FILE gets the vocabulary, the schemas and the answers'
//! tokens, so that `tools/xgrammar_speed.py` measures xgrammar with the same.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "an example that shows figures")]

use std::time::{Duration, Instant};

use glimmer_grammar::{Beginning, Compiler, Grammar, TokenTable};
use glimmer_tokenizer::Tokenizer;
use serde_json::{Value, json};

/// Tokens of GLM-4's rank file.
const RANKS: u32 = 151_329;

/// How often each schema is compiled and its answer walked through.
const ROUNDS: u32 = 20;

/// Schemas, and an answer to each.
fn schemas() -> Vec<(Value, Value)> {
    let person = json!({"type": "object", "properties": {
        "name": {"type": "string"}, "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "email": {"type": "string", "format": "email"}, "tags": {"type": "array", "items": {"type": "string"}}
    }, "required": ["name", "age", "email", "tags"], "additionalProperties": false});
    let who = json!({"name": "Ada Lovelace, 数学家", "age": 36, "email": "ada@example.org", "tags": ["first", "of all"]});
    let tree = json!({"$ref": "#/$defs/t", "$defs": {"t": {"type": "object", "properties": {
        "v": {"type": "string", "minLength": 1, "maxLength": 40}, "next": {"type": "array", "items": {"$ref": "#/$defs/t"}}
    }, "required": ["v"], "additionalProperties": false}}});
    let trees =
        json!({"v": "root of it all", "next": [{"v": "left"}, {"v": "right", "next": [{"v": "leaf"}]}]});
    let wide: Value =
        (0..60).map(|i| (format!("field_{i}"), json!({"type": ["string", "number", "null"]}))).collect();
    let wide = json!({"type": "object", "properties": wide, "required": ["field_3"]});
    let some =
        json!({"field_1": "what one wrote", "field_3": 12.5, "field_40": null, "other": [1, {"a": true}]});
    let text = json!({"a": {"b": ["some longer text that goes on, with words; and 中文文字。", 1e3, false]}});
    vec![(person, who), (tree, trees), (wide, some), (json!({"type": "object"}), text)]
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let word = three.iter().fold(0, |word, &byte| word << 8 | u32::from(byte)) << (8 * (3 - three.len()));
        for place in 0..4 {
            let six = word >> (18 - 6 * place) & 63;
            text.push(if place <= three.len() { DIGITS[six as usize].into() } else { '=' });
        }
    }
    text
}

fn tokenizer() -> Tokenizer {
    let glm4 = tiktoken::get_encoding("glm4").unwrap();
    let ranks: String =
        (0..RANKS).map(|rank| format!("{} {rank}\n", base64(&glm4.decode(&[rank])))).collect();
    Tokenizer::from_tiktoken(ranks.as_bytes(), None).unwrap()
}

/// The vocabulary, and each schema with its answer's tokens.
fn what_is_measured(tokenizer: &Tokenizer, table: &TokenTable, end: u32) -> Value {
    let tokens: Vec<String> = (0..table.len() as u32).map(|id| base64(table.bytes(id))).collect();
    let answers: Vec<Value> = schemas()
        .into_iter()
        .map(|(schema, answer)| json!({"schema": schema, "ids": tokenizer.encode(&answer.to_string())}))
        .collect();
    json!({"tokens": tokens, "end": end, "rounds": ROUNDS, "answers": answers})
}

fn show(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e6;
    let mean = times.iter().sum::<Duration>().as_secs_f64() * 1e6 / times.len() as f64;
    println!(
        "{what}: {} of them, mean {mean:.0} us, p50 {:.0}, p99 {:.0}, max {:.0}",
        times.len(),
        at(0.5),
        at(0.99),
        at(1.0)
    );
}

fn main() {
    let tokenizer = tokenizer();
    let end = tokenizer.special_id("<|endoftext|>").unwrap();
    let begin = Instant::now();
    let table = TokenTable::new(&tokenizer, &[end]).unwrap();
    println!("table of {} tokens: {:.0} ms", table.len(), begin.elapsed().as_secs_f64() * 1e3);
    let compiler = Compiler::new(table);
    if let Some(path) = std::env::args().nth(1) {
        std::fs::write(path, what_is_measured(&tokenizer, compiler.table(), end).to_string()).unwrap();
    }
    let (mut compiles, mut masks, mut takes, mut forced) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for round in 0..ROUNDS {
        for (mut schema, value) in schemas() {
            // Another comment each time: nothing is remembered.
            schema["$comment"] = format!("{round}").into();
            let begin = Instant::now();
            let compiled = compiler.compile(&Grammar::json_schema(&schema, false)).unwrap();
            compiles.push(begin.elapsed());
            let mut matcher = compiler.matcher(&compiled, Beginning::Exact);
            let text = value.to_string();
            let mut rest = text.as_str();
            while !rest.is_empty() {
                let must = matcher.forced();
                forced += usize::from(!must.is_empty());
                let id = must.first().copied().unwrap_or_else(|| {
                    let begin = Instant::now();
                    matcher.mask().unwrap();
                    masks.push(begin.elapsed());
                    tokenizer.encode(rest)[0]
                });
                let begin = Instant::now();
                matcher.accept(id).unwrap();
                takes.push(begin.elapsed());
                rest = &rest[compiler.table().bytes(id).len()..];
            }
            assert!(matcher.may_end());
        }
    }
    show("compiled", compiles);
    show("masks", masks);
    show("tokens taken", takes);
    println!("of these forced: {forced}");
}
