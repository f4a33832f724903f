//! Flags of the verbs that are Xinference's: `launch`, `terminate`, `engine`, `registrations`, `register`, `unregister`,
//! `cached`, `remove-cache`, `cal-model-mem`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, CommandFactory};

use super::CommandLine;
use super::values::{positive, tokens};

/// The server that is asked.
#[derive(Debug, Args)]
#[command(next_help_heading = "Server")]
pub(crate) struct EndpointArgs {
    /// The server's address [default: XINFERENCE_ENDPOINT, or http://127.0.0.1:9997]
    #[arg(long, short, value_name = "URL")]
    pub(crate) endpoint: Option<String>,

    /// A key of the server's, where it wants one. Also written -ak [default: XINFERENCE_API_KEY]
    #[arg(long, value_name = "KEY", hide_env_values = true)]
    pub(crate) api_key: Option<String>,
}

/// A kind of models.
const TYPES: [&str; 3] = ["LLM", "embedding", "rerank"];

/// Launch a model by name on a running server
#[derive(Debug, Args)]
#[command(after_help = "\
The model's uid is printed when it is ready; requests name it. Every engine's name means Glimmer's own engine. Ctrl-C cancels \
the launch. Any other `--key value` is told to the server, which refuses what means nothing to it: `--max_model_len 4096` is \
a context.

Examples:
  glimmer launch --model-engine llama.cpp --model-name glm-edge-chat --size-in-billions 1_5 --model-format ggufv2 \
--quantization Q4_K_M
  glimmer launch -en transformers -n glm-edge-chat -s 4 -f pytorch -q none -u edge
  glimmer launch -n text2vec -t embedding --model-path text2vec-base-chinese
  glimmer launch -n ms-marco -t rerank --model-path ms-marco-MiniLM-L6-v2")]
pub(crate) struct LaunchArgs {
    /// The model's name, as `glimmer list` has it
    #[arg(long, short = 'n', value_name = "NAME")]
    pub(crate) model_name: String,

    /// The kind of model
    #[arg(long, short = 't', value_name = "TYPE", default_value = "LLM", value_parser = TYPES)]
    pub(crate) model_type: String,

    /// The engine: transformers, vllm, sglang, llama.cpp or mlx, all of which mean the one that is here. Also written -en
    #[arg(long, value_name = "ENGINE")]
    pub(crate) model_engine: Option<String>,

    /// What requests call the model [default: its name]
    #[arg(long, short = 'u', value_name = "UID")]
    pub(crate) model_uid: Option<String>,

    /// Billions of parameters: 1_5 is 1.5
    #[arg(long, short = 's', value_name = "N")]
    pub(crate) size_in_billions: Option<String>,

    /// pytorch or ggufv2
    #[arg(long, short = 'f', value_name = "FORMAT")]
    pub(crate) model_format: Option<String>,

    /// The quantization of that format. Also written -q
    #[arg(long, value_name = "TYPE")]
    pub(crate) quantization: Option<String>,

    /// Conversations of full length that there is to be room for
    #[arg(long, short = 'r', value_name = "N", default_value = "1", value_parser = positive())]
    pub(crate) replica: usize,

    /// Machines; there is one
    #[arg(long, value_name = "N", default_value = "1", value_parser = positive())]
    pub(crate) n_worker: usize,

    /// Cards: `auto`, `none`, or a number
    #[arg(long, value_name = "N", default_value = "auto")]
    pub(crate) n_gpu: String,

    /// The model's files, where they are on the server already. Also written -mp
    #[arg(long, value_name = "PATH")]
    pub(crate) model_path: Option<PathBuf>,

    /// The hub that the files are fetched from: huggingface or modelscope [default: the one that answers first]
    #[arg(long, value_name = "HUB")]
    pub(crate) download_hub: Option<String>,

    /// Accept the model's licence without being asked
    #[arg(long)]
    pub(crate) accept_licence: bool,

    #[command(flatten)]
    pub(crate) server: EndpointArgs,

    #[command(flatten)]
    pub(crate) foreign: ForeignArgs,
}

