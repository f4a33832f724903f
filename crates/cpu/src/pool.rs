//! The thread pool: every thread runs the same task once, with its index, and the caller is thread 0.
//!
//! It is made for a step of a decoder: hundreds of short tasks in a row. Workers spin between tasks, so that one is
//! handed over in a tenth of a microsecond, and park when nothing came for [`SPIN`]. It is deliberately not a work
//! queue and does not steal: how work is split belongs to the kernels.

use crate::{os, topology::Topology};
use std::any::Any;
use std::cell::{Cell, UnsafeCell};
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// More threads than this are never started.
pub(crate) const MAX_THREADS: usize = 1024;

/// How long a worker spins before it parks: longer than the pause between two steps of a generation (sampling), so
/// that a whole generation runs without waking a sleeping thread, which takes 60 us and more.
const SPIN: Duration = Duration::from_millis(1);

/// Turns of the spin loop between two looks at the clock.
const TURNS: u32 = 32;

/// Whether some living pool has pinned its workers. Two pools pinned to the same cores would take turns on them while
/// other cores idle, so only the first one pins.
static PINNED: AtomicBool = AtomicBool::new(false);

type Task = &'static (dyn Fn(usize) + Sync);

/// A fixed set of threads that run a task together.
///
/// It is `Send` but not `Sync`: a task cannot start another task on the pool that runs it.
pub(crate) struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    pinned: bool,
    not_sync: PhantomData<Cell<()>>,
}

/// What the threads share.
struct Shared {
    order: Order,
    seats: Box<[Seat]>,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    spin: Duration,
}

/// The task of the current epoch; `None` tells the workers to end.
#[repr(align(128))]
struct Order {
    epoch: AtomicU32,
    task: UnsafeCell<Option<Task>>,
}

/// A worker's own cache lines (two, because processors fetch them in pairs).
#[repr(align(128))]
#[derive(Default)]
struct Seat {
    /// The last epoch whose task the worker has finished.
    done: AtomicU32,
    /// Set while the worker sleeps or is about to.
    parked: AtomicBool,
}

// SAFETY: `order.task` is the only part that is not Sync by itself. It is written by the pool's owner alone, and only
// while no worker reads it: a worker reads it once after it has seen a new epoch (stored after the write, with
// release order) and before it stores that epoch in `done`, for which the owner waits before the next write.
unsafe impl Sync for Shared {}

impl Pool {
    /// Starts `threads - 1` workers, each pinned to a core of its own where the system allows that and no other pool
    /// of the process has done it. Fewer when the system refuses to start them: see [`Pool::threads`].
    pub(crate) fn new(threads: usize) -> Pool {
        let threads = threads.clamp(1, MAX_THREADS);
        let topology = Topology::detect();
        let placement = topology.placement(threads);
        let room = threads <= topology.cpus();
        let shared = Arc::new(Shared {
            order: Order { epoch: AtomicU32::new(0), task: UnsafeCell::new(None) },
            seats: (1..threads).map(|_| Seat::default()).collect(),
            panic: Mutex::new(None),
            spin: if room { SPIN } else { Duration::ZERO },
        });
        let pinned = threads > 1 && room && !PINNED.swap(true, Ordering::Relaxed);
        let mut workers = Vec::with_capacity(threads - 1);
        for index in 1..threads {
            let shared = Arc::clone(&shared);
            let cpu = placement.get(index).map(|place| place.cpu).filter(|_| pinned);
            let body = move || {
                if let Some(cpu) = cpu {
                    os::pin_to(cpu);
                }
                shared.work(index);
            };
            match thread::Builder::new().name(format!("glimmer-cpu-{index}")).spawn(body) {
                Ok(worker) => workers.push(worker),
                Err(_) => break,
            }
        }
        Pool { shared, workers, pinned, not_sync: PhantomData }
    }

    /// How many threads run a task, the caller's included.
    pub(crate) fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Runs `task(index)` once for each `index` below [`Pool::threads`], `task(0)` on the calling thread, and returns
    /// when all are done.
    ///
    /// # Panics
    /// When a task panicked, with its payload, after all threads have come to their end.
    pub(crate) fn run(&self, task: &(dyn Fn(usize) + Sync)) {
        if self.workers.is_empty() {
            return task(0);
        }
        // SAFETY: only the lifetime changes. No worker uses the reference after it has reported the epoch done, and
        // this function does not return or unwind before every worker has.
        let task: Task = unsafe { std::mem::transmute::<&(dyn Fn(usize) + Sync), Task>(task) };
        let epoch = self.publish(Some(task));
        let mine = catch_unwind(AssertUnwindSafe(|| task(0)));
        for seat in &self.shared.seats[..self.workers.len()] {
            let mut turns = 0u32;
            while seat.done.load(Ordering::Acquire) != epoch {
                turns = turns.saturating_add(1);
                // Much longer than any imbalance of a split: the worker has lost its core to somebody.
                if turns < 20_000 { std::hint::spin_loop() } else { thread::yield_now() }
            }
        }
        let theirs = self.shared.panic.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(payload) = mine.err().or(theirs) {
            resume_unwind(payload);
        }
    }

