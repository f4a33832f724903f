//! States of trainings: saved whole or not at all, gone on with to the bit, and never trusted.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::Path;

use glimmer_train::{
    AdamW, Optimizer, SavedState, StateError, StateHead, StateTensor, remove_old_states,
    remove_unfinished_states, save_state, state_path, states,
};
use serde_json::json;

const SHAPES: [[usize; 2]; 2] = [[3, 5], [64, 100]];
const NAMES: [&str; 2] = ["a.weight", "b.weight"];

/// A training of two tensors, one of them large enough for moments in 8 bits.
struct Training {
    values: [Vec<f32>; 2],
    optimizer: Optimizer,
}

impl Training {
    fn new(eight_bits: bool) -> Self {
        let lens = SHAPES.map(|[rows, width]| rows * width);
        let optimizer =
            Optimizer::new(AdamW { eight_bits, ..AdamW::default() }, &lens.map(|len| (len, true)), 2);
        Training { values: lens.map(|len| (0..len).map(|i| (i as f32).sin()).collect()), optimizer }
    }

    fn step(&mut self, number: u32) {
        self.optimizer.begin(1e-2, 1.0);
        for (at, values) in self.values.iter_mut().enumerate() {
            let gradient: Vec<f32> =
                (0..values.len()).map(|i| ((i as u32 * 31 + number * 7) as f32).cos()).collect();
            self.optimizer.update(at, values, &gradient);
        }
    }

    fn save(&self, path: &Path, rank: u32) -> Result<(), StateError> {
        let tensors: [StateTensor<'_>; 2] = std::array::from_fn(|at| StateTensor {
            name: NAMES[at],
            shape: SHAPES[at],
            values: &self.values[at],
        });
        save_state(path, &head(rank), &tensors, &self.optimizer, |directory| {
            fs::write(directory.join("adapter"), "beside").map_err(|e| panic!("{e}"))
        })
    }

    fn restore(&mut self, state: &SavedState) -> Result<(), StateError> {
        state.check_names(&NAMES)?;
        for (at, values) in self.values.iter_mut().enumerate() {
            state.restore(at, NAMES[at], SHAPES[at], values, &mut self.optimizer)?;
        }
        Ok(())
    }
}

fn head(rank: u32) -> StateHead {
    let settings = json!({"rank": rank, "seed": 7}).as_object().unwrap().clone();
    StateHead { settings, progress: json!({"step": 3}) }
}

#[test]
fn what_is_gone_on_with_has_the_same_bits() {
    for eight_bits in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        let path = state_path(directory.path(), 3);
        let mut unbroken = Training::new(eight_bits);
        (0..3).for_each(|number| unbroken.step(number));
        unbroken.save(&path, 8).unwrap();
        (3..6).for_each(|number| unbroken.step(number));

        let state = SavedState::open(&path).unwrap();
        assert_eq!(*state.head(), head(8));
        assert!(path.join("adapter").is_file());
        let mut resumed = Training::new(eight_bits);
        resumed.restore(&state).unwrap();
        (3..6).for_each(|number| resumed.step(number));
        assert!(resumed.values == unbroken.values);
    }
}

#[test]
fn other_trainings_and_damage_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = state_path(directory.path(), 3);
    Training::new(false).save(&path, 8).unwrap();
    let message = |result: Result<(), StateError>| result.unwrap_err().to_string();

    let state = SavedState::open(&path).unwrap();
    assert!(message(state.check_settings(&head(16).settings)).contains("begun with rank = 8, now it is 16"));
    assert!(message(state.check_names(&NAMES[..1])).contains("`value.b.weight` has no place"));
    assert!(message(Training::new(true).restore(&state)).contains("`mean.b.weight` is F32"));
    let mut values = vec![0.0; 15];
    let mut optimizer = Training::new(false).optimizer;
    let other = state.restore(0, "a.weight", [5, 3], &mut values, &mut optimizer);
    assert!(message(other).contains("[3, 5], this training has F32 [5, 3]"));
    drop(state);

    let file = path.join("state.safetensors");
    let whole = fs::read(&file).unwrap();
    let mut flipped = whole.clone();
    *flipped.last_mut().unwrap() ^= 1;
    fs::write(&file, flipped).unwrap();
    let state = SavedState::open(&path).unwrap();
    assert!(message(Training::new(false).restore(&state)).contains("is damaged"));
    fs::write(&file, &whole[..whole.len() - 1]).unwrap();
    assert!(SavedState::open(&path).unwrap_err().to_string().contains("state.safetensors"));

    for (text, expected) in [
        ("", "empty"),
        ("{\"format\": 7", "state.json"),
        ("{}", "of something else"),
        ("{\"format\": \"glimmer training state\", \"version\": 2}", "another version"),
        ("{\"format\": \"glimmer training state\", \"version\": 1}", "lacks"),
    ] {
        fs::write(path.join("state.json"), text).unwrap();
        let message = SavedState::open(&path).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }
    assert!(SavedState::open(directory.path()).unwrap_err().to_string().contains("no training state"));
}

#[test]
fn old_states_go_and_the_best_stays() {
    let directory = tempfile::tempdir().unwrap();
    let output = directory.path();
    for step in [2, 4, 6, 8, 10] {
        Training::new(false).save(&state_path(output, step), 8).unwrap();
    }
    remove_old_states(output, 2, Some(4)).unwrap();
    let steps: Vec<_> = states(output).into_iter().map(|(step, _)| step).collect();
    assert_eq!(steps, [4, 8, 10]);
    assert_eq!(fs::read_dir(output).unwrap().count(), 3);
}

#[test]
fn a_state_that_cannot_be_saved_leaves_the_one_before() {
    let directory = tempfile::tempdir().unwrap();
    let output = directory.path();
    let path = state_path(output, 3);
    Training::new(false).save(&path, 8).unwrap();
    let failed = save_state(&path, &head(9), &[], &Training::new(false).optimizer, |directory| {
        assert!(directory.join("state.safetensors").is_file());
        Err(StateError::Foreign { path: directory.to_owned(), what: "the disk is full".to_owned() })
    });
    assert!(failed.is_err());
    assert_eq!(*SavedState::open(&path).unwrap().head(), head(8));
    assert_eq!(fs::read_dir(output).unwrap().count(), 1);
}

#[test]
fn what_a_killed_training_left_is_removed() {
    let directory = tempfile::tempdir().unwrap();
    let output = directory.path();
    Training::new(false).save(&state_path(output, 3), 8).unwrap();
    fs::create_dir(output.join(".checkpoint-6.tmp-12345-0")).unwrap();
    fs::write(output.join(".checkpoint-6.tmp-12345-0/state.safetensors"), "half").unwrap();
    fs::write(output.join(".mine"), "kept").unwrap();
    remove_unfinished_states(output);
    let mut names: Vec<_> = fs::read_dir(output).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, [".mine", "checkpoint-3"]);
}
