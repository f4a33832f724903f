//! `glimmer run`: continue a prompt.

use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::ops::ControlFlow;

use anyhow::bail;
use glimmer_engine::{Engine, EngineOptions, Finish, Request, Sampling};
use glimmer_tensor::Compute;

use crate::WrongUsage;
use crate::args::{ContextLength, RunArgs};
use crate::model::{Model, check_ids, context, rows};
use crate::terminal::Terminal;
use crate::{device, input};

/// Rows per step: enough to keep the machine busy, little enough to fit its caches.
const ROWS: usize = 512;

/// Generates and prints.
pub(crate) fn run(args: &RunArgs, terminal: &Terminal) -> anyhow::Result<()> {
    let Some(ids) = &args.ids else { bail!(WrongUsage("give --ids".to_owned())) };
    let prompt = input::ids(ids)?;
    let model = Model::new(&args.model);
    let understood = model.understand(terminal)?;
    let spec = &understood.spec;
    check_ids(&prompt, spec)?;
    let stop_ids = if args.ignore_eos { Vec::new() } else { model.configured_stop_ids()? };
    let context = context(args.ctx, spec, terminal);
    if prompt.len() > context {
        let advice =
            if args.ctx == Some(ContextLength::Trained) { "" } else { "; --ctx N makes room for more" };
        bail!("the prompt has {} tokens, the context {context}{advice}", prompt.len());
    }
    let max_tokens = args.max_tokens.unwrap_or(usize::MAX);
    // No more slots than can be used: the last new token needs none.
    let slots = context.min(prompt.len().saturating_add(max_tokens));
    let rows = rows(spec, &prompt, ROWS)?;

    let compute = device::compute(&args.device, Compute::Auto);
    let kv_type = device::kv_type(&args.device, compute);
    let decoder = model.load(&understood, device::open(&args.device, compute)?, terminal)?;
    let mut engine =
        Engine::new(decoder, EngineOptions { context: slots, rows, all_logits: false, kv_type })?;
    let sampling =
        Sampling { temperature: args.temperature, seed: seed(args, terminal), ..Sampling::default() };
    let request = Request { prompt, max_tokens, stop_ids, sampling };

    let mut printer = IdPrinter { out: io::stdout().lock(), first: true };
    let mut printed = Ok(());
    let outcome = engine.generate(&request, &mut |id| {
        printed = printer.push(id);
        if printed.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    printed?;
    printer.finish()?;
    if outcome.finish == Finish::Length && outcome.tokens < max_tokens {
        terminal.note(&format!("the context of {context} tokens is full"));
    }
    Ok(())
}

/// The seed that was asked for, or a new one that can be asked for again.
fn seed(args: &RunArgs, terminal: &Terminal) -> u64 {
    args.seed.unwrap_or_else(|| {
        let seed = RandomState::new().hash_one(()) >> 32;
        if args.temperature > 0.0 {
            terminal.note(&format!("seed {seed}"));
        }
        seed
    })
}

/// Ids as they come, separated by commas, on one line.
struct IdPrinter<W> {
    out: W,
    first: bool,
}

impl<W: Write> IdPrinter<W> {
    fn push(&mut self, id: u32) -> io::Result<()> {
        let separator = if self.first { "" } else { "," };
        self.first = false;
        write!(self.out, "{separator}{id}")?;
        self.out.flush()
    }

    fn finish(mut self) -> io::Result<()> {
        writeln!(self.out)
    }
}
