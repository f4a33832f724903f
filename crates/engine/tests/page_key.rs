//! Keys of pages are the same everywhere: the values here were computed by another program (Python's `hashlib`) from the
//! layout that `page_key.rs` describes.

use glimmer_engine::{Extra, PageKey};
use glimmer_tensor::PAGE_SLOTS;

fn ids(first: u32) -> [u32; PAGE_SLOTS] {
    std::array::from_fn(|i| first + i as u32)
}

#[test]
fn keys_are_the_ones_of_another_program() {
    let first = PageKey::new(None, &ids(0), &[]);
    assert_eq!(first.to_string(), "f710ed9a983f0a0f7065d52c1fc79cd3");
    let second = PageKey::new(Some(first), &ids(32), &[]);
    assert_eq!(second.to_string(), "8dbe40a232cd774e34ff72cafa47a9e9");
    let mut large = [151_329; PAGE_SLOTS];
    large[PAGE_SLOTS - 1] = u32::MAX;
    assert_eq!(PageKey::new(None, &large, &[]).to_string(), "d1c48fe852f83b8c0e734c2f0a7c3d91");
}

#[test]
fn a_context_that_attends_both_ways_is_in_all_keys_under_it() {
    let context: Vec<u32> = (0..40).collect();
    let first = PageKey::new(None, &ids(0), &[Extra::Context(&context)]);
    assert_eq!(first.to_string(), "f33ad0355955dd36c35a66d4095fa1e7");
    let second = PageKey::new(Some(first), &ids(32), &[]);
    assert_eq!(second.to_string(), "4159ee3cf7481724dd2f6d38bf7ebd32");
    let shorter = PageKey::new(None, &ids(0), &[Extra::Context(&context[..10])]);
    assert_eq!(shorter.to_string(), "757c9a12c1bfc6b21bb0b5557418d487");
    assert_eq!(shorter.as_bytes()[..2], [0x75, 0x7c]);
}

#[test]
fn a_picture_is_in_the_keys_of_the_pages_that_have_rows_of_it() {
    let digest: [u8; 32] = std::array::from_fn(|i| i as u8);
    let rows = |row, slot, rows| Extra::Picture { digest: &digest, row, slot, rows };
    let first = PageKey::new(None, &[7; PAGE_SLOTS], &[rows(0, 5, 27)]);
    assert_eq!(first.to_string(), "84d480f9a86a1b56ad0cedc90ae7a11a");
    let other = Extra::Picture { digest: &[0; 32], row: 0, slot: 20, rows: 12 };
    let second = PageKey::new(Some(first), &[7; PAGE_SLOTS], &[rows(27, 0, 13), other]);
    assert_eq!(second.to_string(), "23b9858e9ba7bb4f4f1d7dc151192b83");
}
