//! What is computed next. The scheduler touches no tensors: it moves lengths and pages.
//!
//! A step takes one row of every sequence that is answering. Of the rows that are left, or of fewer where answers are not to
//! wait for so many ([`Scheduler::pace_prompts`]), half go to the prompt that has waited longest, so that none starves, and
//! the rest to the shortest ones first, so that a long prompt holds up no short one. Rows that nobody needs may be spent on
//! drafts: guesses of an answer's next tokens that are computed together with the row before them.
//!
//! Sequences are admitted first come first served within a priority, when the pages of their whole prompt are free;
//! one whose beginning another is computing right now waits until it can share it. When a page is missing later, the
//! youngest of the lowest priority gives all of its own back and starts again (its tokens are kept, and much of its
//! prompt is usually still remembered).

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::ops::Range;

use glimmer_tensor::{PAGE_SLOTS, PageId};

use crate::pages::PagePool;
use crate::{Extra, PageEvent, PageKey};

/// Names a sequence for as long as it lives.
pub type SequenceId = u64;

/// Sizes the scheduler keeps to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SchedulerLimits {
    /// Rows per step, at least `running`.
    pub rows: usize,
    /// Rows per step whose logits are wanted, at least `running`.
    pub logits_rows: usize,
    /// Sequences computed at once.
    pub running: usize,
    /// Sequences waiting; more are refused.
    pub waiting: usize,
    /// Tokens of one sequence, prompt and answer.
    pub context: usize,
}

/// Stands in a sequence's tokens for a slot whose keys and values are given.
const GIVEN: u32 = u32::MAX;

/// Rows of a prompt that a picture has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptPicture {
    /// The slot of the first of them.
    pub first: usize,
    /// How many there are.
    pub rows: usize,
    /// What the picture is known by.
    pub digest: [u8; 32],
}

impl KeptPicture {
    /// What a page's key has of it.
    fn extra(&self, page: usize) -> Option<Extra<'_>> {
        let start = page * PAGE_SLOTS;
        let (first, end) = (self.first.max(start), (self.first + self.rows).min(start + PAGE_SLOTS));
        (first < end).then(|| Extra::Picture {
            digest: &self.digest,
            row: (first - self.first) as u32,
            slot: (first - start) as u32,
            rows: (end - first) as u32,
        })
    }
}

/// A sequence as the scheduler sees it.
#[derive(Clone, Debug)]
pub struct Sequence {
    /// Its name.
    pub id: SequenceId,
    /// Prompt and answer so far, after as many `GIVEN` as slots are given.
    pub tokens: Vec<u32>,
    /// How many of them are the prompt and what stands before it.
    pub prompt_len: usize,
    /// Slots whose keys and values an adapter's prefix has: they are written, not computed.
    pub given: usize,
    /// What its adapter's numbers are known by, if it has one.
    adapter: Option<[u8; 16]>,
    /// The pictures of the prompt, in order.
    pictures: Vec<KeptPicture>,
    /// Guesses of the tokens to come, computed in the step that was planned last.
    pub drafts: Vec<u32>,
    /// Slots whose keys and values are in its pages.
    pub computed: usize,
    /// Its pages, in slot order.
    pub pages: Vec<PageId>,
    /// Slots visible to all rows (ChatGLM-6B's context), computed in one step.
    pub prefix_len: usize,
    /// Higher goes first.
    pub priority: i32,
    /// Slots that were found remembered when it was first admitted.
    pub cached: usize,
    /// Where the prompt's logits are wanted, the slots before this have had theirs.
    scored: Option<usize>,
    /// Whether it has been admitted before.
    admitted: bool,
    /// Whether a row of it was computed since it was admitted.
    started: bool,
    /// Number of its arrival.
    arrival: u64,
    /// The keys of the pages that its tokens fill, once it has been submitted.
    keys: Vec<PageKey>,
}

