//! The key/value cache: for each layer a pool of pages, each page a tile per key/value head.
//!
//! A tile holds the keys of [`PAGE_SLOTS`] slots transposed, `[head_dim][slots]`, so that vector lanes are keys when
//! scores are computed, and their values as `[slots][padded]`, so that lanes are dimensions when values are mixed;
//! `padded` is `value_dim` rounded up to 16, the rest stays zero. In Q8_0 the f16 scales follow the bytes: for keys
//! `[blocks][slots]`, for values `[slots][blocks]`. Joint heads have keys alone, and values are turned out of them as they
//! are multiplied. Rounding is that of [`glimmer_tensor::KvType::round`].

use crate::isa::Isa;
use crate::lanes::{Kernel, Lanes, dispatch};
use crate::memory::{LINE, Parts, Slab};
use crate::pool::Pool;
use crate::step::Step;
use glimmer_tensor::{DeviceError, Heads, KV_BLOCK, KvType, PAGE_SLOTS, PageId, Plan, q8_scale};
use half::f16;
use half::slice::HalfFloatSliceExt;
use std::ops::Range;

/// What a tile looks like.
#[derive(Clone, Copy)]
pub(crate) struct TileShape {
    kv_type: KvType,
    /// Elements of a head's key.
    pub(crate) dim: usize,
    /// Elements of a head's value that are stored.
    value_dim: usize,
    /// Elements of a head's value, rounded up to whole vectors.
    pub(crate) padded: usize,
    /// Whether values are the beginnings of keys.
    joint: bool,
}

