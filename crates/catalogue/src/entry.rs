//! What is said of a model.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Size;

/// A page of the catalogue: a model in one size or several, with the files that it is published in.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Entry {
    /// What it is called; no other entry, and no model of another one, has this name.
    pub name: String,
    /// Other names of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
    /// A sentence or two.
    pub description: String,
    /// Whose conventions it follows: the name that `--family` takes, where there is one.
    pub family: String,
    /// In Xinference's words: `chat`, `generate`, `tools`, `vision`, `reasoning`, `hybrid` (thinks or not, as asked), `embed`.
    pub abilities: Vec<String>,
    /// Codes of the languages that it is said to know well.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub languages: Vec<String>,
    /// Tokens that it was trained for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<u64>,
    /// The key of its licence: see [`crate::Catalogue::licence`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub licence: Option<String>,
    /// The day it was published, `YYYY-MM-DD`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub released: Option<String>,
    /// The class that its `config.json` names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub architecture: Option<String>,
    /// The name of its chat format; a model that is no chat model has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chat_format: Option<String>,
    /// Ids that end an answer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stop_ids: Vec<u32>,
    /// Its sizes.
    pub models: Vec<Model>,
    /// Where its files lie, form by form.
    pub formats: Vec<Published>,
    /// Published scores.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub benchmarks: Vec<Benchmark>,
    /// Published measurements of what quantization costs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub quality: Vec<Quality>,
    /// Of each of the fields above that says something of the model, the keys of its sources.
    #[serde(default)]
    pub sources: BTreeMap<String, Vec<String>>,
}

impl Entry {
    /// The keys of all sources that it names.
    pub fn source_keys(&self) -> BTreeSet<&str> {
        let shapes = self.models.iter().filter_map(|model| model.shape.as_ref());
        let lists = self.sources.values().chain(shapes.map(|shape| &shape.sources));
        let lists = lists.chain(self.formats.iter().map(|form| &form.sources));
        let measured = self.benchmarks.iter().map(|benchmark| &benchmark.source);
        let measured = measured.chain(self.quality.iter().map(|quality| &quality.source));
        lists.flatten().chain(measured).map(String::as_str).collect()
    }
}

/// One size of an entry.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Model {
    /// What it is called.
    pub name: String,
    /// Parameters.
    pub size: Size,
    /// Parameters that work on a token, where they are fewer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activated: Option<Size>,
    /// Its decoder's shape.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shape: Option<Shape>,
    /// The model whose shape it has, in place of one of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub like: Option<String>,
}

/// The shape of a decoder, in elements.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
pub struct Shape {
    /// Layers.
    pub layers: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Heads of queries.
    pub heads: usize,
    /// Heads of keys and values.
    pub kv_heads: usize,
    /// Width of a head.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head_dim: Option<usize>,
    /// Width of the feed-forward's inner activations (in a mixture of experts, of its dense layers).
    pub ffn: usize,
    /// Rows of the embedding.
    pub vocab: usize,
    /// The context that its configuration says, in tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<usize>,
    /// Rotary base that it was trained with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rope_base: Option<f64>,
    /// Whether queries, keys and values have biases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub qkv_bias: Option<bool>,
    /// The experts of a mixture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub experts: Option<Experts>,
    /// Compressed keys and values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latent: Option<Latent>,
    /// The keys of its sources.
    pub sources: Vec<String>,
}

/// A mixture of experts.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
pub struct Experts {
    /// Experts of a layer.
    pub count: usize,
    /// Those that work on a token.
    pub per_token: usize,
    /// Those that work on all tokens beside them.
    pub shared: usize,
    /// Width of an expert's inner activations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ffn: Option<usize>,
    /// First layers that have no experts.
    pub dense_layers: usize,
}

/// The ranks and widths of compressed attention (MLA).
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
pub struct Latent {
    /// Rank of the queries.
    pub queries: usize,
    /// Rank of keys and values.
    pub keys_values: usize,
    /// Elements of a head that are not rotated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plain: Option<usize>,
    /// Elements that are, shared by all heads.
    pub rotated: usize,
    /// Width of a head's values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub values: Option<usize>,
}

