//! Calls by a first line: a reply, or what follows an `<|assistant|>` in it, whose first line is a tool's name.
//!
//! GLM-4, 4V, Edge, 0414 and Z1 write `name\n{json}`; ChatGLM3 writes `name\n```python\ntool_call(…)\n````. Only
//! the name of a tool of the request makes a call; anything else is text, and is passed on as soon as its first
//! line can no longer become a name. Source: `process_response` of the models' own servers.

use super::arguments::Tools;
use super::json_scanner::{JsonScanner, Scan};
use super::{ReplyPart, Sink, python_call};
use crate::python;
use serde_json::{Value, json};

/// Who writes the lines.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Dialect {
    Glm4,
    ChatGlm3,
}

#[derive(Debug)]
pub(super) struct Lines {
    dialect: Dialect,
    tools: Tools,
    state: State,
}

#[derive(Debug)]
enum State {
    /// White space before the first line.
    Blank(String),
    /// The first line so far: all of it, and where it begins after the white space.
    Line {
        raw: String,
        start: usize,
    },
    /// After a line that is a tool's name: white space before its arguments.
    Named {
        raw: String,
        name: String,
    },
    Text,
    /// JSON arguments as they come; held until their first member is whole.
    Json {
        name: String,
        scanner: JsonScanner,
        held: String,
        raw: String,
    },
    /// Arguments that turned out not to be JSON when they were under way: the call stays without an end.
    Broken,
    /// A body that means something only as a whole; and what stood before it, should it mean nothing.
    Whole {
        name: String,
        body: String,
        raw: String,
    },
    /// After a call: white space, or text after all.
    AfterCall,
}

/// White space after a tool's name that is still taken for the end of its line.
const MAX_LINE: usize = 512;

impl Lines {
    pub(super) fn new(dialect: Dialect, tools: Tools) -> Lines {
        Lines { dialect, tools, state: State::Blank(String::new()) }
    }

    pub(super) fn feed(&mut self, text: &str, sink: &mut Sink<'_>) {
        match &mut self.state {
            State::Blank(blank) => {
                // GLM-4's ordinary answers begin with a newline, which says nothing; ChatGLM3's with an empty first
                // line, which says that no tool is called.
                let begun = match self.dialect {
                    Dialect::Glm4 => text.trim_start_matches(python::is_space),
                    Dialect::ChatGlm3 => text.trim_start_matches([' ', '\t']),
                };
                blank.push_str(&text[..text.len() - begun.len()]);
                if !begun.is_empty() {
                    let raw = std::mem::take(blank);
                    self.state = State::Line { start: raw.len(), raw };
                    self.feed(begun, sink);
                }
            }
            State::Line { .. } => self.line(text, sink),
            State::Named { .. } => self.named(text, sink),
            State::Text => sink(ReplyPart::Text(text.to_owned())),
            State::AfterCall => {
                if !python::strip(text).is_empty() {
                    self.state = State::Text;
                    sink(ReplyPart::Text(text.to_owned()));
                }
            }
            State::Json { .. } => self.json(text, sink),
            State::Broken => sink(ReplyPart::ToolCallArguments(text.to_owned())),
            State::Whole { body, .. } => body.push_str(text),
        }
    }

    pub(super) fn end_segment(&mut self, sink: &mut Sink<'_>) {
        match std::mem::replace(&mut self.state, State::Blank(String::new())) {
            State::Blank(raw) | State::Line { raw, .. } | State::Named { raw, .. } if !raw.is_empty() => {
                sink(ReplyPart::Text(raw));
            }
            State::Json { scanner, held, raw, .. } if !scanner.first_member => {
                sink(ReplyPart::Text(raw + &held))
            }
            State::Whole { name, body, raw } => self.whole(&name, &body, raw, sink),
            _ => {}
        }
    }

    /// Decides on the first line as soon as it can no longer become a tool's name, or is one.
    fn line(&mut self, text: &str, sink: &mut Sink<'_>) {
        let State::Line { raw, start } = &mut self.state else { return };
        raw.push_str(text);
        let line = &raw[*start..];
        let Some(end) = line.find('\n') else {
            let named = line.len() < MAX_LINE && self.tools.has(python::strip(line));
            if !named && !self.tools.any_starts_with(line) {
                let text = std::mem::take(raw);
                self.state = State::Text;
                sink(ReplyPart::Text(text));
            }
            return;
        };
        let name = python::strip(&line[..end]).to_owned();
        let mut raw = std::mem::take(raw);
        if self.tools.has(&name) {
            let rest = raw.split_off(*start + end + 1);
            self.state = State::Named { raw, name };
            self.named(&rest, sink);
        } else {
            self.state = State::Text;
            sink(ReplyPart::Text(raw));
        }
    }

