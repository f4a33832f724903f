//! Which chat format a checkpoint speaks: by its template, or without one by its names and tokens.

use crate::format::Format;
use glimmer_tokenizer::{TokenId, Tokenizer};

/// What a checkpoint tells about itself apart from its template. Whatever is not known stays empty.
#[derive(Clone, Debug, Default)]
pub struct Hints {
    /// The family that the user named.
    pub family: Option<String>,
    /// `_name_or_path`, `general.name`, the directory's name: the first that tells wins.
    pub names: Vec<String>,
    /// `model_type` of config.json, or the architecture of a GGUF file.
    pub model_type: Option<String>,
    /// Whether the checkpoint has a vision tower.
    pub vision: bool,
    /// Special tokens that the tokenizer has, as far as they tell formats apart.
    pub special_tokens: Vec<(String, TokenId)>,
    /// `bos_token`, `eos_token` and their like, with their spellings: variables for a Jinja template.
    pub named_tokens: Vec<(String, String)>,
}

impl Hints {
    /// Adds the special tokens of a tokenizer.
    #[must_use]
    pub fn with_tokenizer(mut self, tokenizer: &Tokenizer) -> Hints {
        self.special_tokens =
            tokenizer.special_tokens().map(|(spelling, id)| (spelling.to_owned(), id)).collect();
        self
    }
}

/// Templates whose text is a native format's, the published ones and the demo model's: FNV-1a of the normalised text.
const KNOWN: [(u64, Format); 7] = [
    (0x3254_1ec0_9179_de8d, Format::Glm4),
    (0x9c59_ce80_cf57_fe73, Format::Glm4),
    (0x716e_69b5_4d30_b278, Format::Glm40414),
    (0x86c1_1afb_d1ee_89ac, Format::GlmZ1),
    (0x5f4d_d018_f452_1bc9, Format::Glm45),
    (0x455b_4682_700c_641e, Format::Glm47),
    (0x3e65_cc39_39f0_c8d8, Format::GlmEdge),
];

/// The native format of a template that is known by heart, and the name it gives the model if it names one.
pub(crate) fn by_template(source: &str) -> Option<(Format, Option<String>)> {
    // ChatGLM3's template stands in for code that encodes message by message; the code is what counts.
    if source.contains("[gMASK]sop") {
        return Some((Format::ChatGlm3, None));
    }
    let (normal, name) = normalised(source);
    let hash = fnv1a(normal.as_bytes());
    KNOWN.iter().find(|(known, _)| *known == hash).map(|(_, format)| (*format, name))
}

/// The template with one kind of line ends, without white space at its ends, and without the model's name, which
/// differs between revisions of one template.
fn normalised(source: &str) -> (String, Option<String>) {
    const BEFORE: &str = "你是一个名为 ";
    const AFTER: &str = " 的人工智能助手。你是基于智谱AI训练";
    let source = source.replace("\r\n", "\n");
    let source = source.trim();
    let Some(start) = source.find(BEFORE).map(|at| at + BEFORE.len()) else {
        return (source.to_owned(), None);
    };
    let Some(len) = source[start..].find(AFTER).filter(|len| *len < 64) else {
        return (source.to_owned(), None);
    };
    let name = &source[start..start + len];
    (format!("{}{}", &source[..start], &source[start + len..]), Some(name.to_owned()))
}

/// Fowler, Noll and Vo's hash, 64 bits, variant 1a. It need not resist forgery: a forged template is rendered as
/// the format it pretends to be.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

/// The format that names and tokens tell: what the user said first, then names, then the kind of model.
pub(crate) fn by_hints(hints: &Hints) -> Option<Format> {
    hints
        .family
        .iter()
        .chain(&hints.names)
        .find_map(|name| by_name(name))
        .map(|format| if format == Format::Glm4 && hints.vision { Format::Glm4v } else { format })
        .or_else(|| by_tokens(hints))
}

/// The format of the model that a name names.
fn by_name(name: &str) -> Option<Format> {
    // The last part of a path or repository name; blanks and underscores as hyphens.
    let name = name.trim_end_matches(['/', '\\']).rsplit(['/', '\\']).next().unwrap_or("");
    let name = name.to_ascii_lowercase().replace(['_', ' '], "-");
    let has = |part: &str| name.contains(part);
    let generations: [(&[&str], Format); 12] = [
        (&["codegeex2", "codegeex-2"], Format::CodeGeex2),
        (&["rumination"], Format::GlmZ1Rumination),
        (&["glm-z1", "glmz1"], Format::GlmZ1),
        (&["0414"], Format::Glm40414),
        (&["glm-4.7", "glm4.7", "glm-4-7", "glm-5", "glm5"], Format::Glm47),
        (&["glm-4.5", "glm-4.6", "glm4.5", "glm4.6", "glm-4-5", "glm-4-6"], Format::Glm45),
        (&["glm-edge", "glmedge"], Format::GlmEdge),
        (&["glm-4v", "glm4v"], Format::Glm4v),
        (&["chatglm3", "chatglm-3"], Format::ChatGlm3),
        (&["chatglm2", "chatglm-2"], Format::ChatGlm2),
        (&["chatglm-6b", "chatglm6b"], Format::ChatGlm6b),
        (&["glm-4", "glm4", "codegeex4"], Format::Glm4),
    ];
    generations.into_iter().find(|(parts, _)| parts.iter().any(|part| has(part))).map(|(_, format)| format)
}

