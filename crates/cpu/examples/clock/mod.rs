//! The time that a measurement takes: of the thread where it is alone, of the world where others work for it.

use std::time::Instant;

/// A clock.
pub(crate) struct Clock {
    start: Instant,
    own: bool,
}

impl Clock {
    /// The clock for work on `threads` threads.
    pub(crate) fn of(threads: usize) -> Self {
        Clock { start: Instant::now(), own: threads == 1 }
    }

    /// Seconds since some moment.
    pub(crate) fn now(&self) -> f64 {
        #[cfg(unix)]
        if self.own {
            let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
            // SAFETY: the call writes a timespec, which `time` is.
            unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
            return time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9;
        }
        self.start.elapsed().as_secs_f64()
    }
}
