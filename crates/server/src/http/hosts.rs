//! The names that the server is asked by. A page elsewhere can have its own name resolve to this machine (DNS rebinding)
//! and reach a server that trusts whoever is here; the `Host` that its browser then sends gives it away.

use std::net::{IpAddr, SocketAddr};

use axum::extract::Request;
use axum::http::header;
use axum::http::uri::Authority;

use crate::options::Options;

/// The names that are accepted; all of them where this is not watched.
pub(crate) struct Hosts {
    allowed: Option<Vec<String>>,
}

impl Hosts {
    /// Watches where nobody is asked for a key because only this machine is served, and where the operator names hosts.
    pub(crate) fn new(options: &Options, address: Option<SocketAddr>) -> Self {
        let is_private =
            options.api_keys.is_none() && address.is_some_and(|address| address.ip().is_loopback());
        let named = options.allowed_hosts.iter().chain([&options.host]).map(|name| plain(name));
        Hosts { allowed: (is_private || !options.allowed_hosts.is_empty()).then(|| named.collect()) }
    }

    /// Whether the request asks by a name that is accepted. One that names no host comes from no browser.
    pub(crate) fn admit(&self, request: &Request) -> bool {
        let Some(allowed) = &self.allowed else { return true };
        let admit = |host: &str| {
            let host = plain(host);
            is_of_this_machine(&host) || allowed.contains(&host)
        };
        let of_uri = request.uri().authority();
        let mut headers = request.headers().get_all(header::HOST).iter();
        of_uri.is_none_or(|authority| admit(authority.host()))
            && headers.all(|value| {
                let authority = value.to_str().ok().and_then(|value| value.parse::<Authority>().ok());
                authority.is_some_and(|authority| admit(authority.host()))
            })
    }
}

/// A host's name to compare: without brackets, in small letters, without the root's dot.
fn plain(host: &str) -> String {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()
}

fn is_of_this_machine(host: &str) -> bool {
    // Browsers never ask a name server for these (RFC 6761, section 6.3).
    host == "localhost"
        || host.ends_with(".localhost")
        || host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    #[test]
    fn only_names_of_this_machine_and_those_allowed() {
        let admits = |hosts: &Hosts, host: &str| {
            hosts.admit(&Request::get("/").header(header::HOST, host).body(Body::empty()).unwrap())
        };
        let loopback = Some("127.0.0.1:80".parse().unwrap());
        let options = Options { allowed_hosts: vec!["Glm.Lan".to_owned()], ..Options::default() };
        let hosts = Hosts::new(&options, loopback);
        for good in [
            "localhost",
            "LOCALHOST:8000",
            "a.localhost.",
            "127.0.0.1:1",
            "127.9.9.9",
            "[::1]:80",
            "glm.lan:8",
        ] {
            assert!(admits(&hosts, good), "{good}");
        }
        for bad in ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.1", "", "a b"]
        {
            assert!(!admits(&hosts, bad), "{bad}");
        }
        assert!(!hosts.admit(&Request::get("http://evil.example/").body(Body::empty()).unwrap()));
        assert!(hosts.admit(&Request::get("/").body(Body::empty()).unwrap()));
        // Others are served: by whatever name. With keys, too, unless names are given.
        let everywhere = Some("0.0.0.0:80".parse().unwrap());
        assert!(admits(&Hosts::new(&Options::default(), everywhere), "evil.example"));
        let keys = Options { api_keys: Some("keys".into()), ..Options::default() };
        assert!(admits(&Hosts::new(&keys, loopback), "evil.example"));
        assert!(!admits(&Hosts::new(&options, everywhere), "evil.example"));
    }
}
