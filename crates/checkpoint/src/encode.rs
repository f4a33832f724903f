//! Weights in another type, a bounded piece at a time, several pieces at once: what `convert` writes, and what weights become
//! that are quantized while they are loaded.

use std::borrow::Cow;

use glimmer_tensor::quant::{QuantError, check_matrix, decode_matrix_rows, encode_row};
use glimmer_tensor::{DType, MatrixView};

use crate::checkpoint::{Checkpoint, TensorInfo};
use crate::error::CheckpointError;

/// Elements that one thread decodes at a time: 4 MiB of f32.
const PIECE: usize = 1 << 20;

/// Changes a row before it is encoded: its number, and what it holds.
pub type ChangeRow<'a> = &'a (dyn Fn(usize, &mut [f32]) + Sync);

/// Some of the rows that are encoded.
struct Piece<'a> {
    rows: MatrixView<'a>,
    source: &'a TensorInfo,
    /// How many rows come before them.
    first: usize,
}

impl Checkpoint {
    /// Hands `rows`, each with the tensor that it is of, to `write` in `dtype`, in order. Rows that have that type already
    /// stay the same bytes. At most `threads` pieces of 4 MiB are in memory; pages of the files are let go of as their rows
    /// are done with. `name` is what an error calls all rows together.
    ///
    /// # Errors
    /// When a number is NaN or infinite, one is beyond what `dtype` can hold, there is no encoder for `dtype`, or `write`
    /// fails.
    pub fn encode(
        &self,
        name: &str,
        rows: &[(MatrixView<'_>, &TensorInfo)],
        dtype: DType,
        threads: usize,
        write: &mut dyn FnMut(&[u8]) -> Result<(), CheckpointError>,
    ) -> Result<(), CheckpointError> {
        self.encode_changed(name, rows, dtype, threads, None, write)
    }

    /// [`Checkpoint::encode`] of rows that `change` was given first, each with its number; so all of them are encoded.
    ///
    /// # Errors
    /// Those of [`Checkpoint::encode`].
    pub fn encode_changed(
        &self,
        name: &str,
        rows: &[(MatrixView<'_>, &TensorInfo)],
        dtype: DType,
        threads: usize,
        change: Option<ChangeRow<'_>>,
        write: &mut dyn FnMut(&[u8]) -> Result<(), CheckpointError>,
    ) -> Result<(), CheckpointError> {
        for wave in pieces(rows).chunks(threads.max(1)) {
            let encoded: Vec<_> = match wave {
                [piece] => vec![self.encode_piece(name, piece, dtype, change)],
                _ => std::thread::scope(|scope| {
                    let spawn = |piece| scope.spawn(move || self.encode_piece(name, piece, dtype, change));
                    let threads: Vec<_> = wave.iter().map(spawn).collect();
                    let join = |t: std::thread::ScopedJoinHandle<'_, _>| {
                        t.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                    };
                    threads.into_iter().map(join).collect()
                }),
            };
            for (bytes, piece) in encoded.into_iter().zip(wave) {
                write(&bytes?)?;
                self.release_bytes(piece.rows.data);
            }
        }
        // Rows end within pages, which came back when the next rows were read.
        rows.iter().for_each(|(_, source)| self.release(source));
        Ok(())
    }

    fn encode_piece<'a>(
        &self,
        name: &str,
        piece: &Piece<'a>,
        dtype: DType,
        change: Option<ChangeRow<'_>>,
    ) -> Result<Cow<'a, [u8]>, CheckpointError> {
        let rows = piece.rows;
        if check_matrix(&rows).is_err() {
            // This names the place in the whole tensor.
            self.check_finite(piece.source)?;
        }
        if rows.dtype == dtype && change.is_none() {
            return Ok(Cow::Borrowed(rows.data));
        }
        let mut values = vec![0.0; rows.rows * rows.cols];
        let mut bytes = Vec::new();
        let mut encode = || {
            decode_matrix_rows(&rows, 0..rows.rows, &mut values)?;
            if let Some(change) = change {
                let each = values.chunks_exact_mut(rows.cols.max(1)).enumerate();
                each.for_each(|(row, values)| change(piece.first + row, values));
            }
            encode_row(dtype, &values, &mut bytes)
        };
        encode().map_err(|error| unencodable(name, piece, error))?;
        Ok(Cow::Owned(bytes))
    }
}

fn pieces<'a>(rows: &[(MatrixView<'a>, &'a TensorInfo)]) -> Vec<Piece<'a>> {
    let mut pieces = Vec::new();
    let mut first = 0;
    for &(view, source) in rows {
        let step = (PIECE / view.cols.max(1)).max(1);
        for begin in (0..view.rows).step_by(step) {
            let rows = view.slice_rows(begin..view.rows.min(begin + step));
            pieces.push(Piece { rows, source, first: first + begin });
        }
        first += view.rows;
    }
    pieces
}

/// An error of one piece, told of all rows.
fn unencodable(name: &str, piece: &Piece<'_>, mut source: QuantError) -> CheckpointError {
    if let QuantError::Unencodable { index, .. } = &mut source {
        *index += piece.first * piece.rows.cols;
    }
    CheckpointError::Unencodable { tensor: name.to_owned(), source }
}
