//! Models with experts in llama.cpp's layout, and configurations that cannot be: each is refused by name, before anything as
//! large is made.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on has failed; what is left out is said"
)]

mod support;

use std::time::{Duration, Instant};

use glimmer_checkpoint::Checkpoint;
use glimmer_checkpoint::gguf::GgufWriter;
use glimmer_models::export::{WeightTypes, gguf_metadata, outgoing};
use glimmer_models::names::TensorNaming;
use glimmer_models::{ModelWeights, load, understand};
use glimmer_tensor::{Compute, DType, KvType};
use serde_json::{Value, json};
use support::{Runner, Stored, cpu, device, distance, root};

/// A fixture with experts, if it is there.
fn fixture(name: &str) -> Option<std::path::PathBuf> {
    let dir = root().join("../shared/fixtures").join(name);
    if dir.exists() {
        return Some(dir);
    }
    println!("SKIPPED: {name} is not there");
    None
}

/// Writes what is at `from` as a GGUF.
fn convert(from: &std::path::Path, types: WeightTypes, to: &std::path::Path) {
    let checkpoint = Checkpoint::open(from).unwrap();
    let understood = understand(&checkpoint, None).unwrap();
    let (tensors, unused) = outgoing(&checkpoint, &understood, TensorNaming::Gguf).unwrap();
    let of_guesses = format!(".{}.", understood.spec.layers.len());
    assert!(unused.iter().all(|name| name.contains(&of_guesses)), "{unused:?}");
    let chosen = types.choose(&understood.spec, &tensors);
    let metadata = gguf_metadata(&checkpoint, &understood, to, 0).unwrap();
    let announced: Vec<_> = tensors.iter().zip(&chosen).map(|(t, &dtype)| t.announce(dtype)).collect();
    let mut file = GgufWriter::create(to, &metadata, &announced).unwrap();
    for (tensor, dtype) in tensors.iter().zip(chosen) {
        tensor.encode(&checkpoint, dtype, 2, &mut |bytes| file.write(&tensor.name, bytes)).unwrap();
    }
    file.finish().unwrap();
}

/// What is written for llama.cpp computes the same bits, says the same facts, and is written again as the same bytes; in
/// fewer bits it is what the reference device makes of it.
#[test]
fn ggufs_have_the_same_bits() {
    for name in ["glm-4.5", "glm-4.5-air", "glm-4.7-flash"] {
        let Some(dir) = fixture(name) else { continue };
        let files = tempfile::tempdir().unwrap();
        let path = |name: &str| files.path().join(name);
        convert(&dir, WeightTypes::Stored, &path("stored.gguf"));
        convert(&path("stored.gguf"), WeightTypes::Stored, &path("again.gguf"));
        convert(&dir, WeightTypes::One(DType::Q8_0), &path("q8_0.gguf"));
        let read = |path: &std::path::Path| understand(&Checkpoint::open(path).unwrap(), None).unwrap();
        let (original, written) = (read(&dir), read(&path("stored.gguf")));
        assert_eq!(written.spec.layers, original.spec.layers, "{name}");
        assert_eq!(written.spec.rope, original.spec.rope, "{name}");
        let tensors = |path: &std::path::Path| {
            let checkpoint = Checkpoint::open(path).unwrap();
            let bytes =
                |info: &glimmer_checkpoint::TensorInfo| checkpoint.tensor(&info.name).unwrap().data.to_vec();
            checkpoint.tensors().iter().map(|info| (info.name.clone(), bytes(info))).collect::<Vec<_>>()
        };
        assert!(tensors(&path("stored.gguf")) == tensors(&path("again.gguf")), "{name}");
        let ids = Stored::open(&dir.join("expected.safetensors")).ids("long.input_ids");
        let logits =
            |path: &std::path::Path, on| Runner::new(path, device(on), KvType::F32, 160, 1024).whole(&ids);
        let expected = logits(&dir, "cpu-f32-2");
        assert!(logits(&path("stored.gguf"), "cpu-f32-2") == expected, "{name}");
        let eight = path("q8_0.gguf");
        let (found, reference) = (logits(&eight, "cpu-f32-1"), logits(&eight, "reference"));
        let off = distance(&found, &reference);
        assert!(off < 1e-4, "{name}: Q8_0 differs by {off} from the reference");
        assert!(logits(&eight, "cpu-auto-2").iter().all(|logit| logit.is_finite()), "{name}");
    }
}

/// What opening and loading the fixture says with this in its configuration.
fn copied(dir: &std::path::Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(dir).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
    }
    copy
}

