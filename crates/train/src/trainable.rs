//! What is trained.

use std::ops::Range;

use glimmer_config::Quoted;
use glimmer_models::names::TensorNaming;
use glimmer_models::{Part, PartKind, Understood, WeightRole, export};

use crate::TrainError;

/// What is trained of a model, everything else being frozen.
#[derive(Clone, Debug, PartialEq)]
pub enum Trainable {
    /// Pairs of narrow matrices beside weights.
    LowRank(LowRankSpec),
    /// Keys and values before every sequence, in every layer (P-Tuning v2, Liu et al., 2021).
    Prefix(PrefixSpec),
    /// All weights.
    Full,
}

/// LoRA (Hu et al., 2021): `y = W x + b + scale B A dropout(x)`, `A` `[rank, inputs]`, `B` `[outputs, rank]`.
#[derive(Clone, Debug, PartialEq)]
pub struct LowRankSpec {
    /// Rows of `A`.
    pub rank: usize,
    /// The scale is `alpha / rank`, or `alpha / sqrt(rank)`.
    pub alpha: f32,
    /// The root of the rank instead of the rank: rsLoRA (Kalajdzievski, 2023).
    pub by_root: bool,
    /// With the magnitudes `m` of the weight's rows trained by themselves, DoRA (Liu et al., 2024):
    /// `y = m / |W + scale B A| (W x + scale B A dropout(x)) + b`, the norms taken for constants as PEFT does. (PEFT drops
    /// the `x` of `W x`, too, where dropout is on.)
    pub magnitudes: bool,
    /// The probability with which elements of `x` are dropped.
    pub dropout: f32,
    /// The last words of the names of weights, as PEFT matches them (`query_key_value`, `q_proj`), or `all-linear`.
    pub targets: Vec<String>,
    /// The layers; all where nothing is said.
    pub layers: Option<Vec<usize>>,
}

/// P-Tuning v2: `slots` keys and values before every sequence. Keys are not rotated.
#[derive(Clone, Debug, PartialEq)]
pub struct PrefixSpec {
    /// Slots.
    pub slots: usize,
    /// What makes keys and values of the embedding; without it they are the embedding.
    pub projection: Option<ProjectionSpec>,
    /// The probability with which their elements are dropped, one mask for all sequences of a step.
    pub dropout: f32,
    /// Whether positions of a sequence count from behind the prefix (PEFT over transformers' classes) and not from 0
    /// (ChatGLM's own code).
    pub shifts_positions: bool,
}

/// `outer tanh(inner x + b) + c` of an embedding `x`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProjectionSpec {
    /// Elements of the embedding.
    pub width: usize,
    /// Elements between both.
    pub middle: usize,
}

/// Rows of a part that a pair of narrow matrices stands beside.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// The number of the part.
    pub(crate) part: usize,
    /// The role of the part, or of one of its sections.
    pub(crate) role: WeightRole,
    /// In the decoder's order.
    pub(crate) rows: Range<usize>,
    /// Its name in PEFT's files, without `.weight`.
    pub(crate) module: String,
}

impl Trainable {
    /// What tensors are called when they stand by themselves: PEFT's names are those of a directory.
    pub(crate) fn naming(understood: &Understood) -> TensorNaming {
        match understood.naming {
            naming if naming.is_gguf() => export::directory_naming(&understood.spec),
            naming => naming,
        }
    }

    /// Checks what is asked for by itself.
    pub(crate) fn check(&self) -> Result<(), TrainError> {
        let is_share = |dropout: f32| (0.0..1.0).contains(&dropout);
        let wrong = |what: &str| Err(TrainError::Setting(what.to_owned()));
        match self {
            Trainable::LowRank(LowRankSpec { rank, .. }) if !(1..=1 << 16).contains(rank) => {
                wrong("the rank is between 1 and 65536; 8 is usual")
            }
            Trainable::LowRank(low_rank) if !low_rank.alpha.is_finite() => wrong("alpha is not finite"),
            Trainable::LowRank(LowRankSpec { dropout, .. })
            | Trainable::Prefix(PrefixSpec { dropout, .. })
                if !is_share(*dropout) =>
            {
                wrong("a dropout is from 0 to below 1")
            }
            Trainable::Prefix(prefix) if prefix.slots == 0 => wrong("the prefix has no slots; 128 is usual"),
            Trainable::Prefix(PrefixSpec { projection: Some(ProjectionSpec { width, middle }), .. })
                if *width == 0 || *middle == 0 =>
            {
                wrong("the prefix's projection has a width of 0")
            }
            _ => Ok(()),
        }
    }

