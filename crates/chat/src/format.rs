//! The chat formats that are known by heart: their names, the tokens that end a reply, and the sampling
//! settings that the models were published with.

use crate::error::ChatError;
use glimmer_tokenizer::{TokenId, Tokenizer};
use std::fmt;
use std::str::FromStr;

/// A chat format of one generation of models.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// ChatGLM-6B: rounds counted from 0; `[gMASK] <sop>` after the text.
    ChatGlm6b,
    /// ChatGLM2-6B: rounds counted from 1, `[gMASK] sop` before the text.
    ChatGlm2,
    /// CodeGeeX2-6B: a language tag and one instruction.
    CodeGeex2,
    /// ChatGLM3-6B: role tokens, built message by message.
    ChatGlm3,
    /// GLM-4-9B-Chat, -1M and -hf.
    Glm4,
    /// GLM-4V-9B, the text around its image: as GLM-4, built message by message.
    Glm4v,
    /// GLM-Edge chat models.
    GlmEdge,
    /// GLM-4-0414.
    Glm40414,
    /// GLM-Z1-0414: reasons before every reply.
    GlmZ1,
    /// GLM-Z1-Rumination: one fixed research prompt with its own four tools.
    GlmZ1Rumination,
    /// GLM-4.5, 4.5-Air and 4.6.
    Glm45,
    /// GLM-4.7 and 4.7-Flash.
    Glm47,
}

/// How the model's own code turns the format into ids, which matters only to [`Rendered::ids_parse_special`].
///
/// [`Rendered::ids_parse_special`]: crate::Rendered::ids_parse_special
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tokenising {
    /// The whole text is rendered, then tokenised: spellings of special tokens become their ids anywhere.
    Rendered,
    /// Piece by piece, with special tokens by id alone.
    ByMessage,
}

/// What a model was published to be sampled with. The server and the command line start from these.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SamplingDefaults {
    /// Whether to sample at all; otherwise the likeliest token is taken.
    pub do_sample: bool,
    /// Softmax temperature.
    pub temperature: f32,
    /// Nucleus: the smallest set of tokens with this much probability.
    pub top_p: f32,
    /// At most this many candidates.
    pub top_k: Option<u32>,
    /// Divides the logits of tokens already seen; 1 changes nothing.
    pub repetition_penalty: f32,
    /// Tokens of prompt and reply together, as the model's own `chat()` limits them.
    pub max_length: Option<u32>,
    /// Tokens of the reply, as the model's card recommends.
    pub max_new_tokens: Option<u32>,
}

impl Format {
    /// Every format, oldest first.
    pub const ALL: [Format; 12] = [
        Format::ChatGlm6b,
        Format::ChatGlm2,
        Format::CodeGeex2,
        Format::ChatGlm3,
        Format::Glm4,
        Format::Glm4v,
        Format::GlmEdge,
        Format::Glm40414,
        Format::GlmZ1,
        Format::GlmZ1Rumination,
        Format::Glm45,
        Format::Glm47,
    ];

