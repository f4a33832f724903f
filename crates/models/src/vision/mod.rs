//! Vision towers: from the patches of a picture to rows that stand in place of embeddings.
//!
//! A [`VisionSpec`] is a tower as data, read from a model's own configuration; [`Tower`] executes any of them on a device,
//! one piece at a time. `parts.rs` has the list of a tower's weights, `names.rs` what each layout calls them.

mod config;
mod export;
mod load;
mod mmproj;
mod names;
mod parts;
mod places;
mod spec;
mod stored;
mod tower;

pub use export::{KeptTensor, Mmproj, kept};
pub use load::{PIECE_ROWS, TowerPlan};
pub use names::TowerNaming;
pub use parts::{TowerMatrix, TowerPart, TowerPartKind, TowerRole};
pub use places::Patches;
pub use spec::{Adapter, Gelu, PatchPositions, Stem, TowerActivation, TowerLayer, VisionSpec};
pub use tower::{Look, Tower, VisionStage};
