//! Several adapters as one, as PEFT's `add_weighted_adapter` makes it (0.21.2, `tuners/lora/model.py`).

use std::path::Path;

use super::low_rank::{LowRank, LowRankAdapter, WeightAddress};
use super::refused;
use crate::ModelError;

/// How adapters are combined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Combination {
    /// One pair behind the other: exactly the weighted sum of what each does, with the ranks added up.
    Cat,
    /// `A` and `B` are summed, each with the root of weight and scale: of the same rank, and with products of one adapter's
    /// `A` with another's `B`, so that it is the weighted sum only roughly.
    Linear,
}

impl LowRankAdapter {
    /// Adapters with their weights as one.
    ///
    /// # Errors
    /// When one has magnitudes (DoRA), whose sum is no such adapter; when a weight is not finite; for
    /// [`Combination::Linear`] when ranks differ.
    pub fn combined(adapters: &[(&LowRankAdapter, f32)], how: Combination) -> Result<Self, ModelError> {
        let refused = |what: String| refused(Path::new("adapters cannot be combined"), what);
        let mut addresses: Vec<WeightAddress> = Vec::new();
        for (adapter, weight) in adapters {
            if !weight.is_finite() {
                return Err(refused(format!("the weight {weight} is no number")));
            }
            if adapter.pairs.iter().any(|(_, pair)| pair.magnitude.is_some()) {
                return Err(refused("one has magnitudes (DoRA)".to_owned()));
            }
            for (address, _) in &adapter.pairs {
                if !addresses.contains(address) {
                    addresses.push(*address);
                }
            }
        }
        let combine = |address: WeightAddress| {
            let mut pairs: Vec<(&LowRank, f32)> = Vec::new();
            for (adapter, weight) in adapters {
                let pair = adapter.pairs.iter().find(|(other, _)| *other == address);
                pairs.extend(pair.map(|(_, pair)| (pair, weight * pair.scale)));
            }
            let rank = pairs[0].0.rank;
            if how == Combination::Linear && pairs.iter().any(|(pair, _)| pair.rank != rank) {
                return Err(refused(format!("{address:?}: ranks differ, which `linear` cannot add up")));
            }
            let pair = match how {
                Combination::Cat => cat(&pairs),
                Combination::Linear => linear(&pairs),
            };
            Ok((address, pair))
        };
        Ok(LowRankAdapter { pairs: addresses.into_iter().map(combine).collect::<Result<_, _>>()? })
    }
}

/// The factors stand before each `A`.
fn cat(pairs: &[(&LowRank, f32)]) -> LowRank {
    let rank = pairs.iter().map(|(pair, _)| pair.rank).sum();
    let a = pairs.iter().flat_map(|(pair, factor)| pair.a.iter().map(move |a| a * factor)).collect();
    let rows = pairs[0].0.rows();
    let row = |row: usize| pairs.iter().flat_map(move |(pair, _)| &pair.b[row * pair.rank..][..pair.rank]);
    LowRank { rank, a, b: (0..rows).flat_map(row).copied().collect(), scale: 1.0, magnitude: None }
}

/// A negative factor's sign stands with `A` alone.
fn linear(pairs: &[(&LowRank, f32)]) -> LowRank {
    let first = pairs[0].0;
    let (mut a, mut b) = (vec![0.0; first.a.len()], vec![0.0; first.b.len()]);
    for (pair, factor) in pairs {
        let root = factor.abs().sqrt();
        let signed = if *factor < 0.0 { -root } else { root };
        a.iter_mut().zip(&pair.a).for_each(|(sum, a)| *sum += signed * a);
        b.iter_mut().zip(&pair.b).for_each(|(sum, b)| *sum += root * b);
    }
    LowRank { rank: first.rank, a, b, scale: 1.0, magnitude: None }
}
