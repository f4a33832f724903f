//! `glimmer eval generation`: a file's questions answered and compared, held to `glimmer run`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::path::Path;

use serde_json::{Value, json};
use support::run;

const QUESTIONS: [&str; 5] = ["What can you do?", "Hello!", "你好", "Name a colour.", "Count to five."];

fn evaluate(data: &Path, output: &Path, flags: &[&str]) -> (Value, Vec<Value>) {
    let [data, folder] = [data, output].map(|path| path.to_str().unwrap());
    let words =
        ["-q", "eval", "generation", "demo", "--data", data, "--output", folder, "--json", "-n", "24"];
    let report =
        serde_json::from_str(&run(words.iter().chain(flags).map(Into::into)).quiet_success()).unwrap();
    let lines = std::fs::read_to_string(output.join("generated_predictions.txt")).unwrap();
    assert!(lines.starts_with("{\"labels\": \""));
    (report, lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

#[test]
fn answers_are_those_of_run_and_score_full_marks_against_themselves() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data.jsonl");
    let write = |answers: &[String]| {
        let rows = QUESTIONS.iter().zip(answers).map(|(question, answer)| match question.len() % 2 {
            0 => json!({"prompt": question, "response": answer, "history": []}).to_string(),
            _ => {
                let messages =
                    json!([{"role": "user", "content": question}, {"role": "assistant", "content": answer}]);
                json!({ "messages": messages }).to_string()
            }
        });
        std::fs::write(&data, rows.collect::<Vec<_>>().join("\n")).unwrap();
    };
    write(&vec!["纽约".to_owned(); QUESTIONS.len()]);
    let (report, lines) = evaluate(&data, folder.path(), &["--greedy", "--parallel", "2"]);
    assert_eq!(report["answers"], QUESTIONS.len());
    assert_eq!(report["rouge-1"], 0.0);
    for (question, line) in QUESTIONS.iter().zip(&lines) {
        let words = ["-q", "run", "demo", question, "-n", "24", "--temperature", "0"];
        let said = run(words.map(Into::into)).quiet_success();
        assert_eq!(line["labels"], "纽约");
        assert_eq!(line["predict"], said.trim(), "{question}");
    }
    let answers: Vec<String> =
        lines.iter().map(|line| line["predict"].as_str().unwrap().to_owned()).collect();
    write(&answers);
    let (report, again) = evaluate(&data, folder.path(), &["--greedy"]);
    assert!(again.iter().all(|line| line["predict"] == line["labels"]), "{again:?}");
    assert!(report["bleu-4"] == 100.0 && report["rouge-l"].as_f64().unwrap() > 99.9, "{report}");

    // Sampled answers depend on the seed alone.
    let sampled = |flags: &[&str]| evaluate(&data, folder.path(), flags).1;
    let first = sampled(&["--seed", "7"]);
    assert_eq!(sampled(&["--seed", "7", "--parallel", "1"]), first);
    assert_eq!(sampled(&["--seed", "7", "--max-samples", "2"]), first[..2]);
}

#[test]
fn data_that_ask_nothing_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data.jsonl");
    for (text, expected) in [
        ("", "the file is empty"),
        ("{\"messages\": [", "line 1: broken JSON at column"),
        ("{\"text\": \"a\"}", "line 1: a text asks nothing"),
        ("{\"question\": \"a\"}", "name two with --prompt-column and --response-column"),
    ] {
        std::fs::write(&data, text).unwrap();
        let words = ["eval", "generation", "demo", "--data", data.to_str().unwrap()];
        run(words.map(Into::into)).fails_saying(&[expected]);
    }
}
