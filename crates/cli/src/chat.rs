//! Which chat format a model speaks and what ends its answers, from everything that its files tell.

use anyhow::Context;
use glimmer_chat::{ChatError, ChatTemplate, Format, Hints, stop_ids};
use glimmer_tokenizer::Tokenizer;
use serde_json::Value;

use crate::input;
use crate::model::Model;

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
