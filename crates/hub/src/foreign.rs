//! Files that strangers name by their address, such as pictures in a request. Whoever fetches for strangers may not be led to
//! where only he can go: every address that a name leads to is held to the public internet, on every step, and the address
//! that was looked at is the one that is connected to.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::sync::OnceLock;
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::body::{Body, Bytes};
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, HOST, LOCATION, USER_AGENT};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio::time::timeout;

use crate::tls::Tls;
use crate::url::Url;

/// Steps from one address to the next.
const MOST_REDIRECTS: usize = 3;

/// How names become addresses, and where connections go: [`Internet`], or what a test has in its place.
pub trait Network: Send + Sync {
    /// The addresses of a name.
    ///
    /// # Errors
    /// When it has none.
    fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>>;

    /// Where a connection to an address leads in truth: there.
    fn route(&self, address: SocketAddr) -> SocketAddr {
        address
    }
}

/// The system's own.
#[derive(Clone, Copy, Debug, Default)]
pub struct Internet;

impl Network for Internet {
    fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        Ok((host, port).to_socket_addrs()?.collect())
    }
}

/// Fetches what strangers name. Proxies are not used: what they connect to could not be looked at.
pub struct Foreign<N = Internet> {
    network: std::sync::Arc<N>,
    /// Bytes of a file.
    bytes: usize,
    /// From the first name to the last byte.
    time: Duration,
    tls: OnceLock<Result<Tls, String>>,
}

/// Why a file is not fetched.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ForeignError {
    /// No address of http or https.
    #[error("it is not at an address of http or https")]
    Scheme,
    /// Its name leads into a network that is not everybody's.
    #[error("{host} is no address of the public internet")]
    NotPublic {
        /// The name.
        host: String,
    },
    /// Too many steps, or one to where nobody may be led.
    #[error("it leads on too often, or from https to http")]
    Redirect,
    /// Too large.
    #[error("it has more than {limit} bytes")]
    TooLarge {
        /// Bytes.
        limit: usize,
    },
    /// Too slow.
    #[error("it did not come within {0:.0?}")]
    TooSlow(Duration),
    /// Its host says something else than the file.
    #[error("{host} replied with status {status}")]
    Status {
        /// The name.
        host: String,
        /// The status.
        status: u16,
    },
    /// No connection, or one that broke off.
    #[error("{host} cannot be reached")]
    Unreachable {
        /// The name.
        host: String,
    },
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Foreign<Internet> {
    /// One that takes files of so many bytes, within so much time.
    pub fn new(bytes: usize, time: Duration) -> Self {
        Foreign::over(Internet, bytes, time)
    }
}

impl<N: Network + 'static> Foreign<N> {
    /// The same over another network.
    pub fn over(network: N, bytes: usize, time: Duration) -> Self {
        Foreign { network: network.into(), bytes, time, tls: OnceLock::new() }
    }

    /// The bytes at an address. Waits for them: not for a thread that must not wait.
    ///
    /// # Errors
    /// When it is refused, or cannot be had.
    pub fn fetch(&self, url: &str) -> Result<Vec<u8>, ForeignError> {
        let url = Url::parse(url).map_err(|_| ForeignError::Scheme)?;
        let unreachable = |_| ForeignError::Unreachable { host: shown(&url) };
        let runtime = Builder::new_current_thread().enable_all().build().map_err(unreachable)?;
        let fetched = runtime.block_on(async { timeout(self.time, self.follow(url.clone())).await });
        // A name that is still being looked up is not waited for.
        runtime.shutdown_background();
        fetched.unwrap_or(Err(ForeignError::TooSlow(self.time)))
    }

    async fn follow(&self, mut url: Url) -> Result<Vec<u8>, ForeignError> {
        for _ in 0..=MOST_REDIRECTS {
            let response = self.ask(&url).await?;
            let status = response.status().as_u16();
            match status {
                200 => return self.read(&url, response).await,
                301 | 302 | 303 | 307 | 308 => {
                    let link = response.headers().get(LOCATION).and_then(|link| link.to_str().ok());
                    let next = url.join(link.unwrap_or_default()).map_err(|_| ForeignError::Scheme)?;
                    if url.origin.secure && !next.origin.secure {
                        return Err(ForeignError::Redirect);
                    }
                    url = next;
                }
                _ => return Err(ForeignError::Status { host: shown(&url), status }),
            }
        }
        Err(ForeignError::Redirect)
    }

    async fn ask(&self, url: &Url) -> Result<Response<impl Body<Data = Bytes> + use<N>>, ForeignError> {
        let unreachable = || ForeignError::Unreachable { host: shown(url) };
        let stream = self.connect(url).await?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|_| unreachable())?;
        tokio::spawn(async move { drop(connection.await) });
        let request = Request::get(url.path.as_str())
            .header(HOST, url.origin.authority())
            .header(USER_AGENT, concat!("glimmer/", env!("CARGO_PKG_VERSION")))
            .header(ACCEPT, "image/*")
            .header(ACCEPT_ENCODING, "identity")
            .body(Empty::<Bytes>::new())
            .map_err(|_| ForeignError::Scheme)?;
        sender.send_request(request).await.map_err(|_| unreachable())
    }

    /// A connection to one of a name's addresses, all of which have to be public.
    async fn connect(&self, url: &Url) -> Result<Box<dyn Stream>, ForeignError> {
        let (host, port) = (url.origin.address().to_owned(), url.origin.port);
        let unreachable = || ForeignError::Unreachable { host: shown(url) };
        let network = std::sync::Arc::clone(&self.network);
        let resolved = tokio::task::spawn_blocking(move || network.resolve(&host, port)).await;
        let addresses = resolved.ok().and_then(Result::ok).ok_or_else(unreachable)?;
        if !addresses.iter().all(|address| is_public(address.ip())) {
            return Err(ForeignError::NotPublic { host: shown(url) });
        }
        for address in addresses {
            let Ok(tcp) = TcpStream::connect(self.network.route(address)).await else { continue };
            if !url.origin.secure {
                return Ok(Box::new(tcp));
            }
            let tls = self.tls.get_or_init(Tls::open).as_ref().map_err(|_| unreachable())?;
            return match tls.connect(url.origin.address(), tcp).await {
                Ok(stream) => Ok(Box::new(stream)),
                Err(_) => Err(unreachable()),
            };
        }
        Err(unreachable())
    }

    async fn read(
        &self,
        url: &Url,
        response: Response<impl Body<Data = Bytes>>,
    ) -> Result<Vec<u8>, ForeignError> {
        let unreachable = || ForeignError::Unreachable { host: shown(url) };
        let too_large = ForeignError::TooLarge { limit: self.bytes };
        if response.headers().get(CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity") {
            return Err(unreachable());
        }
        let mut body = Box::pin(response.into_body());
        if body.size_hint().lower() > self.bytes as u64 {
            return Err(too_large);
        }
        let mut all = Vec::new();
        while let Some(frame) = body.frame().await {
            let Ok(bytes) = frame.map_err(|_| unreachable())?.into_data() else { continue };
            if all.len() + bytes.len() > self.bytes {
                return Err(too_large);
            }
            all.extend_from_slice(&bytes);
        }
        Ok(all)
    }
}

