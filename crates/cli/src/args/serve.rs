//! Flags of `serve`, `local` and `batch`.

use std::path::PathBuf;

use clap::Args;
use glimmer::{ContextLength, Family};

use super::DeviceArgs;
use super::values::{
    KeepAlive, chat_format, context_length, keep_alive, memory_bytes, named_adapter, one_of, positive,
};

/// Which models are served, and how much of the machine they get.
#[derive(Clone, Debug, Args)]
pub(crate) struct ServedArgs {
    /// A smaller model of the same vocabulary that guesses how answers go on. They stay the same, and come sooner where it is
    /// often right; where it is not it is not asked. For one model that is served alone
    #[arg(long, value_name = "MODEL")]
    pub(crate) draft: Option<PathBuf>,

    /// The file of a GGUF's vision tower [default: `mmproj-NAME.gguf` beside the model, or the only one in its folder]. For one
    /// model that is served alone
    #[arg(long, value_name = "FILE")]
    pub(crate) mmproj: Option<PathBuf>,

    /// What clients call the model, in place of the last part of its path; several names for one model, or one name for
    /// each of several
    #[arg(long, value_name = "NAME", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub(crate) served_model_name: Vec<String>,

    /// A BERT encoder for embeddings (text2vec, MiniLM): a directory in Hugging Face layout
    #[arg(long, value_name = "MODEL")]
    pub(crate) embedding_model: Option<PathBuf>,

    /// The models' generation, where their files leave it open or are wrong
    #[arg(long, value_name = "NAME", value_parser = one_of(Family::NAMES))]
    pub(crate) family: Option<Family>,

    /// The chat format, where the models' files do not tell
    #[arg(long, value_name = "NAME", value_parser = chat_format())]
    pub(crate) chat_format: Option<Family>,

    /// Tokens that prompt and answer may have together, or `max` [default: what the model was trained for, at most 8192]
    #[arg(long, value_name = "N", value_parser = context_length)]
    pub(crate) ctx: Option<ContextLength>,

    /// Answers made at once; others wait
    #[arg(long, value_name = "N", default_value = "8", value_parser = positive())]
    pub(crate) parallel: usize,

    /// Answers that may wait; more are refused with status 429
    #[arg(long, value_name = "N", default_value = "256", value_parser = positive())]
    pub(crate) queue: usize,

    /// Tokens that the cache holds for all requests together, and for prompts to come [default: twice `--ctx`]
    #[arg(long, value_name = "N", value_parser = positive())]
    pub(crate) cache_tokens: Option<usize>,

    /// Tokens computed in one step; longer prompts are cut [default: 256 on a CPU, 512 on a card]
    #[arg(long, value_name = "N", value_parser = positive())]
    pub(crate) step_tokens: Option<usize>,

    /// What all models may hold together, such as 16G: what nobody uses makes room for what is asked for [default: what the
    /// machine has free, but a 32nd]
    #[arg(long, value_name = "BYTES", value_parser = memory_bytes)]
    pub(crate) memory: Option<u64>,
}

/// Models that are loaded when they are asked for.
#[derive(Debug, Args)]
#[command(next_help_heading = "Several models")]
pub(crate) struct ShelfArgs {
    /// Serve the models in this directory, too: its directories with a config.json and its .gguf files, each by its name.
    /// They are loaded when they are asked for, and new ones are found then
    #[arg(long, value_name = "DIRECTORY")]
    pub(crate) models_dir: Option<PathBuf>,

    /// How long a model stays loaded that nobody uses: 300, 5m, 1h; 0 not at all, -1 until another needs its room [default:
    /// 5m, and of models on the command line of `serve` -1]
    #[arg(long, value_name = "TIME", value_parser = keep_alive, allow_hyphen_values = true)]
    pub(crate) keep_alive: Option<KeepAlive>,

    /// Seconds that a request waits for its model to be loaded
    #[arg(long, value_name = "SECONDS", default_value = "300", value_parser = positive())]
    pub(crate) load_timeout: usize,

    /// A file with models of your own that clients may launch, as `list` takes it; may be given several times
    #[arg(long, value_name = "FILE")]
    pub(crate) catalogue: Vec<PathBuf>,
}

/// Serve models over HTTP: the OpenAI API, Ollama's and the GLM API
#[derive(Debug, Args)]
#[command(after_help = "\
http://HOST:PORT/ is a page for browsers, and http://HOST:PORT/docs describes every path. SIGTERM lets answers in progress finish, and then ends the program.

The first model is loaded before anybody is answered, the others with it as long as --memory has room for them; what has none \
is loaded when it is asked for, in the place of what was used longest ago.

Examples:
  glimmer serve
  glimmer serve glm-4-9b-chat --served-model-name gpt-4o --port 8080
  glimmer serve glm-4-9b-chat.Q4_K_M.gguf --ctx max --parallel 16 --host 0.0.0.0 --api-keys keys.txt
  glimmer serve --models-dir ~/models --memory 16G --keep-alive 10m
  glimmer serve glm-4-9b-chat --ollama
  curl http://127.0.0.1:8000/v1/chat/completions -H 'Content-Type: application/json' \\
    -d '{\"model\": \"demo\", \"messages\": [{\"role\": \"user\", \"content\": \"Hello!\"}]}'")]
