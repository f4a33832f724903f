//! From flags to the library: which model, on what, with how much room; what is said meanwhile.

use std::path::Path;

use anyhow::{Context, bail};
use glimmer::{
    Adapter, Capacity, Compute, ContextLength, DecoderSpec, DevicePlan, Error, Family, Local, Model,
    ModelFiles, OpenDevice, Overrides, Placed, Placement, Progress, Resolver, Source, check_draft, json,
};
use indicatif::ProgressBar;
use serde_json::Value;

use crate::args::{DeviceArgs, ModelArgs};
use crate::hubs::{self, Hubs};
use crate::input;
use crate::output::size;
use crate::terminal::Terminal;

/// What everybody is told who talks to the demo model.
pub(crate) const DEMO_LABEL: &str = "this is the demo model: very small, made to show Glimmer";

/// Where a model's name leads nowhere.
const NO_MODEL: &str = "no such file; MODEL is a directory, a .gguf file, `demo`, or a name of the catalogue or OWNER/NAME \
                        on a hub, as `glimmer pull` fetches";

/// The files of the model that was named.
pub(crate) fn files(
    args: &ModelArgs,
    chat_format: Option<Family>,
    terminal: &Terminal,
) -> anyhow::Result<ModelFiles> {
    seeing_files(args, chat_format, None, terminal)
}

/// The same with the file of a GGUF's vision tower, where one was named.
pub(crate) fn seeing_files(
    args: &ModelArgs,
    chat_format: Option<Family>,
    mmproj: Option<&Path>,
    terminal: &Terminal,
) -> anyhow::Result<ModelFiles> {
    let overrides = Overrides { family: args.family, chat_format, mmproj: mmproj.map(Path::to_owned) };
    Ok(ModelFiles::new(source(&args.path, terminal)?, overrides))
}

/// The files of a model of which only the tokenizer is wanted.
pub(crate) fn files_at(path: &Path, terminal: &Terminal) -> anyhow::Result<ModelFiles> {
    Ok(ModelFiles::new(source(path, terminal)?, Overrides::default()))
}

/// The place of the model that was named, which is fetched where it is a hub's and not here; where there is none, what a model
/// is and how to get one.
pub(crate) fn source(name: &Path, terminal: &Terminal) -> anyhow::Result<Source> {
    let source = Local.resolve(name)?;
    match &source {
        Source::Path(path) if !path.try_exists().unwrap_or(true) => match hubs::named(name) {
            Ok(Some(_)) => Ok(Hubs::of_environment(terminal)?.resolve(name)?),
            Ok(None) => bail!("{}: {NO_MODEL}", path.display()),
            Err(why) => bail!("{}: {NO_MODEL}; {why}", path.display()),
        },
        _ => Ok(source),
    }
}

/// The decoder's facts, and a warning of whatever is odd about the configuration.
pub(crate) fn spec<'f>(files: &'f ModelFiles, terminal: &Terminal) -> anyhow::Result<&'f DecoderSpec> {
    let understood = files.understood()?;
    understood.warnings.iter().for_each(|warning| terminal.warn(warning));
    Ok(&understood.spec)
}

/// The context to plan for, in tokens. One that exceeds the training is allowed and warned of.
pub(crate) fn context(asked: Option<ContextLength>, spec: &DecoderSpec, terminal: &Terminal) -> usize {
    let tokens = asked.unwrap_or_default().of(spec);
    if tokens > spec.context {
        let trained = spec.context;
        terminal.warn(&format!("a context of {tokens} tokens; the model was trained for {trained}"));
    }
    tokens
}

/// The device that was asked for; `default` is the verb's own numeric mode.
pub(crate) fn device(args: &DeviceArgs, default: Compute, terminal: &Terminal) -> anyhow::Result<OpenDevice> {
    Ok(args.options().open(default, &mut |progress| terminal.tell(progress, None))?)
}

/// Which layers of a model go to which device, where steps and cache are planned for `capacity`.
pub(crate) fn place(
    files: &ModelFiles,
    device: OpenDevice,
    capacity: Capacity,
    terminal: &Terminal,
) -> anyhow::Result<Placement> {
    Ok(device.place(files, capacity, &mut |progress| terminal.tell(progress, None))?)
}

/// A model's weights on a device, or on several, which will be planned for `capacity`.
pub(crate) fn load(
    files: &ModelFiles,
    device: OpenDevice,
    capacity: Capacity,
    terminal: &Terminal,
) -> anyhow::Result<Model> {
    load_placed(files, place(files, device, capacity, terminal)?, terminal, &mut |_| {})
}

