//! Glimmer: engine.
