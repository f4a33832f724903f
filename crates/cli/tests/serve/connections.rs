//! Connections: who makes room for whom, who is told at once, by what name, and what cannot keep the server from ending.

use std::io::{BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::client::{Response, Server, text_of};
use crate::support::glimmer;

#[test]
fn idle_connections_make_room() {
    let server = Server::start(&["--max-connections", "4"]);
    // One that was answered, one that says nothing, one in the middle of a head, one that is being answered.
    let mut answered = BufReader::new(server.connect());
    answered.get_mut().write_all(text_of("GET", "/livez", &[], "", "keep-alive").as_bytes()).unwrap();
    assert_eq!(Response::read(&mut answered).status, 200);
    let _silent = server.connect();
    let mut partial = server.connect();
    partial.write_all(b"GET /livez HTTP/1.1\r\nHost: loc").unwrap();
    let body = json!({"prompt": "x", "max_tokens": 1500, "ignore_eos": true, "stream": true}).to_string();
    let mut stream = server.connect();
    stream.write_all(text_of("POST", "/v1/completions", &[], &body, "close").as_bytes()).unwrap();
    stream.read_exact(&mut [0; 300]).unwrap();
    let start = Instant::now();
    let mut held = Vec::new();
    for _ in 0..3 {
        let mut next = BufReader::new(server.connect());
        next.get_mut().write_all(text_of("GET", "/livez", &[], "", "keep-alive").as_bytes()).unwrap();
        assert_eq!(Response::read(&mut next).status, 200);
        held.push(next);
    }
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    assert_eq!(answered.get_mut().read(&mut [0; 9]).unwrap(), 0, "it was closed");
    // The answer goes on to its end.
    let mut rest = String::new();
    stream.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("[DONE]"));
}

#[test]
fn who_announces_too_much_is_told_at_once() {
    let server = Server::start(&[]);
    let start = Instant::now();
    let mut stream = server.connect();
    stream
        .write_all(
            b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
              Content-Length: 99000000\r\nExpect: 100-continue\r\n\r\n",
        )
        .unwrap();
    let response = Response::read(&mut BufReader::new(stream));
    assert_eq!((response.status, &response.json()["error"]["code"]), (413, &json!("request_too_large")));
    assert!(start.elapsed() < Duration::from_secs(10));
    // What is announced within the limit is asked for.
    let mut stream = server.connect();
    stream
        .write_all(
            b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
              Content-Length: 9\r\nExpect: 100-continue\r\n\r\n",
        )
        .unwrap();
    let mut head = [0; 12];
    stream.read_exact(&mut head).unwrap();
    assert_eq!(&head, b"HTTP/1.1 100");
}

#[test]
fn a_connection_outlives_what_is_refused_unread_or_is_said_to_end() {
    let server = Server::start(&[]);
    let mut stream = BufReader::new(server.connect());
    // Refused before its body has come, on a path whose bodies nobody reads.
    let text = text_of("POST", "/v1/models/demo/replicas", &[], "{\"replica\": 2}", "keep-alive");
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    for _ in 0..3 {
        stream.get_mut().write_all(format!("{head}\r\n\r\n").as_bytes()).unwrap();
        std::thread::sleep(Duration::from_millis(50));
        stream.get_mut().write_all(body.as_bytes()).unwrap();
        let refused = Response::read(&mut stream);
        assert!(refused.status >= 400);
        assert_eq!(refused.header("connection"), None);
    }
    // More than is worth reading, and what the client waits to be asked for.
    for (length, headers) in [(1 << 20, ""), (9, "Expect: 100-continue\r\n")] {
        let mut stream = BufReader::new(server.connect());
        let head =
            format!("POST /nowhere HTTP/1.1\r\nHost: localhost\r\n{headers}Content-Length: {length}\r\n\r\n");
        stream.get_mut().write_all(head.as_bytes()).unwrap();
        let refused = Response::read(&mut stream);
        assert_eq!((refused.status, refused.header("connection")), (404, Some("close")));
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    }
}

