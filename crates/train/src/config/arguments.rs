//! The names of transformers' `TrainingArguments` and `Seq2SeqTrainingArguments` (4.44): those that mean something here, and
//! those that are about machines, processes and logs that are not there.

use super::keys::{ConfigError, Keys};
use super::{Every, Length, Resume, TrainConfig, Warmup};
use crate::Decay;

/// About processes, cards, precision of activations, loading and reports.
const WITHOUT_EFFECT: &[&str] = &[
    "accelerator_config",
    "auto_find_batch_size",
    "average_tokens_across_devices",
    "batch_eval_metrics",
    "bf16",
    "bf16_full_eval",
    "dataloader_drop_last",
    "dataloader_num_workers",
    "dataloader_persistent_workers",
    "dataloader_pin_memory",
    "dataloader_prefetch_factor",
    "ddp_backend",
    "ddp_broadcast_buffers",
    "ddp_bucket_cap_mb",
    "ddp_find_unused_parameters",
    "ddp_timeout",
    "debug",
    "deepspeed",
    "disable_tqdm",
    "dispatch_batches",
    "do_eval",
    "do_predict",
    "do_train",
    "eval_accumulation_steps",
    "eval_delay",
    "eval_do_concat_batches",
    "eval_on_start",
    "eval_use_gather_object",
    "fp16",
    "fp16_backend",
    "fp16_full_eval",
    "fp16_opt_level",
    "fsdp",
    "fsdp_config",
    "fsdp_min_num_params",
    "fsdp_transformer_layer_cls_to_wrap",
    "full_determinism",
    "generation_num_beams",
    "gradient_checkpointing_kwargs",
    "greater_is_better",
    "group_by_length",
    "half_precision_backend",
    "hub_always_push",
    "hub_model_id",
    "hub_private_repo",
    "hub_strategy",
    "hub_token",
    "ignore_data_skip",
    "include_for_metrics",
    "include_inputs_for_metrics",
    "include_num_input_tokens_seen",
    "include_tokens_per_second",
    "jit_mode_eval",
    "label_names",
    "length_column_name",
    "load_best_model_at_end",
    "local_rank",
    "log_level",
    "log_level_replica",
    "log_on_each_node",
    "logging_dir",
    "logging_first_step",
    "logging_nan_inf_filter",
    "metric_for_best_model",
    "mp_parameters",
    "no_cuda",
    "optim_args",
    "overwrite_output_dir",
    "past_index",
    "per_gpu_eval_batch_size",
    "per_gpu_train_batch_size",
    "predict_with_generate",
    "prediction_loss_only",
    "push_to_hub",
    "push_to_hub_model_id",
    "push_to_hub_organization",
    "push_to_hub_token",
    "ray_scope",
    "remove_unused_columns",
    "report_to",
    "restore_callback_states_from_checkpoint",
    "run_name",
    "save_on_each_node",
    "save_only_model",
    "save_safetensors",
    "skip_memory_metrics",
    "sortish_sampler",
    "split_batches",
    "swanlab",
    "tf32",
    "torch_compile",
    "torch_compile_backend",
    "torch_compile_mode",
    "torch_empty_cache_steps",
    "torchdynamo",
    "tpu_metrics_debug",
    "tpu_num_cores",
    "use_cpu",
    "use_ipex",
    "use_legacy_prediction_loop",
    "use_liger_kernel",
    "use_mps_device",
];

/// What would change what is learned.
const REFUSED: &[&str] = &[
    "eval_on_train",
    "label_smoothing_factor",
    "lr_scheduler_kwargs",
    "neftune_noise_alpha",
    "optim_target_modules",
    "adafactor",
];

/// Takes what there is of them.
pub(super) fn read(keys: &mut Keys, config: &mut TrainConfig) -> Result<(), ConfigError> {
    keys.set("output_dir", &mut config.output)?;
    length(keys, config)?;
    rate(keys, config)?;
    keys.set_count("per_device_train_batch_size", &mut config.batch.examples)?;
    keys.set_count("per_device_eval_batch_size", &mut config.evaluation_batch)?;
    keys.set_count("gradient_accumulation_steps", &mut config.accumulate)?;
    keys.set("gradient_checkpointing", &mut config.recomputes)?;
    keys.set("adam_beta1", &mut config.betas.0)?;
    keys.set("adam_beta2", &mut config.betas.1)?;
    keys.set("adam_epsilon", &mut config.epsilon)?;
    keys.set("weight_decay", &mut config.weight_decay)?;
    if let Some(norm) = keys.first::<f64>(&["max_grad_norm", "clip"])? {
        config.clip = (norm > 0.0).then_some(norm);
    }
    if let Some(name) = keys.take::<String>("optim")? {
        config.eight_bits = optimizer(&name)
            .ok_or_else(|| keys.wrong("optim", "is not supported; `adamw_torch` and `adamw_8bit` are"))?;
    }
    let [seed, data_seed] = ["seed", "data_seed"].map(|key| keys.take::<u64>(key));
    config.seed = data_seed?.or(seed?).unwrap_or(config.seed);
    keys.set("logging_steps", &mut config.log_every)?;
    if keys.first::<String>(&["logging_strategy"])?.as_deref() == Some("no") {
        config.log_every = u64::MAX;
    }
    config.save = every(keys, &["save_strategy"], "save_steps", config.save)?;
    config.evaluate = every(keys, &["eval_strategy", "evaluation_strategy"], "eval_steps", config.evaluate)?;
    config.keep = keys.take("save_total_limit")?.or(config.keep);
    resume(keys, config)?;
    if let Some(mut generation) = keys.section("generation_config")? {
        generation.set("max_new_tokens", &mut config.max_new_tokens)?;
        let unused =
            ["do_sample", "temperature", "top_p", "top_k", "max_length", "num_beams", "repetition_penalty"];
        config.without_effect.extend(generation.without_effect(&unused));
        generation.finish()?;
    }
    keys.set("generation_max_length", &mut config.max_new_tokens)?;
    keys.refuse(REFUSED)?;
    config.without_effect.extend(keys.without_effect(WITHOUT_EFFECT));
    Ok(())
}

