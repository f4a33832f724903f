//! `glimmer serve`: models over HTTP.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::bail;
use glimmer::{
    Compute, ContextLength, Embedder, Engine, Limits, Loaded, ModelText, Registry, Source,
    serving_step_tokens,
};
use glimmer_server::{Options, RequestLimits, Server};

use crate::WrongUsage;
use crate::args::{DeviceArgs, ServeArgs, ServedArgs};
use crate::model::{DEMO_LABEL, context, device, files, load, source, spec};
use crate::terminal::Terminal;

/// Serves until it is told to stop.
pub(crate) fn run(args: &ServeArgs, terminal: &Terminal) -> anyhow::Result<()> {
    let names = names(&args.models, &args.served)?;
    // What is wrong with the address or the keys is known before a model is loaded.
    let server = Server::start(options(args))?;
    let registry = open(&args.models, names, &args.served, &args.device, terminal)?;
    let scheme = if args.tls_cert.is_some() { "https" } else { "http" };
    let models = registry.all();
    let listed: Vec<&str> = models.iter().flat_map(|model| &model.names).map(String::as_str).collect();
    let (listed, address) = (listed.join(", "), server.address());
    server.ready(registry);
    let note = format!("serving {listed} at {scheme}://{address}; {scheme}://{address}/docs says how to ask");
    let terminal = terminal.clone();
    // Where nobody reads standard error, this line is not what the program's end waits for.
    std::thread::spawn(move || terminal.note(&note));
    Ok(server.wait()?)
}

fn options(args: &ServeArgs) -> Options {
    let seconds = |seconds: usize| Duration::from_secs(seconds as u64);
    Options {
        host: args.host.clone(),
        port: args.port,
        api_keys: args.api_keys.clone(),
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
        limits: RequestLimits {
            body: args.max_body,
            bodies: args.max_body.saturating_mul(8),
            answer_time: seconds(args.timeout),
            drain_time: seconds(args.drain_timeout),
            answer_tokens: args.max_tokens.unwrap_or(usize::MAX),
            choices: args.max_choices,
            behind: args.max_behind,
            connections: args.max_connections,
            ..RequestLimits::default()
        },
    }
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

/// Loads models to serve.
pub(crate) fn open(
    paths: &[PathBuf],
    names: Vec<Vec<String>>,
    args: &ServedArgs,
    device: &DeviceArgs,
    terminal: &Terminal,
) -> anyhow::Result<Registry> {
    let registry = Registry::default();
    for (path, names) in paths.iter().zip(names) {
        let engine = open_one(path, &names[0], args, device, terminal)?;
        registry.add(Loaded::engine(names, engine))?;
    }
    if let Some(path) = &args.embedding_model {
        registry.add(Loaded::embedder(Embedder::open(source(path, terminal)?)?))?;
    }
    Ok(registry)
}

fn open_one(
    path: &Path,
    name: &str,
    args: &ServedArgs,
    device_args: &DeviceArgs,
    terminal: &Terminal,
) -> anyhow::Result<Engine> {
    let files = files(&args.model(path), args.chat_format, terminal)?;
    files.tokenizer()?;
    match ModelText::read(&files)?.chat() {
        // A model that continues text is served without conversations.
        Err(error) if error.is_unknown_format() => {
            terminal.note(&format!("{name}: nothing tells the chat format; only text is continued"));
        }
        result => drop(result?),
    }
    let spec = spec(&files, terminal)?;
    let context = context(args.ctx, spec, terminal);
    let device = device(device_args, Compute::Auto, terminal)?;
    let step_tokens = args.step_tokens.unwrap_or_else(|| serving_step_tokens(spec, device.kind));
    let limits = Limits {
        context: ContextLength::Tokens(context),
        cache_tokens: Some(args.cache_tokens.unwrap_or(context * 2)),
        step_tokens: Some(step_tokens),
        running: args.parallel,
        waiting: args.queue,
        ..Limits::default()
    };
    let capacity = limits.capacity(spec, device.kind);
    let engine = load(&files, device, capacity, terminal)?.start(&limits)?;
    if files.source().is_demo() {
        terminal.note(DEMO_LABEL);
    }
    Ok(engine)
}
