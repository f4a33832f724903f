//! The machine that is none: kernels compiled by a C++ compiler and run on this processor (`kernels/emulation.h`).

use crate::driver::{CardLimits, Driver, DriverError, Memory};
use glimmer_tensor::FreeMemory;
use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::collections::HashMap;
use std::ffi::{CStr, CString, c_char, c_void};

/// A kernel as the emulation knows it.
#[repr(C)]
struct Kernel {
    _private: [u8; 0],
}

unsafe extern "C" {
    fn emulation_find(name: *const c_char) -> *const Kernel;
    fn emulation_args_bytes(kernel: *const Kernel) -> usize;
    fn emulation_launch(
        kernel: *const Kernel,
        grid: *const u32,
        threads: u32,
        shared: u32,
        args: *const c_void,
    ) -> *const c_char;
    fn emulation_test() -> *const c_char;
}

/// What memory is aligned to.
const ALIGNMENT: usize = 256;

/// Bytes before and after each piece of memory that no kernel may touch.
const FENCE: usize = ALIGNMENT;

/// What lies there.
const FENCE_BYTE: u8 = 0xa5;

/// Its memory unless [`VARIABLE`] says otherwise.
const MEMORY: usize = 1 << 36;

/// The bytes of memory of each card, separated by commas: how many there are, and how large.
const VARIABLE: &str = "GLIMMER_EMULATED_MEMORY";

/// Kernels that it launches before it is lost, where this variable says so: for tests of what becomes of a program then.
const LIFE: &str = "GLIMMER_EMULATED_KERNELS";

/// Shared memory of a block: `MAX_SHARED` in `kernels/emulation.h`.
const MOST_SHARED: usize = 99 << 10;

/// Multiprocessors that it claims: a few, so that small tests meet both sides of what depends on them.
const PROCESSORS: usize = 4;

/// The emulated machine. Kernels run when they are launched.
pub(crate) struct Emulated {
    /// Bytes of memory that it has, and those that are left.
    total: usize,
    memory: usize,
    /// Each piece of memory: what lies between its fences, by address.
    pieces: HashMap<u64, usize>,
    /// Kernels that it still launches.
    life: u64,
    failed: Option<String>,
}

impl Default for Emulated {
    fn default() -> Self {
        Emulated::with_memory(Self::sizes()[0])
    }
}

impl Emulated {
    /// A card with so many bytes of memory.
    pub(crate) fn with_memory(memory: usize) -> Self {
        let life = std::env::var(LIFE).ok().and_then(|kernels| kernels.parse().ok());
        let life = life.unwrap_or(u64::MAX);
        Emulated { total: memory, memory, pieces: HashMap::new(), life, failed: None }
    }

    /// The cards that there are, each by its bytes of memory.
    pub(crate) fn sizes() -> Vec<usize> {
        let text = std::env::var(VARIABLE).unwrap_or_default();
        let sizes: Vec<usize> = text.split(',').filter_map(|size| size.trim().parse().ok()).collect();
        if sizes.is_empty() { vec![MEMORY] } else { sizes }
    }

    /// Card `number` of them.
    #[cfg(not(feature = "cuda"))]
    pub(crate) fn open(number: usize) -> Result<Self, DriverError> {
        let sizes = Self::sizes();
        let memory = sizes.get(number).copied().ok_or_else(|| {
            DriverError::Missing(format!("card {number} was asked for, the emulation has {}", sizes.len()))
        })?;
        Ok(Self::with_memory(memory))
    }

    fn fail(&mut self, message: String) {
        self.failed.get_or_insert(message);
    }

    fn layout(bytes: usize) -> Layout {
        Layout::from_size_align(bytes.next_multiple_of(ALIGNMENT) + 2 * FENCE, ALIGNMENT)
            .expect("a size below any memory and an alignment that is a power of two")
    }

    /// The two fences of a piece.
    fn fences(at: u64, bytes: usize) -> [(*mut u8, usize); 2] {
        let start = at as *mut u8;
        let tail = bytes.next_multiple_of(ALIGNMENT) - bytes + FENCE;
        [(start.wrapping_sub(FENCE), FENCE), (start.wrapping_add(bytes), tail)]
    }

    /// The first piece around which something was written.
    fn torn(&self) -> Option<String> {
        self.pieces.iter().find_map(|(&at, &bytes)| {
            let whole = Self::fences(at, bytes).iter().all(|&(fence, len)| {
                // SAFETY: the fences lie inside the allocation of this piece, which is alive.
                unsafe { std::slice::from_raw_parts(fence, len) }.iter().all(|&b| b == FENCE_BYTE)
            });
            (!whole).then(|| format!("a kernel wrote outside a piece of {bytes} bytes"))
        })
    }

    /// Whether `bytes` bytes from `memory` on lie in one piece.
    fn holds(&self, memory: u64, bytes: usize) -> bool {
        self.pieces.iter().any(|(&at, &len)| memory >= at && memory + bytes as u64 <= at + len as u64)
    }
}

