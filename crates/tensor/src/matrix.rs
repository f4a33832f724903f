//! A weight matrix as it lies in a checkpoint: borrowed bytes, a type, a shape.

use crate::DType;

/// A borrowed weight matrix `[rows, cols]`: each row is `cols` consecutive elements of `dtype`.
///
/// In a linear layer `rows` are the outputs and `cols` the inputs (`y = x W^T`); in an embedding `rows` are ids.
#[derive(Clone, Copy, Debug)]
pub struct MatrixView<'a> {
    /// Element type; one of [`DType::WEIGHTS`].
    pub dtype: DType,
    /// Number of rows.
    pub rows: usize,
    /// Elements per row, a multiple of the type's block.
    pub cols: usize,
    /// `rows * dtype.bytes_for(cols)` bytes.
    pub data: &'a [u8],
    /// The scale of each row as little-endian f16 `[rows]`: present for [`DType::RowI8`] and [`DType::RowI4`] only.
    pub row_scale: Option<&'a [u8]>,
}

/// What a matrix is, without its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MatrixShape {
    /// Element type.
    pub dtype: DType,
    /// Number of rows.
    pub rows: usize,
    /// Elements per row.
    pub cols: usize,
}

impl MatrixShape {
    /// Bytes of its rows, without their scales; `None` when a row is no whole number of blocks, or the product overflows.
    pub fn bytes(&self) -> Option<usize> {
        self.dtype.bytes_for(self.cols)?.checked_mul(self.rows)
    }

    /// The matrix of this shape with these bytes and no scales of rows.
    pub fn of(self, data: &[u8]) -> MatrixView<'_> {
        let MatrixShape { dtype, rows, cols } = self;
        MatrixView { dtype, rows, cols, data, row_scale: None }
    }

    /// Bytes of the scales of its rows.
    pub fn scale_bytes(&self) -> usize {
        if matches!(self.dtype, DType::RowI8 | DType::RowI4) { 2 * self.rows } else { 0 }
    }
}

/// Why bytes are not a matrix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MatrixError {
    /// The type cannot hold weights.
    #[error("{0} is not a weight type")]
    NotAWeightType(DType),
    /// A row is not a whole number of blocks.
    #[error("a row of {cols} elements is no multiple of {dtype}'s block of {block}", block = dtype.block_len())]
    BrokenBlock {
        /// The element type.
        dtype: DType,
        /// Elements per row.
        cols: usize,
    },
    /// The byte count does not fit the shape.
    #[error("{dtype} [{rows}, {cols}] takes {expected} bytes, found {found}")]
    WrongSize {
        /// The element type.
        dtype: DType,
        /// Number of rows.
        rows: usize,
        /// Elements per row.
        cols: usize,
        /// Bytes that the shape demands.
        expected: u128,
        /// Bytes given.
        found: usize,
    },
    /// The scales of a row-scaled type are missing, unwanted, or of the wrong length.
    #[error("{dtype} with {rows} rows needs {expected} bytes of row scales, found {found}")]
    WrongScales {
        /// The element type.
        dtype: DType,
        /// Number of rows.
        rows: usize,
        /// Bytes of scales that the shape demands.
        expected: usize,
        /// Bytes given.
        found: usize,
    },
}

impl<'a> MatrixView<'a> {
    /// Checks that type, shape and bytes agree.
    ///
    /// # Errors
    /// [`MatrixError`] says what does not fit.
    pub fn new(
        dtype: DType,
        rows: usize,
        cols: usize,
        data: &'a [u8],
        row_scale: Option<&'a [u8]>,
    ) -> Result<Self, MatrixError> {
        if !DType::WEIGHTS.contains(&dtype) {
            return Err(MatrixError::NotAWeightType(dtype));
        }
        let row_bytes = dtype.bytes_for(cols).ok_or(MatrixError::BrokenBlock { dtype, cols })?;
        let expected = row_bytes as u128 * rows as u128;
        if expected != data.len() as u128 {
            return Err(MatrixError::WrongSize { dtype, rows, cols, expected, found: data.len() });
        }
        let expected = MatrixShape { dtype, rows, cols }.scale_bytes();
        let found = row_scale.map_or(0, <[u8]>::len);
        if expected != found {
            return Err(MatrixError::WrongScales { dtype, rows, expected, found });
        }
        Ok(MatrixView { dtype, rows, cols, data, row_scale })
    }

    /// What it is.
    pub fn shape(&self) -> MatrixShape {
        MatrixShape { dtype: self.dtype, rows: self.rows, cols: self.cols }
    }

    /// Bytes of one row, without its scale.
    pub fn row_bytes(&self) -> usize {
        self.data.len().checked_div(self.rows).unwrap_or(0)
    }

    /// The rows `range` as a matrix of their own.
    ///
    /// # Panics
    /// When the range lies outside the matrix.
    pub fn slice_rows(&self, range: std::ops::Range<usize>) -> MatrixView<'a> {
        let bytes = self.row_bytes();
        MatrixView {
            rows: range.len(),
            data: &self.data[range.start * bytes..range.end * bytes],
            row_scale: self.row_scale.map(|s| &s[range.start * 2..range.end * 2]),
            ..*self
        }
    }
}
