//! Addresses: reading them, following a link from one to the next, spelling names inside them.

use std::fmt;

use hyper::Uri;

/// An address of HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Url {
    pub(crate) origin: Origin,
    /// From the slash on, with the query.
    pub(crate) path: String,
}

/// Scheme, host and port: what credentials belong to, and whom a connection leads to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Origin {
    pub(crate) secure: bool,
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl Origin {
    /// Host and port as the header `Host` has them.
    pub(crate) fn authority(&self) -> String {
        let Origin { secure, host, port } = self;
        if *port == if *secure { 443 } else { 80 } { host.clone() } else { format!("{host}:{port}") }
    }

    /// The host without the brackets of an IPv6 address.
    pub(crate) fn address(&self) -> &str {
        self.host.trim_start_matches('[').trim_end_matches(']')
    }

    /// Whether it is this machine.
    pub(crate) fn is_loopback(&self) -> bool {
        let ip = self.address().parse::<std::net::IpAddr>();
        self.host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback())
    }
}

impl Url {
    /// Reads an absolute address.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let text = text.split('#').next().unwrap_or_default();
        let uri: Uri = text.parse().map_err(|e| format!("{text:.100} is no address: {e}"))?;
        let secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(format!("{text:.100} is no address of http or https")),
        };
        let authority = uri.authority().ok_or_else(|| format!("{text:.100} names no host"))?;
        if authority.as_str().contains('@') {
            return Err("an address with a name or password inside is not taken".to_owned());
        }
        let host = authority.host().to_ascii_lowercase();
        if host.is_empty() {
            return Err(format!("{text:.100} names no host"));
        }
        let port = authority.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        Ok(Url { origin: Origin { secure, host, port }, path })
    }

    /// Where a link on this page leads.
    pub(crate) fn join(&self, link: &str) -> Result<Self, String> {
        let link = link.split('#').next().unwrap_or_default();
        let Origin { secure, .. } = self.origin;
        let scheme = if secure { "https" } else { "http" };
        if link.contains("://") && !link.starts_with('/') {
            return Url::parse(link);
        }
        if let Some(rest) = link.strip_prefix("//") {
            return Url::parse(&format!("{scheme}://{rest}"));
        }
        let here = self.path.split('?').next().unwrap_or_default();
        let path = match link.chars().next() {
            Some('/') => link.to_owned(),
            Some('?') => format!("{here}{link}"),
            _ => format!("{}/{link}", here.rsplit_once('/').map_or("", |(folder, _)| folder)),
        };
        Url::parse(&format!("{scheme}://{}{path}", self.origin.authority()))
    }

    /// Whether a step from here to there gives up encryption, so that others could read along. To this machine it does not.
    pub(crate) fn exposes(&self, next: &Url) -> bool {
        self.origin.secure && !next.origin.secure && !next.origin.is_loopback()
    }

    /// The address of something below this one, which ends without a slash.
    pub(crate) fn below(&self, path: &str) -> Self {
        Url { origin: self.origin.clone(), path: format!("{}{path}", self.path.trim_end_matches('/')) }
    }
}

impl fmt::Display for Url {
    /// Without the query, which may hold a signature.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.origin.secure { "https" } else { "http" };
        let path = self.path.split('?').next().unwrap_or_default();
        write!(f, "{scheme}://{}{path}", self.origin.authority())
    }
}

/// A name inside an address: all but letters, digits, `-._~` and what `keep` has, as RFC 3986 spells it.
pub(crate) fn encoded(name: &str, keep: &str) -> String {
    name.bytes()
        .map(|byte| {
            let c = char::from(byte);
            if c.is_ascii_alphanumeric() || "-._~".contains(c) || keep.contains(c) {
                c.to_string()
            } else {
                format!("%{byte:02X}")
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_lead_where_browsers_say() {
        let page = Url::parse("https://Hub.example/api/models/a/b?x=1").unwrap();
        for (link, path, host) in [
            ("/api/models/c/d", "/api/models/c/d", "hub.example"),
            ("c?y=2", "/api/models/a/c?y=2", "hub.example"),
            ("?y=2", "/api/models/a/b?y=2", "hub.example"),
            ("//cdn.example/x", "/x", "cdn.example"),
            ("http://cdn.example:81/x?u=http://y#z", "/x?u=http://y", "cdn.example"),
            ("/x?u=http://y", "/x?u=http://y", "hub.example"),
        ] {
            let found = page.join(link).unwrap();
            assert_eq!((found.path.as_str(), found.origin.host.as_str()), (path, host), "{link}");
        }
        assert_eq!(page.join("//cdn.example/x").unwrap().origin.port, 443);
        for bad in ["ftp://x/y", "https://u:p@x/y", "http://", "file:///etc/passwd"] {
            assert!(page.join(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn addresses_are_shown_without_their_secrets() {
        let url = Url::parse("http://localhost:8080/a?Signature=secret").unwrap();
        assert_eq!(url.to_string(), "http://localhost:8080/a");
        assert!(url.origin.is_loopback());
        assert!(Url::parse("http://[::1]:80/").unwrap().origin.is_loopback());
        assert!(!Url::parse("http://127.0.0.1.example/").unwrap().origin.is_loopback());
    }

    #[test]
    fn encryption_is_not_given_up() {
        let [plain, other, here, secure] = ["http://a/", "http://b/", "http://127.0.0.1/", "https://a/"]
            .map(|text| Url::parse(text).unwrap());
        assert!(secure.exposes(&plain) && secure.exposes(&other));
        assert!(
            !secure.exposes(&here)
                && !secure.exposes(&secure)
                && !plain.exposes(&other)
                && !plain.exposes(&secure)
        );
    }

    #[test]
    fn names_are_spelled_out() {
        assert_eq!(encoded("a b/名?.txt", "/"), "a%20b/%E5%90%8D%3F.txt");
        assert_eq!(encoded("refs/pr/1", ""), "refs%2Fpr%2F1");
    }
}
