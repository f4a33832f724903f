//! What the scripts' files and flags become, and what is said of those that nobody knows.
#![allow(clippy::unwrap_used, reason = "test code")]

use std::path::{Path, PathBuf};

use glimmer_train::Decay;
use glimmer_train::config::{ConfigError, Every, Length, Method, Resume, TrainConfig, Warmup};

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

fn of(line: &str) -> Result<TrainConfig, ConfigError> {
    TrainConfig::of_words(&words(line))
}

fn file(name: &str, text: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, text).unwrap();
    let path = path.display().to_string();
    (folder, path)
}

/// The keys of GLM-4's `configs/lora.yaml`.
const LORA: &str = "\
data_config:
  train_file: train.jsonl
  val_file: dev.jsonl
  test_file: dev.jsonl
  num_proc: 1
combine: True
freezeV: True
max_input_length: 512
max_output_length: 512
training_args:
  # a comment
  output_dir: ./output
  max_steps: 3000
  learning_rate: 5e-4
  per_device_train_batch_size: 1
  dataloader_num_workers: 16
  remove_unused_columns: false
  save_strategy: steps
  save_steps: 500
  log_level: info
  logging_strategy: steps
  logging_steps: 10
  per_device_eval_batch_size: 4
  eval_strategy: steps
  eval_steps: 500
  # adam_epsilon: 1e-6
  predict_with_generate: true
  generation_config:
    max_new_tokens: 512
  deepspeed: configs/ds_zero_3.json
