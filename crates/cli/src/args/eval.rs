//! Flags of `eval`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use glimmer::Family;
use glimmer_train::data::Columns;

use super::values::{chat_format, positive};
use super::{DeviceArgs, ModelArgs};

/// Say how good a model's answers are
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  glimmer eval generation glm-4-9b-chat --data dev.jsonl --greedy
  glimmer eval generation demo --lora town --data town-questions.jsonl --max-tokens 64")]
pub(crate) struct EvalArgs {
    #[command(subcommand)]
    pub(crate) what: Evaluation,
}

/// What is looked at.
#[derive(Debug, Subcommand)]
pub(crate) enum Evaluation {
    Generation(GenerationArgs),
}

/// Answer the questions of a file and compare with the answers that are there: BLEU-4, ROUGE-1, -2 and -L
#[derive(Debug, Args)]
#[command(after_help = "\
FILE is what `train` takes: conversations, or questions and answers in columns. The protocol is that of ChatGLM-6B's \
ptuning/main.py: answers are sampled (top_p 0.7, temperature 0.95), BLEU-4 is of characters (nltk, smoothing method 3), ROUGE of \
words (jieba, rouge_chinese), all times 100. --max-source-length and --max-target-length cut as it does.

Every answer goes to DIR/generated_predictions.txt, a line {\"labels\": ..., \"predict\": ...} in the order of the file.

Examples:
  glimmer eval generation glm-4-9b-chat --data dev.jsonl --greedy
  glimmer eval generation chatglm-6b-int4 --data AdvertiseGen/dev.json --max-source-length 64 --max-target-length 64
  glimmer eval generation demo --lora town --data town-questions.jsonl --max-tokens 64 --json | jq '.\"rouge-l\"'")]
pub(crate) struct GenerationArgs {
    #[command(flatten)]
    pub(crate) model: ModelArgs,

    /// Questions and the answers that they should get
    #[arg(long, value_name = "FILE")]
    pub(crate) data: PathBuf,

    /// An adapter of the model: a directory of PEFT's (LoRA) or of ChatGLM's P-Tuning v2
    #[arg(long, value_name = "PATH")]
    pub(crate) lora: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) columns: ColumnArgs,

    /// Where generated_predictions.txt is written
    #[arg(long, short, value_name = "DIR", default_value = ".")]
    pub(crate) output: PathBuf,

    /// The most questions that are asked [default: all]
    #[arg(long, value_name = "N", value_parser = positive())]
    pub(crate) max_samples: Option<usize>,

    /// Cut prompts to so many tokens
    #[arg(long, value_name = "N", value_parser = positive())]
    pub(crate) max_source_length: Option<usize>,

    /// Compare with so many tokens of each answer
    #[arg(long, value_name = "N", value_parser = positive())]
    pub(crate) max_target_length: Option<usize>,

    /// The most tokens of an answer
    #[arg(long, short = 'n', value_name = "N", default_value = "512", value_parser = positive())]
    pub(crate) max_tokens: usize,

    /// Always take the likeliest token, in place of sampling
    #[arg(long)]
    pub(crate) greedy: bool,

    /// Of the random choices
    #[arg(long, value_name = "N", default_value = "42")]
    pub(crate) seed: u64,

    /// Answers that are written at the same time
    #[arg(long, value_name = "N", default_value = "8", value_parser = positive())]
    pub(crate) parallel: usize,

    /// The chat format, where the model's files do not tell
    #[arg(long, value_name = "NAME", value_parser = chat_format())]
    pub(crate) chat_format: Option<Family>,

    /// Answer with one JSON object
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) device: DeviceArgs,
}

/// Which columns of a file hold what.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Columns")]
pub(crate) struct ColumnArgs {
    /// The question's column [default: prompt or content]
    #[arg(long, value_name = "NAME")]
    pub(crate) prompt_column: Option<String>,

    /// The answer's column [default: response or summary]
    #[arg(long, value_name = "NAME")]
    pub(crate) response_column: Option<String>,

    /// The column of earlier rounds [default: history, where it is there]
    #[arg(long, value_name = "NAME")]
    pub(crate) history_column: Option<String>,

    /// Text before every question
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(crate) source_prefix: String,
}

impl ColumnArgs {
    /// As the library is told.
    pub(crate) fn columns(&self) -> Columns {
        Columns {
            prompt: self.prompt_column.clone(),
            response: self.response_column.clone(),
            history: self.history_column.clone(),
            source_prefix: self.source_prefix.clone(),
        }
    }
}
