//! AdamW (Loshchilov and Hutter, 2019), in the order of operations of `torch.optim.AdamW`; and its moments in 8 bits by
//! blocks (Dettmers and others, 2022), with the map of `bitsandbytes`.
//!
//! Every element is by itself, so threads change no bit.

use std::sync::LazyLock;

/// Elements of a block of 8-bit moments, which has one scale.
const BLOCK: usize = 256;

/// Tensors with fewer elements keep moments of f32: they would save nothing, and biases and norms want them exactly.
const FEWEST_IN_8_BITS: usize = 4096;

/// A thread has at least so many elements to work on; it takes longer to start one for fewer.
const FEWEST_OF_A_THREAD: usize = 1 << 16;

/// What AdamW does with gradients.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
    /// How much of the mean of gradients, and of the mean of their squares, stays at each step.
    pub betas: (f64, f64),
    /// Added to the root of the mean square.
    pub epsilon: f64,
    /// The share, times the learning rate, by which each step shrinks a tensor that decays.
    pub weight_decay: f64,
    /// Whether moments of large tensors are kept in 8 bits.
    pub eight_bits: bool,
}

impl Default for AdamW {
    /// As transformers' `TrainingArguments`.
    fn default() -> Self {
        AdamW { betas: (0.9, 0.999), epsilon: 1e-8, weight_decay: 0.0, eight_bits: false }
    }
}

/// The running means of a tensor's gradients and of their squares.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Moments {
    Exact { mean: Vec<f32>, square: Vec<f32> },
    EightBits { mean: Blocks, square: Blocks },
}

/// Values as numbers of a map, by blocks.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Blocks {
    pub(crate) codes: Vec<u8>,
    /// The largest magnitude of each block.
    pub(crate) scales: Vec<f32>,
}

impl Moments {
    fn new(len: usize, eight_bits: bool) -> Self {
        let zeros =
            |map: &Map| Blocks { codes: vec![map.nearest(0.0); len], scales: vec![0.0; len.div_ceil(BLOCK)] };
        match eight_bits && len >= FEWEST_IN_8_BITS {
            true => Moments::EightBits { mean: zeros(&SIGNED), square: zeros(&UNSIGNED) },
            false => Moments::Exact { mean: vec![0.0; len], square: vec![0.0; len] },
        }
    }
}

/// A tensor that is optimized.
struct Slot {
    decays: bool,
    moments: Moments,
}

/// AdamW over some tensors, which stay where they are.
pub struct Optimizer {
    settings: AdamW,
    threads: usize,
    slots: Vec<Slot>,
    /// Steps that were begun.
    steps: u64,
    /// Of the step that was begun: its rate and what gradients are multiplied by.
    rate: f64,
    gradient_scale: f32,
}

impl Optimizer {
    /// For tensors of so many elements each, and whether the weight decay is for them (it is not for biases and norms).
    #[must_use]
    pub fn new(settings: AdamW, tensors: &[(usize, bool)], threads: usize) -> Self {
        let slot =
            |&(len, decays): &(usize, bool)| Slot { decays, moments: Moments::new(len, settings.eight_bits) };
        let slots = tensors.iter().map(slot).collect();
        Optimizer { settings, threads: threads.max(1), slots, steps: 0, rate: 0.0, gradient_scale: 1.0 }
    }

    /// Bytes of the moments of so many elements, most of them in large tensors.
    #[must_use]
    pub fn bytes(settings: &AdamW, elements: u64) -> u64 {
        match settings.eight_bits {
            true => 2 * (elements + 4 * elements.div_ceil(BLOCK as u64)),
            false => 8 * elements,
        }
    }

    /// Steps so far.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Begins a step at a learning rate; gradients count `gradient_scale` times.
    pub fn begin(&mut self, rate: f64, gradient_scale: f32) {
        self.steps += 1;
        (self.rate, self.gradient_scale) = (rate, gradient_scale);
    }

