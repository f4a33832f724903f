//! The command line as typed: verbs, flags, their help.
//!
//! Nothing is decided here beyond syntax. What a flag means for a model is said in `model.rs`, `device.rs` and
//! `commands/`; completions and man pages are generated from these definitions.

use std::path::PathBuf;
use std::str::FromStr;

use clap::builder::{FalseyValueParser, PossibleValuesParser, TypedValueParser};
use clap::{Arg, ArgAction, Args, Command, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use glimmer_chat::Format;
use glimmer_models::export::WeightTypes;
use glimmer_models::{Family, published_names};
use glimmer_tensor::{Compute, DType, KvType};

/// Run the GLM family of language models.
#[derive(Debug, Parser)]
#[command(name = "glimmer", version, max_term_width = 110)]
#[command(after_help = "\
MODEL is a directory in Hugging Face layout or a .gguf file. Results go to standard output, everything \
else to standard error. Exit status: 0 success, 1 failure, 2 wrong usage.

Every flag has an environment variable that stands in for it: GLIMMER_MAX_TOKENS for --max-tokens.")]
pub(crate) struct CommandLine {
    /// What to do
    #[command(subcommand)]
    pub(crate) verb: Verb,

    /// No progress bars and no notes; warnings and errors stay
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
}

/// What the program can be asked to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    Run(RunArgs),
    Tokenize(TokenizeArgs),
    Detokenize(DetokenizeArgs),
    Template(TemplateArgs),
    Logits(LogitsArgs),
    Inspect(InspectArgs),
    Verify(VerifyArgs),
    Convert(ConvertArgs),
    Synth(SynthArgs),
    Bench(BenchArgs),
    Completions(CompletionsArgs),
    Man(ManArgs),
}

/// Which model.
#[derive(Debug, Args)]
pub(crate) struct ModelArgs {
    /// A directory in Hugging Face layout, or a .gguf file
    #[arg(value_name = "MODEL")]
    pub(crate) path: PathBuf,

    /// The model's generation, where its files leave it open or are wrong
    #[arg(long, value_name = "NAME", value_parser = one_of(Family::NAMES))]
    pub(crate) family: Option<Family>,
}

/// On what and how precisely to compute.
#[derive(Debug, Args)]
#[command(next_help_heading = "Computation")]
pub(crate) struct DeviceArgs {
    /// What computes: `reference` is slow and plain, what the others are measured against
    #[arg(long, value_name = "NAME", default_value = "cpu", value_parser = one_of(DEVICES))]
    pub(crate) device: DeviceName,

    /// Threads to compute with [default: one per physical core]
    #[arg(long, short = 't', value_name = "N", value_parser = positive())]
    pub(crate) threads: Option<usize>,

    /// Numeric mode: `f32` decodes weights exactly and keeps all activations in f32; `auto` is fast
    #[arg(long, value_name = "MODE", value_parser = one_of(COMPUTES))]
    pub(crate) compute: Option<Compute>,

    /// Precision of the key/value cache [default: f32 with `--compute f32`, otherwise f16]
    #[arg(long, value_name = "TYPE", value_parser = one_of(KV_TYPES))]
    pub(crate) kv_type: Option<KvType>,
}

