//! [`CudaDevice`]: the seam's operations as launches of kernels over planned buffers.

use std::ops::Range;

use crate::args::{FiniteArgs, GatherArgs, LargestArgs, NormArgs, RopeArgs};
use crate::attention::Attention;
use crate::candidates::Choices;
use crate::counted::Counted;
use crate::driver::{Driver, Memory, launch};
use crate::linear::{Finish, Input, PrepareArgs, Products};
use crate::step::{ALL_FINITE, Count, Step, bucket};
use crate::weights::CardMatrix;
use glimmer_tensor::{
    Batch, Buffer, BufferId, Buffers, Candidates, Compute, Device, DeviceBatch, DeviceError, DeviceMemory,
    Epilogue, FreeMemory, Handle, Heads, MatrixId, MatrixUse, MatrixView, NeededMatrix, Needs, Norm,
    NormKind, Place, Plan, Planned, Role, Rope, RopeId, Steps, Table, Taken, VectorId,
};

/// How a [`CudaDevice`] is to work.
#[derive(Clone, Copy, Debug, Default)]
pub struct CudaOptions {
    /// Which card, counted from 0 as the driver counts them.
    pub card: usize,
    /// Numeric mode.
    pub compute: Compute,
}

/// `norm_bytes`
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
struct NormBytesArgs {
    norm: NormArgs,
    bytes: PrepareArgs,
}

/// A vector of weights.
#[derive(Clone, Copy)]
struct Vector {
    values: Memory,
    len: usize,
}

/// The two elements of a head that each pair of a rope turns.
struct Turned {
    pairs: Memory,
    /// All of them are below this.
    below: usize,
}

/// What is made by [`Device::plan`].
struct Workspace {
    plan: Plan,
    attention: Attention,
    products: Products,
    steps: Steps<Step>,
    /// Where in each row the largest value is: `[rows]`.
    largest: Memory,
    rows: usize,
    /// For each buffer of logits.
    choices: Vec<(BufferId, Choices)>,
}

/// A [`Device`] that computes on a card, or on an emulated one.
pub struct CudaDevice {
    driver: Box<dyn Driver>,
    compute: Compute,
    matrices: Table<MatrixId, CardMatrix>,
    vectors: Table<VectorId, Vector>,
    ropes: Table<RopeId, Rope>,
    turned: Table<RopeId, Turned>,
    buffers: Buffers<Memory>,
    /// Bytes of all buffers.
    buffer_bytes: usize,
    work: Planned<Workspace>,
    /// The rows that a norm has prepared for the product after it: the step and the buffer.
    prepared: Option<(DeviceBatch, BufferId)>,
    /// What went wrong where there was no way to say so.
    failed: Option<DeviceError>,
}

impl CudaDevice {
    /// Opens the driver and a card; in a program that was built for the emulation alone, that.
    ///
    /// # Errors
    /// When there is no driver, no such card, or a card too old.
    #[cfg(any(feature = "cuda", feature = "emulate"))]
    pub fn new(options: CudaOptions) -> Result<Self, crate::DriverError> {
        Ok(Self::on(crate::driver::open(options.card)?, options.compute))
    }

    /// An emulated card: slow, for tests.
    #[cfg(feature = "emulate")]
    pub fn emulated(options: CudaOptions) -> Self {
        let driver = Box::new(crate::emulated::Emulated::default());
        Self::on(crate::watched::watched(driver), options.compute)
    }

    fn on(driver: Box<dyn Driver>, compute: Compute) -> Self {
        CudaDevice {
            driver,
            compute,
            matrices: Table::default(),
            vectors: Table::default(),
            ropes: Table::default(),
            turned: Table::default(),
            buffers: Buffers::default(),
            buffer_bytes: 0,
            work: Planned::default(),
            prepared: None,
            failed: None,
        }
    }

    /// This device with all that it is asked for, on a machine that only counts.
    fn trial(&self, needs: &Needs) -> Result<Self, DeviceError> {
        let mut trial = Self::on(Box::new(Counted::new(self.driver.limits())), self.compute);
        for NeededMatrix { parts, biased, used_for } in &needs.matrices {
            let bias = biased.then(|| vec![0f32; parts.iter().map(|part| part.rows).sum()]);
            let matrix = CardMatrix::reserve(trial.driver.as_mut(), parts, bias.as_deref(), *used_for)?;
            trial.matrices.push(matrix);
        }
        for &len in &needs.vectors {
            trial.load_vector(&vec![0f32; len]);
        }
        trial.load_rope(&needs.rope);
        trial.plan(&needs.plan)?;
        for &(role, width) in &needs.buffers {
            trial.buffer(0, role, width)?;
        }
        Ok(trial)
    }

