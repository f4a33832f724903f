//! Pulling from both hubs when nothing goes wrong: what lies where, what is asked, what is not asked again.
#![allow(clippy::unwrap_used, reason = "these are tests")]

mod support;

use std::cell::RefCell;

use glimmer_hub::{Hub, HubError, HubKind, Plan, Progress, Request, Select, Unwatched, Watch, fastest};
use support::stand_in::{File, Repo, StandIn, Wrong, git_name};
use support::{ID, LARGE_ONES, World, check, model, request};

#[test]
fn files_lie_where_the_hubs_tools_put_them() {
    let world = World::new();
    let repo = model(1);
    let pulled = world.pull(HubKind::HuggingFace).unwrap();
    check(&pulled.directory, &repo);
    let root = world.cache.path().join("huggingface");
    let folder = root.join("models--zai-org--tiny");
    let commit = repo.commit();
    assert_eq!(pulled.directory, folder.join("snapshots").join(&commit));
    assert_eq!(std::fs::read_to_string(folder.join("refs/main")).unwrap(), commit);
    assert!(
        std::fs::read_to_string(root.join("CACHEDIR.TAG"))
            .unwrap()
            .starts_with("Signature: 8a477f597d28d172789f06886806bc55\n")
    );
    for (path, name) in [
        ("1_Pooling/config.json", git_name(b"{}")),
        ("model-00002-of-00002.safetensors", repo.files["model-00002-of-00002.safetensors"].sha256.clone()),
    ] {
        let ups = "../".repeat(2 + path.matches('/').count());
        let link = std::fs::read_link(pulled.directory.join(path)).unwrap();
        assert_eq!(link.to_str().unwrap(), format!("{ups}blobs/{name}"));
    }
    let tree = std::fs::read_to_string(folder.join("trees").join(format!("{commit}.json"))).unwrap();
    let tree: serde_json::Value = serde_json::from_str(&tree).unwrap();
    assert_eq!(tree["format_version"], 1);
    assert_eq!(tree["files"]["config.json"]["blob_id"], git_name(b"{\"model_type\": \"glm\"}"));
    let leftovers = std::fs::read_dir(folder.join("blobs")).unwrap().flatten();
    assert!(
        leftovers.map(|entry| entry.file_name()).all(|name| !name.to_string_lossy().contains("incomplete"))
    );

    let pulled = world.pull(HubKind::ModelScope).unwrap();
    check(&pulled.directory, &repo);
    assert_eq!(pulled.directory, world.cache.path().join("modelscope/models/zai-org--tiny/snapshots/master"));
}

#[test]
fn what_is_there_is_not_fetched_again() {
    for kind in HubKind::ALL {
        let world = World::new();
        assert!(world.hub(kind).cached(&request(ID)).is_none());
        assert!(world.pull(kind).unwrap().fetched > LARGE_ONES);
        world.server.seen();
        assert_eq!(world.pull(kind).unwrap().fetched, 0);
        assert!(world.server.seen().iter().all(|seen| !seen.in_store && seen.sent < 10_000));
        let cached = world.hub(kind).cached(&request(ID)).unwrap();
        check(&cached.directory, &model(1));
        assert!(world.server.seen().is_empty());
        // Another version: only what differs is fetched.
        let mut new = model(1);
        new.files.insert("config.json".to_owned(), File::new(b"{\"model_type\": \"glm4\"}".to_vec()));
        world.server.publish(ID, new.clone());
        let pulled = world.pull(kind).unwrap();
        assert_eq!(pulled.fetched, 22);
        check(&pulled.directory, &new);
    }
}

