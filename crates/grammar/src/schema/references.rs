//! References within a schema: each place that is referred to becomes one of `$defs`.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_json::Value;

/// The places that were referred to.
pub(super) struct References<'s> {
    root: &'s Value,
    /// Pointers by the names that schemas give themselves: `$anchor`, `$id`, and `id` of draft 4. `None` for a name of two.
    named: BTreeMap<String, Option<String>>,
    /// The name in `$defs` of each pointer.
    names: BTreeMap<String, String>,
    /// Names and pointers that are yet to be written.
    waiting: VecDeque<(String, String)>,
    /// Whether what stands at a pointer leads back to it.
    circular: BTreeMap<String, bool>,
    /// How many more values are looked at for that.
    patience: usize,
    ignores_siblings: bool,
    /// Values that may still be compared.
    comparisons: Cell<usize>,
}

/// Values of schemas that are compared to tell whether they have one in common.
const COMPARISONS: usize = 1_000_000;
/// Values that are looked at to find circles: beyond, there is none.
const PATIENCE: usize = 2_000_000;

/// A key as a JSON pointer has it (RFC 6901).
pub(crate) fn escaped(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

impl<'s> References<'s> {
    pub(super) fn new(root: &'s Value) -> Self {
        let draft = root.get("$schema").and_then(Value::as_str).unwrap_or_default();
        let mut named = BTreeMap::new();
        name_all(root, &mut String::new(), &mut named);
        References {
            root,
            named,
            names: BTreeMap::new(),
            waiting: VecDeque::new(),
            circular: BTreeMap::new(),
            patience: PATIENCE,
            ignores_siblings: ["draft-04", "draft-06", "draft-07"].iter().any(|old| draft.contains(old)),
            comparisons: Cell::new(COMPARISONS),
        }
    }

    /// Whether `$ref` is alone in a schema whatever stands beside it, as up to draft 7.
    pub(super) fn ignores_siblings(&self) -> bool {
        self.ignores_siblings
    }

    /// Whether so many more values may be compared.
    pub(super) fn may_compare(&self, count: usize) -> bool {
        let left = self.comparisons.get().checked_sub(count);
        self.comparisons.set(left.unwrap_or(0));
        left.is_some()
    }

    /// The reference, from a schema at a pointer, in the words of the schema as it is written anew.
    pub(super) fn name(&mut self, reference: &str, from: &str) -> Result<String, &'static str> {
        let pointer = self.pointer(reference, from)?;
        if self.target(&pointer).is_none() {
            return Err("`$ref` refers to nothing in the schema");
        }
        Ok(self.definition(pointer))
    }

    /// A reference to what stands at a pointer.
    pub(super) fn definition(&mut self, pointer: String) -> String {
        let next = format!("d{}", self.names.len());
        let waiting = &mut self.waiting;
        let name = self.names.entry(pointer.clone()).or_insert_with(|| {
            waiting.push_back((next.clone(), pointer));
            next
        });
        format!("#/$defs/{name}")
    }

    /// The next place that is yet to be written.
    pub(super) fn next(&mut self) -> Option<(String, String)> {
        self.waiting.pop_front()
    }

    /// The pointer of a reference as it is written anew.
    pub(super) fn pointer_of(&self, written: &Value) -> Option<String> {
        let name = written.as_str()?.strip_prefix("#/$defs/")?;
        self.names.iter().find(|(_, other)| *other == name).map(|(pointer, _)| pointer.clone())
    }

    /// Whether what a reference (as it is written anew) leads to leads back to it.
    pub(super) fn is_circular(&mut self, written: &Value) -> bool {
        let Some(start) = self.pointer_of(written) else { return false };
        if let Some(&known) = self.circular.get(&start) {
            return known;
        }
        let (mut seen, mut waiting) = (BTreeSet::new(), vec![start.clone()]);
        let mut leads_back = false;
        while let Some(pointer) = waiting.pop().filter(|_| !leads_back && self.patience > 0) {
            let Some(target) = self.target(&pointer) else { continue };
            let mut found = Vec::new();
            collect(target, &mut found, &mut self.patience);
            for reference in found {
                let Ok(next) = self.pointer(reference, &pointer) else { continue };
                leads_back |= start == next || start.starts_with(&format!("{next}/"));
                if seen.insert(next.clone()) {
                    waiting.push(next);
                }
            }
        }
        self.circular.insert(start, leads_back);
        leads_back
    }

    /// What stands at a pointer.
    pub(super) fn target(&self, pointer: &str) -> Option<&'s Value> {
        self.root.pointer(pointer)
    }

    /// What a reference leads to, for looking at.
    pub(super) fn look(&self, reference: &str, from: &str) -> Option<&'s Value> {
        self.target(&self.pointer(reference, from).ok()?)
    }

    /// The pointer that a reference means.
    pub(super) fn pointer(&self, reference: &str, from: &str) -> Result<String, &'static str> {
        const ABROAD: &str = "`$ref` refers to what is not in the schema";
        let (document, fragment) = reference.split_once('#').unwrap_or((reference, ""));
        let base = if document.is_empty() {
            // Within a schema that has an address of its own, `#` is that schema.
            let own = self.named.iter().filter(|(name, _)| !name.starts_with('#'));
            let around = own.filter_map(|(_, at)| at.as_deref()).filter(|at| from.starts_with(at));
            around.max_by_key(|at| at.len()).unwrap_or("").to_owned()
        } else {
            let relative = |name: &&String| name.rsplit('/').next() == Some(document);
            let name = self.named.keys().find(|name| name.trim_end_matches('#') == document);
            let name = name.or_else(|| self.named.keys().find(relative)).ok_or(ABROAD)?;
            self.named[name].clone().ok_or(ABROAD)?
        };
        if fragment.is_empty() {
            return Ok(base);
        }
        let fragment = percent_decoded(fragment).ok_or("`$ref` is no reference")?;
        match fragment.strip_prefix('/') {
            Some(_) => Ok(base + &fragment),
            None => self.named.get(&format!("#{fragment}")).cloned().flatten().ok_or(ABROAD),
        }
    }
}

