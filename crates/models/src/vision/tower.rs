//! The tower: executes a [`VisionSpec`] on a device of its own.
//!
//! The residual stream `[rows, width]` is on the host. For each layer all rows go by first to give it keys and values, some
//! at a time, then again to attend and through the feed-forward; the one layer of cache is used by all. So no more rows are
//! on the device than a piece has, however large the picture. Sums of positions, the class row, and the gathering of a
//! block's rows are the host's: once a picture each.

use std::ops::Range;
use std::sync::Arc;

use glimmer_checkpoint::Checkpoint;
use glimmer_tensor::{
    Batch, BufferId, Device, DeviceBatch, DeviceError, DeviceMemory, Epilogue, Features, PAGE_SLOTS, PageId,
    Place, gelu_erf, gelu_tanh,
};

use super::load::{Loaded, TowerBuffer, TowerPlan, Weights};
use super::parts::TowerRole;
use super::places::{Order, Patches, add_sampled};
use super::spec::{Gelu, PatchPositions, TowerActivation, VisionSpec};
use crate::ModelError;

/// What [`Tower::features_observed`] shows, some rows at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VisionStage {
    /// Patches as rows, before norm and positions.
    PatchEmbedding,
    /// The residual stream: what the first layer reads for 0, what layer `i - 1` leaves for `i`.
    Hidden(usize),
    /// The last norm, in the order in which blocks are merged.
    LastNorm,
    /// A row of each block.
    Merged,
}

type Observer<'a> = Option<&'a mut dyn FnMut(VisionStage, &[f32])>;

/// What [`Tower::advance`] computes at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    /// Patches become rows; which patches of all.
    Stem(Range<usize>),
    /// Rows of a frame give a layer keys and values.
    Keys { layer: usize, frame: usize, rows: Range<usize> },
    /// Rows of a frame attend, and go through the feed-forward.
    Rest { layer: usize, frame: usize, rows: Range<usize> },
    /// Blocks become features; which of all.
    Merge(Range<usize>),
}

/// A picture that is being seen.
pub struct Look {
    patches: Arc<dyn Patches>,
    grid: [usize; 3],
    order: Order,
    pieces: std::vec::IntoIter<Piece>,
    /// `[frames, lead and patches, width]`.
    residual: Vec<f32>,
    /// The turned queries of a frame, `[lead and patches, q_width]`.
    queries: Vec<f32>,
    features: Vec<f32>,
}

impl Look {
    /// How many pieces are still to be computed.
    pub fn pieces_left(&self) -> usize {
        self.pieces.len()
    }
}

/// A loaded vision tower.
pub struct Tower {
    device: Box<dyn Device>,
    spec: VisionSpec,
    plan: TowerPlan,
    weights: Weights,
    buffers: Vec<(TowerBuffer, BufferId)>,
    /// Rows on their way from and to the device.
    passed: Vec<f32>,
}

impl Tower {
    /// Loads a tower's weights onto a device that holds nothing, and plans for pictures of as many patches.
    ///
    /// # Errors
    /// When the device cannot compute towers, a tensor is missing or has another shape or type than the configuration says, or
    /// memory runs out.
    pub fn load(
        mut device: Box<dyn Device>,
        checkpoint: &Checkpoint,
        spec: VisionSpec,
        plan: TowerPlan,
    ) -> Result<Self, ModelError> {
        if !device.can_see() {
            let what = format!("{} cannot compute vision towers yet", device.describe());
            return Err(DeviceError::Failed(what).into());
        }
        let weights = Weights::load(&spec, checkpoint, &plan, device.as_mut())?;
        device.plan(&spec.plan(&plan))?;
        let mut buffers = Vec::new();
        for (buffer, role, width) in spec.buffers() {
            buffers.push((buffer, device.buffer(0, role, width)?));
        }
        Ok(Tower { device, spec, plan, weights, buffers, passed: Vec::new() })
    }

    /// The tower's facts.
    pub fn spec(&self) -> &VisionSpec {
        &self.spec
    }

    /// What it runs on, for people.
    pub fn describe_device(&self) -> String {
        self.device.describe()
    }

    /// Bytes held, on the device and beside it, while the largest picture is seen.
    pub fn memory(&self) -> DeviceMemory {
        [self.device.memory(), self.spec.host_memory(&self.plan)].into_iter().sum()
    }

