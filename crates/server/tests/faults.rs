//! A server that has no model yet, and one whose encoder has a fault: through its public face and real sockets.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;

use glimmer::{Embedder, Loaded, Registry, Tokenizer};
use glimmer_server::{Options, Server};

/// The status and the text of an answer.
fn ask(address: SocketAddr, method: &str, path: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    let head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
    let length = body.len();
    let text = format!("{head}Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}");
    stream.write_all(text.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    (answer.split(' ').nth(1).unwrap().parse().unwrap(), answer)
}

/// Tokens of a text that [`faulty`] cannot bear.
const UNBEARABLE: usize = 10;

/// An encoder that cannot bear long texts.
fn faulty() -> Registry {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/text2vec-bert");
    let tokenizer = Tokenizer::from_dir(&dir).unwrap();
    let embedder = Embedder::new("faulty".to_owned(), tokenizer, 512, 2, |texts| {
        assert!(texts.iter().all(|text| text.ids.len() < UNBEARABLE), "as the test wants");
        Ok(texts.iter().map(|text| vec![text.ids.len() as f32, 1.0]).collect())
    });
    let registry = Registry::default();
    registry.add(Loaded::embedder(embedder)).unwrap();
    registry
}

#[test]
fn who_asks_too_early_is_told_when_to_come_again() {
    let server = Server::start(Options { port: 0, is_silent: true, ..Options::default() }).unwrap();
    let address = server.address();
    for (method, path, body) in [
        ("GET", "/health", ""),
        ("GET", "/readyz", ""),
        ("GET", "/v1/models", ""),
        ("POST", "/v1/chat/completions", r#"{"messages": [{"role": "user", "content": "Hello"}]}"#),
        ("POST", "/v1/completions", r#"{"prompt": "Hello"}"#),
        ("POST", "/v1/embeddings", r#"{"input": "Hello"}"#),
        ("POST", "/chat", r#"{"prompt": "Hello"}"#),
    ] {
        let (status, text) = ask(address, method, path, body);
        assert_eq!(status, 503, "{path}: {text}");
        assert!(text.to_lowercase().contains("retry-after: 1\r\n"), "{path}: {text}");
        assert!(text.contains("the model is being loaded"), "{path}: {text}");
    }
    // It lives all the same.
    assert_eq!(ask(address, "GET", "/livez", "").0, 200);
    server.ready(faulty(), &[]).unwrap();
    assert_eq!(ask(address, "GET", "/health", "").0, 200);
    assert_eq!(ask(address, "POST", "/v1/embeddings", r#"{"input": "Hello"}"#).0, 200);
    server.stop();
    server.wait().unwrap();
}

#[test]
fn a_panic_is_the_requests_alone() {
    let server = Server::start(Options { port: 0, is_silent: true, ..Options::default() }).unwrap();
    server.ready(faulty(), &[]).unwrap();
    let address = server.address();
    let others = std::thread::spawn(move || {
        (0..50).map(|_| ask(address, "POST", "/v1/embeddings", r#"{"input": "short"}"#).0).collect::<Vec<_>>()
    });
    let long = format!(r#"{{"input": "{}"}}"#, "long ".repeat(UNBEARABLE));
    for _ in 0..20 {
        let (status, text) = ask(address, "POST", "/v1/embeddings", &long);
        assert_eq!(status, 500);
        assert!(text.contains("server_error"), "{text}");
    }
    assert_eq!(others.join().unwrap(), [200; 50]);
    server.stop();
    server.wait().unwrap();
}
