//! Clients that go away, that read slowly, that send nonsense; the end of the server.

use std::io::{BufReader, Read, Write};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::{Response, Server, events};

fn long() -> String {
    json!({"prompt": "x", "max_tokens": 1500, "ignore_eos": true, "temperature": 1, "stream": true})
        .to_string()
}

#[test]
fn who_goes_away_is_not_answered_any_more() {
    let server = Server::start(&["--parallel", "2"]);
    let whole = json!({"prompt": "x", "max_tokens": 1500, "ignore_eos": true, "n": 2}).to_string();
    for _ in 0..5 {
        // In the middle of a stream.
        let mut stream = server.send("POST", "/v1/completions", &[], &long());
        let mut some = [0; 500];
        stream.read_exact(&mut some).unwrap();
        drop(stream);
        // Before anything came.
        let stream = server.send("POST", "/v1/completions", &[], &whole);
        std::thread::sleep(Duration::from_millis(30));
        drop(stream);
    }
    server.rest();
    let started = server.metric("glimmer_answers_total{model=\"demo\",end=\"abort\"}");
    assert!(started >= 5.0, "{started} answers were broken off");
    // All of it is free again.
    let answer = server.ask("/v1/completions", &json!({"prompt": "x", "max_tokens": 3, "ignore_eos": true}));
    assert_eq!(answer["usage"]["completion_tokens"], 3);
    assert!(server.log().contains("status=499"));
}

#[test]
fn who_reads_slowly_does_not_fill_memory() {
    let server = Server::start(&[
        "--max-behind",
        "8",
        "--parallel",
        "64",
        "--ctx",
        "2048",
        "--cache-tokens",
        "140000",
    ]);
    let body = json!({
        "prompt": "x", "n": 64, "max_tokens": 2000, "ignore_eos": true, "temperature": 1, "stream": true, "logprobs": 20,
    });
    let stream = server.send("POST", "/v1/completions", &[], &body.to_string());
    // Nothing is read until the server has given up.
    let deadline = Instant::now() + Duration::from_secs(100);
    while server.metric("glimmer_requests_running{") + server.metric("glimmer_requests_waiting{") == 0.0 {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(5));
    }
    let other = server.ask("/v1/completions", &json!({"prompt": "y", "max_tokens": 4, "ignore_eos": true}));
    assert_eq!(other["usage"]["completion_tokens"], 4);
    std::thread::sleep(Duration::from_secs(3));
    let response = Response::read(&mut BufReader::new(stream));
    let events = events(&response.text());
    let last: Value = serde_json::from_str(events.last().unwrap()).unwrap();
    assert_eq!(last["error"]["code"], "slow_reader", "{last}");
    server.rest();
}

#[test]
fn the_end_lets_answers_finish() {
    let mut server = Server::start(&["--parallel", "4"]);
    let mut streams: Vec<_> = (0..8)
        .map(|_| BufReader::new(server.send("POST", "/v1/completions", &[], &long().replace("1500", "400"))))
        .collect();
    // All of them have been taken.
    let deadline = Instant::now() + Duration::from_secs(60);
    while server.metric("glimmer_requests_running{") + server.metric("glimmer_requests_waiting{") < 8.0 {
        assert!(Instant::now() < deadline);
    }
    server.signal("-TERM");
    for stream in &mut streams {
        let response = Response::read(stream);
        assert_eq!(response.status, 200);
        let events = events(&response.text());
        assert_eq!(events.last().unwrap(), "[DONE]");
    }
    assert_eq!(server.end(), 0);
    assert!(server.log().contains("stopped"));
    assert!(std::net::TcpStream::connect(server.address).is_err());
}

#[test]
fn a_second_signal_ends_at_once() {
    let mut server = Server::start(&[]);
    let mut stream = server.send("POST", "/v1/completions", &[], &long());
    stream.read_exact(&mut [0; 50]).unwrap();
    server.signal("-INT");
    while !server.log().contains("stopping") {
        std::thread::sleep(Duration::from_millis(5));
    }
    server.signal("-INT");
    assert_eq!(server.end(), 0);
}

#[test]
fn nonsense_is_answered_or_cut_off() {
    let server = Server::start(&[]);
    let deep = "[".repeat(100_000);
    let texts: [&[u8]; 8] = [
        b"\r\n\r\n",
        b"GET\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
        b"POST /chat HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /../../etc/passwd HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    ];
    for text in texts {
        let mut stream = server.connect();
        stream.write_all(text).unwrap();
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(
            !answer.starts_with(b"HTTP/1.1 2") && !answer.starts_with(b"HTTP/1.1 5"),
            "{:?}",
            String::from_utf8_lossy(text)
        );
    }
    for body in [deep.as_str(), "{\"messages\":", "{\"model\": \"\\ud800\"}", "\u{0}"] {
        assert_eq!(server.request("POST", "/v1/chat/completions", &[], body).status, 400);
    }
    server.ask("/v1/completions", &json!({"prompt": "\u{0}\u{fffe}<|user|>", "max_tokens": 2}));
}
