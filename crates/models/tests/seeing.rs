//! The decoders of models that see, given the reference implementations' own features of pictures: positions, logits and
//! greedy tokens of every fixture with a tower.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on has failed; what is left out is said"
)]

mod support;

use std::sync::Arc;

use glimmer_models::{Decoder, PictureSpan, PositionLayout, Positions};
use glimmer_tensor::{Batch, Features, KvType, PAGE_SLOTS};
use support::{Runner, Stored, argmax, device, distance, root};

/// The README of the fixtures allows models that see so much.
const TOLERANCE: f32 = 5e-4;

struct Seeing {
    name: &'static str,
    expected: Stored,
    decoder: Decoder,
    /// Whether all rows of a picture, its first and its last included, have the place of one token in the prompt.
    is_unexpanded: bool,
    placeholder: u32,
}

/// A prompt as the decoder gets it.
struct Prompt {
    ids: Vec<u32>,
    pictures: Vec<(PictureSpan, Arc<Features>, usize)>,
}

impl Seeing {
    /// `None`, and a word of it, where the fixture is not there.
    fn open(name: &'static str, on: &str) -> Option<Self> {
        let places = ["fixtures", "../shared/fixtures"].map(|place| root().join(place).join(name));
        let Some(dir) = places.into_iter().find(|dir| dir.exists()) else {
            println!("SKIPPED: {name} is not there");
            return None;
        };
        let expected = Stored::open(&dir.join("expected.safetensors"));
        let config: serde_json::Value =
            serde_json::from_slice(&std::fs::read(dir.join("config.json")).unwrap()).unwrap();
        let decoder = Runner::new(&dir, device(on), KvType::F32, 192, 512).decoder;
        let id = |key: &str| config[key].as_u64().map(|id| id as u32);
        let placeholder = id("image_token_id").or(id("boi_token_id")).unwrap();
        let is_unexpanded = decoder.spec().positions == Positions::SharedByPicture;
        Some(Seeing { name, expected, decoder, is_unexpanded, placeholder })
    }

    fn features(&self, values: &[f32]) -> Arc<Features> {
        Arc::new(Features { width: self.decoder.spec().hidden, values: values.to_vec() })
    }

    /// `ids` with the features of pictures in place of their tokens. `grids` are merged.
    fn prompt(&self, ids: &[u32], features: &Arc<Features>, grids: &[[usize; 3]]) -> Prompt {
        let (mut prompt, mut used) = (Prompt { ids: Vec::new(), pictures: Vec::new() }, 0);
        let mut grids = grids.iter();
        let mut at = 0;
        while at < ids.len() {
            if ids[at] != self.placeholder {
                prompt.ids.push(ids[at]);
                at += 1;
                continue;
            }
            let &grid = grids.next().unwrap();
            let plain: usize = grid.iter().product();
            let rows = if self.decoder.spec().positions == Positions::OfGrid { plain } else { plain + 2 };
            let span = PictureSpan { first: prompt.ids.len(), rows, grid };
            prompt.pictures.push((span, Arc::clone(features), used));
            prompt.ids.extend(std::iter::repeat_n(self.placeholder, rows));
            used += rows;
            // GLM-4V's prompt has the picture's first row, one for the features, and its last.
            at += if self.is_unexpanded { 3 } else { rows };
        }
        assert!(grids.next().is_none());
        prompt
    }

    fn layout(&self, prompt: &Prompt) -> PositionLayout {
        let spans: Vec<PictureSpan> = prompt.pictures.iter().map(|(span, ..)| *span).collect();
        let layout = PositionLayout::of_prompt(self.decoder.spec().positions, &prompt.ids).unwrap();
        layout.with_pictures(&spans).unwrap()
    }

    /// Rows of one sequence, and the pictures' within them.
    fn push(
        batch: &mut Batch,
        prompt: &Prompt,
        layout: &PositionLayout,
        ids: &[u32],
        first: usize,
        page: u32,
    ) {
        let slots = first..first + ids.len();
        let mut positions = Vec::new();
        layout.extend(slots.clone(), &mut positions);
        let pages = (page..page + 8).collect();
        batch.push(ids, slots.clone(), &positions, 0, pages, 0..ids.len());
        for (span, features, used) in &prompt.pictures {
            let rows = span.first.max(slots.start)..(span.first + span.rows).min(slots.end);
            if !rows.is_empty() {
                let within = rows.start - slots.start..rows.end - slots.start;
                batch.see(within, features, used + rows.start - span.first);
            }
        }
    }

    fn run(&mut self, batch: &Batch) -> Vec<f32> {
        let mut logits = Vec::new();
        self.decoder.forward(batch).unwrap();
        self.decoder.logits(batch.rows(), &mut logits).unwrap();
        logits
    }

    fn whole(&mut self, prompt: &Prompt) -> Vec<f32> {
        assert!(prompt.ids.len() <= 8 * PAGE_SLOTS);
        let mut batch = Batch::default();
        Self::push(&mut batch, prompt, &self.layout(prompt), &prompt.ids, 0, 0);
        self.run(&batch)
    }

    fn compare(&self, tensor: &str, found: &[f32]) {
        let distance = distance(found, self.expected.f32(tensor));
        assert!(distance <= TOLERANCE, "{}: {tensor} differs by {distance}", self.name);
    }

