//! Ending in good order: long writing asks now and then whether somebody wants it to stop, so that the half of a file is
//! removed on the way out.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{
    SIGALRM, SIGHUP, SIGINT, SIGPROF, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGVTALRM, SIGXCPU, SIGXFSZ,
};
use signal_hook::flag;

/// The signals that end a program which does not listen, but for those that report a fault of its own.
const ENDING: [i32; 11] =
    [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGALRM, SIGPROF, SIGUSR1, SIGUSR2, SIGVTALRM, SIGXCPU, SIGXFSZ];

/// Whether a signal wants the program to end.
#[derive(Clone)]
pub(crate) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Listens from now on. A second signal ends the program at once.
    pub(crate) fn listen() -> io::Result<Self> {
        const STATUS: i32 = 130;
        let stop = Arc::new(AtomicBool::new(false));
        let ignored = ignored();
        // What `nohup` and the like have switched off stays so.
        for signal in ENDING.into_iter().filter(|signal| ignored >> (signal - 1) & 1 == 0) {
            flag::register_conditional_shutdown(signal, STATUS, Arc::clone(&stop))?;
            flag::register(signal, Arc::clone(&stop))?;
        }
        Ok(Interrupt(stop))
    }

    /// Whether there was a signal.
    pub(crate) fn is_asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// The error of somebody who was writing, once there was a signal.
    pub(crate) fn check(&self) -> io::Result<()> {
        if self.is_asked() {
            return Err(io::Error::new(io::ErrorKind::Interrupted, "interrupted; nothing is written"));
        }
        Ok(())
    }
}

/// The signals that this process was started without, a bit each from the lowest on, where the system tells (Linux's
/// proc(5), `SigIgn`).
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}
