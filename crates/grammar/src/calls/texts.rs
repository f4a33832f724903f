//! Texts that stand as they are, as regular expressions that all of a text must match.

use std::collections::HashSet;

use llguidance::derivre::{ExprRef, NextByte, Regex, RegexAst, RegexBuilder};
use serde_json::Map;

use super::{Place, Writer, formats};
use crate::{gbnf, schema};

/// The longest text whose length a mask counts.
const COUNTED: u64 = 4096;
/// States that are looked at to find whether there is any text of some rules.
const STATES: u64 = 10_000;

/// Any text.
const ANY: &str = "(?s:.)*";
/// Any text that is not empty.
const SOME: &str = "(?s:.)+";

/// A regular expression that all of a text is to match, or is not to.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    regex: String,
    holds: bool,
}

impl Rule {
    /// Such texts.
    pub(super) fn is(regex: impl Into<String>) -> Self {
        Rule { regex: regex.into(), holds: true }
    }

    /// Texts that do not have another in them.
    pub(super) fn without(text: &str) -> Self {
        let text: String = text.chars().map(gbnf::escaped).collect();
        Rule { regex: format!("{ANY}{text}{ANY}"), holds: false }
    }

    fn lark(&self) -> String {
        format!("{}/{}/", if self.holds { "" } else { "~" }, self.regex)
    }

    fn ast(&self) -> RegexAst {
        let regex = RegexAst::Regex(self.regex.clone());
        if self.holds { regex } else { RegexAst::Not(Box::new(regex)) }
    }
}

/// Texts that some rules allow.
pub(super) struct Texts {
    /// Those that are not empty, as a terminal.
    pub(super) terminal: Option<String>,
    pub(super) may_be_empty: bool,
    /// Whether it may be that a text can only end and its automaton does not know that it is at its end, on which
    /// llguidance fails where it looks for forced tokens.
    has_blind_end: bool,
}

impl Writer<'_> {
    /// The texts of a schema among those of some rules. Keywords that they are not held to are noted.
    pub(super) fn texts(&mut self, place: &Place<'_>, within: &[Rule]) -> Texts {
        let (least, most) = self.length(place);
        let asked = self.asked_of_text(place);
        if !asked.is_empty() {
            let length = Rule::is(format!("(?s:.){{{least},{most}}}"));
            let rules = [within, &asked, &[length]].concat();
            if let Some(texts) = Texts::of(&rules) {
                self.has_blind_end |= texts.has_blind_end;
                return texts;
            }
            // Together they leave no text, or are too much.
            for keyword in
                ["pattern", "format"].iter().filter(|keyword| place.schema.get(**keyword).is_some())
            {
                self.mark(keyword, &place.at);
            }
        }
        let length = Rule::is(format!("(?s:.){{{},{most}}}", least.max(1)));
        let rules: Vec<String> = within.iter().chain([&length]).map(Rule::lark).collect();
        let terminal = (most != "0").then(|| rules.join(" & "));
        Texts { terminal, may_be_empty: least == 0, has_blind_end: false }
    }

    /// The bounds of a text's length: the upper one is empty where there is none.
    pub(super) fn length(&mut self, place: &Place<'_>) -> (u64, String) {
        let mut bound = |keyword: &str, fits: &dyn Fn(u64) -> bool| {
            let value = place.schema.get(keyword)?;
            // A count may be written as 2.0.
            let count = value.as_f64().filter(|n| n.fract() == 0.0 && (0.0..=COUNTED as f64).contains(n));
            let count = count.map(|n| n as u64).filter(|&n| fits(n));
            if count.is_none() {
                self.mark(keyword, &place.at);
            }
            count
        };
        let least = bound("minLength", &|_| true).unwrap_or(0);
        let most = bound("maxLength", &|most| most >= least);
        (least, most.map_or_else(String::new, |most| most.to_string()))
    }

    /// What else is asked of a text.
    pub(super) fn asked_of_text(&mut self, place: &Place<'_>) -> Vec<Rule> {
        let mut rules = Vec::new();
        for (keyword, value) in place.schema.as_object().into_iter().flat_map(Map::iter) {
            let text = value.as_str().unwrap_or_default();
            let is_held = match keyword.as_str() {
                "pattern" => whole(text).map(|regex| rules.push(Rule::is(regex))).is_some(),
                // A format that nobody knows is a note.
                "format" => {
                    rules.extend(formats::regex(text).map(Rule::is));
                    true
                }
                keyword => !schema::ASKS_OF_TEXTS.contains(&keyword),
            };
            if !is_held {
                self.mark(keyword, &place.at);
            }
        }
        rules
    }
}

