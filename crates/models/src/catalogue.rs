//! The published models' shapes and what they were trained with, to catch files that say something else.
//!
//! Published files are known to be wrong: GLM-Edge GGUFs made by llama.cpp's converter carry their width as context
//! length, and a revision of `glm-4-9b-chat-hf` carries `rope_theta` 10000 where the model needs 5e6.

use crate::config::Understood;
use crate::{DecoderSpec, Family};

/// A published model: what identifies it and what must hold for it.
struct Known {
    name: &'static str,
    family: Family,
    /// layers, hidden, heads, ffn
    shape: [usize; 4],
    kv_heads: usize,
    rope_base: f64,
    context: usize,
}

const fn known(
    name: &'static str,
    family: Family,
    shape: [usize; 4],
    kv_heads: usize,
    rope_base: f64,
    context: usize,
) -> Known {
    Known { name, family, shape, kv_heads, rope_base, context }
}

/// Sources: the published `config.json` of each model.
const CATALOGUE: [Known; 11] = [
    known("chatglm-6b", Family::ChatGlm6b, [28, 4096, 32, 16384], 32, 1e4, 2048),
    known("chatglm2-6b", Family::ChatGlm2, [28, 4096, 32, 13696], 2, 1e4, 32768),
    known("chatglm3-6b", Family::ChatGlm3, [28, 4096, 32, 13696], 2, 1e4, 8192),
    known("glm-4-9b-chat", Family::Glm4, [40, 4096, 32, 13696], 2, 5e6, 131_072),
    known("glm-4-9b-chat-1m", Family::Glm4, [40, 4096, 32, 13696], 4, 1e8, 1_048_576),
    known("glm-4-9b", Family::Glm4, [40, 4096, 32, 13696], 2, 1e4, 8192),
    known("glm-edge-1.5b-chat", Family::GlmEdge, [28, 2048, 16, 6144], 4, 1e4, 8192),
    known("glm-edge-4b-chat", Family::GlmEdge, [40, 3072, 24, 8192], 6, 1e4, 8192),
    known("glm-4-9b-0414", Family::Glm40414, [40, 4096, 32, 13696], 2, 1e4, 32768),
    known("glm-4-32b-0414", Family::Glm40414, [61, 6144, 48, 23040], 2, 1e4, 32768),
    known("codegeex2-6b", Family::CodeGeex2, [28, 4096, 32, 13696], 2, 1e4, 8192),
];

/// The name of the published model with this family, shape and context, if any.
pub fn published_name(spec: &DecoderSpec) -> Option<&'static str> {
    candidates(spec).find(|k| k.context == spec.context && k.rope_base == spec.rope_base).map(|k| k.name)
}

fn candidates(spec: &DecoderSpec) -> impl Iterator<Item = &'static Known> {
    let shape = [spec.layers, spec.hidden, spec.heads.heads, spec.ffn];
    let family = spec.family;
    CATALOGUE.iter().filter(move |k| k.family == family && k.shape == shape)
}

/// Warns where a file contradicts every published model of its shape. A context length that a converter is known to
/// get wrong is put right; nothing else is changed.
pub(crate) fn cross_check(understood: &mut Understood, is_gguf: bool) {
    let Understood { spec, warnings, .. } = understood;
    let candidates: Vec<&Known> = candidates(spec).collect();
    if candidates.is_empty() {
        return;
    }
    let list = |of: &dyn Fn(&Known) -> String| {
        candidates.iter().map(|k| format!("{} {}", k.name, of(k))).collect::<Vec<_>>().join(", ")
    };
    if candidates.iter().all(|k| k.kv_heads != spec.heads.kv_heads) {
        let expected = list(&|k| k.kv_heads.to_string());
        warnings.push(format!("{} key/value heads; published: {expected}", spec.heads.kv_heads));
    }
    if is_gguf && spec.family == Family::GlmEdge && spec.context == spec.hidden {
        warnings.push(format!(
            "context length {} is the model's width, a known fault of the converter; {} is used",
            spec.context, candidates[0].context
        ));
        spec.context = candidates[0].context;
    }
    // ChatGLM2/3 and their -32k and -128k forms change ratio and context together; only the plain ones are listed.
    if matches!(spec.family, Family::ChatGlm2 | Family::ChatGlm3 | Family::CodeGeex2) {
        return;
    }
    let fits = |k: &Known| k.context == spec.context && k.kv_heads == spec.heads.kv_heads;
    let same_context: Vec<&Known> = candidates.iter().copied().filter(|k| fits(k)).collect();
    if same_context.is_empty() {
        let expected = list(&|k| k.context.to_string());
        warnings.push(format!("context length {}; published: {expected}", spec.context));
    } else if same_context.iter().all(|k| k.rope_base != spec.rope_base) {
        warnings.push(format!(
            "rotary base {}; {} was trained with {}: long prompts will be wrong",
            spec.rope_base, same_context[0].name, same_context[0].rope_base
        ));
    }
}