fn refused(dir: &std::path::Path, change: &Value) -> String {
    let copy = copied(dir);
    let path = copy.path().join("config.json");
    let mut config: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    config.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, config.to_string()).unwrap();
    error_of(copy.path(), change)
}

/// Why a model is not loaded, which is known soon.
fn error_of(dir: &std::path::Path, change: &Value) -> String {
    let begin = Instant::now();
    let checkpoint = Checkpoint::open(dir).unwrap();
    let error = match understand(&checkpoint, None) {
        Err(error) => error,
        Ok(understood) => {
            let weights = ModelWeights::stored(&checkpoint, &understood);
            load(weights, cpu(Compute::F32, 1), &mut |_, _| {}).map(drop).unwrap_err()
        }
    };
    assert!(begin.elapsed() < Duration::from_secs(2), "{change}: {:?}", begin.elapsed());
    error.to_string()
}

#[test]
fn what_cannot_be_is_refused_by_name() {
    let Some(dir) = fixture("glm-4.5-air") else { return };
    for (change, words) in [
        (json!({"n_routed_experts": 0}), "experts is 0"),
        (json!({"n_routed_experts": 1_000_000_000}), "experts is 1000000000"),
        (json!({"num_experts_per_tok": 7}), "7 experts cannot be chosen among 6"),
        (json!({"num_experts_per_tok": 0}), "0 experts cannot be chosen"),
        (json!({"n_group": 4}), "6 experts cannot be divided into 4 groups"),
        (json!({"n_group": 2, "topk_group": 3}), "3 of 2 groups cannot be chosen"),
        (
            json!({"n_group": 3, "topk_group": 1, "num_experts_per_tok": 3}),
            "3 experts cannot be chosen among 2",
        ),
        (json!({"moe_intermediate_size": 0}), "an expert's size is 0"),
        (json!({"n_shared_experts": 4_000_000_000u32}), "shared experts' size"),
        (json!({"routed_scaling_factor": 0}), "routed_scaling_factor is 0"),
        (json!({"n_routed_experts": 7}), "has shape [6, 64], the model needs [7, 64]"),
        (json!({"num_hidden_layers": 4}), "model.layers.3."),
    ] {
        let message = refused(&dir, &change);
        assert!(message.contains(words), "{change}: {message}");
    }
}

#[test]
fn a_correction_that_is_no_number_is_named() {
    let Some(dir) = fixture("glm-4.5-air") else { return };
    let copy = copied(&dir);
    let name = "model.layers.1.mlp.gate.e_score_correction_bias";
    let holds = |path: &std::path::Path| {
        let bytes = std::fs::read(path).unwrap();
        let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let header: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
        let start = header[name]["data_offsets"][0].as_u64()? as usize;
        Some((8 + length + start, bytes))
    };
    let files = std::fs::read_dir(copy.path()).unwrap().map(|file| file.unwrap().path());
    let shards = files.filter(|path| path.extension().is_some_and(|e| e == "safetensors"));
    let weights = shards.filter(|path| !path.ends_with("expected.safetensors"));
    let (path, (at, mut bytes)) =
        weights.filter_map(|path| holds(&path).map(|found| (path, found))).next().unwrap();
    bytes[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, bytes).unwrap();
    let message = error_of(copy.path(), &Value::Null);
    assert!(message.contains(name) && message.contains("not finite"), "{message}");
}

#[test]
fn what_latents_cannot_be_is_refused_by_name() {
    let Some(dir) = fixture("glm-4.7-flash") else { return };
    for (change, words) in [
        (json!({"kv_lora_rank": 0}), "latent rank is 0"),
        (json!({"q_lora_rank": null}), "q_lora_rank is missing"),
        (json!({"qk_nope_head_dim": 1_000_000}), "head size is 1000000"),
        (json!({"qk_rope_head_dim": 7}), "rotary embedding has 7 elements"),
        (json!({"v_head_dim": 21}), "has shape [220, 32], the model needs [225, 32]"),
        (json!({"kv_lora_rank": 31}), "has shape"),
        (json!({"rope_interleave": false}), "rope_interleave = false is not supported"),
        (json!({"attention_bias": true}), "attention_bias = true is not supported"),
        (
            json!({"rope_scaling": {"type": "yarn", "factor": 4.0}}),
            "YaRN is not supported with latent attention",
        ),
        (json!({"num_attention_heads": 0}), "num_attention_heads is 0"),
    ] {
        let message = refused(&dir, &change);
        assert!(message.contains(words), "{change}: {message}");
    }
}
