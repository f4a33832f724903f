//! What a row says. The shapes are those of GLM-4's scripts (`messages`), of ChatGLM-6B's (columns by name) and plain text.

use glimmer_chat::{Conversation, Message, Role, rounds};
use glimmer_config::{Quoted, json};
use serde_json::{Map, Value};

use super::csv;

/// A row of a file.
#[derive(Clone, Debug, PartialEq)]
pub enum Row {
    /// A conversation, whose assistant is to be learned from.
    Conversation(Box<Conversation>),
    /// A conversation that ends with a question, and the answer to it.
    Pair(Box<Conversation>, String),
    /// A text.
    Text(String),
}

/// Which columns hold a question, its answer and what was said before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Columns {
    /// The question; without it, `prompt` or AdvertiseGen's `content`.
    pub prompt: Option<String>,
    /// The answer; without it, `response` or AdvertiseGen's `summary`.
    pub response: Option<String>,
    /// Earlier rounds, as pairs of question and answer; without it, `history` where it is there.
    pub history: Option<String>,
    /// Text before every question (`source_prefix`).
    pub source_prefix: String,
}

/// What is wrong with a row, and how many lines below its first.
#[derive(Debug)]
pub(super) struct Wrong {
    pub(super) line: u64,
    pub(super) why: String,
}

impl From<String> for Wrong {
    fn from(why: String) -> Self {
        Wrong { line: 0, why }
    }
}

/// Names that are tried where nobody names a column.
const PAIRS: [[&str; 2]; 2] = [["prompt", "response"], ["content", "summary"]];

impl Columns {
    /// The columns of question and answer among those that there are.
    fn pair(&self, has: impl Fn(&str) -> bool) -> Result<Option<[&str; 2]>, String> {
        let missing = |name: &str, flag: &str| {
            format!("there is no column {:?}; name the right one with --{flag}", Quoted(name).to_string())
        };
        match (&self.prompt, &self.response) {
            (None, None) => Ok(PAIRS.into_iter().find(|pair| pair.iter().all(|name| has(name)))),
            (prompt, response) => {
                let prompt = prompt.as_deref().unwrap_or(PAIRS[0][0]);
                let response = response.as_deref().unwrap_or(PAIRS[0][1]);
                if !has(prompt) {
                    return Err(missing(prompt, "prompt-column"));
                }
                if has(response) {
                    Ok(Some([prompt, response]))
                } else {
                    Err(missing(response, "response-column"))
                }
            }
        }
    }

    /// Whether a table with these columns has what is wanted of it.
    pub(super) fn check(&self, header: &[String]) -> Result<(), String> {
        let has = |name: &str| header.iter().any(|column| column == name);
        match self.pair(has)? {
            None if !has("text") => Err(unknown_shape(header.iter().map(String::as_str))),
            _ => Ok(()),
        }
    }
}

impl Row {
    /// Reads a JSON object.
    pub(super) fn from_json(text: &str, columns: &Columns) -> Result<Row, Wrong> {
        let value =
            json::tree(text, json::FILE_ROOM.max(json::room(text))).map_err(|error| match &error {
                json::TreeError::Syntax(at) => Wrong {
                    line: at.line().saturating_sub(1) as u64,
                    why: format!("broken JSON at column {}: {}", at.column(), without_place(at)),
                },
                json::TreeError::TooLarge => Wrong::from(format!("{error}; split the row")),
            })?;
        match value {
            Value::Object(fields) => Row::from_fields(fields, columns),
            Value::Array(messages) => Row::conversation(Value::Array(messages)),
            _ => Err("a row is a JSON object, such as {\"messages\": [...]}".to_owned().into()),
        }
    }

    /// Reads a record of a table.
    pub(super) fn from_csv(text: &str, header: &[String], columns: &Columns) -> Result<Row, Wrong> {
        let fields = csv::fields(text).map_err(str::to_owned)?;
        if fields.len() != header.len() {
            let (has, wants) = (fields.len(), header.len());
            return Err(format!(
                "the record has {has} fields, the first line names {wants}; quote fields that hold commas"
            )
            .into());
        }
        let history = columns.history.as_deref().unwrap_or("history");
        let mut object = Map::new();
        for (name, field) in header.iter().zip(fields) {
            let value = if name == history && !field.trim().is_empty() {
                let read = json::tree(&field, json::room(&field));
                read.map_err(|error| {
                    format!("column {:?} is no JSON list of rounds: {error}", Quoted(name).to_string())
                })?
            } else {
                Value::String(field)
            };
            object.insert(name.clone(), value);
        }
        Row::from_fields(object, columns)
    }

