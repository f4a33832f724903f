//! The configurations of GLM-4's `finetune_demo` (`lora.yaml`, `ptuning_v2.yaml`, `sft.yaml` and their like), as they are.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::keys::{ConfigError, Keys, text_of};
use super::{Method, TrainConfig, arguments};
use crate::data::Limits;

/// Reads a file; its data lie in `folder`.
pub(super) fn read(path: &Path, folder: Option<&Path>) -> Result<TrainConfig, ConfigError> {
    let text = text_of(path)?;
    let syntax = |what: String| ConfigError::Syntax { path: path.to_owned(), what };
    let value: Value = serde_saphyr::from_str(&text).map_err(|error| syntax(error.to_string()))?;
    let Value::Object(values) = value else {
        return Err(syntax(
            "is no set of keys such as `data_config`, `training_args` and `peft_config`".to_owned(),
        ));
    };
    let mut keys = Keys::new("", values);
    let mut config = TrainConfig::of_transformers();
    sections(&mut keys, &mut config, folder)?;
    keys.finish()?;
    Ok(config)
}

fn sections(keys: &mut Keys, config: &mut TrainConfig, folder: Option<&Path>) -> Result<(), ConfigError> {
    if let Some(mut data) = keys.section("data_config")? {
        let place =
            |file: Option<PathBuf>| file.map(|file| folder.map_or(file.clone(), |folder| folder.join(&file)));
        config.data.train = place(data.take("train_file")?);
        config.data.validation = place(data.take("val_file")?);
        config.data.test = place(data.take("test_file")?);
        config.without_effect.extend(data.without_effect(&["num_proc"]));
        data.finish()?;
    }
    let input = keys.take("max_input_length")?.unwrap_or(512);
    let output = keys.take("max_output_length")?.unwrap_or(512);
    config.data.limits = Limits::of_conversations(input, output);
    keys.set("combine", &mut config.data.limits.last_answer)?;
    config.without_effect.extend(keys.without_effect(&["freezeV", "swanlab"]));
    if let Some(mut training) = keys.section("training_args")? {
        arguments::read(&mut training, config)?;
        training.finish()?;
    }
    config.method = match keys.section("peft_config")? {
        Some(peft) => method(peft, config)?,
        None => Method::Full,
    };
    Ok(())
}

/// A `PeftConfig` by its `peft_type`.
fn method(mut peft: Keys, config: &mut TrainConfig) -> Result<Method, ConfigError> {
    let kind = peft.take::<String>("peft_type")?.unwrap_or_default();
    let method = match kind.as_str() {
        "LORA" => low_rank(&mut peft)?,
        "PREFIX_TUNING" => prefix(&mut peft, config)?,
        _ => return Err(peft.wrong("peft_type", "is LORA or PREFIX_TUNING")),
    };
    let unused = [
        "task_type",
        "inference_mode",
        "base_model_name_or_path",
        "revision",
        "auto_mapping",
        "peft_version",
    ];
    config.without_effect.extend(peft.without_effect(&unused[1..]));
    // It says what the model is, and nothing else is trained here.
    peft.without_effect(&unused[..1]);
    peft.finish()?;
    Ok(method)
}

fn low_rank(peft: &mut Keys) -> Result<Method, ConfigError> {
    let method = Method::LowRank {
        rank: peft.take("r")?.unwrap_or(8),
        alpha: peft.take::<f64>("lora_alpha")?.unwrap_or(8.0) as f32,
        by_root: peft.take("use_rslora")?.unwrap_or(false),
        magnitudes: peft.take("use_dora")?.unwrap_or(false),
        dropout: peft.take::<f64>("lora_dropout")?.unwrap_or(0.0) as f32,
        targets: peft.take("target_modules")?.unwrap_or_default(),
        layers: peft.take("layers_to_transform")?,
    };
    if let Method::LowRank { rank, dropout, .. } = &method {
        if *rank == 0 {
            return Err(peft.wrong("r", "is at least 1"));
        }
        if !(0.0..1.0).contains(dropout) {
            return Err(peft.wrong("lora_dropout", "is at least 0 and less than 1"));
        }
    }
    peft.refuse(&[
        "alpha_pattern",
        "bias",
        "exclude_modules",
        "fan_in_fan_out",
        "layer_replication",
        "layers_pattern",
        "loftq_config",
        "lora_bias",
        "megatron_config",
        "modules_to_save",
        "rank_pattern",
        "trainable_token_indices",
    ])?;
    peft.without_effect(&["init_lora_weights", "megatron_core", "runtime_config"]);
    Ok(method)
}

/// The heads and layers are the model's, and what is said of them has to agree with it.
fn prefix(peft: &mut Keys, config: &mut TrainConfig) -> Result<Method, ConfigError> {
    let slots = peft.take("num_virtual_tokens")?.unwrap_or(0);
    if slots == 0 {
        return Err(peft.wrong("num_virtual_tokens", "is at least 1"));
    }
    let method = Method::Prefix {
        slots,
        projection: peft.take("prefix_projection")?.unwrap_or(false),
        projection_width: peft.take("encoder_hidden_size")?,
        token_dim: peft.take("token_dim")?,
        of_peft: true,
    };
    let models = ["num_attention_heads", "num_layers", "num_transformer_submodules"];
    config.without_effect.extend(peft.without_effect(&models));
    Ok(method)
}
