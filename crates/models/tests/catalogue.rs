//! The published models' configurations are understood as what they are, and promise the tensors that were published.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::HashSet;
use std::path::Path;

use glimmer_checkpoint::Checkpoint;
use glimmer_models::export::{Mix, WeightTypes, directory_naming, promised, written};
use glimmer_models::names::TensorNaming;
use glimmer_models::{Attention, Understood, published_config, published_name, published_names, understand};

fn understood(name: &str) -> Understood {
    let config = published_config(name).unwrap();
    understand(&Checkpoint::without_weights(Path::new(name), config), None).unwrap()
}

#[test]
fn every_published_configuration_is_its_own_model_without_a_warning() {
    for name in published_names() {
        let understood = understood(name);
        assert_eq!(understood.warnings, [""; 0], "{name}");
        assert_eq!(published_name(&understood.spec), Some(name));
    }
    assert!(published_config("glm-5").is_none());
}

/// Numbers of parameters as transformers' own classes have them; ChatGLM-6B's is the published 6,173,286,400 and a head.
#[test]
fn parameters_are_those_of_the_models() {
    for (name, parameters) in [
        ("glm-edge-1.5b-chat", 1_593_427_968u64),
        ("glm-edge-4b-chat", 4_327_984_128),
        ("glm-4-9b-chat", 9_399_951_360),
        ("glm-4-9b-0414", 9_400_279_040),
        ("glm-4-32b-0414", 32_566_081_536),
        ("chatglm-6b", 6_707_929_088),
        // By transformers' shapes, without the layer that guesses.
        ("glm-4.7-flash", 29_943_393_920),
        ("glm-4.5-air", 106_852_251_264),
    ] {
        let understood = understood(name);
        for naming in [TensorNaming::Gguf, directory_naming(&understood.spec)] {
            let tensors = promised(&understood, naming).unwrap();
            let found: usize = tensors.iter().map(|t| t.shape.iter().product::<usize>()).sum();
            assert_eq!(found as u64, parameters, "{name}, {naming:?}");
        }
    }
}

/// A layer and a role name one weight, and one tensor of the source.
#[test]
fn every_weight_has_an_address_and_a_name() {
    for name in published_names() {
        let Understood { spec, naming, .. } = understood(name);
        let parts = spec.parts(true);
        let addresses: HashSet<_> = parts.iter().map(|part| (part.layer, part.role)).collect();
        let names: HashSet<_> =
            parts.iter().map(|part| naming.name(part.layer, part.role).unwrap()).collect();
        // Keys and values of latents are one tensor.
        let shared =
            spec.layers.iter().filter(|layer| matches!(layer.attention, Attention::Latent(_))).count();
        assert_eq!((addresses.len(), names.len() + shared), (parts.len(), parts.len()), "{name}");
    }
}

/// Before a list of layers or frequencies is made that is as long.
#[test]
fn absurd_sizes_are_refused() {
    for (name, key) in [
        ("chatglm-6b", "num_layers"),
        ("chatglm3-6b", "num_layers"),
        ("chatglm3-6b", "kv_channels"),
        ("glm-4-9b-0414", "num_hidden_layers"),
        ("glm-4-9b-0414", "head_dim"),
    ] {
        for size in [0, u32::MAX] {
            let mut config = published_config(name).unwrap();
            config[key] = size.into();
            let error = understand(&Checkpoint::without_weights(Path::new(name), config), None).unwrap_err();
            assert!(error.to_string().contains("is possible"), "{name}, {key}: {error}");
        }
    }
}

/// Files that others have published as Q4_K_M, whose bytes beyond the tensors are header and vocabulary: about 4 MB
/// for GLM-Edge's.
#[test]
fn files_have_the_published_sizes() {
    for (name, published) in [("glm-edge-1.5b-chat", 980_470_144u64), ("glm-edge-4b-chat", 2_627_489_280)] {
        let understood = understood(name);
        let total = written(None, &understood, WeightTypes::Mix(Mix::Q4_K_M)).unwrap().bytes;
        let rest = published - total;
        assert!((2_000_000..6_000_000).contains(&rest), "{name}: {rest}");
    }
}
