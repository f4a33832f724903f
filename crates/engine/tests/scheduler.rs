//! The scheduler under hundreds of thousands of random steps: no page is leaked or lent twice, nobody starves, what is
//! computed is computed in order, and a context that attends both ways is never cut.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that cannot go on has failed")]

use std::collections::HashMap;

use glimmer_engine::scheduler::{Limits, Piece, Refusal, Scheduler, Sequence};
use glimmer_tensor::PAGE_SLOTS;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRng, TestRunner};

#[derive(Clone, Debug)]
enum Act {
    /// A prompt made of a few repeated stretches, so that prefixes are shared.
    Submit {
        stretches: Vec<u8>,
        tail: usize,
        answer: usize,
        priority: i32,
        prefix: bool,
    },
    Step,
    /// Drop the n-th living request.
    Cancel(usize),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        3 => (prop::collection::vec(0u8..3, 0..4), 1usize..50, 0usize..90, 0i32..3, any::<bool>())
            .prop_map(|(stretches, tail, answer, priority, prefix)| {
                Act::Submit { stretches, tail, answer, priority, prefix: prefix && priority == 2 }
            }),
        20 => Just(Act::Step),
        1 => (0usize..50).prop_map(Act::Cancel),
    ]
}

/// A request as the test knows it.
struct Wanted {
    prompt: usize,
    answer: usize,
    tokens: Vec<u32>,
    prefix_len: usize,
    waited: usize,
}

struct World {
    scheduler: Scheduler,
    limits: Limits,
    living: HashMap<u64, Wanted>,
    next: u64,
    finished: usize,
}

impl World {
    fn submit(&mut self, stretches: &[u8], tail: usize, answer: usize, priority: i32, prefix: bool) {
        self.next += 1;
        let mut tokens: Vec<u32> =
            stretches.iter().flat_map(|&s| (0..40).map(move |i| u32::from(s) * 100 + i)).collect();
        tokens.extend((0..tail as u32).map(|i| i + self.next as u32 * 1000));
        let prefix_len = if prefix { (tokens.len() - 1).min(self.limits.rows) } else { 0 };
        let sequence = Sequence::new(self.next, tokens.clone(), prefix_len, priority);
        let fits = tokens.len() <= self.limits.context.min(self.scheduler.pool().len() * PAGE_SLOTS);
        match self.scheduler.submit(sequence) {
            Ok(()) => {
                assert!(fits);
                let wanted = Wanted { prompt: tokens.len(), answer, tokens, prefix_len, waited: 0 };
                self.living.insert(self.next, wanted);
            }
            Err(Refusal::TooLong) => assert!(!fits),
            Err(Refusal::QueueFull) => assert!(self.scheduler.waiting() >= self.limits.waiting),
        }
    }

    fn step(&mut self) {
        let plan = self.scheduler.plan();
        self.scheduler.check();
        let rows: usize = plan.iter().map(|p| p.slots.len()).sum();
        assert!(rows <= self.limits.rows);
        assert!(!plan.is_empty() || self.scheduler.is_idle(), "something to do and nothing planned");
        for piece in &plan {
            self.piece(piece, &plan);
        }
        self.scheduler.check();
        for (id, wanted) in &mut self.living {
            wanted.waited = if plan.iter().any(|p| p.id == *id) { 0 } else { wanted.waited + 1 };
        }
    }

    fn piece(&mut self, piece: &Piece, plan: &[Piece]) {
        assert_eq!(plan.iter().filter(|p| p.id == piece.id).count(), 1);
        let s = self.scheduler.sequence(piece.id).expect("planned sequences run");
        let wanted = &self.living[&piece.id];
        assert_eq!(s.tokens, wanted.tokens);
        assert_eq!(piece.slots.start, s.computed);
        assert_eq!(piece.chooses, piece.slots.end == s.tokens.len());
        assert!(s.pages.len() * PAGE_SLOTS >= piece.slots.end);
        assert!(piece.slots.end >= wanted.prefix_len.min(s.tokens.len()), "a context was cut");
        self.scheduler.computed(piece);
        if piece.chooses {
            self.choose(piece.id);
        }
    }

    fn choose(&mut self, id: u64) {
        let wanted = self.living.get_mut(&id).unwrap();
        let token = wanted.tokens.len() as u32 + 7;
        let done = wanted.tokens.len() - wanted.prompt >= wanted.answer;
        if done || !self.scheduler.append(id, token) {
            assert!(
                done || wanted.tokens.len()
                    >= self.limits.context.min(self.scheduler.pool().len() * PAGE_SLOTS)
            );
            assert_eq!(self.scheduler.finish(id).unwrap().tokens, wanted.tokens);
            self.living.remove(&id);
            self.finished += 1;
        } else {
            wanted.tokens.push(token);
        }
    }