    /// The rows of `buffer` that `batch` uses: where their number lies, and a bucket that holds them.
    fn rows(&self, batch: DeviceBatch, buffer: BufferId) -> Rows {
        let step = &self.work.steps[batch];
        let (count, rows) = self.buffers[buffer]
            .role
            .pick((Count::Rows, step.rows()), (Count::LogitsRows, step.logits_rows()));
        Rows { count: step.count(count), bucket: bucket(rows) }
    }

    /// Brings values to the machine; when there is no memory left, [`Device::plan`] says so.
    fn keep<T: bytemuck::NoUninit>(&mut self, values: &[T], what: &'static str) -> Memory {
        match self.driver.alloc(size_of_val(values)) {
            Ok(memory) => {
                self.driver.copy_in(memory, 0, bytemuck::cast_slice(values));
                memory
            }
            Err(error) => {
                self.failed.get_or_insert(error.of(what));
                Memory::NULL
            }
        }
    }

    fn norm_rows(&mut self, batch: DeviceBatch, x: BufferId, norm: &Norm, out: BufferId, add: bool) {
        let rows = self.rows(batch, x);
        let weight = self.vectors[norm.weight];
        let bias = norm.bias.map(|bias| self.vectors[bias]);
        self.overwrites(out);
        let to = out;
        let [x, out] = self.two(x, out);
        let width = weight.len;
        assert!(x.width == width && out.width == width, "a norm is as wide as its buffers");
        assert!(bias.is_none_or(|bias| bias.len == width), "a norm's shift is as wide as its scale");
        let args = NormArgs {
            rows: rows.count,
            x: x.values,
            out: out.values,
            weight: weight.values,
            bias: bias.map_or(Memory::NULL, |bias| bias.values),
            width: width as u32,
            eps: norm.eps,
            centred: u32::from(norm.kind == NormKind::Layer),
            add: u32::from(add),
        };
        let bytes = self.work.products.bytes_of(rows.count, out.values, width).filter(|_| !add);
        match bytes {
            Some(bytes) => {
                let args = NormBytesArgs { norm: args, bytes };
                launch(self.driver.as_mut(), "norm_bytes", rows.grid(), 256, 0, &args);
                self.prepared = Some((batch, to));
            }
            None => launch(self.driver.as_mut(), "norm_rows", rows.grid(), 256, 0, &args),
        }
    }

    /// Says that a buffer is written: what was prepared of it is of no use any more.
    fn overwrites(&mut self, buffer: BufferId) {
        self.prepared = self.prepared.filter(|(_, prepared)| *prepared != buffer);
    }

    /// Waits for the step and reports its first value that is not finite.
    fn report(&mut self, batch: DeviceBatch) -> Result<(), DeviceError> {
        self.driver.end_step();
        let noted = self.work.steps[batch].not_finite();
        let mut first = ALL_FINITE.to_ne_bytes();
        self.driver.copy_out(noted, 0, &mut first);
        self.driver.synchronize().map_err(|e| e.of("a step"))?;
        let first = u64::from_ne_bytes(first);
        if first == ALL_FINITE {
            return Ok(());
        }
        self.driver.copy_in(noted, 0, &ALL_FINITE.to_ne_bytes());
        let (place, value) = (place_of((first >> 32) as u32), f32::from_bits(first as u32));
        Err(DeviceError::NotFinite { place, value: value.to_string() })
    }

    /// Appends `count` values that a step has computed, `offset` bytes into memory.
    fn copy_out<T: bytemuck::Pod>(
        &mut self,
        from: Memory,
        offset: usize,
        count: usize,
        out: &mut Vec<T>,
    ) -> Result<(), DeviceError> {
        let len = out.len();
        out.resize(len + count, T::zeroed());
        self.driver.copy_out(from, offset, bytemuck::cast_slice_mut(&mut out[len..]));
        let copied = self.driver.synchronize().map_err(|e| e.of("what a step computed"));
        if copied.is_err() {
            out.truncate(len);
        }
        copied
    }

