//! The verbs that compute, on every tiny checkpoint of the repository, against the stored answers of the reference
//! implementations.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use support::{FIXTURES, Stored, copy_of, distance, fixture, run, tolerance};

/// `logits` of `prefix.input_ids` beside the stored ones.
fn logits_agree(name: &str, prefix: &str, flags: &[&str]) {
    let model = fixture(name);
    let expected = Stored::open(&model.join("expected.safetensors"));
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("logits.safetensors");
    let mut command = support::glimmer();
    command.arg("logits").arg(&model).args(["--ids", &expected.ids(&format!("{prefix}.input_ids"))]);
    command.arg("-o").arg(&out).args(flags);
    let ran: support::Ran = command.output().unwrap().into();
    assert_eq!(ran.quiet_success(), "");

    let found = Stored::open(&out);
    assert_eq!(found.names(), ["logits"]);
    let stored = expected.f32(&format!("{prefix}.logits"));
    let vocab = *expected.shape(&format!("{prefix}.logits")).last().unwrap();
    assert_eq!(found.shape("logits"), [stored.len() / vocab, vocab]);
    let d = distance(&found.f32("logits"), &stored);
    let allowed = tolerance(name);
    assert!(d <= allowed, "{name} {prefix} {flags:?}: {d} > {allowed}");
}

#[test]
fn logits_are_the_reference_implementations() {
    for name in FIXTURES {
        logits_agree(name, "short", &[]);
        logits_agree(name, "long", &[]);
    }
}

#[test]
fn logits_of_the_reference_device() {
    for name in FIXTURES {
        logits_agree(name, "short", &["--device", "reference"]);
    }
}

#[test]
fn run_prints_the_reference_implementations_ids() {
    for name in FIXTURES {
        let model = fixture(name);
        let expected = Stored::open(&model.join("expected.safetensors"));
        let tokens = expected.i64("gen.new_ids").len().to_string();
        let prompt = expected.ids("gen.input_ids");
        let exact = args![
            "run",
            model,
            "--ids",
            prompt,
            "--print-ids",
            "--ignore-eos",
            "-n",
            tokens,
            "--compute",
            "f32"
        ];
        let stdout = run(exact).quiet_success();
        assert_eq!(stdout, format!("{}\n", expected.ids("gen.new_ids")), "{name}");
    }
}

#[test]
fn verify_agrees_with_every_golden_file() {
    for name in FIXTURES {
        let stdout = run(args!["verify", fixture(name)]).quiet_success();
        assert!(stdout.contains("transformers"), "{stdout}");
        assert!(stdout.contains("new tokens: all 16"), "{stdout}");
        assert!(!stdout.contains("DIFFERS"), "{stdout}");
    }
}

/// Flips the sign of some weights of a tensor in a copy of a fixture.
fn damage(directory: &std::path::Path, tensor: &str) {
    let is_weights = |path: &std::path::PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        name.starts_with("model") && name.ends_with(".safetensors")
    };
    let mut found = false;
    for path in std::fs::read_dir(directory).unwrap().map(|e| e.unwrap().path()).filter(is_weights) {
        let mut bytes = std::fs::read(&path).unwrap();
        let header_len = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + header_len]).unwrap();
        if let Some(offsets) = header.get(tensor).map(|t| &t["data_offsets"]) {
            let (begin, end) = (offsets[0].as_u64().unwrap() as usize, offsets[1].as_u64().unwrap() as usize);
            // bfloat16, little-endian: the sign is in the second byte.
            for at in (begin + 1..end).step_by(14) {
                bytes[8 + header_len + at] ^= 0x80;
            }
            std::fs::write(&path, bytes).unwrap();
            found = true;
        }
    }
    assert!(found, "{tensor} is in none of the files");
}

#[test]
fn verify_names_the_layer_that_differs_first() {
    for (tensor, first) in [
        ("model.embed_tokens.weight", "the embedding"),
        ("model.layers.0.mlp.down_proj.weight", "layer 0"),
        ("model.layers.1.self_attn.q_proj.weight", "layer 1"),
        ("model.norm.weight", "logits"),
    ] {
        let copy = copy_of("glm4-9b-0414");
        damage(copy.path(), tensor);
        let stdout =
            run(args!["verify", copy.path()]).fails_saying(&["differs", &format!("first at {first}")]);
        let differing = stdout.lines().find(|line| line.starts_with("DIFFERS")).unwrap();
        assert!(differing.contains(first), "{stdout}");
    }
}

