//! What a step computes, one operation after the other: what a recorder was asked for, with what is
//! trained in its place.

use std::ops::Range;

use glimmer_models::Part;
use glimmer_models::names::TensorNaming;
use glimmer_tensor::{Heads, MatrixId, NormKind, Place, Role, VectorId};

/// A value of a program, or the gradient of one. Each is written by one operation, and by those that add to it or turn it
/// where it lies before anybody else reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Value(pub(crate) usize);

/// How large a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Shape {
    /// Whether there is a row for each row that has logits, and not for each of the batch.
    pub(crate) logits: bool,
    pub(crate) width: usize,
}

impl Shape {
    /// A role that has as many rows.
    pub(crate) fn role(self) -> Role {
        if self.logits { Role::Last } else { Role::Hidden }
    }
}

/// A tensor that is trained, by its number.
pub(crate) type TensorNumber = usize;

/// A matrix, where it is looked up or multiplied with.
#[derive(Clone, Debug)]
pub(crate) struct Matrix {
    pub(crate) kind: MatrixKind,
    /// Pairs beside it, no two of the same rows.
    pub(crate) pairs: Vec<Pair>,
    pub(crate) rows: usize,
    pub(crate) cols: usize,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum MatrixKind {
    Frozen(MatrixId),
    Trained { weight: TensorNumber, bias: Option<TensorNumber> },
}

/// Narrow matrices beside some rows of a matrix.
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    /// The rows, in the decoder's order.
    pub(crate) rows: Range<usize>,
    pub(crate) a: TensorNumber,
    pub(crate) b: TensorNumber,
    pub(crate) scale: f32,
    pub(crate) dropout: f32,
    /// DoRA's.
    pub(crate) magnitude: Option<TensorNumber>,
}

/// A norm's scale or shift on the device, and the tensor that it is set from where it is trained.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Vector {
    pub(crate) id: VectorId,
    pub(crate) tensor: Option<TensorNumber>,
}

/// A norm, by the numbers of its vectors.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NormOf {
    pub(crate) kind: NormKind,
    pub(crate) eps: f32,
    pub(crate) weight: usize,
    pub(crate) bias: Option<usize>,
}

/// One operation. Those without `out` change what they name in its place.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Operation {
    /// Rows of a matrix, by the batch's tokens.
    Embed {
        matrix: usize,
        out: Value,
    },
    Norm {
        x: Value,
        norm: NormOf,
        out: Value,
    },
    /// `out = x W^T + b` of a frozen matrix.
    Linear {
        x: Value,
        matrix: usize,
        out: Value,
    },
    /// `out = x W^T * scale` of a tensor, added to what is there if `adds`.
    Multiply {
        x: Value,
        tensor: TensorNumber,
        scale: f32,
        adds: bool,
        out: Value,
    },
    /// `x += b` of a tensor.
    AddBias {
        x: Value,
        tensor: TensorNumber,
    },
    Dropout {
        x: Value,
        probability: f32,
        out: Value,
    },
    /// `out[:, first ..] += part`.
    AddColumns {
        part: Value,
        first: usize,
        out: Value,
    },
    /// What DoRA makes of `x = W x + b +` pairs: each column times its magnitude over its norm, but the bias.
    Magnitudes {
        x: Value,
        matrix: usize,
        out: Value,
    },
    SwiGlu {
        y: Value,
        out: Value,
    },
    Gelu {
        y: Value,
        out: Value,
    },
    /// `out = from * scale + y`.
    Add {
        from: Value,
        scale: f32,
        y: Value,
        out: Value,
    },
    Rope {
        qkv: Value,
        heads: Heads,
    },
    /// Keys and values go to the cache on the way. `layer` is the model's.
    Attention {
        layer: usize,
        heads: Heads,
        qkv: Value,
        out: Value,
    },
    Gather {
        x: Value,
        out: Value,
    },
    Check {
        x: Value,
        place: Place,
    },
}

impl Operation {
    /// What it writes or changes.
    pub(crate) fn written(&self) -> Option<Value> {
        match *self {
            Operation::Embed { out, .. }
            | Operation::Norm { out, .. }
            | Operation::Linear { out, .. }
            | Operation::Multiply { out, .. }
            | Operation::Dropout { out, .. }
            | Operation::AddColumns { out, .. }
            | Operation::Magnitudes { out, .. }
            | Operation::SwiGlu { out, .. }
            | Operation::Gelu { out, .. }
            | Operation::Add { out, .. }
            | Operation::Attention { out, .. }
            | Operation::Gather { out, .. } => Some(out),
            Operation::AddBias { x, .. } | Operation::Rope { qkv: x, .. } => Some(x),
            Operation::Check { .. } => None,
        }
    }

    /// What it reads.
    pub(crate) fn read(&self) -> Vec<Value> {
        match *self {
            Operation::Embed { .. } => Vec::new(),
            Operation::Norm { x, .. }
            | Operation::Linear { x, .. }
            | Operation::Multiply { x, .. }
            | Operation::AddBias { x, .. }
            | Operation::Dropout { x, .. }
            | Operation::AddColumns { part: x, .. }
            | Operation::Magnitudes { x, .. }
            | Operation::SwiGlu { y: x, .. }
            | Operation::Gelu { y: x, .. }
            | Operation::Rope { qkv: x, .. }
            | Operation::Attention { qkv: x, .. }
            | Operation::Gather { x, .. }
            | Operation::Check { x, .. } => vec![x],
            Operation::Add { from, y, .. } => vec![from, y],
        }
    }

