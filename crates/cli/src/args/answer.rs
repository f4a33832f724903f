//! Flags of the verbs that answer: `chat` and `run`.

use std::path::{Path, PathBuf};

use clap::Args;
use glimmer::{ContextLength, Family, RepetitionDetection};

use super::values::{
    Ids, above_zero, chat_format, context_length, finite, from_zero, is_like_published, logit_bias, one_of,
    repetition_detection, share, tool_command, top_p,
};
use super::{DeviceArgs, ModelArgs};

/// How tokens are chosen, and where an answer ends.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Sampling (defaults: the model's own)")]
pub(crate) struct SamplingArgs {
    /// End after this many new tokens [default: when the context is full]
    #[arg(long, short = 'n', value_name = "N")]
    pub(crate) max_tokens: Option<usize>,

    /// End before this text; may be given several times
    #[arg(long, value_name = "TEXT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub(crate) stop: Vec<String>,

    /// End when the last tokens are COUNT times a pattern of MIN to MAX tokens (MIN: 1), or a tool call was made COUNT times
    #[arg(long, value_name = "[MIN-]MAX,COUNT", value_parser = repetition_detection)]
    pub(crate) repetition_detection: Option<RepetitionDetection>,

    /// Sampling temperature; 0 always takes the likeliest token
    #[arg(long, value_name = "T", value_parser = from_zero)]
    pub(crate) temperature: Option<f32>,

    /// Choose among this many likeliest tokens; 0 among all
    #[arg(long, value_name = "N")]
    pub(crate) top_k: Option<usize>,

    /// Choose among the likeliest tokens that together have this probability
    #[arg(long, value_name = "P", value_parser = top_p)]
    pub(crate) top_p: Option<f32>,

    /// Choose among tokens at least this probable, relative to the likeliest
    #[arg(long, value_name = "P", value_parser = share)]
    pub(crate) min_p: Option<f32>,

    /// Make tokens of prompt and answer less likely by this factor; 1 does nothing
    #[arg(long, value_name = "X", value_parser = above_zero)]
    pub(crate) repetition_penalty: Option<f32>,

    /// Lower the logits of tokens of the answer by this
    #[arg(long, value_name = "X", value_parser = finite, allow_hyphen_values = true)]
    pub(crate) presence_penalty: Option<f32>,

    /// Lower the logits of tokens of the answer by this, as often as they occur
    #[arg(long, value_name = "X", value_parser = finite, allow_hyphen_values = true)]
    pub(crate) frequency_penalty: Option<f32>,

    /// Add to the logits of ids
    #[arg(long, value_name = "ID=X,...", value_delimiter = ',', value_parser = logit_bias)]
    pub(crate) logit_bias: Vec<(u32, f32)>,

    /// Seed of the random choices [default: another one each time]
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
}

/// What `chat` does when the context is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnFull {
    /// The answer ends there.
    Stop,
    /// The oldest rounds are forgotten.
    Slide,
}

pub(crate) const ON_FULL: [(OnFull, &str); 2] = [(OnFull::Stop, "stop"), (OnFull::Slide, "slide")];

/// Talk to a model in the terminal
#[derive(Debug, Args)]
#[command(after_help = "\
`/help` lists the commands of the conversation; `clear` forgets it, `stop` ends it. Ctrl-C stops an answer, twice it ends \
the conversation. Lines that come through a pipe are answered one after the other.

Examples:
  glimmer chat
  glimmer chat glm-edge-1.5b-chat --system 'Answer in one sentence.'
  glimmer chat glm-4-9b-chat.Q4_K_M.gguf --ctx max --on-full slide
  glimmer chat glm-4-9b-chat --tools tools.json --tool-command get_weather=./weather.py
  printf '%s\\n' 'Hello!' '3 + 4?' | glimmer chat --quiet")]
pub(crate) struct ChatArgs {
    /// A directory in Hugging Face layout, a .gguf file, or `demo`
    #[arg(value_name = "MODEL", default_value = glimmer::DEMO)]
    pub(crate) path: PathBuf,

    /// The model's generation, where its files leave it open or are wrong
    #[arg(long, value_name = "NAME", value_parser = one_of(Family::NAMES))]
    pub(crate) family: Option<Family>,

    /// The chat format, where the model's files do not tell
    #[arg(long, value_name = "NAME", value_parser = chat_format())]
    pub(crate) chat_format: Option<Family>,

    /// The standing instruction that the conversation begins with
    #[arg(long, value_name = "TEXT")]
    pub(crate) system: Option<String>,

    /// A file with a list of tools. A call is shown, and the next line is taken for its result
    #[arg(long, value_name = "FILE")]
    pub(crate) tools: Option<PathBuf>,

