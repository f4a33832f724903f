//! A server that is asked in JSON: by the means that hubs are spoken to.

use std::time::Duration;

use hyper::Method;
use hyper::body::Bytes;
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};

use crate::http::Client;
use crate::options::server_proxies;
use crate::url::{Url, encoded};
use crate::{HubError, Patience};

/// Bytes of an answer.
const LARGEST: usize = 64 << 20;

/// How long nothing may come.
const STALL: Duration = Duration::from_secs(60);

/// What is done at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Looks.
    Get,
    /// Does something, or adds something.
    Post,
    /// Removes something.
    Delete,
}

/// A server.
pub struct Endpoint {
    base: Url,
    client: Client,
    runtime: Runtime,
}

/// What a server answers.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status of HTTP.
    pub status: u16,
    /// The body; of one that is no JSON, its text.
    pub body: Value,
}

impl Endpoint {
    /// The server at this address, which is shown the key where there is one.
    ///
    /// # Errors
    /// When the address or the key makes no sense.
    pub fn new(address: &str, key: Option<&str>) -> Result<Self, HubError> {
        let wrong = |what: String| HubError::Option { name: "the server's address".to_owned(), what };
        let base = Url::parse(address).map_err(wrong)?;
        let proxies = if base.origin.is_loopback() { Default::default() } else { server_proxies()? };
        let patience = Patience { stall: STALL, ..Patience::default() };
        let mut client = Client::without_token(proxies, patience, &base);
        if let Some(key) = key {
            let wrong = || wrong("its key has letters, digits and signs only".to_owned());
            client = client.with_key(key).ok_or_else(wrong)?;
        }
        let runtime = Builder::new_current_thread().enable_all().build().map_err(|e| wrong(e.to_string()))?;
        Ok(Endpoint { base, client, runtime })
    }

    /// Asks at a path of these parts, with these values behind it. Waits for the answer, whatever its status.
    ///
    /// # Errors
    /// When the server cannot be reached, or breaks off.
    pub fn ask(
        &self,
        verb: Verb,
        path: &[&str],
        query: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Answer, HubError> {
        let parts: String = path.iter().map(|part| format!("/{}", encoded(part, ""))).collect();
        let query: Vec<String> = query
            .iter()
            .map(|(name, value)| format!("{}={}", encoded(name, ""), encoded(value, "")))
            .collect();
        let mark = if query.is_empty() { "" } else { "?" };
        let url = self.base.below(&format!("{parts}{mark}{}", query.join("&")));
        let method = match verb {
            Verb::Get => Method::GET,
            Verb::Post => Method::POST,
            Verb::Delete => Method::DELETE,
        };
        let json = body.map_or_else(Bytes::new, |body| body.to_string().into());
        self.runtime.block_on(async {
            let mut reply = self.client.send_once(&method, &url, None, json).await?;
            let status = reply.status.as_u16();
            let bytes = reply.bytes(LARGEST).await?;
            let text = || Value::from(String::from_utf8_lossy(&bytes).into_owned());
            Ok(Answer { status, body: serde_json::from_slice(&bytes).unwrap_or_else(|_| text()) })
        })
    }
}