    /// Decides on what follows a tool's name, by its first character.
    fn named(&mut self, text: &str, sink: &mut Sink<'_>) {
        let State::Named { raw, name } = &mut self.state else { return };
        if self.dialect == Dialect::ChatGlm3 {
            let (name, raw) = (std::mem::take(name), std::mem::take(raw));
            self.state = State::Whole { name, body: text.to_owned(), raw };
            return;
        }
        let body = text.trim_start_matches(python::is_space);
        raw.push_str(&text[..text.len() - body.len()]);
        if body.is_empty() {
            return;
        }
        let (name, raw) = (std::mem::take(name), std::mem::take(raw));
        if body.starts_with('{') {
            self.state = State::Json { name, scanner: JsonScanner::of_object(), held: String::new(), raw };
            self.json(body, sink);
        } else if is_builtin(&name) {
            self.state = State::Whole { name, body: body.to_owned(), raw };
        } else {
            self.state = State::Text;
            sink(ReplyPart::Text(raw + body));
        }
    }

    fn json(&mut self, text: &str, sink: &mut Sink<'_>) {
        let State::Json { name, scanner, held, raw } = &mut self.state else { return };
        let started = scanner.first_member;
        let scan = scanner.scan(text);
        if !scanner.first_member {
            if let Scan::Invalid(_) = scan {
                let text = format!("{raw}{held}{text}");
                self.state = State::Text;
                return sink(ReplyPart::Text(text));
            }
            held.push_str(text);
            return;
        }
        if !started {
            sink(ReplyPart::ToolCallStart { name: std::mem::take(name) });
        }
        let end = if let Scan::End(end) = scan { end } else { text.len() };
        let arguments = std::mem::take(held) + &text[..end];
        if !arguments.is_empty() {
            sink(ReplyPart::ToolCallArguments(arguments));
        }
        match scan {
            Scan::More => {}
            Scan::Invalid(_) => self.state = State::Broken,
            Scan::End(_) => {
                sink(ReplyPart::ToolCallEnd);
                self.state = State::AfterCall;
                self.feed(&text[end..], sink);
            }
        }
    }

    /// A body that was held to its end.
    fn whole(&self, name: &str, body: &str, raw: String, sink: &mut Sink<'_>) {
        let arguments = match self.dialect {
            Dialect::ChatGlm3 if name == "interpreter" => Some(json!({"code": unfenced(body)})),
            Dialect::ChatGlm3 => python_call::arguments(unfenced(body)).map(Value::Object),
            Dialect::Glm4 => Some(match (name, browser_search(body)) {
                ("simple_browser", Some(search)) => search,
                ("simple_browser", None) => json!({"query": python::strip(body)}),
                ("cogview", _) => json!({"prompt": python::strip(body)}),
                _ => json!({"code": python::strip(body)}),
            }),
        };
        match arguments {
            Some(arguments) => {
                sink(ReplyPart::ToolCallStart { name: name.to_owned() });
                sink(ReplyPart::ToolCallArguments(python::dumps(&arguments)));
                sink(ReplyPart::ToolCallEnd);
            }
            None => sink(ReplyPart::Text(raw + body)),
        }
    }
}

/// The tools of GLM-4's All Tools, whose bodies are no JSON.
fn is_builtin(name: &str) -> bool {
    matches!(name, "python" | "simple_browser" | "cogview")
}

/// The inside of a Markdown fence, or the text itself.
fn unfenced(body: &str) -> &str {
    let body = python::strip(body);
    let Some(inside) = body.strip_prefix("```") else { return body };
    let inside = inside.split_once('\n').map_or("", |(_, inside)| inside);
    inside.strip_suffix("```").unwrap_or(inside).trim_end_matches('\n')
}

/// `search("query", recency_days=3)`.
fn browser_search(body: &str) -> Option<Value> {
    let inside = python::strip(body).strip_prefix("search(\"")?;
    let (query, rest) = inside.rsplit_once("\",")?;
    let days = rest.trim().strip_prefix("recency_days")?.trim_start().strip_prefix('=')?;
    let days: i64 = days.trim().strip_suffix(')')?.trim().parse().ok()?;
    Some(json!({"query": query, "recency_days": days}))
}