/// Keys or values of a tile, as they are multiplied.
pub(crate) enum Numbers<'a> {
    F32(&'a [f32]),
    F16(&'a [f16]),
}

/// A tile of f16 that this many queries go over is widened first: fewer widen as they go, and memory is read meanwhile.
pub(crate) const WIDENED_FROM: usize = 17;

/// The pages of all layers.
pub(crate) struct KvCache {
    layers: Vec<LayerCache>,
}

/// The pages of one layer.
pub(crate) struct LayerCache {
    pub(crate) heads: Heads,
    /// What its tiles look like.
    pub(crate) shape: TileShape,
    tiles: Slab<u8>,
}

impl TileShape {
    pub(crate) fn new(kv_type: KvType, heads: &Heads) -> Self {
        let &Heads { head_dim, value_dim, joint, .. } = heads;
        let padded = value_dim.next_multiple_of(16);
        TileShape { kv_type, dim: head_dim, value_dim: heads.stored_value_dim(), padded, joint }
    }

    /// Elements that a stored value takes.
    fn stored_padded(&self) -> usize {
        if self.joint { 0 } else { self.padded }
    }

    /// Floats of a widened tile, with room beside it for what joint values are turned from.
    pub(crate) const fn wide(heads: &Heads) -> usize {
        let most = if heads.head_dim > heads.value_dim { heads.head_dim } else { heads.value_dim };
        PAGE_SLOTS
            * (most.next_multiple_of(16) + if heads.joint { heads.value_dim.next_multiple_of(16) } else { 0 })
    }

    /// Scales of one slot's vector of `dim` elements.
    fn blocks(&self, dim: usize) -> usize {
        if self.kv_type == KvType::Q8_0 { dim.div_ceil(KV_BLOCK) } else { 0 }
    }

    /// Bytes of an element, without scales.
    pub(crate) fn element(&self) -> usize {
        match self.kv_type {
            KvType::F32 => 4,
            KvType::F16 => 2,
            KvType::Q8_0 => 1,
        }
    }

    /// Where in a tile the keys, their scales, the values and their scales lie.
    fn layout(&self) -> [Range<usize>; 4] {
        let mut end = 0;
        let scales = [self.dim, self.value_dim].map(|dim| 2 * self.blocks(dim));
        [self.dim * self.element(), scales[0], self.stored_padded() * self.element(), scales[1]].map(
            |per_slot| {
                let start = end;
                end = (start + per_slot * PAGE_SLOTS).next_multiple_of(LINE);
                start..start + per_slot * PAGE_SLOTS
            },
        )
    }

    /// Bytes of a tile.
    fn bytes(&self) -> usize {
        self.layout()[3].end.next_multiple_of(LINE)
    }

    /// The bytes of a tile's keys, without scales.
    #[inline(always)]
    pub(crate) fn key_bytes<'a>(&self, tile: &'a [u8]) -> &'a [u8] {
        let [keys, ..] = self.layout();
        &tile[keys]
    }

    /// The bytes of a tile's values, without scales; of joint heads those of its keys.
    #[inline(always)]
    pub(crate) fn value_bytes<'a>(&self, tile: &'a [u8]) -> &'a [u8] {
        if self.joint {
            return self.key_bytes(tile);
        }
        let [_, _, values, _] = self.layout();
        &tile[values]
    }

    /// The keys of a tile `[dim][slots]`, for this many queries: the tile's own, or widened into `wide`.
    #[inline(always)]
    pub(crate) fn keys<'a, S: Lanes>(
        &self,
        s: S,
        tile: &'a [u8],
        queries: usize,
        wide: &'a mut [f32],
    ) -> Numbers<'a> {
        let [_, scales, ..] = self.layout();
        let (keys, len) = (self.key_bytes(tile), self.dim * PAGE_SLOTS);
        match self.kv_type {
            KvType::F32 => return Numbers::F32(bytemuck::cast_slice(keys)),
            KvType::F16 if queries < WIDENED_FROM => return Numbers::F16(bytemuck::cast_slice(keys)),
            KvType::F16 => widen_f16(s, bytemuck::cast_slice(keys), &mut wide[..len]),
            KvType::Q8_0 => {
                let scales: &[f16] = bytemuck::cast_slice(&tile[scales]);
                let bytes: &[i8] = bytemuck::cast_slice(keys);
                let blocks = bytes.chunks(KV_BLOCK * PAGE_SLOTS).zip(scales.chunks_exact(PAGE_SLOTS));
                for ((bytes, scales), wide) in blocks.zip(wide[..len].chunks_mut(KV_BLOCK * PAGE_SLOTS)) {
                    for (bytes, wide) in bytes.chunks_exact(PAGE_SLOTS).zip(wide.chunks_exact_mut(PAGE_SLOTS))
                    {
                        for at in (0..PAGE_SLOTS).step_by(S::LANES) {
                            // SAFETY: all three hold PAGE_SLOTS elements, a multiple of LANES.
                            unsafe {
                                let scale = s.load_f16(scales.as_ptr().add(at));
                                let q = s.load_i8(bytes.as_ptr().add(at));
                                s.store(s.mul(q, scale), wide.as_mut_ptr().add(at));
                            }
                        }
                    }
                }
            }
        }
        Numbers::F32(&wide[..len])
    }

    /// The values of a tile `[slots][padded]`, in the same way.
    #[inline(always)]
    pub(crate) fn values<'a, S: Lanes>(
        &self,
        s: S,
        tile: &'a [u8],
        queries: usize,
        wide: &'a mut [f32],
    ) -> Numbers<'a> {
        if self.joint {
            return Numbers::F32(self.turned_values(s, tile, wide));
        }
        let [.., scales] = self.layout();
        let (values, len) = (self.value_bytes(tile), self.padded * PAGE_SLOTS);
        match self.kv_type {
            KvType::F32 => return Numbers::F32(bytemuck::cast_slice(values)),
            KvType::F16 if queries < WIDENED_FROM => return Numbers::F16(bytemuck::cast_slice(values)),
            KvType::F16 => widen_f16(s, bytemuck::cast_slice(values), &mut wide[..len]),
            KvType::Q8_0 => {
                let scales: &[f16] = bytemuck::cast_slice(&tile[scales]);
                let bytes: &[i8] = bytemuck::cast_slice(values);
                let slots =
                    bytes.chunks_exact(self.padded).zip(scales.chunks_exact(self.blocks(self.value_dim)));
                for ((bytes, scales), wide) in slots.zip(wide[..len].chunks_exact_mut(self.padded)) {
                    let blocks = bytes.chunks(KV_BLOCK).zip(wide.chunks_mut(KV_BLOCK));
                    for ((bytes, wide), scale) in blocks.zip(scales) {
                        let scale = s.splat(scale.to_f32());
                        for at in (0..bytes.len()).step_by(S::LANES) {
                            // SAFETY: both hold 16 or 32 elements, a multiple of LANES.
                            unsafe {
                                let q = s.load_i8(bytes.as_ptr().add(at));
                                s.store(s.mul(q, scale), wide.as_mut_ptr().add(at));
                            }
                        }
                    }
                }
            }
        }
        Numbers::F32(&wide[..len])
    }

    /// Values `[slots][padded]` out of keys `[dim][slots]`; what follows a value in its row is any of the key.
    #[inline(always)]
    fn turned_values<'a, S: Lanes>(&self, s: S, tile: &'a [u8], wide: &'a mut [f32]) -> &'a [f32] {
        let padded = self.padded;
        let (turned, rest) = wide.split_at_mut(padded * PAGE_SLOTS);
        let Numbers::F32(keys) = self.keys(s, tile, WIDENED_FROM, rest) else {
            unreachable!("tiles are widened for so many queries");
        };
        let whole = self.dim.min(padded) / 16 * 16;
        for dim in (0..whole).step_by(S::LANES) {
            for slot in (0..PAGE_SLOTS).step_by(S::LANES) {
                // SAFETY: LANES dimensions of LANES slots, both multiples of 16 apart, lie within both.
                unsafe {
                    let from = keys.as_ptr().add(dim * PAGE_SLOTS + slot);
                    s.transpose(from, PAGE_SLOTS, turned.as_mut_ptr().add(slot * padded + dim), padded);
                }
            }
        }
        for (slot, value) in turned.chunks_exact_mut(padded).enumerate() {
            for (dim, to) in value.iter_mut().enumerate().skip(whole) {
                *to = keys.get(dim * PAGE_SLOTS + slot).copied().unwrap_or(0.0);
            }
        }
        turned
    }

    /// Stores one slot's key `[dim]` and value `[value_dim]` in a tile.
    #[inline(always)]
    fn write(&self, tile: &mut [u8], slot: usize, key: &[f32], value: &[f32]) {
        let [keys, key_scales, values, value_scales] = self.layout();
        let at = slot * self.stored_padded();
        match self.kv_type {
            KvType::F32 => {
                let keys: &mut [f32] = bytemuck::cast_slice_mut(&mut tile[keys]);
                keys.iter_mut().skip(slot).step_by(PAGE_SLOTS).zip(key).for_each(|(k, &new)| *k = new);
                let values: &mut [f32] = bytemuck::cast_slice_mut(&mut tile[values]);
                values[at..at + self.value_dim].copy_from_slice(value);
            }
            KvType::F16 => {
                let column: &mut [f16] = &mut bytemuck::cast_slice_mut(&mut tile[keys])[slot..];
                let mut rounded = [f16::ZERO; KV_BLOCK];
                for (column, key) in column.chunks_mut(KV_BLOCK * PAGE_SLOTS).zip(key.chunks(KV_BLOCK)) {
                    rounded[..key.len()].convert_from_f32_slice(key);
                    column.iter_mut().step_by(PAGE_SLOTS).zip(rounded).for_each(|(k, new)| *k = new);
                }
                let values: &mut [f16] = bytemuck::cast_slice_mut(&mut tile[values]);
                values[at..at + self.value_dim].convert_from_f32_slice(value);
            }
            KvType::Q8_0 => {
                let (bytes, tails) = tile.split_at_mut(key_scales.start);
                let bytes: &mut [i8] = bytemuck::cast_slice_mut(&mut bytes[keys]);
                let scales: &mut [f16] = bytemuck::cast_slice_mut(&mut tails[..key_scales.len()]);
                for (block, key) in key.chunks(KV_BLOCK).enumerate() {
                    let (scale, rounded) = q8_block(key);
                    scales[block * PAGE_SLOTS + slot] = scale;
                    let column = bytes[block * KV_BLOCK * PAGE_SLOTS + slot..].iter_mut().step_by(PAGE_SLOTS);
                    column.zip(&rounded[..key.len()]).for_each(|(k, &new)| *k = new);
                }
                let (bytes, tails) = tile.split_at_mut(value_scales.start);
                let bytes: &mut [i8] = bytemuck::cast_slice_mut(&mut bytes[values]);
                let scales: &mut [f16] = bytemuck::cast_slice_mut(&mut tails[..value_scales.len()]);
                for (block, value) in value.chunks(KV_BLOCK).enumerate() {
                    let (scale, rounded) = q8_block(value);
                    scales[slot * self.blocks(self.value_dim) + block] = scale;
                    bytes[at + block * KV_BLOCK..][..value.len()].copy_from_slice(&rounded[..value.len()]);
                }
            }
        }
    }
}

