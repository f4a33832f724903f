//! `glimmer bench`: how fast a model is, and how much of what the machine could do that is.
//!
//! The vocabulary is llama-bench's: `pp512` reads a prompt of 512 tokens, `tg128` generates 128 one by one, `@ d4096`
//! begins with 4,096 tokens in the cache, which are made up and not computed. Tokens are random. It drives the decoder
//! itself: no requests, no sampling.

mod case;
mod draft;
pub(super) mod floor;
mod peer;
mod process;
pub(super) mod rates;
mod report;
mod stress;

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::{bail, ensure};
use glimmer::{ContextLength, DeviceKind, ModelFiles, Placed, step_tokens};
use glimmer_models::export::{Written, file_type_name, written};
use glimmer_models::{Decoder, DeviceHolds, Positions, Understood, WeightRole};
use glimmer_tensor::{Batch, Compute, DType, KvType};

use crate::WrongUsage;
use crate::args::{BenchArgs, KV_TYPES};
use crate::model::{context, device, files, load, load_placed, place, spec};
use crate::random::Random;
use crate::terminal::Terminal;
use case::{Case, Steps, capacity};
use floor::{Costs, Floor, Weights};
use peer::Peer;
use rates::{MachineRates, Meter};
use report::{PeerRow, Report, Row, Seconds, deviation, mean, median};

/// A start takes seconds where weights do: it is repeated no more often than this, and not after so many seconds.
const STARTS: usize = 3;
const STARTS_SECONDS: f64 = 10.0;

/// Measures and prints.
pub(crate) fn run(args: &BenchArgs, terminal: &Terminal) -> anyhow::Result<()> {
    let files = files(&args.model, None, terminal)?;
    let spec = spec(&files, terminal)?;
    if args.stress {
        let (input, output) = (one(&args.n_prompt, 100_000, "-p")?, one(&args.n_gen, 128, "-n")?);
        let device = device(&args.device, Compute::Auto, terminal)?;
        let (runs, step) = (args.repetitions.unwrap_or(3), step_tokens(spec, device.kind));
        let stress = stress::Stress { input, output, runs, step };
        let (decoder, kv_type) = load(&files, device, stress.capacity(), terminal)?.into_decoder();
        return stress.run(decoder, kv_type, args.output);
    }
    if let Some(draft) = crate::model::draft(args.draft.as_deref(), &files, terminal)? {
        return with_draft(args, &files, &draft, terminal);
    }
    let options = args.device.options();
    let compute = options.compute_or(Compute::Auto);
    let kv_type = options.kv_type_with(compute);
    let bench = Bench { args, files: &files, understood: files.understood()?, compute, kv_type, terminal };
    bench.run()
}

/// The same answers with and without a model that guesses.
fn with_draft(
    args: &BenchArgs,
    files: &ModelFiles,
    draft: &ModelFiles,
    terminal: &Terminal,
) -> anyhow::Result<()> {
    let (prompt, output) = (one(&args.n_prompt, 64, "-p")?, one(&args.n_gen, 128, "-n")?);
    let repetitions = args.repetitions.unwrap_or(5);
    let case = draft::DraftCase { prompt, output, repetitions, right: &args.draft_right };
    let limits = case.limits();
    let device = device(&args.device, Compute::Auto, terminal)?;
    let capacity = limits.capacity(spec(files, terminal)?, device.kind);
    let model = load(files, device, capacity, terminal)?;
    let model = crate::model::with_draft(model, Some(draft), &args.device, capacity, terminal)?;
    case.run(&model.start(&limits)?, files, draft, args.output)
}

/// The one value of a list, or the default of an empty one.
fn one(list: &[usize], default: usize, flag: &str) -> anyhow::Result<usize> {
    match list {
        [] => Ok(default),
        [value] if *value > 0 => Ok(*value),
        _ => bail!(WrongUsage(format!("--stress and --draft take one number above 0 for {flag}"))),
    }
}

