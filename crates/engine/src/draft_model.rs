//! A smaller model of the same vocabulary that guesses how answers go on, a few tokens ahead (Leviathan et al., "Fast Inference
//! from Transformers via Speculative Decoding", 2023). The large model computes the guesses together and still chooses every
//! token itself, so an answer is the same with and without.
//!
//! A guess is drawn with the random number of its token's index, as the token will be: where the two models think alike they
//! then draw alike, at any temperature. That is not the rejection rule of the paper, which changes what is drawn.
//!
//! It follows an answer from its first guess on, computes what it has not read of it, and keeps that when the answer ends: a
//! conversation's next turn goes on from there. Whether it follows at all is a matter of what it has been worth.

use std::collections::HashSet;
use std::time::Instant;

use glimmer_models::{Decoder, PositionLayout};
use glimmer_tensor::{Batch, PAGE_SLOTS, PageId};

use crate::computed::{Computed, Row};
use crate::scheduler::SequenceId;
use crate::speculation::{MOST, StepCosts};
use crate::{EngineError, Foretold, Reads, Sampler};

/// How often guesses are taken to be right before that is known.
const UNKNOWN: f64 = 0.7;

/// Where guesses have not been worth their time, one answer of so many is followed all the same, to see whether they are now.
const PROBES: u64 = 16;

/// Tokens that an answer must have in common with one that has ended, for its keys and values to be used again.
const WORTH_KEEPING: usize = 16;

/// Tokens that an answer is taken to have, where what has to be read for its guesses is weighed against them.
const EXPECTED: usize = 256;

/// Rows of a step that say what a prompt's cost.
const PROMPT_ROWS: usize = 32;

/// An answer that wants guesses.
pub(crate) struct Asked<'a> {
    pub(crate) id: SequenceId,
    /// Prompt and answer so far.
    pub(crate) tokens: &'a [u32],
    /// Most guesses that make sense.
    pub(crate) most: usize,
    /// Whether they are wanted whatever they cost.
    pub(crate) always: bool,
    /// Chooses as the answer's own sampler will.
    pub(crate) sampler: Sampler,
    /// What it will be, and the number of tokens of it that there are, where that is foretold.
    pub(crate) foretold: Option<(&'a Foretold, usize)>,
}

impl Asked<'_> {
    /// The guess in a model's place, where the answer is foretold.
    fn foretold(&self, guesses: usize) -> Option<u32> {
        let (foretold, tokens) = self.foretold?;
        foretold.guess(tokens + guesses)
    }
}

/// What has been read of an answer.
#[derive(Debug, Default)]
struct Followed {
    /// Whose it is; nobody's once the answer has ended.
    id: Option<SequenceId>,
    /// The tokens whose keys and values are in its pages.
    read: Vec<u32>,
    pages: Vec<PageId>,
    /// The share of recent guesses that was right.
    acceptance: f64,
    /// The guesses made last.
    guesses: Vec<u32>,
    /// When it was last asked for.
    used: u64,
}

/// One answer's part of a step.
struct Part {
    /// Which of the asked.
    asked: usize,
    /// Which of the followed.
    followed: usize,
    ids: Vec<u32>,
    reads: Reads,
    /// How many guesses are still to be made for it, the one that this step tells among them; none while its prompt is read.
    guesses: usize,
}

/// The smaller model.
pub(crate) struct DraftModel {
    decoder: Decoder,
    layout: PositionLayout,
    /// Rows of a step.
    rows: usize,
    free: Vec<PageId>,
    followed: Vec<Followed>,
    /// Answers that are not followed.
    passed: HashSet<SequenceId>,
    computed: Computed,
    costs: StepCosts,
    /// Seconds of a prompt's row.
    prompt_row: f64,
    /// The share of recent guesses that was right, over all answers.
    acceptance: f64,
    /// Answers that came.
    came: u64,
    clock: u64,
}

impl DraftModel {
    /// Of a decoder that was planned for steps of `rows` rows over so many pages.
    ///
    /// # Errors
    /// When its positions are none that a guess has.
    pub(crate) fn new(decoder: Decoder, rows: usize, pages: usize) -> Result<Self, EngineError> {
        let layout = PositionLayout::of_prompt(decoder.spec().positions, &[0])?;
        Ok(DraftModel {
            decoder,
            layout,
            rows,
            free: (0..pages as PageId).rev().collect(),
            followed: Vec::new(),
            passed: HashSet::new(),
            computed: Computed::default(),
            costs: StepCosts::default(),
            prompt_row: 0.0,
            acceptance: UNKNOWN,
            came: 0,
            clock: 0,
        })
    }