    /// Which of the values its backward reads.
    pub(crate) fn read_backward(&self) -> Vec<Value> {
        match *self {
            Operation::Norm { x, .. }
            | Operation::Multiply { x, .. }
            | Operation::Magnitudes { x, .. }
            | Operation::SwiGlu { y: x, .. }
            | Operation::Gelu { y: x, .. } => vec![x],
            Operation::Attention { qkv, out, .. } => vec![qkv, out],
            _ => Vec::new(),
        }
    }
}

/// A tensor that is trained.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tensor {
    pub(crate) name: String,
    pub(crate) rows: usize,
    pub(crate) width: usize,
    pub(crate) decay: bool,
}

/// A run of operations between which nothing is kept but what the first of them begins with: the embedding, a layer, the
/// head.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub(crate) operations: Range<usize>,
    /// The residual stream before and after it; none before the first, the logits after the last.
    pub(crate) entry: Option<Value>,
    pub(crate) exit: Value,
    /// What its exit is.
    pub(crate) place: Place,
}

/// A model's step.
pub(crate) struct Program {
    pub(crate) values: Vec<Shape>,
    pub(crate) operations: Vec<Operation>,
    pub(crate) segments: Vec<Segment>,
    pub(crate) matrices: Vec<Matrix>,
    pub(crate) vectors: Vec<Vector>,
    pub(crate) tensors: Vec<Tensor>,
    /// The model's parts.
    pub(crate) parts: Vec<Part>,
    /// What they are called in a directory.
    pub(crate) naming: TensorNaming,
}

impl Program {
    /// Nothing yet.
    pub(crate) fn new(parts: Vec<Part>, naming: TensorNaming) -> Self {
        Program {
            values: Vec::new(),
            operations: Vec::new(),
            segments: Vec::new(),
            matrices: Vec::new(),
            vectors: Vec::new(),
            tensors: Vec::new(),
            parts,
            naming,
        }
    }

    pub(crate) fn value(&mut self, shape: Shape) -> Value {
        self.values.push(shape);
        Value(self.values.len() - 1)
    }

    pub(crate) fn shape(&self, value: Value) -> Shape {
        self.values[value.0]
    }

    /// A value as high as `x`.
    pub(crate) fn beside(&mut self, x: Value, width: usize) -> Value {
        let logits = self.shape(x).logits;
        self.value(Shape { logits, width })
    }

    pub(crate) fn tensor(&mut self, name: String, rows: usize, width: usize, decay: bool) -> TensorNumber {
        self.tensors.push(Tensor { name, rows, width, decay });
        self.tensors.len() - 1
    }

    /// `x W^T + b` with what stands beside `W`.
    pub(crate) fn product(&mut self, x: Value, number: usize) -> Value {
        let Matrix { kind, pairs, rows, .. } = self.matrices[number].clone();
        let out = self.beside(x, rows);
        match kind {
            MatrixKind::Frozen(_) => self.operations.push(Operation::Linear { x, matrix: number, out }),
            MatrixKind::Trained { weight, bias } => {
                let product = Operation::Multiply { x, tensor: weight, scale: 1.0, adds: false, out };
                self.operations.push(product);
                let bias = bias.map(|tensor| Operation::AddBias { x: out, tensor });
                self.operations.extend(bias);
            }
        }
        pairs.iter().for_each(|pair| self.pair(x, pair, out));
        if pairs.iter().all(|pair| pair.magnitude.is_none()) {
            return out;
        }
        let scaled = self.beside(x, rows);
        self.operations.push(Operation::Magnitudes { x: out, matrix: number, out: scaled });
        scaled
    }

    /// Adds a pair's product to columns of `out`.
    fn pair(&mut self, x: Value, pair: &Pair, out: Value) {
        let Pair { a, b, scale, dropout, ref rows, .. } = *pair;
        let width = self.shape(x).width;
        let mut from = x;
        if dropout > 0.0 {
            from = self.beside(x, width);
            self.operations.push(Operation::Dropout { x, probability: dropout, out: from });
        }
        let narrow = self.beside(x, self.tensors[a].rows);
        self.operations.push(Operation::Multiply {
            x: from,
            tensor: a,
            scale: 1.0,
            adds: false,
            out: narrow,
        });
        if rows.len() == self.shape(out).width {
            return self.operations.push(Operation::Multiply {
                x: narrow,
                tensor: b,
                scale,
                adds: true,
                out,
            });
        }
        let part = self.beside(x, rows.len());
        self.operations.push(Operation::Multiply { x: narrow, tensor: b, scale, adds: false, out: part });
        self.operations.push(Operation::AddColumns { part, first: rows.start, out });
    }

    /// Ends the segment that is being recorded; what follows begins with `exit`.
    pub(crate) fn end_segment(&mut self, exit: Value, place: Place) {
        let first = self.segments.last().map_or(0, |before| before.operations.end);
        let entry = self.segments.last().map(|before| before.exit);
        let operations = first..self.operations.len();
        self.segments.push(Segment { operations, entry, exit, place });
    }
}
