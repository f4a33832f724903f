//! The learning rate of each step, as transformers' `get_constant_schedule_with_warmup`,
//! `get_linear_schedule_with_warmup` and `get_cosine_schedule_with_warmup` have it.

use std::f64::consts::PI;

/// How the rate goes on after the warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decay {
    /// It stays.
    Constant,
    /// Straight down to 0 at the last step.
    Linear,
    /// Down to 0 as half a wave of the cosine.
    Cosine,
}

impl Decay {
    /// The names that configurations use.
    pub const NAMES: [(Self, &str); 3] =
        [(Decay::Constant, "constant"), (Decay::Linear, "linear"), (Decay::Cosine, "cosine")];

    /// The name that configurations use.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES.into_iter().find(|(decay, _)| *decay == self).map_or("", |(_, name)| name)
    }
}

/// The learning rate by step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    /// How it goes on after the warm-up.
    pub decay: Decay,
    /// The highest rate.
    pub peak: f64,
    /// Steps over which the rate rises straight from 0, which the first step has.
    pub warmup: u64,
    /// Steps of the whole training.
    pub steps: u64,
}

impl Schedule {
    /// The rate of a step, counted from 0.
    #[must_use]
    pub fn rate(&self, step: u64) -> f64 {
        let share = |part: u64, whole: u64| part as f64 / whole.max(1) as f64;
        if step < self.warmup {
            return self.peak * share(step, self.warmup);
        }
        let falling = self.steps.saturating_sub(self.warmup);
        self.peak
            * match self.decay {
                Decay::Constant => 1.0,
                Decay::Linear => share(self.steps.saturating_sub(step), falling),
                Decay::Cosine => (0.5 * (1.0 + (PI * share(step - self.warmup, falling)).cos())).max(0.0),
            }
    }
}
