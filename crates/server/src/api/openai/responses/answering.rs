//! A response that is being made, and what is kept of it.

use std::sync::Arc;

use serde_json::Value;

use crate::api::openai::responses::frame::Frame;
use crate::api::openai::responses::output::{Output, Step};
use crate::error::ApiError;
use crate::kept::KeptResponse;
use crate::models::generation::{End, Generations};

/// What is kept of a response beside what is said.
pub(crate) struct Keeping {
    pub(crate) previous: Option<u64>,
    pub(crate) input: Vec<Arc<str>>,
}

impl Keeping {
    /// A response as it is kept.
    pub(crate) fn response(&self, mut object: Value) -> KeptResponse {
        let output = match object["output"].take() {
            Value::Array(items) => items.iter().map(|item| item.to_string().into()).collect(),
            _ => Vec::new(),
        };
        KeptResponse {
            previous: self.previous,
            head: object.to_string().into(),
            input: self.input.clone(),
            output,
        }
    }
}

/// A response that is being made.
pub(crate) struct Answering {
    pub(crate) frame: Arc<Frame>,
    pub(crate) output: Output,
    generations: Generations,
    /// Nothing where nothing is kept.
    keeping: Option<Keeping>,
}

impl Answering {
    pub(crate) fn new(frame: Arc<Frame>, generations: Generations, keeping: Option<Keeping>) -> Self {
        Answering { output: Output::new(frame.clone()), frame, generations, keeping }
    }

    /// What comes next, and how it ends there; `None` after the end. After an error nothing follows.
    pub(crate) async fn next(&mut self) -> Option<Result<(Vec<Step>, Option<End>), ApiError>> {
        let delta = match self.generations.next().await? {
            Ok(delta) => delta,
            Err(error) => return Some(Err(error)),
        };
        let mut steps = self.output.push(delta.parts, delta.tokens);
        if let Some(end) = &delta.end {
            steps.extend(self.output.finish(end.reason != "length"));
        }
        Some(Ok((steps, delta.end)))
    }

    /// The response that ended so.
    pub(crate) fn ended(&self, end: &End) -> Value {
        self.frame.ended(end, self.output.all(), &self.generations)
    }

    /// The response that broke off.
    pub(crate) fn failed(&self, error: &ApiError) -> Value {
        self.frame.failed(error, self.output.all())
    }

    /// Keeps the response as it is now, where that is wanted.
    pub(crate) fn keep(&self, object: &Value) {
        if let Some(keeping) = &self.keeping {
            self.frame.app.kept.put((self.frame.caller, self.frame.id), keeping.response(object.clone()));
        }
    }

    /// The whole response.
    pub(crate) async fn whole(&mut self) -> Result<Value, ApiError> {
        while let Some(next) = self.next().await {
            if let (_, Some(end)) = next? {
                self.output.tidy();
                return Ok(self.ended(&end));
            }
        }
        Err(ApiError::internal("the answer has no end"))
    }
}
