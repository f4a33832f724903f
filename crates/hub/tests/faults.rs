//! What goes wrong between a hub and a disk, one thing at a time.
#![allow(clippy::unwrap_used, reason = "these are tests")]

mod support;

use std::time::{Duration, Instant};

use glimmer_hub::{Hub, HubError, HubKind, Request, Unwatched};
use support::stand_in::{File, Repo, Wrong};
use support::{ID, LARGE_ONES, World, check, model, request};

const SHARD: &str = "store GET";

/// Pulls from each hub after something goes wrong so often with requests for the store.
fn despite(wrong: &Wrong, times: usize) {
    for kind in HubKind::ALL {
        let world = World::new();
        world.server.goes_wrong(SHARD, times, wrong.clone());
        let pulled = world.pull(kind).unwrap_or_else(|error| panic!("{kind} despite {wrong:?}: {error}"));
        check(&pulled.directory, &model(1));
    }
}

/// What a pull fails with when something always goes wrong, and that the next one goes on where it was broken off.
fn failure(wrong: &Wrong, word: &'static str) -> String {
    let mut said = String::new();
    for kind in HubKind::ALL {
        let world = World::new();
        world.server.goes_wrong(word, 10_000, wrong.clone());
        said = world.pull(kind).expect_err("it always goes wrong");
        assert!(said.chars().count() < 290, "{said}");
    }
    said
}

#[test]
fn busy_hubs_are_asked_again() {
    for status in [408, 429, 500, 502, 503, 504] {
        despite(&Wrong::Status(status, ""), 2);
    }
    let world = World::new();
    // Of a file in one piece, which no other connection fetches meanwhile.
    world.server.goes_wrong("config.json", 1, Wrong::Status(429, "Retry-After: 1\r\n"));
    let begun = Instant::now();
    world.pull(HubKind::HuggingFace).unwrap();
    assert!(begun.elapsed() >= Duration::from_secs(1));
    let said = failure(&Wrong::Status(503, ""), SHARD);
    assert!(said.contains("status 503"), "{said}");
}

#[test]
fn a_connection_that_ends_early_is_gone_on_with() {
    despite(&Wrong::Hang, 2);
    despite(&Wrong::Cut(0), 2);
    despite(&Wrong::Cut(1), 2);
    // Each brings something, so that none of them counts for long.
    despite(&Wrong::Cut(4 << 20), 10);
    for kind in HubKind::ALL {
        let world = World::new();
        world.server.goes_wrong(SHARD, 6, Wrong::Cut(3 << 20));
        assert_eq!(
            world.pull(kind).unwrap().fetched,
            world
                .server
                .seen()
                .iter()
                .filter(|seen| seen.method == "GET" && (seen.in_store || seen.range.is_some()))
                .map(|seen| seen.sent)
                .sum::<u64>()
        );
    }
    let said = failure(&Wrong::Hang, SHARD);
    assert!(said.contains("cannot be reached"), "{said}");
}

#[test]
fn silence_is_not_waited_for() {
    for wrong in [Wrong::Stall(0), Wrong::Stall(100_000), Wrong::Late(Duration::from_secs(10))] {
        let world = World::new();
        let mut options = world.options(HubKind::HuggingFace);
        options.patience.stall = Duration::from_millis(1500);
        world.server.goes_wrong(SHARD, 2, wrong);
        let begun = Instant::now();
        let pulled = Hub::new(options).unwrap().pull(&request(ID), &Unwatched).unwrap();
        check(&pulled.directory, &model(1));
        assert!(begun.elapsed() < Duration::from_secs(9), "{:?}", begun.elapsed());
    }
}

#[test]
fn a_slow_start_is_waited_for() {
    let world = World::new();
    world.server.goes_wrong("hub", 3, Wrong::Late(Duration::from_millis(800)));
    world.server.goes_wrong(SHARD, 3, Wrong::Late(Duration::from_millis(800)));
    let sent = world.pull(HubKind::HuggingFace).unwrap().fetched;
    assert_eq!(
        sent,
        LARGE_ONES
            + world
                .server
                .seen()
                .iter()
                .filter(|seen| !seen.in_store && seen.range.is_some())
                .map(|seen| seen.sent)
                .sum::<u64>()
    );
}

#[test]
fn damaged_bytes_are_fetched_again_and_never_kept() {
    despite(&Wrong::Corrupt, 1);
    for kind in HubKind::ALL {
        let world = World::new();
        world.server.goes_wrong("store GET", 10_000, Wrong::Corrupt);
        let said = world.pull(kind).unwrap_err();
        assert!(said.contains("is listed; the hub or something on the way is damaged"), "{said}");
        for entry in walk(world.cache.path()) {
            let length = entry.metadata().unwrap().len();
            assert!(
                length < 100_000 || entry.to_string_lossy().contains("incomplete"),
                "{} is kept",
                entry.display()
            );
        }
    }
    // Of small files Hugging Face says git's name only.
    let world = World::new();
    world.server.goes_wrong("GET /zai-org/tiny/resolve", 10_000, Wrong::Corrupt);
    let said = world.pull(HubKind::HuggingFace).unwrap_err();
    assert!(said.contains("damaged"), "{said}");
}

