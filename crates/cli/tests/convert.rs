//! `glimmer convert`: what comes out computes what went in, in every layout and type; nothing is left of what fails.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::path::{Path, PathBuf};

use glimmer_checkpoint::gguf::Strings;
use glimmer_checkpoint::safetensors::SafetensorsFile;
use glimmer_checkpoint::{Checkpoint, NewTensor};
use glimmer_models::understand;
use glimmer_models::vision::VisionSpec;
use glimmer_tensor::DType;
use glimmer_tensor::quant::encode_row;
use serde_json::{Value, json};
use support::seeing::seeing;
use support::{FIXTURES, Ran, Stored, copy_of, distance, fixture, run, tolerance};

fn convert(from: &Path, to: &Path, flags: &[&str]) -> Ran {
    support::glimmer().arg("convert").args([from, to]).args(flags).output().unwrap().into()
}

/// A run without the warnings that came before its failure.
fn without_warnings(mut ran: Ran) -> Ran {
    ran.stderr =
        ran.stderr.lines().filter(|line| !line.starts_with("warning: ")).map(|l| format!("{l}\n")).collect();
    ran
}

/// Converts, whatever it warns of, and answers where to.
#[track_caller]
fn converted(from: &Path, to: PathBuf, flags: &[&str]) -> PathBuf {
    let ran = convert(from, &to, flags);
    assert_eq!((ran.status, ran.stdout.as_str()), (0, ""), "{}", ran.stderr);
    let expected = |line: &str| line.starts_with("warning: ") || line.starts_with("note: ");
    assert!(ran.stderr.lines().all(expected), "{}", ran.stderr);
    to
}

/// Logits of a fixture's stored prompts on a model made from it, and how far they are from the stored ones.
fn error(name: &str, model: &Path) -> f32 {
    let expected = Stored::open(&fixture(name).join("expected.safetensors"));
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("logits.safetensors");
    let mut worst = 0f32;
    for prompt in ["short", "long"] {
        let ids = expected.ids(&format!("{prompt}.input_ids"));
        run(args!["logits", model, "--ids", ids, "-o", out]).quiet_success();
        worst = worst
            .max(distance(&Stored::open(&out).f32("logits"), &expected.f32(&format!("{prompt}.logits"))));
    }
    worst
}

/// What a model says of itself must be what its source says.
fn same_spec(source: &Path, model: &Path) {
    let spec = |path: &Path| understand(&Checkpoint::open(path).unwrap(), None).unwrap().spec;
    let (mut expected, found) = (spec(source), spec(model));
    // Whether the head may be the embedding is only asked where no head is stored.
    expected.tied = found.tied;
    assert_eq!(found, expected, "{}", model.display());
}

/// Fixture, to GGUF, to directory; fixture, to directory, to GGUF: all four compute the fixture's logits.
#[test]
fn every_layout_becomes_every_other() {
    let directory = tempfile::tempdir().unwrap();
    for name in FIXTURES {
        let at = |what: &str| directory.path().join(format!("{name}{what}"));
        let source = fixture(name);
        let gguf = converted(&source, at(".gguf"), &["--type", "F32"]);
        let folder = converted(&source, at(""), &["--type", "f32"]);
        let back = converted(&gguf, at("-back"), &[]);
        let forth = converted(&folder, at("-forth.gguf"), &[]);
        for model in [gguf, folder, back, forth] {
            let d = error(name, &model);
            assert!(d <= tolerance(name), "{}: {d}", model.display());
            same_spec(&source, &model);
        }
    }
}

/// Without `--type` weights keep their type, and so their values.
#[test]
fn types_are_kept_unless_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    for (name, stored) in [
        ("chatglm-6b", DType::F16),
        ("chatglm2-6b-int8", DType::F16),
        ("chatglm3-6b", DType::F16),
        ("glm4-9b-orig", DType::BF16),
        ("glm-edge-1.5b-chat", DType::BF16),
        ("glm4-9b-0414", DType::BF16),
    ] {
        let gguf = converted(&fixture(name), directory.path().join(format!("{name}.gguf")), &[]);
        let folder = converted(&fixture(name), directory.path().join(name), &[]);
        let decoded = name.ends_with("int8");
        for model in [&gguf, &folder] {
            let checkpoint = Checkpoint::open(model).unwrap();
            let matrices = checkpoint.tensors().iter().filter(|t| t.shape.len() == 2);
            assert!(matrices.into_iter().all(|t| t.dtype == stored), "{}", model.display());
            let vectors: Vec<_> = checkpoint.tensors().iter().filter(|t| t.shape.len() == 1).collect();
            let kept = if *model == gguf { DType::F32 } else { stored };
            assert!(vectors.iter().all(|t| t.dtype == kept), "{}", model.display());
            // INT8 times its scale has more bits than F16.
            let d = error(name, model);
            assert!(d <= if decoded { 0.05 } else { tolerance(name) }, "{}: {d}", model.display());
        }
    }
}