    fn from_fields(mut fields: Map<String, Value>, columns: &Columns) -> Result<Row, Wrong> {
        if fields.contains_key("messages") && columns.prompt.is_none() {
            return Row::conversation(Value::Object(fields));
        }
        if let Some([prompt, response]) = columns.pair(|name| fields.contains_key(name))? {
            let [question, answer] = [text_of(&mut fields, prompt)?, text_of(&mut fields, response)?];
            let mut messages = history(&mut fields, columns)?;
            messages.push(Message::new(Role::User, format!("{}{question}", columns.source_prefix)));
            return Ok(Row::Pair(Box::new(Conversation::new(messages)), answer));
        }
        match fields.remove("text") {
            Some(Value::String(text)) => Ok(Row::Text(text)),
            Some(_) => Err("`text` is a string".to_owned().into()),
            None => Err(unknown_shape(fields.keys().map(String::as_str)).into()),
        }
    }

    fn conversation(value: Value) -> Result<Row, Wrong> {
        let conversation: Conversation =
            serde_json::from_value(value).map_err(|error| Quoted(&error.to_string()).to_string())?;
        check_roles(&conversation.messages)?;
        Ok(Row::Conversation(Box::new(conversation)))
    }
}

/// The rules of GLM-4's data: one system message at most, and first; tools on it alone; a result only after a call.
fn check_roles(messages: &[Message]) -> Result<(), String> {
    for (i, message) in messages.iter().enumerate() {
        let wrong = match message.role {
            Role::System if i > 0 => "a system message comes first, and there is one; put its text there",
            Role::Observation
                if i == 0 || !matches!(messages[i - 1].role, Role::Assistant | Role::Observation) =>
            {
                "an observation follows an assistant's call; check the roles"
            }
            Role::Assistant if message.content.is_empty() && message.tool_calls.is_empty() => {
                "the assistant says nothing; give it content, or leave the message out"
            }
            _ if message.role != Role::System && message.tools.is_some() => {
                "`tools` belongs to the system message, or beside `messages`"
            }
            _ => continue,
        };
        return Err(format!("message {i} ({}): {wrong}", message.role.name()));
    }
    if messages.iter().any(|message| message.role == Role::Assistant) {
        Ok(())
    } else {
        Err("no message is the assistant's: there is nothing to learn; add an answer".to_owned())
    }
}

fn history(fields: &mut Map<String, Value>, columns: &Columns) -> Result<Vec<Message>, String> {
    let name = columns.history.as_deref().unwrap_or("history");
    match fields.remove(name) {
        None if columns.history.is_some() => Err(format!(
            "there is no column {:?}; name the right one with --history-column",
            Quoted(name).to_string()
        )),
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::String(text)) if text.trim().is_empty() => Ok(Vec::new()),
        Some(Value::Array(pairs)) => rounds(&pairs).map_err(|error| Quoted(&error).to_string()),
        Some(_) => Err(format!("{:?} is a list of pairs, question and answer", Quoted(name).to_string())),
    }
}

/// A column's text, which says something.
fn text_of(fields: &mut Map<String, Value>, name: &str) -> Result<String, String> {
    let shown = || format!("{:?}", Quoted(name).to_string());
    match fields.remove(name) {
        Some(Value::String(text)) if !text.is_empty() => Ok(text),
        Some(Value::String(_) | Value::Null) => {
            Err(format!("{} is empty; there is nothing to learn", shown()))
        }
        Some(Value::Number(number)) => Ok(number.to_string()),
        _ => Err(format!("{} is a string", shown())),
    }
}

fn unknown_shape<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.take(8).collect();
    format!(
        "neither `messages`, `text` nor known columns, but {}; name two with --prompt-column and --response-column",
        if names.is_empty() { "nothing".to_owned() } else { Quoted(&names.join(", ")).to_string() }
    )
}

/// What serde_json says, without the place, which is said of the file.
fn without_place(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let end = text.rfind(" at line ").unwrap_or(text.len());
    Quoted(&text[..end]).to_string()
}
