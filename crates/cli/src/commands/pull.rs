//! `glimmer pull`: a model from a hub.

use crate::args::PullArgs;
use crate::hubs::{AtTerminal, Hubs, Wanted};
use crate::interrupt::Interrupt;
use crate::output::{self, size};
use crate::terminal::Terminal;

/// Fetches what is missing, and prints where the model is.
pub(crate) fn run(args: &PullArgs, terminal: &Terminal) -> anyhow::Result<()> {
    let wanted = Wanted::new(&args.name)?;
    let hubs = Hubs::new(&args.hub, terminal)?;
    let onlooker = AtTerminal::new(terminal, Some(Interrupt::listen()?));
    let pulled = hubs.pull(&wanted, args.revision.as_deref(), args.into.as_deref(), &onlooker)?;
    drop(onlooker);
    let fetched = match pulled.fetched {
        0 => "nothing was missing".to_owned(),
        bytes => format!("{} were fetched and checked", size(bytes)),
    };
    terminal.note(&format!(
        "{wanted} is here, {} in {} files; {fetched}",
        size(pulled.bytes),
        pulled.files.len()
    ));
    output::print(&format!("{}\n", pulled.model.display()))
}
