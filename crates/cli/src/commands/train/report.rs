//! What is told of a training that has ended: a table and a plot.

use std::path::Path;

use anyhow::Context;
use glimmer::OutputFile;
use glimmer_train::{Curve, Ending, METRICS, Trainer, curve, plot, smoothed};
use std::io::Write;

use super::onlooker::{AtTerminal, duration, most_resident};
use crate::output::{Lines, size};
use crate::terminal::Terminal;

/// What it is made of.
pub(super) struct Report<'a, 't> {
    pub(super) trainer: &'a Trainer<'a>,
    pub(super) onlooker: &'a AtTerminal<'t>,
    pub(super) ending: Ending,
}

impl Report<'_, '_> {
    /// Writes the plot and prints the table.
    pub(super) fn write(&self, output: &Path, terminal: &Terminal) -> anyhow::Result<()> {
        let losses = curve(output, "loss").with_context(|| METRICS.to_owned())?;
        let evaluations = curve(output, "eval_loss").with_context(|| METRICS.to_owned())?;
        let means = smoothed(&losses);
        self.plot(output, &losses, &means, &evaluations)?;
        let number =
            |value: Option<&(u64, f64)>| value.map_or("-".to_owned(), |(_, loss)| format!("{loss:.4}"));
        let Trainer { progress, course, .. } = self.trainer;
        let mut lines = Lines::default();
        lines.add(format_args!("steps       {} of {}", progress.step, course.schedule.steps));
        lines.add(format_args!("epochs      {}", progress.position.epoch));
        lines.add(format_args!("first loss  {}", number(losses.first())));
        lines.add(format_args!("last loss   {} (mean {})", number(losses.last()), number(means.last())));
        if let Some(best) = progress.best {
            lines.add(format_args!("evaluation  {:.4}, best at step {}", best.loss, best.step));
        }
        lines.add(format_args!("time        {}", duration(self.onlooker.seconds)));
        lines.add(format_args!("tokens/s    {:.0}", self.onlooker.speed()));
        if let Some(bytes) = most_resident() {
            lines.add(format_args!("memory      {}", size(bytes)));
        }
        lines.add(format_args!("written     {}", output.display()));
        lines.print()?;
        if self.ending == Ending::Stale {
            terminal.note("ended early: the evaluation became no better");
        }
        Ok(())
    }

    fn plot(
        &self,
        output: &Path,
        losses: &[(u64, f64)],
        means: &[(u64, f64)],
        evaluations: &[(u64, f64)],
    ) -> anyhow::Result<()> {
        let curves = [
            Curve { name: "loss", colour: "#b8d4f0", width: 1.0, points: losses },
            Curve { name: "mean", colour: "#1f6fc4", width: 2.0, points: means },
            Curve { name: "evaluation", colour: "#d9480f", width: 2.0, points: evaluations },
        ];
        let shown = if evaluations.is_empty() { &curves[..2] } else { &curves };
        let path = output.join("loss.svg");
        let mut file = OutputFile::create(&path)?;
        file.write_all(plot("loss by step", shown).as_bytes()).with_context(|| path.display().to_string())?;
        Ok(file.finish()?)
    }
}
