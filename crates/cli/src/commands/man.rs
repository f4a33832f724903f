//! `glimmer man [VERB]`: the manual in roff.

use anyhow::bail;
use clap_mangen::Man;

use crate::WrongUsage;
use crate::args::{self, ManArgs};
use crate::output;

/// Prints the page of a verb, or the program's own.
pub(crate) fn run(args: &ManArgs) -> anyhow::Result<()> {
    let mut program = args::command();
    program.build();
    let page = match &args.verb {
        None => program,
        Some(verb) => match program.find_subcommand(verb) {
            Some(command) => command.clone(),
            None => bail!(WrongUsage(format!("there is no verb {verb:?}; `glimmer help` lists them"))),
        },
    };
    let mut roff = Vec::new();
    Man::new(page).render(&mut roff)?;
    output::print(&String::from_utf8_lossy(&roff))
}
