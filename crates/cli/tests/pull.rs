//! `glimmer pull`, `cache` and `rm`, and models by their names on a hub, over the stand-in of both hubs.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../../hub/tests/support/stand_in.rs"]
mod stand_in;
mod support;

use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use stand_in::{File, Repo, StandIn, Wrong};
use support::fixture;
use tempfile::TempDir;

const ID: &str = "zai-org/tiny";
const AT_MODELSCOPE: &str = "ZhipuAI/tiny";
const MODEL: &str = "glm-edge-1.5b-chat";

struct World {
    server: StandIn,
    home: TempDir,
}

impl World {
    fn new() -> Self {
        let server = StandIn::start().unwrap();
        let mut repo = Repo::new(&[("LICENSE", b"as you like")]);
        for name in ["config.json", "generation_config.json", "model.safetensors"] {
            let bytes = std::fs::read(fixture(MODEL).join(name)).unwrap();
            repo.files.insert(name.to_owned(), File::new(bytes));
        }
        server.publish(ID, repo.clone());
        server.publish(AT_MODELSCOPE, repo);
        World { server, home: tempfile::tempdir().unwrap() }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_glimmer"));
        command
            .args(args)
            .envs([("HF_ENDPOINT", &self.server.endpoint), ("MODELSCOPE_ENDPOINT", &self.server.endpoint)])
            .env("HF_HOME", self.home.path().join("hf"))
            .env("MODELSCOPE_CACHE", self.home.path().join("ms"))
            .current_dir(&self.home)
            .stdin(Stdio::null());
        command
    }

