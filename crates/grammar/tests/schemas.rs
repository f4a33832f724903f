//! Schemas that people wrote, a fixed sample of JSONSchemaBench, with MaskBench's instances forced through masks.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that cannot go on has failed")]

mod support;

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::Path;

use flate2::read::GzDecoder;
use glimmer_grammar::{Grammar, GrammarError};
use serde_json::Value;
use support::Kit;

/// Schemas of each of the benchmark's groups, of which the sample has as many of each.
const GROUPS: [(&str, f64); 10] = [
    ("Glaiveai2K", 1707.0),
    ("Github_trivial", 444.0),
    ("Github_easy", 1943.0),
    ("Snowplow", 403.0),
    ("Github_medium", 1976.0),
    ("Kubernetes", 1064.0),
    ("WashingtonPost", 125.0),
    ("Github_hard", 1240.0),
    ("JsonSchemaStore", 492.0),
    ("Github_ultra", 164.0),
];
/// Shares of schemas that masks hold answers to wholly: of the sample, where small groups of hard ones weigh as much as the
/// others, and of the benchmark.
const OF_SAMPLE: f64 = 0.89;
const OF_BENCHMARK: f64 = 0.93;

/// What became of the sample's schemas.
#[derive(Default)]
struct Outcome {
    /// Held to wholly, by group.
    exact: BTreeMap<String, f64>,
    checked: Vec<String>,
    refused: Vec<String>,
    /// Instances that pass and should not, or do not and should.
    wrong: Vec<String>,
}

fn run() -> Outcome {
    let kit = Kit::new("glm4-tiktoken");
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/json-schema-bench/sample.jsonl.gz");
    let mut outcome = Outcome::default();
    let packed = File::open(sample).unwrap();
    for line in io::read_to_string(GzDecoder::new(packed)).unwrap().lines() {
        let entry: Value = serde_json::from_str(line).unwrap();
        let name = entry["name"].as_str().unwrap();
        let compiled = match kit.compiler.compile(&Grammar::json_schema(&entry["schema"], false)) {
            Ok(compiled) => compiled,
            Err(error) => {
                assert!(matches!(error, GrammarError::Schema { .. }), "{name}: {error}");
                outcome.refused.push(format!("{name}: {error}"));
                continue;
            }
        };
        if compiled.unmasked().is_empty() {
            let group = name.split_once("---").unwrap().0;
            *outcome.exact.entry(group.to_owned()).or_default() += 1.0;
        } else {
            outcome.checked.push(format!("{name}: {:?}", compiled.unmasked()));
        }
        for (i, test) in entry["tests"].as_array().unwrap().iter().enumerate() {
            let valid = test["valid"].as_bool().unwrap();
            let text = kit.written(&compiled, &entry["schema"], &test["data"]);
            if text.is_some_and(|text| compiled.check(&text).is_ok()) != valid {
                outcome.wrong.push(format!("{name}, {i}: valid {valid}"));
            }
        }
    }
    outcome
}

#[test]
fn schemas_of_the_sample_are_held_to() {
    let Outcome { exact, checked, refused, wrong } = run();
    let of_sample: f64 = exact.values().sum();
    let each = (of_sample + checked.len() as f64 + refused.len() as f64) / GROUPS.len() as f64;
    let share = |group: &str| exact.get(group).copied().unwrap_or_default() / each;
    let all: f64 = GROUPS.iter().map(|(_, size)| size).sum();
    let of_benchmark = GROUPS.iter().map(|(group, size)| share(group) * size).sum::<f64>() / all;
    println!("exact {of_sample}, checked {}, refused {}: {exact:?}", checked.len(), refused.len());
    println!("of the benchmark {of_benchmark:.3}\nchecked {checked:#?}\nrefused {refused:#?}");
    assert_eq!(wrong, [""; 0]);
    // It refers to a definition that it does not have.
    assert_eq!(refused.len(), 1);
    assert!(of_sample / (each * GROUPS.len() as f64) >= OF_SAMPLE);
    assert!(of_benchmark >= OF_BENCHMARK);
}