#[test]
fn offline_means_that_nothing_is_asked() {
    for kind in HubKind::ALL {
        let world = World::new();
        let mut options = world.options(kind);
        options.offline = true;
        let offline = Hub::new(options).unwrap();
        let error = offline.pull(&request(ID), &Unwatched).unwrap_err().to_string();
        assert!(error.contains("not completely on this machine"), "{error}");
        let directory = world.pull(kind).unwrap().directory;
        world.server.seen();
        check(&offline.pull(&request(ID), &Unwatched).unwrap().directory, &model(1));
        std::fs::remove_file(directory.join("model-00001-of-00002.safetensors")).unwrap();
        if kind == HubKind::HuggingFace {
            let error = offline.pull(&request(ID), &Unwatched).unwrap_err().to_string();
            assert!(error.contains("model-00001-of-00002.safetensors"), "{error}");
        }
        assert!(world.server.seen().is_empty());
    }
}

#[test]
fn a_token_is_shown_to_the_hub_alone() {
    for kind in HubKind::ALL {
        let world = World::new();
        world.server.publish(ID, Repo { token: Some("hf_secret".to_owned()), ..model(1) });
        let error = world.pull(kind).unwrap_err();
        assert!(error.contains("TOKEN"), "{error}");
        let mut options = world.options(kind);
        options.token = Some("hf_wrong".to_owned());
        let error = Hub::new(options.clone()).unwrap().pull(&request(ID), &Unwatched).unwrap_err();
        assert!(error.to_string().contains("401"), "{error}");
        options.token = Some("hf_secret".to_owned());
        world.server.seen();
        Hub::new(options).unwrap().pull(&request(ID), &Unwatched).unwrap();
        let seen = world.server.seen();
        assert!(seen.iter().any(|seen| seen.in_store));
        for seen in seen {
            assert_eq!(seen.authorization.is_some(), !seen.in_store, "{seen:?}");
        }
    }
}

#[test]
fn gated_models_name_their_page() {
    let world = World::new();
    world.server.publish(ID, Repo { gated: true, ..model(1) });
    let error = world.pull(HubKind::HuggingFace).unwrap_err();
    let page = format!("accept its conditions at {}/zai-org/tiny", world.server.endpoint);
    assert!(error.contains(&page) && error.contains("HF_TOKEN"), "{error}");
}

#[test]
fn old_names_lead_to_new_ones() {
    let world = World::new();
    world.server.rename("THUDM/tiny", ID);
    let hub = world.hub(HubKind::HuggingFace);
    let listing = hub.list(&"THUDM/tiny".parse().unwrap(), None, &Unwatched).unwrap();
    assert_eq!(listing.moved_to, Some(ID.parse().unwrap()));
    let pulled = hub.pull(&request("THUDM/tiny"), &Unwatched).unwrap();
    check(&pulled.directory, &model(1));
    // Its tool keeps files under the name that was asked for.
    assert!(pulled.directory.starts_with(world.cache.path().join("huggingface/models--THUDM--tiny")));
}

#[test]
fn pages_of_a_tree_are_all_read_from_the_mirror() {
    let world = World::new();
    world.server.pages_of(2);
    let listing = world.hub(HubKind::HuggingFace).list(&ID.parse().unwrap(), None, &Unwatched).unwrap();
    assert_eq!(listing.files.len(), model(1).files.len());
}

#[test]
fn what_is_missing_is_named() {
    let world = World::new();
    for kind in HubKind::ALL {
        let hub = world.hub(kind);
        let error = hub.pull(&request("zai-org/nothing"), &Unwatched).unwrap_err().to_string();
        assert!(error.contains("has no repository zai-org/nothing"), "{error}");
    }
    let hub = world.hub(HubKind::HuggingFace);
    let request = Request { revision: Some("v9".to_owned()), ..request(ID) };
    let error = hub.pull(&request, &Unwatched).unwrap_err().to_string();
    assert!(error.contains("has no revision v9"), "{error}");
}

