//! The demo model that the program brings along: it holds the conversations it was made for, in `glimmer chat` as a
//! person has them, its own answers being what later questions refer to.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that cannot go on has failed")]

mod support;

use std::path::Path;

use serde_json::{Value, json};
use support::{root, run, run_with_input};

/// Turns that the stored model does not answer as wanted, of the forty and of the twelve with tools. A better model
/// lowers them.
const MISSED: (usize, usize) = (0, 0);

/// The lines of a file of `tools/demo`.
fn items(name: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(root().join("tools/demo").join(name)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Types lines into `glimmer chat`, stores the conversation and answers its messages.
fn converse(lines: &[&str], flags: &[&str], directory: &Path) -> Vec<Value> {
    let file = directory.join("conversation.json");
    let input = lines.join("\n") + "\n/save " + file.to_str().unwrap() + "\n";
    let mut command = args!["chat", "--quiet"];
    command.extend(flags.iter().map(Into::into));
    run_with_input(command, input.as_bytes()).quiet_success();
    let stored: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    std::fs::remove_file(&file).unwrap();
    assert_eq!(stored["model"], "demo");
    stored["messages"].as_array().unwrap().clone()
}

/// What an answer lacks of what it should have.
fn lacks(item: &Value, answer: &Value) -> Option<String> {
    let content = answer["content"].as_str().unwrap();
    if let Some(name) = item.get("call") {
        let called = &answer["tool_calls"][0]["function"];
        let arguments: Value =
            called["arguments"].as_str().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
        let good = called["name"] == *name && arguments == item["arguments"];
        return (!good).then(|| format!("{} => {answer}", item["user"]));
    }
    let good = answer.get("tool_calls").is_none()
        && item["contains"].as_array().unwrap().iter().all(|part| content.contains(part.as_str().unwrap()));
    (!good).then(|| format!("{} => {content:?}, wanted {}", item["user"], item["contains"]))
}

#[test]
fn a_conversation_of_forty_turns() {
    let items = items("acceptance.jsonl");
    assert_eq!(items.len(), 40);
    let questions: Vec<&str> = items.iter().map(|item| item["user"].as_str().unwrap()).collect();
    let directory = tempfile::tempdir().unwrap();
    let messages = converse(&questions, &[], directory.path());
    assert_eq!(messages.len(), 80);
    let wrong: Vec<String> =
        items.iter().zip(messages.chunks(2)).filter_map(|(item, round)| lacks(item, &round[1])).collect();
    println!("{} of 40 as wanted\n{}", 40 - wrong.len(), wrong.join("\n"));
    assert!(wrong.len() <= MISSED.0, "{}", wrong.join("\n"));
}

#[test]
fn conversations_with_tools() {
    let items = items("acceptance_tools.jsonl");
    let directory = tempfile::tempdir().unwrap();
    let mut wrong = Vec::new();
    for conversation in items.split(|item| item.get("tools").is_some()).skip(1) {
        let at = items.iter().position(|item| item == &conversation[0]).unwrap();
        let tools = directory.path().join("tools.json");
        std::fs::write(&tools, items[at - 1]["tools"].to_string()).unwrap();
        let line = |item: &'_ Value| {
            item.get("user").or_else(|| item.get("observation")).unwrap().as_str().unwrap().to_owned()
        };
        let lines: Vec<String> = conversation.iter().map(line).collect();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let messages = converse(&lines, &["--tools", tools.to_str().unwrap()], directory.path());
        let rounds = conversation.iter().zip(messages.chunks(2));
        wrong.extend(rounds.filter_map(|(item, round)| lacks(item, &round[1])));
    }
    println!("{} of 12 as wanted\n{}", 12 - wrong.len(), wrong.join("\n"));
    assert!(wrong.len() <= MISSED.1, "{}", wrong.join("\n"));
}

#[test]
fn tools_are_programs_of_this_machine() {
    let items = items("acceptance_tools.jsonl");
    let directory = tempfile::tempdir().unwrap();
    let tools = directory.path().join("tools.json");
    std::fs::write(&tools, items[8]["tools"].to_string()).unwrap();
    let oslo = "And what's the weather like in Oslo today?";
    let flags = ["--tools", tools.to_str().unwrap(), "--tool-command", "get_weather=cat"];
    let results = |lines: &[&str]| -> Vec<String> {
        let messages = converse(lines, &flags, directory.path());
        let results = messages.iter().filter(|message| message["role"] == "tool");
        results.map(|message| message["content"].as_str().unwrap().to_owned()).collect()
    };
    let arguments = "{\"city\": \"Oslo\"}";
    // What the program prints, here its input, is the result; whoever says no types it.
    assert_eq!(results(&[oslo, "y", "What is 2 + 3?"]), [arguments]);
    assert_eq!(results(&[oslo, "n", "snow"]), ["snow"]);
    assert_eq!(results(&[oslo, "always", oslo, oslo]), [arguments; 3]);
    assert_eq!(results(&[oslo, "/undo", "2 + 3"]), [""; 0]);
    // A tool without a program, an answer that is none, a program that is not there.
    assert_eq!(
        results(&["Hi! Could you tell me what time it is in Reykjavik right now?", "09:41"]),
        ["09:41"]
    );
    let chat = |command: &str, lines: &str| {
        run_with_input(args!["chat", "--tools", tools, "--tool-command", command], lines.as_bytes())
    };
    let ran = chat("get_weather=cat", &format!("{oslo}\nperhaps\ny\n"));
    assert!(ran.stderr.contains("y runs the program") && ran.stderr.contains(arguments), "{}", ran.stderr);
    let ran = chat("get_weather=./no-such-program", &format!("{oslo}\ny\nsnow\n"));
    assert!(ran.status == 0 && ran.stderr.contains("./no-such-program"), "{}", ran.stderr);
    run(args!["chat", "--tool-command", "get_weather"]).refuses_usage(&["--tool-command", "NAME=PROGRAM"]);
}

#[test]
fn the_same_seed_gives_the_same_answer_on_one_thread_and_two() {
    let answer = |threads: &str, seed: &str| {
        let flags = ["--temperature", "1.5", "-n", "60", "--ignore-eos", "--json", "--quiet"];
        let mut command =
            args!["run", "demo", "Tell me about yourself", "--threads", threads, "--seed", seed];
        command.extend(flags.iter().map(Into::into));
        let record: Value = serde_json::from_str(&run(command).quiet_success()).unwrap();
        record["text"].as_str().unwrap().to_owned()
    };
    assert_eq!(answer("1", "7"), answer("2", "7"));
    assert_ne!(answer("1", "7"), answer("1", "8"));
}

#[test]
fn it_says_that_it_is_a_demo_wherever_it_answers() {
    let ran = run(args!["run", "demo", "Hello!"]);
    assert!(ran.stderr.contains("demo model"), "{}", ran.stderr);
    let ran = run_with_input(args!["chat"], b"Hello!\n");
    assert!(ran.stderr.contains("demo model") && ran.stdout.contains("demo"), "{ran:?}");
    assert_eq!(run(args!["run", "./demo", "Hello!"]).fails_saying(&["./demo", "no such file"]), "");
}

#[test]
fn commands_of_the_conversation() {
    let directory = tempfile::tempdir().unwrap();
    let stored = directory.path().join("stored.json");
    let typed = [
        "Hello!",
        "2 + 3",
        "/undo",
        "/tokens",
        "/regenerate",
        "/system You are brief.",
        "/system",
        "/system -",
        "/set top_k 4",
        "/set",
        &format!("/save {}", stored.display()),
        &format!("/save {}", stored.display()),
        "clear",
        "/tokens",
        "/help",
        &format!("/load {}", stored.display()),
        "/tokens",
        "stop",
        "never read",
    ];
    let ran = run_with_input(args!["chat", "--quiet", "--seed", "5"], typed.join("\n").as_bytes());
    assert_eq!((ran.status, ran.stderr.as_str()), (0, ""));
    let out = ran.stdout;
    let (before, after) = out.split_once("of 2048 tokens, 1 round\n").unwrap();
    assert_eq!(before.lines().count(), 3, "{out}");
    assert_eq!(after.lines().next(), before.lines().next(), "the same answer again: {out}");
    assert!(after.contains("You are brief.\n") && after.contains("top_k 4\n") && after.contains("seed 5\n"));
    assert!(after.contains("0 of 2048 tokens, 0 rounds\n") && after.contains("\n/regenerate "));
    assert!(after.ends_with("of 2048 tokens, 1 round\n") && !after.contains("never"), "{out}");

    let exists = directory.path().join("exists");
    std::fs::write(&exists, "precious").unwrap();
    let wrong = [
        "/undo".to_owned(),
        "/regenerate".to_owned(),
        "/nothing".to_owned(),
        "/set temperature hot".to_owned(),
        format!("/save {}", exists.display()),
        format!("/load {}", exists.display()),
        "Hello!".to_owned(),
    ];
    let ran = run_with_input(args!["chat"], wrong.join("\n").as_bytes());
    assert_eq!((ran.status, ran.stderr.matches("warning: ").count()), (0, 6), "{}", ran.stderr);
    assert_eq!(
        (std::fs::read_to_string(&exists).unwrap().as_str(), ran.stdout.lines().count()),
        ("precious", 1)
    );
}

#[test]
fn a_full_context_ends_the_answer_or_forgets_the_oldest_rounds() {
    let rounds = ["Which commands are there, and what is 2 + 2?"; 12].join("\n");
    let chat = |flags: &[&str]| {
        let mut command = args!["chat", "--ctx", "120"];
        command.extend(flags.iter().map(Into::into));
        run_with_input(command, rounds.as_bytes())
    };
    let stopped = chat(&[]);
    assert_eq!(stopped.status, 1, "{}", stopped.stderr);
    assert!(stopped.stderr.contains("context 120") && stopped.stderr.contains("--on-full slide"));
    let slid = chat(&["--on-full", "slide"]);
    assert_eq!((slid.status, slid.stdout.lines().count()), (0, 12), "{}", slid.stderr);
    assert!(slid.stderr.contains("forgotten"), "{}", slid.stderr);
}

#[test]
fn stop_strings_end_before_themselves() {
    let whole = run(args!["run", "demo", "Hello!", "--quiet"]).quiet_success();
    let word = whole.split_whitespace().nth(3).unwrap();
    let cut = run(args!["run", "demo", "Hello!", "--quiet", "--stop", word]).quiet_success();
    assert_eq!(cut.trim_end(), whole.split_once(word).unwrap().0.trim_end());
    let record = run(args!["run", "demo", "Hello!", "--quiet", "--stop", word, "--json"]).quiet_success();
    let record: Value = serde_json::from_str(&record).unwrap();
    assert_eq!((&record["finish_reason"], &record["stop"]), (&json!("stop"), &json!(word)));
    let ids = run(args!["tokenize", "demo", "Hello!", "--add-special"]).quiet_success();
    let flags = ["--quiet", "--ids", ids.trim_end(), "--stop", "e", "-n", "30"];
    let mut command = args!["run", "demo"];
    command.extend(flags.iter().map(Into::into));
    assert!(!run(command).quiet_success().contains('e'));
}
