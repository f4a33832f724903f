//! BERT with a head that scores two texts: transformers' `BertForSequenceClassification` of one label, as
//! sentence-transformers' `CrossEncoder` runs it.
//!
//! The facts are those of transformers' `modeling_bert.py` (the head is a linear layer after the pooler: a linear layer and
//! tanh of the first token's state) and of `cross_encoder/model.py` of sentence-transformers 6.2.0 (the activation).

use std::path::{Path, PathBuf};

use glimmer_checkpoint::{Checkpoint, CheckpointError};
use glimmer_config::file;
use serde_json::{Map, Value};

use super::activation::{Activation, KNOWN};
use super::bert::{Bert, Tokens};
use super::linear::{Linear, Threads, Weights};
use super::modules::{Prompts, SCORES, Transformer, class_and_path, read_object, shown, text, wrong};
use super::{batches, fault_of};
use crate::ModelError;

/// Two texts as a cross-encoder reads them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodedPair {
    /// `[CLS]`, the first text, `[SEP]`, the second text, `[SEP]`.
    pub ids: Vec<u32>,
    /// Where the second text begins.
    pub second: usize,
}

/// What sentence-transformers' files say of a cross-encoder.
pub struct PairModules {
    /// Where the transformer lies.
    directory: PathBuf,
    transformer: Transformer,
    /// PyTorch's class of it, where `config_sentence_transformers.json` names one.
    activation: Option<String>,
}

impl PairModules {
    /// Reads the files of a model's directory. One without `modules.json` is what transformers saved.
    ///
    /// # Errors
    /// When a file cannot be read, or there are modules or settings that are not supported; the message names them.
    pub fn read(directory: &Path) -> Result<Self, ModelError> {
        let list = directory.join("modules.json");
        let mut modules = PairModules {
            directory: directory.to_owned(),
            transformer: Transformer::default(),
            activation: None,
        };
        let read = file::read_array(&list).map_err(CheckpointError::from)?;
        let Some(all) = read.as_ref().and_then(Value::as_array) else { return Ok(modules) };
        let [module] = all.as_slice() else {
            return Err(wrong(
                &list,
                format!("it has {} modules; a cross-encoder is a Transformer alone", all.len()),
            ));
        };
        let (class, path) = class_and_path(module).map_err(|what| wrong(&list, what))?;
        if !class.starts_with("sentence_transformers.") || !class.ends_with(".Transformer") {
            return Err(wrong(&list, format!("{} is not supported there; a Transformer is", shown(class))));
        }
        modules.directory = directory.join(path);
        modules.transformer = Transformer::read(&modules.directory, &SCORES)?;
        let config = directory.join("config_sentence_transformers.json");
        if let Some(read) = read_object(&config)? {
            let prompts = Prompts::read(&read, "CrossEncoder", &config)?;
            if prompts.get(None).is_some_and(|prompt| !prompt.is_empty()) {
                return Err(wrong(
                    &config,
                    "a prompt before every pair (default_prompt_name) is not supported",
                ));
            }
            modules.activation = text(&read, "activation_fn", &config)?;
        }
        Ok(modules)
    }

    /// The directory of the transformer: its `config.json`, weights and tokenizer.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Whether text is lower-cased, whatever the tokenizer does.
    pub fn lowercases(&self) -> bool {
        self.transformer.lowercase
    }

    /// The activation that files name, old and new ones; of one label it is a sigmoid where they name none. Classes that
    /// are not PyTorch's are not trusted there, and the default counts.
    fn activation(&self, config: &Map<String, Value>, file: &Path) -> Result<Activation, ModelError> {
        let named =
            |class: Option<&str>| class.filter(|class| class.starts_with("torch.")).map(str::to_owned);
        let of_config = || match &config.get("sentence_transformers") {
            Some(own) if own.get("activation_fn").is_some() => own["activation_fn"].as_str(),
            _ => config.get("sbert_ce_default_activation_function").and_then(Value::as_str),
        };
        let Some(class) = named(self.activation.as_deref()).or_else(|| named(of_config())) else {
            return Ok(Activation::Sigmoid);
        };
        Activation::of(&class)
            .ok_or_else(|| wrong(file, format!("activation {} is not supported; {KNOWN} are", shown(&class))))
    }
}

