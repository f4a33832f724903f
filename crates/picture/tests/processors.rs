//! Drawn pictures through every processor against transformers 5.23.0 (`tools/make_pictures.py`): grids, levels before they
//! are normalised, and rows as float32, each to the bit.

mod support;

use std::fs;

use glimmer_picture::{Arithmetic, Frames, Kind, Limits, Picture, Processor, ProcessorFiles, Rows, decode};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use support::{data, draw};

fn stored(name: &str) -> Value {
    let text = fs::read_to_string(data().join(name)).expect("the file is stored");
    serde_json::from_str(&text).expect("it is JSON")
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().take(12).map(|byte| format!("{byte:02x}")).collect()
}

fn digest_of_rows(rows: &Rows) -> String {
    digest(&rows.values().iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>())
}

/// The processor of a run, and the same without rescaling and normalising.
fn processors(run: &Value) -> (Processor, Option<Processor>) {
    if run["settings"].is_null() {
        return (Processor::stretched(224, 14).expect("16 patches"), None);
    }
    let arithmetic = |processor: Processor| match run["name"].as_str() {
        Some(name) if name.ends_with("-pillow") => processor.with_arithmetic(Arithmetic::Pillow),
        _ => processor,
    };
    let read = |settings: &Value| {
        let files = ProcessorFiles { picture: Some(settings), ..ProcessorFiles::default() };
        arithmetic(Processor::read(files).expect("the settings can be"))
    };
    let mut raw = run["settings"].clone();
    raw["do_rescale"] = json!(false);
    raw["do_normalize"] = json!(false);
    (read(&run["settings"]), Some(read(&raw)))
}

#[test]
fn rows_are_the_references() {
    let mut wrong = Vec::new();
    let stored = stored("processors.json");
    for run in stored["runs"].as_array().unwrap() {
        let (processor, raw) = processors(run);
        if run["name"] == "fitted" {
            let drawn = draw(61, 93, 1);
            let known = Processor::fitted(224, 14).unwrap().rows(&drawn).unwrap();
            assert_eq!(
                known.digest(),
                processor.rows(&drawn).unwrap().digest(),
                "what is known is in the file"
            );
        }
        let pictures = run["pictures"].as_array().unwrap();
        assert_eq!(pictures.len(), 40);
        for expected in pictures {
            let [width, height, seed] = [0, 1, 2].map(|at| expected[at].as_u64().unwrap());
            let picture = draw(width as usize, height as usize, seed as u32);
            let name = format!("{} of {width} x {height}", run["name"]);
            let Ok(rows) = processor.rows(&picture) else {
                assert!(expected[3].is_string(), "{name} is refused");
                continue;
            };
            assert_eq!(json!(rows.grid()), expected[3], "{name}");
            assert_eq!(rows.grid(), processor.grid(picture.width(), picture.height()).unwrap());
            let levels = raw.as_ref().map(|raw| {
                let rows = raw.rows(&picture).unwrap();
                digest(&rows.values().iter().map(|level| *level as u8).collect::<Vec<_>>())
            });
            if levels.is_some_and(|levels| json!(levels) != expected[4]) {
                wrong.push(format!("{name}: levels differ"));
            } else if json!(digest_of_rows(&rows)) != expected[5] {
                wrong.push(format!("{name}: rows differ"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What the fixtures' own preprocessing made of their picture, with Pillow.
#[test]
fn fixtures_are_prepared_to_the_bit() {
    let picture = decode(&fs::read(data().join("fixture.png")).unwrap(), &Limits::default()).unwrap();
    let fixtures = stored("fixtures.json");
    assert_eq!(fixtures.as_array().unwrap().len(), 4);
    for fixture in fixtures.as_array().unwrap() {
        let files = ProcessorFiles { picture: Some(&fixture[3]), ..ProcessorFiles::default() };
        let processor = Processor::read(files).unwrap();
        assert_eq!(processor.unread(), &[] as &[String]);
        let rows = processor.with_arithmetic(Arithmetic::Pillow).rows(&picture).unwrap();
        assert_eq!(json!(rows.grid()), fixture[1], "{}", fixture[0]);
        assert_eq!(json!(digest_of_rows(&rows)), fixture[2], "{}", fixture[0]);
    }
}

fn kind(class: &Value) -> Kind {
    match class.as_str() {
        Some("Glm4vVideoProcessor") => Kind::Glm4v,
        Some("Glm46VVideoProcessor") => Kind::Glm46V,
        _ => Kind::Glm5Next,
    }
}

#[test]
fn videos_are_cut_as_the_references_cut_them() {
    for expected in stored("processors.json")["videos"].as_array().unwrap() {
        let [count, width, height] = [1, 2, 3].map(|at| expected[at].as_u64().unwrap() as usize);
        let frames: Vec<Picture> = (0..count).map(|seed| draw(width, height, seed as u32)).collect();
        let rows = Processor::published(kind(&expected[0])).video_rows(&frames).unwrap();
        assert_eq!(json!(rows.grid()), expected[4], "{expected}");
        assert_eq!(json!(digest_of_rows(&rows)), expected[5], "{expected}");
        let (grid, whole) = (rows.grid(), rows.values());
        let groups = rows.into_groups();
        assert!(groups.iter().all(|group| group.grid() == [1, grid[1], grid[2]]), "{expected}");
        assert!(
            groups.len() == grid[0] && groups.iter().flat_map(|group| group.values()).eq(whole),
            "{expected}"
        );
    }
}

#[test]
fn frames_are_chosen_as_the_references_choose_them() {
    for expected in stored("sampling.json").as_array().unwrap() {
        let processor = Processor::published(kind(&expected[0]));
        let frames =
            Frames { count: expected[1].as_u64().unwrap() as usize, rate: expected[2].as_f64().unwrap() };
        let chosen = processor.video().unwrap().sample(frames).unwrap();
        // Of a video shorter than a step the references take nothing, and fail.
        if expected[3] == 0 {
            assert_eq!(chosen, [0, 0], "{expected}");
            continue;
        }
        let weighed: usize = chosen.iter().zip(1..).map(|(frame, i)| frame * i).sum();
        assert_eq!(json!(chosen[..chosen.len().min(24)]), expected[5], "{expected}");
        assert_eq!(json!([chosen.len(), weighed]), json!([expected[3], expected[4]]), "{expected}");
    }
}
