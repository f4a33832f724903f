//! `glimmer run`: answer a message, or continue a text or ids.

use std::ops::ControlFlow;
use std::time::Instant;

use anyhow::{anyhow, ensure};
use glimmer_chat::reply::{Decoding, Event, Reply};
use glimmer_chat::{Conversation, Format, Message, Role};
use glimmer_engine::{Request, Token, room_for_answer};
use glimmer_tokenizer::Tokenizer;
use serde::Serialize;
use serde_json::Value;

use crate::answer::{End, Progress, Timings, Usage, answer};
use crate::args::{ContextLength, RunArgs};
use crate::chat::{self, Speech};
use crate::model::{Model, Room, check_ids, context, rows, step_tokens};
use crate::printer::Printer;
use crate::sampling::{Shown, sampling};
use crate::terminal::Terminal;
use crate::{demo, input, output};

/// Generates and prints.
pub(crate) fn run(args: &RunArgs, terminal: &Terminal) -> anyhow::Result<()> {
    let start = Instant::now();
    let model = Model::new(&args.model);
    let Task { prompt, stop_ids, format, decoding, tokenizer } = Task::prepare(args, &model)?;
    let understood = model.understand(terminal)?;
    let spec = &understood.spec;
    check_ids(&prompt, spec)?;
    let context = context(args.ctx, spec, terminal);
    let max_tokens = args.sampling.max_tokens.unwrap_or(usize::MAX);
    let room = room_for_answer(prompt.len(), max_tokens, context).map_err(|error| {
        let advice =
            if args.ctx == Some(ContextLength::Trained) { "" } else { "; --ctx N makes room for more" };
        anyhow!("{error}{advice}")
    })?;
    // No more slots than can be used.
    let slots = prompt.len() + room;
    let rows = rows(spec, &prompt, step_tokens(spec))?;
    let engine = model.engine(&understood, Room::for_one(slots, rows), &args.device, terminal)?;

    let sampling = sampling(&args.sampling, model.checkpoint()?, format);
    if model.is_demo() {
        terminal.note(demo::LABEL);
    }
    if sampling.temperature > 0.0 && args.sampling.seed.is_none() && !args.json {
        terminal.note(&format!("seed {}", sampling.seed));
    }
    let request = Request {
        prompt,
        max_tokens,
        stop_ids,
        sampling: sampling.clone(),
        logprobs: args.logprobs.map(|n| n as usize),
        ..Request::default()
    };
    let loaded = start.elapsed().as_secs_f64();
    let mut answering =
        Answering { decoding, printer: Printer::new(terminal), reply: Reply::default(), ids: 0 };
    let (mut tokens, silent) = (Vec::new(), args.json);
    let outcome = answer(&engine, request, &mut |progress| {
        let Progress::Token(token) = progress else { return Ok(ControlFlow::Continue(())) };
        let flow = answering.push(token.id, silent)?;
        if args.logprobs.is_some() {
            tokens.push(token);
        }
        Ok(flow)
    })?;
    let (reply, stopped) = answering.finish(silent)?;
    if args.json {
        return output::json(&Record {
            model: model.name(),
            text: &reply.text,
            reasoning: &reply.reasoning,
            tool_calls: calls(&reply),
            finish_reason: finish_reason(outcome.end, &reply),
            stop: stopped,
            usage: outcome.usage,
            load_seconds: loaded,
            timings: outcome.timings,
            sampling: Shown::from(&sampling),
            logprobs: args.logprobs.map(|_| log_probabilities(&tokens, tokenizer.as_ref())),
        });
    }
    if outcome.end == End::ContextFull {
        terminal.note(&format!("the context of {context} tokens is full"));
    }
    Ok(())
}

/// What is needed of the tokenizer and the chat format, before any weight is read.
struct Task {
    prompt: Vec<u32>,
    stop_ids: Vec<u32>,
    format: Option<Format>,
    /// What becomes of new ids; without it they are shown themselves.
    decoding: Option<Decoding>,
    tokenizer: Option<Tokenizer>,
}

impl Task {
    fn prepare(args: &RunArgs, model: &Model) -> anyhow::Result<Self> {
        let mut task = match &args.ids {
            Some(ids) => Task::of_ids(args, model, input::ids(ids)?)?,
            None => {
                let text = prompt_text(args)?;
                ensure!(!text.is_empty(), "the prompt is empty");
                if args.raw {
                    Task::of_text(args, model, &text)?
                } else {
                    Task::of_message(args, model, text)?
                }
            }
        };
        if args.ignore_eos {
            task.stop_ids.clear();
        }
        if args.print_ids {
            task.decoding = None;
        }
        Ok(task)
    }

    fn of_ids(args: &RunArgs, model: &Model, prompt: Vec<u32>) -> anyhow::Result<Self> {
        // Ids in, ids out, no end of text to know: the model may well come without a tokenizer.
        let tokenizer = match (args.print_ids, args.ignore_eos) {
            (true, true) => None,
            (true, false) => model.tokenizer_if_any()?,
            (false, _) => Some(model.tokenizer()?),
        };
        let stop_ids = chat::all_stop_ids(model, tokenizer.as_ref(), None)?;
        let decoding = tokenizer.as_ref().map(|tokenizer| plain(tokenizer, args));
        Ok(Task { prompt, stop_ids, format: None, decoding, tokenizer })
    }