    /// Two different buffers.
    fn two(&self, x: BufferId, out: BufferId) -> [Buffer<Memory>; 2] {
        assert!(x != out, "an operation's buffers differ");
        [self.buffers[x], self.buffers[out]]
    }
}

/// How many rows an operation has: where the machine reads it, and the bucket that its grid is made for.
#[derive(Clone, Copy)]
pub(crate) struct Rows {
    pub(crate) count: Memory,
    pub(crate) bucket: usize,
}

impl Rows {
    /// A block per row.
    fn grid(self) -> [u32; 3] {
        [self.bucket as u32, 1, 1]
    }
}

/// A place as a number that grows along the model.
fn code_of(place: Place) -> u32 {
    match place {
        Place::Embedding => 0,
        Place::Attention(layer) => 1 + 2 * layer as u32,
        Place::FeedForward(layer) => 2 + 2 * layer as u32,
        Place::Logits => u32::MAX,
    }
}

/// The place of a number.
fn place_of(code: u32) -> Place {
    match code {
        0 => Place::Embedding,
        u32::MAX => Place::Logits,
        code if code % 2 == 1 => Place::Attention(code as usize / 2),
        code => Place::FeedForward(code as usize / 2 - 1),
    }
}

impl Device for CudaDevice {
    fn describe(&self) -> String {
        self.driver.describe()
    }

    fn runs_ahead(&self) -> bool {
        true
    }

    fn memory(&self) -> DeviceMemory {
        let work = self.work.get();
        let turned: usize = self.ropes.all().iter().map(|rope| 8 * rope.pair_count()).sum();
        DeviceMemory {
            weights: self.matrices.all().iter().map(CardMatrix::bytes).sum::<usize>()
                + self.vectors.all().iter().map(|v| 4 * v.len).sum::<usize>()
                + turned,
            kv: work.map_or(0, |work| work.attention.cache_bytes()),
            buffers: self.buffer_bytes
                + work.map_or(0, |work| {
                    work.attention.scratch_bytes()
                        + work.products.bytes()
                        + 4 * work.rows
                        + work.choices.iter().map(|(_, choices)| choices.bytes()).sum::<usize>()
                        + work.steps.both().iter().map(Step::bytes).sum::<usize>()
                }),
        }
    }

    fn free_memory(&mut self) -> Option<FreeMemory> {
        self.driver.free_memory()
    }

    fn needed(&self, needs: &Needs) -> Result<DeviceMemory, DeviceError> {
        Ok(self.trial(needs)?.memory())
    }

    fn load_matrix(
        &mut self,
        parts: &[MatrixView<'_>],
        bias: Option<&[f32]>,
        used_for: MatrixUse,
        taken: Taken<'_>,
    ) -> Result<MatrixId, DeviceError> {
        Ok(self.matrices.push(CardMatrix::load(self.driver.as_mut(), parts, bias, used_for, taken)?))
    }

    fn load_vector(&mut self, values: &[f32]) -> VectorId {
        let vector = Vector { values: self.keep(values, "a vector of weights"), len: values.len() };
        self.vectors.push(vector)
    }

    fn load_rope(&mut self, rope: &Rope) -> RopeId {
        let pairs: Vec<[u32; 2]> = rope
            .sections
            .iter()
            .flat_map(|section| {
                let n = section.inv_freq.len();
                (0..n).map(move |i| rope.pair(section, i))
            })
            .map(|pair| pair.map(|element| element as u32))
            .collect();
        let below = pairs.iter().flatten().map(|&element| element as usize + 1).max().unwrap_or(0);
        let turned = Turned { pairs: self.keep(&pairs, "a rotary table"), below };
        self.turned.push(turned);
        self.ropes.push(rope.clone())
    }

    fn plan(&mut self, plan: &Plan) -> Result<(), DeviceError> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        let driver = self.driver.as_mut();
        let attention = Attention::new(driver, plan, self.compute)?;
        let rows = plan.capacity.rows.max(plan.capacity.logits_rows);
        let products = Products::new(driver, rows, self.matrices.all(), self.compute)?;
        let pages = plan.capacity.pages.saturating_add(plan.capacity.rows);
        let mut step = || {
            let kinds = plan.distinct_heads().len();
            let step = Step::new(driver, plan.capacity.rows, pages, kinds, self.ropes.all());
            step.map_err(|e| e.of("uploaded batches"))
        };
        let steps = Steps::new([step()?, step()?]);
        let largest = driver.alloc(rows.saturating_mul(4)).map_err(|e| e.of("the likeliest tokens"))?;
        self.work.set(Workspace {
            plan: plan.clone(),
            attention,
            products,
            steps,
            largest,
            rows,
            choices: Vec::new(),
        });
        Ok(())
    }

