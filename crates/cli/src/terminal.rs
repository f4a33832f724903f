//! What people see beside the results: warnings, notes, progress. All of it on standard error, a line each.

use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use glimmer::Escaped;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::output;

/// Standard error and what the user wants to see on it.
#[derive(Clone)]
pub(crate) struct Terminal {
    quiet: bool,
    interactive: bool,
    /// Whether nothing is told but errors.
    muted: bool,
}

impl Terminal {
    pub(crate) fn new(quiet: bool) -> Self {
        Terminal { quiet, interactive: io::stderr().is_terminal(), muted: false }
    }

    /// For what was told before: only errors are.
    pub(crate) fn muted(&self) -> Self {
        Terminal { quiet: true, muted: true, ..*self }
    }

    /// Something that may make the result wrong.
    pub(crate) fn warn(&self, message: &str) {
        if !self.muted {
            line(&mut io::stderr(), "warning", message);
        }
    }

    /// Something good to know; `--quiet` leaves it out.
    pub(crate) fn note(&self, message: &str) {
        if !self.quiet {
            line(&mut io::stderr(), "note", message);
        }
    }

    /// Why the program fails: the causes from the outside in, joined by colons.
    pub(crate) fn error(&self, error: &anyhow::Error) {
        let mut message = String::new();
        for cause in error.chain() {
            let cause = cause.to_string();
            // Errors that already quote their cause would say it twice.
            if message.ends_with(&cause) {
                continue;
            }
            if !message.is_empty() {
                message.push_str(": ");
            }
            message.push_str(&cause);
        }
        line(&mut io::stderr(), "error", &message);
    }

    /// A question to be answered with yes or no; no answer when nobody is there to be asked.
    pub(crate) fn ask(&self, question: &str) -> Option<bool> {
        if !self.interactive || !io::stdin().is_terminal() {
            return None;
        }
        let mut err = io::stderr().lock();
        // There is nobody to tell if this fails.
        drop(write!(err, "{} [y/N] ", Escaped(question)).and_then(|()| err.flush()));
        let mut answer = String::new();
        let read = io::stdin().read_line(&mut answer);
        Some(read.is_ok() && ["y", "yes"].contains(&answer.trim().to_ascii_lowercase().as_str()))
    }

    /// Running text that is not the result, such as a model's reasoning: dimmed where that can be seen.
    pub(crate) fn aside(&self, text: &str) {
        if self.quiet {
            return;
        }
        let mut err = io::stderr().lock();
        // There is nobody to tell if this fails.
        drop(match (self.interactive, self.coloured()) {
            (true, true) => write!(err, "\x1b[2m{}\x1b[0m", output::harmless(text)),
            (true, false) => write!(err, "{}", output::harmless(text)),
            (false, _) => write!(err, "{text}"),
        });
    }

    /// Whether somebody reads standard error as it comes.
    pub(crate) fn is_interactive(&self) -> bool {
        self.interactive
    }

    /// Whether pictures are, beside the text that somebody reads.
    pub(crate) fn shows_pictures(&self) -> bool {
        self.interactive && !self.quiet
    }

    /// Whether colours are wanted there.
    pub(crate) fn coloured(&self) -> bool {
        self.interactive && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
    }

    /// A line that the next one replaces; an empty one removes it. Nobody sees it unless somebody watches.
    pub(crate) fn transient(&self, text: &str) {
        if self.interactive && !self.quiet {
            self.control(&format!("\r\x1b[2K{text}"));
        }
    }

    /// Control sequences of our own.
    pub(crate) fn control(&self, sequence: &str) {
        let mut err = io::stderr().lock();
        // There is nobody to tell if this fails.
        drop(err.write_all(sequence.as_bytes()).and_then(|()| err.flush()));
    }