/// A block's scale and its elements as bytes. A block with a value that is not finite gets a scale that is not a
/// number, because bytes cannot say so.
#[inline(always)]
fn q8_block(block: &[f32]) -> (f16, [i8; KV_BLOCK]) {
    let (scale, inverse) = q8_scale(block);
    let mut rounded = [0; KV_BLOCK];
    for (to, &x) in rounded.iter_mut().zip(block) {
        *to = (x * inverse).round_ties_even() as i8;
    }
    let finite = block.iter().all(|v| v.is_finite());
    (if finite { f16::from_f32(scale) } else { f16::NAN }, rounded)
}

/// Widens a whole number of 16 elements.
#[inline(always)]
fn widen_f16<S: Lanes>(s: S, from: &[f16], to: &mut [f32]) {
    for (from, to) in from.chunks_exact(S::LANES).zip(to.chunks_exact_mut(S::LANES)) {
        // SAFETY: both chunks hold LANES elements.
        unsafe { s.store(s.load_f16(from.as_ptr()), to.as_mut_ptr()) };
    }
}

impl KvCache {
    /// An empty cache.
    ///
    /// # Errors
    /// [`DeviceError::OutOfMemory`].
    pub(crate) fn new(plan: &Plan) -> Result<Self, DeviceError> {
        let layer = |heads: &Heads| {
            let shape = TileShape::new(plan.kv_type, heads);
            let tiles = plan.capacity.pages.saturating_mul(heads.kv_heads);
            let tiles = Slab::zeroed(tiles.saturating_mul(shape.bytes()), "the key/value cache")?;
            Ok(LayerCache { heads: *heads, shape, tiles })
        };
        Ok(KvCache { layers: plan.layers.iter().map(layer).collect::<Result<_, DeviceError>>()? })
    }