impl Sequence {
    /// A sequence that has only its prompt.
    pub fn new(id: SequenceId, prompt: Vec<u32>, prefix_len: usize, priority: i32) -> Self {
        Sequence {
            id,
            prompt_len: prompt.len(),
            given: 0,
            adapter: None,
            pictures: Vec::new(),
            tokens: prompt,
            drafts: Vec::new(),
            computed: 0,
            pages: Vec::new(),
            prefix_len,
            priority,
            cached: 0,
            scored: None,
            admitted: false,
            started: false,
            arrival: 0,
            keys: Vec::new(),
        }
    }

    /// The same, with the logits of all rows of its prompt; of those after the context, where that attends both ways.
    #[must_use]
    pub fn with_scores(mut self) -> Self {
        self.scored = Some(self.prefix_len.max(self.given));
        self
    }

    /// The same, of an adapter that is known by `digest` and has keys and values of so many slots before everything.
    #[must_use]
    pub fn with_adapter(mut self, digest: [u8; 16], given: usize) -> Self {
        self.adapter = Some(digest);
        self.given = given;
        self.pictures.iter_mut().for_each(|picture| picture.first += given);
        self.prompt_len += given;
        self.tokens.splice(0..0, std::iter::repeat_n(GIVEN, given));
        if self.prefix_len > 0 {
            self.prefix_len += given;
        }
        self
    }

    /// The same, with pictures in its prompt: before [`Sequence::with_adapter`].
    #[must_use]
    pub fn with_pictures(mut self, pictures: Vec<KeptPicture>) -> Self {
        self.pictures = pictures;
        self
    }

    /// The next slot to be computed.
    pub fn next(&self) -> usize {
        self.computed.max(self.given)
    }

    /// Whether everything but its last token is computed.
    pub fn is_answering(&self) -> bool {
        self.started && self.left() == 1
    }

    /// Brings `keys` up to `tokens`.
    fn extend_keys(&mut self) {
        let (full, _) = self.tokens.as_chunks();
        for ids in &full[self.keys.len()..] {
            let parent = self.keys.last().copied();
            // A context that attends both ways is one unit: pages under it are equal only if all of it is. What is given
            // before it does not depend on it.
            let page = self.keys.len();
            let context = (page == self.given / PAGE_SLOTS && self.prefix_len > 0)
                .then(|| Extra::Context(&self.tokens[self.given..self.prefix_len]));
            let adapter = self.adapter.as_ref().filter(|_| page == 0).map(Extra::Adapter);
            let pictures = self.pictures.iter().filter_map(|picture| picture.extra(page));
            let extras: Vec<Extra<'_>> = context.into_iter().chain(adapter).chain(pictures).collect();
            self.keys.push(PageKey::new(parent, ids, &extras));
        }
    }

    /// Earlier goes first.
    fn rank(&self) -> (Reverse<i32>, u64) {
        (Reverse(self.priority), self.arrival)
    }

    /// Rows to be computed.
    fn left(&self) -> usize {
        self.tokens.len() - self.next()
    }

    /// Slots from here on have logits that are still wanted, all of them. The last token's always are.
    fn first_wanted(&self) -> usize {
        self.scored.unwrap_or(usize::MAX).min(self.tokens.len() - 1)
    }

    /// The keys of the pages that need not be computed where they are remembered.
    fn shareable(&self) -> &[PageKey] {
        &self.keys[..self.first_wanted() / PAGE_SLOTS]
    }

    /// Rows of its context that can only be computed together.
    fn uncut(&self) -> usize {
        self.prefix_len.saturating_sub(self.next())
    }

    /// The slots among `slots` whose logits are wanted.
    fn logits_of(&self, slots: &Range<usize>) -> Range<usize> {
        self.first_wanted().clamp(slots.start, slots.end)..slots.end
    }
}

/// One sequence's part of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Whose.
    pub id: SequenceId,
    /// The slots to compute.
    pub slots: Range<usize>,
    /// Those among them, the last ones, whose logits are wanted.
    pub logits: Range<usize>,
    /// Whether the sequence's last token is among them, so that the next one can be chosen.
    pub chooses: bool,
    /// How many of them, the last ones, hold drafts.
    pub drafts: usize,
}

