//! What an operator decides.

use std::path::PathBuf;
use std::time::Duration;

/// What the program that serves knows of published models, for the page: JSON objects, or why there is none.
#[derive(Clone, Copy, Debug)]
pub struct PublishedModels {
    /// All of them, in a list.
    pub list: fn() -> Result<String, String>,
    /// What is known of one, by its name, and what it takes on this machine. It may take seconds the first time.
    pub one: fn(&str) -> Result<String, String>,
}

/// Fetches a picture for whoever names its address: its bytes, or why not. It is told addresses of strangers, and leads nobody to
/// where only this machine may go.
pub type FetchPicture = fn(&str) -> Result<Vec<u8>, String>;

/// How to serve.
#[derive(Clone, Debug)]
pub struct Options {
    /// Name or address to listen at.
    pub host: String,
    /// Port; 0 takes a free one.
    pub port: u16,
    /// A file of API keys, one a line; read again on SIGHUP. Without it nobody is asked for a key.
    pub api_keys: Option<PathBuf>,
    /// The file of the key under which clients are given what they are to bring back unchanged; made where it is not there.
    /// Without it such things last as long as the server.
    pub seal_key: Option<PathBuf>,
    /// Serve other machines without keys.
    pub insecure: bool,
    /// `/health`, `/livez`, `/readyz`, `/version` and `/metrics` need no key.
    pub public_status: bool,
    /// `/docs` and `/openapi.json` need a key, too.
    pub private_docs: bool,
    /// Names by which the server may be asked beside those of this machine, where it serves this machine alone without
    /// keys; and the only ones beside them where it does not.
    pub allowed_hosts: Vec<String>,
    /// Certificates and private key, in PEM.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Origins whose pages may read answers; `*` for all. None by default.
    pub cors_origins: Vec<String>,
    /// Take any model name for the first model.
    pub any_model: bool,
    /// `/chat-stream` sends what is new in place of the whole answer so far.
    pub glm_api_deltas: bool,
    /// `/metrics` uses vLLM's names.
    pub vllm_metrics: bool,
    /// Log lines are JSON objects.
    pub json_log: bool,
    /// Where the log goes; standard error without it.
    pub log_file: Option<PathBuf>,
    /// An OpenTelemetry collector, such as `http://localhost:4318`, that is told of every request.
    pub otlp_endpoint: Option<String>,
    /// Keep no log.
    pub is_silent: bool,
    /// What is known of published models.
    pub published: Option<PublishedModels>,
    /// What fetches pictures that requests name by their address; without it none is fetched.
    pub fetch_picture: Option<FetchPicture>,
    /// What a request may cost.
    pub limits: RequestLimits,
}

/// Bounds on what a client can ask for.
#[derive(Clone, Copy, Debug)]
pub struct RequestLimits {
    /// Bytes of a request's body.
    pub body: usize,
    /// Bytes of all larger bodies that are held at once, over all requests.
    pub bodies: usize,
    /// Time for a body to arrive.
    pub body_time: Duration,
    /// Time for a request's head to arrive, and for an idle connection to ask again.
    pub head_time: Duration,
    /// Time in which a client must take something of what is sent.
    pub stall_time: Duration,
    /// Time that a request waits for its model to be loaded.
    pub load_time: Duration,
    /// Time for a whole answer, once its model is there.
    pub answer_time: Duration,
    /// Time for requests in progress when the server is told to stop.
    pub drain_time: Duration,
    /// New tokens of an answer.
    pub answer_tokens: usize,
    /// Answers of one request: prompts times `n`.
    pub choices: usize,
    /// Tokens that a client may be behind.
    pub behind: usize,
    /// Connections at once.
    pub connections: usize,
    /// Bytes of the responses that are kept for clients that go on with them by name.
    pub responses: usize,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            host: "127.0.0.1".to_owned(),
            port: 8000,
            api_keys: None,
            seal_key: None,
            insecure: false,
            public_status: false,
            private_docs: false,
            allowed_hosts: Vec::new(),
            tls: None,
            cors_origins: Vec::new(),
            any_model: false,
            glm_api_deltas: false,
            vllm_metrics: false,
            json_log: false,
            log_file: None,
            otlp_endpoint: None,
            is_silent: false,
            published: None,
            fetch_picture: None,
            limits: RequestLimits::default(),
        }
    }
}

impl Options {
    /// For requests that come from a file: nobody listens, nobody is told of every request, and nobody goes on with an answer.
    pub fn for_batch() -> Self {
        Options {
            is_silent: true,
            limits: RequestLimits { behind: usize::MAX, responses: 0, ..RequestLimits::default() },
            ..Options::default()
        }
    }
}

impl Default for RequestLimits {
    fn default() -> Self {
        RequestLimits {
            body: 16 << 20,
            bodies: 128 << 20,
            body_time: Duration::from_secs(30),
            head_time: Duration::from_secs(60),
            stall_time: Duration::from_secs(30),
            load_time: Duration::from_secs(300),
            answer_time: Duration::from_secs(3600),
            drain_time: Duration::from_secs(300),
            answer_tokens: usize::MAX,
            choices: 128,
            behind: 4096,
            connections: 1024,
            responses: 256 << 20,
        }
    }
}
