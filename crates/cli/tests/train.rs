//! `glimmer train` as a whole: what it leaves behind, and what a full disk leaves.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that cannot go on has failed")]

mod support;

use std::path::Path;
use std::process::Command;

use support::{glimmer, run};

/// Five conversations.
fn data(folder: &Path) -> std::path::PathBuf {
    let path = folder.join("data.jsonl");
    let text = std::fs::read_to_string(support::root().join("tools/town/train.jsonl")).unwrap();
    let rows: Vec<&str> = text.lines().take(5).collect();
    std::fs::write(&path, rows.join("\n")).unwrap();
    path
}

#[test]
fn a_model_that_is_trained_whole_has_a_tokenizer_and_talks() {
    let folder = tempfile::tempdir().unwrap();
    let (data, output) = (data(folder.path()), folder.path().join("out"));
    let words = args![
        "-q",
        "train",
        "demo",
        "--full",
        "--from-scratch",
        "--steps",
        "1",
        "--data",
        data,
        "--output",
        output
    ];
    let table = run(words).quiet_success();
    // All 3,328 tokens are about as likely: ln 3328 = 8.11.
    let first = table.lines().find_map(|line| line.strip_prefix("first loss  ")).unwrap();
    assert!((first.parse::<f64>().unwrap() - 8.11).abs() < 0.05, "{table}");
    let model = output.join("model");
    let ids = run(args!["-q", "tokenize", model, "Hello!"]).quiet_success();
    assert_eq!(ids, run(args!["-q", "tokenize", "demo", "Hello!"]).quiet_success());
    run(args!["-q", "run", model, "Hello!", "-n", "2"]).quiet_success();
}

/// A file system of 2 MiB holds three states of the demo model, in a namespace of its own, which goes with the process.
#[test]
fn a_full_disk_leaves_the_last_state_whole() {
    const SCRIPT: &str = "mount -t tmpfs -o size=2m tmpfs \"$0\" || exit 77; \
         \"$@\" --output \"$0/out\"; status=$?; cp -r \"$0/out\" \"$0.kept\"; exit $status";
    let folder = tempfile::tempdir().unwrap();
    let (data, disk) = (data(folder.path()), folder.path().join("disk"));
    std::fs::create_dir(&disk).unwrap();
    let train =
        args!["-q", "train", "demo", "--data", data, "--steps", "5", "--save-every", "1", "--keep", "9"];
    let mut command = Command::new("unshare");
    command.args(["-rm", "sh", "-c", SCRIPT]).arg(&disk).arg(glimmer().get_program()).args(&train);
    let Ok(output) = command.output() else { return println!("skipped: there is no unshare here") };
    let ran = support::Ran::from(output);
    if ran.status == 77 || ran.stderr.contains("unshare") {
        return println!("skipped: no file system can be mounted here: {}", ran.stderr);
    }
    assert_eq!(ran.status, 1, "{ran:?}");
    let lines: Vec<&str> = ran.stderr.lines().collect();
    let [warning, error] = lines[..] else { panic!("{ran:?}") };
    for (line, begins) in [(warning, "warning: the state of step 4 is not saved: "), (error, "error: ")] {
        assert!(line.starts_with(begins), "{line}");
        assert!(line.contains("state.safetensors: ") && line.contains("No space left"), "{line}");
    }
    // Where there is room, it ends as a training that was never in need of it.
    let kept = disk.with_extension("kept");
    let whole = folder.path().join("whole");
    run(train.iter().cloned().chain(args!["--output", kept, "--resume", "auto"])).quiet_success();
    run(train.iter().cloned().chain(args!["--output", whole])).quiet_success();
    let weights = |of: &Path| std::fs::read(of.join("adapter_model.safetensors")).unwrap();
    assert!(weights(&kept) == weights(&whole));
}
