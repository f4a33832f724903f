//! The tools of a request: functions, and custom tools whose input is a text.
//!
//! A model calls a custom tool as a function with one argument, `input`, a string. Where its text is to match a regular
//! expression, that is the string's `pattern`.

use glimmer::json::{room, tree};
use serde_json::{Map, Value, json};

use crate::api::openai::responses::input::CUSTOM_INPUT;
use crate::api::tools::{Choice, TOOLS, Tools, function};
use crate::error::ApiError;
use crate::http::params::{Params, not_a_tree, unknown_field, wrong};

/// What a request says of tools.
pub(crate) struct Asked {
    pub(crate) tools: Tools,
    /// The names of those that are custom.
    pub(crate) custom: Vec<String>,
}

/// A tool that was read.
struct Tool {
    given: Value,
    function: Value,
    is_custom: bool,
}

/// Takes tools and everything that is said of them.
pub(crate) fn take(params: &mut Params, shown: &mut Map<String, Value>) -> Asked {
    let read = params.list("tools", tool).unwrap_or_default();
    let mut show = |name: &str, value: Value| drop(shown.insert(name.to_owned(), value));
    show("tools", read.iter().map(|tool| tool.given.clone()).collect());
    let name = |tool: &Tool| tool.function["function"]["name"].as_str().unwrap_or_default().to_owned();
    let custom: Vec<String> = read.iter().filter(|tool| tool.is_custom).map(name).collect();
    let mut tools = Tools::of(params, "tools", read.into_iter().map(|tool| tool.function).collect());
    let are_parallel = params.boolean("parallel_tool_calls").unwrap_or(true);
    tools.single = !are_parallel;
    show("parallel_tool_calls", are_parallel.into());
    // Bounds calls of tools that the server has itself, of which there are none.
    let most_calls = params.integer("max_tool_calls", 1..=i64::from(i32::MAX));
    let given = params.value("tool_choice");
    if let Some(value) = &given {
        match choice(value, &custom) {
            Ok((choice, allowed)) => tools.choose(params, "tool_choice", &choice, allowed.as_deref()),
            Err(error) => params.refuse(error),
        }
    }
    show("max_tool_calls", most_calls.into());
    show("tool_choice", given.unwrap_or("auto".into()));
    Asked { tools, custom }
}

fn tool(at: usize, text: &str) -> Result<Tool, ApiError> {
    let fault = |what: &str| ApiError::parameter("tools", format!("`tools`, {at}: {what}"));
    if at >= TOOLS {
        return Err(wrong("tools", &format!("at most {TOOLS} tools")));
    }
    let given = tree(text, room(text)).map_err(|error| not_a_tree("tools", &error))?;
    let Value::Object(mut fields) = given.clone() else { return Err(fault("a tool is an object")) };
    fields.retain(|_, value| !value.is_null());
    let is_custom = match fields.remove("type").as_ref().and_then(Value::as_str) {
        Some("function") => false,
        Some("custom") => true,
        Some(other) => {
            let other: String = other.chars().take(40).collect();
            let message =
                format!("`tools`, {at}: tools of type {other:?} are not supported: function and custom are");
            return Err(ApiError::unsupported("tools", message));
        }
        None => return Err(fault("`type` is missing")),
    };
    only_at_once_and_by_the_model(at, &mut fields)?;
    let inner = if is_custom { of_custom(at, fields)? } else { in_order(fields) };
    let function = function(inner).map_err(|what| fault(&what))?;
    Ok(Tool { given, function, is_custom })
}

/// Tools are shown from the beginning, called by the model, and waited for.
fn only_at_once_and_by_the_model(at: usize, fields: &mut Map<String, Value>) -> Result<(), ApiError> {
    let unsupported = |name: &str, what: &str| {
        ApiError::unsupported("tools", format!("`tools`, {at}: `{name}` can only be {what} here"))
    };
    for name in ["async", "defer_loading"] {
        if fields.remove(name).is_some_and(|value| value != false) {
            return Err(unsupported(name, "false"));
        }
    }
    let is_direct =
        |callers: &Value| callers.as_array().is_some_and(|callers| callers.contains(&"direct".into()));
    match fields.remove("allowed_callers") {
        Some(callers) if !is_direct(&callers) => Err(unsupported("allowed_callers", "[\"direct\"]")),
        _ => Ok(()),
    }
}

/// A function's fields, those that models read first in the order in which other APIs have them: so the prompt is theirs.
fn in_order(mut fields: Map<String, Value>) -> Map<String, Value> {
    let first = ["name", "description", "parameters"].map(|name| fields.shift_remove_entry(name));
    first.into_iter().flatten().chain(fields).collect()
}

