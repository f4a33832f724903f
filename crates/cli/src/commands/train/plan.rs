//! What a training takes, before it begins.

use glimmer_train::MemoryPlan;
use glimmer_train::config::{Method, TrainConfig};

use crate::output::size;
use crate::terminal::Terminal;

/// Of the memory that is free, the part that is left alone.
const SPARE: usize = 32;

/// Tells the bytes by part, whether they fit, and what would make them fewer.
pub(super) fn tell(plan: &MemoryPlan, config: &TrainConfig, terminal: &Terminal) {
    terminal.note(&format!(
        "memory: weights {} + trained {} + gradients {} + optimizer {} + a batch {} = {}",
        size(plan.base),
        size(plan.tensors),
        size(plan.gradients),
        size(plan.moments),
        size(plan.activations),
        size(plan.total())
    ));
    let Some(memory) = glimmer::free_memory() else { return };
    let free = (memory.free - memory.free / SPARE) as u64;
    if plan.total() <= free {
        terminal.note(&format!("it fits: {} are free", size(free)));
    } else {
        let advice = advice(plan, config);
        terminal.warn(&format!("it does not fit: {} are free; {advice}", size(free)));
    }
}

/// What takes most of what can be changed.
fn advice(plan: &MemoryPlan, config: &TrainConfig) -> String {
    let mut advice = Vec::new();
    if plan.activations > plan.total() / 4 && config.batch.tokens > 256 {
        advice.push("fewer --batch-tokens with more --accumulate");
    }
    if config.method == Method::Full {
        advice.push("LoRA instead of --full");
    } else if config.quantize.is_none() {
        advice.push("--quantize 4");
    }
    if plan.moments > plan.total() / 8 && !config.eight_bits {
        advice.push("--eight-bit");
    }
    if advice.is_empty() {
        "a smaller model is what is left".to_owned()
    } else {
        format!("what helps: {}", advice.join(", "))
    }
}
