//! What the fuzzer runs, here so that the stable tests can run it on the inputs it found.

use std::path::Path;

use glimmer_chat::{ChatTemplate, Family, stop_ids};
use glimmer_tokenizer::fuzz_entry::toy;

use crate::data::{Columns, DataFile, Dataset, Limits, Renderer, Survey};

const NAMES: [&str; 4] = ["a.jsonl", "a.json", "a.csv", "a.txt"];

const SPECIAL: [&str; 7] =
    ["[gMASK]", "<sop>", "<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>", "<|observation|>"];

/// A file of rows, from bytes: one that says which kind it is, then the file. What can be learned from has labels that are its
/// own ids, and whatever is said of the others is one short line.
///
/// # Panics
/// If it is not so.
pub fn data(data: &[u8]) {
    let Some((kind, bytes)) = data.split_first() else { return };
    let Some(tokenizer) = toy(&[b"ab"], &SPECIAL) else { return };
    let stops = stop_ids(Some(Family::Glm4), &tokenizer, &[]);
    let limits = Limits::of_conversations(64, 64);
    let template = ChatTemplate::native(Family::Glm4);
    let Ok(renderer) = Renderer::of_template(template, &tokenizer, &stops, limits) else { return };
    let name = NAMES[usize::from(*kind) % NAMES.len()];
    let said = |error: &dyn std::fmt::Display| {
        let text = error.to_string();
        assert!(text.chars().count() < 300 && !text.contains(char::is_control), "{text:?}");
    };
    let file = match DataFile::of_bytes(Path::new(name), bytes.to_vec(), Columns::default()) {
        Ok(file) => file,
        Err(error) => return said(&error),
    };
    let data = Dataset::new(file, renderer);
    for row in 0..data.file().len() {
        for example in data.render(row).into_iter().flat_map(|rendering| rendering.examples) {
            assert_eq!(example.ids.len(), example.labels.len());
            assert!(
                example
                    .ids
                    .iter()
                    .zip(&example.labels)
                    .all(|(id, label)| label.is_none_or(|label| label == *id))
            );
            assert!(example.targets().next().is_some() && example.ids.len() <= limits.whole);
        }
        if let Ok(row) = data.file().row(row) {
            let _ = data.renderer().asked(&row);
        }
    }
    if let Ok(survey) = Survey::of(&data, |_| {}) {
        survey.refused.iter().for_each(|refused| said(&refused.why));
    }
}
