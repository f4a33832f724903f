//! From a sequence's ids to its rotary positions and its bidirectional prefix.

use crate::{ModelError, Positions};

/// Positions and prefix of one sequence, for rows in order of slot.
#[derive(Clone, Debug, PartialEq)]
pub struct PositionLayout {
    positions: Positions,
    /// ChatGLM-6B: index of `<sop>`, the context's length.
    context: usize,
    /// ChatGLM-6B: index of the mask token.
    mask_index: usize,
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
        Ok(PositionLayout { positions, context, mask_index })
    }

    /// Positions per row.
    pub fn axes(&self) -> usize {
        match self.positions {
            Positions::Sequential { .. } => 1,
            Positions::ChatGlm6b { .. } => 2,
        }
    }

    /// Slots that every row sees, and that must be computed in one step.
    pub fn prefix_len(&self) -> usize {
        self.context
    }

    /// Appends the rotary positions of the rows at `slots`: `[rows, axes]`.
    pub fn extend(&self, slots: std::ops::Range<usize>, out: &mut Vec<f32>) {
        match self.positions {
            Positions::Sequential { divisor } => out.extend(slots.map(|s| s as f32 / divisor)),
            Positions::ChatGlm6b { .. } => out.extend(slots.flat_map(|s| {
                if s < self.context {
                    [s as f32, 0.0]
                } else {
                    [self.mask_index as f32, (s - self.context + 1) as f32]
                }
            })),
        }
    }
}
