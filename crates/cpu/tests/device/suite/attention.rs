//! Rotary-free attention over the paged cache: a story of steps is played on devices and compared row by row.

use super::rig::{Make, Random, Rig, bits};
use glimmer_tensor::{Batch, Heads, KvType, PAGE_SLOTS, PageId, ReferenceDevice, Role};
use std::ops::Range;

/// Head layouts: one to 72 queries per key, widths that do and do not fill vectors.
pub(crate) const HEADS: [Heads; 10] = [
    Heads { heads: 1, kv_heads: 1, head_dim: 16 },
    Heads { heads: 3, kv_heads: 3, head_dim: 24 },
    Heads { heads: 4, kv_heads: 2, head_dim: 16 },
    Heads { heads: 6, kv_heads: 2, head_dim: 40 },
    Heads { heads: 8, kv_heads: 1, head_dim: 64 },
    Heads { heads: 12, kv_heads: 1, head_dim: 7 },
    Heads { heads: 32, kv_heads: 2, head_dim: 16 },
    Heads { heads: 4, kv_heads: 2, head_dim: 128 },
    Heads { heads: 5, kv_heads: 1, head_dim: 33 },
    Heads { heads: 72, kv_heads: 1, head_dim: 8 },
];

/// All precisions of the cache.
pub(crate) const KV_TYPES: [KvType; 3] = [KvType::F32, KvType::F16, KvType::Q8_0];

/// A sequence to be played: its length, its bidirectional prefix, its pages.
#[derive(Clone, Debug)]
pub(crate) struct Telling {
    pub(crate) len: usize,
    pub(crate) prefix_len: usize,
    pub(crate) pages: Vec<PageId>,
}

/// Rows of one sequence computed in one step: `(sequence, slots)`.
pub(crate) type Part = (usize, Range<usize>);

/// Sequences whose projections are rows of one table, and the steps in which they are computed.
pub(crate) struct Story {
    pub(crate) heads: Heads,
    pub(crate) kv_type: KvType,
    pub(crate) tellings: Vec<Telling>,
    /// `[rows of all sequences, qkv_width]`
    pub(crate) values: Vec<f32>,
    pub(crate) steps: Vec<Vec<Part>>,
    /// Pages of the pool, all of which hold poison at first.
    pub(crate) pages: usize,
}

impl Story {
    /// Random projections for sequences of these lengths and prefixes, each computed in one step by itself, on
    /// scattered pages.
    pub(crate) fn new(rng: &mut Random, heads: Heads, kv_type: KvType, lens: &[(usize, usize)]) -> Story {
        let pages = lens.iter().map(|&(len, _)| len.div_ceil(PAGE_SLOTS)).sum::<usize>() + 3;
        let mut free = rng.shuffled(pages);
        let tellings: Vec<Telling> = lens
            .iter()
            .map(|&(len, prefix_len)| {
                let pages = free.split_off(free.len() - len.div_ceil(PAGE_SLOTS));
                Telling { len, prefix_len, pages }
            })
            .collect();
        let rows = tellings.iter().map(|t| t.len).sum::<usize>();
        let values = rng.normals(rows * heads.qkv_width());
        let steps = (0..lens.len()).map(|i| vec![(i, 0..lens[i].0)]).collect();
        Story { heads, kv_type, tellings, values, steps, pages }
    }

    fn rows(&self) -> usize {
        self.tellings.iter().map(|t| t.len).sum()
    }

    fn first_row(&self, sequence: usize) -> usize {
        self.tellings[..sequence].iter().map(|t| t.len).sum()
    }

