//! The text encoder against transformers' BertModel with mean pooling: `fixtures/text2vec-bert`.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::path::Path;

use glimmer_checkpoint::Checkpoint;
use glimmer_models::{EncodedText, Encoder, ModelError, SentenceModules};
use support::{Stored, distance, root};

fn open(dir: &Path) -> Result<Encoder, ModelError> {
    Encoder::open(&Checkpoint::open(dir).unwrap(), SentenceModules::read(dir)?)
}

/// The encoder, the stored texts as ids without padding, and the stored embeddings.
fn fixture() -> (Encoder, Vec<EncodedText>, Vec<Vec<f32>>) {
    let dir = root().join("fixtures/text2vec-bert");
    let encoder = open(&dir).unwrap();
    let stored = Stored::open(&dir.join("expected.safetensors"));
    let width = stored.shape("batch.input_ids")[1];
    let (ids, mask) = (stored.ids("batch.input_ids"), stored.i64("batch.attention_mask"));
    let texts = ids.chunks_exact(width).zip(mask.chunks_exact(width)).map(|(ids, mask)| {
        ids.iter().zip(mask).filter(|(_, mask)| **mask == 1).map(|(&id, _)| id).collect::<Vec<u32>>().into()
    });
    let embeddings = stored.f32("batch.embeddings").chunks_exact(encoder.width()).map(<[f32]>::to_vec);
    let (texts, embeddings) = (texts.collect(), embeddings.collect());
    (encoder, texts, embeddings)
}

#[test]
fn embeddings_are_the_references() {
    let (encoder, texts, expected) = fixture();
    assert_eq!((texts.len(), encoder.max_tokens()), (8, 64));
    for (found, expected) in encoder.embed(&texts).unwrap().iter().zip(&expected) {
        let d = distance(found, expected);
        assert!(d <= 1e-5, "differs by {d}");
    }
}

#[test]
fn a_text_has_the_same_bits_alone_and_in_any_company() {
    let (encoder, texts, _) = fixture();
    let alone: Vec<Vec<f32>> =
        texts.iter().map(|t| encoder.embed(std::slice::from_ref(t)).unwrap().remove(0)).collect();
    assert_eq!(encoder.embed(&texts).unwrap(), alone);
    // Enough for several batches, in another order.
    let many: Vec<EncodedText> = (0..100).map(|i| texts[i * 5 % texts.len()].clone()).collect();
    for (i, found) in encoder.embed(&many).unwrap().into_iter().enumerate() {
        assert_eq!(found, alone[i * 5 % texts.len()]);
    }
}

#[test]
fn a_cut_text_still_ends() {
    for (ids, cut) in [(vec![1, 5, 6, 7, 2], vec![1, 5, 2]), (vec![1, 5, 2], vec![1, 5, 2])] {
        let mut text = EncodedText::from(ids);
        text.cut(3);
        assert_eq!(text.ids, cut);
    }
}

#[test]
fn what_cannot_be_embedded_is_refused() {
    let (encoder, ..) = fixture();
    let message = |ids: Vec<u32>| encoder.embed(&[vec![2, 3].into(), ids.into()]).unwrap_err().to_string();
    assert_eq!(message(Vec::new()), "text 1 has no tokens");
    assert_eq!(message(vec![2; 65]), "text 1 has 65 tokens, the encoder takes 64");
    assert_eq!(message(vec![2, 128]), "text 1: token id 128 is outside the vocabulary of 128");
    assert!(encoder.embed(&[]).unwrap().is_empty());
    let only_prompt = EncodedText { ids: vec![2, 3], prompt: 2 };
    let refused = encoder.embed(&[only_prompt]).unwrap_err().to_string();
    assert_eq!(refused, "text 0 has 2 tokens, and its prompt has 2 of them");
    let refused = open(&root().join("fixtures/glm4-9b-orig")).err().unwrap().to_string();
    assert!(refused.contains("config.json"), "{refused}");
}

/// Sizes are held against the tensors before anything is made that is as large.
#[test]
fn absurd_sizes_are_refused_at_once() {
    let fixture = root().join("fixtures/text2vec-bert");
    let copy = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(&fixture).unwrap() {
        let from = entry.unwrap().path();
        std::fs::copy(&from, copy.path().join(from.file_name().unwrap())).unwrap();
    }
    let text = std::fs::read(fixture.join("config.json")).unwrap();
    let config: serde_json::Value = serde_json::from_slice(&text).unwrap();
    for key in [
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "intermediate_size",
        "max_position_embeddings",
        "vocab_size",
        "type_vocab_size",
    ] {
        for size in ["-1", "2.5", "2000000000", "4294967295", "18446744073709551615", "1e308"] {
            let mut config = config.clone();
            config[key] = serde_json::from_str(size).unwrap();
            std::fs::write(copy.path().join("config.json"), config.to_string()).unwrap();
            let start = std::time::Instant::now();
            assert!(open(copy.path()).is_err(), "{key} {size} is accepted");
            assert!(
                start.elapsed() < std::time::Duration::from_secs(1),
                "{key} {size}: {:?}",
                start.elapsed()
            );
        }
    }
}
