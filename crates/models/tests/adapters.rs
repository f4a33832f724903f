//! Adapters as files: PEFT's and ChatGLM's, read, written, and refused by name.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::path::{Path, PathBuf};

use glimmer_checkpoint::NewTensor;
use glimmer_checkpoint::safetensors::SafetensorsFile;
use glimmer_models::names::TensorNaming;
use glimmer_models::{
    Adapter, DecoderSpec, LowRank, LowRankAdapter, PeftSettings, Positions, PrefixEncoder, PrefixProjection,
    WeightAddress, WeightRole,
};
use glimmer_tensor::{DType, RopePairs};
use serde_json::{Value, json};
use support::root;

fn spec(fixture: &str) -> DecoderSpec {
    support::open(&root().join("fixtures").join(fixture), None).1.spec
}

fn pairs(adapter: &Adapter) -> &[(WeightAddress, LowRank)] {
    let Adapter::LowRank(adapter) = adapter else { panic!("a prefix") };
    &adapter.pairs
}

/// Numbers that differ from each other.
fn numbers(len: usize, seed: usize) -> Vec<f32> {
    (0..len).map(|i| ((i * 37 + seed * 101) % 255) as f32 / 64.0 - 2.0).collect()
}

/// An adapter's directory, one file at a time.
struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Files(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn config(&self, name: &str, config: &Value) -> &Self {
        std::fs::write(self.path().join(name), config.to_string()).unwrap();
        self
    }

    fn tensors(&self, name: &str, tensors: &[(&str, &[usize])]) -> &Self {
        let tensors: Vec<_> = tensors
            .iter()
            .enumerate()
            .map(|(i, &(name, shape))| (name, shape, numbers(shape.iter().product(), i)))
            .collect();
        self.numbers(name, &tensors)
    }

    fn numbers(&self, name: &str, tensors: &[(&str, &[usize], Vec<f32>)]) -> &Self {
        let new = |(name, shape, _): &(&str, &[usize], Vec<f32>)| NewTensor {
            name: (*name).to_owned(),
            dtype: DType::F32,
            shape: shape.to_vec(),
        };
        let announced: Vec<NewTensor> = tensors.iter().map(new).collect();
        let mut file =
            SafetensorsFile::create(&self.path().join(name), &announced, &[("format", "pt")]).unwrap();
        for (name, _, values) in tensors {
            file.write(name, le_bytes(values).as_slice()).unwrap();
        }
        file.finish().unwrap();
        self
    }

    fn read(&self, spec: &DecoderSpec) -> Result<Adapter, String> {
        Adapter::read(self.path(), spec).map_err(|error| error.to_string())
    }
}

fn le_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

const WEIGHTS: &str = "adapter_model.safetensors";
const QKV: &str = "base_model.model.transformer.encoder.layers.1.self_attention.query_key_value";

fn lora(more: Value) -> Value {
    let mut config = json!({"peft_type": "LORA", "r": 4, "lora_alpha": 8, "bias": "none"});
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    config
}

#[test]
fn pefts_own_adapter_is_read() {
    let spec = spec("glm4-9b-orig");
    let path = root().join("fixtures/lora-glm4-9b-orig");
    let adapter = Adapter::read(&path, &spec).unwrap();
    let pairs = pairs(&adapter);
    assert_eq!(pairs.len(), 3);
    for (layer, (address, pair)) in pairs.iter().enumerate() {
        assert_eq!(*address, WeightAddress { layer: Some(layer), role: WeightRole::Qkv });
        assert_eq!((pair.rank, pair.rows(), pair.cols(), pair.scale), (8, 160, 64, 4.0));
    }
    assert_eq!(adapter, Adapter::read(&path.join(WEIGHTS), &spec).unwrap());
    assert_eq!(adapter.bytes(), 3 * 4 * 8 * (160 + 64));
}

