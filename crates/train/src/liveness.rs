//! Which values share a buffer: two do where neither is needed while the other is.
//!
//! A segment's timeline is all of its operations, then its steps backward. A value lives from the first moment that writes
//! it to the last that uses it. Residual streams between segments live on, and what is kept of a segment that is not computed
//! again.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use crate::backward::{SegmentBackward, Step};
use crate::program::{Program, Segment, Shape, Value};

/// A buffer for each value, by number; and the shapes of the buffers.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    pub(crate) of: HashMap<Value, usize>,
    pub(crate) shapes: Vec<Shape>,
}

impl Buffers {
    /// The fewest that a simple walk along the timelines finds.
    pub(crate) fn plan(program: &Program, backwards: &[SegmentBackward]) -> Self {
        let mut buffers = Buffers::default();
        let exits = program.segments.iter().rev().skip(1).map(|segment| segment.exit);
        let kept = exits.chain(backwards.iter().flat_map(|backward| backward.kept.iter().copied()));
        kept.for_each(|value| buffers.own(value, program.shape(value)));
        let shared = buffers.shapes.len();
        for (segment, backward) in program.segments.iter().zip(backwards).rev() {
            buffers.place(program, &lives(program, segment, backward), shared);
        }
        buffers
    }

    fn own(&mut self, value: Value, shape: Shape) {
        self.shapes.push(shape);
        self.of.insert(value, self.shapes.len() - 1);
    }

    /// Gives the values of a segment buffers from `shared` on. What has one keeps it: residual streams, and the gradient
    /// that comes from the segment behind.
    fn place(&mut self, program: &Program, lives: &[(Value, RangeInclusive<usize>)], shared: usize) {
        let mut until: Vec<Option<usize>> = vec![None; self.shapes.len()];
        for (value, life) in lives {
            let shape = program.shape(*value);
            if let Some(&buffer) = self.of.get(value) {
                until[buffer] = until[buffer].max(Some(*life.end()));
                continue;
            }
            let is_free = |buffer: &usize| {
                self.shapes[*buffer] == shape && until[*buffer].is_none_or(|end| end < *life.start())
            };
            let free = (shared..self.shapes.len()).find(is_free);
            let buffer = free.unwrap_or(self.shapes.len());
            if free.is_none() {
                self.shapes.push(shape);
                until.push(None);
            }
            until[buffer] = Some(*life.end());
            self.of.insert(*value, buffer);
        }
    }
}

/// The lives of a segment's values and gradients, by their beginning.
fn lives(
    program: &Program,
    segment: &Segment,
    backward: &SegmentBackward,
) -> Vec<(Value, RangeInclusive<usize>)> {
    let mut lives: HashMap<Value, RangeInclusive<usize>> = HashMap::new();
    let mut at = |moment: usize, value: Value| {
        let life = lives.entry(value).or_insert(moment..=moment);
        *life = (*life.start()).min(moment)..=(*life.end()).max(moment);
    };
    // A gradient that comes from behind is there from the beginning.
    backward.d_exit.into_iter().for_each(|d_exit| at(0, d_exit));
    let mut moment = 0;
    for operation in &program.operations[segment.operations.clone()] {
        moment += 1;
        operation.read().into_iter().chain(operation.written()).for_each(|value| at(moment, value));
    }
    for step in &backward.steps {
        moment += 1;
        match *step {
            Step::Zero(value) => at(moment, value),
            Step::Backward { operation, d_out, d_in } => {
                at(moment, d_out);
                d_in.into_iter().for_each(|into| at(moment, into.value));
                program.operations[operation].read_backward().into_iter().for_each(|value| at(moment, value));
            }
        }
    }
    backward.d_entry.into_iter().for_each(|d_entry| at(moment + 1, d_entry));
    let mut lives: Vec<_> = lives.into_iter().collect();
    lives.sort_by_key(|(value, life)| (*life.start(), *value));
    lives
}
