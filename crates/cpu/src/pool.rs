//! The thread pool: every thread runs the same task once, with its index, and the caller is thread 0.
//!
//! It is made for a step of a decoder: hundreds of short tasks in a row. Workers spin between tasks, so that one is
//! handed over in a tenth of a microsecond, and park when nothing came for [`SPIN`]. It is deliberately not a work
//! queue and does not steal: how work is split belongs to the kernels.
//!
//! Devices with as many threads share them: two sets on the same cores would take turns at the mercy of the system, each
//! spinning while the other computes. Whoever runs a task takes a turn at them, in the order of asking; a decoder takes one
//! for a whole step, of which it leaves the rest for its next turn when that has lasted [`SLICE`] and somebody waits.

use crate::{os, topology::Topology};
use std::any::Any;
use std::cell::{Cell, UnsafeCell};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::{self, JoinHandle, ThreadId};
use std::time::{Duration, Instant};

/// More threads than this are never started.
pub(crate) const MAX_THREADS: usize = 1024;

/// How long a worker spins before it parks: longer than the pause between two steps of a generation (sampling), so
/// that a whole generation runs without waking a sleeping thread, which takes 60 us and more.
const SPIN: Duration = Duration::from_millis(1);

/// Turns of the spin loop between two looks at the clock.
const TURNS: u32 = 32;

/// Whether some living set has pinned its workers. Two sets pinned to the same cores would take turns on them while
/// other cores idle, so only the first one pins.
static PINNED: AtomicBool = AtomicBool::new(false);

/// How long a turn lasts where others wait: a hundred times what handing it over takes, and so short that a step of one token
/// beside a prompt of another model takes about twice its time.
const SLICE: Duration = Duration::from_millis(10);

/// The sets of threads that some device has, by how many were asked for.
static RUNNING: Mutex<Vec<(usize, Weak<Threads>)>> = Mutex::new(Vec::new());

type Task = &'static (dyn Fn(usize) + Sync);

/// A device's hold on a set of threads that run a task together.
///
/// It is `Send` but not `Sync`: a task cannot start another task on the pool that runs it.
pub(crate) struct Pool {
    threads: Arc<Threads>,
    /// Since when it has a turn that lasts beyond one task.
    turn: Cell<Option<Instant>>,
}

/// A fixed set of threads.
struct Threads {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    pinned: bool,
    turns: Turns,
}

/// Whose turn it is, in the order of asking. A thread that has it may take it again.
#[derive(Default)]
struct Turns {
    line: Mutex<Line>,
    changed: Condvar,
    /// How many wait.
    waiting: AtomicU32,
}

#[derive(Default)]
struct Line {
    /// The number of the next one who asks, and of the one whose turn it is.
    next: u64,
    current: u64,
    holder: Option<ThreadId>,
    /// How often the holder has taken it.
    depth: usize,
}

impl Turns {
    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) {
        let me = thread::current().id();
        let mut line = self.line();
        if line.holder != Some(me) {
            let mine = line.next;
            line.next += 1;
            self.waiting.fetch_add(1, Ordering::Relaxed);
            while line.current != mine {
                line = self.changed.wait(line).unwrap_or_else(PoisonError::into_inner);
            }
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            line.holder = Some(me);
        }
        line.depth += 1;
    }

    fn give(&self) {
        let mut line = self.line();
        line.depth -= 1;
        if line.depth == 0 {
            line.holder = None;
            line.current += 1;
            if line.current != line.next {
                self.changed.notify_all();
            }
        }
    }
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

// SAFETY: `order.task` is the only part that is not Sync by itself. It is written by whoever has the turn alone (turns are
// handed over under a lock), and only while no worker reads it: a worker reads it once after it has seen a new epoch
// (stored after the write, with release order) and before it stores that epoch in `done`, for which the writer waits
// before it gives up the turn.
unsafe impl Sync for Shared {}

impl Pool {
    /// So many threads, the caller's included: those of another device that has as many, or new ones. Fewer when the system
    /// refuses to start them: see [`Pool::threads`].
    pub(crate) fn new(threads: usize) -> Pool {
        let threads = threads.clamp(1, MAX_THREADS);
        let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        running.retain(|(_, set)| set.strong_count() > 0);
        let same = running.iter().find(|(count, _)| *count == threads).and_then(|(_, set)| set.upgrade());
        let threads = same.unwrap_or_else(|| {
            let set = Arc::new(Threads::start(threads));
            running.push((threads, Arc::downgrade(&set)));
            set
        });
        Pool { threads, turn: Cell::new(None) }
    }

    /// How many threads run a task, the caller's included.
    pub(crate) fn threads(&self) -> usize {
        self.threads.workers.len() + 1
    }

