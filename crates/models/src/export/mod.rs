//! A checkpoint's weights under another layout's names: which tensors there will be, and from which rows of the
//! source each is made.
//!
//! Nothing is read but headers until a tensor is encoded, and then one piece of it at a time. Formats of files and encoding
//! are the `checkpoint` crate's matter; this module is the inverse of `config.rs` and `load.rs`.
//!
//! Sources: llama.cpp's `conversion/chatglm.py` and `conversion/glm.py` (GGUF); transformers'
//! `convert_glm_weights_to_hf.py` (which rows of the fused matrices are what).

mod describe;
mod types;

use std::collections::HashSet;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use glimmer_checkpoint::{Checkpoint, CheckpointError, NewTensor, TensorInfo, TensorView};
use glimmer_tensor::{DType, MatrixShape, MatrixView, RopePairs};

use crate::adapter::{LowRankAdapter, WholePair};
use crate::config::Understood;
use crate::load::turn;
use crate::names::{NamedRows, TensorNaming};
use crate::parts::{MatrixPart, Part, PartKind};
use crate::{
    Attention, DecoderSpec, FeedForward, LayerSpec, ModelError, NormSpec, Positions, Residual, WeightRole,
};

pub use describe::{config_json, config_json_as_it_was, gguf_metadata, model_name};
pub(crate) use types::fit;
pub use types::{Mix, Quantization, WeightTypes, file_type_name, second_rounding};

/// What a tensor's numbers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TensorKind {
    /// A matrix `[rows, cols]`.
    Matrix,
    /// A norm's scale.
    Scale,
    /// What is added: a norm's shift or a matrix's bias.
    Shift,
}

/// A tensor to be written.
#[derive(Clone, Debug)]
pub struct Outgoing<'a> {
    /// Its name in the new layout.
    pub name: String,
    /// Its shape, outermost first: `[rows, cols]` or `[len]`.
    pub shape: Vec<usize>,
    /// What it is.
    pub kind: TensorKind,
    /// The layer that it belongs to, if any.
    pub layer: Option<usize>,
    /// The weight that it is, or is a section or vector of.
    pub role: WeightRole,
    /// The part that it is of.
    part: WeightRole,
    /// Which rows of the part's matrix its rows are, in order.
    order: Vec<Range<usize>>,
    /// Its rows, piece after piece. A vector's rows have one element.
    rows: Rows<'a>,
}

impl Outgoing<'_> {
    /// The type that the source has it in (where it is made of several, the first one's).
    pub fn stored_type(&self) -> DType {
        self.rows.pieces.first().map_or(DType::F32, |(view, _)| view.dtype)
    }

    /// Elements in a row, which must be whole blocks of the type it is written in. A vector is one row.
    pub fn width(&self) -> usize {
        self.shape.last().copied().unwrap_or(0)
    }

    /// What the writers of files are told.
    pub fn announce(&self, dtype: DType) -> NewTensor {
        NewTensor { name: self.name.clone(), dtype, shape: self.shape.clone() }
    }

    /// Hands the tensor's bytes in `dtype` to `write`, in order: [`Checkpoint::encode`].
    ///
    /// # Errors
    /// Those of [`Checkpoint::encode`], and when rows that have to be turned over are in blocks.
    pub fn encode(
        &self,
        checkpoint: &Checkpoint,
        dtype: DType,
        threads: usize,
        write: &mut dyn FnMut(&[u8]) -> Result<(), CheckpointError>,
    ) -> Result<(), ModelError> {
        let Rows { pieces, turned, count, cols } = &self.rows;
        let (true, Some((first, info))) = (*turned, pieces.first()) else {
            return Ok(checkpoint.encode(&self.name, pieces, dtype, threads, write)?);
        };
        let shape = MatrixShape { dtype: first.dtype, rows: *count, cols: *cols };
        let views: Vec<_> = pieces.iter().map(|(view, _)| *view).collect();
        let data = turn(&views, shape)?;
        Ok(checkpoint.encode(&self.name, &[(shape.of(&data), info)], dtype, threads, write)?)
    }

    /// The same with what an adapter changes in it. A tensor that it leaves alone stays the same bytes.
    ///
    /// # Errors
    /// Those of [`Checkpoint::encode`], and when a row that has a magnitude is zero.
    pub fn encode_fused(
        &self,
        checkpoint: &Checkpoint,
        fused: &Fused,
        dtype: DType,
        threads: usize,
        write: &mut dyn FnMut(&[u8]) -> Result<(), CheckpointError>,
    ) -> Result<(), ModelError> {
        let is_own = |pair: &&WholePair| pair.layer == self.layer && pair.role == self.part;
        let pair = fused.pairs.iter().find(is_own).filter(|_| self.kind == TensorKind::Matrix);
        let Some(pair) = pair.filter(|pair| self.order.iter().any(|rows| pair.changes(rows))) else {
            return self.encode(checkpoint, dtype, threads, write);
        };
        let of_row: Vec<usize> = self.order.iter().cloned().flatten().collect();
        let failed = Mutex::new(None);
        let change = |row: usize, weights: &mut [f32]| {
            if let Err(error) = pair.change(of_row[row], weights) {
                *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            }
        };
        let rows = &self.rows.pieces;
        checkpoint.encode_changed(&self.name, rows, dtype, threads, Some(&change), write)?;
        failed.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
    }
}

