//! The list of a decoder's weights, from which everything about them follows: names (`names.rs`), loading (`load.rs`),
//! converting (`export/`), counting, and where a step finds them. A part is addressed by its layer and its role.

use std::ops::Range;

use glimmer_tensor::MatrixUse;

use crate::{Activation, Attention, DecoderSpec, FeedForward, Latent, LayerSpec, NormSpec, Residual};

/// What a weight is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WeightRole {
    /// The token embedding.
    Embedding,
    /// Norm before attention.
    AttentionNorm,
    /// Queries, keys and values in one matrix.
    Qkv,
    /// The first section of it.
    Queries,
    /// The second.
    Keys,
    /// The third.
    Values,
    /// The norm of each head's queries.
    QueryNorm,
    /// That of its keys.
    KeyNorm,
    /// Latent attention: queries into few dimensions.
    QueriesDown,
    /// The norm of those.
    QueriesDownNorm,
    /// From there to the queries of all heads: first the plain parts of all, then those that are turned.
    QueriesUp,
    /// The first section of it.
    PlainQueries,
    /// The second.
    TurnedQueries,
    /// Latents, and the turned part of keys.
    Latents,
    /// The norm of latents.
    LatentsNorm,
    /// For each head, from the plain part of a query to latents `[heads * rank, plain]`.
    KeysUp,
    /// For each head, from latents to values `[heads * value, rank]`.
    ValuesUp,
    /// Attention's output projection.
    AttentionOut,
    /// Norm after attention, before the sum (GLM-4-0414).
    AttentionPostNorm,
    /// Norm before the feed-forward.
    FfnNorm,
    /// Into the feed-forward: gate and up, or ChatGLM-6B's single projection.
    FfnUp,
    /// The first section of it, where that is gated.
    FfnGate,
    /// The second.
    FfnValue,
    /// Back to the residual stream.
    FfnDown,
    /// Into the expert that every row meets: gate and up.
    SharedUp,
    /// The first section of it.
    SharedGate,
    /// The second.
    SharedValue,
    /// From it back to the residual stream.
    SharedDown,
    /// A score for each expert.
    Router,
    /// What is added to experts' scores where they are chosen.
    RouterCorrection,
    /// Into an expert: gate and up.
    ExpertUp(u16),
    /// The first section of it.
    ExpertGate(u16),
    /// The second.
    ExpertValue(u16),
    /// From an expert back to the residual stream.
    ExpertDown(u16),
    /// Norm after the feed-forward, before the sum (GLM-4-0414).
    FfnPostNorm,
    /// The norm after the last layer.
    FinalNorm,
    /// The head, where it is not the embedding.
    Head,
}

/// A weight of the decoder.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// Its layer; `None` before the first and after the last.
    pub layer: Option<usize>,
    /// What it is for.
    pub role: WeightRole,
    /// What it is.
    pub kind: PartKind,
}

/// What a part is.
#[derive(Clone, Debug, PartialEq)]
pub enum PartKind {
    /// A norm's scale, and for LayerNorm its shift, and how wide they are.
    Norm(NormSpec, usize),
    /// A matrix, perhaps with a bias.
    Matrix(MatrixPart),
    /// So many numbers.
    Vector(usize),
}

/// A matrix `[rows, cols]`.
#[derive(Clone, Debug, PartialEq)]
pub struct MatrixPart {
    /// Its rows, section after section: what they are for and how many. A layout may keep sections apart.
    pub sections: Vec<(WeightRole, usize)>,
    /// Inputs.
    pub cols: usize,
    /// Whether the configuration promises a bias.
    pub bias: bool,
    /// What the device is told.
    pub used_for: MatrixUse,
    /// Heads among which every section is divided: a layout that interleaves sections does so head by head.
    pub heads: usize,
    /// What a layout may keep in one tensor with it.
    pub within: Within,
}

/// How a matrix may lie in a tensor with others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Within {
    /// It does not.
    Alone,
    /// Of so many experts' one after the other, that of this one.
    Experts {
        /// Which.
        index: usize,
        /// Of how many.
        count: usize,
    },
    /// Keys and values of latents together, head by head `[heads * (plain + value), rank]`; keys turned over.
    KeysAndValues {
        /// Rows of a head's keys.
        plain: usize,
        /// Rows of a head's values.
        value: usize,
    },
}

impl MatrixPart {
    /// Rows of all sections.
    pub fn rows(&self) -> usize {
        self.sections.iter().map(|(_, rows)| rows).sum()
    }

    /// The rows of each section, one after the other as the decoder has them.
    pub(crate) fn section_rows(&self) -> Vec<Range<usize>> {
        let mut next = 0;
        let of_section = |(_, rows): &(WeightRole, usize)| {
            next += rows;
            next - rows..next
        };
        self.sections.iter().map(of_section).collect()
    }

