//! A checkpoint's weights under another layout's names: which tensors there will be, and from which rows of the
//! source each is made.
//!
//! Nothing is read but headers until a tensor is encoded, and then one piece of it at a time. Formats of files are the
//! `checkpoint` crate's matter; this module is the inverse of `config.rs` and `load.rs`.
//!
//! Sources: llama.cpp's `conversion/chatglm.py` and `conversion/glm.py` (GGUF); transformers'
//! `convert_glm_weights_to_hf.py` (which rows of the fused matrices are what).

mod describe;
mod encode;
mod types;

use std::collections::HashSet;
use std::ops::Range;

use glimmer_checkpoint::{Checkpoint, CheckpointError, TensorInfo, TensorView};
use glimmer_tensor::{MatrixView, NormKind};

use crate::config::Understood;
use crate::names::Layout;
use crate::{Block, DecoderSpec, Mlp, ModelError};

pub use describe::{config_json, generation_config_json, gguf_metadata, model_name};
pub use types::{Mix, WeightTypes, file_type_name};

/// What a tensor is for, as far as the choice of its type goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The token embedding.
    Embedding,
    /// The head, where it is not the embedding.
    Head,
    /// Values, or queries, keys and values in one matrix.
    Values,
    /// Queries or keys.
    QueriesOrKeys,
    /// Attention's output projection.
    AttentionOut,
    /// Gate and up.
    FfnUp,
    /// Back to the residual stream.
    FfnDown,
    /// A norm's weight or any bias.
    Vector,
}

/// A tensor to be written.
#[derive(Clone, Debug)]
pub struct Outgoing<'a> {
    /// Its name in the new layout.
    pub name: String,
    /// Its shape, outermost first: `[rows, cols]` or `[len]`.
    pub shape: Vec<usize>,
    /// What it is for.
    pub part: Part,
    /// The block it belongs to; 0 outside blocks.
    pub layer: usize,
    /// Its rows, piece after piece. A vector's rows have one element.
    rows: Rows<'a>,
}

/// The layout of a directory in Hugging Face's format that holds this model: transformers' own classes, or for
/// ChatGLM-6B, which they do not have, its repository's.
pub fn directory_layout(spec: &DecoderSpec) -> Layout {
    match spec.block {
        Block::ScaledNormed { .. } => Layout::ChatGlm6b,
        Block::PreNorm | Block::Sandwich => Layout::Hf,
    }
}

/// The tensors of a model in layout `to` ([`Layout::Gguf`], or what [`directory_layout`] says), in the order of their
/// use, and the names of those in the source that play no part.
///
/// # Errors
/// When a tensor is missing or has another shape or type than the configuration says, or the layout has no place for a
/// bias that the model has.
pub fn outgoing<'a>(
    checkpoint: &'a Checkpoint,
    understood: &'a Understood,
    to: Layout,
) -> Result<(Vec<Outgoing<'a>>, Vec<&'a str>), ModelError> {
    let Walk { tensors, used, .. } = Walk::over(Some(checkpoint), understood, to)?;
    // Frequencies are computed, never read; the row scales of a packed weight go with it.
    let counts = |name: &str| !name.ends_with("inv_freq") && !name.ends_with("weight_scale");
    let names = checkpoint.tensors().iter().map(|t| t.name.as_str());
    let unused = names.filter(|name| counts(name) && !used.contains(*name)).collect();
    Ok((tensors, unused))
}

/// The tensors that [`outgoing`] would find if a model had been published exactly as its configuration promises. There
/// are no bytes behind them, and nothing to encode.
///
/// # Errors
/// When the layout has no place for a bias that the configuration promises.
pub fn promised(understood: &Understood, to: Layout) -> Result<Vec<Outgoing<'_>>, ModelError> {
    Ok(Walk::over(None, understood, to)?.tensors)
}

/// Whether these tensors hold a head of their own.
pub fn has_head(tensors: &[Outgoing<'_>]) -> bool {
    tensors.iter().any(|t| t.part == Part::Head)
}

/// Rows from one or several places, with the tensors they are from; of a model without weights, only how many.
#[derive(Clone, Debug, Default)]
struct Rows<'a> {
    count: usize,
    cols: usize,
    pieces: Vec<(MatrixView<'a>, &'a TensorInfo)>,
}

impl<'a> Rows<'a> {
    fn push_all(&mut self, other: Rows<'a>) {
        self.count += other.count;
        self.cols = other.cols;
        self.pieces.extend(other.pieces);
    }

    /// The rows `range` of all pieces taken together.
    fn slice(&self, range: Range<usize>) -> Rows<'a> {
        let mut first = 0;
        let mut pieces = Vec::new();
        for (view, info) in &self.pieces {
            let begin = range.start.clamp(first, first + view.rows) - first;
            let end = range.end.clamp(first, first + view.rows) - first;
            if begin < end {
                pieces.push((view.slice_rows(begin..end), *info));
            }
            first += view.rows;
        }
        Rows { count: range.len(), cols: self.cols, pieces }
    }
}

