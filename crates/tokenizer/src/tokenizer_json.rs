//! `tokenizer.json` of Hugging Face's tokenizers, as the GLM family uses it.
//!
//! Two shapes are read: byte-level BPE behind a split pattern (GLM-4 "-hf", GLM-Edge, 0414, Z1, 4.5 and
//! later) and BERT's WordPiece. Anything else in the file is refused by its name, never approximated. The
//! vocabulary of 20 MB is read without copying its strings.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use crate::added_tokens::AddedTokens;
use crate::byte_bpe::ByteBpe;
use crate::merges::{Merge, Merges};
use crate::splitter::Splitter;
use crate::tokenizer::{Inner, Model, TokenizerKind};
use crate::vocab::{Vocab, show};
use crate::wordpiece::{WordPiece, WordPieceOptions};
use crate::{AddedToken, TokenId, Tokenizer, TokenizerError, byte_level};

const FORMAT: &str = "tokenizer.json";

/// The pattern of a `ByteLevel` pre-tokenizer that does its own splitting: GPT-2's.
const GPT2_PATTERN: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

pub(crate) fn read(file: &[u8]) -> Result<Tokenizer, TokenizerError> {
    let file: File = serde_json::from_slice(file.strip_prefix("\u{feff}".as_bytes()).unwrap_or(file))?;
    let kind = file.model.kind.as_ref().map_or("BPE", |kind| kind.0.as_ref());
    match kind {
        "BPE" => read_bpe(&file),
        "WordPiece" => read_wordpiece(&file),
        other => Err(unsupported("model", other, "BPE, WordPiece")),
    }
}

#[derive(Deserialize)]
struct File<'j> {
    #[serde(default)]
    added_tokens: Vec<AddedTokenEntry>,
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
    #[serde(default)]
    post_processor: Value,
    #[serde(default)]
    decoder: Value,
    #[serde(borrow)]
    model: ModelEntry<'j>,
}

impl File<'_> {
    /// The added tokens that the model's vocabulary lists too, with their ids there.
    fn listed(&self) -> HashMap<&str, TokenId> {
        let added: HashSet<&str> = self.added_tokens.iter().map(|entry| entry.content.as_str()).collect();
        let entries = self.model.vocab.0.iter().map(|(token, id)| (token.0.as_ref(), *id));
        entries.filter(|(token, _)| added.contains(token)).collect()
    }

    /// The special tokens among them: ordinary text must not become one, not even by merging.
    fn reserved(&self) -> HashSet<&str> {
        let listed = self.listed();
        let special = self.added_tokens.iter().filter(|entry| entry.special);
        special.map(|entry| entry.content.as_str()).filter(|content| listed.contains_key(content)).collect()
    }

    /// How many characters a word may have before it is unknown.
    fn word_limit(&self) -> Result<usize, TokenizerError> {
        const LIMIT: usize = 1000;
        let limit = self.model.max_input_chars_per_word.unwrap_or(100);
        if limit > LIMIT {
            let what = "max_input_chars_per_word".into();
            return Err(TokenizerError::TooLarge { what, size: limit as u64, limit: LIMIT as u64 });
        }
        Ok(limit)
    }
}

#[derive(Deserialize)]
struct AddedTokenEntry {
    id: TokenId,
    content: String,
    #[serde(default)]
    special: bool,
    #[serde(default)]
    single_word: bool,
    #[serde(default)]
    lstrip: bool,
    #[serde(default)]
    rstrip: bool,
    #[serde(default)]
    normalized: bool,
}

#[derive(Deserialize)]
struct ModelEntry<'j> {
    #[serde(rename = "type", borrow)]
    kind: Option<Text<'j>>,
    #[serde(default, borrow)]
    vocab: VocabEntries<'j>,
    #[serde(default, borrow)]
    merges: Vec<MergeEntry<'j>>,
    #[serde(borrow)]
    unk_token: Option<Text<'j>>,
    #[serde(borrow)]
    continuing_subword_prefix: Option<Text<'j>>,
    #[serde(borrow)]
    end_of_word_suffix: Option<Text<'j>>,
    max_input_chars_per_word: Option<usize>,
    dropout: Option<f64>,
    #[serde(default)]
    byte_fallback: bool,
    #[serde(default)]
    ignore_merges: bool,
}

/// A string that borrows from the file where it has no escapes.
#[derive(Deserialize)]
struct Text<'j>(#[serde(borrow)] Cow<'j, str>);

/// The vocabulary, in the order of the file. A model of another type may have a list here.
#[derive(Default)]
struct VocabEntries<'j>(Vec<(Text<'j>, TokenId)>);

