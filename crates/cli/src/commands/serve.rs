//! `glimmer serve` and `glimmer local`: models over HTTP.

use std::path::PathBuf;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use anyhow::{Context, bail};
use glimmer::{KnownModel, ModelKind, Source};
use glimmer_hub::Foreign;
use glimmer_server::{FetchPicture, Options, PublishedModels, RequestLimits, Server};

use super::{fit, list, show};
use crate::WrongUsage;
use crate::args::{DeviceArgs, KeepAlive, LocalArgs, ServeArgs, ServedArgs, ServerArgs};
use crate::browser;
use crate::directories;
use crate::launcher::NamedModels;
use crate::model::source;
use crate::served::{self, Directory, Settings, known, known_encoder};
use crate::terminal::Terminal;

/// Conversations of full length that a model's cache holds, where nobody says so.
const CONVERSATIONS: usize = 2;

/// How long a model stays that is loaded when it is asked for, where nobody says so: as Ollama has it.
const KEEP_ALIVE: Duration = Duration::from_secs(300);

/// Where clients look that are told nothing: of the OpenAI API by habit, of Xinference's, of Ollama's.
const PORT: u16 = 8000;
const XINFERENCE_PORT: u16 = 9997;
const OLLAMA_PORT: u16 = 11434;

/// The port that is listened at.
fn port(given: Option<u16>, args: &ServerArgs, own: u16) -> u16 {
    given.unwrap_or(if args.ollama { OLLAMA_PORT } else { own })
}

/// Serves until it is told to stop.
pub(crate) fn run(args: &ServeArgs, terminal: &Terminal) -> anyhow::Result<()> {
    let server = &args.server;
    let demo = [PathBuf::from(glimmer::DEMO)];
    let is_demo = args.models.is_empty() && server.shelf.models_dir.is_none();
    let models = if is_demo { demo.as_slice() } else { args.models.as_slice() };
    let keep_alive = server.shelf.keep_alive.unwrap_or(KeepAlive::Always);
    serve(models, keep_alive, port(args.port, server, PORT), args.launch, server, terminal)
}

/// The same at another port, of models that go again.
pub(crate) fn run_local(args: &LocalArgs, terminal: &Terminal) -> anyhow::Result<()> {
    let keep_alive = args.server.shelf.keep_alive.unwrap_or(KeepAlive::For(KEEP_ALIVE));
    let port = port(args.port, &args.server, XINFERENCE_PORT);
    serve(&args.models, keep_alive, port, true, &args.server, terminal)
}

fn serve(
    paths: &[PathBuf],
    keep_alive: KeepAlive,
    port: u16,
    launch: bool,
    args: &ServerArgs,
    terminal: &Terminal,
) -> anyhow::Result<()> {
    if args.served.mmproj.is_some() && (paths.len() != 1 || args.shelf.models_dir.is_some() || launch) {
        bail!(WrongUsage(
            "--mmproj is the tower of one model: serve that one alone, and nothing that clients launch"
                .to_owned()
        ));
    }
    if args.served.draft.is_some() && (paths.len() != 1 || args.shelf.models_dir.is_some() || launch) {
        bail!(WrongUsage(
            "--draft guesses for one model: serve that one alone, and nothing that clients launch".to_owned()
        ));
    }
    if !args.lora.is_empty() && paths.len() != 1 {
        bail!(WrongUsage("--lora belongs to one model: name that one alone".to_owned()));
    }
    let names = names(paths, &args.served)?;
    let settings = settings(&args.served, &args.device, terminal);
    let shelf = args.shelf.models_dir.as_deref().map(|path| {
        let keep_alive = args.shelf.keep_alive.unwrap_or(KeepAlive::For(KEEP_ALIVE));
        Directory::open(path, time(keep_alive), &settings)
    });
    let shelf = shelf.transpose()?;
    // What is wrong with the address or the keys is known before a model is loaded.
    let server = Server::start(options(port, args))?;
    if launch {
        server.launch_with(Arc::new(NamedModels::open(&settings, args.shelf.catalogue.clone())?));
    }
    let models = known_models(paths, names, time(keep_alive), &settings)?;
    let registry = served::open(models, shelf, &settings)?;
    let scheme = if args.tls_cert.is_some() { "https" } else { "http" };
    let (listed, address) = (registry.names().join(", "), server.address());
    server.ready(registry, &args.lora).context("--lora")?;
    let listed = if listed.is_empty() { "no model yet" } else { &listed };
    let note = format!(
        "serving {listed} at {scheme}://{address}; that is its page for browsers, and {scheme}://{address}/docs says how \
         programs ask"
    );
    if args.open {
        browser::open(scheme, address, terminal);
    }
    let hint = args.ollama.then(|| format!("for Ollama's programs: OLLAMA_HOST={scheme}://{address}"));
    let terminal = terminal.clone();
    // Where nobody reads standard error, these lines are not what the program's end waits for.
    std::thread::spawn(move || [Some(note), hint].iter().flatten().for_each(|line| terminal.note(line)));
    Ok(server.wait()?)
}

