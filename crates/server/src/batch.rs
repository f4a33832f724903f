//! Many requests from a file, in the OpenAI API's batch format: what a server would have answered, without a server.
//!
//! A line of the input is `{"custom_id", "method", "url", "body"}`, a line of the output `{"id", "custom_id", "response":
//! {"status_code", "request_id", "body"}, "error"}`, in the order in which answers are ready. Each answer is written as a
//! whole line at once; a run that was cut off goes on where it was, by the names that the output has already.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use glimmer::Registry;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tower::ServiceExt;

use crate::app::App;
use crate::error::ServerError;
use crate::options::Options;
use crate::router::router;

/// Where a batch's requests may go.
const PATHS: [&str; 3] = ["/v1/chat/completions", "/v1/completions", "/v1/embeddings"];

/// How a batch went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BatchSummary {
    /// Answered in this run.
    pub answered: usize,
    /// Of these, with an error.
    pub failed: usize,
    /// Answered by an earlier run.
    pub before: usize,
}

/// A batch: checked, not begun.
pub struct Batch {
    lines: Vec<Line>,
    output: File,
    path: String,
    before: usize,
}

struct Line {
    id: String,
    url: String,
    body: Value,
}

impl Batch {
    /// Reads the input and what the output has of it already. Nothing is computed; everything that is wrong with the
    /// input's form is found here.
    ///
    /// # Errors
    /// [`ServerError::File`] with the line.
    pub fn open(input: &Path, output: &Path, longest: usize) -> Result<Self, ServerError> {
        let fault = |path: &Path, what: String| ServerError::File { path: path.display().to_string(), what };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(output)
            .map_err(|e| fault(output, e.to_string()))?;
        let done = answered(&mut file, longest).map_err(|what| fault(output, what))?;
        let reader = BufReader::new(File::open(input).map_err(|e| fault(input, e.to_string()))?);
        let mut lines = Vec::new();
        let mut names = HashSet::new();
        let mut before = 0;
        for_each_line(reader, longest, &mut |number, text| {
            let line = Line::parse(text).map_err(|what| format!("line {number}: {what}"))?;
            if !names.insert(line.id.clone()) {
                return Err(format!("line {number}: the custom_id {:?} was there before", line.id));
            }
            if done.contains(&line.id) {
                before += 1;
            } else {
                lines.push(line);
            }
            Ok(())
        })
        .map_err(|what| fault(input, what))?;
        Ok(Batch { lines, output: file, path: output.display().to_string(), before })
    }

    /// Requests that are still to be answered.
    pub fn remaining(&self) -> usize {
        self.lines.len()
    }

    /// Answers them, `at_once` at a time; `each` is told after each how many are done.
    ///
    /// # Errors
    /// When the output cannot be written.
    pub fn run(
        mut self,
        options: Options,
        registry: Registry,
        at_once: usize,
        each: &mut dyn FnMut(usize),
    ) -> Result<BatchSummary, ServerError> {
        let app = App::new(options, None)?;
        app.ready(registry);
        let router = router(&app)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let summary = runtime.block_on(self.answer(&app, &router, at_once, each));
        app.record.close();
        summary
    }

    async fn answer(
        &mut self,
        app: &Arc<App>,
        router: &Router,
        at_once: usize,
        each: &mut dyn FnMut(usize),
    ) -> Result<BatchSummary, ServerError> {
        let mut summary = BatchSummary { before: self.before, ..BatchSummary::default() };
        let mut waiting = std::mem::take(&mut self.lines).into_iter();
        let mut running = JoinSet::new();
        loop {
            while running.len() < at_once.max(1)
                && let Some(line) = waiting.next()
            {
                running.spawn(answer_one(router.clone(), line, app.random()));
            }
            // A panic of one request is the others' no business, but its line would be missing without a word.
            let Some(finished) = running.join_next().await else { return Ok(summary) };
            let (line, good) = finished.map_err(|e| ServerError::Panic(format!("a request failed: {e}")))?;
            let written = self.output.write_all(format!("{line}\n").as_bytes());
            written.map_err(|e| ServerError::File { path: self.path.clone(), what: e.to_string() })?;
            summary.answered += 1;
            summary.failed += usize::from(!good);
            each(summary.answered);
        }
    }
}