    /// The name that selects the format on a command line.
    pub fn name(self) -> &'static str {
        match self {
            Format::ChatGlm6b => "chatglm-6b",
            Format::ChatGlm2 => "chatglm2",
            Format::CodeGeex2 => "codegeex2",
            Format::ChatGlm3 => "chatglm3",
            Format::Glm4 => "glm-4",
            Format::Glm4v => "glm-4v",
            Format::GlmEdge => "glm-edge",
            Format::Glm40414 => "glm-4-0414",
            Format::GlmZ1 => "glm-z1",
            Format::GlmZ1Rumination => "glm-z1-rumination",
            Format::Glm45 => "glm-4.5",
            Format::Glm47 => "glm-4.7",
        }
    }

    /// All names, separated by commas.
    pub fn names() -> String {
        Format::ALL.map(Format::name).join(", ")
    }

    pub(crate) fn tokenising(self) -> Tokenising {
        match self {
            Format::ChatGlm2 | Format::CodeGeex2 | Format::ChatGlm3 | Format::Glm4v => Tokenising::ByMessage,
            _ => Tokenising::Rendered,
        }
    }

    /// The tokens that end a reply, by spelling.
    pub fn stop_tokens(self) -> &'static [&'static str] {
        match self {
            Format::ChatGlm6b => &["<eop>"],
            Format::ChatGlm2 | Format::CodeGeex2 => &["</s>"],
            Format::ChatGlm3 => &["</s>", "<|user|>", "<|observation|>"],
            _ => GLM4_STOPS,
        }
    }

    /// The settings that the model was published with.
    ///
    /// From each model's `chat()` or `generation_config.json`; where that file leaves sampling out (0414), the
    /// likeliest token is taken; where only the model card or the official demo speaks (Edge, GLM-4V, Z1, 4.5
    /// and later), its advice.
    pub fn defaults(self) -> SamplingDefaults {
        let sampled = |temperature, top_p| SamplingDefaults {
            do_sample: true,
            temperature,
            top_p,
            top_k: None,
            repetition_penalty: 1.0,
            max_length: None,
            max_new_tokens: None,
        };
        match self {
            Format::ChatGlm6b => SamplingDefaults { max_length: Some(2048), ..sampled(0.95, 0.7) },
            Format::ChatGlm2 | Format::ChatGlm3 => {
                SamplingDefaults { max_length: Some(8192), ..sampled(0.8, 0.8) }
            }
            Format::CodeGeex2 => SamplingDefaults { top_k: Some(1), do_sample: false, ..sampled(1.0, 1.0) },
            Format::Glm4 => SamplingDefaults { max_length: Some(128_000), ..sampled(0.8, 0.8) },
            Format::Glm4v => {
                SamplingDefaults { top_k: Some(1), max_new_tokens: Some(1024), ..sampled(0.8, 0.8) }
            }
            Format::GlmEdge => {
                SamplingDefaults { repetition_penalty: 1.2, max_length: Some(8192), ..sampled(0.6, 0.8) }
            }
            Format::Glm40414 => SamplingDefaults { do_sample: false, ..sampled(1.0, 1.0) },
            Format::GlmZ1 | Format::GlmZ1Rumination => {
                SamplingDefaults { top_k: Some(40), max_new_tokens: Some(30_000), ..sampled(0.6, 0.95) }
            }
            Format::Glm45 => sampled(0.6, 0.95),
            Format::Glm47 => sampled(1.0, 0.95),
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Format {
    type Err = ChatError;

    fn from_str(name: &str) -> Result<Format, ChatError> {
        Format::ALL
            .into_iter()
            .find(|format| format.name().eq_ignore_ascii_case(name))
            .ok_or_else(|| ChatError::UnknownFormat { known: Format::names() })
    }
}

const GLM4_STOPS: &[&str] = &["<|endoftext|>", "<|user|>", "<|observation|>"];

/// The ids that end a reply: those of `config.json`, those of `generation_config.json`, and the format's own,
/// sorted and without repeats. Any one of the three is wrong for some published checkpoint; together they are not.
///
/// Without a known format (a template of the checkpoint's own), GLM-4's three tokens count where the tokenizer
/// has them.
pub fn stop_ids(
    format: Option<Format>,
    tokenizer: &Tokenizer,
    config_eos: &[TokenId],
    generation_eos: &[TokenId],
) -> Vec<TokenId> {
    let table = format.map_or(GLM4_STOPS, Format::stop_tokens);
    let mut ids: Vec<TokenId> = table.iter().filter_map(|spelling| tokenizer.special_id(spelling)).collect();
    ids.extend_from_slice(config_eos);
    ids.extend_from_slice(generation_eos);
    ids.sort_unstable();
    ids.dedup();
    ids
}