/// What an adapter changes in the weights of a model, for good.
pub struct Fused {
    pairs: Vec<WholePair>,
}

impl Fused {
    /// For a model of this shape.
    pub fn new(adapter: &LowRankAdapter, spec: &DecoderSpec) -> Self {
        Fused { pairs: adapter.whole(spec) }
    }
}

/// The naming in a directory in Hugging Face's format that holds this model: that of transformers' own classes, or for
/// ChatGLM-6B, which they do not have, its repository's.
pub fn directory_naming(spec: &DecoderSpec) -> TensorNaming {
    match spec.layers[0].residual {
        Residual::ScaledNormed { .. } => TensorNaming::ChatGlm6b,
        Residual::Sandwich if spec.positions == Positions::OfGrid => TensorNaming::HfSeeing,
        Residual::PreNorm if gguf_naming(spec) != TensorNaming::Gguf => TensorNaming::HfExperts,
        Residual::PreNorm | Residual::Sandwich => TensorNaming::Hf,
    }
}

/// The naming in a GGUF that holds this model.
fn gguf_naming(spec: &DecoderSpec) -> TensorNaming {
    let has_experts = |layer: &LayerSpec| matches!(layer.feed_forward, FeedForward::Experts { .. });
    match spec.layers[0].attention {
        Attention::Latent(_) => TensorNaming::GgufLatents,
        Attention::Heads { .. } if spec.layers.iter().any(has_experts) => TensorNaming::GgufExperts,
        Attention::Heads { .. } => TensorNaming::Gguf,
    }
}

/// The tensors of a model named as `to` ([`TensorNaming::Gguf`] for llama.cpp's name of each, or what [`directory_naming`]
/// says), in the order of their use, and the names of those in the source that play no part.
///
/// # Errors
/// When a tensor is missing or has another shape or type than the configuration says, or the layout has no place for a
/// bias that the model has.
pub fn outgoing<'a>(
    checkpoint: &'a Checkpoint,
    understood: &'a Understood,
    to: TensorNaming,
) -> Result<(Vec<Outgoing<'a>>, Vec<&'a str>), ModelError> {
    let Walk { tensors, used, .. } = Walk::over(Some(checkpoint), understood, to)?;
    // Frequencies are computed, never read; the row scales of a packed weight go with it.
    let counts = |name: &str| !name.ends_with("inv_freq") && !name.ends_with("weight_scale");
    let foreign = checkpoint.foreign().map(|tensor| tensor.name.as_str());
    let names = checkpoint.tensors().iter().map(|t| t.name.as_str());
    let unused = names.chain(foreign).filter(|name| counts(name) && !used.contains(*name)).collect();
    Ok((tensors, unused))
}

/// Which of a part's rows, in the decoder's order, the tensor of a `role` holds in this layout, in the tensor's order; none
/// where it holds none of them.
pub fn rows_of(part: &Part, role: WeightRole, to: TensorNaming) -> Option<Vec<Range<usize>>> {
    let PartKind::Matrix(matrix) = &part.kind else { return None };
    let mut first = 0;
    let sections = matrix.sections.iter().map(|&(role, rows)| {
        first += rows;
        (role, first - rows..first)
    });
    let sections: Vec<_> = sections.collect();
    if part.role != role {
        return sections.into_iter().find(|(section, _)| *section == role).map(|(_, rows)| vec![rows]);
    }
    let heads = if to.interleaves(role) { matrix.heads } else { 1 };
    let of_head = |head: usize| {
        sections.iter().map(move |(_, rows)| {
            let each = rows.len() / heads;
            rows.start + head * each..rows.start + (head + 1) * each
        })
    };
    Some((0..heads).flat_map(of_head).collect())
}

