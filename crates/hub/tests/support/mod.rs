//! What the tests share: a stand-in of the hubs, a cache of their own, short patience.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

pub mod stand_in;

use std::path::Path;
use std::time::Duration;

use glimmer_hub::{Hub, HubKind, HubOptions, Patience, Pulled, Request, Select, Unwatched};
use stand_in::{Repo, StandIn, noise};
use tempfile::TempDir;

/// Hubs and an empty cache.
pub struct World {
    pub server: StandIn,
    pub cache: TempDir,
}

pub const ID: &str = "zai-org/tiny";

/// Bytes of its largest file: three pieces. Of all large ones.
pub const LARGEST: usize = 34 << 20;
pub const LARGE_ONES: u64 = LARGEST as u64 + 300_000;

impl World {
    /// With one repository, of both kinds of files.
    pub fn new() -> Self {
        let world = World { server: StandIn::start().unwrap(), cache: tempfile::tempdir().unwrap() };
        world.server.publish(ID, model(1));
        world
    }

    pub fn options(&self, kind: HubKind) -> HubOptions {
        let mut options = HubOptions::from_env(kind).unwrap();
        options.endpoint.clone_from(&self.server.endpoint);
        options.cache = self.cache.path().join(kind.name());
        options.token = None;
        options.offline = false;
        options.patience =
            Patience { stall: Duration::from_secs(3), attempts: 3, first_pause: Duration::from_millis(10) };
        options
    }

    pub fn hub(&self, kind: HubKind) -> Hub {
        Hub::new(self.options(kind)).unwrap()
    }

    /// Pulls the repository.
    pub fn pull(&self, kind: HubKind) -> Result<Pulled, String> {
        self.hub(kind).pull(&request(ID), &Unwatched).map_err(|e| e.to_string())
    }
}

pub fn request(id: &str) -> Request {
    Request { repo: id.parse().unwrap(), revision: None, files: Select::default(), into: None }
}

/// Small files and large ones, of which one has several pieces.
pub fn model(seed: u64) -> Repo {
    Repo::new(&[
        ("config.json", b"{\"model_type\": \"glm\"}"),
        ("LICENSE", b"as you like"),
        ("1_Pooling/config.json", b"{}"),
        ("empty.txt", b""),
        ("model-00001-of-00002.safetensors", &noise(LARGEST, seed)),
        ("model-00002-of-00002.safetensors", &noise(300_000, seed + 100)),
        ("pytorch_model.bin", b"a pickle"),
    ])
}

/// The files of the repository that a model needs.
pub fn wanted(repo: &Repo) -> Vec<&String> {
    repo.files.keys().filter(|path| *path != "pytorch_model.bin").collect()
}

/// Holds a folder to a repository.
pub fn check(directory: &Path, repo: &Repo) {
    for path in wanted(repo) {
        let found = std::fs::read(directory.join(path)).unwrap();
        assert!(found == *repo.files[path].bytes, "{path} differs");
    }
    assert!(!directory.join("pytorch_model.bin").exists());
}