impl DeviceArgs {
    /// The flags that say the same.
    pub(crate) fn as_flags(&self) -> Vec<String> {
        fn name<T: PartialEq>(names: &[(T, &'static str)], value: T) -> String {
            names
                .iter()
                .find(|(other, _)| *other == value)
                .map_or(String::new(), |(_, name)| (*name).to_owned())
        }
        let optional = [
            ("--threads", self.threads.map(|threads| threads.to_string())),
            ("--compute", self.compute.map(|compute| name(&COMPUTES, compute))),
            ("--kv-type", self.kv_type.map(|kv_type| name(&KV_TYPES, kv_type))),
        ];
        let given = optional.into_iter().filter_map(|(flag, value)| Some([flag.to_owned(), value?]));
        given.flatten().chain(["--device".to_owned(), name(&DEVICES, self.device)]).collect()
    }
}

/// The definition of the whole command line, with a variable for every flag: `GLIMMER_MAX_TOKENS` for
/// `--max-tokens`. An empty variable counts as none.
pub(crate) fn command() -> Command {
    fn with_variable(arg: Arg) -> Arg {
        let Some(long) = arg.get_long() else { return arg };
        let name = format!("GLIMMER_{}", long.to_uppercase().replace('-', "_"));
        let arg = match arg.get_action() {
            ArgAction::SetTrue => arg.value_parser(FalseyValueParser::new()),
            _ => arg,
        };
        let empty = std::env::var_os(&name).is_some_and(|value| value.is_empty());
        if empty { arg } else { arg.env(name).hide_env(true) }
    }
    CommandLine::command().mut_args(with_variable).mut_subcommands(|verb| verb.mut_args(with_variable))
}

/// The names that `--device` takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DeviceName {
    Cpu,
    Reference,
}

const DEVICES: [(DeviceName, &str); 2] = [(DeviceName::Cpu, "cpu"), (DeviceName::Reference, "reference")];
const COMPUTES: [(Compute, &str); 2] = [(Compute::F32, "f32"), (Compute::Auto, "auto")];
pub(crate) const KV_TYPES: [(KvType, &str); 3] =
    [(KvType::F32, "f32"), (KvType::F16, "f16"), (KvType::Q8_0, "q8_0")];

/// Continue a prompt
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  glimmer run glm-4-9b-chat 'What is a tide?'
  glimmer run glm-4-9b-chat.Q4_K_M.gguf < question.txt
  glimmer run glm-4-9b --raw 'Once upon a time' --max-tokens 100 --temperature 0.8
  glimmer run glm-4-9b-chat --ids 151331,151333,151336,198,109377,151337 --print-ids")]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) model: ModelArgs,

    /// What to answer: one user message, or with --raw the text to continue. `-`, and nothing, read it from
    /// standard input, less one line break at its end
    #[arg(value_name = "PROMPT")]
    pub(crate) prompt: Option<String>,

    /// Continue the text as it is, without a chat format; what the tokenizer puts around text is added
    #[arg(long)]
    pub(crate) raw: bool,

    /// The chat format, where the model's files do not tell
    #[arg(long, value_name = "NAME", conflicts_with = "raw", value_parser = chat_format())]
    pub(crate) chat_format: Option<Format>,

    /// Take spellings of special tokens in the prompt for these tokens, as the models' own code does
    #[arg(long)]
    pub(crate) parse_special: bool,

    /// Ids to continue, separated by commas; nothing is added to them. `-` reads them from standard input
    #[arg(long, value_name = "IDS", conflicts_with_all = ["prompt", "raw", "chat_format", "parse_special"])]
    pub(crate) ids: Option<Ids>,

    /// Print the new ids, separated by commas, in place of text
    #[arg(long)]
    pub(crate) print_ids: bool,

    /// End after this many new tokens [default: when the context is full]
    #[arg(long, short = 'n', value_name = "N")]
    pub(crate) max_tokens: Option<usize>,

    /// Sampling temperature; 0 always takes the likeliest token
    #[arg(long, value_name = "T", default_value = "0", value_parser = temperature)]
    pub(crate) temperature: f32,

    /// Seed of the random choices [default: another one each time, which is noted]
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,

    /// Do not end at an end-of-text token
    #[arg(long)]
    pub(crate) ignore_eos: bool,

    /// Tokens that prompt and answer may have together, or `max` [default: what the model was trained for, at most 8192]
    #[arg(long, value_name = "N")]
    pub(crate) ctx: Option<ContextLength>,

    #[command(flatten)]
    pub(crate) device: DeviceArgs,
}

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
    pub(crate) chat_format: Option<Format>,

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
    #[arg(long, value_name = "N")]
    pub(crate) ctx: Option<ContextLength>,

    /// Precision of the key/value cache
    #[arg(long, value_name = "TYPE", default_value = "f16", value_parser = one_of(KV_TYPES))]
    pub(crate) kv_type: KvType,

    /// Answer with one JSON object
    #[arg(long)]
    pub(crate) json: bool,
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
    #[arg(long, value_name = "X", value_parser = tolerance)]
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

    /// Threads to encode with [default: all]
    #[arg(long, short = 't', value_name = "N", value_parser = positive())]
    pub(crate) threads: Option<usize>,
}

/// Write a model of random weights with a published model's shapes, to measure with
#[derive(Debug, Args)]
#[command(after_help = "\
OUT ends in .gguf: TYPE is any that `convert` writes, or IQ4_NL or IQ4_XS. OUT is anything else: a directory, TYPE is \
F32, F16 or BF16, and for chatglm-6b INT8 or INT4 as well. The same seed gives the same bytes.