/// One form of the files of one size.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Published {
    /// What kind of files.
    pub format: Format,
    /// Which size.
    pub size: Size,
    /// The quantizations that there are, `none` among them; empty where no source lists them.
    pub quantizations: Vec<String>,
    /// A file's name, with `{quantization}` where that stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_pattern: Option<String>,
    /// The name of one part of several, with `{part}` where its number stands, such as `00001-of-00003`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split_pattern: Option<String>,
    /// The same files on several hubs; an id may have `{quantization}` in it.
    #[serde(default)]
    pub repositories: Vec<Repository>,
    /// Where the files lie that are on no hub: a `file://` of a model of one's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
    /// The keys of its sources.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<String>,
}

impl Published {
    /// The name of the one file of a quantization, where files are named by a pattern.
    pub fn file(&self, quantization: &str) -> Option<String> {
        self.file_pattern.as_ref().map(|pattern| pattern.replace("{quantization}", quantization))
    }

    /// The quantization of this name as the files spell it, or of another name for the same: to `llama-quantize`, Q4_K is
    /// Q4_K_M.
    pub fn quantization(&self, name: &str) -> Option<&str> {
        let exactly = self.quantizations.iter().find(|other| other.eq_ignore_ascii_case(name));
        let alike = || self.quantizations.iter().find(|other| in_full(other) == in_full(name));
        exactly.or_else(alike).map(String::as_str)
    }
}

/// A quantization in capitals, an alias as what it stands for.
fn in_full(name: &str) -> String {
    let name = name.to_ascii_uppercase();
    match name.as_str() {
        "FP16" => "F16".to_owned(),
        "Q2_K" | "Q3_K" | "Q4_K" | "Q5_K" => name + "_M",
        _ => name,
    }
}

/// Kinds of model files.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the names are Xinference's, known to every user")]
pub enum Format {
    Pytorch,
    Ggufv2,
    Gptq,
    Awq,
    Fp8,
    Fp4,
    Bnb,
    Mlx,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Format::Pytorch => "pytorch",
            Format::Ggufv2 => "GGUF",
            Format::Gptq => "GPTQ",
            Format::Awq => "AWQ",
            Format::Fp8 => "FP8",
            Format::Fp4 => "FP4",
            Format::Bnb => "bitsandbytes",
            Format::Mlx => "MLX",
        })
    }
}

/// A place of files on a hub.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub struct Repository {
    /// Which hub.
    pub hub: HubKind,
    /// `owner/name` there.
    pub id: String,
    /// A commit or branch, where one is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
}

/// The hubs.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, Hash)]
#[serde(rename_all = "lowercase")]
pub enum HubKind {
    /// <https://huggingface.co>
    HuggingFace,
    /// <https://modelscope.cn>
    ModelScope,
}

impl fmt::Display for HubKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            HubKind::HuggingFace => "Hugging Face",
            HubKind::ModelScope => "ModelScope",
        })
    }
}

/// A published score.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Benchmark {
    /// Which of the entry's models.
    pub model: String,
    /// The benchmark.
    pub name: String,
    /// In the benchmark's unit.
    pub score: f64,
    /// How it was measured, where the source says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// The key of its source.
    pub source: String,
}

/// A published measurement of a quantized model.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Quality {
    /// Which of the entry's models.
    pub model: String,
    /// The quantization.
    pub quantization: String,
    /// What was measured.
    pub measure: String,
    /// The figure.
    pub value: f64,
    /// How it was measured.
    pub protocol: String,
    /// The key of its source.
    pub source: String,
}

/// What may be done with a model's weights.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Licence {
    /// What it is called.
    pub name: String,
    /// What it says of commercial use.
    pub commercial: String,
    /// Its text.
    pub url: String,
    /// The key of the source of the above.
    pub source: String,
}

/// Where a figure is from.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Origin {
    /// What it is.
    pub title: String,
    /// Where it can be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}
