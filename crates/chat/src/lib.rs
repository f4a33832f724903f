//! Glimmer: chat.
