//! What the device needs of a machine: memory, copies and launches, in the order in which they are asked for.
//!
//! Two machines implement it: a card through NVIDIA's driver, and the emulation that runs the same kernels on the
//! processor. Neither knows what a kernel computes.

use glimmer_tensor::{DeviceError, FreeMemory};

/// An address in the machine's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(transparent)]
pub(crate) struct Memory(pub(crate) u64);

impl Memory {
    /// No memory: for arguments that a kernel does not read.
    pub(crate) const NULL: Memory = Memory(0);

    /// The address `bytes` further on.
    pub(crate) fn at(self, bytes: usize) -> Memory {
        Memory(self.0 + bytes as u64)
    }
}

/// What a machine can fail at.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DriverError {
    /// There is no machine.
    #[error("no NVIDIA card can be used: {0}")]
    Missing(String),
    /// The memory could not be had.
    #[error("cannot allocate {0} bytes")]
    OutOfMemory(usize),
    /// A call or a kernel failed.
    #[error("{0}")]
    Failed(String),
    /// A call or a kernel failed, and so does everything after it.
    #[error("{0}")]
    Lost(String),
}

impl DriverError {
    /// As a device reports it; `what` the memory was for.
    pub(crate) fn of(self, what: &'static str) -> DeviceError {
        match self {
            DriverError::OutOfMemory(bytes) => DeviceError::OutOfMemory { what, bytes },
            DriverError::Lost(message) => DeviceError::Lost(message),
            other => DeviceError::Failed(other.to_string()),
        }
    }
}

/// What kernels may use of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CardLimits {
    /// Bytes of shared memory of a block, static and dynamic.
    pub(crate) shared: usize,
    /// Multiprocessors.
    pub(crate) processors: usize,
}

/// A machine. Copies and launches return nothing and may run later: what goes wrong is kept, and the next
/// [`Driver::synchronize`] returns it.
pub(crate) trait Driver: Send {
    /// What it is, for people.
    fn describe(&self) -> String;

    /// What kernels may use of it.
    fn limits(&self) -> CardLimits;

    /// What can still be had; `None` where the machine does not tell.
    fn free_memory(&mut self) -> Option<FreeMemory>;

    /// Zeroed memory, aligned to 256 bytes.
    fn alloc(&mut self, bytes: usize) -> Result<Memory, DriverError>;

    /// Gives memory back, once all that was asked for before is done.
    fn free(&mut self, memory: Memory);

    /// Copies bytes in; they may be changed as soon as this returns.
    fn copy_in(&mut self, to: Memory, offset: usize, bytes: &[u8]);

    /// Waits and copies bytes out.
    fn copy_out(&mut self, from: Memory, offset: usize, bytes: &mut [u8]);

    /// Runs a kernel over a grid of blocks of `threads` threads with `shared` bytes of dynamic shared memory. `args` are
    /// the bytes of its argument struct.
    fn launch(&mut self, kernel: &'static str, grid: [u32; 3], threads: u32, shared: u32, args: &[u8]);

    /// Says that what is asked for from here to [`Driver::end_step`] depends on nothing but earlier calls like it: the
    /// machine may record it and repeat it later as a whole.
    fn begin_step(&mut self);

    /// The end of a step.
    fn end_step(&mut self);

    /// Waits for everything.
    ///
    /// # Errors
    /// The first thing that went wrong since the last call; [`DriverError::Lost`] from then on where it is the end.
    fn synchronize(&mut self) -> Result<(), DriverError>;
}

/// Card `number`; in a program that was built for the emulation alone, that.
///
/// # Errors
/// [`DriverError::Missing`] says what is not there.
#[cfg(any(feature = "cuda", feature = "emulate"))]
pub(crate) fn open(number: usize) -> Result<Box<dyn Driver>, DriverError> {
    #[cfg(feature = "cuda")]
    let driver = crate::card::Card::open(number)?;
    #[cfg(not(feature = "cuda"))]
    let driver = crate::emulated::Emulated::open(number)?;
    Ok(crate::watched::watched(Box::new(driver)))
}

/// How many cards there are.
///
/// # Errors
/// [`DriverError::Missing`] when there is no driver.
#[cfg(any(feature = "cuda", feature = "emulate"))]
pub fn cards() -> Result<usize, DriverError> {
    #[cfg(feature = "cuda")]
    let cards = crate::card::Card::count()?;
    #[cfg(not(feature = "cuda"))]
    let cards = crate::emulated::Emulated::sizes().len();
    Ok(cards)
}

/// [`Driver::launch`] with an argument struct.
pub(crate) fn launch<A: bytemuck::NoUninit>(
    driver: &mut dyn Driver,
    kernel: &'static str,
    grid: [u32; 3],
    threads: u32,
    shared: u32,
    args: &A,
) {
    driver.launch(kernel, grid, threads, shared, bytemuck::bytes_of(args));
}
