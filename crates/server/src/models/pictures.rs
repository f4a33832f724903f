//! What a request shows: bytes that stand in it or at an address, looked at as its model looks at them.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use glimmer::{Conversation, EngineError, Error, Medium, PictureLimits, View};
use tokio::sync::Semaphore;

use crate::error::ApiError;
use crate::models::blocking::blocking;
use crate::models::served::Model;
use crate::options::FetchPicture;
use crate::record::entry::Entry;

/// Pictures that are decoded at once, over all requests: each may take half a GiB.
const LOOKING: usize = 2;
/// Files that are fetched at once.
const FETCHING: usize = 16;

/// Base64 with its padding and without.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What all requests with pictures share.
pub(crate) struct Pictures {
    looking: Semaphore,
    fetching: Semaphore,
    fetch: Option<FetchPicture>,
}

impl Pictures {
    pub(crate) fn new(fetch: Option<FetchPicture>) -> Self {
        Pictures { looking: Semaphore::new(LOOKING), fetching: Semaphore::new(FETCHING), fetch }
    }

    /// The file that a request means by a place.
    async fn bytes(
        &self,
        entry: &Entry,
        conversation: &Arc<Conversation>,
        at: usize,
    ) -> Result<Vec<u8>, ApiError> {
        let place = place(conversation, at).ok_or_else(|| fault(at, "it says where nothing is"))?;
        let scheme = place.split_once(':').map_or("", |(scheme, _)| scheme).to_ascii_lowercase();
        match (scheme.as_str(), self.fetch) {
            ("data", _) => {
                let conversation = Arc::clone(conversation);
                let read = move || of_data(place_of(&conversation, at)).map_err(|what| fault(at, what));
                blocking(entry, read).await
            }
            ("http" | "https", Some(fetch)) => {
                let _turn = self.fetching.acquire().await;
                let conversation = Arc::clone(conversation);
                blocking(entry, move || fetch(place_of(&conversation, at)).map_err(|what| fault(at, &what)))
                    .await
            }
            ("http" | "https", None) => {
                Err(fault(at, "this server fetches nothing (--allow-image-fetch has it); send a data URI"))
            }
            _ => Err(fault(
                at,
                "its place is to be a data URI (data:image/png;base64,...) or an address of http",
            )),
        }
    }
}

/// Looks at all that a conversation shows, as its model does.
pub(crate) async fn look(
    pictures: &Pictures,
    entry: &Entry,
    model: &Model,
    conversation: &Arc<Conversation>,
) -> Result<Vec<View>, ApiError> {
    let media: Vec<Medium> = conversation.sights().map(|sight| sight.medium).collect();
    let mut views = Vec::with_capacity(media.len());
    if media.is_empty() {
        return Ok(views);
    }
    model.engine().text().vision().map_err(blind)?;
    let context = model.engine().context();
    let mut rows = 0;
    for (at, medium) in media.into_iter().enumerate() {
        let bytes = pictures.bytes(entry, conversation, at).await?;
        let _turn = pictures.looking.acquire().await;
        let model = model.clone();
        let look = move || {
            let view = model.engine().text().vision()?.look(medium, &bytes, &limits());
            view.map_err(|error| seen_wrong(at, error))
        };
        let view = blocking(entry, look).await?;
        rows += view.rows();
        if rows >= context {
            return Err(ApiError::from_engine(&EngineError::TooLong { prompt: rows, context }, 0));
        }
        views.push(view);
    }
    Ok(views)
}

/// What a stranger's picture may take: that of a camera. A request's body bounds its bytes.
fn limits() -> PictureLimits {
    PictureLimits::default()
}

fn place(conversation: &Conversation, at: usize) -> Option<&str> {
    conversation.sights().nth(at)?.place
}

fn place_of(conversation: &Conversation, at: usize) -> &str {
    place(conversation, at).unwrap_or_default()
}

/// The bytes of a data URI. What it says of their kind is not believed.
fn of_data(uri: &str) -> Result<Vec<u8>, &'static str> {
    let (head, data) = uri.split_once(',').ok_or("a data URI is data:image/png;base64,...")?;
    if !head.to_ascii_lowercase().ends_with(";base64") {
        return Err("a data URI is to be in base64");
    }
    let is_space = |byte: &u8| byte.is_ascii_whitespace();
    let decoded = if data.bytes().any(|byte| is_space(&byte)) {
        BASE64.decode(data.bytes().filter(|byte| !is_space(byte)).collect::<Vec<u8>>())
    } else {
        BASE64.decode(data)
    };
    decoded.map_err(|_| "it is no valid base64")
}

fn fault(at: usize, what: &str) -> ApiError {
    ApiError::invalid(format!("picture {}: {what}", at + 1)).coded("invalid_image")
}

fn seen_wrong(at: usize, error: Error) -> ApiError {
    match error {
        Error::Picture(error) => fault(at, &error.to_string()),
        other => other.into(),
    }
}

/// The model does not see.
fn blind(error: Error) -> ApiError {
    match error {
        Error::Blind { .. } => ApiError::invalid(error.to_string()).coded("images_not_supported"),
        other => other.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::of_data;

    #[test]
    fn data_uris_are_read_as_clients_write_them() {
        for uri in [
            "data:image/png;base64,aGk=",
            "data:image/png;base64,aGk",
            "DATA:;BASE64,aGk=",
            "data:image/svg+xml;charset=utf-8;base64,a G\r\nk=",
        ] {
            assert_eq!(of_data(uri).as_deref(), Ok(&b"hi"[..]), "{uri}");
        }
        for uri in [
            "data:",
            "data:image/png",
            "data:image/png,hi",
            "data:;base64,a",
            "data:;base64,a-_=",
            "data:;base64,é",
        ] {
            assert!(of_data(uri).is_err(), "{uri}");
        }
    }
}
