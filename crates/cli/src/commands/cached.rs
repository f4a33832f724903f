//! `glimmer cached` and `remove-cache`: models whose files a running server has.

use anyhow::{Result, bail};
use glimmer_hub::Verb;
use serde::Deserialize;
use serde_json::Value;

use super::running::text;
use crate::args::{CachedArgs, RemoveCacheArgs};
use crate::output::Lines;
use crate::page::{self, Column, Table};
use crate::remote::Remote;
use crate::terminal::Terminal;

/// Prints the models whose files are there.
pub(crate) fn list(args: &CachedArgs) -> Result<()> {
    #[derive(Deserialize)]
    struct Cached {
        model_name: String,
        model_format: String,
        model_size_in_billions: Value,
        quantization: String,
        model_version: String,
        path: String,
    }
    #[derive(Deserialize)]
    struct All {
        list: Vec<Cached>,
    }
    let name = args.model_name.as_deref().map(|name| ("model_name", name));
    let query: Vec<_> = name.into_iter().collect();
    let all: All = Remote::new(&args.server)?.get(&["v1", "cache", "models"], &query)?;
    let mut lines = Lines::default();
    if all.list.is_empty() {
        lines.add("no model's files are there");
        return lines.print();
    }
    let mut table = Table::new(&[
        Column::text("NAME"),
        Column::text("FORMAT").goes(1),
        Column::text("SIZE").goes(1),
        Column::text("QUANTIZATION").goes(1),
        Column::text("VERSION"),
        Column::text("PATH").goes(2),
    ]);
    for model in all.list {
        table.add([
            model.model_name,
            model.model_format,
            text(Some(&model.model_size_in_billions)),
            model.quantization,
            model.model_version,
            model.path,
        ]);
    }
    table.lines(page::width()).iter().for_each(|line| lines.add(line));
    lines.print()
}

/// Removes a model's files.
pub(crate) fn remove(args: &RemoveCacheArgs, terminal: &Terminal) -> Result<()> {
    #[derive(Deserialize)]
    struct Files {
        paths: Vec<String>,
    }
    #[derive(Deserialize)]
    struct Removed {
        result: bool,
    }
    let remote = Remote::new(&args.server)?;
    let version = [("model_version", args.model_version.as_str())];
    let files: Files = remote.get(&["v1", "cache", "models", "files"], &version)?;
    if files.paths.is_empty() {
        bail!("there are no files of {}; `glimmer cached` lists what there is", args.model_version);
    }
    if !args.check {
        match terminal.ask(&format!("{}. Remove them?", files.paths.join(", "))) {
            Some(true) => {}
            Some(false) => bail!("nothing is removed"),
            None => bail!("nothing is removed; --check removes it without being asked"),
        }
    }
    let removed: Removed = remote.ask(Verb::Delete, &["v1", "cache", "models"], &version, None)?;
    if !removed.result {
        bail!("the files of {} are in no hub's cache: they are yours", args.model_version);
    }
    terminal.note(&format!("{} is removed", args.model_version));
    Ok(())
}