/// The function that a custom tool is called as.
fn of_custom(at: usize, mut fields: Map<String, Value>) -> Result<Map<String, Value>, ApiError> {
    let fault = |what: &str| ApiError::parameter("tools", format!("`tools`, {at}: {what}"));
    if let Some(name) = fields.keys().find(|name| !["name", "description", "format"].contains(&name.as_str()))
    {
        let name: String = name.chars().take(40).collect();
        return Err(fault(&format!("unknown field {name:?}")));
    }
    let mut input = json!({"type": "string"});
    if let Some(format) = fields.remove("format") {
        let known: &[&str] = match format["type"].as_str() {
            Some("grammar") => &["type", "syntax", "definition"],
            _ => &["type"],
        };
        if let Some(name) = unknown_field(&format, known) {
            return Err(fault(&format!("`format` has the unknown field {name:?}")));
        }
        match (format["type"].as_str(), format["syntax"].as_str()) {
            (Some("text"), _) => {}
            (Some("grammar"), Some("regex")) => {
                let source = format["definition"].as_str();
                let source = source.ok_or_else(|| fault("`format.definition` is to be a string"))?;
                input["pattern"] = format!("^(?:{source})$").into();
                // What the expression cannot be held to is an error, and not checked afterwards.
                fields.insert("strict".to_owned(), true.into());
            }
            (Some("grammar"), Some("lark")) => {
                let message = format!(
                    "`tools`, {at}: calls cannot be held to a grammar in Lark yet; to a regex they can"
                );
                return Err(ApiError::unsupported("tools", message));
            }
            _ => {
                return Err(fault(
                    "`format` is to be {\"type\": \"text\"} or a grammar with `syntax` and `definition`",
                ));
            }
        }
    }
    let mut function = in_order(fields);
    function.insert(
        "parameters".to_owned(),
        json!({
            "type": "object",
            "properties": {CUSTOM_INPUT: input},
            "required": [CUSTOM_INPUT],
            "additionalProperties": false,
        }),
    );
    Ok(function)
}

/// What `tool_choice` says, and which tools it allows, where it says that.
fn choice(value: &Value, custom: &[String]) -> Result<(Choice, Option<Vec<String>>), ApiError> {
    let fault = || wrong("tool_choice", "none, auto, required, or an object that names tools");
    let only = |value: &Value, known: &[&str]| match unknown_field(value, known) {
        Some(name) => {
            Err(ApiError::parameter("tool_choice", format!("`tool_choice`: unknown field {name:?}")))
        }
        None => Ok(()),
    };
    let named = |value: &Value| {
        only(value, &["type", "name"])?;
        let name = value["name"].as_str().ok_or_else(fault)?.to_owned();
        let is_custom = custom.contains(&name);
        match value["type"].as_str().ok_or_else(fault)? {
            "function" if !is_custom => Ok(name),
            "custom" if is_custom => Ok(name),
            kind @ ("function" | "custom") => Err(ApiError::parameter(
                "tool_choice",
                format!("`tool_choice`: there is no tool {name:?} of type {kind}"),
            )),
            _ => Err(ApiError::unsupported(
                "tool_choice",
                "`tool_choice` can only name functions and custom tools",
            )),
        }
    };
    match (value.as_str(), value["type"].as_str()) {
        (Some("none"), _) => Ok((Choice::None, None)),
        (Some("auto"), _) => Ok((Choice::Auto, None)),
        (Some("required"), _) => Ok((Choice::Required, None)),
        (None, Some("allowed_tools")) => {
            only(value, &["type", "mode", "tools"])?;
            let mode = match value["mode"].as_str() {
                Some("auto") => Choice::Auto,
                Some("required") => Choice::Required,
                _ => return Err(wrong("tool_choice.mode", "auto or required")),
            };
            let tools = value["tools"].as_array().filter(|tools| tools.len() <= TOOLS).ok_or_else(fault)?;
            Ok((mode, Some(tools.iter().map(named).collect::<Result<_, _>>()?)))
        }
        (None, Some("function" | "custom")) => Ok((Choice::Named(named(value)?), None)),
        (None, Some(kind)) => {
            let kind: String = kind.chars().take(40).collect();
            Err(ApiError::unsupported(
                "tool_choice",
                format!("`tool_choice`: there are no tools of type {kind:?} here"),
            ))
        }
        _ => Err(fault()),
    }
}
