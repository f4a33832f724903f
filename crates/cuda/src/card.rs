//! An NVIDIA card through the driver's own interface, which is opened when a card is: a program with this in it starts
//! on a machine that has neither.
//!
//! Everything goes through one stream, in the order in which it is asked for. What goes in passes through two pinned
//! buffers in turn, so that the host fills one while the card reads the other. The launches of a step are collected; a
//! list that comes for the second time is captured as a CUDA graph, which is launched as a whole from then on.

use crate::driver::{CardLimits, Driver, DriverError, Memory};
use cudarc::driver::result::{self, DriverError as Refusal};
use cudarc::driver::sys;
use glimmer_tensor::FreeMemory;
use std::collections::{HashMap, HashSet};
use std::ffi::{CString, c_void};

include!(concat!(env!("OUT_DIR"), "/fatbins.rs"));

/// Bytes of a pinned buffer.
const STAGE: usize = 16 << 20;

/// Lists of launches that are remembered; the ones used longest ago are forgotten.
const REMEMBERED: usize = 64;

/// The oldest driver that takes what nvcc 13.0 compiles, and the oldest card that it compiles for.
const OLDEST_DRIVER: i32 = 13_000;
const OLDEST_CARD: i32 = 75;

/// What has failed when a call does that waits: a kernel that was launched before, most likely.
const WAITING: &str = "a kernel, or a copy (GLIMMER_CUDA_WATCH=1 names the kernel)";

/// A pinned buffer and when the card has last been done with it.
struct Stage {
    bytes: *mut u8,
    done: sys::CUevent,
}

/// One launch; its arguments lie in the list's bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Launch {
    kernel: &'static str,
    grid: [u32; 3],
    threads: u32,
    shared: u32,
    args: (usize, usize),
}

/// The launches of a step.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
struct Launches {
    launches: Vec<Launch>,
    args: Vec<u8>,
}

/// What is known of a list of launches.
struct Known {
    graph: Option<sys::CUgraphExec>,
    last_used: u64,
}

/// A card with a stream, the kernels and the pinned buffers.
pub(crate) struct Card {
    device: sys::CUdevice,
    context: sys::CUcontext,
    stream: sys::CUstream,
    modules: Vec<sys::CUmodule>,
    functions: HashMap<&'static str, sys::CUfunction>,
    /// What is allocated.
    pieces: HashSet<u64>,
    stages: Vec<Stage>,
    next_stage: usize,
    /// Dynamic and static shared memory that a block may have.
    most_shared: i32,
    processors: i32,
    about: String,
    recording: bool,
    step: Launches,
    known: HashMap<Launches, Known>,
    steps: u64,
    failed: Option<String>,
    /// Whether `failed` is the end: the driver is not called any more, since a card that is gone may not return.
    lost: bool,
}

// SAFETY: handles of the driver may be used from any thread; each method makes the context current on its own. The
// pinned buffers belong to this card alone.
unsafe impl Send for Card {}

/// What the driver said.
fn words(what: &str, refusal: Refusal) -> String {
    let code = refusal.0 as u32;
    match refusal.error_string() {
        Ok(words) => format!("{what}: {} (CUDA error {code})", words.to_string_lossy()),
        Err(_) => format!("{what}: CUDA error {code}"),
    }
}

/// What is not there, by what the driver said.
fn missing(what: &str) -> impl FnOnce(Refusal) -> DriverError {
    move |refusal| DriverError::Missing(words(what, refusal))
}

/// The version of CUDA that the driver is for, in thousands.
fn driver_version() -> Result<i32, DriverError> {
    let mut version = 0;
    // SAFETY: writes one integer.
    unsafe { sys::cuDriverGetVersion(&raw mut version) }.result().map_err(missing("its version"))?;
    Ok(version)
}

fn shown(version: i32) -> String {
    format!("{}.{}", version / 1000, version % 1000 / 10)
}

