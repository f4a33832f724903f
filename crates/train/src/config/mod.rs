//! What a training is to be: one [`TrainConfig`], whichever way it is said.
//!
//! | file | reads |
//! |---|---|
//! | `yaml.rs` | the configurations of GLM-4's `finetune_demo`, in sections |
//! | `flat.rs` | names without sections: the flags of ChatGLM-6B's `ptuning`, Glimmer's own, TOML |
//! | `arguments.rs` | `training_args`, which both have from transformers |
//! | `keys.rs` | names with values, and which of them nobody knows |
//! | `command_line.rs` | words of a command line: files, and names with values |

mod arguments;
mod command_line;
mod flat;
mod keys;
mod yaml;

use std::path::PathBuf;

use crate::Decay;
use crate::data::{BatchLimits, Columns, Limits};

pub use keys::ConfigError;

/// All that a training depends on beside the model and the data themselves.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainConfig {
    /// The model, as any verb takes it.
    pub model: Option<String>,
    /// What is learned from.
    pub data: DataConfig,
    /// What is trained.
    pub method: Method,
    /// Bits that the frozen weights are quantized to when they are loaded (4 or 8).
    pub quantize: Option<u32>,
    /// Where states, figures and the result go.
    pub output: PathBuf,
    /// Whether all weights begin with random values in place of their own.
    pub from_scratch: bool,
    /// An adapter or prefix to begin with.
    pub start: Option<PathBuf>,
    /// A state to go on from.
    pub resume: Resume,
    /// When it ends.
    pub length: Length,
    /// The highest learning rate.
    pub learning_rate: f64,
    /// How the rate goes on after the warm-up.
    pub decay: Decay,
    /// Over how much the rate rises.
    pub warmup: Warmup,
    /// How much is computed at a time.
    pub batch: BatchLimits,
    /// Examples at a time in evaluations.
    pub evaluation_batch: usize,
    /// Batches whose gradients make one step.
    pub accumulate: usize,
    /// AdamW's decay of gradients and of their squares.
    pub betas: (f64, f64),
    /// AdamW's epsilon.
    pub epsilon: f64,
    /// AdamW's weight decay.
    pub weight_decay: f64,
    /// Whether AdamW's moments are kept in 8 bits.
    pub eight_bits: bool,
    /// The largest norm of a step's gradient.
    pub clip: Option<f64>,
    /// Of the order of the data, dropout and first values.
    pub seed: u64,
    /// Steps between lines of figures.
    pub log_every: u64,
    /// When states are saved beside the last one.
    pub save: Every,
    /// States that are kept; all where nothing is said.
    pub keep: Option<usize>,
    /// When the validation data are evaluated.
    pub evaluate: Every,
    /// Evaluations in a row without a better loss after which the training ends.
    pub patience: Option<u64>,
    /// The most tokens of an answer that is written for an evaluation.
    pub max_new_tokens: usize,
    /// Threads to compute with; one for each physical core where nothing is said.
    pub threads: Option<usize>,
    /// Whether the reference device computes: slowly, in plain loops.
    pub reference: bool,
    /// Whether quantized weights meet activations of 8 bits, and gradients go through frozen weights in bfloat16.
    pub fast: bool,
    /// Whether backward computes every layer again, however much memory there is to keep their values.
    pub recomputes: bool,
    /// Whether nothing is trained, only shown.
    pub dry_run: bool,
    /// Whether what is wanted are answers, not a training: `do_predict` of ChatGLM-6B's script without its `do_train`.
    pub predicts: bool,
    /// Names of what was said and changes nothing here, such as DeepSpeed's.
    pub without_effect: Vec<String>,
}

/// What is learned from.
#[derive(Clone, Debug, PartialEq)]
pub struct DataConfig {
    /// Rows to learn from.
    pub train: Option<PathBuf>,
    /// Rows to evaluate with during training.
    pub validation: Option<PathBuf>,
    /// Rows to write answers for afterwards.
    pub test: Option<PathBuf>,
    /// Which columns hold what.
    pub columns: Columns,
    /// How long examples may be, in tokens.
    pub limits: Limits,
    /// The most rows to learn from, to evaluate with and to write answers for.
    pub most_rows: [Option<usize>; 3],
    /// Whether rows that cannot be learned from are passed over.
    pub skip_bad_rows: bool,
    /// Whether rows are taken in the order of the file.
    pub keep_order: bool,
}

