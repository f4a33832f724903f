//! HTTP as a hub or a server is spoken to: connections that are used again, redirects, credentials for one address alone, and an end to
//! waiting.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue,
    LOCATION, RANGE, RETRY_AFTER, USER_AGENT,
};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, sleep, timeout};

use crate::proxy::{Proxies, Proxy};
use crate::tls::Tls;
use crate::url::{Origin, Url};
use crate::{HubError, HubOptions, Patience};

/// Steps from one address to the next.
const MOST_REDIRECTS: usize = 10;
/// Bytes of a reply that nobody wants, read so that its connection can be used again.
const DRAINED: usize = 64 << 10;
/// The longest that a hub may have us wait.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// A client of one hub, or of one server.
pub(crate) struct Client {
    /// Who may see the token.
    home: Origin,
    credentials: Vec<(HeaderName, HeaderValue)>,
    proxies: Proxies,
    tls: OnceLock<Result<Tls, String>>,
    idle: Arc<Idle>,
    pub(crate) patience: Patience,
}

type Sender = SendRequest<Full<Bytes>>;

/// Connections that wait for their next request.
#[derive(Default)]
struct Idle(Mutex<HashMap<Origin, Vec<Sender>>>);

impl Idle {
    fn take(&self, origin: &Origin) -> Option<Sender> {
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let senders = idle.get_mut(origin)?;
        std::iter::from_fn(|| senders.pop()).find(Sender::is_ready)
    }

    fn give(&self, origin: &Origin, sender: Sender) {
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        idle.entry(origin.clone()).or_default().push(sender);
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// How far a request follows redirects.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Follow {
    /// To wherever they lead.
    Everywhere,
    /// As long as they stay on the host; one that leaves is the reply.
    OnHost,
}

impl Client {
    pub(crate) fn new(options: &HubOptions, home: &Url) -> Result<Self, HubError> {
        let credentials = match &options.token {
            None => Vec::new(),
            Some(token) => credentials(token).ok_or_else(|| HubError::Option {
                name: options.token_variable().to_owned(),
                what: "a token has letters and digits only".to_owned(),
            })?,
        };
        Ok(Client { credentials, ..Client::without_token(options.proxies.clone(), options.patience, home) })
    }

    /// One that shows who it is to nobody.
    pub(crate) fn without_token(proxies: Proxies, patience: Patience, home: &Url) -> Self {
        Client {
            home: home.origin.clone(),
            credentials: Vec::new(),
            proxies,
            tls: OnceLock::new(),
            idle: Arc::default(),
            patience,
        }
    }

    /// The same with a key.
    pub(crate) fn with_key(self, key: &str) -> Option<Self> {
        let (name, value) = credentials(key)?.into_iter().next()?;
        Some(Client { credentials: vec![(name, value)], ..self })
    }

    /// One request, and those that redirects lead to. Credentials go to the hub's own address alone, and no step leads from
    /// https to http, this machine apart.
    pub(crate) async fn send(
        &self,
        method: &Method,
        url: &Url,
        range: Option<(u64, u64)>,
        follow: Follow,
    ) -> Result<Reply, HubError> {
        let mut url = url.clone();
        for _ in 0..MOST_REDIRECTS {
            let mut reply = self.send_once(method, &url, range, Bytes::new()).await?;
            let Some(link) = reply.redirect() else { return Ok(reply) };
            let next = url.join(&link).map_err(|what| reply.nonsense(what))?;
            if url.exposes(&next) {
                return Err(
                    reply.nonsense(format!("leads from https to {next}, which anybody could read: refused"))
                );
            }
            if follow == Follow::OnHost && next.origin != url.origin {
                return Ok(reply);
            }
            reply.drain().await;
            url = next;
        }
        Err(HubError::Reply { host: url.origin.authority(), what: "redirects in a circle".to_owned() })
    }

    /// One request, with a body of JSON where there is any.
    pub(crate) async fn send_once(
        &self,
        method: &Method,
        url: &Url,
        range: Option<(u64, u64)>,
        json: Bytes,
    ) -> Result<Reply, HubError> {
        loop {
            // What may not be done twice is sent on a connection that cannot have been closed meanwhile.
            let reused = self.idle.take(&url.origin).filter(|_| method.is_safe());
            let is_reused = reused.is_some();
            let mut sender = match reused {
                Some(sender) => sender,
                None => self.connect(&url.origin).await?,
            };
            let request = self.request(method, url, range, json.clone())?;
            let network = |what: String| HubError::Network { host: url.origin.authority(), what };
            match timeout(self.patience.stall, sender.send_request(request)).await {
                Ok(Ok(response)) => {
                    let (head, body) = response.into_parts();
                    return Ok(Reply {
                        url: url.clone(),
                        status: head.status,
                        headers: head.headers,
                        body,
                        sender: Some(sender),
                        idle: Arc::clone(&self.idle),
                        stall: self.patience.stall,
                    });
                }
                // The host closed the connection while nobody used it.
                Ok(Err(_)) if is_reused => {}
                Ok(Err(error)) => return Err(network(innermost(&error))),
                Err(_) => return Err(network(self.silence())),
            }
        }
    }

