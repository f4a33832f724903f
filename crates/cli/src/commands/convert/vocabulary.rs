//! A directory's tokenizer and chat template as the key/values of a GGUF.

use std::borrow::Cow;

use anyhow::{Context, ensure};
use glimmer_checkpoint::gguf::{Metadata, Strings, Value};
use glimmer_tokenizer::GgufVocab;

use super::Job;

/// Adds the vocabulary of the tokenizer beside the weights; without one, only its size, and a warning.
pub(super) fn add(metadata: &mut Metadata, job: &Job<'_>) -> anyhow::Result<()> {
    let rows = job.understood.spec.vocab;
    let directory = job.files.source().directory();
    let mut vocab = match job.files.tokenizer_if_any()? {
        Some(tokenizer) => tokenizer.to_gguf().with_context(|| directory.display().to_string())?,
        None => {
            job.terminal.warn("no tokenizer beside the weights: the file will take token ids, but no text");
            none()
        }
    };
    let tokens = vocab.tokens.len();
    ensure!(
        tokens <= rows,
        "{}: the tokenizer has {tokens} tokens, the embedding only {rows} rows; they belong to different models",
        directory.display()
    );
    if tokens > 0 {
        // llama.cpp counts tokens to know the embedding's rows.
        vocab.pad_to(rows);
    }
    let configuration = job.checkpoint.configuration();
    set_ends(&mut vocab, &configuration.stop_ids(), rows);
    let pad =
        job.checkpoint.config().and_then(|config| config.get("pad_token_id")).and_then(|id| id.as_u64());
    vocab.pad = pad.and_then(|id| u32::try_from(id).ok()).or(vocab.pad);
    set_keys(metadata, vocab);
    if let Some(template) = configuration.chat_template()? {
        metadata.set("tokenizer.chat_template", template.into_owned());
    }
    if let Some(template) = configuration.tool_use_template()? {
        metadata.set("tokenizer.chat_templates", Strings::from_iter(["tool_use"]));
        metadata.set("tokenizer.chat_template.tool_use", template.into_owned());
    }
    Ok(())
}

/// llama.cpp's word for a file without a vocabulary; it loads such a file.
fn none() -> GgufVocab<'static> {
    GgufVocab { model: "none".to_owned(), ..GgufVocab::default() }
}

/// The key/values without those of a vocabulary.
pub(super) fn without(metadata: &Metadata) -> Metadata {
    let mut rest = Metadata::new(metadata.path());
    for (key, value) in metadata.iter().filter(|(key, _)| !key.starts_with("tokenizer.")) {
        rest.set(key, value.clone());
    }
    set_keys(&mut rest, none());
    rest
}

/// Ids that end an answer beyond those the tokenizer names take the keys that are free: a GGUF has three.
pub(in crate::commands) fn set_ends(vocab: &mut GgufVocab<'_>, ends: &[u32], rows: usize) {
    for &id in ends.iter().filter(|id| (**id as usize) < rows) {
        if [vocab.eos, vocab.eot, vocab.eom].contains(&Some(id)) {
            continue;
        }
        if let Some(free) =
            [&mut vocab.eos, &mut vocab.eot, &mut vocab.eom].into_iter().find(|key| key.is_none())
        {
            *free = Some(id);
        }
    }
}

/// The vocabulary under its keys.
pub(in crate::commands) fn set_keys(metadata: &mut Metadata, vocab: GgufVocab<'_>) {
    let mut set = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            metadata.set(&format!("tokenizer.ggml.{key}"), value);
        }
    };
    fn list<T>(values: Vec<T>) -> Option<Value>
    where
        Value: From<Vec<T>>,
    {
        if values.is_empty() { None } else { Some(values.into()) }
    }
    let texts = |texts: Vec<Cow<'_, str>>| {
        (!texts.is_empty()).then(|| Value::from(texts.into_iter().collect::<Strings>()))
    };
    set("model", Some(vocab.model.into()));
    set("pre", vocab.pre.map(Value::from));
    set("tokens", texts(vocab.tokens));
    set("token_type", list(vocab.token_types));
    set("scores", list(vocab.scores));
    set("merges", texts(vocab.merges));
    set("precompiled_charsmap", list(vocab.precompiled_charsmap));
    let ids = [
        ("bos", vocab.bos),
        ("eos", vocab.eos),
        ("eot", vocab.eot),
        ("eom", vocab.eom),
        ("unknown", vocab.unk),
        // Spelled so in ggml.
        ("seperator", vocab.sep),
        ("padding", vocab.pad),
        ("cls", vocab.cls),
        ("mask", vocab.mask),
    ];
    for (name, id) in ids {
        set(&format!("{name}_token_id"), id.map(Value::from));
    }
    set("add_bos_token", vocab.add_bos.map(Value::from));
    set("add_eos_token", vocab.add_eos.map(Value::from));
    set("add_space_prefix", vocab.add_space_prefix.map(Value::from));
    set("remove_extra_whitespaces", vocab.remove_extra_whitespaces.map(Value::from));
}