/// Why a sequence is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Too many are waiting.
    QueueFull,
    /// It can never fit: its tokens are more than the context or the pool.
    TooLong,
}

/// What became of a chosen token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// The context is full and the sequence must end.
    ContextFull,
    /// Its row is to be computed.
    Next,
    /// It had been drafted: the logits of its row are in the step it was chosen in.
    Drafted,
}

/// What has been counted since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Slots of prompts that were computed, again after a preemption.
    pub prompt_computed: u64,
    /// Slots of prompts that were found remembered.
    pub prompt_cached: u64,
    /// Sequences that had to give their pages back.
    pub preemptions: u64,
}

/// Plans steps.
#[derive(Debug)]
pub struct Scheduler {
    limits: SchedulerLimits,
    pool: PagePool,
    /// In order of rank.
    waiting: VecDeque<Sequence>,
    /// In order of rank.
    running: Vec<Sequence>,
    arrivals: u64,
    /// Rows of prompts in a step that has answers, at most.
    beside_answers: usize,
    /// Whether answers were held back in the last step, for a context that needed their rows.
    held_back: bool,
    counts: Counts,
}

/// What a step has left to give.
struct Left {
    rows: usize,
    /// Rows of logits beyond the one that every running sequence may have.
    spare_logits: usize,
}

impl Scheduler {
    /// A scheduler over an empty pool.
    pub fn new(limits: SchedulerLimits, pages: usize) -> Self {
        Scheduler {
            limits,
            pool: PagePool::new(pages),
            waiting: VecDeque::new(),
            running: Vec::new(),
            arrivals: 0,
            beside_answers: usize::MAX,
            held_back: false,
            counts: Counts::default(),
        }
    }

    /// The same, keeping the events of its pages for [`Scheduler::page_events`].
    #[must_use]
    pub fn with_page_events(mut self) -> Self {
        self.pool.keep_events();
        self
    }

    /// What happened to pages since the last call.
    pub fn page_events(&mut self) -> Vec<PageEvent> {
        self.pool.events()
    }

    /// Puts a sequence into the queue.
    ///
    /// # Errors
    /// [`Refusal`] says why not.
    pub fn submit(&mut self, mut sequence: Sequence) -> Result<(), Refusal> {
        if sequence.tokens.len() > self.context() {
            return Err(Refusal::TooLong);
        }
        if !self.has_room(1) {
            return Err(Refusal::QueueFull);
        }
        sequence.extend_keys();
        self.arrivals += 1;
        sequence.arrival = self.arrivals;
        self.enqueue(sequence);
        Ok(())
    }

    /// Whether so many more can wait.
    pub fn has_room(&self, sequences: usize) -> bool {
        self.waiting.len() + sequences <= self.limits.waiting
    }

    fn enqueue(&mut self, sequence: Sequence) {
        let at = self.waiting.partition_point(|s| s.rank() < sequence.rank());
        self.waiting.insert(at, sequence);
    }

    /// Tokens that a sequence may have.
    fn context(&self) -> usize {
        self.limits.context.min(self.pool.len() * PAGE_SLOTS)
    }

