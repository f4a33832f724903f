//! `glimmer chat`: a conversation in the terminal, or over a pipe.

mod command;
mod dialogue;
mod lines;
mod tool_command;

use std::io::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use glimmer::{
    Compute, ContextLength, Conversation, Delta, Engine, Error, Escaped, FinishReason, Generation,
    GenerationParams, Limits, ModelText, OutputFile, Prompt, RepetitionDetection, Reply, Role, STEP_TOKENS,
    Timings, Usage, room_for_answer,
};
use signal_hook::consts::SIGINT;

use crate::args::{ChatArgs, OnFull};
use crate::model::{
    ADAPTER, DEMO_LABEL, adapter, context, device, draft, load, seeing_files, spec, tools, with_advice,
    with_draft,
};
use crate::pictures::Album;
use crate::printer::Printer;
use crate::sampling::set_by_flags;
use crate::terminal::Terminal;
use crate::{input, output};
use command::{Command, HELP, Settings};
use dialogue::Dialogue;
use lines::{Line, Lines};
use tool_command::{NextResult, TIME, ToolCommands};

/// How often it is looked whether somebody has stopped the answer.
const PATIENCE: Duration = Duration::from_millis(20);

/// Talks.
pub(crate) fn run(args: &ChatArgs, terminal: &Terminal) -> anyhow::Result<()> {
    let mut lines = Lines::open(terminal.coloured(), !args.no_history);
    let mut chat = Chat::open(args, lines.are_typed(), terminal)?;
    let mut interrupted = false;
    loop {
        let prompt = match chat.next_result() {
            NextResult::None => String::new(),
            NextResult::Typed(name) => format!("{} returns ", Escaped(name)),
            NextResult::Asked(program) => {
                format!("run {}? y, n or always ", Escaped(&program.display().to_string()))
            }
            NextResult::Run(program) => {
                let program = program.to_owned();
                chat.run_tool(&program)?;
                continue;
            }
        };
        match lines.next(&prompt)? {
            Line::Text(line) => {
                if chat.hear(&line)?.is_break() {
                    return Ok(());
                }
                // One that stopped the answer counts.
                interrupted = chat.interrupt.swap(false, Ordering::Relaxed);
            }
            Line::Interrupted if interrupted => return Ok(()),
            Line::Interrupted => {
                interrupted = true;
                chat.remark("once more Ctrl-C ends the program");
            }
            Line::End => return Ok(()),
        }
    }
}

/// A conversation with a model.
struct Chat<'t> {
    terminal: &'t Terminal,
    is_demo: bool,
    has_adapter: bool,
    engine: Engine,
    settings: Settings,
    stop: Vec<String>,
    repetition_detection: Option<RepetitionDetection>,
    on_full: OnFull,
    dialogue: Dialogue,
    album: Album,
    tools: ToolCommands,
    /// Answers made since the seed was set: each has a seed of its own.
    answers: u64,
    /// Files that this conversation was stored in or read from, which may be written again.
    files: Vec<PathBuf>,
    /// Ctrl-C while an answer is made.
    interrupt: Arc<AtomicBool>,
    /// Whether somebody sits there.
    is_typed: bool,
}

