//! Every tiny checkpoint in `fixtures/` against the reference implementation's stored outputs: logits and hidden states,
//! chunked prompts, ragged batches, greedy decoding with a cache, far positions.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on has failed; figures are shown"
)]

mod support;

use std::path::Path;

use glimmer_models::Stage;
use glimmer_tensor::KvType;
use support::{Piece, Runner, Stored, device, distance, root};

/// A fixture, its expected outputs and how far from them an exact engine may be.
struct Fixture {
    name: &'static str,
    expected: Stored,
    manifest: serde_json::Value,
    runner: Runner,
    device: &'static str,
    worst: f32,
}

impl Fixture {
    fn open(name: &'static str, on: &'static str) -> Self {
        Self::open_in(&root().join("fixtures").join(name), name, on)
    }

    fn open_in(dir: &Path, name: &'static str, on: &'static str) -> Self {
        let expected = Stored::open(&dir.join("expected.safetensors"));
        let manifest = serde_json::from_slice(&std::fs::read(dir.join("manifest.json")).unwrap()).unwrap();
        let runner = Runner::new(dir, device(on), KvType::F32, 160, 1024);
        Fixture { name, expected, manifest, runner, device: on, worst: 0.0 }
    }

    /// The processor with the layers before `layer` and a card with the others.
    #[cfg(any(feature = "emulate", feature = "cuda"))]
    fn split(name: &'static str, layer: usize) -> Self {
        let devices = ["cpu-f32-2", "cuda-f32"].map(device).into();
        let dir = root().join("fixtures").join(name);
        let runner = Runner::split(&dir, devices, &[layer], KvType::F32, 160, 1024);
        Fixture { runner, device: "both", ..Self::open(name, "cpu-f32-2") }
    }

    /// max(1e-4, 10 x the reference's own float32-to-float64 distance).
    fn tolerance(&self, tensor: &str) -> f32 {
        let noise = &self.manifest["float32_vs_float64"];
        let of = |v: &serde_json::Value| v["max_abs"].as_f64().or(v.as_f64());
        let own = of(&noise[tensor])
            .unwrap_or_else(|| noise.as_object().unwrap().values().filter_map(of).fold(0.0, f64::max));
        (10.0 * own).max(1e-4) as f32
    }

    fn compare(&mut self, tensor: &str, found: &[f32]) {
        let d = distance(found, self.expected.f32(tensor));
        self.worst = self.worst.max(d);
        let tolerance = self.tolerance(tensor);
        assert!(
            d <= tolerance,
            "{} on {}: {tensor} differs by {d}, allowed {tolerance}",
            self.name,
            self.device
        );
    }

    fn short(&mut self) {
        let ids = self.expected.ids("short.input_ids");
        let sequence = self.runner.sit();
        let mut hidden = Vec::new();
        let piece = Piece { sequence, ids: &ids, positions: None };
        let logits =
            self.runner.step_observed(piece, &mut |stage, values| hidden.push((stage, values.to_vec())));
        assert_eq!(hidden.len(), self.runner.decoder.spec().layers.len() + 2);
        for (stage, values) in hidden {
            match stage {
                Stage::Hidden(i) => self.compare(&format!("short.hidden.{i}"), &values),
                Stage::Final => self.compare("short.hidden.final", &values),
            }
        }
        self.compare("short.logits", &logits);
        self.runner.leave(sequence);
    }

    /// The whole prompt at once, then in chunks where the generation allows it.
    fn long(&mut self) {
        let ids = self.expected.ids("long.input_ids");
        let whole = self.runner.whole(&ids);
        self.compare("long.logits", &whole);
        if self.bidirectional() {
            return;
        }
        for chunk in [1, 7, 16] {
            let sequence = self.runner.sit();
            let mut chunked = Vec::new();
            for ids in ids.chunks(chunk) {
                chunked.extend(self.runner.step(&[Piece { sequence, ids, positions: None }]));
            }
            self.runner.leave(sequence);
            assert!(chunked == whole || self.device == "reference", "{}: chunks of {chunk}", self.name);
            self.compare("long.logits", &chunked);
        }
    }

