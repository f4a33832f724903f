//! Which templates are those of a chat format that is known by heart.

use crate::error::ChatError;
use glimmer_config::{Evidence, Family};

/// Templates whose text is a native format's, the published ones and the demo model's: FNV-1a of the normalised text.
const KNOWN: [(u64, Family); 7] = [
    (0x3254_1ec0_9179_de8d, Family::Glm4),
    (0x9c59_ce80_cf57_fe73, Family::Glm4),
    (0x716e_69b5_4d30_b278, Family::Glm40414),
    (0x86c1_1afb_d1ee_89ac, Family::GlmZ1),
    (0x5f4d_d018_f452_1bc9, Family::Glm45),
    (0x455b_4682_700c_641e, Family::Glm47),
    (0x3e65_cc39_39f0_c8d8, Family::GlmEdge),
];

/// The native format of a template that is known by heart, and the name it gives the model if it names one.
pub(crate) fn by_template(source: &str) -> Option<(Family, Option<String>)> {
    // ChatGLM3's template stands in for code that encodes message by message; the code is what counts.
    if source.contains("[gMASK]sop") {
        return Some((Family::ChatGlm3, None));
    }
    let (normal, name) = normalised(source);
    let hash = fnv1a(normal.as_bytes());
    KNOWN.iter().find(|(known, _)| *known == hash).map(|(_, format)| (*format, name))
}

/// The format of a template that is only a name, as llama.cpp takes one in a template's place. `chatglm4` stands for
/// GLM-4 and what followed, so the rest of the checkpoint tells which. `None` if the source is no name; an error if it is
/// another.
///
/// Source: llama.cpp's `src/llama-chat.cpp`, `LLM_CHAT_TEMPLATES` and `llm_chat_detect_template`.
pub(crate) fn by_template_name(source: &str, evidence: &Evidence) -> Option<Result<Family, ChatError>> {
    let name = source.trim();
    if name.contains(|c: char| c.is_whitespace() || matches!(c, '{' | '}' | '<')) {
        return None;
    }
    Some(match name {
        "chatglm3" => Ok(Family::ChatGlm3),
        "chatglm4" => {
            let older = [Family::ChatGlm6b, Family::ChatGlm2, Family::CodeGeex2, Family::ChatGlm3];
            let family = evidence.decide().map(|decision| decision.family);
            Ok(family.filter(|family| !older.contains(family)).unwrap_or(Family::Glm4))
        }
        "glmedge" => Ok(Family::GlmEdge),
        _ => Err(ChatError::TemplateName { name: name.to_owned() }),
    })
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
