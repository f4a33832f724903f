//! A tensor's bytes in the type it is to have, a bounded piece at a time, several pieces at once.

use std::borrow::Cow;

use glimmer_checkpoint::{Checkpoint, CheckpointError, NewTensor, TensorInfo};
use glimmer_tensor::quant::{QuantError, check_matrix, decode_matrix_rows, encode_row};
use glimmer_tensor::{DType, MatrixView};

use super::Outgoing;
use crate::ModelError;

/// Elements that one thread decodes at a time: 4 MiB of f32.
const PIECE: usize = 1 << 20;

/// Some rows of an outgoing tensor.
struct Piece<'a> {
    rows: MatrixView<'a>,
    source: &'a TensorInfo,
    /// The tensor's row that is this piece's first.
    first: usize,
}

impl<'a> Outgoing<'a> {
    /// The type that the source has it in (where it is made of several, the first one's).
    pub fn stored_type(&self) -> DType {
        self.rows.pieces.first().map_or(DType::F32, |(view, _)| view.dtype)
    }

    /// Elements in a row, which must be whole blocks of the type it is written in. A vector is one row.
    pub fn width(&self) -> usize {
        self.shape.last().copied().unwrap_or(0)
    }

    /// What the writers of files are told.
    pub fn announce(&self, dtype: DType) -> NewTensor {
        NewTensor { name: self.name.clone(), dtype, shape: self.shape.clone() }
    }

    /// Hands the tensor's bytes in `dtype` to `write`, in order. Where the source has that type already the bytes are
    /// the same. At most `threads` pieces of 4 MiB are in memory; the source's pages are let go of afterwards.
    ///
    /// # Errors
    /// When a number of the source is NaN or infinite, one is beyond what `dtype` can hold, there is no encoder for
    /// `dtype`, or `write` fails.
    pub fn encode(
        &self,
        checkpoint: &Checkpoint,
        dtype: DType,
        threads: usize,
        write: &mut dyn FnMut(&[u8]) -> Result<(), CheckpointError>,
    ) -> Result<(), ModelError> {
        for wave in self.pieces().chunks(threads.max(1)) {
            let encoded: Vec<_> = match wave {
                [piece] => vec![self.encode_piece(checkpoint, piece, dtype)],
                _ => std::thread::scope(|scope| {
                    let spawn = |piece| scope.spawn(move || self.encode_piece(checkpoint, piece, dtype));
                    let threads: Vec<_> = wave.iter().map(spawn).collect();
                    let join = |t: std::thread::ScopedJoinHandle<'_, _>| {
                        t.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                    };
                    threads.into_iter().map(join).collect()
                }),
            };
            for bytes in encoded {
                write(&bytes?)?;
            }
        }
        self.rows.pieces.iter().for_each(|(_, source)| checkpoint.release(source));
        Ok(())
    }

    fn pieces(&self) -> Vec<Piece<'a>> {
        let mut pieces = Vec::new();
        let mut first = 0;
        for &(view, source) in &self.rows.pieces {
            let step = (PIECE / view.cols.max(1)).max(1);
            for begin in (0..view.rows).step_by(step) {
                let rows = view.slice_rows(begin..view.rows.min(begin + step));
                pieces.push(Piece { rows, source, first: first + begin });
            }
            first += view.rows;
        }
        pieces
    }

    fn encode_piece(
        &self,
        checkpoint: &Checkpoint,
        piece: &Piece<'a>,
        dtype: DType,
    ) -> Result<Cow<'a, [u8]>, ModelError> {
        let rows = piece.rows;
        if check_matrix(&rows).is_err() {
            // This names the place in the whole tensor.
            checkpoint.check_finite(piece.source)?;
        }
        if rows.dtype == dtype {
            return Ok(Cow::Borrowed(rows.data));
        }
        let mut values = vec![0.0; rows.rows * rows.cols];
        let mut bytes = Vec::new();
        decode_matrix_rows(&rows, 0..rows.rows, &mut values)
            .and_then(|()| encode_row(dtype, &values, &mut bytes))
            .map_err(|error| self.unencodable(piece, error))?;
        Ok(Cow::Owned(bytes))
    }

    /// An error of one piece, told of the tensor.
    fn unencodable(&self, piece: &Piece<'_>, mut source: QuantError) -> ModelError {
        if let QuantError::Unencodable { index, .. } = &mut source {
            *index += piece.first * piece.rows.cols;
        }
        ModelError::Unencodable { tensor: self.name.clone(), source }
    }
}
