//! The published models of the GLM family as data, and graphics cards: JSON in `data/`, checked against
//! `data/schema.json` by the tests.
//!
//! Every figure names where it is from; what no source gives is not there. A family's file is all there is to edit when a
//! model is published. The crate knows no network, no file of a model and no tensor: what a model needs is computed from
//! its [`Shape`] elsewhere.
#![forbid(unsafe_code)]

mod card;
mod catalogue;
mod custom;
mod entry;
mod error;
mod names;
mod size;

pub use card::{Capability, Card, cards};
pub use catalogue::{Catalogue, Member};
pub use entry::{
    Benchmark, Entry, Experts, Format, HubKind, Latent, Licence, Model, Origin, Published, Quality,
    Repository, Shape,
};
pub use error::{CatalogueError, NameError};
pub use names::renamed;
pub use size::Size;
