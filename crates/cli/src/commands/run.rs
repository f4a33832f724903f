//! `glimmer run`: answer a message, or continue a text or ids.

use std::hash::{BuildHasher, RandomState};
use std::ops::ControlFlow;

use anyhow::{bail, ensure};
use glimmer_chat::reply::{Event, ReplyOptions, ReplyParser};
use glimmer_chat::{ChatTemplate, Conversation, Message, Role};
use glimmer_engine::{Engine, EngineOptions, Finish, Request, Sampling};
use glimmer_tensor::Compute;
use glimmer_tokenizer::{DecodeStream, Tokenizer};

use crate::args::{ContextLength, RunArgs};
use crate::model::{Model, check_ids, context, rows};
use crate::terminal::Terminal;
use crate::{chat, device, input, output};

/// Rows per step: enough to keep the machine busy, little enough to fit its caches.
const ROWS: usize = 512;

/// Generates and prints.
pub(crate) fn run(args: &RunArgs, terminal: &Terminal) -> anyhow::Result<()> {
    let model = Model::new(&args.model);
    let Prepared { prompt, stop_ids, printer } = prepare(args, &model, terminal)?;
    let understood = model.understand(terminal)?;
    let spec = &understood.spec;
    check_ids(&prompt, spec)?;
    let context = context(args.ctx, spec, terminal);
    if prompt.len() > context {
        let advice =
            if args.ctx == Some(ContextLength::Trained) { "" } else { "; --ctx N makes room for more" };
        bail!("the prompt has {} tokens, the context {context}{advice}", prompt.len());
    }
    let max_tokens = args.max_tokens.unwrap_or(usize::MAX);
    // No more slots than can be used.
    let slots = context.min(prompt.len().saturating_add(max_tokens));
    let rows = rows(spec, &prompt, ROWS)?;

    let compute = device::compute(&args.device, Compute::Auto);
    let kv_type = device::kv_type(&args.device, compute);
    let decoder = model.load(&understood, device::open(&args.device, compute)?, terminal)?;
    let mut engine =
        Engine::new(decoder, EngineOptions { context: slots, rows, all_logits: false, kv_type })?;
    let sampling =
        Sampling { temperature: args.temperature, seed: seed(args, terminal), ..Sampling::default() };
    let request = Request { prompt, max_tokens, stop_ids, sampling };

    let mut printer = printer;
    let mut printed = Ok(());
    let outcome = engine.generate(&request, &mut |id| {
        printed = printer.push(id);
        if printed.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    printed?;
    printer.finish()?;
    if outcome.finish == Finish::Length && outcome.tokens < max_tokens {
        terminal.note(&format!("the context of {context} tokens is full"));
    }
    Ok(())
}

/// What is needed of the tokenizer and the chat format, before any weight is read.
struct Prepared<'t> {
    prompt: Vec<u32>,
    stop_ids: Vec<u32>,
    printer: Printer<'t>,
}

fn prepare<'t>(args: &RunArgs, model: &Model, terminal: &'t Terminal) -> anyhow::Result<Prepared<'t>> {
    let Some(ids) = &args.ids else { return prepare_text(args, model, terminal) };
    let prompt = input::ids(ids)?;
    // Ids in, ids out, no end of text to know: the model may well come without a tokenizer.
    let tokenizer = match (args.print_ids, args.ignore_eos) {
        (true, true) => None,
        (true, false) => model.tokenizer_if_any()?,
        (false, _) => Some(model.tokenizer()?),
    };
    let printer = match &tokenizer {
        Some(tokenizer) if !args.print_ids => {
            Printer::text(terminal, Decoding::Plain(tokenizer.stream_skip_special()))
        }
        _ => Printer::ids(terminal),
    };
    let stop_ids = stop_ids(args, model, tokenizer.as_ref(), None)?;
    Ok(Prepared { prompt, stop_ids, printer })
}

