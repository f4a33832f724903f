//! Which generation a model is: the evidence, and the one decision from it.

use Family::*;

use crate::Family;

/// What tells generations apart. Whatever is not known stays empty.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    /// The family that the user named.
    pub asked: Option<Family>,
    /// The first of `architectures` in config.json.
    pub architecture: Option<String>,
    /// `model_type` of config.json, or `general.architecture` of a GGUF.
    pub model_type: Option<String>,
    /// Whether config.json is ChatGLM-6B's (`position_encoding_2d`, `inner_hidden_size`).
    pub two_positions: Option<bool>,
    /// Whether there is a vision tower.
    pub vision: bool,
    /// `_name_or_path`, `name_or_path`, `general.basename`, `general.name`, then the path's own: the first that tells
    /// wins.
    pub names: Vec<String>,
    /// `tokenizer_class`, or `tokenizer.ggml.model` of a GGUF, `none` where that has no vocabulary.
    pub tokenizer: Option<String>,
    /// Special tokens with their ids, where these are known.
    pub special_tokens: Vec<(String, Option<u32>)>,
    /// Whether tokenizer_config.json mentions `<|observation|>`, in whatever place.
    pub mentions_roles: bool,
    /// Rows of the embedding.
    pub vocabulary: Option<u64>,
    /// `layernorm_epsilon` of config.json.
    pub norm_epsilon: Option<f64>,
}

/// A family and how sure it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The family.
    pub family: Family,
    /// Whether nothing told it but the architecture, of which it is the likeliest.
    pub guessed: bool,
}

impl Decision {
    /// Whether ChatGLM2 is as likely: the two share everything but names and, where listed, role tokens.
    pub fn is_chatglm2_or_3(self) -> bool {
        self.guessed && self.family == ChatGlm3
    }

    /// What to tell a person about it.
    pub fn warning(self) -> Option<String> {
        let text = "ChatGLM2 and ChatGLM3 both fit; taken for ChatGLM3 (--family chatglm2 says otherwise; it only \
                    changes the chat format here)";
        self.is_chatglm2_or_3().then(|| text.to_owned())
    }
}

/// GLM-Edge's vocabulary and, in it, the id of `<|endoftext|>`, which follows the ordinary tokens.
const EDGE_VOCABULARY: u64 = 59_264;
const EDGE_ENDOFTEXT: u32 = 59_246;

/// The families that the class `ChatGLMModel`, transformers' `GlmForCausalLM` and a GGUF's `chatglm` share.
const CHATGLM_TO_GLM4: [Family; 6] = [ChatGlm2, CodeGeex2, ChatGlm3, Glm4, Glm4v, GlmEdge];

