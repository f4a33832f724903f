//! `glimmer serve`: models over HTTP.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::bail;
use glimmer_chat::{ChatError, Format};
use glimmer_engine::{Engine, Sampling};
use glimmer_models::Encoder;
use glimmer_server::{Chat, Embedder, Limits, Options, Served, Server, Text};

use crate::args::{DeviceArgs, SamplingArgs, ServeArgs, ServedArgs};
use crate::model::{Model, Room, context, rows_of_any};
use crate::sampling::sampling;
use crate::terminal::Terminal;
use crate::{WrongUsage, chat, demo};

/// Serves until it is told to stop.
pub(crate) fn run(args: &ServeArgs, terminal: &Terminal) -> anyhow::Result<()> {
    let names = names(&args.models, &args.served)?;
    // What is wrong with the address or the keys is known before a model is loaded.
    let server = Server::start(options(args))?;
    let served = open(&args.models, names, &args.served, &args.device, terminal)?;
    let embedder = args.served.embedding_model.as_deref().map(embedder).transpose()?;
    let scheme = if args.tls_cert.is_some() { "https" } else { "http" };
    let written = served.iter().flat_map(|model| &model.names);
    let listed: Vec<&str> = written.chain(embedder.iter().map(|one| &one.name)).map(String::as_str).collect();
    let (listed, address) = (listed.join(", "), server.address());
    server.ready(served, embedder);
    terminal.note(&format!(
        "serving {listed} at {scheme}://{address}; {scheme}://{address}/docs says how to ask"
    ));
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
        tls: args.tls_cert.clone().zip(args.tls_key.clone()),
        cors_origins: args.cors_origin.clone(),
        any_model: args.any_model,
        glm_api_deltas: args.glm_api_deltas,
        vllm_metrics: args.metrics_compat.is_some(),
        json_log: args.log_json,
        log_file: args.log_file.clone(),
        otlp_endpoint: args.otlp_endpoint.clone().or_else(collector),
        is_silent: false,
        limits: Limits {
            body: args.max_body,
            answer_time: seconds(args.timeout),
            drain_time: seconds(args.drain_timeout),
            answer_tokens: args.max_tokens.unwrap_or(usize::MAX),
            choices: args.max_choices,
            behind: args.max_behind,
            connections: args.max_connections,
            ..Limits::default()
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
        (_, 0) => paths.iter().map(|path| vec![Model::new(&args.model(path)).name()]).collect(),
        (1, _) => vec![given.clone()],
        (models, names) if models == names => given.iter().map(|name| vec![name.clone()]).collect(),
        (models, names) => {
            bail!(WrongUsage(format!(
                "{models} models and {names} times --served-model-name: one for each is needed"
            )))
        }
    };
    let encoder = args.embedding_model.as_deref().map(|path| Model::at(path).name());
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
) -> anyhow::Result<Vec<Served>> {
    paths.iter().zip(names).map(|(path, names)| open_one(path, names, args, device, terminal)).collect()
}

fn open_one(
    path: &Path,
    names: Vec<String>,
    args: &ServedArgs,
    device: &DeviceArgs,
    terminal: &Terminal,
) -> anyhow::Result<Served> {
    let model = Model::new(&args.model(path));
    let tokenizer = model.tokenizer()?;
    let template = match chat::template(&model, Some(&tokenizer), args.chat_format) {
        Ok(template) => Some(template),
        // A model that continues text is served without conversations.
        Err(error) if matches!(error.downcast_ref(), Some(ChatError::UnknownFormat { .. })) => {
            terminal.note(&format!("{}: nothing tells the chat format; only text is continued", names[0]));
            None
        }
        Err(error) => return Err(error),
    };
    let published = |format: Option<Format>| -> anyhow::Result<Sampling> {
        Ok(sampling(&SamplingArgs::default(), model.checkpoint()?, format))
    };
    let chat = match template {
        Some(template) => Some(Chat {
            stop_ids: chat::all_stop_ids(&model, Some(&tokenizer), Some(&template))?,
            sampling: published(template.format())?,
            template,
        }),
        None => None,
    };
    let text =
        Text { stop_ids: chat::all_stop_ids(&model, Some(&tokenizer), None)?, sampling: published(None)? };
    let engine = engine(&model, args, device, terminal)?;
    if model.is_demo() {
        terminal.note(demo::LABEL);
    }
    Ok(Served { names, engine, tokenizer, chat, text, created: created(path) })
}

fn engine(
    model: &Model,
    args: &ServedArgs,
    device: &DeviceArgs,
    terminal: &Terminal,
) -> anyhow::Result<Engine> {
    let understood = model.understand(terminal)?;
    let context = context(args.ctx, &understood.spec, terminal);
    let room = Room {
        context,
        slots: args.cache_tokens.unwrap_or(context * 2),
        rows: rows_of_any(&understood.spec, context, args.step_tokens),
        running: args.parallel,
        waiting: args.queue,
    };
    model.engine(&understood, room, device, terminal)
}

/// Loads an encoder.
pub(crate) fn embedder(path: &Path) -> anyhow::Result<Embedder> {
    let model = Model::at(path);
    let tokenizer = model.tokenizer()?;
    let encoder = Encoder::open(model.checkpoint()?)?;
    Ok(Embedder {
        name: model.name(),
        tokenizer,
        max_tokens: encoder.max_tokens(),
        width: encoder.width(),
        embed: Box::new(move |texts| encoder.embed(texts).map_err(|error| error.to_string())),
        created: created(path),
    })
}

/// When the model's files were made; the one inside the program is as old as its process.
fn created(path: &Path) -> u64 {
    let made = std::fs::metadata(path).and_then(|file| file.modified()).unwrap_or_else(|_| SystemTime::now());
    made.duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}