fn time(keep_alive: KeepAlive) -> Option<Duration> {
    match keep_alive {
        KeepAlive::For(time) => Some(time),
        KeepAlive::Always => None,
    }
}

fn options(port: u16, args: &ServerArgs) -> Options {
    let seconds = |seconds: usize| Duration::from_secs(seconds as u64);
    Options {
        host: args.host.clone(),
        port,
        api_keys: args.api_keys.clone(),
        seal_key: args.seal_key.clone().or_else(|| Some(directories::state()?.join("seal.key"))),
        insecure: args.insecure,
        public_status: args.public_status,
        private_docs: args.private_docs,
        allowed_hosts: args.allowed_hosts.clone(),
        tls: args.tls_cert.clone().zip(args.tls_key.clone()),
        cors_origins: args.cors_origin.clone(),
        any_model: args.any_model,
        glm_api_deltas: args.glm_api_deltas,
        vllm_metrics: args.metrics_compat.is_some(),
        json_log: args.log_json,
        log_file: args.log_file.clone(),
        otlp_endpoint: args.otlp_endpoint.clone().or_else(collector),
        is_silent: false,
        fetch_picture: args.allow_image_fetch.then_some(fetch_picture as FetchPicture),
        published: Some(PublishedModels { list: list_published, one: published }),
        limits: RequestLimits {
            body: args.max_body,
            bodies: args.max_body.saturating_mul(8),
            load_time: seconds(args.shelf.load_timeout),
            answer_time: seconds(args.timeout),
            drain_time: seconds(args.drain_timeout),
            answer_tokens: args.max_tokens.unwrap_or(usize::MAX),
            choices: args.max_choices,
            behind: args.max_behind,
            connections: args.max_connections,
            responses: args.max_responses,
            ..RequestLimits::default()
        },
    }
}

fn fetch_picture(url: &str) -> Result<Vec<u8>, String> {
    static FOREIGN: LazyLock<Foreign> = LazyLock::new(|| Foreign::new(20 << 20, Duration::from_secs(10)));
    FOREIGN.fetch(url).map_err(|error| error.to_string())
}

fn list_published() -> Result<String, String> {
    list::json().map_err(|error| format!("{error:#}"))
}

/// A model's page, and what fits of it here, where this program has a decoder of it.
fn published(name: &str) -> Result<String, String> {
    let show = show::json(name).map_err(|error| format!("{error:#}"))?;
    let fit = fit::json(name).unwrap_or_else(|_| "null".to_owned());
    Ok(format!("{{\"show\":{show},\"fit\":{fit}}}"))
}

/// The collector that OpenTelemetry's own variables name.
fn collector() -> Option<String> {
    let is_disabled =
        std::env::var("OTEL_SDK_DISABLED").is_ok_and(|value| value.eq_ignore_ascii_case("true"));
    std::env::var("OTEL_EXPORTER_OTLP_ENDPOINT").ok().filter(|url| !is_disabled && !url.is_empty())
}

/// The names of each model: those given, else the last part of its path.
pub(crate) fn names(paths: &[PathBuf], args: &ServedArgs) -> anyhow::Result<Vec<Vec<String>>> {
    let given = &args.served_model_name;
    let names: Vec<Vec<String>> = match (paths.len(), given.len()) {
        (_, 0) => paths.iter().map(|path| vec![Source::from(path.as_path()).name()]).collect(),
        (1, _) => vec![given.clone()],
        (models, names) if models == names => given.iter().map(|name| vec![name.clone()]).collect(),
        (models, names) => {
            bail!(WrongUsage(format!(
                "{models} models and {names} times --served-model-name: one for each is needed"
            )))
        }
    };
    let encoder = args.embedding_model.as_deref().map(|path| Source::from(path).name());
    let mut all: Vec<&String> = names.iter().flatten().chain(&encoder).collect();
    all.sort_unstable();
    if let Some(twice) = all.windows(2).find(|pair| pair[0] == pair[1]) {
        let name = twice[0];
        bail!(WrongUsage(format!("two models are called {name}; --served-model-name tells them apart")));
    }
    Ok(names)
}

/// How models are served.
pub(crate) fn settings(served: &ServedArgs, device: &DeviceArgs, terminal: &Terminal) -> Arc<Settings> {
    let (served, device) = (served.clone(), device.clone());
    Arc::new(Settings { served, device, conversations: CONVERSATIONS, terminal: terminal.clone() })
}

/// The models that were named, and the encoder.
pub(crate) fn known_models(
    paths: &[PathBuf],
    names: Vec<Vec<String>>,
    keep_alive: Option<Duration>,
    settings: &Arc<Settings>,
) -> anyhow::Result<Vec<KnownModel>> {
    let mut models = Vec::new();
    for (path, names) in paths.iter().zip(names) {
        models.push(known(source(path, &settings.terminal)?, names, keep_alive, settings));
    }
    if let Some(path) = &settings.served.embedding_model {
        let source = source(path, &settings.terminal)?;
        let names = vec![source.name()];
        models.push(known_encoder(source, ModelKind::Vectors, names, keep_alive));
    }
    Ok(models)
}
