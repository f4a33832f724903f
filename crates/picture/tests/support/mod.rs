//! What the tests share: where data lie, and pictures that are drawn.
#![allow(dead_code)]

use std::path::PathBuf;

use glimmer_picture::Picture;

/// The folder that `tools/make_pictures.py` writes.
pub(crate) fn data() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data")
}

/// A file of the folder `files`.
pub(crate) fn stored(name: &str) -> Vec<u8> {
    std::fs::read(data().join("files").join(name)).expect("the file is stored")
}

/// A gradient with edges, and noise in some squares; `draw` of `tools/make_pictures.py` is the same.
pub(crate) fn draw(width: usize, height: usize, seed: u32) -> Picture {
    let mut pixels = Vec::with_capacity(width * height * 3);
    for y in 0..height as u32 {
        for x in 0..width as u32 {
            for c in 0..3 {
                let smooth = x * (3 + c) + y * (5 - c) + seed * 29;
                let edges = (x / 9 + y / 7 + c) % 2 * 90;
                let mixed = x.wrapping_mul(73_856_093)
                    ^ y.wrapping_mul(19_349_663)
                    ^ (c + seed).wrapping_mul(83_492_791);
                let noise = ((mixed >> 7) ^ (mixed >> 16)) & 255;
                let is_noise = (x / 16 + 2 * (y / 16) + seed).is_multiple_of(5);
                pixels.push(if is_noise { noise } else { (smooth / 2 + edges) & 255 } as u8);
            }
        }
    }
    Picture::new(width, height, pixels).expect("as many pixels as the size says")
}
