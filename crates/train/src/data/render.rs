//! Rows to examples, by the tokenizer and the chat format of serving.
//!
//! What is learned of an answer is what the server would have the model write: all after the prompt that it computes for the
//! history so far, and the token that ends the answer. Answers share an example as long as the prompt of each begins with the
//! example so far; where it does not (ChatGLM-6B's `[gMASK]` stands at the end, GLM-4.5 leaves the reasoning of earlier turns
//! out), an answer is an example of its own.
//!
//! GLM-4's own script learns the same tokens, but for `combine`, where it passes over the first one after `<|assistant|>` (its
//! mask is shifted by one). Of ChatGLM-6B's, rounds are rendered with an empty history as without one, as its `chat` does.

use glimmer::Chat;
use glimmer_chat::{ChatTemplate, Conversation, Message, Rendered, Role};
use glimmer_tokenizer::Tokenizer;

use super::row::Row;
use crate::Example;

/// Bytes that are tokenized for one row, all prompts of its answers together.
const MAX_WORK: usize = 64 << 20;

/// How long examples may be, in tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// A question and what is before it (`max_source_length`, with one for what is added to it).
    pub source: usize,
    /// An answer (`max_target_length`, with two for `<sop>` and the end).
    pub target: usize,
    /// A whole conversation, or a piece of a text.
    pub whole: usize,
    /// Whether of a conversation only the last answer is learned (`combine`).
    pub last_answer: bool,
}

impl Limits {
    /// GLM-4's: `max_input_length` and `max_output_length` together, and one more.
    pub fn of_conversations(input: usize, output: usize) -> Limits {
        Limits {
            source: input,
            target: output,
            whole: input.saturating_add(output).saturating_add(1),
            last_answer: false,
        }
    }
}

/// What becomes of a row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rendering {
    /// The examples, cut to length; each has something to learn.
    pub examples: Vec<Example>,
    /// Tokens that were cut off.
    pub cut: usize,
}

/// A question of a row, and the answer that it should get.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    /// What was said, the question last.
    pub history: Conversation,
    /// Its prompt, cut to length.
    pub prompt: Vec<u32>,
    /// The answer's ids, cut to length, without an end.
    pub wanted: Vec<u32>,
}

/// A model's way with text, for training.
#[derive(Clone, Debug)]
pub struct Renderer<'m> {
    template: Option<ChatTemplate>,
    tokenizer: &'m Tokenizer,
    /// What ends an answer that calls nothing, and one that does.
    ends: [u32; 2],
    /// What ends a text.
    text_end: u32,
    limits: Limits,
}

impl<'m> Renderer<'m> {
    /// The way of a model that converses.
    ///
    /// # Errors
    /// When nothing ends its answers.
    pub fn new(chat: &Chat, tokenizer: &'m Tokenizer, limits: Limits) -> Result<Self, String> {
        Self::of_template(chat.template.clone(), tokenizer, &chat.stop_ids, limits)
    }

    /// The same of its parts.
    ///
    /// # Errors
    /// When there are no `stop_ids`.
    pub fn of_template(
        template: ChatTemplate,
        tokenizer: &'m Tokenizer,
        stop_ids: &[u32],
        limits: Limits,
    ) -> Result<Self, String> {
        let stop = |spelling| tokenizer.special_id(spelling).filter(|id| stop_ids.contains(id));
        let end = ["<|user|>", "<eop>", "</s>"].into_iter().find_map(stop).or(stop_ids.first().copied());
        let end = end.ok_or("nothing ends the model's answers; its files name no end token")?;
        let ends = [end, stop("<|observation|>").unwrap_or(end)];
        let text_end = tokenizer.special_id("<|endoftext|>").unwrap_or(end);
        Ok(Renderer { template: Some(template), tokenizer, ends, text_end, limits })
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &'m Tokenizer {
        self.tokenizer
    }

    /// Renders a row.
    ///
    /// # Errors
    /// What the format cannot say of it, or that nothing is left to learn.
    pub fn render(&self, row: &Row) -> Result<Rendering, String> {
        let mut rendering = match row {
            Row::Conversation(conversation) => self.conversation(conversation)?,
            Row::Pair(history, answer) => self.pair(history, answer)?,
            Row::Text(text) => self.text(text),
        };
        rendering.examples.retain(|example| example.targets().next().is_some());
        if rendering.examples.is_empty() {
            let Limits { whole, .. } = self.limits;
            return Err(format!(
                "nothing is left to learn: the first {whole} tokens hold no answer; allow longer ones"
            ));
        }
        Ok(rendering)
    }

