//! The catalogue's cards that run a model, and the context that each has room for.

use glimmer::{DecoderSpec, Load, Written};
use glimmer_catalogue::{Capability, Card, cards};
use serde::Serialize;

use super::list::tokens;
use crate::output::size;
use crate::page::{Column, Table};

/// The oldest cards that the CUDA device opens.
const OLDEST: Capability = Capability { major: 7, minor: 5 };
/// Of a card's memory, the part that is left alone, and bytes for the driver and a screen beside it.
const SPARE: u64 = 32;
const DRIVER: u64 = 512 << 20;
/// Fewer tokens of context are of no use.
pub(super) const LEAST_CONTEXT: usize = 512;

/// Bytes of a model's weights.
#[derive(Clone, Copy)]
pub(super) struct Bytes {
    /// All.
    pub(super) all: u64,
    /// Those that a step reads.
    pub(super) read: u64,
}

impl From<Written> for Bytes {
    fn from(written: Written) -> Self {
        Bytes { all: written.bytes, read: written.read() }
    }
}

/// A card that runs a model.
#[derive(Serialize)]
pub(super) struct Runs {
    #[serde(flatten)]
    card: &'static Card,
    /// The longest context that fits beside the weights.
    context: usize,
    /// Tokens a second that its bandwidth allows, of one conversation that has just begun.
    tokens_per_second_at_most: f64,
}

impl Runs {
    fn of(card: &'static Card, spec: &DecoderSpec, weights: Bytes, most: Load, least: usize) -> Option<Self> {
        let context = most.longest(spec, room(card)?.checked_sub(weights.all)?);
        (context >= least.min(most.context)).then(|| Runs {
            card,
            context,
            tokens_per_second_at_most: card.bandwidth_bytes_per_s as f64 / weights.read as f64,
        })
    }
}

/// Bytes that a model may take of a card; `None` where the CUDA device does not open it.
pub(super) fn room(card: &Card) -> Option<u64> {
    card.compute_capability.filter(|capability| *capability >= OLDEST)?;
    (card.memory_bytes - card.memory_bytes / SPARE).checked_sub(DRIVER)
}

/// The cards with room for the weights and at least so long a context of `most`, the smallest first.
pub(super) fn that_run(spec: &DecoderSpec, weights: Bytes, most: Load, least: usize) -> Vec<Runs> {
    cards().iter().filter_map(|card| Runs::of(card, spec, weights, most, least)).collect()
}

/// Of the cards with as much memory the fastest, which stands last.
pub(super) fn fastest_of_each_size(all: &[Runs]) -> Vec<&Runs> {
    let is_last =
        |at: usize| all.get(at + 1).is_none_or(|next| next.card.memory_bytes != all[at].card.memory_bytes);
    (0..all.len()).filter(|at| is_last(*at)).map(|at| &all[at]).collect()
}

/// What the figures of [`table`] are.
pub(super) fn explained() -> String {
    format!(
        "A {SPARE}nd of the card and {} are left to the driver and a screen. Context is what fits beside the weights; \
         tokens a second are what the card's bandwidth allows at most, not a measurement.",
        size(DRIVER)
    )
}

/// A line for each card.
pub(super) fn table(shown: &[&Runs]) -> Table {
    let mut table = Table::new(&[
        Column::text("card"),
        Column::number("memory"),
        Column::number("bandwidth").goes(2),
        Column::number("capability").goes(3),
        Column::number("context"),
        Column::number("tokens/s").goes(1),
    ]);
    for Runs { card, context, tokens_per_second_at_most } in shown {
        table.add([
            card.name.clone(),
            size(card.memory_bytes),
            format!("{:.0} GB/s", card.bandwidth_bytes_per_s as f64 / 1e9),
            card.compute_capability.map_or(String::new(), |capability| capability.to_string()),
            tokens(*context as u64),
            format!("{tokens_per_second_at_most:.0}"),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_oldest_card_is_the_devices() {
        let device = include_str!("../../../cuda/src/card.rs");
        let super::Capability { major, minor } = super::OLDEST;
        assert!(
            device
                .contains(&format!("const OLDEST_CARD: i32 = {};", 10 * i32::from(major) + i32::from(minor)))
        );
    }
}