/// Every quantized type: the bytes are the encoding of the exact weights, and the model answers.
#[test]
fn every_type_is_the_rounding_of_the_exact_weights() {
    // Where the blocks of the type on the left do not divide a row; `None` where those of the substitute do not either.
    let substitute = |dtype: DType| match dtype {
        DType::Q2_K | DType::Q3_K => DType::Q4_0,
        DType::Q4_K => DType::Q5_0,
        DType::Q5_K => DType::Q5_1,
        DType::Q6_K => DType::Q8_0,
        other => other,
    };
    let types = [
        DType::F16,
        DType::BF16,
        DType::Q4_0,
        DType::Q4_1,
        DType::Q5_0,
        DType::Q5_1,
        DType::Q8_0,
        DType::Q2_K,
        DType::Q3_K,
        DType::Q4_K,
        DType::Q5_K,
        DType::Q6_K,
    ];
    let directory = tempfile::tempdir().unwrap();
    for name in ["glm4-9b-orig-k256", "glm-edge-k256", "glm4-9b-0414", "chatglm-6b"] {
        let exact =
            converted(&fixture(name), directory.path().join(format!("{name}.gguf")), &["--type", "F32"]);
        let exact = Checkpoint::open(&exact).unwrap();
        for dtype in types {
            let path = directory.path().join(format!("{name}-{dtype}.gguf"));
            let path = converted(&fixture(name), path, &["--type", dtype.name()]);
            let made = Checkpoint::open(&path).unwrap();
            assert_eq!(made.tensors().len(), exact.tensors().len());
            for tensor in made.tensors() {
                let values = exact.vector_f32(&tensor.name).unwrap();
                let width = *tensor.shape.last().unwrap();
                let fits = |dtype: &DType| width.is_multiple_of(dtype.block_len());
                let expected = match tensor.shape.len() {
                    1 => DType::F32,
                    _ => [dtype, substitute(dtype), DType::F16].into_iter().find(fits).unwrap(),
                };
                assert_eq!(tensor.dtype, expected, "{name}, {dtype}: {}", tensor.name);
                let mut bytes = Vec::new();
                encode_row(expected, &values, &mut bytes).unwrap();
                assert!(made.tensor(&tensor.name).unwrap().data == bytes, "{name}, {dtype}: {}", tensor.name);
            }
            assert!(error(name, &path).is_finite());
        }
    }
}

/// What was written can be read: every fixture, and every kind of tokenizer, in every type, as a file and as a directory.
#[test]
fn what_convert_writes_inspect_reads() {
    let scratch = tempfile::tempdir().unwrap();
    let mut sources: Vec<PathBuf> = FIXTURES.iter().map(|name| fixture(name)).collect();
    sources.push(fixture("lm-eval"));
    let tokenizers = support::root().join("crates/tokenizer/tests/data");
    for name in ["chatglm-6b", "chatglm2-6b", "glm-edge", "glm4-hf", "glm4-tiktoken"] {
        let source = scratch.path().join(format!("with-{name}"));
        std::fs::create_dir(&source).unwrap();
        for file in std::fs::read_dir(tokenizers.join(name)).unwrap().map(|file| file.unwrap().path()) {
            std::fs::copy(&file, source.join(file.file_name().unwrap())).unwrap();
        }
        let report = run(args!["inspect", source, "--json"]);
        let report: Value = serde_json::from_str(&report.stdout).unwrap();
        // Room for ids of special tokens beyond the others.
        tiny_model(&source, report["tokenizer"]["tokens"].as_u64().unwrap() as usize + 64);
        sources.push(source);
    }
    let types = ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_K_M", "Q2_K"];
    for source in &sources {
        for (at, dtype) in [None].into_iter().chain(types.map(Some)).enumerate() {
            let flags: Vec<&str> = dtype.iter().flat_map(|dtype| ["--type", dtype]).collect();
            let name = format!("{}-{at}", source.file_name().unwrap().to_string_lossy());
            let gguf = converted(source, scratch.path().join(format!("{name}.gguf")), &flags);
            run(args!["inspect", gguf]).quiet_success();
            if at <= 3 {
                let folder = converted(source, scratch.path().join(&name), &flags);
                run(args!["inspect", folder]).quiet_success();
                let back = converted(&gguf, scratch.path().join(format!("{name}-back")), &[]);
                run(args!["inspect", back]).quiet_success();
            }
        }
    }
}