/// One pass over a model's tensors, as `load.rs` makes it.
struct Walk<'a> {
    /// `None`: a model without weights.
    checkpoint: Option<&'a Checkpoint>,
    spec: &'a DecoderSpec,
    from: Layout,
    to: Layout,
    tensors: Vec<Outgoing<'a>>,
    used: HashSet<String>,
}

impl<'a> Walk<'a> {
    fn over(
        checkpoint: Option<&'a Checkpoint>,
        understood: &'a Understood,
        to: Layout,
    ) -> Result<Self, ModelError> {
        let (spec, from) = (&understood.spec, understood.layout);
        let mut walk = Walk { checkpoint, spec, from, to, tensors: Vec::new(), used: HashSet::new() };
        walk.everything()?;
        Ok(walk)
    }

    fn everything(&mut self) -> Result<(), ModelError> {
        let (from, to, spec) = (self.from, self.to, self.spec);
        let size = [spec.vocab, spec.hidden];
        self.linear(Part::Embedding, 0, from.embedding(), to.embedding(), size)?;
        for layer in 0..spec.layers {
            self.block(layer)?;
        }
        self.norm(spec.layers, from.final_norm(), to.final_norm())?;
        if self.has(&format!("{}.weight", from.head())) || !spec.tied {
            self.linear(Part::Head, 0, from.head(), to.head(), size)?;
        }
        Ok(())
    }

    fn block(&mut self, layer: usize) -> Result<(), ModelError> {
        let spec = self.spec;
        let (from, to) = (self.from.block(layer), self.to.block(layer));
        let up_rows = match spec.mlp {
            Mlp::SwiGlu => 2 * spec.ffn,
            Mlp::Gelu => spec.ffn,
        };
        let sandwich = spec.block == Block::Sandwich;
        self.norm(layer, &from.attention_norm, &to.attention_norm)?;
        self.attention_in(layer)?;
        let size = [spec.hidden, spec.heads.attended_width()];
        self.linear(Part::AttentionOut, layer, &from.attention_out, &to.attention_out, size)?;
        if sandwich {
            self.norm(layer, &from.attention_post_norm, &to.attention_post_norm)?;
        }
        self.norm(layer, &from.ffn_norm, &to.ffn_norm)?;
        self.linear(Part::FfnUp, layer, &from.ffn_up, &to.ffn_up, [up_rows, spec.hidden])?;
        self.linear(Part::FfnDown, layer, &from.ffn_down, &to.ffn_down, [spec.hidden, spec.ffn])?;
        if sandwich {
            self.norm(layer, &from.ffn_post_norm, &to.ffn_post_norm)?;
        }
        Ok(())
    }

    /// Queries, keys and values: fused or apart in the source, fused or apart in the target.
    fn attention_in(&mut self, layer: usize) -> Result<(), ModelError> {
        let (from, to) = (self.from.block(layer), self.to.block(layer));
        let apart = from.q_k_v.as_ref().filter(|_| !self.has(&format!("{}.weight", from.qkv)));
        for suffix in ["weight", "bias"] {
            let sources = apart.map_or(std::slice::from_ref(&from.qkv), |names| names.as_slice());
            if suffix == "bias" && !self.spec.qkv_bias && !sources.iter().any(|name| self.has_bias(name)) {
                continue;
            }
            let [q, k, v] = match apart {
                Some(names) => self.apart(names, suffix)?,
                None => self.fused(&from.qkv, suffix)?,
            };
            let part = |part| if suffix == "bias" { Part::Vector } else { part };
            // llama.cpp reads both forms; transformers' classes only three matrices.
            let stays_apart = self.to == Layout::Hf || (self.to == Layout::Gguf && apart.is_some());
            if let Some(names) = to.q_k_v.as_ref().filter(|_| stays_apart) {
                let kinds = [Part::QueriesOrKeys, Part::QueriesOrKeys, Part::Values];
                for ((name, kind), rows) in names.iter().zip(kinds).zip([q, k, v]) {
                    self.push(part(kind), layer, format!("{name}.{suffix}"), rows);
                }
            } else {
                let by_head = self.to == Layout::ChatGlm6b;
                let rows = if by_head { self.by_head([q, k, v]) } else { join([q, k, v]) };
                self.push(part(Part::Values), layer, format!("{}.{suffix}", to.qkv), rows);
            }
        }
        Ok(())
    }

    fn apart(&mut self, names: &[String; 3], suffix: &str) -> Result<[Rows<'a>; 3], ModelError> {
        let heads = self.spec.heads;
        let [q, k, v] = names;
        Ok([
            self.read(&format!("{q}.{suffix}"), heads.q_width())?,
            self.read(&format!("{k}.{suffix}"), heads.k_width())?,
            self.read(&format!("{v}.{suffix}"), heads.v_width())?,
        ])
    }

