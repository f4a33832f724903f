//! What a decoder is: the facts in which the generations differ.
//!
//! A [`DecoderSpec`] states them layer by layer, [`crate::Decoder`] executes them. A new generation is a new row of
//! facts, not a new file of copied code; a new kind of layer is a variant of [`Attention`] or [`FeedForward`] with its
//! rows in `parts.rs`. The facts are read from a checkpoint's own configuration in `config.rs`.

use glimmer_config::Family;
use glimmer_tensor::{Heads, KvType, NormKind, Rope, Routing};

/// How a layer places its norms and adds to the residual stream.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Residual {
    /// `x += f(norm(x))`: ChatGLM2/3, GLM-4, GLM-Edge.
    PreNorm,
    /// `x += norm'(f(norm(x)))`: GLM-4-0414's sandwich.
    Sandwich,
    /// `y = norm(x); x = alpha * y + f(y)`: ChatGLM-6B (DeepNorm's residual, taken after the norm).
    ScaledNormed {
        /// `sqrt(2 * 28)`: the original hard-wires its 28 layers.
        alpha: f32,
    },
}

/// A norm, without its weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NormSpec {
    /// Which statistics it divides by.
    pub kind: NormKind,
    /// Added to the variance.
    pub eps: f32,
}

impl NormSpec {
    /// What its vectors are called in every layout: the scale and, for LayerNorm, the shift.
    pub fn vectors(&self) -> &'static [&'static str] {
        match self.kind {
            NormKind::Rms => &["weight"],
            NormKind::Layer => &["weight", "bias"],
        }
    }
}

/// How a layer's rows see each other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Attention {
    /// Heads of queries over (fewer) heads of keys and values, one projection for all three.
    Heads {
        /// Their numbers and width.
        heads: Heads,
        /// Whether the configuration promises biases on queries, keys and values.
        qkv_bias: bool,
        /// Whether it promises one on the output projection.
        out_bias: bool,
        /// Whether each head's queries and keys are normed before they are turned, with the layer's epsilon (GLM-4.5).
        head_norm: bool,
    },
    /// Heads of queries over one latent for each row, of which each head makes keys and values of its own (multi-head latent
    /// attention: DeepSeek-V2, 2024; GLM-4.7-Flash).
    Latent(Latent),
}

/// Latent attention. What a head would make of a latent is not computed: queries are brought into the space of latents instead
/// (`q W_k`, absorbed), and what attention returns is a mixed latent, of which a head makes its value. So a row keeps
/// `rank + turned` numbers, whatever the number of heads, and has the same bits in a prompt and when it is generated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Latent {
    /// Query heads.
    pub heads: usize,
    /// Dimensions that queries come through.
    pub query_rank: usize,
    /// Those of a latent.
    pub rank: usize,
    /// Elements of a head's query and key that are not turned.
    pub plain: usize,
    /// Those that are; all heads share a key's.
    pub turned: usize,
    /// Elements of a head's value.
    pub value: usize,
    /// Epsilon of the norms within.
    pub eps: f32,
}

impl Latent {
    /// The heads that the cache and attention have: one key for all queries, which is a latent and then its turned part.
    pub fn heads(&self) -> Heads {
        Heads {
            heads: self.heads,
            kv_heads: 1,
            head_dim: self.rank + self.turned,
            value_dim: self.rank,
            scale_dim: self.plain + self.turned,
            joint: true,
        }
    }

    /// Width of the queries before they are absorbed.
    pub(crate) fn query_width(&self) -> usize {
        self.heads * (self.plain + self.turned)
    }
}

impl Attention {
    /// The heads that the cache keeps and attention meets.
    pub fn heads(&self) -> Heads {
        match self {
            Attention::Heads { heads, .. } => *heads,
            Attention::Latent(latent) => latent.heads(),
        }
    }
}

/// The feed-forward's inner activation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `silu(gate(x)) * up(x)`, gate and up in one matrix, gate first.
    SwiGlu,
    /// `gelu(up(x))`, tanh form.
    Gelu,
}

