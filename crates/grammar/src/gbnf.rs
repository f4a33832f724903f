//! Grammars in llama.cpp's notation (<https://github.com/ggml-org/llama.cpp/blob/master/grammars/README.md>), written anew
//! in Lark.
//!
//! A rule that does not lead back to itself becomes a regular expression: a grammar without recursion is one, and means
//! exactly what it does in llama.cpp. Where a recursive rule has such a part beside another that could take the same
//! characters, the longest is taken, as lexers do; no answer is allowed that llama.cpp would refuse.

use std::collections::HashMap;
use std::fmt::Write;

/// Rules of a grammar.
const RULES: usize = 4096;
/// Most repetitions that a number asks for.
const REPETITIONS: u32 = 2000;

/// A part of a rule.
#[derive(Debug)]
enum Node {
    /// One of these.
    Choice(Vec<Node>),
    /// All of these in order.
    Sequence(Vec<Node>),
    /// A character: a class of a regular expression, or an escaped character.
    Character(String),
    Rule(usize),
    Repeat(Box<Node>, u32, Option<u32>),
}

/// A character of a text or class as a regular expression has it.
pub(crate) fn escaped(c: char) -> String {
    if c.is_ascii_alphanumeric() { c.to_string() } else { format!("\\x{{{:X}}}", u32::from(c)) }
}

/// The same grammar in Lark.
pub(crate) fn to_lark(source: &str) -> Result<String, String> {
    let mut parser = Parser { rest: source, names: HashMap::new(), rules: Vec::new() };
    parser.grammar().map_err(|what| {
        let line = source[..source.len() - parser.rest.len()].matches('\n').count() + 1;
        format!("line {line}: {what}")
    })?;
    let root = *parser.names.get("root").ok_or("there is no rule `root`")?;
    let undefined = parser.names.iter().find(|&(_, &rule)| parser.rules[rule].is_none());
    if let Some((name, _)) = undefined {
        return Err(format!("the rule `{}` is not defined", crate::error::first_line(name)));
    }
    let rules: Vec<Node> = parser.rules.into_iter().flatten().collect();
    Ok(write_lark(&rules, root))
}

struct Parser<'s> {
    rest: &'s str,
    names: HashMap<String, usize>,
    rules: Vec<Option<Node>>,
}

