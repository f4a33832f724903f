//! Graphics cards: how much they hold and how fast they read it.

use std::fmt;
use std::sync::OnceLock;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::NameError;
use crate::names::nearest;

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

impl Card {
    /// The card that a name leads to, in upper or lower case, with its series or without: `rtx 4090`, `GeForce RTX 4090`. The
    /// beginning of a name will do where no other card's begins so.
    ///
    /// # Errors
    /// When no card or several are called that.
    pub fn named(name: &str) -> Result<&'static Card, NameError> {
        let wanted = squeezed(without_series(name));
        let of = |card: &Card| squeezed(without_series(&card.name));
        if let Some(card) = cards().iter().find(|card| of(card) == wanted) {
            return Ok(card);
        }
        let begin = |card: &&Card| !wanted.is_empty() && of(card).starts_with(&wanted);
        match cards().iter().filter(begin).collect::<Vec<_>>()[..] {
            [only] => Ok(only),
            [] => {
                let names = cards().iter().map(|card| without_series(&card.name));
                let nearest = nearest(without_series(name), names);
                Err(NameError::UnknownCard { name: name.to_owned(), nearest })
            }
            ref several => {
                let known = several.iter().map(|card| without_series(&card.name).to_owned()).collect();
                Err(NameError::SeveralCards { name: name.to_owned(), known })
            }
        }
    }
}

/// A card's name as people say it.
fn without_series(name: &str) -> &str {
    const SERIES: [&str; 6] = ["nvidia ", "amd ", "geforce ", "quadro ", "tesla ", "radeon "];
    let name = name.trim();
    let found = SERIES.iter().find_map(|series| {
        let begin = name.get(..series.len()).filter(|begin| begin.eq_ignore_ascii_case(series))?;
        name.get(begin.len()..)
    });
    found.map_or(name, without_series)
}

/// A name in lower case without what stands between its words.
fn squeezed(name: &str) -> String {
    name.to_lowercase().replace([' ', '-', '_'], "")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cards_by_name() {
        for (name, found) in [
            ("RTX 4090", "GeForce RTX 4090"),
            ("nvidia geforce rtx4090", "GeForce RTX 4090"),
            ("rtx 3080", "GeForce RTX 3080"),
            ("RTX-3080-12GB", "GeForce RTX 3080 12 GB"),
            ("T4", "Tesla T4"),
        ] {
            assert_eq!(Card::named(name).unwrap().name, found, "{name}");
        }
        for card in cards() {
            assert_eq!(Card::named(&card.name).unwrap().name, card.name);
        }
        let error = |name: &str| Card::named(name).unwrap_err().to_string();
        assert!(error("RTX 3050").contains("RTX 3050 6 GB, RTX 3050 8 GB"), "{}", error("RTX 3050"));
        assert!(error("RTX 4091").contains("did you mean RTX 4090"), "{}", error("RTX 4091"));
        for name in ["", "geforce", "\u{1b}[2J", "显卡", &"x".repeat(10_000)] {
            assert!(error(name).len() <= 300, "{}", error(name));
        }
    }
}
