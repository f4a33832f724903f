//! `glimmer eval`: how good a model's answers are.

mod generation;

use crate::args::{EvalArgs, Evaluation};
use crate::terminal::Terminal;

/// Evaluates and prints.
pub(crate) fn run(args: &EvalArgs, terminal: &Terminal) -> anyhow::Result<()> {
    match &args.what {
        Evaluation::Generation(args) => generation::run(args, terminal),
    }
}
