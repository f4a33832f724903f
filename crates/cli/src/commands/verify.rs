//! `glimmer verify`: this program's answers on one prompt beside a trusted implementation's, state by state.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{bail, ensure};
use glimmer::{Compute, ModelFiles, Sampler, Sampling, Session, check_ids, indivisible, step_tokens};
use glimmer_models::{DecoderSpec, Positions, Stage};
use serde::Serialize;

use crate::args::VerifyArgs;
use crate::golden::{self, Golden};
use crate::input;
use crate::model::{device, files, load, spec};
use crate::output::{self, Lines};
use crate::terminal::Terminal;

/// The longest prompt and continuation that are computed.
const MAX_TOKENS: usize = 1 << 17;

/// Greedy tokens that `--make` stores.
const MADE_TOKENS: usize = 16;

/// What a file without a tolerance allows, as a part of a tensor's largest value.
const RELATIVE_TOLERANCE: f32 = 1e-4;

/// Compares, or makes the file to compare with.
pub(crate) fn run(args: &VerifyArgs, terminal: &Terminal) -> anyhow::Result<()> {
    let files = files(&args.model, None, terminal)?;
    let path = match &args.golden {
        Some(path) => path.clone(),
        None if files.source().is_demo() => {
            bail!(
                "demo is inside this program, so that no file of answers lies beside it; name one with --golden"
            )
        }
        None => files.source().directory().join(golden::FILE_NAME),
    };
    if args.make { make(args, &files, &path, terminal) } else { compare(args, &files, &path, terminal) }
}

fn compare(args: &VerifyArgs, files: &ModelFiles, path: &Path, terminal: &Terminal) -> anyhow::Result<()> {
    // The model comes first: when both are missing, that is what to say.
    let spec = spec(files, terminal)?;
    ensure!(
        path.exists(),
        "{}: there is nothing to compare with; tools/make_golden.py makes it with transformers",
        path.display()
    );
    let golden = Golden::read(path)?;
    let shapes =
        golden.hidden.iter().map(|(state, values)| (format!("hidden.{state}"), values.len(), spec.hidden));
    let logits = [Some(&golden.logits), golden.continued.as_ref().map(|(_, logits)| logits)];
    let logits = logits.into_iter().flatten().map(|values| ("logits".to_owned(), values.len(), spec.vocab));
    for (name, found, expected) in shapes.chain(logits) {
        ensure!(
            found == expected,
            "{}: `{name}` has {found} values, the model {expected}: the file belongs to another model",
            path.display()
        );
    }
    let states = 0..=spec.layers.len();
    if let Some(state) = golden.hidden.keys().find(|state| !states.contains(state)) {
        bail!("{}: `hidden.{state}` is of a layer that the model does not have", path.display());
    }

    let mut answerer = Answerer::load(args, files, &golden.prompts(), golden.new_ids.len(), terminal)?;
    let first = answerer.answer(&golden.input_ids, true)?;
    let mut report = Report {
        golden: path.to_owned(),
        source: golden.source.clone(),
        device: answerer.sequence.decoder.describe_device(),
        agrees: true,
        first_difference: None,
        states: Vec::new(),
        new_ids: None,
    };
    let tolerance = |values: &[f32]| {
        let largest = values.iter().fold(0f32, |max, v| max.max(v.abs()));
        args.tolerance.or(golden.tolerance).unwrap_or(RELATIVE_TOLERANCE * largest.max(1.0))
    };
    for (&state, expected) in &golden.hidden {
        report.compare(name_of(state), &first.hidden[&state], expected, tolerance(expected));
    }
    report.compare("logits".to_owned(), &first.logits, &golden.logits, tolerance(&golden.logits));
    let mut logits = first.logits;
    if let Some((prompt, expected)) = &golden.continued {
        logits = answerer.answer(prompt, false)?.logits;
        report.compare("logits of the second prompt".to_owned(), &logits, expected, tolerance(expected));
    }
    if !golden.new_ids.is_empty() {
        report.compare_ids(answerer.continue_greedily(logits, golden.new_ids.len())?, &golden.new_ids);
    }

    if args.json {
        output::json(&report)?
    } else {
        report.lines().print()?
    }
    match report.first_difference {
        Some(first) => bail!("{}: differs from the stored answers, first at {first}", files.path().display()),
        None => Ok(()),
    }
}