    fn request(
        &self,
        method: &Method,
        url: &Url,
        range: Option<(u64, u64)>,
        json: Bytes,
    ) -> Result<Request<Full<Bytes>>, HubError> {
        // A proxy of plain HTTP is told the whole address.
        let proxy = self.proxies.on_the_way_to(&url.origin).filter(|_| !url.origin.secure);
        let target = match proxy {
            Some(_) => format!("http://{}{}", url.origin.authority(), url.path),
            None => url.path.clone(),
        };
        let mut request = Request::builder()
            .method(method)
            .uri(target)
            .header(HOST, url.origin.authority())
            .header(USER_AGENT, concat!("glimmer/", env!("CARGO_PKG_VERSION")))
            .header(ACCEPT_ENCODING, "identity");
        if let Some((from, to)) = range {
            request = request.header(RANGE, format!("bytes={from}-{}", to - 1));
        }
        if !json.is_empty() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        if url.origin == self.home {
            for (name, value) in &self.credentials {
                request = request.header(name, value);
            }
        }
        if let Some(value) = proxy.and_then(|proxy| proxy.authorization.as_ref()) {
            request = request.header("proxy-authorization", value);
        }
        let bad =
            |e: hyper::http::Error| HubError::Reply { host: url.origin.authority(), what: e.to_string() };
        request.body(Full::new(json)).map_err(bad)
    }

    async fn connect(&self, origin: &Origin) -> Result<Sender, HubError> {
        let network = |what: String| HubError::Network { host: origin.authority(), what };
        let proxy = self.proxies.on_the_way_to(origin);
        let attempt = async {
            let (host, port) = match proxy {
                Some(proxy) => (proxy.host.as_str(), proxy.port),
                None => (origin.address(), origin.port),
            };
            let mut tcp = dial(host, port, self.patience.stall).await.map_err(|e| match proxy {
                Some(_) => format!("the proxy {host}:{port}: {e}"),
                None => e.to_string(),
            })?;
            // Requests are small and wait for nothing.
            let _ = tcp.set_nodelay(true);
            if !origin.secure {
                return Ok::<Box<dyn Stream>, String>(Box::new(tcp));
            }
            if let Some(proxy) = proxy {
                tunnel(&mut tcp, proxy, origin).await?;
            }
            let tls = self.tls.get_or_init(Tls::open).clone()?;
            Ok(Box::new(tls.connect(origin.address(), tcp).await?))
        };
        // Half of it for an address, half for what is agreed upon then.
        let stream = timeout(self.patience.stall * 2, attempt).await;
        let stream = stream.map_err(|_| network(self.silence()))?.map_err(network)?;
        let (sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|e| network(e.to_string()))?;
        // It ends with the last of what uses it.
        tokio::spawn(async move { drop(connection.await) });
        Ok(sender)
    }

    fn silence(&self) -> String {
        format!("nothing came for {:.0?}", self.patience.stall)
    }

    /// Does something until it works, fails for good, or has failed so often.
    pub(crate) async fn patiently<T, F: Future<Output = Result<T, HubError>>>(
        &self,
        attempts: u32,
        act: impl Fn() -> F,
    ) -> Result<T, HubError> {
        let mut failures = 0;
        loop {
            match act().await {
                Err(error) if error.is_transient() && failures < attempts => {
                    self.pause(failures, &error).await;
                    failures += 1;
                }
                result => return result,
            }
        }
    }

    /// Waits after so many failures in a row, as long as the hub says where it says so.
    pub(crate) async fn pause(&self, failures: u32, error: &HubError) {
        let own = self.patience.first_pause * 2u32.saturating_pow(failures.min(16));
        let own = own.min(Duration::from_secs(30));
        let pause = match error {
            HubError::Status { wait: Some(seconds), .. } => Duration::from_secs(*seconds).min(LONGEST_PAUSE),
            _ => own,
        };
        sleep(pause).await;
    }
}

/// A connection to one of the addresses of a host. One that does not answer leaves time for the next: IPv6 may lead nowhere.
async fn dial(host: &str, port: u16, stall: Duration) -> io::Result<TcpStream> {
    let addresses: Vec<_> = lookup_host((host, port)).await?.collect();
    let share = stall / addresses.len().max(1) as u32;
    let mut last = io::Error::new(io::ErrorKind::NotFound, "its name has no address");
    for address in addresses {
        match timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = error,
            Err(_) => last = io::Error::new(io::ErrorKind::TimedOut, "no connection was made in time"),
        }
    }
    Err(last)
}

