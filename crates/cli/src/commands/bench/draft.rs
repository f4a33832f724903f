//! What a model that guesses is worth: the same answers with and without it, in turns.
//!
//! Tokens are drawn at temperature 1, so that nothing is guessed from the answer itself. Where guesses are to be right so
//! often the answer is made once without them, and then foretold: everything is computed, only what is guessed is not the
//! draft's.

use std::ops::ControlFlow;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use glimmer::{Engine, Event, Foretold, Limits, ModelFiles, Request, Sampling, Speculation, Statistics};
use serde::Serialize;

use super::report::median;
use crate::args::Figures;
use crate::output;
use crate::random::Random;

/// What is asked how often.
pub(super) struct DraftCase<'a> {
    pub(super) prompt: usize,
    pub(super) output: usize,
    pub(super) repetitions: usize,
    /// How often guesses are right; nothing where they are the draft's own.
    pub(super) right: &'a [f32],
}

/// The figures of one way to answer.
#[derive(Default, Serialize)]
struct Row {
    /// How often guesses were to be right; `null` for the draft's own, and for none.
    right: Option<f32>,
    /// Tokens per second after the first: the median.
    tokens_per_second: f64,
    /// As a part of what there is without a draft.
    ratio: f64,
    /// Guesses that were looked at, and those that were right.
    guessed: u64,
    accepted: u64,
    /// The share of the time that the draft took.
    drafting: f64,
    samples: Vec<f64>,
}

impl DraftCase<'_> {
    /// What it needs room for.
    pub(super) fn limits(&self) -> Limits {
        let tokens = self.prompt + self.output;
        Limits { context: glimmer::ContextLength::Tokens(tokens), ..Limits::default() }
    }

    /// Runs and prints.
    pub(super) fn run(
        &self,
        engine: &Engine,
        files: &ModelFiles,
        draft: &ModelFiles,
        figures: Figures,
    ) -> anyhow::Result<()> {
        let ways: Vec<Option<f32>> = match self.right {
            [] => vec![None],
            right => right.iter().copied().map(Some).collect(),
        };
        let mut rows: Vec<Row> =
            [None].into_iter().chain(ways).map(|right| Row { right, ..Row::default() }).collect();
        for repetition in 0..self.repetitions {
            let mut random = Random::new(&[repetition as u64]);
            let vocab = u32::try_from(engine.spec().vocab)?;
            let prompt: Vec<u32> = (0..self.prompt).map(|_| random.below(vocab)).collect();
            let plain = Request {
                prompt,
                max_tokens: self.output,
                speculation: Speculation::Off,
                sampling: Sampling { temperature: 1.0, seed: repetition as u64, ..Sampling::default() },
                ..Request::default()
            };
            let answer = rows[0].measure(engine, &plain)?;
            for row in &mut rows[1..] {
                let foretold =
                    row.right.map(|right| Foretold { answer: answer.clone(), right: f64::from(right) });
                let request = Request { speculation: Speculation::Auto, foretold, ..plain.clone() };
                if row.measure(engine, &request)? != answer {
                    bail!("an answer is another with the draft: that is a fault of this program");
                }
            }
        }
        let without = median(&rows[0].samples);
        for row in &mut rows {
            row.tokens_per_second = median(&row.samples);
            row.ratio = row.tokens_per_second / without;
        }
        print(&rows, &files.source().name(), &draft.source().name(), figures)
    }
}

impl Row {
    /// Has one answer made and returns its tokens.
    fn measure(&mut self, engine: &Engine, request: &Request) -> anyhow::Result<Vec<u32>> {
        let before = engine.statistics();
        let (sender, events) = channel();
        let sink = move |event| match sender.send(event) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        };
        engine.submit(request.clone(), vec![Box::new(sink)]);
        let (mut tokens, mut first, mut last) = (Vec::new(), None::<Instant>, None::<Instant>);
        for event in events {
            match event {
                Event::Token(token) => {
                    first.get_or_insert(token.at);
                    last = Some(token.at);
                    tokens.push(token.id);
                }
                Event::Failed(error) => return Err(error.into()),
                Event::Prompt(_) | Event::Stop(_) | Event::Finished(_) => {}
            }
        }
        let (first, last) = first.zip(last).context("an answer has no token")?;
        let seconds = (last - first).as_secs_f64().max(1e-9);
        self.samples.push((tokens.len() - 1) as f64 / seconds);
        // The last step is counted after its tokens are told.
        while engine.statistics().finished == before.finished {
            std::thread::sleep(Duration::from_millis(1));
        }
        let Statistics { draft_model_tokens, draft_model_accepted, drafting, .. } = engine.statistics();
        self.guessed += draft_model_tokens - before.draft_model_tokens;
        self.accepted += draft_model_accepted - before.draft_model_accepted;
        self.drafting = (drafting - before.drafting).as_secs_f64() / seconds;
        Ok(tokens)
    }
}

fn print(rows: &[Row], model: &str, draft: &str, figures: Figures) -> anyhow::Result<()> {
    if figures == Figures::Json {
        return output::json(&serde_json::json!({"model": model, "draft": draft, "results": rows}));
    }
    let (before, between, after) = if figures == Figures::Csv { ("", ",", "") } else { ("| ", " | ", " |") };
    let mut lines = output::Lines::default();
    let mut line = |cells: &[String]| lines.add(format!("{before}{}{after}", cells.join(between)));
    line(&["guesses", "tokens/s", "ratio", "guessed", "right", "time in the draft"].map(str::to_owned));
    if figures == Figures::Markdown {
        line(&["---", "---:", "---:", "---:", "---:", "---:"].map(str::to_owned));
    }
    for (at, row) in rows.iter().enumerate() {
        let way = match row.right {
            Some(right) => format!("right {right}"),
            None if at == 0 => "none".to_owned(),
            None => draft.to_owned(),
        };
        let share = match (at, row.guessed) {
            (0, _) => String::new(),
            (_, 0) => "not asked: it does not pay".to_owned(),
            (_, guessed) => format!("{:.0} %", 100.0 * row.accepted as f64 / guessed as f64),
        };
        line(&[
            way,
            format!("{:.2}", row.tokens_per_second),
            format!("{:.2}", row.ratio),
            row.guessed.to_string(),
            share,
            format!("{:.0} %", 100.0 * row.drafting),
        ]);
    }
    lines.print()
}