    fn cancel(&mut self, n: usize) {
        let mut ids: Vec<u64> = self.living.keys().copied().collect();
        ids.sort_unstable();
        if let Some(&id) = ids.get(n) {
            assert!(self.scheduler.finish(id).is_some());
            assert!(self.scheduler.finish(id).is_none());
            self.living.remove(&id);
        }
        self.scheduler.check();
    }

    /// Everything that lives is served in the end.
    fn settle(&mut self) {
        let mut steps = 0;
        while !self.scheduler.is_idle() {
            self.step();
            steps += 1;
            assert!(steps < 200_000, "{} requests are never finished", self.living.len());
        }
        assert!(self.living.is_empty());
        assert_eq!(self.scheduler.pool().free(), self.scheduler.pool().len());
    }
}

fn run(cases: u32, acts: usize) {
    let steps = std::cell::Cell::new(0usize);
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let limits = (8usize..80, 1usize..12, 1usize..20, 40usize..300, 2usize..24);
    let strategy = (limits, prop::collection::vec(act(), 1..acts));
    TestRunner::new_with_rng(config, TestRng::deterministic_rng(Default::default()))
        .run(&strategy, |((rows, running, waiting, context, pages), acts)| {
            let limits = Limits { rows: rows.max(running), running, waiting, context };
            let scheduler = Scheduler::new(limits, pages);
            let mut world = World { scheduler, limits, living: HashMap::new(), next: 0, finished: 0 };
            for act in acts {
                match act {
                    Act::Submit { stretches, tail, answer, priority, prefix } => {
                        world.submit(&stretches, tail, answer, priority, prefix);
                    }
                    Act::Step => world.step(),
                    Act::Cancel(n) => world.cancel(n),
                }
                steps.set(steps.get() + 1);
            }
            world.settle();
            Ok(())
        })
        .unwrap();
    println!("{} acts", steps.get());
}

#[test]
fn hundreds_of_thousands_of_random_acts() {
    run(400, 2_000);
}

#[test]
fn an_equal_beginning_is_computed_once() {
    let limits = Limits { rows: 512, running: 4, waiting: 4, context: 512 };
    let mut scheduler = Scheduler::new(limits, 32);
    let prompt: Vec<u32> = (0..100).collect();
    scheduler.submit(Sequence::new(1, prompt.clone(), 0, 0)).unwrap();
    let plan = scheduler.plan();
    assert_eq!(plan, [Piece { id: 1, slots: 0..100, chooses: true }]);
    scheduler.computed(&plan[0]);
    // While the first still runs, and after it is gone.
    for (id, gone) in [(2, false), (3, true)] {
        if gone {
            scheduler.finish(1);
        }
        let longer: Vec<u32> = prompt.iter().copied().chain([7, 8, 9]).collect();
        scheduler.submit(Sequence::new(id, longer, 0, 0)).unwrap();
        let plan = scheduler.plan();
        assert_eq!(plan, [Piece { id, slots: 96..103, chooses: true }]);
        assert_eq!(scheduler.sequence(id).unwrap().cached, 96);
        scheduler.computed(&plan[0]);
        scheduler.finish(id);
        scheduler.check();
    }
    // Another beginning, or another bidirectional context, shares nothing.
    let mut other = prompt.clone();
    other[0] = 99;
    for (id, prompt, prefix_len) in [(4, other, 0), (5, prompt, 50)] {
        scheduler.submit(Sequence::new(id, prompt, prefix_len, 0)).unwrap();
        let plan = scheduler.plan();
        assert_eq!(plan[0].slots, 0..100);
        scheduler.computed(&plan[0]);
        scheduler.finish(id);
    }
}

#[test]
fn answers_go_before_prompts_and_priorities_before_arrival() {
    let limits = Limits { rows: 16, running: 8, waiting: 8, context: 512 };
    let mut scheduler = Scheduler::new(limits, 64);
    let sequence = |id, len: u32, priority| {
        Sequence::new(id, (0..len).map(|i| i + id as u32 * 1000).collect(), 0, priority)
    };
    scheduler.submit(sequence(1, 10, 0)).unwrap();
    let plan = scheduler.plan();
    scheduler.computed(&plan[0]);
    scheduler.append(1, 5);
    scheduler.submit(sequence(2, 100, 0)).unwrap();
    scheduler.submit(sequence(3, 4, 1)).unwrap();
    let plan = scheduler.plan();
    let order: Vec<(u64, usize)> = plan.iter().map(|p| (p.id, p.slots.len())).collect();
    assert_eq!(order, [(1, 1), (3, 4), (2, 11)]);
}
