//! `glimmer list` and `glimmer show`: what the catalogue's pages say, and that they fit a terminal.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::path::Path;

use serde_json::Value;
use support::{Ran, glimmer, run};
use unicode_width::UnicodeWidthStr;

/// Runs with so many columns and a home that has no models.
fn narrow(columns: usize, args: &[&str]) -> Ran {
    let mut command = glimmer();
    command.env("COLUMNS", columns.to_string()).env("XDG_DATA_HOME", "/nowhere").args(args);
    command.output().unwrap().into()
}

fn json(args: &[&str]) -> Value {
    serde_json::from_str(&narrow(80, args).quiet_success()).unwrap()
}

#[test]
fn every_published_model_is_listed_and_shown() {
    let all = json(&["list", "--json"]);
    let listed = narrow(80, &["list"]).quiet_success();
    for model in all.as_array().unwrap() {
        let name = model["name"].as_str().unwrap();
        assert!(listed.lines().any(|line| line.split(' ').next() == Some(name)), "{name}");
        let page = narrow(80, &["show", name]).quiet_success();
        for section in ["Specifications", "Models", "Files", "Memory", "Sources"] {
            assert!(page.lines().any(|line| line.starts_with(section)), "{name}: {section}");
        }
        assert_eq!(page.contains("NVIDIA cards that run"), !model["q4_k_m"].is_null(), "{name}");
    }
    assert!(all.as_array().unwrap().len() > 25);
}

#[test]
fn pages_fit_their_terminal() {
    for columns in [40, 60, 80, 120] {
        for args in [&["list"][..], &["show", "glm-edge-chat"], &["show", "glm-4-9b"], &["show", "glm-5.2"]] {
            let page = narrow(columns, args).quiet_success();
            let wide = page.lines().find(|line| line.width() > columns);
            assert_eq!(wide, None, "{columns} columns, {args:?}");
        }
    }
    // What has no room goes; names stay.
    let head = |columns| narrow(columns, &["list"]).quiet_success().lines().next().unwrap().to_owned();
    assert!(head(140).contains("LICENCE") && head(120).contains("FILES"));
    assert!(!head(60).contains("FILES") && head(60).contains("CONTEXT") && head(40).starts_with("NAME"));
}