fn make(args: &VerifyArgs, files: &ModelFiles, path: &Path, terminal: &Terminal) -> anyhow::Result<()> {
    let spec = spec(files, terminal)?;
    ensure!(
        !path.is_file() && !path.is_dir(),
        "{}: already exists; remove it first, or name another with --golden",
        path.display()
    );
    let input_ids = match &args.ids {
        Some(ids) => input::ids(ids)?,
        None => default_prompt(spec),
    };
    let mut answerer = Answerer::load(args, files, &[&input_ids], MADE_TOKENS, terminal)?;
    let LastRow { hidden, logits } = answerer.answer(&input_ids, true)?;
    let new_ids = answerer.continue_greedily(logits.clone(), MADE_TOKENS)?;
    let version = env!("CARGO_PKG_VERSION");
    let device = answerer.sequence.decoder.describe_device();
    let source = format!("self-made: detects change, not error; glimmer {version}, {device}");
    Golden { source, tolerance: None, input_ids, hidden, logits, new_ids, continued: None }.write(path)?;
    terminal.note(&format!("wrote {}", path.display()));
    Ok(())
}

/// Ids spread over the vocabulary; ChatGLM-6B's prompt ends as that model needs it.
fn default_prompt(spec: &DecoderSpec) -> Vec<u32> {
    const TOKENS: usize = 9;
    let mut ids: Vec<u32> = (0..TOKENS).map(|i| (spec.vocab * (2 * i + 1) / (2 * TOKENS)) as u32).collect();
    if let Positions::ChatGlm6b { gmask, mask, sop } = spec.positions {
        ids.retain(|id| ![gmask, mask, sop].contains(id));
        ids.extend([gmask, sop]);
    }
    ids
}

fn name_of(state: usize) -> String {
    match state {
        0 => "the embedding".to_owned(),
        // As in the weights' names and in every other message, layers count from 0.
        layer => format!("layer {}", layer - 1),
    }
}

impl Golden {
    fn prompts(&self) -> Vec<&[u32]> {
        let second = self.continued.as_ref().map(|(prompt, _)| prompt.as_slice());
        [Some(self.input_ids.as_slice()), second].into_iter().flatten().collect()
    }
}

/// Computes prompts in steps of at most `rows`.
struct Answerer {
    sequence: Session,
    rows: usize,
}

/// The last token's states and logits.
struct LastRow {
    hidden: BTreeMap<usize, Vec<f32>>,
    logits: Vec<f32>,
}

impl Answerer {
    /// Loads the model, with room for each of the prompts and `new` tokens after it.
    fn load(
        args: &VerifyArgs,
        files: &ModelFiles,
        prompts: &[&[u32]],
        new: usize,
        terminal: &Terminal,
    ) -> anyhow::Result<Self> {
        let spec = files.spec()?;
        let mut most_rows = 1;
        for prompt in prompts {
            check_ids(prompt, spec)?;
            most_rows = most_rows.max(indivisible(spec, prompt)?);
        }
        let longest = prompts.iter().map(|p| p.len()).max().unwrap_or(0);
        let slots = longest + new;
        ensure!(slots <= MAX_TOKENS, "a prompt of {slots} tokens is too long to verify with");
        let device = device(&args.device, Compute::F32, terminal)?;
        most_rows = most_rows.max(step_tokens(spec, device.kind).min(longest));
        let sequence = load(files, device, Session::capacity(slots, most_rows, 1), terminal)?
            .session(slots, most_rows, 1)?;
        Ok(Answerer { sequence, rows: most_rows })
    }

