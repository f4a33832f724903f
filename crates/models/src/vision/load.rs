//! Bringing a tower's weights to a device, and what it will hold.

use glimmer_checkpoint::{Checkpoint, TensorInfo};
use glimmer_tensor::{
    Capacity, DType, Device, DeviceError, DeviceMemory, KvType, MatrixId, MatrixShape, MatrixView,
    NeededMatrix, Needs, Norm, PAGE_SLOTS, Plan, Role, Rope, RopeId, RopePairs,
};

use super::parts::{TowerMatrix, TowerPart, TowerPartKind, TowerRole};
use super::spec::VisionSpec;
use crate::decoder::ByRole;
use crate::export::Quantization;
use crate::{ModelError, NormSpec, Quantize};

/// What a tower has room for, and what becomes of its weights.
#[derive(Clone, Copy, Debug)]
pub struct TowerPlan {
    /// Patches of the largest picture.
    pub patches: usize,
    /// Patches that one piece computes. Nothing but time and memory depends on it.
    pub rows: usize,
    /// Quantizes matrices while they are loaded, to no less than 8 bits; as they are stored where nothing is said.
    pub quantize: Option<Quantize>,
}

/// Patches of a piece where nobody says how many: enough that products are computed at full speed.
pub const PIECE_ROWS: usize = 256;

impl TowerPlan {
    /// Room for pictures of so many patches.
    pub fn for_patches(patches: usize) -> Self {
        TowerPlan { patches, rows: PIECE_ROWS, quantize: None }
    }

    /// Rows of a frame with as many patches.
    pub(super) fn frame_rows(&self, spec: &VisionSpec) -> usize {
        self.patches.saturating_add(spec.lead())
    }

    /// Rows of a piece.
    pub(super) fn piece(&self, spec: &VisionSpec) -> usize {
        self.rows.clamp(spec.merge * spec.merge, self.frame_rows(spec).max(spec.merge * spec.merge))
    }

    /// The type that a matrix with rows of so many elements gets, where it is quantized.
    fn quantized(&self, cols: usize) -> Option<DType> {
        self.quantize.map(|_| Quantization::EightBit.of_width(cols))
    }
}

impl VisionSpec {
    pub(super) fn plan(&self, plan: &TowerPlan) -> Plan {
        let pages = plan.frame_rows(self).div_ceil(PAGE_SLOTS);
        Plan {
            capacity: Capacity { rows: plan.piece(self), logits_rows: 1, pages },
            vocab: 1,
            layers: vec![self.layer.heads],
            kv_type: KvType::F32,
            axes: self.layer.rope.as_ref().map_or(1, Rope::axes),
        }
    }

    /// What layers turn queries and keys by.
    fn rope(&self) -> Rope {
        let none = Rope { pairs: RopePairs::Halves, sections: Vec::new(), magnitude: 1.0 };
        self.layer.rope.clone().unwrap_or(none)
    }

    /// The buffers of a tower, with their widths.
    pub(super) fn buffers(&self) -> [(TowerBuffer, Role, usize); 11] {
        let heads = self.layer.heads;
        let block = self.width * self.merge * self.merge;
        [
            (TowerBuffer::Pixels, Role::Inner, self.stem.pixels),
            (TowerBuffer::Hidden, Role::Hidden, self.width),
            (TowerBuffer::Normed, Role::Normed, self.width),
            (TowerBuffer::Qkv, Role::Qkv, heads.qkv_width()),
            (TowerBuffer::Attended, Role::Attended, heads.attended_width()),
            (TowerBuffer::Branch, Role::Branch, self.width),
            (TowerBuffer::Inner, Role::Inner, self.layer.inner),
            (TowerBuffer::Blocks, Role::Inner, block),
            (TowerBuffer::Merged, Role::Hidden, self.hidden),
            (TowerBuffer::Projected, Role::Normed, self.hidden),
            (TowerBuffer::Gated, Role::Inner, self.adapter.inner),
        ]
    }

    /// What a device is to hold that has the tower of a checkpoint. The weights' values are not read.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape or type than the configuration says.
    pub fn needs(&self, checkpoint: &Checkpoint, plan: &TowerPlan) -> Result<Needs, ModelError> {
        let stored = Stored { checkpoint, spec: self, plan };
        let (mut matrices, mut vectors) = (Vec::new(), Vec::new());
        for part in self.parts() {
            match &part.kind {
                TowerPartKind::Norm(norm, width) => {
                    for name in stored.norm_names(&part, norm) {
                        stored.insist(&name, *width)?;
                        vectors.push(*width);
                    }
                }
                TowerPartKind::Values(len) => stored.insist(&stored.names(&part).concat(), *len)?,
                TowerPartKind::Matrix(matrix) => {
                    let views = stored.matrix(&part, matrix)?;
                    let parts = match stored.whole(&views, matrix) {
                        Some(whole) => vec![whole],
                        None => views.iter().map(|view| view.rows.shape()).collect(),
                    };
                    matrices.push(NeededMatrix { parts, biased: matrix.bias, used_for: matrix.used_for });
                }
            }
        }
        let buffers = self.buffers().map(|(_, role, width)| (role, width)).to_vec();
        Ok(Needs { matrices, vectors, rope: self.rope(), plan: self.plan(plan), buffers })
    }

