//! How fast a model will be: the floor of its steps, and how near to that this program comes.

use std::sync::{Mutex, PoisonError};

use anyhow::Result;
use glimmer::{DecoderSpec, DeviceKind, Load, step_tokens};
use glimmer_catalogue::Card;
use glimmer_cpu::{Isa, is_amd};
use glimmer_models::Positions;
use glimmer_tensor::Compute;
use serde::Serialize;

use crate::commands::bench::floor::{Costs, Floor, Work};
use crate::commands::bench::rates::{MachineRates, Meter, Unit};

/// Parts of the floor that the CPU device reaches.
#[derive(Clone, Copy, Serialize)]
struct Reached {
    prompt: f64,
    generation: f64,
}

/// By `glimmer bench` (docs/measurements.md, Speed): prompts of 58 to 72 %, generation of 92 % with an empty cache to 77 %
/// with a long one.
const ON_AVX512_VNNI: Reached = Reached { prompt: 0.62, generation: 0.82 };
/// The same on AMD's Zen 4 and Zen 5: prompts of 62 to 68 %, generation of 63 to 71 % with Q4_K_M, 78 % with Q8_0.
const ON_AMD_AVX512: Reached = Reached { prompt: 0.64, generation: 0.70 };
/// The same on AVX2: prompts of 38 to 83 %, generation of 56 to 77 %. Of other processors nothing was measured.
const ON_OTHERS: Reached = Reached { prompt: 0.57, generation: 0.65 };

/// A measurement takes about a second; noise only ever makes a machine slower.
const MEASUREMENTS: usize = 3;

/// What a machine does at most.
#[derive(Clone, Copy)]
pub(super) struct Speed {
    rates: MachineRates,
    /// `None` of a card, on which nothing was measured.
    reached: Option<Reached>,
}

/// What a model will do.
#[derive(Clone, Copy, Serialize)]
pub(super) struct Predicted {
    /// Of all users together, in the middle of their contexts.
    pub(super) tokens_per_second: f64,
    /// Seconds for one user's prompt; a card's data sheet does not say how fast it multiplies.
    pub(super) first_token_seconds: Option<f64>,
}

/// What a prediction is made from, for programs.
#[derive(Serialize)]
pub(super) struct MadeFrom {
    /// Whether the rates were measured; else they are of a data sheet, and a prediction is what is possible at most.
    measured: bool,
    read_bytes_per_second: f64,
    int8_operations_per_second: Option<f64>,
    /// Parts of that which this program reaches.
    reached: Option<Reached>,
}

impl Speed {
    /// This machine's processor with a model of so many bytes, measured for three seconds.
    pub(super) fn of_processor(bytes: u64) -> Result<Self> {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        let meter = Meter::of(None, Compute::Auto, None, bytes);
        let mut rates = meter.measure()?;
        for _ in 1..MEASUREMENTS {
            rates = rates.best(meter.measure()?);
        }
        let reached = match Isa::detect()? {
            Isa::Avx512Vnni if is_amd() => ON_AMD_AVX512,
            Isa::Avx512Vnni => ON_AVX512_VNNI,
            _ => ON_OTHERS,
        };
        Ok(Speed { rates, reached: Some(reached) })
    }

    /// The same for models larger than any cache, measured when it is first asked for and kept while the program runs.
    pub(super) fn measured_once() -> Result<Self> {
        static KEPT: Mutex<Option<Speed>> = Mutex::new(None);
        let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
        let speed = match *kept {
            Some(speed) => speed,
            None => Speed::of_processor(u64::MAX)?,
        };
        *kept = Some(speed);
        Ok(speed)
    }

    /// A card by its data sheet.
    pub(super) fn of_card(card: &Card) -> Self {
        let rates = MachineRates {
            threads: 1,
            read: card.bandwidth_bytes_per_s as f64,
            copy: None,
            int8: f64::INFINITY,
            float: f64::INFINITY,
            unit: Unit::Bf16,
        };
        Speed { rates, reached: None }
    }

    /// What is predicted of a model: generation with half of every context in the cache, and a prompt of `prompt` tokens.
    pub(super) fn predict(&self, costs: &Costs, spec: &DecoderSpec, load: Load, prompt: usize) -> Predicted {
        let users = load.users as f64;
        let seen = users * (load.context as f64 / 2.0);
        let step = Work { rows: users, logits: users, slots: seen, keys: seen };
        let generation = self.reached.map_or(1.0, |reached| reached.generation);
        let seconds = costs.floor_of(step, &self.rates).seconds / generation;
        let first_token = |reached: Reached| {
            let steps = prompt_steps(spec, load.device, prompt);
            steps.map(|work| costs.floor_of(work, &self.rates)).sum::<Floor>().seconds / reached.prompt
        };
        Predicted { tokens_per_second: users / seconds, first_token_seconds: self.reached.map(first_token) }
    }

