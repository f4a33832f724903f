//! What somebody sees while a model is trained.

use std::path::Path;
use std::time::{Duration, Instant};

use glimmer_train::{Onlooker, StepReport, Trainer};
use indicatif::ProgressBar;

use crate::interrupt::Interrupt;
use crate::output::size;
use crate::terminal::Terminal;

/// Between two lines where nobody watches a bar.
const PAUSE: Duration = Duration::from_secs(10);

/// A bar with figures where somebody watches, lines now and then where not.
pub(super) struct AtTerminal<'t> {
    terminal: &'t Terminal,
    interrupt: Interrupt,
    bar: ProgressBar,
    steps: u64,
    began: Instant,
    told: Option<Instant>,
    /// Of the steps that were done here: how many, their tokens, their seconds.
    pub(super) done: u64,
    pub(super) tokens: u64,
    pub(super) seconds: f64,
    /// The last evaluation.
    pub(super) evaluation: Option<f64>,
}

impl<'t> AtTerminal<'t> {
    pub(super) fn new(terminal: &'t Terminal, interrupt: Interrupt, trainer: &Trainer<'_>) -> Self {
        let steps = trainer.course.schedule.steps;
        let bar = terminal.figures_bar("training", steps);
        bar.set_position(trainer.progress.step);
        AtTerminal {
            terminal,
            interrupt,
            bar,
            steps,
            began: Instant::now(),
            told: None,
            done: 0,
            tokens: 0,
            seconds: 0.0,
            evaluation: None,
        }
    }

    /// The bar goes.
    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }

    /// Tokens a second of all steps.
    pub(super) fn speed(&self) -> f64 {
        self.tokens as f64 / self.seconds.max(1e-9)
    }

    fn figures(&self, report: &StepReport) -> String {
        // Evaluations and saves take their time, too.
        let left = self.began.elapsed().as_secs_f64() / self.done as f64 * (self.steps - report.step) as f64;
        let memory = resident().map_or(String::new(), |bytes| format!(", {}", size(bytes)));
        format!(
            "loss {:.4} (mean {:.4}), {:.0} tokens/s{memory}, {} left",
            report.loss,
            report.smoothed,
            self.speed(),
            duration(left)
        )
    }

    fn note(&self, text: &str) {
        self.bar.suspend(|| self.terminal.note(text));
    }
}

impl Onlooker for AtTerminal<'_> {
    fn wants_end(&self) -> bool {
        self.interrupt.is_asked()
    }

    fn stepped(&mut self, report: &StepReport) {
        self.done += 1;
        self.tokens += report.tokens as u64;
        self.seconds += report.seconds;
        let figures = self.figures(report);
        self.bar.set_message(figures.clone());
        self.bar.set_position(report.step);
        let is_due = self.told.is_none_or(|told| told.elapsed() >= PAUSE) || report.step == self.steps;
        if is_due && !self.terminal.is_interactive() {
            self.told = Some(Instant::now());
            self.note(&format!("step {} of {}: {figures}", report.step, self.steps));
        }
    }

    fn evaluated(&mut self, step: u64, loss: f64, is_best: bool) {
        self.evaluation = Some(loss);
        let best = if is_best { ", the best so far" } else { "" };
        self.note(&format!("step {step}: evaluation {loss:.4}{best}"));
    }

    fn saved(&mut self, path: &Path) {
        self.note(&format!("saved {}", path.display()));
    }

    fn warned(&mut self, message: &str) {
        self.bar.suspend(|| self.terminal.warn(message));
    }
}

/// Seconds for people.
pub(super) fn duration(seconds: f64) -> String {
    let seconds = seconds.round() as u64;
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    match hours {
        0 => format!("{minutes}:{:02}", seconds % 60),
        _ => format!("{hours}:{minutes:02}:{:02}", seconds % 60),
    }
}

/// Bytes of memory that this process has now (Linux's proc(5), `VmRSS`).
fn resident() -> Option<u64> {
    of_process("VmRSS:")
}

/// The most that it ever had.
pub(super) fn most_resident() -> Option<u64> {
    of_process("VmHWM:")
}

fn of_process(key: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    #[test]
    fn durations_are_those_of_a_clock() {
        assert_eq!([0.4, 59.6, 3599.0, 3661.0].map(super::duration), ["0:00", "1:00", "59:59", "1:01:01"]);
    }
}
