//! What a training would learn from: examples as they are rendered, figures, what is cut and what is refused.

use std::io::{self, IsTerminal};

use glimmer::Tokenizer;
use glimmer_train::Example;
use glimmer_train::data::{Dataset, Lengths, Survey};

use crate::output::{self, Lines};

/// Examples that are shown.
const SHOWN: usize = 3;
/// Lines that are named of those cut, and of those refused.
const NAMED: usize = 20;

/// Prints it.
pub(super) fn show(data: &Dataset<'_>, tokenizer: &Tokenizer, survey: &Survey) -> anyhow::Result<()> {
    let coloured =
        io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let marks = if coloured { ["\x1b[32m", "\x1b[0m"] } else { ["⟦", "⟧"] };
    let rendered = (0..data.file().len()).filter_map(|row| Some((row, data.render(row).ok()?)));
    for (row, rendering) in rendered.take(SHOWN) {
        for example in &rendering.examples {
            output::print(&format!("-- line {}, {} tokens\n", data.file().line(row), example.ids.len()))?;
            output::print(&format!("{}\n", marked(example, tokenizer, marks)))?;
        }
    }
    let mut lines = Lines::default();
    for (what, tokens) in [("tokens of an example", &survey.tokens), ("of them learned", &survey.learned)] {
        let Lengths { count, sum, min, median, p95, max } = Lengths::of(tokens);
        lines.add(format_args!(
            "{what}: {min} to {max}, half of them at most {median}, 95 of 100 at most {p95}; {sum} in {count}"
        ));
    }
    for (line, tokens) in survey.cut.iter().take(NAMED) {
        lines.add(format_args!("cut: line {line}, {tokens} tokens"));
    }
    for refused in survey.refused.iter().take(NAMED) {
        lines.add(format_args!("refused: {}", refused.why));
    }
    for (what, count) in [("cut", survey.cut.len()), ("refused", survey.refused.len())] {
        if count > NAMED {
            lines.add(format_args!("{what}: {} more", count - NAMED));
        }
    }
    lines.print()
}

/// An example's text, with marks around what is learned of it.
fn marked(example: &Example, tokenizer: &Tokenizer, [begin, end]: [&str; 2]) -> String {
    let mut text = String::new();
    let learned: Vec<bool> = example.labels.iter().map(Option::is_some).collect();
    let mut at = 0;
    for run in learned.chunk_by(|a, b| a == b) {
        let part = tokenizer.decode(&example.ids[at..at + run.len()]);
        let part = output::harmless(&part);
        if run[0] {
            text.extend([begin, &part, end])
        } else {
            text.push_str(&part)
        }
        at += run.len();
    }
    text
}
