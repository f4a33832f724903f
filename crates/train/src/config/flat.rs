//! Names without sections: the flags of ChatGLM-6B's `ptuning/main.py` (`ModelArguments`, `DataTrainingArguments` and
//! transformers' own), and Glimmer's, which are shorter names for the same and some more.

use std::path::PathBuf;

use super::keys::{ConfigError, Keys};
use super::{Every, Length, Method, TrainConfig, arguments};

/// What `ptuning/main.py` knows and nothing here needs.
const WITHOUT_EFFECT: &[&str] = &[
    "cache_dir",
    "config_name",
    "dataset_config_name",
    "dataset_name",
    "forced_bos_token",
    "lang",
    "model_revision",
    "num_beams",
    "overwrite_cache",
    "pad_to_max_length",
    "preprocessing_num_workers",
    "resize_position_embeddings",
    "tokenizer_name",
    "use_auth_token",
    "use_fast_tokenizer",
];

/// Takes all that there is onto what is configured already.
pub(super) fn read(keys: &mut Keys, config: &mut TrainConfig) -> Result<(), ConfigError> {
    config.model = keys.first(&["model", "model_name_or_path"])?.or(config.model.take());
    data(keys, config)?;
    lengths(keys, config)?;
    method(keys, config)?;
    if let Some(bits) = keys.first::<String>(&["quantize", "quantization_bit"])? {
        config.quantize = match bits.strip_suffix("-bit").unwrap_or(&bits) {
            "4" => Some(4),
            "8" => Some(8),
            _ => return Err(keys.wrong("quantize", "is 4 or 8")),
        };
    }
    config.start = keys.first(&["start", "ptuning_checkpoint"])?.or(config.start.take());
    let [trains, predicts] = ["do_train", "do_predict"].map(|key| keys.take::<bool>(key));
    config.predicts = predicts? == Some(true) && trains? != Some(true);
    own(keys, config)?;
    arguments::read(keys, config)?;
    config.without_effect.extend(keys.without_effect(WITHOUT_EFFECT));
    Ok(())
}

fn data(keys: &mut Keys, config: &mut TrainConfig) -> Result<(), ConfigError> {
    let data = &mut config.data;
    data.train = keys.first(&["data", "train", "train_file"])?.or(data.train.take());
    data.validation =
        keys.first(&["eval_data", "validation", "validation_file", "val_file"])?.or(data.validation.take());
    data.test = keys.first(&["test", "test_file"])?.or(data.test.take());
    let columns = &mut data.columns;
    columns.prompt = keys.take("prompt_column")?.or(columns.prompt.take());
    columns.response = keys.take("response_column")?.or(columns.response.take());
    columns.history = keys.take("history_column")?.or(columns.history.take());
    keys.set("source_prefix", &mut columns.source_prefix)?;
    let most = ["max_train_samples", "max_eval_samples", "max_predict_samples"];
    for (most, key) in data.most_rows.iter_mut().zip(most) {
        *most = keys.take(key)?.or(*most);
    }
    keys.set("skip_bad_rows", &mut data.skip_bad_rows)?;
    keys.set("keep_order", &mut data.keep_order)?;
    keys.set("combine", &mut data.limits.last_answer)?;
    if keys.take::<bool>("ignore_pad_token_for_loss")? == Some(false) {
        return Err(keys.wrong(
            "ignore_pad_token_for_loss",
            "is true: nothing is padded here, so there is nothing else to learn",
        ));
    }
    Ok(())
}

fn lengths(keys: &mut Keys, config: &mut TrainConfig) -> Result<(), ConfigError> {
    let limits = &mut config.data.limits;
    if let Some(length) = keys.take("max_length")? {
        (limits.source, limits.target, limits.whole) = (length, length, length);
    }
    let source = keys.first::<usize>(&["max_source_length", "max_input_length"])?;
    let target = keys.first::<usize>(&["max_target_length", "max_output_length"])?;
    if source.is_some() || target.is_some() {
        limits.source = source.unwrap_or(limits.source);
        limits.target = target.unwrap_or(limits.target);
        limits.whole = limits.source.saturating_add(limits.target).saturating_add(1);
    }
    if let Some(length) = keys.take("val_max_target_length")? {
        config.max_new_tokens = length;
    }
    Ok(())
}

