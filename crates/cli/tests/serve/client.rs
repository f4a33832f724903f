//! A server in a process of its own, and a client of plain sockets: what is tested is what goes over the wire.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::glimmer;

/// A running server. Dropping it ends it the hard way.
pub struct Server {
    pub child: Child,
    pub address: SocketAddr,
    /// Everything it has written to standard error.
    log: Arc<Mutex<String>>,
}

impl Server {
    /// Starts `glimmer serve` with these flags on a free port.
    pub fn start(flags: &[&str]) -> Server {
        Server::start_with(flags, &[])
    }

    /// The same with variables of the environment.
    pub fn start_with(flags: &[&str], variables: &[(&str, &str)]) -> Server {
        let mut child = glimmer()
            .args(["serve", "--port", "0"])
            .args(flags)
            .envs(variables.iter().copied())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let mut stderr = BufReader::new(child.stderr.take().expect("stderr is piped"));
        let log = Arc::new(Mutex::new(String::new()));
        let address = loop {
            let mut line = String::new();
            assert!(stderr.read_line(&mut line).unwrap() > 0, "no server: {}", log.lock().unwrap());
            log.lock().unwrap().push_str(&line);
            if let Some((_, rest)) = line.split_once("://") {
                break rest.split(';').next().unwrap().parse().expect("an address");
            }
        };
        let sink = log.clone();
        std::thread::spawn(move || {
            let mut line = String::new();
            while stderr.read_line(&mut line).is_ok_and(|n| n > 0) {
                sink.lock().unwrap().push_str(&line);
                line.clear();
            }
        });
        Server { child, address, log }
    }

    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Sends a signal by name.
    pub fn signal(&self, name: &str) {
        let status = std::process::Command::new("kill").args([name, &self.child.id().to_string()]).status();
        assert!(status.unwrap().success());
    }

    /// Waits for the end, and answers the exit status.
    pub fn end(&mut self) -> i32 {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code().unwrap_or(-1);
            }
            assert!(Instant::now() < deadline, "the server does not end: {}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("the server listens");
        stream.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    /// Sends a request and answers the connection, on which the response comes.
    pub fn send(&self, method: &str, path: &str, headers: &[&str], body: &str) -> TcpStream {
        let mut stream = self.connect();
        stream.write_all(text_of(method, path, headers, body, "close").as_bytes()).unwrap();
        stream
    }

    pub fn request(&self, method: &str, path: &str, headers: &[&str], body: &str) -> Response {
        Response::read(&mut BufReader::new(self.send(method, path, headers, body)))
    }

    /// The status of what a `HEAD` is answered, which has no body whatever its head says.
    pub fn head(&self, path: &str) -> u16 {
        let mut line = String::new();
        BufReader::new(self.send("HEAD", path, &[], "")).read_line(&mut line).unwrap();
        line.split(' ').nth(1).expect("a status line").parse().expect("a status")
    }

    pub fn get(&self, path: &str) -> Response {
        self.request("GET", path, &[], "")
    }

    pub fn post(&self, path: &str, body: &Value) -> Response {
        self.request("POST", path, &[], &body.to_string())
    }

    /// A request that must succeed.
    #[track_caller]
    pub fn ask(&self, path: &str, body: &Value) -> Value {
        let response = self.post(path, body);
        assert_eq!(response.status, 200, "{body} => {}", response.text());
        response.json()
    }

    /// A request that must be refused with this status; answers `error`.
    #[track_caller]
    pub fn refused(&self, path: &str, body: &Value, status: u16) -> Value {
        let response = self.post(path, body);
        assert_eq!(response.status, status, "{body} => {}", response.text());
        response.json()["error"].clone()
    }

    /// The data of a stream's events.
    #[track_caller]
    pub fn stream(&self, path: &str, body: &Value) -> Vec<String> {
        let response = self.post(path, body);
        assert_eq!(response.status, 200, "{body} => {}", response.text());
        assert_eq!(response.header("content-type"), Some("text/event-stream"));
        events(&response.text())
    }

    /// The figure of a line of `/metrics`.
    pub fn metric(&self, name: &str) -> f64 {
        let text = self.get("/metrics").text();
        let line =
            text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name}: {text}"));
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }

    /// Waits until nothing is being answered and no page of the cache is held.
    pub fn rest(&self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.metric("glimmer_requests_running{")
            + self.metric("glimmer_requests_waiting{")
            + self.metric("glimmer_cache_pages_used{")
            > 0.0
        {
            assert!(Instant::now() < deadline, "the server does not come to rest");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A request as it goes over the wire.
pub fn text_of(method: &str, path: &str, headers: &[&str], body: &str, connection: &str) -> String {
    let mut text = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: {connection}\r\n");
    if !body.is_empty() {
        text.push_str(&format!("Content-Length: {}\r\n", body.len()));
        if !headers.iter().any(|header| header.to_lowercase().starts_with("content-type")) {
            text.push_str("Content-Type: application/json\r\n");
        }
    }
    headers.iter().for_each(|header| text.push_str(&format!("{header}\r\n")));
    text + "\r\n" + body
}

/// The data of server-sent events.
pub fn events(text: &str) -> Vec<String> {
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with(':'));
    lines.map(|line| line.strip_prefix("data: ").expect("only data lines").to_owned()).collect()
}

/// A response, read whole.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Response {
    /// Reads a response and its body, whichever way that is delimited.
    pub fn read(stream: &mut BufReader<TcpStream>) -> Response {
        Response::try_read(stream).expect("a response")
    }

    pub fn try_read(stream: &mut BufReader<TcpStream>) -> std::io::Result<Response> {
        let line = |stream: &mut BufReader<TcpStream>| -> std::io::Result<String> {
            let mut line = String::new();
            if stream.read_line(&mut line)? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            Ok(line.trim_end().to_owned())
        };
        let first = line(stream)?;
        let status = first.split(' ').nth(1).expect("a status line").parse().expect("a status");
        let mut headers = Vec::new();
        loop {
            let text = line(stream)?;
            let Some((name, value)) = text.split_once(':') else { break };
            headers.push((name.to_lowercase(), value.trim().to_owned()));
        }
        let mut response = Response { status, headers, body: Vec::new() };
        if response.header("transfer-encoding") == Some("chunked") {
            loop {
                let size = usize::from_str_radix(&line(stream)?, 16).expect("a size");
                let at = response.body.len();
                response.body.resize(at + size, 0);
                stream.read_exact(&mut response.body[at..])?;
                line(stream)?;
                if size == 0 {
                    return Ok(response);
                }
            }
        }
        let size = response.header("content-length").map_or(0, |size| size.parse().expect("a size"));
        response.body.resize(size, 0);
        stream.read_exact(&mut response.body)?;
        Ok(response)
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).expect("bodies are UTF-8")
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {}", self.text()))
    }
}