/// What Xinference's engines have, and is refused by name where it asks for something.
#[derive(Debug, Args)]
#[command(next_help_heading = "Of Xinference's own engines")]
pub(crate) struct ForeignArgs {
    /// An adapter: its name and its path. Also written -lm
    #[arg(long, num_args = 2, value_names = ["NAME", "PATH"])]
    pub(crate) lora_modules: Vec<String>,

    /// Of image models. Also written -ld
    #[arg(long, num_args = 2, value_names = ["KEY", "VALUE"], hide = true)]
    pub(crate) image_lora_load_kwargs: Vec<String>,

    /// Of image models. Also written -fd
    #[arg(long, num_args = 2, value_names = ["KEY", "VALUE"], hide = true)]
    pub(crate) image_lora_fuse_kwargs: Vec<String>,

    /// For bitsandbytes: --quantization says it here. Also written -qc
    #[arg(long, num_args = 2, value_names = ["KEY", "VALUE"], hide = true)]
    pub(crate) quantization_config: Vec<String>,

    /// The machine that the model is to be on
    #[arg(long, value_name = "ADDRESS", hide = true)]
    pub(crate) worker_ip: Option<String>,

    /// Cards, by their numbers
    #[arg(long, value_name = "N,...", hide = true)]
    pub(crate) gpu_idx: Option<String>,

    /// Taken and without effect: no code of a repository is ever run
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", hide = true)]
    pub(crate) trust_remote_code: Option<String>,

    /// Whether to think, which each request says here
    #[arg(long, hide = true)]
    pub(crate) enable_thinking: bool,

    /// An environment for Python, which is not here
    #[arg(long, hide = true)]
    pub(crate) enable_virtual_env: bool,

    /// Taken: there is none
    #[arg(long, hide = true)]
    pub(crate) disable_virtual_env: bool,

    /// A package for Python. Also written -vp
    #[arg(long, value_name = "PACKAGE", hide = true)]
    pub(crate) virtual_env_package: Vec<String>,

    /// Where packages for Python are
    #[arg(long, value_name = "PATH", hide = true)]
    pub(crate) virtual_env_find_link: Vec<String>,

    /// A variable for a process of its own. Also written -ev
    #[arg(long, num_args = 2, value_names = ["KEY", "VALUE"], hide = true)]
    pub(crate) env: Vec<String>,

    /// Any other `--key value`, as `KEY=VALUE`
    #[arg(long, value_name = "KEY=VALUE", hide = true)]
    pub(crate) engine_option: Vec<String>,
}

/// Terminate a model on a running server
#[derive(Debug, Args)]
#[command(after_help = "\
Answers in progress go on to their end.

Examples:
  glimmer terminate --model-uid glm-edge-chat")]
pub(crate) struct TerminateArgs {
    /// What requests call the model
    #[arg(long, short = 'u', value_name = "UID")]
    pub(crate) model_uid: String,

    #[command(flatten)]
    pub(crate) server: EndpointArgs,
}

/// Show in which engines, formats and quantizations a model can be launched
#[derive(Debug, Args)]
#[command(after_help = "\
Every engine means Glimmer's own.

Examples:
  glimmer engine -n glm-edge-chat
  glimmer engine -n glm-edge-chat -en llama.cpp -s 1_5 -q Q4_K_M")]
pub(crate) struct EngineArgs {
    /// The model's name
    #[arg(long, short = 'n', value_name = "NAME")]
    pub(crate) model_name: String,

    /// Only this engine. Also written -en
    #[arg(long, value_name = "ENGINE")]
    pub(crate) model_engine: Option<String>,

    /// Only this format
    #[arg(long, short = 'f', value_name = "FORMAT")]
    pub(crate) model_format: Option<String>,

    /// Only this size
    #[arg(long, short = 's', value_name = "N")]
    pub(crate) model_size_in_billions: Option<String>,

    /// Only this quantization. Also written -q
    #[arg(long, value_name = "TYPE")]
    pub(crate) quantization: Option<String>,

    #[command(flatten)]
    pub(crate) server: EndpointArgs,
}

/// List the models that can be launched on a running server
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  glimmer registrations
  glimmer registrations -t embedding")]
