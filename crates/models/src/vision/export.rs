//! Writing a tower as llama.cpp's file beside a model ("mmproj").
//!
//! Sources: llama.cpp's `tools/mtmd/clip.cpp` (the keys that are needed) and `conversion/qwen3vl.py` (`Glm4VVisionModel`).

use std::path::Path;

use glimmer_checkpoint::gguf::{GgufWriter, Metadata};
use glimmer_checkpoint::{Checkpoint, NewTensor, TensorInfo};
use glimmer_tensor::{DType, MatrixView};

use super::names::TowerNaming;
use super::parts::{TowerMatrix, TowerPart, TowerPartKind, TowerRole};
use super::spec::{PatchPositions, TowerActivation, VisionSpec};
use super::stored::Stored;
use crate::ModelError;
use crate::export::fit;

/// How a tower is written.
#[derive(Clone, Copy, Debug)]
pub struct Mmproj {
    /// The type of matrices; F16 where a row is not whole blocks of it, and for kernels.
    pub dtype: DType,
    /// Threads that encode.
    pub threads: usize,
    /// Mean and deviation of each colour, by which pictures are normalised.
    pub colours: [[f32; 3]; 2],
}

impl Mmproj {
    /// With the colours of the tower's published processor: halves for GLM-Edge-V, those of CLIP for the others.
    pub fn new(spec: &VisionSpec, dtype: DType, threads: usize) -> Self {
        let colours = match spec.naming {
            TowerNaming::EdgeV | TowerNaming::MmprojEdge { .. } => [[0.5; 3]; 2],
            TowerNaming::Glm4v9b | TowerNaming::Hf | TowerNaming::MmprojGlm4v => {
                [[0.481_454_66, 0.457_827_5, 0.408_210_73], [0.268_629_54, 0.261_302_6, 0.275_777_1]]
            }
        };
        Mmproj { dtype, threads, colours }
    }
}

/// A tensor of a tower that stays as it is but for its type.
pub struct KeptTensor<'a> {
    /// What it is.
    pub info: &'a TensorInfo,
    /// Its elements, one to a row.
    pub rows: MatrixView<'a>,
}

/// The tensors of a tower in a directory, for another directory with the same names.
///
/// # Errors
/// When one of them cannot be read.
pub fn kept<'a>(checkpoint: &'a Checkpoint, spec: &VisionSpec) -> Result<Vec<KeptTensor<'a>>, ModelError> {
    let names = spec.tensors();
    let mut kept = Vec::new();
    for info in checkpoint.tensors().iter().filter(|info| names.contains(&info.name)) {
        let (data, elements) = (checkpoint.tensor(&info.name)?.data, info.shape.iter().product());
        let rows = MatrixView { dtype: info.dtype, rows: elements, cols: 1, data, row_scale: None };
        kept.push(KeptTensor { info, rows });
    }
    Ok(kept)
}

/// A tensor to be written.
struct Outgoing<'a> {
    tensor: NewTensor,
    rows: Rows<'a>,
}

/// Where its numbers are.
enum Rows<'a> {
    Stored(Vec<(MatrixView<'a>, &'a TensorInfo)>),
    Values(Vec<f32>),
}

impl Mmproj {
    /// Writes the tower of a checkpoint. llama.cpp has forms for those of GLM-Edge-V, whose adapter it computes with another
    /// epsilon and the other GELU, and of GLM-4.1V, its like and GLM-OCR.
    ///
    /// # Errors
    /// When llama.cpp has no form for the tower, a tensor is missing or of another shape, a number is not finite, or the file
    /// cannot be written.
    pub fn write(&self, checkpoint: &Checkpoint, spec: &VisionSpec, path: &Path) -> Result<(), ModelError> {
        let naming = match spec.naming {
            TowerNaming::EdgeV | TowerNaming::MmprojEdge { .. } => TowerNaming::MmprojEdge { swapped: false },
            TowerNaming::Hf | TowerNaming::MmprojGlm4v => TowerNaming::MmprojGlm4v,
            TowerNaming::Glm4v9b => {
                let message = "llama.cpp has no form for the vision tower of GLM-4V-9B".to_owned();
                return Err(ModelError::Config { file: checkpoint.path().display().to_string(), message });
            }
        };
        let stored = Stored { checkpoint, spec };
        let mut tensors = Vec::new();
        for part in spec.parts() {
            self.push(&stored, naming, &part, &mut tensors)?;
        }
        let announced: Vec<NewTensor> = tensors.iter().map(|outgoing| outgoing.tensor.clone()).collect();
        let mut file = GgufWriter::create(path, &self.metadata(spec, naming, path), &announced)?;
        for Outgoing { tensor: NewTensor { name, dtype, .. }, rows } in &tensors {
            match rows {
                Rows::Values(values) => {
                    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
                    file.write(name, &bytes)?;
                }
                Rows::Stored(rows) => {
                    checkpoint
                        .encode(name, rows, *dtype, self.threads, &mut |bytes| file.write(name, bytes))?;
                }
            }
        }
        Ok(file.finish()?)
    }

