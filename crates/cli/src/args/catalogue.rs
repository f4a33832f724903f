//! Flags of the verbs that look models up: `list`, `show`, `fit`.

use std::path::PathBuf;

use clap::Args;
use glimmer::KvType;

use super::values::{memory_bytes, one_of, sequences, tokens};
use super::{EndpointArgs, KV_TYPES};

/// Which models are known.
#[derive(Debug, Args)]
pub(crate) struct CatalogueArgs {
    /// A file with models of your own in the form of Xinference's custom models, or a directory of such files [default:
    /// glimmer/models in $XDG_DATA_HOME or ~/.local/share]
    #[arg(long, value_name = "FILE")]
    pub(crate) catalogue: Vec<PathBuf>,

    /// Answer with JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// List the published models
#[derive(Debug, Args)]
#[command(after_help = "\
Of a model that runs here, Q4_K_M is what its weights take in that quantization.

Examples:
  glimmer list
  glimmer list edge
  glimmer list --ability tools --runs
  glimmer list --running
  glimmer list --catalogue our-models.json --json | jq '.[].name'")]
pub(crate) struct ListArgs {
    /// The models that a running server has, in place of the published ones
    #[arg(long, conflicts_with_all = ["text", "ability", "family", "runs", "catalogue"])]
    pub(crate) running: bool,

    #[command(flatten)]
    pub(crate) server: EndpointArgs,

    /// Only models whose name, family or description has this in it
    #[arg(value_name = "TEXT")]
    pub(crate) text: Option<String>,

    /// Only models with this ability: chat, generate, tools, vision, reasoning, hybrid or embed
    #[arg(long, value_name = "NAME")]
    pub(crate) ability: Option<String>,

    /// Only models of this family, such as glm-4
    #[arg(long, value_name = "NAME")]
    pub(crate) family: Option<String>,

    /// Only models that run here
    #[arg(long)]
    pub(crate) runs: bool,

    #[command(flatten)]
    pub(crate) catalogue: CatalogueArgs,
}

/// Show what is known of a model: files, memory by quantization, benchmarks, cards that run it
#[derive(Debug, Args)]
#[command(after_help = "\
NAME is that of a page, of one size, or of a repository; behind a colon may stand a size.

Memory is computed tensor by tensor as `convert` writes them. Scores are shown as they were published, with their protocol \
where one was named; sources are numbered at the end.

Examples:
  glimmer show glm-4-9b-chat
  glimmer show THUDM/glm-edge-1.5b-chat
  glimmer show glm-edge-chat:4b --ctx 4096 --all-cards
  glimmer show glm-4-9b-chat --json | jq .here")]
pub(crate) struct ShowArgs {
    /// The model
    pub(crate) name: String,

    /// The context that memory is shown for, in tokens [default: what the model was trained for]
    #[arg(long, value_name = "N", value_parser = tokens())]
    pub(crate) ctx: Option<usize>,

    /// Show every card that runs the model
    #[arg(long)]
    pub(crate) all_cards: bool,

    #[command(flatten)]
    pub(crate) catalogue: CatalogueArgs,
}

/// Show what a model takes and how fast it will be, here or on a card, and which quantization to take
#[derive(Debug, Args)]
#[command(after_help = "\
NAME is that of the catalogue, as for `show`, or a model's files: a directory, a .gguf file, or `demo`.

Bytes are exact: weights as `convert` writes them or as the files have them, the cache, and what an engine computes in. \
Speeds are predicted: from how fast this machine reads memory and multiplies, measured for three seconds, and the part of \
that which this program reaches; on a card only what its bandwidth allows at most.

Examples:
  glimmer fit glm-4-9b-chat
  glimmer fit glm-4-9b-chat --ctx 32768 --users 4 --ram 32G
  glimmer fit glm-4-9b-chat --gpu 'RTX 4090'
  glimmer fit glm-4-9b-chat --cards --quant Q4_K_M
  glimmer fit glm-edge-chat:1.5b --json | jq .recommended")]
pub(crate) struct FitArgs {
    /// The model
    pub(crate) name: String,

    /// Tokens of one conversation [default: what the model was trained for, at most 8192]
    #[arg(long, value_name = "N", value_parser = tokens())]
    pub(crate) ctx: Option<usize>,

    /// Conversations at once, each so long
    #[arg(long, value_name = "N", default_value = "1", value_parser = sequences())]
    pub(crate) users: usize,

    /// On this card of the catalogue instead of this machine's processor
    #[arg(long, value_name = "CARD", conflicts_with_all = ["ram", "cards"])]
    pub(crate) gpu: Option<String>,

    /// Memory that there is for the model, such as 16G or 500M [default: what is free, but a 32nd]
    #[arg(long, value_name = "BYTES", value_parser = memory_bytes, conflicts_with = "cards")]
    pub(crate) ram: Option<u64>,

    /// Only this quantization
    #[arg(long, value_name = "TYPE")]
    pub(crate) quant: Option<String>,

    /// Precision of the key/value cache
    #[arg(long, value_name = "TYPE", default_value = "f16", value_parser = one_of(KV_TYPES))]
    pub(crate) kv_type: KvType,

    /// List the cards that run the model in Q4_K_M or in --quant, with the context that fits
    #[arg(long)]
    pub(crate) cards: bool,

    #[command(flatten)]
    pub(crate) catalogue: CatalogueArgs,
}
