//! Keys, origins, limits, figures, the log, TLS.

use std::io::{BufReader, Read, Write};
use std::path::Path;

use serde_json::{Value, json};

use crate::args;
use crate::client::{Response, Server, text_of};
use crate::support::{Ran, glimmer, run};

fn question() -> Value {
    json!({"model": "demo", "messages": [{"role": "user", "content": "Hello, my secret!"}], "max_tokens": 4})
}

#[test]
fn who_may_listen_where() {
    for host in ["0.0.0.0", "::"] {
        let output = glimmer().args(["serve", "--port", "0", "--host", host]).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(text.contains("--api-keys") && text.contains("--insecure"), "{text}");
    }
    let server = Server::start(&["--host", "0.0.0.0", "--insecure"]);
    assert_eq!(server.get("/health").status, 200);
    // A port that is taken.
    let port = server.address.port().to_string();
    let output =
        glimmer().args(["serve", "--port", &port, "--host", "0.0.0.0", "--insecure"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn keys() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("keys");
    std::fs::write(&file, "# ours\nsk-one\n\nsk-two\n").unwrap();
    let server = Server::start(&["--api-keys", file.to_str().unwrap()]);
    let with = |header: &str| {
        server.request("POST", "/v1/chat/completions", &[header], &question().to_string()).status
    };
    let refused = server.post("/v1/chat/completions", &question());
    assert_eq!(refused.status, 401);
    assert_eq!(refused.json()["error"]["code"], "invalid_api_key");
    assert_eq!(with("Authorization: Bearer sk-one"), 200);
    assert_eq!(with("authorization: bearer sk-two"), 200);
    assert_eq!(with("Authorization: Bearer sk-three"), 401);
    assert_eq!(with("Authorization: sk-one"), 401);
    assert_eq!(server.get("/health").status, 401);
    assert_eq!(server.get("/nowhere").status, 401);
    // New keys, without a break.
    std::fs::write(&file, "sk-three\n").unwrap();
    server.signal("-HUP");
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while with("Authorization: Bearer sk-three") != 200 {
        assert!(std::time::Instant::now() < deadline);
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert_eq!(with("Authorization: Bearer sk-one"), 401);
    // A file that cannot be used leaves the keys as they are.
    std::fs::write(&file, "\n").unwrap();
    server.signal("-HUP");
    while !server.log().contains("there is no key") {
        assert!(std::time::Instant::now() < deadline);
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert_eq!(with("Authorization: Bearer sk-three"), 200);
    assert!(!server.log().contains("sk-"), "{}", server.log());
    for name in ["x-api-key", "api-key", "X-API-Key"] {
        assert_eq!(with(&format!("{name}: sk-three")), 200);
        assert_eq!(with(&format!("{name}: sk-one")), 401);
    }
    // How to ask is no secret, unless the operator says so.
    assert_eq!((server.get("/docs").status, server.get("/openapi.json").status), (200, 200));
    assert_eq!((server.get("/").status, server.post("/", &json!({"prompt": "x"})).status), (200, 401));
    let open = Server::start(&[
        "--api-keys",
        {
            std::fs::write(&file, "sk-one").unwrap();
            file.to_str().unwrap()
        },
        "--public-status",
    ]);
    assert_eq!((open.get("/health").status, open.get("/metrics").status), (200, 200));
    assert_eq!(open.get("/v1/models").status, 401);
    let private = Server::start(&["--api-keys", file.to_str().unwrap(), "--private-docs"]);
    assert_eq!((private.get("/docs").status, private.get("/openapi.json").status), (401, 401));
}

#[test]
fn the_program_asks_how_a_server_is() {
    let health = |address: &str, flags: &[&str]| {
        let url = format!("http://{address}");
        Ran::from(glimmer().arg("health").arg(url).args(flags).output().unwrap())
    };
    let server = Server::start(&[]);
    health(&server.address.to_string(), &[]).quiet_success();
    let keys = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(keys.path(), "sk-one\n").unwrap();
    let server = Server::start(&["--api-keys", keys.path().to_str().unwrap()]);
    let address = server.address.to_string();
    health(&address, &[]).fails_saying(&[&address, "wants a key", "--public-status"]);
    health(&address, &["--api-key", "sk-two"]).fails_saying(&["wants a key"]);
    health(&address, &["--api-key", "sk-one"]).quiet_success();
    health(&address, &["--api-key", "sk-one\r\nX: y"]).refuses_usage(&["--api-key"]);
    drop(server);
    health(&address, &[]).fails_saying(&[&address, "refused"]);

    // One that says other things, or nothing.
    for (said, what) in [
        ("HTTP/1.1 503 Service Unavailable\r\n\r\n", "not ready"),
        ("HTTP/1.1 404 Not Found\r\n\r\n", "status 404"),
        ("\x15\x03\x03 a TLS alert", "does not speak HTTP"),
        ("HTTP/1.1 \x1b[2J", "does not speak HTTP"),
        ("HTTP", "does not speak HTTP"),
    ] {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let told = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            drop(stream.read(&mut [0; 1024]));
            stream.write_all(said.as_bytes()).unwrap();
        });
        health(&address, &[]).fails_saying(&[what]);
        told.join().unwrap();
    }
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    health(&silent.local_addr().unwrap().to_string(), &["--timeout", "1"]).fails_saying(&["in time"]);
    for url in ["https://localhost", "localhost:8000", "http://", "http://a b", "http://a/b", "http://a\r\nb"]
    {
        run(args!["health", url]).refuses_usage(&["http://127.0.0.1:8000"]);
    }
}

/// What a unit of `Type=notify` waits for.
#[cfg(target_os = "linux")]
#[test]
fn systemd_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let socket = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(std::time::Duration::from_secs(60))).unwrap();
    let heard = || {
        let mut state = [0; 64];
        let len = socket.recv(&mut state).unwrap();
        String::from_utf8_lossy(&state[..len]).into_owned()
    };
    let mut server = Server::start_with(&[], &[("NOTIFY_SOCKET", path.to_str().unwrap())]);
    assert_eq!(heard(), "READY=1");
    server.signal("-TERM");
    assert_eq!((heard().as_str(), server.end()), ("STOPPING=1", 0));
}

