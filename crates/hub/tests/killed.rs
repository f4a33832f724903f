//! A process that is killed while it fetches, again and again: what was whole is not fetched twice, and what comes out in the
//! end is right.
#![allow(clippy::unwrap_used, reason = "these are tests")]

mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use glimmer_hub::{Hub, HubKind, HubOptions, Unwatched};
use support::stand_in::noise;
use support::{ID, LARGE_ONES, LARGEST, World, check, model, request};

const KILLS: u64 = 20;

#[test]
fn twenty_times_from_hugging_face() {
    killed(HubKind::HuggingFace);
}

#[test]
fn twenty_times_from_modelscope() {
    killed(HubKind::ModelScope);
}

/// The process that is killed.
#[test]
fn pulls_in_a_process_of_its_own() {
    let Ok(kind) = std::env::var("PULL_FROM") else { return };
    let kind = HubKind::ALL.into_iter().find(|other| other.name() == kind).unwrap();
    Hub::new(HubOptions::from_env(kind).unwrap()).unwrap().pull(&request(ID), &Unwatched).unwrap();
}

fn start(world: &World, kind: HubKind) -> Child {
    let cache = world.cache.path().join(kind.name());
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "pulls_in_a_process_of_its_own"])
        .env("PULL_FROM", kind.name())
        .envs([("HF_ENDPOINT", &world.server.endpoint), ("MODELSCOPE_ENDPOINT", &world.server.endpoint)])
        .envs([("HF_HUB_CACHE", &cache), ("MODELSCOPE_CACHE", &cache)])
        .env_remove("HTTP_PROXY")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn killed(kind: HubKind) {
    let world = World::new();
    world.server.pace(8 << 20);
    let mut moments = noise(KILLS as usize, 7).into_iter();
    let mut sent = 0;
    for _ in 0..KILLS {
        let whole = journals(world.cache.path());
        let mut child = start(&world, kind);
        std::thread::sleep(Duration::from_millis(20 + 2 * u64::from(moments.next().unwrap())));
        child.kill().unwrap();
        child.wait().unwrap();
        // The threads of the stand-in notice by themselves.
        std::thread::sleep(Duration::from_millis(50));
        sent += in_store(&world, &whole);
    }
    world.server.pace(0);
    let whole = journals(world.cache.path());
    assert!(start(&world, kind).wait().unwrap().success());
    sent += in_store(&world, &whole);
    let directory = world.hub(kind).cached(&request(ID)).unwrap().directory;
    check(&directory, &model(1));
    // What was under way when a process was killed is lost: some buffers of each connection.
    let lost = KILLS * 4 * (1 << 20);
    assert!(sent <= LARGE_ONES + lost, "{sent} bytes were sent");
}

/// The bytes that the store sent, none of which was whole before.
fn in_store(world: &World, whole: &BTreeMap<u64, u64>) -> u64 {
    let seen = world.server.seen();
    let of_largest = |to: u64| to >= 300_000;
    for seen in seen.iter().filter(|seen| seen.in_store) {
        let (from, to) = seen.range.unwrap();
        let Some((begin, done)) = whole.range(..=to).next_back().filter(|_| of_largest(to)) else { continue };
        assert!(
            from >= begin + done,
            "{from} to {to} was asked for, of which {done} from {begin} on were there"
        );
    }
    seen.iter().filter(|seen| seen.in_store).map(|seen| seen.sent).sum()
}

/// Of the largest file, the beginnings of pieces and the bytes of each that are there, as the journal of an unfinished file
/// says: `GLMPART1`, size, length of a piece, then of each piece the bytes.
fn journals(root: &Path) -> BTreeMap<u64, u64> {
    let files = unfinished(root).into_iter().map(|path| std::fs::read(path).unwrap());
    let journal = files
        .filter_map(|bytes| bytes.get(LARGEST..).map(<[u8]>::to_vec))
        .find(|bytes| bytes.starts_with(b"GLMPART1"));
    let Some(journal) = journal else { return BTreeMap::new() };
    let numbers = journal[8..].chunks_exact(8).map(|bytes| u64::from_le_bytes(bytes.try_into().unwrap()));
    let numbers: Vec<u64> = numbers.collect();
    assert_eq!(numbers[0], LARGEST as u64);
    numbers[2..].iter().enumerate().map(|(piece, done)| (piece as u64 * numbers[1], *done)).collect()
}

fn unfinished(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let below = |path: PathBuf| if path.is_dir() { unfinished(&path) } else { vec![path] };
    let files = entries.flat_map(|entry| below(entry.path()));
    files.filter(|path| path.to_string_lossy().ends_with(".glimmer.incomplete")).collect()
}
