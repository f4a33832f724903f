//! Every tiny checkpoint in `fixtures/` through the library, as a program would use it: its greedy answer is the reference
//! implementation's, its vectors are.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::{Path, PathBuf};

use glimmer::{
    Compute, ContextLength, DeviceOptions, Embedder, EncodedText, FinishReason, GenerationParams, Limits,
    Model, OpenOptions, Prompt,
};
use safetensors::SafeTensors;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures")
}

fn ids(stored: &SafeTensors<'_>, name: &str) -> Option<Vec<u32>> {
    let tensor = stored.tensor(name).ok()?;
    let wide = tensor.dtype() == safetensors::Dtype::I64;
    let number = |bytes: &[u8]| {
        if wide {
            i64::from_le_bytes(bytes.try_into().unwrap()) as u32
        } else {
            u32::from_le_bytes(bytes.try_into().unwrap())
        }
    };
    Some(tensor.data().chunks_exact(if wide { 8 } else { 4 }).map(number).collect())
}

#[test]
fn every_fixture_opens_and_answers_as_the_reference_does() {
    let mut opened = 0;
    for entry in std::fs::read_dir(fixtures()).unwrap() {
        let directory = entry.unwrap().path();
        let Ok(stored) = std::fs::read(directory.join("glimmer-golden.safetensors")) else { continue };
        let stored = SafeTensors::deserialize(&stored).unwrap();
        let prompt = ids(&stored, "new_ids.prompt").or_else(|| ids(&stored, "input_ids")).unwrap();
        let expected = ids(&stored, "new_ids").unwrap();

        let device = DeviceOptions { compute: Some(Compute::F32), ..DeviceOptions::default() };
        let options = OpenOptions { device, ..OpenOptions::default() };
        let model = Model::open(directory.as_path(), &options, &mut |_| {}).unwrap();
        let limits = Limits { context: ContextLength::Tokens(160), ..Limits::default() };
        let engine = model.start(&limits).unwrap();
        let params = GenerationParams {
            max_tokens: Some(expected.len()),
            ignore_eos: true,
            ..GenerationParams::default()
        };
        let prompt = Prompt::of_ids(prompt).answered_in_ids();
        let answer = engine.generate(&prompt, params).unwrap().complete().unwrap();
        let found: Vec<u32> = answer.tokens.iter().map(|token| token.id).collect();
        assert_eq!(found, expected, "{}", directory.display());
        assert_eq!(answer.finish, FinishReason::MaxTokens);
        assert_eq!((answer.usage.prompt, answer.usage.completion), (prompt.ids.len(), expected.len()));
        opened += 1;
    }
    assert!(opened >= 16, "{opened} fixtures with a stored answer");
}

#[test]
fn the_encoder_makes_the_references_vectors() {
    let directory = fixtures().join("text2vec-bert");
    let stored = std::fs::read(directory.join("expected.safetensors")).unwrap();
    let stored = SafeTensors::deserialize(&stored).unwrap();
    let expected = stored.tensor("batch.embeddings").unwrap();
    let expected: Vec<f32> =
        expected.data().chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect();
    let shape = stored.tensor("batch.input_ids").unwrap().shape().to_vec();
    let rows = ids(&stored, "batch.input_ids").unwrap();
    let mask = ids(&stored, "batch.attention_mask").unwrap();
    let texts: Vec<EncodedText> = rows
        .chunks_exact(shape[1])
        .zip(mask.chunks_exact(shape[1]))
        .map(|(row, mask)| row.iter().zip(mask).filter(|(_, mask)| **mask == 1).map(|(id, _)| *id).collect())
        .map(|ids: Vec<u32>| ids.into())
        .collect();

    let embedder = Embedder::open(directory.as_path()).unwrap();
    let found = embedder.embed_encoded(&texts).unwrap();
    assert_eq!(found.len(), shape[0]);
    for (found, expected) in found.iter().flatten().zip(&expected) {
        assert!((found - expected).abs() <= 1e-5, "{found} {expected}");
    }
}