#[test]
fn origins() {
    let ask = |server: &Server| {
        server.request(
            "OPTIONS",
            "/v1/models",
            &[
                "Origin: https://a.example",
                "Access-Control-Request-Method: GET",
                "Access-Control-Request-Headers: authorization",
            ],
            "",
        )
    };
    let closed = Server::start(&[]);
    assert_eq!(ask(&closed).header("access-control-allow-origin"), None);
    let open = Server::start(&["--cors-origin", "*"]);
    assert_eq!(ask(&open).header("access-control-allow-origin"), Some("*"));
    assert_eq!(ask(&open).header("access-control-allow-headers"), Some("authorization"));
    let one = Server::start(&["--cors-origin", "https://a.example"]);
    assert_eq!(ask(&one).header("access-control-allow-origin"), Some("https://a.example"));
    let other = Server::start(&["--cors-origin", "https://b.example"]);
    assert_ne!(ask(&other).header("access-control-allow-origin"), Some("https://a.example"));
}

#[test]
fn limits() {
    let server = Server::start(&["--max-body", "2000", "--max-tokens", "5", "--max-choices", "2"]);
    let long = json!({"model": "demo", "prompt": "x".repeat(3000)});
    assert_eq!(server.post("/v1/completions", &long).status, 413);
    let error = server.refused("/v1/completions", &json!({"prompt": "x", "max_tokens": 6}), 400);
    assert_eq!(error["param"], "max_tokens");
    let body = json!({"prompt": "x", "temperature": 0, "ignore_eos": true});
    assert_eq!(server.ask("/v1/completions", &body)["usage"]["completion_tokens"], 5);
    server.refused("/v1/completions", &json!({"prompt": "x", "n": 3}), 400);
    server.refused("/v1/completions", &json!({"prompt": ["x", "x"], "n": 2}), 400);
    // An answer that takes too long.
    let server =
        Server::start(&["--timeout", "1", "--ctx", "8192", "--cache-tokens", "70000", "--parallel", "64"]);
    let body = json!({"prompt": "x", "max_tokens": 8000, "ignore_eos": true, "n": 64, "temperature": 1});
    let error = server.refused("/v1/completions", &body, 504);
    assert_eq!(error["code"], "timeout");
    server.rest();
}

#[test]
fn a_full_queue_is_said_to_be_full() {
    let server = Server::start(&["--parallel", "1", "--queue", "1"]);
    let long = json!({"prompt": "x", "max_tokens": 1500, "ignore_eos": true, "stream": true}).to_string();
    let streams: Vec<_> = (0..12).map(|_| server.send("POST", "/v1/completions", &[], &long)).collect();
    let mut busy = 0;
    for stream in streams {
        let response = Response::read(&mut BufReader::new(stream));
        if response.status == 429 {
            busy += 1;
            assert!(response.header("retry-after").unwrap().parse::<u64>().unwrap() >= 1);
            assert_eq!(response.json()["error"]["code"], "rate_limit_exceeded");
        } else {
            assert_eq!(response.status, 200);
        }
    }
    assert!(busy > 0);
}

