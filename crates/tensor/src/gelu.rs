//! GELU (Hendrycks and Gimpel, 2016) in both its forms, exactly.

use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI, PI};

/// `x P(X <= x)` for a normal X.
pub fn gelu_erf(x: f64) -> f64 {
    0.5 * x * (1.0 + erf(x * FRAC_1_SQRT_2))
}

/// Its tanh form, `x (1 + tanh z) / 2` with `z = sqrt(2 / pi) x (1 + 0.044715 x^2)`.
pub fn gelu_tanh(x: f64) -> f64 {
    0.5 * x * (1.0 + gelu_inner(x).tanh())
}

/// The argument of [`gelu_tanh`]'s tanh.
pub(crate) fn gelu_inner(x: f64) -> f64 {
    (2.0 / PI).sqrt() * x * (1.0 + 0.044715 * x * x)
}

/// The error function, `2 / sqrt(pi) e^(-x^2)` times the sum of `2^n x^(2n + 1) / (1 * 3 * ... (2n + 1))`: all terms have
/// one sign. Abramowitz and Stegun, *Handbook of Mathematical Functions* (1964), 7.1.6.
fn erf(x: f64) -> f64 {
    if x.abs() > 6.0 {
        // Off by 2e-17.
        return 1f64.copysign(x);
    }
    let (mut term, mut sum, mut odd) = (1.0, 1.0, 1.0);
    // Not a number ends it at once, and stays so.
    while term > sum * 1e-17 {
        odd += 2.0;
        term *= 2.0 * x * x / odd;
        sum += term;
    }
    FRAC_2_SQRT_PI * x * ((-x * x).exp() * sum)
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
            (3.5, 0.999_999_256_901_627_6),
            (5.0, 0.999_999_999_998_462_6),
            (7.0, 1.0),
        ] {
            assert!((erf(x) - expected).abs() < 1e-15, "{x}");
            assert!((erf(-x) + expected).abs() < 1e-15, "-{x}");
        }
        assert!(erf(f64::NAN).is_nan());
    }
}
