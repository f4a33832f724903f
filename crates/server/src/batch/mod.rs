//! Many requests from a file, in the OpenAI API's batch format: what a server would have answered, without a server.
//!
//! A line of the input is `{"custom_id", "method", "url", "body"}`, a line of the output `{"id", "custom_id", "response":
//! {"status_code", "request_id", "body"}, "error"}`, in the order in which answers are ready. Each answer is written as a
//! whole line at once. The next run goes on where one ended: what has no good answer is asked again, and where the output
//! holds several answers to one `custom_id`, the last one counts.

mod input;
mod output;

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{StatusCode, header};
use glimmer::Registry;
use http_body_util::BodyExt;
use serde_json::Value;
use tokio::task::JoinSet;
use tower::ServiceExt;

use crate::app::App;
use crate::error::ServerError;
use crate::options::Options;
use crate::router::router;
use input::{Line, Request};
use output::{Output, OutputLine, Response};

/// How a batch went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BatchSummary {
    /// Asked in this run.
    pub answered: usize,
    /// Of these, without a good answer.
    pub failed: usize,
    /// Well answered by an earlier run.
    pub before: usize,
    /// Without a good answer from an earlier run, and not asked again.
    pub kept_failures: usize,
}

/// A batch: checked, not begun. Dropped before it is run, it leaves no output that was not there.
pub struct Batch {
    lines: Vec<Line>,
    output: Output,
    summary: BatchSummary,
}

impl Batch {
    /// Reads the input, whose lines have at most `longest` bytes, and what the output has of it already. Nothing is
    /// computed; everything that is wrong with the form of a request is found here. With `keep_failures` nothing is asked
    /// again that has an answer of any kind.
    ///
    /// # Errors
    /// [`ServerError::File`] with the line; when the output is anything else than answers to this input.
    pub fn open(
        input: &Path,
        output: &Path,
        longest: usize,
        keep_failures: bool,
    ) -> Result<Self, ServerError> {
        let mut lines = input::read(input, longest)?;
        let names = lines.iter().map(|line| &line.name).collect::<HashSet<_>>();
        let (output, answers) = Output::open(output, input, &names, longest)?;
        let mut summary = BatchSummary::default();
        lines.retain(|line| match answers.get(&line.name) {
            Some(true) => {
                summary.before += 1;
                false
            }
            Some(false) if keep_failures => {
                summary.kept_failures += 1;
                false
            }
            _ => true,
        });
        Ok(Batch { lines, output, summary })
    }

    /// Requests that are still to be answered.
    pub fn remaining(&self) -> usize {
        self.lines.len()
    }

    /// Answers them, `at_once` at a time; `each` is told after each how many are done.
    ///
    /// # Errors
    /// When the output cannot be written; [`ServerError::Engine`] where a model's device is lost, with the answers so far
    /// in the output.
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
        let mut summary = self.summary;
        let mut waiting = std::mem::take(&mut self.lines).into_iter();
        let mut running = JoinSet::new();
        loop {
            while app.engine_end.get().is_none()
                && running.len() < at_once.max(1)
                && let Some(line) = waiting.next()
            {
                running.spawn(answer_one(router.clone(), line, app.random()));
            }
            // A panic of one request is the others' no business, but its line would be missing without a word.
            let Some(finished) = running.join_next().await else {
                self.output.keep();
                return app.engine_end.get().map_or(Ok(summary), |why| Err(ServerError::Engine(why)));
            };
            let answer = finished.map_err(|e| ServerError::Panic(format!("a request failed: {e}")))?;
            self.output.write(&answer)?;
            summary.answered += 1;
            summary.failed += usize::from(!answer.is_good());
            each(summary.answered);
        }
    }
}

/// The answer to a line.
async fn answer_one(router: Router, line: Line, number: u64) -> OutputLine {
    let said = match &line.request {
        Ok(request) => Ok(ask(router, request).await),
        Err(what) => Err(what.clone()),
    };
    OutputLine::new(number, line.name, said)
}

/// What the server says to a request.
async fn ask(router: Router, asked: &Request) -> Response {
    loop {
        let request = axum::http::Request::post(&asked.url)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(asked.body.clone()))
            .expect("the url is one of a few that parse");
        let Ok(response) = router.clone().oneshot(request).await;
        let status = response.status();
        if status == StatusCode::TOO_MANY_REQUESTS {
            // Requests with several answers have filled the queue.
            tokio::time::sleep(Duration::from_millis(200)).await;
            continue;
        }
        let request_id =
            response.headers().get("x-request-id").and_then(|id| id.to_str().ok()).map(str::to_owned);
        let body = match response.into_body().collect().await {
            Ok(body) => serde_json::from_slice(&body.to_bytes()).unwrap_or(Value::Null),
            Err(_) => Value::Null,
        };
        return Response { status_code: status.as_u16(), request_id, body };
    }
}
