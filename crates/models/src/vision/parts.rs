//! The list of a tower's weights, from which everything about them follows.

use std::collections::HashSet;
use std::ops::Range;

use glimmer_tensor::MatrixUse;

use super::spec::{PatchPositions, TowerActivation, VisionSpec};
use crate::NormSpec;

/// What a tower's weight is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TowerRole {
    /// From patches to rows.
    PatchEmbedding,
    /// The row before the patches.
    ClassRow,
    /// The learned grid of positions.
    Positions,
    /// The norm before positions are added.
    StemNorm,
    /// The norm of attention.
    AttentionNorm,
    /// Queries, keys and values.
    Qkv,
    /// The norm of each head's queries.
    QueryNorm,
    /// The norm of each head's keys.
    KeyNorm,
    /// Attention's output projection.
    AttentionOut,
    /// The norm of the feed-forward.
    FfnNorm,
    /// Into the feed-forward: gate and up, or one projection.
    FfnUp,
    /// Back to the residual stream.
    FfnDown,
    /// The norm after the last layer.
    LastNorm,
    /// The convolution that makes one row of a block.
    Merge,
    /// The adapter's first projection.
    Projection,
    /// Its norm.
    ProjectionNorm,
    /// Its gate and up.
    AdapterUp,
    /// Its last projection.
    AdapterDown,
    /// The row before the features.
    Begin,
    /// The row after them.
    End,
}

/// A weight of a tower.
#[derive(Clone, Debug, PartialEq)]
pub struct TowerPart {
    /// Its layer; `None` before the first and after the last.
    pub layer: Option<usize>,
    /// What it is for.
    pub role: TowerRole,
    /// What it is.
    pub kind: TowerPartKind,
}

/// What a part is.
#[derive(Clone, Debug, PartialEq)]
pub enum TowerPartKind {
    /// A norm of rows or heads of a width.
    Norm(NormSpec, usize),
    /// A matrix.
    Matrix(TowerMatrix),
    /// So many values that stay on the host.
    Values(usize),
}

/// A matrix `[rows, cols]`; a convolution's kernel is one with its last dimensions as columns.
#[derive(Clone, Debug, PartialEq)]
pub struct TowerMatrix {
    /// Its rows, section after section: a layout may keep sections apart.
    pub sections: Vec<usize>,
    /// Inputs.
    pub cols: usize,
    /// Whether there is a bias.
    pub bias: bool,
    /// What the device is told.
    pub used_for: MatrixUse,
}

impl TowerMatrix {
    /// Rows of all sections.
    pub fn rows(&self) -> usize {
        self.sections.iter().sum()
    }

    /// The rows of each of so many tensors: of each section, or all.
    pub(super) fn rows_of(&self, tensors: usize) -> Vec<Range<usize>> {
        if tensors == 1 {
            return std::iter::once(0..self.rows()).collect();
        }
        let mut next = 0;
        let section = |rows: &usize| {
            next += rows;
            next - rows..next
        };
        self.sections.iter().map(section).collect()
    }
}

impl VisionSpec {
    /// All weights in the order of their use.
    pub fn parts(&self) -> Vec<TowerPart> {
        let outside = |role, kind| TowerPart { layer: None, role, kind };
        let mut parts = vec![outside(
            TowerRole::PatchEmbedding,
            matrix(&[self.width], self.stem.pixels, true, MatrixUse::Linear),
        )];
        if self.stem.class_row {
            parts.push(outside(TowerRole::ClassRow, TowerPartKind::Values(self.width)));
        }
        if let Some(norm) = self.stem.norm {
            parts.push(outside(TowerRole::StemNorm, TowerPartKind::Norm(norm, self.width)));
        }
        if let PatchPositions::Learned { side } | PatchPositions::Sampled { side } = self.stem.positions {
            let values = (self.lead() + side * side) * self.width;
            parts.push(outside(TowerRole::Positions, TowerPartKind::Values(values)));
        }
        for layer in 0..self.layers {
            let of_layer = |(role, kind)| TowerPart { layer: Some(layer), role, kind };
            parts.extend(self.layer_parts().into_iter().map(of_layer));
        }
        if let Some(norm) = self.last_norm {
            parts.push(outside(TowerRole::LastNorm, TowerPartKind::Norm(norm, self.width)));
        }
        let (hidden, adapter) = (self.hidden, self.adapter);
        let block = self.width * self.merge * self.merge;
        parts.push(outside(TowerRole::Merge, matrix(&[hidden], block, true, MatrixUse::Linear)));
        parts.push(outside(TowerRole::Projection, matrix(&[hidden], hidden, false, MatrixUse::Linear)));
        parts.push(outside(TowerRole::ProjectionNorm, TowerPartKind::Norm(adapter.norm, hidden)));
        let up = matrix(&[adapter.inner; 2], hidden, false, MatrixUse::Gated);
        parts.push(outside(TowerRole::AdapterUp, up));
        let down = matrix(&[hidden], adapter.inner, false, MatrixUse::Linear);
        parts.push(outside(TowerRole::AdapterDown, down));
        if self.ends {
            let row = |role| outside(role, TowerPartKind::Values(hidden));
            parts.extend([TowerRole::Begin, TowerRole::End].map(row));
        }
        parts
    }

