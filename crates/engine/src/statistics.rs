//! What the engine does and has done, for `/metrics` and for people.

use std::time::Duration;

/// A snapshot at the end of a step. What is not said to be "now" has been counted since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Requests being computed now.
    pub running: usize,
    /// Requests waiting now.
    pub waiting: usize,
    /// Pages of the cache.
    pub pages: usize,
    /// Pages that requests hold now.
    pub pages_used: usize,
    /// Pages nobody holds now that still remember what they were full of.
    pub pages_cached: usize,
    /// Tokens of prompts that were computed, again after a preemption.
    pub prompt_tokens: u64,
    /// Tokens of prompts that were found remembered.
    pub cached_tokens: u64,
    /// Tokens chosen.
    pub generated_tokens: u64,
    /// Tokens guessed ahead and computed.
    pub drafted_tokens: u64,
    /// Of these, the ones that were right.
    pub accepted_tokens: u64,
    /// Tokens that a draft model guessed and that were looked at.
    pub draft_model_tokens: u64,
    /// Of these, the ones that were right.
    pub draft_model_accepted: u64,
    /// Requests that had to give their pages back and start again.
    pub preemptions: u64,
    /// Requests that were answered to the end.
    pub finished: u64,
    /// Requests that failed or were refused.
    pub failed: u64,
    /// Requests whose receiver went away.
    pub cancelled: u64,
    /// Pictures that went through the tower.
    pub pictures: u64,
    /// Pictures whose features were there already.
    pub pictures_kept: u64,
    /// Steps.
    pub steps: u64,
    /// Time in the model.
    pub forward: Duration,
    /// Time in the draft model.
    pub drafting: Duration,
    /// Time in the tower.
    pub seeing: Duration,
    /// Time of steps outside the models: accepting requests, planning, choosing tokens, telling.
    pub outside: Duration,
}

impl Statistics {
    /// With what was counted in `past`, by an engine of the same model before this one.
    pub fn after(self, past: &Statistics) -> Self {
        Statistics {
            prompt_tokens: self.prompt_tokens + past.prompt_tokens,
            cached_tokens: self.cached_tokens + past.cached_tokens,
            generated_tokens: self.generated_tokens + past.generated_tokens,
            drafted_tokens: self.drafted_tokens + past.drafted_tokens,
            accepted_tokens: self.accepted_tokens + past.accepted_tokens,
            draft_model_tokens: self.draft_model_tokens + past.draft_model_tokens,
            draft_model_accepted: self.draft_model_accepted + past.draft_model_accepted,
            preemptions: self.preemptions + past.preemptions,
            finished: self.finished + past.finished,
            failed: self.failed + past.failed,
            cancelled: self.cancelled + past.cancelled,
            pictures: self.pictures + past.pictures,
            pictures_kept: self.pictures_kept + past.pictures_kept,
            steps: self.steps + past.steps,
            forward: self.forward + past.forward,
            drafting: self.drafting + past.drafting,
            seeing: self.seeing + past.seeing,
            outside: self.outside + past.outside,
            ..self
        }
    }

    /// What was counted, without what was so just now.
    pub fn of_the_past(self) -> Self {
        Statistics { running: 0, waiting: 0, pages: 0, pages_used: 0, pages_cached: 0, ..self }
    }
}
