//! `glimmer registrations`, `register`, `unregister` and `engine`: the models that can be launched on a running server.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use glimmer_hub::Verb;
use serde::Deserialize;
use serde_json::{Value, json};

use super::running::text;
use crate::args::{EngineArgs, RegisterArgs, RegistrationsArgs, UnregisterArgs};
use crate::input;
use crate::output::Lines;
use crate::page::{self, Column, Table};
use crate::remote::Remote;
use crate::terminal::Terminal;

fn print(table: &Table) -> Result<()> {
    let mut lines = Lines::default();
    table.lines(page::width()).iter().for_each(|line| lines.add(line));
    lines.print()
}

/// Prints the models that can be launched.
pub(crate) fn list(args: &RegistrationsArgs) -> Result<()> {
    #[derive(Deserialize)]
    struct Registered {
        model_name: String,
        #[serde(default)]
        model_lang: Vec<String>,
        #[serde(default)]
        model_ability: Vec<String>,
        dimensions: Option<usize>,
        is_builtin: bool,
    }
    let path = ["v1", "model_registrations", &args.model_type];
    let all: Vec<Registered> = Remote::new(&args.server)?.get(&path, &[("detailed", "true")])?;
    let mut table = Table::new(&[
        Column::text("TYPE").goes(3),
        Column::text("NAME"),
        Column::text("LANGUAGE").goes(2),
        Column::text("ABILITY").goes(1),
        Column::number("DIMENSIONS").goes(4),
        Column::text("BUILT IN"),
    ]);
    for one in all {
        table.add([
            args.model_type.clone(),
            one.model_name,
            one.model_lang.join(" "),
            one.model_ability.join(" "),
            one.dimensions.map_or(String::new(), |dimensions| dimensions.to_string()),
            if one.is_builtin { "yes" } else { "no" }.to_owned(),
        ]);
    }
    print(&table)
}

/// Registers a model of the user's own.
pub(crate) fn register(args: &RegisterArgs, terminal: &Terminal) -> Result<()> {
    let model = input::small_json(&args.file)?;
    let body = json!({"model": model, "persist": args.persist, "worker_ip": args.worker_ip});
    let path = ["v1", "model_registrations", &args.model_type];
    let _: Value = Remote::new(&args.server)?.ask(Verb::Post, &path, &[], Some(&body))?;
    terminal.note("the model is registered");
    Ok(())
}

/// Removes a model that was registered.
pub(crate) fn unregister(args: &UnregisterArgs, terminal: &Terminal) -> Result<()> {
    let path = ["v1", "model_registrations", &args.model_type, &args.model_name];
    let _: Value = Remote::new(&args.server)?.ask(Verb::Delete, &path, &[], None)?;
    terminal.note(&format!("{} is no longer registered", args.model_name));
    Ok(())
}

/// Prints in which forms a model can be launched.
pub(crate) fn engine(args: &EngineArgs) -> Result<()> {
    #[derive(Deserialize)]
    struct Form {
        model_format: String,
        model_size_in_billions: Value,
        quantizations: Vec<String>,
    }
    let path = ["v1", "engines", "LLM", &args.model_name];
    let engines: BTreeMap<String, Vec<Form>> = Remote::new(&args.server)?.get(&path, &[])?;
    let mut table = Table::new(&[
        Column::text("NAME"),
        Column::text("ENGINE"),
        Column::text("FORMAT"),
        Column::text("SIZE"),
        Column::text("QUANTIZATION"),
    ]);
    let fits = |wanted: &Option<String>, own: &str| {
        wanted.as_ref().is_none_or(|wanted| wanted.eq_ignore_ascii_case(own))
    };
    for (engine, forms) in engines.iter().filter(|(engine, _)| fits(&args.model_engine, engine)) {
        for form in forms {
            let size = text(Some(&form.model_size_in_billions));
            if !fits(&args.model_format, &form.model_format) || !fits(&args.model_size_in_billions, &size) {
                continue;
            }
            for quantization in form.quantizations.iter().filter(|own| fits(&args.quantization, own)) {
                table.add([
                    args.model_name.clone(),
                    engine.clone(),
                    form.model_format.clone(),
                    size.clone(),
                    quantization.clone(),
                ]);
            }
        }
    }
    if table.is_empty() {
        bail!(
            "{} does not run so; `glimmer engine -n {}` shows how it does",
            args.model_name,
            args.model_name
        );
    }
    print(&table)
}
