//! Holds the workspace to its architecture: which crate may depend on which, and where `unsafe` may stand.
//!
//! The arrows are those of ARCHITECTURE.md. They are read from `cargo metadata`, so a dependency cannot be added without
//! this table being changed in the same commit.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// What each crate of the workspace may be built upon.
const ARROWS: [(&str, &[&str]); 11] = [
    (
        "glimmer",
        &[
            "glimmer-chat",
            "glimmer-checkpoint",
            "glimmer-cpu",
            "glimmer-cuda",
            "glimmer-engine",
            "glimmer-models",
            "glimmer-server",
            "glimmer-tensor",
            "glimmer-tokenizer",
        ],
    ),
    ("glimmer-server", &["glimmer-chat", "glimmer-engine", "glimmer-tokenizer"]),
    ("glimmer-engine", &["glimmer-models", "glimmer-tensor"]),
    ("glimmer-models", &["glimmer-checkpoint", "glimmer-tensor"]),
    ("glimmer-checkpoint", &["glimmer-tensor"]),
    ("glimmer-cpu", &["glimmer-tensor"]),
    ("glimmer-cuda", &["glimmer-tensor"]),
    ("glimmer-device-suite", &["glimmer-tensor"]),
    ("glimmer-chat", &["glimmer-tokenizer"]),
    ("glimmer-tokenizer", &[]),
    ("glimmer-tensor", &[]),
];

/// What tests may use in addition: a decoder and an engine are tested on a real device, and devices by their suite.
const ARROWS_OF_TESTS: [(&str, &[&str]); 4] = [
    ("glimmer-cpu", &["glimmer-device-suite"]),
    ("glimmer-cuda", &["glimmer-device-suite"]),
    ("glimmer-engine", &["glimmer-cpu", "glimmer-checkpoint"]),
    ("glimmer-models", &["glimmer-cpu", "glimmer-cuda"]),
];

/// The only places, below `crates/`, where the word `unsafe` may stand in code.
const UNSAFE: [&str; 3] = ["cpu/", "cuda/", "checkpoint/src/map.rs"];

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Workspace members, and of each the workspace members that it names as dependencies: `(crate, is_dev)`.
fn dependencies() -> BTreeMap<String, BTreeSet<(String, bool)>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(workspace())
        .output()
        .expect("cargo runs, since it runs this test");
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON");
    let packages = metadata["packages"].as_array().expect("metadata lists packages");
    let text = |value: &Value| value.as_str().expect("a string").to_owned();
    packages
        .iter()
        .map(|package| {
            let dependencies = package["dependencies"].as_array().expect("a package lists dependencies");
            let inside = dependencies
                .iter()
                .filter(|dependency| !dependency["path"].is_null())
                .map(|dependency| (text(&dependency["name"]), dependency["kind"] == "dev"))
                .collect();
            (text(&package["name"]), inside)
        })
        .collect()
}

fn lookup(table: &[(&str, &'static [&'static str])], name: &str) -> &'static [&'static str] {
    table.iter().find(|(from, _)| *from == name).map_or(&[], |(_, to)| *to)
}

#[test]
fn dependencies_run_along_the_arrows() {
    let found = dependencies();
    let known: BTreeSet<&str> = ARROWS.iter().map(|(name, _)| *name).collect();
    let members: BTreeSet<&str> = found.keys().map(String::as_str).collect();
    assert_eq!(members, known, "the workspace's crates and the table of arrows differ");
    for (from, dependencies) in &found {
        for (to, is_dev) in dependencies {
            let allowed = lookup(&ARROWS, from).contains(&to.as_str())
                || *is_dev && lookup(&ARROWS_OF_TESTS, from).contains(&to.as_str());
            let kind = if *is_dev { "dev-dependency" } else { "dependency" };
            assert!(allowed, "{from} -> {to} ({kind}) is not an arrow of the architecture");
        }
    }
}

/// All `.rs` files below a folder.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a source folder can be read") {
        let path = entry.expect("a folder entry can be read").path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

/// Whether a line of code, comments aside, holds `unsafe` as a word.
fn is_unsafe(line: &str) -> bool {
    let code = line.split("//").next().unwrap_or_default();
    code.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == "unsafe")
}

#[test]
fn unsafe_code_stays_where_it_belongs() {
    let crates = workspace().join("crates");
    for path in sources(&crates) {
        let name =
            path.strip_prefix(&crates).expect("found below crates").to_string_lossy().replace('\\', "/");
        // This file speaks of the word.
        if UNSAFE.iter().any(|place| name.starts_with(place)) || name == "cli/tests/arrows.rs" {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("a source file is UTF-8");
        for (number, line) in text.lines().enumerate() {
            assert!(!is_unsafe(line), "crates/{name}:{}: unsafe code outside {UNSAFE:?}", number + 1);
        }
    }
}

#[test]
fn every_safe_crate_forbids_unsafe_code() {
    for (root, forbidden) in [
        ("chat/src/lib.rs", "#![forbid(unsafe_code)]"),
        ("checkpoint/src/lib.rs", "#![deny(unsafe_code)]"),
        ("cli/src/main.rs", "#![forbid(unsafe_code)]"),
        ("device-suite/src/lib.rs", "#![forbid(unsafe_code)]"),
        ("engine/src/lib.rs", "#![forbid(unsafe_code)]"),
        ("models/src/lib.rs", "#![forbid(unsafe_code)]"),
        ("server/src/lib.rs", "#![forbid(unsafe_code)]"),
        ("tensor/src/lib.rs", "#![forbid(unsafe_code)]"),
        ("tokenizer/src/lib.rs", "#![forbid(unsafe_code)]"),
    ] {
        let text =
            std::fs::read_to_string(workspace().join("crates").join(root)).expect("a crate has a root");
        assert!(text.lines().any(|line| line == forbidden), "crates/{root} lacks {forbidden}");
    }
}