    /// The rows of `logits` at the places that the fixture keeps.
    fn at(&self, key: &str, logits: &[f32]) -> Vec<f32> {
        let vocab = self.decoder.spec().vocab;
        let rows = self.expected.i64(&format!("{key}.positions")).iter().map(|&row| row as usize);
        rows.flat_map(|row| &logits[row * vocab..(row + 1) * vocab]).copied().collect()
    }

    /// A prompt in one step and in chunks, which cut a picture: the same bits.
    fn chunked(&mut self, key: &str, prompt: &Prompt) -> Vec<f32> {
        let whole = self.whole(prompt);
        let layout = self.layout(prompt);
        for rows in [1, 5, 16] {
            let (mut chunked, mut first) = (Vec::new(), 0);
            for ids in prompt.ids.chunks(rows) {
                let mut batch = Batch::default();
                Self::push(&mut batch, prompt, &layout, ids, first, 0);
                chunked.extend(self.run(&batch));
                first += ids.len();
            }
            assert!(chunked == whole, "{}: {key} in chunks of {rows}", self.name);
        }
        whole
    }

    fn greedy(&mut self, prompt: &Prompt) {
        let (layout, vocab) = (self.layout(prompt), self.decoder.spec().vocab);
        let (mut ids, mut first) = (prompt.ids.clone(), 0);
        let (mut found, mut steps) = (Vec::new(), Vec::new());
        for _ in self.expected.ids("gen.new_ids") {
            let mut batch = Batch::default();
            Self::push(&mut batch, prompt, &layout, &ids, first, 0);
            let logits = self.run(&batch);
            let last = &logits[logits.len() - vocab..];
            first += ids.len();
            steps.extend_from_slice(last);
            ids = vec![argmax(last)];
            found.push(ids[0]);
        }
        assert_eq!(found, self.expected.ids("gen.new_ids"), "{}", self.name);
        self.compare("gen.step_logits", &steps);
    }
}

const DEVICES: [&str; 3] = ["reference", "cpu-f32-1", "cpu-f32-2"];

#[test]
fn pictures_in_a_grid() {
    for name in ["glm-4.1v-9b", "glm-4.6v-flash", "glm-ocr"] {
        for on in DEVICES {
            let Some(mut model) = Seeing::open(name, on) else { return };
            let features = model.features(model.expected.f32("vision.features"));
            let grids = [[1, 2, 3], [1, 3, 1]];
            let prompt = model.prompt(&model.expected.ids("short.input_ids"), &features, &grids[..1]);
            let mut positions = Vec::new();
            model.layout(&prompt).extend(0..prompt.ids.len(), &mut positions);
            let by_axis: Vec<i64> =
                (0..3).flat_map(|axis| positions.iter().skip(axis).step_by(3).map(|&p| p as i64)).collect();
            assert_eq!(by_axis, model.expected.i64("short.position_ids"), "{name}");
            let short = model.chunked("short", &prompt);
            model.compare("short.logits", &short);

            let two = model.prompt(&model.expected.ids("two.input_ids"), &features, &grids);
            let logits = model.chunked("two", &two);
            model.compare("two.logits", &model.at("two", &logits));

            let text = model.prompt(&model.expected.ids("textonly.input_ids"), &features, &[]);
            let logits = model.whole(&text);
            model.compare("textonly.logits", &model.at("textonly", &logits));
            let gen_prompt = model.prompt(&model.expected.ids("gen.input_ids"), &features, &grids[..1]);
            model.greedy(&gen_prompt);
        }
    }
}

#[test]
fn pictures_that_share_a_position() {
    for on in DEVICES {
        let Some(mut model) = Seeing::open("glm-4v-9b", on) else { return };
        let features = model.features(model.expected.f32("vision.features"));
        let of = |model: &Seeing, key: &str| {
            let boi = 310;
            // The three tokens of a picture begin with it.
            let ids = model.expected.ids(key);
            let ids: Vec<u32> =
                ids.iter().map(|&id| if id == boi { model.placeholder } else { id }).collect();
            model.prompt(&ids, &features, &[[1, 2, 2]])
        };
        let prompt = of(&model, "short.input_ids");
        let mut positions = Vec::new();
        model.layout(&prompt).extend(0..prompt.ids.len(), &mut positions);
        let positions: Vec<i64> = positions.iter().map(|&p| p as i64).collect();
        assert_eq!(positions, model.expected.i64("short.expanded_position_ids"));
        let short = model.chunked("short", &prompt);
        model.compare("short.logits", &short);
        let text = model.prompt(&model.expected.ids("textonly.input_ids"), &features, &[]);
        let logits = model.whole(&text);
        model.compare("textonly.logits", &logits);
        let prompt = of(&model, "gen.input_ids");
        model.greedy(&prompt);
    }
}

#[test]
fn pictures_that_are_rows_like_others() {
    for on in DEVICES {
        let Some(mut model) = Seeing::open("glm-edge-v-2b", on) else { return };
        let features = model.features(model.expected.f32("vision.features"));
        let grid = [[1, 2, 2]];
        let prompt = model.prompt(&model.expected.ids("short.input_ids"), &features, &grid);
        let short = model.chunked("short", &prompt);
        model.compare("short.logits", &short);
        let long = model.prompt(&model.expected.ids("rope.input_ids"), &features, &grid);
        let logits = model.chunked("rope", &long);
        model.compare("rope.logits", &model.at("rope", &logits));
        let prompt = model.prompt(&model.expected.ids("gen.input_ids"), &features, &grid);
        model.greedy(&prompt);
    }
}