impl Parser<'_> {
    fn grammar(&mut self) -> Result<(), String> {
        self.skip(true);
        while !self.rest.is_empty() {
            let name = self.name().ok_or("a rule's name is expected")?;
            let rule = self.rule(name)?;
            self.skip(false);
            self.expect("::=")?;
            self.skip(true);
            let node = self.choice(false)?;
            if self.rules[rule].replace(node).is_some() {
                return Err("a rule of this name is defined before".to_owned());
            }
            self.skip(true);
        }
        Ok(())
    }

    /// The number of a rule, known or to come.
    fn rule(&mut self, name: String) -> Result<usize, String> {
        let next = self.rules.len();
        let rule = *self.names.entry(name).or_insert(next);
        if rule == next {
            if next == RULES {
                return Err(format!("there are more than {RULES} rules"));
            }
            self.rules.push(None);
        }
        Ok(rule)
    }

    /// Skips blanks and comments; line breaks, too, where a rule cannot end.
    fn skip(&mut self, lines: bool) {
        loop {
            let blanks = |c: char| c == ' ' || c == '\t' || (lines && (c == '\n' || c == '\r'));
            self.rest = self.rest.trim_start_matches(blanks);
            if !self.rest.starts_with('#') {
                return;
            }
            self.rest = &self.rest[self.rest.find('\n').unwrap_or(self.rest.len())..];
        }
    }

    fn name(&mut self) -> Option<String> {
        let end = self.rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '_');
        let (name, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        (!name.is_empty()).then(|| name.to_owned())
    }

    fn expect(&mut self, text: &str) -> Result<(), String> {
        self.rest = self.rest.strip_prefix(text).ok_or_else(|| format!("`{text}` is expected"))?;
        Ok(())
    }

    /// Alternatives, up to the end of the rule or of the group.
    fn choice(&mut self, nested: bool) -> Result<Node, String> {
        let mut options = vec![self.sequence(nested)?];
        while let Some(rest) = self.rest.strip_prefix('|') {
            self.rest = rest;
            self.skip(true);
            options.push(self.sequence(nested)?);
        }
        Ok(if options.len() == 1 { options.remove(0) } else { Node::Choice(options) })
    }

    fn sequence(&mut self, nested: bool) -> Result<Node, String> {
        let mut items = Vec::new();
        loop {
            let item = match self.rest.chars().next() {
                Some('"') => self.text()?,
                Some('[') => self.class()?,
                Some('.') => {
                    self.rest = &self.rest[1..];
                    Node::Character("(?s:.)".to_owned())
                }
                Some('(') => {
                    self.rest = &self.rest[1..];
                    self.skip(true);
                    let inner = self.choice(true)?;
                    self.expect(")")?;
                    inner
                }
                Some(c) if c.is_ascii_alphanumeric() || c == '-' || c == '_' => {
                    let name = self.name().ok_or("a rule's name is expected")?;
                    Node::Rule(self.rule(name)?)
                }
                _ => return Ok(Node::Sequence(items)),
            };
            items.push(self.repeated(item)?);
            self.skip(nested);
        }
    }

    fn repeated(&mut self, mut item: Node) -> Result<Node, String> {
        loop {
            let (min, max) = match self.rest.chars().next() {
                Some('*') => (0, None),
                Some('+') => (1, None),
                Some('?') => (0, Some(1)),
                Some('{') => self.counts()?,
                _ => return Ok(item),
            };
            self.rest = &self.rest[1..];
            item = Node::Repeat(Box::new(item), min, max);
        }
    }

    /// The numbers of `{m}`, `{m,}`, `{,n}` or `{m,n}`, up to the bracket that closes them.
    fn counts(&mut self) -> Result<(u32, Option<u32>), String> {
        let end = self.rest.find('}').ok_or("`}` is expected")?;
        let inner = &self.rest[1..end];
        let number = |text: &str| {
            let number = text.trim().parse().ok().filter(|&n: &u32| n <= REPETITIONS);
            number.ok_or_else(|| format!("a number up to {REPETITIONS} is expected in `{{}}`"))
        };
        let counts = match inner.split_once(',') {
            None => (number(inner)?, Some(number(inner)?)),
            Some((min, max)) => {
                let min = if min.trim().is_empty() { 0 } else { number(min)? };
                let max = if max.trim().is_empty() { None } else { Some(number(max)?) };
                (min, max)
            }
        };
        if counts.1.is_some_and(|max| max < counts.0) {
            return Err("the second number in `{}` is smaller than the first".to_owned());
        }
        self.rest = &self.rest[end..];
        Ok(counts)
    }

    fn text(&mut self) -> Result<Node, String> {
        self.rest = &self.rest[1..];
        let mut characters = Vec::new();
        while !self.rest.starts_with('"') {
            characters.push(Node::Character(escaped(self.character()?)));
        }
        self.rest = &self.rest[1..];
        Ok(Node::Sequence(characters))
    }

    fn class(&mut self) -> Result<Node, String> {
        self.rest = &self.rest[1..];
        let mut class = String::from("[");
        if let Some(rest) = self.rest.strip_prefix('^') {
            self.rest = rest;
            class.push('^');
        }
        let empty = class.len();
        while !self.rest.starts_with(']') {
            let first = self.character()?;
            class.push_str(&escaped(first));
            if self.rest.starts_with('-') && !self.rest.starts_with("-]") {
                self.rest = &self.rest[1..];
                let last = self.character()?;
                if last < first {
                    return Err("a range in `[]` ends before it begins".to_owned());
                }
                let _ = write!(class, "-{}", escaped(last));
            }
        }
        self.rest = &self.rest[1..];
        match (class.len() == empty, empty) {
            (true, 1) => Err("`[]` is empty".to_owned()),
            (true, _) => Ok(Node::Character("(?s:.)".to_owned())),
            _ => Ok(Node::Character(class + "]")),
        }
    }

    /// A character of a text or class, in which a backslash escapes.
    fn character(&mut self) -> Result<char, String> {
        let mut characters = self.rest.chars();
        let first = characters.next().filter(|&c| c != '\n').ok_or("a text or class has no end")?;
        self.rest = characters.as_str();
        if first != '\\' {
            return Ok(first);
        }
        let escape = characters.next().ok_or("a text or class has no end")?;
        self.rest = characters.as_str();
        match escape {
            'n' => Ok('\n'),
            'r' => Ok('\r'),
            't' => Ok('\t'),
            'x' => self.code(2),
            'u' => self.code(4),
            'U' => self.code(8),
            '\\' | '"' | '[' | ']' | '-' | '^' | '/' | '.' => Ok(escape),
            _ => Err("an unknown escape".to_owned()),
        }
    }

    fn code(&mut self, digits: usize) -> Result<char, String> {
        let code = self.rest.get(..digits).and_then(|digits| u32::from_str_radix(digits, 16).ok());
        let code = code.and_then(char::from_u32).ok_or("an escape that is no character")?;
        self.rest = &self.rest[digits..];
        Ok(code)
    }
}

