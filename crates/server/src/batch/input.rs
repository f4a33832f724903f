//! A batch's input: what each line asks for.

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use glimmer::file::open_regular;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::error::{ServerError, shown};

/// Where a batch's requests may go.
const PATHS: [&str; 4] = ["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses"];

/// What the beginning of a file says of its encoding, in UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// What an answer belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Name {
    /// The request with this `custom_id`.
    Request(String),
    /// A line that holds no request, by its number from 1.
    Line(usize),
}

/// A line of the input.
pub(super) struct Line {
    pub(super) name: Name,
    /// The request, or why there is none.
    pub(super) request: Result<Request, String>,
}

/// What is asked of which path. The body is an object's text: a tree of it would take many times as much.
pub(super) struct Request {
    pub(super) url: String,
    pub(super) body: String,
}

/// The fields of a line, as text.
#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(borrow)]
    custom_id: Option<&'a RawValue>,
    #[serde(borrow)]
    method: Option<&'a RawValue>,
    #[serde(borrow)]
    url: Option<&'a RawValue>,
    #[serde(borrow)]
    body: Option<&'a RawValue>,
}

/// What is looked at in a body.
#[derive(Deserialize)]
struct Stream<'a> {
    #[serde(borrow)]
    stream: Option<&'a RawValue>,
}

/// Reads the lines of a file. One that holds no JSON object is an error of its own and holds nobody up; a request that
/// is wrong in form is found before anything is computed.
///
/// # Errors
/// [`ServerError::File`] with the line, also where no line at all holds a request.
pub(super) fn read(path: &Path, longest: usize) -> Result<Vec<Line>, ServerError> {
    let fault = |what: String| ServerError::File { path: path.display().to_string(), what };
    let (file, _) = open_regular(path)?;
    let mut lines = Vec::new();
    let mut names = HashSet::new();
    for_each_line(BufReader::new(file), longest, |number, text| {
        let line = Line::parse(number, text)?;
        if !names.insert(line.name.clone()) {
            let Name::Request(id) = &line.name else { return Ok(()) };
            return Err(format!("the custom_id {:?} was there before", shown(id)));
        }
        lines.push(line);
        Ok(())
    })
    .map_err(|(number, what)| fault(format!("line {number}: {what}")))?;
    match lines.first() {
        Some(Line { name: Name::Line(number), request: Err(what) })
            if lines.iter().all(|line| line.request.is_err()) =>
        {
            Err(fault(format!("line {number}: {what}; no line holds a request")))
        }
        _ => Ok(lines),
    }
}

impl Line {
    fn parse(number: usize, text: &[u8]) -> Result<Self, String> {
        let none = |what: String| Ok(Line { name: Name::Line(number), request: Err(what) });
        if !text.trim_ascii_start().starts_with(b"{") {
            return none("a request is a JSON object".to_owned());
        }
        let fields: Fields<'_> = match serde_json::from_slice(text) {
            Ok(fields) => fields,
            Err(error) => return none(format!("a request is a JSON object: {error}")),
        };
        let string = |name: &str, text: Option<&RawValue>| {
            let text = text.and_then(|text| serde_json::from_str::<String>(text.get()).ok());
            text.ok_or_else(|| format!("`{name}` is to be a string"))
        };
        let id = string("custom_id", fields.custom_id)?;
        let (method, url) = (string("method", fields.method)?, string("url", fields.url)?);
        if method != "POST" {
            return Err(format!("the method is to be POST and not {:?}", shown(&method)));
        }
        if !PATHS.contains(&url.as_str()) {
            return Err(format!("the url is to be one of {}", PATHS.join(", ")));
        }
        let body = fields.body.map(RawValue::get).filter(|body| body.starts_with('{'));
        let body = body.ok_or("`body` is to be an object")?.to_owned();
        let Stream { stream } = serde_json::from_str(&body).map_err(|error| format!("`body`: {error}"))?;
        if stream.is_some_and(|stream| stream.get() == "true") {
            return Err("a batch has no streams".to_owned());
        }
        Ok(Line { name: Name::Request(id), request: Ok(Request { url, body }) })
    }
}

/// Hands over the lines that are not empty, with their numbers from 1. An error comes with the number of its line.
fn for_each_line(
    mut reader: impl BufRead,
    longest: usize,
    mut each: impl FnMut(usize, &[u8]) -> Result<(), String>,
) -> Result<(), (usize, String)> {
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let limit = longest as u64 + 1;
        let read = reader.by_ref().take(limit).read_until(b'\n', &mut line);
        let read = read.map_err(|e| (number, e.to_string()))?;
        if read as u64 == limit && line.last() != Some(&b'\n') {
            return Err((number, format!("the line has more than {longest} bytes")));
        }
        if read == 0 {
            break;
        }
        let text = if number == 1 { line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&line) } else { &line };
        if !text.trim_ascii().is_empty() {
            each(number, text).map_err(|what| (number, what))?;
        }
    }
    Ok(())
}