    /// The names of all its tensors.
    pub fn tensors(&self) -> HashSet<String> {
        let mut tensors = HashSet::new();
        for part in self.parts() {
            let names = self.naming.names(part.layer, part.role);
            let endings: &[&str] = match &part.kind {
                TowerPartKind::Values(_) => &[""],
                _ => &[".weight", ".bias"],
            };
            let of =
                |name: &String| endings.iter().map(|ending| format!("{name}{ending}")).collect::<Vec<_>>();
            tensors.extend(names.iter().flat_map(of));
            tensors.extend(self.naming.second_frame(part.role).map(str::to_owned));
        }
        tensors
    }

    fn layer_parts(&self) -> Vec<(TowerRole, TowerPartKind)> {
        let (width, layer) = (self.width, &self.layer);
        let heads = layer.heads;
        let norm = |role| (role, TowerPartKind::Norm(layer.norm, width));
        let linear = |role, rows, cols, bias| (role, matrix(&[rows], cols, bias, MatrixUse::Linear));
        let qkv = [heads.q_width(), heads.k_width(), heads.v_width()];
        let mut parts = vec![
            norm(TowerRole::AttentionNorm),
            (TowerRole::Qkv, matrix(&qkv, width, layer.qkv_bias, MatrixUse::Linear)),
        ];
        if let Some(norm) = layer.head_norm {
            let of_heads = |role| (role, TowerPartKind::Norm(norm, heads.head_dim));
            parts.extend([TowerRole::QueryNorm, TowerRole::KeyNorm].map(of_heads));
        }
        parts.push(linear(TowerRole::AttentionOut, width, heads.attended_width(), layer.out_bias));
        parts.push(norm(TowerRole::FfnNorm));
        parts.push(match layer.activation {
            TowerActivation::SwiGlu => {
                (TowerRole::FfnUp, matrix(&[layer.inner; 2], width, layer.ffn_bias, MatrixUse::Gated))
            }
            TowerActivation::Gelu(_) => linear(TowerRole::FfnUp, layer.inner, width, layer.ffn_bias),
        });
        parts.push(linear(TowerRole::FfnDown, width, layer.inner, layer.ffn_bias));
        parts
    }

    /// Multiplications of a picture's rows with weights, and those of its queries with keys and values: half of the operations.
    pub fn multiplications(&self, grid: [usize; 3]) -> [u64; 2] {
        let [frames, rows, columns] = grid.map(|n| n as u64);
        let merged: u64 = self.merged(grid).iter().map(|&n| n as u64).product();
        let frame = rows * columns + self.lead() as u64;
        let weights = self.parts().into_iter().map(|part| match part.kind {
            TowerPartKind::Matrix(matrix) => {
                let rows = match (part.layer, part.role) {
                    (None, TowerRole::PatchEmbedding) => frames * rows * columns,
                    (None, _) => merged,
                    (Some(_), _) => frames * frame,
                };
                rows * (matrix.rows() * matrix.cols) as u64
            }
            _ => 0,
        });
        let attention = 2 * frames * frame * frame * (self.layers * self.layer.heads.q_width()) as u64;
        [weights.sum(), attention]
    }
}

fn matrix(sections: &[usize], cols: usize, bias: bool, used_for: MatrixUse) -> TowerPartKind {
    TowerPartKind::Matrix(TowerMatrix { sections: sections.to_vec(), cols, bias, used_for })
}
