//! A picture of a request.

use std::sync::Arc;

use glimmer_picture::Rows;

/// A picture in a prompt.
#[derive(Clone, Debug)]
pub struct PromptPicture {
    /// The place in the prompt of the first of its rows.
    pub first: usize,
    /// What the tower reads: one group of frames.
    pub rows: Arc<Rows>,
    /// What it is known by.
    pub(crate) digest: [u8; 32],
}

impl PromptPicture {
    /// Its rows, in the prompt from place `first` on.
    pub fn new(first: usize, rows: Arc<Rows>) -> Self {
        let digest = rows.digest();
        PromptPicture { first, rows, digest }
    }
}

/// The same picture at the same place.
impl PartialEq for PromptPicture {
    fn eq(&self, other: &Self) -> bool {
        (self.first, self.digest) == (other.first, other.digest)
    }
}
