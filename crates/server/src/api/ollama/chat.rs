//! `POST /api/chat`: conversations.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use glimmer::Conversation;

use crate::api::chat_request::ChatRequest;
use crate::api::ollama::answer::{self, Form};
use crate::api::ollama::messages;
use crate::api::ollama::request::{Begun, OllamaRequest};
use crate::app::App;
use crate::error::ApiError;
use crate::http::params::Params;
use crate::models::served::Model;
use crate::record::entry::Entry;

/// Answers; a list without messages loads the model or lets go of it.
pub(crate) async fn chat(
    State(app): State<Arc<App>>,
    Extension(entry): Extension<Entry>,
    mut params: Params,
) -> Result<Response, ApiError> {
    let messages = messages::take(&mut params);
    let defaults = |model: &Model| Ok(model.chat()?.sampling.clone());
    let asks = !messages.is_empty();
    let request = match OllamaRequest::take(&app, &entry, &mut params, asks, Form::Chat, defaults).await? {
        Begun::Request(request) => *request,
        Begun::Unloaded(response) => return Ok(response),
    };
    let tools = messages::take_tools(&mut params);
    params.done()?;
    request.keep(&app)?;
    if !asks {
        return Ok(request.loaded(Form::Chat));
    }
    let mut conversation = Conversation::new(request.begun_with(messages));
    conversation.tools = tools.shown();
    let thinking = request.thinking(&mut conversation);
    let frame = request.frame(&app, Form::Chat)?;
    let OllamaRequest { settings, logprobs, .. } = request;
    let stream = settings.stream;
    let asked = ChatRequest {
        settings,
        conversation,
        shown_in: "messages",
        tools,
        thinking,
        logprobs,
        tells_progress: false,
    };
    answer::respond(asked.ask(&app, &entry).await?, frame, stream).await
}
