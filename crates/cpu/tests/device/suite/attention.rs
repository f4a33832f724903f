//! Rotary-free attention over the paged cache: a story of steps is played on devices and compared row by row.

use super::rig::{Make, Random, Rig, bits};
use glimmer_tensor::{Batch, Heads, KvType, PAGE_SLOTS, PageId, ReferenceDevice, Role};
use std::ops::Range;

/// Head layouts: one to 72 queries per key, widths that do and do not fill vectors, values as wide as keys, narrower and
/// wider.
pub(crate) const HEADS: [Heads; 13] = [
    Heads::new(1, 1, 16),
    Heads::new(3, 3, 24),
    Heads::new(4, 2, 16),
    Heads::new(6, 2, 40),
    Heads::new(8, 1, 64),
    Heads::new(12, 1, 7),
    Heads::new(32, 2, 16),
    Heads::new(4, 2, 128),
    Heads::new(5, 1, 33),
    Heads::new(72, 1, 8),
    Heads { value_dim: 16, ..Heads::new(4, 2, 40) },
    Heads { value_dim: 33, ..Heads::new(6, 2, 24) },
    Heads { value_dim: 128, ..Heads::new(2, 1, 192) },
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
#[derive(Clone)]
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

    /// The same sequences in a layer with other heads and projections.
    pub(crate) fn in_another_layer(&self, rng: &mut Random, heads: Heads) -> Story {
        Story { heads, values: rng.normals(self.rows() * heads.qkv_width()), ..self.clone() }
    }

    /// Plays the steps; returns what attention gives for every row of every sequence, `[rows, attended_width]`.
    pub(crate) fn play(&self, make: Make<'_>) -> Vec<f32> {
        let [_, result] = play_layers([None, Some(self)], make);
        result
    }

    /// Plays the steps on the reference device.
    pub(crate) fn play_reference(&self) -> Vec<f32> {
        self.play(&|| Box::new(ReferenceDevice::new()))
    }

    /// What [`Story::play`] should return by the formula, without a device: no pages, no steps, sums in f64.
    pub(crate) fn by_formula(&self) -> Vec<f32> {
        let Heads { heads, kv_heads, head_dim, value_dim } = self.heads;
        let mut result = Vec::new();
        for (index, telling) in self.tellings.iter().enumerate() {
            let row = |slot: usize| {
                let width = self.heads.qkv_width();
                &self.values[(self.first_row(index) + slot) * width..][..width]
            };
            let vector = |slot: usize, from: usize, dim: usize| {
                let mut vector = row(slot)[from..from + dim].to_vec();
                self.kv_type.round(&mut vector);
                vector
            };
            for slot in 0..telling.len {
                for head in 0..heads {
                    let (query, kv_head) =
                        (&row(slot)[head * head_dim..][..head_dim], head * kv_heads / heads);
                    let (key_at, value_at) =
                        ((heads + kv_head) * head_dim, (heads + kv_heads) * head_dim + kv_head * value_dim);
                    let (mut mixed, mut sum) = (vec![0f64; value_dim], 0f64);
                    for seen in 0..(slot + 1).max(telling.prefix_len) {
                        let key = vector(seen, key_at, head_dim);
                        let score: f64 =
                            query.iter().zip(key).map(|(&q, k)| f64::from(q) * f64::from(k)).sum();
                        let weight = (score / (head_dim as f64).sqrt()).exp();
                        sum += weight;
                        let value = vector(seen, value_at, value_dim);
                        mixed.iter_mut().zip(value).for_each(|(m, v)| *m += weight * f64::from(v));
                    }
                    result.extend(mixed.iter().map(|m| (m / sum) as f32));
                }
            }
        }
        result
    }

    /// Asserts that a device's rows are the reference's, within a tolerance.
    pub(crate) fn compare(&self, found: &[f32], expected: &[f32], tolerance: f32) {
        for (i, (f, e)) in found.iter().zip(expected).enumerate() {
            let (row, column) = (i / self.heads.attended_width(), i % self.heads.attended_width());
            assert!(
                (f - e).abs() <= tolerance,
                "{:?} {:?}: row {row} column {column} is {f}, not {e}",
                self.heads,
                self.kv_type
            );
        }
    }
}

