//! What a vision tower is: the facts in which the towers of the generations differ.

use glimmer_tensor::{Heads, Rope};

use super::names::TowerNaming;
use crate::NormSpec;

/// Which form of GELU (Hendrycks and Gimpel, 2016).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gelu {
    /// With the error function.
    Erf,
    /// With tanh.
    Tanh,
}

/// What patches are told of their places before the first layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchPositions {
    /// Nothing: layers rotate by them (GLM-OCR).
    None,
    /// A learned row for each place of a square grid, which every picture has (EVA2-CLIP, SigLIP).
    Learned {
        /// Patches in a row of the grid.
        side: usize,
    },
    /// A learned square grid, sampled bicubically at the places of the picture's (GLM-4.1V).
    Sampled {
        /// Places in a row of the learned grid.
        side: usize,
    },
}

/// How patches become rows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stem {
    /// Values of a patch: channels, frames, lines, columns.
    pub pixels: usize,
    /// Whether a learned row stands before the patches, and is left out after the layers (EVA2-CLIP).
    pub class_row: bool,
    /// The norm of rows before positions are added.
    pub norm: Option<NormSpec>,
    /// What is added.
    pub positions: PatchPositions,
}

/// The feed-forward's inner activation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TowerActivation {
    /// `silu(gate(x)) * up(x)`.
    SwiGlu,
    /// `gelu(up(x))`.
    Gelu(Gelu),
}

/// A layer; all are alike.
#[derive(Clone, Debug, PartialEq)]
pub struct TowerLayer {
    /// All norms of the layer.
    pub norm: NormSpec,
    /// Whether a branch is normed after it was computed, `x += norm(f(x))`, and not before, `x += f(norm(x))`.
    pub norm_after: bool,
    /// Heads of queries, keys and values, as many of each.
    pub heads: Heads,
    /// The norm of each head's queries and keys.
    pub head_norm: Option<NormSpec>,
    /// The rotation of queries and keys by the row (axis 0) and the column (axis 1) of a patch.
    pub rope: Option<Rope>,
    /// Whether there are biases on queries, keys and values.
    pub qkv_bias: bool,
    /// Whether there is one on attention's output.
    pub out_bias: bool,
    /// Width of the feed-forward's inner activations.
    pub inner: usize,
    /// What makes them.
    pub activation: TowerActivation,
    /// Whether the feed-forward has biases.
    pub ffn_bias: bool,
}

/// From merged rows to the decoder's: `down(silu(gate(y)) * up(y))` with `y = gelu(norm(projection(x)))`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adapter {
    /// The norm of what is projected.
    pub norm: NormSpec,
    /// Its GELU.
    pub gelu: Gelu,
    /// Width of the gated product.
    pub inner: usize,
}

/// The facts of one tower. Widths are in elements.
#[derive(Clone, Debug, PartialEq)]
pub struct VisionSpec {
    /// What its tensors are called.
    pub naming: TowerNaming,
    /// Width of the residual stream.
    pub width: usize,
    /// Pixels in a row of a patch.
    pub patch: usize,
    /// Frames of a patch.
    pub span: usize,
    /// Its beginning.
    pub stem: Stem,
    /// How many layers there are.
    pub layers: usize,
    /// What each of them is.
    pub layer: TowerLayer,
    /// The norm after the last layer.
    pub last_norm: Option<NormSpec>,
    /// Patches in a row of the blocks that become one row, by a convolution with as large a kernel.
    pub merge: usize,
    /// Width of the decoder's residual stream.
    pub hidden: usize,
    /// What is done to merged rows.
    pub adapter: Adapter,
    /// Whether learned rows stand before and after the features (`boi` and `eoi`).
    pub ends: bool,
    /// What all features are divided by.
    pub divisor: f32,
}

impl VisionSpec {
    /// The grid of merged rows: groups of frames, rows, columns.
    pub fn merged(&self, grid: [usize; 3]) -> [usize; 3] {
        let [frames, rows, columns] = grid;
        [frames, rows / self.merge, columns / self.merge]
    }

    /// Rows that a picture has in the prompt.
    pub fn feature_rows(&self, grid: [usize; 3]) -> usize {
        self.merged(grid).iter().product::<usize>() + if self.ends { 2 } else { 0 }
    }

    /// Pixels in a row of the square that every picture is brought to; `None` where pictures keep their shape.
    pub fn image_side(&self) -> Option<usize> {
        match self.stem.positions {
            PatchPositions::Learned { side } => Some(side * self.patch),
            PatchPositions::None | PatchPositions::Sampled { .. } => None,
        }
    }

    /// Patches of every picture; `None` where pictures keep their shape.
    pub fn fixed_patches(&self) -> Option<usize> {
        self.image_side().map(|side| (side / self.patch).pow(2))
    }

    /// Rows before the patches of a frame.
    pub(super) fn lead(&self) -> usize {
        usize::from(self.stem.class_row)
    }

    /// What is wrong with a picture's grid, if anything.
    pub(super) fn misfit(&self, grid: [usize; 3]) -> Option<String> {
        let [frames, rows, columns] = grid;
        if frames == 0 || rows == 0 || columns == 0 {
            return Some("a picture without patches".to_owned());
        }
        if !rows.is_multiple_of(self.merge) || !columns.is_multiple_of(self.merge) {
            return Some(format!("{rows} x {columns} patches are no blocks of {0} x {0}", self.merge));
        }
        match self.stem.positions {
            PatchPositions::Learned { side } if grid != [1, side, side] => Some(format!(
                "{frames} x {rows} x {columns} patches, where the tower has places for 1 x {side} x {side}"
            )),
            _ => None,
        }
    }
}
