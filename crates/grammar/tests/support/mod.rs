//! A tokenizer, and answers written token by token.
#![allow(dead_code, reason = "not every topic uses all of it")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::Path;
use std::sync::Arc;

use glimmer_grammar::{Beginning, Compiled, Compiler, Grammar, GrammarError, Matcher, TokenTable};
use glimmer_tokenizer::Tokenizer;
use serde_json::{Map, Value};

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
    if !goes_on(matcher, kit, text) {
        return false;
    }
    let may_end = has(&matcher.mask().unwrap(), kit.end);
    assert_eq!(matcher.may_end(), may_end, "a mask and its matcher differ on the end");
    may_end
}

/// Has a text written, by tokens that masks allow, and tells whether they allow all of it.
fn goes_on(matcher: &mut Matcher, kit: &Kit, text: &str) -> bool {
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
    true
}

/// In which order properties are tried first, and how often in another.
struct Order {
    /// Names as the schemas of objects list them.
    lists: Vec<Vec<String>>,
    tries: usize,
}

impl Order {
    fn of(schema: &Value) -> Self {
        let mut order = Order { lists: Vec::new(), tries: 30 };
        order.collect(schema);
        order
    }

    fn collect(&mut self, schema: &Value) {
        match schema {
            Value::Object(fields) => {
                let own = fields.get("properties").and_then(Value::as_object);
                self.lists.extend(own.map(|own| own.keys().cloned().collect()));
                fields.values().for_each(|inner| self.collect(inner));
            }
            Value::Array(items) => items.iter().for_each(|inner| self.collect(inner)),
            _ => {}
        }
    }

    /// The names of an object, as that list has them which knows most of them.
    fn names<'v>(&self, entries: &'v Map<String, Value>) -> Vec<&'v String> {
        let mut names: Vec<&String> = entries.keys().collect();
        let known = |list: &&Vec<String>| list.iter().filter(|name| entries.contains_key(*name)).count();
        if let Some(list) = self.lists.iter().max_by_key(known) {
            names.sort_by_key(|name| list.iter().position(|other| other == *name).unwrap_or(usize::MAX));
        }
        names
    }
}

/// Has a value written whose objects name their properties in whatever order masks allow, and returns what stands there.
fn written(kit: &Kit, matcher: &mut Matcher, value: &Value, order: &mut Order) -> Option<String> {
    match value {
        Value::Object(entries) => properties(kit, matcher, entries, order),
        Value::Array(items) => {
            goes_on(matcher, kit, "[").then_some(())?;
            let mut text = "[".to_owned();
            for (i, item) in items.iter().enumerate() {
                let comma = if i == 0 { "" } else { "," };
                goes_on(matcher, kit, comma).then_some(())?;
                text += comma;
                text += &written(kit, matcher, item, order)?;
            }
            goes_on(matcher, kit, "]").then_some(text + "]")
        }
        _ => {
            // A whole number may be written without a point.
            let whole = value.as_f64().filter(|x| x.fract() == 0.0 && x.abs() < 1e15).map(|x| x as i64);
            let texts = std::iter::once(value.to_string()).chain(whole.map(|whole| whole.to_string()));
            texts.into_iter().find(|text| {
                let mut copy = matcher.clone();
                let goes = goes_on(&mut copy, kit, text);
                if goes {
                    *matcher = copy;
                }
                goes
            })
        }
    }
}

/// An object. Masks want the properties that a schema lists in its order, so that those which cannot be named any more are
/// put before the others, and all are tried again.
fn properties(
    kit: &Kit,
    matcher: &mut Matcher,
    entries: &Map<String, Value>,
    order: &mut Order,
) -> Option<String> {
    let mut names = order.names(entries);
    for _ in 0..=names.len() {
        let (mut copy, mut text) = (matcher.clone(), "{".to_owned());
        goes_on(&mut copy, kit, "{").then_some(())?;
        let (mut named, mut rest) = (Vec::new(), names.clone());
        while let Some(at) = rest.iter().position(|name| {
            let mut next = copy.clone();
            let comma = if named.is_empty() { "" } else { "," };
            let head = format!("{comma}{}:", Value::from(name.as_str()));
            let own = goes_on(&mut next, kit, &head)
                .then(|| written(kit, &mut next, &entries[*name], order))
                .flatten();
            if let Some(own) = &own {
                copy = next;
                text += &(head + own);
            }
            own.is_some()
        }) {
            named.push(rest.remove(at));
        }
        if rest.is_empty() && goes_on(&mut copy, kit, "}") {
            *matcher = copy;
            return Some(text + "}");
        }
        order.tries = order.tries.checked_sub(1)?;
        names = [rest, named].concat();
    }
    None
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

    /// How masks allow a value to be written, if they do, its properties in any order.
    pub(crate) fn written(&self, compiled: &Arc<Compiled>, schema: &Value, value: &Value) -> Option<String> {
        let mut matcher = self.compiler.matcher(compiled, Beginning::Exact);
        let text = written(self, &mut matcher, value, &mut Order::of(schema))?;
        matcher.may_end().then_some(text)
    }

    /// Whether a grammar allows a text.
    pub(crate) fn takes(&self, grammar: &Grammar, text: &str) -> Result<bool, GrammarError> {
        Ok(self.allows(&self.compiler.compile(grammar)?, text))
    }
}