    /// A program of this machine that a tool is; may be given several times. For a call it is asked whether to run it; then
    /// it reads the arguments as JSON from standard input, and what it prints is the result
    #[arg(long = "tool-command", value_name = "NAME=PROGRAM", value_parser = tool_command)]
    pub(crate) tool_commands: Vec<(String, PathBuf)>,

    /// Go on with a conversation that `/save` stored
    #[arg(long, value_name = "FILE")]
    pub(crate) load: Option<PathBuf>,

    /// Tokens that the conversation may have, or `max` [default: what the model was trained for, at most 8192]
    #[arg(long, value_name = "N", value_parser = context_length)]
    pub(crate) ctx: Option<ContextLength>,

    /// Close the reasoning after this many tokens of an answer; 0 has the model not think [default: as long as it likes]
    #[arg(long, value_name = "N")]
    pub(crate) thinking_budget: Option<usize>,

    /// When the context is full: `stop` the answer, or `slide`: forget the oldest rounds
    #[arg(long, value_name = "WHAT", default_value = "stop", value_parser = one_of(ON_FULL))]
    pub(crate) on_full: OnFull,

    /// Do not store what is typed for the next run
    #[arg(long)]
    pub(crate) no_history: bool,

    /// A smaller model of the same vocabulary that guesses how answers go on. They stay the same, and come sooner where it is
    /// often right; where it is not it is not asked
    #[arg(long, value_name = "MODEL")]
    pub(crate) draft: Option<PathBuf>,

    /// The file of a GGUF's vision tower [default: `mmproj-NAME.gguf` beside the model, or the only one in its folder]
    #[arg(long, value_name = "FILE")]
    pub(crate) mmproj: Option<PathBuf>,

    /// An adapter of the model: a directory of PEFT's (LoRA) or of ChatGLM's P-Tuning v2
    #[arg(long, value_name = "PATH")]
    pub(crate) lora: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) sampling: SamplingArgs,

    #[command(flatten)]
    pub(crate) device: DeviceArgs,
}

impl ChatArgs {
    /// The model, as the other verbs name it.
    pub(crate) fn model(&self) -> ModelArgs {
        ModelArgs { path: self.path.clone(), family: self.family }
    }
}

/// Answer a message, or continue a text
#[derive(Debug, Args)]
#[command(after_help = "\
With --json the answer is one JSON object with text, reasoning and tool calls, why it ended, tokens, seconds and the \
sampling that was used.

Examples:
  glimmer run 'What is a tide?'
  glimmer run glm-4-9b-chat 'What is a tide?'
  glimmer run glm-4.1v-9b-thinking -i harbour.jpg 'Is it high tide?'
  glimmer run glm-4-9b-chat.Q4_K_M.gguf --system 'Answer like a sailor.' < question.txt
  glimmer run glm-4-9b --raw 'Once upon a time' --max-tokens 100 --temperature 0.8
  glimmer run demo 'What can you do?' --json | jq .usage
  glimmer run glm-4-9b-chat 'Who wrote Hamlet, and when?' --json-schema play.json
  glimmer run glm-4-9b-chat --ids 151331,151333,151336,198,109377,151337 --print-ids")]
pub(crate) struct RunArgs {
    /// A directory in Hugging Face layout, a .gguf file, or `demo` [default: demo, also where the only argument is no
    /// model: it is PROMPT then]
    #[arg(value_name = "MODEL")]
    pub(crate) path: Option<PathBuf>,

    /// The model's generation, where its files leave it open or are wrong
    #[arg(long, value_name = "NAME", value_parser = one_of(Family::NAMES))]
    pub(crate) family: Option<Family>,

    /// What to answer: one user message, or with --raw the text to continue. `-`, and nothing, read it from
    /// standard input, less one line break at its end
    #[arg(value_name = "PROMPT")]
    pub(crate) prompt: Option<String>,

