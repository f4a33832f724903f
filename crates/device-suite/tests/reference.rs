//! The reference device is held to what it cannot be the measure of.

use glimmer_device_suite::training::{cases, differences};
use glimmer_device_suite::{Candidate, Tolerances, attention, each, rows};
use glimmer_tensor::{Compute, ReferenceDevice};

fn candidates() -> Vec<Candidate> {
    vec![Candidate {
        name: "reference".to_owned(),
        make: Box::new(|| Box::new(ReferenceDevice::new())),
        compute: Compute::F32,
        family: "reference".to_owned(),
        tolerances: Tolerances::F32,
    }]
}

#[test]
fn checks() {
    each(&candidates(), rows::check_finite);
    each(&candidates(), rows::checks_belong_to_their_step);
}

#[test]
fn attention_is_the_formula_s_in_every_layer() {
    attention::layers_of_different_heads(&candidates());
}

#[test]
fn gradients_are_those_of_finite_differences() {
    differences::hold(&|| Box::new(ReferenceDevice::new()), cases::small());
}
