//! Flags of the verbs between text and ids: `tokenize`, `detokenize`, `template`.

use std::path::PathBuf;

use clap::Args;
use glimmer::Family;

use super::ModelArgs;
use super::values::chat_format;

/// Turn text into token ids
#[derive(Debug, Args)]
#[command(after_help = "\
Without flags nothing is added to the text and no special token is recognised in it; only BERT always has [CLS] and \
[SEP]. With --jsonl every line {\"text\": ...} is answered by a line {\"ids\": [...], \"tokens\": [...]}, or by \
{\"error\": ...} where it cannot be.

Examples:
  glimmer tokenize glm-4-9b-chat 'Hello, world'
  glimmer tokenize glm-4-9b-chat '<|user|>' --parse-special --json
  glimmer tokenize chatglm3-6b --jsonl < texts.jsonl > ids.jsonl")]
pub(crate) struct TokenizeArgs {
    /// A directory with a tokenizer, or a .gguf file
    #[arg(value_name = "MODEL")]
    pub(crate) model: PathBuf,

    /// The text; `-`, and nothing, read standard input. With --jsonl: the file of lines
    #[arg(value_name = "TEXT")]
    pub(crate) text: Option<String>,

    /// Add what the model's own tokenizer puts before and after text, such as GLM-4's gMASK and sop
    #[arg(long)]
    pub(crate) add_special: bool,

    /// Take spellings of special tokens for these tokens
    #[arg(long)]
    pub(crate) parse_special: bool,

    #[command(flatten)]
    pub(crate) format: FormatArgs,
}

/// Turn token ids into text
#[derive(Debug, Args)]
#[command(after_help = "\
With --jsonl every line {\"ids\": [...]} is answered by a line {\"text\": ...}, or by {\"error\": ...}.

Examples:
  glimmer detokenize glm-4-9b-chat 109377,151337
  glimmer tokenize glm-4-9b-chat 'Hello' | glimmer detokenize glm-4-9b-chat
  glimmer detokenize chatglm3-6b --jsonl < ids.jsonl > texts.jsonl")]
pub(crate) struct DetokenizeArgs {
    /// A directory with a tokenizer, or a .gguf file
    #[arg(value_name = "MODEL")]
    pub(crate) model: PathBuf,

    /// The ids, separated by commas; `-`, and nothing, read standard input. With --jsonl: the file of lines
    #[arg(value_name = "IDS")]
    pub(crate) ids: Option<String>,

    /// Leave special tokens out
    #[arg(long)]
    pub(crate) skip_special: bool,

    #[command(flatten)]
    pub(crate) format: FormatArgs,
}

/// Turn a conversation into a prompt
#[derive(Debug, Args)]
#[command(after_help = "\
The file holds a list of messages, or an object with `messages` and perhaps `tools`, `enable_thinking` and \
`add_generation_prompt`. With --jsonl every line is such an object and is answered by a line \
{\"prompt\": ..., \"ids\": [...]}, or by {\"error\": ...}.

Ids take special tokens from the format alone: what a person writes never becomes one. --parse-special gives the ids \
of the models' own code, in which it does.

Examples:
  glimmer template glm-4-9b-chat messages.json --tools tools.json
  echo '[{\"role\": \"user\", \"content\": \"Hi\"}]' | glimmer template chatglm3-6b --json
  glimmer template glm-4-9b-chat --jsonl < conversations.jsonl > prompts.jsonl")]
pub(crate) struct TemplateArgs {
    #[command(flatten)]
    pub(crate) model: ModelArgs,

    /// The file of the conversation (with --jsonl: of a conversation a line); `-`, and nothing, read standard input
    #[arg(value_name = "FILE")]
    pub(crate) conversation: Option<PathBuf>,

    /// A file with a list of tools, for conversations that bring none
    #[arg(long, value_name = "FILE")]
    pub(crate) tools: Option<PathBuf>,

    /// The chat format, where the model's files do not tell
    #[arg(long, value_name = "NAME", value_parser = chat_format())]
    pub(crate) chat_format: Option<Family>,

    /// Make the ids as the models' own code does, which takes spellings of special tokens for these tokens
    #[arg(long)]
    pub(crate) parse_special: bool,

    #[command(flatten)]
    pub(crate) format: FormatArgs,
}

/// In which form to read and answer.
#[derive(Debug, Args)]
pub(crate) struct FormatArgs {
    /// Answer with one JSON object
    #[arg(long, conflicts_with = "jsonl")]
    pub(crate) json: bool,

    /// Read one JSON object a line and answer each with one
    #[arg(long)]
    pub(crate) jsonl: bool,
}