    /// What the predictions are made from, for people.
    pub(super) fn described(&self) -> String {
        let read = self.rates.read / 1e9;
        match self.reached {
            Some(Reached { prompt, generation }) => format!(
                "from what was measured now, {read:.1} GB/s and {:.0} billion int8 operations a second; of that prompts reach \
                 {:.0} % and generation {:.0} %, as docs/measurements.md has it",
                self.rates.int8 / 1e9,
                100.0 * prompt,
                100.0 * generation
            ),
            None => format!(
                "from the card's data sheet, {read:.0} GB/s: what is possible at most. How long a prompt takes it does not say"
            ),
        }
    }

    /// The same for programs.
    pub(super) fn made_from(&self) -> MadeFrom {
        MadeFrom {
            measured: self.reached.is_some(),
            read_bytes_per_second: self.rates.read,
            int8_operations_per_second: self.reached.map(|_| self.rates.int8),
            reached: self.reached,
        }
    }
}

/// The steps of a prompt, whose last row has logits.
fn prompt_steps(spec: &DecoderSpec, device: DeviceKind, prompt: usize) -> impl Iterator<Item = Work> {
    let is_whole = matches!(spec.positions, Positions::ChatGlm6b { .. });
    let step = if is_whole { prompt } else { step_tokens(spec, device).min(prompt) }.max(1);
    (0..prompt).step_by(step).map(move |first| {
        let end = (first + step).min(prompt);
        let (rows, slots) = ((end - first) as f64, end as f64);
        // ChatGLM-6B's rows see all of a prompt, others what came before them and themselves.
        let keys = if is_whole { rows * slots } else { rows * (first as f64 + (rows + 1.0) / 2.0) };
        Work { rows, logits: if end == prompt { 1.0 } else { 0.0 }, slots, keys }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::bench::floor::Weights;
    use glimmer::{KvType, PublishedModel};

    /// GLM-4-9B: 40 layers, 2 heads of 128 with keys and values of 2 bytes. A step of generation waits for memory.
    #[test]
    fn generation_reads_weights_once_for_all_users() {
        let model = PublishedModel::named("glm-4-9b-chat").unwrap();
        let (spec, written) = (model.spec(), model.weights("Q4_K_M").unwrap());
        let costs = Costs::with(spec, &Weights::written(&written, spec), Compute::Auto, KvType::F16);
        let load = |context, users| Load { context, users, kv_type: KvType::F16, device: DeviceKind::Cpu };
        let rates =
            MachineRates { threads: 1, read: 1e9, copy: None, int8: 1e15, float: 1e15, unit: Unit::F32 };
        let speed = Speed { rates, reached: Some(Reached { prompt: 0.5, generation: 0.5 }) };
        let row = written.embedding as f64 / 151_552.0;
        for (context, users) in [(2, 1), (8192, 1), (8192, 10)] {
            let predicted = speed.predict(&costs, spec, load(context, users), 512).tokens_per_second;
            let each = (users * context / 2 * 40_960) as f64 + users as f64 * row;
            let expected = 0.5 * users as f64 * 1e9 / (written.read() as f64 + each);
            assert!((predicted / expected - 1.0).abs() < 1e-9, "{context} {users}: {predicted} {expected}");
        }
        let one = speed.predict(&costs, spec, load(1024, 1), 64).first_token_seconds.unwrap();
        let two = speed.predict(&costs, spec, load(1024, 1), 65).first_token_seconds.unwrap();
        assert!(two > 1.8 * one, "a second step reads the layers again: {one} {two}");
    }

    #[test]
    fn steps_of_a_prompt_see_what_came_before() {
        for (name, whole) in [("glm-4-9b-chat", false), ("chatglm-6b", true)] {
            let model = PublishedModel::named(name).unwrap();
            let steps: Vec<Work> = prompt_steps(model.spec(), DeviceKind::Cpu, 200).collect();
            let sum = |of: &dyn Fn(&Work) -> f64| steps.iter().map(of).sum::<f64>();
            assert_eq!((sum(&|s| s.rows), sum(&|s| s.logits)), (200.0, 1.0), "{name}");
            assert_eq!(sum(&|s| s.keys), if whole { 40_000.0 } else { 20_100.0 }, "{name}");
            assert_eq!(steps.len() == 1, whole, "{name}");
        }
    }
}