/// The tensors that [`outgoing`] would find if a model had been published exactly as its configuration promises. There
/// are no bytes behind them, and nothing to encode.
///
/// # Errors
/// When the layout has no place for a bias that the configuration promises.
pub fn promised(understood: &Understood, to: TensorNaming) -> Result<Vec<Outgoing<'_>>, ModelError> {
    Ok(Walk::over(None, understood, to)?.tensors)
}

/// The size of a GGUF's tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// Elements of all tensors.
    pub parameters: u64,
    /// Bytes of all tensors.
    pub bytes: u64,
    /// Of these, the experts'.
    pub experts: u64,
    /// Of these, the embedding's.
    pub embedding: u64,
    /// Of these, the head's; 0 where the embedding is the head.
    pub head: u64,
    /// The type of the head.
    pub head_type: DType,
    /// Elements of the layers' matrices, without those of experts, that are in no block format, and of experts'.
    pub plain: [u64; 2],
}

impl Written {
    /// Bytes that a step reads: all of them, but of an embedding that is not the head only the rows of its tokens, which do
    /// not count.
    pub fn read(&self) -> u64 {
        if self.head == 0 { self.bytes } else { self.bytes - self.embedding }
    }
}

/// What a GGUF in these types takes that is made of a checkpoint, or of a model as its configuration promises it.
///
/// # Errors
/// Those of [`outgoing`] and of [`promised`].
pub fn written(
    checkpoint: Option<&Checkpoint>,
    understood: &Understood,
    types: WeightTypes,
) -> Result<Written, ModelError> {
    let tensors = Walk::over(checkpoint, understood, TensorNaming::Gguf)?.tensors;
    let chosen = types.choose(&understood.spec, &tensors);
    let mut written = Written {
        parameters: 0,
        bytes: 0,
        experts: 0,
        embedding: 0,
        head: 0,
        head_type: DType::F32,
        plain: [0; 2],
    };
    for (tensor, dtype) in tensors.iter().zip(chosen) {
        let elements = tensor.shape.iter().product();
        let bytes = dtype.bytes_for(elements).expect("a type is chosen whose blocks divide a row") as u64;
        written.parameters += elements as u64;
        written.bytes += bytes;
        match tensor.role {
            WeightRole::Embedding => (written.embedding, written.head_type) = (bytes, dtype),
            WeightRole::Head => (written.head, written.head_type) = (bytes, dtype),
            role => {
                use WeightRole::{ExpertDown, ExpertGate, ExpertValue};
                let is_expert = matches!(role, ExpertGate(_) | ExpertValue(_) | ExpertDown(_));
                written.experts += if is_expert { bytes } else { 0 };
                if tensor.kind == TensorKind::Matrix && !dtype.is_quantized() {
                    written.plain[usize::from(is_expert)] += elements as u64;
                }
            }
        }
    }
    Ok(written)
}

/// Whether these tensors hold a head of their own.
pub fn has_head(tensors: &[Outgoing<'_>]) -> bool {
    tensors.iter().any(|t| t.role == WeightRole::Head)
}

/// Rows from one or several places, with the tensors they are from; of a model without weights, only how many.
#[derive(Clone, Debug, Default)]
struct Rows<'a> {
    count: usize,
    cols: usize,
    pieces: Vec<(MatrixView<'a>, &'a TensorInfo)>,
    /// Whether each piece is to be turned over.
    turned: bool,
}

impl<'a> Rows<'a> {
    fn push_all(&mut self, other: Rows<'a>) {
        self.count += other.count;
        self.cols = other.cols;
        self.turned |= other.turned;
        self.pieces.extend(other.pieces);
    }

    /// The rows `range` of all pieces taken together.
    fn slice(&self, range: Range<usize>) -> Rows<'a> {
        if range == (0..self.count) {
            return self.clone();
        }
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
        Rows { count: range.len(), cols: self.cols, pieces, turned: self.turned }
    }
}

/// One pass over a model's parts, as `load.rs` makes it.
struct Walk<'a> {
    /// `None`: a model without weights.
    checkpoint: Option<&'a Checkpoint>,
    understood: &'a Understood,
    to: TensorNaming,
    tensors: Vec<Outgoing<'a>>,
    used: HashSet<String>,
}

impl<'a> Walk<'a> {
    fn over(
        checkpoint: Option<&'a Checkpoint>,
        understood: &'a Understood,
        to: TensorNaming,
    ) -> Result<Self, ModelError> {
        let to = if to == TensorNaming::Gguf { gguf_naming(&understood.spec) } else { to };
        let mut walk = Walk { checkpoint, understood, to, tensors: Vec::new(), used: HashSet::new() };
        let own_head = understood.has_own_head(checkpoint);
        for part in understood.spec.parts(own_head) {
            match &part.kind {
                PartKind::Norm(norm, width) => walk.norm(&part, norm, *width)?,
                PartKind::Matrix(matrix) => walk.matrix(&part, matrix)?,
                PartKind::Vector(len) => walk.vector(&part, *len)?,
            }
        }
        Ok(walk)
    }

