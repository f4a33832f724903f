//! Which types a GGUF's tensors get, against llama.cpp's quantizer; what cannot be exported.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::{Path, PathBuf};

use glimmer_checkpoint::gguf::{GgufWriter, Metadata};
use glimmer_checkpoint::{Checkpoint, NewTensor};
use glimmer_models::export::{WeightTypes, gguf_metadata, outgoing};
use glimmer_models::names::TensorNaming;
use glimmer_models::{Understood, understand};
use glimmer_tensor::DType;
use serde_json::Value;

/// A new path for a file of one test.
fn scratch(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("export-{}-{name}", std::process::id()))
}

fn size(shape: &Value, key: &str) -> usize {
    shape[key].as_u64().unwrap() as usize
}

/// A GGUF of zeros with these sizes, in llama.cpp's names.
fn write_model(path: &Path, shape: &Value) {
    let (hidden, ffn, layers) = (size(shape, "hidden"), size(shape, "ffn"), size(shape, "layers"));
    let keys = hidden / size(shape, "heads") * size(shape, "kv");
    let mut matrices = vec![("token_embd".to_owned(), size(shape, "vocab"), hidden)];
    let mut norms = vec!["output_norm".to_owned()];
    if shape["tied"] == false {
        matrices.push(("output".to_owned(), size(shape, "vocab"), hidden));
    }
    for i in 0..layers {
        if shape["fused"] == true {
            matrices.push((format!("blk.{i}.attn_qkv"), hidden + 2 * keys, hidden));
        } else {
            matrices.extend(
                [("attn_q", hidden), ("attn_k", keys), ("attn_v", keys)]
                    .map(|(name, rows)| (format!("blk.{i}.{name}"), rows, hidden)),
            );
        }
        matrices.push((format!("blk.{i}.attn_output"), hidden, hidden));
        matrices.push((format!("blk.{i}.ffn_up"), 2 * ffn, hidden));
        matrices.push((format!("blk.{i}.ffn_down"), hidden, ffn));
        norms.extend(["attn_norm", "ffn_norm"].map(|name| format!("blk.{i}.{name}")));
        if shape["arch"] == "glm4" {
            norms.extend(["post_attention_norm", "post_ffw_norm"].map(|name| format!("blk.{i}.{name}")));
        }
    }
    let matrix = |(name, rows, cols): &(String, usize, usize)| NewTensor {
        name: format!("{name}.weight"),
        dtype: DType::F16,
        shape: vec![*rows, *cols],
    };
    let norm =
        |name: &String| NewTensor { name: format!("{name}.weight"), dtype: DType::F32, shape: vec![hidden] };
    let tensors: Vec<NewTensor> = matrices.iter().map(matrix).chain(norms.iter().map(norm)).collect();

    let arch = shape["arch"].as_str().unwrap();
    let mut metadata = Metadata::new(path);
    metadata.set("general.architecture", arch);
    for (key, value) in [
        ("context_length", 512),
        ("embedding_length", hidden),
        ("feed_forward_length", ffn),
        ("block_count", layers),
        ("attention.head_count", size(shape, "heads")),
        ("attention.head_count_kv", size(shape, "kv")),
    ] {
        metadata.set(&format!("{arch}.{key}"), value as u32);
    }
    metadata.set(&format!("{arch}.attention.layer_norm_rms_epsilon"), 1e-5f32);
    let mut file = GgufWriter::create(path, &metadata, &tensors).unwrap();
    for tensor in &tensors {
        let bytes = tensor.dtype.bytes_for(tensor.shape.iter().product()).unwrap();
        file.write(&tensor.name, &vec![0; bytes]).unwrap();
    }
    file.finish().unwrap();
}

fn open(path: &Path) -> (Checkpoint, Understood) {
    let checkpoint = Checkpoint::open(path).unwrap();
    let understood = understand(&checkpoint, None).unwrap();
    (checkpoint, understood)
}

#[test]
fn types_are_those_that_llamacpp_chooses() {
    let stored = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/mixes.json");
    let models: Vec<Value> = serde_json::from_slice(&std::fs::read(stored).unwrap()).unwrap();
    let words =
        |value: &Value| -> Vec<String> { value.as_str().unwrap().split(' ').map(str::to_owned).collect() };
    let mut compared = 0;
    for model in &models {
        let path = scratch(&format!("{}.gguf", model["name"].as_str().unwrap()));
        write_model(&path, &model["shape"]);
        let (checkpoint, understood) = open(&path);
        let (tensors, unused) = outgoing(&checkpoint, &understood, TensorNaming::Gguf).unwrap();
        assert!(unused.is_empty(), "{unused:?}");
        assert_eq!(tensors.len(), checkpoint.tensors().len());
        for (name, types) in model["types"].as_object().unwrap() {
            let wanted = WeightTypes::from_name(name).unwrap();
            let chosen = wanted.choose(&understood.spec, &tensors);
            let type_of = |tensor: &str| {
                let at = tensors.iter().position(|t| t.name == tensor).unwrap();
                chosen[at].name()
            };
            for (tensor, expected) in words(&model["tensors"]).iter().zip(words(types)) {
                assert_eq!(type_of(tensor), expected, "{}: {tensor} of {name}", model["name"]);
                compared += 1;
            }
            let vectors = tensors.iter().zip(&chosen).filter(|(tensor, _)| tensor.shape.len() == 1);
            assert!(vectors.into_iter().all(|(_, dtype)| *dtype == DType::F32));
        }
        std::fs::remove_file(path).unwrap();
    }
    assert!(compared > 4000, "{compared}");
}