    /// The same rows in the order of a tensor that has its sections head by head.
    pub(crate) fn by_heads(&self) -> Vec<Range<usize>> {
        let sections = self.section_rows();
        let of_head = |head: usize| {
            sections.iter().map(move |rows| {
                let share = rows.len() / self.heads;
                rows.start + head * share..rows.start + (head + 1) * share
            })
        };
        (0..self.heads).flat_map(of_head).collect()
    }

    /// The rows of each section in a fused tensor: one range where sections follow each other, one for each head where
    /// they are interleaved.
    pub(crate) fn fused_rows(&self, interleaved: bool) -> Vec<Vec<Range<usize>>> {
        let heads = if interleaved { self.heads } else { 1 };
        let stride = self.rows() / heads;
        let mut next = 0;
        let of_section = |(_, rows): &(WeightRole, usize)| {
            let first = next;
            next += rows / heads;
            (0..heads).map(|head| head * stride + first..head * stride + next).collect()
        };
        self.sections.iter().map(of_section).collect()
    }
}

impl DecoderSpec {
    /// All weights in the order of their use. Where the head is no matrix of its own the embedding serves as one.
    pub fn parts(&self, own_head: bool) -> Vec<Part> {
        self.parts_of(own_head, 0..self.layers.len())
    }

    /// The weights that a device needs that holds these layers: with the first one the embedding, with the last one the
    /// final norm and the head. Where the embedding serves as the head and these are not together, both have it.
    pub fn parts_of(&self, own_head: bool, layers: Range<usize>) -> Vec<Part> {
        let table = |role, used_for| Part {
            layer: None,
            role,
            kind: PartKind::Matrix(MatrixPart {
                used_for,
                ..matrix(&[(role, self.vocab)], self.hidden, false)
            }),
        };
        let (is_first, is_last) = (layers.start == 0, layers.end == self.layers.len());
        let mut parts = Vec::new();
        if is_first {
            let is_head = is_last && !own_head;
            let used_for = if is_head { MatrixUse::Linear } else { MatrixUse::Rows };
            parts.push(table(WeightRole::Embedding, used_for));
        }
        for layer in layers {
            let of_layer = |(role, kind)| Part { layer: Some(layer), role, kind };
            parts.extend(self.layers[layer].parts(self.hidden).into_iter().map(of_layer));
        }
        if is_last {
            let kind = PartKind::Norm(self.final_norm, self.hidden);
            parts.push(Part { layer: None, role: WeightRole::FinalNorm, kind });
            if own_head {
                parts.push(table(WeightRole::Head, MatrixUse::Linear));
            } else if !is_first {
                parts.push(table(WeightRole::Embedding, MatrixUse::Linear));
            }
        }
        parts
    }

    /// Parameters of all layers that a token meets (its operations are twice this), norms and biases left out.
    pub fn layer_parameters(&self) -> u64 {
        let is_met = |layer: &LayerSpec, role| match (layer.feed_forward, role) {
            (FeedForward::Experts { routing, .. }, WeightRole::ExpertUp(e) | WeightRole::ExpertDown(e)) => {
                usize::from(e) < routing.chosen
            }
            _ => true,
        };
        let parts = self
            .layers
            .iter()
            .flat_map(|layer| layer.parts(self.hidden).into_iter().filter(|(role, _)| is_met(layer, *role)));
        let parameters = |(_, kind)| match kind {
            PartKind::Norm(..) | PartKind::Vector(_) => 0,
            PartKind::Matrix(matrix) => (matrix.rows() * matrix.cols) as u64,
        };
        parts.map(parameters).sum()
    }
}

