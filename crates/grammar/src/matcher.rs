//! One answer's way through a grammar.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use glimmer_tokenizer::TokenId;
use llguidance::toktrie::SimpleVob;

use crate::compiler::Compiled;
use crate::error::first_line;
use crate::{GrammarError, TokenTable};

/// What stands before an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beginning {
    /// Nothing: its first token is its first text.
    Exact,
    /// White space around it is left out when it is read: a blank or a line break may come first, as chat models have
    /// it, and SentencePiece begins with a blank.
    Trimmed,
    /// The same on its line: a blank may come first, and no line break.
    OnLine,
}

/// Tokens of white space that may stand before an answer.
const BLANKS: usize = 2;

/// Tokens that are looked back at for what is forced.
const WRITTEN: usize = 32;

/// Forced tokens that are told at once.
const FORCED: usize = 64;

/// One answer's state: which tokens may come next. A copy is cheap and shares no state but what was learnt of the
/// grammar.
#[derive(Clone)]
pub struct Matcher {
    inner: llguidance::Matcher,
    table: Arc<TokenTable>,
    compiled: Arc<Compiled>,
    /// Tokens of white space that may still come before the answer.
    blanks: usize,
    /// Whether line breaks are among them.
    may_break: bool,
    /// Whether the answer has not begun and may do so with a token whose blank is left out.
    at_start: bool,
    /// The latest tokens, where forced ones depend on them.
    written: Vec<TokenId>,
    /// Whether these are all.
    is_whole: bool,
}

impl Matcher {
    pub(crate) fn new(
        inner: llguidance::Matcher,
        table: Arc<TokenTable>,
        compiled: Arc<Compiled>,
        beginning: Beginning,
    ) -> Self {
        let at_start = beginning != Beginning::Exact;
        let may_break = beginning == Beginning::Trimmed;
        let blanks = if at_start { BLANKS } else { 0 };
        Matcher { inner, table, compiled, blanks, may_break, at_start, written: Vec::new(), is_whole: true }
    }

    /// What it matches.
    pub fn compiled(&self) -> &Arc<Compiled> {
        &self.compiled
    }

    /// Which tokens may come next: bit `i % 32` of word `i / 32` is set for id `i`. The ids that end an answer are among
    /// them where it may end, and alone where it can only end.
    ///
    /// # Errors
    /// When the grammar is too ambiguous for its limits.
    pub fn mask(&mut self) -> Result<Vec<u32>, GrammarError> {
        let mask = self.inner.compute_mask_or_eos();
        let mut mask = mask.map_err(|error| self.failed(&error))?;
        if self.at_start {
            self.allow_blanks(&mut mask);
        }
        let words = self.table.len().div_ceil(32);
        Ok(mask.as_slice()[..words].to_vec())
    }

    fn allow_blanks(&mut self, mask: &mut SimpleVob) {
        let table = Arc::clone(&self.table);
        let mut allowed = Vec::new();
        for (id, twin) in table.twins.iter().filter(|(_, twin)| mask.is_allowed(twin[0])) {
            if twin.len() == 1 || self.inner.validate_tokens(twin).is_ok_and(|n| n == twin.len()) {
                allowed.push(*id);
            }
        }
        let blanks = table.blanks.iter().filter(|id| self.is_blank(**id));
        allowed.iter().chain(blanks).for_each(|&id| mask.allow_token(id));
    }

    /// Takes the next token. One that ends the answer changes nothing.
    ///
    /// # Errors
    /// When the mask does not have it.
    pub fn accept(&mut self, id: TokenId) -> Result<(), GrammarError> {
        if self.table.ends().contains(&id) {
            // A grammar may name such a token as a part of its texts; it ends the answer there.
            let is_named = |mask: &[u32]| mask[id as usize / 32] >> (id % 32) & 1 == 1;
            let ends = self.may_end() || is_named(&self.mask()?);
            return if ends { Ok(()) } else { Err(GrammarError::Token(id)) };
        }
        if self.consume(id)? {
            self.at_start = false;
            self.note(id);
            return Ok(());
        }
        if self.at_start {
            if self.is_blank(id) {
                self.blanks -= 1;
                return Ok(());
            }
            let table = Arc::clone(&self.table);
            if let Ok(at) = table.twins.binary_search_by_key(&id, |(id, _)| *id) {
                let twin = &table.twins[at].1;
                let fits = self.inner.validate_tokens(twin).map_err(|error| self.failed(&error))?;
                if fits == twin.len() && twin.iter().all(|&id| self.consume(id).unwrap_or(false)) {
                    self.at_start = false;
                    self.note(id);
                    return Ok(());
                }
            }
        }
        Err(GrammarError::Token(id))
    }

    /// Whether a token is white space that may stand before the answer.
    fn is_blank(&self, id: TokenId) -> bool {
        let has_line = || self.table.bytes(id).contains(&b'\n');
        self.blanks > 0 && self.table.blanks.contains(&id) && (self.may_break || !has_line())
    }

    fn consume(&mut self, id: TokenId) -> Result<bool, GrammarError> {
        // A special token is none of a text, and one outside the table would be an error of the parser.
        if self.is_complete() || id as usize >= self.table.len() {
            return Ok(false);
        }
        let consumed = self.inner.try_consume_tokens(&[id]);
        consumed.map(|n| n == 1).map_err(|error| self.failed(&error))
    }

    /// Keeps a token that was taken, where forced ones depend on it.
    fn note(&mut self, id: TokenId) {
        if self.table.context.is_some() {
            if self.written.len() == WRITTEN {
                self.written.remove(0);
                self.is_whole = false;
            }
            self.written.push(id);
        }
    }

    /// Tokens that must come next, as the tokenizer itself would write them: often none, and no more than a few dozen. They
    /// are not taken yet.
    pub fn forced(&mut self) -> Vec<TokenId> {
        if self.at_start || self.inner.is_stopped() {
            return Vec::new();
        }
        let table = Arc::clone(&self.table);
        let mut forced = match &table.context {
            None => self.inner.compute_ff_tokens(),
            Some(context) => {
                let bytes = self.inner.compute_ff_bytes();
                context.tokens(&self.written, self.is_whole, &bytes, |id| table.bytes(id))
            }
        };
        forced.truncate(FORCED);
        forced
    }

    /// Whether the answer has its first token, white space before it aside.
    pub fn has_begun(&self) -> bool {
        !self.at_start
    }

    /// Whether nothing but an end may come.
    pub fn is_complete(&self) -> bool {
        self.inner.is_stopped() && !self.inner.is_error()
    }

    /// Whether the answer may end here.
    pub fn may_end(&mut self) -> bool {
        self.is_complete() || self.inner.is_accepting().unwrap_or(false)
    }

    /// A grammar that failed once is compiled anew for the next request: what was learnt of it may be what fails.
    fn failed(&self, error: &dyn std::fmt::Display) -> GrammarError {
        self.compiled.is_spoiled.store(true, Ordering::Relaxed);
        GrammarError::Failed(first_line(error))
    }
}