fn walk(root: &std::path::Path) -> Vec<std::path::PathBuf> {
    let (mut files, mut left) = (Vec::new(), vec![root.to_owned()]);
    while let Some(folder) = left.pop() {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            if entry.path().is_dir() { left.push(entry.path()) } else { files.push(entry.path()) }
        }
    }
    files
}

#[test]
fn more_bytes_than_said_are_refused() {
    let said = failure(&Wrong::More, SHARD);
    assert!(said.contains("it sends more of model-0000"), "{said}");
}

#[test]
fn hosts_without_ranges_serve_whole_files() {
    despite(&Wrong::Whole, 10_000);
}

#[test]
fn links_that_expire_are_asked_for_again() {
    for kind in HubKind::ALL {
        let world = World::new();
        world.server.pace(20 << 20);
        let pulled = std::thread::scope(|scope| {
            let pull = scope.spawn(|| world.pull(kind).unwrap());
            for _ in 0..3 {
                std::thread::sleep(Duration::from_millis(150));
                world.server.expire();
            }
            pull.join().unwrap()
        });
        check(&pulled.directory, &model(1));
    }
}

#[test]
fn redirects_go_nowhere_dangerous() {
    for (to, expected) in [
        ("http://127.0.0.1:1/x", "cannot be reached"),
        ("ftp://x/y", "no address of http"),
        ("https://user:secret@x/y", "name or password"),
        ("/api/models/zai-org/tiny/revision/main", "in a circle"),
    ] {
        let world = World::new();
        world.server.goes_wrong("hub GET", 10_000, Wrong::Redirect(to.to_owned()));
        let said = world.pull(HubKind::HuggingFace).unwrap_err();
        assert!(said.contains(expected), "{to}: {said}");
    }
}

#[test]
fn a_version_that_is_published_meanwhile_is_noticed() {
    let mut new = model(2);
    new.files.insert("config.json".to_owned(), File::new(b"{\"model_type\": \"new\"}".to_vec()));
    // Between the list and the first file, and between two files.
    for (kind, word) in [
        (HubKind::HuggingFace, "HEAD /zai-org/tiny/resolve"),
        (HubKind::ModelScope, "FilePath=config.json"),
        (HubKind::ModelScope, "FilePath=model-00001"),
    ] {
        let world = World::new();
        world.server.goes_wrong(word, 1, Wrong::Publish(ID.to_owned(), new.clone()));
        let pulled = world.pull(kind).unwrap();
        check(&pulled.directory, &new);
    }
}

#[test]
fn hostile_names_are_refused_before_anything_is_written() {
    for name in [
        "../../evil",
        "/etc/evil",
        "a/../../evil",
        ".git/hooks/post-checkout",
        "a\0b",
        "a\u{1b}[2J",
        "\\\\x\\y",
        &"a".repeat(300),
    ] {
        for kind in HubKind::ALL {
            let world = World::new();
            world.server.publish(ID, Repo { hostile: vec![name.to_owned()], ..model(1) });
            let said = world.pull(kind).unwrap_err();
            assert!(said.contains("refused"), "{name:?}: {said}");
            assert!(std::fs::read_dir(world.cache.path()).unwrap().next().is_none());
        }
    }
}

#[test]
fn nonsense_is_no_listing() {
    let world = World::new();
    // A page of somebody who stands between us and the hub.
    world.server.goes_wrong("hub GET", 10_000, Wrong::Status(200, ""));
    for kind in HubKind::ALL {
        let said = world.pull(kind).unwrap_err();
        assert!(said.contains("a reply that cannot be read"), "{said}");
    }
}

#[test]
fn too_little_space_is_known_before() {
    let world = World::new();
    // A file that nobody has room for: its size is listed, its bytes are never asked for.
    world.server.publish(ID, Repo { huge: Some(1 << 60), ..model(1) });
    for kind in HubKind::ALL {
        world.server.seen();
        let error = world.hub(kind).pull(&request(ID), &Unwatched).unwrap_err();
        assert!(matches!(error, HubError::NoSpace { .. }), "{error}");
        assert!(world.server.seen().iter().all(|seen| !seen.in_store));
    }
}

#[test]
fn somebody_elses_file_in_a_folder_is_left_alone() {
    let world = World::new();
    let folder = world.cache.path().join("mine");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("config.json"), "my own").unwrap();
    let request = Request { into: Some(folder.clone()), ..request(ID) };
    let said = world.hub(HubKind::HuggingFace).pull(&request, &Unwatched).unwrap_err().to_string();
    assert!(said.contains("left as it is"), "{said}");
    assert_eq!(std::fs::read_to_string(folder.join("config.json")).unwrap(), "my own");
}