    /// The questions of a row for an evaluation: every turn of a conversation; a text has none.
    ///
    /// # Errors
    /// What the format cannot say of it.
    pub fn asked(&self, row: &Row) -> Result<Vec<Asked>, String> {
        let (conversation, answers) = match row {
            Row::Conversation(conversation) => (conversation.as_ref().clone(), self.answers(conversation)?),
            Row::Pair(history, answer) => {
                let mut whole = history.as_ref().clone();
                whole.messages.push(Message::new(Role::Assistant, answer));
                let last = whole.messages.len() - 1;
                (whole, vec![last])
            }
            Row::Text(_) => return Err("a text asks nothing; give it a question and an answer".to_owned()),
        };
        let asked = |at: usize| {
            let mut turn = self.turn(&conversation, at)?;
            self.cut(&mut turn);
            let messages = conversation.messages[..at].to_vec();
            let history = Conversation { messages, ..conversation.clone() };
            Ok(Asked { history, prompt: turn.prompt, wanted: turn.reply })
        };
        answers.into_iter().map(asked).collect()
    }

    /// Which messages are answers that are learned.
    fn answers(&self, conversation: &Conversation) -> Result<Vec<usize>, String> {
        let answers = conversation.messages.iter().enumerate().filter(|(_, m)| m.role == Role::Assistant);
        let mut answers: Vec<usize> = answers.map(|(at, _)| at).collect();
        if self.limits.last_answer {
            answers.drain(..answers.len().saturating_sub(1));
        }
        let bytes = serde_json::to_string(conversation).map_or(0, |text| text.len());
        if bytes.saturating_mul(answers.len()) > MAX_WORK {
            return Err(format!(
                "{} answers in {bytes} bytes are too many for one row; split it",
                answers.len()
            ));
        }
        Ok(answers)
    }

    fn conversation(&self, conversation: &Conversation) -> Result<Rendering, String> {
        let mut examples: Vec<Example> = Vec::new();
        let mut end = None;
        for at in self.answers(conversation)? {
            let turn = self.turn(conversation, at)?;
            match examples.last_mut() {
                Some(open) if self.goes_on(open, &turn.prompt) => {
                    let from = open.ids.len();
                    open.learn(&turn.prompt[from..=from]);
                    open.read(&turn.prompt[from + 1..]);
                }
                open => {
                    if let (Some(open), Some(end)) = (open, end) {
                        open.learn(&[end]);
                    }
                    examples.push(self.opened(&turn.prompt));
                }
            }
            if let Some(open) = examples.last_mut() {
                open.learn(&turn.reply);
            }
            end = Some(self.ends[usize::from(calls(&conversation.messages[at]))]);
        }
        if let (Some(open), Some(end)) = (examples.last_mut(), end) {
            open.learn(&[end]);
        }
        let cut = examples.iter_mut().map(|example| example.truncate(self.limits.whole)).sum();
        Ok(Rendering { examples, cut })
    }

    /// Whether a prompt is the example so far, a token that ends an answer, and more.
    fn goes_on(&self, open: &Example, prompt: &[u32]) -> bool {
        let next = prompt.strip_prefix(open.ids.as_slice()).and_then(<[u32]>::first);
        next.is_some_and(|id| self.tokenizer.is_special(*id))
    }

    /// An example of a prompt. Where `<sop>` ends it, that is learned, as ChatGLM-6B's scripts do.
    fn opened(&self, prompt: &[u32]) -> Example {
        let mut example = Example::default();
        let sop = self.tokenizer.special_id("<sop>");
        match prompt.split_last() {
            Some((last, before)) if Some(*last) == sop && !before.is_empty() => {
                example.read(before);
                example.learn(&[*last]);
            }
            _ => example.read(prompt),
        }
        example
    }