    fn bidirectional(&self) -> bool {
        self.runner.decoder.spec().rope.axes() == 2
    }

    /// Prompts of 131 tokens, logits from position 101 on.
    fn past_a_hundred(&mut self, key: &str) {
        let ids = self.expected.ids(&format!("{key}.input_ids"));
        let vocab = self.runner.vocab();
        let logits = self.runner.whole(&ids);
        let picked: Vec<f32> = self
            .expected
            .i64(&format!("{key}.positions"))
            .iter()
            .flat_map(|&p| &logits[p as usize * vocab..(p as usize + 1) * vocab])
            .copied()
            .collect();
        self.compare(&format!("{key}.logits"), &picked);
    }

    /// The left-padded rows of the reference as one ragged batch.
    fn batch(&mut self) {
        let rows = self.expected.shape("batch.input_ids")[0];
        let width = self.expected.shape("batch.input_ids")[1];
        let ids = self.expected.ids("batch.input_ids");
        let starts: Vec<usize> = (0..rows).map(|r| self.padding(r, width)).collect();
        let prompts: Vec<&[u32]> = (0..rows).map(|r| &ids[r * width + starts[r]..(r + 1) * width]).collect();
        let seats: Vec<usize> = prompts.iter().map(|_| self.runner.sit()).collect();
        let pieces: Vec<Piece<'_>> = seats
            .iter()
            .zip(&prompts)
            .map(|(&sequence, ids)| Piece { sequence, ids, positions: None })
            .collect();
        let ragged = self.runner.step(&pieces);
        seats.iter().for_each(|&s| self.runner.leave(s));
        let vocab = self.runner.vocab();
        let mut padded = vec![0f32; rows * width * vocab];
        let mut at = 0;
        for r in 0..rows {
            let len = prompts[r].len() * vocab;
            let to = (r * width + starts[r]) * vocab;
            padded[to..to + len].copy_from_slice(&ragged[at..at + len]);
            at += len;
        }
        self.compare("batch.logits", &padded);

        let prompts: Vec<Vec<u32>> = prompts.into_iter().map(<[u32]>::to_vec).collect();
        let steps = self.expected.shape("genbatch.new_ids")[1];
        let found: Vec<u32> =
            self.runner.greedy(&prompts, steps).into_iter().flat_map(|(ids, _)| ids).collect();
        assert_eq!(found, self.expected.ids("genbatch.new_ids"), "{}: greedy batch", self.name);
    }

    /// Number of left padding columns of a row of `batch.*`.
    fn padding(&self, row: usize, width: usize) -> usize {
        let mask = self.expected.i64("batch.attention_mask");
        if self.expected.shape("batch.attention_mask").len() == 2 {
            return mask[row * width..(row + 1) * width].iter().filter(|&&m| m == 0).count();
        }
        // ChatGLM-6B's mask is [rows, 1, query, key] with 1 = blocked: the last query sees all but the padding.
        let last = (row * width + width - 1) * width;
        mask[last..last + width].iter().filter(|&&m| m == 1).count()
    }

    fn greedy(&mut self) {
        let prompt = self.expected.ids("gen.input_ids");
        let steps = self.expected.shape("gen.new_ids")[1];
        let (ids, logits) = self.runner.greedy(&[prompt], steps).remove(0);
        assert_eq!(ids, self.expected.ids("gen.new_ids"), "{}: greedy", self.name);
        self.compare("gen.step_logits", &logits);
    }

    /// Explicit positions near the end of the context.
    fn far_positions(&mut self) {
        let ids = self.expected.ids("farpos.input_ids");
        let divisor = self.runner.decoder.spec().positions.divisor();
        let positions: Vec<f32> =
            self.expected.i64("farpos.position_ids").iter().map(|&p| p as f32 / divisor).collect();
        let sequence = self.runner.sit();
        let logits = self.runner.step(&[Piece { sequence, ids: &ids, positions: Some(&positions) }]);
        self.runner.leave(sequence);
        self.compare("farpos.logits", &logits);
    }

