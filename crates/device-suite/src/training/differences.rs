//! Gradients against finite differences.

use super::{Case, Make, Stage};
use crate::rig::Random;

/// The step of the differences, an exact number.
const STEP: f32 = 1.0 / 16.0;

/// How far off, relative to the largest of a gradient: what f32 leaves of an output, over the step.
const TOLERANCE: f64 = 5e-5;

/// Holds the gradients of cases on a device to differences of their outputs on the same device: those of fourth order, whose
/// error is of the step's fourth power.
pub fn hold(make: Make<'_>, cases: Vec<Case>) {
    for case in cases {
        let (rows, width) = case.out;
        let d_out = Random(7).normals(rows * width);
        let mut stage = Stage::set(&case, make, &d_out);
        stage.forward();
        let gradients = stage.backward(&case);
        for (i, (gradient, input)) in gradients.iter().zip(&case.inputs).enumerate() {
            let largest = gradient.iter().fold(1e-3f64, |m, v| m.max(f64::from(v.abs())));
            for (at, &found) in gradient.iter().enumerate() {
                let mut loss = |steps: f32| -> f64 {
                    let x = stage.inputs[i];
                    stage.device.values_mut(x)[at] = input.values[at] + steps * STEP;
                    let out = stage.forward();
                    stage.device.values_mut(x)[at] = input.values[at];
                    out.iter().zip(&d_out).map(|(&y, &d)| f64::from(y) * f64::from(d)).sum()
                };
                let [near, far] = [1.0, 2.0].map(|steps| loss(steps) - loss(-steps));
                let expected = (8.0 * near - far) / (12.0 * f64::from(STEP));
                let off = (f64::from(found) - expected).abs() / largest;
                assert!(off <= TOLERANCE, "{}, gradient {i}: {found}, not {expected}, at {at}", case.name);
            }
        }
    }
}