/// What a layer does to each row by itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum FeedForward {
    /// `down(activation(x))`.
    Dense {
        /// Width of the inner activations.
        inner: usize,
        /// What makes them.
        activation: Activation,
        /// Whether the configuration promises biases.
        bias: bool,
    },
    /// Many gated feed-forwards, of which each row meets those that a router chooses, and one that every row meets.
    Experts {
        /// How many there are to choose from.
        count: usize,
        /// Width of the inner activations of each.
        inner: usize,
        /// That of the one that every row meets; 0 where there is none.
        shared: usize,
        /// How a row chooses.
        routing: Routing,
    },
}

impl FeedForward {
    /// Width of the widest inner activations.
    pub fn widest(&self) -> usize {
        match *self {
            FeedForward::Dense { inner, .. } => inner,
            FeedForward::Experts { inner, shared, .. } => inner.max(shared),
        }
    }
}

/// The facts of one layer: attention, then a feed-forward, each with its norms.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LayerSpec {
    /// All norms of the layer.
    pub norm: NormSpec,
    /// Its first half.
    pub attention: Attention,
    /// Its second half.
    pub feed_forward: FeedForward,
    /// How both are added to the residual stream.
    pub residual: Residual,
}

/// How a sequence's ids become rotary positions and visible slots.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Positions {
    /// Position `i / divisor`, causal. The divisor is ChatGLM2-32K's `rope_ratio` and 1 elsewhere.
    Sequential {
        /// What positions are divided by.
        divisor: f32,
    },
    /// ChatGLM-6B: two positions per row and a context that attends both ways. See [`crate::PositionLayout`].
    ChatGlm6b {
        /// `[gMASK]`, whose index becomes everybody's position after the context.
        gmask: u32,
        /// `[MASK]`, which takes its place in a prompt without `[gMASK]`.
        mask: u32,
        /// `<sop>`: the context is everything before it.
        sop: u32,
    },
    /// GLM-4V-9B: position `i`, but the rows of a picture between its first and its last share one.
    SharedByPicture,
    /// GLM-4.1V and its successors: three positions per row, of time, rows and columns. They are equal but within a picture,
    /// whose rows have those of their place in its grid; what follows goes on after the largest.
    OfGrid,
}

impl Positions {
    /// What positions are divided by.
    pub fn divisor(self) -> f32 {
        match self {
            Positions::Sequential { divisor } => divisor,
            Positions::ChatGlm6b { .. } | Positions::SharedByPicture | Positions::OfGrid => 1.0,
        }
    }
}

/// Where a picture's rows are in a prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PictureSpan {
    /// The slot of the first of them.
    pub first: usize,
    /// How many there are.
    pub rows: usize,
    /// Its features along time, rows and columns; as many as `rows`, or two less where the picture has a first and a last row
    /// of its own.
    pub grid: [usize; 3],
}

/// The facts of one decoder. Widths are in elements.
#[derive(Clone, Debug, PartialEq)]
pub struct DecoderSpec {
    /// Whose conventions it follows.
    pub family: Family,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Rows of the embedding and of the head.
    pub vocab: usize,
    /// Its layers in order, at least one.
    pub layers: Vec<LayerSpec>,
    /// The norm after the last layer.
    pub final_norm: NormSpec,
    /// Whether the head may be the embedding when the checkpoint stores none.
    pub tied: bool,
    /// The rotation of queries and keys.
    pub rope: Rope,
    /// Rotary base before any scaling, for display and cross-checks.
    pub rope_base: f64,
    /// Positions and mask.
    pub positions: Positions,
    /// Length it was trained for, in tokens.
    pub context: usize,
}

impl LayerSpec {
    /// Bytes that one slot takes in this layer's cache.
    pub fn kv_bytes(&self, kv_type: KvType) -> usize {
        self.attention.heads().kv_bytes(kv_type)
    }
}

impl DecoderSpec {
    /// Bytes that one slot takes in the caches of all layers.
    pub fn kv_bytes(&self, kv_type: KvType) -> usize {
        self.layers.iter().map(|layer| layer.kv_bytes(kv_type)).sum()
    }
}
