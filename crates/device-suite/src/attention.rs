//! Attention over the paged cache.

use crate::Candidate;
use crate::rig::{Random, bits};
use crate::story::{Story, play_layers};
use glimmer_tensor::{Heads, KvType, ReferenceDevice};
use std::collections::HashMap;

/// Head layouts: one to 72 queries per key, widths that do and do not fill vectors, values as wide as keys, narrower and
/// wider.
pub const HEADS: [Heads; 15] = [
    Heads::new(1, 1, 16),
    Heads::new(3, 3, 24),
    Heads::new(4, 2, 16),
    Heads::new(6, 2, 40),
    Heads::new(8, 1, 64),
    Heads::new(12, 1, 7),
    Heads::new(32, 2, 16),
    Heads::new(4, 2, 128),
    Heads::new(3, 3, 72),
    Heads::new(2, 2, 112),
    Heads::new(5, 1, 33),
    Heads::new(72, 1, 8),
    Heads { value_dim: 16, ..Heads::new(4, 2, 40) },
    Heads { value_dim: 33, ..Heads::new(6, 2, 24) },
    Heads { value_dim: 128, ..Heads::new(2, 1, 192) },
];

/// All precisions of the cache.
pub const KV_TYPES: [KvType; 3] = [KvType::F32, KvType::F16, KvType::Q8_0];

/// Lengths around the borders of pages and chunks.
pub const LENGTHS: [usize; 8] = [1, 31, 32, 33, 255, 256, 257, 600];

/// Prompts followed by three generated rows, for all head layouts, precisions and lengths and some prefixes.
pub fn prompts_and_generation(candidates: &[Candidate]) {
    let mut rng = Random(11);
    for (i, heads) in HEADS.into_iter().enumerate() {
        for (j, kv_type) in KV_TYPES.into_iter().enumerate() {
            // Every layout plays every length; the reference is too slow to play them in every precision.
            let lens: Vec<(usize, usize)> = (0..LENGTHS.len())
                .filter(|n| (n + i) % KV_TYPES.len() == j || LENGTHS[*n] == 257)
                .map(|n| (LENGTHS[n] + 3, [0, 0, 20, 33, 1, 0, 256, 300][(n + i) % 8].min(LENGTHS[n])))
                .collect();
            let mut story = Story::new(&mut rng, heads, kv_type, &lens);
            story.steps = lens.iter().enumerate().map(|(s, &(len, _))| vec![(s, 0..len - 3)]).collect();
            for back in (1..=3).rev() {
                let step = lens.iter().enumerate().map(|(s, &(len, _))| (s, len - back..len - back + 1));
                story.steps.push(step.collect());
            }
            let expected = story.play_reference();
            let mut families = HashMap::new();
            for candidate in candidates {
                let found = story.play(candidate.make());
                let what = format!("{}: {heads:?} {kv_type:?}", candidate.name);
                close(&what, &heads, &found, &expected, (candidate.tolerances.attention)(kv_type));
                let first = families.entry(&candidate.family).or_insert_with(|| bits(&found));
                assert!(*first == bits(&found), "{what}: other bits than the family's");
            }
        }
    }
}

