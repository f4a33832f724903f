//! From a program to the steps that compute its gradients, segment by segment, last first: what is computed again, and each
//! operation's backward.

use std::collections::{HashMap, HashSet};

use crate::program::{MatrixKind, Operation, Program, Segment, Shape, Value};

/// A gradient to be written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Into {
    pub(crate) value: Value,
    /// Whether there is something already that is added to.
    pub(crate) adds: bool,
}

/// A step of a backward pass.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Step {
    /// Fills a gradient with zeros, because what follows only adds.
    Zero(Value),
    /// The backward of an operation: `d_out` is the gradient of what it wrote, `d_in` that of what it read where somebody
    /// wants it.
    Backward { operation: usize, d_out: Value, d_in: Option<Into> },
}

/// A segment's backward pass.
#[derive(Clone, Debug, Default)]
pub(crate) struct SegmentBackward {
    /// The operations that are computed again.
    pub(crate) again: Vec<usize>,
    /// Values that the forward pass leaves instead, each in a buffer of its own.
    pub(crate) kept: Vec<Value>,
    pub(crate) steps: Vec<Step>,
    /// The gradient of its exit, and of its entry where something before it is trained.
    pub(crate) d_exit: Option<Value>,
    pub(crate) d_entry: Option<Value>,
}

/// The backward passes of a program's segments, in their order. `prefix` says that attention depends on something trained; the
/// last `kept_layers` layers are not computed again. New values are made for gradients.
pub(crate) fn derive(program: &mut Program, prefix: bool, kept_layers: usize) -> Vec<SegmentBackward> {
    let wanted = wanted(program, prefix);
    let mut backwards = vec![SegmentBackward::default(); program.segments.len()];
    let head = program.segments.len().saturating_sub(1);
    // Cross entropy leaves the gradient where the logits were.
    let mut d_exit = program.segments.last().map(|head| head.exit).filter(|logits| wanted.contains(logits));
    for (number, segment) in program.segments.clone().iter().enumerate().rev() {
        let Some(d) = d_exit else { break };
        let mut backward = Derivation::of(program, segment, d, &wanted, prefix);
        d_exit = backward.d_entry;
        if number < head && number + kept_layers >= head {
            backward.keep(program, segment);
        }
        backwards[number] = backward;
    }
    backwards
}

impl SegmentBackward {
    /// Has the forward pass leave what the steps read, so that nothing is computed again.
    fn keep(&mut self, program: &Program, segment: &Segment) {
        self.again.clear();
        self.kept =
            read_by(program, &self.steps).into_iter().filter(|value| Some(*value) != segment.entry).collect();
        self.kept.sort_unstable();
    }
}

/// The values that depend on something that is trained.
fn wanted(program: &Program, prefix: bool) -> HashSet<Value> {
    let mut wanted = HashSet::new();
    for operation in &program.operations {
        let trains = match operation {
            Operation::Embed { matrix, .. } => {
                matches!(program.matrices[*matrix].kind, MatrixKind::Trained { .. })
            }
            Operation::Norm { norm, .. } => program.vectors[norm.weight].tensor.is_some(),
            Operation::Multiply { .. } | Operation::AddBias { .. } | Operation::Magnitudes { .. } => true,
            Operation::Attention { .. } => prefix,
            _ => false,
        };
        if trains || operation.read().iter().any(|value| wanted.contains(value)) {
            wanted.extend(operation.written());
        }
    }
    wanted
}

struct Derivation<'a> {
    program: &'a mut Program,
    wanted: &'a HashSet<Value>,
    /// The gradients so far.
    gradients: HashMap<Value, Value>,
    steps: Vec<Step>,
}