/// Plays stories of the same sequences, each in its layer of one model, layer after layer in every step. Returns what
/// [`Story::play`] returns of each; a layer without a story is there and not used.
pub(crate) fn play_layers<const N: usize>(layers: [Option<&Story>; N], make: Make<'_>) -> [Vec<f32>; N] {
    let story = layers.iter().copied().flatten().next().expect("a story");
    let (rows, capacity) = (story.rows(), story.rows().max(story.pages * PAGE_SLOTS));
    let plan = layers.map(|layer| layer.unwrap_or(story).heads);
    let (mut rig, tables) = Rig::new(make, capacity, story.pages, &plan, story.kv_type, 1, |device| {
        layers.map(|layer| {
            let Story { heads, values, .. } = layer?;
            let mut values = values.clone();
            values.resize(capacity * heads.qkv_width(), 0.0);
            let zeros = vec![0.0; capacity * heads.attended_width()];
            let poison = Rig::input(device, capacity, heads.attended_width(), &zeros);
            Some((Rig::input(device, capacity, heads.qkv_width(), &values), poison))
        })
    });
    let played: Vec<_> = (0..N)
        .filter_map(|layer| {
            let (heads, (input, poison)) = (plan[layer], tables[layer]?);
            let mut buffer = |role, width| rig.device.buffer(layer, role, width).expect("a small buffer");
            let qkv = buffer(Role::Qkv, heads.qkv_width());
            Some((layer, heads, input, poison, qkv, buffer(Role::Attended, heads.attended_width())))
        })
        .collect();
    let garbage = rig.rows(&vec![capacity as u32; story.pages * PAGE_SLOTS]);
    for &(layer, heads, input, _, qkv, _) in &played {
        rig.device.embed(garbage, input, qkv);
        rig.device.kv_write(garbage, layer, qkv, heads);
    }
    let mut results = plan.map(|heads| vec![f32::NAN; rows * heads.attended_width()]);
    for step in &story.steps {
        let mut batch = Batch::default();
        for (sequence, slots) in step {
            let Telling { prefix_len, pages, .. } = &story.tellings[*sequence];
            let first = story.first_row(*sequence);
            let tokens: Vec<u32> = slots.clone().map(|slot| (first + slot) as u32).collect();
            let positions = vec![0.0; tokens.len()];
            batch.push(&tokens, slots.clone(), &positions, *prefix_len, pages.clone(), []);
        }
        for &(layer, heads, input, poison, qkv, attended) in &played {
            rig.poison(poison, attended);
            let uploaded = rig.device.upload(&batch).unwrap();
            rig.device.embed(uploaded, input, qkv);
            rig.device.kv_write(uploaded, layer, qkv, heads);
            rig.device.attention(uploaded, layer, qkv, heads, attended);
            let (found, width) = (rig.read(attended, batch.rows()), heads.attended_width());
            for (row, &token) in found.chunks_exact(width).zip(&batch.tokens) {
                results[layer][token as usize * width..][..width].copy_from_slice(row);
            }
        }
    }
    results
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

/// One model whose layers have different heads, values of other widths than keys among them: what each layer keeps is its
/// own. Held to the reference and to the formula, which the reference is held to as well.
pub(crate) fn layers_of_different_heads(make: Make<'_>, tolerance: impl Fn(KvType) -> f32) {
    let mut rng = Random(12);
    let heads = Heads::new(4, 2, 16);
    let others = [
        Heads { value_dim: 24, ..Heads::new(6, 1, 40) },
        heads,
        Heads { value_dim: 40, ..Heads::new(3, 3, 24) },
        Heads { value_dim: 64, ..Heads::new(16, 2, 96) },
    ];
    for kv_type in KV_TYPES {
        let mut first = Story::new(&mut rng, heads, kv_type, &[(300, 33), (40, 0), (2, 0)]);
        first.steps = vec![
            vec![(0, 0..290), (2, 0..1)],
            vec![(1, 0..39), (0, 290..299)],
            vec![(2, 1..2), (0, 299..300), (1, 39..40)],
        ];
        let [a, b, c, d] = others.map(|heads| first.in_another_layer(&mut rng, heads));
        let layers = [&first, &a, &b, &c, &d];
        let expected = layers.map(Story::by_formula);
        let reference = play_layers(layers.map(Some), &|| Box::new(ReferenceDevice::new()));
        let found = play_layers(layers.map(Some), make);
        for (i, story) in layers.into_iter().enumerate() {
            story.compare(&reference[i], &expected[i], 1e-6);
            story.compare(&found[i], &reference[i], tolerance(kv_type));
            story.compare(&found[i], &expected[i], tolerance(kv_type));
        }
    }
}