    /// Bytes on the host while the largest picture is seen: what stays there of the weights, the residual stream, the queries
    /// of a frame, the features, and rows on their way.
    pub fn host_memory(&self, plan: &TowerPlan) -> DeviceMemory {
        let values = |part: &TowerPart| match part.kind {
            TowerPartKind::Values(values) => values,
            _ => 0,
        };
        let rows = plan.frame_rows(self);
        let heads = self.layer.heads;
        let widest = self.buffers().iter().map(|(_, _, width)| *width).max().unwrap_or(0);
        let residual = rows.saturating_mul(self.width + heads.q_width());
        let features = (plan.patches / (self.merge * self.merge) + 2).saturating_mul(self.hidden);
        let passed = plan.piece(self) * (widest + heads.qkv_width());
        DeviceMemory {
            weights: 4 * self.parts().iter().map(values).sum::<usize>(),
            kv: 0,
            buffers: residual.saturating_add(features).saturating_add(passed).saturating_mul(4),
        }
    }
}

/// The buffers of a tower by what they hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TowerBuffer {
    /// Patches.
    Pixels,
    /// The residual stream.
    Hidden,
    /// The same, normed.
    Normed,
    /// Queries, keys and values.
    Qkv,
    /// What attention returns.
    Attended,
    /// What a block adds when it is normed before the addition.
    Branch,
    /// The feed-forward's inner activations.
    Inner,
    /// The rows of blocks side by side.
    Blocks,
    /// A row of each block.
    Merged,
    /// What the adapter projects.
    Projected,
    /// Its gated product.
    Gated,
}

/// Weights of a layer on the device, or those outside of all layers.
#[derive(Clone, Default)]
pub(super) struct Loaded {
    pub(super) norms: ByRole<TowerRole, Norm>,
    pub(super) matrices: ByRole<TowerRole, MatrixId>,
}

/// A tower's weights.
pub(super) struct Weights {
    pub(super) outside: Loaded,
    pub(super) layers: Vec<Loaded>,
    pub(super) rope: RopeId,
    /// What stays on the host.
    values: Vec<(TowerRole, Vec<f32>)>,
}

impl Weights {
    /// Loads all of them.
    pub(super) fn load(
        spec: &VisionSpec,
        checkpoint: &Checkpoint,
        plan: &TowerPlan,
        device: &mut dyn Device,
    ) -> Result<Self, ModelError> {
        let stored = Stored { checkpoint, spec, plan };
        // Whatever is missing is known before anything is read.
        spec.needs(checkpoint, plan)?;
        let mut weights = Weights {
            outside: Loaded::default(),
            layers: vec![Loaded::default(); spec.layers],
            rope: device.load_rope(&spec.rope()),
            values: Vec::new(),
        };
        for part in spec.parts() {
            let of = part.layer.map_or(&mut weights.outside, |layer| &mut weights.layers[layer]);
            match &part.kind {
                TowerPartKind::Norm(norm, width) => {
                    of.norms.add(part.role, stored.load_norm(&part, norm, *width, device)?);
                }
                TowerPartKind::Matrix(matrix) => {
                    of.matrices.add(part.role, stored.load_matrix(&part, matrix, device)?);
                }
                TowerPartKind::Values(len) => {
                    let values = stored.vector(&stored.names(&part).concat(), *len)?;
                    weights.values.push((part.role, values));
                }
            }
        }
        Ok(weights)
    }

    /// Values that stay on the host; none where the tower has no such part.
    pub(super) fn values(&self, role: TowerRole) -> &[f32] {
        self.values.iter().find(|(other, _)| *other == role).map_or(&[], |(_, values)| values)
    }
}

/// Rows of a matrix, and what their tensor is called, without `.weight` or `.bias`.
struct StoredRows<'a> {
    name: String,
    info: &'a TensorInfo,
    rows: MatrixView<'a>,
}

/// Where a tower's weights lie.
struct Stored<'a> {
    checkpoint: &'a Checkpoint,
    spec: &'a VisionSpec,
    plan: &'a TowerPlan,
}

impl<'a> Stored<'a> {
    /// The names that the layout has for a part.
    fn names(&self, part: &TowerPart) -> Vec<String> {
        self.spec.naming.names(part.layer, part.role)
    }