impl Evidence {
    /// With these special tokens in place of those known so far.
    #[must_use]
    pub fn with_special_tokens<'a>(mut self, tokens: impl IntoIterator<Item = (&'a str, u32)>) -> Self {
        self.special_tokens = tokens.into_iter().map(|(text, id)| (text.to_owned(), Some(id))).collect();
        self
    }

    /// Decides the family; `None` when nothing tells. The first that says something counts:
    ///
    /// | evidence | says |
    /// |---|---|
    /// | the user | that family |
    /// | architecture | which families are possible (`possible` below); the rest only chooses among them |
    /// | `ChatGLM4Tokenizer` | GLM-4 |
    /// | a vocabulary of 59,264 | GLM-Edge |
    /// | names, of paths the last part | as [`Family::of_model_name`] |
    /// | names, all of them, where the architecture is known | the same |
    /// | `<arg_key>` | GLM-4.7 with its architectures, else GLM-4.5 |
    /// | `<sop>` and `<\|observation\|>` | GLM-Edge if `<\|endoftext\|>` is 59,246, GLM-4-0414 for `glm4`, else GLM-4 |
    /// | `[gMASK]` and `sop` | ChatGLM3 with `<\|observation\|>`, else ChatGLM2 |
    /// | `[gMASK]`, `<sop>` and `<eop>` | ChatGLM-6B |
    /// | `<\|observation\|>` mentioned, a vocabulary of 65,024 | ChatGLM3 |
    /// | a vocabulary of 151,552, or a norm epsilon of 1.5625e-07 | GLM-4 |
    /// | only the architecture | its likeliest family, as a guess |
    ///
    /// GLM-4 with a vision tower is GLM-4V.
    pub fn decide(&self) -> Option<Decision> {
        let (possible, likeliest) = self.possible();
        let fits = |family: &Family| possible.contains(family);
        let name = |says: fn(&str) -> Option<Family>| self.names.iter().find_map(|n| says(n).filter(fits));
        let sure = self
            .asked
            .or_else(|| (possible.len() == 1).then(|| possible[0]))
            .or_else(|| self.by_tokenizer().filter(fits))
            .or_else(|| name(Family::of_model_name))
            .or_else(|| likeliest.and_then(|_| name(Family::said_in)))
            .or_else(|| self.by_tokens().filter(fits))
            .or_else(|| self.by_sizes().filter(fits));
        let decision = |family, guessed| Decision { family, guessed };
        let found =
            sure.map(|family| decision(family, false)).or(likeliest.map(|family| decision(family, true)));
        found.map(|found| match found.family {
            Glm4 if self.vision => decision(Glm4v, found.guessed),
            _ => found,
        })
    }

    /// The families that the architecture leaves possible, and the likeliest of them. An architecture that is none of
    /// ours rules nothing out: names and tokens may still tell how the model converses.
    fn possible(&self) -> (Vec<Family>, Option<Family>) {
        let class = (self.architecture.as_deref().unwrap_or(""), self.model_type.as_deref().unwrap_or(""));
        let (families, likeliest): (&[Family], _) = match class {
            (_, "chatglm-6b") => (&[ChatGlm6b], ChatGlm6b),
            ("ChatGLMModel" | "ChatGLMForConditionalGeneration", _) | ("", "chatglm") => {
                // Of a GGUF: only GLM-4 has neither SentencePiece's kind of vocabulary nor its name.
                let is_glm4 = matches!(self.tokenizer.as_deref(), Some("gpt2" | "none"));
                let likeliest = if is_glm4 { Glm4 } else { ChatGlm3 };
                match self.two_positions {
                    Some(true) => (&[ChatGlm6b], ChatGlm6b),
                    Some(false) => (&CHATGLM_TO_GLM4, likeliest),
                    None => (&[ChatGlm6b, ChatGlm2, CodeGeex2, ChatGlm3, Glm4, Glm4v, GlmEdge], likeliest),
                }
            }
            // ChatGLM2 and ChatGLM3 converted to this class keep their conversation's form, and say so by name.
            ("GlmForCausalLM", _) | ("", "glm") => (&CHATGLM_TO_GLM4, Glm4),
            ("Glm4ForCausalLM", _) | ("", "glm4") => (&[Glm40414, GlmZ1, GlmZ1Rumination], Glm40414),
            ("Glm4vForConditionalGeneration" | "Glm46VForConditionalGeneration", _)
            | ("", "glm4v" | "glm46v") => (&[Glm41v], Glm41v),
            ("GlmOcrForConditionalGeneration", _) | ("", "glm_ocr") => (&[GlmOcr], GlmOcr),
            ("Glm4MoeForCausalLM", _) | ("", "glm4_moe" | "glm4moe") => (&[Glm45, Glm47], Glm45),
            ("Glm4MoeLiteForCausalLM" | "GlmMoeDsaForCausalLM", _)
            | ("", "glm4_moe_lite" | "glm_moe_dsa" | "glm-dsa" | "deepseek2") => (&[Glm47], Glm47),
            _ => return (Family::NAMES.map(|(family, _)| family).to_vec(), None),
        };
        (families.to_vec(), Some(likeliest))
    }

    fn by_tokenizer(&self) -> Option<Family> {
        match (self.tokenizer.as_deref(), self.vocabulary) {
            (Some("ChatGLM4Tokenizer"), _) => Some(Glm4),
            (_, Some(EDGE_VOCABULARY)) => Some(GlmEdge),
            _ => None,
        }
    }

    fn by_tokens(&self) -> Option<Family> {
        let find = |text: &str| self.special_tokens.iter().find(|(token, _)| token == text);
        let has = |text: &str| find(text).is_some();
        if has("<arg_key>") {
            let later = ["glm4_moe_lite", "glm_moe_dsa", "glm-dsa", "deepseek2"];
            return Some(if self.model_type.as_deref().is_some_and(|kind| later.contains(&kind)) {
                Glm47
            } else {
                Glm45
            });
        }
        if has("<|observation|>") && has("<sop>") {
            return Some(match (find("<|endoftext|>"), self.model_type.as_deref()) {
                (Some((_, Some(EDGE_ENDOFTEXT))), _) => GlmEdge,
                (_, Some("glm4")) => Glm40414,
                _ => Glm4,
            });
        }
        if has("[gMASK]") && has("sop") {
            return Some(if has("<|observation|>") { ChatGlm3 } else { ChatGlm2 });
        }
        (has("[gMASK]") && has("<sop>") && has("<eop>")).then_some(ChatGlm6b)
    }

    fn by_sizes(&self) -> Option<Family> {
        match self.vocabulary {
            Some(65_024) if self.mentions_roles => Some(ChatGlm3),
            Some(151_552) => Some(Glm4),
            _ => (self.norm_epsilon == Some(1.5625e-07)).then_some(Glm4),
        }
    }
}
