//! `glimmer batch`: the same answers as over HTTP, and going on after a break.

use serde_json::{Value, json};

use crate::args;
use crate::client::Server;
use crate::support::run;

fn lines(count: usize) -> Vec<Value> {
    (0..count)
        .map(|at| {
            json!({
                "custom_id": format!("request-{at}"), "method": "POST", "url": "/v1/chat/completions",
                "body": {"model": "demo", "messages": [{"role": "user", "content": format!("{at} + 2?")}], "temperature": 0},
            })
        })
        .collect()
}

fn write(path: &std::path::Path, lines: &[Value]) {
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    std::fs::write(path, text).unwrap();
}

fn read(path: &std::path::Path) -> Vec<Value> {
    std::fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_batch_is_what_a_server_answers() {
    let directory = tempfile::tempdir().unwrap();
    let (input, output) = (directory.path().join("in.jsonl"), directory.path().join("out.jsonl"));
    let mut asked = lines(20);
    write(&input, &asked);
    let batch = || run(args!["batch", "--quiet", input, "-o", output]);
    batch().quiet_success();
    let answers = read(&output);
    assert_eq!(answers.len(), 20);
    let server = Server::start(&[]);
    for line in &asked[..5] {
        let answer = answers.iter().find(|answer| answer["custom_id"] == line["custom_id"]).unwrap();
        assert_eq!(answer["response"]["status_code"], 200);
        assert!(answer["error"].is_null());
        let direct = server.ask("/v1/chat/completions", &line["body"]);
        assert_eq!(answer["response"]["body"]["choices"], direct["choices"]);
    }
    // Cut off in the middle of a line: the rest is answered, and nothing twice.
    let text = std::fs::read_to_string(&output).unwrap();
    let half: usize = text.lines().take(8).map(|line| line.len() + 1).sum();
    std::fs::write(&output, &text[..half + 30]).unwrap();
    batch().quiet_success();
    let again = read(&output);
    assert_eq!(again.len(), 20);
    let mut names: Vec<&str> = again.iter().map(|answer| answer["custom_id"].as_str().unwrap()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), 20);
    // Nothing left to do.
    batch().quiet_success();
    assert_eq!(read(&output), again);

    // A request that is refused has its answer, too, and the run says so.
    asked.push(json!({
        "custom_id": "wrong", "method": "POST", "url": "/v1/completions", "body": {"model": "other", "prompt": "x"}
    }));
    write(&input, &asked);
    batch().fails_saying(&["1 of 1", "out.jsonl"]);
    let last = read(&output).pop().unwrap();
    assert_eq!(last["response"]["status_code"], 404);
    assert_eq!(last["response"]["body"]["error"]["code"], "model_not_found");
}

#[test]
fn a_batch_that_makes_no_sense_is_refused_before_anything_is_computed() {
    let directory = tempfile::tempdir().unwrap();
    let (input, output) = (directory.path().join("in.jsonl"), directory.path().join("out.jsonl"));
    let good = lines(1).remove(0);
    for (field, value, words) in [
        ("custom_id", json!(5), vec!["line 2", "custom_id"]),
        ("custom_id", good["custom_id"].clone(), vec!["line 2", "before"]),
        ("method", json!("GET"), vec!["line 2", "POST"]),
        ("url", json!("/chat"), vec!["line 2", "/v1/completions"]),
        ("body", json!({"stream": true}), vec!["line 2", "streams"]),
        ("body", json!([]), vec!["line 2", "body"]),
    ] {
        let mut bad = good.clone();
        bad["custom_id"] = "other".into();
        bad[field] = value;
        write(&input, &[good.clone(), bad]);
        run(args!["batch", input, "-o", output]).fails_saying(&words);
        assert_eq!(std::fs::read(&output).unwrap(), b"");
    }
    std::fs::write(&output, "no batch\n").unwrap();
    write(&input, &[good]);
    run(args!["batch", input, "-o", output]).fails_saying(&["out.jsonl", "new file"]);
    assert_eq!(std::fs::read(&output).unwrap(), b"no batch\n");
}