#[test]
fn lists_can_be_narrowed() {
    let names = |args: &[&str]| -> Vec<String> {
        let models = json(&[&["list", "--json"], args].concat());
        models.as_array().unwrap().iter().map(|model| model["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&["--family", "glm-edge"]), ["glm-edge-1.5b-chat", "glm-edge-4b-chat"]);
    assert!(names(&["--ability", "vision"]).contains(&"glm-4v-9b".to_owned()));
    assert!(names(&["EDGE"]).contains(&"glm-edge-v-2b".to_owned()));
    let runs = names(&["--runs"]);
    assert!(runs.contains(&"glm-z1-32b-0414".to_owned()) && !runs.contains(&"glm-5".to_owned()));
    assert!(!runs.contains(&"glm-4v-9b".to_owned()));
    assert_eq!(names(&["--family", "llama"]), [""; 0]);
    assert_eq!(narrow(80, &["list", "llama"]).quiet_success(), "no model fits\n");
}

/// 28 layers, 4 heads of 128, keys and values of 2 bytes; the file that its publisher has as Q4_K_M is 1.6 MB larger than
/// its tensors.
#[test]
fn memory_is_that_of_the_files() {
    let page = json(&["show", "glm-edge-1.5b-chat", "--json"]);
    let here = &page["here"][0];
    assert_eq!(here["cache"].as_u64(), Some(28 * 4 * 128 * 2 * 2 * 8192));
    assert_eq!(here["parameters"].as_u64(), Some(1_593_427_968));
    let weights =
        |name: &str| here["weights"].as_array().unwrap().iter().find(|w| w["quantization"] == name).unwrap();
    let bytes = weights("Q4_K_M")["bytes"].as_u64().unwrap();
    assert!((2_000_000..6_000_000).contains(&(980_470_144 - bytes)), "{bytes}");
    assert_eq!(weights("Q4_K_M")["published_by"][0], "zai-org");
    let total = bytes + here["cache"].as_u64().unwrap() + here["scratch"].as_u64().unwrap();
    assert_eq!(weights("Q4_K_M")["total"].as_u64(), Some(total));
    // A shorter context, a smaller cache.
    let short = json(&["show", "glm-edge-1.5b-chat", "--ctx", "1000", "--json"]);
    assert_eq!(short["here"][0]["cache"].as_u64(), Some(28 * 4 * 128 * 2 * 2 * 1024));
}

#[test]
fn cards_have_room_for_weights_and_context() {
    let page = json(&["show", "glm-4-9b-chat", "--json"]);
    let here = &page["here"][0];
    let weights = here["weights"].as_array().unwrap().iter().find(|w| w["quantization"] == "Q4_K_M").unwrap();
    let cards = here["cards"].as_array().unwrap();
    let names: Vec<&str> = cards.iter().map(|card| card["name"].as_str().unwrap()).collect();
    // Too small with a cache; too old; no device for it.
    for name in ["GeForce RTX 2060", "GeForce GTX 1080 Ti", "Tesla P40", "Radeon RX 7900 XTX"] {
        assert!(!names.contains(&name), "{name}");
    }
    for card in cards {
        let context = card["context"].as_u64().unwrap();
        assert!((512..=131_072).contains(&context), "{card}");
        let needed = weights["bytes"].as_u64().unwrap() + 40_960 * context;
        assert!(needed < card["memory_bytes"].as_u64().unwrap(), "{card}");
    }
    let of = |name: &str| cards.iter().find(|card| card["name"] == name).unwrap();
    assert_eq!(of("GeForce RTX 4090")["context"], 131_072);
    assert!(of("GeForce RTX 4060")["context"].as_u64().unwrap() < 65_536);
    let some = narrow(100, &["show", "glm-4-9b-chat"]).quiet_success();
    let all = narrow(100, &["show", "glm-4-9b-chat", "--all-cards"]).quiet_success();
    assert!(some.contains("--all-cards shows") && all.lines().count() > some.lines().count() + 20);
}

#[test]
fn figures_are_shown_with_protocol_and_source() {
    let page = narrow(120, &["show", "glm-4-9b"]).quiet_success();
    // The same benchmark from two places, which differ.
    let mut math = page.lines().filter(|line| line.trim_start().starts_with("MATH "));
    let (first, second) = (math.next().unwrap(), math.next().unwrap());
    assert!(first.contains("30.4") && second.contains("8.5") && second.contains("not named"), "{page}");
    assert!(page.contains("perplexity 6.834 [") && page.contains("WikiText-2"), "{page}");
    // Every number in brackets leads to a source.
    for number in 1..=20 {
        let (used, listed) = (format!("[{number}]"), format!("\n  [{number}]"));
        assert!(
            page.matches(&used).count() == 1 || page.contains(&listed) || !page.contains(&used),
            "{number}\n{page}"
        );
    }
    let report = json(&["show", "glm-4-9b", "--json"]);
    assert!(report["origins"]["chatglm.cpp"]["title"].is_string());
    assert_eq!(report["licence_terms"]["name"], "GLM-4 licence");
}

#[test]
fn a_models_size_is_a_page_of_its_own() {
    let both = narrow(100, &["show", "glm-edge-chat"]).quiet_success();
    assert!(both.contains("Memory of glm-edge-1.5b-chat") && both.contains("Memory of glm-edge-4b-chat"));
    for name in ["glm-edge-chat:4b", "THUDM/glm-edge-4b-chat", "GLM-Edge-4B-Chat"] {
        let page = narrow(100, &["show", name]).quiet_success();
        assert!(page.contains("Memory of glm-edge-4b-chat") && !page.contains("1.5b-chat-gguf"), "{name}");
    }
    narrow(80, &["show", "glm-edge-9b-chat"]).fails_saying(&[
        "glm-edge-9b-chat",
        "did you mean",
        "glm-edge-4b-chat",
    ]);
    narrow(80, &["show", "x\u{1b}[2J"]).fails_saying(&["no model is called"]);
}

#[test]
fn models_of_ones_own_join_the_list() {
    let folder = tempfile::tempdir().unwrap();
    let models = folder.path().join("glimmer/models");
    std::fs::create_dir_all(&models).unwrap();
    let own = r#"{"version": 2, "model_name": "our-glm", "context_length": 131072, "model_lang": ["zh"],
        "model_ability": ["chat"], "model_family": "glm4-chat",
        "model_description": "认识我们产品的模型\u001b[2J，用来回答客户的问题，并且给出资料的出处和页码",
        "model_specs": [{"model_format": "pytorch", "model_size_in_billions": 9, "quantizations": ["none"],
                         "model_id": "us/our-glm", "model_uri": "file:///models/our-glm"}]}"#;
    std::fs::write(models.join("own.json"), own).unwrap();
    let with_home = |args: &[&str]| -> Ran {
        let mut command = glimmer();
        command.env("XDG_DATA_HOME", folder.path()).env("COLUMNS", "40").args(args).output().unwrap().into()
    };
    assert!(with_home(&["list", "our"]).quiet_success().contains("our-glm"));
    let page = with_home(&["show", "our-glm"]).quiet_success();
    assert!(page.contains("file:///models/our-glm") && page.contains("Memory of our-glm"), "{page}");
    assert!(!page.contains('\u{1b}') && page.lines().all(|line| line.width() <= 40), "{page}");
    // A file that is named stands in for those at home.
    let file = folder.path().join("other.json");
    std::fs::write(&file, own.replace("our-glm", "other-glm")).unwrap();
    let path = file.to_str().unwrap();
    let listed = with_home(&["list", "--catalogue", path]).quiet_success();
    assert!(listed.contains("other-glm") && !listed.contains("our-glm"));
    std::fs::write(&file, own.replace("pytorch", "exe")).unwrap();
    with_home(&["list", "--catalogue", path]).fails_saying(&["other.json", "model_specs[0]", "exe"]);
    let missing = run(args!["list", "--catalogue", Path::new("nowhere.json")]);
    missing.fails_saying(&["nowhere.json", "no such file"]);
}