    /// Plays the steps; returns what attention gives for every row of every sequence, `[rows, q_width]`.
    pub(crate) fn play(&self, make: Make<'_>) -> Vec<f32> {
        let (heads, rows) = (self.heads, self.rows());
        let (width, q_width) = (heads.qkv_width(), heads.q_width());
        let capacity = rows.max(self.pages * PAGE_SLOTS);
        let (mut rig, (input, poison)) =
            Rig::new(make, capacity, self.pages, heads, self.kv_type, 1, |device| {
                let mut values = self.values.clone();
                values.resize(capacity * width, 0.0);
                let input = Rig::input(device, capacity, width, &values);
                (input, Rig::input(device, capacity, q_width, &vec![0.0; capacity * q_width]))
            });
        let (qkv, attended) = (rig.buffer(Role::Qkv, width), rig.buffer(Role::Attended, q_width));
        let garbage = rig.rows(&vec![capacity as u32; self.pages * PAGE_SLOTS]);
        rig.device.embed(garbage, input, qkv);
        rig.device.kv_write(garbage, 1, qkv, heads);
        let mut result = vec![f32::NAN; rows * q_width];
        for step in &self.steps {
            rig.poison(poison, attended);
            let mut batch = Batch::default();
            for (sequence, slots) in step {
                let Telling { prefix_len, pages, .. } = &self.tellings[*sequence];
                let first = self.first_row(*sequence);
                let tokens: Vec<u32> = slots.clone().map(|slot| (first + slot) as u32).collect();
                let positions = vec![0.0; tokens.len()];
                batch.push(&tokens, slots.clone(), &positions, *prefix_len, pages.clone(), []);
            }
            let uploaded = rig.device.upload(&batch).unwrap();
            rig.device.embed(uploaded, input, qkv);
            rig.device.kv_write(uploaded, 1, qkv, heads);
            rig.device.attention(uploaded, 1, qkv, heads, attended);
            let found = rig.read(attended, batch.rows());
            for (row, &token) in found.chunks_exact(q_width).zip(&batch.tokens) {
                result[token as usize * q_width..][..q_width].copy_from_slice(row);
            }
        }
        result
    }

    /// Plays the steps on the reference device.
    pub(crate) fn play_reference(&self) -> Vec<f32> {
        self.play(&|| Box::new(ReferenceDevice::new()))
    }

    /// Asserts that a device's rows are the reference's, within a tolerance.
    pub(crate) fn compare(&self, found: &[f32], expected: &[f32], tolerance: f32) {
        for (i, (f, e)) in found.iter().zip(expected).enumerate() {
            let (row, column) = (i / self.heads.q_width(), i % self.heads.q_width());
            assert!(
                (f - e).abs() <= tolerance,
                "{:?} {:?}: row {row} column {column} is {f}, not {e}",
                self.heads,
                self.kv_type
            );
        }
    }
}

/// Lengths around the borders of pages and chunks.
pub(crate) const LENGTHS: [usize; 8] = [1, 31, 32, 33, 255, 256, 257, 600];

/// Prompts followed by three generated rows, for all head layouts, precisions and lengths and some prefixes. Devices
/// of the same group must all give the same bits.
pub(crate) fn prompts_and_generation(groups: &[Vec<Make<'_>>]) {
    // Values are about normal, and so weights of sum 1 mix numbers below 5 whose scores, below 10 or so, have rounding
    // errors of a few 1e-7.
    prompts_and_generation_within(groups, |_| 4e-6);
}

/// The same with tolerances of one's own.
pub(crate) fn prompts_and_generation_within(groups: &[Vec<Make<'_>>], tolerance: impl Fn(KvType) -> f32) {
    let mut rng = Random(11);
    for (i, heads) in HEADS.into_iter().enumerate() {
        for (j, kv_type) in KV_TYPES.into_iter().enumerate() {
            // Every layout plays every length; the reference is too slow to play them in every precision.
            let lens: Vec<(usize, usize)> = (0..LENGTHS.len())
                .filter(|n| (n + i) % KV_TYPES.len() == j || LENGTHS[*n] == 257)
                .map(|n| (LENGTHS[n] + 3, [0, 0, 20, 33, 1, 0, 256, 300][(n + i) % 8].min(LENGTHS[n])))
                .collect();
            let mut story = Story::new(&mut rng, heads, kv_type, &lens);
            story.steps = lens.iter().enumerate().map(|(s, &(len, _))| vec![(s, 0..len - 3)]).collect();
            for back in (1..=3).rev() {
                let step = lens.iter().enumerate().map(|(s, &(len, _))| (s, len - back..len - back + 1));
                story.steps.push(step.collect());
            }
            let expected = story.play_reference();
            for group in groups {
                let found: Vec<Vec<f32>> = group.iter().map(|make| story.play(make)).collect();
                found.iter().for_each(|found| story.compare(found, &expected, tolerance(kv_type)));
                assert!(found.iter().all(|other| bits(other) == bits(&found[0])), "{heads:?} {kv_type:?}");
            }
        }
    }
}