    /// Slots that stand before every sequence.
    pub(crate) fn prefix_slots(&self) -> usize {
        if let Trainable::Prefix(prefix) = self { prefix.slots } else { 0 }
    }
}

impl LowRankSpec {
    /// What `B A` is multiplied by.
    pub(crate) fn scale(&self) -> f32 {
        let rank = self.rank as f32;
        self.alpha / if self.by_root { rank.sqrt() } else { rank }
    }

    /// The rows that the targets name.
    pub(crate) fn targets(&self, understood: &Understood, parts: &[Part]) -> Result<Vec<Target>, TrainError> {
        let naming = Trainable::naming(understood);
        let known = modules(naming, parts);
        let mut chosen: Vec<Target> = Vec::new();
        for target in &self.targets {
            let named: Vec<&Target> = known.iter().filter(|module| module.matches(target, &known)).collect();
            if named.is_empty() {
                return Err(not_there(target, &known));
            }
            let of_layer = |module: &Target| match (&self.layers, parts[module.part].layer) {
                (Some(layers), Some(layer)) => layers.contains(&layer),
                _ => true,
            };
            for module in named.into_iter().filter(|module| of_layer(module)) {
                match chosen
                    .iter()
                    .find(|other| other.part == module.part && overlap(&other.rows, &module.rows))
                {
                    Some(other) if other.role == module.role => {}
                    Some(_) => {
                        let what = format!(
                            "{target} is a part of another target, or another of it; name one of both"
                        );
                        return Err(TrainError::Setting(what));
                    }
                    None => chosen.push(module.clone()),
                }
            }
        }
        if chosen.is_empty() {
            return Err(TrainError::Setting(
                "no weight is chosen: name targets, and layers that there are".to_owned(),
            ));
        }
        chosen.sort_by_key(|target| (target.part, target.rows.start));
        Ok(chosen)
    }
}

fn overlap(a: &Range<usize>, b: &Range<usize>) -> bool {
    a.start < b.end && b.start < a.end
}

fn not_there(target: &str, known: &[Target]) -> TrainError {
    let mut words: Vec<&str> = known.iter().map(Target::last_word).collect();
    words.sort_unstable();
    words.dedup();
    TrainError::Target { target: Quoted(target).to_string(), known: words.join(", ") }
}

impl Target {
    fn last_word(&self) -> &str {
        self.module.rsplit('.').next().unwrap_or(&self.module)
    }

    /// Whether a word names it: as PEFT does, `all-linear` being everything in the layers, as apart as the layout has it.
    fn matches(&self, word: &str, all: &[Target]) -> bool {
        if word == "all-linear" {
            let within = |other: &Target| {
                other.part == self.part && other.role != self.role && overlap(&other.rows, &self.rows)
            };
            let has_sections = all.iter().any(|other| within(other) && other.rows.len() < self.rows.len());
            return !has_sections && self.role != WeightRole::Head;
        }
        self.module == word || self.module.strip_suffix(word).is_some_and(|rest| rest.ends_with('.'))
    }
}

/// All that there are, whole matrices and sections that have names.
fn modules(naming: TensorNaming, parts: &[Part]) -> Vec<Target> {
    let mut modules = Vec::new();
    for (number, part) in parts.iter().enumerate() {
        let PartKind::Matrix(matrix) = &part.kind else { continue };
        if part.role == WeightRole::Embedding {
            continue;
        }
        let mut push = |role, rows| {
            let module = naming.name(part.layer, role);
            modules.extend(module.map(|module| Target { part: number, role, rows, module }));
        };
        push(part.role, 0..matrix.rows());
        let mut first = 0;
        for &(role, rows) in matrix.sections.iter().filter(|_| matrix.sections.len() > 1) {
            push(role, first..first + rows);
            first += rows;
        }
    }
    modules
}