/// Collects the references in a value.
fn collect<'v>(value: &'v Value, found: &mut Vec<&'v str>, patience: &mut usize) {
    *patience = patience.saturating_sub(1);
    match value {
        _ if *patience == 0 => {}
        Value::Object(fields) => {
            found.extend(fields.get("$ref").and_then(Value::as_str));
            fields.values().for_each(|inner| collect(inner, found, patience));
        }
        Value::Array(items) => items.iter().for_each(|inner| collect(inner, found, patience)),
        _ => {}
    }
}

/// Collects the names that schemas give themselves. Anchors have a `#` before them.
fn name_all(value: &Value, at: &mut String, named: &mut BTreeMap<String, Option<String>>) {
    let here = at.len();
    match value {
        Value::Object(entries) => {
            for (key, inner) in entries {
                let name = match (key.as_str(), inner.as_str()) {
                    ("$id" | "id", Some(name)) => Some(name.to_owned()),
                    ("$anchor" | "$dynamicAnchor", Some(anchor)) => Some(format!("#{anchor}")),
                    _ => None,
                };
                if let Some(name) = name {
                    named.entry(name).and_modify(|at| *at = None).or_insert_with(|| Some(at.clone()));
                }
                at.push('/');
                at.push_str(&escaped(key));
                // What is data is no schema.
                if !["enum", "const", "default", "examples"].contains(&key.as_str()) {
                    name_all(inner, at, named);
                }
                at.truncate(here);
            }
        }
        Value::Array(items) => {
            for (i, inner) in items.iter().enumerate() {
                at.push_str(&format!("/{i}"));
                name_all(inner, at, named);
                at.truncate(here);
            }
        }
        _ => {}
    }
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let code = after.get(..2).and_then(|code| std::str::from_utf8(code).ok());
        match code.filter(|_| *first == b'%') {
            Some(code) => {
                bytes.push(u8::from_str_radix(code, 16).ok()?);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).ok()
}