impl Line {
    fn parse(text: &str) -> Result<Self, String> {
        let mut value: Value = serde_json::from_str(text).map_err(|e| e.to_string())?;
        let mut string = |name: &str| match value[name].take() {
            Value::String(text) => Ok(text),
            _ => Err(format!("`{name}` is to be a string")),
        };
        let (id, method, url) = (string("custom_id")?, string("method")?, string("url")?);
        if method != "POST" {
            return Err(format!("the method is to be POST and not {method:?}"));
        }
        if !PATHS.contains(&url.as_str()) {
            return Err(format!("the url is to be one of {}", PATHS.join(", ")));
        }
        let body = value["body"].take();
        match &body {
            Value::Object(fields) if fields.get("stream") == Some(&Value::Bool(true)) => {
                Err("a batch has no streams".to_owned())
            }
            Value::Object(_) => Ok(Line { id, url, body }),
            _ => Err("`body` is to be an object".to_owned()),
        }
    }
}

/// A request's answer as a line of the output, and whether it is a good one.
async fn answer_one(router: Router, line: Line, number: u64) -> (Value, bool) {
    loop {
        let request = Request::post(&line.url)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(line.body.to_string()))
            .expect("the url is one of a few that parse");
        let Ok(response) = router.clone().oneshot(request).await;
        let status = response.status();
        if status == StatusCode::TOO_MANY_REQUESTS {
            // Requests with several answers have filled the queue.
            tokio::time::sleep(Duration::from_millis(200)).await;
            continue;
        }
        let id = response.headers().get("x-request-id").and_then(|id| id.to_str().ok()).map(str::to_owned);
        let body = match response.into_body().collect().await {
            Ok(body) => serde_json::from_slice(&body.to_bytes()).unwrap_or(Value::Null),
            Err(_) => Value::Null,
        };
        let answer = json!({
            "id": format!("batch_req_{number:016x}"),
            "custom_id": line.id,
            "response": {"status_code": status.as_u16(), "request_id": id, "body": body},
            "error": null,
        });
        return (answer, status.is_success());
    }
}

/// The names that have an answer; the end of a line that was cut off is removed. What failed by the server's fault is
/// asked again.
fn answered(output: &mut File, longest: usize) -> Result<HashSet<String>, String> {
    let mut done = HashSet::new();
    let mut whole = 0;
    let mut reader = BufReader::new(&mut *output);
    loop {
        let mut line = Vec::new();
        // An answer may be longer than its request, but not without bound.
        let limit = (longest as u64).saturating_mul(16).max(1 << 26);
        let read = reader.by_ref().take(limit).read_until(b'\n', &mut line).map_err(|e| e.to_string())?;
        if line.last() != Some(&b'\n') {
            if read as u64 == limit {
                return Err("this is no output of a batch".to_owned());
            }
            break;
        }
        whole += read as u64;
        let value: Value = serde_json::from_slice(&line)
            .map_err(|_| "this is no output of a batch; name a new file".to_owned())?;
        let name = value["custom_id"].as_str().ok_or("a line has no custom_id; name a new file")?;
        if value["response"]["status_code"].as_u64().is_some_and(|status| status < 500) {
            done.insert(name.to_owned());
        }
    }
    output.set_len(whole).and_then(|()| output.seek(SeekFrom::Start(whole))).map_err(|e| e.to_string())?;
    Ok(done)
}

/// Hands over the lines that are not empty, with their numbers from 1.
fn for_each_line(
    mut reader: impl BufRead,
    longest: usize,
    each: &mut dyn FnMut(usize, &str) -> Result<(), String>,
) -> Result<(), String> {
    for number in 1.. {
        let mut line = String::new();
        let limit = longest as u64 + 1;
        let read = reader.by_ref().take(limit).read_line(&mut line);
        let read = read.map_err(|e| format!("line {number}: {e}"))?;
        if read as u64 == limit && !line.ends_with('\n') {
            return Err(format!("line {number} has more than {longest} bytes"));
        }
        if read == 0 {
            break;
        }
        if !line.trim().is_empty() {
            each(number, &line)?;
        }
    }
    Ok(())
}