    /// Changes the values of the tensor with this number by its gradient, as the step that was begun has it.
    pub fn update(&mut self, tensor: usize, values: &mut [f32], gradient: &[f32]) {
        let slot = &mut self.slots[tensor];
        let step = Step::new(&self.settings, self.steps, self.rate, slot.decays, self.gradient_scale);
        let fair = values.len().div_ceil(self.threads).max(FEWEST_OF_A_THREAD).next_multiple_of(BLOCK);
        match &mut slot.moments {
            Moments::Exact { mean, square } => {
                let parts = values.chunks_mut(fair).zip(gradient.chunks(fair));
                let moments = mean.chunks_mut(fair).zip(square.chunks_mut(fair));
                at_once(parts.zip(moments), |((values, gradient), (mean, square))| {
                    step.take(values, gradient, mean, square);
                });
            }
            Moments::EightBits { mean, square } => {
                let parts = values.chunks_mut(fair).zip(gradient.chunks(fair));
                let moments = mean.parts(fair).zip(square.parts(fair));
                at_once(parts.zip(moments), |((values, gradient), (mean, square))| {
                    step.take_blocks(values, gradient, mean, square);
                });
            }
        }
    }
    pub(crate) fn moments(&self, tensor: usize) -> &Moments {
        &self.slots[tensor].moments
    }

    /// Goes on from moments of the same kind and length.
    pub(crate) fn restore(&mut self, tensor: usize, moments: Moments) {
        self.slots[tensor].moments = moments;
    }

    pub(crate) fn restore_steps(&mut self, steps: u64) {
        self.steps = steps;
    }
}

/// Works on all parts, each but the last in a thread of its own.
fn at_once<T: Send>(parts: impl Iterator<Item = T>, work: impl Fn(T) + Sync) {
    let mut parts = parts.peekable();
    std::thread::scope(|scope| {
        while let Some(part) = parts.next() {
            match parts.peek() {
                Some(_) => drop(scope.spawn(|| work(part))),
                None => work(part),
            }
        }
    });
}

/// The numbers of a step, as torch has them: computed in f64, used in f32.
struct Step {
    gradient_scale: f32,
    keep: f32,
    mean_share: f32,
    square_keep: f32,
    square_share: f32,
    root_scale: f32,
    epsilon: f32,
    size: f32,
}

impl Step {
    fn new(settings: &AdamW, step: u64, rate: f64, decays: bool, gradient_scale: f32) -> Self {
        let (first, second) = settings.betas;
        let correction = |beta: f64| 1.0 - beta.powf(step as f64);
        let decay = if decays { settings.weight_decay } else { 0.0 };
        Step {
            gradient_scale,
            keep: (1.0 - rate * decay) as f32,
            mean_share: (1.0 - first) as f32,
            square_keep: second as f32,
            square_share: (1.0 - second) as f32,
            root_scale: correction(second).sqrt() as f32,
            epsilon: settings.epsilon as f32,
            size: (rate / correction(first)) as f32,
        }
    }

    fn take(&self, values: &mut [f32], gradient: &[f32], mean: &mut [f32], square: &mut [f32]) {
        let moments = mean.iter_mut().zip(square);
        for ((value, &gradient), (mean, square)) in values.iter_mut().zip(gradient).zip(moments) {
            let gradient = gradient * self.gradient_scale;
            *mean += self.mean_share * (gradient - *mean);
            *square = *square * self.square_keep + self.square_share * gradient * gradient;
            let root = square.sqrt() / self.root_scale + self.epsilon;
            *value = *value * self.keep - self.size * *mean / root;
        }
    }

    fn take_blocks(&self, values: &mut [f32], gradient: &[f32], mut mean: Part<'_>, mut square: Part<'_>) {
        let (mut means, mut squares) = ([0.0; BLOCK], [0.0; BLOCK]);
        let blocks = values.chunks_mut(BLOCK).zip(gradient.chunks(BLOCK));
        for (at, (values, gradient)) in blocks.enumerate() {
            let (means, squares) = (&mut means[..values.len()], &mut squares[..values.len()]);
            mean.decode(at, &SIGNED, means);
            square.decode(at, &UNSIGNED, squares);
            self.take(values, gradient, means, squares);
            mean.encode(at, &SIGNED, means);
            square.encode(at, &UNSIGNED, squares);
        }
    }
}

impl Blocks {
    /// Parts of so many elements, a multiple of a block.
    fn parts(&mut self, len: usize) -> impl Iterator<Item = Part<'_>> {
        let parts = self.codes.chunks_mut(len).zip(self.scales.chunks_mut(len / BLOCK));
        parts.map(|(codes, scales)| Part { codes, scales })
    }
}

/// Some of the blocks.
struct Part<'a> {
    codes: &'a mut [u8],
    scales: &'a mut [f32],
}