    /// Bytes that it takes.
    pub(crate) fn bytes(&self) -> usize {
        self.layers.iter().map(|layer| layer.tiles.bytes()).sum()
    }

    /// A layer, whose heads the caller believes to be `heads`.
    pub(crate) fn layer(&mut self, layer: usize, heads: Heads) -> &mut LayerCache {
        let layer = &mut self.layers[layer];
        assert_eq!(heads, layer.heads, "the heads are those of the plan");
        layer
    }
}

impl LayerCache {
    /// The tile of a page for a key/value head.
    pub(crate) fn tile(&self, page: PageId, kv_head: usize) -> &[u8] {
        let (at, bytes) = (page as usize * self.heads.kv_heads + kv_head, self.shape.bytes());
        &self.tiles[at * bytes..(at + 1) * bytes]
    }

    /// Stores a row of keys and values, of all heads, in a slot of a page.
    pub(crate) fn put(&mut self, page: PageId, slot: usize, row: &[f32]) {
        let (heads, bytes) = (self.heads, self.shape.bytes());
        let (keys, values) = row.split_at(heads.k_width());
        let value_dim = heads.stored_value_dim();
        for (head, key) in keys.chunks_exact(heads.head_dim).enumerate() {
            let value = &values[head * value_dim..][..value_dim];
            let at = (page as usize * heads.kv_heads + head) * bytes;
            self.shape.write(&mut self.tiles[at..at + bytes], slot, key, value);
        }
    }

    /// Stores the keys and values of `qkv` `[rows, qkv_width]` in each row's slot.
    ///
    /// A tile is written by one thread only, whatever the batch: threads share out tiles, not rows. Rows that name the
    /// same slot are then stored in their order.
    pub(crate) fn write(&mut self, pool: &Pool, isa: Isa, step: &Step, qkv: &[f32]) {
        let (heads, shape, threads) = (self.heads, self.shape, pool.threads());
        let tiles = Parts::new(&mut self.tiles);
        pool.run(&|thread| {
            dispatch(isa, WriteTiles { heads, shape, step, qkv, tiles: &tiles, thread, threads });
        });
    }
}

/// Writes every `threads`th tile of a layer.
struct WriteTiles<'a> {
    heads: Heads,
    shape: TileShape,
    step: &'a Step,
    qkv: &'a [f32],
    tiles: &'a Parts<'a, u8>,
    thread: usize,
    threads: usize,
}

