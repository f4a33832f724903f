//! `glimmer health`: whether a server would answer a request now. A container's check needs no other program for it.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::WrongUsage;
use crate::args::HealthArgs;

/// Bytes that hold a status line's number: `HTTP/1.1 200`.
const STATUS_END: usize = 12;

/// Asks; success is a server that is ready.
pub(crate) fn run(args: &HealthArgs) -> anyhow::Result<()> {
    let authority = authority(&args.url)?;
    let mut request = format!("GET /health HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n");
    if let Some(key) = &args.api_key {
        if !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            bail!(WrongUsage("--api-key: a key has neither blanks nor control characters".to_owned()));
        }
        request += &format!("Authorization: Bearer {key}\r\n");
    }
    request += "\r\n";
    let end = Instant::now() + Duration::from_secs(args.timeout as u64);
    let status = ask(&authority, &request, end).with_context(|| args.url.clone())?;
    match status.as_str() {
        "200" => Ok(()),
        "503" => bail!("{}: not ready: it loads its models, or is stopping", args.url),
        "401" => bail!("{}: wants a key: --api-key, or `glimmer serve --public-status`", args.url),
        other => bail!("{}: answers with status {other}", args.url),
    }
}

/// `HOST:PORT` of an address.
fn authority(url: &str) -> anyhow::Result<String> {
    let wrong = |why: &str| WrongUsage(format!("{url}: {why}, such as http://127.0.0.1:8000"));
    let Some(rest) = url.strip_prefix("http://") else { bail!(wrong("an address begins with http://")) };
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
    if authority.is_empty() || !authority.bytes().all(is_host) {
        bail!(wrong("an address is a host and a port"));
    }
    // The colons of an IPv6 address stand in brackets.
    let has_port = authority.rsplit(']').next().is_some_and(|end| end.contains(':'));
    Ok(if has_port { authority.to_owned() } else { format!("{authority}:80") })
}

/// The status of the answer to `request`.
fn ask(authority: &str, request: &str, end: Instant) -> io::Result<String> {
    let mut stream = connect(authority, end)?;
    stream.set_write_timeout(Some(left(end)?))?;
    stream.write_all(request.as_bytes())?;
    let mut line = [0; STATUS_END];
    let mut filled = 0;
    while filled < STATUS_END {
        stream.set_read_timeout(Some(left(end)?))?;
        match stream.read(&mut line[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return Err(late());
            }
            Err(error) => return Err(error),
        }
    }
    let status = line.strip_prefix(b"HTTP/1.1 ").filter(|status| status.iter().all(u8::is_ascii_digit));
    let no_http = || io::Error::new(ErrorKind::InvalidData, "what listens there does not speak HTTP");
    status.map(|status| String::from_utf8_lossy(status).into_owned()).ok_or_else(no_http)
}

/// A connection to the first address that takes one.
fn connect(authority: &str, end: Instant) -> io::Result<TcpStream> {
    let mut failed = io::Error::new(ErrorKind::NotFound, "there is no such host");
    for address in authority.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, left(end)?) {
            Ok(stream) => return Ok(stream),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

/// The time that is left.
fn left(end: Instant) -> io::Result<Duration> {
    end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()).ok_or_else(late)
}

fn late() -> io::Error {
    io::Error::new(ErrorKind::TimedOut, "no answer in time")
}
