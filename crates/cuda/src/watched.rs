//! A machine that is watched: it waits for each kernel, so that what goes wrong is known by the kernel's name. Slow; asked
//! for by [`VARIABLE`] when a kernel is to be found that fails or gives wrong numbers.

use crate::driver::{CardLimits, Driver, DriverError, Memory};
use glimmer_tensor::FreeMemory;

/// Set to anything but nothing or 0, has every machine watched.
pub(crate) const VARIABLE: &str = "GLIMMER_CUDA_WATCH";

/// The machine, watched where that was asked for.
pub(crate) fn watched(driver: Box<dyn Driver>) -> Box<dyn Driver> {
    let wanted = std::env::var_os(VARIABLE).is_some_and(|value| !value.is_empty() && value != "0");
    if wanted { Box::new(Watched { driver, kernels: Vec::new(), failed: None }) } else { driver }
}

struct Watched {
    driver: Box<dyn Driver>,
    /// Launched since the last wait.
    kernels: Vec<&'static str>,
    failed: Option<DriverError>,
}

impl Watched {
    /// Waits; what has gone wrong is put down to `kernel`.
    fn look(&mut self, kernel: Option<&'static str>) {
        if let Err(error) = self.driver.synchronize() {
            self.failed.get_or_insert(match (kernel, error) {
                (Some(kernel), DriverError::Lost(message)) => {
                    DriverError::Lost(format!("kernel {kernel}: {message}"))
                }
                (Some(kernel), error) => DriverError::Failed(format!("kernel {kernel}: {error}")),
                (None, error) => error,
            });
        }
    }

    /// Shows the kernels since the last wait: a test's last line is about the numbers that it then finds wrong.
    #[allow(clippy::print_stderr, reason = "asked for by a variable")]
    fn show(&mut self) {
        if !self.kernels.is_empty() {
            eprintln!("kernels: {}", self.kernels.join(" "));
            self.kernels.clear();
        }
    }
}

impl Driver for Watched {
    fn describe(&self) -> String {
        self.driver.describe()
    }

    fn limits(&self) -> CardLimits {
        self.driver.limits()
    }

    fn free_memory(&mut self) -> Option<FreeMemory> {
        self.driver.free_memory()
    }

    fn alloc(&mut self, bytes: usize) -> Result<Memory, DriverError> {
        self.driver.alloc(bytes)
    }

    fn free(&mut self, memory: Memory) {
        self.driver.free(memory);
    }

    fn copy_in(&mut self, to: Memory, offset: usize, bytes: &[u8]) {
        self.driver.copy_in(to, offset, bytes);
    }

    fn copy_out(&mut self, from: Memory, offset: usize, bytes: &mut [u8]) {
        self.driver.copy_out(from, offset, bytes);
    }

    fn launch(&mut self, kernel: &'static str, grid: [u32; 3], threads: u32, shared: u32, args: &[u8]) {
        self.look(None);
        if self.failed.is_none() {
            self.kernels.push(kernel);
            self.driver.launch(kernel, grid, threads, shared, args);
            self.look(Some(kernel));
        }
    }

    // A step that is recorded runs as a whole.
    fn begin_step(&mut self) {}

    fn end_step(&mut self) {}

    fn synchronize(&mut self) -> Result<(), DriverError> {
        self.look(None);
        self.show();
        self.failed.take().map_or(Ok(()), Err)
    }
}

#[cfg(all(test, feature = "emulate"))]
mod tests {
    use super::*;
    use crate::args::GatherArgs;
    use crate::driver::launch;
    use crate::emulated::Emulated;

    /// Of three kernels the second writes behind its output: watched, the machine names it, and the third does not run.
    #[test]
    fn the_kernel_that_fails_is_named() {
        let driver = Box::new(Emulated::default());
        let mut machine = Watched { driver, kernels: Vec::new(), failed: None };
        let [count, from, x, out] = [4, 4, 128, 64].map(|bytes| machine.alloc(bytes).expect("memory"));
        machine.copy_in(count, 0, &1u32.to_ne_bytes());
        let args = GatherArgs { count, from, x, out, width: 16, unused: 0 };
        launch(&mut machine, "gather", [1, 1, 1], 32, 0, &args);
        assert_eq!(machine.synchronize(), Ok(()));
        launch(&mut machine, "gather", [1, 1, 1], 32, 0, &GatherArgs { width: 17, ..args });
        launch(&mut machine, "no_such_kernel", [1, 1, 1], 32, 0, &args);
        assert_eq!(machine.kernels, ["gather"]);
        let error = machine.synchronize().unwrap_err().to_string();
        assert!(error.starts_with("kernel gather: a kernel wrote outside a piece of 64 bytes"), "{error}");
    }
}
