//! `--draft`: the same answers with a model that guesses, figures of it, and what is no draft.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use serde_json::Value;
use support::{Ran, fixture};

fn glimmer(flags: &[&str]) -> Ran {
    support::glimmer().args(flags).output().unwrap().into()
}

#[test]
fn answers_are_the_same_with_a_draft() {
    let question = ["run", "demo", "What is the capital of France?", "--quiet", "--print-ids", "-n", "40"];
    for flags in [&["--temperature", "0"][..], &["--temperature", "1.2", "--seed", "7"]] {
        let without = glimmer(&[&question, flags].concat()).quiet_success();
        let with = glimmer(&[&question[..], flags, &["--draft", "demo"]].concat()).quiet_success();
        assert_eq!(with, without);
    }
    let told =
        glimmer(&[&question[..4], &["--json", "-n", "40", "--temperature", "0", "--draft", "demo"]].concat());
    let usage = serde_json::from_str::<Value>(&told.quiet_success()).unwrap()["usage"].take();
    assert!(usage["accepted_prediction_tokens"].as_u64() > Some(0), "{usage}");
    assert!(usage["rejected_prediction_tokens"].is_u64(), "{usage}");
}

#[test]
fn bench_tells_what_a_draft_is_worth() {
    let flags = ["bench", "demo", "--draft", "demo", "-p", "20", "-n", "40", "-r", "2"];
    let json = |more: &[&str]| {
        let all = [&flags[..], &["--output", "json"], more].concat();
        serde_json::from_str::<Value>(&glimmer(&all).quiet_success()).unwrap()
    };
    let own = json(&[]);
    let [without, with] = own["results"].as_array().unwrap().as_slice() else { panic!("{own}") };
    assert_eq!((without["guessed"].as_u64(), &with["right"]), (Some(0), &Value::Null));
    assert!(with["guessed"].as_u64() > Some(0) && with["guessed"] == with["accepted"], "{with}");
    // A draft as slow as the model itself is soon not asked any more.
    let foretold = json(&["--draft-right", "0,1"]);
    let [none, all] = [1, 2].map(|at| &foretold["results"][at]);
    assert!(none["accepted"] == 0 && all["accepted"] == all["guessed"], "{foretold}");
    let table = glimmer(&flags).quiet_success();
    assert!(table.starts_with("| guesses | tokens/s |") && table.lines().count() == 4, "{table}");
}

#[test]
fn what_cannot_guess_is_said() {
    let other = fixture("lm-eval");
    let other = other.to_str().unwrap();
    let named = ["cannot guess for demo", "lm-eval", "vocabularies differ"];
    glimmer(&["run", "demo", "Hello", "--draft", other]).fails_saying(&named);
    glimmer(&["serve", "demo", "--port", "0", "--draft", other]).fails_saying(&named);
    glimmer(&["chat", "demo", "--draft", "no such file"]).fails_saying(&["--draft", "no such file"]);
    glimmer(&["serve", "demo", "demo", "--port", "0", "--draft", "demo"]).refuses_usage(&["--draft"]);
    glimmer(&["local", "--port", "0", "--draft", "demo"]).refuses_usage(&["--draft"]);
    glimmer(&["bench", "demo", "--draft-right", "1"]).refuses_usage(&["--draft"]);
}