    /// The standing instruction before the message
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["raw", "ids"])]
    pub(crate) system: Option<String>,

    /// A picture for a model that sees; may be given several times. A folder of frames, a GIF and a WebP that move are videos where
    /// the model takes them
    #[arg(long = "image", short = 'i', value_name = "PATH", conflicts_with_all = ["raw", "ids", "parse_special"])]
    pub(crate) images: Vec<PathBuf>,

    /// A file with a list of tools that the model may call
    #[arg(long, value_name = "FILE", conflicts_with_all = ["raw", "ids"])]
    pub(crate) tools: Option<PathBuf>,

    /// A file with a JSON schema that the answer is to fit
    #[arg(long, value_name = "FILE", conflicts_with_all = ["grammar", "print_ids"])]
    pub(crate) json_schema: Option<PathBuf>,

    /// A file with a grammar of the answer: llama.cpp's notation (rules with `::=`, the first is `root`) or Lark's (`start`)
    #[arg(long, value_name = "FILE", conflicts_with = "print_ids")]
    pub(crate) grammar: Option<PathBuf>,

    /// Continue the text as it is, without a chat format; what the tokenizer puts around text is added
    #[arg(long)]
    pub(crate) raw: bool,

    /// The chat format, where the model's files do not tell
    #[arg(long, value_name = "NAME", conflicts_with = "raw", value_parser = chat_format())]
    pub(crate) chat_format: Option<Family>,

    /// Take spellings of special tokens in the prompt for these tokens, as the models' own code does
    #[arg(long)]
    pub(crate) parse_special: bool,

    /// Ids to continue, separated by commas; nothing is added to them. `-` reads them from standard input
    #[arg(long, value_name = "IDS", conflicts_with_all = ["prompt", "raw", "chat_format", "parse_special"])]
    pub(crate) ids: Option<Ids>,

    /// Print the new ids, separated by commas, in place of text
    #[arg(long, conflicts_with = "stop")]
    pub(crate) print_ids: bool,

    /// Answer with one JSON object
    #[arg(long, conflicts_with = "print_ids")]
    pub(crate) json: bool,

    /// Add each token's log-probability to the JSON object, and those of the N likeliest tokens in its place
    #[arg(long, value_name = "N", requires = "json", value_parser = clap::value_parser!(u32).range(..=1000))]
    pub(crate) logprobs: Option<u32>,

    /// Close the reasoning after this many tokens of the answer; 0 has the model not think [default: as long as it likes]
    #[arg(long, value_name = "N", conflicts_with_all = ["raw", "ids", "print_ids"])]
    pub(crate) thinking_budget: Option<usize>,

    /// Do not end at an end-of-text token
    #[arg(long)]
    pub(crate) ignore_eos: bool,

    /// Tokens that prompt and answer may have together, or `max` [default: what the model was trained for, at most 8192]
    #[arg(long, value_name = "N", value_parser = context_length)]
    pub(crate) ctx: Option<ContextLength>,

    /// A smaller model of the same vocabulary that guesses how answers go on. They stay the same, and come sooner where it is
    /// often right; where it is not it is not asked
    #[arg(long, value_name = "MODEL")]
    pub(crate) draft: Option<PathBuf>,

    /// The file of a GGUF's vision tower [default: `mmproj-NAME.gguf` beside the model, or the only one in its folder]
    #[arg(long, value_name = "FILE")]
    pub(crate) mmproj: Option<PathBuf>,

    /// An adapter of the model: a directory of PEFT's (LoRA) or of ChatGLM's P-Tuning v2
    #[arg(long, value_name = "PATH")]
    pub(crate) lora: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) sampling: SamplingArgs,

    #[command(flatten)]
    pub(crate) device: DeviceArgs,
}

impl RunArgs {
    /// The model and the prompt that were meant: a lone argument that names no model is a prompt for the demo.
    pub(crate) fn meant(&self) -> (ModelArgs, Option<&str>) {
        let model = |path: &Path| ModelArgs { path: path.to_owned(), family: self.family };
        let (path, prompt) = (self.path.as_deref(), self.prompt.as_deref());
        let lone = path.and_then(Path::to_str).filter(|_| prompt.is_none() && self.ids.is_none());
        match lone {
            Some(text) if !names_model(text) => (model(Path::new(glimmer::DEMO)), Some(text)),
            _ => (model(path.unwrap_or(Path::new(glimmer::DEMO))), prompt),
        }
    }
}

/// Whether this is the demo's name, a path, or looks like one of a model that is not there.
fn names_model(text: &str) -> bool {
    if text == glimmer::DEMO || Path::new(text).exists() {
        return true;
    }
    let lower = text.to_lowercase();
    let has = |endings: &[&str]| endings.iter().any(|ending| lower.ends_with(ending));
    let looks = lower.contains('/') || has(&[".gguf", ".safetensors", ".bin"]) || is_like_published(&lower);
    looks && !text.contains(char::is_whitespace)
}

#[cfg(test)]
mod tests {
    use super::names_model;

    #[test]
    fn questions_are_no_models() {
        for question in ["Hello", "What is a tide?", "1/2 or 2/3?", "你好", "glm-4 is what?", "", "-", "Hi."]
        {
            assert!(!names_model(question), "{question:?}");
        }
        for model in ["demo", "src", "glm-4-9b-chat", "GLM-4.7-Flash", "chatglm3-6b", "./x", "m.Q4_K.gguf"] {
            assert!(names_model(model), "{model:?}");
        }
    }
}