/// The format that fits the special tokens and the kind of model.
fn by_tokens(hints: &Hints) -> Option<Format> {
    let id = |spelling: &str| hints.special_tokens.iter().find(|(s, _)| s == spelling).map(|(_, id)| *id);
    let has = |spelling: &str| id(spelling).is_some();
    let model_type = hints.model_type.as_deref().unwrap_or("");
    if has("<arg_key>") {
        let later = matches!(model_type, "glm4_moe_lite" | "glm_moe_dsa" | "glm-dsa" | "deepseek2");
        return Some(if later { Format::Glm47 } else { Format::Glm45 });
    }
    if has("<|observation|>") && has("<sop>") {
        // GLM-Edge has a vocabulary of its own, of 59,246 ordinary tokens.
        return Some(match (id("<|endoftext|>"), model_type) {
            (Some(59_246), _) => Format::GlmEdge,
            (_, "glm4") => Format::Glm40414,
            _ if hints.vision => Format::Glm4v,
            _ => Format::Glm4,
        });
    }
    if has("[gMASK]") && has("sop") {
        return Some(if has("<|observation|>") { Format::ChatGlm3 } else { Format::ChatGlm2 });
    }
    (has("[gMASK]") && has("<sop>") && has("<eop>")).then_some(Format::ChatGlm6b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_the_generation() {
        for (name, format) in [
            ("THUDM/chatglm-6b-int4-qe", Format::ChatGlm6b),
            ("THUDM/chatglm2-6b-32k", Format::ChatGlm2),
            ("/models/chatglm3-6b-128k/", Format::ChatGlm3),
            ("zai-org/glm-4-9b-chat-1m", Format::Glm4),
            ("glm-4-9b-chat-hf", Format::Glm4),
            ("LongWriter-glm4-9b", Format::Glm4),
            ("codegeex4-all-9b", Format::Glm4),
            ("codegeex2-6b", Format::CodeGeex2),
            ("glm-4v-9b", Format::Glm4v),
            ("GLM Edge 1.5B Chat", Format::GlmEdge),
            ("GLM-4-32B-0414", Format::Glm40414),
            ("GLM-Z1-9B-0414", Format::GlmZ1),
            ("GLM-Z1-Rumination-32B-0414", Format::GlmZ1Rumination),
            ("GLM-4.5-Air", Format::Glm45),
            ("GLM-4.6", Format::Glm45),
            ("GLM-4.7-Flash", Format::Glm47),
            ("GLM-5", Format::Glm47),
        ] {
            assert_eq!(by_name(name), Some(format), "{name}");
        }
        assert_eq!(by_name("llama-3"), None);
        assert_eq!(by_name("/glm-4-9b/something-else"), None);
    }

    #[test]
    fn tokens_tell_what_names_do_not() {
        let hints = |tokens: &[(&str, u32)], model_type: &str| Hints {
            special_tokens: tokens.iter().map(|(s, id)| ((*s).to_owned(), *id)).collect(),
            model_type: Some(model_type.to_owned()),
            ..Hints::default()
        };
        let glm4 = [
            ("<|endoftext|>", 151_329),
            ("[gMASK]", 151_331),
            ("<sop>", 151_333),
            ("<|observation|>", 151_338),
        ];
        assert_eq!(by_hints(&hints(&glm4, "chatglm")), Some(Format::Glm4));
        assert_eq!(by_hints(&hints(&glm4, "glm4")), Some(Format::Glm40414));
        let vision = Hints { vision: true, ..hints(&glm4, "chatglm") };
        assert_eq!(by_hints(&vision), Some(Format::Glm4v));
        let edge =
            [("<|endoftext|>", 59_246), ("[gMASK]", 59_248), ("<sop>", 59_250), ("<|observation|>", 59_255)];
        assert_eq!(by_hints(&hints(&edge, "glm")), Some(Format::GlmEdge));
        let chatglm2 = [("[gMASK]", 64_790), ("sop", 64_792)];
        assert_eq!(by_hints(&hints(&chatglm2, "chatglm")), Some(Format::ChatGlm2));
        let chatglm3 = [("[gMASK]", 64_790), ("sop", 64_792), ("<|observation|>", 64_797)];
        assert_eq!(by_hints(&hints(&chatglm3, "chatglm")), Some(Format::ChatGlm3));
        let chatglm = [("[gMASK]", 130_001), ("<sop>", 130_004), ("<eop>", 130_005)];
        assert_eq!(by_hints(&hints(&chatglm, "chatglm")), Some(Format::ChatGlm6b));
        assert_eq!(by_hints(&Hints::default()), None);
    }
}