pub(crate) struct ServeArgs {
    /// Directories in Hugging Face layout, .gguf files, `demo`, or names as `glimmer pull` takes them. The first is meant where
    /// a request cannot say which [default: demo, unless there is --models-dir]
    #[arg(value_name = "MODEL")]
    pub(crate) models: Vec<PathBuf>,

    /// Port to listen at; 0 takes a free one [default: 8000, and with `--ollama` 11434]
    #[arg(long, short = 'p', value_name = "PORT", help_heading = "Network")]
    pub(crate) port: Option<u16>,

    /// Let clients launch, terminate and register models, as `glimmer local` does. They may name any file that can be read here
    #[arg(long)]
    pub(crate) launch: bool,

    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

/// Serve models that clients launch by name, where Xinference's look: at port 9997
#[derive(Debug, Args)]
#[command(after_help = "\
It serves what `glimmer serve` does; no model has to be named. `glimmer launch` and the clients of Xinference launch, terminate \
and register models.

Examples:
  glimmer local
  glimmer local --models-dir ~/models --memory 16G")]
pub(crate) struct LocalArgs {
    /// Directories in Hugging Face layout, .gguf files, `demo`, or names as `glimmer pull` takes them
    #[arg(value_name = "MODEL")]
    pub(crate) models: Vec<PathBuf>,

    /// Port to listen at; 0 takes a free one [default: 9997, and with `--ollama` 11434]
    #[arg(long, short = 'p', value_name = "PORT", help_heading = "Network")]
    pub(crate) port: Option<u16>,

    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

/// How a server works, whichever models it has.
#[derive(Debug, Args)]
pub(crate) struct ServerArgs {
    #[command(flatten)]
    pub(crate) served: ServedArgs,

    #[command(flatten)]
    pub(crate) shelf: ShelfArgs,

    /// An adapter of the model that is named, and what requests call it: a directory of PEFT's (LoRA) or of ChatGLM's P-Tuning
    /// v2. May be given several times
    #[arg(long, value_name = "NAME=PATH", value_parser = named_adapter)]
    pub(crate) lora: Vec<(String, PathBuf)>,

    /// Take any model name in requests for the first model
    #[arg(long)]
    pub(crate) any_model: bool,

    /// `/chat-stream` sends what is new in place of the whole answer so far
    #[arg(long)]
    pub(crate) glm_api_deltas: bool,

    /// Listen where Ollama's programs look, at port 11434, unless another is named. They are answered at any port
    #[arg(long, help_heading = "Network")]
    pub(crate) ollama: bool,

    /// Open the page in the browser
    #[arg(long)]
    pub(crate) open: bool,

    /// Name or address to listen at
    #[arg(long, value_name = "HOST", default_value = "127.0.0.1", help_heading = "Network")]
    pub(crate) host: String,

    /// A file of keys, one a line, of which every request must bring one (`Authorization: Bearer KEY`, `x-api-key` or
    /// `api-key`); SIGHUP has it read again
    #[arg(long, value_name = "FILE", help_heading = "Network")]
    pub(crate) api_keys: Option<PathBuf>,

    /// The file of the key under which clients are given thoughts to keep and bring back unchanged; made where it is not
    /// there. Servers that share it take each other's [default: glimmer/seal.key in $XDG_STATE_HOME or ~/.local/state]
    #[arg(long, value_name = "FILE", help_heading = "Network")]
    pub(crate) seal_key: Option<PathBuf>,

    /// Serve other machines without asking for a key
    #[arg(long, help_heading = "Network")]
    pub(crate) insecure: bool,

    /// `/health`, `/livez`, `/readyz`, `/version` and `/metrics` need no key
    #[arg(long, help_heading = "Network")]
    pub(crate) public_status: bool,

    /// `/docs` and `/openapi.json` need a key, too
    #[arg(long, requires = "api_keys", help_heading = "Network")]
    pub(crate) private_docs: bool,

    /// Fetch pictures that requests name by addresses of http and https, from the public internet alone: at most 20 MiB, within
    /// 10 seconds. Without it pictures are taken as data URIs
    #[arg(long, help_heading = "Network")]
    pub(crate) allow_image_fetch: bool,

    /// A name by which clients may ask, beside localhost and its addresses, where only this machine is served without
    /// keys; where others are served, these are the only ones. May be given several times
    #[arg(long, value_name = "NAME", help_heading = "Network")]
    pub(crate) allowed_hosts: Vec<String>,

    /// Let pages of this origin read answers; `*` for all. May be given several times
    #[arg(long, value_name = "ORIGIN", help_heading = "Network")]
    pub(crate) cors_origin: Vec<String>,

    /// Certificates for TLS, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_key", help_heading = "Network")]
    pub(crate) tls_cert: Option<PathBuf>,

    /// The private key for TLS, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert", help_heading = "Network")]
    pub(crate) tls_key: Option<PathBuf>,

