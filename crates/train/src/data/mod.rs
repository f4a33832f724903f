//! Files of conversations, rendered as the server renders them.
//!
//! | type | holds |
//! |---|---|
//! | [`DataFile`] | where each row of a file begins; rows are read when they are wanted |
//! | [`Row`] | what a row says: a conversation, a question with its answer, a text |
//! | [`Renderer`] | a model's tokenizer and chat format: rows to examples |
//! | [`Dataset`] | a file and a renderer |
//! | [`Survey`] | lengths, what is cut, what is refused: one look at all of it |
//! | [`Batches`] | the order of an epoch, and examples for one batch after another |

mod batches;
mod csv;
mod dataset;
mod error;
mod file;
mod order;
mod render;
mod row;
mod split;
mod survey;

pub use batches::{BatchLimits, Batches, Position};
pub use dataset::Dataset;
pub use error::DataError;
pub use file::{DataFile, Format};
pub use order::Order;
pub use render::{Asked, Limits, Renderer, Rendering};
pub use row::{Columns, Row};
pub use survey::{Lengths, Refused, Survey};
