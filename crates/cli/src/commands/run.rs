//! `glimmer run`: answer a message, or continue a text or ids.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, anyhow, ensure};
use glimmer::{
    Adapter, AnswerForm, AnswerFormat, Completion, Compute, ContextLength, Conversation, Encoding,
    FinishReason, Generation, GenerationParams, Limits, Message, ModelFiles, ModelText, Prompt, Reply,
    ReplyPart, Role, Token, Tokenizer, View, check_ids, json, room_for_answer,
};
use serde::Serialize;
use serde_json::Value;

use crate::args::RunArgs;
use crate::model::{
    ADAPTER, DEMO_LABEL, adapter, context, device, draft, load, seeing_files, spec, tools, with_advice,
    with_draft,
};
use crate::pictures::Album;
use crate::printer::Printer;
use crate::sampling::{Shown, set_by_flags};
use crate::terminal::Terminal;
use crate::{input, output};

/// Generates and prints.
pub(crate) fn run(args: &RunArgs, terminal: &Terminal) -> anyhow::Result<()> {
    let start = Instant::now();
    let (model, typed) = args.meant();
    let is_lone_prompt = typed.is_some() && args.prompt.is_none();
    let files = seeing_files(&model, args.chat_format, args.mmproj.as_deref(), terminal)?;
    // Whatever is wrong with the prompt and the format is known before any weight is read.
    let draft = draft(args.draft.as_deref(), &files, terminal)?;
    let format = format(args)?;
    let tools = tools(args.tools.as_deref())?;
    let prompt = prompt(args, typed, &tools, &files, terminal)?;
    let spec = spec(&files, terminal)?;
    check_ids(&prompt.ids, spec)?;
    let adapter = adapter(args.lora.as_deref(), spec)?;
    let slots = adapter.as_ref().map_or(0, Adapter::slots);
    let context = context(args.ctx, spec, terminal);
    let most = args.sampling.max_tokens.unwrap_or(usize::MAX);
    room_for_answer(prompt.ids.len() + slots, most, context).map_err(|error| {
        let advice =
            if args.ctx == Some(ContextLength::Trained) { "" } else { "; --ctx N makes room for more" };
        anyhow!("{error}{advice}")
    })?;
    let limits = Limits::for_prompt(
        spec,
        ContextLength::Tokens(context),
        &prompt.ids,
        args.sampling.max_tokens.map(|n| n + slots),
    )?;
    let device = device(&args.device, Compute::Auto, terminal)?;
    let capacity = limits.capacity(spec, device.kind);
    let model = load(&files, device, capacity, terminal)?;
    let engine = with_draft(model, draft.as_ref(), &args.device, capacity, terminal)?.start(&limits)?;
    let adapter = match adapter {
        Some(adapter) => {
            engine.load_adapter(ADAPTER, adapter)?;
            Some(ADAPTER.to_owned())
        }
        None => None,
    };
    if files.source().is_demo() {
        let advice = if is_lone_prompt { "; `glimmer run MODEL PROMPT` asks another" } else { "" };
        terminal.note(&format!("{DEMO_LABEL}{advice}"));
    }
    let form = form(engine.text(), &format, tools)?;
    for unmasked in form.iter().flat_map(AnswerForm::unmasked) {
        let (keyword, at) = (&unmasked.keyword, &unmasked.at);
        terminal.note(&format!("`{keyword}` at {at:?} of the schema is checked when the answer is finished"));
    }
    let mut params = GenerationParams {
        form,
        max_tokens: args.sampling.max_tokens,
        stop: args.sampling.stop.clone(),
        repetition_detection: args.sampling.repetition_detection,
        ignore_eos: args.ignore_eos,
        thinking_budget: args.thinking_budget,
        logprobs: args.logprobs.map(|n| n as usize),
        adapter,
        ..engine.defaults(&prompt)
    };
    set_by_flags(&mut params.sampling, &args.sampling);
    if params.sampling.temperature > 0.0 && args.sampling.seed.is_none() && !args.json {
        terminal.note(&format!("seed {}", params.sampling.seed));
    }
    let sampling = Shown::from(&params.sampling);
    let load_seconds = start.elapsed().as_secs_f64();
    let generation = engine.generate(&prompt, params)?;
    if args.json {
        let record = Record::of(generation, engine.text(), load_seconds, sampling, args.logprobs.is_some())?;
        return output::json(&record);
    }
    let (finish, check) = print(generation, args.print_ids, terminal)?;
    match finish {
        FinishReason::ContextFull => terminal.note(&format!("the context of {context} tokens is full")),
        FinishReason::Repetition { .. } => terminal.note("the answer repeats itself and was ended"),
        _ => {}
    }
    if let Some(Err(error)) = check {
        terminal.warn(&format!("the answer does not fit the schema: {error}"));
    }
    Ok(())
}