    /// Gives the workers a new order and wakes those that sleep. All must have finished the one before.
    fn publish(&self, task: Option<Task>) -> u32 {
        let order = &self.shared.order;
        // SAFETY: no worker reads the cell now, see `Sync for Shared`; `Pool` is not Sync, so no other owner writes.
        unsafe { *order.task.get() = task };
        let epoch = order.epoch.load(Ordering::Relaxed).wrapping_add(1);
        // SeqCst here and in `wait`: either the worker sees the epoch before it sleeps, or it is seen to be parked.
        order.epoch.store(epoch, Ordering::SeqCst);
        for (seat, worker) in self.shared.seats.iter().zip(&self.workers) {
            if seat.parked.load(Ordering::SeqCst) {
                worker.thread().unpark();
            }
        }
        epoch
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.publish(None);
        for worker in self.workers.drain(..) {
            // A worker catches the panics of tasks, so there is nothing to hear here.
            let _ = worker.join();
        }
        if self.pinned {
            PINNED.store(false, Ordering::Relaxed);
        }
    }
}

impl Shared {
    /// A worker's life.
    fn work(&self, index: usize) {
        let seat = &self.seats[index - 1];
        let mut epoch = 0;
        loop {
            epoch = self.wait(seat, epoch);
            // SAFETY: the epoch is new, so the owner has written the task before it and waits for `done` below.
            let Some(task) = (unsafe { *self.order.task.get() }) else { return };
            if let Err(payload) = catch_unwind(AssertUnwindSafe(|| task(index))) {
                self.panic.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(payload);
            }
            seat.done.store(epoch, Ordering::Release);
        }
    }

    /// Waits for an epoch other than `last`: spinning at first, then asleep.
    fn wait(&self, seat: &Seat, last: u32) -> u32 {
        let mut since = None;
        loop {
            for _ in 0..TURNS {
                let epoch = self.order.epoch.load(Ordering::Acquire);
                if epoch != last {
                    return epoch;
                }
                std::hint::spin_loop();
            }
            if since.get_or_insert_with(Instant::now).elapsed() >= self.spin {
                break;
            }
        }
        seat.parked.store(true, Ordering::SeqCst);
        let epoch = loop {
            let epoch = self.order.epoch.load(Ordering::SeqCst);
            if epoch != last {
                break epoch;
            }
            thread::park();
        };
        seat.parked.store(false, Ordering::Relaxed);
        epoch
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[test]
    fn every_thread_runs_the_task_once() {
        for threads in [1, 2, 3, 7] {
            let pool = Pool::new(threads);
            assert_eq!(pool.threads(), threads);
            let runs: Vec<AtomicUsize> = (0..threads).map(|_| AtomicUsize::new(0)).collect();
            for round in 1..=200 {
                pool.run(&|i| {
                    runs[i].fetch_add(1, Ordering::Relaxed);
                });
                assert!(runs.iter().all(|r| r.load(Ordering::Relaxed) == round), "{threads} threads");
            }
        }
    }

    #[test]
    fn what_a_task_writes_is_seen_by_the_next() {
        let pool = Pool::new(2);
        let cells: Vec<AtomicUsize> = (0..2).map(|_| AtomicUsize::new(0)).collect();
        for round in 0..500 {
            pool.run(&|i| {
                // Each thread reads what the other one wrote in the round before.
                assert_eq!(cells[1 - i].load(Ordering::Relaxed), round);
            });
            pool.run(&|i| cells[i].store(round + 1, Ordering::Relaxed));
        }
    }

    #[test]
    fn parked_workers_wake() {
        let pool = Pool::new(3);
        for _ in 0..3 {
            thread::sleep(Duration::from_millis(5));
            let count = AtomicUsize::new(0);
            pool.run(&|_| {
                count.fetch_add(1, Ordering::Relaxed);
            });
            assert_eq!(count.into_inner(), 3);
        }
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_lives_on() {
        let pool = Pool::new(3);
        for culprit in 0..3 {
            let count = AtomicUsize::new(0);
            let result = catch_unwind(AssertUnwindSafe(|| {
                pool.run(&|i| {
                    count.fetch_add(1, Ordering::Relaxed);
                    if i == culprit {
                        resume_unwind(Box::new("this thread gives up"));
                    }
                });
            }));
            assert_eq!(result.unwrap_err().downcast_ref(), Some(&"this thread gives up"));
            assert_eq!(count.into_inner(), 3);
        }
        pool.run(&|_| ());
    }

    #[test]
    fn a_pool_moves_between_threads_and_ends_while_parked() {
        let pool = Pool::new(2);
        let pool = thread::spawn(move || {
            pool.run(&|_| ());
            pool
        })
        .join()
        .unwrap();
        thread::sleep(Duration::from_millis(5));
        drop(pool);
    }
}