impl<'t> Chat<'t> {
    fn open(args: &ChatArgs, is_typed: bool, terminal: &'t Terminal) -> anyhow::Result<Self> {
        let files = seeing_files(&args.model(), args.chat_format, args.mmproj.as_deref(), terminal)?;
        files.tokenizer()?;
        let draft = draft(args.draft.as_deref(), &files, terminal)?;
        let mut sampling = with_advice(ModelText::read(&files)?.chat().cloned())?.sampling;
        set_by_flags(&mut sampling, &args.sampling);
        let mut dialogue = match &args.load {
            Some(path) => Dialogue::from_json(&input::small_json(path)?, path)?,
            None => Dialogue::default(),
        };
        if let Some(text) = &args.system {
            dialogue.system = Some(text.clone()).filter(|text| !text.is_empty());
        }
        if args.tools.is_some() {
            dialogue.tools = tools(args.tools.as_deref())?;
        }
        let spec = spec(&files, terminal)?;
        let adapter = adapter(args.lora.as_deref(), spec)?;
        let context = context(args.ctx, spec, terminal);
        let limits = Limits { context: ContextLength::Tokens(context), ..Limits::default() };
        let device = device(&args.device, Compute::Auto, terminal)?;
        let capacity = limits.capacity(spec, device.kind);
        let model = load(&files, device, capacity, terminal)?;
        let engine = with_draft(model, draft.as_ref(), &args.device, capacity, terminal)?.start(&limits)?;
        let has_adapter = adapter.is_some();
        adapter.map(|adapter| engine.load_adapter(ADAPTER, adapter)).transpose()?;
        let interrupt = Arc::new(AtomicBool::new(false));
        if is_typed {
            signal_hook::flag::register(SIGINT, Arc::clone(&interrupt)).context("Ctrl-C")?;
        }
        let chat = Chat {
            terminal,
            is_demo: files.source().is_demo(),
            has_adapter,
            engine,
            settings: Settings {
                sampling,
                max_tokens: args.sampling.max_tokens,
                thinking_budget: args.thinking_budget,
            },
            stop: args.sampling.stop.clone(),
            repetition_detection: args.sampling.repetition_detection,
            on_full: args.on_full,
            dialogue,
            album: Album::default(),
            tools: ToolCommands::new(args.tool_commands.clone()),
            answers: 0,
            files: args.load.iter().cloned().collect(),
            interrupt,
            is_typed,
        };
        chat.introduce();
        Ok(chat)
    }

    fn introduce(&self) {
        let family = self.engine.spec().family.name();
        let (context, device) = (self.engine.context(), self.engine.device());
        self.remark(&format!(
            "{} ({family}), {context} tokens of context; {device}",
            Escaped(self.engine.text().name())
        ));
        if self.is_demo {
            self.terminal.note(DEMO_LABEL);
        }
        self.remark("/help lists the commands; `clear` forgets the conversation, `stop` ends it");
        if !self.dialogue.is_empty() {
            self.recall();
        }
    }

    /// Where a stored conversation stands: its standing instruction and its last round.
    fn recall(&self) {
        if let Some(text) = &self.dialogue.system {
            self.remark(&format!("standing instruction: {text}"));
        }
        for message in self.dialogue.last_round() {
            let calls = message.tool_calls.iter().map(|call| format!("{}(...)", call.name));
            let text: Vec<String> = [message.content.clone()].into_iter().chain(calls).collect();
            let prompt = if message.role == Role::User { "> " } else { "" };
            self.remark(&format!("{prompt}{}", text.join("\n").trim()));
        }
        self.remark(&format!("going on after {}", self.rounds()));
    }

    /// Beside the conversation, for whoever sits there.
    fn remark(&self, text: &str) {
        if self.is_typed {
            self.terminal.aside(&format!("{text}\n"));
        }
    }

    /// What was wrong with what was typed. The conversation goes on.
    fn complain(&self, text: &str) {
        self.terminal.warn(text);
    }

