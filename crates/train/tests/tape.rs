//! What a tape promises beside its numbers: examples that do not see each other, pieces of the head, what it holds, and what it
//! refuses.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use glimmer_checkpoint::Checkpoint;
use glimmer_models::{ModelWeights, understand};
use glimmer_train::{
    Example, Losses, LowRankSpec, PrefixSpec, ProjectionSpec, Room, Tape, Trainable, training_memory,
};
use support::{device, distance, largest, root, tape};

const ROOM: Room = Room { rows: 64, examples: 4, logits_rows: 16, kept_layers: 0 };

fn low_rank() -> LowRankSpec {
    LowRankSpec {
        rank: 4,
        alpha: 8.0,
        by_root: false,
        magnitudes: true,
        dropout: 0.0,
        targets: vec!["all-linear".to_owned()],
        layers: None,
    }
}

fn kinds() -> [Trainable; 4] {
    let projection = Some(ProjectionSpec { width: 9, middle: 7 });
    [
        Trainable::LowRank(low_rank()),
        Trainable::Prefix(PrefixSpec { slots: 40, projection: None, dropout: 0.0, shifts_positions: false }),
        Trainable::Prefix(PrefixSpec { slots: 3, projection, dropout: 0.0, shifts_positions: true }),
        Trainable::Full,
    ]
}

fn example(ids: &[u32], first: usize) -> Example {
    let labels = ids.iter().enumerate().map(|(i, &id)| (i >= first).then_some(id)).collect();
    Example { ids: ids.to_vec(), labels }
}

fn some() -> Vec<Example> {
    vec![
        example(&[5, 90, 17, 44, 33, 41, 17, 8], 3),
        example(&[12, 64, 70, 71, 12], 1),
        example(&(20..58).collect::<Vec<u32>>(), 30),
    ]
}

/// With a context that sees itself, `[gMASK]` and `<sop>`.
fn chatglm() -> Vec<Example> {
    vec![example(&[5, 90, 17, 281, 284, 33, 41, 17, 8], 4), example(&[12, 281, 284, 64, 70, 71], 2)]
}

fn open(family: &str, trainable: &Trainable, room: Room) -> Tape {
    open_on("reference", family, trainable, room)
}

/// With tensors that are changed a little, because some of them begin as zeros.
fn open_on(device: &str, family: &str, trainable: &Trainable, room: Room) -> Tape {
    let mut tape = tape(&root().join("fixtures").join(family), device, trainable, room);
    for number in 0..tape.parameters().len() {
        let values = tape.value_mut(number).iter_mut().enumerate();
        values.for_each(|(i, value)| *value += 0.05 * ((i * 7919 + number) % 13) as f32 / 13.0);
    }
    tape
}

fn learn(tape: &mut Tape, examples: &[Example]) -> (Losses, Vec<Vec<f32>>) {
    tape.zero_gradients();
    let losses = tape.forward_backward(&examples.iter().collect::<Vec<_>>(), 0.1, 4).unwrap();
    let gradients = (0..tape.parameters().len()).map(|number| tape.gradient(number).to_vec()).collect();
    (losses, gradients)
}

fn assert_near(what: &str, found: &[Vec<f32>], expected: &[Vec<f32>]) {
    for (found, expected) in found.iter().zip(expected) {
        let (difference, largest) = (distance(found, expected), largest(expected));
        assert!(
            difference <= 1e-5 * largest,
            "{what}: gradients are {difference} apart, their largest {largest}"
        );
    }
}

#[test]
fn examples_together_are_the_sum_of_each_alone() {
    for trainable in kinds() {
        let mut tape = open("glm-4-9b-chat-hf", &trainable, ROOM);
        let (together, gradients) = learn(&mut tape, &some());
        let mut sum = Losses::default();
        let mut sums: Vec<Vec<f32>> = gradients.iter().map(|gradient| vec![0.0; gradient.len()]).collect();
        for example in some() {
            let (alone, gradients) = learn(&mut tape, &[example]);
            sum = Losses { sum: sum.sum + alone.sum, tokens: sum.tokens + alone.tokens };
            for (sums, gradient) in sums.iter_mut().zip(&gradients) {
                sums.iter_mut().zip(gradient).for_each(|(sum, value)| *sum += value);
            }
        }
        assert_eq!(sum.tokens, together.tokens);
        assert!((sum.sum - together.sum).abs() <= 1e-9 * sum.sum, "{trainable:?}: losses see each other");
        assert_near(&format!("{trainable:?}"), &gradients, &sums);
    }
}