    fn buffer(&mut self, _layer: usize, role: Role, width: usize) -> Result<BufferId, DeviceError> {
        let capacity = self.work.plan.capacity;
        let rows = role.pick(capacity.rows, capacity.logits_rows);
        let buffer = self.buffers.shared(role, width, || {
            let bytes = rows.saturating_mul(width).saturating_mul(4);
            let values = self.driver.alloc(bytes).map_err(|e| e.of("an activation buffer"))?;
            self.buffer_bytes += bytes;
            Ok::<_, DeviceError>(values)
        })?;
        let choices = &mut self.work.choices;
        if role == Role::Logits && choices.iter().all(|(of, _)| *of != buffer) {
            let made = Choices::new(self.driver.as_mut(), rows, width).map_err(|e| e.of("candidates"))?;
            choices.push((buffer, made));
        }
        Ok(buffer)
    }

    fn upload(&mut self, batch: &Batch) -> Result<DeviceBatch, DeviceError> {
        self.driver.end_step();
        let Workspace { plan, attention, steps, .. } = &mut *self.work;
        batch.check(plan.axes, plan.vocab, &plan.capacity)?;
        let schedule = |kind, batch: &Batch, words: &mut Vec<u32>| attention.schedule(kind, batch, words);
        let (driver, ropes) = (self.driver.as_mut(), self.ropes.all());
        let uploaded = steps.upload(|step| {
            let loaded = step.load(driver, batch, plan.axes, ropes, &schedule);
            loaded.map_err(|e| e.of("an uploaded batch"))
        })?;
        self.driver.begin_step();
        Ok(uploaded)
    }

    fn write(&mut self, batch: DeviceBatch, x: BufferId, first: usize, values: &[f32]) {
        self.overwrites(x);
        let step = &self.work.steps[batch];
        let x = self.buffers[x];
        let rows = x.role.pick(step.rows(), step.logits_rows());
        assert!(first * x.width + values.len() <= rows * x.width, "values are for rows of the batch");
        self.driver.copy_in(x.values, 4 * first * x.width, bytemuck::cast_slice(values));
        // What comes in ends what is recorded; the step that is repeated begins behind it.
        self.driver.begin_step();
    }

    fn embed(&mut self, batch: DeviceBatch, table: MatrixId, out: BufferId) {
        self.overwrites(out);
        let step = &self.work.steps[batch];
        let (tokens, rows) = (step.args().tokens, self.rows(batch, out));
        let table = &self.matrices[table];
        let out = self.buffers[out];
        assert_eq!(table.cols(), out.width, "an embedding is as wide as its buffer");
        table.embed(self.driver.as_mut(), rows, tokens, out.values);
    }

    fn norm(&mut self, batch: DeviceBatch, x: BufferId, norm: &Norm, out: BufferId) {
        self.norm_rows(batch, x, norm, out, false);
    }

    fn norm_add(&mut self, batch: DeviceBatch, x: BufferId, norm: &Norm, into: BufferId) {
        self.norm_rows(batch, x, norm, into, true);
    }

    fn linear(&mut self, batch: DeviceBatch, x: BufferId, w: MatrixId, epilogue: Epilogue, out: BufferId) {
        // Whatever this product prepares lies where that did.
        let is_prepared = self.prepared.take() == Some((batch, x));
        let rows = self.rows(batch, x);
        let w = &self.matrices[w];
        let [x, out] = self.two(x, out);
        assert_eq!(x.width, w.cols(), "the matrix's columns are the buffer's width");
        assert_eq!(out.width, epilogue.width(w.rows()), "the output fits the matrix and its epilogue");
        let finish = match epilogue {
            Epilogue::None => Finish::Store,
            Epilogue::Residual { from, scale } => {
                let from = self.buffers[from];
                assert_eq!(from.width, out.width, "what is added is as wide as the output");
                Finish::Residual { from: from.values, scale }
            }
            Epilogue::SwiGlu => Finish::SwiGlu,
            Epilogue::Gelu => Finish::Gelu,
            Epilogue::GeluErf => unreachable!("a tower is not loaded onto a device that cannot see"),
        };
        let x = Input { x: x.values, is_prepared };
        self.work.products.linear(self.driver.as_mut(), rows, x, w, finish, out.values);
    }