impl<'de: 'j, 'j> Deserialize<'de> for VocabEntries<'j> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = VocabEntries<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map from tokens to ids")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(VocabEntries(entries))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                while list.next_element::<IgnoredAny>()?.is_some() {}
                Ok(VocabEntries(Vec::new()))
            }
        }
        deserializer.deserialize_any(Entries)
    }
}

/// A merge: two strings, or one with a space between them.
struct MergeEntry<'j>(Text<'j>, Option<Text<'j>>);

impl<'de: 'j, 'j> Deserialize<'de> for MergeEntry<'j> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pair;
        impl<'de> Visitor<'de> for Pair {
            type Value = MergeEntry<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a merge: two strings or one with a space between two parts")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(MergeEntry(Text(Cow::Borrowed(text)), None))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(MergeEntry(Text(Cow::Owned(text.into())), None))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                use serde::de::Error;
                let missing = |count| A::Error::invalid_length(count, &"two strings");
                let left = list.next_element()?.ok_or_else(|| missing(0))?;
                let right = list.next_element()?.ok_or_else(|| missing(1))?;
                if list.next_element::<IgnoredAny>()?.is_some() {
                    return Err(missing(3));
                }
                Ok(MergeEntry(left, Some(right)))
            }
        }
        deserializer.deserialize_any(Pair)
    }
}

fn read_bpe(file: &File) -> Result<Tokenizer, TokenizerError> {
    let model = &file.model;
    for (name, present) in [
        ("dropout", model.dropout.is_some_and(|p| p != 0.0)),
        ("byte_fallback", model.byte_fallback),
        ("unk_token", model.unk_token.is_some()),
        (
            "continuing_subword_prefix",
            model.continuing_subword_prefix.as_ref().is_some_and(|p| !p.0.is_empty()),
        ),
        ("end_of_word_suffix", model.end_of_word_suffix.as_ref().is_some_and(|s| !s.0.is_empty())),
    ] {
        if present {
            return Err(unsupported("BPE model option", name, "byte-level BPE without it"));
        }
    }
    if !file.normalizer.is_null() {
        return Err(unsupported("normalizer before BPE", name_of(&file.normalizer), "none"));
    }
    if name_of(&file.decoder) != "ByteLevel" {
        return Err(unsupported("decoder after BPE", name_of(&file.decoder), "ByteLevel"));
    }
    let splitter = read_splitter(&file.pre_tokenizer)?;
    let reserved = file.reserved();
    let vocab = read_byte_level_vocab(&model.vocab.0, &reserved)?;
    let merges = read_merges(&model.merges, &vocab, &reserved)?;
    let bpe = ByteBpe::new(vocab, merges, splitter, model.ignore_merges, FORMAT)?;
    let added = read_added_tokens(file, &bpe.vocab)?;
    let (prefix, suffix) = read_post_processor(&file.post_processor)?;
    Ok(Inner { kind: TokenizerKind::TokenizerJson, model: Model::ByteBpe(bpe), added, prefix, suffix }.into())
}

fn read_byte_level_vocab(
    entries: &[(Text, TokenId)],
    reserved: &HashSet<&str>,
) -> Result<Vocab, TokenizerError> {
    let mut vocab = Vocab::new();
    let mut bytes = Vec::new();
    for (token, id) in entries {
        match byte_level::to_bytes(&token.0, &mut bytes) {
            Some(()) => vocab.insert(*id, &bytes, !reserved.contains(token.0.as_ref()), FORMAT)?,
            // Outside the alphabet: text can never become it, and decoding renders it as it is.
            None => vocab.insert(*id, token.0.as_bytes(), false, FORMAT)?,
        }
    }
    Ok(vocab)
}

fn read_merges(
    entries: &[MergeEntry],
    vocab: &Vocab,
    reserved: &HashSet<&str>,
) -> Result<Merges, TokenizerError> {
    Merges::read(entries, |priority, MergeEntry(left, right)| {
        let parts = match right {
            Some(right) => Some((left.0.as_ref(), right.0.as_ref())),
            None => left.0.split_once(' '),
        };
        let (left, right) = parts.ok_or_else(|| {
            TokenizerError::malformed(FORMAT, format!("merge {priority} {:?} is no pair", left.0))
        })?;
        let spells_special = |part: &str| !reserved.is_empty() && reserved.contains(part);
        if spells_special(left) || spells_special(right) || spells_special(&[left, right].concat()) {
            return Ok(None);
        }
        find_merge(vocab, left, right, priority, FORMAT).map(Some)
    })
}