impl Texts {
    /// The texts of all of these rules; none where there is no such text, or that is too much to find out.
    fn of(rules: &[Rule]) -> Option<Self> {
        let some = Rule::is(SOME);
        let mut builder = RegexBuilder::new();
        let all = RegexAst::And(rules.iter().map(Rule::ast).collect());
        let all = builder.mk(&all).ok()?;
        let may_be_empty = builder.is_nullable(all);
        let filled = builder.mk(&RegexAst::And(vec![RegexAst::ExprRef(all), some.ast()])).ok()?;
        let mut regex = builder.to_regex_limited(filled, STATES).ok()?;
        let is_filled = !regex.always_empty();
        let terminal: Vec<String> = rules.iter().chain([&some]).map(Rule::lark).collect();
        let terminal = is_filled.then(|| terminal.join(" & "));
        let has_blind_end = is_filled && has_blind_end(&mut regex);
        (is_filled || may_be_empty).then_some(Texts { terminal, may_be_empty, has_blind_end })
    }
}

/// Whether an expression has a state in which nothing may follow and that does not say so, or more states than are looked
/// at.
fn has_blind_end(regex: &mut Regex) -> bool {
    const STATES: usize = 1000;
    let mut classes = HashSet::new();
    let bytes: Vec<u8> = (0..=u8::MAX).filter(|&byte| classes.insert(regex.alpha().map(byte))).collect();
    let mut states = vec![regex.initial_state()];
    let mut seen: HashSet<_> = states.iter().copied().collect();
    while let Some(state) = states.pop() {
        let next = bytes.iter().map(|&byte| regex.transition(state, byte));
        let next: Vec<_> = next.filter(|next| !next.is_dead()).collect();
        let is_blind = next.is_empty() && regex.next_byte(state) != NextByte::ForcedEOI;
        if is_blind || seen.len() > STATES {
            return true;
        }
        states.extend(next.into_iter().filter(|&next| seen.insert(next)));
    }
    false
}

/// Whether nothing matches an expression, if that can be told soon.
fn is_nothing(builder: &RegexBuilder, expression: ExprRef) -> Option<bool> {
    Some(builder.to_regex_limited(expression, STATES).ok()?.always_empty())
}

/// A pattern, which is looked for anywhere in a text, as one that matches all of the text; none where the automata do not
/// know it, or that cannot be shown to be the same.
fn whole(pattern: &str) -> Option<String> {
    let pattern = llguidance::regex_to_lark(pattern, "dw");
    let mut builder = RegexBuilder::new();
    let searched = builder.mk_regex_for_serach(&pattern).ok()?;
    let whole = alternatives(&pattern).into_iter().map(anchored).collect::<Vec<_>>().join("|");
    let matched = builder.mk_regex(&whole).ok()?;
    let mut lacks = |a, b| {
        let b = RegexAst::Not(Box::new(RegexAst::ExprRef(b)));
        let lacking = builder.mk(&RegexAst::And(vec![RegexAst::ExprRef(a), b])).ok()?;
        is_nothing(&builder, lacking).map(|nothing| !nothing)
    };
    let is_same = searched == matched
        || lacks(searched, matched) == Some(false) && lacks(matched, searched) == Some(false);
    is_same.then_some(whole)
}

/// An alternative of a pattern, without the anchors at its ends, and with anything before and after it where it has none.
fn anchored(alternative: &str) -> String {
    let (before, rest) = alternative.strip_prefix('^').map_or((ANY, alternative), |rest| ("", rest));
    let is_anchor = |rest: &&str| (rest.len() - rest.trim_end_matches('\\').len()).is_multiple_of(2);
    let (rest, after) = rest.strip_suffix('$').filter(is_anchor).map_or((rest, ANY), |rest| (rest, ""));
    format!("{before}(?:{rest}){after}")
}

/// The alternatives of a pattern that stand in no group.
fn alternatives(pattern: &str) -> Vec<&str> {
    let (mut from, mut open, mut in_class, mut is_escaped) = (0, 0_usize, false, false);
    let mut found = Vec::new();
    for (at, c) in pattern.char_indices() {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '[' => in_class = true,
            ']' => in_class = false,
            '(' if !in_class => open += 1,
            ')' if !in_class => open = open.saturating_sub(1),
            '|' if !in_class && open == 0 => {
                found.push(&pattern[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    found.push(&pattern[from..]);
    found
}
