//! What the key/value cache holds and in which precision.

use half::f16;

/// Elements that share a scale in [`KvType::Q8_0`].
pub const KV_BLOCK: usize = 32;

/// Precision of the cached keys and values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(non_camel_case_types, reason = "the names are llama.cpp's, known to every user")]
pub enum KvType {
    /// IEEE binary32: the truth.
    F32,
    /// IEEE binary16.
    F16,
    /// Signed bytes with one f16 scale per [`KV_BLOCK`] elements of a head.
    Q8_0,
}

impl KvType {
    /// Bytes of `len` elements of one head of one slot.
    pub const fn bytes(self, len: usize) -> usize {
        match self {
            KvType::F32 => len * 4,
            KvType::F16 => len * 2,
            KvType::Q8_0 => len + len.div_ceil(KV_BLOCK) * 2,
        }
    }

    /// Rounds one head's vector of one slot to what the cache keeps of it.
    pub fn round(self, head: &mut [f32]) {
        match self {
            KvType::F32 => {}
            KvType::F16 => head.iter_mut().for_each(|x| *x = f16::from_f32(*x).to_f32()),
            KvType::Q8_0 => {
                for block in head.chunks_mut(KV_BLOCK) {
                    let (scale, inverse) = q8_scale(block);
                    block.iter_mut().for_each(|x| *x = (*x * inverse).round_ties_even() * scale);
                }
            }
        }
    }
}

/// The scale of a [`KvType::Q8_0`] block, already rounded to f16, and what to multiply values by to get the
/// bytes (0 for a block of zeros): `q = round_ties_even(x * inverse)`, `x ~ q * scale`.
pub fn q8_scale(block: &[f32]) -> (f32, f32) {
    let max = block.iter().fold(0f32, |m, x| m.max(x.abs()));
    let exact = max / 127.0;
    (f16::from_f32(exact).to_f32(), if exact > 0.0 { 1.0 / exact } else { 0.0 })
}

/// The attention heads of a layer. A row of the fused projection is `[q: heads * head_dim | k: kv_heads * head_dim
/// | v: kv_heads * value_dim]`, of joint heads without `v`; what attention returns of it is `[heads * value_dim]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads {
    /// Query heads.
    pub heads: usize,
    /// Key/value heads; `heads` is a multiple.
    pub kv_heads: usize,
    /// Elements of a head's query and key.
    pub head_dim: usize,
    /// Elements of a head's value.
    pub value_dim: usize,
    /// Scores are divided by the root of this.
    pub scale_dim: usize,
    /// Whether a value is the beginning of its key, so that the cache keeps both as one (latent attention).
    pub joint: bool,
}

impl Heads {
    /// Heads whose values are as wide as their keys: every GLM up to GLM-4.
    pub const fn new(heads: usize, kv_heads: usize, head_dim: usize) -> Self {
        Heads { heads, kv_heads, head_dim, value_dim: head_dim, scale_dim: head_dim, joint: false }
    }

    /// Elements of a value that are stored beside its key.
    pub const fn stored_value_dim(&self) -> usize {
        if self.joint { 0 } else { self.value_dim }
    }

    /// Width of the queries of a row.
    pub const fn q_width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Width of the keys of a row.
    pub const fn k_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    /// Width of the values of a row, where they are not in its keys.
    pub const fn v_width(&self) -> usize {
        self.kv_heads * self.stored_value_dim()
    }

    /// Width of a row of the fused projection.
    pub const fn qkv_width(&self) -> usize {
        self.q_width() + self.k_width() + self.v_width()
    }

    /// Width of what attention returns for a row.
    pub const fn attended_width(&self) -> usize {
        self.heads * self.value_dim
    }

    /// Query heads that read the same key/value head.
    pub const fn group(&self) -> usize {
        self.heads / self.kv_heads
    }

    /// Bytes that one slot takes in one layer.
    pub const fn kv_bytes(&self, kv: KvType) -> usize {
        self.kv_heads * (kv.bytes(self.head_dim) + kv.bytes(self.stored_value_dim()))
    }
}
