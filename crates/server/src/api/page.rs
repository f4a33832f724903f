//! The page: GLM in a browser. Its files (`crates/server/ui`) are inside the program; what it does it asks of the other APIs.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::io::Write;
use std::sync::OnceLock;

use axum::body::{Body, Bytes};
use axum::extract::Path;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::error::ApiError;
use crate::http::response::{json, typed};

/// A file of the page.
struct File {
    name: &'static str,
    kind: &'static str,
    bytes: &'static [u8],
}

/// A file as it is sent: the mark of its content, and its bytes with gzip unless that makes them no smaller.
struct Sent {
    tag: String,
    gzip: Option<Vec<u8>>,
}

impl Sent {
    fn of(file: &File) -> Sent {
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(file.bytes);
        let gzip = gzip(file.bytes).filter(|packed| packed.len() < file.bytes.len());
        Sent { tag: format!("{hash:016x}"), gzip }
    }
}

fn gzip(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).ok()?;
    encoder.finish().ok()
}

macro_rules! files {
    ($($kind:literal: $($name:literal)*;)*) => {
        &[$($(File { name: $name, kind: $kind, bytes: include_bytes!(concat!("../../ui/", $name)) },)*)*]
    };
}

/// All files, by type. A test holds this list to the folder.
const FILES: &[File] = files! {
    "text/html; charset=utf-8": "index.html";
    "image/svg+xml": "icon.svg";
    "application/manifest+json": "manifest.webmanifest";
    "text/css; charset=utf-8": "style/message.css" "style/page.css" "vendor/katex/katex.min.css";
    "text/javascript; charset=utf-8":
        "address.js" "answer.js" "api.js" "attachments.js" "chat-view.js" "code.js" "composer.js" "conversation.js"
        "dialogs.js" "elements.js" "exchange.js" "key-view.js" "key.js" "libraries.js" "main.js" "markdown.js"
        "maths.js" "message-view.js" "models-view.js" "plots.js" "preferences.js" "served.js"
        "service-worker.js" "session.js" "settings-view.js" "sidebar.js" "status-view.js" "store.js"
        "theme.js" "tokens-view.js" "tool-cards.js" "tools.js" "typewriter.js" "vectors-view.js" "welcome.js"
        "words.js" "words/en.js" "words/zh.js" "vendor/dompurify/purify.min.js"
        "vendor/highlightjs/highlight.min.js" "vendor/katex/katex.min.js"
        "vendor/markdown-it/markdown-it.umd.min.js";
    "font/woff2":
        "vendor/katex/fonts/KaTeX_AMS-Regular.woff2" "vendor/katex/fonts/KaTeX_Caligraphic-Bold.woff2"
        "vendor/katex/fonts/KaTeX_Caligraphic-Regular.woff2" "vendor/katex/fonts/KaTeX_Fraktur-Bold.woff2"
        "vendor/katex/fonts/KaTeX_Fraktur-Regular.woff2" "vendor/katex/fonts/KaTeX_Main-Bold.woff2"
        "vendor/katex/fonts/KaTeX_Main-BoldItalic.woff2" "vendor/katex/fonts/KaTeX_Main-Italic.woff2"
        "vendor/katex/fonts/KaTeX_Main-Regular.woff2" "vendor/katex/fonts/KaTeX_Math-BoldItalic.woff2"
        "vendor/katex/fonts/KaTeX_Math-Italic.woff2" "vendor/katex/fonts/KaTeX_SansSerif-Bold.woff2"
        "vendor/katex/fonts/KaTeX_SansSerif-Italic.woff2" "vendor/katex/fonts/KaTeX_SansSerif-Regular.woff2"
        "vendor/katex/fonts/KaTeX_Script-Regular.woff2" "vendor/katex/fonts/KaTeX_Size1-Regular.woff2"
        "vendor/katex/fonts/KaTeX_Size2-Regular.woff2" "vendor/katex/fonts/KaTeX_Size3-Regular.woff2"
        "vendor/katex/fonts/KaTeX_Size4-Regular.woff2" "vendor/katex/fonts/KaTeX_Typewriter-Regular.woff2";
};

/// Each of them as it is sent, once it was asked for.
static SENT: [OnceLock<Sent>; FILES.len()] = [const { OnceLock::new() }; FILES.len()];

/// What the page may do: what comes from this server, and nothing else; pictures may stand in it. Texts become markup only where DOMPurify made it,
/// and `glimmer` is the name under which the page starts its own service worker.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; \
    connect-src 'self'; manifest-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types dompurify glimmer";

/// `GET /`: the page.
pub(crate) async fn index(headers: HeaderMap) -> Response {
    send("index.html", &headers)
}

/// `GET /ui/{name}`: its files, and `files.json`, the list of them, which its service worker keeps.
pub(crate) async fn file(Path(name): Path<String>, headers: HeaderMap) -> Response {
    if name == "files.json" {
        let names: Vec<&str> =
            FILES.iter().map(|file| file.name).filter(|&name| name != "index.html").collect();
        return json(StatusCode::OK, &names);
    }
    send(&name, &headers)
}