#[test]
fn names_of_older_versions_are_read_and_mean_the_same() {
    let spec = spec("glm4-9b-orig");
    let names = [
        ["lora_A.weight", "lora_B.weight", "lora_magnitude_vector"],
        ["lora_A.default.weight", "lora_B.default.weight", "lora_magnitude_vector.default.weight"],
        ["lora_A.x.weight", "lora_B.x.weight", "lora_magnitude_vector.weight"],
    ];
    let read = |prefix: &str, names: [&str; 3]| {
        let files = Files::new();
        let names = names.map(|name| format!("{prefix}.{name}"));
        let tensors: [(&str, &[usize]); 3] =
            [(&names[0], &[4, 64]), (&names[1], &[160, 4]), (&names[2], &[160])];
        files.config("adapter_config.json", &lora(json!({"use_dora": true}))).tensors(WEIGHTS, &tensors);
        files.read(&spec).unwrap()
    };
    let first = read(QKV, names[0]);
    assert!(pairs(&first)[0].1.magnitude.is_some());
    for names in names {
        assert_eq!(read(QKV, names), first);
        assert_eq!(read(QKV.strip_prefix("base_model.model.").unwrap(), names), first);
    }
}

#[test]
fn alpha_rank_and_their_patterns_make_the_scale() {
    let spec = spec("glm-4-9b-chat-hf");
    let hidden = spec.hidden;
    let Adapter::LowRank(whole) = ({
        let files = Files::new();
        let name = |layer, module: &str, piece: &str| {
            format!("base_model.model.model.layers.{layer}.self_attn.{module}.lora_{piece}.weight")
        };
        let heads = spec.layers[0].attention.heads();
        let (q, k) = (heads.q_width(), heads.k_width());
        let names: Vec<_> = [(0, "q_proj"), (1, "q_proj"), (0, "k_proj")]
            .into_iter()
            .flat_map(|(layer, module)| [name(layer, module, "A"), name(layer, module, "B")])
            .collect();
        files.tensors(
            WEIGHTS,
            &[
                (&names[0], &[4, hidden]),
                (&names[1], &[q, 4]),
                (&names[2], &[2, hidden]),
                (&names[3], &[q, 2]),
                (&names[4], &[16, hidden]),
                (&names[5], &[k, 16]),
            ],
        );
        files.config(
            "adapter_config.json",
            &lora(json!({
                "use_rslora": true,
                "rank_pattern": {"layers\\.1\\.self_attn\\.q_proj": 2, "^nothing": 3, "k_proj": 16},
                "alpha_pattern": {"k_proj": 2},
                "target_modules": ["q_proj", "k_proj"],
            })),
        );
        files.read(&spec).unwrap()
    }) else {
        panic!("a prefix")
    };
    let scales: Vec<_> =
        whole.pairs.iter().map(|(address, pair)| (*address, pair.rank, pair.scale)).collect();
    let at = |layer, role| WeightAddress { layer: Some(layer), role };
    assert_eq!(
        scales,
        [
            (at(0, WeightRole::Queries), 4, 4.0),
            (at(0, WeightRole::Keys), 16, 0.5),
            (at(1, WeightRole::Queries), 2, (8.0 / 2f64.sqrt()) as f32),
        ]
    );
}

/// Pairs for every weight of a model, with magnitudes for some.
fn everything(spec: &DecoderSpec) -> LowRankAdapter {
    let mut adapter = LowRankAdapter { pairs: Vec::new() };
    for part in spec.parts(!spec.tied) {
        let glimmer_models::PartKind::Matrix(matrix) = &part.kind else { continue };
        if part.role == WeightRole::Embedding {
            continue;
        }
        let seed = adapter.pairs.len();
        let rank = 1 + seed % 3;
        let pair = LowRank {
            rank,
            a: numbers(rank * matrix.cols, seed),
            b: numbers(matrix.rows() * rank, seed + 1),
            scale: 1.5 / rank as f32,
            magnitude: Some(numbers(matrix.rows(), seed + 2)),
        };
        adapter.pairs.push((WeightAddress { layer: part.layer, role: part.role }, pair));
    }
    adapter
}

