//! What a full page of the cache contains, as a number: the same in every run and on every machine.
//!
//! A key is the first 16 bytes of SHA-256 over, in this order and with nothing in between,
//!
//! | bytes | what |
//! |---|---|
//! | 16 | the key of the page before it; for a sequence's first page the ASCII text `glimmer pages v1` |
//! | 4 × 32 | the page's token ids, each a u32, little-endian; slots of an adapter's prefix have 2^32 - 1 |
//! | any | the page's extras, none as a rule |
//!
//! and an extra is its kind (u32), the number of its bytes (u64), both little-endian, and those bytes:
//!
//! | kind | stands with | bytes |
//! |---|---|---|
//! | 1 | the first page (that is not all prefix) | the ids of the context that attends both ways (ChatGLM-6B: all before `<sop>`), each a u32, little-endian |
//! | 2 | the first page | the adapter: the first 16 bytes of SHA-256 over its numbers (`adapters.rs`) |
//! | 3 | each page that has rows of a picture, once for each picture | the 32 bytes that the picture is known by (`picture::Rows::digest`), the first of its rows that the page has, the slot in the page where that is, and how many the page has, each a u32, little-endian |
//!
//! Extras say what the page's keys and values depend on besides the ids up to its end and the extras of the pages before.
//! Further kinds get further numbers and come in the order of these; should this layout change, so will the text that
//! stands for no page. What is the same for all pages of an engine (the model, the precision of its weights and of the
//! cache) is no part of a key: who has several engines keeps them apart.
//!
//! Why a cryptographic hash: strangers share pages by nothing but their keys. With a quick hash, ids could be found whose
//! key is that of somebody else's text, who would then be answered from theirs. To meet a given key of 16 bytes of SHA-256
//! takes 2^128 tries. Two beginnings with one key take 2^64, and whoever finds them wrote both. So ids are not compared as
//! well. Among such hashes SHA-256 is the one that every language has at hand. It costs 0.2 µs a page with the
//! processor's instructions for it and 0.7 µs without, once per sequence.

use std::fmt;

use glimmer_tensor::PAGE_SLOTS;
use sha2::{Digest, Sha256};

/// Stands for the page before the first. Its number is the layout's version.
const NO_PAGE: [u8; 16] = *b"glimmer pages v1";

/// Names the contents of a full page, and so of all pages before it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageKey([u8; 16]);

/// What a page's contents depend on besides ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extra<'a> {
    /// The ids of the context that attends both ways, all of them. Stands with the first page that has any of them.
    Context(&'a [u32]),
    /// What the adapter's numbers are known by. Stands with the first page.
    Adapter(&'a [u8; 16]),
    /// Rows of a picture.
    Picture {
        /// What the picture is known by.
        digest: &'a [u8; 32],
        /// The first of its rows that the page has.
        row: u32,
        /// Where in the page that is.
        slot: u32,
        /// How many of its rows the page has.
        rows: u32,
    },
}

impl PageKey {
    /// The key of the page of `ids` after the page `parent`; of a sequence's first page where there is none.
    pub fn new(parent: Option<PageKey>, ids: &[u32; PAGE_SLOTS], extras: &[Extra]) -> Self {
        let mut hash = Sha256::new();
        hash.update(parent.map_or(NO_PAGE, |key| key.0));
        update(&mut hash, ids);
        for extra in extras {
            match extra {
                Extra::Context(context) => {
                    hash.update(1u32.to_le_bytes());
                    hash.update((4 * context.len() as u64).to_le_bytes());
                    update(&mut hash, context);
                }
                Extra::Adapter(digest) => {
                    hash.update(2u32.to_le_bytes());
                    hash.update((digest.len() as u64).to_le_bytes());
                    hash.update(digest);
                }
                Extra::Picture { digest, row, slot, rows } => {
                    hash.update(3u32.to_le_bytes());
                    hash.update((digest.len() as u64 + 12).to_le_bytes());
                    hash.update(digest);
                    update(&mut hash, &[*row, *slot, *rows]);
                }
            }
        }
        let digest = hash.finalize();
        PageKey(std::array::from_fn(|i| digest[i]))
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

fn update(hash: &mut Sha256, ids: &[u32]) {
    ids.iter().for_each(|id| hash.update(id.to_le_bytes()));
}

/// In hexadecimal, the first byte first.
impl fmt::Display for PageKey {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for PageKey {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
