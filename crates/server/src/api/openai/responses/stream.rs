//! The events of a response as it comes.

use std::collections::VecDeque;

use serde_json::{Value, json};

use crate::api::openai::responses::answering::Answering;
use crate::api::openai::responses::output::{Kind, Step, part};
use crate::error::ApiError;
use crate::http::sse::{Event, Script};

/// The events of a response.
pub(crate) struct Stream {
    answering: Answering,
    has_begun: bool,
    /// Events so far.
    count: u64,
}

impl Stream {
    pub(crate) fn new(answering: Answering) -> Self {
        Stream { answering, has_begun: false, count: 0 }
    }

    fn event(&mut self, name: &'static str, mut fields: Value) -> Event {
        fields["type"] = name.into();
        fields["sequence_number"] = self.count.into();
        self.count += 1;
        Event::named(name, &fields)
    }

    /// An event about an item.
    fn of_item(&mut self, name: &'static str, at: usize, mut fields: Value) -> Event {
        fields["item_id"] = self.answering.output.id(at).into();
        fields["output_index"] = at.into();
        self.event(name, fields)
    }

    fn step(&mut self, step: Step, ready: &mut VecDeque<Event>) {
        match step {
            Step::Added(at) => self.added(at, ready),
            Step::More(at, text) => ready.extend(self.more_of(at, text)),
            Step::Done(at) => self.done(at, ready),
        }
    }

    fn added(&mut self, at: usize, ready: &mut VecDeque<Event>) {
        let item = self.answering.output.begun(at);
        ready.push_back(self.event("response.output_item.added", json!({"output_index": at, "item": item})));
        if self.has_part(at) {
            let part = part(self.answering.output.kind(at), "", json!([]));
            let fields = json!({"content_index": 0, "part": part});
            ready.push_back(self.of_item("response.content_part.added", at, fields));
        }
    }

    /// Whether the item is told as a part of content: calls have none, nor have thoughts that come sealed alone.
    fn has_part(&self, at: usize) -> bool {
        match self.answering.output.kind(at) {
            Kind::Message => true,
            Kind::Reasoning => self.answering.frame.shows_reasoning,
            Kind::Call | Kind::CustomCall => false,
        }
    }

    fn more_of(&mut self, at: usize, text: String) -> Option<Event> {
        let delta = json!({"delta": text});
        Some(match self.answering.output.kind(at) {
            Kind::Message => {
                let logprobs = self.answering.output.untold_logprobs(at);
                let fields = json!({"content_index": 0, "delta": text, "logprobs": logprobs});
                self.of_item("response.output_text.delta", at, fields)
            }
            Kind::Reasoning if self.has_part(at) => {
                let fields = json!({"content_index": 0, "delta": text});
                self.of_item("response.reasoning_text.delta", at, fields)
            }
            Kind::Reasoning => return None,
            Kind::Call => self.of_item("response.function_call_arguments.delta", at, delta),
            Kind::CustomCall => self.of_item("response.custom_tool_call_input.delta", at, delta),
        })
    }

    fn done(&mut self, at: usize, ready: &mut VecDeque<Event>) {
        let output = &self.answering.output;
        let (text, logprobs, part) = (output.text(at).to_owned(), output.logprobs(at), output.part(at));
        let (name, fields) = match output.kind(at) {
            Kind::Message => {
                ("response.output_text.done", json!({"content_index": 0, "text": text, "logprobs": logprobs}))
            }
            Kind::Reasoning => ("response.reasoning_text.done", json!({"content_index": 0, "text": text})),
            Kind::Call => {
                ("response.function_call_arguments.done", json!({"arguments": text, "name": output.name(at)}))
            }
            Kind::CustomCall => ("response.custom_tool_call_input.done", json!({"input": text})),
        };
        let has_part = self.has_part(at);
        if has_part || output.is_call(at) {
            ready.push_back(self.of_item(name, at, fields));
        }
        if has_part {
            let fields = json!({"content_index": 0, "part": part});
            ready.push_back(self.of_item("response.content_part.done", at, fields));
        }
        let item = self.answering.output.item(at);
        ready.push_back(self.event("response.output_item.done", json!({"output_index": at, "item": item})));
    }

    /// The event with the whole response, which is kept before it is told.
    fn last(&mut self, name: &'static str, response: &Value) -> Event {
        self.answering.keep(response);
        self.event(name, json!({"response": response}))
    }
}

impl Script for Stream {
    async fn more(&mut self, ready: &mut VecDeque<Event>) -> Option<Result<(), ApiError>> {
        if !std::mem::replace(&mut self.has_begun, true) {
            let response = json!({"response": self.answering.frame.object("in_progress")});
            for name in ["response.created", "response.in_progress"] {
                ready.push_back(self.event(name, response.clone()));
            }
            return Some(Ok(()));
        }
        let (steps, end) = match self.answering.next().await? {
            Ok(next) => next,
            Err(error) => return Some(Err(error)),
        };
        steps.into_iter().for_each(|step| self.step(step, ready));
        if let Some(end) = end {
            let response = self.answering.ended(&end);
            let is_cut = response["status"] == "incomplete";
            let name = if is_cut { "response.incomplete" } else { "response.completed" };
            ready.push_back(self.last(name, &response));
        }
        Some(Ok(()))
    }

    fn fail(&mut self, error: &ApiError, ready: &mut VecDeque<Event>) {
        let response = self.answering.failed(error);
        ready.push_back(self.last("response.failed", &response));
    }
}