/// A model's weights where they were placed; `watch` is told what the terminal is.
pub(crate) fn load_placed(
    files: &ModelFiles,
    placement: Placement,
    terminal: &Terminal,
    watch: &mut dyn FnMut(Progress<'_>),
) -> anyhow::Result<Model> {
    let total = files.checkpoint()?.tensors().iter().map(|t| t.bytes as u64).sum();
    let bar = terminal.bytes_bar("loading", total);
    let model = Model::load(files, placement, &mut |progress| {
        watch(progress);
        terminal.tell(progress, Some(&bar));
    });
    bar.finish_and_clear();
    Ok(model?)
}

/// The files of a model that is to guess for another, once it is known that it can.
pub(crate) fn draft(
    path: Option<&Path>,
    files: &ModelFiles,
    terminal: &Terminal,
) -> anyhow::Result<Option<ModelFiles>> {
    let Some(path) = path else { return Ok(None) };
    let draft = ModelFiles::new(source(path, terminal).context("--draft")?, Overrides::default());
    let [name, own] = [&draft, files].map(|files| files.source().name());
    check_draft(&own, files.tokenizer()?, &name, draft.tokenizer()?).context("--draft")?;
    spec(&draft, terminal)?;
    Ok(Some(draft))
}

/// The device of a model that guesses: the other's, with all of its layers, as they are stored.
pub(crate) fn draft_device(args: &DeviceArgs, terminal: &Terminal) -> anyhow::Result<OpenDevice> {
    let own = DeviceArgs { gpu_layers: None, quantize: None, ..args.clone() };
    device(&own, Compute::Auto, terminal)
}

/// A model with the one that guesses for it, if there is one.
pub(crate) fn with_draft(
    model: Model,
    draft: Option<&ModelFiles>,
    args: &DeviceArgs,
    capacity: Capacity,
    terminal: &Terminal,
) -> anyhow::Result<Model> {
    let Some(draft) = draft else { return Ok(model) };
    let guesses = load(draft, draft_device(args, terminal)?, capacity, terminal)?;
    Ok(model.with_draft(guesses)?)
}

/// The adapter that was named.
pub(crate) fn adapter(path: Option<&Path>, spec: &DecoderSpec) -> anyhow::Result<Option<Adapter>> {
    path.map(|path| Adapter::read(path, spec)).transpose().context("--lora")
}

/// What the one adapter of an engine is called that has but one.
pub(crate) const ADAPTER: &str = "lora";

impl Terminal {
    /// What the library tells while it works.
    fn tell(&self, progress: Progress<'_>, bar: Option<&ProgressBar>) {
        match progress {
            Progress::Warning(text) => self.warn(text),
            Progress::Note(text) => self.note(text),
            Progress::Placed(plans) => plans.iter().for_each(|plan| self.note(&placed(plan))),
            Progress::Loading { done, .. } => bar.into_iter().for_each(|bar| bar.set_position(done)),
        }
    }
}

/// What a device is going to hold, in a line.
fn placed(plan: &DevicePlan) -> String {
    let DevicePlan { device, placed: Placed { layers, .. }, memory, free } = plan;
    let free = free.map_or(String::new(), |memory| format!("; {} are free", size(memory.free as u64)));
    format!(
        "layers {} to {} on {device}: weights {} + cache {} + buffers {}{free}",
        layers.start,
        layers.end - 1,
        size(memory.weights as u64),
        size(memory.kv as u64),
        size(memory.buffers as u64),
    )
}

/// Where nothing tells the chat format, what can be done about it.
pub(crate) fn with_advice<T>(result: Result<T, Error>) -> anyhow::Result<T> {
    match result {
        Err(error) if error.is_unknown_format() => {
            Err(error).context("name the chat format with --chat-format, or continue text with `run --raw`")
        }
        other => Ok(other?),
    }
}

/// A list of tools from a file.
pub(crate) fn tools(path: Option<&Path>) -> anyhow::Result<Vec<Value>> {
    let Some(path) = path else { return Ok(Vec::new()) };
    let name = || path.display().to_string();
    match json::tree(&input::small_json(path)?, json::FILE_ROOM).with_context(name)? {
        Value::Array(tools) => Ok(tools),
        _ => bail!("{}: a list of tools is expected", path.display()),
    }
}