    /// [`glimmer_tensor::Device::begin_turn`] of its device.
    pub fn begin_turn(&mut self) {
        self.device.begin_turn();
    }

    /// [`glimmer_tensor::Device::end_turn`] of its device.
    pub fn end_turn(&mut self) {
        self.device.end_turn();
    }

    /// Begins to look at a picture, or at frames of a video, which do not see each other. Nothing is computed yet.
    ///
    /// # Errors
    /// When the tower has no such patches, or the plan no room for as many.
    pub fn begin(&self, patches: Arc<dyn Patches>) -> Result<Look, ModelError> {
        let (spec, grid) = (&self.spec, patches.grid());
        let [frames, rows, columns] = grid;
        let count = frames.checked_mul(rows).and_then(|n| n.checked_mul(columns)).unwrap_or(usize::MAX);
        let misfit = spec.misfit(grid).or_else(|| {
            let (found, wanted) = (patches.width(), spec.stem.pixels);
            (found != wanted).then(|| format!("patches of {found} values, where the tower reads {wanted}"))
        });
        let too_large = || {
            let most = self.plan.patches;
            (count > most).then(|| format!("a picture of {count} patches, where there is room for {most}"))
        };
        if let Some(what) = misfit.or_else(too_large) {
            return Err(ModelError::Picture(what));
        }
        let frame_rows = spec.lead() + rows * columns;
        Ok(Look {
            grid,
            order: Order { rows, columns, block: patches.block() },
            pieces: self.pieces(grid).into_iter(),
            residual: vec![0.0; frames * frame_rows * spec.width],
            queries: vec![0.0; frame_rows * spec.layer.heads.q_width()],
            features: Vec::with_capacity(spec.feature_rows(grid) * spec.hidden),
            patches,
        })
    }

    /// All pieces of a picture, in order.
    fn pieces(&self, grid: [usize; 3]) -> Vec<Piece> {
        let [frames, rows, columns] = grid;
        let (spec, step) = (&self.spec, self.plan.piece(&self.spec));
        let some = |count: usize, step: usize| {
            (0..count).step_by(step).map(move |first| first..count.min(first + step))
        };
        let mut pieces: Vec<Piece> = some(frames * rows * columns, step).map(Piece::Stem).collect();
        let frame_rows = spec.lead() + rows * columns;
        for layer in 0..spec.layers {
            for frame in 0..frames {
                let keys = |rows| Piece::Keys { layer, frame, rows };
                pieces.extend(some(frame_rows, step).map(keys));
                let rest = |rows| Piece::Rest { layer, frame, rows };
                pieces.extend(some(frame_rows, step).map(rest));
            }
        }
        let blocks = spec.merged(grid).iter().product();
        pieces.extend(some(blocks, step / (spec.merge * spec.merge)).map(Piece::Merge));
        pieces
    }

    /// Computes one piece; returns the features when it was the last one.
    ///
    /// # Errors
    /// When a value on the way was not finite: the message names the layer.
    pub fn advance(&mut self, look: &mut Look) -> Result<Option<Features>, ModelError> {
        self.step(look, &mut None)
    }

    /// Computes all pieces.
    ///
    /// # Errors
    /// Those of [`Tower::begin`] and [`Tower::advance`].
    pub fn features(&mut self, patches: Arc<dyn Patches>) -> Result<Features, ModelError> {
        self.all(patches, &mut None)
    }

    /// [`Tower::features`] that also shows what is between.
    ///
    /// # Errors
    /// Those of [`Tower::features`].
    pub fn features_observed(
        &mut self,
        patches: Arc<dyn Patches>,
        observer: &mut dyn FnMut(VisionStage, &[f32]),
    ) -> Result<Features, ModelError> {
        self.all(patches, &mut Some(observer))
    }

    fn all(
        &mut self,
        patches: Arc<dyn Patches>,
        observer: &mut Observer<'_>,
    ) -> Result<Features, ModelError> {
        let mut look = self.begin(patches)?;
        loop {
            if let Some(features) = self.step(&mut look, observer)? {
                return Ok(features);
            }
        }
    }