fn prepare_text<'t>(args: &RunArgs, model: &Model, terminal: &'t Terminal) -> anyhow::Result<Prepared<'t>> {
    let tokenizer = model.tokenizer()?;
    let text = prompt_text(args)?;
    ensure!(!text.is_empty(), "the prompt is empty");
    let (prompt, template, decoding) = if args.raw {
        let (prefix, suffix) = tokenizer.wrap();
        let encoded =
            if args.parse_special { tokenizer.encode_parse_special(&text) } else { tokenizer.encode(&text) };
        ([prefix, &encoded, suffix].concat(), None, Decoding::Plain(tokenizer.stream_skip_special()))
    } else {
        let template = chat::template(model, Some(&tokenizer), args.chat_format)?;
        let rendered = template.render(&Conversation::new(vec![Message::new(Role::User, text)]))?;
        let ids = if args.parse_special {
            rendered.ids_parse_special(&tokenizer)?
        } else {
            rendered.ids(&tokenizer)?
        };
        let options = ReplyOptions { in_reasoning: rendered.opens_reasoning(), ..ReplyOptions::default() };
        let parser = ReplyParser::new(&template, &tokenizer, options);
        (ids, Some(template), Decoding::Reply(Box::new(parser)))
    };
    let stop_ids = stop_ids(args, model, Some(&tokenizer), template.as_ref())?;
    let printer = if args.print_ids { Printer::ids(terminal) } else { Printer::text(terminal, decoding) };
    Ok(Prepared { prompt, stop_ids, printer })
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

fn stop_ids(
    args: &RunArgs,
    model: &Model,
    tokenizer: Option<&Tokenizer>,
    template: Option<&ChatTemplate>,
) -> anyhow::Result<Vec<u32>> {
    if args.ignore_eos { Ok(Vec::new()) } else { chat::all_stop_ids(model, tokenizer, template) }
}

/// The seed that was asked for, or a new one that can be asked for again.
fn seed(args: &RunArgs, terminal: &Terminal) -> u64 {
    args.seed.unwrap_or_else(|| {
        let seed = RandomState::new().hash_one(()) >> 32;
        if args.temperature > 0.0 {
            terminal.note(&format!("seed {seed}"));
        }
        seed
    })
}

/// Prints new tokens as they come.
struct Printer<'t> {
    terminal: &'t Terminal,
    form: Form,
    started: bool,
    reasoning: bool,
}

enum Form {
    Ids,
    Text(Decoding),
}

enum Decoding {
    /// Text without special tokens.
    Plain(DecodeStream),
    /// The answer in a chat format.
    Reply(Box<ReplyParser>),
}

impl<'t> Printer<'t> {
    fn ids(terminal: &'t Terminal) -> Self {
        Printer { terminal, form: Form::Ids, started: false, reasoning: false }
    }

    fn text(terminal: &'t Terminal, decoding: Decoding) -> Self {
        Printer { terminal, form: Form::Text(decoding), started: false, reasoning: false }
    }

    fn push(&mut self, id: u32) -> anyhow::Result<()> {
        match &mut self.form {
            Form::Ids => {
                let separator = if self.started { "," } else { "" };
                self.started = true;
                output::print(&format!("{separator}{id}"))
            }
            Form::Text(Decoding::Plain(stream)) => {
                let text = stream.push(id);
                output::print(&text)
            }
            Form::Text(Decoding::Reply(parser)) => {
                let events = parser.push(id);
                events.into_iter().try_for_each(|event| self.show(event))
            }
        }
    }

    /// The end of the answer: what was held back, and a line break.
    fn finish(mut self) -> anyhow::Result<()> {
        match std::mem::replace(&mut self.form, Form::Ids) {
            Form::Ids => {}
            Form::Text(Decoding::Plain(stream)) => output::print(&stream.finish())?,
            Form::Text(Decoding::Reply(parser)) => {
                parser.finish().into_iter().try_for_each(|event| self.show(event))?;
            }
        }
        self.end_reasoning();
        output::print("\n")
    }

    /// The answer is the result; the reasoning before it goes where everything else goes.
    fn show(&mut self, event: Event) -> anyhow::Result<()> {
        if let Event::Reasoning(text) = event {
            self.reasoning = true;
            self.terminal.aside(&text);
            return Ok(());
        }
        self.end_reasoning();
        match event {
            Event::Text(text) | Event::ToolCallArguments(text) => output::print(&text),
            Event::ToolCallStart { name } => output::print(&format!("{name}\n")),
            Event::ToolCallEnd | Event::Reasoning(_) => Ok(()),
        }
    }

    fn end_reasoning(&mut self) {
        if std::mem::take(&mut self.reasoning) {
            self.terminal.aside("\n");
        }
    }
}