impl Derivation<'_> {
    fn of(
        program: &mut Program,
        segment: &Segment,
        d_exit: Value,
        wanted: &HashSet<Value>,
        prefix: bool,
    ) -> SegmentBackward {
        let gradients = HashMap::from([(segment.exit, d_exit)]);
        let mut derivation = Derivation { program, wanted, gradients, steps: Vec::new() };
        segment.operations.clone().rev().for_each(|operation| derivation.operation(operation, prefix));
        let Derivation { gradients, steps, .. } = derivation;
        let again = again(program, segment, &steps);
        let d_entry = segment.entry.and_then(|entry| gradients.get(&entry).copied());
        SegmentBackward { again, kept: Vec::new(), steps, d_exit: Some(d_exit), d_entry }
    }

    fn operation(&mut self, number: usize, prefix: bool) {
        let operation = self.program.operations[number];
        let Some(d_out) = operation.written().and_then(|out| self.gradients.get(&out).copied()) else {
            return;
        };
        let d_in = match operation {
            Operation::Check { .. } => return,
            Operation::Embed { .. } | Operation::AddBias { .. } | Operation::Rope { .. } => None,
            Operation::Norm { x, .. } | Operation::Gather { x, .. } => self.added_to(x),
            Operation::Linear { x, .. }
            | Operation::Multiply { x, .. }
            | Operation::Dropout { x, .. }
            | Operation::Magnitudes { x, .. }
            | Operation::AddColumns { part: x, .. }
            | Operation::SwiGlu { y: x, .. }
            | Operation::Gelu { y: x, .. } => self.set_or_added_to(x),
            // Keys and values have a gradient beside that of the prefix, whether anybody wants it or not.
            Operation::Attention { qkv, .. } if prefix => Some(self.gradient(qkv)),
            Operation::Attention { qkv, .. } => self.set_or_added_to(qkv),
            Operation::Add { from, y, .. } => {
                let d_from = self.added_to(from);
                if self.wanted.contains(&y) {
                    // Nobody writes to the gradient of a sum once it is complete, so its addend can have it.
                    let before = self.gradients.insert(y, d_out);
                    debug_assert!(before.is_none(), "an addend is used once");
                }
                d_from
            }
        };
        let trains = match operation {
            Operation::Embed { matrix, .. } => {
                matches!(self.program.matrices[matrix].kind, MatrixKind::Trained { .. })
            }
            Operation::Multiply { .. } | Operation::AddBias { .. } | Operation::Rope { .. } => true,
            _ => false,
        };
        if trains || d_in.is_some() {
            self.steps.push(Step::Backward { operation: number, d_out, d_in });
        }
    }

    /// The gradient of `x`, made if it is new.
    fn gradient(&mut self, x: Value) -> Into {
        if let Some(&value) = self.gradients.get(&x) {
            return Into { value, adds: true };
        }
        let Shape { logits, width } = self.program.shape(x);
        let value = self.program.value(Shape { logits, width });
        self.gradients.insert(x, value);
        Into { value, adds: false }
    }

    fn set_or_added_to(&mut self, x: Value) -> Option<Into> {
        self.wanted.contains(&x).then(|| self.gradient(x))
    }

    /// The same for an operation that only adds.
    fn added_to(&mut self, x: Value) -> Option<Into> {
        let into = self.set_or_added_to(x)?;
        if !into.adds {
            self.steps.push(Step::Zero(into.value));
        }
        Some(Into { adds: true, ..into })
    }
}

/// The values that the steps read.
fn read_by(program: &Program, steps: &[Step]) -> HashSet<Value> {
    let read = steps.iter().filter_map(|step| match step {
        Step::Backward { operation, .. } => Some(program.operations[*operation].read_backward()),
        Step::Zero(_) => None,
    });
    read.flatten().collect()
}

/// The operations of a segment without which the steps cannot be taken.
fn again(program: &Program, segment: &Segment, steps: &[Step]) -> Vec<usize> {
    let mut needed = read_by(program, steps);
    let mut again = Vec::new();
    for number in segment.operations.clone().rev() {
        let operation = &program.operations[number];
        if operation.written().is_some_and(|out| needed.contains(&out)) {
            needed.extend(operation.read());
            again.push(number);
        }
    }
    again.reverse();
    again
}
