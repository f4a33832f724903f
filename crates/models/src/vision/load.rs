//! Bringing a tower's weights to a device, and what it will hold.

use glimmer_checkpoint::Checkpoint;
use glimmer_tensor::{
    Capacity, DType, Device, DeviceError, DeviceMemory, KvType, MatrixId, MatrixShape, MatrixView,
    NeededMatrix, Needs, Norm, PAGE_SLOTS, Plan, Role, Rope, RopeId, RopePairs,
};

use super::parts::{TowerMatrix, TowerPart, TowerPartKind, TowerRole};
use super::spec::VisionSpec;
use super::stored::{Stored, StoredRows};
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

    /// What all rows of a matrix become, where they are quantized.
    fn whole(&self, stored: &[StoredRows<'_>], matrix: &TowerMatrix) -> Option<MatrixShape> {
        self.quantize?;
        let dtype = Quantization::EightBit.of_width(matrix.cols);
        let shape = MatrixShape { dtype, rows: matrix.rows(), cols: matrix.cols };
        stored.iter().any(|stored| stored.rows.dtype != dtype).then_some(shape)
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
        let stored = Stored { checkpoint, spec: self };
        self.needs_where(plan, |part| {
            stored.insist_all(part)?;
            let TowerPartKind::Matrix(matrix) = &part.kind else { return Ok(Vec::new()) };
            if stored.second_frame(part).is_some() {
                return Ok(vec![MatrixShape { dtype: DType::F32, rows: matrix.rows(), cols: matrix.cols }]);
            }
            let rows = stored.matrix(part, matrix)?;
            let as_stored = || rows.iter().map(|rows| rows.rows.shape()).collect();
            Ok(plan.whole(&rows, matrix).map_or_else(as_stored, |whole| vec![whole]))
        })
    }

    /// The same of a tower with all matrices of one type.
    pub fn needs_as(&self, dtype: DType, plan: &TowerPlan) -> Needs {
        let shapes = |part: &TowerPart| match &part.kind {
            TowerPartKind::Matrix(TowerMatrix { sections, cols, .. }) => {
                Ok(vec![MatrixShape { dtype, rows: sections.iter().sum(), cols: *cols }])
            }
            _ => Ok(Vec::new()),
        };
        self.needs_where(plan, shapes).expect("no file is looked at")
    }

    /// What a device is to hold where matrices have these shapes.
    fn needs_where(
        &self,
        plan: &TowerPlan,
        mut shapes: impl FnMut(&TowerPart) -> Result<Vec<MatrixShape>, ModelError>,
    ) -> Result<Needs, ModelError> {
        let (mut matrices, mut vectors) = (Vec::new(), Vec::new());
        for part in self.parts() {
            let parts = shapes(&part)?;
            match part.kind {
                TowerPartKind::Norm(norm, width) => vectors.extend(norm.vectors().iter().map(|_| width)),
                TowerPartKind::Values(_) => {}
                TowerPartKind::Matrix(TowerMatrix { bias, used_for, .. }) => {
                    matrices.push(NeededMatrix { parts, biased: bias, used_for });
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
        // Whatever is missing is known before anything is read.
        spec.needs(checkpoint, plan)?;
        let mut weights = Weights {
            outside: Loaded::default(),
            layers: vec![Loaded::default(); spec.layers],
            rope: device.load_rope(&spec.rope()),
            values: Vec::new(),
        };
        let mut loader = Loader { stored: Stored { checkpoint, spec }, plan, device };
        for part in spec.parts() {
            let of = part.layer.map_or(&mut weights.outside, |layer| &mut weights.layers[layer]);
            match &part.kind {
                TowerPartKind::Norm(norm, width) => {
                    of.norms.add(part.role, loader.norm(&part, norm, *width)?);
                }
                TowerPartKind::Matrix(matrix) => {
                    of.matrices.add(part.role, loader.matrix(&part, matrix)?);
                }
                TowerPartKind::Values(len) => {
                    let values = loader.stored.vector(&loader.stored.names(&part).concat(), *len)?;
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

/// Brings the weights of a tower to a device.
struct Loader<'a, 'd> {
    stored: Stored<'a>,
    plan: &'a TowerPlan,
    device: &'d mut dyn Device,
}

impl Loader<'_, '_> {
    fn norm(&mut self, part: &TowerPart, norm: &NormSpec, width: usize) -> Result<Norm, ModelError> {
        let mut vectors = Vec::new();
        for name in self.stored.norm_names(part, norm) {
            vectors.push(self.device.load_vector(&self.stored.vector(&name, width)?));
        }
        Ok(Norm { kind: norm.kind, weight: vectors[0], bias: vectors.get(1).copied(), eps: norm.eps })
    }

    fn matrix(&mut self, part: &TowerPart, matrix: &TowerMatrix) -> Result<MatrixId, ModelError> {
        let (stored, used_for) = (self.stored, matrix.used_for);
        let bias = if matrix.bias { Some(stored.bias(part, matrix)?) } else { None };
        let bias = bias.as_deref();
        if stored.second_frame(part).is_some() {
            let kernel = self.both_frames(part, matrix)?;
            let view =
                view(MatrixShape { dtype: DType::F32, rows: matrix.rows(), cols: matrix.cols }, &kernel);
            return Ok(self.device.load_matrix(&[view], bias, used_for, &|_| ())?);
        }
        let (rows, checkpoint) = (stored.matrix(part, matrix)?, stored.checkpoint);
        for StoredRows { info, .. } in rows.iter().filter(|rows| rows.info.dtype.is_quantized()) {
            checkpoint.check_finite(info)?;
        }
        let id = match self.plan.whole(&rows, matrix) {
            None => {
                let views: Vec<MatrixView<'_>> = rows.iter().map(|rows| rows.rows).collect();
                let taken = |rows: &MatrixView<'_>| checkpoint.release_bytes(rows.data);
                self.device.load_matrix(&views, bias, used_for, &taken)?
            }
            Some(whole) => {
                let encoded = self.encoded(&rows, whole)?;
                self.device.load_matrix(&[view(whole, &encoded)], bias, used_for, &|_| ())?
            }
        };
        rows.iter().for_each(|rows| checkpoint.release(rows.info));
        Ok(id)
    }

    /// A kernel over two frames that has a tensor for each, as f32.
    fn both_frames(&self, part: &TowerPart, matrix: &TowerMatrix) -> Result<Vec<u8>, ModelError> {
        let pixels = self.stored.spec.patch * self.stored.spec.patch;
        let [first, second] = self.stored.frames(part, matrix)?;
        let both = first.chunks_exact(pixels).zip(second.chunks_exact(pixels));
        let values = both.flat_map(|(first, second)| first.iter().chain(second));
        Ok(values.flat_map(|value| value.to_le_bytes()).collect())
    }

    /// The bytes of `whole`, which is what the rows become.
    fn encoded(&self, rows: &[StoredRows<'_>], whole: MatrixShape) -> Result<Vec<u8>, ModelError> {
        let bytes = whole.bytes().unwrap_or(usize::MAX);
        let mut encoded = Vec::new();
        let full = |_| DeviceError::OutOfMemory { what: "a matrix that is being quantized", bytes };
        encoded.try_reserve_exact(bytes).map_err(full)?;
        let threads = self.plan.quantize.map_or(1, |quantize| quantize.threads);
        for StoredRows { name, info, rows } in rows {
            let write = &mut |bytes: &[u8]| {
                encoded.extend_from_slice(bytes);
                Ok(())
            };
            self.stored.checkpoint.encode(name, &[(*rows, *info)], whole.dtype, threads, write)?;
        }
        Ok(encoded)
    }
}

fn view(shape: MatrixShape, data: &[u8]) -> MatrixView<'_> {
    let MatrixShape { dtype, rows, cols } = shape;
    MatrixView { dtype, rows, cols, data, row_scale: None }
}