impl Drop for Emulated {
    fn drop(&mut self) {
        for (&at, &bytes) in &self.pieces {
            // SAFETY: `at - FENCE` was returned for this layout, and each piece is freed once.
            unsafe { dealloc((at as *mut u8).wrapping_sub(FENCE), Self::layout(bytes)) };
        }
    }
}

impl Driver for Emulated {
    fn describe(&self) -> String {
        "an NVIDIA card emulated by the processor".to_owned()
    }

    fn limits(&self) -> CardLimits {
        CardLimits { shared: MOST_SHARED, processors: PROCESSORS }
    }

    fn free_memory(&mut self) -> Option<FreeMemory> {
        Some(FreeMemory { free: self.memory, total: self.total })
    }

    fn alloc(&mut self, bytes: usize) -> Result<Memory, DriverError> {
        if bytes > self.memory {
            return Err(DriverError::OutOfMemory(bytes));
        }
        // SAFETY: the layout is not empty.
        let start = unsafe { alloc_zeroed(Self::layout(bytes)) };
        if start.is_null() {
            return Err(DriverError::OutOfMemory(bytes));
        }
        let at = start.wrapping_add(FENCE) as u64;
        for (fence, len) in Self::fences(at, bytes) {
            // SAFETY: the fences lie inside the allocation.
            unsafe { std::ptr::write_bytes(fence, FENCE_BYTE, len) };
        }
        self.pieces.insert(at, bytes);
        self.memory -= bytes;
        Ok(Memory(at))
    }

    fn free(&mut self, memory: Memory) {
        if let Some(torn) = self.torn() {
            self.fail(torn);
        }
        match self.pieces.remove(&memory.0) {
            Some(bytes) => {
                self.memory += bytes;
                // SAFETY: the piece was allocated with this layout and is forgotten.
                unsafe { dealloc((memory.0 as *mut u8).wrapping_sub(FENCE), Self::layout(bytes)) };
            }
            None => self.fail("memory was freed that was not allocated".to_owned()),
        }
    }

    fn copy_in(&mut self, to: Memory, offset: usize, bytes: &[u8]) {
        let to = to.at(offset).0;
        if !self.holds(to, bytes.len()) {
            return self.fail(format!("{} bytes copied in to where no memory is", bytes.len()));
        }
        // SAFETY: the bytes lie in a live piece, which nobody else reads while no kernel runs.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to as *mut u8, bytes.len()) };
    }

    fn copy_out(&mut self, from: Memory, offset: usize, bytes: &mut [u8]) {
        let from = from.at(offset).0;
        if !self.holds(from, bytes.len()) {
            return self.fail(format!("{} bytes copied out from where no memory is", bytes.len()));
        }
        // SAFETY: the bytes lie in a live piece, which nobody writes while no kernel runs.
        unsafe { std::ptr::copy_nonoverlapping(from as *const u8, bytes.as_mut_ptr(), bytes.len()) };
    }

    fn launch(&mut self, kernel: &'static str, grid: [u32; 3], threads: u32, shared: u32, args: &[u8]) {
        if self.failed.is_some() || self.life == 0 {
            return;
        }
        self.life -= 1;
        let name = CString::new(kernel).expect("kernels have names without zeros");
        // SAFETY: a string that ends with zero.
        let found = unsafe { emulation_find(name.as_ptr()) };
        if found.is_null() {
            return self.fail(format!("there is no kernel {kernel}"));
        }
        // SAFETY: the emulation's own pointer.
        let wanted = unsafe { emulation_args_bytes(found) };
        if wanted != args.len() {
            return self.fail(format!("{kernel} takes {wanted} bytes of arguments, not {}", args.len()));
        }
        let (grid, args) = (grid.as_ptr(), args.as_ptr().cast());
        // SAFETY: grid has three numbers, args as many bytes as the kernel takes. That the kernel reads and writes only
        // memory it was given is what tests find out; fences notice part of it.
        let message = unsafe { emulation_launch(found, grid, threads, shared, args) };
        if !message.is_null() {
            // SAFETY: the emulation's message, which lives until this thread's next launch.
            let message = unsafe { CStr::from_ptr(message) }.to_string_lossy().into_owned();
            self.fail(message);
        }
    }

    fn begin_step(&mut self) {}

    fn end_step(&mut self) {}

    fn synchronize(&mut self) -> Result<(), DriverError> {
        if self.life == 0 {
            return Err(DriverError::Lost(
                "the emulated card has had its last kernel (GLIMMER_CUDA_WATCH=1 names it)".to_owned(),
            ));
        }
        if let Some(torn) = self.torn() {
            self.fail(torn);
        }
        self.failed.take().map_or(Ok(()), |message| Err(DriverError::Failed(message)))
    }
}

/// Tries the emulation's own machinery: barriers, shuffles, products, copies, and what it reports.
///
/// # Errors
/// What does not hold.
pub fn try_emulation() -> Result<(), String> {
    // SAFETY: takes nothing and returns a string that lives until it is called again, or null.
    let complaint = unsafe { emulation_test() };
    if complaint.is_null() {
        return Ok(());
    }
    // SAFETY: as above.
    Err(unsafe { CStr::from_ptr(complaint) }.to_string_lossy().into_owned())
}
