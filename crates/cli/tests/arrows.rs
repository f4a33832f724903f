//! Holds the workspace to its architecture: which crate may depend on which, which part of the server on which, and where
//! `unsafe` may stand.
//!
//! The arrows between crates are those of ARCHITECTURE.md. They are read from `cargo metadata`, so a dependency cannot be
//! added without this table being changed in the same commit. Those within the server are read from its sources.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// What each crate of the workspace may be built upon.
const ARROWS: [(&str, &[&str]); 18] = [
    (
        "glimmer-cli",
        &[
            "glimmer",
            "glimmer-catalogue",
            "glimmer-hub",
            "glimmer-server",
            "glimmer-train",
            // For the verbs about files alone: see `FILE_VERBS`.
            "glimmer-checkpoint",
            "glimmer-config",
            "glimmer-cpu",
            "glimmer-cuda",
            "glimmer-models",
            "glimmer-tensor",
            "glimmer-tokenizer",
        ],
    ),
    ("glimmer-server", &["glimmer"]),
    (
        "glimmer-train",
        &[
            "glimmer",
            "glimmer-chat",
            "glimmer-checkpoint",
            "glimmer-config",
            "glimmer-cpu",
            "glimmer-models",
            "glimmer-tensor",
            "glimmer-tokenizer",
        ],
    ),
    ("glimmer-hub", &[]),
    (
        "glimmer",
        &[
            "glimmer-chat",
            "glimmer-checkpoint",
            "glimmer-config",
            "glimmer-cpu",
            "glimmer-cuda",
            "glimmer-engine",
            "glimmer-grammar",
            "glimmer-models",
            "glimmer-picture",
            "glimmer-tensor",
            "glimmer-tokenizer",
        ],
    ),
    ("glimmer-engine", &["glimmer-models", "glimmer-picture", "glimmer-tensor"]),
    (
        "glimmer-models",
        &["glimmer-catalogue", "glimmer-checkpoint", "glimmer-config", "glimmer-picture", "glimmer-tensor"],
    ),
    ("glimmer-catalogue", &["glimmer-config"]),
    ("glimmer-checkpoint", &["glimmer-config", "glimmer-tensor"]),
    ("glimmer-cpu", &["glimmer-tensor"]),
    ("glimmer-cuda", &["glimmer-tensor"]),
    ("glimmer-device-suite", &["glimmer-tensor"]),
    ("glimmer-chat", &["glimmer-config", "glimmer-tokenizer"]),
    ("glimmer-grammar", &["glimmer-config", "glimmer-tokenizer"]),
    ("glimmer-tokenizer", &["glimmer-config"]),
    ("glimmer-picture", &["glimmer-config"]),
    ("glimmer-config", &[]),
    ("glimmer-tensor", &[]),
];

/// The parts of the binary that are about files and machines themselves, not about using a model. They alone may look
/// below the library.
const FILE_VERBS: [&str; 10] = [
    "args/files.rs",
    "args/values.rs",
    "commands/bench/",
    "commands/convert/",
    "commands/fit/",
    "commands/inspect.rs",
    "commands/logits.rs",
    "commands/synth/",
    "commands/verify.rs",
    "golden.rs",
];

/// What tests may use in addition: a decoder and an engine are tested on a real device, and devices by their suite.
const ARROWS_OF_TESTS: [(&str, &[&str]); 4] = [
    ("glimmer-cpu", &["glimmer-device-suite"]),
    ("glimmer-cuda", &["glimmer-device-suite"]),
    ("glimmer-engine", &["glimmer-cpu", "glimmer-checkpoint"]),
    ("glimmer-models", &["glimmer-cpu", "glimmer-cuda"]),
];

