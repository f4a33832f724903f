//! What a decoder is: the facts in which the generations differ.
//!
//! A [`DecoderSpec`] states them, [`crate::Decoder`] executes them. A new generation is a new row of facts, not a new
//! file of copied code. The rows are built from a checkpoint's own configuration in `config.rs`.

use glimmer_tensor::{Heads, NormKind, Rope};

/// A generation of GLM: whose conventions a checkpoint follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// ChatGLM-6B: 2-D positions, prefix-bidirectional attention.
    ChatGlm6b,
    /// ChatGLM2-6B; `rope_ratio` divides positions.
    ChatGlm2,
    /// CodeGeeX2-6B: ChatGLM2 with prompts of its own.
    CodeGeex2,
    /// ChatGLM3-6B; `rope_ratio` multiplies the rotary base.
    ChatGlm3,
    /// GLM-4-9B, -Chat, -1M, -hf, LongWriter, LongCite, CodeGeeX4.
    Glm4,
    /// GLM-Edge.
    GlmEdge,
    /// GLM-4-0414 and GLM-Z1.
    Glm40414,
}

impl Family {
    /// Every family with the name that `--family` takes.
    pub const NAMES: [(Family, &'static str); 7] = [
        (Family::ChatGlm6b, "chatglm-6b"),
        (Family::ChatGlm2, "chatglm2"),
        (Family::CodeGeex2, "codegeex2"),
        (Family::ChatGlm3, "chatglm3"),
        (Family::Glm4, "glm-4"),
        (Family::GlmEdge, "glm-edge"),
        (Family::Glm40414, "glm-4-0414"),
    ];

    /// The name that `--family` takes.
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(f, _)| *f == self).map_or("", |(_, n)| n)
    }

    /// The family of a `--family` name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(_, n)| *n == name).map(|(f, _)| *f)
    }
}

/// How a block places its norms and residuals.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Block {
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

/// The feed-forward's inner activation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mlp {
    /// `down(silu(gate(x)) * up(x))`, gate and up in one matrix, gate first.
    SwiGlu,
    /// `down(gelu(up(x)))`, tanh form.
    Gelu,
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
}

/// The facts of one decoder. Widths are in elements.
#[derive(Clone, Debug, PartialEq)]
pub struct DecoderSpec {
    /// Whose conventions it follows.
    pub family: Family,
    /// Number of blocks.
    pub layers: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Width of the feed-forward's inner activations.
    pub ffn: usize,
    /// Rows of the embedding and of the head.
    pub vocab: usize,
    /// Attention heads.
    pub heads: Heads,
    /// Norm and residual placement.
    pub block: Block,
    /// Which norm.
    pub norm: NormKind,
    /// Added to the norm's variance.
    pub eps: f32,
    /// Feed-forward.
    pub mlp: Mlp,
    /// Whether the configuration promises biases on queries, keys and values.
    pub qkv_bias: bool,
    /// Whether it promises biases on the other linears of a block.
    pub linear_bias: bool,
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

impl DecoderSpec {
    /// Whether what attention returns may lie where its normed input lay: that is as wide, and not needed again unless
    /// it is the residual stream.
    pub(crate) fn attends_in_place(&self) -> bool {
        !matches!(self.block, Block::ScaledNormed { .. }) && self.heads.attended_width() == self.hidden
    }

    /// Parameters of all blocks (the operations of a prompt token are twice this), norms and biases left out.
    pub fn block_parameters(&self) -> u64 {
        let attention = self.hidden * (self.heads.qkv_width() + self.heads.attended_width());
        let up = match self.mlp {
            Mlp::SwiGlu => 2 * self.ffn,
            Mlp::Gelu => self.ffn,
        };
        (self.layers * (attention + self.hidden * (up + self.ffn))) as u64
    }
}