peft_config:
  peft_type: LORA
  task_type: CAUSAL_LM
  r: 8
  lora_alpha: 32
  lora_dropout: 0.1
  target_modules: [\"query_key_value\"]
";

#[test]
fn glm4_lora_as_it_is() {
    let (_folder, path) = file("lora.yaml", LORA);
    let config = of(&format!("data/ THUDM/glm-4-9b-chat {path} yes")).unwrap();
    assert_eq!(config.model.as_deref(), Some("THUDM/glm-4-9b-chat"));
    assert_eq!(config.data.train.as_deref(), Some(Path::new("data/train.jsonl")));
    assert_eq!(config.data.validation.as_deref(), Some(Path::new("data/dev.jsonl")));
    assert_eq!(config.data.limits.whole, 1025);
    assert!(config.data.limits.last_answer);
    assert_eq!(config.resume, Resume::Latest);
    assert_eq!((config.length, config.learning_rate), (Length::Steps(3000), 5e-4));
    assert_eq!((config.decay, config.warmup), (Decay::Linear, Warmup::Steps(0)));
    assert_eq!((config.batch.examples, config.evaluation_batch, config.accumulate), (1, 4, 1));
    assert_eq!((config.save, config.evaluate, config.log_every), (Every::Steps(500), Every::Steps(500), 10));
    assert_eq!(config.output, PathBuf::from("./output"));
    let Method::LowRank { rank, alpha, dropout, targets, by_root, magnitudes, layers } = config.method else {
        panic!()
    };
    assert_eq!((rank, alpha, dropout), (8, 32.0, 0.1));
    assert_eq!(
        (targets, by_root, magnitudes, layers),
        (vec!["query_key_value".to_owned()], false, false, None)
    );
    for key in
        ["data_config.num_proc", "freezeV", "training_args.deepspeed", "training_args.dataloader_num_workers"]
    {
        assert!(config.without_effect.iter().any(|other| other == key), "{key}: {:?}", config.without_effect);
    }
    let config = of(&format!("{path} --model demo --max-steps 5 --rank 16")).unwrap();
    assert_eq!((config.model.as_deref(), config.length), (Some("demo"), Length::Steps(5)));
    assert!(matches!(config.method, Method::LowRank { rank: 16, alpha: 64.0, .. }), "{:?}", config.method);
}

#[test]
fn glm4_prefix_and_full() {
    let prefix = LORA.split("peft_config:").next().unwrap().to_owned();
    let (_folder, full) = file("sft.yaml", &prefix.replace("5e-4", "5e-5"));
    let config = of(&format!("data m {full} 1500")).unwrap();
    assert_eq!(
        (config.method, config.resume, config.learning_rate),
        (Method::Full, Resume::Step(1500), 5e-5)
    );
    let peft = "peft_config:\n  peft_type: PREFIX_TUNING\n  task_type: CAUSAL_LM\n  num_virtual_tokens: 512\n  num_attention_heads: 2\n  token_dim: 256\n";
    let (_folder, path) = file("ptuning_v2.yaml", &format!("{prefix}{peft}"));
    let config = of(&path).unwrap();
    let expected = Method::Prefix {
        slots: 512,
        projection: false,
        projection_width: None,
        token_dim: Some(256),
        of_peft: true,
    };
    assert_eq!(config.method, expected);
}

/// `ptuning/train.sh`, `train_chat.sh`, `evaluate.sh`, `ds_train_finetune.sh`.
#[test]
fn chatglm_6b_flags_as_they_are() {
    let train = "--do_train --train_file AdvertiseGen/train.json --validation_file AdvertiseGen/dev.json \
        --prompt_column content --response_column summary --overwrite_cache --model_name_or_path THUDM/chatglm-6b \
        --output_dir output/adgen-chatglm-6b-pt-128-2e-2 --overwrite_output_dir --max_source_length 64 \
        --max_target_length 64 --per_device_train_batch_size 1 --per_device_eval_batch_size 1 \
        --gradient_accumulation_steps 16 --predict_with_generate --max_steps 3000 --logging_steps 10 \
        --save_steps 1000 --learning_rate 2e-2 --pre_seq_len 128 --quantization_bit 4";
    let config = of(train).unwrap();
    assert_eq!(config.model.as_deref(), Some("THUDM/chatglm-6b"));
    assert_eq!(config.data.train.as_deref(), Some(Path::new("AdvertiseGen/train.json")));
    assert_eq!(config.data.columns.prompt.as_deref(), Some("content"));
    assert_eq!((config.data.limits.source, config.data.limits.target), (64, 64));
    assert_eq!((config.batch.examples, config.accumulate, config.quantize), (1, 16, Some(4)));
    assert_eq!(
        (config.learning_rate, config.save, config.evaluate),
        (2e-2, Every::Steps(1000), Every::Never)
    );
    assert!(matches!(config.method, Method::Prefix { slots: 128, projection: false, of_peft: false, .. }));
    let chat = of(&format!("{train} --history_column history --prefix_projection True")).unwrap();
    assert_eq!(chat.data.columns.history.as_deref(), Some("history"));
    assert!(matches!(chat.method, Method::Prefix { projection: true, .. }));
    let full = train.replace("--pre_seq_len 128 --quantization_bit 4", "--fp16 --deepspeed deepspeed.json");
    let full = of(&full).unwrap();
    assert_eq!(full.method, Method::Full);
    assert!(full.without_effect.contains(&"deepspeed".to_owned()));
    let defaults = of("--do_train --model_name_or_path m --train_file t.json").unwrap();
    assert_eq!((defaults.data.limits.source, defaults.data.limits.target), (1024, 128));
    assert_eq!((defaults.batch.examples, defaults.learning_rate), (8, 5e-5));
}

#[test]
fn our_own_flags_and_toml_say_the_same() {
    let flags = of("--model demo --train chats.jsonl --rank 4 --alpha 8 --targets q_proj v_proj --steps 20 \
                    --batch-tokens 512 --dry-run --output out")
    .unwrap();
    let (_folder, path) = file(
        "train.toml",
        "model = \"demo\"\ntrain = \"chats.jsonl\"\nrank = 4\nalpha = 8\ntargets = [\"q_proj\", \"v_proj\"]\n\
         steps = 20\nbatch-tokens = 512\ndry_run = true\noutput = \"out\"\n",
    );
    assert_eq!(of(&path).unwrap(), flags);
    assert!(flags.dry_run && flags.without_effect.is_empty());
    assert!(matches!(&flags.method, Method::LowRank { rank: 4, targets, .. } if targets.len() == 2));
    assert_eq!(of(&format!("{path} --steps 30")).unwrap().length, Length::Steps(30));
    assert!(matches!(of("--model demo").unwrap().method, Method::LowRank { rank: 8, alpha: 16.0, .. }));
    assert_eq!(of("--method full").unwrap().learning_rate, 1e-5);
    assert!(matches!(of("--prefix 32").unwrap().method, Method::Prefix { slots: 32, .. }));
}

#[test]
fn what_is_not_known_is_named() {
    let (_folder, path) = file("lora.yaml", &LORA.replace("learning_rate", "learning_rat"));
    let cases = [
        (
            path.as_str(),
            "unknown key `training_args.learning_rat`; the nearest known one is `training_args.learning_rate`",
        ),
        ("--lerning-rate 1", "unknown key `lerning_rate`; the nearest known one is `learning_rate`"),
        ("--learning-rate fast", "`learning_rate` is a number, not \"fast\""),
        ("--learning-rate -1", "`learning_rate` is not negative"),
        ("--learning-rate nan", "`learning_rate` is a number, not \"nan\""),
        ("--max-length -5", "`max_length` is a whole number that is not negative, not \"-5\""),
        ("--rank 0", "`rank` is at least 1"),
        ("--batch-size 0", "`batch_size` is at least 1"),
        ("--accumulate 0", "`accumulate` is at least 1"),
        ("--dropout 1.5", "`dropout` is at least 0 and less than 1"),
        ("--method magic", "`method` is `lora`, `prefix` or `full`"),
        ("--lr_scheduler_type polynomial", "`lr_scheduler_type` is `linear`, `cosine` or `constant`"),
        ("--optim sgd", "`optim` is not supported; `adamw_torch` and `adamw_8bit` are"),
        ("--label_smoothing_factor 0.1", "`label_smoothing_factor` is not supported; leave it out"),
        ("--quantization_bit 3", "`quantize` is 4 or 8"),
        ("--model", "`model` wants a value behind it"),
        ("--model a --model b", "`model` is given twice"),
        ("a b", "give a model, a configuration (.toml, .yaml, .json), or DATA_DIR MODEL CONFIG.yaml"),
        ("config.toml", "config.toml: no such file or directory"),
    ];
    for (line, expected) in cases {
        let error = of(line).map(|config| format!("{config:?}")).unwrap_err().to_string();
        assert_eq!(error, expected, "{line}");
    }
    for (name, text) in [
        ("a.yaml", "data_config: [unclosed"),
        ("a.yaml", "- a\n- b"),
        ("a.yaml", "a: &a [*a, *a]"),
        ("a.toml", "rank = "),
        ("a.json", "{\"rank\": }"),
        ("a.yaml", "peft_config: {peft_type: IA3}"),
        ("a.yaml", "training_args: 5"),
        ("a.yaml", ""),
    ] {
        let (_folder, path) = file(name, text);
        let error = of(&path).map(|config| format!("{config:?}")).unwrap_err().to_string();
        assert!(error.len() < 300 && !error.contains('\n'), "{text}: {error}");
    }
}

/// No words make it panic, and what is wrong is said on one line.
#[test]
fn any_words() {
    use proptest::prelude::*;
    proptest!(|(words in prop::collection::vec("(--)?[a-z_=\\-0-9.\u{1b}]{0,12}", 0..6))| {
        if let Err(error) = TrainConfig::of_words(&words) {
            let error = error.to_string();
            prop_assert!(error.chars().count() < 300 && !error.contains(['\n', '\u{1b}']), "{}", error);
        }
    });
}

#[test]
fn what_begins_from_nothing_is_all_weights() {
    let config = of("m --full --from-scratch").unwrap();
    assert!(config.from_scratch && config.method == Method::Full);
    let error = of("m --from-scratch").unwrap_err().to_string();
    assert!(error.contains("from_scratch") && error.contains("--full"), "{error}");
    let not_full = of("m --full false").unwrap();
    assert!(matches!(not_full.method, Method::LowRank { .. }) && not_full.learning_rate == 2e-4);
}

#[test]
fn bits_are_said_as_by_other_verbs() {
    for (said, bits) in [("4", 4), ("4-bit", 4), ("8-bit", 8)] {
        assert_eq!(of(&format!("m --quantize {said}")).unwrap().quantize, Some(bits));
    }
    assert!(of("m --quantize 5").unwrap_err().to_string().contains("is 4 or 8"));
}

#[test]
fn who_only_predicts_trains_nothing() {
    assert!(of("--do_predict --model_name_or_path m").unwrap().predicts);
    assert!(!of("--do_train --do_predict --model_name_or_path m").unwrap().predicts);
    assert!(!of("--do_train --model_name_or_path m").unwrap().predicts);
}

#[test]
fn what_would_train_nothing_is_refused() {
    for (line, key) in [("m --steps 0", "steps"), ("m --epochs 0", "epochs"), ("m --warmup -1", "warmup")] {
        assert!(of(line).unwrap_err().to_string().contains(key), "{line}");
    }
}
