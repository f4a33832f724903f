//! Trainings of the demo model: killed and gone on with, interrupted, ended early, and what cannot be trained.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use glimmer::{Local, ModelFiles, ModelText, Overrides, Resolver};
use glimmer_train::data::{BatchLimits, Columns, DataFile, Dataset, Limits, Renderer};
use glimmer_train::{
    AdamW, Arithmetic, Base, Course, Decay, Ending, LowRankSpec, Onlooker, Optimizer, Progress, Room,
    SavedState, Schedule, StepReport, Tape, TrainError, Trainable, Trainer, curve, states,
};

const STEPS: u64 = 36;

/// Somebody who wants the end after a step, or never, and remembers.
#[derive(Default)]
struct Watcher {
    ends_after: Option<u64>,
    steps: Vec<StepReport>,
    evaluations: Vec<f64>,
    warnings: Vec<String>,
}

impl Onlooker for Watcher {
    fn wants_end(&self) -> bool {
        self.ends_after.is_some_and(|step| self.steps.last().is_some_and(|report| report.step >= step))
    }
    fn stepped(&mut self, report: &StepReport) {
        self.steps.push(*report);
    }
    fn evaluated(&mut self, _step: u64, loss: f64, _is_best: bool) {
        self.evaluations.push(loss);
    }
    fn saved(&mut self, _path: &Path) {}
    fn warned(&mut self, message: &str) {
        self.warnings.push(message.to_owned());
    }
}

fn course() -> Course {
    Course {
        schedule: Schedule { decay: Decay::Cosine, peak: 1e-2, warmup: 3, steps: STEPS },
        limits: BatchLimits { examples: 2, tokens: 1024 },
        accumulate: 2,
        clip: Some(1.0),
        seed: 7,
        shuffles: true,
        log_every: 1,
        save_every: Some(1),
        keep: 2,
        evaluate_every: Some(9),
        patience: None,
    }
}

/// A training of the demo model in a directory, from its last state on.
fn train(output: &Path, course: Course, watcher: &mut Watcher) -> Result<Ending, TrainError> {
    let files = ModelFiles::new(Local.resolve(Path::new("demo")).unwrap(), Overrides::default());
    let text = ModelText::read(&files).unwrap();
    let limits = Limits { source: 256, target: 256, whole: 256, last_answer: false };
    let renderer = Renderer::new(text.chat().unwrap(), text.tokenizer().unwrap(), limits).unwrap();
    let town = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tools/town/train.jsonl");
    let data = |rows| {
        let mut file = DataFile::open(&town, Columns::default()).unwrap();
        file.truncate(rows);
        Dataset::new(file, renderer.clone())
    };
    let (learned, evaluated) = (data(30), data(4));
    let low_rank = LowRankSpec {
        rank: 4,
        alpha: 8.0,
        by_root: false,
        magnitudes: false,
        dropout: 0.1,
        targets: vec!["q_proj".to_owned(), "v_proj".to_owned()],
        layers: None,
    };
    let base = Base {
        files: &files,
        trainable: Trainable::LowRank(low_rank),
        quantize: None,
        room: Room { rows: 256, examples: 2, logits_rows: 64, kept_layers: 2 },
        threads: Some(1),
        arithmetic: Arithmetic::F32,
    };
    let tape = base.open(course.seed, &mut |_, _| {})?;
    let sizes: Vec<_> = tape.parameters().iter().map(|p| (p.rows * p.width, p.decay)).collect();
    let mut trainer = Trainer {
        optimizer: Optimizer::new(AdamW { weight_decay: 0.01, ..AdamW::default() }, &sizes, 1),
        tape,
        data: &learned,
        evaluation: Some(&evaluated),
        course,
        settings: serde_json::Map::new(),
        directory: output.to_owned(),
        output: Box::new(|tape: &Tape, directory: &Path| tape.write_adapter(&files, directory)),
        progress: Progress::default(),
    };
    if let Some((_, path)) = states(output).pop() {
        trainer.resume(&SavedState::open(&path)?)?;
    }
    trainer.run(watcher)
}

fn adapter(output: &Path) -> Vec<u8> {
    fs::read(output.join("adapter_model.safetensors")).unwrap()
}

/// The tensors, moments and sums of the last step.
fn last_state(output: &Path) -> [Vec<u8>; 2] {
    let (step, path) = states(output).pop().unwrap();
    assert_eq!(step, STEPS);
    ["state.safetensors", "state.json"].map(|name| fs::read(path.join(name)).unwrap())
}

