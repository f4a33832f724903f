//! What a configuration comes to: rotary frequencies against transformers 5.24 (`tools/make_rotary_tables.py`), what is refused,
//! and what is warned of.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::Path;
use std::time::{Duration, Instant};

use glimmer_checkpoint::gguf::{GgufWriter, Metadata, Value as Gguf};
use glimmer_checkpoint::{Checkpoint, NewTensor};
use glimmer_models::{ModelError, Positions, Understood, understand};
use glimmer_tensor::DType;
use serde_json::{Value, json};

fn of(config: &Value) -> Result<Understood, ModelError> {
    understand(&Checkpoint::without_weights(Path::new("model"), config.clone()), None)
}

/// The message of a refusal: one line, not long, and made at once.
fn refused(what: &str, make: impl FnOnce() -> Result<Understood, ModelError>) -> String {
    let start = Instant::now();
    let message = make().err().unwrap_or_else(|| panic!("{what} is accepted")).to_string();
    assert!(start.elapsed() < Duration::from_millis(500), "{what}: {:?}", start.elapsed());
    assert!(message.chars().count() <= 300 && !message.contains(char::is_control), "{what}: {message}");
    message
}

#[test]
fn every_configuration_has_transformers_frequencies() {
    let stored = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/rotary.json");
    let cases: Vec<Value> = serde_json::from_slice(&std::fs::read(stored).unwrap()).unwrap();
    assert!(cases.len() > 50);
    for case in &cases {
        let name = case["name"].as_str().unwrap();
        let Some(expected) = case["inv_freq"].as_array() else {
            refused(name, || of(&case["config"]));
            continue;
        };
        let understood = of(&case["config"]).unwrap_or_else(|e| panic!("{name}: {e}"));
        let Positions::Sequential { divisor } = understood.spec.positions else { panic!("{name}") };
        let [section] = understood.spec.rope.sections.as_slice() else { panic!("{name}") };
        assert_eq!(section.inv_freq.len(), expected.len(), "{name}");
        for (found, expected) in section.inv_freq.iter().zip(expected) {
            let (found, expected) = (f64::from(found / divisor), expected.as_f64().unwrap());
            // numpy's powers of f32 are right to an ulp or two.
            assert!((found - expected).abs() <= 4e-7 * expected, "{name}: {found}, not {expected}");
        }
        let (found, expected) =
            (f64::from(understood.spec.rope.magnitude), case["attention_factor"].as_f64().unwrap());
        assert!((found - expected).abs() <= 1e-7 * expected, "{name}: {found}, not {expected}");
        let both = ["rope_scaling", "rope_parameters"]
            .iter()
            .all(|key| case["config"][key].as_object().is_some_and(|block| !block.is_empty()));
        let warned =
            understood.warnings.iter().any(|w| w.contains("rope_scaling and rope_parameters disagree"));
        assert_eq!(warned, both, "{name}: {:?}", understood.warnings);
    }
}

/// A file that says the same twice is not complained of.
#[test]
fn blocks_that_agree_are_no_contradiction() {
    let yarn = json!({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128});
    let mut config = hf();
    config["rope_scaling"] = yarn.clone();
    config["rope_parameters"] = yarn;
    assert_eq!(of(&config).unwrap().warnings, [""; 0]);
}

fn hf() -> Value {
    json!({
        "architectures": ["Glm4ForCausalLM"], "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 16, "intermediate_size": 112, "vocab_size": 320,
        "max_position_embeddings": 512, "attention_bias": false, "rms_norm_eps": 1e-5,
    })
}

fn chatglm() -> Value {
    json!({
        "architectures": ["ChatGLMModel"], "_name_or_path": "chatglm3-6b", "hidden_size": 64, "num_layers": 2,
        "num_attention_heads": 4, "multi_query_attention": true, "multi_query_group_num": 2, "kv_channels": 16,
        "ffn_hidden_size": 112, "padded_vocab_size": 320, "seq_length": 512,
    })
}

fn chatglm_6b() -> Value {
    json!({
        "architectures": ["ChatGLMModel"], "position_encoding_2d": true, "hidden_size": 64, "num_layers": 2,
        "num_attention_heads": 4, "inner_hidden_size": 112, "vocab_size": 320, "bos_token_id": 290,
        "max_sequence_length": 512,
    })
}

