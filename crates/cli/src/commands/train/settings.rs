//! From a configuration to what is trained and how.

use std::path::Path;

use anyhow::bail;
use glimmer::{ModelFiles, Quantization};
use glimmer_train::config::{Every, Method, TrainConfig};
use glimmer_train::data::{BatchLimits, Batches, Dataset, Limits as Lengths, Position};
use glimmer_train::{
    AdamW, Arithmetic, Base, Course, Decay, LowRankSpec, PrefixSpec, ProjectionSpec, Room, Schedule,
    Trainable, attention_targets,
};
use serde_json::{Map, Value, json};

use crate::WrongUsage;
use crate::output::harmless;

/// The model that is trained, on what, with room for a batch.
pub(super) fn base<'f>(config: &TrainConfig, files: &'f ModelFiles, room: Room) -> anyhow::Result<Base<'f>> {
    Ok(Base {
        files,
        trainable: trainable(config, files)?,
        quantize: quantize(config)?,
        room,
        threads: config.threads,
        arithmetic: arithmetic(config)?,
    })
}

/// Refuses what no training can be, before anything is read.
pub(super) fn check(config: &TrainConfig) -> anyhow::Result<()> {
    arithmetic(config).and_then(|_| quantize(config)).map(|_| ())
}

fn arithmetic(config: &TrainConfig) -> anyhow::Result<Arithmetic> {
    Ok(match (config.reference, config.fast) {
        (true, true) => {
            bail!(WrongUsage("--reference and --fast are two ways of computing: give one of them".to_owned()))
        }
        (true, false) => Arithmetic::Reference,
        (false, true) => Arithmetic::Fast,
        (false, false) => Arithmetic::F32,
    })
}

/// What to do in place of a training that only predicts, as ChatGLM-6B's `evaluate.sh` has it.
pub(super) fn evaluation(config: &TrainConfig, model: &str) -> String {
    let data = config.data.test.as_ref().or(config.data.validation.as_ref());
    let place = |path: &Path| harmless(&path.display().to_string()).into_owned();
    let mut words = format!("glimmer eval generation {}", harmless(model));
    words += &format!(" --data {}", data.map_or("FILE".to_owned(), |data| place(data)));
    if let Some(start) = &config.start {
        words += &format!(" --lora {}", place(start));
    }
    if let Some(bits) = config.quantize {
        words += &format!(" --quantize {bits}-bit");
    }
    let Lengths { source, target, .. } = config.data.limits;
    format!(
        "do_predict trains nothing; run: {words} --max-source-length {source} --max-target-length {target}"
    )
}

/// What is trained of a model.
fn trainable(config: &TrainConfig, files: &ModelFiles) -> Result<Trainable, glimmer::Error> {
    Ok(match &config.method {
        Method::Full => Trainable::Full,
        &Method::Prefix { slots, projection, projection_width, of_peft, .. } => {
            let hidden = files.spec()?.hidden;
            let middle = projection_width.unwrap_or(hidden);
            let projection = projection.then_some(ProjectionSpec { width: hidden, middle });
            Trainable::Prefix(PrefixSpec { slots, projection, dropout: 0.0, shifts_positions: of_peft })
        }
        Method::LowRank { rank, alpha, by_root, magnitudes, dropout, targets, layers } => {
            Trainable::LowRank(LowRankSpec {
                rank: *rank,
                alpha: *alpha,
                by_root: *by_root,
                magnitudes: *magnitudes,
                dropout: *dropout,
                targets: if targets.is_empty() { attention_targets(files)? } else { targets.clone() },
                layers: layers.clone(),
            })
        }
    })
}

/// What weights become while they are loaded.
fn quantize(config: &TrainConfig) -> anyhow::Result<Option<Quantization>> {
    let Some(bits) = config.quantize else { return Ok(None) };
    if config.method == Method::Full {
        bail!(WrongUsage("weights that are all trained cannot be quantized".to_owned()));
    }
    let name = format!("{bits}-bit");
    Ok(Quantization::NAMES.into_iter().find(|(_, known)| *known == name).map(|(to, _)| to))
}

/// The optimizer.
pub(super) fn optimizer(config: &TrainConfig) -> AdamW {
    let TrainConfig { betas, epsilon, weight_decay, eight_bits, .. } = *config;
    AdamW { betas, epsilon, weight_decay, eight_bits }
}

/// What happens when.
pub(super) fn course(
    config: &TrainConfig,
    limits: BatchLimits,
    data: &Dataset<'_>,
) -> anyhow::Result<Course> {
    let of_epoch = steps_of_epoch(config, data, limits)?;
    let steps = config.length.steps(of_epoch);
    let every = |every| match every {
        Every::Never => None,
        Every::Steps(steps) => Some(steps),
        Every::Epoch => Some(of_epoch),
    };
    Ok(Course {
        schedule: Schedule {
            decay: config.decay,
            peak: config.learning_rate,
            warmup: config.warmup.steps(steps),
            steps,
        },
        limits,
        accumulate: config.accumulate,
        clip: config.clip,
        seed: config.seed,
        shuffles: order(config).is_some(),
        log_every: config.log_every,
        save_every: every(config.save),
        keep: config.keep.unwrap_or(usize::MAX),
        evaluate_every: every(config.evaluate),
        patience: config.patience,
    })
}

/// Steps until all data were learned from once.
pub(super) fn steps_of_epoch(
    config: &TrainConfig,
    data: &Dataset<'_>,
    limits: BatchLimits,
) -> anyhow::Result<u64> {
    let mut batches = Batches::new(data, order(config), limits, Position::default());
    let mut count = 0u64;
    while batches.position().epoch == 0 {
        batches.next_batch()?;
        count += 1;
    }
    Ok(count.div_ceil(config.accumulate.max(1) as u64))
}

/// The seed of the order of the data; none where it is the file's.
fn order(config: &TrainConfig) -> Option<u64> {
    (!config.data.keep_order).then_some(config.seed)
}

/// What must not change while a training goes on from a state: all that its bits depend on.
pub(super) fn settings(
    config: &TrainConfig,
    course: &Course,
    base: &Base<'_>,
    data: &Dataset<'_>,
) -> anyhow::Result<Map<String, Value>> {
    let Schedule { decay, peak, warmup, steps } = course.schedule;
    let (first, second) = config.betas;
    let settings = json!({
        "model": base.fingerprint()?,
        "trained": format!("{:?}", base.trainable),
        "quantize": config.quantize,
        "arithmetic": format!("{:?}", base.arithmetic),
        "rows": data.file().len(),
        "limits": format!("{:?}", config.data.limits),
        "batch_size": course.limits.examples,
        "batch_tokens": course.limits.tokens,
        "accumulate": course.accumulate,
        "learning_rate": peak,
        "schedule": decay.name(),
        "warmup": warmup,
        // A constant rate does not depend on the end.
        "steps": (decay != Decay::Constant).then_some(steps),
        "clip": course.clip,
        "betas": [first, second],
        "epsilon": config.epsilon,
        "weight_decay": config.weight_decay,
        "eight_bit": config.eight_bits,
        "seed": course.seed,
        "shuffles": course.shuffles,
    });
    match settings {
        Value::Object(settings) => Ok(settings),
        _ => Ok(Map::new()),
    }
}
