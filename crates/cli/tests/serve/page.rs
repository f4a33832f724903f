//! The page for browsers: its files, and who may have them.

use std::io::Read;
use std::time::Instant;

use serde_json::Value;

use crate::client::Server;

#[test]
fn the_page_its_files_and_their_policy() {
    let server = Server::start(&[]);
    let page = server.get("/");
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'") && !policy.contains("inline"), "{policy}");
    assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
    assert!(!page.text().contains("<script>"), "no script within the page");

    let names: Vec<String> = serde_json::from_value(server.get("/ui/files.json").json()).unwrap();
    assert!(names.len() > 30 && names.contains(&"main.js".to_owned()));
    for name in &names {
        let file = server.get(&format!("/ui/{name}"));
        assert_eq!(file.status, 200, "{name}");
        let kind = match name.rsplit('.').next().unwrap() {
            "js" => "text/javascript; charset=utf-8",
            "css" => "text/css; charset=utf-8",
            "svg" => "image/svg+xml",
            "woff2" => "font/woff2",
            _ => "application/manifest+json",
        };
        assert_eq!(file.header("content-type"), Some(kind), "{name}");
        assert_eq!(file.header("content-security-policy"), Some(policy), "{name}");
    }
    for name in ["nothing.js", "../Cargo.toml", "%2e%2e/index.html", "vendor", "", "package.json"] {
        assert_eq!(server.get(&format!("/ui/{name}")).status, 404, "{name}");
    }
}

#[test]
fn what_a_browser_has_is_not_sent_again_and_a_head_has_no_body() {
    let server = Server::start(&[]);
    let tag = server.get("/").header("etag").unwrap().to_owned();
    let again = |tags: &str| server.request("GET", "/", &[&format!("If-None-Match: {tags}")], "").status;
    assert_eq!((again(&tag), again(&format!("\"other\", W/{tag}")), again("\"other\"")), (304, 304, 200));
    let mut text = String::new();
    server.send("HEAD", "/", &[], "").read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 200") && text.ends_with("\r\n\r\n"), "{text}");
}

#[test]
fn who_takes_gzip_is_sent_less_and_nobody_else_is_sent_gzip() {
    let server = Server::start(&[]);
    let ask = |method: &str, more: &[&str]| {
        server.request(method, "/ui/main.js", &[&["Accept-Encoding: br, gzip"], more].concat(), "")
    };
    let (plain, packed) = (server.get("/ui/main.js"), ask("GET", &[]));
    assert_eq!((plain.header("content-encoding"), packed.header("content-encoding")), (None, Some("gzip")));
    assert!(packed.body.starts_with(&[0x1f, 0x8b]) && packed.body.len() * 2 < plain.body.len());
    for response in [&plain, &packed] {
        assert_eq!(response.header("content-length"), Some(response.body.len().to_string().as_str()));
        assert!(response.header("vary").unwrap().contains("accept-encoding"));
    }
    let tags = [&plain, &packed].map(|response| response.header("etag").unwrap());
    assert_ne!(tags[0], tags[1]);
    let again = |tag: &str| ask("GET", &[&format!("If-None-Match: {tag}")]).status;
    assert_eq!((again(tags[1]), again(tags[0])), (304, 200));
    let mut head = String::new();
    server.send("HEAD", "/ui/main.js", &["Accept-Encoding: gzip"], "").read_to_string(&mut head).unwrap();
    assert!(head.contains(&format!("content-length: {}\r\n", packed.body.len())), "{head}");
    assert!(head.contains("content-encoding: gzip\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    // Types that are packed already go as they are.
    let font = server.request(
        "GET",
        "/ui/vendor/katex/fonts/KaTeX_Main-Regular.woff2",
        &["Accept-Encoding: gzip"],
        "",
    );
    assert_eq!(font.header("content-encoding"), None);
}

#[test]
fn the_page_asks_for_the_key_and_needs_none() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("keys");
    std::fs::write(&file, "sk-one\n").unwrap();
    let server = Server::start(&["--api-keys", file.to_str().unwrap(), "--private-docs"]);
    assert_eq!((server.get("/").status, server.get("/ui/main.js").status), (200, 200));
    assert_eq!((server.get("/v1/models").status, server.get("/metrics").status), (401, 401));
}

#[test]
fn a_models_own_sampling_is_listed() {
    let server = Server::start(&[]);
    let sampling: Value = server.get("/v1/models").json()["data"][0]["meta"]["sampling"].clone();
    assert!(sampling["temperature"].is_number() && sampling["top_k"].is_u64(), "{sampling}");
}

#[test]
fn the_catalogue_tells_of_published_models_alone() {
    let server = Server::start(&[]);
    let models = server.get("/catalogue").json();
    let names: Vec<&str> =
        models.as_array().unwrap().iter().map(|model| model["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"glm-4-9b-chat") && names.contains(&"chatglm-6b"), "{names:?}");
    for name in ["nothing", "demo", "..%2fCargo.toml", "%2fetc%2fpasswd", "fixtures/chatglm-6b"] {
        let refused = server.get(&format!("/catalogue/{name}"));
        assert_eq!(
            (refused.status, refused.json()["error"]["code"].as_str()),
            (404, Some("not_found")),
            "{name}"
        );
    }
}

#[test]
fn the_machine_is_measured_once_for_all_pages_of_the_catalogue() {
    let server = Server::start(&[]);
    let ask = |name: &str| {
        let start = Instant::now();
        let page = server.get(&format!("/catalogue/{name}")).json();
        (page["fit"]["predicted_from"].clone(), start.elapsed())
    };
    let (first, slow) = ask("glm-edge-1.5b-chat");
    assert!(first["read_bytes_per_second"].as_f64().unwrap() > 0.0, "{first}");
    for name in ["glm-edge-1.5b-chat", "glm-4-9b-chat"] {
        let (again, quick) = ask(name);
        assert_eq!(again, first, "{name}");
        assert!(quick < slow / 2, "{name}: {quick:?} after {slow:?}");
    }
}
