//! What is computed next. The scheduler touches no tensors: it moves lengths and pages.
//!
//! A step takes one row of every sequence that is answering, then prompt rows of the others up to a budget. Sequences
//! are admitted first come first served within a priority, when the pages of their whole prompt are free; when a page
//! is missing later, the youngest of the lowest priority gives all of its own back and starts again (its tokens are
//! kept, and much of its prompt is usually still remembered).

use std::collections::VecDeque;
use std::ops::Range;

use glimmer_tensor::{PAGE_SLOTS, PageId};

use crate::PagePool;

/// Names a sequence for as long as it lives.
pub type SequenceId = u64;

/// Sizes the scheduler keeps to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Rows per step.
    pub rows: usize,
    /// Sequences computed at once.
    pub running: usize,
    /// Sequences waiting; more are refused.
    pub waiting: usize,
    /// Tokens of one sequence, prompt and answer.
    pub context: usize,
}

/// A sequence as the scheduler sees it.
#[derive(Clone, Debug)]
pub struct Sequence {
    /// Its name.
    pub id: SequenceId,
    /// Prompt and answer so far.
    pub tokens: Vec<u32>,
    /// Slots whose keys and values are in its pages.
    pub computed: usize,
    /// Its pages, in slot order.
    pub pages: Vec<PageId>,
    /// Slots visible to all rows (ChatGLM-6B's context), computed in one step.
    pub prefix_len: usize,
    /// Higher goes first.
    pub priority: i32,
    /// Slots that were found remembered when it was admitted.
    pub cached: usize,
    /// Number of the key of its last full page.
    parent: u64,
    /// What its pages depend on besides ids.
    salt: u64,
}

impl Sequence {
    /// A sequence that has only its prompt.
    pub fn new(id: SequenceId, prompt: Vec<u32>, prefix_len: usize, priority: i32) -> Self {
        let salt = salt(&prompt[..prefix_len]);
        Sequence {
            id,
            tokens: prompt,
            computed: 0,
            pages: Vec::new(),
            prefix_len,
            priority,
            cached: 0,
            parent: 0,
            salt,
        }
    }
}

/// A context that attends both ways is one unit: pages under it are equal only if all of it is.
fn salt(context: &[u32]) -> u64 {
    context.iter().fold(0xcbf2_9ce4_8422_2325, |h, &id| (h ^ u64::from(id)).wrapping_mul(0x100_0000_01b3))
        * u64::from(!context.is_empty())
}

/// One sequence's part of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Whose.
    pub id: SequenceId,
    /// The slots to compute.
    pub slots: Range<usize>,
    /// Whether the last of them is the sequence's last token, so that the next one can be chosen.
    pub chooses: bool,
}

/// Why a sequence is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Too many are waiting.
    QueueFull,
    /// It can never fit: its tokens are more than the context or the pool.
    TooLong,
}

/// Plans steps.
#[derive(Debug)]
pub struct Scheduler {
    limits: Limits,
    pool: PagePool,
    /// By priority, then by arrival.
    waiting: VecDeque<Sequence>,
    /// In order of admission.
    running: Vec<Sequence>,
}

impl Scheduler {
    /// A scheduler over an empty pool.
    pub fn new(limits: Limits, pages: usize) -> Self {
        Scheduler { limits, pool: PagePool::new(pages), waiting: VecDeque::new(), running: Vec::new() }
    }

    /// Takes a sequence into the queue.
    ///
    /// # Errors
    /// [`Refusal`] says why not.
    pub fn submit(&mut self, sequence: Sequence) -> Result<(), Refusal> {
        if sequence.tokens.len() > self.limits.context.min(self.pool.len() * PAGE_SLOTS) {
            return Err(Refusal::TooLong);
        }
        if self.waiting.len() >= self.limits.waiting {
            return Err(Refusal::QueueFull);
        }
        self.enqueue(sequence);
        Ok(())
    }

    /// Behind all of the same or a higher priority.
    fn enqueue(&mut self, sequence: Sequence) {
        let at = self.waiting.partition_point(|s| s.priority >= sequence.priority);
        self.waiting.insert(at, sequence);
    }