/// What the answer is to look like.
fn format(args: &RunArgs) -> anyhow::Result<AnswerFormat> {
    if let Some(path) = &args.json_schema {
        let schema = json::tree(&input::small_json(path)?, json::FILE_ROOM);
        let schema = schema.with_context(|| path.display().to_string())?;
        return Ok(AnswerFormat::JsonSchema { schema, strict: false });
    }
    let Some(path) = &args.grammar else { return Ok(AnswerFormat::Text) };
    let source = input::small_json(path)?;
    let is_gbnf = source.contains("::=");
    Ok(if is_gbnf { AnswerFormat::Gbnf(source) } else { AnswerFormat::Lark(source) })
}

/// The same made ready. With tools the answer may be calls in its place; without a format they are held to theirs anyway.
fn form(text: &ModelText, format: &AnswerFormat, tools: Vec<Value>) -> anyhow::Result<Option<AnswerForm>> {
    let form = text.form(format)?;
    if form.is_none() || tools.is_empty() {
        return Ok(form);
    }
    let calls = text.form(&AnswerFormat::Calls { tools, required: true, single: false })?;
    Ok(match (calls, form) {
        (Some(calls), Some(form)) => Some(calls.or(form)),
        (_, form) => form,
    })
}

/// What is to be continued.
fn prompt(
    args: &RunArgs,
    typed: Option<&str>,
    tools: &[Value],
    files: &ModelFiles,
    terminal: &Terminal,
) -> anyhow::Result<Prompt> {
    let prompt = match &args.ids {
        Some(ids) => {
            // Ids in, ids out: the model may well come without a tokenizer.
            if !args.print_ids {
                files.tokenizer()?;
            }
            Prompt::of_ids(input::ids(ids)?)
        }
        None => {
            let typed = prompt_text(typed)?;
            ensure!(!typed.is_empty(), "the prompt is empty");
            files.tokenizer()?;
            let text = ModelText::read(files)?;
            if args.raw {
                let encoding = Encoding { add_special: true, parse_special: args.parse_special };
                text.continuation(&typed, encoding)?
            } else {
                let system = args.system.iter().map(|text| Message::new(Role::System, text));
                let (question, views) = question(typed, &args.images, &text, terminal)?;
                let mut conversation = Conversation::new(system.chain([question]).collect());
                conversation.tools = tools.to_vec();
                conversation.enable_thinking = (args.thinking_budget == Some(0)).then_some(false);
                with_advice(if args.parse_special {
                    text.prompt_parse_special(&conversation)
                } else {
                    text.prompt_seeing(&conversation, &views)
                })?
            }
        }
    };
    Ok(if args.print_ids { prompt.answered_in_ids() } else { prompt })
}

/// What is asked, after the pictures that it is about.
fn question(
    typed: String,
    images: &[PathBuf],
    text: &ModelText,
    terminal: &Terminal,
) -> anyhow::Result<(Message, Vec<View>)> {
    let mut question = Message::new(Role::User, "");
    let mut album = Album::default();
    for path in images {
        question.show_part(album.look_at(path, text, terminal)?.0);
    }
    question.say(&typed);
    let conversation = Conversation::new(vec![question.clone()]);
    Ok((question, album.views(&conversation, text)?))
}

/// The prompt as typed; a pipe's last line break belongs to the shell and not to the question.
fn prompt_text(typed: Option<&str>) -> anyhow::Result<String> {
    let mut text = input::text(typed, "the prompt")?;
    if typed.is_none_or(|text| text == "-") && text.ends_with('\n') {
        text.pop();
        text.truncate(text.strip_suffix('\r').map_or(text.len(), str::len));
    }
    Ok(text)
}