impl Card {
    /// Opens the driver, and counts its cards.
    ///
    /// # Errors
    /// [`DriverError::Missing`] says what is not there.
    pub(crate) fn count() -> Result<usize, DriverError> {
        // SAFETY: loads the driver's library, whose initialisers are NVIDIA's.
        if !unsafe { sys::is_culib_present() } {
            return Err(DriverError::Missing(
                "the NVIDIA driver (libcuda) is not installed on this machine".to_owned(),
            ));
        }
        result::init().map_err(missing("the NVIDIA driver does not start"))?;
        let version = driver_version()?;
        if version < OLDEST_DRIVER {
            let version = shown(version);
            return Err(DriverError::Missing(format!(
                "the NVIDIA driver is for CUDA {version}; this program needs 13.0, driver 580 or later"
            )));
        }
        let count = result::device::get_count().map_err(missing("counting cards"))?;
        Ok(usize::try_from(count).unwrap_or(0))
    }

    /// Opens the driver and card `number`.
    ///
    /// # Errors
    /// [`DriverError::Missing`] says what is not there.
    pub(crate) fn open(number: usize) -> Result<Card, DriverError> {
        let count = Self::count()?;
        let ordinal = i32::try_from(number).ok().filter(|_| number < count).ok_or_else(|| {
            DriverError::Missing(format!("card {number} was asked for, the driver knows {count}"))
        })?;
        let device = result::device::get(ordinal).map_err(missing("the card"))?;
        let name = result::device::get_name(device).map_err(missing("the card's name"))?;
        // SAFETY: `device` is one of the driver's.
        let attribute = |which| unsafe { result::device::get_attribute(device, which) };
        use sys::CUdevice_attribute as A;
        let capability = || -> Result<i32, Refusal> {
            Ok(10 * attribute(A::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?
                + attribute(A::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?)
        };
        let capability = capability().map_err(missing("the card's capability"))?;
        if capability < OLDEST_CARD {
            return Err(DriverError::Missing(format!(
                "{name} has compute capability {}.{}, the oldest that works is 7.5",
                capability / 10,
                capability % 10
            )));
        }
        let most_shared = attribute(A::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)
            .map_err(missing("the card's shared memory"))?;
        let processors = attribute(A::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)
            .map_err(missing("the card's multiprocessors"))?;
        // SAFETY: `device` is one of the driver's.
        let total = unsafe { result::device::total_mem(device) }.map_err(missing("the card's memory"))?;
        // SAFETY: as above; released when the card is dropped.
        let context =
            unsafe { result::primary_ctx::retain(device) }.map_err(missing("the card's context"))?;
        let mut card = Card {
            device,
            context,
            stream: std::ptr::null_mut(),
            modules: Vec::new(),
            functions: HashMap::new(),
            pieces: HashSet::new(),
            stages: Vec::new(),
            next_stage: 0,
            most_shared,
            processors,
            about: format!("{name}, {} GB, driver {}", total / 1_000_000_000, shown(driver_version()?)),
            recording: false,
            step: Launches::default(),
            known: HashMap::new(),
            steps: 0,
            failed: None,
            lost: false,
        };
        card.set_up().map_err(|message| DriverError::Missing(format!("{name}: {message}")))?;
        Ok(card)
    }

    /// Makes the stream, the pinned buffers and loads the kernels.
    fn set_up(&mut self) -> Result<(), String> {
        // SAFETY: the context was retained.
        unsafe { result::ctx::set_current(self.context) }.map_err(|e| words("its context", e))?;
        self.stream = result::stream::create(result::stream::StreamKind::NonBlocking)
            .map_err(|e| words("a stream", e))?;
        for _ in 0..2 {
            // SAFETY: the memory is written before it is read.
            let bytes = unsafe { result::malloc_host(STAGE, 0) }.map_err(|e| words("pinned memory", e))?;
            let flags = sys::CUevent_flags::CU_EVENT_DISABLE_TIMING;
            let done = result::event::create(flags).map_err(|e| words("an event", e))?;
            self.stages.push(Stage { bytes: bytes.cast(), done });
        }
        for fatbin in FATBINS {
            // The driver reads words.
            let mut aligned = vec![0u64; fatbin.len().div_ceil(8)];
            bytemuck::cast_slice_mut(&mut aligned)[..fatbin.len()].copy_from_slice(fatbin);
            // SAFETY: a whole fatbin, as nvcc wrote it.
            let module = unsafe { result::module::load_data(aligned.as_ptr().cast()) }
                .map_err(|e| words("this program has no kernels for this card", e))?;
            self.modules.push(module);
        }
        Ok(())
    }

    fn fail(&mut self, what: &str, refusal: Refusal) {
        self.failed.get_or_insert_with(|| words(what, refusal));
    }

    /// Notes a failure.
    fn check<T>(&mut self, what: &str, outcome: Result<T, Refusal>) -> Option<T> {
        outcome.map_err(|refusal| self.fail(what, refusal)).ok()
    }

    /// Makes the context this thread's; false when nothing can be done any more.
    fn enter(&mut self) -> bool {
        if self.failed.is_some() {
            return false;
        }
        // SAFETY: the context lives as long as the card.
        let entered = unsafe { result::ctx::set_current(self.context) };
        self.check("the card's context", entered).is_some()
    }

    /// A kernel by name.
    fn function(&mut self, name: &'static str) -> Option<sys::CUfunction> {
        if let Some(&function) = self.functions.get(name) {
            return Some(function);
        }
        let text = CString::new(name).expect("kernels have names without zeros");
        let found = self.modules.iter().find_map(|&module| {
            // SAFETY: a loaded module.
            unsafe { result::module::get_function(module, text.clone()) }.ok()
        });
        let Some(function) = found else {
            self.failed.get_or_insert_with(|| format!("there is no kernel {name}"));
            return None;
        };
        use sys::CUfunction_attribute_enum as A;
        // SAFETY: a kernel of a loaded module.
        let own = unsafe {
            result::function::get_function_attribute(function, A::CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES)
        };
        let own = self.check(name, own)?;
        let dynamic = A::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        // SAFETY: as above.
        let set =
            unsafe { result::function::set_function_attribute(function, dynamic, self.most_shared - own) };
        self.check(name, set)?;
        self.functions.insert(name, function);
        Some(function)
    }

    /// Launches one kernel.
    fn launch_one(&mut self, launch: Launch, args: &[u8]) {
        let Some(function) = self.function(launch.kernel) else { return };
        let [x, y, z] = launch.grid;
        let mut params = [args.as_ptr().cast_mut().cast::<c_void>()];
        // SAFETY: the kernel takes one struct, whose bytes are copied now. That it reads and writes only memory that
        // these bytes name is what the tests on the emulation are for.
        let launched = unsafe {
            result::launch_kernel(
                function,
                (x, y, z),
                (launch.threads, 1, 1),
                launch.shared,
                self.stream,
                &mut params,
            )
        };
        if let Err(refusal) = launched {
            self.fail(&format!("kernel {}", launch.kernel), refusal);
        }
    }

    fn launch_all(&mut self, list: &Launches) {
        for &launch in &list.launches {
            let (from, to) = launch.args;
            self.launch_one(launch, &list.args[from..to]);
        }
    }

    /// The list as a graph.
    fn capture(&mut self, list: &Launches) -> Option<sys::CUgraphExec> {
        // Kernels are looked up before: a capture allows nothing else.
        for launch in &list.launches {
            self.function(launch.kernel)?;
        }
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: the card's own stream.
        let begun = unsafe { result::stream::begin_capture(self.stream, mode) };
        self.check("recording a step", begun)?;
        self.launch_all(list);
        // SAFETY: as above.
        let graph = unsafe { result::stream::end_capture(self.stream) };
        let graph = self.check("recording a step", graph)?;
        // SAFETY: a graph that was just captured, and destroyed once.
        let ready = unsafe {
            let ready = result::graph::instantiate(graph, sys::CUgraphInstantiate_flags(0));
            let destroyed = result::graph::destroy(graph);
            destroyed.and(ready)
        };
        self.check("recording a step", ready)
    }

    /// Forgets the list that was used longest ago.
    fn forget_one(&mut self) {
        let oldest = self.known.iter().min_by_key(|(_, known)| known.last_used).map(|(list, _)| list.clone());
        if let Some(Known { graph: Some(graph), .. }) = oldest.and_then(|list| self.known.remove(&list)) {
            self.wait();
            // SAFETY: an instantiated graph that no longer runs and that nobody else has.
            let destroyed = unsafe { result::graph::exec_destroy(graph) };
            self.check("forgetting a step", destroyed);
        }
    }

    fn wait(&mut self) {
        // SAFETY: the card's own stream.
        let waited = unsafe { result::stream::synchronize(self.stream) };
        self.check(WAITING, waited);
    }

    /// Launches what has been recorded.
    fn run_step(&mut self, list: Launches) {
        self.steps += 1;
        let steps = self.steps;
        let graph = match self.known.get_mut(&list) {
            None => {
                if self.known.len() >= REMEMBERED {
                    self.forget_one();
                }
                self.launch_all(&list);
                self.known.insert(list, Known { graph: None, last_used: steps });
                return;
            }
            Some(known) => {
                known.last_used = steps;
                known.graph
            }
        };
        let Some(graph) = graph.or_else(|| self.capture(&list)) else { return };
        // SAFETY: an instantiated graph and the card's own stream.
        let launched = unsafe { result::graph::launch(graph, self.stream) };
        self.check("a recorded step", launched);
        if let Some(known) = self.known.get_mut(&list) {
            known.graph = Some(graph);
        }
    }
}

impl Driver for Card {
    fn describe(&self) -> String {
        self.about.clone()
    }

    fn limits(&self) -> CardLimits {
        CardLimits { shared: self.most_shared as usize, processors: self.processors as usize }
    }

    fn free_memory(&mut self) -> Option<FreeMemory> {
        if !self.enter() {
            return None;
        }
        let (free, total) = self.check("asking for free memory", result::mem_get_info())?;
        Some(FreeMemory { free, total })
    }

    fn alloc(&mut self, bytes: usize) -> Result<Memory, DriverError> {
        if !self.enter() {
            let message = self.failed.clone().unwrap_or_default();
            return Err(if self.lost { DriverError::Lost(message) } else { DriverError::Failed(message) });
        }
        // SAFETY: the memory is zeroed before anything reads it; the driver aligns it to 256 bytes.
        let memory = unsafe { result::malloc_sync(bytes.max(1)) }.map_err(|refusal| match refusal.0 {
            sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY => DriverError::OutOfMemory(bytes),
            _ => DriverError::Failed(words("allocating memory", refusal)),
        })?;
        self.pieces.insert(memory);
        // SAFETY: the memory was just allocated with at least this size.
        let zeroed = unsafe { result::memset_d8_async(memory, 0, bytes.max(1), self.stream) };
        self.check("clearing memory", zeroed);
        Ok(Memory(memory))
    }

    fn free(&mut self, memory: Memory) {
        self.end_step();
        if !self.enter() {
            return;
        }
        self.wait();
        // Recorded steps may name the memory.
        while !self.known.is_empty() {
            self.forget_one();
        }
        if !self.pieces.remove(&memory.0) {
            self.failed.get_or_insert_with(|| "memory was freed that was not allocated".to_owned());
            return;
        }
        // SAFETY: allocated by `alloc`; nothing that runs or is recorded uses it.
        let freed = unsafe { result::free_sync(memory.0) };
        self.check("freeing memory", freed);
    }

    fn copy_in(&mut self, to: Memory, offset: usize, bytes: &[u8]) {
        self.end_step();
        if !self.enter() {
            return;
        }
        for (i, piece) in bytes.chunks(STAGE).enumerate() {
            let stage = &self.stages[self.next_stage];
            let (staged, done) = (stage.bytes, stage.done);
            self.next_stage = (self.next_stage + 1) % self.stages.len();
            // SAFETY: the buffer is the card's own and has room for a piece; the card has read what was in it before.
            let copied = unsafe {
                result::event::synchronize(done).and_then(|()| {
                    std::ptr::copy_nonoverlapping(piece.as_ptr(), staged, piece.len());
                    let from = std::slice::from_raw_parts(staged, piece.len());
                    result::memcpy_htod_async(to.at(offset + i * STAGE).0, from, self.stream)?;
                    result::event::record(done, self.stream)
                })
            };
            if self.check(WAITING, copied).is_none() {
                return;
            }
        }
    }

    fn copy_out(&mut self, from: Memory, offset: usize, bytes: &mut [u8]) {
        self.end_step();
        if !self.enter() {
            return;
        }
        for (i, piece) in bytes.chunks_mut(STAGE).enumerate() {
            let staged = self.stages[self.next_stage].bytes;
            // SAFETY: the stream is waited for, so nothing else uses the buffer when the bytes are taken from it; it has
            // room for a piece. What was to go in through it has gone in, in stream order.
            let copied = unsafe {
                let to = std::slice::from_raw_parts_mut(staged, piece.len());
                result::memcpy_dtoh_async(to, from.at(offset + i * STAGE).0, self.stream).and_then(|()| {
                    result::stream::synchronize(self.stream)?;
                    std::ptr::copy_nonoverlapping(staged, piece.as_mut_ptr(), piece.len());
                    Ok(())
                })
            };
            if self.check(WAITING, copied).is_none() {
                return;
            }
        }
    }

    fn launch(&mut self, kernel: &'static str, grid: [u32; 3], threads: u32, shared: u32, args: &[u8]) {
        let launch = |at: usize| Launch { kernel, grid, threads, shared, args: (at, at + args.len()) };
        if self.recording {
            let at = self.step.args.len();
            self.step.args.extend_from_slice(args);
            self.step.launches.push(launch(at));
        } else if self.enter() {
            self.launch_one(launch(0), args);
        }
    }

    fn begin_step(&mut self) {
        self.recording = true;
    }

    fn end_step(&mut self) {
        self.recording = false;
        if !self.step.launches.is_empty() {
            let step = std::mem::take(&mut self.step);
            if self.enter() {
                self.run_step(step);
            }
        }
    }

    fn synchronize(&mut self) -> Result<(), DriverError> {
        self.end_step();
        if self.enter() {
            self.wait();
        }
        let Some(message) = self.failed.clone() else { return Ok(()) };
        // What a kernel or the card itself broke stays broken: the driver says so of every call in this process.
        if !self.lost {
            // SAFETY: the context lives as long as the card, and the stream is its own.
            let again = unsafe {
                result::ctx::set_current(self.context).and_then(|()| result::stream::synchronize(self.stream))
            };
            self.lost = again.is_err();
        }
        if self.lost {
            return Err(DriverError::Lost(message));
        }
        self.failed = None;
        Err(DriverError::Failed(message))
    }
}

impl Drop for Card {
    fn drop(&mut self) {
        if self.lost {
            return;
        }
        // Nobody is left to be told of a failure, and the process may be ending.
        // SAFETY: each handle is destroyed once, after the stream has nothing to do any more.
        unsafe {
            let _ = result::ctx::set_current(self.context);
            let _ = result::stream::synchronize(self.stream);
            for known in self.known.values() {
                if let Some(graph) = known.graph {
                    let _ = result::graph::exec_destroy(graph);
                }
            }
            for stage in &self.stages {
                let _ = result::event::destroy(stage.done);
                let _ = result::free_host(stage.bytes.cast());
            }
            for &piece in &self.pieces {
                let _ = result::free_sync(piece);
            }
            for &module in &self.modules {
                let _ = result::module::unload(module);
            }
            if !self.stream.is_null() {
                let _ = result::stream::destroy(self.stream);
            }
            let _ = result::primary_ctx::release(self.device);
        }
    }
}
