//! Configurations of models with experts that cannot be: each is refused by name, before anything as large is made.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on has failed; what is left out is said"
)]

mod support;

use std::time::{Duration, Instant};

use glimmer_checkpoint::Checkpoint;
use glimmer_models::{ModelWeights, load, understand};
use glimmer_tensor::Compute;
use serde_json::{Value, json};
use support::{cpu, root};

/// What opening and loading the fixture says with this in its configuration.
fn refused(dir: &std::path::Path, change: &Value) -> String {
    let copy = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(dir).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
    }
    let path = copy.path().join("config.json");
    let mut config: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    config.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, config.to_string()).unwrap();
    let begin = Instant::now();
    let checkpoint = Checkpoint::open(copy.path()).unwrap();
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
    let dir = root().join("../shared/fixtures/glm-4.5-air");
    if !dir.exists() {
        println!("SKIPPED: glm-4.5-air is not there");
        return;
    }
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
