//! A conversation that is to be answered, in whatever API's words it was asked for. Each API reads its fields into one, asks
//! the model by it, and shows the [`Generations`] as its clients want them.

use std::sync::Arc;

use glimmer::{Conversation, GenerationParams};

use crate::api::conversation;
use crate::api::generation_request::GenerationRequest;
use crate::api::thinking::Thinking;
use crate::api::tools::Tools;
use crate::app::App;
use crate::error::ApiError;
use crate::models::generation::{Ask, Generations};
use crate::record::entry::Entry;

/// What a client wants of a conversation.
pub(crate) struct ChatRequest {
    pub(crate) settings: GenerationRequest,
    /// The messages and what the model is shown of the tools.
    pub(crate) conversation: Conversation,
    /// The request's field that has what the conversation shows, for complaints.
    pub(crate) shown_in: &'static str,
    pub(crate) tools: Tools,
    pub(crate) thinking: Thinking,
    /// The likeliest tokens that come with each of the answer's, where log-probabilities are wanted.
    pub(crate) logprobs: Option<usize>,
    /// Whether the client is told how far the prompt is.
    pub(crate) tells_progress: bool,
}

impl ChatRequest {
    /// Renders and encodes the conversation and hands it to the engine. A stream's client is answered here if the engine
    /// refuses at once.
    pub(crate) async fn ask(self, app: &Arc<App>, entry: &Entry) -> Result<Generations, ApiError> {
        let ChatRequest { mut settings, conversation, shown_in, tools, thinking, logprobs, tells_progress } =
            self;
        settings.form(entry, &tools).await?;
        let (prompt, turn) = conversation::turn(app, entry, &settings.model, conversation, shown_in).await?;
        settings.check_length(&prompt)?;
        let params = GenerationParams {
            logprobs,
            single_call: tools.single,
            thinking_budget: thinking.budget,
            ..settings.params
        };
        let asks = vec![Ask { prompt, params, copies: settings.n, turn: Some(turn), tells_progress }];
        let limits = &app.options.limits;
        let mut generations = Generations::start(limits, &settings.model, entry, asks, settings.stream)?;
        if settings.stream {
            generations.admitted().await?;
        }
        Ok(generations)
    }
}
