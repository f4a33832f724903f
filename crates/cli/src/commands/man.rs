//! `glimmer man [VERB]`: the manual in roff.

use std::path::Path;

use anyhow::{Context, bail};
use clap::Command;
use clap_mangen::Man;

use crate::WrongUsage;
use crate::args::{self, ManArgs};
use crate::output;

/// Prints the page of a verb, or the program's own; or writes all of them.
pub(crate) fn run(args: &ManArgs) -> anyhow::Result<()> {
    let mut program = args::command();
    program.build();
    match (&args.into, &args.verb) {
        (Some(folder), _) => write_all(&program, folder),
        (None, None) => output::print(&page(&program)?),
        (None, Some(verb)) => match program.find_subcommand(verb) {
            Some(command) => output::print(&page(command)?),
            None => bail!(WrongUsage(format!("there is no verb {verb:?}; `glimmer help` lists them"))),
        },
    }
}

fn page(command: &Command) -> anyhow::Result<String> {
    let mut roff = Vec::new();
    Man::new(command.clone()).render(&mut roff)?;
    Ok(String::from_utf8_lossy(&roff).into_owned())
}

/// `glimmer.1`, and `glimmer-VERB.1` for each verb.
fn write_all(program: &Command, folder: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    // clap adds `help`, which has no page.
    let verbs = program.get_subcommands().filter(|verb| verb.get_name() != "help");
    for command in [program].into_iter().chain(verbs) {
        let name = command.get_display_name().unwrap_or(command.get_name());
        let path = folder.join(format!("{name}.1"));
        std::fs::write(&path, page(command)?).with_context(|| path.display().to_string())?;
    }
    Ok(())
}