/// A tokenizer that nobody could read afterwards does not go along without a word.
#[test]
fn a_tokenizer_that_cannot_be_read_is_refused_or_left_out() {
    let source = copy_of("glm-edge-1.5b-chat");
    std::fs::write(source.path().join("tokenizer.json"), r#"{"model": {"type": "Unigram"}}"#).unwrap();
    std::fs::write(source.path().join("LICENSE"), "free").unwrap();
    let target = tempfile::tempdir().unwrap();
    for name in ["a", "a.gguf"] {
        let out = target.path().join(name);
        convert(source.path(), &out, &[]).fails_saying(&["tokenizer.json", "--no-tokenizer"]);
        assert!(!out.exists());
        converted(source.path(), out.clone(), &["--no-tokenizer"]);
        run(args!["inspect", out]).quiet_success();
        assert!(error("glm-edge-1.5b-chat", &out) < 1e-3);
    }
    let names = |name: &str| target.path().join("a").join(name).exists();
    assert!(names("LICENSE") && !names("tokenizer.json"));

    // Nor does one from GGUF to GGUF: this file's lists fewer tokens than there are bytes.
    let foreign = support::root().join("crates/models/tests/data/llamacpp/F16.gguf");
    let out = target.path().join("foreign.gguf");
    convert(&foreign, &out, &[]).fails_saying(&["byte 0x00 has no token", "--no-tokenizer"]);
    assert!(!out.exists());
    converted(&foreign, out.clone(), &["--no-tokenizer"]);
    run(args!["inspect", out]).quiet_success();

    // A vocabulary inside a GGUF is left out of both forms, too.
    let gguf = converted(&fixture("lm-eval"), target.path().join("eval.gguf"), &[]);
    for name in ["b", "b.gguf"] {
        let out = converted(&gguf, target.path().join(name), &["--no-tokenizer"]);
        let report = run(args!["inspect", out, "--json"]).quiet_success();
        let report: Value = serde_json::from_str(&report).unwrap();
        assert!(report["tokenizer"].is_null() && report["config"]["vocab"] == 768, "{report}");
    }
}

/// transformers' classes make no bias where the configuration promises none, and do not load one that is stored: the
/// answers are those of biases of zero (modeling_glm4.py: `nn.Linear(..., bias=config.attention_bias)`).
#[test]
fn biases_that_nobody_promised_are_left_out_and_warned_of() {
    let zeroed = copy_of("glm4-9b-0414");
    let checkpoint = Checkpoint::open(zeroed.path()).unwrap();
    for tensor in checkpoint.tensors().iter().filter(|tensor| tensor.name.ends_with(".bias")) {
        let mut bytes = std::fs::read(&tensor.file).unwrap();
        bytes[tensor.offset as usize..][..tensor.bytes].fill(0);
        std::fs::write(&tensor.file, bytes).unwrap();
    }
    let logits = |model: &Path| {
        let out = model.join("logits.safetensors");
        let ran = run(args!["logits", model, "--ids", "5,6,7,8,9,10", "-o", out]);
        assert_eq!(ran.status, 0, "{}", ran.stderr);
        (Stored::open(&out).f32("logits"), ran.stderr)
    };
    let (with_biases, _) = logits(copy_of("glm4-9b-0414").path());
    let (of_zeros, _) = logits(zeroed.path());
    let unpromised = copy_of("glm4-9b-0414");
    set_config(unpromised.path(), "attention_bias", false.into());
    let (left_out, warning) = logits(unpromised.path());
    assert!(
        warning.starts_with("warning: 9 biases are stored") && warning.contains("q_proj.bias"),
        "{warning}"
    );
    assert!(warning.chars().count() <= 300 && warning.lines().count() == 1, "{warning}");
    assert_eq!(left_out, of_zeros);
    assert!(distance(&left_out, &with_biases) > 1e-3);

    // What nobody promised is not converted either.
    let out = unpromised.path().join("out");
    let ran = convert(unpromised.path(), &out, &[]);
    assert!(ran.status == 0 && ran.stderr.contains("9 tensors play no part"), "{}", ran.stderr);
    assert!(!Checkpoint::open(&out).unwrap().tensors().iter().any(|tensor| tensor.name.ends_with(".bias")));
    // Where nothing is said, what is stored counts.
    set_config(unpromised.path(), "attention_bias", Value::Null);
    let (stored, warning) = logits(unpromised.path());
    assert_eq!((stored, warning.as_str()), (with_biases, ""));
}

/// The original repositories' class promises biases by `add_qkv_bias` and `add_bias_linear`, both false by default
/// (configuration_chatglm.py and modeling_chatglm.py of THUDM/glm-4-9b-chat).
#[test]
fn the_original_layout_leaves_them_out_as_well() {
    let source = copy_of("glm4-9b-orig");
    set_config(source.path(), "add_qkv_bias", false.into());
    let ran = run(args!["inspect", source.path()]);
    assert!(ran.status == 0 && ran.stderr.contains("biases are stored"), "{}", ran.stderr);
    assert!(ran.stdout.contains("biases     none"), "{}", ran.stdout);
}

/// The model inside the program lies in no file, whatever lies at OUT.
#[test]
fn the_demo_model_is_converted_like_any_other() {
    let directory = tempfile::tempdir().unwrap();
    let demo = Path::new("demo");
    for name in ["a.gguf", "a"] {
        let out = directory.path().join(name);
        converted(demo, out.clone(), &[]);
        convert(demo, &out, &[]).fails_saying(&[name, "exists", "--force"]);
        converted(demo, out.clone(), &["--force"]);
        run(args!["inspect", out]).quiet_success();
    }
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2, "something temporary is left");
}

