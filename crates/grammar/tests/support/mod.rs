//! A tokenizer, and answers written token by token.
#![allow(dead_code, reason = "not every topic uses all of it")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::Path;
use std::sync::Arc;

use glimmer_grammar::{Beginning, Compiled, Compiler, Grammar, GrammarError, Matcher, TokenTable};
use glimmer_tokenizer::Tokenizer;

pub(crate) fn tokenizer(folder: &str) -> Tokenizer {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tokenizer/tests/data");
    Tokenizer::from_dir(&data.join(folder)).unwrap()
}

pub(crate) fn has(mask: &[u32], id: u32) -> bool {
    mask.get(id as usize / 32).is_some_and(|word| word >> (id % 32) & 1 == 1)
}

pub(crate) fn set_of(mask: &[u32]) -> Vec<u32> {
    (0..mask.len() as u32 * 32).filter(|&id| has(mask, id)).collect()
}

/// Has a text written, by tokens that masks allow, and tells whether they allow all of it and an end after it.
pub(crate) fn allows(matcher: &mut Matcher, kit: &Kit, text: &str) -> bool {
    let table = kit.compiler.table();
    let mut rest = text.as_bytes();
    while !rest.is_empty() {
        let mask = matcher.mask().unwrap();
        // As the tokenizer cuts it, where that is allowed: forced tokens may be cut otherwise.
        let own = std::str::from_utf8(rest).ok().and_then(|rest| kit.tokenizer.encode(rest).first().copied());
        let fits =
            |&id: &u32| !table.bytes(id).is_empty() && rest.starts_with(table.bytes(id)) && has(&mask, id);
        let any = || set_of(&mask).into_iter().filter(fits).max_by_key(|&id| table.bytes(id).len());
        let Some(id) = own.filter(fits).or_else(any) else { return false };
        matcher.accept(id).unwrap();
        rest = &rest[table.bytes(id).len()..];
    }
    let may_end = has(&matcher.mask().unwrap(), kit.end);
    assert_eq!(matcher.may_end(), may_end, "a mask and its matcher differ on the end");
    may_end
}

/// A tokenizer and its compiler.
pub(crate) struct Kit {
    pub(crate) tokenizer: Tokenizer,
    pub(crate) compiler: Compiler,
    /// What ends answers.
    pub(crate) end: u32,
}

impl Kit {
    pub(crate) fn new(folder: &str) -> Self {
        let tokenizer = tokenizer(folder);
        let end = tokenizer.special_tokens().map(|(_, id)| id).min().unwrap();
        let compiler = Compiler::new(TokenTable::new(&tokenizer, &[end]).unwrap());
        Kit { tokenizer, compiler, end }
    }

    pub(crate) fn allows(&self, compiled: &Arc<Compiled>, text: &str) -> bool {
        allows(&mut self.compiler.matcher(compiled, Beginning::Exact), self, text)
    }

    /// Whether a grammar allows a text.
    pub(crate) fn takes(&self, grammar: &Grammar, text: &str) -> Result<bool, GrammarError> {
        Ok(self.allows(&self.compiler.compile(grammar)?, text))
    }
}