    fn step(&mut self, look: &mut Look, observer: &mut Observer<'_>) -> Result<Option<Features>, ModelError> {
        match look.pieces.next() {
            Some(Piece::Stem(patches)) => self.stem(look, patches, observer)?,
            Some(Piece::Keys { layer, frame, rows }) => self.keys(look, layer, frame, rows)?,
            Some(Piece::Rest { layer, frame, rows }) => self.rest(look, layer, frame, rows, observer)?,
            Some(Piece::Merge(blocks)) => self.merge(look, blocks, observer)?,
            None => {}
        }
        let is_done = look.pieces.len() == 0;
        Ok(is_done.then(|| Features { width: self.spec.hidden, values: std::mem::take(&mut look.features) }))
    }

    fn buffer(&self, wanted: TowerBuffer) -> BufferId {
        let found = self.buffers.iter().find(|(buffer, _)| *buffer == wanted);
        found.expect("all buffers were made when the tower was loaded").1
    }

    /// Uploads rows that stand for themselves.
    fn upload(&mut self, rows: usize) -> Result<DeviceBatch, ModelError> {
        let axes = self.spec.layer.rope.as_ref().map_or(1, glimmer_tensor::Rope::axes);
        let mut batch = Batch::default();
        batch.push(&vec![0; rows], 0..rows, &vec![0.0; rows * axes], 0, pages(rows), []);
        Ok(self.device.upload(&batch)?)
    }

    /// Uploads rows of a frame, which see all of it.
    fn upload_rows(&mut self, look: &Look, rows: Range<usize>) -> Result<DeviceBatch, ModelError> {
        let lead = self.spec.lead();
        let all = lead + look.order.rows * look.order.columns;
        let mut positions = Vec::with_capacity(2 * rows.len());
        for row in rows.clone() {
            let [y, x] = row.checked_sub(lead).map_or([0, 0], |patch| look.order.place(patch));
            match &self.spec.layer.rope {
                Some(_) => positions.extend([y as f32, x as f32]),
                None => positions.push(0.0),
            }
        }
        let mut batch = Batch::default();
        batch.push(&vec![0; rows.len()], rows, &positions, all, pages(all), []);
        batch.sequences.iter_mut().for_each(|sequence| sequence.kv_len = all);
        Ok(self.device.upload(&batch)?)
    }

    /// Brings back the rows of a batch.
    fn read(
        &mut self,
        batch: DeviceBatch,
        from: TowerBuffer,
        rows: usize,
        out: &mut Vec<f32>,
    ) -> Result<(), ModelError> {
        out.clear();
        Ok(self.device.read(batch, self.buffer(from), 0..rows, out)?)
    }

    /// Shows rows to an observer, where there is one.
    fn show(
        &mut self,
        batch: DeviceBatch,
        from: TowerBuffer,
        rows: usize,
        stage: VisionStage,
        observer: &mut Observer<'_>,
    ) -> Result<(), ModelError> {
        if let Some(observer) = observer {
            let mut values = Vec::new();
            self.read(batch, from, rows, &mut values)?;
            observer(stage, &values);
        }
        Ok(())
    }

    /// Patches become rows of the residual stream.
    fn stem(
        &mut self,
        look: &mut Look,
        patches: Range<usize>,
        observer: &mut Observer<'_>,
    ) -> Result<(), ModelError> {
        let (count, batch) = (patches.len(), self.upload(patches.len())?);
        let mut passed = std::mem::take(&mut self.passed);
        passed.resize(count * self.spec.stem.pixels, 0.0);
        look.patches.write(patches.clone(), &mut passed);
        let [pixels, hidden, normed] =
            [TowerBuffer::Pixels, TowerBuffer::Hidden, TowerBuffer::Normed].map(|buffer| self.buffer(buffer));
        let outside = &self.weights.outside;
        self.device.write(batch, pixels, 0, &passed);
        let kernel = outside.matrices.of(TowerRole::PatchEmbedding);
        self.device.linear(batch, pixels, kernel, Epilogue::None, hidden);
        let mut from = TowerBuffer::Hidden;
        if self.spec.stem.norm.is_some() {
            self.device.norm(batch, hidden, &outside.norms.of(TowerRole::StemNorm), normed);
            from = TowerBuffer::Normed;
        }
        self.device.check_finite(batch, self.buffer(from), Place::Embedding);
        self.show(batch, TowerBuffer::Hidden, count, VisionStage::PatchEmbedding, observer)?;
        self.read(batch, from, count, &mut passed)?;
        self.place(look, patches, &passed, observer);
        self.passed = passed;
        Ok(())
    }

