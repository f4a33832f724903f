//! What encoders have in common: the files of the transformer, its tokenizer, its memory.

use std::path::Path;

use glimmer_checkpoint::Checkpoint;
use glimmer_models::ModelError;
use glimmer_tokenizer::{Encoding, Tokenizer};

use crate::{Error, ModelFiles, Overrides};

/// As a model's own tokenizer does it when it is called with texts alone.
pub(crate) const ENCODING: Encoding = Encoding { add_special: true, parse_special: true };

/// The files of the transformer in this directory: the model's own, unless its modules lie beside them.
pub(crate) fn transformer(model: ModelFiles, directory: &Path) -> ModelFiles {
    match model.source().directory() == directory {
        true => model,
        false => ModelFiles::new(directory, Overrides::default()),
    }
}

/// The tokenizer, lower-casing where the modules want that.
pub(crate) fn tokenizer(files: &ModelFiles, lowercases: bool) -> Result<Tokenizer, Error> {
    let tokenizer = files.tokenizer()?;
    if !lowercases {
        return Ok(tokenizer.clone());
    }
    tokenizer.lowercased().ok_or_else(|| {
        let message = "do_lower_case is only supported with a WordPiece tokenizer".to_owned();
        ModelError::Config { file: files.path().display().to_string(), message }.into()
    })
}

/// Bytes of a checkpoint's weights, which an encoder holds as f32.
pub(crate) fn weights(checkpoint: &Checkpoint) -> u64 {
    let elements = checkpoint.tensors().iter().map(|tensor| tensor.shape.iter().product::<usize>() as u64);
    elements.sum::<u64>().saturating_mul(size_of::<f32>() as u64)
}