    fn fused(&mut self, name: &str, suffix: &str) -> Result<[Rows<'a>; 3], ModelError> {
        let heads = self.spec.heads;
        let whole = self.read(&format!("{name}.{suffix}"), heads.qkv_width())?;
        if self.from == Layout::ChatGlm6b {
            // q k v of head 0, q k v of head 1, ...
            let width = heads.head_dim;
            return Ok([0, 1, 2].map(|kind| {
                join((0..heads.heads).map(|head| {
                    let first = (3 * head + kind) * width;
                    whole.slice(first..first + width)
                }))
            }));
        }
        let (q, k) = (heads.q_width(), heads.q_width() + heads.k_width());
        Ok([whole.slice(0..q), whole.slice(q..k), whole.slice(k..heads.qkv_width())])
    }

    /// ChatGLM-6B's order of fused rows.
    fn by_head(&self, q_k_v: [Rows<'a>; 3]) -> Rows<'a> {
        let width = self.spec.heads.head_dim;
        join((0..self.spec.heads.heads).flat_map(|head| {
            let rows = head * width..(head + 1) * width;
            q_k_v.each_ref().map(|kind| kind.slice(rows.clone()))
        }))
    }

    /// A matrix `[rows, cols]` and its bias, where it has one.
    fn linear(
        &mut self,
        part: Part,
        layer: usize,
        from: &str,
        to: &str,
        [rows, cols]: [usize; 2],
    ) -> Result<(), ModelError> {
        let weight = self.read_matrix(&format!("{from}.weight"), rows, cols)?;
        self.push(part, layer, format!("{to}.weight"), weight);
        let in_block = !matches!(part, Part::Embedding | Part::Head);
        if self.has_bias(from) || (self.spec.linear_bias && in_block) {
            if !matches!(self.spec.block, Block::ScaledNormed { .. }) {
                return Err(ModelError::Config {
                    file: self.checkpoint.map_or(String::new(), |c| c.path().display().to_string()),
                    message: format!("the target format has no place for {from}.bias"),
                });
            }
            let bias = self.read(&format!("{from}.bias"), rows)?;
            self.push(Part::Vector, layer, format!("{to}.bias"), bias);
        }
        Ok(())
    }

    fn norm(&mut self, layer: usize, from: &str, to: &str) -> Result<(), ModelError> {
        let suffixes: &[&str] = match self.spec.norm {
            NormKind::Layer => &["weight", "bias"],
            NormKind::Rms => &["weight"],
        };
        for suffix in suffixes {
            let rows = self.read_vector(&format!("{from}.{suffix}"), self.spec.hidden)?;
            self.push(Part::Vector, layer, format!("{to}.{suffix}"), rows);
        }
        Ok(())
    }

    fn push(&mut self, part: Part, layer: usize, name: String, rows: Rows<'a>) {
        let shape = if part == Part::Vector { vec![rows.count] } else { vec![rows.count, rows.cols] };
        self.tensors.push(Outgoing { name, shape, part, layer, rows });
    }

    /// A projection from the residual stream, or its bias.
    fn read(&mut self, name: &str, rows: usize) -> Result<Rows<'a>, ModelError> {
        if name.ends_with(".bias") {
            self.read_vector(name, rows)
        } else {
            self.read_matrix(name, rows, self.spec.hidden)
        }
    }

    fn read_matrix(&mut self, name: &str, rows: usize, cols: usize) -> Result<Rows<'a>, ModelError> {
        let Some(checkpoint) = self.checkpoint else {
            return Ok(Rows { count: rows, cols, pieces: Vec::new() });
        };
        let view = checkpoint.matrix_of(name, rows, cols)?;
        self.taken(name, view, checkpoint.tensor(name)?.info)
    }

    /// A vector as a matrix with one element a row, so that it is sliced as its matrix is.
    fn read_vector(&mut self, name: &str, len: usize) -> Result<Rows<'a>, ModelError> {
        let Some(checkpoint) = self.checkpoint else {
            return Ok(Rows { count: len, cols: 1, pieces: Vec::new() });
        };
        let TensorView { info, data } = checkpoint.tensor(name)?;
        let (path, tensor, offset) = (info.file.to_path_buf(), name.to_owned(), info.offset);
        if info.shape != [len] {
            let (expected, found) = (vec![len], info.shape.clone());
            return Err(CheckpointError::WrongShape { path, tensor, offset, expected, found }.into());
        }
        let view = MatrixView::new(info.dtype, len, 1, data, None)
            .map_err(|source| CheckpointError::Matrix { path, tensor, offset, source })?;
        self.taken(name, view, info)
    }

    fn taken(
        &mut self,
        name: &str,
        view: MatrixView<'a>,
        info: &'a TensorInfo,
    ) -> Result<Rows<'a>, ModelError> {
        self.used.insert(name.to_owned());
        Ok(Rows { count: view.rows, cols: view.cols, pieces: vec![(view, info)] })
    }

    /// A model without weights has what its configuration promises, and that is not asked for here.
    fn has(&self, name: &str) -> bool {
        self.checkpoint.is_some_and(|checkpoint| checkpoint.info(name).is_some())
    }

    fn has_bias(&self, name: &str) -> bool {
        self.has(&format!("{name}.bias"))
    }
}

fn join<'a>(pieces: impl IntoIterator<Item = Rows<'a>>) -> Rows<'a> {
    let mut all = Rows::default();
    pieces.into_iter().for_each(|rows| all.push_all(rows));
    all
}