#[test]
fn what_is_written_is_read_again() {
    let layouts = [
        ("chatglm-6b", TensorNaming::ChatGlm6b),
        ("chatglm2-6b", TensorNaming::ChatGlm),
        ("glm4-9b-orig", TensorNaming::ChatGlm),
        ("glm-4-9b-chat-hf", TensorNaming::Hf),
        ("glm4-9b-0414", TensorNaming::Hf),
        ("glm-edge-1.5b-chat", TensorNaming::Gguf),
    ];
    for (fixture, naming) in layouts {
        for use_rslora in [false, true] {
            let spec = spec(fixture);
            let adapter = everything(&spec);
            let files = Files::new();
            let settings = PeftSettings { naming, base: "..".to_owned(), dropout: 0.1, use_rslora };
            adapter.write(files.path(), &spec, &settings).unwrap();
            let Adapter::LowRank(again) = files.read(&spec).unwrap() else { panic!("a prefix") };
            if naming == TensorNaming::Hf || naming == TensorNaming::Gguf {
                // The fused matrix has become three, each with the same A.
                let is_section =
                    |role| matches!(role, WeightRole::Queries | WeightRole::Keys | WeightRole::Values);
                let sections: Vec<_> = again.pairs.iter().filter(|(a, _)| is_section(a.role)).collect();
                assert_eq!(sections.len(), 3 * spec.layers.len());
                let (first, pair) = &adapter.pairs[0];
                assert_eq!((first.role, first.layer), (WeightRole::Qkv, Some(0)));
                let joined: Vec<f32> = sections[..3].iter().flat_map(|(_, pair)| pair.b.clone()).collect();
                assert_eq!(joined, pair.b);
                assert!(sections[..3].iter().all(|(_, section)| section.a == pair.a));
            } else {
                assert_eq!(again.pairs.len(), adapter.pairs.len());
                for ((address, pair), (other, read)) in adapter.pairs.iter().zip(&again.pairs) {
                    assert_eq!(address, other);
                    assert!((pair.scale - read.scale).abs() < 1e-6, "{fixture}: {address:?}");
                    assert_eq!(
                        *pair,
                        LowRank { scale: pair.scale, ..read.clone() },
                        "{fixture}: {address:?}"
                    );
                }
            }
        }
    }
}

/// Whether an adapter with this configuration and these tensors is refused with these words.
fn refused(spec: &DecoderSpec, config: &Value, tensors: &[(&str, &[usize])], words: &[&str]) {
    let files = Files::new();
    files.config("adapter_config.json", config).tensors(WEIGHTS, tensors);
    let error = files.read(spec).unwrap_err();
    assert!(words.iter().all(|word| error.contains(word)), "{error}: should say {words:?}");
    assert!(error.lines().count() == 1 && error.len() < 450, "{error}");
}

#[test]
fn bad_adapters_are_refused_by_name() {
    let spec = spec("glm4-9b-orig");
    let (a, b) = (format!("{QKV}.lora_A.weight"), format!("{QKV}.lora_B.weight"));
    let good: [(&str, &[usize]); 2] = [(&a, &[4, 64]), (&b, &[160, 4])];
    let with = |name: &'static str, shape: &'static [usize]| [good[0], good[1], (name, shape)];
    for (more, words) in [
        (json!({"peft_type": "LOHA"}), ["peft_type", "LOHA"]),
        (json!({"peft_type": null}), ["peft_type", "none"]),
        (json!({"bias": "lora_only"}), ["bias", "lora_only"]),
        (json!({"modules_to_save": ["lm_head"]}), ["modules_to_save", "not supported"]),
        (json!({"use_qalora": true}), ["use_qalora", "not supported"]),
        (json!({"init_lora_weights": "pissa_niter_4"}), ["init_lora_weights", "pissa"]),
        (json!({"r": 0}), ["r is no rank", "65536"]),
        (json!({"r": -1}), ["r is no rank", "65536"]),
        (json!({"lora_alpha": "x"}), ["lora_alpha", "number"]),
        (json!({"rank_pattern": {"(": 3}}), ["rank_pattern", "regular expression"]),
        (json!({"rank_pattern": {"query_key_value": 3}}), ["lora_A", "[3, 64]"]),
        (json!({"alpha_pattern": {"x": null}}), ["alpha_pattern", "number"]),
        (json!({"use_dora": true}), ["lora_magnitude_vector", "query_key_value"]),
        (json!({"target_modules": ["query_key_value", "dense"]}), ["target_modules", "dense"]),
    ] {
        refused(&spec, &lora(more), &good, &words);
    }
    let plain = lora(json!({}));
    refused(
        &spec,
        &plain,
        &with("base_model.model.transformer.encoder.layers.3.mlp.dense_4h_to_h.lora_A.weight", &[4, 4]),
        &["layers.3", "does not have"],
    );
    refused(
        &spec,
        &plain,
        &with("base_model.model.lm_head.weight", &[4, 4]),
        &["lm_head.weight", "LoRA pair"],
    );
    refused(
        &spec,
        &plain,
        &with("base_model.model.x.lora_embedding_A", &[4, 4]),
        &["lora_embedding_A", "LoRA pair"],
    );
    refused(&spec, &plain, &[good[0]], &["query_key_value", "no lora_B"]);
    refused(&spec, &plain, &[good[1]], &["query_key_value", "no lora_A"]);
    refused(&spec, &plain, &[(&a, &[4, 63]), good[1]], &["lora_A", "[4, 63]", "[4, 64]", "another model"]);
    refused(&spec, &plain, &[good[0], (&b, &[159, 4])], &["lora_B", "[159, 4]", "[160, 4]"]);
    refused(&spec, &plain, &[], &["holds no tensor"]);
    let twice = a.replace("lora_A.weight", "lora_A.default.weight");
    refused(&spec, &plain, &[good[0], good[1], (&twice, &[4, 64])], &["lora_A.default.weight", "the same"]);
    let magnitude = format!("{QKV}.lora_magnitude_vector");
    refused(&spec, &plain, &[good[0], good[1], (&magnitude, &[160])], &["lora_magnitude_vector", "use_dora"]);
    let hostile = "\u{1b}[31m\nlora";
    refused(&spec, &plain, &[good[0], good[1], (hostile, &[1])], &["\\u{1b}[31m\\n", "LoRA pair"]);
}