    /// The rotary table at positions 0..140, `[position, pair, (cos, sin)]`.
    fn rope_table(&mut self) {
        let rope = self.runner.decoder.spec().rope.clone();
        let divisor = self.runner.decoder.spec().positions.divisor();
        let pairs = self.expected.shape("freqs.cos_sin")[1];
        let mut found = Vec::new();
        for p in 0..self.expected.shape("freqs.cos_sin")[0] {
            let mut row = Vec::new();
            rope.cos_sin(&[p as f32 / divisor, p as f32 / divisor], &mut row);
            found.extend(row[..pairs].iter().flat_map(|&(c, s)| [c, s]));
        }
        let d = distance(&found, self.expected.f32("freqs.cos_sin"));
        assert!(d < 3e-7, "{}: rope table differs by {d}", self.name);
    }

    fn everything(mut self) {
        self.rope_table();
        self.short();
        self.long();
        for key in ["rope", "ropeblock"] {
            if self.expected.has(&format!("{key}.input_ids")) {
                self.past_a_hundred(key);
            }
        }
        if self.expected.has("mask.input_ids") {
            let ids = self.expected.ids("mask.input_ids");
            let logits = self.runner.whole(&ids);
            self.compare("mask.logits", &logits);
        }
        if self.expected.has("farpos.input_ids") {
            self.far_positions();
        }
        self.batch();
        self.greedy();
        println!("{:24} {:10} worst {:.2e}", self.name, self.device, self.worst);
    }
}

macro_rules! fixtures {
    ($($test:ident: $name:literal,)*) => {$(
        mod $test {
            #[test]
            fn reference() {
                super::Fixture::open($name, "reference").everything();
            }

            #[test]
            fn cpu_one_thread() {
                super::Fixture::open($name, "cpu-f32-1").everything();
            }

            #[test]
            fn cpu_two_threads() {
                super::Fixture::open($name, "cpu-f32-2").everything();
            }

            #[cfg(any(feature = "emulate", feature = "cuda"))]
            #[test]
            fn cuda() {
                super::Fixture::open($name, "cuda-f32").everything();
            }

            #[cfg(any(feature = "emulate", feature = "cuda"))]
            #[test]
            fn split() {
                let layers = super::Fixture::open($name, "cpu-f32-2").runner.decoder.spec().layers.len();
                // ChatGLM-6B's 28 in the middle alone: an emulated card is slow.
                let cuts = (1..layers).filter(|&cut| layers < 5 || cut == layers / 2);
                cuts.for_each(|layer| super::Fixture::split($name, layer).everything());
            }
        }
    )*};
}

fixtures! {
    chatglm_6b: "chatglm-6b",
    chatglm_6b_int8: "chatglm-6b-int8",
    chatglm_6b_int4: "chatglm-6b-int4",
    chatglm_6b_int4_qe: "chatglm-6b-int4-qe",
    chatglm2_6b: "chatglm2-6b",
    chatglm2_6b_32k: "chatglm2-6b-32k",
    chatglm2_6b_int8: "chatglm2-6b-int8",
    chatglm2_6b_int4: "chatglm2-6b-int4",
    chatglm3_6b: "chatglm3-6b",
    chatglm3_6b_32k: "chatglm3-6b-32k",
    glm4_9b_original: "glm4-9b-orig",
    glm4_9b_original_k256: "glm4-9b-orig-k256",
    glm_4_9b_chat_hf: "glm-4-9b-chat-hf",
    glm_edge: "glm-edge-1.5b-chat",
    glm_edge_k256: "glm-edge-k256",
    glm4_9b_0414: "glm4-9b-0414",
    glm4_32b_0414: "glm4-32b-0414",
}

/// Models with experts, which are too large to be kept here.
#[test]
fn experts() {
    for name in ["glm-4.5", "glm-4.5-air", "glm-4.7-flash"] {
        let dir = root().join("../shared/fixtures").join(name);
        if !dir.exists() {
            println!("SKIPPED: {name} is not there");
            continue;
        }
        for on in ["reference", "cpu-f32-1", "cpu-f32-2"] {
            Fixture::open_in(&dir, name, on).everything();
        }
    }
}
