//! The generations of GLM.

use std::fmt;

/// A generation of GLM: whose conventions a checkpoint follows, in its decoder and in its conversations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// ChatGLM-6B: 2-D positions, prefix-bidirectional attention. Rounds counted from 0; `[gMASK] <sop>` after the text.
    ChatGlm6b,
    /// ChatGLM2-6B; `rope_ratio` divides positions. Rounds counted from 1, `[gMASK] sop` before the text.
    ChatGlm2,
    /// CodeGeeX2-6B: ChatGLM2 with prompts of its own, a language tag and one instruction.
    CodeGeex2,
    /// ChatGLM3-6B; `rope_ratio` multiplies the rotary base. Role tokens, built message by message.
    ChatGlm3,
    /// GLM-4-9B, -Chat, -1M, -hf, LongWriter, LongCite, CodeGeeX4.
    Glm4,
    /// GLM-4V-9B: GLM-4 with a vision tower, its text built message by message.
    Glm4v,
    /// GLM-Edge.
    GlmEdge,
    /// GLM-4-0414.
    Glm40414,
    /// GLM-Z1-0414: reasons before every reply.
    GlmZ1,
    /// GLM-Z1-Rumination: one fixed research prompt with its own four tools.
    GlmZ1Rumination,
    /// GLM-4.1V-9B and GLM-4.6V-Flash: GLM-4-0414's decoder with positions of three axes, and a tower.
    Glm41v,
    /// GLM-OCR: the same, smaller, with GLM-Edge's vocabulary.
    GlmOcr,
    /// GLM-4.5, 4.5-Air and 4.6: experts.
    Glm45,
    /// GLM-4.7 and 4.7-Flash, GLM-5.
    Glm47,
}

use Family::*;

/// What names say, most telling first. Blanks and underscores of a name count as hyphens.
const BY_NAME: [(&[&str], Family); 14] = [
    (&["glm-4.1v", "glm4.1v", "glm-4.6v-flash"], Glm41v),
    (&["glm-ocr", "glmocr"], GlmOcr),
    (&["codegeex2", "codegeex-2"], CodeGeex2),
    (&["rumination"], GlmZ1Rumination),
    (&["glm-z1", "glmz1"], GlmZ1),
    (&["0414"], Glm40414),
    (&["glm-4.7", "glm4.7", "glm-4-7", "glm-5", "glm5"], Glm47),
    (&["glm-4.5", "glm-4.6", "glm4.5", "glm4.6", "glm-4-5", "glm-4-6"], Glm45),
    (&["glm-edge", "glmedge"], GlmEdge),
    (&["glm-4v", "glm4v"], Glm4v),
    (&["chatglm3", "chatglm-3"], ChatGlm3),
    (&["chatglm2", "chatglm-2"], ChatGlm2),
    (&["chatglm-6b", "chatglm6b"], ChatGlm6b),
    (&["glm-4", "glm4", "codegeex4", "longwriter", "longcite"], Glm4),
];

impl Family {
    /// Every family, oldest first, with the name that selects it on a command line.
    pub const NAMES: [(Family, &'static str); 14] = [
        (ChatGlm6b, "chatglm-6b"),
        (ChatGlm2, "chatglm2"),
        (CodeGeex2, "codegeex2"),
        (ChatGlm3, "chatglm3"),
        (Glm4, "glm-4"),
        (Glm4v, "glm-4v"),
        (GlmEdge, "glm-edge"),
        (Glm40414, "glm-4-0414"),
        (GlmZ1, "glm-z1"),
        (GlmZ1Rumination, "glm-z1-rumination"),
        (Glm41v, "glm-4.1v"),
        (GlmOcr, "glm-ocr"),
        (Glm45, "glm-4.5"),
        (Glm47, "glm-4.7"),
    ];

    /// The name that selects it.
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(family, _)| *family == self).map_or("", |(_, name)| name)
    }

    /// The family that a name selects.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(_, known)| *known == name).map(|(family, _)| *family)
    }

    /// All names, separated by commas.
    pub fn names() -> String {
        Self::NAMES.map(|(_, name)| name).join(", ")
    }

    /// The family that the name of a model says: a repository's or a file's, or the last part of a path.
    pub fn of_model_name(name: &str) -> Option<Self> {
        Self::said_in(last_part(name))
    }

    /// The family that a text names, wherever in it.
    pub(crate) fn said_in(text: &str) -> Option<Self> {
        let text = text.to_ascii_lowercase().replace(['_', ' '], "-");
        let said = |parts: &[&str]| parts.iter().any(|part| text.contains(part));
        BY_NAME.iter().find(|(parts, _)| said(parts)).map(|(_, family)| *family)
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The last part of a path or of a repository's name.
fn last_part(name: &str) -> &str {
    name.trim_end_matches(['/', '\\']).rsplit(['/', '\\']).next().unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_the_generation() {
        for (name, family) in [
            ("THUDM/chatglm-6b-int4-qe", ChatGlm6b),
            ("THUDM/chatglm2-6b-32k", ChatGlm2),
            ("/models/chatglm3-6b-128k/", ChatGlm3),
            ("zai-org/glm-4-9b-chat-1m", Glm4),
            ("glm-4-9b-chat-hf", Glm4),
            ("LongWriter-glm4-9b", Glm4),
            ("codegeex4-all-9b", Glm4),
            ("codegeex2-6b", CodeGeex2),
            ("glm-4v-9b", Glm4v),
            ("GLM Edge 1.5B Chat", GlmEdge),
            ("GLM-4-32B-0414", Glm40414),
            ("GLM-Z1-9B-0414", GlmZ1),
            ("GLM-Z1-Rumination-32B-0414", GlmZ1Rumination),
            ("GLM-4.5-Air", Glm45),
            ("GLM-4.6", Glm45),
            ("GLM-4.7-Flash", Glm47),
            ("GLM-5", Glm47),
        ] {
            assert_eq!(Family::of_model_name(name), Some(family), "{name}");
        }
        assert_eq!(Family::of_model_name("llama-3"), None);
        assert_eq!(Family::of_model_name("/glm-4-9b/something-else"), None);
    }

    #[test]
    fn every_family_has_a_name_of_its_own() {
        for (family, name) in Family::NAMES {
            assert_eq!((family.name(), Family::from_name(name)), (name, Some(family)));
        }
        assert_eq!(Family::from_name("chatgpt"), None);
    }
}
