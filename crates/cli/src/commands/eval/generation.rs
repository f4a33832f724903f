//! `glimmer eval generation`: a file's questions answered, and the answers compared with those that are there.

use std::collections::VecDeque;
use std::io::Write;

use anyhow::{Context, ensure};
use glimmer::{
    Adapter, Completion, Compute, ContextLength, Engine, Generation, GenerationParams, Limits, ModelText,
    OutputFile, Sampling, Tokenizer, check_ids,
};
use glimmer_train::data::{Asked, DataFile, Limits as Lengths, Renderer};
use glimmer_train::score::{Scores, Segmenter};
use serde::Serialize;

use crate::args::GenerationArgs;
use crate::interrupt::Interrupt;
use crate::model::{ADAPTER, adapter, device, files, load, spec, with_advice};
use crate::output::{self, Lines};
use crate::terminal::Terminal;

/// What ChatGLM-6B's script samples with, the last as transformers does where nothing is said.
const TOP_P: f32 = 0.7;
const TEMPERATURE: f32 = 0.95;
const TOP_K: usize = 50;

/// What `--json` answers.
#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    scores: Scores,
    answers: usize,
    /// Answers that the most tokens ended.
    unfinished: usize,
}

/// Asks, compares, prints.
pub(crate) fn run(args: &GenerationArgs, terminal: &Terminal) -> anyhow::Result<()> {
    let interrupt = Interrupt::listen()?;
    let files = files(&args.model, args.chat_format, terminal)?;
    let text = ModelText::read(&files)?;
    let questions = questions(args, &text, terminal)?;
    let spec = spec(&files, terminal)?;
    let adapter = adapter(args.lora.as_deref(), spec)?;
    let longest = questions.iter().map(|asked| asked.prompt.len()).max().unwrap_or(0);
    let context = longest + args.max_tokens + adapter.as_ref().map_or(0, Adapter::slots);
    ensure!(
        context <= spec.context,
        "prompts of up to {longest} tokens and answers of {} need a context of {context}; the model has {}; cut them with \
         --max-source-length or --max-tokens",
        args.max_tokens,
        spec.context
    );
    questions.iter().try_for_each(|asked| check_ids(&asked.prompt, spec))?;
    let parallel = args.parallel.min(questions.len());
    let limits = Limits {
        context: ContextLength::Tokens(context),
        cache_tokens: Some(context * parallel),
        indivisible: Some(longest),
        running: parallel,
        waiting: parallel,
        ..Limits::default()
    };
    std::fs::create_dir_all(&args.output).with_context(|| args.output.display().to_string())?;
    let path = args.output.join("generated_predictions.txt");
    let mut file = OutputFile::create(&path)?;
    let device = device(&args.device, Compute::Auto, terminal)?;
    let capacity = limits.capacity(spec, device.kind);
    let engine = load(&files, device, capacity, terminal)?.start(&limits)?;
    let adapter = match adapter {
        Some(adapter) => {
            engine.load_adapter(ADAPTER, adapter)?;
            Some(ADAPTER.to_owned())
        }
        None => None,
    };
    let bar = terminal.steps_bar("answering", questions.len() as u64);
    let segmenter = Segmenter::new();
    let tokenizer = text.tokenizer()?;
    let mut all = Vec::new();
    let mut unfinished = 0;
    let mut running = VecDeque::new();
    let mut waiting = questions.iter().enumerate();
    loop {
        while running.len() < parallel
            && let Some((number, asked)) = waiting.next()
        {
            running.push_back((asked, ask(&engine, asked, args, &adapter, number)?));
        }
        let Some((asked, generation)) = running.pop_front() else { break };
        let completion = generation.complete()?;
        interrupt.check()?;
        unfinished += usize::from(completion.tokens.len() >= args.max_tokens);
        let predict = written(&completion, tokenizer);
        let labels = tokenizer.decode_skip_special(&asked.wanted).trim().to_owned();
        all.push(Scores::of(&segmenter, &predict, &labels));
        writeln!(file, "{}", line(&labels, &predict)?).with_context(|| path.display().to_string())?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    file.finish()?;
    print(Report { scores: Scores::mean(&all), answers: all.len(), unfinished }, args, terminal)
}

/// The questions of the file. A row that asks nothing, or that the format cannot say, is told of and passed over.
fn questions(args: &GenerationArgs, text: &ModelText, terminal: &Terminal) -> anyhow::Result<Vec<Asked>> {
    let [source, target] = [args.max_source_length, args.max_target_length].map(|n| n.unwrap_or(usize::MAX));
    let lengths = Lengths { source, target, whole: usize::MAX, last_answer: false };
    let renderer = Renderer::new(with_advice(text.chat())?, text.tokenizer()?, lengths);
    let renderer = renderer.map_err(anyhow::Error::msg)?;
    let data = DataFile::open(&args.data, args.columns.columns())?;
    let most = args.max_samples.unwrap_or(usize::MAX);
    let mut questions = Vec::new();
    let (mut refused, mut first) = (0, None);
    for row in 0..data.len() {
        if questions.len() >= most {
            break;
        }
        match data.row(row).and_then(|read| renderer.asked(&read).map_err(|why| data.refusal(row, why))) {
            Ok(asked) => questions.extend(asked),
            Err(error) => {
                refused += 1;
                first.get_or_insert(error);
            }
        }
    }
    questions.truncate(most);
    if let Some(first) = first {
        ensure!(!questions.is_empty(), "no row can be asked: {first}");
        terminal.warn(&format!("{refused} of {} rows are left out: {first}", data.len()));
    }
    Ok(questions)
}

fn ask(
    engine: &Engine,
    asked: &Asked,
    args: &GenerationArgs,
    adapter: &Option<String>,
    number: usize,
) -> anyhow::Result<Generation> {
    let mut prompt = engine.text().prompt(&asked.history)?;
    prompt.ids.clone_from(&asked.prompt);
    let seed = args.seed.wrapping_add(number as u64);
    let sampling = if args.greedy {
        Sampling { temperature: 0.0, seed, ..Sampling::default() }
    } else {
        Sampling { temperature: TEMPERATURE, top_p: TOP_P, top_k: TOP_K, seed, ..Sampling::default() }
    };
    let params = GenerationParams {
        sampling,
        max_tokens: Some(args.max_tokens),
        adapter: adapter.clone(),
        ..engine.defaults(&prompt)
    };
    Ok(engine.generate(&prompt, params)?)
}

/// An answer as the script decodes it; without the reasoning, where there is some.
fn written(completion: &Completion, tokenizer: &Tokenizer) -> String {
    if !completion.reply.reasoning.is_empty() {
        return completion.reply.text.trim().to_owned();
    }
    let ids: Vec<u32> = completion.tokens.iter().map(|token| token.id).collect();
    tokenizer.decode_skip_special(&ids).trim().to_owned()
}

/// A line of the file, as Python's `json.dumps` writes it.
fn line(labels: &str, predict: &str) -> anyhow::Result<String> {
    let [labels, predict] = [labels, predict].map(serde_json::to_string);
    Ok(format!("{{\"labels\": {}, \"predict\": {}}}", labels?, predict?))
}

fn print(report: Report, args: &GenerationArgs, terminal: &Terminal) -> anyhow::Result<()> {
    if report.unfinished > 0 {
        let Report { unfinished, answers, .. } = report;
        terminal.note(&format!(
            "{unfinished} of {answers} answers were ended by --max-tokens {}",
            args.max_tokens
        ));
    }
    if args.json {
        return output::json(&report);
    }
    let Scores { bleu4, rouge1, rouge2, rouge_l } = report.scores;
    let mut lines = Lines::default();
    for (name, score) in [("BLEU-4", bleu4), ("ROUGE-1", rouge1), ("ROUGE-2", rouge2), ("ROUGE-L", rouge_l)] {
        lines.add(format_args!("{name:<8}{score:>8.4}"));
    }
    lines.add(format_args!("answers {:>8}", report.answers));
    lines.print()
}