    fn rope(&mut self, batch: DeviceBatch, qkv: BufferId, heads: Heads, rope: RopeId) {
        self.overwrites(qkv);
        let (step, rows) = (&self.work.steps[batch], self.rows(batch, qkv));
        let turned = &self.turned[rope];
        let qkv = self.buffers[qkv];
        assert_eq!(qkv.width, heads.qkv_width(), "the heads fill the buffer");
        assert!(turned.below <= heads.head_dim, "a rope turns elements of a head");
        let args = RopeArgs {
            rows: rows.count,
            qkv: qkv.values,
            cos_sin: step.cos_sin(rope.index()),
            pairs: turned.pairs,
            row_width: qkv.width as u32,
            heads: (heads.heads + heads.kv_heads) as u32,
            head_dim: heads.head_dim as u32,
            pair_count: self.ropes[rope].pair_count() as u32,
        };
        let threads = args.pair_count.clamp(1, 128).next_multiple_of(32);
        let grid = [rows.bucket as u32, args.heads, 1];
        launch(self.driver.as_mut(), "rope", grid, threads, 0, &args);
    }

    fn kv_write(&mut self, batch: DeviceBatch, layer: usize, qkv: BufferId, heads: Heads) {
        let qkv = self.buffers[qkv];
        let Workspace { attention, steps, .. } = &*self.work;
        assert_eq!(qkv.width, heads.qkv_width(), "the heads fill the buffer");
        attention.write(self.driver.as_mut(), &steps[batch], layer, heads, qkv.values);
    }

    fn attention(&mut self, batch: DeviceBatch, layer: usize, qkv: BufferId, heads: Heads, out: BufferId) {
        self.overwrites(out);
        let [qkv, out] = self.two(qkv, out);
        let Workspace { attention, steps, .. } = &*self.work;
        let widths = [heads.qkv_width(), heads.attended_width()];
        assert_eq!([qkv.width, out.width], widths, "the heads fill the buffers");
        let step = &steps[batch];
        attention.run(self.driver.as_mut(), step, layer, heads, qkv.values, out.values);
    }

    fn gather(&mut self, batch: DeviceBatch, x: BufferId, out: BufferId) {
        self.overwrites(out);
        let step = &self.work.steps[batch];
        let rows = Rows { count: step.count(Count::LogitsRows), bucket: bucket(step.logits_rows()) };
        let from = step.args().logits_rows;
        let [x, out] = self.two(x, out);
        assert_eq!(x.width, out.width, "rows keep their width");
        let args = GatherArgs {
            count: rows.count,
            from,
            x: x.values,
            out: out.values,
            width: x.width as u32,
            unused: 0,
        };
        launch(self.driver.as_mut(), "gather", rows.grid(), 256, 0, &args);
    }

    fn check_finite(&mut self, batch: DeviceBatch, x: BufferId, place: Place) {
        let rows = self.rows(batch, x);
        let x = self.buffers[x];
        let args = FiniteArgs {
            rows: rows.count,
            x: x.values,
            first: self.work.steps[batch].not_finite(),
            width: x.width as u32,
            place: code_of(place),
        };
        launch(self.driver.as_mut(), "check_finite", rows.grid(), 256, 0, &args);
        if place == Place::Logits {
            // Nothing comes after the logits: the machine may begin.
            self.driver.end_step();
        }
    }

    fn read(
        &mut self,
        batch: DeviceBatch,
        x: BufferId,
        rows: Range<usize>,
        out: &mut Vec<f32>,
    ) -> Result<(), DeviceError> {
        self.report(batch)?;
        let x = self.buffers[x];
        self.copy_out(x.values, 4 * rows.start * x.width, rows.len() * x.width, out)
    }

    fn read_largest(
        &mut self,
        batch: DeviceBatch,
        x: BufferId,
        rows: usize,
        out: &mut Vec<u32>,
    ) -> Result<(), DeviceError> {
        self.driver.end_step();
        let Rows { count, bucket } = self.rows(batch, x);
        let (x, to) = (self.buffers[x], self.work.largest);
        if rows > 0 {
            let args = LargestArgs { rows: count, x: x.values, out: to, width: x.width as u32, unused: 0 };
            launch(self.driver.as_mut(), "largest", [bucket as u32, 1, 1], 256, 0, &args);
        }
        self.report(batch)?;
        self.copy_out(to, 0, rows, out)
    }

