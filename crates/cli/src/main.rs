//! The binary `glimmer`: reads the command line, calls the libraries, prints what they answer.
//!
//! From here one `match` leads to the verbs in `commands/`. Failures come back here as values; this file alone turns
//! them into a line on standard error and an exit status.
#![forbid(unsafe_code)]

mod args;
mod commands;
mod golden;
mod input;
mod jsonl;
mod model;
mod output;
mod printer;
mod random;
mod sampling;
mod terminal;

use std::io;
use std::process::ExitCode;

use clap::FromArgMatches;

use args::{CommandLine, Verb};
use terminal::Terminal;

fn main() -> ExitCode {
    let matches = args::command().get_matches();
    let command_line = CommandLine::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let terminal = Terminal::new(command_line.quiet);
    match dispatch(&command_line.verb, &terminal) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            terminal.error(&error);
            ExitCode::from(if error.is::<WrongUsage>() { 2 } else { 1 })
        }
    }
}

fn dispatch(verb: &Verb, terminal: &Terminal) -> anyhow::Result<()> {
    match verb {
        Verb::Chat(args) => commands::chat::run(args, terminal),
        Verb::Run(args) => commands::run::run(args, terminal),
        Verb::Serve(args) => commands::serve::run(args, terminal),
        Verb::Batch(args) => commands::batch::run(args, terminal),
        Verb::Tokenize(args) => commands::tokenize::run(args),
        Verb::Detokenize(args) => commands::detokenize::run(args),
        Verb::Template(args) => commands::template::run(args),
        Verb::Logits(args) => commands::logits::run(args, terminal),
        Verb::Inspect(args) => commands::inspect::run(args, terminal),
        Verb::Verify(args) => commands::verify::run(args, terminal),
        Verb::Convert(args) => commands::convert::run(args, terminal),
        Verb::Synth(args) => commands::synth::run(args, terminal),
        Verb::Bench(args) => commands::bench::run(args, terminal),
        Verb::Completions(args) => commands::completions::run(args),
        Verb::Man(args) => commands::man::run(args),
    }
}

/// A command line that parses but makes no sense: exit status 2.
#[derive(Debug)]
pub(crate) struct WrongUsage(pub(crate) String);

impl std::fmt::Display for WrongUsage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for WrongUsage {}

/// Whether the reader of our output went away: `glimmer ... | head` is no failure.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let kinds = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>()).map(io::Error::kind);
    kinds.into_iter().any(|kind| kind == io::ErrorKind::BrokenPipe)
}
