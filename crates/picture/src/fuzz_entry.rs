//! What `fuzz/` calls: each does what may be done with a stranger's bytes, and must not panic, hang or hold much.

use glimmer_config::json;

use crate::{Kind, Limits, Picture, Processor, ProcessorFiles, Video, decode};

/// Small enough for a run a millisecond.
const LIMITS: Limits = Limits {
    bytes: 1 << 16,
    side: 4_096,
    pixels: 1 << 16,
    memory: 1 << 20,
    frames: 64,
    video_pixels: 1 << 16,
};

/// The bytes as a picture and as an animation, and both through every processor.
pub fn picture(data: &[u8]) {
    let picture = decode(data, &LIMITS);
    for kind in [Kind::Glm4v, Kind::Glm5Next, Kind::Mllama] {
        let processor = Processor::published(kind);
        if let Ok(picture) = &picture {
            read(&processor, picture);
        }
        if let Some(video) =
            processor.video().and_then(|rules| Video::of_animation(data, rules, &LIMITS).ok())
        {
            let _ = processor.video_rows(video.frames()).map(|rows| rows.digest());
        }
    }
    if let Err(error) = picture {
        assert!(error.to_string().chars().count() <= 300, "an error is one short line");
    }
}

/// The bytes as a `preprocessor_config.json`, and a small picture through what it says.
pub fn processor(data: &[u8]) {
    let Some(value) = std::str::from_utf8(data).ok().and_then(|text| json::tree(text, json::room(text)).ok())
    else {
        return;
    };
    match Processor::read(ProcessorFiles { picture: Some(&value), ..ProcessorFiles::default() }) {
        Ok(processor) => {
            for (width, height) in [(1, 1), (30, 20), (3, 500)] {
                let picture = Picture::new(width, height, vec![7; width * height * 3]);
                picture.into_iter().for_each(|picture| read(&processor, &picture));
            }
        }
        Err(error) => assert!(error.to_string().chars().count() <= 300, "an error is one short line"),
    }
}

/// The first and the last row of a picture, where they are not too many for a run.
fn read(processor: &Processor, picture: &Picture) {
    if processor
        .grid(picture.width(), picture.height())
        .is_ok_and(|grid| grid.iter().product::<usize>() > 4_096)
    {
        return;
    }
    if let Ok(rows) = processor.rows(picture) {
        let mut row = vec![0.0; rows.width()];
        rows.write(0..1, &mut row);
        rows.write(rows.count() - 1..rows.count(), &mut row);
    }
}
