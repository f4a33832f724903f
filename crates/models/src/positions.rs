//! From a sequence's ids and pictures to its rotary positions and its bidirectional prefix.

use std::ops::Range;

use crate::{ModelError, PictureSpan, Positions};

/// Positions and prefix of one sequence, for rows in order of slot.
#[derive(Clone, Debug, PartialEq)]
pub struct PositionLayout {
    positions: Positions,
    /// ChatGLM-6B: index of `<sop>`, the context's length.
    context: usize,
    /// ChatGLM-6B: index of the mask token.
    mask_index: usize,
    /// In order of slot, where positions depart from slots.
    pictures: Vec<Placed>,
}

/// A picture, and the positions at its ends.
#[derive(Clone, Debug, PartialEq)]
struct Placed {
    span: PictureSpan,
    /// Of its first row.
    position: usize,
    /// Of the first row after it.
    next: usize,
}

impl PositionLayout {
    /// Reads from a prompt what the positions of it and of its continuation depend on.
    ///
    /// # Errors
    /// A ChatGLM-6B prompt without `<sop>` or without a mask token has no positions.
    pub fn of_prompt(positions: Positions, prompt: &[u32]) -> Result<Self, ModelError> {
        let (mut context, mut mask_index) = (0, 0);
        if let Positions::ChatGlm6b { gmask, mask, sop } = positions {
            let find = |id: u32| prompt.iter().position(|&t| t == id);
            let missing = |name: &str, id: u32| {
                ModelError::Prompt(format!(
                    "ChatGLM-6B needs {name} (id {id}) in the prompt; it ends with [gMASK] <sop>"
                ))
            };
            context = find(sop).ok_or_else(|| missing("<sop>", sop))?;
            mask_index = find(gmask).or_else(|| find(mask)).ok_or_else(|| missing("[gMASK]", gmask))?;
        }
        Ok(PositionLayout { positions, context, mask_index, pictures: Vec::new() })
    }

    /// The same with pictures in the prompt.
    ///
    /// # Errors
    /// When they are not in order, overlap, or have other rows than their grid.
    pub fn with_pictures(mut self, pictures: &[PictureSpan]) -> Result<Self, ModelError> {
        let mut end = 0;
        for &span in pictures {
            let features: usize = span.grid.iter().product();
            let rows = if self.positions == Positions::OfGrid {
                features..=features
            } else {
                features..=features + 2
            };
            if span.first < end || features == 0 || !rows.contains(&span.rows) {
                let PictureSpan { first, rows, grid } = span;
                let message = format!("a picture of {grid:?} cannot have the {rows} rows from {first} on");
                return Err(ModelError::Prompt(message));
            }
            end = span.first + span.rows;
            let position = self.plain(span.first);
            let next = match self.positions {
                Positions::SharedByPicture => position + span.rows.min(3),
                Positions::OfGrid => position + span.grid.iter().max().copied().unwrap_or(0),
                Positions::Sequential { .. } | Positions::ChatGlm6b { .. } => position + span.rows,
            };
            self.pictures.push(Placed { span, position, next });
        }
        Ok(self)
    }

    /// Positions per row.
    pub fn axes(&self) -> usize {
        match self.positions {
            Positions::Sequential { .. } | Positions::SharedByPicture => 1,
            Positions::ChatGlm6b { .. } => 2,
            Positions::OfGrid => 3,
        }
    }

    /// Slots that every row sees, and that must be computed in one step.
    pub fn prefix_len(&self) -> usize {
        self.context
    }

    /// Appends the rotary positions of the rows at `slots`: `[rows, axes]`.
    pub fn extend(&self, slots: Range<usize>, out: &mut Vec<f32>) {
        match self.positions {
            Positions::Sequential { divisor } => out.extend(slots.map(|s| s as f32 / divisor)),
            Positions::ChatGlm6b { .. } => out.extend(slots.flat_map(|s| {
                if s < self.context {
                    [s as f32, 0.0]
                } else {
                    [self.mask_index as f32, (s - self.context + 1) as f32]
                }
            })),
            Positions::SharedByPicture => out.extend(slots.map(|s| self.shared(s) as f32)),
            Positions::OfGrid => out.extend(slots.flat_map(|s| self.of_grid(s).map(|p| p as f32))),
        }
    }

    /// The last picture that begins at or before a slot.
    fn before(&self, slot: usize) -> Option<&Placed> {
        self.pictures[..self.pictures.partition_point(|placed| placed.span.first <= slot)].last()
    }

    /// The picture that a slot is in, and its row there.
    fn within(&self, slot: usize) -> Option<(&Placed, usize)> {
        let placed = self.before(slot)?;
        let row = slot - placed.span.first;
        (row < placed.span.rows).then_some((placed, row))
    }

    /// The position of a slot that is in no picture.
    fn plain(&self, slot: usize) -> usize {
        self.before(slot).map_or(slot, |Placed { span, next, .. }| next + slot - (span.first + span.rows))
    }

    fn shared(&self, slot: usize) -> usize {
        match self.within(slot) {
            Some((placed, row)) => {
                placed.position + row.min(1) + usize::from(row > 1 && row + 1 == placed.span.rows)
            }
            None => self.plain(slot),
        }
    }

    fn of_grid(&self, slot: usize) -> [usize; 3] {
        match self.within(slot) {
            Some((placed, row)) => {
                let [_, rows, columns] = placed.span.grid;
                [row / (rows * columns), row / columns % rows, row % columns].map(|at| placed.position + at)
            }
            None => [self.plain(slot); 3],
        }
    }
}