    /// Whether there is nothing to do.
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.running.is_empty()
    }

    /// A running sequence.
    pub fn sequence(&self, id: SequenceId) -> Option<&Sequence> {
        self.running.iter().find(|s| s.id == id)
    }

    /// Sequences being computed.
    pub fn running(&self) -> &[Sequence] {
        &self.running
    }

    /// Sequences waiting.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// The pool.
    pub fn pool(&self) -> &PagePool {
        &self.pool
    }

    /// Chooses the next step's rows and gives them pages. Empty when there is nothing to do.
    pub fn plan(&mut self) -> Vec<Piece> {
        let mut budget = self.limits.rows;
        let mut pieces = Vec::new();
        self.plan_answers(&mut budget, &mut pieces);
        self.plan_prompts(&mut budget, &mut pieces);
        while budget > 0 && self.running.len() < self.limits.running && self.admit() {
            self.plan_prompt(self.running.len() - 1, &mut budget, &mut pieces);
        }
        pieces
    }

    /// One row of every sequence that is answering. One that must yield its pages to another takes its row with it.
    fn plan_answers(&mut self, budget: &mut usize, pieces: &mut Vec<Piece>) {
        let answers = |s: &&Sequence| s.computed > 0 && s.tokens.len() - s.computed == 1;
        let ids: Vec<SequenceId> = self.running.iter().filter(answers).take(*budget).map(|s| s.id).collect();
        for id in ids {
            if let Some(i) = self.make_room(id) {
                let end = self.running[i].tokens.len();
                pieces.push(Piece { id, slots: end - 1..end, chooses: true });
            }
        }
        pieces.retain(|p| self.running.iter().any(|s| s.id == p.id));
        *budget -= pieces.len();
    }

    /// Gives a sequence the page for its next row, if need be by sending others back to the queue. Answers where it
    /// is, unless it had to go itself.
    fn make_room(&mut self, id: SequenceId) -> Option<usize> {
        loop {
            let i = self.running.iter().position(|s| s.id == id)?;
            if self.grow(i, self.running[i].tokens.len()) {
                return Some(i);
            }
            let lowest = self.running.iter().map(|s| s.priority).min()?;
            let victim = self.running.iter().rposition(|s| s.priority == lowest)?;
            self.send_back(victim);
        }
    }

    /// Takes pages until the sequence at `i` has room for `slots`, or none if there are too few.
    fn grow(&mut self, i: usize, slots: usize) -> bool {
        let pages = &mut self.running[i].pages;
        let missing = slots.div_ceil(PAGE_SLOTS).saturating_sub(pages.len());
        if missing > self.pool.free() {
            return false;
        }
        pages.extend((0..missing).filter_map(|_| self.pool.take()));
        true
    }

    /// Frees a running sequence's pages and puts it in front of the queue of its priority.
    fn send_back(&mut self, i: usize) {
        let mut sequence = self.running.remove(i);
        self.release(&mut sequence);
        let at = self.waiting.partition_point(|s| s.priority > sequence.priority);
        self.waiting.insert(at, sequence);
    }

    /// Frees a sequence's pages, the last first, so that a prefix outlives what follows it.
    fn release(&mut self, sequence: &mut Sequence) {
        sequence.pages.drain(..).rev().for_each(|p| self.pool.release(p));
        sequence.computed = 0;
        sequence.parent = 0;
    }

    fn plan_prompts(&mut self, budget: &mut usize, pieces: &mut Vec<Piece>) {
        for i in 0..self.running.len() {
            let s = &self.running[i];
            if !pieces.iter().any(|p| p.id == s.id) && s.tokens.len() > s.computed {
                self.plan_prompt(i, budget, pieces);
            }
        }
    }

    /// The next chunk of the prompt of the sequence at `i`, whose pages it has since it was admitted.
    fn plan_prompt(&mut self, i: usize, budget: &mut usize, pieces: &mut Vec<Piece>) {
        let s = &self.running[i];
        let end = s.tokens.len().min(s.computed + *budget);
        // A context that attends both ways is not cut.
        if end == s.computed || (end < s.prefix_len) {
            return;
        }
        pieces.push(Piece { id: s.id, slots: s.computed..end, chooses: end == s.tokens.len() });
        *budget -= end - s.computed;
    }

    /// Moves the first of the queue to the running ones, with what is remembered of its tokens and pages for the rest.
    fn admit(&mut self) -> bool {
        let Some(mut s) = self.waiting.pop_front() else { return false };
        // The last token is always computed: its logits are wanted.
        for ids in s.tokens[..s.tokens.len() - 1].chunks_exact(PAGE_SLOTS) {
            let Some((number, page)) = self.pool.borrow(s.parent, s.salt, ids) else { break };
            s.pages.push(page);
            s.parent = number;
            s.computed += PAGE_SLOTS;
        }
        s.cached = s.computed;
        self.running.push(s);
        let i = self.running.len() - 1;
        if self.grow(i, self.running[i].tokens.len()) {
            return true;
        }
        self.send_back(i);
        false
    }

    /// Takes note that a piece was computed; its full pages are remembered.
    pub fn computed(&mut self, piece: &Piece) {
        let Some(s) = self.running.iter_mut().find(|s| s.id == piece.id) else { return };
        let full = s.computed / PAGE_SLOTS;
        s.computed = piece.slots.end;
        for page in full..s.computed / PAGE_SLOTS {
            let ids = &s.tokens[page * PAGE_SLOTS..(page + 1) * PAGE_SLOTS];
            s.parent = self.pool.remember(s.pages[page], s.parent, s.salt, ids);
        }
    }

    /// Appends a chosen token to an answer. Answers false when the context is full and the sequence must end.
    pub fn append(&mut self, id: SequenceId, token: u32) -> bool {
        let context = self.limits.context.min(self.pool.len() * PAGE_SLOTS);
        let Some(s) = self.running.iter_mut().find(|s| s.id == id) else { return false };
        if s.tokens.len() >= context {
            return false;
        }
        s.tokens.push(token);
        true
    }

    /// Ends a sequence, wherever it is, and hands it back.
    pub fn finish(&mut self, id: SequenceId) -> Option<Sequence> {
        if let Some(i) = self.running.iter().position(|s| s.id == id) {
            let mut sequence = self.running.remove(i);
            self.release(&mut sequence);
            return Some(sequence);
        }
        let i = self.waiting.iter().position(|s| s.id == id)?;
        self.waiting.remove(i)
    }

    /// Panics unless pages and queues agree. For tests.
    pub fn check(&self) {
        self.pool.check(self.running.iter().flat_map(|s| s.pages.iter().copied()));
        for s in &self.running {
            assert!(s.computed <= s.tokens.len() && s.computed <= s.pages.len() * PAGE_SLOTS);
            assert!(s.tokens.len() <= self.limits.context);
        }
        assert!(self.waiting.iter().all(|s| s.pages.is_empty() && s.computed == 0));
        assert!(self.running.len() <= self.limits.running);
        assert!(self.waiting.iter().zip(self.waiting.iter().skip(1)).all(|(a, b)| a.priority >= b.priority));
    }
}