    fn norm(&mut self, part: &Part, norm: &NormSpec, width: usize) -> Result<(), ModelError> {
        let naming = &self.understood.naming;
        let [from, to] = [*naming, self.to].map(|naming| naming.need(part.layer, part.role));
        let (from, to) = (from?, to?);
        for (vector, kind) in norm.vectors().iter().zip([TensorKind::Scale, TensorKind::Shift]) {
            let rows = self.read_vector(&format!("{from}.{vector}"), width)?;
            self.push(part, (part.role, kind), format!("{to}.{vector}"), Vec::new(), rows);
        }
        Ok(())
    }

    fn vector(&mut self, part: &Part, len: usize) -> Result<(), ModelError> {
        let naming = &self.understood.naming;
        let [from, to] = [*naming, self.to].map(|naming| naming.need(part.layer, part.role));
        let (from, to) = (from?, to?);
        let rows = self.read_vector(&from, len)?;
        self.push(part, (part.role, TensorKind::Shift), to, Vec::new(), rows);
        Ok(())
    }

    /// A matrix and its bias, where it has one: fused or apart in the source, fused or apart in the target.
    fn matrix(&mut self, part: &Part, matrix: &MatrixPart) -> Result<(), ModelError> {
        let from = self.understood.naming.tensors(part, matrix, |name| self.has(name))?;
        // llama.cpp reads both forms; transformers' classes only one matrix for each section.
        let takes_one = matches!(self.to, TensorNaming::Hf | TensorNaming::HfSeeing);
        let apart = if takes_one || from.len() > 1 { self.to.apart(part, matrix) } else { None };
        let to = match self.to.among_others(part, matrix).or(apart) {
            Some(several) => several,
            None => vec![self.to.fused(part, matrix)?],
        };
        let weights = from.iter().map(|tensor| self.read_matrix(tensor, matrix.cols));
        let weights = weights.collect::<Result<_, _>>()?;
        self.push_sections(part, matrix, weights, &to, TensorKind::Matrix);
        if self.understood.naming.has_bias(matrix, &from, |name| self.has(name)) {
            self.refuse_bias(part, &from[0])?;
            let biases =
                from.iter().map(|t| self.read_vector(&t.bias(), t.rows)).collect::<Result<_, _>>()?;
            self.push_sections(part, matrix, biases, &to, TensorKind::Shift);
        }
        Ok(())
    }

    /// Divides what was read among the target's tensors.
    fn push_sections(
        &mut self,
        part: &Part,
        matrix: &MatrixPart,
        mut read: Vec<Rows<'a>>,
        to: &[NamedRows],
        kind: TensorKind,
    ) {
        if let [whole] = read.as_slice() {
            let sections = matrix.fused_rows(self.understood.naming.interleaves(part.role));
            let slices = |rows: Vec<Range<usize>>| join(rows.into_iter().map(|rows| whole.slice(rows)));
            read = sections.into_iter().map(slices).collect();
        }
        let mut orders: Vec<_> = matrix.section_rows().into_iter().map(|rows| vec![rows]).collect();
        for (index, &(role, rows)) in matrix.sections.iter().enumerate() {
            if let Some(turned) = self.turned(role, rows) {
                read[index] = join(turned.iter().map(|row| read[index].slice(*row..row + 1)));
                let first = orders[index][0].start;
                orders[index] = turned.iter().map(|row| first + row..first + row + 1).collect();
            }
        }
        if to.len() == 1 {
            read = vec![if self.to.interleaves(part.role) {
                interleave(&read, matrix.heads)
            } else {
                join(read)
            }];
        }
        for (index, (tensor, rows)) in to.iter().zip(read).enumerate() {
            let name = if kind == TensorKind::Matrix { tensor.weight() } else { tensor.bias() };
            let order = match to.len() {
                1 if self.to.interleaves(part.role) => matrix.by_heads(),
                1 => orders.concat(),
                _ => orders[index].clone(),
            };
            match &tensor.among {
                None => self.push(part, (tensor.role, kind), name, order, rows),
                Some(among) => self.stack(part, tensor.role, name, &among.shape, rows),
            }
        }
    }

