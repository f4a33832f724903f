//! Products: which kernels with which grids compute `epilogue(x W^T + b)`.
//!
//! A segment of a matrix (`weights.rs`) is a launch, after the activations have been prepared as its type wants them.
//! Up to eight rows go to the kernels that read weights as fast as memory gives them, more to those that use the tensor
//! cores for 64 rows at a time; in f32 mode all go to the exact kernels. Both orders of magnitude compute the same bits
//! for a row: see `kernels/linear.cuh`.

use crate::device::Rows;
use crate::driver::{Driver, Memory, launch};
use crate::weights::{CardMatrix, Layout, Segment, TILE, units};
use bytemuck::{Pod, Zeroable};
use glimmer_tensor::{Compute, DType, DeviceError, MatrixUse};

/// What becomes of `y = x W^T + b`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Finish {
    /// `out = y`.
    Store,
    /// `out = from * scale + y`; `from` may be the output.
    Residual {
        /// The other addend.
        from: Memory,
        /// Its factor.
        scale: f32,
    },
    /// `out = silu(gate) * value`, for a gated matrix.
    SwiGlu,
    /// `out = gelu(y)`, in its tanh form.
    Gelu,
}

/// What is multiplied.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Input {
    /// `[rows, columns]`
    pub(crate) x: Memory,
    /// Whether the rows lie prepared, too, as [`Products::bytes_of`] says.
    pub(crate) is_prepared: bool,
}

/// `kernels/linear.cuh`
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct LinearArgs {
    rows: Memory,
    weights: Memory,
    x: Memory,
    side: Memory,
    bias: Memory,
    from: Memory,
    out: Memory,
    sections: Memory,
    tile_bytes: u64,
    tiles: u32,
    units: u32,
    blocks: u32,
    columns: u32,
    x_stride: u32,
    side_stride: u32,
    outputs: u32,
    first_output: u32,
    out_width: u32,
    gated: u32,
    epilogue: u32,
    scale: f32,
}

/// `kernels/quantize.cuh`
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct PrepareArgs {
    rows: Memory,
    x: Memory,
    out: Memory,
    side: Memory,
    columns: u32,
    blocks: u32,
    side_stride: u32,
    halves: u32,
}

/// `kernels/quantize.cu`
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct SwiGluArgs {
    rows: Memory,
    x: Memory,
    out: Memory,
    width: u32,
    unused: u32,
}

/// How a product takes its activations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// As they are.
    Exact,
    /// Signed bytes with a scale for 32 columns, and sums of 32 columns or of 16.
    Bytes { halves: bool },
    /// bfloat16.
    Bf16,
    /// f32 with ten bits of fraction.
    Tf32,
}

impl Form {
    fn of(dtype: DType, compute: Compute) -> Form {
        match (compute, dtype) {
            (Compute::F32, _) => Form::Exact,
            (Compute::Auto, DType::BF16) => Form::Bf16,
            (Compute::Auto, DType::F16 | DType::F32) => Form::Tf32,
            (Compute::Auto, DType::Q2_K) => Form::Bytes { halves: true },
            (Compute::Auto, _) => Form::Bytes { halves: false },
        }
    }

    /// Bytes of a prepared value.
    fn bytes(self) -> usize {
        match self {
            Form::Exact => 0,
            Form::Bytes { .. } => 1,
            Form::Bf16 => 2,
            Form::Tf32 => 4,
        }
    }

    /// Bytes beside each block of 32 values.
    fn side_bytes(self) -> usize {
        if matches!(self, Form::Bytes { .. }) { 8 } else { 0 }
    }
}