    fn read_candidates(
        &mut self,
        batch: DeviceBatch,
        x: BufferId,
        temperatures: &[f32],
        out: &mut Vec<Candidates>,
    ) -> Result<(), DeviceError> {
        self.driver.end_step();
        let rows = self.rows(batch, x);
        let choices = self.work.choices.iter().find(|(of, _)| *of == x).map(|(_, choices)| choices);
        let choices = choices.expect("candidates are those of logits");
        if temperatures.is_empty() {
            return self.report(batch);
        }
        let (from, words) = choices.find(self.driver.as_mut(), rows, self.buffers[x].values, temperatures);
        self.report(batch)?;
        let mut found = Vec::<u64>::new();
        self.copy_out(from, 0, temperatures.len() * words, &mut found)?;
        let choices = self.work.choices.iter().find(|(of, _)| *of == x);
        choices.into_iter().for_each(|(_, choices)| choices.read(&found, out));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_numbered_along_the_model() {
        let mut places = vec![Place::Embedding];
        (0..100).for_each(|layer| places.extend([Place::Attention(layer), Place::FeedForward(layer)]));
        places.push(Place::Logits);
        assert!(places.windows(2).all(|pair| code_of(pair[0]) < code_of(pair[1])));
        assert!(places.iter().all(|&place| place_of(code_of(place)) == place));
    }

    /// A norm that prepares its rows for the product after it gives the bits of the two by themselves.
    #[cfg(feature = "emulate")]
    #[test]
    fn what_a_norm_prepares_is_what_a_product_would() {
        use glimmer_device_suite::rig::{NO_HEADS, Random, Weights, bits, norm};
        use glimmer_tensor::{Capacity, DType, KvType};

        let (width, outputs) = (512, 33);
        let mut rng = Random(12);
        for (dtype, rows) in DType::WEIGHTS.into_iter().flat_map(|dtype| [1, 9, 70].map(|rows| (dtype, rows)))
        {
            let kind = if rows == 9 { NormKind::Layer } else { NormKind::Rms };
            let weights = Weights::random(&mut rng, dtype, outputs, width);
            let mut device = CudaDevice::emulated(CudaOptions::default());
            let w = device.load_matrix(&[weights.view()], None, MatrixUse::Linear, &|_| ()).expect("weights");
            let norm = norm(&mut rng, &mut device, kind, width);
            let capacity = Capacity { rows, logits_rows: 1, pages: 3 };
            let plan = Plan { capacity, vocab: 1, layers: vec![NO_HEADS], kv_type: KvType::F32, axes: 1 };
            device.plan(&plan).expect("a plan");
            let mut buffer = |role, width| device.buffer(0, role, width).expect("a buffer");
            let (x, normed) = (buffer(Role::Hidden, width), buffer(Role::Normed, width));
            let [fused, apart] = [Role::Branch, Role::Inner].map(|role| buffer(role, outputs));
            let mut batch = Batch::default();
            batch.push(&vec![0; rows], 0..rows, &vec![0.0; rows], 0, vec![0, 1, 2], []);
            let step = device.upload(&batch).expect("a batch");
            let mut values = rng.normals(rows * width);
            values[..32].fill(0.0);
            device.write(step, x, 0, &values);
            device.norm(step, x, &norm, normed);
            let takes_bytes = dtype.is_quantized() && dtype != DType::Q2_K;
            assert_eq!(device.prepared.is_some(), takes_bytes, "{dtype}");
            device.linear(step, normed, w, Epilogue::None, fused);
            let read = |device: &mut CudaDevice, buffer| {
                let mut out = Vec::new();
                device.read(step, buffer, 0..rows, &mut out).expect("a step that works");
                out
            };
            let same = read(&mut device, normed);
            device.norm(step, x, &norm, normed);
            device.write(step, normed, 0, &same);
            assert_eq!(device.prepared, None);
            device.linear(step, normed, w, Epilogue::None, apart);
            let found = [fused, apart].map(|buffer| bits(&read(&mut device, buffer)));
            assert_eq!(found[0], found[1], "{dtype}, {rows} rows");
        }
    }
}
