//! `glimmer list --running` and `glimmer terminate`: the models of a running server.

use anyhow::Result;
use glimmer_hub::Verb;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::args::{EndpointArgs, TerminateArgs};
use crate::output::{self, Lines};
use crate::page::{self, Column, Table};
use crate::remote::Remote;
use crate::terminal::Terminal;

/// What a server says of a model.
#[derive(Deserialize, Serialize)]
struct Running {
    id: String,
    model_type: String,
    model_name: String,
    model_format: Option<String>,
    model_size_in_billions: Option<Value>,
    quantization: Option<String>,
    context_length: Option<u64>,
    replica: Option<usize>,
    /// Elements of the vectors that it makes.
    dimensions: Option<usize>,
}

/// Prints the models that run.
pub(crate) fn list(server: &EndpointArgs, as_json: bool) -> Result<()> {
    #[derive(Deserialize)]
    struct Models {
        data: Vec<Running>,
    }
    let models: Models = Remote::new(server)?.get(&["v1", "models"], &[])?;
    if as_json {
        return output::json(&models.data);
    }
    let mut lines = Lines::default();
    if models.data.is_empty() {
        lines.add("no model runs");
    } else {
        table(&models.data).lines(page::width()).iter().for_each(|line| lines.add(line));
    }
    lines.print()
}

fn table(models: &[Running]) -> Table {
    let mut table = Table::new(&[
        Column::text("UID"),
        Column::text("TYPE"),
        Column::text("NAME"),
        Column::text("FORMAT").goes(2),
        Column::text("SIZE").goes(1),
        Column::text("QUANTIZATION").goes(1),
        Column::number("DIMENSIONS").goes(3),
    ]);
    for model in models {
        table.add([
            model.id.clone(),
            model.model_type.clone(),
            model.model_name.clone(),
            model.model_format.clone().unwrap_or_default(),
            text(model.model_size_in_billions.as_ref()),
            model.quantization.clone().unwrap_or_default(),
            model.dimensions.map_or(String::new(), |dimensions| dimensions.to_string()),
        ]);
    }
    table
}

/// A number or a text, as it is shown.
pub(super) fn text(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

/// Terminates a model.
pub(crate) fn terminate(args: &TerminateArgs, terminal: &Terminal) -> Result<()> {
    let _: Value =
        Remote::new(&args.server)?.ask(Verb::Delete, &["v1", "models", &args.model_uid], &[], None)?;
    terminal.note(&format!("{} is terminated", args.model_uid));
    Ok(())
}