    fn of_text(args: &RunArgs, model: &Model, text: &str) -> anyhow::Result<Self> {
        let tokenizer = model.tokenizer()?;
        let (prefix, suffix) = tokenizer.wrap();
        let encoded =
            if args.parse_special { tokenizer.encode_parse_special(text) } else { tokenizer.encode(text) };
        let prompt = [prefix, &encoded, suffix].concat();
        let stop_ids = chat::all_stop_ids(model, Some(&tokenizer), None)?;
        let decoding = Some(plain(&tokenizer, args));
        Ok(Task { prompt, stop_ids, format: None, decoding, tokenizer: Some(tokenizer) })
    }

    fn of_message(args: &RunArgs, model: &Model, text: String) -> anyhow::Result<Self> {
        let speech = Speech::open(model, args.chat_format)?;
        let system = args.system.iter().map(|text| Message::new(Role::System, text));
        let mut conversation = Conversation::new(system.chain([Message::new(Role::User, text)]).collect());
        conversation.tools = chat::tools(args.tools.as_deref())?;
        let prompt = speech.prompt(&conversation, args.parse_special)?;
        let parser = speech.reply(&prompt, &conversation.tools, &args.sampling.stop);
        Ok(Task {
            prompt: prompt.ids,
            stop_ids: speech.stop_ids,
            format: speech.template.format(),
            decoding: Some(Decoding::Reply(Box::new(parser))),
            tokenizer: Some(speech.tokenizer),
        })
    }
}

/// The prompt as typed; a pipe's last line break belongs to the shell and not to the question.
fn prompt_text(args: &RunArgs) -> anyhow::Result<String> {
    let typed = args.prompt.as_deref().filter(|text| *text != "-");
    let mut text = input::text(args.prompt.as_deref(), "the prompt")?;
    if typed.is_none() && text.ends_with('\n') {
        text.pop();
        text.truncate(text.strip_suffix('\r').map_or(text.len(), str::len));
    }
    Ok(text)
}

/// Text as it is, up to a stop string.
fn plain(tokenizer: &Tokenizer, args: &RunArgs) -> Decoding {
    Decoding::plain(tokenizer.stream_skip_special(), args.sampling.stop.clone())
}

/// An answer on its way to standard output, or into a record.
struct Answering<'t> {
    decoding: Option<Decoding>,
    printer: Printer<'t>,
    reply: Reply,
    ids: usize,
}

impl Answering<'_> {
    fn push(&mut self, id: u32, silent: bool) -> anyhow::Result<ControlFlow<()>> {
        let events = match &mut self.decoding {
            Some(decoding) => decoding.push(id),
            None => {
                let separator = if self.ids > 0 { "," } else { "" };
                self.ids += 1;
                vec![Event::Text(format!("{separator}{id}"))]
            }
        };
        self.show(events, silent)?;
        let stopped = self.decoding.as_ref().is_some_and(|decoding| decoding.stopped().is_some());
        Ok(if stopped { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    }

    fn show(&mut self, events: Vec<Event>, silent: bool) -> anyhow::Result<()> {
        for event in events {
            if !silent {
                self.printer.show(&event)?;
            }
            self.reply.push(event);
        }
        Ok(())
    }

    /// The end of the answer: what was held back, and a line break.
    fn finish(mut self, silent: bool) -> anyhow::Result<(Reply, Option<String>)> {
        let (rest, stopped) = self.decoding.take().map(Decoding::finish).unwrap_or_default();
        self.show(rest, silent)?;
        if !silent {
            self.printer.end()?;
        }
        Ok((self.reply, stopped))
    }
}

/// What `--json` answers.
#[derive(Serialize)]
struct Record<'a> {
    model: String,
    text: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    reasoning: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<Call<'a>>,
    /// OpenAI's words: `stop`, `length`, `tool_calls`.
    finish_reason: &'static str,
    /// The stop string that was met.
    stop: Option<String>,
    usage: Usage,
    /// From the start of the program to the request.
    load_seconds: f64,
    timings: Timings,
    sampling: Shown,
    #[serde(skip_serializing_if = "Option::is_none")]
    logprobs: Option<Vec<LogProbability>>,
}

#[derive(Serialize)]
struct Call<'a> {
    name: &'a str,
    arguments: &'a Value,
}

#[derive(Serialize)]
struct LogProbability {
    id: u32,
    /// Its text; half a character is replaced.
    token: Option<String>,
    logprob: f32,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    top: Vec<LogProbability>,
}

fn calls(reply: &Reply) -> Vec<Call<'_>> {
    reply.tool_calls.iter().map(|call| Call { name: &call.name, arguments: &call.arguments }).collect()
}

fn finish_reason(end: End, reply: &Reply) -> &'static str {
    match end {
        End::Length | End::ContextFull => "length",
        _ if !reply.tool_calls.is_empty() && !reply.unfinished_call => "tool_calls",
        // Only a stop string breaks an answer off here.
        End::Stop | End::Cancelled => "stop",
    }
}

fn log_probabilities(tokens: &[Token], tokenizer: Option<&Tokenizer>) -> Vec<LogProbability> {
    let of = |id: u32, logprob: f32, top: Vec<LogProbability>| LogProbability {
        id,
        token: tokenizer
            .and_then(|tokenizer| tokenizer.token_bytes(id))
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned()),
        logprob,
        top,
    };
    let one = |token: &Token| {
        let top = token.top.iter().map(|&(id, logprob)| of(id, logprob, Vec::new())).collect();
        of(token.id, token.logprob.unwrap_or(f32::NAN), top)
    };
    tokens.iter().map(one).collect()
}
