//! Glimmer: checkpoint.
