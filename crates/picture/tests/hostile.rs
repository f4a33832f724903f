//! Pictures that mean harm, or are none: one line says what is wrong, and nothing large is held before that is known.

mod support;

use std::fs;
use std::time::{Duration, Instant};

use glimmer_picture::{Kind, Limits, PictureError, Processor, Video, decode};
use support::{data, draw, stored};

/// The line that refuses the bytes.
fn refusal(bytes: &[u8]) -> String {
    let begin = Instant::now();
    let error = decode(bytes, &Limits::default()).expect_err("these bytes are no picture").to_string();
    assert!(begin.elapsed() < Duration::from_secs(5), "{error}");
    assert!(error.chars().count() <= 300 && !error.contains(['\n', '\x1b']), "{error:?}");
    error
}

fn png_chunk(name: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let body = [name.as_slice(), data].concat();
    // CRC-32, bit by bit.
    let crc = body.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 * (crc & 1)))
    });
    [&(data.len() as u32).to_be_bytes()[..], &body, &(!crc).to_be_bytes()].concat()
}

/// A PNG of this size that is nothing but its head.
fn png_head(width: u32, height: u32) -> Vec<u8> {
    let head = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[8, 2, 0, 0, 0]].concat();
    [b"\x89PNG\r\n\x1a\n".as_slice(), &png_chunk(b"IHDR", &head), &png_chunk(b"IDAT", &[0x78, 0x9c])].concat()
}

/// A GIF of `frames` frames of one colour, 5 bytes of data each.
fn gif(width: u16, height: u16, frames: usize) -> Vec<u8> {
    let size = [width.to_le_bytes(), height.to_le_bytes()].concat();
    let mut bytes = [b"GIF89a".as_slice(), &size, &[0x80, 0, 0, 0, 0, 0, 255, 255, 255]].concat();
    for _ in 0..frames {
        bytes.extend([0x21, 0xf9, 4, 0, 5, 0, 0, 0, 0x2c, 0, 0, 0, 0, 1, 0, 1, 0, 0, 2, 2, 0x44, 1, 0]);
    }
    bytes.push(0x3b);
    bytes
}

#[test]
fn what_is_no_picture_is_told_apart() {
    for (bytes, expected) in [
        (&b""[..], "no bytes"),
        (b"<?xml version=\"1.0\"?>\n<svg xmlns=\"http://www.w3.org/2000/svg\"/>", "an SVG"),
        (b"  <svg width='1'/>", "an SVG"),
        (b"<!DOCTYPE html><html>404</html>", "an HTML page"),
        (b"%PDF-1.7\n", "a PDF"),
        (b"\0\0\0\x1cftypavif\0\0\0\0", "an AVIF"),
        (b"\0\0\0\x1cftypheic\0\0\0\0", "a HEIC"),
        (b"\0\0\0\x1cftypisom\0\0\0\0", "a video"),
        (b"data:image/png;base64,iVBORw0KGgo=", "a data URI"),
        (b"{\"error\": 1}", "text"),
        (&[0; 100], "no picture"),
        (&[0xff; 100], "no picture"),
    ] {
        let error = refusal(bytes);
        assert!(error.contains(expected), "{error}");
        assert!(bytes.is_empty() || error.contains("PNG"), "{error}");
    }
}

#[test]
fn sizes_are_known_before_pixels_are_made() {
    for (width, height) in
        [(1 << 30, 1 << 30), (65_536, 1), (1, 65_536), (40_000, 40_000), (u32::MAX >> 1, 1)]
    {
        let error = refusal(&png_head(width, height));
        assert!(error.contains("make it smaller"), "{error}");
    }
    assert!(refusal(&png_head(0, 5)).contains("damaged"));
    assert!(refusal(&gif(65_535, 65_535, 1)).contains("at most"));
    let small = Limits { bytes: 100, ..Limits::default() };
    assert!(matches!(decode(&stored("rgb.png"), &small), Err(PictureError::TooManyBytes { .. })));
    let small = Limits { side: 36, ..Limits::default() };
    assert!(matches!(decode(&stored("rgb.png"), &small), Err(PictureError::TooLarge { .. })));
    let small = Limits { memory: 1_000, ..Limits::default() };
    for name in ["rgb.png", "raw.tif", "palette.gif", "420.jpg", "lossless.webp", "rgb.bmp"] {
        let error = decode(&stored(name), &small).unwrap_err();
        assert!(matches!(error, PictureError::TooMuchMemory { .. }), "{name}: {error}");
    }
}