    /// Whether there is nothing to do.
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.running.is_empty()
    }

    /// A running sequence.
    pub fn sequence(&self, id: SequenceId) -> Option<&Sequence> {
        self.running.iter().find(|s| s.id == id)
    }

    /// Sequences being computed, in order of rank: priority, then arrival.
    pub fn running(&self) -> &[Sequence] {
        &self.running
    }

    /// Sequences waiting, in order of rank.
    pub fn waiting(&self) -> &VecDeque<Sequence> {
        &self.waiting
    }

    /// The pool.
    pub fn pool(&self) -> &PagePool {
        &self.pool
    }

    /// What has been counted since the start.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Proposes the next tokens of an answer. The next plan takes as many as rows, pages and context allow.
    pub fn draft(&mut self, id: SequenceId, tokens: &[u32]) {
        if let Some(s) = self.running.iter_mut().find(|s| s.id == id) {
            s.drafts.clear();
            s.drafts.extend_from_slice(tokens);
        }
    }

    /// From now on a step that has answers takes at most so many rows of prompts; a context that cannot be cut has all of its own.
    pub fn pace_prompts(&mut self, rows: usize) {
        self.beside_answers = rows;
    }

    /// Chooses the next step's rows and gives them pages. Empty when there is nothing to do.
    pub fn plan(&mut self) -> Vec<Piece> {
        let mut pieces = Vec::new();
        self.plan_answers(&mut pieces);
        let mut left = Left { rows: self.limits.rows - pieces.len(), spare_logits: 0 };
        self.admit_all(left.rows);
        left.spare_logits = self.limits.logits_rows - self.running.len();
        self.plan_prompts(&mut left, &mut pieces);
        self.plan_drafts(&mut left, &mut pieces);
        pieces
    }

    /// One row of every sequence that is answering. One that must yield its pages to another takes its row with it.
    fn plan_answers(&mut self, pieces: &mut Vec<Piece>) {
        let mut ids: Vec<SequenceId> =
            self.running.iter().filter(|s| s.is_answering()).map(|s| s.id).collect();
        // A context that cannot be cut and finds no room beside the answers has theirs, but never twice in a row.
        let first = self.running.iter().find(|s| !s.is_answering());
        let room = self.limits.rows - first.map_or(0, Sequence::uncut).min(self.limits.rows);
        self.held_back = ids.len() > room && !self.held_back;
        if self.held_back {
            ids.truncate(room);
        }
        for id in ids {
            if let Some(i) = self.make_room(id) {
                let end = self.running[i].tokens.len();
                pieces.push(Piece {
                    id,
                    slots: end - 1..end,
                    logits: end - 1..end,
                    chooses: true,
                    drafts: 0,
                });
            }
        }
        pieces.retain(|p| self.running.iter().any(|s| s.id == p.id));
    }

    /// Gives a sequence the page for its next row, if need be by sending others back to the queue. Returns where it
    /// is, unless it had to go itself.
    fn make_room(&mut self, id: SequenceId) -> Option<usize> {
        loop {
            let i = self.running.iter().position(|s| s.id == id)?;
            if self.grow(i, self.running[i].tokens.len()) {
                return Some(i);
            }
            self.counts.preemptions += 1;
            self.send_back(self.running.len() - 1);
        }
    }

    /// Allocates pages until the sequence at `i` has room for `slots`, or none if there are too few.
    fn grow(&mut self, i: usize, slots: usize) -> bool {
        let pages = &mut self.running[i].pages;
        let missing = slots.div_ceil(PAGE_SLOTS).saturating_sub(pages.len());
        if missing > self.pool.free() {
            return false;
        }
        pages.extend((0..missing).filter_map(|_| self.pool.allocate()));
        true
    }

    /// Frees a running sequence's pages and puts it back into the queue, where its rank is as old as it is.
    fn send_back(&mut self, i: usize) {
        let mut sequence = self.running.remove(i);
        self.release(&mut sequence);
        self.enqueue(sequence);
    }

    /// Frees a sequence's pages, the last first, so that a prefix outlives what follows it.
    fn release(&mut self, sequence: &mut Sequence) {
        sequence.pages.drain(..).rev().for_each(|p| self.pool.release(p));
        sequence.drafts.clear();
        sequence.computed = 0;
        sequence.started = false;
    }

    /// Admits what there is room for, as long as each prompt can have a row.
    fn admit_all(&mut self, rows: usize) {
        let mut at = 0;
        let mut prompts = self.running.iter().filter(|s| !s.is_answering()).count();
        while self.running.len() < self.limits.running && prompts < rows && at < self.waiting.len() {
            if self.is_under_way(&self.waiting[at]) {
                at += 1;
            } else if self.admit(at) {
                prompts += 1;
            } else {
                break;
            }
        }
    }

    /// Whether a running prompt is about to complete a page that this one could share.
    fn is_under_way(&self, s: &Sequence) -> bool {
        let shareable = s.shareable();
        self.running.iter().any(|r| {
            let next = r.computed / PAGE_SLOTS;
            !r.is_answering() && next < shareable.len() && r.keys.get(next) == Some(&shareable[next])
        })
    }

    /// Moves a waiting sequence to the running ones, with what is remembered of its tokens and pages for the rest.
    fn admit(&mut self, at: usize) -> bool {
        let Some(mut s) = self.waiting.remove(at) else { return false };
        s.pages = s.shareable().iter().map_while(|key| self.pool.borrow(key)).collect();
        s.computed = s.pages.len() * PAGE_SLOTS;
        let (cached, first_time) = (s.computed.saturating_sub(s.given), !s.admitted);
        let i = self.running.partition_point(|r| r.rank() < s.rank());
        self.running.insert(i, s);
        if !self.grow(i, self.running[i].tokens.len()) {
            self.send_back(i);
            return false;
        }
        if first_time {
            self.running[i].admitted = true;
            self.running[i].cached = cached;
            self.counts.prompt_cached += cached as u64;
        }
        true
    }

    /// Shares the rows among the prompts.
    fn plan_prompts(&mut self, left: &mut Left, pieces: &mut Vec<Piece>) {
        let mut others: Vec<&Sequence> = self.running.iter().filter(|s| !s.is_answering()).collect();
        if others.is_empty() {
            return;
        }
        let first = others.remove(0);
        let most = if pieces.is_empty() { left.rows } else { self.beside_answers.max(first.uncut()) };
        let spared = left.rows.saturating_sub(most);
        left.rows -= spared;
        let rivals = others.first().is_some_and(|s| s.priority == first.priority);
        let share = if rivals { left.rows.div_ceil(2).max(first.uncut()) } else { left.rows };
        let kept = Scheduler::rows_of(first, share.min(left.rows), left.spare_logits);
        let kept_logits = Scheduler::spare_logits_of(first, kept);
        let mut rest = Left { rows: left.rows - kept, spare_logits: left.spare_logits - kept_logits };
        others.sort_by_key(|s| (Reverse(s.priority), s.left()));
        let mut planned = Vec::new();
        for s in others {
            planned.extend(Scheduler::plan_prompt(s, &mut rest));
        }
        rest.rows += kept;
        rest.spare_logits += kept_logits;
        pieces.extend(Scheduler::plan_prompt(first, &mut rest));
        pieces.extend(planned);
        rest.rows += spared;
        *left = rest;
    }

    /// The next chunk of a prompt, which has had its pages since it was admitted.
    fn plan_prompt(s: &Sequence, left: &mut Left) -> Option<Piece> {
        let rows = Scheduler::rows_of(s, left.rows, left.spare_logits);
        if rows == 0 {
            return None;
        }
        left.rows -= rows;
        left.spare_logits -= Scheduler::spare_logits_of(s, rows);
        let slots = s.next()..s.next() + rows;
        let logits = s.logits_of(&slots);
        Some(Piece { id: s.id, chooses: slots.end == s.tokens.len(), slots, logits, drafts: 0 })
    }

    /// How many of a prompt's rows can be computed with so many rows and spare rows of logits.
    fn rows_of(s: &Sequence, rows: usize, spare_logits: usize) -> usize {
        let without_logits = s.first_wanted().saturating_sub(s.next());
        let rows = s.left().min(rows).min(without_logits + 1 + spare_logits);
        if rows < s.uncut() { 0 } else { rows }
    }

    /// Rows of logits that the next `rows` rows of a prompt need beyond the sequence's own one.
    fn spare_logits_of(s: &Sequence, rows: usize) -> usize {
        s.logits_of(&(s.next()..s.next() + rows)).len().saturating_sub(1)
    }

    /// Lets answers that have drafts compute them too, with rows and pages that nobody else wants.
    fn plan_drafts(&mut self, left: &mut Left, pieces: &mut [Piece]) {
        let context = self.context();
        for i in 0..self.running.len() {
            let s = &mut self.running[i];
            let piece = pieces.iter_mut().find(|p| p.id == s.id);
            let Some(piece) = piece.filter(|_| s.is_answering()) else {
                s.drafts.clear();
                continue;
            };
            let most = left.rows.min(left.spare_logits).min(context - s.tokens.len());
            s.drafts.truncate(most);
            let slots = s.tokens.len() + s.drafts.len();
            if !self.grow(i, slots) {
                let s = &mut self.running[i];
                s.drafts.truncate(s.pages.len() * PAGE_SLOTS - s.tokens.len());
            }
            piece.drafts = self.running[i].drafts.len();
            piece.slots.end += piece.drafts;
            piece.logits.end += piece.drafts;
            left.rows -= piece.drafts;
            left.spare_logits -= piece.drafts;
        }
    }

    /// Records that a piece was computed; its full pages are remembered. Drafts wait for [`Scheduler::append`].
    pub fn computed(&mut self, piece: &Piece) {
        let Some(i) = self.running.iter().position(|s| s.id == piece.id) else { return };
        let s = &mut self.running[i];
        let prompt = piece.slots.start.min(s.prompt_len)..piece.slots.end.min(s.prompt_len);
        self.counts.prompt_computed += prompt.len() as u64;
        if let Some(scored) = &mut s.scored {
            *scored = piece.slots.end.max(*scored);
        }
        self.advance(i, piece.slots.end - piece.drafts);
    }

    /// The sequence at `i` has keys and values up to `computed`.
    fn advance(&mut self, i: usize, computed: usize) {
        let s = &mut self.running[i];
        let full = s.computed / PAGE_SLOTS;
        s.started = true;
        s.computed = computed;
        let (filled, _) = s.tokens[..computed].as_chunks();
        for (page, ids) in filled.iter().enumerate().skip(full) {
            let parent = page.checked_sub(1).map(|before| s.keys[before]);
            self.pool.remember(s.pages[page], s.keys[page], parent, ids);
        }
    }

    /// Appends a chosen token to an answer. Where drafts were computed, the first that differs from what is chosen
    /// ends them, and the pages that only they needed are free.
    pub fn append(&mut self, id: SequenceId, token: u32) -> Appended {
        let context = self.context();
        let Some(i) = self.running.iter().position(|s| s.id == id) else { return Appended::ContextFull };
        let s = &mut self.running[i];
        if s.tokens.len() >= context {
            return Appended::ContextFull;
        }
        s.tokens.push(token);
        s.extend_keys();
        if s.drafts.first() == Some(&token) {
            s.drafts.remove(0);
            let computed = s.computed + 1;
            self.advance(i, computed);
            return Appended::Drafted;
        }
        s.drafts.clear();
        let needed = s.tokens.len().div_ceil(PAGE_SLOTS);
        s.pages.drain(needed.min(s.pages.len())..).rev().for_each(|p| self.pool.release(p));
        Appended::Next
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
            assert!(s.computed <= s.tokens.len());
            assert!(s.tokens.len() + s.drafts.len() <= s.pages.len() * PAGE_SLOTS + 1);
            assert!(s.pages.len() <= (s.tokens.len() + s.drafts.len()).div_ceil(PAGE_SLOTS));
            assert!(s.tokens.len() + s.drafts.len() <= self.limits.context);
        }
        assert!(self.waiting.iter().all(|s| s.pages.is_empty() && s.computed == 0 && s.drafts.is_empty()));
        assert!(self.running.len() <= self.limits.running);
        assert!(self.waiting.iter().is_sorted_by_key(|s| s.rank()));
        assert!(self.running.iter().is_sorted_by_key(Sequence::rank));
    }
}
