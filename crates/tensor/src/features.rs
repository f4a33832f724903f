//! Rows of a step that are no tokens' embeddings.

use std::ops::Range;
use std::sync::Arc;

/// What a tower makes of a picture: values of the residual stream, `[rows, width]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Features {
    /// Values of a row.
    pub width: usize,
    /// All rows.
    pub values: Vec<f32>,
}

impl Features {
    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.values.len().checked_div(self.width).unwrap_or(0)
    }

    /// The values of some rows.
    pub fn of(&self, rows: Range<usize>) -> &[f32] {
        &self.values[rows.start * self.width..rows.end * self.width]
    }
}

/// Rows of a batch that have features in place of their tokens' embeddings.
#[derive(Clone, Debug, PartialEq)]
pub struct FeatureRows {
    /// Which rows of the batch.
    pub rows: Range<usize>,
    /// Where their values are.
    pub features: Arc<Features>,
    /// Which of the features' rows the first of them has.
    pub first: usize,
}

impl FeatureRows {
    /// Their values, `[rows, width]`.
    pub fn values(&self) -> &[f32] {
        self.features.of(self.first..self.first + self.rows.len())
    }
}