GLM-4's vocabulary comes along; GLM-Edge's is one of the same size; ChatGLM's are left out.

Examples:
  glimmer synth glm-edge-1.5b-chat --type Q4_K_M -o edge.gguf
  glimmer synth glm-4-9b-chat -o glm-4-9b-random
  glimmer synth chatglm-6b --type INT4 -o chatglm-6b-int4-random")]
pub(crate) struct SynthArgs {
    /// The published model
    #[arg(value_name = "NAME", value_parser = published_name())]
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

/// Measure a model's speed and memory, beside what the machine could do
#[derive(Debug, Args)]
#[command(after_help = "\
The words are llama-bench's: pp512 reads a prompt of 512 tokens, tg128 generates 128 tokens, @ d4096 begins with 4096
tokens in the cache (made up, not computed). A list gives a line for each value. The floor is what the machine's memory
and arithmetic allow, measured in the same minutes; the best run is shown as a part of it.

--compare runs llama-bench on the same .gguf, in turns with our own runs, and shows the ratio of the medians.
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

    /// Tokens of one step while a prompt is read
    #[arg(long, value_name = "N", default_value = "512", value_parser = sequences())]
    pub(crate) ubatch_size: usize,

    /// How often everything is measured [default: 5; with --stress 3]
    #[arg(long, short = 'r', value_name = "N", value_parser = positive())]
    pub(crate) repetitions: Option<usize>,

    /// In which form the figures are printed
    #[arg(long, short, value_name = "FORM", default_value = "md", value_parser = one_of(FIGURES))]
    pub(crate) output: Figures,

    /// The llama-bench to compare with
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) compare: Option<PathBuf>,

    /// Further flags for it, separated by blanks
    #[arg(long, value_name = "FLAGS", requires = "compare", allow_hyphen_values = true)]
    pub(crate) compare_args: Option<String>,

    /// GLM-4's stress test in place of the usual tests
    #[arg(long, conflicts_with_all = ["n_depth", "parallel", "ubatch_size", "compare"])]
    pub(crate) stress: bool,

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

/// Print a completion script for a shell
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  glimmer completions bash > ~/.local/share/bash-completion/completions/glimmer
  glimmer completions zsh > ~/.zfunc/_glimmer
  glimmer completions fish > ~/.config/fish/completions/glimmer.fish")]
pub(crate) struct CompletionsArgs {
    /// The shell
    pub(crate) shell: Shell,
}

/// Print a man page
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  glimmer man | man -l -
  glimmer man run > ~/.local/share/man/man1/glimmer-run.1")]
pub(crate) struct ManArgs {
    /// The verb whose page to print [default: the program's own]
    #[arg(value_name = "VERB")]
    pub(crate) verb: Option<String>,
}

/// Token ids as typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ids {
    /// On the command line.
    Given(Vec<u32>),
    /// On standard input.
    Stdin,
}

impl FromStr for Ids {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.trim() == "-" { Ok(Ids::Stdin) } else { parse_ids(text).map(Ids::Given) }
    }
}

/// Ids separated by commas or white space, perhaps in brackets as JSON has them.
pub(crate) fn parse_ids(text: &str) -> Result<Vec<u32>, String> {
    let text = text.trim();
    let inner = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    let words = inner.split(|c: char| c == ',' || c.is_whitespace()).filter(|word| !word.is_empty());
    words
        .map(|word| {
            let shown: String = word.escape_debug().take(40).collect();
            word.parse().map_err(|_| format!("{shown:?} is no token id (a whole number below 4294967296)"))
        })
        .collect()
}

/// A context as typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ContextLength {
    /// This many tokens.
    Tokens(usize),
    /// As many as the model was trained for.
    Trained,
}

impl FromStr for ContextLength {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            _ if text == "max" => Ok(ContextLength::Trained),
            // 2^30 is more than any position a rotary table has.
            Ok(tokens) if (1..=1 << 30).contains(&tokens) => Ok(ContextLength::Tokens(tokens)),
            _ => Err("a number of tokens from 1 to 1073741824, or `max`".to_owned()),
        }
    }
}

/// A parser of the names of chat formats.
fn chat_format() -> impl TypedValueParser<Value = Format> {
    one_of(Format::ALL.map(|format| (format, format.name())))
}

