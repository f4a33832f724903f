//! How a model converses: which chat format it speaks and what ends its answers, from everything that its files tell;
//! from a conversation to its prompt and from an answer's ids to its parts.

use std::path::Path;

use anyhow::{Context, bail};
use glimmer_chat::reply::{ReplyOptions, ReplyParser};
use glimmer_chat::{ChatError, ChatTemplate, Conversation, Format, Hints, stop_ids};
use glimmer_tokenizer::Tokenizer;
use serde_json::Value;

use crate::input;
use crate::model::Model;

/// A model's way of conversing.
pub(crate) struct Speech {
    pub(crate) tokenizer: Tokenizer,
    pub(crate) template: ChatTemplate,
    /// The ids that end an answer.
    pub(crate) stop_ids: Vec<u32>,
}

/// A conversation as the model reads it.
pub(crate) struct Prompt {
    pub(crate) ids: Vec<u32>,
    /// Whether it ends inside the reasoning.
    opens_reasoning: bool,
}

impl Speech {
    /// Reads what is needed of the model's files; no weights.
    pub(crate) fn open(model: &Model, asked: Option<Format>) -> anyhow::Result<Self> {
        let tokenizer = model.tokenizer()?;
        let template = template(model, Some(&tokenizer), asked)?;
        let stop_ids = all_stop_ids(model, Some(&tokenizer), Some(&template))?;
        Ok(Speech { tokenizer, template, stop_ids })
    }

    /// The ids that stand for a conversation. `parse_special` makes them as the models' own code does.
    pub(crate) fn prompt(&self, conversation: &Conversation, parse_special: bool) -> anyhow::Result<Prompt> {
        let rendered = self.template.render(conversation)?;
        let ids = if parse_special {
            rendered.ids_parse_special(&self.tokenizer)?
        } else {
            rendered.ids(&self.tokenizer)?
        };
        Ok(Prompt { ids, opens_reasoning: rendered.opens_reasoning() })
    }

    /// A parser of the answer to a prompt, which ends before any of the strings `stop`.
    pub(crate) fn reply(&self, prompt: &Prompt, tools: &[Value], stop: &[String]) -> ReplyParser {
        let options =
            ReplyOptions { tools: tools.to_vec(), stop: stop.to_vec(), in_reasoning: prompt.opens_reasoning };
        ReplyParser::new(&self.template, &self.tokenizer, options)
    }
}

/// A list of tools from a file.
pub(crate) fn tools(path: Option<&Path>) -> anyhow::Result<Vec<Value>> {
    let Some(path) = path else { return Ok(Vec::new()) };
    let name = || path.display().to_string();
    match serde_json::from_str(&input::small_file(path)?).with_context(name)? {
        Value::Array(tools) => Ok(tools),
        _ => bail!("{}: a list of tools is expected", path.display()),
    }
}

/// The model's chat template: the format that was asked for, else what its files say or suggest.
pub(crate) fn template(
    model: &Model,
    tokenizer: Option<&Tokenizer>,
    asked: Option<Format>,
) -> anyhow::Result<ChatTemplate> {
    if let Some(format) = asked {
        return Ok(ChatTemplate::native(format));
    }
    let hints = hints(model, tokenizer)?;
    let source = template_source(model)?;
    match ChatTemplate::detect(source.as_deref(), &hints) {
        Err(error @ ChatError::UnknownFormat { .. }) => {
            Err(error).context("name the chat format with --chat-format, or continue text with `run --raw`")
        }
        other => Ok(other?),
    }
}

/// The ids that end an answer: what the files say, and what the format is known to need.
pub(crate) fn all_stop_ids(
    model: &Model,
    tokenizer: Option<&Tokenizer>,
    template: Option<&ChatTemplate>,
) -> anyhow::Result<Vec<u32>> {
    let configured = model.configured_stop_ids()?;
    Ok(match tokenizer {
        Some(tokenizer) => stop_ids(template.and_then(ChatTemplate::format), tokenizer, &configured, &[]),
        None => configured,
    })
}

/// The source of the model's own Jinja template: a file of its own, or in `tokenizer_config.json`, there perhaps one of
/// several; in a GGUF a key.
pub(crate) fn template_source(model: &Model) -> anyhow::Result<Option<String>> {
    if let Some(metadata) = model.metadata()? {
        return Ok(metadata.get::<&str>("tokenizer.chat_template")?.map(str::to_owned));
    }
    if let Some(source) = input::small_file_if_any(&model.directory().join("chat_template.jinja"))? {
        return Ok(Some(source));
    }
    let config = model.json("tokenizer_config.json")?;
    let stored = config.as_ref().and_then(|config| config.get("chat_template"));
    let default = stored.and_then(Value::as_array).and_then(|several| {
        several.iter().find(|one| one["name"] == "default").map(|default| &default["template"])
    });
    Ok(default.or(stored).and_then(Value::as_str).map(str::to_owned))
}

fn hints(model: &Model, tokenizer: Option<&Tokenizer>) -> anyhow::Result<Hints> {
    let mut hints = match model.metadata()? {
        Some(metadata) => {
            let text = |key: &str| -> anyhow::Result<Option<String>> {
                Ok(metadata.get::<&str>(key)?.map(str::to_owned))
            };
            let token = |name: &str| -> anyhow::Result<Option<(String, String)>> {
                let id = metadata.get::<u32>(&format!("tokenizer.ggml.{name}_token_id"))?;
                let spelling = id.zip(tokenizer).map(|(id, tokenizer)| tokenizer.token_text(id));
                Ok(spelling.map(|spelling| (format!("{name}_token"), spelling)))
            };
            Hints {
                names: [text("general.name")?, text("general.basename")?].into_iter().flatten().collect(),
                model_type: text("general.architecture")?,
                named_tokens: [token("bos")?, token("eos")?].into_iter().flatten().collect(),
                ..Hints::default()
            }
        }
        None => {
            let config = model.json("config.json")?.unwrap_or_default();
            let tokenizer_config = model.json("tokenizer_config.json")?.unwrap_or_default();
            let text = |value: &Value| value.as_str().map(str::to_owned);
            let names = [text(&config["_name_or_path"]), text(&tokenizer_config["name_or_path"])];
            Hints {
                names: names.into_iter().flatten().collect(),
                model_type: text(&config["model_type"]),
                vision: config.get("vision_config").is_some_and(|vision| !vision.is_null()),
                named_tokens: named_tokens(&tokenizer_config),
                ..Hints::default()
            }
        }
    };
    hints.family = model.named_family().map(|family| family.name().to_owned());
    let path = model.path().canonicalize().unwrap_or_else(|_| model.path().to_owned());
    hints.names.extend(path.file_name().map(|name| name.to_string_lossy().into_owned()));
    Ok(match tokenizer {
        Some(tokenizer) => hints.with_tokenizer(tokenizer),
        None => hints,
    })
}

/// `bos_token` and its like: a string, or an object that holds one.
fn named_tokens(tokenizer_config: &Value) -> Vec<(String, String)> {
    let names = ["bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token"];
    let spelling = |value: &Value| value.as_str().or_else(|| value["content"].as_str()).map(str::to_owned);
    names.iter().filter_map(|name| Some(((*name).to_owned(), spelling(&tokenizer_config[*name])?))).collect()
}