/// Whether each rule leads back to itself, or to one that does.
fn recursive(rules: &[Node]) -> Vec<bool> {
    fn references(node: &Node, found: &mut Vec<usize>) {
        match node {
            Node::Choice(nodes) | Node::Sequence(nodes) => nodes.iter().for_each(|n| references(n, found)),
            Node::Repeat(node, ..) => references(node, found),
            Node::Rule(rule) => found.push(*rule),
            Node::Character(_) => {}
        }
    }
    let edges: Vec<Vec<usize>> = rules
        .iter()
        .map(|rule| {
            let mut found = Vec::new();
            references(rule, &mut found);
            found
        })
        .collect();
    // What leads only to rules that are known to end, ends.
    let mut recursive = vec![true; rules.len()];
    loop {
        let ends = |rule: usize| recursive[rule] && edges[rule].iter().all(|&to| !recursive[to]);
        let found: Vec<usize> = (0..rules.len()).filter(|&rule| ends(rule)).collect();
        if found.is_empty() {
            return recursive;
        }
        found.into_iter().for_each(|rule| recursive[rule] = false);
    }
}

fn write_lark(rules: &[Node], root: usize) -> String {
    let recursive = recursive(rules);
    let name = |rule: usize| if recursive[rule] { format!("r{rule}") } else { format!("T{rule}") };
    let mut lark = format!("start: {}\n", name(root));
    for (rule, node) in rules.iter().enumerate() {
        let _ = write!(lark, "{}: ", name(rule));
        write_node(node, &name, &mut lark);
        lark.push('\n');
    }
    lark
}

fn write_node(node: &Node, name: &dyn Fn(usize) -> String, lark: &mut String) {
    match node {
        Node::Sequence(nodes) if nodes.is_empty() => lark.push_str("\"\""),
        Node::Choice(nodes) | Node::Sequence(nodes) => {
            let between = if matches!(node, Node::Choice(_)) { " | " } else { " " };
            lark.push('(');
            let mut at = 0;
            while at < nodes.len() {
                lark.push_str(if at > 0 { between } else { "" });
                at += write_run(&nodes[at..], matches!(node, Node::Sequence(_)), name, lark);
            }
            lark.push(')');
        }
        Node::Character(class) => {
            let _ = write!(lark, "/{class}/");
        }
        Node::Rule(rule) => lark.push_str(&name(*rule)),
        Node::Repeat(inner, min, max) => {
            lark.push('(');
            write_node(inner, name, lark);
            let _ = match (min, max) {
                (0, None) => write!(lark, ")*"),
                (1, None) => write!(lark, ")+"),
                (0, Some(1)) => write!(lark, ")?"),
                (min, Some(max)) => write!(lark, "){{{min},{max}}}"),
                (min, None) => write!(lark, "){{{min},}}"),
            };
        }
    }
}

/// Writes the next of some nodes, or all characters in a row as one expression; returns how many that are.
fn write_run(nodes: &[Node], joins: bool, name: &dyn Fn(usize) -> String, lark: &mut String) -> usize {
    let class = |node: &Node| if let Node::Character(class) = node { Some(class.clone()) } else { None };
    let run: Vec<String> = nodes.iter().map_while(class).collect();
    if joins && run.len() > 1 {
        let _ = write!(lark, "/{}/", run.concat());
        return run.len();
    }
    write_node(&nodes[0], name, lark);
    1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_without_recursion_are_terminals() {
        let lark = to_lark("root ::= \"a\" item+ # all\nitem ::= [0-9x] |\n  \"\\n\" root?").unwrap();
        assert_eq!(lark, "start: r0\nr0: ((/a/) (r1)+)\nr1: ((/[0-9x]/) | ((/\\x{A}/) (r0)?))\n");
        let lark = to_lark("root ::= w{2,3} [^\\]-]\nw ::= \"ab\" | ").unwrap();
        assert_eq!(lark, "start: T0\nT0: ((T1){2,3} /[^\\x{5D}\\x{2D}]/)\nT1: (((/ab/)) | \"\")\n");
    }

    #[test]
    fn faults_are_named_with_their_line() {
        for (source, expected) in [
            ("", "there is no rule `root`"),
            ("root ::= a", "the rule `a` is not defined"),
            ("root ::= \"a\nb ::= \"c\"", "line 1: a text or class has no end"),
            ("root ::= [z-a]", "line 1: a range in `[]` ends before it begins"),
            ("root ::= (\"a\"", "line 1: `)` is expected"),
            ("root = \"a\"", "line 1: `::=` is expected"),
            ("root ::= \"a\"{9999}", "line 1: a number up to 2000 is expected in `{}`"),
            ("root ::= \"a\"\nroot ::= \"b\"", "line 2: a rule of this name is defined before"),
            ("root ::= \"\\uD800\"", "line 1: an escape that is no character"),
        ] {
            assert_eq!(to_lark(source).unwrap_err(), expected, "{source}");
        }
    }
}