    /// Puts embedded patches into the residual stream, with their positions, and before those of a frame its class row.
    fn place(&self, look: &mut Look, patches: Range<usize>, embedded: &[f32], observer: &mut Observer<'_>) {
        let (spec, width) = (&self.spec, self.spec.width);
        let learned = self.weights.values(TowerRole::Positions);
        let (lead, frame_patches) = (spec.lead(), look.order.rows * look.order.columns);
        for (patch, embedded) in patches.zip(embedded.chunks_exact(width)) {
            let (frame, patch) = (patch / frame_patches, patch % frame_patches);
            let first = frame * (lead + frame_patches);
            if lead == 1 && patch == 0 {
                let row = &mut look.residual[first * width..(first + 1) * width];
                row.copy_from_slice(self.weights.values(TowerRole::ClassRow));
                add(row, &learned[..width]);
                show(observer, VisionStage::Hidden(0), row);
            }
            let place = look.order.place(patch);
            let row = &mut look.residual[(first + lead + patch) * width..][..width];
            row.copy_from_slice(embedded);
            match spec.stem.positions {
                PatchPositions::None => {}
                PatchPositions::Learned { side } => {
                    add(row, &learned[(lead + place[0] * side + place[1]) * width..][..width]);
                }
                PatchPositions::Sampled { side } => add_sampled(learned, side, look.order, place, row),
            }
            show(observer, VisionStage::Hidden(0), row);
        }
    }

    /// The residual stream's rows of a frame.
    fn residual(&self, look: &Look, frame: usize, rows: &Range<usize>) -> Range<usize> {
        let first = frame * (self.spec.lead() + look.order.rows * look.order.columns);
        (first + rows.start) * self.spec.width..(first + rows.end) * self.spec.width
    }

    /// Rows give a layer keys and values; their queries are kept.
    fn keys(
        &mut self,
        look: &mut Look,
        layer: usize,
        frame: usize,
        rows: Range<usize>,
    ) -> Result<(), ModelError> {
        let batch = self.upload_rows(look, rows.clone())?;
        let heads = self.spec.layer.heads;
        let [hidden, normed, qkv] =
            [TowerBuffer::Hidden, TowerBuffer::Normed, TowerBuffer::Qkv].map(|buffer| self.buffer(buffer));
        self.device.write(batch, hidden, 0, &look.residual[self.residual(look, frame, &rows)]);
        let Loaded { norms, matrices } = &self.weights.layers[layer];
        let device = self.device.as_mut();
        let mut x = hidden;
        if !self.spec.layer.norm_after {
            device.norm(batch, hidden, &norms.of(TowerRole::AttentionNorm), normed);
            x = normed;
        }
        device.linear(batch, x, matrices.of(TowerRole::Qkv), Epilogue::None, qkv);
        if self.spec.layer.head_norm.is_some() {
            let [q, k] = [TowerRole::QueryNorm, TowerRole::KeyNorm].map(|role| norms.of(role));
            device.norm_heads(batch, qkv, heads, &q, &k);
        }
        if self.spec.layer.rope.is_some() {
            device.rope(batch, qkv, heads, self.weights.rope);
        }
        device.kv_write(batch, 0, qkv, heads);
        let mut passed = std::mem::take(&mut self.passed);
        self.read(batch, TowerBuffer::Qkv, rows.len(), &mut passed)?;
        let queries = look.queries[rows.start * heads.q_width()..].chunks_exact_mut(heads.q_width());
        for (queries, row) in queries.zip(passed.chunks_exact(heads.qkv_width())) {
            queries.copy_from_slice(&row[..heads.q_width()]);
        }
        self.passed = passed;
        Ok(())
    }

