//! `glimmer batch`: the requests of a file, answered as `serve` would answer them.

use anyhow::bail;
use glimmer_server::{Batch, Options};

use crate::args::BatchArgs;
use crate::commands::serve::{known_models, names, settings};
use crate::served;
use crate::terminal::Terminal;

/// Answers, and says how it went.
pub(crate) fn run(args: &BatchArgs, terminal: &Terminal) -> anyhow::Result<()> {
    let names = names(&args.model, &args.served)?;
    let options = Options { any_model: args.any_model, ..Options::for_batch() };
    // What is wrong with the files is known before a model is loaded.
    let batch = Batch::open(&args.input, &args.output, options.limits.body, args.keep_failures)?;
    let settings = settings(&args.served, &args.device, terminal);
    let registry = served::open(known_models(&args.model, names, None, &settings)?, None, &settings)?;
    let bar = terminal.steps_bar("answering", batch.remaining() as u64);
    // As many as are computed, and as many again so that none of those waits for the next.
    let at_once = args.served.parallel.saturating_mul(2).min(args.served.queue);
    let summary = batch.run(options, registry, at_once, &mut |done| bar.set_position(done as u64))?;
    bar.finish_and_clear();
    let before = if summary.before > 0 { format!(", {} before", summary.before) } else { String::new() };
    terminal.note(&format!("{} requests answered{before}", summary.answered));
    let failed = summary.failed + summary.kept_failures;
    if failed > 0 {
        let all = summary.answered + summary.kept_failures;
        let output = args.output.display();
        let again = if args.keep_failures { "without --keep-failures" } else { "the same command" };
        bail!(
            "{failed} of {all} requests have no good answer; {output} says why, and {again} asks them again"
        );
    }
    Ok(())
}
