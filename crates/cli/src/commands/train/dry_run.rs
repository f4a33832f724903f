//! `glimmer train --dry-run`: what would be learned, shown before anything is.

use std::io::{self, IsTerminal};

use anyhow::ensure;
use glimmer::Tokenizer;
use glimmer_train::Example;
use glimmer_train::config::TrainConfig;
use glimmer_train::data::{Dataset, Lengths, Survey};

use super::settings::steps_of_epoch;
use crate::output::{self, Lines, harmless};

/// Examples that are shown.
const SHOWN: usize = 3;

/// Lines that are named of those that are cut or refused.
const NAMED: usize = 20;

/// Characters of the longest bar.
const BAR: usize = 40;

/// What stands around learned text: in colour, and where there is none.
const COLOUR: [&str; 2] = ["\x1b[32m", "\x1b[0m"];
const MARKS: [&str; 2] = ["⟦", "⟧"];

/// Shows the first examples, figures of all, rows that are cut or refused, and how long the training would be; an error where
/// it would not begin.
pub(super) fn show(config: &TrainConfig, data: &Dataset<'_>, survey: &Survey) -> anyhow::Result<()> {
    let colours =
        io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let marks = if colours { COLOUR } else { MARKS };
    let rendered = (0..data.file().len()).filter_map(|row| Some((row, data.render(row).ok()?.examples)));
    let examples = rendered.flat_map(|(row, all)| all.into_iter().map(move |example| (row, example)));
    for (row, example) in examples.take(SHOWN) {
        let (line, tokens, learned) = (data.file().line(row), example.ids.len(), example.targets().count());
        output::print(&format!("-- line {line}: {tokens} tokens, {learned} learned\n"))?;
        output::print(&format!("{}\n", marked(&example, data.renderer().tokenizer(), marks)))?;
    }
    let mut lines = figures(survey);
    if !survey.tokens.is_empty() {
        length(config, data, survey.tokens.len(), &mut lines)?;
    }
    lines.print()?;
    let refused = survey.refused.len();
    ensure!(
        refused == 0 || config.data.skip_bad_rows && !survey.tokens.is_empty(),
        "{refused} rows cannot be learned from; mend them, or leave them out with --skip-bad-rows"
    );
    Ok(())
}

/// Steps, and how often all is learned from in them.
fn length(
    config: &TrainConfig,
    data: &Dataset<'_>,
    examples: usize,
    lines: &mut Lines,
) -> anyhow::Result<()> {
    let of_epoch = steps_of_epoch(config, data, config.batch)?;
    let steps = config.length.steps(of_epoch);
    let epochs = (steps as f64 / of_epoch as f64 * 100.0).round() / 100.0;
    lines.add(format_args!("{steps} steps: {epochs} epochs of {examples} examples, {of_epoch} steps each"));
    let (rate, decay, warmup) = (config.learning_rate, config.decay.name(), config.warmup.steps(steps));
    lines.add(format_args!("learning rate {rate:e}, {decay}, {warmup} steps to warm up"));
    Ok(())
}

/// An example's text with what is learned of it marked.
fn marked(example: &Example, tokenizer: &Tokenizer, marks: [&str; 2]) -> String {
    let mut text = String::new();
    let mut at = 0;
    for run in example.labels.chunk_by(|a, b| a.is_some() == b.is_some()) {
        let ids = &example.ids[at..at + run.len()];
        at += run.len();
        let piece = tokenizer.decode(ids);
        let piece = harmless(&piece);
        match run[0] {
            Some(_) => text.extend([marks[0], &piece, marks[1]]),
            None => text.push_str(&piece),
        }
    }
    text
}

/// Lengths, a histogram of them, and the lines that are cut or refused.
fn figures(survey: &Survey) -> Lines {
    let mut lines = Lines::default();
    lines.add(format_args!("{:<10}{:>8}{:>8}{:>8}{:>8}{:>12}", "", "min", "median", "p95", "max", "all"));
    for (name, lengths) in [("tokens", &survey.tokens), ("learned", &survey.learned)] {
        let Lengths { min, median, p95, max, sum, .. } = Lengths::of(lengths);
        lines.add(format_args!("{name:<10}{min:>8}{median:>8}{p95:>8}{max:>8}{sum:>12}"));
    }
    let counts = histogram(&survey.tokens);
    let most = counts.iter().map(|(_, count)| *count).max().unwrap_or(0).max(1);
    for (from, count) in counts {
        let bar = "#".repeat((count * BAR).div_ceil(most));
        lines.add(format_args!("{:>6} - {:<6} {count:>6} {bar}", from, 2 * from - 1));
    }
    if !survey.cut.is_empty() {
        lines.add(format_args!("{} rows are cut:", survey.cut.len()));
        for (line, tokens) in survey.cut.iter().take(NAMED) {
            lines.add(format_args!("  line {line}: {tokens} tokens"));
        }
        more(&mut lines, survey.cut.len());
    }
    if !survey.refused.is_empty() {
        lines.add(format_args!("{} rows cannot be learned from:", survey.refused.len()));
        for refused in survey.refused.iter().take(NAMED) {
            lines.add(format_args!("  {}", refused.why));
        }
        more(&mut lines, survey.refused.len());
    }
    lines
}

fn more(lines: &mut Lines, count: usize) {
    if count > NAMED {
        lines.add(format_args!("  and {} more", count - NAMED));
    }
}

/// How many lengths lie between a power of two and the next, from the first that has some to the last.
fn histogram(lengths: &[u32]) -> Vec<(u64, usize)> {
    let mut counts = [0; 33];
    lengths.iter().for_each(|length| counts[length.max(&1).ilog2() as usize] += 1);
    let first = counts.iter().position(|count| *count > 0).unwrap_or(0);
    let last = counts.iter().rposition(|count| *count > 0).map_or(0, |last| last + 1);
    (first..last).map(|power| (1 << power, counts[power])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_by_powers_of_two() {
        assert_eq!(histogram(&[1, 2, 3, 9, 15, 16]), [(1, 1), (2, 2), (4, 0), (8, 2), (16, 1)]);
        assert_eq!(histogram(&[]), []);
        assert_eq!(histogram(&[u32::MAX]), [(1 << 31, 1)]);
    }
}
