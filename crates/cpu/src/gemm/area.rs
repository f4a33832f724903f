//! A rectangle of a matrix, to be written.

use std::marker::PhantomData;
use std::ops::Range;

/// Some rows and columns of a matrix that nobody else uses.
pub(crate) struct Area<'a> {
    start: *mut f32,
    /// Elements from a row to the next.
    stride: usize,
    rows: usize,
    columns: usize,
    borrows: PhantomData<&'a mut [f32]>,
}

// SAFETY: it is a mutable borrow of its elements, as a slice is.
unsafe impl Send for Area<'_> {}
// SAFETY: a shared area gives out nothing but parts, whose callers promise not to overlap.
unsafe impl Sync for Area<'_> {}

impl<'a> Area<'a> {
    /// The first `columns` elements of `rows` rows that begin `stride` apart.
    pub(crate) fn of(values: &'a mut [f32], stride: usize, rows: usize, columns: usize) -> Self {
        assert!(rows == 0 || columns <= stride && (rows - 1) * stride + columns <= values.len());
        Area { start: values.as_mut_ptr(), stride, rows, columns, borrows: PhantomData }
    }

    /// A part of it.
    ///
    /// # Safety
    /// While the part lives, none that overlaps it may, and this area must not be written itself.
    pub(crate) unsafe fn part(&self, rows: Range<usize>, columns: Range<usize>) -> Area<'a> {
        assert!(rows.start <= rows.end && rows.end <= self.rows, "{rows:?} of {} rows", self.rows);
        assert!(
            columns.start <= columns.end && columns.end <= self.columns,
            "{columns:?} of {}",
            self.columns
        );
        let start = self.start.wrapping_add(rows.start * self.stride + columns.start);
        Area { start, rows: rows.len(), columns: columns.len(), ..*self }
    }

    /// `n` elements from `column` of a row.
    #[inline(always)]
    pub(crate) fn at(&mut self, row: usize, column: usize, n: usize) -> *mut f32 {
        assert!(row < self.rows && column + n <= self.columns, "an element lies within the area");
        // SAFETY: as just checked, the elements lie in the rows that `of` was given.
        unsafe { self.start.add(row * self.stride + column) }
    }

    /// Zeros everywhere.
    pub(crate) fn clear(&mut self) {
        for row in 0..self.rows {
            let columns = self.columns;
            // SAFETY: a row of the area, which is a mutable borrow.
            unsafe { std::slice::from_raw_parts_mut(self.at(row, 0, columns), columns) }.fill(0.0);
        }
    }
}