fn length(keys: &mut Keys, config: &mut TrainConfig) -> Result<(), ConfigError> {
    if let Some(epochs) = keys.take::<f64>("num_train_epochs")? {
        if epochs <= 0.0 {
            return Err(keys.wrong("num_train_epochs", "is more than 0"));
        }
        config.length = Length::Epochs(epochs);
    }
    // As in transformers, -1 leaves it to the epochs.
    if let Some(steps) = keys.take::<i64>("max_steps")?
        && steps > 0
    {
        config.length = Length::Steps(steps as u64);
    }
    Ok(())
}

fn rate(keys: &mut Keys, config: &mut TrainConfig) -> Result<(), ConfigError> {
    keys.set("learning_rate", &mut config.learning_rate)?;
    if config.learning_rate < 0.0 {
        return Err(keys.wrong("learning_rate", "is not negative"));
    }
    if let Some(name) = keys.first::<String>(&["lr_scheduler_type", "schedule"])? {
        let name = name.strip_suffix("_with_warmup").unwrap_or(&name);
        let known = Decay::NAMES.into_iter().find(|(_, known)| *known == name);
        config.decay =
            known.ok_or_else(|| keys.wrong("lr_scheduler_type", "is `linear`, `cosine` or `constant`"))?.0;
    }
    if let Some(share) = keys.take::<f64>("warmup_ratio")? {
        if !(0.0..=1.0).contains(&share) {
            return Err(keys.wrong("warmup_ratio", "is between 0 and 1"));
        }
        config.warmup = Warmup::Share(share);
    }
    if let Some(warmup) = keys.take::<f64>("warmup")? {
        if warmup < 0.0 {
            return Err(keys.wrong("warmup", "is a share below 1, or a number of steps"));
        }
        config.warmup = if warmup < 1.0 { Warmup::Share(warmup) } else { Warmup::Steps(warmup as u64) };
    }
    if let Some(steps) = keys.take::<u64>("warmup_steps")?
        && steps > 0
    {
        config.warmup = Warmup::Steps(steps);
    }
    Ok(())
}

/// Whether an optimizer by its name in transformers keeps moments in 8 bits; none where it is no AdamW.
fn optimizer(name: &str) -> Option<bool> {
    match name {
        "adamw" | "adamw_torch" | "adamw_torch_fused" | "adamw_hf" | "paged_adamw" | "paged_adamw_32bit" => {
            Some(false)
        }
        "adamw_8bit" | "adamw_bnb_8bit" | "paged_adamw_8bit" => Some(true),
        _ => None,
    }
}

fn every(
    keys: &mut Keys,
    strategies: &[&'static str],
    steps: &'static str,
    before: Every,
) -> Result<Every, ConfigError> {
    let given = keys.take::<f64>(steps)?;
    if given.is_some_and(|n| n < 1.0) {
        return Err(keys.wrong(steps, "is a number of steps"));
    }
    let given = given.map(|n| n as u64);
    let before_steps = if let Every::Steps(n) = before { n } else { 500 };
    Ok(match keys.first::<String>(strategies)?.as_deref() {
        Some("no" | "false") => Every::Never,
        Some("epoch") => Every::Epoch,
        Some("steps") => Every::Steps(given.unwrap_or(before_steps)),
        Some(_) => return Err(keys.wrong(strategies[0], "is `no`, `steps` or `epoch`")),
        None if before == Every::Never => Every::Never,
        None => given.map_or(before, Every::Steps),
    })
}

/// `true`, a step, or a directory whose name ends with one (`checkpoint-500`).
fn resume(keys: &mut Keys, config: &mut TrainConfig) -> Result<(), ConfigError> {
    if let Some(what) = keys.first::<String>(&["resume_from_checkpoint", "resume"])? {
        config.resume = resume_of(&what).ok_or_else(|| {
            keys.wrong("resume_from_checkpoint", "is `true`, a step, or a directory named `checkpoint-STEP`")
        })?;
    }
    Ok(())
}

/// What GLM-4's script takes as its last word, and what a directory's name says.
pub(super) fn resume_of(word: &str) -> Option<Resume> {
    match word.to_ascii_lowercase().as_str() {
        "" | "no" | "false" => Some(Resume::No),
        "yes" | "true" | "auto" => Some(Resume::Latest),
        other => {
            let digits = other.trim_end_matches('/').rsplit(['-', '/']).next()?;
            digits.parse().ok().map(Resume::Step)
        }
    }
}
