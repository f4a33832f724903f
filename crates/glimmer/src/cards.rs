//! What the machine's NVIDIA cards are doing, for those who watch it.

/// A card as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CardUse {
    /// Its name, such as "NVIDIA H200".
    pub name: String,
    /// What tells it from all others, such as "GPU-8f2e...".
    pub uuid: String,
    /// Bytes of memory that somebody uses, the driver included.
    pub memory_used: u64,
    /// Bytes of memory that it has.
    pub memory_total: u64,
    /// Percent of the last second or so in which it computed; `None` where it does not tell.
    pub busy: Option<u32>,
}

/// All cards of the machine, as NVIDIA's management library tells of them: none where that is not installed, or in a program
/// that was built without cards.
pub fn card_use() -> Vec<CardUse> {
    #[cfg(any(feature = "cuda", feature = "emulate"))]
    let cards = glimmer_cuda::card_use().into_iter().map(|card| {
        let glimmer_cuda::CardUse { name, uuid, memory_used, memory_total, busy } = card;
        CardUse { name, uuid, memory_used, memory_total, busy }
    });
    #[cfg(not(any(feature = "cuda", feature = "emulate")))]
    let cards = std::iter::empty();
    cards.collect()
}
