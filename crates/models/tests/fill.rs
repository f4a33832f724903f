//! A cache that is filled without computing the layers: the same on every device, and steps go on from it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use glimmer_models::{ModelWeights, PositionLayout, load};
use glimmer_tensor::{Batch, Capacity, KvType, PAGE_SLOTS, PageId};
use support::{device, distance, open, root};

/// Logits of the tokens after `depth` filled slots.
fn after(name: &str, device_name: &str, depth: usize) -> Vec<f32> {
    let (checkpoint, understood) = open(&root().join("fixtures").join(name), None);
    let mut decoder =
        load(ModelWeights::stored(&checkpoint, &understood), device(device_name), &mut |_, _| {}).unwrap();
    let ids: Vec<u32> = (0..depth as u32 + 8).map(|i| (i * 37 + 5) % 250).collect();
    let pages: Vec<PageId> = (0..ids.len().div_ceil(PAGE_SLOTS) as PageId).collect();
    let capacity = Capacity { rows: 64, logits_rows: 8, pages: pages.len() };
    decoder.plan(capacity, KvType::F32).unwrap();
    let layout = PositionLayout::of_prompt(decoder.spec().positions, &ids).unwrap();
    let batch = |slots: std::ops::Range<usize>, logits: usize| {
        let mut positions = Vec::new();
        layout.extend(slots.clone(), &mut positions);
        let mut batch = Batch::default();
        batch.push(&ids[slots.clone()], slots, &positions, 0, pages.clone(), 0..logits);
        batch
    };
    for begin in (0..depth).step_by(64) {
        decoder.fill(&batch(begin..depth.min(begin + 64), 0)).unwrap();
    }
    decoder.forward(&batch(depth..depth + 8, 8)).unwrap();
    let mut logits = Vec::new();
    decoder.logits(8, &mut logits).unwrap();
    logits
}

#[test]
fn every_device_goes_on_from_the_same_cache() {
    for name in ["glm-edge-1.5b-chat", "glm4-9b-orig", "glm4-9b-0414"] {
        let expected = after(name, "reference", 150);
        assert!(expected.iter().all(|logit| logit.is_finite()), "{name}");
        let found = distance(&after(name, "cpu-f32-2", 150), &expected);
        assert!(found < 1e-4, "{name}: {found}");
        assert!(distance(&after(name, "reference", 0), &expected) > 1e-3, "{name}: the cache is seen");
    }
}
