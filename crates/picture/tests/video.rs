//! Frames of animations and of folders.

mod support;

use std::fs;

use glimmer_picture::{Kind, Limits, PictureError, Processor, Video, VideoRules, decode};
use support::stored;

fn rules(kind: Kind) -> VideoRules {
    *Processor::published(kind).video().expect("it takes videos")
}

/// Six frames of 50 ms, 20 a second: of 0.3 seconds Glm46V takes one, and it twice.
#[test]
fn an_animation_has_its_own_rate() {
    let video =
        Video::of_animation(&stored("animated.gif"), &rules(Kind::Glm46V), &Limits::default()).unwrap();
    assert_eq!(video.frames().len(), 2);
    assert_eq!(video.times(), [0.0]);
    let first = decode(&stored("animated.gif"), &Limits::default()).unwrap();
    assert!(video.frames().iter().all(|frame| *frame == first));
    let rows = Processor::published(Kind::Glm46V).video_rows(video.frames()).unwrap();
    assert_eq!(rows.grid()[0], 1);
    let video =
        Video::of_animation(&stored("animated.webp"), &rules(Kind::Glm4v), &Limits::default()).unwrap();
    assert_eq!(video.frames().len(), 2);
}

#[test]
fn a_folder_is_a_video() {
    let folder = tempfile::tempdir().unwrap();
    let frame =
        |number: usize| fs::write(folder.path().join(format!("frame{number}.png")), stored("rgb.png"));
    assert!(matches!(video(folder.path(), None), Err(PictureError::NoFrames)));
    for number in 1..=12 {
        frame(number).unwrap();
    }
    fs::write(folder.path().join(".DS_Store"), b"x").unwrap();
    fs::write(folder.path().join("frame2.png"), stored("turned_2.jpg")).unwrap();
    // Frame 2 is no PNG, whatever its name says, and smaller.
    let error = video(folder.path(), None).unwrap_err();
    assert!(matches!(error, PictureError::FramesDiffer { frame: 2, .. }), "{error}");
    frame(2).unwrap();
    let all = video(folder.path(), None).unwrap();
    assert_eq!(all.frames().len(), 12);
    assert_eq!(all.times().len(), 6);
    // Twelve frames at four a second, two of them a second.
    let some = video(folder.path(), Some(4.0)).unwrap();
    assert_eq!(some.frames().len(), 6);
    assert_eq!(some.times(), [0.0, 1.0, 2.0]);
    for rate in [0.0, -1.0, f64::NAN, 1e9] {
        assert!(matches!(video(folder.path(), Some(rate)), Err(PictureError::Rate(_))), "{rate}");
    }
    fs::write(folder.path().join("frame7.png"), b"<html>\n").unwrap();
    let error = video(folder.path(), None).unwrap_err().to_string();
    assert!(error.contains("frame7.png") && error.contains("HTML"), "{error}");
}

fn video(folder: &std::path::Path, rate: Option<f64>) -> Result<Video, PictureError> {
    Video::of_folder(folder, rate, &rules(Kind::Glm4v), &Limits::default())
}

#[test]
fn a_still_picture_is_no_video() {
    for name in ["rgb.png", "420.jpg", "lossless.webp"] {
        let error = Video::of_animation(&stored(name), &rules(Kind::Glm4v), &Limits::default()).unwrap_err();
        assert!(matches!(error, PictureError::NotAnimated { .. }), "{error}");
    }
}
