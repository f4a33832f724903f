//! Glimmer: models.
