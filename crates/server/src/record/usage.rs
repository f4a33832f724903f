//! What a request used: tokens, and the model that computed.

use std::time::Instant;

use glimmer::Usage;

/// A model's part in a request.
pub(crate) struct ModelUse {
    pub(crate) model: String,
    pub(crate) usage: Usage,
    pub(crate) start: Instant,
    pub(crate) first_token: Option<Instant>,
    /// Why each of the answers ended.
    pub(crate) finishes: Vec<&'static str>,
}