/// Packed blocks go from GGUF to GGUF as they are, types that cannot be encoded among them, and so does a vocabulary.
#[test]
fn a_gguf_keeps_its_blocks() {
    let directory = tempfile::tempdir().unwrap();
    let with_vocabulary =
        converted(&fixture("lm-eval"), directory.path().join("eval.gguf"), &["--type", "Q4_0"]);
    // llama.cpp's have vocabularies of no model.
    let without = ["Q4_K", "IQ4_NL", "IQ4_XS", "mix-edge", "mix-0414"].map(|name| {
        (
            support::root().join(format!("crates/models/tests/data/llamacpp/{name}.gguf")),
            &["--no-tokenizer"][..],
        )
    });
    for (source, flags) in without.into_iter().chain([(with_vocabulary, &[][..])]) {
        let name = source.file_stem().unwrap().to_string_lossy();
        let copy = converted(&source, directory.path().join(format!("{name}-copy.gguf")), flags);
        let (before, after) = (Checkpoint::open(&source).unwrap(), Checkpoint::open(&copy).unwrap());
        assert_eq!(before.tensors().len(), after.tensors().len());
        for tensor in before.tensors() {
            let other = after.tensor(&tensor.name).unwrap();
            assert_eq!((other.info.dtype, &other.info.shape), (tensor.dtype, &tensor.shape));
            assert!(other.data == before.tensor(&tensor.name).unwrap().data, "{name}: {}", tensor.name);
        }
        same_spec(&source, &copy);
        let (before, after) = (before.metadata().unwrap(), after.metadata().unwrap());
        let vocabulary: Vec<_> = before.iter().filter(|(key, _)| key.starts_with("tokenizer.")).collect();
        assert!(!vocabulary.is_empty());
        for (key, value) in vocabulary.into_iter().filter(|_| flags.is_empty()) {
            assert_eq!(after.value(key), Some(value), "{key}");
        }
    }
}

#[test]
fn threads_do_not_change_a_byte() {
    let directory = tempfile::tempdir().unwrap();
    let made = ["1", "2", "5"].map(|threads| {
        let path = directory.path().join(format!("{threads}.gguf"));
        let path = converted(&fixture("chatglm-6b-int4"), path, &["--type", "Q4_K_M", "--threads", threads]);
        std::fs::read(path).unwrap()
    });
    assert!(made[0] == made[1] && made[0] == made[2]);
}

/// A directory with one layer of zeros (the norms are ones) whose embedding has `rows` rows.
fn tiny_model(directory: &Path, rows: usize) {
    let (hidden, ffn, head) = (32, 32, 8);
    let layer = |name: &str| format!("model.layers.0.{name}.weight");
    let tensors: Vec<NewTensor> = [
        ("model.embed_tokens.weight".to_owned(), vec![rows, hidden]),
        ("lm_head.weight".to_owned(), vec![rows, hidden]),
        ("model.norm.weight".to_owned(), vec![hidden]),
        (layer("input_layernorm"), vec![hidden]),
        (layer("post_attention_layernorm"), vec![hidden]),
        (layer("self_attn.q_proj"), vec![hidden, hidden]),
        (layer("self_attn.k_proj"), vec![2 * head, hidden]),
        (layer("self_attn.v_proj"), vec![2 * head, hidden]),
        (layer("self_attn.o_proj"), vec![hidden, hidden]),
        (layer("mlp.gate_up_proj"), vec![2 * ffn, hidden]),
        (layer("mlp.down_proj"), vec![hidden, ffn]),
    ]
    .map(|(name, shape)| NewTensor { name, dtype: DType::F16, shape })
    .to_vec();
    let mut file =
        SafetensorsFile::create(&directory.join("model.safetensors"), &tensors, &[("format", "pt")]).unwrap();
    for tensor in &tensors {
        let one = if tensor.shape.len() == 1 { [0x00, 0x3c] } else { [0, 0] };
        file.write(&tensor.name, &one.repeat(tensor.shape.iter().product())).unwrap();
    }
    file.finish().unwrap();
    let config = json!({
        "architectures": ["GlmForCausalLM"],
        "model_type": "glm",
        "_name_or_path": "zai-org/glm-edge-1.5b-chat",
        "hidden_size": hidden,
        "num_hidden_layers": 1,
        "num_attention_heads": hidden / head,
        "num_key_value_heads": 2,
        "head_dim": head,
        "intermediate_size": ffn,
        "vocab_size": rows,
        "max_position_embeddings": 8192,
        "partial_rotary_factor": 1.0,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "eos_token_id": [1256, 1263, 1265],
        "pad_token_id": 1256,
    });
    std::fs::write(directory.join("config.json"), config.to_string()).unwrap();
}

const TEXTS: [&str; 4] =
    ["The quick brown fox", "你好，世界", "  def f(x):\n    return x ** 2\n\n", "Ünïcödé 12345 <|user|>"];

fn ids(model: &Path, text: &str) -> String {
    run(args!["tokenize", model, text]).quiet_success()
}