    /// Until the guard is dropped, what is typed is not shown; it is kept for whoever reads next.
    pub(crate) fn without_echo(&self) -> EchoOff {
        let before = tcgetattr(io::stdin()).ok();
        if let Some(mut settings) = before.clone() {
            settings.local_modes.remove(LocalModes::ECHO);
            // A terminal that cannot do this shows what is typed, no more.
            let _ = tcsetattr(io::stdin(), OptionalActions::Now, &settings);
        }
        EchoOff { before }
    }

    /// A bar for bytes, shown when somebody watches and the work lasts.
    pub(crate) fn bytes_bar(&self, what: &'static str, total: u64) -> ProgressBar {
        let bar = self.bar(
            what,
            total,
            "{prefix} [{bar:24}] {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left",
        );
        bar.enable_steady_tick(Duration::from_millis(200));
        bar
    }

    /// A bar for pieces of work, shown when somebody watches; between them it does nothing that could disturb.
    pub(crate) fn steps_bar(&self, what: &'static str, total: u64) -> ProgressBar {
        let bar = self.bar(what, total, "{prefix} [{bar:24}] {pos} of {len}, {eta} left");
        bar.tick();
        bar
    }

    /// A bar for pieces of work that are told of by figures.
    pub(crate) fn figures_bar(&self, what: &'static str, total: u64) -> ProgressBar {
        let bar = self.bar(what, total, "{prefix} [{bar:24}] {pos} of {len}: {msg}");
        bar.tick();
        bar
    }

    fn bar(&self, what: &'static str, total: u64, template: &str) -> ProgressBar {
        let target = if self.interactive && !self.quiet {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(Some(total), target);
        let style = ProgressStyle::with_template(template).expect("the template is a constant that parses");
        bar.set_style(style.progress_chars("=> "));
        bar.set_prefix(what);
        bar
    }
}

/// See [`Terminal::without_echo`].
pub(crate) struct EchoOff {
    before: Option<Termios>,
}

impl Drop for EchoOff {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            let _ = tcsetattr(io::stdin(), OptionalActions::Now, before);
        }
    }
}

/// One line, whatever the message holds. There is nobody to tell if that fails. It is written at once, because a server
/// writes its log to standard error without the program's lock on it.
fn line(out: &mut impl Write, kind: &str, message: &str) {
    let line = format!("{kind}: {}", Escaped(message));
    drop(out.write_all(format!("{}\n", shortened(&line)).as_bytes()));
}

/// The most characters of a line that says what is wrong.
const LONGEST: usize = 299;

/// The beginning and the end of a line that is longer than anybody reads: what is wrong mostly stands there, and what is
/// quoted between.
pub(crate) fn shortened(line: &str) -> Cow<'_, str> {
    const GAP: &str = " ... ";
    const HALF: usize = (LONGEST - GAP.len()) / 2;
    if line.chars().count() <= LONGEST {
        return Cow::Borrowed(line);
    }
    let at = |number: Option<(usize, char)>| number.map_or(0, |(at, _)| at);
    let (begin, end) = (at(line.char_indices().nth(HALF)), at(line.char_indices().nth_back(HALF - 1)));
    Cow::Owned([&line[..begin], GAP, &line[end..]].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_written_at_once() {
        struct Pieces(Vec<Vec<u8>>);
        impl Write for Pieces {
            fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
                self.0.push(piece.to_vec());
                Ok(piece.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut out = Pieces(Vec::new());
        line(&mut out, "note", "serving\nmodels");
        assert_eq!(out.0, [b"note: serving\\nmodels\n"]);
    }

    #[test]
    fn long_lines_keep_both_ends() {
        for line in [String::new(), "a".repeat(299), "名".repeat(299)] {
            assert_eq!(shortened(&line), line);
        }
        let long = format!("error: {} is wrong", "名a".repeat(1_000_000));
        let short = shortened(&long);
        assert!(short.starts_with("error: 名a") && short.ends_with("名a is wrong"), "{short}");
        assert!((298..=299).contains(&short.chars().count()));
    }
}