/// A GGUF of this architecture and an embedding, with one key set to something else.
fn gguf(arch: &str, key: &str, value: Gguf) -> Result<Understood, ModelError> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model.gguf");
    let mut metadata = Metadata::new(&path);
    metadata.set("general.architecture", arch);
    for (name, number) in [
        ("context_length", 512u32),
        ("embedding_length", 64),
        ("feed_forward_length", 112),
        ("block_count", 2),
        ("attention.head_count", 4),
        ("attention.head_count_kv", if arch == "chatglm-6b" { 4 } else { 2 }),
        ("attention.key_length", 16),
        ("gmask_token_id", 5),
        ("mask_token_id", 4),
        ("sop_token_id", 8),
    ] {
        metadata.set(&format!("{arch}.{name}"), number);
    }
    metadata.set(&format!("{arch}.{key}"), value);
    let tensor = NewTensor { name: "token_embd.weight".to_owned(), dtype: DType::F16, shape: vec![320, 64] };
    let mut file = GgufWriter::create(&path, &metadata, &[tensor]).unwrap();
    file.write("token_embd.weight", &vec![0; 2 * 320 * 64]).unwrap();
    file.finish().unwrap();
    understand(&Checkpoint::open(&path).unwrap(), None)
}

/// No layout makes anything of a size before it has looked at it.
#[test]
fn absurd_sizes_are_refused_at_once() {
    let absurd = [json!(0), json!(-1), json!(2e9), json!(4_294_967_295u64), json!(1u64 << 40), json!(1e308)];
    for (base, keys) in [
        (
            hf(),
            &[
                "hidden_size",
                "num_hidden_layers",
                "num_attention_heads",
                "num_key_value_heads",
                "head_dim",
                "intermediate_size",
                "vocab_size",
                "max_position_embeddings",
            ][..],
        ),
        (
            chatglm(),
            &[
                "hidden_size",
                "num_layers",
                "num_attention_heads",
                "multi_query_group_num",
                "kv_channels",
                "ffn_hidden_size",
                "padded_vocab_size",
                "seq_length",
            ],
        ),
        (
            chatglm_6b(),
            &[
                "hidden_size",
                "num_layers",
                "num_attention_heads",
                "inner_hidden_size",
                "vocab_size",
                "max_sequence_length",
            ],
        ),
    ] {
        of(&base).unwrap();
        for key in keys {
            for value in &absurd {
                let mut config = base.clone();
                config[*key] = value.clone();
                refused(&format!("{key} {value}"), || of(&config));
            }
        }
    }
    for arch in ["chatglm", "glm4", "chatglm-6b"] {
        gguf(arch, "vocab_size", 320u32.into()).unwrap();
        for key in [
            "context_length",
            "embedding_length",
            "feed_forward_length",
            "block_count",
            "attention.head_count",
            "attention.head_count_kv",
            "attention.key_length",
            "rope.dimension_count",
        ] {
            if arch == "chatglm-6b" && key.starts_with("rope.") {
                continue;
            }
            for value in [0, 2_000_000_000, u32::MAX] {
                refused(&format!("{arch} {key} {value}"), || gguf(arch, key, value.into()));
            }
        }
    }
}