/// A parser of one of the given names.
fn one_of<T, const N: usize>(names: [(T, &'static str); N]) -> impl TypedValueParser<Value = T>
where
    T: Copy + Send + Sync + 'static,
{
    let spellings = names.map(|(_, name)| name);
    PossibleValuesParser::new(spellings).map(move |given| {
        let found = names.iter().find(|(_, name)| *name == given);
        found.expect("clap has checked that it is one of the names").0
    })
}

fn weight_types(text: &str) -> Result<WeightTypes, String> {
    WeightTypes::from_name(text).ok_or_else(|| {
        let names: Vec<_> = WeightTypes::names().collect();
        let why = if text.to_ascii_uppercase().starts_with("IQ") {
            "IQ types are read, but not written; "
        } else {
            ""
        };
        format!("{why}one of {}", names.join(", "))
    })
}

/// Types that have no encoder, but that random weights may have.
fn any_weight_types(text: &str) -> Result<WeightTypes, String> {
    let others = [DType::IQ4_NL, DType::IQ4_XS, DType::RowI8, DType::RowI4];
    let other = others.into_iter().find(|dtype| dtype.name().eq_ignore_ascii_case(text));
    let known = other.map(WeightTypes::One).or_else(|| WeightTypes::from_name(text));
    known.ok_or_else(|| {
        let names: Vec<_> = WeightTypes::names().chain(others.map(DType::name)).collect();
        format!("one of {}", names.join(", "))
    })
}

/// A parser of the names of published models.
fn published_name() -> impl TypedValueParser<Value = &'static str> {
    PossibleValuesParser::new(published_names().collect::<Vec<_>>()).map(|given| {
        published_names().find(|name| *name == given).expect("clap has checked that it is one of the names")
    })
}

/// A number of tokens that memory can hold at all.
fn tokens() -> impl TypedValueParser<Value = usize> {
    clap::value_parser!(u32).range(..=1 << 24).map(|n| n as usize)
}

/// A number of rows of one step.
fn sequences() -> impl TypedValueParser<Value = usize> {
    clap::value_parser!(u32).range(1..=1 << 14).map(|n| n as usize)
}

fn positive() -> impl TypedValueParser<Value = usize> {
    clap::value_parser!(u32).range(1..).map(|n| n as usize)
}

fn temperature(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(t) if t.is_finite() && t >= 0.0 => Ok(t),
        _ => Err("a number from 0 up".to_owned()),
    }
}

fn tolerance(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(t) if t.is_finite() && t > 0.0 => Ok(t),
        _ => Err("a number above 0".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_hold_together() {
        command().debug_assert();
    }

    #[test]
    fn every_flag_has_a_variable_of_its_name() {
        let mut commands = vec![command()];
        while let Some(command) = commands.pop() {
            for arg in command.get_arguments() {
                let Some(long) = arg.get_long().filter(|name| !["help", "version"].contains(name)) else {
                    continue;
                };
                let expected = format!("GLIMMER_{}", long.to_uppercase().replace('-', "_"));
                let found = arg.get_env().map(|name| name.to_string_lossy().into_owned());
                assert_eq!(found, Some(expected), "--{long} of {}", command.get_name());
            }
            commands.extend(command.get_subcommands().cloned());
        }
    }

    #[test]
    fn every_verb_has_examples() {
        for verb in command().get_subcommands() {
            let help = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains(&format!("glimmer {}", verb.get_name())), "{}", verb.get_name());
        }
    }

    #[test]
    fn ids_in_every_form() {
        let given = |ids: &[u32]| Ok(Ids::Given(ids.to_vec()));
        assert_eq!("1,2,3".parse(), given(&[1, 2, 3]));
        assert_eq!(" [1, 2,\n3]\n".parse(), given(&[1, 2, 3]));
        assert_eq!("1 2\t3".parse(), given(&[1, 2, 3]));
        assert_eq!("".parse(), given(&[]));
        assert_eq!("-".parse(), Ok(Ids::Stdin));
        for wrong in ["x", "-1", "1,-2", "4294967296", "1.5", "1;2"] {
            assert!(wrong.parse::<Ids>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn context_lengths() {
        assert_eq!("max".parse(), Ok(ContextLength::Trained));
        assert_eq!("4096".parse(), Ok(ContextLength::Tokens(4096)));
        for wrong in ["0", "-1", "1e6", "", "1073741825"] {
            assert!(wrong.parse::<ContextLength>().is_err(), "{wrong}");
        }
    }
}