/// What is trained: said by `method`, or by the first name of its own that is there.
fn method(keys: &mut Keys, config: &mut TrainConfig) -> Result<(), ConfigError> {
    const LOW_RANK: [&str; 10] = [
        "rank",
        "lora_rank",
        "alpha",
        "lora_alpha",
        "dropout",
        "lora_dropout",
        "targets",
        "target",
        "rslora",
        "dora",
    ];
    let named = keys.take::<String>("method")?;
    let slots = keys.first::<usize>(&["prefix", "pre_seq_len"])?;
    let full = keys.take::<bool>("full")? == Some(true);
    let name = match named.as_deref() {
        Some(name) => name,
        None if full => "full",
        None if slots.is_some() => "prefix",
        None if LOW_RANK.iter().any(|key| keys.has(key)) => "lora",
        None => "",
    };
    match name {
        "prefix" => {
            config.method = Method::Prefix {
                slots: slots.unwrap_or(128),
                projection: false,
                projection_width: None,
                token_dim: None,
                of_peft: false,
            };
        }
        "full" => config.method = Method::Full,
        "lora" if !matches!(config.method, Method::LowRank { .. }) => {
            config.method = Method::low_rank(8, 16.0)
        }
        "lora" | "" => {}
        _ => return Err(keys.wrong("method", "is `lora`, `prefix` or `full`")),
    }
    let projects = keys.take::<bool>("prefix_projection")?;
    if let (Method::Prefix { projection, .. }, Some(projects)) = (&mut config.method, projects) {
        *projection = projects;
    }
    low_rank(keys, config)
}

fn low_rank(keys: &mut Keys, config: &mut TrainConfig) -> Result<(), ConfigError> {
    // Taken whatever is trained, so that they are known; without LoRA they have no place.
    let mut unused = Method::low_rank(8, 16.0);
    let own = if matches!(config.method, Method::LowRank { .. }) { &mut config.method } else { &mut unused };
    if let Method::LowRank { rank, alpha, by_root, magnitudes, dropout, targets, layers } = own {
        if let Some(given) = keys.first(&["rank", "lora_rank"])? {
            // The scale stays where alpha is not said.
            *alpha *= given as f32 / (*rank).max(1) as f32;
            *rank = given;
        }
        *alpha = keys.first::<f64>(&["alpha", "lora_alpha"])?.map_or(*alpha, |given| given as f32);
        *dropout = keys.first::<f64>(&["dropout", "lora_dropout"])?.map_or(*dropout, |given| given as f32);
        if *rank == 0 {
            return Err(keys.wrong("rank", "is at least 1"));
        }
        if !(0.0..1.0).contains(dropout) {
            return Err(keys.wrong("dropout", "is at least 0 and less than 1"));
        }
        *targets = keys.first(&["targets", "target"])?.unwrap_or_else(|| std::mem::take(targets));
        keys.set("rslora", by_root)?;
        keys.set("dora", magnitudes)?;
        *layers = keys.take("layers")?.or(layers.take());
    }
    Ok(())
}

/// Short names of our own.
fn own(keys: &mut Keys, config: &mut TrainConfig) -> Result<(), ConfigError> {
    if let Some(output) = keys.take::<PathBuf>("output")? {
        config.output = output;
    }
    if let Some(steps) = keys.take::<u64>("steps")? {
        if steps == 0 {
            return Err(keys.wrong("steps", "is at least 1"));
        }
        config.length = Length::Steps(steps);
    }
    if let Some(epochs) = keys.take::<f64>("epochs")? {
        if epochs <= 0.0 {
            return Err(keys.wrong("epochs", "is more than 0"));
        }
        config.length = Length::Epochs(epochs);
    }
    keys.set_count("batch_size", &mut config.batch.examples)?;
    keys.set_count("batch_tokens", &mut config.batch.tokens)?;
    keys.set_count("accumulate", &mut config.accumulate)?;
    if let Some(steps) = keys.take("save_every")? {
        config.save = Every::Steps(steps);
    }
    if let Some(steps) = keys.take("eval_every")? {
        config.evaluate = Every::Steps(steps);
    }
    config.keep = keys.take("keep")?.or(config.keep);
    keys.set("log_every", &mut config.log_every)?;
    keys.set("eight_bit", &mut config.eight_bits)?;
    config.threads = keys.take("threads")?.or(config.threads);
    keys.set("from_scratch", &mut config.from_scratch)?;
    if config.from_scratch && config.method != Method::Full {
        return Err(keys.wrong("from_scratch", "is for --full: what is not trained would stay random"));
    }
    keys.set("reference", &mut config.reference)?;
    keys.set("fast", &mut config.fast)?;
    config.patience = keys.take("patience")?.or(config.patience);
    keys.set("max_new_tokens", &mut config.max_new_tokens)?;
    keys.set("dry_run", &mut config.dry_run)
}
