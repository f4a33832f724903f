//! What a tower's configuration comes to: how much memory a published one takes, and what is refused.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::Path;
use std::time::{Duration, Instant};

use glimmer_checkpoint::Checkpoint;
use glimmer_cpu::{CpuDevice, CpuOptions};
use glimmer_models::ModelError;
use glimmer_models::vision::{Tower, TowerPlan, VisionSpec};
use glimmer_tensor::{DType, Device, ReferenceDevice};
use serde_json::{Value, json};

/// The published configurations' sizes.
fn configs() -> [(&'static str, Value); 4] {
    let glm_4v = json!({
        "hidden_act": "gelu", "in_channels": 3, "num_hidden_layers": 63, "hidden_size": 1792, "patch_size": 14,
        "num_heads": 16, "intermediate_size": 15360, "layer_norm_eps": 1e-6, "num_positions": 6401, "image_size": 1120,
        "scaling_factor": 8
    });
    let edge_v = json!({
        "hidden_size": 1152, "image_size": 672, "intermediate_size": 4304, "model_type": "siglip_vision_model",
        "num_attention_heads": 16, "num_hidden_layers": 27, "patch_size": 14
    });
    let glm_4_1v = json!({
        "model_type": "glm4v_vision", "depth": 24, "hidden_size": 1536, "num_heads": 12, "image_size": 336,
        "patch_size": 14, "temporal_patch_size": 2, "spatial_merge_size": 2, "out_hidden_size": 4096,
        "intermediate_size": 13696, "hidden_act": "silu"
    });
    let ocr = json!({
        "model_type": "glm_ocr_vision", "depth": 24, "hidden_size": 1024, "num_heads": 16, "image_size": 336,
        "patch_size": 14, "temporal_patch_size": 2, "spatial_merge_size": 2, "out_hidden_size": 1536,
        "intermediate_size": 4096, "attention_bias": true, "hidden_act": "silu"
    });
    [
        (
            "glm-4v-9b",
            json!({ "model_type": "chatglm", "hidden_size": 4096, "ffn_hidden_size": 13696, "vision_config": glm_4v }),
        ),
        (
            "glm-edge-v-2b",
            json!({ "model_type": "glm", "hidden_size": 2048, "intermediate_size": 6144, "vision_config": edge_v }),
        ),
        ("glm-4.1v", json!({ "model_type": "glm4v", "vision_config": glm_4_1v })),
        ("glm-ocr", json!({ "model_type": "glm_ocr", "vision_config": ocr })),
    ]
}

fn of(config: Value) -> Result<Option<VisionSpec>, ModelError> {
    VisionSpec::of(&Checkpoint::without_weights(Path::new("model"), config))
}

/// A picture of 6,400 patches takes at most 300 MiB beside GLM-4V's weights, and no tower has a scratch that is larger.
#[test]
fn a_large_picture_takes_little_memory() {
    let options = CpuOptions { threads: Some(2), ..CpuOptions::default() };
    let device = CpuDevice::new(options).unwrap();
    for (name, config) in configs() {
        let spec = of(config).unwrap().unwrap();
        let plan = TowerPlan::for_patches(6400);
        let on_device = device.needed(&spec.needs_as(DType::F16, &plan)).unwrap();
        let beside = spec.host_memory(&plan);
        let scratch = on_device.kv + on_device.buffers + beside.kv + beside.buffers;
        assert!(scratch <= 300 << 20, "{name}: {} MiB", scratch >> 20);
    }
}

#[test]
fn rows_in_the_prompt_are_those_of_the_published_models() {
    let [glm_4v, edge_v, glm_4_1v, ocr] = configs().map(|(_, config)| of(config).unwrap().unwrap());
    assert_eq!((glm_4v.image_side(), glm_4v.feature_rows([1, 80, 80])), (Some(1120), 1602));
    assert_eq!((edge_v.image_side(), edge_v.feature_rows([1, 48, 48])), (Some(672), 578));
    assert_eq!((glm_4_1v.image_side(), glm_4_1v.merged([1, 24, 36])), (None, [1, 12, 18]));
    assert_eq!(ocr.feature_rows([2, 24, 36]), 2 * 12 * 18);
    assert_eq!(of(json!({ "model_type": "chatglm" })).unwrap(), None);
}

/// Whatever a configuration says: an error of one line, at once.
#[test]
fn hostile_configurations_are_refused() {
    let refused = |what: &str, config: Value| {
        let start = Instant::now();
        let error = of(config).err().unwrap_or_else(|| panic!("{what} is accepted")).to_string();
        assert!(start.elapsed() < Duration::from_millis(100), "{what}");
        assert!(error.chars().count() <= 300 && !error.contains(char::is_control), "{what}: {error}");
    };
    for (name, config) in configs() {
        let keys: Vec<String> = config["vision_config"].as_object().unwrap().keys().cloned().collect();
        for key in keys {
            let optional = ["hidden_act", "model_type", "in_channels", "layer_norm_eps", "attention_bias"];
            let values = [
                json!(0),
                json!(-1),
                json!(1.5),
                json!("\u{1b}[31m"),
                json!(4_294_967_295u32),
                json!([1]),
                json!({}),
            ];
            for value in values {
                let mut config = config.clone();
                config["vision_config"][key.as_str()] = value.clone();
                let is_fine = key == "in_channels"
                    || (key == "layer_norm_eps" || key == "scaling_factor")
                        && value.as_f64().is_some_and(|v| v > 0.0)
                    || key == "image_size" && name == "glm-ocr";
                if !is_fine {
                    refused(&format!("{name}: {key} {value}"), config);
                }
            }
            let mut config = config.clone();
            config["vision_config"].as_object_mut().unwrap().remove(&key);
            let has_default = optional.contains(&key.as_str())
                || ["scaling_factor", "spatial_merge_size"].contains(&key.as_str())
                || key == "image_size" && name == "glm-ocr";
            if !has_default {
                refused(&format!("{name} without {key}"), config);
            }
        }
    }
    refused("no object", json!({ "model_type": "glm", "vision_config": "\u{7}" }));
    refused("another tower", json!({ "model_type": "glm", "vision_config": { "model_type": "clip" } }));
}

/// What a checkpoint lacks is named before anything is allocated.
#[test]
fn missing_tensors_are_named() {
    for (name, config) in configs() {
        let checkpoint = Checkpoint::without_weights(Path::new("model"), config);
        let spec = VisionSpec::of(&checkpoint).unwrap().unwrap();
        let start = Instant::now();
        let device = Box::new(ReferenceDevice::new());
        let loaded = Tower::load(device, &checkpoint, spec, TowerPlan::for_patches(6400));
        let error = loaded.err().unwrap().to_string();
        assert!(start.elapsed() < Duration::from_millis(100), "{name}");
        assert!(error.chars().count() <= 300, "{name}: {error}");
    }
}
