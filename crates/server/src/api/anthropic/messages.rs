//! `POST /v1/messages` and `POST /v1/messages/count_tokens`.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use glimmer::{Message, Reply, ReplyPart, Role};
use serde_json::{Value, json};

use crate::api::anthropic::message::{Frame, show_stop, text, usage};
use crate::api::anthropic::request;
use crate::api::anthropic::stream::Stream;
use crate::api::conversation;
use crate::app::App;
use crate::error::ApiError;
use crate::http::keys::Caller;
use crate::http::params::Params;
use crate::http::response;
use crate::http::sse;
use crate::models::generation::Generations;
use crate::record::entry::Entry;

/// Answers a conversation.
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    Extension(entry): Extension<Entry>,
    Extension(caller): Extension<Caller>,
    mut params: Params,
) -> Result<Response, ApiError> {
    params.need("max_tokens");
    let request = request::take(&app, &caller, &mut params).await?;
    if request.conversation.messages.last().is_some_and(|last| last.role == Role::Assistant) {
        let message = "the last message is the assistant's: the beginning of an answer cannot be given (prefill), so the last message is to be the user's";
        params.refuse(ApiError::unsupported("messages", message));
    }
    params.done()?;
    let frame = Frame {
        id: app.random(),
        name: request.settings.name.clone(),
        shows_thoughts: request.thinking.is_shown,
        app: app.clone(),
        caller,
    };
    let stream = request.settings.stream;
    let generations = request.ask(&app, &entry).await?;
    if stream {
        return Ok(sse::respond(Stream::new(generations, frame)));
    }
    whole(generations, &frame).await
}

/// Tells how many tokens the prompt of such a request has.
pub(crate) async fn count(
    State(app): State<Arc<App>>,
    Extension(entry): Extension<Entry>,
    Extension(caller): Extension<Caller>,
    mut params: Params,
) -> Result<Response, ApiError> {
    let request = request::take(&app, &caller, &mut params).await?;
    params.done()?;
    let model = &request.settings.model;
    let prompt = conversation::prompt(&app, &entry, model, request.conversation).await?;
    Ok(response::json(StatusCode::OK, &json!({"input_tokens": prompt.ids.len()})))
}

/// The whole answer at once.
async fn whole(mut generations: Generations, frame: &Frame) -> Result<Response, ApiError> {
    let (mut reply, mut begun, mut end) = (Reply::default(), 0, None);
    while let Some(delta) = generations.next().await {
        let delta = delta?;
        for part in delta.parts {
            begun += usize::from(matches!(part, ReplyPart::ToolCallStart { .. }));
            reply.push(part);
        }
        end = delta.end;
    }
    // Without a call that was cut off: it cannot be made.
    let message = Message::from(reply);
    let content = content(frame, &message);
    let calls = content.iter().filter(|block| block["type"] == "tool_use").count();
    let mut answer = frame.message(content, usage(&generations));
    end.iter().for_each(|end| show_stop(&mut answer, end, calls < begun));
    Ok(response::json(StatusCode::OK, &answer))
}

fn content(frame: &Frame, message: &Message) -> Vec<Value> {
    let mut content = Vec::new();
    if let Some(thoughts) = &message.reasoning {
        let mut block = frame.thinking(thoughts);
        block["signature"] = frame.signature(thoughts).into();
        content.push(block);
    }
    content.extend((!message.content.is_empty()).then(|| text(&message.content)));
    let calls = message.tool_calls.iter().enumerate();
    content.extend(
        calls.filter_map(|(at, call)| {
            Some(frame.call(at, &call.name, Value::Object(call.arguments_object()?)))
        }),
    );
    content
}
