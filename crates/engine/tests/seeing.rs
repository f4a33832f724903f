//! Requests with pictures: each is answered as if it were alone, whatever is computed beside it and whatever is remembered; a
//! picture is seen once.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on has failed; what is left out is said"
)]

mod support;

use std::path::{Path, PathBuf};
use std::slice::from_ref;
use std::sync::Arc;

use glimmer_checkpoint::Checkpoint;
use glimmer_cpu::{CpuDevice, CpuOptions};
use glimmer_engine::{Companions, Engine, EngineOptions, PromptPicture, Request};
use glimmer_models::vision::{Tower, TowerPlan, VisionSpec};
use glimmer_picture::{Kind, Picture, Processor, Rows};
use glimmer_tensor::Compute;
use support::{Heard, OPTIONS, at_rest, decoder, hear};

/// The id that stands for a row of a picture.
const IMAGE: u32 = 315;

fn fixture() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let dir = root.join("../shared/fixtures/glm-ocr");
    if !dir.exists() {
        println!("SKIPPED: glm-ocr is not there");
    }
    dir.exists().then_some(dir)
}

fn tower(dir: &Path) -> Tower {
    let checkpoint = Checkpoint::open(dir).unwrap();
    let spec = VisionSpec::of(&checkpoint).unwrap().unwrap();
    let device = CpuDevice::new(CpuOptions { threads: Some(1), compute: Compute::F32, isa: None }).unwrap();
    Tower::load(Box::new(device), &checkpoint, spec, TowerPlan::for_patches(1024)).unwrap()
}

fn seeing(dir: &Path, options: EngineOptions, room: usize) -> Engine {
    let companions = Companions { tower: Some((tower(dir), room)), ..Companions::default() };
    Engine::start_with(decoder(dir, Compute::F32), companions, options).unwrap()
}

/// Rows of a picture of one hue.
fn rows(seed: u8, width: usize, height: usize) -> Arc<Rows> {
    let pixels = (0..width * height * 3).map(|i| (i as u8).wrapping_mul(seed).wrapping_add(seed)).collect();
    let picture = Picture::new(width, height, pixels).unwrap();
    Arc::new(Processor::published(Kind::Glm46V).rows(&picture).unwrap())
}

/// A question about pictures: tokens, the pictures between two of them, more tokens.
fn question(pictures: &[Arc<Rows>], words: u32) -> Request {
    let mut request = Request { prompt: vec![5, 9, 12], max_tokens: 8, ..Request::default() };
    for rows in pictures {
        request.prompt.push(311);
        request.pictures.push(PromptPicture::new(request.prompt.len(), Arc::clone(rows)));
        request.prompt.extend(std::iter::repeat_n(IMAGE, rows.tokens()));
        request.prompt.push(312);
    }
    request.prompt.extend(20..20 + words);
    request
}

fn alone(dir: &Path, request: &Request) -> Heard {
    hear(&seeing(dir, OPTIONS, 1 << 20).answer(request.clone()))
}

#[test]
fn each_is_answered_as_if_it_were_alone() {
    let Some(dir) = fixture() else { return };
    let (a, b) = (rows(3, 112, 112), rows(7, 112, 112));
    assert_eq!(a.tokens(), b.tokens());
    let requests = [
        question(from_ref(&a), 9),
        question(from_ref(&b), 9),
        question(&[b.clone(), a.clone()], 30),
        question(&[], 40),
    ];
    let expected: Vec<Vec<u32>> = requests.iter().map(|request| alone(&dir, request).tokens).collect();
    assert_ne!(expected[0], expected[1], "the picture matters");
    // Steps of few rows cut pictures.
    for rows in [8, 64] {
        let engine = seeing(&dir, EngineOptions { rows, ..OPTIONS }, 1 << 20);
        for _ in 0..2 {
            let events: Vec<_> = requests.iter().map(|request| engine.answer(request.clone())).collect();
            for (events, expected) in events.iter().zip(&expected) {
                let heard = hear(events);
                assert!(heard.end.is_ok(), "{:?}", heard.end);
                assert_eq!(&heard.tokens, expected, "{rows} rows");
            }
        }
        let statistics = at_rest(&engine);
        assert_eq!((statistics.pictures, statistics.pictures_kept), (2, 6), "each is seen once");
    }
}

#[test]
fn the_next_turn_finds_the_picture_remembered() {
    let Some(dir) = fixture() else { return };
    let engine = seeing(&dir, OPTIONS, 1 << 20);
    let mut request = question(&[rows(3, 224, 112)], 9);
    let first = hear(&engine.answer(request.clone()));
    assert_eq!(first.cached, 0);
    request.prompt.extend(&first.tokens);
    request.prompt.extend(40..50);
    let expected = alone(&dir, &request);
    let second = hear(&engine.answer(request.clone()));
    assert_eq!(second.tokens, expected.tokens);
    assert!(second.cached >= 32, "{}", second.cached);
    // Equal placeholders of another picture are another text.
    request.pictures = vec![PromptPicture::new(4, rows(9, 224, 112))];
    let other = hear(&engine.answer(request.clone()));
    assert_eq!(other.tokens, alone(&dir, &request).tokens);
    assert_eq!(other.cached, 0);
}

#[test]
fn what_is_not_kept_is_seen_again() {
    let Some(dir) = fixture() else { return };
    let engine = seeing(&dir, OPTIONS, 0);
    let request = question(&[rows(3, 112, 112)], 9);
    let answers = [hear(&engine.answer(request.clone())), hear(&engine.answer(request))];
    assert_eq!(answers[0].tokens, answers[1].tokens);
    assert_eq!(at_rest(&engine).pictures, 2);
}

#[test]
fn copies_share_what_is_seen() {
    let Some(dir) = fixture() else { return };
    let engine = seeing(&dir, OPTIONS, 1 << 20);
    let request = question(&[rows(3, 112, 112)], 9);
    let expected = alone(&dir, &request).tokens;
    for events in engine.answers(request, 3) {
        assert_eq!(hear(&events).tokens, expected);
    }
    assert_eq!(at_rest(&engine).pictures, 1);
}

#[test]
fn pictures_that_cannot_be_seen_are_refused() {
    let Some(dir) = fixture() else { return };
    let blind = Engine::start(decoder(&dir, Compute::F32), OPTIONS).unwrap();
    let request = question(&[rows(3, 112, 112)], 9);
    assert!(hear(&blind.answer(request.clone())).end.unwrap_err().contains("sees no pictures"));
    let engine = seeing(&dir, OPTIONS, 1 << 20);
    let cut = Request { prompt: request.prompt[..9].to_vec(), ..request.clone() };
    assert!(hear(&engine.answer(cut)).end.unwrap_err().contains("rows end at"));
    let twice =
        Request { pictures: [request.pictures.clone(), request.pictures.clone()].concat(), ..request };
    assert!(hear(&engine.answer(twice)).end.is_err());
    // 80 x 80 patches, where there is room for 1,024.
    let large = question(&[rows(3, 1120, 1120)], 9);
    let options = EngineOptions { context: 2048, slots: 2048, ..OPTIONS };
    let error = hear(&seeing(&dir, options, 0).answer(large)).end.unwrap_err();
    assert!(error.contains("a picture of 6400 patches, where there is room for 1024"), "{error}");
    assert_eq!(at_rest(&engine).pictures, 0, "nothing was seen for them");
}