#[test]
fn a_quantization_is_a_file() {
    for kind in HubKind::ALL {
        let world = World::new();
        world.server.publish(
            "zai-org/tiny-gguf",
            Repo::new(&[
                ("m-Q4_K_M.gguf", b"GGUF4"),
                ("m-Q8_0-00001-of-00002.gguf", b"GGUF8"),
                ("m-Q8_0-00002-of-00002.gguf", b"GGUF9"),
            ]),
        );
        let hub = world.hub(kind);
        let pulled = |quantization: Option<&str>| {
            let files = Select { quantization: quantization.map(str::to_owned) };
            hub.pull(&Request { files, ..request("zai-org/tiny-gguf") }, &Unwatched).unwrap()
        };
        let usual = pulled(None);
        assert_eq!(usual.model, usual.directory.join("m-Q4_K_M.gguf"));
        assert_eq!(usual.files, ["m-Q4_K_M.gguf"]);
        let other = pulled(Some("q8_0"));
        assert_eq!(other.model, other.directory.join("m-Q8_0-00001-of-00002.gguf"));
        assert_eq!(other.files.len(), 2);
    }
}

#[test]
fn whoever_watches_is_asked_and_told() {
    #[derive(Default)]
    struct Watcher {
        refuses: bool,
        stops_at: Option<u64>,
        plans: RefCell<Vec<(u64, u64, bool)>>,
        last: RefCell<Progress>,
    }
    impl Watch for Watcher {
        fn begins(&self, plan: &Plan<'_>) -> bool {
            assert_eq!(plan.listing.licence.as_ref().unwrap().name, "mit");
            self.plans.borrow_mut().push((plan.bytes, plan.missing, plan.is_first));
            !self.refuses
        }
        fn progress(&self, progress: Progress) {
            *self.last.borrow_mut() = progress;
        }
        fn cancelled(&self) -> bool {
            self.stops_at.is_some_and(|bytes| self.last.borrow().done > bytes)
        }
    }
    for kind in HubKind::ALL {
        let world = World::new();
        let hub = world.hub(kind);
        let refusing = Watcher { refuses: true, ..Watcher::default() };
        assert!(matches!(hub.pull(&request(ID), &refusing), Err(HubError::NotAccepted)));
        assert!(std::fs::read_dir(world.cache.path()).unwrap().next().is_none());
        world.server.pace(10 << 20);
        let stopping = Watcher { stops_at: Some(4 << 20), ..Watcher::default() };
        assert!(matches!(hub.pull(&request(ID), &stopping), Err(HubError::Cancelled)));
        let kept = stopping.last.borrow().done;
        world.server.pace(0);
        let patient = Watcher::default();
        let pulled = hub.pull(&request(ID), &patient).unwrap();
        check(&pulled.directory, &model(1));
        let bytes = pulled.bytes;
        assert_eq!(patient.last.borrow().done, bytes);
        let plans = patient.plans.borrow();
        assert_eq!((plans.len(), plans[0].0, plans[0].2), (1, bytes, false));
        assert!(plans[0].1 <= bytes - kept, "{plans:?}");
        assert!(pulled.fetched <= bytes - kept + (1 << 20));
    }
}

#[test]
fn the_hub_that_is_faster_is_taken() {
    let (slow, quick) = (World::new(), World::new());
    slow.server.goes_wrong("hub GET", 100, Wrong::Late(std::time::Duration::from_millis(300)));
    let (a, b) = (slow.hub(HubKind::HuggingFace), quick.hub(HubKind::ModelScope));
    let candidates = [(&a, ID.parse().unwrap()), (&b, ID.parse().unwrap())];
    let (number, listing) = fastest(&candidates, None, &Unwatched).unwrap();
    assert_eq!((number, listing.hub), (1, HubKind::ModelScope));
    let nobody = [(&a, "x/y".parse().unwrap()), (&b, "x/y".parse().unwrap())];
    assert!(fastest(&nobody, None, &Unwatched).unwrap_err().is_no_repository());
    let one = [(&a, ID.parse().unwrap()), (&b, "x/y".parse().unwrap())];
    assert_eq!(fastest(&one, None, &Unwatched).unwrap().0, 0);
}