    /// Rows attend to all of their frame, and go through the feed-forward.
    fn rest(
        &mut self,
        look: &mut Look,
        layer: usize,
        frame: usize,
        rows: Range<usize>,
        observer: &mut Observer<'_>,
    ) -> Result<(), ModelError> {
        let batch = self.upload_rows(look, rows.clone())?;
        let heads = self.spec.layer.heads;
        let residual = self.residual(look, frame, &rows);
        let mut passed = std::mem::take(&mut self.passed);
        passed.clear();
        passed.resize(rows.len() * heads.qkv_width(), 0.0);
        let queries = look.queries[rows.start * heads.q_width()..].chunks_exact(heads.q_width());
        for (row, queries) in passed.chunks_exact_mut(heads.qkv_width()).zip(queries) {
            row[..heads.q_width()].copy_from_slice(queries);
        }
        let [hidden, qkv, attended] =
            [TowerBuffer::Hidden, TowerBuffer::Qkv, TowerBuffer::Attended].map(|buffer| self.buffer(buffer));
        self.device.write(batch, hidden, 0, &look.residual[residual.clone()]);
        self.device.write(batch, qkv, 0, &passed);
        self.device.attention(batch, 0, qkv, heads, attended);
        self.add_branch(batch, layer, attended, TowerRole::AttentionOut, TowerRole::AttentionNorm);
        self.device.check_finite(batch, hidden, Place::Attention(layer));
        self.feed_forward(batch, layer);
        self.device.check_finite(batch, hidden, Place::FeedForward(layer));
        self.read(batch, TowerBuffer::Hidden, rows.len(), &mut passed)?;
        look.residual[residual].copy_from_slice(&passed);
        show(observer, VisionStage::Hidden(layer + 1), &passed);
        self.passed = passed;
        Ok(())
    }

    fn feed_forward(&mut self, batch: DeviceBatch, layer: usize) {
        let [hidden, normed, inner] =
            [TowerBuffer::Hidden, TowerBuffer::Normed, TowerBuffer::Inner].map(|buffer| self.buffer(buffer));
        let Loaded { norms, matrices } = &self.weights.layers[layer];
        let mut x = hidden;
        if !self.spec.layer.norm_after {
            self.device.norm(batch, hidden, &norms.of(TowerRole::FfnNorm), normed);
            x = normed;
        }
        let epilogue = match self.spec.layer.activation {
            TowerActivation::SwiGlu => Epilogue::SwiGlu,
            TowerActivation::Gelu(Gelu::Tanh) => Epilogue::Gelu,
            TowerActivation::Gelu(Gelu::Erf) => Epilogue::GeluErf,
        };
        self.device.linear(batch, x, matrices.of(TowerRole::FfnUp), epilogue, inner);
        self.add_branch(batch, layer, inner, TowerRole::FfnDown, TowerRole::FfnNorm);
    }

    /// Projects `x` back and adds it to the residual stream, normed where the tower norms what it adds.
    fn add_branch(
        &mut self,
        batch: DeviceBatch,
        layer: usize,
        x: BufferId,
        matrix: TowerRole,
        norm: TowerRole,
    ) {
        let [hidden, branch] = [TowerBuffer::Hidden, TowerBuffer::Branch].map(|buffer| self.buffer(buffer));
        let Loaded { norms, matrices } = &self.weights.layers[layer];
        let matrix = matrices.of(matrix);
        if self.spec.layer.norm_after {
            self.device.linear(batch, x, matrix, Epilogue::None, branch);
            self.device.norm_add(batch, branch, &norms.of(norm), hidden);
        } else {
            let epilogue = Epilogue::Residual { from: hidden, scale: 1.0 };
            self.device.linear(batch, x, matrix, epilogue, hidden);
        }
    }

    /// Blocks become features.
    fn merge(
        &mut self,
        look: &mut Look,
        blocks: Range<usize>,
        observer: &mut Observer<'_>,
    ) -> Result<(), ModelError> {
        let mut rows = self.gather(look, blocks.clone());
        if self.spec.last_norm.is_some() {
            let count = rows.len() / self.spec.width;
            let batch = self.upload(count)?;
            let [hidden, normed] =
                [TowerBuffer::Hidden, TowerBuffer::Normed].map(|buffer| self.buffer(buffer));
            self.device.write(batch, hidden, 0, &rows);
            let norm = self.weights.outside.norms.of(TowerRole::LastNorm);
            self.device.norm(batch, hidden, &norm, normed);
            self.read(batch, TowerBuffer::Normed, count, &mut rows)?;
            show(observer, VisionStage::LastNorm, &rows);
        }
        let beside = side_by_side(&rows, self.spec.width, self.spec.merge * self.spec.merge);
        let features = self.adapt(&beside, blocks.len(), observer)?;
        let (is_first, is_last) =
            (blocks.start == 0, blocks.end == self.spec.merged(look.grid).iter().product::<usize>());
        let divisor = self.spec.divisor;
        let mut push = |row: &[f32]| look.features.extend(row.iter().map(|value| value / divisor));
        if is_first {
            push(self.weights.values(TowerRole::Begin));
        }
        push(&features);
        if is_last {
            push(self.weights.values(TowerRole::End));
        }
        Ok(())
    }

