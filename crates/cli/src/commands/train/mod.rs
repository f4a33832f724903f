//! `glimmer train`: first what the training takes, then its steps, at the end a table and a plot.

mod dry_run;
mod onlooker;
mod plan;
mod report;
mod settings;

use std::path::Path;

use anyhow::{Context, bail, ensure};
use glimmer::{ModelFiles, ModelText, Overrides};
use glimmer_train::config::{Method, Resume, TrainConfig};
use glimmer_train::data::{BatchLimits, DataFile, Dataset, Lengths, Renderer, Survey};
use glimmer_train::{
    Base, Ending, Optimizer, Progress, Room, SavedState, Tape, Trainable, Trainer, state_path, states,
};

use super::convert::directory::small_files;
use crate::WrongUsage;
use crate::args::TrainArgs;
use crate::interrupt::Interrupt;
use crate::model;
use crate::terminal::Terminal;
use onlooker::AtTerminal;
use report::Report;

/// Trains.
pub(crate) fn run(args: &TrainArgs, terminal: &Terminal) -> anyhow::Result<()> {
    let (quiet, words): (Vec<_>, Vec<_>) = args
        .with_variables(|name| std::env::var(name).ok())
        .into_iter()
        .partition(|word| ["-q", "--quiet"].contains(&&**word));
    let terminal = &if quiet.is_empty() { terminal.clone() } else { Terminal::new(true) };
    let config = TrainConfig::of_words(&words).map_err(|error| WrongUsage(error.to_string()))?;
    if !config.without_effect.is_empty() {
        terminal.note(&format!("without effect here: {}", config.without_effect.join(", ")));
    }
    train(&config, terminal)
}

fn train(config: &TrainConfig, terminal: &Terminal) -> anyhow::Result<()> {
    let interrupt = Interrupt::listen()?;
    let Some(model) = &config.model else {
        bail!(WrongUsage("which model? name it, or `model` in the configuration".to_owned()))
    };
    if config.predicts {
        bail!(WrongUsage(settings::evaluation(config, model)));
    }
    let Some(train) = &config.data.train else {
        bail!(WrongUsage("what is learned from? --data FILE".to_owned()))
    };
    settings::check(config)?;
    let resumed = resumed(config, terminal)?;
    let files = ModelFiles::new(model::source(Path::new(model), terminal)?, Overrides::default());
    let spec = model::spec(&files, terminal)?;
    let text = ModelText::read(&files)?;
    let renderer =
        Renderer::new(text.chat()?, text.tokenizer()?, config.data.limits).map_err(anyhow::Error::msg)?;
    let watch = Watch { config, interrupt: &interrupt, terminal };
    let data = watch.dataset(train, &renderer, config.data.most_rows[0])?;
    let survey = watch.survey(&data)?;
    if config.dry_run {
        return dry_run::show(config, &data, &survey);
    }
    let lengths = watch.lengths(&data, survey)?;
    let evaluation = match &config.data.validation {
        Some(path) => Some(watch.dataset(path, &renderer, config.data.most_rows[1])?),
        None => None,
    };
    let evaluated = match &evaluation {
        Some(data) => watch.lengths(data, watch.survey(data)?)?,
        None => Vec::new(),
    };
    let batch = Batch::of(config.batch, &lengths, &evaluated);
    let mut base = settings::base(config, &files, batch.room(spec.vocab))?;
    if !config.recomputes {
        // What is computed again takes time, and memory that others want is theirs.
        let free = glimmer::free_memory().map_or(0, |memory| memory.free as u64);
        base.keep_layers(&settings::optimizer(config), free / 2)?;
    }
    let mut trainer = trainer(config, &base, batch.limits, &data, evaluation.as_ref(), terminal)?;
    match (&resumed, &config.start) {
        (Some(state), _) => {
            trainer.resume(state)?;
            terminal.note(&format!("going on after step {}", trainer.progress.step));
        }
        (None, Some(start)) => trainer.tape.start_from(start)?,
        (None, None) if config.from_scratch => trainer.tape.forget(config.seed),
        (None, None) => {}
    }
    interrupt.check()?;
    let mut onlooker = AtTerminal::new(terminal, interrupt.clone(), &trainer);
    let ending = trainer.run(&mut onlooker);
    onlooker.finish();
    match ending? {
        Ending::Interrupted => {
            let path = state_path(&config.output, trainer.progress.step);
            bail!("interrupted; {} has all that --resume auto goes on from", path.display())
        }
        ending => Report { trainer: &trainer, onlooker: &onlooker, ending }.write(&config.output, terminal),
    }
}

/// Tells what memory it takes, loads the model, and puts together what trains it.
fn trainer<'d>(
    config: &TrainConfig,
    base: &Base<'d>,
    limits: BatchLimits,
    data: &'d Dataset<'d>,
    evaluation: Option<&'d Dataset<'d>>,
    terminal: &Terminal,
) -> anyhow::Result<Trainer<'d>> {
    let course = settings::course(config, limits, data)?;
    let optimizer = settings::optimizer(config);
    plan::tell(&base.memory(&optimizer)?, config, terminal);
    std::fs::create_dir_all(&config.output).with_context(|| config.output.display().to_string())?;
    let tape = open(base, course.seed, terminal)?;
    let sizes: Vec<_> = tape.parameters().iter().map(|p| (p.rows * p.width, p.decay)).collect();
    let (files, result) = (base.files, config.output.clone());
    let along = match config.method {
        Method::Full => small_files(files, true, terminal)?,
        _ => Vec::new(),
    };
    Ok(Trainer {
        optimizer: Optimizer::new(optimizer, &sizes, base.threads()),
        tape,
        data,
        evaluation,
        settings: settings::settings(config, &course, base, data)?,
        course,
        directory: config.output.clone(),
        output: Box::new(move |tape: &Tape, directory: &Path| match tape.trainable() {
            Trainable::Full if directory == result => {
                tape.write_model(files, &along, &directory.join("model"))
            }
            _ => tape.write_adapter(files, directory),
        }),
        progress: Progress::default(),
    })
}