/// The vocabulary goes into a GGUF, padded to the embedding's rows, and out of it again.
#[test]
fn a_vocabulary_goes_along() {
    let scratch = tempfile::tempdir().unwrap();
    let source = scratch.path().join("source");
    std::fs::create_dir(&source).unwrap();
    tiny_model(&source, 1280);
    let tokenizers = support::root().join("crates/tokenizer/tests/data");
    std::fs::copy(tokenizers.join("glm-edge/tokenizer.json"), source.join("tokenizer.json")).unwrap();
    let template = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}";
    let config = json!({"chat_template": [{"name": "default", "template": template}]});
    std::fs::write(source.join("tokenizer_config.json"), config.to_string()).unwrap();
    std::fs::write(source.join("generation_config.json"), r#"{"temperature": 0.8, "top_k": 40}"#).unwrap();

    let gguf = converted(&source, scratch.path().join("model.gguf"), &[]);
    let checkpoint = Checkpoint::open(&gguf).unwrap();
    let metadata = checkpoint.metadata().unwrap();
    let tokens = metadata.need::<&Strings>("tokenizer.ggml.tokens").unwrap();
    assert_eq!(tokens.len(), 1280);
    assert_eq!(tokens.get(1279), Some("[PAD1279]"));
    assert_eq!(
        tokens.iter().collect::<std::collections::HashSet<_>>().len(),
        1280,
        "llama.cpp wants them unique"
    );
    assert_eq!(metadata.need::<Vec<i32>>("tokenizer.ggml.token_type").unwrap()[1279], 5);
    assert_eq!(metadata.need::<&str>("tokenizer.chat_template").unwrap(), template);
    let key = |name: &str| metadata.get::<u32>(&format!("tokenizer.ggml.{name}_token_id")).unwrap();
    let mut ends = [key("eos"), key("eot"), key("eom")].map(Option::unwrap);
    ends.sort_unstable();
    assert_eq!(ends, [1256, 1263, 1265]);
    assert_eq!(key("padding"), Some(1256));

    let back = converted(&gguf, scratch.path().join("back"), &[]);
    assert_eq!(std::fs::read_to_string(back.join("chat_template.jinja")).unwrap(), template);
    let read =
        |name: &str| -> Value { serde_json::from_slice(&std::fs::read(back.join(name)).unwrap()).unwrap() };
    assert_eq!(read("config.json")["eos_token_id"].as_array().unwrap().len(), 3);
    let sampling = read("generation_config.json");
    assert_eq!((&sampling["pad_token_id"], &sampling["top_k"]), (&json!(1256), &json!(40)));
    assert_eq!(sampling["temperature"], 0.8);
    for text in TEXTS {
        assert_eq!(ids(&gguf, text), ids(&source, text), "{text}");
        assert_eq!(ids(&back, text), ids(&source, text), "{text}");
    }

    let folder = converted(&source, scratch.path().join("folder"), &[]);
    for name in ["tokenizer.json", "tokenizer_config.json"] {
        assert_eq!(std::fs::read(folder.join(name)).unwrap(), std::fs::read(source.join(name)).unwrap());
    }
    let config: Value =
        serde_json::from_slice(&std::fs::read(folder.join("generation_config.json")).unwrap()).unwrap();
    assert_eq!(config, json!({"temperature": 0.8, "top_k": 40}));
}

#[test]
fn a_tokenizer_of_another_model_is_refused() {
    let source = copy_of("glm4-9b-0414");
    let tokenizers = support::root().join("crates/tokenizer/tests/data");
    std::fs::copy(tokenizers.join("glm-edge/tokenizer.json"), source.path().join("tokenizer.json")).unwrap();
    let out = source.path().join("out.gguf");
    convert(source.path(), &out, &[]).fails_saying(&["1270 tokens", "320 rows"]);
    assert!(!out.exists());
}

#[test]
fn nothing_is_replaced_without_force() {
    let directory = tempfile::tempdir().unwrap();
    let (file, folder) = (directory.path().join("a.gguf"), directory.path().join("a"));
    let source = fixture("glm-edge-1.5b-chat");
    std::fs::write(&file, "precious").unwrap();
    convert(&source, &file, &[]).fails_saying(&["a.gguf", "exists", "--force"]);
    assert_eq!(std::fs::read(&file).unwrap(), b"precious");
    converted(&source, file.clone(), &["--force"]);
    assert!(error("glm-edge-1.5b-chat", &file) < 1e-3);

    // A directory is replaced when it is a model, never when it is something else.
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("letter.txt"), "precious").unwrap();
    convert(&source, &folder, &[]).fails_saying(&["not empty", "--force"]);
    convert(&source, &folder, &["--force"]).fails_saying(&["does not look like a model"]);
    assert_eq!(std::fs::read(folder.join("letter.txt")).unwrap(), b"precious");
    std::fs::write(folder.join("config.json"), "{}").unwrap();
    converted(&source, folder.clone(), &["--force"]);
    assert!(!folder.join("letter.txt").exists());
    assert!(error("glm-edge-1.5b-chat", &folder) < 1e-3);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2, "something temporary is left");
}

#[test]
fn a_model_is_not_written_over_itself() {
    let copy = copy_of("glm-edge-1.5b-chat");
    let words = ["is read from", "another OUT"];
    convert(copy.path(), copy.path(), &["--force"]).fails_saying(&words);
    let file = copy.path().join("a.gguf");
    converted(copy.path(), file.clone(), &[]);
    convert(&file, &file, &["--force"]).fails_saying(&words);
    convert(&file, &copy.path().join("../").join(copy.path().file_name().unwrap()), &["--force"])
        .fails_saying(&words);
    assert!(error("glm-edge-1.5b-chat", &file) < 1e-3);
}

