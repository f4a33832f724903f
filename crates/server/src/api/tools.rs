//! The tools of a request, and which of them the model may call.

use std::collections::HashSet;

use glimmer::AnswerFormat;
use glimmer::json::{room, tree};
use serde_json::{Map, Value};

use crate::api::answer_format::Asked;
use crate::error::ApiError;
use crate::http::params::{Params, not_a_tree, wrong};

/// Bytes of a tool's name. The OpenAI API takes 64; names of MCP servers' tools are longer.
const NAME_BYTES: usize = 128;

/// Tools of a request.
pub(crate) const TOOLS: usize = 1024;

/// What a request says of tools.
#[derive(Debug, Default)]
pub(crate) struct Tools {
    /// The tools that the model may call, as `{"type": "function", "function": {…}}`.
    pub(crate) callable: Vec<Value>,
    /// Whether the answer is to be calls.
    pub(crate) required: bool,
    /// Whether it is to be one call of the only tool.
    is_named: bool,
    /// Whether the answer ends after its first call.
    pub(crate) single: bool,
    /// Whether they came as `functions`, the API's first form, which has one call in an answer.
    pub(crate) is_legacy: bool,
}

/// What the model is to do with its tools.
#[derive(Debug, PartialEq)]
pub(crate) enum Choice {
    None,
    Auto,
    /// Some call, whatever else.
    Required,
    /// A call of this tool.
    Named(String),
}

/// Takes tools and everything that is said of them.
pub(crate) fn take(params: &mut Params) -> Tools {
    let tools = params.list("tools", |at, text| tool("tools", at, text)).unwrap_or_default();
    let functions = params.list("functions", |at, text| tool("functions", at, text)).unwrap_or_default();
    let parallel = params.boolean("parallel_tool_calls").unwrap_or(true);
    // Arguments come in pieces wherever an answer does.
    params.boolean("tool_stream");
    let is_legacy = tools.is_empty() && !functions.is_empty();
    if !tools.is_empty() && !functions.is_empty() {
        params.refuse(ApiError::parameter(
            "functions",
            "`functions` is the older form of `tools`: send one of them",
        ));
    }
    let shown = if is_legacy { functions } else { tools };
    let list = if is_legacy { "functions" } else { "tools" };
    let mut asked = Tools::of(params, list, shown);
    (asked.single, asked.is_legacy) = (is_legacy || !parallel, is_legacy);
    for name in ["tool_choice", "function_call"] {
        let Some(value) = params.value(name) else { continue };
        match read(name, &value) {
            Some((choice, allowed)) => asked.choose(params, name, &choice, allowed.as_deref()),
            None => params.refuse(wrong(name, "none, auto, required, or an object that names tools")),
        }
    }
    asked
}

impl Tools {
    /// All of these, as the field `list` has them, which the model may call or not.
    pub(crate) fn of(params: &mut Params, list: &str, tools: Vec<Value>) -> Self {
        let mut names = HashSet::new();
        if let Some(tool) = tools.iter().find(|tool| !names.insert(name_of(tool))) {
            let name = name_of(tool);
            params.refuse(ApiError::parameter(list, format!("`{list}`: {name:?} is there twice")));
        }
        Tools { callable: tools, ..Tools::default() }
    }

    /// Leaves those that the model may call, by what the field `name` says; `allowed` are the names of these, where it has
    /// them.
    pub(crate) fn choose(
        &mut self,
        params: &mut Params,
        name: &str,
        choice: &Choice,
        allowed: Option<&[String]>,
    ) {
        let named = match choice {
            Choice::Named(tool) => Some(std::slice::from_ref(tool)),
            _ => allowed,
        };
        let is_known = |tool: &String| self.callable.iter().any(|known| name_of(known) == tool.as_str());
        if let Some(unknown) = named.into_iter().flatten().find(|tool| !is_known(tool)) {
            params.refuse(ApiError::parameter(name, format!("`{name}`: there is no tool {unknown:?}")));
            return;
        }
        if let Some(named) = named {
            self.callable.retain(|tool| named.iter().any(|name| name == name_of(tool)));
        }
        match choice {
            Choice::None => self.callable.clear(),
            Choice::Auto => {}
            Choice::Required => self.required = true,
            Choice::Named(_) => (self.required, self.is_named) = (true, true),
        }
    }

    /// What the model is shown: all but `strict`, which is for servers.
    pub(crate) fn shown(&self) -> Vec<Value> {
        let mut shown = self.callable.clone();
        for tool in &mut shown {
            tool["function"].as_object_mut().map(|function| function.shift_remove("strict"));
        }
        shown
    }

