//! What the chat formats that are known by heart differ in beside their text: how their ids are made and the tokens that
//! end a reply. A format goes by the generation that speaks it.

use glimmer_config::Family;
use glimmer_tokenizer::{TokenId, Tokenizer};

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

impl Tokenising {
    pub(crate) fn of(format: Family) -> Self {
        match format {
            Family::ChatGlm2 | Family::CodeGeex2 | Family::ChatGlm3 | Family::Glm4v => Tokenising::ByMessage,
            _ => Tokenising::Rendered,
        }
    }
}

const GLM4_STOPS: &[&str] = &["<|endoftext|>", "<|user|>", "<|observation|>"];

/// The tokens that end a reply, by spelling.
fn stop_tokens(format: Family) -> &'static [&'static str] {
    match format {
        Family::ChatGlm6b => &["<eop>"],
        Family::ChatGlm2 | Family::CodeGeex2 => &["</s>"],
        Family::ChatGlm3 => &["</s>", "<|user|>", "<|observation|>"],
        _ => GLM4_STOPS,
    }
}

/// The ids that end a reply: those that the model's files say (`configured`) and the format's own, sorted and without
/// repeats. Either is wrong for some published checkpoint; together they are not.
///
/// Without a known format (a template of the checkpoint's own), GLM-4's three tokens count where the tokenizer
/// has them.
pub fn stop_ids(format: Option<Family>, tokenizer: &Tokenizer, configured: &[TokenId]) -> Vec<TokenId> {
    let table = format.map_or(GLM4_STOPS, stop_tokens);
    let mut ids: Vec<TokenId> = table.iter().filter_map(|spelling| tokenizer.special_id(spelling)).collect();
    ids.extend_from_slice(configured);
    ids.sort_unstable();
    ids.dedup();
    ids
}
