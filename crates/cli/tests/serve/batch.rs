//! `glimmer batch`: the same answers as over HTTP, going on after a break, and no file harmed.

use std::path::Path;

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

fn write(path: &Path, lines: &[Value]) {
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    std::fs::write(path, text).unwrap();
}

fn read(path: &Path) -> Vec<Value> {
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
        assert!(!output.exists(), "a batch that was refused leaves a file");
    }
    std::fs::write(&output, "no batch\n").unwrap();
    write(&input, &[good]);
    run(args!["batch", input, "-o", output]).fails_saying(&["out.jsonl", "new file"]);
    assert_eq!(std::fs::read(&output).unwrap(), b"no batch\n");
}

/// The last answer to each request, as whoever reads the output is to take it: custom_id and status.
fn last_answers(path: &Path) -> std::collections::BTreeMap<String, u64> {
    let status = |answer: &Value| answer["response"]["status_code"].as_u64().unwrap();
    read(path)
        .iter()
        .map(|answer| (answer["custom_id"].as_str().unwrap().to_owned(), status(answer)))
        .collect()
}

#[test]
fn what_failed_is_asked_again_and_never_forgotten() {
    let directory = tempfile::tempdir().unwrap();
    let (input, output) = (directory.path().join("in.jsonl"), directory.path().join("out.jsonl"));
    let mut asked = lines(2);
    asked[1]["body"]["model"] = "other".into();
    write(&input, &asked);
    let batch = || run(args!["batch", "--quiet", input, "-o", output]);
    batch().fails_saying(&["1 of 2", "out.jsonl"]);
    for answers in 3..5 {
        // Nothing has changed: it fails again, and the run still says so.
        batch().fails_saying(&["1 of 1", "out.jsonl"]);
        assert_eq!(read(&output).len(), answers);
    }
    let before = std::fs::read(&output).unwrap();
    run(args!["batch", "--quiet", input, "-o", output, "--keep-failures"])
        .fails_saying(&["1 of 1", "--keep-failures"]);
    assert_eq!(std::fs::read(&output).unwrap(), before);
    // What was wrong is put right: only that request is asked, and its last answer is a good one.
    run(args!["batch", "--quiet", input, "-o", output, "--any-model"]).quiet_success();
    assert_eq!(read(&output).len(), 5);
    let expected = [("request-0".to_owned(), 200), ("request-1".to_owned(), 200)];
    assert_eq!(last_answers(&output), expected.into());
    batch().quiet_success();
    assert_eq!(read(&output).len(), 5);
}

#[test]
fn a_line_that_is_no_object_has_an_error_of_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let (input, output) = (directory.path().join("in.jsonl"), directory.path().join("out.jsonl"));
    let good = lines(1).remove(0);
    // A byte order mark, as Windows' editors write it, is no part of the first line.
    let text = format!("\u{feff}{good}\n[]\n5\n\n\"x\"\nnull\n{{\"custom_id\": \n");
    std::fs::write(&input, text).unwrap();
    run(args!["batch", "--quiet", input, "-o", output]).fails_saying(&["5 of 6", "out.jsonl"]);
    let answers = read(&output);
    assert_eq!(answers.len(), 6);
    let lines: Vec<u64> = answers.iter().filter_map(|answer| answer["error"]["line"].as_u64()).collect();
    assert_eq!(std::collections::BTreeSet::from_iter(lines), [2, 3, 5, 6, 7].into());
    for answer in &answers {
        let is_good = answer["response"]["status_code"] == 200;
        assert_eq!(answer["custom_id"].is_string(), is_good);
        assert_eq!(answer["error"].is_null(), is_good);
    }
    // A file without a single request is probably not the one that was meant.
    for text in ["[]", "5\n", "\u{feff}{", "\u{7f}ELF\n"] {
        std::fs::write(&input, text).unwrap();
        let other = directory.path().join("other.jsonl");
        run(args!["batch", input, "-o", other]).fails_saying(&["in.jsonl", "line 1", "JSON object"]);
        assert!(!other.exists());
    }
}

#[test]
fn a_batch_writes_to_no_file_but_its_own_answers() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let input = at("in.jsonl");
    write(&input, &lines(3));
    let refused = |name: &str, words: &[&str]| {
        let before = std::fs::read(at(name)).unwrap();
        run(args!["batch", input, "-o", at(name)]).fails_saying(words);
        assert_eq!(std::fs::read(at(name)).unwrap(), before, "{name} was changed");
    };
    let answer = json!({"custom_id": "request-0", "response": {"status_code": 200}, "error": null});
    std::fs::write(at("binary"), vec![7; 5_000_000]).unwrap();
    std::fs::write(at("lines"), b"\x7fELF\n\n\0\0\n\xff").unwrap();
    std::fs::write(at("notes"), "no line break at all").unwrap();
    std::fs::write(at("one"), lines(1)[0].to_string()).unwrap();
    std::fs::write(at("mixed"), format!("{answer}\nmy own notes")).unwrap();
    std::fs::write(at("others"), format!("{answer}\n{}\n", answer.to_string().replace("request-0", "a")))
        .unwrap();
    std::fs::copy(&input, at("copy")).unwrap();
    for name in ["binary", "lines", "notes", "one", "mixed", "others", "copy"] {
        refused(name, &[name, "new file"]);
    }
    // The input itself, by whatever name.
    std::os::unix::fs::symlink(&input, at("symlink")).unwrap();
    std::fs::hard_link(&input, at("hardlink")).unwrap();
    for name in ["in.jsonl", "symlink", "hardlink"] {
        refused(name, &[name, "the input"]);
    }
    run(args!["batch", input, "-o", "/dev/null"]).fails_saying(&["/dev/null", "regular file"]);
    // A model that is not there is found after the output was opened.
    run(args!["batch", input, "-o", at("new"), "-m", at("no-model")]).fails_saying(&["no-model"]);
    assert!(!at("new").exists());
}

#[test]
fn one_process_at_a_time_writes_answers() {
    let directory = tempfile::tempdir().unwrap();
    let (input, output) = (directory.path().join("in.jsonl"), directory.path().join("out.jsonl"));
    write(&input, &lines(4));
    let locked = std::fs::File::create(&output).unwrap();
    locked.lock().unwrap();
    run(args!["batch", input, "-o", output]).fails_saying(&["out.jsonl", "another process"]);
    drop(locked);
    // However many are started at once, each request has one answer at the end.
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let ran = run(args!["batch", "--quiet", input, "-o", output]);
                assert!(ran.status == 0 || ran.stderr.contains("another process"), "{ran:?}");
            });
        }
    });
    assert_eq!(read(&output).len(), 4);
    assert_eq!(last_answers(&output).len(), 4);
}
