//! Flags of the verbs that compute to look at the figures: `logits`, `verify`, `bench`.

use std::path::PathBuf;

use clap::Args;

use super::values::{Ids, above_zero, one_of, positive, sequences, share, tokens};
use super::{DeviceArgs, ModelArgs};

/// Write the logits of every position of a prompt
#[derive(Debug, Args)]
#[command(after_help = "\
The file holds one tensor, `logits` [tokens, vocabulary] of f32. It appears under its name when it is complete.

Examples:
  glimmer logits chatglm3-6b --ids 64790,64792,790,30951 -o logits.safetensors
  glimmer logits glm-4-9b.Q4_K_M.gguf --ids - -o fast.safetensors --compute auto < ids.txt")]
pub(crate) struct LogitsArgs {
    #[command(flatten)]
    pub(crate) model: ModelArgs,

    /// The prompt's ids, separated by commas; nothing is added to them. `-` reads them from standard input
    #[arg(long, value_name = "IDS", required = true)]
    pub(crate) ids: Ids,

    /// The safetensors file to write
    #[arg(long, short, value_name = "FILE", required = true)]
    pub(crate) output: PathBuf,

    #[command(flatten)]
    pub(crate) device: DeviceArgs,
}

/// Compare a model with the answers of a trusted implementation stored beside it
#[derive(Debug, Args)]
#[command(after_help = "\
The answers lie in glimmer-golden.safetensors beside the weights. Exit status 1 says that something differs; the \
first layer that does is named. A file made with --make holds this program's own answers: it shows that something \
changed, not that it was right.

Examples:
  glimmer verify fixtures/chatglm3-6b
  glimmer verify glm-4-9b-chat.Q8_0.gguf --golden glm-4-9b-chat/glimmer-golden.safetensors --tolerance 0.5
  glimmer verify glm-edge-1.5b-chat --make")]
pub(crate) struct VerifyArgs {
    #[command(flatten)]
    pub(crate) model: ModelArgs,

    /// The file of answers [default: glimmer-golden.safetensors beside the model]
    #[arg(long, value_name = "FILE")]
    pub(crate) golden: Option<PathBuf>,

    /// The absolute difference that is allowed [default: the file's own, else 1e-4 of the largest value]
    #[arg(long, value_name = "X", value_parser = above_zero)]
    pub(crate) tolerance: Option<f32>,

    /// Write the file of answers, with what this program computes now
    #[arg(long, conflicts_with = "tolerance")]
    pub(crate) make: bool,

    /// The prompt of --make, ids separated by commas [default: a few ids spread over the vocabulary]
    #[arg(long, value_name = "IDS", requires = "make")]
    pub(crate) ids: Option<Ids>,

    /// Answer with one JSON object
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) device: DeviceArgs,
}

/// Measure a model's speed and memory, beside what the machine could do
#[derive(Debug, Args)]
#[command(after_help = "\
The words are llama-bench's: pp512 reads a prompt of 512 tokens, tg128 generates 128 tokens, @ d4096 begins with 4096
tokens in the cache (made up, not computed). A list gives a line for each value. The floor is what the machine's memory
and arithmetic allow, measured in the same minutes; the best run is shown as a part of it.

--compare runs llama-bench on the same .gguf, in turns with our own runs, and shows the ratio of the medians.
--draft answers a prompt of random tokens (-p, 64) with 128 tokens (-n), in turns with and without the draft (-r, 5).
--stress is GLM-4's stress test: a prompt of random tokens (-p, 100000), 128 tokens generated (-n), 3 times (-r).

Examples:
  glimmer bench glm-4-9b-chat.Q4_K_M.gguf
  glimmer bench glm-4-9b-chat.Q4_K_M.gguf -p 512,2048 -n 64 -d 0,16384 -r 3 --output json
  glimmer bench edge.gguf -n 0 -p 512 --compare ~/llama.cpp/build/bin/llama-bench --compare-args '-fa 1 --repack 0'
  glimmer bench glm-4-9b-chat.Q4_K_M.gguf --stress -p 100000 -n 128 -r 3")]
pub(crate) struct BenchArgs {
    #[command(flatten)]
    pub(crate) model: ModelArgs,

    /// Tokens of a prompt; 0 leaves prompts out [default: 512]
    #[arg(long, short = 'p', value_name = "N,...", value_delimiter = ',', value_parser = tokens())]
    pub(crate) n_prompt: Vec<usize>,

    /// Tokens to generate; 0 leaves generation out [default: 128]
    #[arg(long, short = 'n', value_name = "N,...", value_delimiter = ',', value_parser = tokens())]
    pub(crate) n_gen: Vec<usize>,

    /// Tokens in the cache at the start
    #[arg(long, short = 'd', value_name = "N,...", value_delimiter = ',', default_value = "0", value_parser = tokens())]
    pub(crate) n_depth: Vec<usize>,

    /// Sequences at once
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "1", value_parser = sequences())]
    pub(crate) parallel: Vec<usize>,

    /// Tokens of one step while a prompt is read [default: 256, of wide models 128 or 64; 512 on a card]
    #[arg(long, value_name = "N", value_parser = sequences())]
    pub(crate) ubatch_size: Option<usize>,

    /// How often everything is measured [default: 5; with --stress 3]
    #[arg(long, short = 'r', value_name = "N", value_parser = positive())]
    pub(crate) repetitions: Option<usize>,

    /// In which form the figures are printed
    #[arg(long, short, value_name = "FORM", default_value = "md", value_parser = one_of(FIGURES))]
    pub(crate) output: Figures,

    /// The llama-bench to compare with
    #[arg(long, value_name = "PROGRAM", conflicts_with = "quantize")]
    pub(crate) compare: Option<PathBuf>,

    /// Further flags for it, separated by blanks
    #[arg(long, value_name = "FLAGS", requires = "compare", allow_hyphen_values = true)]
    pub(crate) compare_args: Option<String>,

    /// GLM-4's stress test in place of the usual tests
    #[arg(long, conflicts_with_all = ["n_depth", "parallel", "ubatch_size", "compare"])]
    pub(crate) stress: bool,

    /// Measure answers with and without this smaller model, of the same vocabulary, that guesses how they go on
    #[arg(long, value_name = "MODEL", conflicts_with_all = ["n_depth", "parallel", "ubatch_size", "compare", "stress"])]
    pub(crate) draft: Option<PathBuf>,

    /// Take its guesses to be right so often, from 0 to 1, whatever it guesses: what a draft that good would be worth
    #[arg(long, value_name = "SHARE,...", value_delimiter = ',', requires = "draft", value_parser = share)]
    pub(crate) draft_right: Vec<f32>,

    #[command(flatten)]
    pub(crate) device: DeviceArgs,
}

/// The forms of figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Figures {
    Markdown,
    Json,
    Csv,
}

const FIGURES: [(Figures, &str); 3] =
    [(Figures::Markdown, "md"), (Figures::Json, "json"), (Figures::Csv, "csv")];
