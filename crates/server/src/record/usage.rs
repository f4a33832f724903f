//! What a request used: tokens, and the model that computed.

use std::time::Instant;

/// Tokens of a request.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    pub(crate) prompt: usize,
    pub(crate) cached: usize,
    pub(crate) completion: usize,
    pub(crate) reasoning: usize,
}

/// A model's part in a request.
pub(crate) struct ModelUse {
    pub(crate) model: String,
    pub(crate) usage: Usage,
    pub(crate) start: Instant,
    pub(crate) first_token: Option<Instant>,
    /// Why each of the answers ended.
    pub(crate) finishes: Vec<&'static str>,
}