    /// Computes a prompt from its first token; with the last token's states where they are wanted.
    fn answer(&mut self, prompt: &[u32], with_states: bool) -> anyhow::Result<LastRow> {
        self.sequence.begin(prompt)?;
        let mut answer = LastRow { hidden: BTreeMap::new(), logits: Vec::new() };
        for chunk in prompt.chunks(self.rows) {
            let batch = self.sequence.batch(chunk, [chunk.len() - 1])?;
            let decoder = &mut self.sequence.decoder;
            if with_states {
                decoder.forward_observed(&batch, &mut |stage, values| {
                    if let Stage::Hidden(state) = stage {
                        let width = values.len() / batch.rows();
                        answer.hidden.insert(state, values[values.len() - width..].to_vec());
                    }
                })?;
            } else {
                decoder.forward(&batch)?;
            }
            answer.logits.clear();
            decoder.logits(1, &mut answer.logits)?;
        }
        Ok(answer)
    }

    /// The likeliest token, again and again, beginning with `logits`.
    fn continue_greedily(&mut self, mut logits: Vec<f32>, tokens: usize) -> anyhow::Result<Vec<u32>> {
        let mut sampler = Sampler::new(Sampling::default(), &[], 0);
        let mut ids = Vec::with_capacity(tokens);
        for _ in 0..tokens {
            let id = sampler.next(&logits);
            ids.push(id);
            let batch = self.sequence.batch(&[id], [0])?;
            self.sequence.decoder.forward(&batch)?;
            logits.clear();
            self.sequence.decoder.logits(1, &mut logits)?;
        }
        Ok(ids)
    }
}

/// What agrees and what does not.
#[derive(Serialize)]
struct Report {
    golden: PathBuf,
    source: String,
    device: String,
    agrees: bool,
    first_difference: Option<String>,
    states: Vec<Compared>,
    new_ids: Option<ComparedIds>,
}

/// One tensor of values.
#[derive(Serialize)]
struct Compared {
    name: String,
    /// The largest absolute difference; infinite where a value is no number.
    difference: f32,
    tolerance: f32,
    agrees: bool,
}

/// The greedy continuation.
#[derive(Serialize)]
struct ComparedIds {
    expected: Vec<u32>,
    found: Vec<u32>,
    /// How many agree before the first that does not.
    equal: usize,
}

impl Report {
    fn compare(&mut self, name: String, found: &[f32], expected: &[f32], tolerance: f32) {
        let difference = found.iter().zip(expected).fold(0f32, |most, (found, expected)| {
            let difference = (found - expected).abs();
            if difference.is_nan() { f32::INFINITY } else { most.max(difference) }
        });
        let agrees = difference <= tolerance;
        self.judge(agrees, &name);
        self.states.push(Compared { name, difference, tolerance, agrees });
    }

    fn compare_ids(&mut self, found: Vec<u32>, expected: &[u32]) {
        let equal = found.iter().zip(expected).take_while(|(found, expected)| found == expected).count();
        self.judge(equal == expected.len(), &format!("new token {}", equal + 1));
        self.new_ids = Some(ComparedIds { expected: expected.to_vec(), found, equal });
    }

    fn judge(&mut self, agrees: bool, what: &str) {
        if !agrees && self.agrees {
            self.agrees = false;
            self.first_difference = Some(what.to_owned());
        }
    }
}

impl Report {
    fn lines(&self) -> Lines {
        let mut out = Lines::default();
        out.add(format_args!("golden    {}", self.golden.display()));
        out.add(format_args!("source    {}", self.source));
        out.add(format_args!("device    {}", self.device));
        for Compared { name, difference, tolerance, agrees } in &self.states {
            let verdict = if *agrees { "agrees" } else { "DIFFERS" };
            out.add(format_args!("{verdict:8}  {name}: off by {difference:.1e}, {tolerance:.1e} is allowed"));
        }
        if let Some(ids) = &self.new_ids {
            let all = ids.expected.len();
            match ids.expected.get(ids.equal).zip(ids.found.get(ids.equal)) {
                None => out.add(format_args!("agrees    new tokens: all {all}")),
                Some((expected, found)) => {
                    let at = ids.equal + 1;
                    out.add(format_args!(
                        "DIFFERS   new tokens: number {at} of {all} is {found}, {expected} is stored"
                    ));
                }
            }
        }
        out
    }
}