pub(crate) struct RegistrationsArgs {
    /// The kind of models
    #[arg(long, short = 't', value_name = "TYPE", default_value = "LLM", value_parser = TYPES)]
    pub(crate) model_type: String,

    #[command(flatten)]
    pub(crate) server: EndpointArgs,
}

/// Register a model of your own on a running server
#[derive(Debug, Args)]
#[command(after_help = "\
The file holds one model in the form of Xinference's custom models.

Examples:
  glimmer register --file our-model.json
  glimmer register -f our-model.json --persist")]
pub(crate) struct RegisterArgs {
    /// The file
    #[arg(long, short = 'f', value_name = "FILE")]
    pub(crate) file: PathBuf,

    /// The kind of model
    #[arg(long, short = 't', value_name = "TYPE", default_value = "LLM", value_parser = TYPES)]
    pub(crate) model_type: String,

    /// Keep it when the server ends: a file among the user's own models
    #[arg(long, short = 'p')]
    pub(crate) persist: bool,

    /// The machine that it is to be on
    #[arg(long, short = 'w', value_name = "ADDRESS", hide = true)]
    pub(crate) worker_ip: Option<String>,

    #[command(flatten)]
    pub(crate) server: EndpointArgs,
}

/// Remove a model that was registered on a running server
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  glimmer unregister --model-name our-model")]
pub(crate) struct UnregisterArgs {
    /// The model's name
    #[arg(long, short = 'n', value_name = "NAME")]
    pub(crate) model_name: String,

    /// The kind of model
    #[arg(long, short = 't', value_name = "TYPE", default_value = "LLM", value_parser = TYPES)]
    pub(crate) model_type: String,

    #[command(flatten)]
    pub(crate) server: EndpointArgs,
}

/// List the models whose files a running server has
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  glimmer cached
  glimmer cached -n glm-edge-chat")]
pub(crate) struct CachedArgs {
    /// Only this model
    #[arg(long, short = 'n', alias = "model_name", value_name = "NAME")]
    pub(crate) model_name: Option<String>,

    #[command(flatten)]
    pub(crate) server: EndpointArgs,
}

/// Remove a model's files from a running server
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  glimmer remove-cache -n glm-edge-chat--1_5B--ggufv2--Q4_K_M --check")]
pub(crate) struct RemoveCacheArgs {
    /// The model's version, as `cached` lists it
    #[arg(long, short = 'n', alias = "model_version", value_name = "VERSION")]
    pub(crate) model_version: String,

    /// Remove without being asked
    #[arg(long)]
    pub(crate) check: bool,

    #[command(flatten)]
    pub(crate) server: EndpointArgs,
}

/// Show the memory that a model takes, in megabytes as Xinference shows it
#[derive(Debug, Args)]
#[command(after_help = "\
Nothing is estimated: weights as `convert` writes them, the cache of this context, and what an engine computes in. `glimmer \
fit` says more.

Examples:
  glimmer cal-model-mem -n glm-edge-chat -s 1_5 -f ggufv2 -q Q4_K_M -c 8192
  glimmer cal-model-mem -s 9 -f pytorch -c 32768 --kv-cache-dtype 8")]
pub(crate) struct CalModelMemArgs {
    /// The model's name [default: the first of this size]
    #[arg(long, short = 'n', value_name = "NAME")]
    pub(crate) model_name: Option<String>,

    /// Billions of parameters: 1_5 is 1.5
    #[arg(long, short = 's', value_name = "N")]
    pub(crate) size_in_billions: String,

    /// pytorch or ggufv2
    #[arg(long, short = 'f', value_name = "FORMAT", value_parser = ["pytorch", "ggufv2"])]
    pub(crate) model_format: String,

    /// The quantization. Also written -q
    #[arg(long, value_name = "TYPE")]
    pub(crate) quantization: Option<String>,

    /// Tokens of a conversation
    #[arg(long, short = 'c', value_name = "N", value_parser = tokens())]
    pub(crate) context_length: usize,

    /// Bits of an element of the cache
    #[arg(long, value_name = "BITS", default_value = "16", value_parser = ["8", "16", "32"])]
    pub(crate) kv_cache_dtype: String,

