//! Attention with its backward.

use super::{Case, Input, Operation};
use crate::rig::Random;
use glimmer_tensor::{AttentionGradient, Batch, Heads, PAGE_SLOTS};

/// Sequences of `lens` (rows, and how many of them every row sees), behind a trained prefix of some slots if there are any.
pub fn case(rng: &mut Random, heads: Heads, lens: &[(usize, usize)], prefix_slots: usize) -> Case {
    let mut batch = Batch::default();
    let mut page = 0;
    for &(rows, context) in lens {
        let slots = prefix_slots..prefix_slots + rows;
        let pages = slots.end.div_ceil(PAGE_SLOTS) as u32;
        let prefix_len = if context == 0 { 0 } else { prefix_slots + context };
        batch.push(&vec![0; rows], slots, &vec![0.0; rows], prefix_len, (page..page + pages).collect(), []);
        page += pages;
    }
    let rows = batch.rows();
    let mut inputs = vec![Input::normal(rng, rows, heads.qkv_width())];
    if prefix_slots > 0 {
        inputs.push(Input::normal(rng, prefix_slots, heads.k_width() + heads.v_width()).added());
    }
    let all_pages: Vec<_> = batch.sequences.iter().map(|s| s.pages.clone()).collect();
    let load = move || Operation {
        forward: Box::new({
            let all_pages = all_pages.clone();
            move |device, batch, inputs, out| {
                device.kv_write(batch, 0, inputs[0], heads);
                for (&prefix, pages) in inputs[1..].iter().flat_map(|p| all_pages.iter().map(move |a| (p, a)))
                {
                    device.prefix_write(0, pages, prefix, heads);
                }
                device.attention(batch, 0, inputs[0], heads, out);
            }
        }),
        backward: Box::new(move |device, batch, played, gradients| {
            let gradient = AttentionGradient {
                qkv: played.inputs[0],
                prefix: played.inputs.get(1).copied(),
                attended: played.out,
                d_attended: played.d_out,
                d_qkv: gradients[0],
                d_prefix: gradients.get(1).copied(),
            };
            device.attention_backward(batch, heads, &gradient);
        }),
    };
    Case {
        name: format!("attention of {heads:?}, {lens:?} behind {prefix_slots}"),
        inputs,
        out: (rows, heads.attended_width()),
        batch,
        heads,
        rounds: false,
        load: Box::new(move |_| load()),
    }
}
