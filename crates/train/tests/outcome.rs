//! What is written of a training.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::Path;

use glimmer::{Local, ModelFiles, Overrides, Resolver};
use glimmer_checkpoint::Checkpoint;
use glimmer_models::Adapter;
use glimmer_models::export::{directory_naming, outgoing};
use glimmer_tensor::DType;
use glimmer_train::{Arithmetic, Base, LowRankSpec, PrefixSpec, Room, Tape, Trainable, attention_targets};

fn files(fixture: &str) -> ModelFiles {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(fixture);
    ModelFiles::new(Local.resolve(&path).unwrap(), Overrides::default())
}

fn tape(files: &ModelFiles, trainable: Trainable) -> Tape {
    let room = Room { rows: 8, examples: 1, logits_rows: 8, kept_layers: 0 };
    Base { files, trainable, quantize: None, room, threads: None, arithmetic: Arithmetic::Reference }
        .open(1, &mut |_, _| {})
        .unwrap()
}

#[test]
fn a_model_that_was_not_changed_is_written_as_it_was() {
    for fixture in ["chatglm-6b", "chatglm3-6b", "glm4-9b-orig", "glm-4-9b-chat-hf", "glm4-9b-0414"] {
        let files = files(fixture);
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("model");
        tape(&files, Trainable::Full).write_model(&files, &[], &path).unwrap();
        let (checkpoint, understood) = (files.checkpoint().unwrap(), files.understood().unwrap());
        let (expected, _) = outgoing(checkpoint, understood, directory_naming(&understood.spec)).unwrap();
        let written = Checkpoint::open(&path).unwrap();
        assert_eq!(written.tensors().len(), expected.len());
        for tensor in expected {
            let mut bytes = Vec::new();
            let mut take = |piece: &[u8]| {
                bytes.extend_from_slice(piece);
                Ok(())
            };
            tensor.encode(checkpoint, DType::F32, 1, &mut take).unwrap();
            assert!(written.tensor(&tensor.name).unwrap().data == bytes, "{fixture}: {}", tensor.name);
        }
    }
}

#[test]
fn adapters_are_read_as_they_were_written() {
    for fixture in ["chatglm-6b", "glm4-9b-orig", "glm-4-9b-chat-hf"] {
        let files = files(fixture);
        let low_rank = |targets| LowRankSpec {
            rank: 3,
            alpha: 5.0,
            by_root: true,
            magnitudes: false,
            dropout: 0.0,
            targets,
            layers: Some(vec![1]),
        };
        for targets in [attention_targets(&files).unwrap(), vec!["all-linear".to_owned()]] {
            let mut tape = tape(&files, Trainable::LowRank(low_rank(targets)));
            for number in 0..tape.parameters().len() {
                tape.value_mut(number).iter_mut().enumerate().for_each(|(at, value)| *value += at as f32);
            }
            let directory = tempfile::tempdir().unwrap();
            tape.write_adapter(&files, directory.path()).unwrap();
            let read = Adapter::read(directory.path(), files.spec().unwrap()).unwrap();
            let Adapter::LowRank(read) = read else { panic!("no low-rank adapter") };
            let written = tape.low_rank();
            assert_eq!(read.pairs.len(), written.pairs.len());
            for (address, pair) in &written.pairs {
                let (_, other) = read.pairs.iter().find(|(other, _)| other == address).unwrap();
                assert!(pair.a == other.a && pair.b == other.b, "{fixture}: {address:?}");
                assert!((pair.scale - other.scale).abs() <= pair.scale * 1e-6);
            }
        }
        let shifts_positions = fixture == "glm-4-9b-chat-hf";
        let prefix = PrefixSpec { slots: 4, projection: None, dropout: 0.0, shifts_positions };
        let tape = tape(&files, Trainable::Prefix(prefix));
        let directory = tempfile::tempdir().unwrap();
        tape.write_adapter(&files, directory.path()).unwrap();
        let read = Adapter::read(directory.path(), files.spec().unwrap()).unwrap();
        assert_eq!(read, Adapter::Prefix(tape.prefix_encoder().unwrap().prefix(files.spec().unwrap())));
    }
}

/// A training goes on with what another has written, under the same targets or sections of them, whatever its alpha.
#[test]
fn an_adapter_is_gone_on_with() {
    let files = files("glm-4-9b-chat-hf");
    let low_rank = |alpha, rank, targets: &[&str]| {
        let targets = targets.iter().map(|&target| target.to_owned()).collect();
        let magnitudes = true;
        Trainable::LowRank(LowRankSpec {
            rank,
            alpha,
            by_root: false,
            magnitudes,
            dropout: 0.0,
            targets,
            layers: None,
        })
    };
    let prefix = |slots, shifts_positions| {
        Trainable::Prefix(PrefixSpec { slots, projection: None, dropout: 0.0, shifts_positions })
    };
    let cases = [
        (low_rank(6.0, 3, &["q_proj", "down_proj"]), low_rank(12.0, 3, &["q_proj", "down_proj"]), ""),
        (low_rank(6.0, 3, &["q_proj"]), low_rank(6.0, 4, &["q_proj"]), "has rank 3 with --dora"),
        (low_rank(6.0, 3, &["q_proj"]), low_rank(6.0, 3, &["k_proj"]), "other weights"),
        (
            low_rank(6.0, 3, &["q_proj"]),
            low_rank(6.0, 3, &["q_proj", "k_proj"]),
            "has 3 pairs, 6 are trained",
        ),
        (low_rank(6.0, 3, &["q_proj"]), prefix(3, false), "peft_type is LORA"),
        (low_rank(6.0, 3, &["q_proj"]), Trainable::Full, "fuse"),
        (prefix(3, false), prefix(3, false), ""),
        (prefix(3, true), prefix(3, true), ""),
        (prefix(3, true), prefix(3, false), "the prefix is PEFT's"),
        (prefix(3, false), prefix(4, false), "has 3 slots and no projection"),
        (prefix(3, false), low_rank(6.0, 3, &["q_proj"]), "a prefix"),
    ];
    for (before, after, refusal) in cases {
        let mut first = tape(&files, before);
        for number in 0..first.parameters().len() {
            first.value_mut(number).iter_mut().enumerate().for_each(|(at, value)| *value += at as f32 * 1e-3);
        }
        let directory = tempfile::tempdir().unwrap();
        first.write_adapter(&files, directory.path()).unwrap();
        let mut second = tape(&files, after);
        match second.start_from(directory.path()) {
            Ok(()) => {
                assert_eq!(refusal, "");
                let ids = [5, 17, 200, 3];
                assert_eq!(first.logits(&ids).unwrap(), second.logits(&ids).unwrap());
            }
            Err(error) => {
                let error = error.to_string();
                assert!(!refusal.is_empty() && error.contains(refusal), "{error}: not {refusal}");
            }
        }
    }
}