    /// Answer with one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// Flags of two letters that Xinference has, and `-q`, which elsewhere says to be quiet.
const SHORT: [(&str, &str); 10] = [
    ("-q", "--quantization"),
    ("-en", "--model-engine"),
    ("-ak", "--api-key"),
    ("-mp", "--model-path"),
    ("-lm", "--lora-modules"),
    ("-ld", "--image-lora-load-kwargs"),
    ("-fd", "--image-lora-fuse-kwargs"),
    ("-qc", "--quantization-config"),
    ("-vp", "--virtual-env-package"),
    ("-ev", "--env"),
];

/// The command line of one of these verbs, with flags of two letters as clap knows them, and of `launch` any other `--key
/// value` as an engine's option. Other command lines stay as they are.
pub(super) fn spelled_out(words: Vec<OsString>) -> Vec<OsString> {
    let Some(at) = words.iter().skip(1).position(|word| !word.to_string_lossy().starts_with('-')) else {
        return words;
    };
    let at = at + 1;
    let command = CommandLine::command();
    let verb = words[at].to_string_lossy();
    let Some(verb) = command.get_subcommands().find(|known| known.get_name() == verb) else { return words };
    let knows = |long: &str| {
        let has = |arg: &clap::Arg| {
            arg.get_long() == Some(long) || arg.get_all_aliases().unwrap_or_default().contains(&long)
        };
        long == "help" || verb.get_arguments().chain(command.get_arguments()).any(has)
    };
    if !knows("endpoint") && !knows("context-length") {
        return words;
    }
    let takes_more = verb.get_name() == "launch";
    let mut spelled: Vec<OsString> = words[..=at].to_vec();
    let mut rest = words[at + 1..].iter().peekable();
    while let Some(word) = rest.next() {
        let text = word.to_string_lossy();
        let long = SHORT.iter().find(|(short, long)| *short == text && knows(&long[2..]));
        let key = text.strip_prefix("--").filter(|key| takes_more && !key.is_empty());
        let (key, value) = key.map_or((None, None), |key| match key.split_once('=') {
            Some((key, value)) => (Some(key), Some(value.to_owned())),
            None => (Some(key), None),
        });
        match (long, key.filter(|key| !knows(key))) {
            (Some((_, long)), _) => spelled.push(long.into()),
            (None, Some(key)) => {
                let mut next = || rest.next_if(|next| !next.to_string_lossy().starts_with("--"));
                match value.or_else(|| Some(next()?.to_string_lossy().into_owned())) {
                    Some(value) => {
                        spelled.extend(["--engine-option".into(), format!("{key}={value}").into()])
                    }
                    // clap says that it is not known.
                    None => spelled.push(word.clone()),
                }
            }
            (None, None) => spelled.push(word.clone()),
        }
    }
    spelled
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spelled(line: &str) -> String {
        let words = spelled_out(line.split(' ').map(OsString::from).collect());
        words.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn flags_of_two_letters_are_xinferences() {
        assert_eq!(
            spelled("glimmer -q launch -en vLLM -n m -q Q4_0 -ak k -lm a b"),
            "glimmer -q launch --model-engine vLLM -n m --quantization Q4_0 --api-key k --lora-modules a b"
        );
        assert_eq!(spelled("glimmer engine -n m -en x"), "glimmer engine -n m --model-engine x");
        // `list` is quiet, and has no quantizations.
        for line in
            ["glimmer list -q", "glimmer run -q m -en", "glimmer", "glimmer -q", "glimmer cached -ev x"]
        {
            assert_eq!(spelled(line), line);
        }
    }

    #[test]
    fn any_other_key_of_a_launch_is_the_engines() {
        assert_eq!(
            spelled("glimmer launch --model-name m --max_model_len 4096 --x=1 --quiet --last"),
            "glimmer launch --model-name m --engine-option max_model_len=4096 --engine-option x=1 --quiet --last"
        );
        assert_eq!(spelled("glimmer terminate --max_model_len 1"), "glimmer terminate --max_model_len 1");
    }
}
