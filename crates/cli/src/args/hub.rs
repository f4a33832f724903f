//! Flags of the verbs that fetch models and look after what was fetched: `pull`, `rm`, `cache`.

use std::path::PathBuf;

use clap::{Args, Command, FromArgMatches};
use glimmer_hub::HubKind;

use super::values::one_of;
use super::with_variable;

const HUBS: [(HubKind, &str); 2] =
    [(HubKind::HuggingFace, HubKind::HuggingFace.name()), (HubKind::ModelScope, HubKind::ModelScope.name())];

/// From where, and under what conditions.
#[derive(Debug, Args)]
pub(crate) struct HubArgs {
    /// The hub [default: the one that answers first]
    #[arg(long, value_name = "HUB", value_parser = one_of(HUBS))]
    pub(crate) hub: Option<HubKind>,

    /// Use what is on this machine, and ask nobody
    #[arg(long)]
    pub(crate) offline: bool,

    /// Accept the model's licence without being asked
    #[arg(long)]
    pub(crate) accept_licence: bool,
}

impl HubArgs {
    /// As the variables of these flags say, for the verbs that do not have the flags.
    pub(crate) fn of_environment() -> Result<Self, clap::Error> {
        let command = HubArgs::augment_args(Command::new("glimmer")).mut_args(with_variable);
        HubArgs::from_arg_matches(&command.try_get_matches_from(["glimmer"])?)
    }
}

/// Fetch a model from Hugging Face or ModelScope
#[derive(Debug, Args)]
#[command(after_help = "\
What was broken off is gone on with, and every file is checked against what the hub says of it. Files go where the hubs' own \
tools keep theirs, so that either finds what the other has fetched. The path of the model is printed.

Of a repository with GGUFs one quantization is fetched; of others safetensors, and pickles only where there are none.

Read from the environment: HF_ENDPOINT (a mirror), HF_TOKEN, HF_HOME, HF_HUB_CACHE, HF_HUB_OFFLINE, MODELSCOPE_ENDPOINT, \
MODELSCOPE_API_TOKEN, MODELSCOPE_CACHE, HTTPS_PROXY, HTTP_PROXY, NO_PROXY, SSL_CERT_FILE.

Examples:
  glimmer pull zai-org/glm-edge-1.5b-chat
  glimmer pull zai-org/glm-edge-1.5b-chat-gguf:Q4_K_M --accept-licence
  GIT_LFS_SKIP_SMUDGE=1 git clone https://huggingface.co/zai-org/chatglm-6b
  glimmer pull zai-org/chatglm-6b --into chatglm-6b")]
pub(crate) struct PullArgs {
    /// The model: OWNER/NAME on a hub, with :QUANTIZATION of one with GGUFs
    #[arg(value_name = "NAME")]
    pub(crate) name: PathBuf,

    /// A branch, a tag or a commit [default: the hub's usual branch]
    #[arg(long, value_name = "NAME")]
    pub(crate) revision: Option<String>,

    /// Complete this directory instead of the cache: a clone whose large files were left out, or a new one
    #[arg(long, value_name = "DIR")]
    pub(crate) into: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) hub: HubArgs,
}

/// Remove fetched models
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  glimmer rm zai-org/glm-edge-1.5b-chat
  glimmer rm zai-org/glm-edge-1.5b-chat-gguf:Q8_0 --hub modelscope")]
pub(crate) struct RmArgs {
    /// The models: OWNER/NAME, or of one with GGUFs OWNER/NAME:QUANTIZATION
    #[arg(value_name = "NAME", required = true)]
    pub(crate) names: Vec<PathBuf>,

    /// Only from this hub's cache [default: both]
    #[arg(long, value_name = "HUB", value_parser = one_of(HUBS))]
    pub(crate) hub: Option<HubKind>,
}

/// Show what was fetched: how large it is, what is incomplete
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  glimmer cache
  glimmer cache zai-org/glm-edge-1.5b-chat --verify
  glimmer cache --json | jq '.repositories[] | select(.incomplete != [])'")]
pub(crate) struct CacheArgs {
    /// Only this model: OWNER/NAME
    #[arg(value_name = "NAME")]
    pub(crate) name: Option<PathBuf>,

    /// Read every file and compare it with what the hub says of it; ModelScope is asked for that
    #[arg(long)]
    pub(crate) verify: bool,

    /// Only this hub's cache [default: both]
    #[arg(long, value_name = "HUB", value_parser = one_of(HUBS))]
    pub(crate) hub: Option<HubKind>,

    /// Answer with one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}