/// A token as both hubs read it: Hugging Face from the first, ModelScope's older parts from the second.
fn credentials(token: &str) -> Option<Vec<(HeaderName, HeaderValue)>> {
    let is_token = token.chars().all(|c| c.is_ascii_graphic() && !"\"\\;,".contains(c));
    let values = [
        (AUTHORIZATION, format!("Bearer {token}")),
        (hyper::header::COOKIE, format!("m_session_id={token}")),
    ];
    let headers = values.into_iter().map(|(name, value)| {
        let mut value = HeaderValue::from_str(&value).ok()?;
        value.set_sensitive(true);
        Some((name, value))
    });
    headers.collect::<Option<_>>().filter(|_| is_token)
}

/// Asks a proxy for a way to a host.
async fn tunnel(tcp: &mut TcpStream, proxy: &Proxy, origin: &Origin) -> Result<(), String> {
    const LONGEST: usize = 8 << 10;
    let target = format!("{}:{}", origin.host, origin.port);
    let authorization = proxy.authorization.iter().map(|value| format!("Proxy-Authorization: {value}\r\n"));
    let authorization: String = authorization.collect();
    let request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{authorization}\r\n");
    let of_proxy = |e: io::Error| format!("the proxy: {e}");
    tcp.write_all(request.as_bytes()).await.map_err(of_proxy)?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() == LONGEST {
            return Err("the proxy talks without end".to_owned());
        }
        head.push(tcp.read_u8().await.map_err(of_proxy)?);
    }
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line).into_owned();
    match line.split(' ').nth(1) {
        Some("200") => Ok(()),
        _ => Err(format!("the proxy refuses: {line:.100}")),
    }
}

/// The last of an error's causes, which says most.
fn innermost(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source())
        .last()
        .map_or(String::new(), ToString::to_string)
}

/// A reply, of which the head is there.
pub(crate) struct Reply {
    /// Where it came from.
    pub(crate) url: Url,
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    body: Incoming,
    /// Its connection, until it is given back.
    sender: Option<Sender>,
    idle: Arc<Idle>,
    stall: Duration,
}

impl Reply {
    /// A header's text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    fn redirect(&self) -> Option<String> {
        let follows = [301, 302, 303, 307, 308].contains(&self.status.as_u16());
        self.header(LOCATION.as_str()).filter(|_| follows).map(str::to_owned)
    }

    /// Where it leads without having been followed.
    pub(crate) fn leads_to(&self) -> Option<Url> {
        self.url.join(&self.redirect()?).ok()
    }

    /// Whether its body is compressed, so that its length says nothing.
    pub(crate) fn is_encoded(&self) -> bool {
        self.headers.get(CONTENT_ENCODING).is_some_and(|value| value != "identity")
    }

    /// The next bytes of the body; none at its end.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, HubError> {
        loop {
            let network = |what: String| HubError::Network { host: self.url.origin.authority(), what };
            let next = timeout(self.stall, self.body.frame()).await;
            let next = next.map_err(|_| network(format!("nothing came for {:.0?}", self.stall)))?;
            let Some(frame) = next else {
                if let Some(sender) = self.sender.take() {
                    self.idle.give(&self.url.origin, sender);
                }
                return Ok(None);
            };
            // Trailers say nothing that is wanted.
            if let Ok(bytes) = frame.map_err(|e| network(innermost(&e)))?.into_data() {
                return Ok(Some(bytes));
            }
        }
    }

    /// The whole body.
    pub(crate) async fn bytes(&mut self, most: usize) -> Result<Vec<u8>, HubError> {
        let mut all = Vec::new();
        let end = Instant::now() + self.stall * 6;
        while let Some(bytes) = self.chunk().await? {
            if all.len() + bytes.len() > most {
                return Err(self.nonsense(format!("a reply of more than {most} bytes")));
            }
            if Instant::now() > end {
                return Err(HubError::Network {
                    host: self.url.origin.authority(),
                    what: "it is too slow".to_owned(),
                });
            }
            all.extend_from_slice(&bytes);
        }
        Ok(all)
    }

    /// Reads what is left of a short body, so that the connection can be used again, and returns it.
    pub(crate) async fn drain(&mut self) -> Vec<u8> {
        // A long or broken one costs no more than a new connection.
        self.bytes(DRAINED).await.unwrap_or_default()
    }

    /// That the reply makes no sense.
    pub(crate) fn nonsense(&self, what: String) -> HubError {
        HubError::Reply { host: self.url.origin.authority(), what }
    }

    /// What a status that is no success means, for whoever has no better word.
    pub(crate) fn refusal(&self, said: &str, token: &'static str) -> HubError {
        let said = if said.is_empty() { String::new() } else { format!(": {said:.120}") };
        let (host, status) = (self.url.origin.authority(), self.status.as_u16());
        match status {
            401 | 403 => HubError::Refused { host, status, said, token },
            408 | 425 | 429 | 500.. => {
                let wait = self.header(RETRY_AFTER.as_str()).and_then(|text| text.trim().parse().ok());
                HubError::Status { host, status, said, wait }
            }
            _ => self.nonsense(format!("status {status}{said}")),
        }
    }
}