#[test]
fn a_head_in_pieces_is_the_same_head() {
    for trainable in kinds() {
        let whole = learn(&mut open("glm-edge-1.5b-chat", &trainable, ROOM), &some());
        let room = Room { logits_rows: 3, ..ROOM };
        let pieces = learn(&mut open("glm-edge-1.5b-chat", &trainable, room), &some());
        assert_eq!(whole.0, pieces.0, "{trainable:?}");
        assert_near(&format!("{trainable:?}"), &pieces.1, &whole.1);
    }
}

#[test]
fn what_is_kept_changes_no_bit() {
    for (family, examples) in
        [("chatglm-6b", chatglm()), ("glm4-9b-0414", some()), ("glm-edge-1.5b-chat", some())]
    {
        let dropping = Trainable::LowRank(LowRankSpec { dropout: 0.2, ..low_rank() });
        for trainable in kinds().into_iter().chain([dropping]) {
            let of = |kept_layers| {
                let room = Room { kept_layers, ..ROOM };
                learn(&mut open_on("cpu-2", family, &trainable, room), &examples)
            };
            let (nothing, one, all) = (of(0), of(1), of(99));
            assert!(nothing == one && nothing == all, "{family}, {trainable:?}");
        }
    }
}

#[test]
fn gradients_are_added_up_until_they_are_zeroed() {
    let mut tape = open("glm4-9b-0414", &Trainable::LowRank(low_rank()), ROOM);
    let (_, once) = learn(&mut tape, &some());
    tape.forward_backward(&some().iter().collect::<Vec<_>>(), 0.1, 4).unwrap();
    let twice: Vec<Vec<f32>> =
        once.iter().map(|gradient| gradient.iter().map(|value| 2.0 * value).collect()).collect();
    let found: Vec<Vec<f32>> = (0..once.len()).map(|number| tape.gradient(number).to_vec()).collect();
    assert_near("twice", &found, &twice);
}

#[test]
fn threads_change_no_bit() {
    for family in ["chatglm-6b-int4", "glm4-9b-0414"] {
        let examples = if family.starts_with("chatglm") { chatglm() } else { some() };
        for trainable in kinds() {
            let of = |device: &str| learn(&mut open_on(device, family, &trainable, ROOM), &examples);
            let (one, two) = (of("cpu-1"), of("cpu-2"));
            assert!(one == two, "{family}, {trainable:?}");
        }
    }
}

#[test]
fn what_is_dropped_depends_on_the_seed_alone() {
    let dropping = [
        Trainable::LowRank(LowRankSpec { dropout: 0.3, ..low_rank() }),
        Trainable::Prefix(PrefixSpec { slots: 6, projection: None, dropout: 0.3, shifts_positions: false }),
    ];
    for trainable in dropping {
        let mut tape = open("glm-4-9b-chat-hf", &trainable, ROOM);
        let examples = some();
        let examples: Vec<&Example> = examples.iter().collect();
        let mut of = |seed| {
            tape.zero_gradients();
            let losses = tape.forward_backward(&examples, 1.0, seed).unwrap();
            (losses, tape.gradient(0).to_vec())
        };
        let (first, other, again) = (of(1), of(2), of(1));
        assert_eq!(first, again, "{trainable:?}");
        assert_ne!(first, other, "{trainable:?}");
        let nothing = tape.evaluate(&examples).unwrap();
        assert_eq!(nothing, tape.evaluate(&examples).unwrap());
        assert_ne!(nothing, first.0);
    }
}