/// What is measured and how.
struct Bench<'a> {
    args: &'a BenchArgs,
    files: &'a ModelFiles,
    understood: &'a Understood,
    compute: Compute,
    kv_type: KvType,
    terminal: &'a Terminal,
}

impl Bench<'_> {
    fn run(&self) -> anyhow::Result<()> {
        let Bench { args, files, understood, compute, kv_type, terminal } = *self;
        let spec = &understood.spec;
        let cases = self.cases()?;
        let repetitions = args.repetitions.unwrap_or(5);
        let checkpoint = files.checkpoint()?;
        let quantized = args.device.quantize.map(|to| written(Some(checkpoint), understood, to.types()));
        let quantized = quantized.transpose()?;
        let stored = || checkpoint.tensors().iter().map(|tensor| tensor.bytes as u64).sum();
        let size_bytes = quantized.map_or_else(stored, |written| written.bytes);

        let mut first_token = vec![process::first_token(args, spec)?];
        while first_token.len() < repetitions.min(STARTS) && first_token.iter().sum::<f64>() < STARTS_SECONDS
        {
            first_token.push(process::first_token(args, spec)?);
        }
        let device = device(&args.device, compute, terminal)?;
        let step = args.ubatch_size.unwrap_or(step_tokens(spec, device.kind));
        let capacity = capacity(&cases, spec, step)?;
        let placement = place(files, device, capacity, terminal)?;
        let machines = self.machines(&placement.placed, size_bytes, quantized)?;
        let threads = machines.iter().map(|machine| machine.limits.threads).max().unwrap_or(1);
        let sees_peak = process::forget_peak();

        let (mut decoder, _) = load_placed(files, placement, terminal, &mut |_| {})?.into_decoder();
        decoder.plan(capacity, kv_type)?;
        let steps = Steps { spec, capacity, random: Random::new(&[]) };
        let mut driver = Driver { decoder, steps, filled: None, logits: Vec::new() };
        let flags: Vec<String> =
            args.compare_args.iter().flat_map(|flags| flags.split_whitespace()).map(str::to_owned).collect();
        let peer = args.compare.as_deref();
        let peer = peer.map(|program| Peer { program, flags: &flags, threads });

        let mut ours = vec![Samples::default(); cases.len()];
        let mut theirs = vec![Vec::new(); cases.len()];
        let bar = terminal.steps_bar("measuring", (repetitions * cases.len()) as u64);
        for round in 0..repetitions {
            for (case, samples) in cases.iter().zip(&mut ours) {
                let measured = driver.prepare(case)?;
                if round == 0 {
                    driver.compute(&measured[..1])?;
                }
                let begun = Instant::now();
                driver.compute(&measured)?;
                samples.seconds.push(begun.elapsed().as_secs_f64());
                if round == 0 {
                    samples.steps = measured;
                }
                bar.inc(1);
            }
            if let Some(peer) = &peer {
                for (case, tokens_per_second) in peer.run(files.path(), &cases)? {
                    let at = cases.iter().position(|other| *other == case);
                    at.into_iter().for_each(|at| theirs[at].push(tokens_per_second));
                }
            }
        }
        bar.finish_and_clear();
        let peak_memory_bytes = process::peak_memory().filter(|_| sees_peak);
        let (device, memory) = (driver.decoder.describe_device(), driver.decoder.memory());
        let holds = driver.decoder.devices();
        drop(driver);
        let machines = machines.into_iter().map(Machine::again).collect::<anyhow::Result<Vec<_>>>()?;

        let row = |((case, ours), theirs): ((&Case, &Samples), Vec<f64>)| {
            let floor =
                machines.iter().map(|machine| machine.costs.floor(&ours.steps, &machine.limits)).sum();
            row(case, ours, &floor, theirs)
        };
        let shown = |(holds, machine): (DeviceHolds, &Machine)| report::Machine {
            device: holds.device,
            first_layer: holds.layers.start,
            layers: holds.layers.len(),
            limits: report::ShownRates::from(&machine.limits),
        };
        let last = machines.last().expect("a model is on a device");
        let each = if machines.len() > 1 { holds } else { Vec::new() };
        let report = Report {
            model: self.name(),
            types: self.types()?,
            size_bytes,
            parameters: self.parameters(),
            device,
            threads,
            compute: if compute == Compute::F32 { "f32" } else { "auto" },
            kv_type: KV_TYPES.iter().find(|(kv, _)| *kv == kv_type).map_or("", |(_, name)| name),
            limits: report::ShownRates::from(&last.limits),
            machines: each.into_iter().zip(&machines).map(shown).collect(),
            first_token: Seconds::of(first_token),
            memory: report::Memory {
                peak_bytes: peak_memory_bytes,
                weights_bytes: memory.weights,
                kv_bytes: memory.kv,
                buffers_bytes: memory.buffers,
            },
            results: cases.iter().zip(&ours).zip(theirs).map(row).collect(),
        };
        report.print(args.output)
    }

    /// The machines that have layers, measured.
    fn machines(
        &self,
        placed: &[Placed],
        size_bytes: u64,
        quantized: Option<Written>,
    ) -> anyhow::Result<Vec<Machine>> {
        let Bench { args, files, understood, compute, kv_type, .. } = *self;
        let (checkpoint, spec) = (files.checkpoint()?, &understood.spec);
        let stored = || Weights::stored(checkpoint, understood);
        let weights = quantized.map_or_else(stored, |written| Weights::written(&written, spec));
        let costs = Costs::with(spec, &weights, compute, kv_type);
        let bytes = usize::try_from(size_bytes).unwrap_or(usize::MAX);
        let machine = |placed: &Placed| {
            let meter = Meter::of(placed.card, compute, args.device.threads, bytes);
            let costs = costs.part(checkpoint, understood, &placed.layers)?;
            Ok(Machine { costs, meter, limits: meter.measure()? })
        };
        placed.iter().map(machine).collect()
    }

    /// What was asked for, as far as it makes sense for the model.
    fn cases(&self) -> anyhow::Result<Vec<Case>> {
        let Bench { args, understood, terminal, .. } = *self;
        let or = |list: &[usize], default: usize| if list.is_empty() { vec![default] } else { list.to_vec() };
        let (prompts, generate) = (or(&args.n_prompt, 512), or(&args.n_gen, 128));
        let cases = Case::all(&prompts, &generate, &args.n_depth, &args.parallel);
        let Some(longest) = cases.iter().map(Case::slots).max() else {
            bail!(WrongUsage("neither -p nor -n asks for a token".to_owned()));
        };
        let is_chatglm_6b = matches!(understood.spec.positions, Positions::ChatGlm6b { .. });
        let too_short = |case: &&Case| case.prompt == 1 || case.depth == 1;
        if is_chatglm_6b && let Some(case) = cases.iter().find(too_short) {
            bail!(WrongUsage(format!(
                "{}: a prompt of ChatGLM-6B ends with two tokens of its own",
                case.name()
            )));
        }
        context(Some(ContextLength::Tokens(longest)), &understood.spec, terminal);
        if args.compare.is_some() {
            ensure!(self.files.metadata()?.is_some(), "--compare: llama-bench reads .gguf files only");
            ensure!(args.device.device == DeviceKind::Cpu, "--compare: llama-bench is asked to use the CPU");
        }
        Ok(cases)
    }

    fn name(&self) -> String {
        let path = self.files.path();
        path.file_name()
            .map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
    }

    /// What it is quantized to, what the file says it is mostly in, or the type that most of the weights' bytes are in.
    fn types(&self) -> anyhow::Result<String> {
        if let Some(to) = self.args.device.quantize {
            return Ok(to.dtype().name().to_owned());
        }
        if let Some(metadata) = self.files.metadata()?
            && let Some(name) = metadata.get("general.file_type")?.and_then(file_type_name)
        {
            return Ok(name.to_owned());
        }
        let checkpoint = self.files.checkpoint()?;
        let mut totals = BTreeMap::<DType, usize>::new();
        for tensor in checkpoint.tensors() {
            // ChatGLM's packings are stored as signed bytes.
            let packed = (tensor.dtype == DType::I8).then(|| checkpoint.matrix(&tensor.name).ok()).flatten();
            let dtype = packed.map_or(tensor.dtype, |matrix| matrix.dtype);
            *totals.entry(dtype).or_default() += tensor.bytes;
        }
        let most = totals.into_iter().max_by_key(|(_, bytes)| *bytes);
        Ok(most.map_or(String::new(), |(dtype, _)| dtype.name().to_owned()))
    }

    fn parameters(&self) -> u64 {
        let spec = &self.understood.spec;
        let stored = |checkpoint| self.understood.stored(checkpoint, WeightRole::Head).is_some();
        let stored_head = self.files.checkpoint().is_ok_and(stored);
        let matrices = if stored_head { 2 } else { 1 };
        spec.layer_parameters() + (matrices * spec.vocab * spec.hidden) as u64
    }
}

