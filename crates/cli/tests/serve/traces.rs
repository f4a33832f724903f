//! What a collector of traces is told, and what it is not.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::{Value, json};

use crate::client::Server;

const SECRET: &str = "xylophone";

fn question() -> Value {
    json!({"model": "demo", "messages": [{"role": "user", "content": SECRET}], "max_tokens": 4, "ignore_eos": true})
}

/// A collector: its address, and the bodies it is sent.
fn collector() -> (String, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let (sender, bodies) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            let mut line = String::new();
            // A connection carries several requests.
            while stream.read_line(&mut line).is_ok_and(|read| read > 0) {
                assert_eq!(line.trim_end(), "POST /v1/traces HTTP/1.1");
                let mut size = 0;
                loop {
                    line.clear();
                    stream.read_line(&mut line).unwrap();
                    match line.trim_end().to_lowercase().split_once(": ") {
                        Some(("content-length", length)) => size = length.parse().unwrap(),
                        Some(("content-type", kind)) => assert_eq!(kind, "application/json"),
                        Some(_) => {}
                        None => break,
                    }
                }
                let mut body = vec![0; size];
                stream.read_exact(&mut body).unwrap();
                stream.get_mut().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").unwrap();
                if sender.send(String::from_utf8(body).unwrap()).is_err() {
                    return;
                }
                line.clear();
            }
        }
    });
    (address, bodies)
}

/// The spans of what the collector has been sent.
fn spans(bodies: &[String]) -> Vec<Value> {
    let body = |text: &String| -> Value { serde_json::from_str(text).unwrap() };
    let list = |value: &Value| value.as_array().unwrap().clone();
    let resources = bodies.iter().flat_map(|text| list(&body(text)["resourceSpans"]));
    let scopes = resources.flat_map(|resource| list(&resource["scopeSpans"]));
    scopes.flat_map(|scope| list(&scope["spans"])).collect()
}

fn attribute<'a>(span: &'a Value, name: &str) -> &'a Value {
    let all = span["attributes"].as_array().unwrap();
    let found = all.iter().find(|one| one["key"] == name);
    let value = &found.unwrap_or_else(|| panic!("{name}: {span}"))["value"];
    value.as_object().unwrap().values().next().unwrap()
}

fn named<'a>(spans: &'a [Value], name: &str) -> Vec<&'a Value> {
    spans.iter().filter(|span| span["name"] == name).collect()
}

#[test]
fn requests_are_told_without_their_text() {
    let (address, bodies) = collector();
    let mut server = Server::start(&["--otlp-endpoint", &address]);
    let parent = "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let response = server.request("POST", "/v1/chat/completions", &[parent], &question().to_string());
    assert_eq!(response.status, 200);
    server.refused("/v1/completions", &json!({"prompt": SECRET, "temperature": -1}), 400);
    assert_eq!(server.get("/health").status, 200);
    // What waits is sent before the end.
    server.signal("-TERM");
    assert_eq!(server.end(), 0);
    let bodies: Vec<String> =
        std::iter::from_fn(|| bodies.recv_timeout(Duration::from_secs(1)).ok()).collect();
    assert!(bodies.iter().all(|body| !body.contains(SECRET)));
    let spans = spans(&bodies);

    let [request] = named(&spans, "POST /v1/chat/completions")[..] else { panic!("{spans:?}") };
    assert_eq!(request["traceId"], "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(request["parentSpanId"], "b7ad6b7169203331");
    assert_eq!(attribute(request, "http.response.status_code"), "200");
    assert_eq!(attribute(request, "glimmer.request.id"), response.header("x-request-id").unwrap());

    let [said] = named(&spans, "chat demo")[..] else { panic!("{spans:?}") };
    assert_eq!((&said["traceId"], &said["parentSpanId"]), (&request["traceId"], &request["spanId"]));
    let usage = &response.json()["usage"];
    assert_eq!(attribute(said, "gen_ai.usage.input_tokens"), &usage["prompt_tokens"].to_string());
    assert_eq!(attribute(said, "gen_ai.usage.output_tokens"), "4");
    assert_eq!(
        attribute(said, "gen_ai.response.finish_reasons")["values"],
        json!([{"stringValue": "length"}])
    );
    assert_eq!(said["events"][0]["name"], "first token");
    let moment = |value: &Value| -> u64 { value.as_str().unwrap().parse().unwrap() };
    let start = moment(&said["startTimeUnixNano"]);
    assert!(start <= moment(&said["events"][0]["timeUnixNano"]));
    assert!(moment(&said["events"][0]["timeUnixNano"]) <= moment(&said["endTimeUnixNano"]));
    assert!(moment(&request["startTimeUnixNano"]) <= start);

    let [refused] = named(&spans, "POST /v1/completions")[..] else { panic!("{spans:?}") };
    assert_eq!(attribute(refused, "http.response.status_code"), "400");
    assert!(named(&spans, "GET /health").is_empty());
}

#[test]
fn a_collector_that_is_away_is_nobodys_fault() {
    // A port where nobody listens any more.
    let address = format!("http://{}", TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap());
    let server = Server::start_with(&["--otlp-endpoint", &address], &[("OTEL_BSP_SCHEDULE_DELAY", "50")]);
    server.ask("/v1/chat/completions", &question());
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while server.metric("glimmer_spans_lost_total") < 2.0 {
        assert!(std::time::Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(50));
    }
    let output = crate::support::glimmer()
        .args(["serve", "--port", "0", "--otlp-endpoint", "https://collector.example"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("http://"));
}