/// What each part of the server, a folder or a file of `crates/server/src`, may import, from the floor up. No two parts
/// import each other, since each names parts above it in this list alone.
const SERVER: [(&str, &[&str]); 15] = [
    ("clock", &[]),
    ("launcher", &[]),
    ("error", &["launcher"]),
    ("options", &[]),
    ("record", &["clock", "error", "options"]),
    ("http", &["error", "options", "record"]),
    ("models", &["clock", "error", "launcher", "options", "record"]),
    ("seal", &["error", "http"]),
    ("kept", &["http"]),
    ("app", &["error", "http", "kept", "launcher", "models", "options", "record", "seal"]),
    ("api", &["app", "clock", "error", "http", "kept", "launcher", "models", "record", "seal"]),
    ("access", &["api", "app", "error", "http", "record"]),
    // The table of fields, which is a test, makes a server of all.
    ("router", &["access", "api", "app", "error", "http", "launcher", "options"]),
    ("batch", &["app", "error", "models", "options", "router"]),
    ("server", &["app", "clock", "error", "http", "launcher", "models", "options", "router"]),
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

#[test]
fn only_the_verbs_about_files_look_below_the_library() {
    let source = workspace().join("crates/cli/src");
    for path in sources(&source) {
        let name = path.strip_prefix(&source).expect("found below it").to_string_lossy().replace('\\', "/");
        if FILE_VERBS.iter().any(|verb| name.starts_with(verb)) {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("a source file is UTF-8");
        for (number, line) in text.lines().enumerate() {
            let below = line.match_indices("glimmer_").map(|(at, _)| &line[at..]);
            let beside = ["glimmer_catalogue", "glimmer_hub", "glimmer_server", "glimmer_train"];
            let below = below.filter(|rest| !beside.iter().any(|name| rest.starts_with(name)));
            assert_eq!(below.count(), 0, "crates/cli/src/{name}:{}: looks below the library", number + 1);
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

/// A file's code without comments and without its unit tests.
fn code(path: &Path) -> String {
    let text = std::fs::read_to_string(path).expect("a source file is UTF-8");
    let text = text.split("\n#[cfg(test)]\nmod tests").next().unwrap_or_default();
    text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// The modules of a crate by their paths, such as `http::body`, and the code of each; the root's path is empty.
fn modules(src: &Path) -> BTreeMap<String, String> {
    let name = |path: &Path| {
        let path = path.strip_prefix(src).expect("found below the folder").with_extension("");
        let parts = path.iter().map(|part| part.to_str().expect("a module's name"));
        let parts: Vec<&str> = parts.filter(|part| !["lib", "mod"].contains(part)).collect();
        parts.join("::")
    };
    sources(src).iter().map(|path| (name(path), code(path))).collect()
}

/// The words of code: names, and everything else character by character.
fn words(code: &str) -> Vec<&str> {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let mut words = Vec::new();
    let mut rest = code.trim_start();
    while let Some(first) = rest.chars().next() {
        let end = if is_name(first) { rest.find(|c| !is_name(c)) } else { Some(first.len_utf8()) };
        let (word, after) = rest.split_at(end.unwrap_or(rest.len()));
        words.push(word);
        rest = after.trim_start();
    }
    words
}

/// Collects the paths of a use tree, such as `a::{b, c::d}`, that begins here, each as its names below `path`; returns the
/// number of words it takes.
fn use_tree(words: &[&str], path: &[String], found: &mut Vec<Vec<String>>) -> usize {
    if words[0] == "{" {
        let mut at = 1;
        while at < words.len() && words[at] != "}" {
            at += if begins_tree(words[at]) { use_tree(&words[at..], path, found) } else { 1 };
        }
        return at + 1;
    }
    let path = [path, &[words[0].to_owned()]].concat();
    let after = &words[1..];
    if after.starts_with(&[":", ":"]) && after.get(2).is_some_and(|word| begins_tree(word)) {
        return 3 + use_tree(&after[2..], &path, found);
    }
    found.push(path);
    if after.first() == Some(&"as") { 3 } else { 1 }
}

/// Whether a use tree may begin with this word.
fn begins_tree(word: &str) -> bool {
    word.starts_with(|c: char| c.is_alphabetic() || c == '_' || c == '{')
}

/// The modules that a module's code names: by `crate::`, `self::`, `super::` or the bare name of a child.
fn imports(module: &str, code: &str, modules: &BTreeMap<String, String>) -> BTreeSet<String> {
    let words = words(code);
    let own: Vec<&str> = module.split("::").filter(|part| !part.is_empty()).collect();
    let mut found = Vec::new();
    for at in 0..words.len() {
        let is_path = begins_tree(words[at]) && words[at + 1..].starts_with(&[":", ":"]);
        if is_path && !words[..at].ends_with(&[":", ":"]) {
            use_tree(&words[at..], &[], &mut found);
        }
    }
    let absolute = |path: &Vec<String>| -> Option<Vec<String>> {
        let owned = |parts: &[&str]| parts.iter().map(|part| (*part).to_owned()).collect::<Vec<_>>();
        match path[0].as_str() {
            "crate" => Some(path[1..].to_vec()),
            "self" => Some([owned(&own), path[1..].to_vec()].concat()),
            "super" => {
                let ups = path.iter().take_while(|part| *part == "super").count();
                Some([owned(&own[..own.len().checked_sub(ups)?]), path[ups..].to_vec()].concat())
            }
            // A child of the module, or something from outside the crate.
            _ => {
                let path = [owned(&own), path.clone()].concat();
                modules.contains_key(&path[..=own.len()].join("::")).then_some(path)
            }
        }
    };
    // Of a path, its longest beginning that is a module; the rest names an item.
    let longest = |path: Vec<String>| {
        let module = (0..=path.len()).rev().map(|n| path[..n].join("::")).find(|m| modules.contains_key(m));
        module.expect("the root is a module")
    };
    found.iter().filter_map(absolute).map(longest).filter(|other| other != module).collect()
}

/// The first circle that is found, as the modules along it.
fn circle(graph: &BTreeMap<String, BTreeSet<String>>) -> Option<Vec<String>> {
    fn visit(
        module: &String,
        graph: &BTreeMap<String, BTreeSet<String>>,
        way: &mut Vec<String>,
        done: &mut BTreeSet<String>,
    ) -> bool {
        if let Some(at) = way.iter().position(|other| other == module) {
            way.drain(..at);
            return true;
        }
        if done.contains(module) {
            return false;
        }
        way.push(module.clone());
        if graph[module].iter().any(|next| visit(next, graph, way, done)) {
            return true;
        }
        way.pop();
        done.insert(module.clone());
        false
    }
    let (mut way, mut done) = (Vec::new(), BTreeSet::new());
    graph.keys().any(|module| visit(module, graph, &mut way, &mut done)).then_some(way)
}

#[test]
fn the_servers_modules_form_no_circle() {
    let modules = modules(&workspace().join("crates/server/src"));
    let graph: BTreeMap<String, BTreeSet<String>> =
        modules.iter().map(|(module, code)| (module.clone(), imports(module, code, &modules))).collect();
    assert_eq!(circle(&graph), None, "modules of the server import each other");
    let part = |module: &str| module.split("::").next().unwrap_or_default().to_owned();
    let known: BTreeSet<String> = SERVER.iter().map(|(name, _)| (*name).to_owned()).collect();
    let parts: BTreeSet<String> = graph.keys().map(|m| part(m)).filter(|part| !part.is_empty()).collect();
    assert_eq!(parts, known, "the server's parts and the table differ");
    for (at, (from, to)) in SERVER.iter().enumerate() {
        assert!(
            to.iter().all(|to| SERVER[..at].iter().any(|(name, _)| name == to)),
            "{from} is not above all it may import"
        );
    }
    for (from, imports) in &graph {
        for to in imports {
            let (from_part, to_part) = (part(from), part(to));
            let allowed = from_part.is_empty()
                || from_part == to_part
                || lookup(&SERVER, &from_part).contains(&to_part.as_str());
            assert!(
                allowed,
                "{from} imports {to}: {from_part} -> {to_part} is not an arrow within the server"
            );
        }
    }
}

#[test]
fn circles_are_found_whatever_way_a_module_is_named() {
    let circle_of = |files: &[(&str, &str)]| {
        let modules: BTreeMap<String, String> =
            files.iter().map(|(name, code)| ((*name).to_owned(), (*code).to_owned())).collect();
        let graph =
            modules.iter().map(|(name, code)| (name.clone(), imports(name, code, &modules))).collect();
        circle(&graph)
    };
    let with_back = |there: &str, back: &str| {
        circle_of(&[("", ""), ("a", there), ("a::b", back), ("c", "use crate::a::b::{self, X as Y};")])
    };
    for (there, back) in [
        ("use crate::c;", "use crate::a::{f, b::g};"),
        ("pub use b::X;", "use super::f;"),
        ("fn f() { b::f() }", "fn g() { crate::c::f::<u8>() }"),
        ("fn f() { self::b::f() }", "use super::super::{a, c::h};"),
        ("", "use crate::{\n    c::{h, i},\n};"),
        ("use crate::{c as d};", "use super::*;"),
        ("", "fn f() -> crate::c::H {}"),
    ] {
        assert!(with_back(there, back).is_some(), "{there} and {back}");
    }
    assert_eq!(with_back("use crate::c;", "use other::{a, c};"), None);
    assert_eq!(with_back("use b::X;", "use a::c;"), None);
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
        ("glimmer/src/lib.rs", "#![forbid(unsafe_code)]"),
        ("grammar/src/lib.rs", "#![forbid(unsafe_code)]"),
        ("hub/src/lib.rs", "#![forbid(unsafe_code)]"),
        ("config/src/lib.rs", "#![forbid(unsafe_code)]"),
        ("engine/src/lib.rs", "#![forbid(unsafe_code)]"),
        ("models/src/lib.rs", "#![forbid(unsafe_code)]"),
        ("picture/src/lib.rs", "#![forbid(unsafe_code)]"),
        ("server/src/lib.rs", "#![forbid(unsafe_code)]"),
        ("tensor/src/lib.rs", "#![forbid(unsafe_code)]"),
        ("tokenizer/src/lib.rs", "#![forbid(unsafe_code)]"),
    ] {
        let text =
            std::fs::read_to_string(workspace().join("crates").join(root)).expect("a crate has a root");
        assert!(text.lines().any(|line| line == forbidden), "crates/{root} lacks {forbidden}");
    }
}
