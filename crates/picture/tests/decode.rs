//! Files of every kind and mode against what Pillow reads from them (`tools/make_pictures.py`).

mod support;

use std::fs;

use glimmer_picture::{Limits, decode};
use support::{data, draw, stored};

/// How far a file's pixels may be from Pillow's: those of a kind without loss not at all. A JPEG's decoder rounds its cosines
/// otherwise than libjpeg; some forms are converted by others' arithmetic.
fn allowed(name: &str) -> u8 {
    match name.rsplit('.').next() {
        Some("jpg") => 2,
        Some("webp") if name.starts_with("lossy") => 2,
        _ if ["cmyk.tif", "555.bmp"].contains(&name) => 1,
        _ => 0,
    }
}

/// What is wrong with a file, if anything.
fn difference(name: &str, bytes: &[u8], expected: &[u8]) -> Option<String> {
    let expected = decode(expected, &Limits::default()).expect("Pillow wrote it");
    let found = match decode(bytes, &Limits::default()) {
        Ok(found) => found,
        Err(error) => return Some(format!("{name}: {error}")),
    };
    if (found.width(), found.height()) != (expected.width(), expected.height()) {
        return Some(format!("{name}: {found:?} for {expected:?}"));
    }
    let differences = || found.pixels().iter().zip(expected.pixels()).map(|(a, b)| a.abs_diff(*b));
    let largest = differences().max().unwrap_or(0);
    let over = differences().filter(|difference| *difference > allowed(name)).count();
    // In colours three roundings come together: one value in a thousand is a level further off.
    let is_near = name.ends_with(".jpg") && largest <= 3 && over * 1_000 <= found.pixels().len();
    (over > 0 && !is_near).then(|| format!("{name}: {over} values differ, by up to {largest}"))
}

#[test]
fn every_kind_and_mode_is_read_as_pillow_reads_it() {
    let mut wrong = Vec::new();
    let mut files = 0;
    for entry in fs::read_dir(data().join("files")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let expected = fs::read(data().join("expected").join(format!("{name}.png"))).unwrap();
        wrong.extend(difference(&name, &fs::read(&path).unwrap(), &expected));
        files += 1;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(files > 50, "{files} files");
}

/// The files' own picture: so the comparison's right side is held to something, too.
#[test]
fn a_drawn_picture_comes_back() {
    for name in ["rgb.png", "interlaced.png", "raw.tif", "rgb.bmp", "lossless.webp"] {
        assert!(decode(&stored(name), &Limits::default()).unwrap() == draw(37, 23, 1), "{name}");
    }
}

#[test]
fn a_digest_is_of_what_is_seen() {
    let digest = |name: &str| decode(&stored(name), &Limits::default()).unwrap().digest();
    assert_eq!(digest("rgb.png"), digest("raw.tif"));
    assert_ne!(digest("rgb.png"), digest("turned.png"));
    assert_eq!(digest("rgb.png")[..4], draw(37, 23, 1).digest()[..4]);
}
