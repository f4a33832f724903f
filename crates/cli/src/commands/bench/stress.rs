//! GLM-4's stress test: a long prompt of random ids in its chat format, read and continued several times.
//!
//! Source: `trans_stress_test.py` of the GLM-4 repository, which prints the same figures for transformers.

use std::time::Instant;

use anyhow::ensure;
use glimmer_models::{Decoder, PositionLayout};
use glimmer_tensor::{Batch, Capacity, KvType, PAGE_SLOTS, PageId};
use serde::Serialize;

use super::report::mean;
use crate::args::Figures;
use crate::output;
use crate::random::Random;

/// `[gMASK] <sop> <|user|>`, a newline, and what ends the question: `<|assistant|>`.
const BEGINS: [u32; 4] = [151_331, 151_333, 151_336, 198];
const ENDS: u32 = 151_337;

/// What is done how often.
pub(super) struct Stress {
    pub(super) input: usize,
    pub(super) output: usize,
    pub(super) runs: usize,
    /// Tokens of one step while the prompt is read.
    pub(super) step: usize,
}

/// The figures.
#[derive(Serialize)]
struct Report {
    input_tokens: usize,
    output_tokens: usize,
    runs: Vec<Run>,
    mean: Run,
}

#[derive(Clone, Copy, Serialize)]
struct Run {
    /// Seconds until the prompt was read and the first token known.
    prefill_s: f64,
    /// Tokens per second after that.
    decode_ts: f64,
}

impl Stress {
    /// What it needs room for.
    pub(super) fn capacity(&self) -> Capacity {
        let pages = (self.input + BEGINS.len() + 1 + self.output).div_ceil(PAGE_SLOTS);
        Capacity { rows: self.step, logits_rows: 1, pages }
    }

    /// Prepares, runs and prints.
    pub(super) fn run(&self, mut decoder: Decoder, kv_type: KvType, figures: Figures) -> anyhow::Result<()> {
        let vocab = decoder.spec().vocab;
        ensure!(self.output >= 2, "the stress test times every token but the first: -n is 2 at least");
        ensure!(
            vocab > ENDS as usize,
            "the stress test is GLM-4's: its ids go up to {ENDS}, this vocabulary has {vocab}"
        );
        decoder.plan(self.capacity(), kv_type)?;
        let runs =
            (0..self.runs).map(|run| self.once(&mut decoder, run)).collect::<anyhow::Result<Vec<_>>>()?;
        let average = |of: &dyn Fn(&Run) -> f64| mean(&runs.iter().map(of).collect::<Vec<_>>());
        let mean = Run { prefill_s: average(&|run| run.prefill_s), decode_ts: average(&|run| run.decode_ts) };
        let report = Report { input_tokens: self.input, output_tokens: self.output, runs, mean };
        report.print(figures)
    }

    fn once(&self, decoder: &mut Decoder, run: usize) -> anyhow::Result<Run> {
        let mut random = Random::new(&[run as u64]);
        let text = (0..self.input).map(|_| random.below(BEGINS[0]));
        let prompt: Vec<u32> = BEGINS.into_iter().chain(text).chain([ENDS]).collect();
        let layout = PositionLayout::of_prompt(decoder.spec().positions, &prompt)?;
        let mut sequence = Sequence { decoder, layout, len: 0, logits: Vec::new() };

        let begun = Instant::now();
        let mut next = 0;
        for (at, chunk) in prompt.chunks(self.step).enumerate() {
            let is_last = (at + 1) * self.step >= prompt.len();
            next = sequence.append(chunk, is_last)?;
        }
        let prefill_s = begun.elapsed().as_secs_f64();
        let begun = Instant::now();
        for _ in 1..self.output {
            next = sequence.append(&[next], true)?;
        }
        let decode_ts = (self.output - 1) as f64 / begun.elapsed().as_secs_f64();
        Ok(Run { prefill_s, decode_ts })
    }
}

/// The one sequence of a run.
struct Sequence<'a> {
    decoder: &'a mut Decoder,
    layout: PositionLayout,
    len: usize,
    logits: Vec<f32>,
}

impl Sequence<'_> {
    /// Computes further tokens; answers the likeliest next one when it is wanted.
    fn append(&mut self, tokens: &[u32], wanted: bool) -> anyhow::Result<u32> {
        let slots = self.len..self.len + tokens.len();
        self.len = slots.end;
        let mut positions = Vec::new();
        self.layout.extend(slots.clone(), &mut positions);
        let pages = (0..slots.end.div_ceil(PAGE_SLOTS)).map(|page| page as PageId).collect();
        let mut batch = Batch::default();
        batch.push(tokens, slots, &positions, 0, pages, wanted.then(|| tokens.len() - 1));
        self.decoder.forward(&batch)?;
        if !wanted {
            return Ok(0);
        }
        self.logits.clear();
        self.decoder.logits(1, &mut self.logits)?;
        let best = self.logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
        Ok(best.map_or(0, |(id, _)| id as u32))
    }
}

impl Report {
    fn print(&self, figures: Figures) -> anyhow::Result<()> {
        if figures == Figures::Json {
            return output::json(self);
        }
        let rows = self.runs.iter().zip(1..).map(|(run, number)| (number.to_string(), run));
        let rows = rows.chain([("mean".to_owned(), &self.mean)]);
        let (head, row): (&str, fn(String, &Run) -> String) = match figures {
            Figures::Csv => ("run,prefill_s,decode_ts\n", |name, run| {
                format!("{name},{},{}\n", run.prefill_s, run.decode_ts)
            }),
            _ => ("| run | prefill s | decode t/s |\n| --- | ---: | ---: |\n", |name, run| {
                format!("| {name} | {:.2} | {:.2} |\n", run.prefill_s, run.decode_ts)
            }),
        };
        let rows: String = rows.map(|(name, run)| row(name, run)).collect();
        output::print(&format!("{head}{rows}"))
    }
}