impl Kernel for WriteTiles<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Lanes>(self, _: S) {
        let WriteTiles { heads, shape, step, qkv, tiles, .. } = self;
        let bytes = shape.bytes();
        for sequence in &step.sequences {
            for row in sequence.rows.clone() {
                let slot = step.slots[row] as usize;
                let page = step.pages_of(sequence)[slot / PAGE_SLOTS] as usize;
                let row = &qkv[row * heads.qkv_width()..(row + 1) * heads.qkv_width()];
                let (keys, values) = row[heads.q_width()..].split_at(heads.k_width());
                for head in 0..heads.kv_heads {
                    let tile = page * heads.kv_heads + head;
                    if tile % self.threads == self.thread {
                        // SAFETY: only this thread writes this tile, and it lets go of it at once.
                        let tile = unsafe { tiles.range(tile * bytes..(tile + 1) * bytes) };
                        let key = &keys[head * heads.head_dim..][..heads.head_dim];
                        let value_dim = heads.stored_value_dim();
                        let value = &values[head * value_dim..][..value_dim];
                        shape.write(tile, slot % PAGE_SLOTS, key, value);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Widths of keys and values that differ.
    const WIDTHS: [(usize, usize); 3] = [(24, 16), (16, 40), (192, 128)];

    /// Reads a tile back.
    struct ReadTile<'a>(TileShape, &'a [u8], usize);

    impl Kernel for ReadTile<'_> {
        type Output = [Vec<f32>; 2];

        #[inline(always)]
        fn run<S: Lanes>(self, s: S) -> [Vec<f32>; 2] {
            let mut wide = vec![f32::NAN; PAGE_SLOTS * self.0.padded.max(self.0.dim)];
            let own = |numbers: Numbers<'_>| match numbers {
                Numbers::F32(numbers) => numbers.to_vec(),
                Numbers::F16(numbers) => numbers.iter().map(|number| number.to_f32()).collect(),
            };
            let keys = own(self.0.keys(s, self.1, self.2, &mut wide));
            [keys, own(self.0.values(s, self.1, self.2, &mut wide))]
        }
    }

    #[test]
    fn a_tile_keeps_what_the_type_keeps() {
        for kv_type in [KvType::F32, KvType::F16, KvType::Q8_0] {
            for (dim, value_dim) in
                [1, 7, 16, 24, 32, 33, 64, 128].map(|dim| (dim, dim)).into_iter().chain(WIDTHS)
            {
                let heads = Heads { value_dim, ..Heads::new(1, 1, dim) };
                let shape = TileShape::new(kv_type, &heads);
                let mut tile = Slab::<u8>::zeroed(shape.bytes(), "a tile").unwrap();
                let vector = |dim: usize, slot: usize, sign: f32| -> Vec<f32> {
                    let at = |i: usize| ((i * 37 + slot * 11) % 101) as f32 - 50.0;
                    (0..dim).map(|i| sign * at(i) / 7.3 * (1 + i / 32) as f32).collect()
                };
                // Slot 5 holds zeros, whose scale is zero.
                let size = |slot| if slot == 5 { 0.0 } else { 1.0 };
                for slot in 0..PAGE_SLOTS {
                    let key = vector(dim, slot, size(slot));
                    shape.write(&mut tile, slot, &key, &vector(value_dim, slot, -2.0 * size(slot)));
                }
                for (isa, queries) in
                    Isa::available().into_iter().flat_map(|isa| [(isa, 1), (isa, WIDENED_FROM)])
                {
                    let [keys, values] = dispatch(isa, ReadTile(shape, &tile, queries));
                    for slot in 0..PAGE_SLOTS {
                        let [mut key, mut value] = [(dim, 1.0), (value_dim, -2.0)]
                            .map(|(dim, sign)| vector(dim, slot, sign * size(slot)));
                        kv_type.round(&mut key);
                        kv_type.round(&mut value);
                        let found: Vec<f32> = (0..dim).map(|d| keys[d * PAGE_SLOTS + slot]).collect();
                        assert_eq!(found, key, "{kv_type:?} {dim} {isa}");
                        assert_eq!(
                            values[slot * shape.padded..][..value_dim],
                            value,
                            "{kv_type:?} {dim} {isa}"
                        );
                        assert!(
                            values[slot * shape.padded..][value_dim..shape.padded].iter().all(|&v| v == 0.0)
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn bytes_do_not_hide_what_is_not_finite() {
        let shape = TileShape::new(KvType::Q8_0, &Heads::new(1, 1, 64));
        let mut tile = Slab::<u8>::zeroed(shape.bytes(), "a tile").unwrap();
        for bad in [f32::NAN, f32::INFINITY] {
            let mut vector = vec![1.0; 64];
            vector[40] = bad;
            shape.write(&mut tile, 3, &vector, &vector);
            let [keys, values] = dispatch(Isa::Portable, ReadTile(shape, &tile, 1));
            assert!(keys[40 * PAGE_SLOTS + 3].is_nan() && values[3 * 64 + 40].is_nan());
            assert!(keys[3].is_finite() && values[3 * 64].is_finite(), "the other block is untouched");
        }
    }
}