/// One that has layers.
struct Machine {
    costs: Costs,
    meter: Meter,
    limits: MachineRates,
}

impl Machine {
    /// Measures it once more.
    fn again(self) -> anyhow::Result<Self> {
        Ok(Machine { limits: self.limits.best(self.meter.measure()?), ..self })
    }
}

/// One case's seconds, and the steps that they are for.
#[derive(Clone, Default)]
struct Samples {
    seconds: Vec<f64>,
    steps: Vec<Batch>,
}

fn row(case: &Case, ours: &Samples, floor: &Floor, theirs: Vec<f64>) -> Row {
    let tokens = case.tokens() as f64;
    let samples: Vec<f64> = ours.seconds.iter().map(|seconds| tokens / seconds).collect();
    let best = samples.iter().copied().fold(0.0, f64::max);
    let peer = (!theirs.is_empty()).then(|| {
        let median_ts = median(&theirs);
        PeerRow { median_ts, ratio: median(&samples) / median_ts, samples_ts: theirs }
    });
    Row {
        test: case.name(),
        n_prompt: case.prompt,
        n_gen: case.generate,
        n_depth: case.depth,
        n_parallel: case.parallel,
        avg_ts: mean(&samples),
        stddev_ts: deviation(&samples),
        best_ts: best,
        floor_ts: tokens / floor.seconds,
        percent_of_floor: 100.0 * best * floor.seconds / tokens,
        bound: floor.bound(),
        samples_ts: samples,
        peer,
    }
}

/// The decoder and what is in its cache.
struct Driver<'a> {
    decoder: Decoder,
    steps: Steps<'a>,
    /// Depth and number of the sequences that the cache was last filled for.
    filled: Option<(usize, usize)>,
    logits: Vec<f32>,
}

impl Driver<'_> {
    /// Fills the cache up to the case's depth and answers the steps to be measured.
    fn prepare(&mut self, case: &Case) -> anyhow::Result<Vec<Batch>> {
        let wanted = Some((case.depth, case.parallel));
        if case.depth > 0 && self.filled != wanted {
            for batch in case.filling(&mut self.steps)? {
                self.decoder.fill(&batch)?;
            }
        }
        self.filled = wanted;
        Ok(case.measured(&mut self.steps)?)
    }

    /// Computes the steps and reads the logits that they ask for.
    fn compute(&mut self, steps: &[Batch]) -> anyhow::Result<()> {
        for batch in steps {
            self.decoder.forward(batch)?;
            let rows = batch.logits_rows.len();
            if rows > 0 {
                self.logits.clear();
                self.decoder.logits(rows, &mut self.logits)?;
            }
        }
        Ok(())
    }
}