/// Finds the merge of two tokens spelled in GPT-2's alphabet.
pub(crate) fn find_merge(
    vocab: &Vocab,
    left: &str,
    right: &str,
    priority: u32,
    format: &'static str,
) -> Result<(TokenId, TokenId, Merge), TokenizerError> {
    let mut joined = Vec::with_capacity(left.len() + right.len());
    let mut bytes = Vec::new();
    let mut find = |part: &str| {
        byte_level::to_bytes(part, &mut bytes)?;
        joined.extend_from_slice(&bytes);
        vocab.find(&bytes)
    };
    let parts = (find(left), find(right));
    let (Some(left), Some(right), Some(merged)) = (parts.0, parts.1, vocab.find(&joined)) else {
        let what = format!(
            "merge {priority} of {} and {} names a token that is not in the vocabulary",
            show(left.as_bytes()),
            show(right.as_bytes())
        );
        return Err(TokenizerError::malformed(format, what));
    };
    Ok((left, right, Merge { priority, merged }))
}

/// A `Split` and a `ByteLevel` in sequence, or a `ByteLevel` that splits by GPT-2's pattern.
fn read_splitter(pre_tokenizer: &Value) -> Result<Splitter, TokenizerError> {
    const SUPPORTED: &str = "ByteLevel, Sequence [Split, ByteLevel]";
    let steps = match name_of(pre_tokenizer) {
        "Sequence" => pre_tokenizer["pretokenizers"].as_array().map_or(&[][..], Vec::as_slice),
        _ => std::slice::from_ref(pre_tokenizer),
    };
    let names: Vec<&str> = steps.iter().map(name_of).collect();
    let (split, byte_level) = match (names.as_slice(), steps) {
        (["Split", "ByteLevel"], [split, byte_level]) => (Some(split), byte_level),
        (["ByteLevel"], [byte_level]) => (None, byte_level),
        _ => return Err(unsupported("pre_tokenizer", &names.join(" then "), SUPPORTED)),
    };
    if byte_level["add_prefix_space"].as_bool().unwrap_or(true) {
        return Err(unsupported("ByteLevel pre_tokenizer with", "add_prefix_space = true", "false"));
    }
    let splits_itself = byte_level["use_regex"].as_bool().unwrap_or(true);
    match (split, splits_itself) {
        (None, true) => Splitter::from_pattern(GPT2_PATTERN),
        (Some(split), false) => read_split(split),
        (None, false) => Err(unsupported("pre_tokenizer", "ByteLevel without a pattern", SUPPORTED)),
        (Some(_), true) => Err(unsupported("pre_tokenizer", "two patterns in sequence", SUPPORTED)),
    }
}

fn read_split(split: &Value) -> Result<Splitter, TokenizerError> {
    let behavior = split["behavior"].as_str().unwrap_or("(none)");
    if behavior != "Isolated" || split["invert"].as_bool().unwrap_or(false) {
        let what = if behavior == "Isolated" { "invert = true" } else { behavior };
        return Err(unsupported("Split behaviour", what, "Isolated, not inverted"));
    }
    match split["pattern"]["Regex"].as_str() {
        Some(pattern) => Splitter::from_pattern(pattern),
        None => Err(unsupported("Split pattern", "other than Regex", "Regex")),
    }
}

fn read_added_tokens(file: &File, vocab: &Vocab) -> Result<AddedTokens, TokenizerError> {
    let listed = file.listed();
    let mut tokens = Vec::with_capacity(file.added_tokens.len());
    for entry in &file.added_tokens {
        // The reference looks an added token up in the vocabulary before it believes the id beside it.
        let in_vocab = listed.get(entry.content.as_str());
        let id = *in_vocab.unwrap_or(&entry.id);
        if in_vocab.is_none()
            && let Some(other) = vocab.bytes(id)
        {
            let what = format!("added token {:?} has the id {id} of {}", entry.content, show(other));
            return Err(TokenizerError::malformed(FORMAT, what));
        }
        tokens.push(AddedToken {
            content: entry.content.clone(),
            id,
            special: entry.special,
            single_word: entry.single_word,
            lstrip: entry.lstrip,
            rstrip: entry.rstrip,
            normalized: entry.normalized,
        });
    }
    AddedTokens::new(tokens, |_| true)
}

