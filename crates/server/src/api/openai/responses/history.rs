//! What is asked and after what: the items of a request, and the responses before it that are kept.

use std::collections::HashMap;
use std::sync::Arc;

use glimmer::{Conversation, Message, Role};
use serde_json::{Map, Value};

use crate::api::generation_request::GenerationRequest;
use crate::api::openai::responses::answering::Keeping;
use crate::api::openai::responses::ids;
use crate::api::openai::responses::input::{self, Given, Item, Opener};
use crate::app::App;
use crate::error::ApiError;
use crate::http::keys::Caller;
use crate::http::params::Params;
use crate::kept::{Broken, KeptResponse};
use crate::models::blocking::blocking;
use crate::models::pictures;
use crate::record::entry::Entry;

/// Takes the items of the response `id` and what comes before them: the messages of all, and what is kept of it.
pub(crate) fn take(
    app: &App,
    entry: &Entry,
    caller: &Caller,
    id: u64,
    params: &mut Params,
    truncates: bool,
    shown: &mut Map<String, Value>,
) -> Result<(Vec<Message>, Keeping), ApiError> {
    let opener = Opener { seal: &app.seal, caller };
    let instructions = params.string("instructions");
    let previous_id = params.string("previous_response_id");
    if previous_id.is_none() {
        params.need("input");
    }
    let before = conversation_before(app, entry, *caller, params, previous_id.as_deref(), truncates);
    let previous = previous_id.as_deref().and_then(ids::response_number);
    let mut given = input::take(params, opener, id);
    look_up(app, opener, &mut given, params);
    let input = given.iter().map(|given| given.json.clone()).collect();
    let messages = messages(instructions.as_deref(), &before, given, opener)?;
    if messages.is_empty() {
        params.wrong("input", "a text or a list that is not empty");
    }
    shown.insert("instructions".to_owned(), instructions.into());
    shown.insert("previous_response_id".to_owned(), previous_id.into());
    Ok((messages, Keeping { previous, input }))
}

/// The responses before; with `truncates` the latest of them that there is room for.
fn conversation_before(
    app: &App,
    entry: &Entry,
    caller: Caller,
    params: &mut Params,
    id: Option<&str>,
    truncates: bool,
) -> Vec<Arc<KeptResponse>> {
    let Some(id) = id else { return Vec::new() };
    let name = "previous_response_id";
    let number = ids::response_number(id);
    let found = number.ok_or_else(|| ApiError::no_previous_response(id)).and_then(|number| {
        let before = app.kept.conversation((caller, number), app.options.limits.body, truncates);
        let before = before.map_err(|broken| match broken {
            Broken::Missing(missing) => ApiError::no_previous_response(&ids::response(missing)),
            Broken::Unfinished(other) => {
                let other = ids::response(other);
                ApiError::parameter(name, format!("`{name}`: the response {other} is not complete yet"))
            }
            Broken::TooLong(most) => {
                ApiError::parameter(name, format!("`{name}`: the conversation has more than {most} bytes"))
                    .coded("context_length_exceeded")
            }
        })?;
        app.bodies.hold(before.iter().map(|response| response.bytes()).sum(), entry)?;
        Ok(before)
    });
    found.unwrap_or_else(|error| {
        params.refuse(error);
        Vec::new()
    })
}

/// Puts the items that are only named into their places: together they are no larger than a body may be.
fn look_up(app: &App, opener: Opener<'_>, given: &mut [Given], params: &mut Params) {
    let mut responses: HashMap<u64, HashMap<String, Arc<str>>> = HashMap::new();
    let (mut bytes, most) = (0_usize, app.options.limits.body);
    for one in given {
        let (id, is_needed) = match &one.item {
            Item::Reference(id) => (id, true),
            Item::NamedReasoning(id) => (id, false),
            _ => continue,
        };
        let number = ids::response_of_item(id);
        let items = number.map(|number| {
            responses.entry(number).or_insert_with(|| match app.kept.get((*opener.caller, number)) {
                Some((response, _)) => by_id(&response),
                None => HashMap::new(),
            })
        });
        let found = items.and_then(|items| items.get(id));
        bytes = bytes.saturating_add(found.map_or(0, |json| json.len()));
        if bytes > most {
            let message = format!("`input`: the items that are named have more than {most} bytes together");
            return params.refuse(ApiError::parameter("input", message));
        }
        match found.and_then(|json| input::kept(json, opener).ok()) {
            Some(found) => *one = found,
            None if is_needed => return params.refuse(ApiError::no_item(id)),
            None => {}
        }
    }
}

/// A response's items by their ids; of several with one id what was said comes before what was asked.
fn by_id(response: &KeptResponse) -> HashMap<String, Arc<str>> {
    #[derive(serde::Deserialize)]
    struct Named {
        id: String,
    }
    let items = response.input.iter().rev().chain(response.output.iter().rev());
    let named = items.filter_map(|json| {
        let Named { id } = serde_json::from_str(json).ok()?;
        Some((id, Arc::clone(json)))
    });
    named.collect()
}

/// The messages of a conversation: the instructions of this request, what was asked and said before, and what is asked now.
fn messages(
    instructions: Option<&str>,
    before: &[Arc<KeptResponse>],
    given: Vec<Given>,
    opener: Opener<'_>,
) -> Result<Vec<Message>, ApiError> {
    let kept = before.iter().flat_map(|response| response.input.iter().chain(&response.output));
    let kept = kept.map(|json| Ok(input::kept(json, opener)?.item));
    let items: Vec<Item> =
        kept.chain(given.into_iter().map(|given| Ok(given.item))).collect::<Result<_, ApiError>>()?;
    let mut messages = input::messages(items);
    if let Some(instructions) = instructions {
        messages.insert(0, Message::new(Role::System, instructions));
    }
    Ok(messages)
}

/// Leaves out the oldest turns until the prompt leaves room for an answer. Instructions stay, and the last turn.
pub(crate) async fn fit(
    app: &App,
    entry: &Entry,
    settings: &GenerationRequest,
    conversation: Conversation,
) -> Result<Conversation, ApiError> {
    let settings = settings.clone();
    settings.model.chat()?;
    let conversation = Arc::new(conversation);
    let views = pictures::look(&app.pictures, entry, &settings.model, &conversation).await;
    let views = views.map_err(|error| error.about("input"))?;
    let cut = move || {
        let text = settings.model.engine().text();
        let fits = |conversation: &Conversation| -> Result<bool, ApiError> {
            // Those that are left out are the first ones.
            let views = &views[views.len() - conversation.sights().count()..];
            Ok(settings.check_length(&text.prompt_seeing(conversation, views)?).is_ok())
        };
        if fits(&conversation)? {
            return Ok(Conversation::clone(&conversation));
        }
        let messages = &conversation.messages;
        let first = messages.iter().position(|message| message.role != Role::System).unwrap_or(0);
        let turns: Vec<usize> =
            (first..messages.len()).filter(|&at| messages[at].role == Role::User).collect();
        let from = |at: usize| {
            let messages = [&messages[..first], &messages[at..]].concat();
            Conversation { messages, ..Conversation::clone(&conversation) }
        };
        let (mut low, mut high) = (0, turns.len().saturating_sub(1));
        while low < high {
            let middle = usize::midpoint(low, high);
            if fits(&from(turns[middle]))? {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        Ok(from(turns.get(low).copied().unwrap_or(first)))
    };
    blocking(entry, cut).await
}
