//! An answer as it comes: a message that begins, its blocks one after the other, and its end.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use glimmer::ReplyPart;
use serde_json::{Value, json};

use crate::api::anthropic::message::{Frame, show_stop, text, usage};
use crate::api::dialect::Dialect;
use crate::error::ApiError;
use crate::http::sse::{Event, Script};
use crate::models::generation::Generations;

/// Between two signs that a prompt is still being read.
const PAUSE: Duration = Duration::from_secs(5);

/// The block that is under way.
enum Block {
    /// With all that was thought.
    Thinking(String),
    Text,
    Call,
}

/// A stream of one answer.
pub(crate) struct Stream {
    generations: Generations,
    frame: Frame,
    has_begun: bool,
    /// When it was told last that the prompt is still being read.
    pinged: Option<Instant>,
    /// Blocks that were begun, and calls among them.
    blocks: usize,
    calls: usize,
    block: Option<Block>,
    /// Whether a call was left unfinished.
    is_cut: bool,
}

impl Stream {
    pub(crate) fn new(generations: Generations, frame: Frame) -> Self {
        Stream {
            generations,
            frame,
            has_begun: false,
            pinged: None,
            blocks: 0,
            calls: 0,
            block: None,
            is_cut: false,
        }
    }

    fn part(&mut self, part: ReplyPart, ready: &mut VecDeque<Event>) {
        match part {
            ReplyPart::Reasoning(more) => {
                if !matches!(self.block, Some(Block::Thinking(_))) {
                    let shown = self.frame.thinking("");
                    self.open(Block::Thinking(String::new()), &shown, ready);
                }
                if let Some(Block::Thinking(all)) = &mut self.block {
                    all.push_str(&more);
                }
                if self.frame.shows_thoughts {
                    self.delta(&json!({"type": "thinking_delta", "thinking": more}), ready);
                }
            }
            ReplyPart::Text(more) => {
                if !matches!(self.block, Some(Block::Text)) {
                    self.open(Block::Text, &text(""), ready);
                }
                self.delta(&json!({"type": "text_delta", "text": more}), ready);
            }
            ReplyPart::ToolCallStart { name } => {
                let shown = self.frame.call(self.calls, &name, json!({}));
                self.calls += 1;
                self.open(Block::Call, &shown, ready);
            }
            ReplyPart::ToolCallArguments(more) => {
                self.delta(&json!({"type": "input_json_delta", "partial_json": more}), ready);
            }
            ReplyPart::ToolCallEnd => self.stop(ready),
            // What was sent as thoughts was none. It cannot be taken back, but its signature says that nothing was thought.
            ReplyPart::ReasoningSkipped => {
                if let Some(Block::Thinking(all)) = &mut self.block {
                    all.clear();
                }
                self.close_block(ready);
            }
        }
    }

    fn open(&mut self, block: Block, shown: &Value, ready: &mut VecDeque<Event>) {
        self.close_block(ready);
        let start = json!({"type": "content_block_start", "index": self.blocks, "content_block": shown});
        ready.push_back(Event::named("content_block_start", &start));
        self.blocks += 1;
        self.block = Some(block);
    }

    fn delta(&self, delta: &Value, ready: &mut VecDeque<Event>) {
        let index = self.blocks.saturating_sub(1);
        let delta = json!({"type": "content_block_delta", "index": index, "delta": delta});
        ready.push_back(Event::named("content_block_delta", &delta));
    }

    /// Ends the block that is under way, where there is one, as something else comes. Of a call that is too early.
    fn close_block(&mut self, ready: &mut VecDeque<Event>) {
        match &self.block {
            None => return,
            Some(Block::Thinking(all)) => {
                let signature = self.frame.signature(all);
                self.delta(&json!({"type": "signature_delta", "signature": signature}), ready);
            }
            Some(Block::Text) => {}
            Some(Block::Call) => self.is_cut = true,
        }
        self.stop(ready);
    }

    fn stop(&mut self, ready: &mut VecDeque<Event>) {
        self.block = None;
        let stop = json!({"type": "content_block_stop", "index": self.blocks.saturating_sub(1)});
        ready.push_back(Event::named("content_block_stop", &stop));
    }
}

impl Script for Stream {
    async fn more(&mut self, ready: &mut VecDeque<Event>) -> Option<Result<(), ApiError>> {
        let delta = match self.generations.next().await? {
            Ok(delta) => delta,
            Err(error) => return Some(Err(error)),
        };
        // By the first news of the prompt it is known how much of it was remembered.
        if !std::mem::replace(&mut self.has_begun, true) {
            let message = self.frame.message(Vec::new(), usage(&self.generations));
            let start = json!({"type": "message_start", "message": message});
            ready.push_back(Event::named("message_start", &start));
        }
        if delta.progress.is_some() && self.pinged.is_none_or(|at| at.elapsed() >= PAUSE) {
            self.pinged = Some(Instant::now());
            ready.push_back(Event::named("ping", &json!({"type": "ping"})));
        }
        delta.parts.into_iter().for_each(|part| self.part(part, ready));
        if let Some(end) = delta.end {
            self.close_block(ready);
            let mut shown = json!({});
            show_stop(&mut shown, &end, self.is_cut);
            let last = json!({"type": "message_delta", "delta": shown, "usage": usage(&self.generations)});
            ready.push_back(Event::named("message_delta", &last));
        }
        Some(Ok(()))
    }

    fn close(&mut self, ready: &mut VecDeque<Event>) {
        ready.push_back(Event::named("message_stop", &json!({"type": "message_stop"})));
    }

    fn fail(&mut self, error: &ApiError, ready: &mut VecDeque<Event>) {
        ready.push_back(Event::named("error", &Dialect::Anthropic.error(error)));
    }
}
