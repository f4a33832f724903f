//! The data: every file fits the schema, names lead to one thing, figures name their sources.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use glimmer_catalogue::{Catalogue, Format, Shape, cards, renamed};
use serde_json::Value;

fn data() -> impl Iterator<Item = (String, Value)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("data");
    std::fs::read_dir(folder).unwrap().map(|file| {
        let path = file.unwrap().path();
        let value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        (path.file_name().unwrap().to_string_lossy().into_owned(), value)
    })
}

#[test]
fn every_file_fits_the_schema() {
    let files: BTreeMap<String, Value> = data().collect();
    let validator = jsonschema::validator_for(&files["schema.json"]).unwrap();
    let mut entries = 0;
    for (name, value) in files.iter().filter(|(name, _)| *name != "schema.json") {
        let faults: Vec<String> = validator
            .iter_errors(value)
            .map(|error| format!("{} at {}", error, error.instance_path()))
            .collect();
        assert_eq!(faults, [""; 0], "{name}");
        entries += value["entries"].as_array().map_or(0, Vec::len);
    }
    // No file is left out of the program.
    assert_eq!(Catalogue::published().entries().len(), entries);
}

/// What the schema is for: an entry without a source, or with a field that nobody reads, does not pass.
#[test]
fn the_schema_refuses_what_it_should() {
    let files: BTreeMap<String, Value> = data().collect();
    let validator = jsonschema::validator_for(&files["schema.json"]).unwrap();
    let faulty = |change: &dyn Fn(&mut Value)| {
        let mut file = files["glm-edge.json"].clone();
        change(&mut file["entries"][0]);
        !validator.is_valid(&file)
    };
    assert!(!faulty(&|_| ()));
    assert!(faulty(&|entry| entry["sources"]["context"] = Value::Null));
    assert!(faulty(&|entry| drop(entry["sources"].as_object_mut().unwrap().remove("licence"))));
    assert!(faulty(&|entry| entry["released"] = "2024-11-29".into()));
    assert!(faulty(&|entry| entry["price"] = 1.into()));
    assert!(faulty(&|entry| entry["models"][0]["shape"]["layers"] = 0.into()));
    assert!(faulty(&|entry| entry["formats"][0]["repositories"][0]["id"] = "../x".into()));
}

#[test]
fn names_lead_to_one_thing() {
    let catalogue = Catalogue::published();
    // An entry may be called as the only model that it has.
    let mut seen = BTreeMap::new();
    for entry in catalogue.entries() {
        let names: BTreeSet<&String> = entry
            .aliases
            .iter()
            .chain([&entry.name])
            .chain(entry.models.iter().map(|model| &model.name))
            .collect();
        for name in names {
            let other = seen.insert(name.to_lowercase(), &entry.name);
            assert_eq!(other, None, "{name}");
            assert_eq!(catalogue.find(name).map(|found| &found.name), Some(&entry.name), "{name}");
        }
        let sizes: BTreeSet<_> = entry.models.iter().map(|model| &model.size).collect();
        assert_eq!(sizes.len(), entry.models.len(), "{}", entry.name);
    }
}

#[test]
fn keys_lead_somewhere() {
    let catalogue = Catalogue::published();
    let models: BTreeSet<&str> = catalogue.models().map(|(_, model)| model.name.as_str()).collect();
    let mut used = BTreeSet::from(["techpowerup"]);
    for entry in catalogue.entries() {
        assert_eq!(catalogue.licence(entry).is_some(), entry.licence.is_some(), "{}", entry.name);
        used.extend(catalogue.licence(entry).map(|licence| licence.source.as_str()));
        used.extend(entry.source_keys());
        let figures = entry.benchmarks.iter().map(|b| &b.model).chain(entry.quality.iter().map(|q| &q.model));
        for name in figures {
            assert!(entry.models.iter().any(|model| model.name == *name), "{}: {name}", entry.name);
        }
        for form in &entry.formats {
            assert!(
                entry.models.iter().any(|model| model.size == form.size),
                "{}: {}",
                entry.name,
                form.size
            );
            let patterned = form.file_pattern.is_some() || form.split_pattern.is_some();
            assert!(!patterned || form.format == Format::Ggufv2, "{}", entry.name);
            for repository in &form.repositories {
                assert_eq!(renamed(&repository.id), repository.id, "{}", entry.name);
            }
        }
        for model in &entry.models {
            assert!(model.like.as_ref().is_none_or(|like| models.contains(like.as_str())), "{}", model.name);
            assert_eq!(
                catalogue.shape(model).is_some(),
                model.shape.is_some() || model.like.is_some(),
                "{}: what it is like has no shape",
                model.name
            );
        }
    }
    let known: BTreeSet<&str> = catalogue.sources().map(|(key, _)| key).collect();
    assert_eq!(used, known, "sources that are named, and those that there are");
}

