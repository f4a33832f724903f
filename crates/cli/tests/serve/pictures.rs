//! Pictures in requests, to a tiny model that sees: in every API's words, remembered, and in all the forms that do harm.

use std::io::{Read, Write};
use std::net::TcpListener;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::client::Server;
use crate::support::root;
use crate::support::seeing::seeing;

const CHAT: &str = "/v1/chat/completions";

/// A server of the tiny model, under the name `eye`.
fn server(flags: &[&str]) -> Option<(Server, tempfile::TempDir)> {
    let directory = tempfile::tempdir().unwrap();
    if !seeing(directory.path(), "glm-4.1v-9b") {
        return None;
    }
    let flags = [&[directory.path().to_str().unwrap(), "--served-model-name", "eye"], flags].concat();
    Some((Server::start(&flags), directory))
}

fn file(name: &str) -> Vec<u8> {
    std::fs::read(root().join("crates/picture/tests/data/files").join(name)).unwrap()
}

fn uri(bytes: &[u8]) -> String {
    format!("data:image/png;base64,{}", STANDARD.encode(bytes))
}

fn part(uri: &str) -> Value {
    json!({"type": "image_url", "image_url": {"url": uri}})
}

fn text(text: &str) -> Value {
    json!({"type": "text", "text": text})
}

/// A request of the OpenAI API with this content.
fn chat(content: Value) -> Value {
    json!({"model": "eye", "messages": [{"role": "user", "content": content}], "max_tokens": 8, "temperature": 0})
}

fn said(answer: &Value) -> Value {
    answer["choices"][0]["message"]["content"].clone()
}

#[test]
fn every_api_shows_the_same_picture() {
    let Some((server, _directory)) = server(&[]) else { return };
    let (bytes, question) = (file("rgb.png"), "What is it?");
    let base64 = STANDARD.encode(&bytes);
    let answer = server.ask(CHAT, &chat(json!([part(&uri(&bytes)), text(question)])));
    let (wanted, tokens) = (said(&answer), answer["usage"]["prompt_tokens"].clone());
    let blind = server.ask(CHAT, &chat(json!([text(question)])));
    let rows = answer["usage"]["prompt_tokens_details"]["image_tokens"].as_u64().unwrap();
    // Beside its rows a picture has a token before it and one after it.
    assert_eq!(tokens.as_u64(), blind["usage"]["prompt_tokens"].as_u64().map(|blind| blind + rows + 2));
    assert_ne!(said(&blind), wanted, "it is looked at");

    let short = json!({"type": "image_url", "image_url": uri(&bytes)});
    assert_eq!(said(&server.ask(CHAT, &chat(json!([short, text(question)])))), wanted);

    let content = json!([{"type": "input_image", "image_url": uri(&bytes), "detail": "auto"},
        {"type": "input_text", "text": question}]);
    let asked = json!({"model": "eye", "input": [{"role": "user", "content": content}], "max_output_tokens": 8,
        "temperature": 0});
    let response = server.ask("/v1/responses", &asked);
    assert_eq!(response["output"][0]["content"][0]["text"], wanted);
    assert_eq!(response["usage"]["input_tokens"], tokens);
    // It is kept with what was asked.
    let more = json!({"model": "eye", "input": "And now?", "previous_response_id": response["id"], "max_output_tokens": 2});
    assert!(server.ask("/v1/responses", &more)["usage"]["input_tokens"].as_u64() > tokens.as_u64());

    let source = json!({"type": "base64", "media_type": "image/png", "data": base64});
    let message = json!({"role": "user", "content": [{"type": "image", "source": source}, text(question)]});
    let asked = json!({"model": "eye", "messages": [message], "max_tokens": 8, "temperature": 0});
    assert_eq!(server.ask("/v1/messages", &asked)["content"][0]["text"], wanted);
    let count = json!({"model": "eye", "messages": asked["messages"]});
    assert_eq!(server.ask("/v1/messages/count_tokens", &count)["input_tokens"], tokens);

    let options = json!({"temperature": 0, "num_predict": 8});
    let message = json!({"role": "user", "content": question, "images": [base64]});
    let asked = json!({"model": "eye", "messages": [message], "stream": false, "options": options});
    assert_eq!(server.ask("/api/chat", &asked)["message"]["content"], wanted);
    let asked =
        json!({"model": "eye", "prompt": question, "images": [base64], "stream": false, "options": options});
    assert_eq!(server.ask("/api/generate", &asked)["response"], wanted);
    let shown = server.ask("/api/show", &json!({"model": "eye"}));
    assert!(
        shown["capabilities"].as_array().unwrap().contains(&json!("vision")),
        "{}",
        shown["capabilities"]
    );
    let models = server.get("/v1/models").json();
    assert!(models["data"][0]["model_ability"].as_array().unwrap().contains(&json!("vision")), "{models}");
}