/// One model whose layers have different heads, values of other widths than keys among them: what each layer keeps is its
/// own. Held to the reference and to the formula, which the reference is held to as well.
pub fn layers_of_different_heads(candidates: &[Candidate]) {
    let mut rng = Random(12);
    let heads = Heads::new(4, 2, 16);
    let others = [
        Heads { value_dim: 24, ..Heads::new(6, 1, 40) },
        heads,
        Heads { value_dim: 40, ..Heads::new(3, 3, 24) },
        Heads { value_dim: 64, ..Heads::new(16, 2, 96) },
    ];
    for kv_type in KV_TYPES {
        let mut first = Story::new(&mut rng, heads, kv_type, &[(300, 33), (40, 0), (2, 0)]);
        first.steps = vec![
            vec![(0, 0..290), (2, 0..1)],
            vec![(1, 0..39), (0, 290..299)],
            vec![(2, 1..2), (0, 299..300), (1, 39..40)],
        ];
        let [a, b, c, d] = others.map(|heads| first.in_another_layer(&mut rng, heads));
        let layers = [&first, &a, &b, &c, &d];
        let formula = layers.map(Story::by_formula);
        let reference = play_layers(layers.map(Some), &|| Box::new(ReferenceDevice::new()));
        for (i, layer) in layers.iter().enumerate() {
            close(&format!("the reference, layer {i}"), &layer.heads, &reference[i], &formula[i], 1e-6);
        }
        for candidate in candidates {
            let found = play_layers(layers.map(Some), candidate.make());
            for (i, layer) in layers.iter().enumerate() {
                let what = format!("{}, layer {i}: {:?} {kv_type:?}", candidate.name, layer.heads);
                let tolerance = (candidate.tolerances.attention)(kv_type);
                close(&what, &layer.heads, &found[i], &reference[i], tolerance);
                close(&what, &layer.heads, &found[i], &formula[i], tolerance);
            }
        }
    }
}

/// Asserts that rows `[.., attended_width]` are within a tolerance.
pub(crate) fn close(what: &str, heads: &Heads, found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (i, (f, e)) in found.iter().zip(expected).enumerate() {
        let (row, column) = (i / heads.attended_width(), i % heads.attended_width());
        assert!((f - e).abs() <= tolerance, "{what}: row {row} column {column} is {f}, not {e}");
    }
}

/// Whole sequences alone against any chunking in any company, on other pages that hold garbage. Devices of the same family
/// give the same bits.
pub fn attention_does_not_depend_on_company(candidates: &[Candidate]) {
    let mut rng = Random(31);
    for heads in [
        Heads::new(4, 2, 64),
        Heads::new(16, 1, 128),
        Heads::new(5, 1, 33),
        Heads { value_dim: 24, ..Heads::new(6, 2, 40) },
    ] {
        for kv_type in KV_TYPES {
            let mut story = Story::new(&mut rng, heads, kv_type, &[(330, 40), (70, 0), (1, 0)]);
            let mut alone = HashMap::new();
            for candidate in candidates {
                alone.entry(&candidate.family).or_insert_with(|| bits(&story.play(candidate.make())));
            }
            story.reshuffle(&mut rng);
            for candidate in candidates {
                let together = bits(&story.play(candidate.make()));
                let what = format!("{}: {heads:?} {kv_type:?} {:?}", candidate.name, story.steps);
                assert!(alone[&candidate.family] == together, "{what}");
            }
        }
    }
}

/// What a row does not see leaves no trace in it, even when it is computed in the same step and not a number.
pub fn later_rows_leave_no_trace(candidates: &[Candidate]) {
    let heads = Heads::new(6, 2, 24);
    let (width, out_width) = (heads.qkv_width(), heads.attended_width());
    for kv_type in KV_TYPES {
        let mut story = Story::new(&mut Random(21), heads, kv_type, &[(300, 40), (70, 0)]);
        let mut clean = HashMap::new();
        for candidate in candidates {
            clean.entry(&candidate.family).or_insert_with(|| bits(&story.play(candidate.make())));
        }
        for from in [299, 270, 257, 256, 100, 40] {
            story.values[from * width..300 * width].fill(f32::NAN);
            for candidate in candidates {
                let (clean, found) = (&clean[&candidate.family], story.play(candidate.make()));
                let (poisoned, what) =
                    (from * out_width..300 * out_width, format!("{}: {kv_type:?} {from}", candidate.name));
                assert!(found[poisoned.clone()].iter().all(|v| v.is_nan()), "{what}: NaN is hidden");
                let found = bits(&found);
                assert!(found[..poisoned.start] == clean[..poisoned.start], "{what}");
                assert!(found[poisoned.end..] == clean[poisoned.end..], "{what}: other sequence");
            }
        }
    }
}
