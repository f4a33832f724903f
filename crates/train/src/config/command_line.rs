//! Words of a command line: files by place, and names with values.

use std::path::Path;

use serde_json::{Map, Value};

use super::keys::{ConfigError, FromValue, Keys, text_of};
use super::{Method, TrainConfig, arguments, flat, yaml};

/// Names that may stand without a value.
const SWITCHES: [&str; 25] = [
    "bf16",
    "combine",
    "do_eval",
    "do_predict",
    "do_train",
    "dora",
    "dry_run",
    "eight_bit",
    "fast",
    "fp16",
    "from_scratch",
    "full",
    "full_determinism",
    "gradient_checkpointing",
    "group_by_length",
    "keep_order",
    "load_best_model_at_end",
    "overwrite_cache",
    "overwrite_output_dir",
    "pad_to_max_length",
    "predict_with_generate",
    "prefix_projection",
    "reference",
    "rslora",
    "skip_bad_rows",
];

/// Reads them.
pub(super) fn read(words: &[String]) -> Result<TrainConfig, ConfigError> {
    let (places, flags) = sorted(words)?;
    let places: Vec<&str> = places.iter().map(String::as_str).collect();
    let mut config = match places.as_slice() {
        [] => ground(&flags),
        [file] if is_yaml(file) => {
            yaml::read(Path::new(file), flags.get("data_dir").and_then(Value::as_str).map(Path::new))?
        }
        [file] if is_one_of(file, &["toml", "json"]) => of_file(Path::new(file))?,
        [model] => TrainConfig { model: Some((*model).to_owned()), ..ground(&flags) },
        [folder, model, file] | [folder, model, file, _] if is_yaml(file) => {
            let mut config = yaml::read(Path::new(file), Some(Path::new(folder)))?;
            config.model = Some((*model).to_owned());
            if let Some(word) = places.get(3) {
                config.resume = arguments::resume_of(word).ok_or_else(|| {
                    ConfigError::Missing(
                        "the word behind the configuration is `yes`, `no` or the step to go on from"
                            .to_owned(),
                    )
                })?;
            }
            config
        }
        _ => {
            let usage = "give a model, a configuration (.toml, .yaml, .json), or DATA_DIR MODEL CONFIG.yaml";
            return Err(ConfigError::Missing(usage.to_owned()));
        }
    };
    let mut keys = Keys::new("", flags);
    keys.take::<String>("data_dir")?;
    flat::read(&mut keys, &mut config)?;
    keys.finish()?;
    Ok(config)
}

/// What counts where the flags say nothing: transformers' defaults for those of ChatGLM-6B's script, ours for ours.
fn ground(keys: &Map<String, Value>) -> TrainConfig {
    let script = ["model_name_or_path", "do_train", "do_predict", "do_eval"];
    if !script.iter().any(|key| keys.contains_key(*key)) {
        return ours(keys);
    }
    let mut config = TrainConfig::of_transformers();
    config.data.limits.source = 1024;
    config.data.limits.target = 128;
    config.data.limits.whole = 1024 + 128;
    config
}

/// Ours, with the rate that suits what is trained.
fn ours(keys: &Map<String, Value>) -> TrainConfig {
    let mut config = TrainConfig::default();
    let method = keys.get("method").and_then(Value::as_str);
    let full = keys.get("full").and_then(bool::from_value) == Some(true);
    if method == Some("full") || full {
        config.learning_rate = 1e-5;
        config.method = Method::Full;
    } else if method == Some("prefix") || keys.contains_key("prefix") || keys.contains_key("pre_seq_len") {
        config.learning_rate = 1e-2;
    }
    config
}

fn is_yaml(path: &str) -> bool {
    is_one_of(path, &["yaml", "yml"])
}

fn is_one_of(path: &str, extensions: &[&str]) -> bool {
    let extension = Path::new(path).extension().and_then(|extension| extension.to_str());
    extension.is_some_and(|extension| extensions.iter().any(|known| extension.eq_ignore_ascii_case(known)))
}

/// A file of names without sections: TOML, or the JSON that transformers' parser takes.
fn of_file(path: &Path) -> Result<TrainConfig, ConfigError> {
    let text = text_of(path)?;
    let syntax = |what: String| ConfigError::Syntax { path: path.to_owned(), what };
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or("");
    let values: Map<String, Value> = match extension.to_ascii_lowercase().as_str() {
        "toml" => toml::from_str(&text).map_err(|error| syntax(error.to_string()))?,
        "json" => serde_json::from_str(&text).map_err(|error| syntax(error.to_string()))?,
        _ => return Err(syntax("is no configuration; its name ends in .toml, .yaml or .json".to_owned())),
    };
    let values: Map<String, Value> =
        values.into_iter().map(|(key, value)| (key.replace('-', "_"), value)).collect();
    let mut config = ground(&values);
    let mut keys = Keys::new("", values);
    flat::read(&mut keys, &mut config)?;
    keys.finish()?;
    Ok(config)
}

/// Words without a name, and the others by name. `-` and `_` are the same in names.
fn sorted(words: &[String]) -> Result<(Vec<String>, Map<String, Value>), ConfigError> {
    let mut places = Vec::new();
    let mut flags = Map::new();
    let mut words = words.iter().peekable();
    while let Some(word) = words.next() {
        let Some(name) = word.strip_prefix("--").filter(|name| !name.is_empty()) else {
            places.push(word.clone());
            continue;
        };
        let (name, given) = name.split_once('=').map_or((name, None), |(name, value)| (name, Some(value)));
        let name = name.replace('-', "_");
        let is_switch = SWITCHES.contains(&name.as_str());
        let is_value = |next: &&&String| {
            if is_switch {
                ["true", "false"].contains(&next.to_ascii_lowercase().as_str())
            } else {
                !next.starts_with("--")
            }
        };
        let value = match (given, words.peek().filter(is_value)) {
            (Some(value), _) => Value::String(value.to_owned()),
            (None, Some(_)) if ["targets", "target", "layers"].contains(&name.as_str()) => {
                let mut list = Vec::new();
                while let Some(next) = words.next_if(|next| !next.starts_with("--")) {
                    list.push(next.clone());
                }
                Value::String(list.join(","))
            }
            (None, Some(_)) => Value::String(words.next().cloned().unwrap_or_default()),
            (None, None) if is_switch => Value::Bool(true),
            (None, None) => {
                return Err(ConfigError::Value { key: name, what: "wants a value behind it".to_owned() });
            }
        };
        if flags.insert(name.clone(), value).is_some() {
            return Err(ConfigError::Value { key: name, what: "is given twice".to_owned() });
        }
    }
    Ok((places, flags))
}