    /// What calls are held to, and the field of the tools. Calls that come in the place of a text with a form of its own are
    /// a form, too, as those that are required.
    pub(crate) fn format(&self, in_place_of_text: bool) -> Option<Asked> {
        let list = if self.is_legacy { "functions" } else { "tools" };
        let tools = self.callable.clone();
        let single = self.single || self.is_named;
        let required = self.required || in_place_of_text;
        let format = AnswerFormat::Calls { tools, required, single };
        (!self.callable.is_empty()).then(|| (list.to_owned(), format))
    }
}

/// Reads a tool: `{"type": "function", "function": {…}}`, or where the API had functions alone, the function.
pub(crate) fn tool(list: &'static str, at: usize, text: &str) -> Result<Value, ApiError> {
    let fault = |what: &str| ApiError::parameter(list, format!("`{list}`, {at}: {what}"));
    let value = tree(text, room(text)).map_err(|error| not_a_tree(list, &error))?;
    if at >= TOOLS {
        return Err(wrong(list, &format!("at most {TOOLS} tools")));
    }
    let Value::Object(mut fields) = value else { return Err(fault("a tool is an object")) };
    if list == "functions" {
        return function(fields).map_err(|what| fault(&what));
    }
    match fields.remove("type") {
        None | Some(Value::Null) => {}
        Some(kind) if kind == "function" => {}
        Some(_) => {
            return Err(ApiError::unsupported(
                list,
                format!("`{list}`, {at}: only tools of type \"function\" are supported"),
            ));
        }
    }
    let Some(Value::Object(inner)) = fields.remove("function") else {
        return Err(fault("`function` is to be an object"));
    };
    match fields.iter().find(|(_, value)| !value.is_null()) {
        Some((name, _)) => Err(fault(&format!("unknown field {name:?}"))),
        None => function(inner).map_err(|what| fault(&what)),
    }
}

/// The function: all that its definition says, less what is left open.
pub(crate) fn function(mut fields: Map<String, Value>) -> Result<Value, String> {
    fields.retain(|_, value| !value.is_null());
    if fields.get("strict").is_some_and(|strict| !strict.is_boolean()) {
        return Err("`strict` is to be true or false".to_owned());
    }
    let name = fields.get("name").and_then(Value::as_str).unwrap_or_default();
    let is_plain = |c: char| c.is_alphanumeric() || "_-.:/".contains(c);
    if name.is_empty() || name.len() > NAME_BYTES || !name.chars().all(is_plain) {
        return Err(format!(
            "`name` is to be of letters, digits and any of _-.:/, at most {NAME_BYTES} bytes"
        ));
    }
    if fields.get("description").is_some_and(|text| !text.is_string()) {
        return Err("`description` is to be a string".to_owned());
    }
    if fields.get("parameters").is_some_and(|schema| !schema.is_object()) {
        return Err("`parameters` is to be an object, a JSON schema".to_owned());
    }
    Ok(Value::Object(Map::from_iter([
        ("type".to_owned(), "function".into()),
        ("function".to_owned(), Value::Object(fields)),
    ])))
}

fn name_of(tool: &Value) -> &str {
    tool["function"]["name"].as_str().unwrap_or_default()
}

/// What `tool_choice` or `function_call` says, and which tools it allows, where it says that.
fn read(name: &str, value: &Value) -> Option<(Choice, Option<Vec<String>>)> {
    let word = |value: &Value| match value.as_str()? {
        "none" => Some(Choice::None),
        "auto" => Some(Choice::Auto),
        "required" => Some(Choice::Required),
        _ => None,
    };
    let named = |value: &Value| value["name"].as_str().map(str::to_owned);
    if value.is_string() {
        return Some((word(value)?, None));
    }
    if name == "function_call" {
        return Some((Choice::Named(named(value)?), None));
    }
    match value["type"].as_str()? {
        "function" => Some((Choice::Named(named(&value["function"])?), None)),
        "allowed_tools" => {
            let allowed = &value["allowed_tools"];
            let mode = word(&allowed["mode"]).filter(|mode| *mode != Choice::None)?;
            let tools = allowed["tools"].as_array().filter(|tools| tools.len() <= TOOLS)?;
            let tools = tools.iter().map(|tool| named(&tool["function"]));
            Some((mode, Some(tools.collect::<Option<_>>()?)))
        }
        _ => None,
    }
}
