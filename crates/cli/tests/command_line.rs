//! The conventions that every verb keeps: streams, exit status, variables, help, completions.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::process::Stdio;

use support::{Ran, fixture, glimmer, run};

const VERBS: [&str; 18] = [
    "chat",
    "run",
    "pull",
    "rm",
    "cache",
    "tokenize",
    "detokenize",
    "template",
    "logits",
    "inspect",
    "verify",
    "convert",
    "fuse",
    "synth",
    "train",
    "eval",
    "completions",
    "man",
];

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let mut child = glimmer()
        .arg("inspect")
        .arg(fixture("chatglm-6b"))
        .arg("--json")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let ran = Ran::from(child.wait_with_output().unwrap());
    assert_eq!((ran.status, ran.stderr.as_str()), (0, ""));
}

#[test]
fn variables_stand_in_for_flags() {
    let model = fixture("glm4-9b-0414");
    let with_flags = run(args!["run", model, "--ids", "5,6,7", "--print-ids", "-n", "3", "--compute", "f32"]);
    let with_variables = glimmer()
        .arg("run")
        .arg(&model)
        .envs([("GLIMMER_IDS", "5,6,7"), ("GLIMMER_PRINT_IDS", "1"), ("GLIMMER_MAX_TOKENS", "3")])
        .envs([("GLIMMER_COMPUTE", "f32"), ("GLIMMER_KV_TYPE", ""), ("GLIMMER_IGNORE_EOS", "0")])
        .output()
        .unwrap();
    assert_eq!(Ran::from(with_variables).quiet_success(), with_flags.quiet_success());
    let wrong = glimmer().arg("inspect").arg(&model).env("GLIMMER_CTX", "x").output().unwrap();
    Ran::from(wrong).refuses_usage(&["--ctx"]);
}

#[test]
fn help_of_every_verb_has_examples() {
    let program = run(args!["--help"]).quiet_success();
    for verb in VERBS {
        assert!(program.contains(&format!("\n  {verb} ")), "{program}");
        let help = run(args![verb, "--help"]).quiet_success();
        assert!(help.contains("Examples:"), "{help}");
        assert_eq!(help, run(args!["help", verb]).quiet_success());
    }
    let nothing = run(args![]);
    assert_eq!((nothing.status, nothing.stdout.as_str()), (2, ""));
    assert!(nothing.stderr.contains("Usage: glimmer"));
}

#[test]
fn version() {
    assert_eq!(run(args!["--version"]).quiet_success(), format!("glimmer {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn completions_know_verbs_and_flags() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = run(args!["completions", shell]).quiet_success();
        for word in ["inspect", "kv-type", "max-tokens"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
}

#[test]
fn man_pages() {
    let page = run(args!["man"]).quiet_success();
    assert!(page.contains(".TH glimmer 1"), "{page}");
    for verb in VERBS {
        let page = run(args!["man", verb]).quiet_success();
        assert!(page.contains(&format!(".TH glimmer-{verb} 1")), "{page}");
    }
}

#[test]
fn no_escape_codes_where_nobody_looks() {
    let model = fixture("glm4-9b-0414");
    for ran in [run(args!["--help"]), run(args!["inspect", model]), run(args!["frobnicate"])] {
        assert!(!ran.stdout.contains('\u{1b}') && !ran.stderr.contains('\u{1b}'));
    }
}