/// What a plain call puts around text: the special tokens of a `TemplateProcessing` for a single sequence.
fn read_post_processor(processor: &Value) -> Result<(Vec<TokenId>, Vec<TokenId>), TokenizerError> {
    const SUPPORTED: &str = "ByteLevel, TemplateProcessing, BertProcessing, Sequence of them";
    let steps = match name_of(processor) {
        "Sequence" => processor["processors"].as_array().map_or(&[][..], Vec::as_slice),
        _ => std::slice::from_ref(processor),
    };
    let (mut prefix, mut suffix) = (Vec::new(), Vec::new());
    for step in steps {
        match name_of(step) {
            // This one only trims offsets.
            "ByteLevel" | "none" => {}
            "TemplateProcessing" => {
                let mut seen_text = false;
                for item in step["single"].as_array().map_or(&[][..], Vec::as_slice) {
                    if item.get("Sequence").is_some() {
                        seen_text = true;
                        continue;
                    }
                    let ids = template_ids(step, item).ok_or_else(|| {
                        TokenizerError::malformed(FORMAT, format!("template item {item} has no ids"))
                    })?;
                    if seen_text { suffix.extend(ids) } else { prefix.extend(ids) }
                }
            }
            "BertProcessing" => {
                let id = |name: &str| step[name][1].as_u64().and_then(|id| TokenId::try_from(id).ok());
                let (Some(cls), Some(sep)) = (id("cls"), id("sep")) else {
                    return Err(TokenizerError::malformed(FORMAT, "BertProcessing without ids"));
                };
                prefix.push(cls);
                suffix.push(sep);
            }
            other => return Err(unsupported("post_processor", other, SUPPORTED)),
        }
    }
    Ok((prefix, suffix))
}

fn template_ids(processor: &Value, item: &Value) -> Option<Vec<TokenId>> {
    let name = item["SpecialToken"]["id"].as_str()?;
    let ids = processor["special_tokens"].get(name)?["ids"].as_array()?;
    ids.iter().map(|id| TokenId::try_from(id.as_u64()?).ok()).collect()
}

fn read_wordpiece(file: &File) -> Result<Tokenizer, TokenizerError> {
    if name_of(&file.normalizer) != "BertNormalizer" {
        return Err(unsupported("normalizer before WordPiece", name_of(&file.normalizer), "BertNormalizer"));
    }
    if name_of(&file.pre_tokenizer) != "BertPreTokenizer" {
        let name = name_of(&file.pre_tokenizer);
        return Err(unsupported("pre_tokenizer before WordPiece", name, "BertPreTokenizer"));
    }
    if name_of(&file.decoder) != "WordPiece" {
        return Err(unsupported("decoder after WordPiece", name_of(&file.decoder), "WordPiece"));
    }
    let continuation = file.model.continuing_subword_prefix.as_ref().map_or("##", |prefix| prefix.0.as_ref());
    if file.decoder["prefix"].as_str().unwrap_or("##") != continuation {
        let what = "with another prefix than the model's";
        return Err(unsupported("WordPiece decoder", what, "the same prefix"));
    }
    if let Some(entry) = file.added_tokens.iter().find(|entry| entry.normalized) {
        let what = format!("{:?} with normalized = true", entry.content);
        return Err(unsupported("added token", &what, "normalized = false before BertNormalizer"));
    }
    let mut vocab = Vocab::new();
    for (token, id) in &file.model.vocab.0 {
        vocab.insert(*id, token.0.as_bytes(), true, FORMAT)?;
    }
    let unknown = file.model.unk_token.as_ref().map_or("[UNK]", |unknown| unknown.0.as_ref());
    let unknown_id = vocab.find(unknown.as_bytes()).ok_or_else(|| {
        TokenizerError::malformed(FORMAT, format!("the unknown token {unknown:?} is not in the vocabulary"))
    })?;
    let flag = |name: &str| file.normalizer[name].as_bool();
    let added = read_added_tokens(file, &vocab)?;
    let wordpiece = WordPiece {
        vocab,
        options: WordPieceOptions {
            clean_text: flag("clean_text").unwrap_or(true),
            split_chinese: flag("handle_chinese_chars").unwrap_or(true),
            strip_accents: flag("strip_accents"),
            lowercase: flag("lowercase").unwrap_or(true),
        },
        unknown_id,
        continuation: continuation.into(),
        word_limit: file.word_limit()?,
        cleanup: file.decoder["cleanup"].as_bool().unwrap_or(true),
    };
    let (prefix, suffix) = read_post_processor(&file.post_processor)?;
    Ok(Inner { kind: TokenizerKind::WordPiece, model: Model::WordPiece(wordpiece), added, prefix, suffix }
        .into())
}

/// The `type` of a component; "none" for null.
fn name_of(component: &Value) -> &str {
    match component {
        Value::Null => "none",
        other => other["type"].as_str().unwrap_or("(without a type)"),
    }
}

fn unsupported(what: &str, name: &str, supported: &'static str) -> TokenizerError {
    TokenizerError::unsupported(format!("{what} {name}"), supported)
}
