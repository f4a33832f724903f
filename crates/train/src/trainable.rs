//! What is trained.

/// What is trained of a model, everything else being frozen.
#[derive(Clone, Debug, PartialEq)]
pub enum Trainable {
    /// Pairs of narrow matrices beside weights.
    LowRank(LowRankSpec),
    /// Keys and values before every sequence, in every layer (P-Tuning v2, Liu et al., 2021).
    Prefix(PrefixSpec),
    /// All weights.
    Full,
}

/// LoRA (Hu et al., 2021): `y = W x + b + scale B A dropout(x)`, `A` `[rank, inputs]`, `B` `[outputs, rank]`.
#[derive(Clone, Debug, PartialEq)]
pub struct LowRankSpec {
    /// Rows of `A`.
    pub rank: usize,
    /// The scale is `alpha / rank`, or `alpha / sqrt(rank)`.
    pub alpha: f32,
    /// The root of the rank instead of the rank: rsLoRA (Kalajdzievski, 2023).
    pub by_root: bool,
    /// With the magnitudes `m` of the weight's rows trained by themselves, DoRA (Liu et al., 2024):
    /// `y = m / |W + scale B A| (W x + scale B A dropout(x)) + b`, the norms taken for constants as PEFT does. (PEFT drops
    /// the `x` of `W x`, too, where dropout is on.)
    pub magnitudes: bool,
    /// The probability with which elements of `x` are dropped.
    pub dropout: f32,
    /// The last words of the names of weights, as PEFT matches them (`query_key_value`, `q_proj`), or `all-linear`.
    pub targets: Vec<String>,
    /// The layers; all where nothing is said.
    pub layers: Option<Vec<usize>>,
}

/// P-Tuning v2: `slots` keys and values before every sequence. Keys are not rotated.
#[derive(Clone, Debug, PartialEq)]
pub struct PrefixSpec {
    /// Slots.
    pub slots: usize,
    /// What makes keys and values of the embedding; without it they are the embedding.
    pub projection: Option<ProjectionSpec>,
    /// The probability with which their elements are dropped, one mask for all sequences of a step.
    pub dropout: f32,
    /// Whether positions of a sequence count from behind the prefix (PEFT over transformers' classes) and not from 0
    /// (ChatGLM's own code).
    pub shifts_positions: bool,
}

/// `outer tanh(inner x + b) + c` of an embedding `x`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProjectionSpec {
    /// Elements of the embedding.
    pub width: usize,
    /// Elements between both.
    pub middle: usize,
}