#[test]
fn figures_and_log() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("log");
    let server = Server::start(&["--log-json", "--log-file", file.to_str().unwrap()]);
    let response = server.post("/v1/chat/completions", &question());
    let usage = response.json()["usage"].clone();
    server.rest();
    assert_eq!(
        server.metric("glimmer_prompt_tokens_total{model=\"demo\"}"),
        usage["prompt_tokens"].as_f64().unwrap()
    );
    assert_eq!(server.metric("glimmer_answer_tokens_total{"), usage["completion_tokens"].as_f64().unwrap());
    assert_eq!(server.metric("glimmer_answers_total{model=\"demo\",end=\"length\"}"), 1.0);
    assert_eq!(server.metric("glimmer_first_token_seconds_count{"), 1.0);
    let log = std::fs::read_to_string(&file).unwrap();
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let line = lines.iter().find(|line| line["path"] == "/v1/chat/completions").unwrap();
    assert_eq!(line["id"], response.header("x-request-id").unwrap());
    assert_eq!((&line["status"], &line["model"]), (&json!(200), &json!("demo")));
    assert_eq!(line["prompt_tokens"], usage["prompt_tokens"]);
    assert!(!log.contains("secret"));
    // What was refused, and where, but not what was asked.
    let mut bad = question();
    bad["temperature"] = "hot".into();
    server.refused("/v1/chat/completions", &bad, 400);
    server.refused("/v1/chat/completions", &json!({"messages": [], "my secret": 1}), 400);
    server.refused("/v1/completions", &json!({"my secret": 1, "prompt": "x"}), 400);
    assert_eq!(server.get(&format!("/no/where/{}?my=secret", "x".repeat(200))).status, 404);
    let refused = || -> Vec<Value> {
        let log = std::fs::read_to_string(&file).unwrap();
        assert!(!log.contains("secret"), "{log}");
        let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.filter(|line| line["status"].as_u64() >= Some(400)).collect()
    };
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while refused().len() < 4 {
        assert!(std::time::Instant::now() < deadline);
    }
    let refused = refused();
    assert_eq!(
        (&refused[0]["error"], &refused[0]["param"]),
        (&json!("invalid_value"), &json!("temperature"))
    );
    assert_eq!((&refused[1]["error"], &refused[1]["param"]), (&json!("invalid_value"), &json!("messages")));
    assert_eq!((&refused[2]["error"], &refused[2]["param"]), (&json!("unknown_parameter"), &Value::Null));
    assert_eq!(refused[3]["error"], "not_found");
    assert_eq!(refused[3]["path"], format!("/no/where/{}", "x".repeat(70)));
    assert_eq!(server.metric("glimmer_http_requests_total{path=\"other\",status=\"404\"}"), 1.0);

    let server = Server::start(&["--metrics-compat", "vllm"]);
    server.post("/v1/chat/completions", &question());
    for name in ["num_requests_running", "time_to_first_token_seconds_bucket", "generation_tokens_total"] {
        assert!(server.metric(&format!("vllm:{name}{{model_name=\"demo\",engine=\"0\"")) >= 0.0);
    }
    // A log that cannot be written is not what a server dies of.
    let server = Server::start(&["--log-file", "/dev/full"]);
    server.ask("/v1/chat/completions", &question());
    server.ask("/v1/chat/completions", &question());
    assert!(server.metric("glimmer_log_lines_lost_total") > 0.0);
}

#[test]
fn descriptions() {
    let server = Server::start(&[]);
    assert_eq!(server.get("/openapi.json").json()["openapi"], "3.1.0");
    assert!(server.get("/docs").text().starts_with("<!doctype html>"));
    assert_eq!(server.get("/livez").json()["status"], "ok");
    assert_eq!(server.get("/readyz").json()["status"], "ok");
    assert!(server.get("/version").json()["version"].is_string());
}

