//! Looking after a cache: what repositories share, and what somebody is using.
#![allow(clippy::unwrap_used, reason = "these are tests")]

mod support;

use std::fs::{self, File};
use std::os::unix::fs::symlink;

use glimmer_hub::{Cache, HubError, HubKind};
use support::World;

#[test]
fn shared_bytes_go_with_the_last_repository_that_has_them() {
    let world = World::new();
    let options = world.options(HubKind::HuggingFace);
    let (root, name, etag) = (&options.cache, "ab".repeat(32), "c".repeat(64));
    let store = root.join("blobs/ab");
    fs::create_dir_all(&store).unwrap();
    fs::write(store.join(&name), [7; 5000]).unwrap();
    let mut references = String::new();
    for repo in ["models--a--one", "models--a--two"] {
        let (blobs, snapshot) =
            (root.join(repo).join("blobs"), root.join(repo).join("snapshots").join("0".repeat(40)));
        fs::create_dir_all(&blobs).unwrap();
        fs::create_dir_all(&snapshot).unwrap();
        symlink(format!("../../blobs/ab/{name}"), blobs.join(&etag)).unwrap();
        symlink(format!("../../blobs/{etag}"), snapshot.join("model.safetensors")).unwrap();
        references += &format!("{repo}/blobs/{etag}\n");
    }
    fs::write(store.join(format!("{name}.refs")), references).unwrap();
    let cache = Cache::new(&options);
    let repos = cache.repos().unwrap();
    let [one, two] = repos.as_slice() else { panic!("{repos:?}") };
    assert_eq!((one.id.as_str(), one.bytes, one.revisions[0].files[0].1), ("a/one", 5000, 5000));
    assert_eq!(cache.remove(one, None).unwrap(), 0);
    assert!(store.join(&name).exists());
    assert_eq!(cache.remove(two, None).unwrap(), 5000);
    assert!(!store.join(&name).exists());
    assert!(cache.repos().unwrap().is_empty());
}

#[test]
fn what_is_being_fetched_is_not_removed() {
    let world = World::new();
    world.pull(HubKind::HuggingFace).unwrap();
    let options = world.options(HubKind::HuggingFace);
    let locks = options.cache.join(".locks/models--zai-org--tiny");
    let lock = fs::read_dir(&locks).unwrap().next().unwrap().unwrap().path();
    let held = File::open(lock).unwrap();
    held.lock().unwrap();
    let cache = Cache::new(&options);
    let repos = cache.repos().unwrap();
    assert!(matches!(cache.remove(&repos[0], None), Err(HubError::Busy { .. })));
    drop(held);
    assert!(cache.remove(&repos[0], None).unwrap() > 34 << 20);
    assert!(!locks.exists());
}

#[test]
fn a_link_that_leads_nowhere_is_a_fault() {
    let world = World::new();
    let directory = world.pull(HubKind::HuggingFace).unwrap().directory;
    fs::remove_file(directory.join("LICENSE").canonicalize().unwrap()).unwrap();
    let cache = Cache::new(&world.options(HubKind::HuggingFace));
    let (compared, faults) = cache.repos().unwrap()[0].verify(None, &|_| true).unwrap();
    assert_eq!((compared, faults.len(), faults[0].what.as_str()), (5, 1, "the link leads nowhere"));
    assert!(world.hub(HubKind::HuggingFace).cached(&support::request(support::ID)).is_none());
    // It is fetched again.
    world.pull(HubKind::HuggingFace).unwrap();
    assert!(cache.repos().unwrap()[0].verify(None, &|_| true).unwrap().1.is_empty());
}