    /// The rows of blocks, one block's after the other's.
    fn gather(&self, look: &Look, blocks: Range<usize>) -> Vec<f32> {
        let (spec, width) = (&self.spec, self.spec.width);
        let frame_rows = spec.lead() + look.order.rows * look.order.columns;
        let [_, rows, columns] = spec.merged(look.grid);
        let mut gathered = Vec::with_capacity(blocks.len() * spec.merge * spec.merge * width);
        for block in blocks {
            let (frame, block) = (block / (rows * columns), block % (rows * columns));
            for patch in look.order.merged(block, spec.merge) {
                let row = frame * frame_rows + spec.lead() + patch;
                gathered.extend_from_slice(&look.residual[row * width..(row + 1) * width]);
            }
        }
        gathered
    }

    /// The convolution of blocks, and the adapter.
    fn adapt(
        &mut self,
        blocks: &[f32],
        count: usize,
        observer: &mut Observer<'_>,
    ) -> Result<Vec<f32>, ModelError> {
        let batch = self.upload(count)?;
        let [x, merged, projected, gated] =
            [TowerBuffer::Blocks, TowerBuffer::Merged, TowerBuffer::Projected, TowerBuffer::Gated]
                .map(|buffer| self.buffer(buffer));
        let Loaded { norms, matrices } = &self.weights.outside;
        let [conv, projection, up, down] =
            [TowerRole::Merge, TowerRole::Projection, TowerRole::AdapterUp, TowerRole::AdapterDown]
                .map(|role| matrices.of(role));
        let norm = norms.of(TowerRole::ProjectionNorm);
        self.device.write(batch, x, 0, blocks);
        self.device.linear(batch, x, conv, Epilogue::None, merged);
        self.show(batch, TowerBuffer::Merged, count, VisionStage::Merged, observer)?;
        self.device.linear(batch, merged, projection, Epilogue::None, projected);
        self.device.norm(batch, projected, &norm, merged);
        let mut rows = Vec::new();
        self.read(batch, TowerBuffer::Merged, count, &mut rows)?;
        let gelu = match self.spec.adapter.gelu {
            Gelu::Erf => gelu_erf,
            Gelu::Tanh => gelu_tanh,
        };
        rows.iter_mut().for_each(|value| *value = gelu(f64::from(*value)) as f32);
        self.device.write(batch, merged, 0, &rows);
        self.device.linear(batch, merged, up, Epilogue::SwiGlu, gated);
        self.device.linear(batch, gated, down, Epilogue::None, projected);
        self.device.check_finite(batch, projected, Place::Logits);
        self.read(batch, TowerBuffer::Projected, count, &mut rows)?;
        Ok(rows)
    }
}

/// The first pages, for so many rows.
fn pages(rows: usize) -> Vec<PageId> {
    (0..rows.div_ceil(PAGE_SLOTS) as PageId).collect()
}

fn add(row: &mut [f32], other: &[f32]) {
    row.iter_mut().zip(other).for_each(|(row, other)| *row += other);
}

fn show(observer: &mut Observer<'_>, stage: VisionStage, values: &[f32]) {
    if let Some(observer) = observer {
        observer(stage, values);
    }
}

/// Each `count` rows as one, channel by channel, as a convolution's kernel has them: `[channels, count]`.
fn side_by_side(rows: &[f32], width: usize, count: usize) -> Vec<f32> {
    let mut beside = vec![0.0; rows.len()];
    for (block, rows) in beside.chunks_exact_mut(width * count).zip(rows.chunks_exact(width * count)) {
        for (i, row) in rows.chunks_exact(width).enumerate() {
            block[i..].iter_mut().step_by(count).zip(row).for_each(|(to, value)| *to = *value);
        }
    }
    beside
}
