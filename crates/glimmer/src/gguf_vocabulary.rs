//! A GGUF's `tokenizer.ggml.*` keys as the plain values that the tokenizer is made from. The two crates between which
//! they go do not know each other.

use std::borrow::Cow;

use glimmer_checkpoint::CheckpointError;
use glimmer_checkpoint::gguf::{FromValue, Metadata, Strings};
use glimmer_tokenizer::GgufVocab;

/// The vocabulary, where the file has one.
///
/// # Errors
/// When a key holds a value of another kind.
pub(crate) fn of(metadata: &Metadata) -> Result<Option<GgufVocab<'_>>, CheckpointError> {
    let keys = Keys(metadata);
    let model: &str = match keys.get("model")? {
        // llama.cpp's word for a file without a vocabulary.
        None | Some("none") => return Ok(None),
        Some(model) => model,
    };
    Ok(Some(GgufVocab {
        model: model.to_owned(),
        pre: keys.get::<&str>("pre")?.map(str::to_owned),
        tokens: keys.texts("tokens")?,
        token_types: keys.get("token_type")?.unwrap_or_default(),
        scores: keys.get("scores")?.unwrap_or_default(),
        merges: keys.texts("merges")?,
        bos: keys.get("bos_token_id")?,
        eos: keys.get("eos_token_id")?,
        eot: keys.get("eot_token_id")?,
        eom: keys.get("eom_token_id")?,
        unk: keys.get("unknown_token_id")?,
        // Spelled so in ggml.
        sep: keys.get("seperator_token_id")?,
        pad: keys.get("padding_token_id")?,
        cls: keys.get("cls_token_id")?,
        mask: keys.get("mask_token_id")?,
        add_bos: keys.get("add_bos_token")?,
        add_eos: keys.get("add_eos_token")?,
        add_space_prefix: keys.get("add_space_prefix")?,
        remove_extra_whitespaces: keys.get("remove_extra_whitespaces")?,
        precompiled_charsmap: keys.get::<&[u8]>("precompiled_charsmap")?.unwrap_or_default().to_vec(),
    }))
}

/// Look-ups of keys below `tokenizer.ggml.`.
struct Keys<'a>(&'a Metadata);

impl<'a> Keys<'a> {
    fn get<T: FromValue<'a>>(&self, name: &str) -> Result<Option<T>, CheckpointError> {
        self.0.get(&format!("tokenizer.ggml.{name}"))
    }

    fn texts(&self, name: &str) -> Result<Vec<Cow<'a, str>>, CheckpointError> {
        let texts = self.get::<&Strings>(name)?;
        Ok(texts.map(|texts| texts.iter().map(Cow::Borrowed).collect()).unwrap_or_default())
    }
}