/// The shapes that this program has always known.
#[test]
fn shapes_are_the_published_ones() {
    // Layers, hidden, heads, inner, key/value heads, vocabulary, context; and the rotary base.
    let published = [
        ("chatglm-6b", [28, 4096, 32, 16384, 32, 130_528, 2048], 1e4),
        ("chatglm2-6b", [28, 4096, 32, 13696, 2, 65_024, 32768], 1e4),
        ("chatglm3-6b", [28, 4096, 32, 13696, 2, 65_024, 8192], 1e4),
        ("glm-4-9b-chat", [40, 4096, 32, 13696, 2, 151_552, 131_072], 5e6),
        ("glm-4-9b-chat-1m", [40, 4096, 32, 13696, 4, 151_552, 1_048_576], 1e8),
        ("glm-4-9b", [40, 4096, 32, 13696, 2, 151_552, 8192], 1e4),
        ("glm-edge-1.5b-chat", [28, 2048, 16, 6144, 4, 59_264, 8192], 1e4),
        ("glm-edge-4b-chat", [40, 3072, 24, 8192, 6, 59_264, 8192], 1e4),
        ("glm-4-9b-0414", [40, 4096, 32, 13696, 2, 151_552, 32768], 1e4),
        ("glm-4-32b-0414", [61, 6144, 48, 23040, 2, 151_552, 32768], 1e4),
        ("codegeex2-6b", [28, 4096, 32, 13696, 2, 65_024, 8192], 1e4),
    ];
    let catalogue = Catalogue::published();
    for (name, shape, rope_base) in published {
        let found = catalogue.member(name).unwrap().model.unwrap().shape.as_ref().unwrap();
        let Shape { layers, hidden, heads, ffn, kv_heads, vocab, .. } = *found;
        assert_eq!([layers, hidden, heads, ffn, kv_heads, vocab, found.context.unwrap()], shape, "{name}");
        assert_eq!((found.head_dim, found.rope_base), (Some(128), Some(rope_base)), "{name}");
    }
}

#[test]
fn the_table_of_cards_is_plausible() {
    let mut names = BTreeSet::new();
    for card in cards() {
        assert!(names.insert(&card.name), "{}", card.name);
        assert!((4 << 30..1 << 40).contains(&card.memory_bytes), "{}", card.name);
        assert!((50_000_000_000..20_000_000_000_000).contains(&card.bandwidth_bytes_per_s), "{}", card.name);
        assert_eq!(card.compute_capability.is_some(), card.vendor == "NVIDIA", "{}", card.name);
    }
    // The rows of the page that the idea is from.
    for (name, memory, bandwidth) in [
        ("GeForce RTX 3050 6 GB", 6u64, 168u64),
        ("Arc A380", 6, 186),
        ("GeForce RTX 2060", 6, 336),
        ("GeForce GTX 1060 6 GB", 6, 192),
        ("Radeon RX 5600 XT", 6, 288),
    ] {
        let card = cards().iter().find(|card| card.name == name).unwrap();
        assert_eq!(
            (card.memory_bytes >> 30, card.bandwidth_bytes_per_s / 1_000_000_000),
            (memory, bandwidth)
        );
    }
    assert!(names.contains(&"Tesla C2070".to_owned()));
}