/// A loaded cross-encoder.
pub struct CrossEncoder {
    bert: Bert,
    pooler: Linear,
    /// `[1, hidden]`
    classifier: Linear,
    activation: Activation,
    max_tokens: usize,
    threads: Threads,
}

impl CrossEncoder {
    /// Loads a `BertForSequenceClassification` of one label. `modules` are those of the model that it belongs to,
    /// [`PairModules::read`].
    ///
    /// # Errors
    /// When the configuration is not BERT's, it has no head or one of several labels, or a tensor is missing or has
    /// another shape or type.
    pub fn open(checkpoint: &Checkpoint, modules: &PairModules) -> Result<Self, ModelError> {
        let file = checkpoint.path().join("config.json");
        let bert = Bert::open(checkpoint)?;
        if checkpoint.info("classifier.weight").is_none() {
            return Err(wrong(
                &file,
                "the weights have no head that scores pairs of texts (classifier.weight)",
            ));
        }
        let none = Map::new();
        let config = checkpoint.config().and_then(Value::as_object).unwrap_or(&none);
        let labels = labels(config);
        if labels != 1 {
            return Err(wrong(
                &file,
                format!("its head has {labels} labels; only one of a single label ranks texts"),
            ));
        }
        if bert.types() < 2 {
            return Err(wrong(&file, "type_vocab_size is 1; two texts have tokens of two types"));
        }
        let hidden = bert.hidden();
        let linear = |prefix, name: &str, outputs| {
            Weights { checkpoint, prefix }.linear(&[name.to_owned()], outputs, hidden)
        };
        Ok(CrossEncoder {
            pooler: linear("bert.", "pooler.dense", hidden)?,
            classifier: linear("", "classifier", 1)?,
            activation: modules.activation(config, &file)?,
            max_tokens: modules.transformer.max_tokens(checkpoint)?.min(bert.positions()),
            bert,
            threads: Threads::all(),
        })
    }

    /// Most tokens of a pair, `[CLS]` and `[SEP]` among them.
    pub fn max_tokens(&self) -> usize {
        self.max_tokens
    }

    /// The scores of pairs, in their order, before the activation.
    ///
    /// # Errors
    /// [`ModelError::Prompt`] when a pair is empty, too long, or names a token that does not exist.
    pub fn scores(&self, pairs: &[EncodedPair]) -> Result<Vec<f32>, ModelError> {
        let fault = |(number, pair): (usize, &EncodedPair)| {
            let what = fault_of(&pair.ids, self.max_tokens, &self.bert)?;
            Some(ModelError::Prompt(format!("pair {number}{what}")))
        };
        if let Some(error) = pairs.iter().enumerate().find_map(fault) {
            return Err(error);
        }
        let mut scores = vec![0.0; pairs.len()];
        for batch in batches(pairs.iter().map(|pair| pair.ids.len())) {
            let together: Vec<&EncodedPair> = batch.iter().map(|&i| &pairs[i]).collect();
            for (&i, score) in batch.iter().zip(self.forward(&together)) {
                scores[i] = score;
            }
        }
        Ok(scores)
    }

    /// What is shown of a score.
    pub fn activate(&self, score: f32) -> f32 {
        self.activation.apply(score)
    }

    /// One batch: a score of each pair.
    fn forward(&self, pairs: &[&EncodedPair]) -> Vec<f32> {
        let tokens: Vec<_> =
            pairs.iter().map(|pair| Tokens { ids: &pair.ids, second: pair.second }).collect();
        let states = self.bert.forward(&tokens, self.threads);
        let hidden = self.bert.hidden();
        let mut rest = states.as_slice();
        let mut first = Vec::with_capacity(pairs.len() * hidden);
        for pair in pairs {
            let own = rest.split_off(..pair.ids.len() * hidden).unwrap_or_default();
            first.extend_from_slice(&own[..hidden]);
        }
        let mut pooled = self.pooler.apply(&first, self.threads);
        pooled.iter_mut().for_each(|v| *v = v.tanh());
        self.classifier.apply(&pooled, self.threads)
    }
}

/// Labels of the head, by transformers' rule: those that have names, else `num_labels`, else two.
fn labels(config: &Map<String, Value>) -> u64 {
    let named = config.get("id2label").and_then(Value::as_object).map(|names| names.len() as u64);
    named.or_else(|| config.get("num_labels")?.as_u64()).unwrap_or(2)
}
