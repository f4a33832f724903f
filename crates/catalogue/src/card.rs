//! Graphics cards: how much they hold and how fast they read it.

use std::fmt;
use std::sync::OnceLock;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A card as its maker describes it.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Card {
    /// Its name, without the vendor's.
    pub name: String,
    /// Who made its chip.
    pub vendor: String,
    /// Bytes of memory; the driver takes some of them.
    pub memory_bytes: u64,
    /// Bytes that it reads in a second at most.
    pub bandwidth_bytes_per_s: u64,
    /// What its programs may use, of NVIDIA's cards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compute_capability: Option<Capability>,
    /// The page that says so.
    pub source: String,
}

/// NVIDIA's version of what a card can do, such as 8.9.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Capability {
    /// Before the point: the generation.
    pub major: u8,
    /// After it.
    pub minor: u8,
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl Serialize for Capability {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Capability {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let read =
            text.split_once('.').and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
        let (major, minor) = read.ok_or_else(|| serde::de::Error::custom("a capability is spelt \"8.9\""))?;
        Ok(Capability { major, minor })
    }
}

/// All cards of the table: NVIDIA's first, then by memory and bandwidth.
pub fn cards() -> &'static [Card] {
    #[derive(Deserialize)]
    struct File {
        cards: Vec<Card>,
    }
    static CARDS: OnceLock<Vec<Card>> = OnceLock::new();
    CARDS.get_or_init(|| {
        let file: File =
            serde_json::from_str(include_str!("../data/cards.json")).expect("a test reads this file");
        file.cards
    })
}
