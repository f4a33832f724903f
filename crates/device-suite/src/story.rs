//! Rotary-free attention over the paged cache: a story of steps is played on devices and compared row by row.

use crate::Make;
use crate::rig::{Random, Rig};
use glimmer_tensor::{Batch, Heads, KvType, PAGE_SLOTS, PageId, ReferenceDevice, Role};
use std::ops::Range;

/// A sequence to be played: its length, its bidirectional prefix, its pages.
#[derive(Clone, Debug)]
struct Telling {
    len: usize,
    prefix_len: usize,
    pages: Vec<PageId>,
}

/// Sequences whose projections are rows of one table, and the steps in which they are computed.
#[derive(Clone)]
pub struct Story {
    /// The heads of its layer.
    pub heads: Heads,
    kv_type: KvType,
    tellings: Vec<Telling>,
    /// `[rows of all sequences, qkv_width]`
    pub values: Vec<f32>,
    /// What is computed in each step: rows of one sequence or more, each given as (sequence, slots).
    pub steps: Vec<Vec<(usize, Range<usize>)>>,
    /// Pages of the pool, all of which hold poison at first.
    pages: usize,
}

impl Story {
    /// Random projections for sequences of these lengths and prefixes, each computed in one step by itself, on
    /// scattered pages.
    pub fn new(rng: &mut Random, heads: Heads, kv_type: KvType, lens: &[(usize, usize)]) -> Story {
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
    pub fn in_another_layer(&self, rng: &mut Random, heads: Heads) -> Story {
        Story { heads, values: rng.normals(self.rows() * heads.qkv_width()), ..self.clone() }
    }

    /// Plays the steps; returns what attention gives for every row of every sequence, `[rows, attended_width]`.
    pub fn play(&self, make: Make<'_>) -> Vec<f32> {
        let [_, result] = play_layers([None, Some(self)], make);
        result
    }

    /// Plays the steps on the reference device.
    pub fn play_reference(&self) -> Vec<f32> {
        self.play(&|| Box::new(ReferenceDevice::new()))
    }

    /// What [`Story::play`] should return by the formula, without a device: no pages, no steps, sums in f64.
    pub fn by_formula(&self) -> Vec<f32> {
        let Heads { heads, kv_heads, head_dim, value_dim, scale_dim, joint } = self.heads;
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
                            query.iter().zip(&key).map(|(&q, &k)| f64::from(q) * f64::from(k)).sum();
                        let weight = (score / (scale_dim as f64).sqrt()).exp();
                        sum += weight;
                        let value =
                            if joint { key[..value_dim].to_vec() } else { vector(seen, value_at, value_dim) };
                        mixed.iter_mut().zip(value).for_each(|(m, v)| *m += weight * f64::from(v));
                    }
                    result.extend(mixed.iter().map(|m| (m / sum) as f32));
                }
            }
        }
        result
    }

    /// Takes other steps and pages: the sequences are cut at random places, the pieces of different ones thrown together.
    /// Rows before a sequence's `prefix_len` stay together, because they see each other.
    pub fn reshuffle(&mut self, rng: &mut Random) {
        let mut next: Vec<usize> = vec![0; self.tellings.len()];
        let mut steps = Vec::new();
        while next.iter().zip(&self.tellings).any(|(&at, telling)| at < telling.len) {
            let mut step = Vec::new();
            for (sequence, telling) in self.tellings.iter().enumerate() {
                let left = telling.len - next[sequence];
                if left == 0 || rng.below(3) == 0 {
                    continue;
                }
                let most = [1, 2, 7, 40, 300][rng.below(5)];
                let rows =
                    (1 + rng.below(most)).max(telling.prefix_len.saturating_sub(next[sequence])).min(left);
                step.push((sequence, next[sequence]..next[sequence] + rows));
                next[sequence] += rows;
            }
            if !step.is_empty() {
                // The order of sequences in a batch is the scheduler's business.
                let at = rng.below(step.len());
                step.rotate_left(at);
                steps.push(step);
            }
        }
        self.steps = steps;
        let mut free = rng.shuffled(self.pages);
        for telling in &mut self.tellings {
            telling.pages = free.split_off(free.len() - telling.pages.len());
        }
    }
}

/// Plays stories of the same sequences, each in its layer of one model, layer after layer in every step. Returns what
/// [`Story::play`] returns of each; a layer without a story is there and not used.
pub fn play_layers<const N: usize>(layers: [Option<&Story>; N], make: Make<'_>) -> [Vec<f32>; N] {
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
            let uploaded = rig.upload(&batch);
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