/// Rows up to which the kernels for few rows are used.
const FEW: usize = 8;
/// Rows that a block of threads computes otherwise, and with how many tiles.
const MANY_ROWS: usize = 64;
const MANY_TILES: usize = 8;
/// Dynamic shared memory of such a block.
const MANY_SHARED: u32 = 56 * 1024;
/// Blocks of that kind that fill a card; where [`MANY_ROWS`] rows make fewer, each computes a section of the columns.
const FULL: usize = 128;
/// Sections.
const SECTIONS: usize = 4;
/// Rows that a block of threads computes in f32 mode.
const EXACT_ROWS: usize = 8;
/// Threads of a block that computes products, and of one that prepares.
const THREADS: u32 = 256;
const PREPARE_THREADS: usize = 128;

/// The names of a type's kernels.
struct Names {
    exact: &'static str,
    /// For up to 1, 2, 4 and 8 rows.
    few: [&'static str; 4],
    many: &'static str,
}

macro_rules! names {
    ($name:literal) => {
        Names {
            exact: concat!("linear_exact_", $name),
            few: [
                concat!("linear_few_", $name, "_1"),
                concat!("linear_few_", $name, "_2"),
                concat!("linear_few_", $name, "_4"),
                concat!("linear_few_", $name, "_8"),
            ],
            many: concat!("linear_many_", $name),
        }
    };
    // Eight rows are the least that the tensor cores take.
    (floats $name:literal) => {
        Names { few: [concat!("linear_few_", $name, "_8"); 4], ..names!($name) }
    };
}

fn names(dtype: DType) -> Names {
    match dtype {
        DType::F32 => names!(floats "f32"),
        DType::F16 => names!(floats "f16"),
        DType::BF16 => names!(floats "bf16"),
        DType::Q4_0 => names!("q4_0"),
        DType::Q4_1 => names!("q4_1"),
        DType::Q5_0 => names!("q5_0"),
        DType::Q5_1 => names!("q5_1"),
        DType::Q8_0 => names!("q8_0"),
        DType::Q2_K => names!("q2_k"),
        DType::Q3_K => names!("q3_k"),
        DType::Q4_K => names!("q4_k"),
        DType::Q5_K => names!("q5_k"),
        DType::Q6_K => names!("q6_k"),
        DType::IQ4_NL => names!("iq4_nl"),
        DType::IQ4_XS => names!("iq4_xs"),
        DType::RowI8 => names!("row_i8"),
        DType::RowI4 => names!("row_i4"),
        other => unreachable!("{other} was refused when the matrix was laid out"),
    }
}

/// What products need beside their operands: where activations are prepared.
pub(crate) struct Products {
    compute: Compute,
    /// Rows that there is room for, a multiple of [`MANY_ROWS`].
    rows: usize,
    prepared: Memory,
    side: Memory,
    /// Gates and values of a matrix in which they differ in type.
    wide: Memory,
    /// Sums of sections.
    sections: Memory,
    bytes: usize,
    /// The numbers of columns with which every product begins by taking signed bytes with sums of 32 columns.
    bytes_first: Vec<usize>,
}

/// What a norm prepares.
const BYTES: Form = Form::Bytes { halves: false };

/// Whether a segment's sections are computed by different blocks for up to [`MANY_ROWS`] rows.
fn is_cut(segment: &Segment) -> bool {
    segment.tiles.div_ceil(MANY_TILES) < FULL
}

/// Numbers of columns whose products all begin with [`BYTES`].
fn bytes_first(matrices: &[CardMatrix], compute: Compute) -> Vec<usize> {
    let first = |matrix: &CardMatrix| {
        let segment = matrix.layout().segments.iter().find(|segment| segment.outputs > 0)?;
        Some((matrix.cols(), Form::of(segment.dtype, compute)))
    };
    let all: Vec<(usize, Form)> = matrices.iter().filter_map(first).collect();
    let mut cols: Vec<usize> = all.iter().map(|(cols, _)| *cols).collect();
    cols.retain(|cols| all.iter().all(|(other, form)| other != cols || *form == BYTES));
    cols.sort_unstable();
    cols.dedup();
    cols
}

impl Products {
    /// Room for products of up to `rows` rows with these matrices.
    ///
    /// # Errors
    /// When memory runs out.
    pub(crate) fn new(
        driver: &mut dyn Driver,
        rows: usize,
        matrices: &[CardMatrix],
        compute: Compute,
    ) -> Result<Products, DeviceError> {
        // The greatest of each matrix for a row.
        let (mut prepared, mut side, mut wide) = (0, 0, 0);
        // The greatest of a segment.
        let mut tiles = 0;
        for layout in matrices.iter().map(CardMatrix::layout) {
            let blocks = layout.cols.div_ceil(32);
            for segment in &layout.segments {
                let form = Form::of(segment.dtype, compute);
                prepared = prepared.max(32 * blocks * form.bytes());
                side = side.max(blocks * form.side_bytes());
                if form != Form::Exact && is_cut(segment) && rows > FEW {
                    tiles = tiles.max(segment.tiles);
                }
            }
            if layout.multiplied_afterwards() {
                wide = wide.max(4 * layout.rows);
            }
        }
        let too_large = DeviceError::OutOfMemory { what: "prepared activations", bytes: usize::MAX };
        let rows = rows.max(1).checked_next_multiple_of(MANY_ROWS).ok_or(too_large)?;
        let mut bytes = 0;
        let mut room = |rows: usize, of_row: usize| {
            let size = rows.saturating_mul(of_row);
            bytes += size;
            driver.alloc(size).map_err(|e| e.of("prepared activations"))
        };
        let (prepared, side, wide) = (room(rows, prepared)?, room(rows, side)?, room(rows, wide)?);
        let sections = room(SECTIONS * MANY_ROWS, 4 * TILE * tiles)?;
        let bytes_first = bytes_first(matrices, compute);
        Ok(Products { compute, rows, prepared, side, wide, sections, bytes, bytes_first })
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// How to prepare the rows of `x`, `[rows, columns]`, for any product that may come next, where all such begin with
    /// signed bytes.
    pub(crate) fn bytes_of(&self, rows: Memory, x: Memory, cols: usize) -> Option<PrepareArgs> {
        self.bytes_first.contains(&cols).then(|| self.prepare_args(rows, x, cols, BYTES))
    }

    /// `out = finish(x W^T + b)`.
    ///
    /// # Panics
    /// When the matrix was not loaded for such a product.
    pub(crate) fn linear(
        &self,
        driver: &mut dyn Driver,
        rows: Rows,
        Input { x, is_prepared }: Input,
        w: &CardMatrix,
        finish: Finish,
        out: Memory,
    ) {
        let layout = w.layout();
        let expected = if finish == Finish::SwiGlu { MatrixUse::Gated } else { MatrixUse::Linear };
        assert_eq!(layout.used_for, expected, "a matrix is used for what it was loaded for");
        assert!(
            rows.bucket.next_multiple_of(MANY_ROWS) <= self.rows.next_power_of_two(),
            "rows are planned for"
        );
        let afterwards = layout.multiplied_afterwards();
        let to = if afterwards { self.wide } else { out };
        let mut prepared = if is_prepared { BYTES } else { Form::Exact };
        for segment in layout.segments.iter().filter(|segment| segment.outputs > 0) {
            let form = Form::of(segment.dtype, self.compute);
            if form != prepared {
                self.prepare(driver, rows, x, layout.cols, form);
                prepared = form;
            }
            let mut args = self.args(rows, x, w, segment, form, finish, to);
            let names = names(segment.dtype);
            if form == Form::Exact {
                let grid = [segment.tiles as u32, rows.bucket.div_ceil(EXACT_ROWS) as u32, 1];
                launch(driver, names.exact, grid, THREADS, 0, &args);
            } else if rows.bucket <= FEW {
                let kernel = names.few[rows.bucket.ilog2() as usize];
                launch(driver, kernel, [segment.tiles as u32, 1, 1], THREADS, 0, &args);
            } else {
                let cut = rows.bucket <= MANY_ROWS && is_cut(segment);
                if cut {
                    args.sections = self.sections;
                }
                let across = segment.tiles.div_ceil(MANY_TILES) as u32;
                let down = rows.bucket.div_ceil(MANY_ROWS) as u32;
                let grid = [across, down, if cut { SECTIONS as u32 } else { 1 }];
                launch(driver, names.many, grid, THREADS, MANY_SHARED, &args);
                if cut {
                    let across = (TILE * segment.tiles).div_ceil(THREADS as usize) as u32;
                    launch(driver, "linear_fold", [across, rows.bucket as u32, 1], THREADS, 0, &args);
                }
            }
        }
        if afterwards {
            let width = layout.rows / 2;
            let args = SwiGluArgs { rows: rows.count, x: self.wide, out, width: width as u32, unused: 0 };
            let grid = [width.div_ceil(PREPARE_THREADS) as u32, rows.bucket as u32, 1];
            launch(driver, "swiglu", grid, PREPARE_THREADS as u32, 0, &args);
        }
    }

    fn prepare_args(&self, rows: Memory, x: Memory, cols: usize, form: Form) -> PrepareArgs {
        PrepareArgs {
            rows,
            x,
            out: self.prepared,
            side: self.side,
            columns: cols as u32,
            blocks: cols.div_ceil(32) as u32,
            side_stride: self.rows as u32,
            halves: u32::from(form == Form::Bytes { halves: true }),
        }
    }

    /// Brings the activations into a form.
    fn prepare(&self, driver: &mut dyn Driver, rows: Rows, x: Memory, cols: usize, form: Form) {
        let blocks = cols.div_ceil(32);
        let (kernel, threads) = match form {
            Form::Exact => return,
            Form::Bytes { .. } => ("prepare_bytes", 8 * blocks),
            Form::Bf16 => ("prepare_bf16", 16 * blocks),
            Form::Tf32 => ("prepare_tf32", 32 * blocks),
        };
        let args = self.prepare_args(rows.count, x, cols, form);
        let grid = [threads.div_ceil(PREPARE_THREADS) as u32, rows.bucket as u32, 1];
        launch(driver, kernel, grid, PREPARE_THREADS as u32, 0, &args);
    }

    #[allow(clippy::too_many_arguments, reason = "a product has as many operands")]
    fn args(
        &self,
        rows: Rows,
        x: Memory,
        w: &CardMatrix,
        segment: &Segment,
        form: Form,
        finish: Finish,
        out: Memory,
    ) -> LinearArgs {
        let Layout { rows: outputs, cols, .. } = *w.layout();
        let blocks = cols.div_ceil(32);
        let (epilogue, from, scale) = match finish {
            Finish::Store | Finish::SwiGlu => (0, Memory::NULL, 0.0),
            Finish::Residual { from, scale } => (1, from, scale),
            Finish::Gelu => (2, Memory::NULL, 0.0),
        };
        LinearArgs {
            rows: rows.count,
            weights: w.at(segment.offset),
            x: if form == Form::Exact { x } else { self.prepared },
            side: self.side,
            bias: segment.bias.map_or(Memory::NULL, |at| w.at(at)),
            from,
            out,
            sections: Memory::NULL,
            tile_bytes: segment.tile_bytes as u64,
            tiles: segment.tiles as u32,
            units: units(segment.dtype, cols) as u32,
            blocks: blocks as u32,
            columns: cols as u32,
            x_stride: (32 * blocks * form.bytes()) as u32,
            side_stride: self.rows as u32,
            outputs: segment.outputs as u32,
            first_output: segment.first as u32,
            out_width: (if segment.gated { outputs / 2 } else { outputs }) as u32,
            gated: u32::from(segment.gated),
            epilogue,
            scale,
        }
    }
}

#[cfg(test)]
#[cfg(feature = "emulate")]
mod tests;