#[test]
fn targets_that_make_no_sense() {
    let source = fixture("glm-edge-1.5b-chat");
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    convert(&source, &at("a.gguf"), &["--type", "IQ4_XS"]).refuses_usage(&[
        "IQ",
        "read, but not written",
        "Q4_K",
    ]);
    convert(&source, &at("a.gguf"), &["--type", "Q9"]).refuses_usage(&["Q9", "Q8_0"]);
    convert(&source, &at("a"), &["--type", "Q4_K"]).refuses_usage(&["F32, F16 or BF16", ".gguf"]);
    convert(&source, &at("a.safetensors"), &[]).refuses_usage(&[".gguf", "directory"]);
    without_warnings(convert(&source, &at("no/such/a.gguf"), &[])).fails_saying(&["no/such/a.gguf"]);
    convert(&at("nothing"), &at("a.gguf"), &[]).fails_saying(&["nothing", "no such file"]);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}

/// Sets the number at `index` of a BF16 tensor in a copy of a fixture.
fn set_weight(directory: &Path, tensor: &str, index: usize, bits: u16) {
    let path =
        Checkpoint::open(directory).unwrap().info(tensor).map(|t| (t.file.to_path_buf(), t.offset as usize));
    let (path, offset) = path.unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[offset + 2 * index..][..2].copy_from_slice(&bits.to_le_bytes());
    std::fs::write(path, bytes).unwrap();
}

/// A fault in the middle of the weights is found in the middle of writing; nothing of the target is left.
#[test]
fn what_fails_leaves_nothing() {
    let source = copy_of("glm4-9b-0414");
    let target = tempfile::tempdir().unwrap();
    let nothing_left = || assert_eq!(std::fs::read_dir(target.path()).unwrap().count(), 0);
    let (file, folder) = (target.path().join("a.gguf"), target.path().join("a"));

    // A number that F16 cannot hold: 2^20.
    set_weight(source.path(), "model.layers.1.mlp.down_proj.weight", 200, 0x4980);
    for out in [&file, &folder] {
        let what = if *out == file { "blk.1.ffn_down.weight" } else { "model.layers.1.mlp.down_proj.weight" };
        let ran = without_warnings(convert(source.path(), out, &["--type", "F16"]));
        ran.fails_saying(&[what, "value 200 is 1048576", "F16"]);
        nothing_left();
    }
    set_weight(source.path(), "model.layers.1.mlp.down_proj.weight", 200, 0x7fc0);
    for flags in [&[][..], &["--type", "F32"], &["--type", "Q4_K"]] {
        for out in [&file, &folder] {
            if *out == folder && flags.contains(&"Q4_K") {
                continue;
            }
            let words = ["safetensors", "model.layers.1.mlp.down_proj.weight", "NaN"];
            without_warnings(convert(source.path(), out, flags)).fails_saying(&words);
            nothing_left();
        }
    }
}

