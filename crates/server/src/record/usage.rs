//! What a request used: tokens, and the model that computed.

use std::time::Instant;

use glimmer::Usage;

/// Where a prompt departs from what was read and written in the conversation's turn before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Departure {
    /// The message, from 0; none where it is before all messages, in what is said of tools.
    pub(crate) message: Option<usize>,
    /// The first token that differs.
    pub(crate) token: usize,
}

/// A model's part in a request.
pub(crate) struct ModelUse {
    pub(crate) model: String,
    pub(crate) usage: Usage,
    /// Where a prompt departed from what was computed for the turn before.
    pub(crate) departure: Option<Departure>,
    pub(crate) start: Instant,
    pub(crate) first_token: Option<Instant>,
    /// Why each of the answers ended.
    pub(crate) finishes: Vec<&'static str>,
}