/// How data are looked at.
struct Watch<'a> {
    config: &'a TrainConfig,
    interrupt: &'a Interrupt,
    terminal: &'a Terminal,
}

impl Watch<'_> {
    fn dataset<'m>(
        &self,
        path: &Path,
        renderer: &Renderer<'m>,
        most: Option<usize>,
    ) -> anyhow::Result<Dataset<'m>> {
        let mut file = DataFile::open(path, self.config.data.columns.clone())?;
        file.truncate(most.unwrap_or(usize::MAX));
        Ok(Dataset::new(file, renderer.clone()))
    }

    fn survey(&self, data: &Dataset<'_>) -> anyhow::Result<Survey> {
        let bar = self.terminal.steps_bar("reading", data.file().len() as u64);
        let survey = Survey::of(data, |rows| bar.set_position(rows as u64));
        bar.finish_and_clear();
        self.interrupt.check()?;
        Ok(survey?)
    }

    /// The lengths of all examples, ascending. What is cut and what cannot be learned from is told of.
    fn lengths(&self, data: &Dataset<'_>, mut survey: Survey) -> anyhow::Result<Vec<u32>> {
        let path = data.file().path().display();
        if let Some(first) = survey.refused.first() {
            let passes = self.config.data.skip_bad_rows && !survey.tokens.is_empty();
            ensure!(passes, "{}; --skip-bad-rows leaves such rows out, --dry-run names them", first.why);
            let (refused, rows) = (survey.refused.len(), data.file().len());
            self.terminal.warn(&format!("{refused} of {rows} rows are left out: {}", first.why));
        }
        if let Some((line, tokens)) = survey.cut.first() {
            let cut = survey.cut.len();
            self.terminal
                .warn(&format!("{path}: {cut} rows are cut, the first in line {line} by {tokens} tokens"));
        }
        let Lengths { count, min, max, sum, .. } = Lengths::of(&survey.tokens);
        let learned: u64 = survey.learned.iter().map(|&tokens| u64::from(tokens)).sum();
        self.terminal.note(&format!(
            "{path}: {count} examples of {min} to {max} tokens, {sum} in all, {learned} to learn"
        ));
        survey.tokens.sort_unstable();
        Ok(survey.tokens)
    }
}

/// What a batch takes.
struct Batch {
    limits: BatchLimits,
    rows: usize,
    examples: usize,
}

impl Batch {
    /// For examples of these lengths, ascending: no more than the longest of them need.
    fn of(limits: BatchLimits, learned: &[u32], evaluated: &[u32]) -> Self {
        let rows = |lengths: &[u32]| {
            let longest = lengths.last().map_or(0, |&length| length as usize);
            let all =
                lengths.iter().rev().take(limits.examples).map(|&length| length as usize).sum::<usize>();
            all.min(limits.tokens).max(longest)
        };
        let rows = rows(learned).max(rows(evaluated));
        let shortest = learned.iter().chain(evaluated).min().map_or(1, |&length| length.max(1) as usize);
        Batch { limits, rows, examples: limits.examples.min(rows / shortest).max(1) }
    }

    /// As many rows of logits at a time as 64 MiB hold: for a vocabulary of 150,000 a hundred.
    fn room(&self, vocab: usize) -> Room {
        const BYTES: usize = 64 << 20;
        Room {
            rows: self.rows,
            kept_layers: 0,
            examples: self.examples,
            logits_rows: (BYTES / (4 * vocab)).max(32).min(self.rows),
        }
    }
}

fn open(base: &Base<'_>, seed: u64, terminal: &Terminal) -> anyhow::Result<Tape> {
    let total = base.files.checkpoint()?.tensors().iter().map(|tensor| tensor.bytes as u64).sum();
    let bar = terminal.bytes_bar("loading", total);
    let tape = base.open(seed, &mut |done, _| bar.set_position(done));
    bar.finish_and_clear();
    Ok(tape?)
}

/// The state to go on from. A training that is there is never written over.
fn resumed(config: &TrainConfig, terminal: &Terminal) -> anyhow::Result<Option<SavedState>> {
    let output = config.output.display();
    let path = match (config.resume, states(&config.output).pop()) {
        (Resume::No, None) => return Ok(None),
        (Resume::No, Some((step, _))) => bail!(
            "{output}: holds a training that came to step {step}; --resume auto goes on with it, another --output begins anew"
        ),
        (Resume::Latest, None) => {
            terminal.note(&format!("{output}: nothing to go on from; beginning anew"));
            return Ok(None);
        }
        (Resume::Latest, Some((_, path))) => path,
        (Resume::Step(step), _) => state_path(&config.output, step),
    };
    Ok(Some(SavedState::open(&path)?))
}