/// Begins to convert a model that takes a while, and waits until something is written.
#[cfg(unix)]
fn begun(source: &Path, out: &Path, program: Option<&str>) -> std::process::Child {
    let glimmer = support::glimmer();
    let mut command = match program {
        None => glimmer,
        // The shell's child has what the shell has ignored.
        Some(script) => {
            let mut shell = std::process::Command::new("sh");
            shell.args(["-c", script, "sh"]).arg(glimmer.get_program());
            shell
        }
    };
    command.arg("convert").args([source, out]).args(["--type", "Q5_1", "--threads", "1"]);
    let mut child = command.stderr(std::process::Stdio::piped()).spawn().unwrap();
    while std::fs::read_dir(out.parent().unwrap()).unwrap().count() == 0
        && child.try_wait().unwrap().is_none()
    {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    child
}

#[cfg(unix)]
fn signal(child: &std::process::Child, name: &str) -> bool {
    let kill =
        std::process::Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status();
    kill.is_ok_and(|status| status.success())
}

/// A signal in the middle leaves nothing, unless it comes too late.
#[test]
#[cfg(unix)]
fn an_interruption_leaves_nothing() {
    let source = tempfile::tempdir().unwrap();
    tiny_model(source.path(), 1 << 19);
    for name in ["INT", "TERM", "HUP", "QUIT", "USR1", "ALRM", "XCPU"] {
        for out in ["a.gguf", "a"] {
            let target = tempfile::tempdir().unwrap();
            let out = target.path().join(out);
            // A directory takes no quantized type.
            let mut child = if out.extension().is_some() {
                begun(source.path(), &out, None)
            } else {
                let script = "exec \"$1\" convert \"$3\" \"$4\" --type F32 --threads 1";
                begun(source.path(), &out, Some(script))
            };
            let sent = signal(&child, name);
            if child.wait().unwrap().code() != Some(0) && sent {
                let ran: Ran = child.wait_with_output().unwrap().into();
                without_warnings(ran).fails_saying(&["interrupted"]);
                assert_eq!(std::fs::read_dir(target.path()).unwrap().count(), 0, "{name}");
            } else {
                println!("it was done before {name} came");
                assert!(out.exists());
            }
        }
    }
}

/// What `nohup` has switched off stays switched off.
#[test]
#[cfg(target_os = "linux")]
fn an_ignored_signal_stays_ignored() {
    let source = tempfile::tempdir().unwrap();
    tiny_model(source.path(), 1 << 17);
    let target = tempfile::tempdir().unwrap();
    let out = target.path().join("a.gguf");
    let child = begun(source.path(), &out, Some("trap '' HUP; exec \"$@\""));
    signal(&child, "HUP");
    let ran: Ran = child.wait_with_output().unwrap().into();
    assert!(ran.status == 0 && out.exists(), "{}", ran.stderr);
}

/// Nobody can clean up after `kill -9` but the next run, which says so.
#[test]
#[cfg(unix)]
fn the_next_run_clears_away_what_a_killed_one_left() {
    let source = tempfile::tempdir().unwrap();
    tiny_model(source.path(), 1 << 19);
    let target = tempfile::tempdir().unwrap();
    let out = target.path().join("a.gguf");
    let mut child = begun(source.path(), &out, None);
    signal(&child, "KILL");
    child.wait().unwrap();
    if out.exists() {
        println!("it was done before the signal came");
        return;
    }
    assert_eq!(std::fs::read_dir(target.path()).unwrap().count(), 1);
    let ran = convert(&fixture("glm-edge-1.5b-chat"), &out, &[]);
    assert!(
        ran.status == 0 && ran.stderr.contains("left by a run that was killed, removed"),
        "{}",
        ran.stderr
    );
    assert_eq!(std::fs::read_dir(target.path()).unwrap().count(), 1);
    assert!(out.exists());
}

/// Rewrites a model's `config.json`.
fn set_config(directory: &Path, key: &str, value: Value) {
    let path = directory.join("config.json");
    let mut config: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    config[key] = value;
    std::fs::write(path, config.to_string()).unwrap();
}

#[test]
fn what_is_left_out_or_missing_is_named() {
    let source = copy_of("glm4-9b-0414");
    let out = source.path().join("a.gguf");
    set_config(source.path(), "num_hidden_layers", 2.into());
    let ran = convert(source.path(), &out, &[]);
    assert_eq!(ran.status, 0);
    assert!(
        ran.stderr.contains("13 tensors play no part") && ran.stderr.contains("model.layers.2."),
        "{}",
        ran.stderr
    );
    set_config(source.path(), "num_hidden_layers", 4.into());
    let words = ["model.layers.3.input_layernorm.weight", "missing"];
    convert(source.path(), &out, &["--force"]).fails_saying(&words);
    assert_eq!(
        understand(&Checkpoint::open(&out).unwrap(), None).unwrap().spec.layers.len(),
        2,
        "the old file stays"
    );
}

/// A GGUF of a model that sees has its vision tower beside it, in the types that towers have; one that llama.cpp has no form
/// for is left out, and that is said.
#[test]
fn a_tower_is_written_beside_its_model() {
    let shared = support::root().join("../shared/fixtures");
    let (edge, glm_4v) = (shared.join("glm-edge-v-2b"), shared.join("glm-4v-9b"));
    if !edge.exists() || !glm_4v.exists() {
        println!("SKIPPED: {} is not there", shared.display());
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    for (types, expected) in [("F16", DType::F16), ("Q4_0", DType::F16), ("F32", DType::F32)] {
        let out = directory.path().join(format!("{types}.gguf"));
        let ran = convert(&edge, &out, &["--type", types, "--no-tokenizer"]);
        assert_eq!(ran.status, 0, "{}", ran.stderr);
        let mmproj = Checkpoint::open(&directory.path().join(format!("mmproj-{types}.gguf"))).unwrap();
        assert_eq!(mmproj.info("v.blk.1.attn_q.weight").unwrap().dtype, expected);
        let tower = VisionSpec::of(&mmproj).unwrap().unwrap();
        assert_eq!(tower.image_side(), Some(56));
        assert!(!ran.stderr.contains("adapter"), "{}", ran.stderr);
    }
    let ran = convert(&glm_4v, &directory.path().join("4v.gguf"), &["--no-tokenizer"]);
    assert!(ran.stderr.contains("llama.cpp has no form for the vision tower"), "{}", ran.stderr);
    assert!(!directory.path().join("mmproj-4v.gguf").exists());
}

/// A BMP of 84 x 84, which every processor takes as it is.
fn picture(path: &Path) {
    const SIDE: u32 = 84;
    let mut bytes = b"BM".to_vec();
    // Bytes of the file, nothing, where pixels begin; bytes of this header, sides, planes and bits, nothing more.
    let pixels = 3 * SIDE * SIDE;
    for number in [54 + pixels, 0, 54, 40, SIDE, SIDE, 1 | 24 << 16, 0, pixels, 0, 0, 0, 0] {
        bytes.extend(number.to_le_bytes());
    }
    bytes.extend((0..pixels).map(|at| (at * at / 97 % 251) as u8));
    std::fs::write(path, bytes).unwrap();
}

/// What is said of a picture, in ids.
fn said(model: &Path, flags: &[&str]) -> Ran {
    let folder = tempfile::tempdir().unwrap();
    let shown = folder.path().join("picture.bmp");
    picture(&shown);
    let words = args!["-q", "run", model, "-i", shown, "What is it?", "--print-ids", "-n", "16"];
    let more = ["--temperature", "0", "--compute", "f32"].iter().chain(flags).map(Into::into);
    run(words.into_iter().chain(more))
}

/// In llama.cpp's two files and in another folder a model says the same of a picture, and has the same logits without one.
#[test]
fn a_model_that_sees_sees_the_same_in_every_layout() {
    for name in ["glm-4.1v-9b", "glm-ocr"] {
        let model = tempfile::tempdir().unwrap();
        if !seeing(model.path(), name) {
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let place = |name: &str| directory.path().join(name);
        let wanted = said(model.path(), &[]);
        assert_eq!(wanted.status, 0, "{}", wanted.stderr);
        let folder = converted(model.path(), place("folder"), &["--type", "F32"]);
        let gguf = converted(model.path(), place("see.gguf"), &["--type", "F32"]);
        let again = converted(&gguf, place("again.gguf"), &["--type", "F16"]);
        for other in [&folder, &gguf] {
            assert_eq!(said(other, &[]).stdout, wanted.stdout, "{}", other.display());
        }
        let logits = |model: &Path| {
            let out = place("logits.safetensors");
            run(args!["-q", "logits", model, "--ids", "1,20,300,4,55,6,77,80", "-o", &out]).quiet_success();
            Stored::open(&out).f32("logits")
        };
        let expected = logits(model.path());
        assert!(distance(&logits(&folder), &expected) == 0.0, "{name}");
        assert!(
            distance(&logits(&gguf), &expected) < 1e-4,
            "{name}: {}",
            distance(&logits(&gguf), &expected)
        );
        // Of two models nobody knows whose the tower is, unless it has its model's name or is named.
        let tower = place("mmproj-see.gguf");
        let own = tower.to_str().unwrap();
        assert_eq!(said(&again, &["--mmproj", own]).status, 0);
        said(&again, &[]).fails_saying(&["sees no pictures"]);
        said(&folder, &["--mmproj", own]).fails_saying(&["only a GGUF"]);
        convert(&gguf, &place("none"), &[]).fails_saying(&["its tower in another file"]);
        std::fs::rename(&tower, place("eye.gguf")).unwrap();
        said(&gguf, &[]).fails_saying(&["sees no pictures"]);
        assert_eq!(said(&gguf, &["--mmproj", place("eye.gguf").to_str().unwrap()]).stdout, wanted.stdout);
        said(&gguf, &["--mmproj", again.to_str().unwrap()]).fails_saying(&["again.gguf"]);
    }
}

/// GLM-Edge-V keeps its tower in a folder, and one of its files is no other model's.
#[test]
fn the_tower_of_glm_edge_v_is_kept() {
    let edge = support::root().join("../shared/fixtures/glm-edge-v-2b");
    let model = tempfile::tempdir().unwrap();
    if !seeing(model.path(), "glm-4.1v-9b") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let place = |name: &str| directory.path().join(name);
    let folder = converted(&edge, place("edge"), &["--type", "F16"]);
    let tower = |path: &Path| VisionSpec::of(&Checkpoint::open(path).unwrap()).unwrap();
    assert_eq!(tower(&folder), tower(&edge));
    for path in [&folder, &edge] {
        let checkpoint = Checkpoint::open(path).unwrap();
        let names = tower(path).unwrap().tensors();
        assert!(checkpoint.tensors().iter().filter(|tensor| names.contains(&tensor.name)).count() > 20);
    }
    same_spec(&edge, &folder);
    converted(&edge, place("edge.gguf"), &["--type", "F32", "--no-tokenizer"]);
    let gguf = converted(model.path(), place("see.gguf"), &["--type", "F32"]);
    let flags = ["--mmproj", &place("mmproj-edge.gguf").display().to_string()];
    said(&gguf, &flags).fails_saying(&["mmproj-edge.gguf"]);
}

#[test]
fn models_with_experts_are_written_as_ggufs_alone() {
    for name in ["glm-4.5-air", "glm-4.7-flash"] {
        let model = support::root().join("../shared/fixtures").join(name);
        if !model.exists() {
            println!("SKIPPED: {} is not there", model.display());
            continue;
        }
        let directory = tempfile::tempdir().unwrap();
        let out = directory.path().join("model");
        let ran = convert(&model, &out, &["--no-tokenizer"]);
        assert_eq!(ran.status, 1);
        assert!(ran.stderr.contains("models with experts are written as GGUF alone"), "{}", ran.stderr);
        assert!(!out.exists());
        let out = directory.path().join("model.gguf");
        let ran = convert(&model, &out, &["--no-tokenizer", "--type", "Q4_K_M"]);
        assert_eq!(ran.status, 0, "{}", ran.stderr);
        assert!(!ran.stderr.contains("llama.cpp"), "{}", ran.stderr);
        let ran = support::run(["inspect".into(), "--json".into(), out.into()]);
        assert_eq!(ran.status, 0, "{}", ran.stderr);
    }
}
