//! What becomes of a program whose card is lost in the middle of an answer: the emulated one stands in.
#![cfg(feature = "emulate")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(unreachable_pub, reason = "a test has no users")]

#[allow(dead_code, reason = "other tests use more of it")]
#[path = "serve/client.rs"]
mod client;
mod support;

use std::io::BufReader;

use client::{Response, Server, events};
use serde_json::{Value, json};
use support::{Ran, glimmer, ran_with_input};

/// Kernels of a card that is lost after a dozen of the demo model's tokens.
const FEW: (&str, &str) = ("GLIMMER_EMULATED_KERNELS", "600");
const LOST: &str = "the device is lost";

fn on_a_card_that_is_lost(args: &[&str], input: &[u8]) -> Ran {
    let mut command = glimmer();
    command.env(FEW.0, FEW.1).args(args);
    ran_with_input(command, input)
}

#[test]
fn an_answer_that_is_broken_off_fails() {
    let run = on_a_card_that_is_lost(
        &["run", "demo", "Tell me of the sea.", "--device", "cuda", "--ignore-eos", "-q"],
        b"",
    );
    assert!(run.fails_saying(&[LOST]).ends_with('\n'), "a line is ended before an error follows");

    let chat = on_a_card_that_is_lost(&["chat", "demo", "--device", "cuda", "-q"], &b"and on?\n".repeat(20));
    assert!(chat.fails_saying(&[LOST]).ends_with('\n'));
}

#[test]
fn a_server_tells_every_request_and_ends() {
    let flags = ["--device", "cuda", "--parallel", "2"];
    let mut server = Server::start_with(&flags, &[FEW]);
    // Some are computed and some wait.
    let body = json!({"prompt": "x", "max_tokens": 1500, "ignore_eos": true, "stream": true}).to_string();
    let streams = [(); 5].map(|()| server.send("POST", "/v1/completions", &[], &body));
    for stream in streams {
        let response = Response::read(&mut BufReader::new(stream));
        let error = match response.status {
            200 => serde_json::from_str::<Value>(events(&response.text()).last().unwrap()).unwrap(),
            _ => response.json(),
        };
        assert!(error["error"]["message"].as_str().unwrap().contains(LOST), "{error}");
    }
    assert_eq!(server.end(), 1);
    let log = server.log();
    let last = log.lines().last().unwrap();
    assert!(last.starts_with("error: ") && last.contains(LOST) && last.contains("the server ends"), "{log}");
}

#[test]
fn a_batch_ends_and_keeps_its_answers() {
    let directory = tempfile::tempdir().unwrap();
    let [input, output] = ["in.jsonl", "out.jsonl"].map(|name| directory.path().join(name));
    let line = |i: usize| {
        let body = json!({"prompt": "x", "max_tokens": 3, "ignore_eos": true});
        json!({"custom_id": format!("{i}"), "method": "POST", "url": "/v1/completions", "body": body})
    };
    let lines: String = (0..200).map(|i| format!("{}\n", line(i))).collect();
    std::fs::write(&input, lines).unwrap();
    let paths = [&input, &output].map(|path| path.to_str().unwrap());
    let args =
        ["batch", paths[0], "-o", paths[1], "--model", "demo", "--device", "cuda", "--parallel", "1", "-q"];
    on_a_card_that_is_lost(&args, b"").fails_saying(&[LOST]);

    let answers = std::fs::read_to_string(&output).unwrap();
    let status =
        |line: &str| serde_json::from_str::<Value>(line).unwrap()["response"]["status_code"].as_u64();
    let statuses: Vec<_> = answers.lines().map(|line| status(line).unwrap()).collect();
    let (good, bad) = statuses.split_at(statuses.iter().position(|&status| status != 200).unwrap());
    // Those that were under way are told; nobody else is asked.
    assert!(!good.is_empty() && bad.len() <= 3 && bad.iter().all(|&status| status == 500), "{statuses:?}");
}