#[test]
fn what_is_cut_off_is_damaged() {
    for entry in fs::read_dir(data().join("files")).unwrap() {
        let path = entry.unwrap().path();
        let bytes = fs::read(&path).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap();
        for part in [10, 50, 90] {
            let cut = &bytes[..bytes.len() * part / 100];
            // Of an animation the first frame may be there.
            if !name.starts_with("animated") {
                assert!(decode(cut, &Limits::default()).is_err(), "{part} % of {name}");
                refusal(cut);
            }
        }
    }
}

/// Every byte of every file turned, a few at a time: an error or a picture, and never a panic.
#[test]
fn damaged_bytes_end_in_a_line_or_a_picture() {
    let mut state = 1_u64;
    let mut random = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize
    };
    let limits = Limits { pixels: 1 << 20, memory: 16 << 20, video_pixels: 1 << 20, ..Limits::default() };
    for entry in fs::read_dir(data().join("files")).unwrap() {
        let bytes = fs::read(entry.unwrap().path()).unwrap();
        for _ in 0..60 {
            let mut broken = bytes.clone();
            for _ in 0..1 + random() % 4 {
                let at = random() % broken.len();
                broken[at] = random() as u8;
            }
            if let Err(error) = decode(&broken, &limits) {
                let error = error.to_string();
                assert!(error.chars().count() <= 300 && !error.contains(['\n', '\x1b']), "{error:?}");
            }
            let rules = *Processor::published(Kind::Glm4v).video().unwrap();
            let _ = Video::of_animation(&broken, &rules, &limits);
        }
    }
}

#[test]
fn of_ten_thousand_frames_a_picture_is_the_first_and_a_video_is_refused() {
    let bytes = gif(40, 30, 10_000);
    let begin = Instant::now();
    assert_eq!(decode(&bytes, &Limits::default()).unwrap().width(), 40);
    assert!(begin.elapsed() < Duration::from_secs(1));
    let rules = *Processor::published(Kind::Glm4v).video().unwrap();
    let error = Video::of_animation(&bytes, &rules, &Limits::default()).unwrap_err();
    assert!(matches!(error, PictureError::TooManyFrames { limit: 8_192 }), "{error}");
    // Few frames, each of them large: their pixels are counted together.
    let large = gif(2_000, 2_000, 1_000);
    let small = Limits { video_pixels: 4 << 20, ..Limits::default() };
    let error = Video::of_animation(&large, &rules, &small).unwrap_err();
    assert!(matches!(error, PictureError::TooManyFrames { limit: 8 }), "{error}");
}

#[test]
fn thin_pictures_are_rows_or_a_reason() {
    for (width, height) in [(1, 1), (65_535, 1), (1, 65_535), (200, 1), (5_601, 28)] {
        let picture = draw(width, height, 1);
        for kind in [Kind::Glm4v, Kind::Glm46V, Kind::Glm5Next, Kind::Mllama] {
            match Processor::published(kind).rows(&picture) {
                Ok(rows) => assert!(rows.count() > 0 && rows.count() < 70_000, "{rows:?}"),
                Err(error) => assert!(matches!(error, PictureError::TooThin { .. }), "{error}"),
            }
        }
        assert_eq!(Processor::stretched(1_120, 14).unwrap().rows(&picture).unwrap().grid(), [1, 80, 80]);
    }
}
