//! The programs in `examples/`, run as they stand. `cargo test` builds them first.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::Path;
use std::process::Command;

fn run(name: &str, arguments: &[&str]) -> String {
    // Beside the folder of this test's own program.
    let test = std::env::current_exe().unwrap();
    let program = test.parent().and_then(Path::parent).unwrap().join("examples").join(name);
    let output = Command::new(&program).args(arguments).output();
    let output =
        output.unwrap_or_else(|error| panic!("{}: {error}; `cargo test` builds it", program.display()));
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn fixture(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(name).display().to_string()
}

#[test]
fn an_answer() {
    assert_eq!(run("answer", &["demo", "3 + 4?"]).trim(), "3 + 4 = 7.");
}

#[test]
fn the_program_in_readme_is_the_one_that_was_run() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = std::fs::read_to_string(root.join("../../README.md")).unwrap();
    let example = std::fs::read_to_string(root.join("examples/answer.rs")).unwrap();
    let code = &example[example.find("use glimmer").unwrap()..];
    assert!(
        readme.contains(&format!("```rust\n{code}```")),
        "README.md shows another program than answer.rs"
    );
}

#[test]
fn answers_to_several_questions_at_once() {
    let printed = run("stream", &["demo"]);
    let text = |question: &str| -> String {
        let lines = printed.lines().filter(|line| line.starts_with(question));
        lines.map(|line| line[32..].trim().trim_matches('"')).collect()
    };
    assert_eq!(text("3 + 4?"), "3 + 4 = 7.");
    assert!(!text("What is").is_empty(), "{printed}");
}

#[test]
fn a_tool_that_the_model_calls() {
    let printed = run("tools", &["demo"]);
    let (call, answer) = printed.split_once('\n').unwrap();
    assert_eq!(call, r#"get_weather {"city": "Oslo"}"#);
    assert!(answer.contains("-4") && answer.contains("snow"), "{printed}");
}

#[test]
fn how_alike_texts_are() {
    let encoder = fixture("text2vec-bert");
    assert_eq!(run("embed", &[&encoder, "hello", "hello"]).trim(), "1.0000");
}

#[test]
fn the_likeliest_tokens() {
    let printed = run("logits", &[&fixture("chatglm3-6b"), "12,34,56"]);
    let last = printed.lines().last().unwrap();
    // The first of the tokens that README's `glimmer run` of these ids prints.
    assert!(last.contains("132"), "{last}");
    assert_eq!(printed.lines().count(), 3);
}
