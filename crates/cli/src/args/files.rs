//! Flags of the verbs that read and write checkpoints: `inspect`, `convert`, `fuse`, `synth`.

use std::path::PathBuf;

use clap::Args;
use glimmer::{ContextLength, KvType};
use glimmer_models::Combination;
use glimmer_models::export::WeightTypes;

use super::values::{
    PublishedName, any_weight_types, context_length, one_of, positive, weight_types, weighted_path,
};
use super::{KV_TYPES, ModelArgs};

/// Show what a model is: configuration, stop ids, tensors, memory
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  glimmer inspect glm-4-9b-chat
  glimmer inspect glm-4-9b-chat.Q4_K_M.gguf --ctx 131072 --kv-type q8_0
  glimmer inspect chatglm3-6b --json | jq .memory")]
pub(crate) struct InspectArgs {
    #[command(flatten)]
    pub(crate) model: ModelArgs,

    /// The context whose memory is shown, or `max` [default: what the model was trained for, at most 8192]
    #[arg(long, value_name = "N", value_parser = context_length)]
    pub(crate) ctx: Option<ContextLength>,

    /// Precision of the key/value cache
    #[arg(long, value_name = "TYPE", default_value = "f16", value_parser = one_of(KV_TYPES))]
    pub(crate) kv_type: KvType,

    /// Answer with one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// Write a model in another format
#[derive(Debug, Args)]
#[command(after_help = "\
OUT ends in .gguf: one file with llama.cpp's names, the vocabulary inside. TYPE is then F32, F16, BF16, Q4_0, Q4_1, \
Q5_0, Q5_1, Q8_0, Q2_K, Q3_K, Q4_K, Q5_K or Q6_K for all matrices, or one of llama.cpp's mixes: Q2_K_M (which it calls \
just Q2_K), Q3_K_S, Q3_K_M, Q3_K_L, Q4_K_S, Q4_K_M, Q5_K_S, Q5_K_M. Where a type's blocks do not divide a row, the \
nearest type is taken whose blocks do, as llama.cpp does. Norms and biases are F32.

OUT is anything else: a directory in Hugging Face layout, for transformers' own classes, F32, F16 or BF16.

OUT appears when it is complete.

Examples:
  glimmer convert chatglm3-6b chatglm3-6b.Q4_K_M.gguf --type Q4_K_M
  glimmer convert chatglm-6b-int4 chatglm-6b-f16
  glimmer convert glm-4-9b-chat.Q8_0.gguf glm-4-9b-chat-hf --type BF16")]
pub(crate) struct ConvertArgs {
    #[command(flatten)]
    pub(crate) model: ModelArgs,

    /// The .gguf file or the directory to write
    #[arg(value_name = "OUT")]
    pub(crate) output: PathBuf,

    /// How weights are stored [default: as in MODEL; what OUT's format does not have becomes F16]
    #[arg(long = "type", value_name = "TYPE", value_parser = weight_types)]
    pub(crate) types: Option<WeightTypes>,

    /// Replace OUT
    #[arg(long)]
    pub(crate) force: bool,

    /// Leave the tokenizer out: the new model takes token ids, but no text
    #[arg(long)]
    pub(crate) no_tokenizer: bool,

    /// Threads to encode with [default: all]
    #[arg(long, short = 't', value_name = "N", value_parser = positive())]
    pub(crate) threads: Option<usize>,
}

/// Merge adapters into a model, for good
#[derive(Debug, Args)]
#[command(after_help = "\
What it writes computes what MODEL does with the adapter, but for the rounding of its type. Weights that are quantized are decoded, \
changed and quantized again; tensors that no adapter changes stay the same bytes. A prefix (P-Tuning v2) is no weight and stays \
beside the model.

Several adapters, and weights, make one of them: `cat` adds up what each does; `linear` sums their matrices as PEFT's \
add_weighted_adapter does, which is only roughly that.

Examples:
  glimmer fuse glm-4-9b-chat glm-4-9b-sql --lora ./sql-lora
  glimmer fuse glm-4-9b-chat.Q8_0.gguf sql.Q4_K_M.gguf --lora ./sql-lora --type Q4_K_M
  glimmer fuse glm-4-9b-chat both.gguf --lora ./sql-lora:0.7 --lora ./tone-lora:0.3")]
pub(crate) struct FuseArgs {
    #[command(flatten)]
    pub(crate) convert: ConvertArgs,

    /// An adapter in PEFT's format, and by what it is multiplied [default: 1]. May be given several times
    #[arg(long, value_name = "PATH[:WEIGHT]", required = true, value_parser = weighted_path)]
    pub(crate) lora: Vec<(PathBuf, f32)>,

    /// How several are combined
    #[arg(long, value_name = "HOW", default_value = "cat", value_parser = one_of(COMBINATIONS))]
    pub(crate) combine: Combination,
}

const COMBINATIONS: [(Combination, &str); 2] = [(Combination::Cat, "cat"), (Combination::Linear, "linear")];

/// Write a model of random weights with a published model's shapes, to measure with
#[derive(Debug, Args)]
#[command(after_help = "\
OUT ends in .gguf: TYPE is any that `convert` writes, or IQ4_NL or IQ4_XS. OUT is anything else: a directory, TYPE is \
F32, F16 or BF16, and for chatglm-6b INT8 or INT4 as well. The same seed gives the same bytes.

GLM-4's vocabulary comes along; GLM-Edge's is one of the same size; those of ChatGLM and of models with experts are left out.

Examples:
  glimmer synth glm-edge-1.5b-chat --type Q4_K_M -o edge.gguf
  glimmer synth glm-4-9b-chat -o glm-4-9b-random
  glimmer synth chatglm-6b --type INT4 -o chatglm-6b-int4-random")]
pub(crate) struct SynthArgs {
    /// The published model
    #[arg(value_name = "NAME", value_parser = PublishedName)]
    pub(crate) name: &'static str,

    /// The .gguf file or the directory to write
    #[arg(long, short, value_name = "OUT", required = true)]
    pub(crate) output: PathBuf,

    /// How weights are stored [default: Q4_K_M in a .gguf, as published in a directory]
    #[arg(long = "type", value_name = "TYPE", value_parser = any_weight_types)]
    pub(crate) types: Option<WeightTypes>,

    /// Which random weights
    #[arg(long, value_name = "N", default_value = "0")]
    pub(crate) seed: u64,

    /// Only the first layers
    #[arg(long, value_name = "N", value_parser = positive())]
    pub(crate) layers: Option<usize>,

    /// Replace OUT
    #[arg(long)]
    pub(crate) force: bool,

    /// Threads to make weights with [default: all]
    #[arg(long, short = 't', value_name = "N", value_parser = positive())]
    pub(crate) threads: Option<usize>,
}