#[test]
fn the_second_question_about_a_picture_computes_no_tower_again() {
    let Some((server, _directory)) = server(&[]) else { return };
    let (one, other) = (uri(&file("rgb.png")), uri(&file("rgb.jpg")));
    let long = "Look closely, for there is more to be asked about it than you think. ";
    // The pictures are in the third page of 32 tokens, which are bytes here, and pages follow.
    let mut request = chat(json!([text(long), part(&one), part(&other), text(long)]));
    let first = server.ask(CHAT, &request);
    let seen = || (server.metric("glimmer_pictures_total{"), server.metric("glimmer_pictures_cached_total{"));
    assert_eq!(seen(), (2.0, 0.0));
    let messages = request["messages"].as_array_mut().unwrap();
    messages.push(json!({"role": "assistant", "content": said(&first)}));
    messages.push(json!({"role": "user", "content": "Second?"}));
    let second = server.ask(CHAT, &request);
    let cached = second["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap();
    assert!(cached >= 128, "the pages with the pictures are remembered: {cached}");
    assert_eq!(seen(), (2.0, 2.0));
    // Exchanged, they are other prompts.
    let exchanged = chat(json!([text(long), part(&other), part(&one), text(long)]));
    let exchanged = server.ask(CHAT, &exchanged);
    let cached = exchanged["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap();
    assert!(cached <= 64, "nothing after the first picture: {cached}");
}

#[test]
fn videos_are_shown_by_their_frames() {
    let Some((server, _directory)) = server(&[]) else { return };
    let gif = uri(&file("animated.gif"));
    let video = json!({"type": "video_url", "video_url": {"url": gif}});
    let moving = server.ask(CHAT, &chat(json!([video, text("?")])));
    let still = server.ask(CHAT, &chat(json!([part(&gif), text("?")])));
    assert!(moving["usage"]["prompt_tokens"] != still["usage"]["prompt_tokens"]);
    let png = json!({"type": "video_url", "video_url": {"url": uri(&file("rgb.png"))}});
    let error = server.refused(CHAT, &chat(json!([png])), 400);
    assert!(error["message"].as_str().unwrap().contains("no frames"), "{error}");
}

/// A PNG of a size that its pixels do not fill.
fn png_of(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = file("rgb.png");
    bytes[16..20].copy_from_slice(&width.to_be_bytes());
    bytes[20..24].copy_from_slice(&height.to_be_bytes());
    // The head's check sum, which a decoder looks at first.
    let mut crc = !0_u32;
    for byte in &bytes[12..29] {
        crc ^= u32::from(*byte);
        (0..8).for_each(|_| crc = if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 });
    }
    bytes[29..33].copy_from_slice(&(!crc).to_be_bytes());
    bytes
}

#[test]
fn hostile_pictures_are_refused_in_a_line() {
    let Some((server, _directory)) = server(&[]) else { return };
    let good = file("rgb.png");
    let mut frames = b"GIF89a\x01\0\x01\0\x80\0\0\0\0\0\xff\xff\xff".to_vec();
    for _ in 0..10_000 {
        frames.extend(b"\x21\xf9\x04\0\0\0\0\0\x2c\0\0\0\0\x01\0\x01\0\0\x02\x02\x44\x01\0");
    }
    frames.push(b';');
    let cases: [(&str, Vec<u8>, &str); 12] = [
        ("nothing", Vec::new(), "no bytes"),
        ("huge", png_of(2_000_000_000, 2_000_000_000), "make it smaller"),
        ("a bomb", png_of(60_000, 60_000), "make it smaller"),
        ("cut off", good[..good.len() / 2].to_vec(), "cut off"),
        ("its head alone", good[..20].to_vec(), "cut off"),
        ("thin", png_of(65_535, 1), ""),
        ("an SVG", b"<svg xmlns='http://www.w3.org/2000/svg'/>".to_vec(), "an SVG"),
        ("HTML", b"<!DOCTYPE html><html></html>".to_vec(), "an HTML page"),
        ("text", b"hello".to_vec(), "text"),
        ("a PDF", b"%PDF-1.7\n".to_vec(), "a PDF"),
        ("noise", (0..5_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect(), ""),
        ("a JPEG's beginning", b"\xff\xd8\xff\xe0".repeat(20), ""),
    ];
    for (name, bytes, word) in &cases {
        let error = server.refused(CHAT, &chat(json!([part(&uri(bytes)), text("?")])), 400);
        let message = error["message"].as_str().unwrap();
        let is_a_line = message.chars().count() <= 300 && !message.contains('\n');
        assert!(is_a_line && message.contains(word) && message.contains("picture 1"), "{name}: {message}");
        assert_eq!(
            (&error["param"], &error["code"]),
            (&"messages".into(), &"invalid_image".into()),
            "{name}"
        );
    }
    let video = json!({"type": "video_url", "video_url": {"url": uri(&frames)}});
    let error = server.refused(CHAT, &chat(json!([video])), 400);
    assert!(error["message"].as_str().unwrap().contains("8192 frames"), "{error}");
    for place in [
        "",
        "data:",
        "data:image/png",
        "data:image/png;base64,!",
        "/etc/passwd",
        "file:///etc/passwd",
        "ftp://a/b",
        "http://",
    ] {
        server.refused(CHAT, &chat(json!([part(place)])), 400);
    }
    for odd in [
        json!({"type": "image_url"}),
        json!({"type": "image_url", "image_url": {}}),
        json!({"type": "image_url", "image_url": {"url": 5}}),
        json!({"type": "image_url", "image_url": {"url": uri(&good), "mood": 1}}),
        json!({"type": "image_url", "image_url": {"url": uri(&good)}, "mood": 1}),
        json!({"type": "audio"}),
    ] {
        server.refused(CHAT, &chat(json!([odd])), 400);
    }
    // More than the context has room for, and what is small and odd but a picture.
    let many = vec![part(&uri(&good)); 200];
    assert_eq!(server.refused(CHAT, &chat(json!(many)), 400)["code"], "context_length_exceeded");
    server.ask(CHAT, &chat(json!([part(&uri(&file("tiny.jpg"))), text("?")])));
    // A wrong name and kind say nothing.
    let named = format!("data:text/html;base64,{}", STANDARD.encode(file("rgb.jpg")));
    server.ask(CHAT, &chat(json!([part(&named), text("?")])));
    server.rest();
}

#[test]
fn nothing_is_fetched_unless_it_is_allowed_and_public() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let here = listener.local_addr().unwrap();
    // Whoever is led here has seen what he should not.
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 1024]);
            let picture = file("rgb.png");
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", picture.len());
            let _ = stream.write_all(&[head.as_bytes(), &picture].concat());
        }
    });
    let urls = [
        format!("http://{here}/a.png"),
        format!("http://localhost:{}/a.png", here.port()),
        format!("http://[::ffff:127.0.0.1]:{}/a.png", here.port()),
        format!("http://2130706433:{}/a.png", here.port()),
        format!("https://{here}/a.png"),
        "http://169.254.169.254/latest/meta-data".to_owned(),
        "http://[::1]/".to_owned(),
        "file:///etc/passwd".to_owned(),
    ];
    for flags in [&[][..], &["--allow-image-fetch"]] {
        let Some((server, _directory)) = server(flags) else { return };
        for url in &urls {
            let error = server.refused(CHAT, &chat(json!([part(url), text("?")])), 400);
            assert_eq!(error["code"], "invalid_image", "{url}: {error}");
        }
        let source = json!({"type": "url", "url": urls[0]});
        let message = json!({"role": "user", "content": [{"type": "image", "source": source}]});
        server.refused("/v1/messages", &json!({"model": "eye", "messages": [message], "max_tokens": 1}), 400);
    }
}