#[test]
fn what_curl_sends_and_a_slash_too_many_are_understood() {
    let server = Server::start(&[]);
    let body = question().to_string();
    let path = "/v1/chat/completions";
    let ask = |headers: &[&str], body: &str| server.request("POST", path, headers, body);
    let form = "Content-Type: application/x-www-form-urlencoded";
    assert_eq!(ask(&[form], &body).status, 200);
    let mut bare = server.connect();
    write!(
        bare,
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    assert_eq!(Response::read(&mut BufReader::new(bare)).status, 200);
    // A form that is one, and pages, which can send forms to wherever they like.
    assert_eq!(ask(&[form], "prompt=x&n=1").status, 415);
    for page in ["Origin: https://a.example", "Origin: null", "Sec-Fetch-Site: cross-site"] {
        assert_eq!(ask(&[form, page], &body).status, 415, "{page}");
        assert_eq!(ask(&["Content-Type: text/plain", page], &body).status, 415, "{page}");
        assert_eq!(
            ask(&["Content-Type: application/json; charset=utf-8", page], &body).status,
            200,
            "{page}"
        );
    }
    for path in ["/v1/models/", "//v1/models", "/v1//models", "/v1/models?x=1", "/v1/models/?x=1"] {
        assert_eq!(server.get(path).json()["object"], "list", "{path}");
    }
    assert_eq!(server.get("/v1/models/demo/").json()["id"], "demo");
    assert_eq!(server.request("POST", "//v1/chat/completions/", &[], &body).status, 200);
    assert_eq!(server.get("/v1/modles/").status, 404);
}

#[test]
fn requests_follow_each_other_on_a_connection() {
    let server = Server::start(&[]);
    let mut stream = BufReader::new(server.connect());
    for _ in 0..20 {
        let text = text_of("POST", "/v1/chat/completions", &[], &question().to_string(), "keep-alive");
        stream.get_mut().write_all(text.as_bytes()).unwrap();
        assert_eq!(Response::read(&mut stream).status, 200);
    }
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
#[test]
fn tls() {
    let data = crate::support::root().join("crates/cli/tests/data");
    let (certificate, key) = (data.join("localhost.pem"), data.join("localhost.key"));
    let server =
        Server::start(&["--tls-cert", certificate.to_str().unwrap(), "--tls-key", key.to_str().unwrap()]);
    // Without TLS there is no answer.
    let mut stream = server.connect();
    stream.write_all(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP"));
    let mut client = tls_client::connect(&server, &std::fs::read(&certificate).unwrap());
    client.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    let _ = client.read_to_string(&mut text);
    assert!(text.starts_with("HTTP/1.1 200 OK"), "{text}");
}

/// The heads are those that `openssl pkey -aes256` and `openssl genrsa -traditional -aes128` write.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
#[test]
fn certificates_and_keys_that_cannot_be_used() {
    let data = crate::support::root().join("crates/cli/tests/data");
    let (certificate, key) = (data.join("localhost.pem"), data.join("localhost.key"));
    let directory = tempfile::tempdir().unwrap();
    let refused = |certificate: &Path, key: &Path, words: &[&str]| {
        run(args!["serve", "--port", "0", "--tls-cert", certificate, "--tls-key", key]).fails_saying(words)
    };
    refused(&certificate, &certificate, &["localhost.pem", "no private key"]);
    refused(&key, &key, &["localhost.key", "no certificate"]);
    let file = directory.path().join("some.pem");
    let text = std::fs::read_to_string(&key).unwrap();
    let body: String = text.lines().filter(|line| !line.starts_with('-')).collect();
    let pem = |kind: &str, body: &str| format!("-----BEGIN {kind}-----\n{body}\n-----END {kind}-----\n");
    let damaged = format!("{}{}", "A".repeat(8), &body[8..]);
    for (text, words) in [
        (String::new(), &["no private key"][..]),
        (text[..text.len() / 2].to_owned(), &["cut short"]),
        (text.replace("KEY-----", "KEY--"), &["-----BEGIN line is damaged"]),
        (text.replace(&text[40..44], "!!!!"), &["base64"]),
        (pem("ENCRYPTED PRIVATE KEY", &body), &["encrypted", "openssl pkey"]),
        (
            pem("RSA PRIVATE KEY", &format!("Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\n{body}")),
            &["encrypted", "openssl pkey"],
        ),
        (pem("PRIVATE KEY", &damaged), &["the key is damaged"]),
        ("x".repeat(2_000_000), &["bytes"]),
    ] {
        std::fs::write(&file, &text).unwrap();
        refused(&certificate, &file, &[&["some.pem"], words].concat());
    }
    let text = std::fs::read_to_string(&certificate).unwrap();
    std::fs::write(&file, &text[..text.len() / 2]).unwrap();
    refused(&file, &key, &["some.pem", "cut short"]);
    std::fs::remove_file(&file).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&file).status().unwrap().success());
    refused(&file, &key, &["some.pem", "not a regular file"]);
    refused(&certificate, &file, &["some.pem", "not a regular file"]);
    run(args!["serve", "--port", "0", "--api-keys", file]).fails_saying(&["some.pem", "not a regular file"]);
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod tls_client {
    use std::net::TcpStream;
    use std::sync::Arc;

    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

    use crate::client::Server;

    pub fn connect(server: &Server, certificate: &[u8]) -> StreamOwned<ClientConnection, TcpStream> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(certificate).unwrap()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(rustls_graviola::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connection = ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
        StreamOwned::new(connection, server.connect())
    }
}
