//! The products `y = x W^T + b`, with what is done to `y` before it is stored: the bulk of all time.
//!
//! - [`packed`]: a matrix as the kernels read it; [`formats`] and the files of the types ([`floats`], [`legacy`],
//!   [`kquants`], [`iq4`], [`rows`]): the layout of each type.
//! - [`activations`]: rows quantized to signed bytes; [`integer`]: products with them; [`float`]: products in f32.
//! - [`probe`]: how fast the processor is where nothing else is in the way.
//! - [`low_rank`]: what adapters have beside matrices.
//! - [`turns`]: in how many runs of memory weights are read for few rows.
//! - [`panels`]: weights decoded for the products of training ([`crate::gemm`]).
//! - [`epilogue`]: bias, residual, activation function.
//! - [`mod@line`]: the cache line, between memory and the [`lanes`](crate::lanes) that all of it is written in.
//!
//! The bits of an output depend on its row of `x` and its row of weights alone (and on the instruction set and the
//! numeric mode): every kernel adds up in the same order, and threads share out tiles of weight rows, never columns.

mod activations;
mod epilogue;
mod float;
mod floats;
mod formats;
mod integer;
mod iq4;
mod kquants;
mod legacy;
mod line;
mod low_rank;
mod packed;
mod panels;
mod probe;
mod product;
mod rows;
#[cfg(test)]
mod tests;
mod turns;

pub(crate) use epilogue::{Finish, gelu, gelu_slope, silu};
pub(crate) use low_rank::{Beside, PackedPair};
pub(crate) use packed::{PackedMatrix, Packer};
pub(crate) use panels::Ready;
pub(crate) use probe::{Unit, peak, reading};
pub(crate) use product::{Activations, linear, linear_heads};
pub use turns::RunsError;
pub(crate) use turns::Turns;