fn send(name: &str, headers: &HeaderMap) -> Response {
    let Some((file, sent)) = FILES.iter().zip(&SENT).find(|(file, _)| file.name == name) else {
        return ApiError::no_path("GET", &format!("/ui/{name}")).into_response();
    };
    let Sent { tag, gzip } = sent.get_or_init(|| Sent::of(file));
    let gzip = gzip.as_deref().filter(|_| accepts_gzip(headers));
    // Each form of a file has a mark of its own.
    let tag = format!("\"{tag}{}\"", if gzip.is_some() { "-gzip" } else { "" });
    let is_known = items(headers, header::IF_NONE_MATCH).any(|one| one.trim_start_matches("W/") == tag);
    let mut response = match is_known {
        true => StatusCode::NOT_MODIFIED.into_response(),
        false => typed(StatusCode::OK, file.kind, Body::from(Bytes::from_static(gzip.unwrap_or(file.bytes)))),
    };
    let headers = response.headers_mut();
    headers.extend(HeaderValue::from_str(&tag).map(|tag| (header::ETAG, tag)).ok());
    if gzip.is_some() && !is_known {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    for (name, value) in [
        (header::CACHE_CONTROL, "no-cache"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::VARY, "accept-encoding"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        // The worker lies beside the page's files and stands in for the page above them.
        (header::HeaderName::from_static("service-worker-allowed"), "../"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// The items of a header that is a list.
fn items(headers: &HeaderMap, name: header::HeaderName) -> impl Iterator<Item = &str> {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
}

/// Whether a client takes gzip: named or meant by `*`, with a weight above 0 (RFC 9110, 12.5.3).
fn accepts_gzip(headers: &HeaderMap) -> bool {
    let weight = |wanted: &str| {
        items(headers, header::ACCEPT_ENCODING).find_map(|item| {
            let (coding, rest) = item.split_once(';').unwrap_or((item, ""));
            let is_it = coding.trim().eq_ignore_ascii_case(wanted);
            let weight = rest.trim().trim_start_matches(['q', 'Q']).trim_start_matches('=');
            is_it.then(|| weight.trim().parse::<f32>().unwrap_or(1.0))
        })
    };
    weight("gzip").or_else(|| weight("*")).is_some_and(|weight| weight > 0.0)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::io::Read;
    use std::path::Path;

    use axum::http::{HeaderMap, HeaderValue, header};
    use flate2::read::GzDecoder;

    use super::{FILES, Sent, accepts_gzip};

    /// Files below a folder by their paths from it.
    fn below(folder: &Path, prefix: &str, found: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = format!("{prefix}{}", path.file_name().unwrap().to_str().unwrap());
            match path.is_dir() {
                true if name == "node_modules" => {}
                true => below(&path, &format!("{name}/"), found),
                false => drop(found.insert(name)),
            }
        }
    }

    #[test]
    fn the_list_is_the_folder() {
        let mut found = BTreeSet::new();
        below(&Path::new(env!("CARGO_MANIFEST_DIR")).join("ui"), "", &mut found);
        // What is for whoever works on the page.
        let beside = ["package.json", "package-lock.json", "tsconfig.json", "vendor/vendor.json"];
        found.retain(|name| !beside.contains(&name.as_str()) && !name.ends_with("LICENSE"));
        let listed: BTreeSet<String> = FILES.iter().map(|file| file.name.to_owned()).collect();
        assert_eq!(listed, found);
        assert_eq!(listed.len(), FILES.len(), "a file is listed twice");
    }

    #[test]
    fn what_is_sent_with_gzip_is_the_file() {
        let mut packed_sizes = 0;
        for file in FILES {
            let Some(packed) = Sent::of(file).gzip else { continue };
            let mut bytes = Vec::new();
            GzDecoder::new(packed.as_slice()).read_to_end(&mut bytes).unwrap();
            assert!(bytes == file.bytes, "{}", file.name);
            packed_sizes += packed.len();
        }
        let scripts = FILES.iter().filter(|file| !file.kind.starts_with("font"));
        let plain: usize = scripts.map(|file| file.bytes.len()).sum();
        assert!(packed_sizes > 0 && packed_sizes < plain * 2 / 5, "{packed_sizes} of {plain}");
    }

    #[test]
    fn gzip_is_for_those_who_take_it() {
        for (accepted, is_taken) in [
            ("gzip, deflate, br", true),
            ("GZIP;q=0.5", true),
            ("br;q=1.0, *;q=0.1", true),
            ("gzip;q=0, *", false),
            ("gzip; q=0.000", false),
            ("identity", false),
            ("xgzip", false),
            ("", false),
        ] {
            let headers =
                HeaderMap::from_iter([(header::ACCEPT_ENCODING, HeaderValue::from_static(accepted))]);
            assert_eq!(accepts_gzip(&headers), is_taken, "{accepted}");
        }
        assert!(!accepts_gzip(&HeaderMap::new()));
    }
}