    /// Guesses for each that asks as many tokens as are worth their time beside the large model's steps: none for those whose
    /// prompt is still being read, and for those that are not followed.
    ///
    /// # Errors
    /// Those of its decoder. It cannot go on then.
    pub(crate) fn guess(
        &mut self,
        mut asked: Vec<Asked<'_>>,
        steps: &StepCosts,
    ) -> Result<Vec<(SequenceId, Vec<u32>)>, EngineError> {
        self.clock += 1;
        let mut made: Vec<(SequenceId, Vec<u32>)> =
            asked.iter().map(|asked| (asked.id, Vec::new())).collect();
        let mut parts = self.catch_up(&asked, steps);
        self.decoder.begin_turn();
        while !parts.is_empty() {
            if let Err(error) = self.step(&parts) {
                self.decoder.end_turn();
                return Err(error);
            }
            let mut next = Vec::new();
            for mut part in parts.into_iter().filter(|part| part.guesses > 0) {
                let Some(row) = self.computed.first(asked[part.asked].id) else { continue };
                let foretold = asked[part.asked].foretold(made[part.asked].1.len());
                let sampler = &mut asked[part.asked].sampler;
                let own = match self.computed.row(row) {
                    Row::Likeliest(token) => {
                        sampler.take(token);
                        token
                    }
                    Row::Candidates(candidates) => candidates.best[0].1,
                    Row::Logits(logits) => sampler.next(logits),
                };
                let token = foretold.unwrap_or(own);
                made[part.asked].1.push(token);
                self.followed[part.followed].guesses.push(token);
                part.guesses -= 1;
                part.ids = vec![token];
                next.extend(Some(part).filter(|part| part.guesses > 0));
            }
            parts = next;
        }
        self.decoder.end_turn();
        Ok(made)
    }

