//! The models that are served, and what they compute. Nothing here knows how a request came or how it is answered.

pub(crate) mod adapters;
pub(crate) mod blocking;
pub(crate) mod encoder;
pub(crate) mod generation;
pub(crate) mod instances;
pub(crate) mod made;
pub(crate) mod pictures;
pub(crate) mod served;
pub(crate) mod turns;