    /// The prompt of an answer, and the answer's ids.
    fn turn(&self, conversation: &Conversation, at: usize) -> Result<Turn, String> {
        let message = &conversation.messages[at];
        let part = |messages: &[Message], asks| Conversation {
            messages: messages.to_vec(),
            add_generation_prompt: asks,
            ..conversation.clone()
        };
        let rendered = self.rendered(&part(&conversation.messages[..at], true))?;
        let prompt = self.ids(&rendered)?;
        let told =
            self.rendered(&part(&conversation.messages[..=at], false)).and_then(|told| self.ids(&told));
        if let Ok(told) = &told
            && let Some(reply) = self.shown_reply(&rendered, &prompt, told)
        {
            let reply = reply.to_vec();
            return Ok(Turn { prompt, reply });
        }
        if calls(message) {
            told?;
            return Err(format!(
                "message {at}: the format does not show the call as the model would write it after its prompt"
            ));
        }
        let reply = self.ids(&rendered.reply(message))?;
        Ok(Turn { prompt, reply })
    }

    /// An answer as the history shows it, where that is what the model would write after the prompt.
    fn shown_reply<'t>(&self, rendered: &Rendered, prompt: &[u32], told: &'t [u32]) -> Option<&'t [u32]> {
        if let Some(reply) = told.strip_prefix(prompt) {
            return (!reply.is_empty()).then_some(reply);
        }
        // A prompt that opens the reasoning, and a history that shows none: the model would have closed it at once.
        let (open, before) = prompt.split_last().filter(|_| rendered.opens_reasoning())?;
        let reply = told.strip_prefix(before)?;
        let special = |tag| self.tokenizer.special_id(tag);
        (special("<think>") == Some(*open) && reply.first() == special("</think>").as_ref()).then_some(reply)
    }

    fn rendered(&self, conversation: &Conversation) -> Result<Rendered, String> {
        let template =
            self.template.as_ref().ok_or("the model has no chat format; name one with --chat-format")?;
        template.render(conversation).and_then(Rendered::complete).map_err(|error| error.to_string())
    }

    fn ids(&self, rendered: &Rendered) -> Result<Vec<u32>, String> {
        rendered.ids(self.tokenizer).map_err(|error| error.to_string())
    }

    /// As ChatGLM-6B's scripts: question and answer are cut apart, special tokens stay.
    fn pair(&self, history: &Conversation, answer: &str) -> Result<Rendering, String> {
        let mut whole = history.clone();
        whole.messages.push(Message::new(Role::Assistant, answer));
        let mut turn = self.turn(&whole, whole.messages.len() - 1)?;
        let cut = self.cut(&mut turn);
        let mut example = self.opened(&turn.prompt);
        example.learn(&turn.reply);
        example.learn(&self.ends[..1]);
        Ok(Rendering { examples: vec![example], cut })
    }

    /// Cuts question and answer apart and returns how many tokens went.
    fn cut(&self, turn: &mut Turn) -> usize {
        let kept = turn.prompt.len() - self.tail(&turn.prompt);
        let source = kept.min(self.limits.source.saturating_sub(1));
        let target = turn.reply.len().min(self.limits.target.saturating_sub(2));
        let cut = kept - source + turn.reply.len() - target;
        turn.prompt.drain(source..kept);
        turn.reply.truncate(target);
        cut
    }

    /// How many ids at a prompt's end are the format's own and belong before every answer.
    fn tail(&self, prompt: &[u32]) -> usize {
        prompt.iter().rev().take_while(|id| self.tokenizer.is_special(**id)).count()
    }

    /// A text in pieces, each behind what the tokenizer puts before texts.
    fn text(&self, text: &str) -> Rendering {
        let (before, _) = self.tokenizer.wrap();
        let room = self.limits.whole.saturating_sub(before.len()).max(1);
        let mut ids = self.tokenizer.encode(text);
        ids.push(self.text_end);
        let piece = |piece: &[u32]| {
            let mut example = Example::default();
            example.read(before);
            example.learn(piece);
            example
        };
        Rendering { examples: ids.chunks(room).map(piece).collect(), cut: 0 }
    }
}

/// Whether an answer calls a tool.
fn calls(message: &Message) -> bool {
    !message.tool_calls.is_empty() || message.metadata.as_ref().is_some_and(|name| !name.is_empty())
}

/// An answer after its prompt.
struct Turn {
    prompt: Vec<u32>,
    reply: Vec<u32>,
}
