//! The keys of a GGUF that say what a directory says in files of its own.

use glimmer_config::GgufValues;

use super::{Metadata, Strings, Value};
use crate::error::CheckpointError;

/// ggml's types of tokens that stand for themselves in text: control and user-defined.
const SPECIAL: [i32; 2] = [3, 4];

impl Metadata {
    /// The keys of generation, vocabulary, template and sampling as plain values.
    ///
    /// # Errors
    /// When one of them holds a value of another kind. A setting of sampling that does is left out.
    pub fn configuration_values(&self) -> Result<GgufValues, CheckpointError> {
        let text = |key: &str| Ok::<_, CheckpointError>(self.get::<&str>(key)?.map(str::to_owned));
        let id = |name: &str| self.get::<u32>(&format!("tokenizer.ggml.{name}_token_id"));
        let tokens = self.get::<&Strings>("tokenizer.ggml.tokens")?;
        let spelling = |id: u32| tokens.and_then(|tokens| tokens.get(id as usize)).map(str::to_owned);
        let named = |name: &str| {
            Ok::<_, CheckpointError>(id(name)?.and_then(spelling).map(|text| (format!("{name}_token"), text)))
        };
        let kinds: Vec<i32> = self.get("tokenizer.ggml.token_type")?.unwrap_or_default();
        let special = (0..).zip(&kinds).filter(|(_, kind)| SPECIAL.contains(kind));
        let float = |key: &str| match self.value(key) {
            Some(Value::F32(value)) => Some(*value),
            _ => None,
        };
        Ok(GgufValues {
            architecture: text("general.architecture")?,
            names: [text("general.basename")?, text("general.name")?].into_iter().flatten().collect(),
            tokenizer: text("tokenizer.ggml.model")?,
            named_tokens: [named("bos")?, named("eos")?].into_iter().flatten().collect(),
            special_tokens: special.filter_map(|(id, _)| Some((spelling(id)?, Some(id)))).collect(),
            stop_ids: [id("eos")?, id("eot")?, id("eom")?].into_iter().flatten().collect(),
            padding_id: id("padding")?,
            chat_template: text("tokenizer.chat_template")?,
            tool_use_template: text("tokenizer.chat_template.tool_use")?,
            temperature: float("general.sampling.temp"),
            top_p: float("general.sampling.top_p"),
            top_k: match self.value("general.sampling.top_k") {
                Some(Value::I32(value)) => Some(*value),
                _ => None,
            },
        })
    }
}