#[test]
fn two_at_once_fetch_once() {
    for kind in HubKind::ALL {
        let world = World::new();
        world.server.pace(20 << 20);
        let both = std::thread::scope(|scope| {
            let pull = || world.pull(kind).unwrap();
            let (a, b) = (scope.spawn(pull), scope.spawn(pull));
            [a.join().unwrap(), b.join().unwrap()]
        });
        both.iter().for_each(|pulled| check(&pulled.directory, &model(1)));
        let sent: u64 = world.server.seen().iter().filter(|seen| seen.in_store).map(|seen| seen.sent).sum();
        assert_eq!(sent, LARGE_ONES);
    }
}

#[test]
fn a_clone_without_its_large_files_is_completed() {
    for kind in HubKind::ALL {
        let world = World::new();
        let repo = model(1);
        let clone = world.cache.path().join("clone");
        std::fs::create_dir_all(clone.join("1_Pooling")).unwrap();
        for (path, file) in repo.files.iter().filter(|(path, _)| *path != "pytorch_model.bin") {
            let (sha256, size) = (&file.sha256, file.bytes.len());
            let pointer =
                format!("version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n");
            let text = if file.is_large() { pointer.as_bytes() } else { &file.bytes };
            std::fs::write(clone.join(path), text).unwrap();
        }
        std::fs::write(clone.join("mine.txt"), "mine").unwrap();
        let request = Request { into: Some(clone.clone()), ..request(ID) };
        let pulled = world.hub(kind).pull(&request, &Unwatched).unwrap();
        assert_eq!((&pulled.directory, pulled.fetched), (&clone, LARGE_ONES));
        check(&clone, &repo);
        let mut left: Vec<_> =
            std::fs::read_dir(&clone).unwrap().flatten().map(|entry| entry.file_name()).collect();
        left.retain(|name| !repo.files.contains_key(name.to_str().unwrap()));
        left.sort();
        assert_eq!(left, ["1_Pooling", "mine.txt"]);
        assert!(!world.cache.path().join(kind.name()).exists());
    }
}

#[test]
fn a_proxy_is_asked_for_whole_addresses() {
    // The proxy is the stand-in itself, which knows no other host.
    let world = World::new();
    let home = world.cache.path().to_str().unwrap().to_owned();
    let test = std::env::current_exe().unwrap();
    let status = std::process::Command::new(test)
        .args(["--exact", "pulls_through_a_proxy"])
        .env("HTTP_PROXY", &world.server.endpoint)
        .env("HF_ENDPOINT", "http://hub.invalid")
        .env("HF_HOME", &home)
        .env("PULLS_THROUGH_A_PROXY", "1")
        .status()
        .unwrap();
    assert!(status.success());
    assert!(world.server.seen().iter().any(|seen| seen.target.contains("resolve")));
}

/// The other half of the test above, in a process of its own.
#[test]
fn pulls_through_a_proxy() {
    if std::env::var_os("PULLS_THROUGH_A_PROXY").is_none() {
        return;
    }
    let hub = Hub::new(glimmer_hub::HubOptions::from_env(HubKind::HuggingFace).unwrap()).unwrap();
    // Small files come from the hub; the store's own address is not the proxy's affair here.
    let listing = hub.list(&ID.parse().unwrap(), None, &Unwatched).unwrap();
    assert_eq!(listing.repo.to_string(), ID);
    check(&hub.pull(&request(ID), &Unwatched).unwrap().directory, &model(1));
}

#[test]
fn a_mirror_may_have_a_path() {
    let world = World::new();
    let mut options = world.options(HubKind::HuggingFace);
    options.endpoint = format!("{}/nowhere", StandIn::start().unwrap().endpoint);
    let error = Hub::new(options.clone()).unwrap().pull(&request(ID), &Unwatched).unwrap_err();
    assert!(error.is_no_repository(), "{error}");
    options.endpoint = "not an address".to_owned();
    assert!(Hub::new(options).err().unwrap().to_string().starts_with("HF_ENDPOINT: "));
}
