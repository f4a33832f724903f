//! Flags of the verbs that look models up: `list`, `show`.

use std::path::PathBuf;

use clap::Args;

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
  glimmer list --catalogue our-models.json --json | jq '.[].name'")]
pub(crate) struct ListArgs {
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
    #[arg(long, value_name = "N", value_parser = super::values::tokens())]
    pub(crate) ctx: Option<usize>,

    /// Show every card that runs the model
    #[arg(long)]
    pub(crate) all_cards: bool,

    #[command(flatten)]
    pub(crate) catalogue: CatalogueArgs,
}