#[test]
fn what_it_will_hold_is_known_before() {
    for family in ["chatglm-6b", "glm-4-9b-chat-hf", "glm-edge-1.5b-chat"] {
        let checkpoint = Checkpoint::open(&root().join("fixtures").join(family)).unwrap();
        let understood = understand(&checkpoint, None).unwrap();
        let weights = ModelWeights::stored(&checkpoint, &understood);
        for trainable in kinds() {
            let planned = training_memory(weights, device("reference").as_ref(), &trainable, ROOM).unwrap();
            let tape = Tape::open(weights, device("reference"), &trainable, ROOM, 7, &mut |_, _| {}).unwrap();
            let held = tape.memory();
            let parameters: usize = tape.parameters().iter().map(|p| 4 * p.rows * p.width).sum();
            assert_eq!((planned.tensors, planned.gradients), (parameters, parameters), "{family}");
            let all = planned.tensors + planned.gradients + planned.activations;
            assert_eq!(all, held.buffers + held.kv, "{family}, {trainable:?}");
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let mut tape = open("glm-4-9b-chat-hf", &kinds()[0], ROOM);
    let refused = |tape: &mut Tape, examples: &[Example]| {
        let error = tape.forward_backward(&examples.iter().collect::<Vec<_>>(), 1.0, 0).unwrap_err();
        error.to_string()
    };
    let long = example(&(0..70).collect::<Vec<u32>>(), 1);
    assert_eq!(refused(&mut tape, &[long]), "69 tokens in one step; there is room for 64");
    let many = vec![example(&[1, 2], 1); 5];
    assert_eq!(refused(&mut tape, &many), "5 examples in one step; there is room for 4");
    let foreign = refused(&mut tape, &[example(&[1, 2, 4000], 2)]);
    assert!(foreign.contains("token id 4000 is outside the vocabulary"), "{foreign}");
    let nothing = tape.forward_backward(&[&example(&[1, 2, 3], 5)], 1.0, 0).unwrap();
    assert_eq!(nothing, Losses::default());
}

#[test]
fn a_value_that_is_not_finite_is_said_to_be_in_its_layer() {
    let mut tape = open("glm-4-9b-chat-hf", &kinds()[0], ROOM);
    let examples = some();
    let examples: Vec<&Example> = examples.iter().collect();
    let name = "base_model.model.model.layers.1.self_attn.o_proj.lora_B.weight";
    let number = tape.parameters().iter().position(|parameter| parameter.name == name).unwrap();
    tape.value_mut(number)[0] = f32::NAN;
    let error = tape.forward_backward(&examples, 1.0, 0).unwrap_err().to_string();
    assert!(error.contains("layer 1, attention"), "{error}");
    tape.value_mut(number)[0] = 0.0;
    tape.forward_backward(&examples, 1.0, 0).unwrap();
    let error = tape.forward_backward(&examples, f32::INFINITY, 0).unwrap_err().to_string();
    assert!(error.starts_with("the gradient behind the last layer is not finite"), "{error}");
    let error = tape.gradient_norm();
    tape.zero_gradients();
    assert!(error.is_ok() && tape.gradient_norm().unwrap() == 0.0, "nothing that is no number was added");
}

#[test]
fn targets_that_are_not_there_are_named_beside_those_that_are() {
    let checkpoint = Checkpoint::open(&root().join("fixtures/glm4-9b-orig")).unwrap();
    let understood = understand(&checkpoint, None).unwrap();
    let weights = ModelWeights::stored(&checkpoint, &understood);
    let refused = |spec: LowRankSpec| {
        let trainable = Trainable::LowRank(spec);
        Tape::open(weights, device("reference"), &trainable, ROOM, 7, &mut |_, _| {})
            .err()
            .unwrap()
            .to_string()
    };
    let targets = |targets: &[&str]| targets.iter().map(|&target| target.to_owned()).collect();
    let error = refused(LowRankSpec { targets: targets(&["q_proj"]), ..low_rank() });
    let known = "dense, dense_4h_to_h, dense_h_to_4h, output_layer, query_key_value";
    assert_eq!(error, format!("no weight of the model ends in q_proj; it has {known}"));
    let error = refused(LowRankSpec { layers: Some(vec![99]), ..low_rank() });
    assert_eq!(error, "no weight is chosen: name targets, and layers that there are");
    let error = refused(LowRankSpec { rank: 0, ..low_rank() });
    assert_eq!(error, "the rank is between 1 and 65536; 8 is usual");
    let error = refused(LowRankSpec { dropout: 1.0, ..low_rank() });
    assert_eq!(error, "a dropout is from 0 to below 1");
}
