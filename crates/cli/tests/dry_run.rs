//! `glimmer train --dry-run`: examples with what is learned of them, figures, and rows that are cut or refused.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use support::{Ran, run};

fn dry_run(words: &[&str]) -> Ran {
    run(["-q", "train"].iter().chain(words).chain(&["--dry-run"]).map(Into::into))
}

fn row(question: &str, answer: &str) -> String {
    serde_json::json!({"messages": [
        {"role": "user", "content": question}, {"role": "assistant", "content": answer},
    ]})
    .to_string()
}

#[test]
fn shows_what_would_be_learned() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data.jsonl");
    let rows = [
        row("Hello", "Good \u{1b}[31mday"),
        row("More", &"word ".repeat(100)),
        "{\"messages\": [".to_owned(),
    ];
    std::fs::write(&data, rows.join("\n")).unwrap();
    let data = data.to_str().unwrap();
    let output = folder.path().join("out");
    let words =
        ["demo", "--data", data, "--max-length", "40", "--epochs", "2", "--output", output.to_str().unwrap()];

    let stdout = dry_run(&words).fails_saying(&["1 rows cannot be learned from", "--skip-bad-rows"]);
    assert!(stdout.starts_with("-- line 1: "), "{stdout}");
    assert!(stdout.contains("Hello") && stdout.contains("Good \u{241b}[31mday"), "{stdout}");
    assert!(stdout.contains("⟦") && stdout.contains("⟧") && !stdout.contains('\u{1b}'), "{stdout}");
    for expected in ["p95", "#", "1 rows are cut:", "line 2: ", "line 3: broken JSON at column"] {
        assert!(stdout.contains(expected), "{expected}: {stdout}");
    }
    let words = [words.as_slice(), &["--skip-bad-rows"]].concat();
    let stdout = dry_run(&words).quiet_success();
    assert!(stdout.contains("2 epochs of 2 examples"), "{stdout}");
    assert!(!output.exists(), "nothing is written");
}

/// The command lines of the old scripts.
#[test]
fn as_the_scripts_are_called() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(place("train.jsonl"), row("Hello", "Good day")).unwrap();
    let yaml = "data_config:\n  train_file: train.jsonl\n  num_proc: 4\nmax_input_length: 64\nmax_output_length: 64\n\
                training_args:\n  output_dir: ./output\n  max_steps: 30\n  learning_rate: 5e-4\n\
                peft_config:\n  peft_type: LORA\n  r: 4\n  target_modules: [\"q_proj\"]\n";
    std::fs::write(place("lora.yaml"), yaml).unwrap();
    let [data, config] = [folder.path().to_str().unwrap(), &place("lora.yaml")];
    let stdout = dry_run(&[data, "demo", config, "no"]).quiet_success();
    assert!(stdout.contains("30 steps") && stdout.contains("5e-4, linear"), "{stdout}");

    std::fs::write(place("train.csv"), "content,summary\nHello,\"Good, day\"\n").unwrap();
    let train = place("train.csv");
    let words = [
        "--do_train",
        "--train_file",
        &train,
        "--prompt_column",
        "content",
        "--response_column",
        "summary",
        "--model_name_or_path",
        "demo",
        "--max_source_length",
        "64",
        "--max_target_length",
        "64",
        "--per_device_train_batch_size",
        "1",
        "--gradient_accumulation_steps",
        "16",
        "--max_steps",
        "3000",
        "--learning_rate",
        "2e-2",
        "--pre_seq_len",
        "128",
    ];
    let stdout = dry_run(&words).quiet_success();
    assert!(stdout.contains("Good, day") && stdout.contains("3000 steps"), "{stdout}");
}

#[test]
fn what_no_training_can_be_is_refused_before_anything_is_read() {
    let refused = |words: &[&str]| dry_run(&[&["demo", "--data", "nowhere.jsonl"], words].concat());
    refused(&["--fast", "--reference"]).refuses_usage(&["--reference and --fast"]);
    refused(&["--full", "--quantize", "4"]).refuses_usage(&["cannot be quantized"]);
}

/// ChatGLM-6B's `evaluate.sh`.
#[test]
fn who_only_predicts_is_told_the_verb() {
    let line = "--do_predict --validation_file dev.json --test_file AdvertiseGen/dev.json --overwrite_cache \
        --prompt_column content --response_column summary --model_name_or_path THUDM/chatglm-6b \
        --ptuning_checkpoint output/checkpoint-3000 --output_dir output --overwrite_output_dir --max_source_length 64 \
        --max_target_length 64 --per_device_eval_batch_size 1 --predict_with_generate --pre_seq_len 128 --quantization_bit 4";
    let words: Vec<&str> = line.split_whitespace().collect();
    let command = "glimmer eval generation THUDM/chatglm-6b --data AdvertiseGen/dev.json --lora output/checkpoint-3000 \
         --quantize 4-bit --max-source-length 64 --max-target-length 64";
    run(["-q", "train"].iter().chain(&words).map(Into::into)).refuses_usage(&[command]);
}