    /// The tensors of a part.
    fn push<'a>(
        &self,
        stored: &Stored<'a>,
        naming: TowerNaming,
        part: &TowerPart,
        tensors: &mut Vec<Outgoing<'a>>,
    ) -> Result<(), ModelError> {
        let to = naming.names(part.layer, part.role);
        let values = |name: String, shape: Vec<usize>, values: Vec<f32>| {
            let tensor = NewTensor { name, dtype: DType::F32, shape };
            Outgoing { tensor, rows: Rows::Values(values) }
        };
        match &part.kind {
            TowerPartKind::Norm(norm, width) => {
                let from = stored.norm_names(part, norm);
                for (vector, from) in norm.vectors().iter().zip(from) {
                    let name = format!("{}.{vector}", to.concat());
                    tensors.push(values(name, vec![*width], stored.vector(&from, *width)?));
                }
            }
            TowerPartKind::Values(len) => {
                let width = if part.role == TowerRole::Positions { stored.spec.width } else { *len };
                let from = stored.vector(&stored.names(part).concat(), *len)?;
                tensors.push(values(to.concat(), vec![len / width, width], from));
            }
            TowerPartKind::Matrix(matrix) => {
                if let Some(second) = naming.second_frame(part.role) {
                    let patch = stored.spec.patch;
                    let shape = [matrix.rows(), matrix.cols / (2 * patch * patch), patch, patch];
                    let [first, second_values] = stored.frames(part, matrix)?;
                    tensors.push(values(format!("{}.weight", to.concat()), shape.to_vec(), first));
                    tensors.push(values(second.to_owned(), shape.to_vec(), second_values));
                } else {
                    self.push_matrix(stored, part, matrix, &to, tensors)?;
                }
                if matrix.bias {
                    let bias = stored.bias(part, matrix)?;
                    for (name, rows) in to.iter().zip(matrix.rows_of(to.len())) {
                        tensors.push(values(format!("{name}.bias"), vec![rows.len()], bias[rows].to_vec()));
                    }
                }
            }
        }
        Ok(())
    }

    /// A matrix, fused or in sections as both sides have it.
    fn push_matrix<'a>(
        &self,
        stored: &Stored<'a>,
        part: &TowerPart,
        matrix: &TowerMatrix,
        to: &[String],
        tensors: &mut Vec<Outgoing<'a>>,
    ) -> Result<(), ModelError> {
        let spec = stored.spec;
        let from = stored.matrix(part, matrix)?;
        let kernel = match part.role {
            TowerRole::PatchEmbedding => Some(spec.patch),
            TowerRole::Merge => Some(spec.merge),
            _ => None,
        };
        let dtype = if kernel.is_some() { DType::F16 } else { fit(self.dtype, matrix.cols) };
        for (name, wanted) in to.iter().zip(matrix.rows_of(to.len())) {
            let (mut rows, mut first) = (Vec::new(), 0);
            for stored in &from {
                let view = stored.rows;
                let [begin, end] =
                    [wanted.start, wanted.end].map(|row| row.clamp(first, first + view.rows) - first);
                if begin < end {
                    rows.push((view.slice_rows(begin..end), stored.info));
                }
                first += view.rows;
            }
            let shape = match kernel {
                Some(side) => vec![wanted.len(), matrix.cols / (side * side), side, side],
                None => vec![wanted.len(), matrix.cols],
            };
            let tensor = NewTensor { name: format!("{name}.weight"), dtype, shape };
            tensors.push(Outgoing { tensor, rows: Rows::Stored(rows) });
        }
        Ok(())
    }

    fn metadata(&self, spec: &VisionSpec, naming: TowerNaming, path: &Path) -> Metadata {
        let mut metadata = Metadata::new(path);
        let projector = if naming == TowerNaming::MmprojGlm4v { "glm4v" } else { "adapter" };
        metadata.set("general.architecture", "clip".to_owned());
        metadata.set("clip.projector_type", projector.to_owned());
        metadata.set("clip.has_vision_encoder", true);
        let activation =
            if spec.layer.activation == TowerActivation::SwiGlu { "clip.use_silu" } else { "clip.use_gelu" };
        metadata.set(activation, true);
        // Where pictures keep their shape, llama.cpp wants one that they might have.
        let side = match spec.stem.positions {
            PatchPositions::Learned { side } | PatchPositions::Sampled { side } => side,
            PatchPositions::None => 24,
        };
        for (key, value) in [
            ("image_size", side * spec.patch),
            ("patch_size", spec.patch),
            ("embedding_length", spec.width),
            ("feed_forward_length", spec.layer.inner),
            ("block_count", spec.layers),
            ("projection_dim", spec.hidden),
            ("attention.head_count", spec.layer.heads.heads),
            ("spatial_merge_size", spec.merge),
        ] {
            metadata.set(&format!("clip.vision.{key}"), value as u32);
        }
        metadata.set("clip.vision.attention.layer_norm_epsilon", spec.layer.norm.eps);
        let [mean, deviation] = self.colours;
        metadata.set("clip.vision.image_mean", mean.to_vec());
        metadata.set("clip.vision.image_std", deviation.to_vec());
        metadata
    }
}