    /// Connections at once; further ones wait, and idle ones make room
    #[arg(long, value_name = "N", default_value = "1024", value_parser = positive(), help_heading = "Limits")]
    pub(crate) max_connections: usize,

    /// Bytes of a request's body; all bodies of more than 64 KiB together have eight times as much
    #[arg(long, value_name = "BYTES", default_value = "16777216", value_parser = positive(), help_heading = "Limits")]
    pub(crate) max_body: usize,

    /// Tokens of an answer [default: to the end of the context]
    #[arg(long, value_name = "N", value_parser = positive(), help_heading = "Limits")]
    pub(crate) max_tokens: Option<usize>,

    /// Answers of one request: its prompts times `n`
    #[arg(long, value_name = "N", default_value = "128", value_parser = positive(), help_heading = "Limits")]
    pub(crate) max_choices: usize,

    /// Tokens that a client may be behind before its answer is given up
    #[arg(long, value_name = "N", default_value = "4096", value_parser = positive(), help_heading = "Limits")]
    pub(crate) max_behind: usize,

    /// Bytes of the responses that are kept in memory for clients of `/v1/responses` that go on with them; 0 keeps none
    #[arg(long, value_name = "BYTES", default_value = "268435456", help_heading = "Limits")]
    pub(crate) max_responses: usize,

    /// Seconds for an answer
    #[arg(long, value_name = "SECONDS", default_value = "3600", value_parser = positive(), help_heading = "Limits")]
    pub(crate) timeout: usize,

    /// Seconds for answers in progress when the program is told to stop
    #[arg(long, value_name = "SECONDS", default_value = "300", value_parser = positive(), help_heading = "Limits")]
    pub(crate) drain_timeout: usize,

    /// `/metrics` in another program's names
    #[arg(long, value_name = "PROGRAM", value_parser = ["vllm"], help_heading = "Records")]
    pub(crate) metrics_compat: Option<String>,

    /// Log lines as JSON objects
    #[arg(long, help_heading = "Records")]
    pub(crate) log_json: bool,

    /// Append the log to a file, not to standard error. Text of prompts and answers is never in it
    #[arg(long, value_name = "FILE", help_heading = "Records")]
    pub(crate) log_file: Option<PathBuf>,

    /// Send a trace of every request to the OpenTelemetry collector here (OTLP over HTTP, such as
    /// http://localhost:4318); OTEL_EXPORTER_OTLP_ENDPOINT says the same. Text of prompts and answers is never in it
    #[arg(long, value_name = "URL", help_heading = "Records")]
    pub(crate) otlp_endpoint: Option<String>,

    #[command(flatten)]
    pub(crate) device: DeviceArgs,
}

/// Ask a server whether it is ready, for containers and scripts
#[derive(Debug, Args)]
#[command(after_help = "\
Exit status 0 says that a request would be answered now; 1 that nobody listens, the models are still being loaded, the server \
is stopping, or it wants a key. It asks over http alone, not through TLS.

Examples:
  glimmer health
  glimmer health http://127.0.0.1:8080 --api-key \"$KEY\"")]
pub(crate) struct HealthArgs {
    /// Where the server is
    #[arg(value_name = "URL", default_value = "http://127.0.0.1:8000")]
    pub(crate) url: String,

    /// The key to show, where the server wants one and is not told `--public-status`
    #[arg(long, value_name = "KEY")]
    pub(crate) api_key: Option<String>,

    /// Seconds to wait for its answer
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = positive())]
    pub(crate) timeout: usize,
}

/// Answer the requests of a file, in the OpenAI API's batch format
#[derive(Debug, Args)]
#[command(after_help = "\
A line of the input is {\"custom_id\", \"method\": \"POST\", \"url\": \"/v1/chat/completions\", \"body\"}; a line of the output \
holds custom_id and response. The same command again goes on where it was stopped and asks again what had no good answer; of \
several answers to one custom_id in the output the last one counts. A line that is no JSON object is answered by an error; \
any other mistake in the form of a request is found before anything is computed. Exit status 1 while a request has no good \
answer.

Examples:
  glimmer batch questions.jsonl -o answers.jsonl
  glimmer batch questions.jsonl -o answers.jsonl --model glm-4-9b-chat --any-model --parallel 16")]
pub(crate) struct BatchArgs {
    /// The file of requests, one a line
    #[arg(value_name = "FILE")]
    pub(crate) input: PathBuf,

    /// The file of answers, to which those are added that it lacks
    #[arg(long, short = 'o', value_name = "FILE")]
    pub(crate) output: PathBuf,

    /// Leave requests that were answered by an error as they are
    #[arg(long)]
    pub(crate) keep_failures: bool,

    /// A directory in Hugging Face layout, a .gguf file, or `demo`; may be given several times
    #[arg(long, short = 'm', value_name = "MODEL", default_value = glimmer::DEMO)]
    pub(crate) model: Vec<PathBuf>,

    /// Take any model name in requests for the first model
    #[arg(long)]
    pub(crate) any_model: bool,

    #[command(flatten)]
    pub(crate) served: ServedArgs,

    #[command(flatten)]
    pub(crate) device: DeviceArgs,
}