#[test]
fn trains_in_a_process_of_its_own() {
    let Some(output) = std::env::var_os("TRAIN_INTO") else { return };
    assert_eq!(train(Path::new(&output), course(), &mut Watcher::default()).unwrap(), Ending::Complete);
}

/// The step of the last state.
fn last_step(output: &Path) -> Option<u64> {
    states(output).last().map(|(step, _)| *step)
}

#[test]
fn a_training_that_is_killed_ten_times_ends_with_the_same_bits() {
    const KILLS: u64 = 10;
    let directory = tempfile::tempdir().unwrap();
    let [unbroken, broken]: [PathBuf; 2] = ["unbroken", "broken"].map(|name| directory.path().join(name));
    fs::create_dir(&unbroken).unwrap();
    fs::create_dir(&broken).unwrap();
    train(&unbroken, course(), &mut Watcher::default()).unwrap();

    let start = || {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "trains_in_a_process_of_its_own"])
            .env("TRAIN_INTO", &broken)
            .stdout(Stdio::null())
            .spawn()
            .unwrap()
    };
    for kill in 0..KILLS {
        let before = last_step(&broken);
        let mut child = start();
        // After a step or some, at some moment of the next: while it computes, saves, or removes.
        while last_step(&broken) == before && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_millis((kill * 29) % 83));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert!(start().wait().unwrap().success());
    assert!(adapter(&broken) == adapter(&unbroken));
    assert!(last_state(&broken) == last_state(&unbroken));
    let steps: Vec<u64> = curve(&broken, "loss").unwrap().into_iter().map(|(step, _)| step).collect();
    assert!(steps.iter().copied().eq(1..=STEPS), "{steps:?}");
    let hidden = |entry: &fs::DirEntry| entry.file_name().to_str().unwrap().starts_with('.');
    assert_eq!(fs::read_dir(&broken).unwrap().flatten().filter(hidden).count(), 0);
}

#[test]
fn an_interrupted_training_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let [unbroken, broken] = ["unbroken", "broken"].map(|name| directory.path().join(name));
    fs::create_dir(&unbroken).unwrap();
    fs::create_dir(&broken).unwrap();
    let rarely = || Course { save_every: None, evaluate_every: None, ..course() };
    let mut watcher = Watcher::default();
    assert_eq!(train(&unbroken, rarely(), &mut watcher).unwrap(), Ending::Complete);
    assert!(watcher.steps[STEPS as usize - 1].smoothed < watcher.steps[0].loss);
    let mut watcher = Watcher { ends_after: Some(5), ..Watcher::default() };
    assert_eq!(train(&broken, rarely(), &mut watcher).unwrap(), Ending::Interrupted);
    assert_eq!(states(&broken).len(), 1);
    assert!(!broken.join("adapter_model.safetensors").exists());
    assert_eq!(train(&broken, rarely(), &mut Watcher::default()).unwrap(), Ending::Complete);
    assert!(adapter(&broken) == adapter(&unbroken));
}

#[test]
fn a_training_that_becomes_no_better_ends_and_leaves_the_best() {
    let directory = tempfile::tempdir().unwrap();
    let output = directory.path();
    // A rate at which nothing is learned for long.
    let schedule = Schedule { decay: Decay::Constant, peak: 0.3, warmup: 0, steps: 400 };
    let course =
        Course { schedule, evaluate_every: Some(2), save_every: None, patience: Some(2), ..course() };
    let mut watcher = Watcher::default();
    assert_eq!(train(output, course, &mut watcher).unwrap(), Ending::Stale);
    let best = watcher.evaluations.iter().copied().fold(f64::INFINITY, f64::min);
    let at = 2 * (1 + watcher.evaluations.iter().position(|loss| *loss == best).unwrap());
    let saved = fs::read(output.join(format!("checkpoint-{at}/adapter_model.safetensors"))).unwrap();
    assert!(adapter(output) == saved, "{:?}", watcher.evaluations);
}

#[test]
fn a_state_that_cannot_be_saved_is_told_of_and_stops_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let output = directory.path();
    // A file is where the state of step 4 belongs.
    fs::write(output.join("checkpoint-4"), "mine").unwrap();
    let mut watcher = Watcher::default();
    let course = Course { save_every: Some(2), evaluate_every: None, ..course() };
    assert_eq!(train(output, course, &mut watcher).unwrap(), Ending::Complete);
    assert_eq!(watcher.warnings.len(), 1, "{:?}", watcher.warnings);
    assert!(watcher.warnings[0].contains("checkpoint-4"), "{:?}", watcher.warnings);
    assert_eq!(fs::read(output.join("checkpoint-4")).unwrap(), b"mine");
}