impl LayerSpec {
    /// The weights of a layer on a residual stream `hidden` wide, in the order of their use.
    fn parts(&self, hidden: usize) -> Vec<(WeightRole, PartKind)> {
        let norm = |role| (role, PartKind::Norm(self.norm, hidden));
        let post_norm = |role| (self.residual == Residual::Sandwich).then(|| norm(role));
        let mut parts = vec![norm(WeightRole::AttentionNorm)];
        match self.attention {
            Attention::Heads { heads, qkv_bias, out_bias, head_norm } => {
                let sections = [
                    (WeightRole::Queries, heads.q_width()),
                    (WeightRole::Keys, heads.k_width()),
                    (WeightRole::Values, heads.v_width()),
                ];
                let qkv = MatrixPart { heads: heads.kv_heads, ..matrix(&sections, hidden, qkv_bias) };
                let out = matrix(&[(WeightRole::AttentionOut, hidden)], heads.attended_width(), out_bias);
                parts.push((WeightRole::Qkv, PartKind::Matrix(qkv)));
                let of_heads = |role| (role, PartKind::Norm(self.norm, heads.head_dim));
                parts.extend(
                    [WeightRole::QueryNorm, WeightRole::KeyNorm]
                        .map(of_heads)
                        .into_iter()
                        .filter(|_| head_norm),
                );
                parts.push((WeightRole::AttentionOut, PartKind::Matrix(out)));
            }
            Attention::Latent(latent) => parts.extend(latent.parts(self.norm, hidden)),
        }
        parts.extend(post_norm(WeightRole::AttentionPostNorm));
        parts.push(norm(WeightRole::FfnNorm));
        let matrices = |[up, gate, value, down]: [WeightRole; 4], inner, activation, bias, within| {
            let (sections, used_for) = match activation {
                Activation::SwiGlu => (vec![(gate, inner), (value, inner)], MatrixUse::Gated),
                Activation::Gelu => (vec![(up, inner)], MatrixUse::Linear),
            };
            let into = MatrixPart { used_for, within, ..matrix(&sections, hidden, bias) };
            let back = MatrixPart { within, ..matrix(&[(down, hidden)], inner, bias) };
            [(up, PartKind::Matrix(into)), (down, PartKind::Matrix(back))]
        };
        match self.feed_forward {
            FeedForward::Dense { inner, activation, bias } => {
                let roles =
                    [WeightRole::FfnUp, WeightRole::FfnGate, WeightRole::FfnValue, WeightRole::FfnDown];
                parts.extend(matrices(roles, inner, activation, bias, Within::Alone));
            }
            FeedForward::Experts { count, inner, shared, .. } => {
                let router = matrix(&[(WeightRole::Router, count)], hidden, false);
                parts.push((WeightRole::Router, PartKind::Matrix(router)));
                parts.push((WeightRole::RouterCorrection, PartKind::Vector(count)));
                if shared > 0 {
                    let roles = [
                        WeightRole::SharedUp,
                        WeightRole::SharedGate,
                        WeightRole::SharedValue,
                        WeightRole::SharedDown,
                    ];
                    parts.extend(matrices(roles, shared, Activation::SwiGlu, false, Within::Alone));
                }
                for e in 0..count as u16 {
                    let roles = [
                        WeightRole::ExpertUp(e),
                        WeightRole::ExpertGate(e),
                        WeightRole::ExpertValue(e),
                        WeightRole::ExpertDown(e),
                    ];
                    let within = Within::Experts { index: e.into(), count };
                    parts.extend(matrices(roles, inner, Activation::SwiGlu, false, within));
                }
            }
        }
        parts.extend(post_norm(WeightRole::FfnPostNorm));
        parts
    }
}

impl Latent {
    /// Its weights on a residual stream `hidden` wide, in the order of their use.
    fn parts(&self, norm: NormSpec, hidden: usize) -> Vec<(WeightRole, PartKind)> {
        let &Latent { heads, query_rank, rank, plain, turned, value, eps } = self;
        let linear = |role, rows, cols| (role, PartKind::Matrix(matrix(&[(role, rows)], cols, false)));
        let norm = |role, width| (role, PartKind::Norm(NormSpec { eps, ..norm }, width));
        let sections =
            [(WeightRole::PlainQueries, heads * plain), (WeightRole::TurnedQueries, heads * turned)];
        let queries = MatrixPart { heads, ..matrix(&sections, query_rank, false) };
        let by_head = |role, rows, cols| {
            let (used_for, within) = (MatrixUse::PerHead(heads), Within::KeysAndValues { plain, value });
            let part = MatrixPart { used_for, within, heads, ..matrix(&[(role, rows)], cols, false) };
            (role, PartKind::Matrix(part))
        };
        vec![
            linear(WeightRole::QueriesDown, query_rank, hidden),
            norm(WeightRole::QueriesDownNorm, query_rank),
            (WeightRole::QueriesUp, PartKind::Matrix(queries)),
            linear(WeightRole::Latents, rank + turned, hidden),
            norm(WeightRole::LatentsNorm, rank),
            by_head(WeightRole::KeysUp, heads * rank, plain),
            by_head(WeightRole::ValuesUp, heads * value, rank),
            linear(WeightRole::AttentionOut, hidden, heads * value),
        ]
    }
}

fn matrix(sections: &[(WeightRole, usize)], cols: usize, bias: bool) -> MatrixPart {
    let (sections, within) = (sections.to_vec(), Within::Alone);
    MatrixPart { sections, cols, bias, used_for: MatrixUse::Linear, heads: 1, within }
}