#[test]
fn only_by_its_own_names_is_an_open_server_asked() {
    let ask = |server: &Server, host: &str| {
        let mut stream = server.connect();
        write!(stream, "GET /v1/models HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
        Response::read(&mut BufReader::new(stream))
    };
    let server = Server::start(&["--allowed-hosts", "glm.lan"]);
    let port = server.address.port();
    for host in [
        "localhost".to_owned(),
        format!("127.0.0.1:{port}"),
        format!("[::1]:{port}"),
        "GLM.lan:80".to_owned(),
    ] {
        assert_eq!(ask(&server, &host).status, 200, "{host}");
    }
    for host in ["rebound.example", "rebound.example:8000", "169.254.169.254", "localhost.example"] {
        let refused = ask(&server, host);
        assert_eq!(
            (refused.status, &refused.json()["error"]["code"]),
            (403, &json!("host_not_allowed")),
            "{host}"
        );
        assert!(refused.json()["error"]["message"].as_str().unwrap().contains("--allowed-hosts"));
    }
    // Whoever has a key or is served from elsewhere may ask by any name.
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("keys");
    std::fs::write(&file, "sk-one\n").unwrap();
    let server = Server::start(&["--api-keys", file.to_str().unwrap()]);
    assert_eq!(ask(&server, "rebound.example").status, 401);
    let server = Server::start(&["--host", "0.0.0.0", "--insecure"]);
    assert_eq!(ask(&server, "anything.example").status, 200);
}

/// Waits for the end of a server that was told to stop.
fn ends_soon(child: &mut std::process::Child) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!("the server does not end");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_log_that_nobody_reads_is_not_waited_for() {
    // The address is found by trying, for the pipe is full from the first line on.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut child = glimmer()
        .args(["serve", "--port", &port.to_string()])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    let connect = || loop {
        match TcpStream::connect(("127.0.0.1", port)) {
            Ok(stream) => return stream,
            Err(_) => assert!(Instant::now() < deadline),
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    // A pipe holds 64 KiB; 4,096 lines wait, and those after them are lost.
    let long = format!("/{}", "x".repeat(70));
    let mut stream = BufReader::new(connect());
    for _ in 0..6000 {
        stream.get_mut().write_all(text_of("GET", &long, &[], "", "keep-alive").as_bytes()).unwrap();
        assert_eq!(Response::read(&mut stream).status, 404);
    }
    stream.get_mut().write_all(text_of("GET", "/metrics", &[], "", "close").as_bytes()).unwrap();
    let figures = Response::read(&mut stream).text();
    let lost = figures.lines().find_map(|line| line.strip_prefix("glimmer_log_lines_lost_total "));
    assert!(lost.unwrap().parse::<u64>().unwrap() > 0);
    assert!(!figures.contains("xxx"), "a stranger's paths stay out of the figures");
    assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
    ends_soon(&mut child);
}

#[test]
fn keys_are_read_again_aside_and_only_good_ones_taken() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("keys");
    std::fs::write(&file, "sk-one\n").unwrap();
    let mut server = Server::start(&["--api-keys", file.to_str().unwrap()]);
    let with = |server: &Server, key: &str| {
        server.request("GET", "/v1/models", &[&format!("Authorization: Bearer {key}")], "").status
    };
    let waits_for = |server: &Server, count: usize| {
        let deadline = Instant::now() + Duration::from_secs(20);
        while server.log().matches("keys read again").count() < count {
            assert!(Instant::now() < deadline, "{}", server.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    let utf16: Vec<u8> = "\u{feff}sk-two\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let bad: [(&[u8], &str); 6] = [
        (&utf16, "no text"),
        (b"\xef\xbb\xbfsk-two\n", "byte order mark"),
        (b"sk-two\n\x00\x01\x02\n", "visible ASCII"),
        (b"sk two\n", "visible ASCII"),
        (&[b'x'; (1 << 20) + 1], "at most"),
        (b"# none\n", "no key"),
    ];
    for (at, (text, said)) in bad.into_iter().enumerate() {
        std::fs::write(&file, text).unwrap();
        server.signal("-HUP");
        waits_for(&server, at + 1);
        let log = server.log();
        let line = log.lines().rfind(|line| line.contains("keys read again")).unwrap();
        assert!(line.contains(said) && line.contains("stay as they were"), "{line}");
        assert_eq!((with(&server, "sk-one"), with(&server, "sk-two")), (200, 401), "{said}");
    }
    // A pipe, which nobody writes to.
    std::fs::remove_file(&file).unwrap();
    assert!(Command::new("mkfifo").arg(&file).status().unwrap().success());
    server.signal("-HUP");
    waits_for(&server, bad.len() + 1);
    assert!(server.log().contains("not a regular file"));
    assert_eq!(with(&server, "sk-one"), 200);
    server.signal("-TERM");
    ends_soon(&mut server.child);
}
