//! A file of rows and a model's way with text: examples, row by row.

use super::error::DataError;
use super::file::DataFile;
use super::render::{Renderer, Rendering};

/// Rows that can be learned from.
#[derive(Debug)]
pub struct Dataset<'m> {
    file: DataFile,
    renderer: Renderer<'m>,
}

impl<'m> Dataset<'m> {
    /// Puts the two together.
    pub fn new(file: DataFile, renderer: Renderer<'m>) -> Self {
        Dataset { file, renderer }
    }

    /// The file.
    pub fn file(&self) -> &DataFile {
        &self.file
    }

    /// The model's way with text.
    pub fn renderer(&self) -> &Renderer<'m> {
        &self.renderer
    }

    /// What a row becomes.
    ///
    /// # Errors
    /// When it cannot be learned from, with its line; or the file cannot be read any more.
    pub fn render(&self, row: usize) -> Result<Rendering, DataError> {
        let read = self.file.row(row)?;
        self.renderer.render(&read).map_err(|why| self.file.refusal(row, why))
    }
}