/// What is trained.
#[derive(Clone, Debug, PartialEq)]
pub enum Method {
    /// Pairs of narrow matrices beside weights.
    LowRank {
        /// Their rank.
        rank: usize,
        /// Their scale is `alpha / rank`, or `alpha / sqrt(rank)` with `by_root`.
        alpha: f32,
        /// rsLoRA.
        by_root: bool,
        /// DoRA: magnitudes are trained, too.
        magnitudes: bool,
        /// The probability with which inputs are dropped.
        dropout: f32,
        /// The last words of the names of weights; those of the model's attention where there are none.
        targets: Vec<String>,
        /// The layers; all where nothing is said.
        layers: Option<Vec<usize>>,
    },
    /// Keys and values before every sequence.
    Prefix {
        /// How many.
        slots: usize,
        /// Whether two layers make them of an embedding.
        projection: bool,
        /// The elements between these two layers; the model's width where nothing is said.
        projection_width: Option<usize>,
        /// PEFT's `token_dim`, which has to be the width of the model's keys.
        token_dim: Option<usize>,
        /// Whether it is PEFT's (`PREFIX_TUNING`), whose positions count from behind the prefix, not ChatGLM's.
        of_peft: bool,
    },
    /// All weights.
    Full,
}

/// When a training ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Length {
    /// After so many steps.
    Steps(u64),
    /// After so many times all of the data.
    Epochs(f64),
}

impl Length {
    /// Steps of a training whose epochs have so many.
    pub fn steps(self, of_an_epoch: u64) -> u64 {
        match self {
            Length::Steps(steps) => steps,
            Length::Epochs(epochs) => (epochs * of_an_epoch as f64).ceil().max(1.0) as u64,
        }
    }
}

/// Over how much the learning rate rises.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Warmup {
    /// So many steps.
    Steps(u64),
    /// A share of all steps.
    Share(f64),
}

impl Warmup {
    /// Steps of it in a training of so many.
    pub fn steps(self, of_all: u64) -> u64 {
        match self {
            Warmup::Steps(steps) => steps,
            Warmup::Share(share) => (share * of_all as f64).ceil() as u64,
        }
    }
}

/// How often something is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Every {
    /// Not at all.
    Never,
    /// After so many steps each.
    Steps(u64),
    /// At the end of each epoch.
    Epoch,
}

/// Where a training goes on from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resume {
    /// From the beginning.
    No,
    /// From the last state that was saved.
    Latest,
    /// From the state of a step.
    Step(u64),
}

impl TrainConfig {
    /// Reads the words of a command line: `CONFIG`, `DATA_DIR MODEL CONFIG.yaml [RESUME]` as GLM-4's `finetune.py` has it, and
    /// flags, ours or those of ChatGLM-6B's `main.py`, which count more than a file.
    ///
    /// # Errors
    /// When a file cannot be read, or a name or value is not known.
    pub fn of_words(words: &[String]) -> Result<TrainConfig, ConfigError> {
        command_line::read(words)
    }
}

impl Default for TrainConfig {
    /// A training of low rank.
    fn default() -> Self {
        TrainConfig {
            model: None,
            data: DataConfig {
                train: None,
                validation: None,
                test: None,
                columns: Columns::default(),
                limits: Limits { source: 1024, target: 1024, whole: 1024, last_answer: false },
                most_rows: [None; 3],
                skip_bad_rows: false,
                keep_order: false,
            },
            method: Method::low_rank(8, 16.0),
            quantize: None,
            output: "output".into(),
            from_scratch: false,
            start: None,
            resume: Resume::No,
            length: Length::Epochs(3.0),
            learning_rate: 2e-4,
            decay: Decay::Cosine,
            warmup: Warmup::Share(0.03),
            batch: BatchLimits { examples: usize::MAX, tokens: 2048 },
            evaluation_batch: 8,
            accumulate: 1,
            betas: (0.9, 0.999),
            epsilon: 1e-8,
            weight_decay: 0.0,
            eight_bits: false,
            clip: Some(1.0),
            seed: 42,
            log_every: 1,
            save: Every::Epoch,
            keep: Some(2),
            evaluate: Every::Epoch,
            patience: None,
            max_new_tokens: 512,
            threads: None,
            reference: false,
            fast: false,
            recomputes: false,
            dry_run: false,
            predicts: false,
            without_effect: Vec::new(),
        }
    }
}

impl Method {
    /// Plain LoRA.
    pub(crate) fn low_rank(rank: usize, alpha: f32) -> Method {
        Method::LowRank {
            rank,
            alpha,
            by_root: false,
            magnitudes: false,
            dropout: 0.0,
            targets: Vec::new(),
            layers: None,
        }
    }
}

impl TrainConfig {
    /// What transformers' `Seq2SeqTrainingArguments` have where nothing is said: the ground on which the scripts' files and
    /// flags stand.
    fn of_transformers() -> TrainConfig {
        TrainConfig {
            learning_rate: 5e-5,
            decay: Decay::Linear,
            warmup: Warmup::Steps(0),
            batch: BatchLimits { examples: 8, tokens: usize::MAX },
            log_every: 500,
            save: Every::Steps(500),
            keep: None,
            evaluate: Every::Never,
            method: Method::Full,
            ..TrainConfig::default()
        }
    }
}