#[test]
fn every_type_has_a_name_and_llamacpps_number() {
    let names: Vec<_> = WeightTypes::names().collect();
    assert_eq!(names.len(), 21);
    for name in names {
        let wanted = WeightTypes::from_name(&name.to_lowercase()).unwrap();
        assert_eq!(WeightTypes::from_name(name), Some(wanted));
    }
    assert_eq!(WeightTypes::from_name("IQ4_NL"), None);
    let number = |name: &str| WeightTypes::from_name(name).unwrap().file_type(&[], &[]);
    assert_eq!(["F32", "F16", "Q8_0", "Q4_K_M", "Q6_K", "BF16"].map(number), [0, 1, 7, 15, 18, 32]);
}

/// YaRN, linear scaling and rotary widths go through `config.json` and a GGUF and come back the same.
#[test]
fn rotary_settings_survive() {
    let configs = [
        r#"{"rope_theta": 10000.0, "partial_rotary_factor": 0.5}"#,
        r#"{"rope_theta": 5000000.0, "partial_rotary_factor": 1.0}"#,
        r#"{"rope_scaling": {"rope_type": "linear", "factor": 3.0}}"#,
        // Frequencies for thirteen elements, of which fourteen are rotated.
        r#"{"partial_rotary_factor": 0.8125}"#,
        r#"{"rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128, "mscale": 0.7,
            "mscale_all_dim": 1.3}}"#,
        r#"{"rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128}}"#,
        r#"{"rope_scaling": {"type": "yarn", "factor": 2.5, "original_max_position_embeddings": 256, "beta_fast": 16.0,
            "beta_slow": 2.0, "attention_factor": 1.25}}"#,
        r#"{"rope_parameters": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128,
            "rope_theta": 20000.0, "partial_rotary_factor": 0.75}}"#,
    ];
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/glm4-9b-0414");
    for (at, config) in configs.iter().enumerate() {
        let directory = scratch(&format!("rotary-{at}"));
        std::fs::create_dir_all(&directory).unwrap();
        for entry in std::fs::read_dir(&fixture).unwrap() {
            let entry = entry.unwrap();
            if entry.file_name().to_string_lossy().contains("model") {
                std::fs::copy(entry.path(), directory.join(entry.file_name())).unwrap();
            }
        }
        let mut whole: Value =
            serde_json::from_slice(&std::fs::read(fixture.join("config.json")).unwrap()).unwrap();
        let changes: serde_json::Map<String, Value> = serde_json::from_str(config).unwrap();
        whole.as_object_mut().unwrap().extend(changes);
        std::fs::write(directory.join("config.json"), whole.to_string()).unwrap();

        let (checkpoint, understood) = open(&directory);
        let (tensors, _) = outgoing(&checkpoint, &understood, TensorNaming::Hf).unwrap();
        let again = glimmer_models::export::config_json(&checkpoint, &understood, &tensors, DType::BF16);
        let spec = understood.spec.clone();
        let metadata = gguf_metadata(&checkpoint, &understood, &scratch("rotary.gguf"), 32).unwrap();
        std::fs::write(directory.join("config.json"), again.to_string()).unwrap();
        let (_, reread) = open(&directory);
        assert_eq!(reread.spec, spec, "{config}");
        assert_eq!(reread.yarn, understood.yarn, "{config}");

        // A GGUF of the embedding alone is enough to read the settings back.
        let path = scratch(&format!("rotary-{at}.gguf"));
        let announced = [tensors[0].announce(DType::BF16)];
        let mut file = GgufWriter::create(
            &path,
            &metadata,
            &[NewTensor { name: "token_embd.weight".to_owned(), ..announced[0].clone() }],
        )
        .unwrap();
        tensors[0]
            .encode(&checkpoint, DType::BF16, 1, &mut |bytes| file.write("token_embd.weight", bytes))
            .unwrap();
        file.finish().unwrap();
        let (_, reread) = open(&path);
        assert_eq!(reread.spec.rope.sections, spec.rope.sections, "{config}");
        // A GGUF has the quotient of YaRN's two factors, rounded to f32.
        let (found, expected) = (reread.spec.rope.magnitude, spec.rope.magnitude);
        assert!((found - expected).abs() <= 2e-7 * expected, "{config}: {found}, not {expected}");
        assert_eq!(reread.spec.positions, spec.positions, "{config}");
        assert_eq!(reread.spec.context, spec.context);
        std::fs::remove_file(path).unwrap();
        std::fs::remove_dir_all(directory).unwrap();
    }
}