#[test]
fn a_model_whose_rows_have_another_order_takes_none() {
    let mut spec = spec("glm4-9b-orig");
    let path = root().join("fixtures/lora-glm4-9b-orig");
    spec.positions = Positions::OfGrid;
    Adapter::read(&path, &spec).unwrap();
    spec.rope.pairs = RopePairs::Across;
    let error = Adapter::read(&path, &spec).err().unwrap().to_string();
    assert!(error.contains("order") && error.contains("safetensors"), "{error}");
}

#[test]
fn a_number_that_is_not_finite_is_named() {
    let spec = spec("glm4-9b-orig");
    let (a, b) = (format!("{QKV}.lora_A.weight"), format!("{QKV}.lora_B.weight"));
    let files = Files::new();
    let mut bad = numbers(640, 1);
    bad[77] = f32::NAN;
    files.config("adapter_config.json", &lora(json!({})));
    files.numbers(WEIGHTS, &[(&a, &[4, 64], numbers(256, 0)), (&b, &[160, 4], bad)]);
    let error = files.read(&spec).unwrap_err();
    assert!(error.contains("lora_B") && error.contains("77"), "{error}");
}

#[test]
fn files_that_are_none_are_named() {
    let spec = spec("glm4-9b-orig");
    let files = Files::new();
    let error = files.read(&spec).unwrap_err();
    assert!(error.contains("adapter_config.json") && error.contains("pre_seq_len"), "{error}");
    files.config("adapter_config.json", &lora(json!({})));
    let error = files.read(&spec).unwrap_err();
    assert!(error.contains("adapter_model.safetensors") && error.contains("adapter_model.bin"), "{error}");
    std::fs::write(files.path().join(WEIGHTS), b"\x10\0\0\0\0\0\0\0{\"a\"").unwrap();
    let error = files.read(&spec).unwrap_err();
    assert!(error.contains(WEIGHTS), "{error}");
}

fn encoder(spec: &DecoderSpec, slots: usize, projected: bool) -> PrefixEncoder {
    let kv: usize =
        spec.layers.iter().map(|layer| layer.attention.heads()).map(|h| h.k_width() + h.v_width()).sum();
    if !projected {
        let embedding = numbers(slots * kv, 0);
        return PrefixEncoder { slots, shifts_positions: false, embedding, projection: None };
    }
    let (width, middle) = (6, 5);
    let projection = PrefixProjection {
        inner: numbers(middle * width, 1),
        inner_bias: numbers(middle, 2),
        outer: numbers(kv * middle, 3),
        outer_bias: numbers(kv, 4),
    };
    let embedding = numbers(slots * width, 0);
    PrefixEncoder { slots, shifts_positions: false, embedding, projection: Some(projection) }
}

#[test]
fn a_prefix_is_read_as_it_was_written() {
    let cases = [("chatglm-6b", false), ("chatglm2-6b", false), ("glm-4-9b-chat-hf", true)];
    for (fixture, shifts_positions) in cases {
        for projected in [false, true] {
            let spec = spec(fixture);
            let encoder = PrefixEncoder { shifts_positions, ..encoder(&spec, 3, projected) };
            let files = Files::new();
            encoder.write(files.path(), &spec, "base").unwrap();
            let Adapter::Prefix(prefix) = files.read(&spec).unwrap() else { panic!("no prefix") };
            assert_eq!(prefix, encoder.prefix(&spec));
            assert_eq!((prefix.slots, prefix.layers.len()), (3, spec.layers.len()));
        }
    }
}

