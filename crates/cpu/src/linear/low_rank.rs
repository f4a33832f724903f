//! What adapters have beside packed matrices: `B A x` is added to a product before its bias and epilogue.
//!
//! `A x` comes first, for the rows of sequences with an adapter: lanes are rows of `A`, columns are added up four apart in
//! order. `B` lies as the matrix's biases do, so that a tile's sums meet it while they are finished: no output of `B A x`
//! is ever in memory, and threads share out what they share out anyway.

use super::formats::GROUP;
use super::line::Line;
use super::packed::PackedMatrix;
use crate::isa::Isa;
use crate::lanes::{Kernel, Lanes, Proof, Register, Work};
use crate::memory::{Parts, Slab, share};
use crate::pool::Pool;
use glimmer_tensor::{AdapterSlot, DeviceError, Pair};

/// Below this many products of an adapter's `A x` the other threads are not asked.
const WORTH_SHARING: usize = 1 << 16;

/// A [`Pair`] beside a packed matrix.
pub(crate) struct PackedPair {
    rank: usize,
    /// For each group of sixteen rows of `A` a line for each column.
    a: Slab<Line>,
    /// For each line of biases of the matrix one for each column of `B`.
    b: Slab<Line>,
    /// In the order of the biases.
    row_scale: Option<Slab<Line>>,
}

impl PackedPair {
    /// Packs a pair beside `matrix`.
    ///
    /// # Errors
    /// When it does not fit the matrix or memory runs out.
    pub(crate) fn pack(matrix: &PackedMatrix, pair: Pair<'_>) -> Result<Self, DeviceError> {
        let (rows, cols) = (matrix.rows(), matrix.cols());
        pair.check(rows, cols)?;
        let Pair { rank, .. } = pair;
        let what = "an adapter";
        let mut a: Slab<Line> = Slab::zeroed(rank.div_ceil(GROUP) * cols, what)?;
        for (k, row) in pair.a.chunks_exact(cols).enumerate() {
            let lines = &mut a[k / GROUP * cols..][..cols];
            lines.iter_mut().zip(row).for_each(|(line, value)| line.set_word(k % GROUP, value.to_bits()));
        }
        let tiles = matrix.tiles();
        let row_scale = pair.row_scale.map(|scale| tiles.lines_of_outputs(scale)).transpose()?;
        let mut b: Option<Slab<Line>> = None;
        for k in 0..rank {
            let column: Vec<f32> = pair.b[k..].iter().step_by(rank).copied().collect();
            let lines = tiles.lines_of_outputs(&column)?;
            let b = match &mut b {
                Some(b) => b,
                none => none.insert(Slab::zeroed(lines.len() * rank, what)?),
            };
            b[k..].iter_mut().step_by(rank).zip(lines.iter()).for_each(|(to, line)| *to = *line);
        }
        Ok(PackedPair { rank, a, b: b.expect("a rank is at least one"), row_scale })
    }

    /// Bytes in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.a.bytes() + self.b.bytes() + self.row_scale.as_ref().map_or(0, Slab::bytes)
    }

    /// Floats that `A x` takes: whole groups.
    pub(crate) fn projected(&self) -> usize {
        self.rank.next_multiple_of(GROUP)
    }
}

/// Which pair each row of a product meets, and `A x` of the rows that meet one.
#[derive(Clone, Copy)]
pub(crate) struct Beside<'a> {
    /// Of each row.
    adapters: &'a [Option<AdapterSlot>],
    /// By adapter.
    pairs: &'a [Option<PackedPair>],
    /// `[rows, stride]`.
    projected: &'a [f32],
    stride: usize,
}

impl<'a> Beside<'a> {
    /// Computes `A x` of the rows that have a pair, into `projected` `[rows, stride]`; `None` where no row has one.
    pub(crate) fn project(
        pool: &Pool,
        isa: Isa,
        x: &[f32],
        adapters: &'a [Option<AdapterSlot>],
        pairs: &'a [Option<PackedPair>],
        projected: &'a mut [f32],
        stride: usize,
    ) -> Option<Self> {
        let cols = x.len() / adapters.len().max(1);
        let items = adapters.iter().enumerate().flat_map(|(row, adapter)| {
            let groups = pair_of(pairs, *adapter).map_or(0, |pair| pair.rank.div_ceil(GROUP));
            (0..groups).map(move |group| (row, group))
        });
        let count = items.clone().count();
        if count == 0 {
            return None;
        }
        let out = Parts::new(&mut *projected);
        let some = |range: std::ops::Range<usize>| {
            for (row, group) in items.clone().skip(range.start).take(range.len()) {
                let pair = pair_of(pairs, adapters[row]).expect("an item has a pair");
                let at = row * stride + group * GROUP;
                // SAFETY: every item has sixteen floats of its own, and one thread.
                let out = unsafe { out.range(at..at + GROUP) };
                let (x, a) = (&x[row * cols..][..cols], &pair.a[group * cols..][..cols]);
                Proof::of(isa).work(Project { x, a, out });
            }
        };
        if count * cols * GROUP < WORTH_SHARING {
            some(0..count);
        } else {
            let threads = pool.threads();
            pool.run(&|thread| some(share(count, threads, thread)));
        }
        Some(Beside { adapters, pairs, projected, stride })
    }

    /// What becomes of the sums of a group of outputs of a row, `line` being that of their biases.
    #[inline(always)]
    pub(super) fn finish<S: Lanes>(
        self,
        s: S,
        row: usize,
        line: usize,
        sum: S::F,
        bias: Option<S::F>,
    ) -> S::F {
        let pair = pair_of(self.pairs, self.adapters[row]);
        let sum = match pair.and_then(|pair| pair.row_scale.as_ref()) {
            Some(scale) => s.mul(sum, scale[line].floats(s)),
            None => sum,
        };
        let mut y = bias.map_or(sum, |bias| s.add(sum, bias));
        if let Some(pair) = pair {
            let projected = &self.projected[row * self.stride..][..pair.rank];
            for (&z, b) in projected.iter().zip(&pair.b[line * pair.rank..][..pair.rank]) {
                y = s.mul_add(s.splat(z), b.floats(s), y);
            }
        }
        y
    }
}

#[inline(always)]
fn pair_of(pairs: &[Option<PackedPair>], adapter: Option<AdapterSlot>) -> Option<&PackedPair> {
    pairs.get(adapter? as usize)?.as_ref()
}

/// `A x` of a group of rows of `A`.
struct Project<'a> {
    x: &'a [f32],
    a: &'a [Line],
    out: &'a mut [f32],
}

impl Work for Project<'_> {
    type Output = ();

    fn work<S: Register>(self, s: S) {
        s.sixteen().run(self);
    }
}

impl Kernel for Project<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Lanes>(self, s: S) {
        let mut sums = [s.splat(0.0); 4];
        let (columns, rest) = self.x.as_chunks::<4>();
        let (lines, last) = self.a.as_chunks::<4>();
        for (x, a) in columns.iter().zip(lines) {
            for i in 0..4 {
                sums[i] = s.mul_add(s.splat(x[i]), a[i].floats(s), sums[i]);
            }
        }
        for (i, (&x, a)) in rest.iter().zip(last).enumerate() {
            sums[i] = s.mul_add(s.splat(x), a.floats(s), sums[i]);
        }
        let sum = s.add(s.add(sums[0], sums[1]), s.add(sums[2], sums[3]));
        self.out.copy_from_slice(&s.lanes(sum));
    }
}