    /// The order in which rows of queries or keys are written, where the target pairs other elements of a head for rotation:
    /// llama.cpp's files of decoders whose positions have axes have the first elements of all pairs before the second ones.
    fn turned(&self, role: WeightRole, rows: usize) -> Option<Vec<usize>> {
        let spec = &self.understood.spec;
        let is_rotated = matches!(role, WeightRole::Queries | WeightRole::Keys);
        if !is_rotated || spec.positions != Positions::OfGrid {
            return None;
        }
        let is_across = spec.rope.pairs == RopePairs::Across;
        if is_across == (self.to == TensorNaming::Gguf) {
            return None;
        }
        let Attention::Heads { heads, .. } = spec.layers[0].attention else { return None };
        let pairs = spec.rope.pair_count();
        let of_row = |row: usize| {
            let (head, at) = (row - row % heads.head_dim, row % heads.head_dim);
            head + match at {
                _ if at >= 2 * pairs => at,
                _ if is_across => at / 2 + at % 2 * pairs,
                _ => at % pairs * 2 + at / pairs,
            }
        };
        Some((0..rows).map(of_row).collect())
    }

    /// Adds rows to those of a tensor that several weights share.
    fn stack(&mut self, part: &Part, role: WeightRole, name: String, shape: &[usize], rows: Rows<'a>) {
        // An expert has three matrices.
        if let Some(begun) = self.tensors.iter_mut().rev().take(3).find(|tensor| tensor.name == name) {
            return begun.rows.push_all(rows);
        }
        self.push(part, (role, TensorKind::Matrix), name, Vec::new(), rows);
        let begun = self.tensors.last_mut().expect("a tensor was pushed");
        begun.shape = shape.to_vec();
    }

    /// llama.cpp and transformers' classes add biases to queries, keys and values only.
    fn refuse_bias(&self, part: &Part, from: &NamedRows) -> Result<(), ModelError> {
        let takes_all = directory_naming(&self.understood.spec) == TensorNaming::ChatGlm6b;
        if takes_all || part.role == WeightRole::Qkv {
            return Ok(());
        }
        Err(ModelError::Config {
            file: self.checkpoint.map_or(String::new(), |c| c.path().display().to_string()),
            message: format!("the target format has no place for {}", from.bias()),
        })
    }

    fn push(
        &mut self,
        part: &Part,
        (role, kind): (WeightRole, TensorKind),
        name: String,
        order: Vec<Range<usize>>,
        rows: Rows<'a>,
    ) {
        let shape = if kind == TensorKind::Matrix { vec![rows.count, rows.cols] } else { vec![rows.count] };
        let (layer, part) = (part.layer, part.role);
        self.tensors.push(Outgoing { name, shape, kind, layer, role, part, order, rows });
    }

    fn read_matrix(&mut self, tensor: &NamedRows, cols: usize) -> Result<Rows<'a>, ModelError> {
        let (name, count) = (tensor.weight(), tensor.rows);
        let Some(checkpoint) = self.checkpoint else {
            return Ok(Rows { count, cols, ..Rows::default() });
        };
        let Some(among) = &tensor.among else {
            let view = checkpoint.matrix_of(&name, count, cols)?;
            return self.taken(&name, view, checkpoint.tensor(&name)?.info);
        };
        let whole = checkpoint.stack_of(&name, &among.shape)?;
        let whole = self.taken(&name, whole, checkpoint.tensor(&name)?.info)?;
        let picked = join(among.picked.iter().map(|rows| whole.slice(rows.clone())));
        Ok(Rows { count, cols, turned: among.turned, ..picked })
    }

    /// A vector as a matrix with one element a row, so that it is sliced as its matrix is.
    fn read_vector(&mut self, name: &str, len: usize) -> Result<Rows<'a>, ModelError> {
        let Some(checkpoint) = self.checkpoint else {
            return Ok(Rows { count: len, cols: 1, ..Rows::default() });
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
        let pieces = vec![(view, info)];
        Ok(Rows { count: view.rows, cols: view.cols, pieces, turned: false })
    }

    /// A model without weights has what its configuration promises, and that is not asked for here.
    fn has(&self, name: &str) -> bool {
        self.checkpoint.is_some_and(|checkpoint| checkpoint.holds(name))
    }
}

fn join<'a>(pieces: impl IntoIterator<Item = Rows<'a>>) -> Rows<'a> {
    let mut all = Rows::default();
    pieces.into_iter().for_each(|rows| all.push_all(rows));
    all
}

/// The rows of all sections head by head, ChatGLM-6B's order.
fn interleave<'a>(sections: &[Rows<'a>], heads: usize) -> Rows<'a> {
    join((0..heads).flat_map(|head| {
        sections.iter().map(move |section| {
            let rows = section.count / heads;
            section.slice(head * rows..(head + 1) * rows)
        })
    }))
}
