//! The tools of a request, and which of them the model may call.

use glimmer::json::{room, tree};
use serde_json::{Map, Value};

use crate::api::tools::{Choice, TOOLS, Tools, function};
use crate::error::ApiError;
use crate::http::params::{Params, not_a_tree, wrong};

/// Takes `tools` and `tool_choice`.
pub(crate) fn take(params: &mut Params) -> Tools {
    let tools = params.list("tools", tool).unwrap_or_default();
    let mut asked = Tools::of(params, "tools", tools);
    let choice = params.object("tool_choice", |choice| {
        choice.need("type");
        let single = choice.boolean("disable_parallel_tool_use").unwrap_or(false);
        let name = choice.string("name");
        let kind = choice.word("type", &["auto", "any", "tool", "none"]);
        if name.is_some() != (kind == Some("tool")) {
            choice.wrong("name", "there where `type` is tool, and nowhere else");
        }
        let chosen = match kind {
            Some("any") => Choice::Required,
            Some("none") => Choice::None,
            Some("tool") => Choice::Named(name.unwrap_or_default()),
            _ => Choice::Auto,
        };
        (chosen, single)
    });
    if let Some((choice, single)) = choice {
        asked.single = single;
        asked.choose(params, "tool_choice", &choice, None);
    }
    asked
}

/// Reads a tool that the client runs itself.
fn tool(at: usize, text: &str) -> Result<Value, ApiError> {
    let fault = |what: &str| ApiError::parameter("tools", format!("`tools`, {at}: {what}"));
    let value = tree(text, room(text)).map_err(|error| not_a_tree("tools", &error))?;
    if at >= TOOLS {
        return Err(wrong("tools", &format!("at most {TOOLS} tools")));
    }
    let Value::Object(mut fields) = value else { return Err(fault("a tool is an object")) };
    fields.retain(|_, value| !value.is_null());
    match fields.remove("type") {
        None => {}
        Some(kind) if kind == "custom" => {}
        Some(kind) => {
            let kind: String = kind.to_string().chars().take(60).collect();
            let message = format!(
                "`tools`, {at}: only tools with an `input_schema` are supported, and none of the type {kind}"
            );
            return Err(ApiError::unsupported("tools", message));
        }
    }
    let direct = |value: &Value| {
        value.as_array().is_some_and(|callers| callers.iter().all(|caller| caller == "direct"))
    };
    for (name, is_fine) in [
        ("defer_loading", &(|value: &Value| value == false) as &dyn Fn(&Value) -> bool),
        ("allowed_callers", &direct),
        // Arguments come in pieces wherever an answer does.
        ("eager_input_streaming", &Value::is_boolean),
        // Everything is remembered, marked or not.
        ("cache_control", &Value::is_object),
    ] {
        if fields.remove(name).is_some_and(|value| !is_fine(&value)) {
            return Err(ApiError::unsupported(
                "tools",
                format!("`tools`, {at}: this `{name}` is not supported"),
            ));
        }
    }
    let schema = fields.remove("input_schema").ok_or_else(|| fault("`input_schema` is missing"))?;
    if fields.get("input_examples").is_some_and(|examples| !examples.is_array()) {
        return Err(fault("`input_examples` is to be a list"));
    }
    fields.insert("parameters".to_owned(), schema);
    // As they are in other APIs, and so the model's prompt is the same.
    let known = ["name", "description", "parameters", "input_examples", "strict"];
    let ordered = known.iter().filter_map(|&name| Some((name.to_owned(), fields.remove(name)?)));
    let ordered: Map<String, Value> = ordered.collect();
    match fields.keys().next() {
        Some(name) => Err(fault(&format!("unknown field {name:?}"))),
        None => function(ordered).map_err(|what| fault(&what.replace("parameters", "input_schema"))),
    }
}