    fn output(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// What it prints.
    fn run(&self, args: &[&str]) -> String {
        let output = self.output(args);
        assert!(output.status.success(), "{args:?}: {}", said(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// What it fails with.
    fn fail(&self, args: &[&str]) -> String {
        let output = self.output(args);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {}", said(&output));
        let said = said(&output);
        assert!(said.lines().all(|line| line.chars().count() < 300), "{said}");
        said
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_licence_is_accepted_before_anything_is_fetched() {
    let world = World::new();
    let error = world.fail(&["pull", ID, "--hub", "huggingface"]);
    for part in
        ["published under the licence mit", "/zai-org/tiny/blob/main/LICENSE", "--accept-licence accepts it"]
    {
        assert!(error.contains(part), "{error}");
    }
    assert!(std::fs::read_dir(&world.home).unwrap().next().is_none());
    let error = world.fail(&["inspect", ID]);
    assert!(error.contains("GLIMMER_ACCEPT_LICENCE=1"), "{error}");
    world.run(&["pull", ID, "--hub", "huggingface", "--accept-licence"]);
    // It was accepted once.
    assert!(world.run(&["pull", ID, "--hub", "huggingface"]).contains("models--zai-org--tiny"));
}

#[test]
fn a_name_of_a_hub_is_a_model() {
    let world = World::new();
    let expected = world.run(&["inspect", fixture(MODEL).to_str().unwrap(), "--json"]);
    let output =
        world.command(&["inspect", ID, "--json"]).env("GLIMMER_ACCEPT_LICENCE", "1").output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let tensors = |text: &[u8]| serde_json::from_slice::<Value>(text).unwrap()["tensors"].clone();
    assert_eq!(tensors(&output.stdout), tensors(expected.as_bytes()));
    // Now it is here, and nobody is asked any more.
    world.server.seen();
    world.run(&["inspect", ID]);
    assert!(world.server.seen().is_empty());
    // A path that is not there, below a directory that is, is no name.
    std::fs::create_dir(world.home.path().join("models")).unwrap();
    assert!(world.fail(&["inspect", "models/tiny"]).contains("no such file"));
    assert!(world.fail(&["inspect", "some/model.gguf"]).contains("no such file"));
    assert!(world.server.seen().is_empty());
}

#[test]
fn a_name_of_the_catalogue_is_a_model() {
    let world = World::new();
    let mut repo = Repo::new(&[("LICENSE", b"as you like")]);
    for quantization in ["Q4_K_M", "Q8_0"] {
        repo.files
            .insert(format!("ggml-model-{quantization}.gguf"), File::new(quantization.as_bytes().to_vec()));
    }
    world.server.publish("zai-org/glm-edge-1.5b-chat-gguf", repo.clone());
    world.server.publish("ZhipuAI/glm-edge-1.5b-chat-gguf", repo);
    let path = world.run(&["pull", "GLM-Edge-1.5B-Chat", "--accept-licence"]);
    assert!(path.trim_end().ends_with("ggml-model-Q4_K_M.gguf"), "{path}");
    let path = world.run(&["pull", "glm-edge-chat:1.5b:Q8_0", "--accept-licence", "--hub", "modelscope"]);
    assert!(path.trim_end().ends_with("ggml-model-Q8_0.gguf") && path.contains("ZhipuAI"), "{path}");
    let output = world.output(&["pull", "glm-edge-1.5b-chad"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("did you mean glm-edge-1.5b-chat"), "{}", said(&output));
    world.run(&["rm", "glm-edge-1.5b-chat"]);
    assert!(!world.run(&["cache"]).contains("Q4_K_M"));
}

#[test]
fn whose_account_a_strangers_name_is_on_the_other_hub_nobody_knows() {
    let world = World::new();
    let repo = Repo::new(&[("LICENSE", b"as you like"), ("config.json", b"{}"), ("model.safetensors", b"x")]);
    world.server.publish("somebody/tiny", repo);
    // The other hub would have it.
    let mut pull = world.command(&["pull", "somebody/tiny", "--accept-licence"]);
    let output = pull.env("HF_ENDPOINT", "http://127.0.0.1:9").output().unwrap();
    assert!(!output.status.success());
    assert!(said(&output).contains("127.0.0.1:9"), "{}", said(&output));
}

#[test]
fn both_hubs_are_asked_and_one_is_enough() {
    let world = World::new();
    world.server.goes_wrong("hub GET /api/models", 1000, Wrong::Hang);
    let path = world.run(&["pull", ID, "--accept-licence"]);
    assert!(path.trim().ends_with("models/ZhipuAI--tiny/snapshots/master"), "{path}");
    let world = World::new();
    world.server.goes_wrong("hub GET /api/v1", 1000, Wrong::Hang);
    let path = world.run(&["pull", AT_MODELSCOPE, "--accept-licence"]);
    assert!(path.contains("models--zai-org--tiny/snapshots/"), "{path}");
    let error = world.fail(&["pull", "zai-org/none", "--accept-licence"]);
    assert!(error.contains("has no repository zai-org/none"), "{error}");
    assert_eq!(world.output(&["pull", "no-name"]).status.code(), Some(2));
    let error = world.fail(&["pull", ID, "--offline", "--hub", "modelscope"]);
    assert!(error.contains("not completely on this machine"), "{error}");
}

#[test]
fn the_cache_is_shown_verified_and_cleared() {
    let world = World::new();
    for hub in ["huggingface", "modelscope"] {
        world.run(&["pull", ID, "--hub", hub, "--accept-licence"]);
        let report = |args: &[&str]| -> Value {
            serde_json::from_slice(&world.output(&[&["cache", "--json", "--hub", hub], args].concat()).stdout)
                .unwrap()
        };
        let repo = report(&["--verify"])["repositories"][0].clone();
        assert_eq!((&repo["id"], &repo["hub"]), (&Value::from(ID), &Value::from(hub)));
        assert_eq!(
            (&repo["verified"]["files"], &repo["verified"]["faults"]),
            (&4.into(), &Value::Array(Vec::new()))
        );
        assert_eq!(repo["revisions"][0]["files"].as_array().unwrap().len(), 4);
        // A byte that the disk has changed, and a file that was broken off.
        let directory = Path::new(repo["revisions"][0]["path"].as_str().unwrap()).to_owned();
        let file = directory.join("model.safetensors").canonicalize().unwrap();
        let mut bytes = std::fs::read(&file).unwrap();
        bytes[1000] ^= 1;
        std::fs::write(&file, bytes).unwrap();
        std::fs::write(file.with_file_name(".x.glimmer.incomplete"), [0; 5000]).unwrap();
        let error = world.fail(&["cache", ID, "--verify", "--hub", hub]);
        assert!(error.contains("not what it should be"), "{error}");
        let lines = String::from_utf8(world.output(&["cache", "--verify", "--hub", hub]).stdout).unwrap();
        for part in ["incomplete: 1 files", "4 files, 1 faults", "its digest is"] {
            assert!(lines.contains(part), "{lines}");
        }
        world.run(&["rm", ID, "--hub", hub]);
        assert_eq!(report(&[])["repositories"], Value::Array(Vec::new()));
        assert!(world.fail(&["rm", ID, "--hub", hub]).contains("is in no cache"));
    }
}

#[test]
fn a_quantization_can_be_removed() {
    let world = World::new();
    world
        .server
        .publish("zai-org/g", Repo::new(&[("m-Q4_K_M.gguf", &[4; 2000]), ("m-Q8_0.gguf", &[8; 3000])]));
    for hub in ["huggingface", "modelscope"] {
        for name in ["zai-org/g:Q4_K_M", "zai-org/g:Q8_0"] {
            world.run(&["pull", name, "--hub", hub, "--accept-licence"]);
        }
        world.run(&["rm", "zai-org/g:q8_0", "--hub", hub]);
        let lines = world.run(&["cache", "--hub", hub]);
        assert!(lines.contains("1 files, 2.0 KiB"), "{lines}");
        assert!(world.fail(&["rm", "zai-org/g:Q8_0", "--hub", hub]).contains("is not here"));
        world.run(&["pull", "zai-org/g:Q4_K_M", "--hub", hub, "--offline"]);
    }
}

#[test]
fn nothing_that_a_hub_says_reaches_a_terminal_as_it_is() {
    let world = World::new();
    let mut repo = Repo::new(&[("config.json", b"{}"), ("model.safetensors", b"x")]);
    repo.licence = "mit\u{1b}]0;title\u{7}\u{202e}".to_owned();
    world.server.publish("a/b", repo);
    let error = world.fail(&["pull", "a/b"]);
    assert!(error.contains("\\u{1b}]0;title") && !error.contains('\u{1b}'), "{error}");
    world.server.goes_wrong("hub", 100, Wrong::Status(403, "X-Error-Message: \u{9b}31m no\r\n"));
    let error = world.fail(&["pull", "a/b"]);
    assert!(!error.contains('\u{9b}') && error.contains("403"), "{error}");
}

#[test]
fn an_interrupted_pull_keeps_what_it_has() {
    let world = World::new();
    let large = stand_in::noise(40 << 20, 3);
    world.server.publish("a/b", Repo::new(&[("config.json", b"{}"), ("model.safetensors", &large)]));
    // Twenty seconds and more, over its eight connections.
    world.server.pace(256 << 10);
    let child = world
        .command(&["pull", "a/b", "--accept-licence", "--hub", "huggingface"])
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    while !world.run(&["cache"]).contains("incomplete: 1 files") {
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    std::thread::sleep(std::time::Duration::from_secs(3));
    let id = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("the same command goes on from there"), "{}", said(&output));
    let lines = world.run(&["cache"]);
    assert!(lines.contains("incomplete: 1 files"), "{lines}");
    // The threads of the stand-in notice by themselves that nobody listens.
    std::thread::sleep(std::time::Duration::from_secs(1));
    world.server.seen();
    world.server.pace(0);
    world.run(&["pull", "a/b", "--hub", "huggingface"]);
    let sent: u64 = world.server.seen().iter().map(|seen| seen.sent).sum();
    assert!(sent < 39 << 20, "{sent} bytes were sent again");
}