    /// Where the result of the first call that waits for one comes from.
    fn next_result(&self) -> NextResult<'_> {
        match self.dialogue.awaited().first() {
            Some(call) => self.tools.of(call),
            None => NextResult::None,
        }
    }

    /// Has a program make the result of the first call that waits for one.
    fn run_tool(&mut self, program: &Path) -> anyhow::Result<()> {
        let Some(call) = self.dialogue.awaited().first() else { return Ok(()) };
        match tool_command::run(program, &call.arguments_text(), TIME, &self.interrupt) {
            Ok(result) => {
                self.terminal.aside(&format!("{result}\n"));
                self.observe(result)
            }
            Err(why) => {
                self.tools.decline();
                self.complain(&format!(
                    "{}: {why}; type the result",
                    Escaped(&program.display().to_string())
                ));
                Ok(())
            }
        }
    }

    /// Takes the result of the first call that waits for one. After the last, the model goes on.
    fn observe(&mut self, result: String) -> anyhow::Result<()> {
        self.dialogue.observe(result);
        self.tools.begin();
        if self.dialogue.awaited().is_empty() { self.respond() } else { Ok(()) }
    }

    /// Does what a line asks for.
    fn hear(&mut self, line: &str) -> anyhow::Result<ControlFlow<()>> {
        match Command::parse(line) {
            Command::Message(text) if matches!(self.next_result(), NextResult::Asked(_)) => {
                let call = self.dialogue.awaited()[0].clone();
                if !self.tools.decide(&call, &text) {
                    self.complain(
                        "y runs the program, n has you type the result, always asks no more for this tool",
                    );
                }
            }
            Command::Message(text) if text.trim().is_empty() => {}
            Command::Message(text) if self.dialogue.awaited().is_empty() => {
                self.dialogue.ask(text);
                self.respond()?;
            }
            Command::Message(result) => self.observe(result)?,
            Command::Clear => self.clear()?,
            Command::Stop => return Ok(ControlFlow::Break(())),
            Command::Help => output::print(HELP)?,
            Command::System(None) => {
                let text = self.dialogue.system.as_deref().unwrap_or("there is no standing instruction");
                output::model_text(&format!("{text}\n"))?;
            }
            Command::System(Some(text)) => {
                self.dialogue.system = Some(text).filter(|text| !text.is_empty());
                self.remark("from the next question on");
            }
            Command::Regenerate if self.dialogue.retract_answer() => {
                if self.settings.sampling.temperature == 0.0 {
                    self.remark("the likeliest tokens again; `/set temperature 0.8` brings others");
                }
                self.respond()?;
            }
            Command::Regenerate => self.complain("there is no answer yet"),
            Command::Undo => match self.dialogue.undo() {
                Some(question) => self.remark(&format!("taken back: {question}")),
                None => self.complain("there is nothing to take back"),
            },
            Command::Set(None) => output::print(&self.settings.list())?,
            Command::Set(Some((name, value))) => match self.settings.set(&name, &value) {
                Ok(()) => {
                    if name == "seed" {
                        self.answers = 0;
                    }
                    self.remark(&self.settings.shown(&name));
                }
                Err(wrong) => self.complain(&wrong),
            },
            Command::Tokens => self.count()?,
            Command::Save(file) => match self.save(Path::new(&file)) {
                Ok(()) => self.remark(&format!("stored in {file}")),
                Err(error) => self.complain(&format!("{error:#}")),
            },
            Command::Load(file) => match self.load(Path::new(&file)) {
                Ok(()) => self.recall(),
                Err(error) => self.complain(&format!("{error:#}")),
            },
            Command::Image(file) => {
                match self.album.look_at(Path::new(&file), self.engine.text(), self.terminal) {
                    Ok((part, rows)) => {
                        self.dialogue.show(part);
                        self.remark(&format!("{file} is shown with the next question: {rows} tokens"));
                    }
                    Err(error) => self.complain(&format!("{error:#}")),
                }
            }
            Command::Wrong(why) => self.complain(&why),
        }
        Ok(ControlFlow::Continue(()))
    }

    fn clear(&mut self) -> anyhow::Result<()> {
        self.dialogue.clear();
        if self.is_typed && self.terminal.is_interactive() {
            // The cursor home, the screen empty.
            self.terminal.control("\x1b[H\x1b[2J");
        }
        self.remark("the conversation is forgotten");
        Ok(())
    }

    /// Tokens of the conversation as its next question would carry them along.
    fn count(&mut self) -> anyhow::Result<()> {
        let used = if self.dialogue.is_empty() && self.dialogue.system.is_none() {
            0
        } else {
            let mut conversation = self.conversation();
            conversation.add_generation_prompt = false;
            self.prompt(&conversation)?.ids.len()
        };
        output::print(&format!("{used} of {} tokens, {}\n", self.engine.context(), self.rounds()))
    }

    /// How many there were, in words.
    fn rounds(&self) -> String {
        match self.dialogue.rounds() {
            1 => "1 round".to_owned(),
            n => format!("{n} rounds"),
        }
    }

    fn save(&mut self, path: &Path) -> anyhow::Result<()> {
        let ours = self.files.iter().any(|known| known == path);
        ensure!(ours || !path.exists(), "{}: already exists; name another file", path.display());
        let text = serde_json::to_string_pretty(&self.dialogue.to_json(self.engine.text().name()))? + "\n";
        // Whole or not at all: what was there stays until the new one is complete.
        let mut file = OutputFile::create(path)?;
        file.write_all(text.as_bytes()).with_context(|| path.display().to_string())?;
        file.finish()?;
        if !ours {
            self.files.push(path.to_owned());
        }
        Ok(())
    }

    fn load(&mut self, path: &Path) -> anyhow::Result<()> {
        self.dialogue = Dialogue::from_json(&input::small_json(path)?, path)?;
        self.files.push(path.to_owned());
        Ok(())
    }

    /// Has the last question answered. One that cannot be is taken back.
    fn respond(&mut self) -> anyhow::Result<()> {
        self.interrupt.store(false, Ordering::Relaxed);
        let echo = self.terminal.without_echo();
        let result = self.fit(0).and_then(|prompt| self.generate(prompt));
        drop(echo);
        match result {
            Ok((reply, outcome)) => {
                self.dialogue.answer(reply);
                self.tools.begin();
                // Nobody wanted more of an answer that was stopped.
                if outcome.finish != FinishReason::ToolCalls {
                    self.tools.decline();
                }
                self.sum_up(&outcome);
                Ok(())
            }
            // A reader that went away is for main to deal with, and without an engine nothing goes on; everything else
            // leaves a conversation to go on with.
            Err(error) if error.is::<std::io::Error>() || is_end(&error) || !self.is_typed => Err(error),
            Err(error) => {
                self.dialogue.undo();
                self.complain(&format!("{error:#}"));
                Ok(())
            }
        }
    }

    /// What the model reads: a budget of nothing has it not think.
    fn conversation(&self) -> Conversation {
        let mut conversation = self.dialogue.conversation();
        conversation.enable_thinking = (self.settings.thinking_budget == Some(0)).then_some(false);
        conversation
    }

    fn prompt(&mut self, conversation: &Conversation) -> anyhow::Result<Prompt> {
        let text = self.engine.text();
        let views = self.album.views(conversation, text)?;
        Ok(text.prompt_seeing(conversation, &views)?)
    }

    /// The conversation's prompt, with room for an answer of which `begun` tokens are there. Where it has grown too
    /// long and that is wanted, the oldest rounds go.
    fn fit(&mut self, begun: usize) -> anyhow::Result<Prompt> {
        let context = self.engine.context();
        let mut forgotten = 0;
        loop {
            let prompt = self.prompt(&self.conversation())?;
            let used = prompt.ids.len() + begun;
            // Not to slide again at every token, a quarter is made free.
            let enough = if forgotten > 0 || begun > 0 { context - context / 4 } else { context };
            let room = room_for_answer(used, usize::MAX, context);
            if used < enough || self.on_full == OnFull::Stop && room.is_ok() {
                self.report_forgotten(forgotten);
                return Ok(prompt);
            }
            if self.on_full == OnFull::Slide && self.dialogue.forget_oldest() {
                forgotten += 1;
                continue;
            }
            self.report_forgotten(forgotten);
            let Err(error) = room else { return Ok(prompt) };
            let advice = match self.on_full {
                OnFull::Stop => "; `clear`, or start with --on-full slide or a larger --ctx",
                OnFull::Slide => "; start with a larger --ctx",
            };
            bail!("{error}{advice}");
        }
    }

    fn report_forgotten(&self, rounds: usize) {
        match rounds {
            0 => {}
            1 => self.terminal.note("the context is full: the oldest round is forgotten"),
            _ => {
                self.terminal.note(&format!("the context is full: the oldest {rounds} rounds are forgotten"))
            }
        }
    }

    /// Answers a prompt, printing as it goes.
    fn generate(&mut self, prompt: Prompt) -> anyhow::Result<(Reply, Outcome)> {
        let mut params = GenerationParams {
            sampling: self.settings.sampling.clone(),
            max_tokens: self.settings.max_tokens,
            thinking_budget: self.settings.thinking_budget,
            stop: self.stop.clone(),
            repetition_detection: self.repetition_detection,
            resumable: self.on_full == OnFull::Slide,
            adapter: self.has_adapter.then(|| ADAPTER.to_owned()),
            ..GenerationParams::default()
        };
        params.sampling.seed = params.sampling.seed.wrapping_add(self.answers);
        self.answers += 1;
        let mut generation = self.engine.generate(&prompt, params)?;
        let mut printer = Printer::new(self.terminal);
        let mut reply = Reply::default();
        let mut show = |delta: Delta| -> anyhow::Result<()> {
            for part in delta.parts {
                printer.show(&part)?;
                reply.push(part);
            }
            Ok(())
        };
        loop {
            if let Err(error) = self.follow(&mut generation, &mut show) {
                printer.break_off()?;
                return Err(error);
            }
            if !generation.is_full() || self.dialogue.rounds() < 2 {
                break;
            }
            let prompt = self.fit(generation.ids().len())?;
            generation.resume(&self.engine, &prompt);
        }
        // Stopped by somebody, or full with nothing left to forget.
        show(generation.cancel())?;
        printer.end()?;
        let finish = generation.finish().cloned().unwrap_or(FinishReason::Cancelled);
        Ok((reply, Outcome { finish, usage: generation.usage(), timings: generation.timings() }))
    }

    /// Shows what comes, until nothing more does or somebody stops it.
    fn follow(
        &self,
        generation: &mut Generation,
        show: &mut dyn FnMut(Delta) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let mut is_reading = false;
        let mut result = Ok(());
        while result.is_ok() && !generation.is_over() && !self.interrupt.load(Ordering::Relaxed) {
            let delta = match generation.next_within(PATIENCE) {
                Ok(Some(delta)) => delta,
                Ok(None) => continue,
                Err(error) => {
                    result = Err(error.into());
                    break;
                }
            };
            if let Some(prompt) = &delta.progress {
                if prompt.total - prompt.cached > STEP_TOKENS && prompt.done < prompt.total {
                    is_reading = true;
                    self.terminal.transient(&format!("reading {} of {} tokens", prompt.done, prompt.total));
                }
                continue;
            }
            if std::mem::take(&mut is_reading) {
                self.terminal.transient("");
            }
            result = show(delta);
        }
        if is_reading {
            self.terminal.transient("");
        }
        result
    }

    /// What the answer took.
    fn sum_up(&self, outcome: &Outcome) {
        match outcome.finish {
            FinishReason::Cancelled => self.remark("stopped"),
            FinishReason::ContextFull => self.terminal.note(&format!(
                "the context of {} tokens is full: the answer ends here; `clear`, or start with --on-full slide",
                self.engine.context()
            )),
            FinishReason::MaxTokens => self.remark("max_tokens are reached"),
            FinishReason::Repetition { .. } => self.terminal.note("the answer repeats itself and was ended"),
            FinishReason::Stop | FinishReason::StopString(_) | FinishReason::ToolCalls => {}
        }
        let (usage, timings) = (&outcome.usage, &outcome.timings);
        let speed = if timings.tokens_per_second > 0.0 {
            format!(" at {:.1}/s", timings.tokens_per_second)
        } else {
            String::new()
        };
        let reused = match usage.cached {
            0 => String::new(),
            n => format!(", {n} reused"),
        };
        self.remark(&format!(
            "[{} tokens{speed}, first after {:.2} s; context {}/{}{reused}]",
            usage.completion,
            timings.first_token.as_secs_f64(),
            usage.prompt + usage.completion,
            self.engine.context(),
        ));
    }
}

/// Whether nobody is left to answer.
fn is_end(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Error>().is_some_and(Error::is_end)
}

/// How an answer went.
struct Outcome {
    finish: FinishReason,
    usage: Usage,
    timings: Timings,
}
