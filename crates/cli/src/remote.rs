//! A running server, as the verbs ask it.

use anyhow::{Context, Result, bail};
use glimmer_hub::{Answer, Endpoint, HubError, Verb};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::args::EndpointArgs;

/// Where a local server is.
const LOCAL: &str = "http://127.0.0.1:9997";

/// A server.
pub(crate) struct Remote {
    endpoint: Endpoint,
    address: String,
}

/// What a server refuses, and the word for it.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) code: String,
    message: String,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Refused {}

impl Remote {
    /// The server that flags or variables name.
    pub(crate) fn new(args: &EndpointArgs) -> Result<Self> {
        let set = |name| std::env::var(name).ok().filter(|value: &String| !value.is_empty());
        let address = args.endpoint.clone().or_else(|| set("XINFERENCE_ENDPOINT"));
        let address = address.unwrap_or_else(|| LOCAL.to_owned());
        let key = args.api_key.clone().or_else(|| set("XINFERENCE_API_KEY"));
        let endpoint = Endpoint::new(&address, key.as_deref())?;
        Ok(Remote { endpoint, address })
    }

    /// Looks at a path.
    pub(crate) fn get<T: DeserializeOwned>(&self, path: &[&str], query: &[(&str, &str)]) -> Result<T> {
        self.ask(Verb::Get, path, query, None)
    }

    /// Asks, and reads the answer.
    pub(crate) fn ask<T: DeserializeOwned>(
        &self,
        verb: Verb,
        path: &[&str],
        query: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<T> {
        let Answer { status, body } = match self.endpoint.ask(verb, path, query, body) {
            Err(error @ HubError::Network { .. }) => {
                return Err(error)
                    .context("no server answers; `glimmer local` is one, and --endpoint names another");
            }
            answer => answer?,
        };
        let strange = || format!("{}: what it answers is not Xinference's", self.address);
        if status == 200 {
            return serde_json::from_value(body).with_context(strange);
        }
        let code = body["error"]["code"].as_str().unwrap_or_default().to_owned();
        match body["detail"].as_str() {
            Some(message) => bail!(Refused { code, message: message.to_owned() }),
            None => bail!("{}: status {status}", self.address),
        }
    }
}
