//! Glimmer: cpu.
