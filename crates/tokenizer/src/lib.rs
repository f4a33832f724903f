//! Glimmer: tokenizer.