/// A host in an error.
fn shown(url: &Url) -> String {
    url.origin.host.chars().take(100).collect()
}

/// Whether an address is one of the public internet: none of this machine's or of a network of its own, none that stands for
/// another (IPv4 inside IPv6, relays), none of documentation, none that means several.
///
/// Source: IANA's IPv4 and IPv6 Special-Purpose Address Registries.
fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let within = |network: [u8; 4], bits: u32| {
        (ip.to_bits() ^ Ipv4Addr::from(network).to_bits()).checked_shr(32 - bits) == Some(0)
    };
    let special = [
        ([0, 0, 0, 0], 8),
        ([10, 0, 0, 0], 8),
        ([100, 64, 0, 0], 10),
        ([127, 0, 0, 0], 8),
        ([169, 254, 0, 0], 16),
        ([172, 16, 0, 0], 12),
        ([192, 0, 0, 0], 24),
        ([192, 0, 2, 0], 24),
        ([192, 31, 196, 0], 24),
        ([192, 52, 193, 0], 24),
        ([192, 88, 99, 0], 24),
        ([192, 168, 0, 0], 16),
        ([192, 175, 48, 0], 24),
        ([198, 18, 0, 0], 15),
        ([198, 51, 100, 0], 24),
        ([203, 0, 113, 0], 24),
        // Multicast, and what is kept for later, the address of all among it.
        ([224, 0, 0, 0], 3),
    ];
    !special.iter().any(|(network, bits)| within(*network, *bits))
}

/// Global unicast is 2000::/3; of it the special ones are not public either.
fn is_public_v6(ip: Ipv6Addr) -> bool {
    let [first, second, ..] = ip.segments();
    let is_global = first & 0xe000 == 0x2000;
    // Teredo and other protocols' own; documentation, twice; 6to4.
    let is_special = first == 0x2001 && (second < 0x0200 || second == 0x0db8)
        || first == 0x3fff && second < 0x1000
        || first == 0x2002
        || first == 0x2620 && second == 0x004f;
    is_global && !is_special
}

#[cfg(test)]
mod tests {
    use super::is_public;

    #[test]
    fn only_the_public_internet_is_public() {
        for ip in
            ["1.1.1.1", "9.255.255.255", "11.0.0.0", "100.63.0.1", "100.128.0.1", "172.15.0.1", "172.32.0.1"]
        {
            assert!(is_public(ip.parse().unwrap()), "{ip}");
        }
        for ip in ["93.184.216.34", "223.255.255.255", "2606:4700::1111", "2001:4860:4860::8888", "2a00::1"] {
            assert!(is_public(ip.parse().unwrap()), "{ip}");
        }
        for ip in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.7",
            "203.0.113.9",
            "224.0.0.1",
            "239.1.1.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:93.184.216.34",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2001:10::1",
            "2002:7f00:1::",
            "3fff::1",
            "5f00::1",
            "fc00::1",
            "fd12:3456::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "2620:4f:8000::1",
        ] {
            assert!(!is_public(ip.parse().unwrap()), "{ip}");
        }
    }
}
