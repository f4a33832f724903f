//! ChatGLM's own INT8 and INT4 packings: `X.weight` as signed bytes beside `X.weight_scale`.
//!
//! INT8 stores `[out, in]` bytes, INT4 `[out, in / 2]` with two columns in a byte (the even one in the high nibble),
//! each with one f16 scale per output row. Nothing in the tensor itself says which it is: the width a model needs does,
//! or `quantization_bit` in `config.json`. Source: `quantization.py` of THUDM/chatglm-6b-int4 and chatglm2-6b.

use glimmer_tensor::{DType, MatrixView};

use crate::checkpoint::{Checkpoint, TensorInfo, TensorView};
use crate::error::CheckpointError;

impl Checkpoint {
    /// A two-dimensional weight `[rows, cols]` as it is stored. For ChatGLM's packings the row scales come with it, and
    /// `quantization_bit` in `config.json` tells INT4 from INT8.
    ///
    /// # Errors
    /// When the tensor is missing, has not two dimensions, or is of a type that no weight has; when a packed one lacks
    /// its scales.
    pub fn matrix(&self, name: &str) -> Result<MatrixView<'_>, CheckpointError> {
        let view = self.tensor(name)?;
        let &[rows, stored] = view.info.shape.as_slice() else {
            return Err(CheckpointError::NoMatrix {
                path: view.info.file.to_path_buf(),
                tensor: name.to_owned(),
                offset: view.info.offset,
                found: view.info.shape.clone(),
            });
        };
        if view.info.dtype != DType::I8 {
            return plain(view, rows, stored);
        }
        let bits = self.config().and_then(|c| c.get("quantization_bit")).and_then(serde_json::Value::as_u64);
        match bits {
            Some(8) => self.packed(view, DType::RowI8, rows, stored),
            Some(4) => self.packed(view, DType::RowI4, rows, stored.saturating_mul(2)),
            _ => {
                Err(wrong_type(view.info, "and config.json has no quantization_bit of 4 or 8 to read it by"))
            }
        }
    }

    /// The weight matrix that a model of known shape needs. ChatGLM's packings are told apart by their width.
    ///
    /// # Errors
    /// As for [`Checkpoint::matrix`], and [`CheckpointError::WrongShape`] when it is not `[rows, cols]`.
    pub fn matrix_of(&self, name: &str, rows: usize, cols: usize) -> Result<MatrixView<'_>, CheckpointError> {
        let view = self.tensor(name)?;
        let is_i8 = view.info.dtype == DType::I8;
        match *view.info.shape.as_slice() {
            [r, c] if r == rows && c == cols && is_i8 => self.packed(view, DType::RowI8, rows, cols),
            [r, c] if r == rows && c == cols => plain(view, rows, cols),
            [r, c] if r == rows && is_i8 && c.checked_mul(2) == Some(cols) => {
                self.packed(view, DType::RowI4, rows, cols)
            }
            _ => Err(wrong_shape(view.info, &[rows, cols])),
        }
    }

    /// A weight with `rows` outputs whose other dimensions have `cols` elements together, such as a convolution's kernel.
    ///
    /// # Errors
    /// When the tensor is missing, of a type that no weight has, or of another shape.
    pub fn kernel_of(&self, name: &str, rows: usize, cols: usize) -> Result<MatrixView<'_>, CheckpointError> {
        let view = self.tensor(name)?;
        match view.info.shape.split_first() {
            Some((outputs, rest)) if *outputs == rows && rest.iter().product::<usize>() == cols => {
                plain(view, rows, cols)
            }
            _ => Err(wrong_shape(view.info, &[rows, cols])),
        }
    }

    /// A weight of exactly this shape, its last dimension the columns and all others together the rows: matrices stacked.
    ///
    /// # Errors
    /// When the tensor is missing, of a type that no weight has, or of another shape.
    pub fn stack_of(&self, name: &str, shape: &[usize]) -> Result<MatrixView<'_>, CheckpointError> {
        let view = self.tensor(name)?;
        match shape.split_last() {
            Some((cols, rest)) if view.info.shape == shape => plain(view, rest.iter().product(), *cols),
            _ => Err(wrong_shape(view.info, shape)),
        }
    }

    fn packed<'a>(
        &'a self,
        view: TensorView<'a>,
        dtype: DType,
        rows: usize,
        cols: usize,
    ) -> Result<MatrixView<'a>, CheckpointError> {
        let scale = self.tensor(&scale_name(&view.info.name))?;
        if scale.info.dtype != DType::F16 {
            return Err(wrong_type(scale.info, "where ChatGLM's row scales are F16"));
        }
        if scale.info.shape != [rows] {
            return Err(wrong_shape(scale.info, &[rows]));
        }
        MatrixView::new(dtype, rows, cols, view.data, Some(scale.data))
            .map_err(|e| matrix_error(view.info, e))
    }
}

/// The name of the row scales of a packed weight.
pub(crate) fn scale_name(weight: &str) -> String {
    format!("{weight}_scale")
}

fn plain(view: TensorView<'_>, rows: usize, cols: usize) -> Result<MatrixView<'_>, CheckpointError> {
    MatrixView::new(view.info.dtype, rows, cols, view.data, None).map_err(|e| matrix_error(view.info, e))
}

fn matrix_error(info: &TensorInfo, source: glimmer_tensor::MatrixError) -> CheckpointError {
    CheckpointError::Matrix {
        path: info.file.to_path_buf(),
        tensor: info.name.clone(),
        offset: info.offset,
        source,
    }
}

pub(crate) fn wrong_shape(info: &TensorInfo, expected: &[usize]) -> CheckpointError {
    CheckpointError::WrongShape {
        path: info.file.to_path_buf(),
        tensor: info.name.clone(),
        offset: info.offset,
        expected: expected.to_vec(),
        found: info.shape.clone(),
    }
}

pub(crate) fn wrong_type(info: &TensorInfo, wanted: &'static str) -> CheckpointError {
    CheckpointError::WrongType {
        path: info.file.to_path_buf(),
        tensor: info.name.clone(),
        offset: info.offset,
        found: info.dtype,
        wanted,
    }
}