    /// Waits for the turn at the threads, and keeps it until [`Pool::end_turn`], or for a [`SLICE`] at a time. A pool without
    /// threads beside the caller's needs none.
    pub(crate) fn begin_turn(&self) {
        if !self.threads.workers.is_empty() && self.turn.get().is_none() {
            self.threads.turns.take();
            self.turn.set(Some(Instant::now()));
        }
    }

    /// Leaves the threads to the next.
    pub(crate) fn end_turn(&self) {
        if self.turn.take().is_some() {
            self.threads.turns.give();
        }
    }

    /// Lets others have the threads that wait for them, where this pool has had them for long enough.
    fn share_turn(&self, since: Instant) {
        if self.threads.turns.waiting.load(Ordering::Relaxed) > 0 && since.elapsed() >= SLICE {
            self.end_turn();
            self.begin_turn();
        }
    }

    /// Runs `task(index)` once for each `index` below [`Pool::threads`], `task(0)` on the calling thread, and returns
    /// when all are done.
    ///
    /// # Panics
    /// When a task panicked, with its payload, after all threads have come to their end.
    pub(crate) fn run(&self, task: &(dyn Fn(usize) + Sync)) {
        if self.threads.workers.is_empty() {
            return task(0);
        }
        let turn = self.turn.get();
        match turn {
            Some(since) => self.share_turn(since),
            None => self.threads.turns.take(),
        }
        let panic = self.threads.run(task);
        if turn.is_none() {
            self.threads.turns.give();
        }
        if let Some(payload) = panic {
            resume_unwind(payload);
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.end_turn();
    }
}

impl Threads {
    /// Starts `threads - 1` workers, each pinned to a core of its own where the system allows that and no other set of the
    /// process has done it.
    fn start(threads: usize) -> Threads {
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
        Threads { shared, workers, pinned, turns: Turns::default() }
    }

    /// Runs a task for whoever has the turn. Returns a panic of one of its threads, after all have come to their end.
    fn run(&self, task: &(dyn Fn(usize) + Sync)) -> Option<Box<dyn Any + Send>> {
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
        mine.err().or(theirs)
    }

    /// Gives the workers a new order and wakes those that sleep. All must have finished the one before.
    fn publish(&self, task: Option<Task>) -> u32 {
        let order = &self.shared.order;
        // SAFETY: no worker reads the cell now, see `Sync for Shared`; nobody else writes, for the turn is the caller's, or the
        // set is being dropped.
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

impl Drop for Threads {
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
    fn devices_with_as_many_threads_share_them() {
        let (a, b) = (Pool::new(5), Pool::new(5));
        assert!(Arc::ptr_eq(&a.threads, &b.threads));
        assert!(!Arc::ptr_eq(&a.threads, &Pool::new(4).threads));
        // A thread that has the turn is not in its own way.
        a.begin_turn();
        b.run(&|_| ());
        b.begin_turn();
        b.end_turn();
        drop(a);
        b.run(&|_| ());
    }

    #[test]
    fn tasks_of_two_pools_never_mix_and_their_turns_alternate() {
        const STEPS: usize = 50;
        let (busy, order) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        let pools = [(); 2].map(|()| Pool::new(3));
        let both = std::sync::Barrier::new(2);
        let task = |_| {
            assert!(busy.fetch_add(1, Ordering::SeqCst) < 3);
            std::hint::spin_loop();
            busy.fetch_sub(1, Ordering::SeqCst);
        };
        thread::scope(|scope| {
            for (index, pool) in pools.into_iter().enumerate() {
                let (task, order, both) = (&task, &order, &both);
                scope.spawn(move || {
                    both.wait();
                    for _ in 0..STEPS {
                        pool.begin_turn();
                        order.lock().unwrap().push(index);
                        (0..20).for_each(|_| pool.run(task));
                        // Long enough for the other to ask.
                        thread::sleep(Duration::from_millis(1));
                        pool.end_turn();
                    }
                });
            }
        });
        let order = order.into_inner().unwrap();
        assert_eq!(order.len(), 2 * STEPS);
        let again = order.windows(2).filter(|pair| pair[0] == pair[1]).count();
        assert!(again < STEPS, "{again} of {order:?}");
    }

    #[test]
    fn a_long_turn_is_shared() {
        let (long, short) = (Pool::new(6), Pool::new(6));
        let begin = Instant::now();
        long.begin_turn();
        let waited = thread::scope(|scope| {
            let other = scope.spawn(move || {
                short.run(&|_| ());
                begin.elapsed()
            });
            while begin.elapsed() < 50 * SLICE && !other.is_finished() {
                long.run(&|_| ());
            }
            long.end_turn();
            other.join().unwrap()
        });
        assert!(waited >= SLICE && waited < 50 * SLICE, "{waited:?}");
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