#[test]
fn verify_in_json() {
    let stdout = run(args!["verify", fixture("glm-edge-1.5b-chat"), "--json"]).quiet_success();
    let report: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(report["agrees"], true);
    assert_eq!(report["new_ids"]["equal"], 16);
    assert_eq!(report["states"][0]["name"], "the embedding");
}

#[test]
fn verify_makes_a_file_that_detects_change() {
    for name in ["glm4-9b-0414", "chatglm-6b", "chatglm3-6b"] {
        let copy = copy_of(name);
        let golden = copy.path().join("glimmer-golden.safetensors");
        run(args!["verify", copy.path(), "--make"])
            .fails_saying(&["glimmer-golden.safetensors", "already exists"]);
        std::fs::remove_file(&golden).unwrap();
        run(args!["verify", copy.path()]).fails_saying(&["glimmer-golden.safetensors", "nothing to compare"]);
        let made = run(args!["verify", copy.path(), "--make"]);
        assert_eq!((made.status, made.stdout.as_str()), (0, ""), "{}", made.stderr);
        assert!(made.stderr.starts_with("note: wrote "), "{}", made.stderr);
        let stdout = run(args!["verify", copy.path()]).quiet_success();
        assert!(stdout.contains("self-made: detects change, not error"), "{stdout}");
    }
    let copy = copy_of("glm4-9b-0414");
    std::fs::remove_file(copy.path().join("glimmer-golden.safetensors")).unwrap();
    run(args!["verify", copy.path(), "--make", "--quiet", "--ids", "1,2,3"]).quiet_success();
    damage(copy.path(), "model.layers.1.mlp.gate_up_proj.weight");
    run(args!["verify", copy.path()]).fails_saying(&["first at layer 1"]);
}

#[test]
fn verify_refuses_another_models_answers() {
    let other = fixture("glm-edge-1.5b-chat").join("glimmer-golden.safetensors");
    run(args!["verify", fixture("glm4-32b-0414"), "--golden", other])
        .fails_saying(&["belongs to another model"]);
}

#[test]
fn the_same_seed_gives_the_same_ids() {
    let sample = |seed: &str| {
        let model = fixture("glm4-9b-0414");
        run(args![
            "run",
            model,
            "--ids",
            "1,2,3",
            "--print-ids",
            "-n",
            "12",
            "--temperature",
            "2",
            "--seed",
            seed,
            "--ignore-eos"
        ])
        .quiet_success()
    };
    assert_eq!(sample("7"), sample("7"));
    assert_ne!(sample("7"), sample("8"));
    let unseeded = run(args![
        "run",
        fixture("glm4-9b-0414"),
        "--ids",
        "1",
        "--print-ids",
        "-n",
        "1",
        "--temperature",
        "1"
    ]);
    assert!(unseeded.stderr.starts_with("note: seed "), "{}", unseeded.stderr);
}

#[test]
fn an_answer_ends_at_a_stop_id_and_at_the_end_of_the_context() {
    let copy = copy_of("glm4-9b-0414");
    let expected = Stored::open(&copy.path().join("expected.safetensors"));
    let new = expected.i64("gen.new_ids");
    let prompt = expected.ids("gen.input_ids");
    // The fourth new id becomes a stop id.
    let config = format!("{{\"eos_token_id\": [{}]}}", new[3]);
    std::fs::write(copy.path().join("generation_config.json"), config).unwrap();
    let stdout = run(args!["run", copy.path(), "--ids", prompt, "--print-ids", "-n", "16"]).quiet_success();
    let first = new.iter().position(|id| *id == new[3]).unwrap();
    let expected: Vec<String> = new[..first].iter().map(i64::to_string).collect();
    assert_eq!(stdout.trim_end(), expected.join(","));

    let full = run(args![
        "run",
        fixture("glm4-9b-0414"),
        "--ids",
        "1,2,3",
        "--print-ids",
        "--ctx",
        "9",
        "--ignore-eos"
    ]);
    assert_eq!(full.stdout.split(',').count(), 9 - 3);
    assert!(full.stderr.contains("note: the context of 9 tokens is full"), "{}", full.stderr);
}
