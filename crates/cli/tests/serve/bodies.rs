//! What bodies may cost: memory over all requests, whatever their bytes.

use std::io::Write;

use serde_json::{Value, json};

use crate::client::{Response, Server};

/// Kibibytes that the server had resident at most.
pub fn peak(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.child.id())).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.map_or(0, |line| line.trim().trim_end_matches(" kB").parse().unwrap())
}

#[test]
fn large_bodies_do_not_fill_memory() {
    const SIZE: usize = 15 << 20;
    let server = Server::start(&[]);
    let before = peak(&server);
    let zeros = || "0,".repeat(SIZE / 2);
    let bodies = [
        ("/tokenize", format!("{{\"content\": \"{}\"}}", "a b\\n".repeat(SIZE / 5))),
        ("/tokenize", format!("{{\"content\": \"{}\", \"with_pieces\": true}}", "é€".repeat(SIZE / 5))),
        ("/tokenize", format!("{{\"prompt\": \"{}\"}}", "Once upon a time ".repeat(SIZE / 17))),
        ("/v1/chat/completions", format!("{{\"messages\": [{}0]}}", zeros())),
        (
            "/v1/chat/completions",
            format!("{{\"messages\": [{{\"role\": \"user\", \"content\": [{}0]}}]}}", zeros()),
        ),
        ("/v1/completions", format!("{{\"prompt\": [{}0]}}", zeros())),
        ("/detokenize", format!("{{\"tokens\": [{}0]}}", zeros())),
        ("/v1/completions", format!("{{\"prompt\": [{}[]]}}", "[],".repeat(SIZE / 3))),
        ("/chat", format!("{{\"prompt\": \"x\", \"history\": [{}0]}}", zeros())),
        ("/v1/completions", format!("{{\"prompt\": \"x\", \"logit_bias\": [{}0]}}", zeros())),
        (
            "/v1/completions",
            format!("{{{}\"x\":0}}", (0..SIZE / 12).map(|at| format!("\"{at:07}\":0,")).collect::<String>()),
        ),
    ];
    std::thread::scope(|scope| {
        for (path, body) in &bodies {
            let server = &server;
            scope.spawn(move || {
                let response = server.request("POST", path, &[], body);
                assert!([200, 400, 413, 429].contains(&response.status), "{path}: {}", response.status);
            });
        }
        // Small requests are served beside them.
        for _ in 0..4 {
            server.ask("/v1/completions", &json!({"prompt": "x", "max_tokens": 2, "ignore_eos": true}));
        }
    });
    let after = peak(&server);
    println!("{before} KiB resident at most before, {after} KiB after");
    assert!(after < before + (600 << 10), "{before} KiB before, {after} KiB after");
    // Each alone is answered.
    let ask = |body: &str| server.request("POST", "/tokenize", &[], body);
    let whole = ask(&bodies[0].1).json();
    assert!(whole["tokens"].as_array().unwrap().len() > SIZE / 10);
    // Too many small values are said to be what they are.
    let dense = json!({"messages": [{"role": "user", "content": Value::from(vec![0; 1 << 20])}]});
    assert_eq!(server.refused("/v1/chat/completions", &dense, 413)["param"], "messages");
}

#[test]
fn what_is_held_of_bodies_is_bounded_over_all_requests() {
    let server = Server::start(&["--max-body", "1000000"]);
    // Each has sent nearly all of its body and waits.
    let slow: Vec<_> = (0..12)
        .map(|_| {
            let mut stream = server.connect();
            let head = "POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
            write!(stream, "{head}Content-Length: 999000\r\n\r\n{}", " ".repeat(900_000)).unwrap();
            stream
        })
        .collect();
    let busy = slow.into_iter().filter(|stream| {
        stream.set_read_timeout(Some(std::time::Duration::from_secs(3))).unwrap();
        let response = Response::try_read(&mut std::io::BufReader::new(stream.try_clone().unwrap()));
        response.is_ok_and(|response| response.status == 429 && response.header("retry-after").is_some())
    });
    // Eight are waited for.
    assert_eq!(busy.count(), 4);
}
