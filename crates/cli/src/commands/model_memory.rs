//! `glimmer cal-model-mem`: the memory that a model takes, in Xinference's words.

use anyhow::{Context, Result, bail};
use glimmer::{DeviceKind, KvType, Load, PublishedModel};
use glimmer_catalogue::{Catalogue, Size};
use serde::Serialize;

use crate::WrongUsage;
use crate::args::CalModelMemArgs;
use crate::catalogue::{self, runs_as};
use crate::output::{self, Lines};
use crate::terminal::Terminal;

/// Megabytes (of 2^20 bytes) by purpose, each rounded up.
#[derive(Serialize)]
struct Memory {
    model_mem: u64,
    kv_cache_mem: u64,
    activation_mem: u64,
    /// What the processor's kernels work in.
    overhead: u64,
    total: u64,
}

/// Prints what a model takes.
pub(crate) fn run(args: &CalModelMemArgs, terminal: &Terminal) -> Result<()> {
    let size = Size::parse(&args.size_in_billions).with_context(|| {
        WrongUsage(format!("--size-in-billions {:.40}: a number such as 9 or 1_5", args.size_in_billions))
    })?;
    let catalogue = catalogue::open(&[])?;
    let (name, model) = published(&catalogue, args.model_name.as_deref(), &size)?;
    if args.model_name.is_none() {
        terminal.note(&format!("counted as {name}, which has this size"));
    }
    let quantization = quantization(args)?;
    let weights = model.weights(quantization).with_context(|| {
        let known = "Q4_0, Q4_1, Q4_K_M, Q5_0, Q5_K_M, Q6_K, Q8_0, F16 and others";
        WrongUsage(format!("--quantization {quantization:.40}: `convert` writes {known}"))
    })?;
    let kv_type = match args.kv_cache_dtype.as_str() {
        "8" => KvType::Q8_0,
        "32" => KvType::F32,
        _ => KvType::F16,
    };
    let load = Load { context: args.context_length, users: 1, kv_type, device: DeviceKind::Cpu };
    let needs = load.needs(model.spec());
    let megabytes = |bytes: u64| bytes.div_ceil(1 << 20);
    let memory = Memory {
        model_mem: megabytes(weights.bytes),
        kv_cache_mem: megabytes(needs.cache),
        activation_mem: megabytes(needs.scratch - needs.working),
        overhead: megabytes(needs.working),
        total: megabytes(weights.bytes.saturating_add(needs.total())),
    };
    if args.json {
        return output::json(&memory);
    }
    let mut lines = Lines::default();
    lines.add(format_args!("model_name: {name}"));
    lines.add(format_args!("kv_cache_dtype: {}", args.kv_cache_dtype));
    lines.add(format_args!("model size: {}", size.to_string().replace('B', " B")));
    lines.add(format_args!("quant: {}", args.quantization.as_deref().unwrap_or("none")));
    lines.add(format_args!("context: {}", args.context_length));
    lines.add("mem usage:");
    lines.add(format_args!("  model mem: {} MB", memory.model_mem));
    lines.add(format_args!("  kv_cache: {} MB", memory.kv_cache_mem));
    lines.add(format_args!("  overhead: {} MB", memory.overhead));
    lines.add(format_args!("  active: {} MB", memory.activation_mem));
    lines.add(format_args!("  total: {} MB ({} GB)", memory.total, memory.total.div_ceil(1024)));
    lines.print()
}

/// The model of a name and a size, or the first of this size.
fn published(catalogue: &Catalogue, name: Option<&str>, size: &Size) -> Result<(String, PublishedModel)> {
    let entry = match name {
        Some(name) => Some(catalogue.member(name).map_err(|error| WrongUsage(error.to_string()))?.entry),
        None => None,
    };
    let mut models = catalogue
        .models()
        .filter(|(other, _)| entry.is_none_or(|entry| entry.name == other.name))
        .filter(|(_, model)| model.size == *size)
        .filter_map(|(entry, model)| {
            Some((model.name.clone(), PublishedModel::named(runs_as(catalogue, entry, model)?)?))
        });
    match (models.next(), name) {
        (Some(model), _) => Ok(model),
        (None, Some(name)) => {
            bail!("{name:.60} has no size {size}, or none that runs here; `glimmer show` has its sizes")
        }
        (None, None) => bail!("no model of {size} runs here; --model-name names one"),
    }
}

/// The quantization in llama.cpp's word.
fn quantization(args: &CalModelMemArgs) -> Result<&str> {
    let given = args.quantization.as_deref();
    match (args.model_format.as_str(), given) {
        ("pytorch", None | Some("none")) => Ok("F16"),
        ("pytorch", Some("8-bit" | "int8")) => Ok("8-bit"),
        ("pytorch", Some("4-bit" | "int4")) => Ok("4-bit"),
        ("pytorch", Some(other)) => {
            bail!(WrongUsage(format!("--quantization {other:.40}: none, 8-bit or 4-bit")))
        }
        (_, None | Some("none")) => bail!(WrongUsage("--quantization is needed with ggufv2".to_owned())),
        (_, Some(quantization)) => Ok(quantization),
    }
}
