//! Telling ChatGLM2, ChatGLM3 and GLM-4 apart: they share one architecture name and one set of configuration keys.

use glimmer_checkpoint::{Checkpoint, gguf::Metadata};
use serde_json::Value;

use crate::{Family, ModelError};

/// A family and what was odd about finding it.
pub(crate) struct Detected {
    pub(crate) family: Family,
    pub(crate) warnings: Vec<String>,
}

/// What names say, most telling first.
const BY_NAME: [(&str, Family); 9] = [
    ("codegeex2", Family::CodeGeex2),
    ("codegeex4", Family::Glm4),
    ("chatglm2", Family::ChatGlm2),
    ("chatglm3", Family::ChatGlm3),
    ("glm-4", Family::Glm4),
    ("glm4", Family::Glm4),
    ("longwriter", Family::Glm4),
    ("longcite", Family::Glm4),
    ("glm-edge", Family::GlmEdge),
];

/// The family that a model's name says.
pub(crate) fn by_name(name: &str) -> Option<Family> {
    let name = name.to_lowercase();
    BY_NAME.iter().find(|(part, _)| name.contains(part)).map(|(_, family)| *family)
}

/// The family of a `ChatGLMModel` that is not ChatGLM-6B: by flag, tokenizer class and special tokens,
/// `_name_or_path`, then the catalogue's shapes.
pub(crate) fn of_chatglm(
    config: &Value,
    checkpoint: &Checkpoint,
    flag: Option<Family>,
) -> Result<Detected, ModelError> {
    let sure = |family| Ok(Detected { family, warnings: Vec::new() });
    if let Some(family) = flag {
        return sure(family);
    }
    let tokenizer = checkpoint.tokenizer_config();
    let class = tokenizer.and_then(|t| t.get("tokenizer_class")).and_then(Value::as_str).unwrap_or("");
    if class == "ChatGLM4Tokenizer" {
        return sure(Family::Glm4);
    }
    let text =
        |v: Option<&Value>, key: &str| v.and_then(|v| v.get(key)).and_then(Value::as_str).map(str::to_owned);
    let names = [
        text(Some(config), "_name_or_path"),
        text(tokenizer, "name_or_path"),
        checkpoint.path().file_name().map(|n| n.to_string_lossy().into_owned()),
    ];
    let named = names.iter().flatten().find_map(|n| by_name(n)).filter(|f| *f != Family::GlmEdge);
    let shows_roles = tokenizer.is_some_and(|t| t.to_string().contains("<|observation|>"));
    let vocab = config.get("padded_vocab_size").and_then(Value::as_u64);
    match named {
        Some(family) => sure(family),
        None if shows_roles && vocab == Some(65_024) => sure(Family::ChatGlm3),
        None if vocab == Some(151_552)
            || config.get("layernorm_epsilon") == Some(&Value::from(1.5625e-07)) =>
        {
            sure(Family::Glm4)
        }
        None => {
            let ratio = config.get("rope_ratio").and_then(Value::as_f64).unwrap_or(1.0);
            if ratio != 1.0 {
                return Err(ModelError::Ambiguous(format!(
                    "{}: ChatGLM2 and ChatGLM3 both fit and rope_ratio {ratio} means different things to them \
                     (positions divided, or base multiplied); say --family chatglm2 or --family chatglm3",
                    checkpoint.path().display()
                )));
            }
            Ok(Detected { family: Family::ChatGlm3, warnings: vec![ambiguous()] })
        }
    }
}

/// The family of a GGUF of arch `chatglm`.
pub(crate) fn of_gguf(metadata: &Metadata, vocab: usize) -> Detected {
    let sure = |family| Detected { family, warnings: Vec::new() };
    let text = |key: &str| metadata.get::<&str>(key).ok().flatten().unwrap_or("").to_owned();
    let named = ["general.basename", "general.name"].iter().find_map(|key| by_name(&text(key)));
    match (named, vocab, text("tokenizer.ggml.model").as_str()) {
        (Some(family), _, _) => sure(family),
        (None, 59_264, _) => sure(Family::GlmEdge),
        (None, _, "llama") => Detected { family: Family::ChatGlm3, warnings: vec![ambiguous()] },
        (None, _, _) => sure(Family::Glm4),
    }
}

fn ambiguous() -> String {
    "ChatGLM2 and ChatGLM3 both fit; taken for ChatGLM3 (--family chatglm2 says otherwise; it only changes the chat \
     format here)"
        .to_owned()
}
