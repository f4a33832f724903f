//! Proxies, as `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY` name them, in small letters first.

use crate::HubError;
use crate::url::{Origin, Url};

/// Which hosts are reached through which proxy.
#[derive(Clone, Debug, Default)]
pub(crate) struct Proxies {
    http: Option<Proxy>,
    https: Option<Proxy>,
    /// Hosts that are reached without.
    direct: Vec<String>,
}

/// A proxy of HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Proxy {
    pub(crate) host: String,
    pub(crate) port: u16,
    /// The value of `Proxy-Authorization`.
    pub(crate) authorization: Option<String>,
}

impl Proxies {
    pub(crate) fn from_variables(get: &dyn Fn(&str) -> Option<String>) -> Result<Self, HubError> {
        let either = |name: &str| {
            let names = [name.to_ascii_lowercase(), name.to_owned()];
            names.into_iter().find_map(|name| get(&name).map(|value| (name, value)))
        };
        let proxy = |name: &str| {
            let found = either(name).or_else(|| either("ALL_PROXY"));
            found
                .map(|(name, value)| Proxy::parse(&value).map_err(|what| HubError::Option { name, what }))
                .transpose()
        };
        let direct = either("NO_PROXY").map(|(_, value)| value).unwrap_or_default();
        let direct = direct.split(',').map(|host| host.trim().trim_start_matches('.').to_ascii_lowercase());
        Ok(Proxies {
            http: proxy("HTTP_PROXY")?,
            https: proxy("HTTPS_PROXY")?,
            direct: direct.filter(|host| !host.is_empty()).collect(),
        })
    }

    /// The proxy on the way to a host.
    pub(crate) fn on_the_way_to(&self, origin: &Origin) -> Option<&Proxy> {
        let host = origin.address();
        let is_direct = self.direct.iter().any(|entry| {
            let (name, port) = match entry.rsplit_once(':') {
                Some((name, port)) if !name.contains(':') => (name, port.parse::<u16>().ok()),
                _ => (entry.as_str(), None),
            };
            let is_host = name == "*"
                || host == name
                || host.strip_suffix(name).is_some_and(|rest| rest.ends_with('.'));
            is_host && port.is_none_or(|port| port == origin.port)
        });
        let proxy = if origin.secure { &self.https } else { &self.http };
        proxy.as_ref().filter(|_| !is_direct)
    }
}

impl Proxy {
    /// Reads `http://user:password@host:port`; the scheme may be missing.
    fn parse(text: &str) -> Result<Self, String> {
        let rest = match text.split_once("://") {
            Some(("http", rest)) => rest,
            Some((scheme, _)) => {
                return Err(format!("a proxy of {scheme:.20} is not supported; one of http is"));
            }
            None => text,
        };
        let (user, host) = rest.rsplit_once('@').map_or((None, rest), |(user, host)| (Some(user), host));
        let url =
            Url::parse(&format!("http://{host}")).map_err(|_| "this is no address of a proxy".to_owned())?;
        let Origin { host, port, .. } = url.origin;
        let authorization = user.map(|user| format!("Basic {}", base64(&decoded(user))));
        Ok(Proxy { host, port, authorization })
    }
}

/// The bytes that an address spells.
fn decoded(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let hex = rest.strip_prefix('%').and_then(|hex| u8::from_str_radix(hex.get(..2)?, 16).ok());
        let taken = if hex.is_some() { 3 } else { c.len_utf8() };
        match hex {
            Some(byte) => bytes.push(byte),
            None => bytes.extend_from_slice(&rest.as_bytes()[..taken]),
        }
        rest = &rest[taken..];
    }
    bytes
}

/// Base64 of RFC 4648.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let bits = (0..3).fold(0, |bits, at| bits << 8 | u32::from(*group.get(at).unwrap_or(&0)));
        for at in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * at) & 63) as usize];
            text.push(if at <= group.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(variables: &[(&str, &str)]) -> Proxies {
        let get = |name: &str| {
            let found = variables.iter().find(|(other, _)| *other == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        Proxies::from_variables(&get).unwrap()
    }

    #[test]
    fn hosts_have_their_proxies() {
        let found = proxies(&[
            ("HTTPS_PROXY", "http://us%3Aer:p%40ss@proxy.example:3128/"),
            ("http_proxy", "proxy.example"),
            ("HTTP_PROXY", "ignored.example:1"),
            ("NO_PROXY", "localhost,.inside.example, 10.0.0.1, hub.example:8080"),
        ]);
        let proxy = |url: &str| found.on_the_way_to(&Url::parse(url).unwrap().origin).map(|proxy| proxy.port);
        assert_eq!(proxy("https://huggingface.co/x"), Some(3128));
        assert_eq!(proxy("http://huggingface.co/x"), Some(80));
        for direct in [
            "http://localhost:1/",
            "https://a.inside.example/",
            "http://10.0.0.1/",
            "http://hub.example:8080/",
        ] {
            assert_eq!(proxy(direct), None, "{direct}");
        }
        assert_eq!(proxy("http://hub.example/"), Some(80));
        assert_eq!(proxy("http://outinside.example/"), Some(80));
        let authorization = found.https.unwrap().authorization.unwrap();
        assert_eq!(authorization, format!("Basic {}", base64(b"us:er:p@ss")));
        assert_eq!(
            proxies(&[("ALL_PROXY", "http://p:1"), ("NO_PROXY", "*")])
                .on_the_way_to(&Url::parse("http://x/").unwrap().origin),
            None
        );
    }

    #[test]
    fn other_proxies_are_named() {
        assert!(Proxy::parse("socks5://p:1").unwrap_err().contains("socks5"));
        assert!(Proxy::parse("http://").is_err());
    }

    #[test]
    fn base64_is_that_of_the_rfc() {
        for (bytes, text) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }
}