/// What once was accepted silently is refused by name.
#[test]
fn settings_that_make_no_sense_are_refused_by_name() {
    let long = "x".repeat(2_000_000);
    let yarn = |key: &str, value: Value| {
        let mut yarn = json!({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128});
        yarn[key] = value;
        ("rope_scaling", yarn)
    };
    for ((key, value), word) in [
        (("partial_rotary_factor", json!(-1)), "partial_rotary_factor is -1"),
        (("partial_rotary_factor", json!(1e308)), "partial_rotary_factor is 1e308"),
        (("partial_rotary_factor", json!(0)), "partial_rotary_factor is 0"),
        (("partial_rotary_factor", json!(1.5)), "partial_rotary_factor is 1.5"),
        (("partial_rotary_factor", json!("half")), "partial_rotary_factor is \"half\""),
        (("rope_theta", json!(0)), "rotary base is 0"),
        (("rope_theta", json!(-1e4)), "rotary base is -10000"),
        (("rope_theta", json!(1e308)), "1e308"),
        (("rope_scaling", json!(true)), "rope_scaling is true"),
        (("rope_parameters", json!([])), "rope_parameters is []"),
        (("rope_parameters", json!({"full_attention": {"rope_type": "default"}})), "full_attention"),
        (("rope_scaling", json!({"rope_type": 7})), "rope_type is 7"),
        (("rope_scaling", json!({"rope_type": long})), "rope_type"),
        (yarn("factor", json!(1e308)), "factor of the rotary scaling is 1e308"),
        (yarn("factor", json!(0)), "factor of the rotary scaling is 0"),
        (yarn("factor", json!(long)), "factor is \"xxx"),
        (yarn("original_max_position_embeddings", json!(0)), "original context is 0"),
        (yarn("beta_fast", json!(-3)), "beta_fast is -3"),
        (yarn("attention_factor", json!(-1)), "attention factor is -1"),
        (yarn("attention_factor", json!(1e300)), "attention factor is 1e300"),
        (yarn("truncate", json!("no")), "truncate is \"no\""),
        (("hidden_act", json!(7)), "hidden_act is 7"),
        (("hidden_act", json!("gelu")), "silu"),
        (("hidden_act", json!(long)), "hidden_act is \"xxx"),
        (("attention_bias", json!("no")), "attention_bias is \"no\""),
        (("tie_word_embeddings", json!(1)), "tie_word_embeddings is 1"),
        (("rms_norm_eps", json!(0)), "epsilon is 0"),
        (("rms_norm_eps", json!([1, 2])), "rms_norm_eps is [1,2]"),
        (("num_hidden_layers", json!(2.5)), "num_hidden_layers is 2.5; a whole number"),
        (("num_hidden_layers", json!("2")), "num_hidden_layers is \"2\""),
        (("num_hidden_layers", json!(long)), "num_hidden_layers is \"xxx"),
        (("architectures", json!([long])), "not supported"),
        (("vocab_size", json!({"a": long})), "vocab_size is {\"a\":"),
    ] {
        let mut config = hf();
        config[key] = value;
        let message = refused(key, || of(&config));
        assert!(message.contains(word), "{word:?} is not in: {message}");
    }
    for (key, value, word) in [
        ("rope.dimension_count", Gguf::U32(0), "0 elements"),
        ("rope.dimension_count", Gguf::U32(18), "18 elements"),
        ("rope.freq_base", Gguf::F32(f32::NAN), "rotary base is NaN"),
        ("rope.scaling.type", Gguf::Str("x".repeat(1000)), "not supported"),
    ] {
        let message = refused(key, || gguf("glm4", key, value));
        assert!(message.contains(word), "{word:?} is not in: {message}");
    }
    // The original layout's, by the bounds of the GGUF that it is converted to.
    for (name, ratio, word) in [
        ("chatglm3-6b", json!(0), "rope_ratio is 0"),
        ("chatglm3-6b", json!(1e300), "rotary base is 1.0000000000000001e304"),
        ("chatglm3-6b", json!(1e-9), "rotary base is 1e-5"),
        ("chatglm2-6b-32k", json!(68_719_476_736u64), "factor of the rotary scaling is 68719476736"),
    ] {
        let mut config = chatglm();
        config["_name_or_path"] = json!(name);
        config["rope_ratio"] = ratio;
        let message = refused(name, || of(&config));
        assert!(message.contains(word), "{word:?} is not in: {message}");
    }
    // A whole number may be written as a float.
    let mut config = hf();
    config["num_hidden_layers"] = json!(2.0);
    assert_eq!(of(&config).unwrap().spec.layers.len(), 2);
}

/// What the model runs without is warned of.
#[test]
fn settings_that_are_left_out_are_warned_of() {
    let mut config = hf();
    config["eos_token_id"] = json!([301, 320, -1, 2.5, "x", null]);
    let warnings = of(&config).unwrap().warnings;
    let expected =
        ["eos_token_id 320 is beyond", "eos_token_id -1", "eos_token_id 2.5", "eos_token_id \"x\""];
    assert_eq!(warnings.len(), expected.len(), "{warnings:?}");
    for (warning, word) in warnings.iter().zip(expected) {
        assert!(warning.starts_with("config.json: ") && warning.contains(word), "{warning}");
    }
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("config.json"), hf().to_string()).unwrap();
    let settings = json!({
        "temperature": "hot", "top_p": 7, "top_k": -1, "min_p": 1e308, "repetition_penalty": 0, "do_sample": "yes",
        "max_length": 1.5, "eos_token_id": 4_294_967_296u64,
    });
    std::fs::write(directory.path().join("generation_config.json"), settings.to_string()).unwrap();
    let warnings = understand(&Checkpoint::open(directory.path()).unwrap(), None).unwrap().warnings;
    for key in settings.as_object().unwrap().keys() {
        let said =
            warnings.iter().filter(|w| w.starts_with(&format!("generation_config.json: {key} "))).count();
        assert_eq!(said, 1, "{key}: {warnings:?}");
    }
    assert_eq!(warnings.len(), 8);
}
