//! GELU with the error function.

/// `x * P(X <= x)` for a normal X (Hendrycks and Gimpel, 2016), exact form.
pub(super) fn gelu(x: f32) -> f32 {
    let x = f64::from(x);
    (0.5 * x * (1.0 + erf(x * std::f64::consts::FRAC_1_SQRT_2))) as f32
}

/// The error function to 1.5e-7: Abramowitz and Stegun, *Handbook of Mathematical Functions* (1964), 7.1.26.
fn erf(x: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.327_591_1 * x.abs());
    let p = ((((1.061_405_429 * t - 1.453_152_027) * t + 1.421_413_741) * t - 0.284_496_736) * t
        + 0.254_829_592)
        * t;
    (1.0 - p * (-x * x).exp()).copysign(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of Python's `math.erf`.
    #[test]
    fn the_error_function_is_that_of_the_tables() {
        for (x, expected) in [
            (0.0, 0.0),
            (0.1, 0.112_462_916_018_284_9),
            (0.5, 0.520_499_877_813_046_5),
            (1.0, 0.842_700_792_949_714_9),
            (2.0, 0.995_322_265_018_952_7),
            (3.5, 0.999_999_256_901_628),
        ] {
            assert!((erf(x) - expected).abs() < 2e-7, "{x}");
            assert!((erf(-x) + expected).abs() < 2e-7, "-{x}");
        }
    }
}
