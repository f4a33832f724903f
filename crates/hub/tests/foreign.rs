//! What strangers name is fetched from the public internet alone: names that lead elsewhere, at once, later or after a step.

#![allow(clippy::unwrap_used, reason = "test code")]

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use glimmer_hub::{Foreign, ForeignError, Internet, Network};

/// An address that is public, and leads to the test's own server.
const PUBLIC: &str = "93.184.216.34";
const BYTES: usize = 1 << 20;

/// A server of this machine under public addresses: what it says goes by the path. Also how often it was asked.
struct Town {
    server: SocketAddr,
    asked: Arc<AtomicUsize>,
    resolved: AtomicUsize,
}

impl Town {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = listener.local_addr().unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&asked);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                counter.fetch_add(1, Ordering::Relaxed);
                thread::spawn(move || {
                    let mut head = [0; 4096];
                    let read = stream.read(&mut head).unwrap_or(0);
                    let head = String::from_utf8_lossy(&head[..read]).into_owned();
                    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
                    let _ = answer(&mut stream, &path);
                });
            }
        });
        Town { server, asked, resolved: AtomicUsize::new(0) }
    }
}

fn answer(stream: &mut impl Write, path: &str) -> io::Result<()> {
    if let Some(target) = path.strip_prefix("/to?") {
        return write!(stream, "HTTP/1.1 302 Found\r\nLocation: {target}\r\nContent-Length: 0\r\n\r\n");
    }
    if let Some(left) = path.strip_prefix("/steps/").and_then(|n| n.parse::<usize>().ok()) {
        let next = if left == 0 { "/file".to_owned() } else { format!("/steps/{}", left - 1) };
        return write!(stream, "HTTP/1.1 307 On\r\nLocation: {next}\r\nContent-Length: 0\r\n\r\n");
    }
    match path {
        "/file" => write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nbytes"),
        "/promised" => write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", BYTES + 1),
        "/endless" => {
            write!(stream, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
            loop {
                write!(stream, "10000\r\n{}\r\n", "x".repeat(0x10000))?;
            }
        }
        "/slow" => {
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")?;
            loop {
                stream.write_all(b"x")?;
                thread::sleep(Duration::from_millis(200));
            }
        }
        "/packed" => {
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx")
        }
        _ => write!(stream, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"),
    }
}

impl Network for Town {
    fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let times = self.resolved.fetch_add(1, Ordering::Relaxed);
        let ips: &[&str] = match host {
            "public.example" => &[PUBLIC],
            "inside.example" => &["10.0.0.7"],
            "both.example" => &[PUBLIC, "192.168.0.1"],
            "mapped.example" => &["::ffff:127.0.0.1"],
            // Another answer each time, as whoever wants to be asked about the first and connected to the second has it.
            "changing.example" if times == 0 => &[PUBLIC],
            "changing.example" => &["127.0.0.1"],
            literal => &[literal],
        };
        let parse = |ip: &&str| Ok(SocketAddr::new(ip.parse().map_err(io::Error::other)?, port));
        ips.iter().map(parse).collect()
    }

    fn route(&self, address: SocketAddr) -> SocketAddr {
        assert_eq!(address.ip().to_string(), PUBLIC, "nothing else is ever connected to");
        self.server
    }
}

fn foreign() -> (Foreign<Town>, Arc<AtomicUsize>) {
    let town = Town::new();
    let asked = Arc::clone(&town.asked);
    (Foreign::over(town, BYTES, Duration::from_secs(2)), asked)
}

#[test]
fn files_of_the_public_internet_are_fetched() {
    let (foreign, _) = foreign();
    for url in
        ["http://public.example/file", "http://PUBLIC.example:8080/file#x", "http://public.example/steps/2"]
    {
        assert_eq!(foreign.fetch(url).as_deref(), Ok(&b"bytes"[..]), "{url}");
    }
    assert_eq!(foreign.fetch("http://public.example/steps/3"), Err(ForeignError::Redirect));
    let status = ForeignError::Status { host: "public.example".to_owned(), status: 404 };
    assert_eq!(foreign.fetch("http://public.example/none"), Err(status));
}

#[test]
fn nobody_is_led_inside() {
    let (foreign, asked) = foreign();
    for host in [
        "inside.example",
        "both.example",
        "mapped.example",
        "127.0.0.1",
        "127.0.0.1:80",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.0.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "192.0.2.1",
        "[::1]",
        "[::]",
        "[fe80::1]",
        "[fd00::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[2002:7f00:1::]",
        "[64:ff9b::7f00:1]",
        "[2001:db8::1]",
        "[ff02::1]",
    ] {
        let error = foreign.fetch(&format!("http://{host}/file")).unwrap_err();
        assert!(matches!(error, ForeignError::NotPublic { .. }), "{host}: {error}");
    }
    assert_eq!(asked.load(Ordering::Relaxed), 0, "nobody was asked");
    for target in
        ["http://127.0.0.1/file", "http://[::1]/file", "//inside.example/file", "http://both.example/"]
    {
        let error = foreign.fetch(&format!("http://public.example/to?{target}")).unwrap_err();
        assert!(matches!(error, ForeignError::NotPublic { .. }), "{target}: {error}");
    }
}

/// The system's resolver reads more forms of an address than anybody writes down: what counts is what it makes of them.
#[test]
fn odd_spellings_of_this_machine_are_this_machine() {
    let foreign = Foreign::over(Internet, BYTES, Duration::from_secs(5));
    for host in ["localhost", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "0", "[::ffff:7f00:1]"] {
        let error = foreign.fetch(&format!("http://{host}:9/file")).unwrap_err();
        let is_refused = matches!(error, ForeignError::NotPublic { .. } | ForeignError::Unreachable { .. });
        assert!(is_refused, "{host}: {error}");
    }
}

#[test]
fn an_answer_that_changes_is_asked_for_once_a_step() {
    let (changing, asked) = foreign();
    assert_eq!(changing.fetch("http://changing.example/file").as_deref(), Ok(&b"bytes"[..]));
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    let error = changing.fetch("http://changing.example/file").unwrap_err();
    assert!(matches!(error, ForeignError::NotPublic { .. }), "{error}");
    // The same name again after a step is looked at again.
    let (changing, _) = foreign();
    let error = changing.fetch("http://changing.example/steps/1").unwrap_err();
    assert!(matches!(error, ForeignError::NotPublic { .. }), "{error}");
}

#[test]
fn only_addresses_of_http_are_taken() {
    let (foreign, asked) = foreign();
    for url in [
        "file:///etc/passwd",
        "/etc/passwd",
        "ftp://public.example/file",
        "gopher://public.example/",
        "",
        "http://",
        "data:image/png;base64,AA",
        "http://user:word@public.example/file",
        "javascript:1",
        "unix:/run/x.sock",
    ] {
        assert_eq!(foreign.fetch(url), Err(ForeignError::Scheme), "{url}");
    }
    assert_eq!(asked.load(Ordering::Relaxed), 0, "nobody was asked");
    for target in ["file:///etc/passwd", "ftp://public.example/file", "gopher://x/"] {
        assert_eq!(foreign.fetch(&format!("http://public.example/to?{target}")), Err(ForeignError::Scheme));
    }
}

#[test]
fn size_and_time_are_bounded() {
    let (foreign, _) = foreign();
    for path in ["promised", "endless"] {
        let error = foreign.fetch(&format!("http://public.example/{path}")).unwrap_err();
        assert_eq!(error, ForeignError::TooLarge { limit: BYTES }, "{path}");
    }
    let began = Instant::now();
    let error = foreign.fetch("http://public.example/slow").unwrap_err();
    assert_eq!(error, ForeignError::TooSlow(Duration::from_secs(2)));
    assert!(began.elapsed() < Duration::from_secs(4));
    assert!(foreign.fetch("http://public.example/packed").is_err());
}
