//! What every [`Device`] is held to: each operation against the reference device, and what must hold bit for bit. Outputs
//! are poisoned before they are computed.
//!
//! A device's own tests say which [`Candidate`]s there are and get the suite by a line: `suite!(candidates);`, that of
//! [`training`] by `training_suite!(candidates);`, that of what towers need by `seeing_suite!(candidates);`, that of
//! experts by `experts_suite!(candidates);`, and that of latent attention by `latents_suite!(candidates);`.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "tests: what fails panics")]

pub mod adapters;
pub mod attention;
pub mod experts;
pub mod latents;
pub mod rig;
pub mod rows;
pub mod seeing;
pub mod story;
pub mod training;

use glimmer_tensor::{Compute, DType, Device, KvType};

/// Makes devices of one kind.
pub type Make<'a> = &'a dyn Fn() -> Box<dyn Device>;

/// A kind of device to be tested.
pub struct Candidate {
    /// For messages.
    pub name: String,
    /// Makes one.
    pub make: Box<dyn Fn() -> Box<dyn Device>>,
    /// Its numeric mode.
    pub compute: Compute,
    /// Candidates of the same family must give the same bits in attention: the same machine with other numbers of
    /// threads, say.
    pub family: String,
    /// How far off it may be.
    pub tolerances: Tolerances,
}

impl Candidate {
    /// Makes one.
    pub fn make(&self) -> Make<'_> {
        &self.make
    }
}

/// What a device's results may be off.
#[derive(Clone, Copy)]
pub struct Tolerances {
    /// A product, relative to the size of its terms, by the type of its weights. That activations of 8 bits may meet
    /// quantized weights in [`Compute::Auto`] is allowed for beside this.
    pub product: fn(DType) -> f32,
    /// What attention returns for values that are about normal, by the type of the cache.
    pub attention: fn(KvType) -> f32,
}

impl Tolerances {
    /// Those of a device that rounds to f32 alone. Attention: weights of sum 1 mix numbers below 5 or so, whose scores,
    /// below 10 or so, have rounding errors of a few 1e-7.
    pub const F32: Tolerances = Tolerances { product: |_| 2e-6, attention: |_| 4e-6 };
}

/// Tests one candidate after the other.
#[allow(clippy::print_stdout, reason = "shown when a test fails")]
pub fn each(candidates: &[Candidate], test: fn(&Candidate)) {
    for candidate in candidates {
        println!("{}", candidate.name);
        test(candidate);
    }
}

/// The tests, for all candidates that a function `fn() -> Vec<Candidate>` returns.
#[macro_export]
macro_rules! suite {
    ($candidates:path) => {
        $crate::suite! { $candidates, each candidate:
            embed, norms, linear, residual_from_another, rope, gather, write, read_largest, read_candidates, check_finite,
            checks_belong_to_their_step, refusals, a_row_does_not_depend_on_its_company }
        $crate::suite! { $candidates, adapters of each candidate:
            pairs_beside_products, rows_with_adapters_do_not_depend_on_company, a_slot_is_used_again }
        $crate::suite! { $candidates, all candidates:
            prompts_and_generation, layers_of_different_heads, attention_does_not_depend_on_company,
            later_rows_leave_no_trace }
    };
    ($candidates:path, each candidate: $($test:ident),*) => {
        $(#[test] fn $test() { $crate::each(&$candidates(), $crate::rows::$test); })*
    };
    ($candidates:path, adapters of each candidate: $($test:ident),*) => {
        $(#[test] fn $test() { $crate::each(&$candidates(), $crate::adapters::$test); })*
    };
    ($candidates:path, all candidates: $($test:ident),*) => {
        $(#[test] fn $test() { $crate::attention::$test(&$candidates()); })*
    };
}

/// The tests of layers with experts, as [`suite!`].
#[macro_export]
macro_rules! experts_suite {
    ($candidates:path) => {
        $crate::experts_suite! { $candidates, sums_over_experts, rows_meet_experts_alone, all_rows_to_one_expert }
    };
    ($candidates:path, $($test:ident),*) => {
        $(#[test] fn $test() { $crate::each(&$candidates(), $crate::experts::$test); })*
    };
}

/// The tests of latent attention, as [`suite!`].
#[macro_export]
macro_rules! latents_suite {
    ($candidates:path) => {
        #[test]
        fn joint_heads() {
            $crate::latents::joint_heads(&$candidates());
        }
        #[test]
        fn products_by_head() {
            $crate::each(&$candidates(), $crate::latents::products_by_head);
        }
        #[test]
        fn heads_joined() {
            $crate::each(&$candidates(), $crate::latents::heads_joined);
        }
    };
}

/// The tests of what vision towers need, as [`suite!`].
#[macro_export]
macro_rules! seeing_suite {
    ($candidates:path) => {
        $crate::seeing_suite! { $candidates, gelu_with_the_error_function, gelu_after_products, norms_of_heads }
    };
    ($candidates:path, $($test:ident),*) => {
        $(#[test] fn $test() { $crate::each(&$candidates(), $crate::seeing::$test); })*
    };
}