    /// What is to be read before the first guesses, as much as a step holds.
    fn catch_up(&mut self, all: &[Asked<'_>], steps: &StepCosts) -> Vec<Part> {
        let (mut parts, mut room) = (Vec::new(), self.rows);
        let vocab = self.decoder.spec().vocab;
        for (index, asked) in all.iter().enumerate() {
            let Some(at) = self.follow(asked, all.len(), steps) else { continue };
            let wanted = match asked.always {
                true => MOST,
                false => worthwhile(self.followed[at].acceptance, all.len(), steps, &self.costs),
            };
            let wanted = wanted.min(asked.most);
            let Some(read) = self.make_room(at, asked, wanted).filter(|_| wanted > 0 && room > 0) else {
                continue;
            };
            let ids = &asked.tokens[read..asked.tokens.len().min(read + room)];
            if ids.iter().any(|&id| id as usize >= vocab) {
                continue;
            }
            room -= ids.len();
            let is_all = read + ids.len() == asked.tokens.len();
            parts.push(Part {
                asked: index,
                followed: at,
                ids: ids.to_vec(),
                reads: if asked.sampler.reads() == Reads::Likeliest {
                    Reads::Likeliest
                } else {
                    Reads::Logits
                },
                guesses: if is_all { wanted } else { 0 },
            });
        }
        parts
    }

    fn of(&self, id: SequenceId) -> Option<usize> {
        self.followed.iter().position(|followed| followed.id == Some(id))
    }

    /// Where an answer is followed, if it is. One that comes is, if guesses have been worth what is to be read for them.
    fn follow(&mut self, asked: &Asked<'_>, rows: usize, steps: &StepCosts) -> Option<usize> {
        if let Some(at) = self.of(asked.id) {
            return Some(at);
        }
        if self.passed.contains(&asked.id) {
            return None;
        }
        self.came += 1;
        let likeness = |followed: &Followed| common(&followed.read, asked.tokens);
        let ended = self.followed.iter().enumerate().filter(|(_, followed)| followed.id.is_none());
        let alike = ended.map(|(at, followed)| (likeness(followed), at)).max();
        let alike = alike.filter(|&(tokens, _)| tokens >= WORTH_KEEPING);
        let unread = asked.tokens.len() - alike.map_or(0, |(tokens, _)| tokens);
        let is_probe = self.came.is_multiple_of(PROBES);
        let known = asked.foretold.map(|(foretold, _)| foretold.right);
        let acceptance = known.unwrap_or(if is_probe { UNKNOWN } else { self.acceptance });
        let gain = gain(acceptance, rows, steps, &self.costs) * asked.most.min(EXPECTED) as f64;
        if !asked.always && !is_probe && gain < unread as f64 * self.prompt_row {
            self.passed.insert(asked.id);
            return None;
        }
        let at = alike.map_or(self.followed.len(), |(_, at)| at);
        if at == self.followed.len() {
            self.followed.push(Followed::default());
        }
        (self.followed[at].id, self.followed[at].acceptance) = (Some(asked.id), acceptance);
        Some(at)
    }

    /// Gives what is followed the pages for its tokens and `guesses` more. Returns how many tokens are read; `None` where no page
    /// is left.
    fn make_room(&mut self, at: usize, asked: &Asked<'_>, guesses: usize) -> Option<usize> {
        let followed = &mut self.followed[at];
        followed.used = self.clock;
        // The last token's row is the one that tells the next.
        let read = common(&followed.read, asked.tokens).min(asked.tokens.len() - 1);
        followed.read.truncate(read);
        let pages = (asked.tokens.len() + guesses).div_ceil(PAGE_SLOTS);
        while self.followed[at].pages.len() < pages {
            let page = self.free.pop().or_else(|| self.give_up_oldest())?;
            self.followed[at].pages.push(page);
        }
        Some(read)
    }

    /// A page of the answer that ended longest ago.
    fn give_up_oldest(&mut self) -> Option<PageId> {
        let ended = self.followed.iter_mut().filter(|f| f.id.is_none() && !f.pages.is_empty());
        let oldest = ended.min_by_key(|followed| followed.used)?;
        oldest.read.clear();
        self.free.append(&mut oldest.pages);
        self.free.pop()
    }

    /// Reads what the parts hold.
    fn step(&mut self, parts: &[Part]) -> Result<(), EngineError> {
        let begin = Instant::now();
        let (mut batch, mut wanted) = (Batch::default(), Vec::new());
        for Part { followed, ids, reads, guesses, .. } in parts {
            let followed = &mut self.followed[*followed];
            let slots = followed.read.len()..followed.read.len() + ids.len();
            let mut rope_pos = Vec::new();
            self.layout.extend(slots.clone(), &mut rope_pos);
            let told = usize::from(*guesses > 0);
            batch.push(ids, slots, &rope_pos, 0, followed.pages.clone(), ids.len() - told..ids.len());
            followed.read.extend_from_slice(ids);
            wanted.extend(followed.id.map(|id| (id, told, *reads)));
        }
        self.computed.clear();
        self.decoder.forward(&batch)?;
        self.computed.read(&mut self.decoder, &wanted, |_, _| true)?;
        let (rows, seconds) = (batch.rows(), begin.elapsed().as_secs_f64());
        if rows == parts.len() {
            self.costs.observe(rows, seconds);
        } else if rows >= PROMPT_ROWS {
            self.prompt_row = seconds / rows as f64;
        }
        Ok(())
    }

    /// Learns from the `index`-th token chosen after the guesses, all before which were right. Returns whether it was guessed, if
    /// there was a guess.
    pub(crate) fn learn(&mut self, id: SequenceId, index: usize, chosen: u32) -> Option<bool> {
        let at = self.of(id)?;
        let followed = &mut self.followed[at];
        let is_right = *followed.guesses.get(index)? == chosen;
        let right = if is_right { 1.0 } else { 0.0 };
        followed.acceptance += 0.1 * (right - followed.acceptance);
        self.acceptance += 0.02 * (right - self.acceptance);
        Some(is_right)
    }

    /// Forgets the last guesses: the next tokens are none of them.
    pub(crate) fn begin(&mut self) {
        self.followed.iter_mut().for_each(|followed| followed.guesses.clear());
    }

    /// An answer has ended. What was read of it is kept as long as there is room.
    pub(crate) fn ended(&mut self, id: SequenceId) {
        self.passed.remove(&id);
        if let Some(at) = self.of(id) {
            self.followed[at].id = None;
            self.followed[at].guesses.clear();
        }
        self.followed.retain(|followed| followed.id.is_some() || !followed.pages.is_empty());
    }
}

/// Tokens that two texts begin with alike.
fn common(one: &[u32], other: &[u32]) -> usize {
    one.iter().zip(other).take_while(|(a, b)| a == b).count()
}

/// Seconds that a token takes with so many guesses: each of `rows` answers gains `1 + a + ... + a^n` tokens for one step of `n + 1`
/// rows each and `n` steps of the smaller model. `None` before both were measured.
fn seconds(n: usize, acceptance: f64, rows: usize, steps: &StepCosts, drafts: &StepCosts) -> Option<f64> {
    let tokens: f64 = (0..=n).map(|i| acceptance.powi(i as i32)).sum();
    Some((steps.seconds(rows * (n + 1))? + n as f64 * drafts.seconds(rows)?) / tokens)
}

/// How many guesses have a token take least; two where that is to be measured.
fn worthwhile(acceptance: f64, rows: usize, steps: &StepCosts, drafts: &StepCosts) -> usize {
    let of = |n| Some((seconds(n, acceptance, rows, steps, drafts)?, n));
    let all: Option<Vec<(f64, usize)>> = (0..=MOST).map(of).collect();
    let best = all.and_then(|all| all.into_iter().min_by(|a, b| a.0.total_cmp(&b.0)));
    best.map_or(2, |(_, n)| n)
}

/// Seconds that a token takes less with them; anything where that is to be measured.
fn gain(acceptance: f64, rows: usize, steps: &StepCosts, drafts: &StepCosts) -> f64 {
    let of = |n| seconds(n, acceptance, rows, steps, drafts);
    let with = of(worthwhile(acceptance, rows, steps, drafts));
    of(0).zip(with).map_or(f64::INFINITY, |(without, with)| without - with)
}
