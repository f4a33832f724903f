//! Looking up single rows of a matrix.

use crate::args::EmbedArgs;
use crate::device::Rows;
use crate::driver::{Driver, Memory, launch};
use crate::weights::{Layout, TILE};
use glimmer_tensor::DType;

/// Threads of a block, each with 32 columns at a time or one.
const THREADS: u32 = 128;

/// `out[r] = matrix[tokens[r]]`, exactly as the reference decodes it. `weights` is the memory of a matrix that lies as
/// `layout` says.
pub(crate) fn embed(
    driver: &mut dyn Driver,
    layout: &Layout,
    weights: Memory,
    rows: Rows,
    tokens: Memory,
    out: Memory,
) {
    let args = EmbedArgs {
        rows: rows.count,
        tokens,
        weights,
        scales: Memory::NULL,
        out,
        stride: 0,
        first: 0,
        count: 0,
        width: layout.cols as u32,
        kind: 0,
    };
    let grid = [rows.bucket as u32, 1, 1];
    for table in &layout.tables {
        let args = EmbedArgs {
            weights: weights.at(table.offset),
            scales: table.scales.map_or(Memory::NULL, |scales| weights.at(scales)),
            stride: table.row_bytes as u64,
            first: table.first as u32,
            count: table.rows as u32,
            kind: kind_of(table.dtype),
            ..args
        };
        launch(driver, "embed_rows", grid, THREADS, 0, &args);
    }
    for segment in &layout.segments {
        assert!(!segment.gated, "an embedding is not gated");
        let args = EmbedArgs {
            weights: weights.at(segment.offset),
            stride: segment.tile_bytes as u64,
            first: segment.first as u32,
            count: segment.outputs.min(segment.tiles * TILE) as u32,
            kind: kind_of(segment.dtype),
            ..args
        };
        launch(driver, "embed_tiles", grid, THREADS, 0, &args);
    }
}

/// A weight type as kernels know it: `WeightType` in `kernels/decode.cuh`.
pub(crate) fn kind_of(dtype: DType) -> u32 {
    DType::WEIGHTS.iter().position(|&weight| weight == dtype).expect("a matrix has a weight type") as u32
}