/// A row of a prefix is `[2 layers, heads, head_dim]`: keys of layer `i` at `2 i`, values after them.
#[test]
fn keys_and_values_take_turns_by_layer() {
    let spec = spec("chatglm-6b");
    let encoder = encoder(&spec, 2, false);
    let prefix = encoder.prefix(&spec);
    let width = 48;
    let row = &encoder.embedding[encoder.embedding.len() / 2..];
    for (i, layer) in prefix.layers.iter().enumerate() {
        assert_eq!(layer.keys[width..], row[2 * i * width..][..width]);
        assert_eq!(layer.values[width..], row[(2 * i + 1) * width..][..width]);
    }
}

/// Names of tensors with their shapes.
type Shapes<'a> = &'a [(&'a str, &'a [usize])];

#[test]
fn bad_prefixes_are_refused_by_name() {
    let spec = spec("chatglm-6b");
    let kv = 28 * 2 * 48;
    let embedding = "transformer.prefix_encoder.embedding.weight";
    let cases: [(Value, Shapes<'_>, &[&str]); 6] = [
        (json!({"pre_seq_len": 0}), &[], &["pre_seq_len"]),
        (json!({"pre_seq_len": 1e30}), &[], &["pre_seq_len"]),
        (json!({"pre_seq_len": 2}), &[(embedding, &[3, 4])], &[embedding, "[3, 4]"]),
        (
            json!({"pre_seq_len": 2}),
            &[("lm_head.weight", &[3, 4])],
            &["lm_head.weight", "no part of a prefix"],
        ),
        (
            json!({"pre_seq_len": 2}),
            &[("transformer.prefix_encoder.trans.0.bias", &[3])],
            &["trans.0.bias", "prefix_projection"],
        ),
        (
            json!({"pre_seq_len": 2, "prefix_projection": true}),
            &[(embedding, &[2, kv])],
            &["trans.0.weight", "missing"],
        ),
    ];
    for (config, tensors, words) in cases {
        let files = Files::new();
        files.config("config.json", &config);
        files.tensors("model.safetensors", tensors);
        let error = files.read(&spec).unwrap_err();
        assert!(words.iter().all(|word| error.contains(word)), "{error}: should say {words:?}");
    }
}

#[test]
fn bad_prefixes_of_pefts_are_refused_by_name() {
    let spec = spec("glm-4-9b-chat-hf");
    let good =
        json!({"peft_type": "PREFIX_TUNING", "num_virtual_tokens": 2, "token_dim": 32, "num_layers": 3});
    let cases: [(&str, Value, Shapes<'_>, &[&str]); 6] = [
        ("num_virtual_tokens", json!(0), &[], &["num_virtual_tokens", "context"]),
        ("token_dim", json!(64), &[], &["token_dim is 64", "needs 32"]),
        ("num_layers", json!(40), &[], &["num_layers is 40", "needs 3"]),
        ("num_transformer_submodules", json!(2), &[], &["num_transformer_submodules"]),
        ("revision", json!(null), &[("prompt_embeddings", &[3, 192])], &["prompt_embeddings", "[3, 192]"]),
        (
            "revision",
            json!(null),
            &[("embedding.weight", &[2, 192])],
            &["embedding.weight", "no part of a prefix"],
        ),
    ];
    for (key, value, tensors, words) in cases {
        let files = Files::new();
        let mut config = good.clone();
        config[key] = value;
        files.config("adapter_config.json", &config);
        files.tensors("adapter_model.safetensors", tensors);
        let error = files.read(&spec).unwrap_err();
        assert!(words.iter().all(|word| error.contains(word)), "{error}: should say {words:?}");
    }
}

/// The checkpoint of ChatGLM-6B's own code, where the shared fixtures are there.
#[test]
fn chatglms_own_prefix_is_read() {
    let path: PathBuf = root().join("../shared/fixtures/ptuning-chatglm-6b");
    if !path.is_dir() {
        println!("skipped: {} is not there", path.display());
        return;
    }
    let spec = support::open(&path, None).1.spec;
    let Adapter::Prefix(prefix) = Adapter::read(&path.join("prefix_init"), &spec).unwrap() else {
        panic!("no prefix")
    };
    assert_eq!(prefix.slots, 8);
}