    /// Whether a vector is there and as long as it should be; which is not read.
    fn insist(&self, name: &str, len: usize) -> Result<(), ModelError> {
        let info = self.checkpoint.tensor(name)?.info;
        // One that is not is refused with its shape.
        if info.shape.iter().product::<usize>() == len { Ok(()) } else { self.vector(name, len).map(drop) }
    }

    fn vector(&self, name: &str, len: usize) -> Result<Vec<f32>, ModelError> {
        Ok(self.checkpoint.values_of(name, len)?)
    }

    /// A matrix, from one tensor or one for each of its sections. Its biases are there, too.
    fn matrix(&self, part: &TowerPart, matrix: &TowerMatrix) -> Result<Vec<StoredRows<'a>>, ModelError> {
        let names = self.names(part);
        let rows: Vec<usize> = if names.len() == 1 { vec![matrix.rows()] } else { matrix.sections.clone() };
        let mut stored = Vec::new();
        for (name, rows) in names.into_iter().zip(rows) {
            let weight = format!("{name}.weight");
            let rows = self.checkpoint.kernel_of(&weight, rows, matrix.cols)?;
            if matrix.bias {
                self.insist(&format!("{name}.bias"), rows.rows)?;
            }
            let info = self.checkpoint.tensor(&weight)?.info;
            stored.push(StoredRows { name, info, rows });
        }
        Ok(stored)
    }

    /// What all rows become where they are quantized.
    fn whole(&self, stored: &[StoredRows<'_>], matrix: &TowerMatrix) -> Option<MatrixShape> {
        let dtype = self.plan.quantized(matrix.cols)?;
        let shape = MatrixShape { dtype, rows: matrix.rows(), cols: matrix.cols };
        stored.iter().any(|stored| stored.rows.dtype != dtype).then_some(shape)
    }

    fn load_matrix(
        &self,
        part: &TowerPart,
        matrix: &TowerMatrix,
        device: &mut dyn Device,
    ) -> Result<MatrixId, ModelError> {
        let stored = self.matrix(part, matrix)?;
        let mut bias = Vec::new();
        for StoredRows { name, rows, .. } in stored.iter().filter(|_| matrix.bias) {
            bias.extend(self.vector(&format!("{name}.bias"), rows.rows)?);
        }
        let bias = matrix.bias.then_some(bias.as_slice());
        for StoredRows { info, .. } in stored.iter().filter(|stored| stored.info.dtype.is_quantized()) {
            self.checkpoint.check_finite(info)?;
        }
        let id = match self.whole(&stored, matrix) {
            None => {
                let views: Vec<MatrixView<'_>> = stored.iter().map(|stored| stored.rows).collect();
                let taken = |rows: &MatrixView<'_>| self.checkpoint.release_bytes(rows.data);
                device.load_matrix(&views, bias, matrix.used_for, &taken)?
            }
            Some(whole) => {
                let encoded = self.encoded(&stored, whole)?;
                let MatrixShape { dtype, rows, cols } = whole;
                let whole = MatrixView { dtype, rows, cols, data: &encoded, row_scale: None };
                device.load_matrix(&[whole], bias, matrix.used_for, &|_| ())?
            }
        };
        stored.iter().for_each(|stored| self.checkpoint.release(stored.info));
        Ok(id)
    }

    /// The bytes of `whole`, which is what the rows become.
    fn encoded(&self, stored: &[StoredRows<'_>], whole: MatrixShape) -> Result<Vec<u8>, ModelError> {
        let bytes = whole.bytes().unwrap_or(usize::MAX);
        let mut encoded = Vec::new();
        let full = |_| DeviceError::OutOfMemory { what: "a matrix that is being quantized", bytes };
        encoded.try_reserve_exact(bytes).map_err(full)?;
        let threads = self.plan.quantize.map_or(1, |quantize| quantize.threads);
        for StoredRows { name, info, rows } in stored {
            self.checkpoint.encode(name, &[(*rows, *info)], whole.dtype, threads, &mut |bytes| {
                encoded.extend_from_slice(bytes);
                Ok(())
            })?;
        }
        Ok(encoded)
    }

    fn load_norm(
        &self,
        part: &TowerPart,
        norm: &NormSpec,
        width: usize,
        device: &mut dyn Device,
    ) -> Result<Norm, ModelError> {
        let mut vectors = Vec::new();
        for name in self.norm_names(part, norm) {
            vectors.push(device.load_vector(&self.vector(&name, width)?));
        }
        Ok(Norm { kind: norm.kind, weight: vectors[0], bias: vectors.get(1).copied(), eps: norm.eps })
    }

    /// What a norm's vectors are called.
    fn norm_names(&self, part: &TowerPart, norm: &NormSpec) -> Vec<String> {
        let name = self.names(part).concat();
        norm.vectors().iter().map(|vector| format!("{name}.{vector}")).collect()
    }
}
