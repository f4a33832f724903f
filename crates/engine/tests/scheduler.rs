//! The scheduler under hundreds of thousands of random steps: no page is leaked, lent twice or read before it holds what
//! it should, keys are equal where contents are, events of pages add up, nobody starves, what is computed is computed in
//! order, and a context that attends both ways is never cut.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that cannot go on has failed")]

use std::collections::{HashMap, HashSet};

use glimmer_engine::scheduler::{Appended, Piece, Refusal, Scheduler, SchedulerLimits, Sequence};
use glimmer_engine::{PageEvent, PageKey};
use glimmer_tensor::PAGE_SLOTS;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRng, TestRunner};

#[derive(Clone, Debug)]
enum Act {
    /// A prompt made of a few repeated stretches, so that prefixes are shared, and copies of it.
    Submit {
        stretches: Vec<u8>,
        tail: usize,
        answer: usize,
        priority: i32,
        prefix: bool,
        scores: bool,
        copies: usize,
    },
    Step,
    /// Drop the n-th living request.
    Cancel(usize),
}

fn act() -> impl Strategy<Value = Act> {
    let submit = (
        prop::collection::vec(0u8..3, 0..4),
        1usize..50,
        0usize..90,
        0i32..3,
        any::<bool>(),
        prop::bool::weighted(0.3),
        prop_oneof![4 => Just(1usize), 1 => 2usize..5],
    );
    prop_oneof![
        3 => submit.prop_map(|(stretches, tail, answer, priority, prefix, scores, copies)| {
            let prefix = prefix && priority == 2;
            Act::Submit { stretches, tail, answer, priority, prefix, scores, copies }
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
    /// What keys and values at each slot depend on.
    contents: Vec<u64>,
    prefix_len: usize,
    /// The next slot whose logits are to come, where those of the prompt are wanted.
    scored: Option<usize>,
    /// Steps without a row while it ran.
    waited: usize,
}

impl Wanted {
    /// Brings `contents` up to `tokens` and returns those of `drafts` after them.
    fn contents_with(&mut self, drafts: &[u32]) -> Vec<u64> {
        let mix = |h: u64, id: u32| (h ^ u64::from(id)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
        if self.contents.is_empty() {
            let context = self.tokens[..self.prefix_len].iter().fold(1, |h, &id| mix(h, id));
            self.contents.push(mix(context, self.tokens[0]));
        }
        for i in self.contents.len()..self.tokens.len() {
            self.contents.push(mix(self.contents[i - 1], self.tokens[i]));
        }
        let mut last = self.contents[self.contents.len() - 1];
        let drafted = drafts.iter().map(|&id| {
            last = mix(last, id);
            last
        });
        drafted.collect()
    }
}

struct World {
    scheduler: Scheduler,
    limits: SchedulerLimits,
    living: HashMap<u64, Wanted>,
    /// What was written to each page.
    pages: Vec<[u64; PAGE_SLOTS]>,
    /// What is remembered, by the events of pages, with the ids that came with it.
    stored: HashMap<PageKey, [u32; PAGE_SLOTS]>,
    /// What every key that was ever seen stands for, and the other way round.
    contents_of: HashMap<PageKey, [u64; PAGE_SLOTS]>,
    key_of: HashMap<[u64; PAGE_SLOTS], PageKey>,
    next: u64,
    finished: usize,
    steps: usize,
    drafted: usize,
    /// Whether few rows of prompts go with answers.
    paced: bool,
}

impl World {
    fn new(limits: SchedulerLimits, pages: usize, paced: bool) -> Self {
        World {
            paced,
            scheduler: Scheduler::new(limits, pages).with_page_events(),
            limits,
            living: HashMap::new(),
            pages: vec![[0; PAGE_SLOTS]; pages],
            stored: HashMap::new(),
            contents_of: HashMap::new(),
            key_of: HashMap::new(),
            next: 0,
            finished: 0,
            steps: 0,
            drafted: 0,
        }
    }

    fn context(&self) -> usize {
        self.limits.context.min(self.pages.len() * PAGE_SLOTS)
    }

    fn submit(&mut self, act: &Act) {
        let Act::Submit { stretches, tail, answer, priority, prefix, scores, copies } = act else { return };
        let name = self.next as u32 * 1000;
        let mut tokens: Vec<u32> =
            stretches.iter().flat_map(|&s| (0..40).map(move |i| u32::from(s) * 100 + i)).collect();
        tokens.extend((0..*tail as u32).map(|i| i + name));
        let prefix_len = if *prefix { (tokens.len() - 1).min(self.limits.rows) } else { 0 };
        for _ in 0..*copies {
            self.next += 1;
            let sequence = Sequence::new(self.next, tokens.clone(), prefix_len, *priority);
            let sequence = if *scores { sequence.with_scores() } else { sequence };
            let fits = tokens.len() <= self.context();
            match self.scheduler.submit(sequence) {
                Ok(()) => {
                    assert!(fits);
                    let wanted = Wanted {
                        prompt: tokens.len(),
                        answer: *answer,
                        tokens: tokens.clone(),
                        contents: Vec::new(),
                        prefix_len,
                        scored: scores.then_some(prefix_len),
                        waited: 0,
                    };
                    self.living.insert(self.next, wanted);
                }
                Err(Refusal::TooLong) => assert!(!fits),
                Err(Refusal::QueueFull) => assert!(!self.scheduler.has_room(1)),
            }
        }
    }

    /// Offers drafts, right ones and wrong ones.
    fn draft(&mut self) {
        let offers: Vec<(u64, Vec<u32>)> = (self.scheduler.running().iter())
            .filter(|s| s.is_answering())
            .map(|s| {
                let dice = (s.id as usize * 31 + self.steps * 17) % 23;
                let wrong = dice % 5;
                let guess = |i: usize| (s.tokens.len() + i + 7 + usize::from(i == wrong)) as u32;
                (s.id, (0..dice % 11).map(guess).collect())
            })
            .collect();
        offers.iter().for_each(|(id, drafts)| self.scheduler.draft(*id, drafts));
    }

    fn step(&mut self) {
        self.steps += 1;
        self.draft();
        if self.paced {
            self.scheduler.pace_prompts(1 + self.steps * 7 % 20);
        }
        let running: Vec<u64> = self.scheduler.running().iter().map(|s| s.id).collect();
        let plan = self.scheduler.plan();
        self.scheduler.check();
        let rows: usize = plan.iter().map(|p| p.slots.len()).sum();
        let logits: usize = plan.iter().map(|p| p.logits.len()).sum();
        assert!(rows <= self.limits.rows && logits <= self.limits.logits_rows);
        assert!(!plan.is_empty() || self.scheduler.is_idle(), "something to do and nothing planned");
        self.compute(&plan);
        self.fairness(&running, &plan);
        for piece in &plan {
            self.piece(piece, &plan);
            self.follow_pages();
        }
        self.scheduler.check();
    }

    /// Adds up the events of pages and compares them with what the pool remembers.
    fn follow_pages(&mut self) {
        for event in self.scheduler.page_events() {
            match event {
                PageEvent::Stored { key, parent, ids } => {
                    assert!(parent.is_none_or(|parent| self.contents_of.contains_key(&parent)));
                    assert!(parent.is_none() || key == PageKey::new(parent, &ids, &[]));
                    assert_eq!(self.stored.insert(key, ids), None, "{key} is stored twice");
                    let (_, page) = self.scheduler.pool().keys().find(|(k, _)| *k == key).unwrap();
                    let contents = self.pages[page as usize];
                    assert_eq!(*self.contents_of.entry(key).or_insert(contents), contents, "one key for two");
                    assert_eq!(*self.key_of.entry(contents).or_insert(key), key, "two keys for one");
                }
                PageEvent::Removed { key } => assert!(self.stored.remove(&key).is_some(), "{key} is unknown"),
            }
        }
        let remembered: HashSet<PageKey> = self.scheduler.pool().keys().map(|(key, _)| key).collect();
        assert_eq!(remembered, self.stored.keys().copied().collect());
        for (key, page) in self.scheduler.pool().keys() {
            assert_eq!(self.pages[page as usize], self.contents_of[&key], "{key} was overwritten");
        }
    }

    /// Writes what the plan computes and looks at all it reads.
    fn compute(&mut self, plan: &[Piece]) {
        let mut writers: HashMap<u32, u64> = HashMap::new();
        for piece in plan {
            let s = self.scheduler.sequence(piece.id).expect("planned sequences run");
            let wanted = self.living.get_mut(&piece.id).unwrap();
            let drafted = wanted.contents_with(&s.drafts);
            let contents: Vec<u64> = wanted.contents.iter().chain(&drafted).copied().collect();
            for slot in piece.slots.clone() {
                let page = s.pages[slot / PAGE_SLOTS];
                assert_eq!(*writers.entry(page).or_insert(piece.id), piece.id, "two write one page");
                self.pages[page as usize][slot % PAGE_SLOTS] = contents[slot];
            }
        }
        for piece in plan {
            let s = self.scheduler.sequence(piece.id).unwrap();
            let contents = &self.living[&piece.id].contents;
            for (slot, &content) in contents[..piece.slots.end - piece.drafts].iter().enumerate() {
                let page = s.pages[slot / PAGE_SLOTS];
                assert_eq!(self.pages[page as usize][slot % PAGE_SLOTS], content, "slot {slot} of {}", s.id);
            }
        }
    }

    /// Answers are held back for one step at most, and so is whoever has the highest rank.
    fn fairness(&mut self, running: &[u64], plan: &[Piece]) {
        let first = self.scheduler.running().first().map(|s| s.id);
        for s in self.scheduler.running() {
            let wanted = self.living.get_mut(&s.id).unwrap();
            let served = plan.iter().any(|p| p.id == s.id) || !running.contains(&s.id);
            wanted.waited = if served { 0 } else { wanted.waited + 1 };
            let patient = !s.is_answering() && first != Some(s.id);
            assert!(wanted.waited <= 1 || patient, "{} waits for {} steps", s.id, wanted.waited);
        }
    }

    fn piece(&mut self, piece: &Piece, plan: &[Piece]) {
        assert_eq!(plan.iter().filter(|p| p.id == piece.id).count(), 1);
        let s = self.scheduler.sequence(piece.id).expect("planned sequences run");
        let wanted = self.living.get_mut(&piece.id).unwrap();
        assert_eq!(s.tokens, wanted.tokens);
        assert_eq!(piece.drafts, s.drafts.len());
        assert_eq!(piece.slots.start, s.computed);
        assert_eq!(piece.logits.end, piece.slots.end);
        assert_eq!(piece.chooses, piece.slots.end - piece.drafts == s.tokens.len());
        assert!(piece.logits.len() > piece.drafts || !piece.chooses);
        assert!(s.pages.len() * PAGE_SLOTS >= piece.slots.end);
        assert!(piece.slots.end >= wanted.prefix_len.min(s.tokens.len()), "a context was cut");
        match &mut wanted.scored {
            Some(scored) if *scored < wanted.prompt - 1 => {
                assert_eq!(piece.logits.start, (*scored).clamp(piece.slots.start, piece.slots.end));
                *scored = piece.slots.end.max(*scored);
            }
            _ => assert_eq!(piece.logits.len(), piece.drafts + usize::from(piece.chooses)),
        }
        self.scheduler.computed(piece);
        if piece.chooses {
            for _ in 0..=piece.drafts {
                if !self.choose(piece.id) {
                    break;
                }
            }
        }
    }

    /// Chooses a token; returns whether the one after it can be chosen too.
    fn choose(&mut self, id: u64) -> bool {
        let context = self.context();
        let wanted = self.living.get_mut(&id).unwrap();
        let token = wanted.tokens.len() as u32 + 7;
        let done = wanted.tokens.len() - wanted.prompt >= wanted.answer;
        let s = self.scheduler.sequence(id).unwrap();
        let right = s.drafts.first() == Some(&token);
        let appended = if done { Appended::ContextFull } else { self.scheduler.append(id, token) };
        if appended == Appended::ContextFull {
            assert!(done || wanted.tokens.len() >= context);
            assert_eq!(self.scheduler.finish(id).unwrap().tokens, wanted.tokens);
            assert!(wanted.scored.is_none_or(|scored| scored >= wanted.prompt - 1), "not all was scored");
            self.living.remove(&id);
            self.finished += 1;
            return false;
        }
        wanted.tokens.push(token);
        assert_eq!(appended == Appended::Drafted, right);
        self.drafted += usize::from(right);
        right
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
    let limits = (8usize..80, 1usize..12, 1usize..20, 40usize..300, 2usize..24, 0usize..20);
    let strategy = (limits, prop::collection::vec(act(), 1..acts));
    let served = std::cell::Cell::new((0, 0));
    TestRunner::new_with_rng(config, TestRng::deterministic_rng(Default::default()))
        .run(&strategy, |((rows, running, waiting, context, pages, spare), acts)| {
            let rows = rows.max(running);
            let limits =
                SchedulerLimits { rows, logits_rows: rows.min(running + spare), running, waiting, context };
            let mut world = World::new(limits, pages, spare % 2 == 1);
            for act in acts {
                match act {
                    Act::Submit { .. } => world.submit(&act),
                    Act::Step => world.step(),
                    Act::Cancel(n) => world.cancel(n),
                }
                steps.set(steps.get() + 1);
            }
            world.settle();
            let (finished, drafted) = served.get();
            served.set((finished + world.finished, drafted + world.drafted));
            Ok(())
        })
        .unwrap();
    let (finished, drafted) = served.get();
    println!("{} acts, {finished} requests answered, {drafted} drafts accepted", steps.get());
    assert!(finished > cases as usize && drafted > cases as usize);
}

#[test]
fn hundreds_of_thousands_of_random_acts() {
    run(400, 2_000);
}

/// A piece that ends a prompt.
fn last(id: u64, slots: std::ops::Range<usize>) -> Piece {
    Piece { id, logits: slots.end - 1..slots.end, slots, chooses: true, drafts: 0 }
}

#[test]
fn an_equal_beginning_is_computed_once() {
    let limits = SchedulerLimits { rows: 512, logits_rows: 4, running: 4, waiting: 4, context: 512 };
    let mut scheduler = Scheduler::new(limits, 32);
    let prompt: Vec<u32> = (0..100).collect();
    scheduler.submit(Sequence::new(1, prompt.clone(), 0, 0)).unwrap();
    let plan = scheduler.plan();
    assert_eq!(plan, [last(1, 0..100)]);
    scheduler.computed(&plan[0]);
    // While the first still runs, and after it is gone.
    for (id, gone) in [(2, false), (3, true)] {
        if gone {
            scheduler.finish(1);
        }
        let longer: Vec<u32> = prompt.iter().copied().chain([7, 8, 9]).collect();
        scheduler.submit(Sequence::new(id, longer, 0, 0)).unwrap();
        let plan = scheduler.plan();
        assert_eq!(plan, [last(id, 96..103)]);
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
fn copies_wait_for_the_first_and_share_its_pages() {
    let limits = SchedulerLimits { rows: 64, logits_rows: 8, running: 8, waiting: 8, context: 512 };
    let mut scheduler = Scheduler::new(limits, 64);
    let prompt: Vec<u32> = (0..100).collect();
    for id in 1..=4 {
        scheduler.submit(Sequence::new(id, prompt.clone(), 0, 0)).unwrap();
    }
    // Somebody else is not held up by those who wait.
    scheduler.submit(Sequence::new(5, (200..210).collect(), 0, 0)).unwrap();
    let mut rows = 0;
    while !scheduler.waiting().is_empty() || !scheduler.running().iter().all(|s| s.is_answering()) {
        for piece in scheduler.plan() {
            rows += piece.slots.clone().filter(|&slot| slot < 100 && piece.id < 5).count();
            scheduler.computed(&piece);
            if piece.chooses {
                scheduler.append(piece.id, 7 + piece.id as u32);
            }
        }
        scheduler.check();
    }
    // Each computes the four tokens for itself that do not fill a page.
    assert_eq!(rows, 100 + 3 * 4);
    let shared: Vec<_> = scheduler.running().iter().filter(|s| s.id < 5).map(|s| &s.pages[..3]).collect();
    assert_eq!(shared.len(), 4);
    assert!(shared.windows(2).all(|pair| pair[0] == pair[1]));
    assert_eq!(scheduler.pool().len() - scheduler.pool().free(), 3 + 4 + 1);
    (1..=5).for_each(|id| assert!(scheduler.finish(id).is_some()));
    scheduler.check();
    assert_eq!(scheduler.pool().free(), 64);
}

#[test]
fn a_long_prompt_neither_holds_up_short_ones_nor_is_held_up_by_them() {
    let limits = SchedulerLimits { rows: 64, logits_rows: 64, running: 64, waiting: 1000, context: 4096 };
    let mut scheduler = Scheduler::new(limits, 512);
    scheduler.submit(Sequence::new(1, (0..2048).collect(), 0, 0)).unwrap();
    let (mut next, mut steps, mut born) = (2, 0, HashMap::new());
    while scheduler.sequence(1).is_none_or(|s| !s.is_answering()) {
        // As many short ones as could fill every step.
        for _ in 0..4 {
            let prompt = (0..16).map(|i| next as u32 * 100 + i).collect();
            scheduler.submit(Sequence::new(next, prompt, 0, 0)).unwrap();
            born.insert(next, steps);
            next += 1;
        }
        for piece in scheduler.plan() {
            scheduler.computed(&piece);
            if piece.chooses && piece.id == 1 {
                scheduler.append(1, 7);
            } else if piece.chooses {
                scheduler.finish(piece.id);
            }
        }
        let oldest = scheduler.running().iter().chain(scheduler.waiting()).map(|s| s.id).filter(|&id| id > 1);
        assert!(steps > 0 || oldest.clone().count() <= 2, "two of four find room beside half a step");
        steps += 1;
    }
    assert_eq!(steps, 2048 / 32, "the long one has half of every step");
}

#[test]
fn a_context_that_needs_all_rows_gets_them_and_answers_wait_one_step() {
    let limits = SchedulerLimits { rows: 16, logits_rows: 16, running: 8, waiting: 8, context: 512 };
    let mut scheduler = Scheduler::new(limits, 64);
    for id in 1..=3 {
        scheduler.submit(Sequence::new(id, vec![id as u32; 4], 0, 0)).unwrap();
    }
    for piece in scheduler.plan() {
        scheduler.computed(&piece);
        scheduler.append(piece.id, 9);
    }
    scheduler.submit(Sequence::new(4, (0..17).collect(), 16, 0)).unwrap();
    let mut order = Vec::new();
    for _ in 0..4 {
        let plan = scheduler.plan();
        order.push(plan.iter().map(|p| (p.id, p.slots.len())).collect::<Vec<_>>());
        for piece in plan {
            scheduler.computed(&piece);
            if piece.chooses {
                scheduler.append(piece.id, 9);
            }
        }
        scheduler.check();
    }
    assert_eq!(order[0], [(1, 1), (2, 1), (3, 1)]);
    assert_eq!(order[1], [(4, 16)]);
    assert_eq!(order[2], [(1, 1), (2, 1), (3, 1), (4, 1)]);
}

#[test]
fn answers_go_before_prompts_and_priorities_before_arrival() {
    let limits = SchedulerLimits { rows: 16, logits_rows: 8, running: 8, waiting: 8, context: 512 };
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

#[test]
fn answers_wait_for_as_many_rows_of_prompts_as_they_are_told() {
    let limits = SchedulerLimits { rows: 64, logits_rows: 8, running: 8, waiting: 8, context: 512 };
    let mut scheduler = Scheduler::new(limits, 64);
    scheduler.submit(Sequence::new(1, vec![1; 4], 0, 0)).unwrap();
    scheduler.pace_prompts(3);
    let step = |scheduler: &mut Scheduler| {
        let plan = scheduler.plan();
        for piece in &plan {
            scheduler.computed(piece);
            if piece.chooses {
                scheduler.append(piece.id, 9);
            }
        }
        plan.iter().map(|p| (p.id, p.slots.len())).collect::<Vec<_>>()
    };
    assert_eq!(step(&mut scheduler), [(1, 4)], "nobody answers yet");
    scheduler.submit(Sequence::new(2, (0..200).collect(), 0, 0)).unwrap();
    assert_eq!(step(&mut scheduler), [(1, 1), (2, 3)]);
    scheduler.pace_prompts(0);
    assert_eq!(step(&mut scheduler), [(1, 1)]);
    scheduler.submit(Sequence::new(3, (500..530).collect(), 20, 1)).unwrap();
    scheduler.pace_prompts(3);
    assert_eq!(step(&mut scheduler), [(1, 1), (3, 20)], "what cannot be cut");
    scheduler.finish(1);
    scheduler.finish(3);
    assert_eq!(step(&mut scheduler), [(2, 64)], "nobody answers any more");
}
