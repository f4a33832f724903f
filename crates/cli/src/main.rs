//! The binary `glimmer`: reads the command line, calls the libraries, prints what they answer.
//!
//! From here one `match` leads to the verbs in `commands/`. Failures come back here as values; this file alone turns
//! them into a line on standard error and an exit status.
#![forbid(unsafe_code)]

mod args;
mod browser;
mod catalogue;
mod commands;
mod directories;
mod golden;
mod hubs;
mod input;
mod interrupt;
mod jsonl;
mod launcher;
mod model;
mod output;
mod page;
mod pictures;
mod printer;
mod random;
mod remote;
mod sampling;
mod served;
mod terminal;
mod thumbnail;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::FromArgMatches;

use args::{CommandLine, Verb};
use terminal::Terminal;

fn main() -> ExitCode {
    let command_line = args::command()
        .try_get_matches_from(args::spelled_out(std::env::args_os()))
        .and_then(|matches| CommandLine::from_arg_matches(&matches))
        .unwrap_or_else(|error| refuse(&error));
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

/// Says what is wrong with the command line (or shows the help that it asks for), and ends the program. What clap
/// quotes may be of any length.
fn refuse(error: &clap::Error) -> ! {
    let text = error.render().to_string();
    let is_list = |line: &str| line.trim_start().starts_with("[possible values: ");
    let short: Vec<_> = text
        .lines()
        .map(|line| if is_list(line) { line.into() } else { terminal::shortened(line) })
        .collect();
    if !error.use_stderr() || short.iter().zip(text.lines()).all(|(short, line)| short == line) {
        error.exit();
    }
    // There is nobody to tell if this fails.
    drop(writeln!(io::stderr().lock(), "{}", short.join("\n")));
    std::process::exit(error.exit_code())
}

fn dispatch(verb: &Verb, terminal: &Terminal) -> anyhow::Result<()> {
    match verb {
        Verb::Chat(args) => commands::chat::run(args, terminal),
        Verb::Run(args) => commands::run::run(args, terminal),
        Verb::Ocr(args) => commands::ocr::run(args, terminal),
        Verb::Serve(args) => commands::serve::run(args, terminal),
        Verb::Local(args) => commands::serve::run_local(args, terminal),
        Verb::Health(args) => commands::health::run(args),
        Verb::Batch(args) => commands::batch::run(args, terminal),
        Verb::Launch(args) => commands::launch::run(args, terminal),
        Verb::Terminate(args) => commands::running::terminate(args, terminal),
        Verb::Engine(args) => commands::registered::engine(args),
        Verb::Registrations(args) => commands::registered::list(args),
        Verb::Register(args) => commands::registered::register(args, terminal),
        Verb::Unregister(args) => commands::registered::unregister(args, terminal),
        Verb::Cached(args) => commands::cached::list(args),
        Verb::RemoveCache(args) => commands::cached::remove(args, terminal),
        Verb::CalModelMem(args) => commands::model_memory::run(args, terminal),
        Verb::Pull(args) => commands::pull::run(args, terminal),
        Verb::Rm(args) => commands::cache::remove(args, terminal),
        Verb::Cache(args) => commands::cache::run(args, terminal),
        Verb::Tokenize(args) => commands::tokenize::run(args, terminal),
        Verb::Detokenize(args) => commands::detokenize::run(args, terminal),
        Verb::Template(args) => commands::template::run(args, terminal),
        Verb::Logits(args) => commands::logits::run(args, terminal),
        Verb::Train(args) => commands::train::run(args, terminal),
        Verb::Eval(args) => commands::eval::run(args, terminal),
        Verb::List(args) => commands::list::run(args),
        Verb::Show(args) => commands::show::run(args),
        Verb::Fit(args) => commands::fit::run(args),
        Verb::Inspect(args) => commands::inspect::run(args, terminal),
        Verb::Verify(args) => commands::verify::run(args, terminal),
        Verb::Convert(args) => commands::convert::run(args, terminal),
        Verb::Fuse(args) => commands::convert::fuse(args, terminal),
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