impl Part<'_> {
    fn decode(&self, block: usize, map: &Map, out: &mut [f32]) {
        let codes = &self.codes[block * BLOCK..][..out.len()];
        for (out, &code) in out.iter_mut().zip(codes) {
            *out = map.values[usize::from(code)] * self.scales[block];
        }
    }

    fn encode(&mut self, block: usize, map: &Map, values: &[f32]) {
        let largest = values.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
        self.scales[block] = largest;
        let codes = &mut self.codes[block * BLOCK..][..values.len()];
        for (code, &value) in codes.iter_mut().zip(values) {
            *code = map.nearest(if largest > 0.0 { value / largest } else { 0.0 });
        }
    }
}

/// The values that 8 bits stand for, in order.
struct Map {
    values: [f32; 256],
    /// Halfway between each value and the next.
    borders: [f32; 255],
}

/// `create_dynamic_map(signed=True)` of bitsandbytes 0.50.2: for means.
static SIGNED: LazyLock<Map> = LazyLock::new(|| Map::dynamic(true));
/// `create_dynamic_map(signed=False)`: for means of squares.
static UNSIGNED: LazyLock<Map> = LazyLock::new(|| Map::dynamic(false));

impl Map {
    /// Seven decades from 1e-6 to 1, each cut twice as finely as the one below, besides 0 and 1.
    fn dynamic(signed: bool) -> Self {
        const DECADES: [f32; 7] = [1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0];
        let mut values = vec![0.0, 1.0];
        for (at, decade) in DECADES.into_iter().enumerate() {
            let pieces = if signed { 1 << at } else { 2 << at };
            for piece in 0..pieces {
                let middle = decade * ((border(piece, pieces) + border(piece + 1, pieces)) / 2.0);
                values.push(middle);
                values.extend(signed.then_some(-middle));
            }
        }
        values.sort_by(f32::total_cmp);
        // 2 and 2 * 127, or 2 and 254.
        let values: [f32; 256] = std::array::from_fn(|at| values[at]);
        let borders = std::array::from_fn(|at| (values[at] + values[at + 1]) / 2.0);
        Map { values, borders }
    }

    fn nearest(&self, value: f32) -> u8 {
        self.borders.partition_point(|border| *border < value) as u8
    }
}

/// Of equal pieces from 0.1 to 1, where one begins: `torch.linspace`, which counts from the nearer end.
fn border(piece: usize, pieces: usize) -> f32 {
    let width = (1.0 - 0.1f32) / pieces as f32;
    if piece < pieces.div_ceil(2) {
        0.1 + width * piece as f32
    } else {
        1.0 - width * (pieces - piece) as f32
    }
}

/// The sum of squares of a gradient, in f64 and in an order that depends on its length alone.
#[must_use]
pub fn sum_of_squares(gradient: &[f32]) -> f64 {
    const LANES: usize = 8;
    let (groups, rest) = gradient.as_chunks::<LANES>();
    let mut sums = [0.0f64; LANES];
    for group in groups {
        for (sum, &value) in sums.iter_mut().zip(group) {
            *sum += f64::from(value) * f64::from(value);
        }
    }
    let rest = rest.iter().map(|&value| f64::from(value) * f64::from(value));
    sums.into_iter().chain(rest).sum()
}

/// What gradients of this norm are multiplied by so that it is at most `largest`: torch's `clip_grad_norm_`.
#[must_use]
pub fn clip_scale(norm: f64, largest: Option<f64>) -> f32 {
    largest.map_or(1.0, |largest| (largest / (norm + 1e-6)).min(1.0) as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_those_of_bitsandbytes() {
        let stored: serde_json::Value =
            serde_json::from_str(include_str!("../tests/data/optimizer.json")).unwrap();
        for (name, map) in [("signed", &*SIGNED), ("unsigned", &*UNSIGNED)] {
            let expected = stored["maps"][name].as_array().unwrap();
            assert_eq!(expected.len(), 256);
            for (code, (value, expected)) in map.values.iter().zip(expected).enumerate() {
                let expected = expected.as_f64().unwrap() as f32;
                assert!(
                    (value - expected).abs() <= expected.abs() * 4.0 * f32::EPSILON,
                    "{name} {code}: {value}"
                );
            }
            assert!((0..=255).all(|code| map.nearest(map.values[usize::from(code)]) == code));
        }
    }
}