/// Prints an answer as it is made, or its ids.
fn print(
    mut generation: Generation,
    prints_ids: bool,
    terminal: &Terminal,
) -> anyhow::Result<(FinishReason, Option<Result<(), String>>)> {
    let mut check = None;
    let mut printer = Printer::new(terminal);
    let mut separator = "";
    for delta in &mut generation {
        let delta = match delta {
            Ok(delta) => delta,
            Err(error) => {
                printer.break_off()?;
                return Err(error.into());
            }
        };
        for token in delta.tokens.iter().filter(|_| prints_ids) {
            printer.show(&ReplyPart::Text(format!("{separator}{}", token.id)))?;
            separator = ",";
        }
        delta.parts.iter().try_for_each(|part| printer.show(part))?;
        check = check.or(delta.check);
    }
    printer.end()?;
    Ok((generation.finish().cloned().unwrap_or(FinishReason::Cancelled), check))
}

/// What `--json` prints.
#[derive(Serialize)]
struct Record {
    model: String,
    text: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    reasoning: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<Call>,
    /// OpenAI's words: `stop`, `length`, `tool_calls`.
    finish_reason: &'static str,
    /// The stop string that was met.
    stop: Option<String>,
    /// vLLM's word where it repeats itself and was ended: `repetition_detected`.
    #[serde(skip_serializing_if = "Option::is_none")]
    stop_reason: Option<&'static str>,
    /// What the answer breaks of the schema; nothing where it fits, or was held to all of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    schema_error: Option<String>,
    usage: Usage,
    /// From the start of the program to the request.
    load_seconds: f64,
    timings: Timings,
    sampling: Shown,
    #[serde(skip_serializing_if = "Option::is_none")]
    logprobs: Option<Vec<LogProbability>>,
}

/// Tokens.
#[derive(Serialize)]
struct Usage {
    prompt_tokens: usize,
    cached_tokens: usize,
    completion_tokens: usize,
    reasoning_tokens: usize,
    /// Of the answer's, guessed ahead.
    accepted_prediction_tokens: usize,
    /// Guesses beside them that were wrong.
    rejected_prediction_tokens: usize,
}

/// Seconds, and tokens per second.
#[derive(Serialize)]
struct Timings {
    first_token_seconds: f64,
    total_seconds: f64,
    prompt_tokens_per_second: f64,
    tokens_per_second: f64,
}

#[derive(Serialize)]
struct Call {
    name: String,
    arguments: Value,
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

impl Record {
    fn of(
        generation: Generation,
        text: &ModelText,
        load_seconds: f64,
        sampling: Shown,
        has_logprobs: bool,
    ) -> anyhow::Result<Self> {
        let Completion { reply, tokens, finish, check, usage, timings } = generation.complete()?;
        let tokenizer = text.tokenizer().ok();
        Ok(Record {
            model: text.name().to_owned(),
            finish_reason: finish_reason(&finish, &reply),
            text: reply.text,
            reasoning: reply.reasoning,
            tool_calls: reply
                .tool_calls
                .into_iter()
                .map(|call| Call { name: call.name, arguments: call.arguments })
                .collect(),
            stop_reason: matches!(finish, FinishReason::Repetition { .. }).then_some("repetition_detected"),
            stop: if let FinishReason::StopString(text) = finish { Some(text) } else { None },
            schema_error: check.and_then(Result::err),
            usage: Usage {
                prompt_tokens: usage.prompt,
                cached_tokens: usage.cached,
                completion_tokens: usage.completion,
                reasoning_tokens: usage.reasoning,
                accepted_prediction_tokens: usage.accepted,
                rejected_prediction_tokens: usage.rejected,
            },
            load_seconds,
            timings: Timings {
                first_token_seconds: timings.first_token.as_secs_f64(),
                total_seconds: timings.total.as_secs_f64(),
                prompt_tokens_per_second: timings.prompt_tokens_per_second,
                tokens_per_second: timings.tokens_per_second,
            },
            sampling,
            logprobs: has_logprobs.then(|| log_probabilities(&tokens, tokenizer)),
        })
    }
}

fn finish_reason(finish: &FinishReason, reply: &Reply) -> &'static str {
    match finish {
        FinishReason::MaxTokens | FinishReason::ContextFull => "length",
        _ if !reply.tool_calls.is_empty() && !reply.unfinished_call => "tool_calls",
        FinishReason::Stop
        | FinishReason::StopString(_)
        | FinishReason::ToolCalls
        | FinishReason::Repetition { .. }
        | FinishReason::Cancelled => "stop",
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
