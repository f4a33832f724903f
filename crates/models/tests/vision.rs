//! Vision towers against the reference implementations: every stage of every fixture with a tower, in pieces and whole, of
//! one picture and of two.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on has failed; what is left out and figures are shown"
)]

mod support;

use std::collections::HashMap;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use glimmer_checkpoint::Checkpoint;
use glimmer_models::Quantize;
use glimmer_models::export::Quantization;
use glimmer_models::vision::{Mmproj, Patches, Tower, TowerPlan, VisionSpec, VisionStage};
use glimmer_tensor::{DType, Device, Features};
use support::{Stored, device, distance, root};

/// Every fixture with a tower.
const FIXTURES: [&str; 5] = ["glm-4v-9b", "glm-edge-v-2b", "glm-4.1v-9b", "glm-4.6v-flash", "glm-ocr"];

/// What a tower's values may be off.
const TOLERANCE: f32 = 1e-4;

/// Patches as a fixture has them: already normalised.
struct StoredPatches {
    grid: [usize; 3],
    width: usize,
    block: usize,
    values: Vec<f32>,
}

impl Patches for StoredPatches {
    fn grid(&self) -> [usize; 3] {
        self.grid
    }

    fn width(&self) -> usize {
        self.width
    }

    fn block(&self) -> usize {
        self.block
    }

    fn write(&self, patches: Range<usize>, out: &mut [f32]) {
        out.copy_from_slice(&self.values[patches.start * self.width..patches.end * self.width]);
    }
}

impl StoredPatches {
    /// The patches of a picture `[3, side, side]`, along its rows.
    fn of_picture(pixels: &[f32], side: usize, patch: usize) -> Self {
        let places = side / patch;
        let mut values = Vec::new();
        for at in 0..places * places {
            let (top, left) = (at / places * patch, at % places * patch);
            for channel in 0..3 {
                for line in top..top + patch {
                    values.extend_from_slice(&pixels[(channel * side + line) * side + left..][..patch]);
                }
            }
        }
        StoredPatches { grid: [1, places, places], width: 3 * patch * patch, block: 1, values }
    }
}

struct Fixture {
    checkpoint: Checkpoint,
    spec: VisionSpec,
    expected: Stored,
    pictures: Vec<Arc<StoredPatches>>,
}

impl Fixture {
    /// `None`, and a word of it, where the fixture is not there.
    fn open(name: &'static str) -> Option<Self> {
        let places = ["fixtures", "../shared/fixtures"].map(|place| root().join(place).join(name));
        let Some(dir) = places.into_iter().find(|dir: &PathBuf| dir.exists()) else {
            println!("SKIPPED: {name} is not there");
            return None;
        };
        let checkpoint = Checkpoint::open(&dir).unwrap();
        let spec = VisionSpec::of(&checkpoint).unwrap().unwrap();
        let expected = Stored::open(&dir.join("expected.safetensors"));
        let pixels = expected.f32("image.pixel_values");
        let pictures = match spec.image_side() {
            Some(side) => pixels
                .chunks_exact(3 * side * side)
                .map(|pixels| StoredPatches::of_picture(pixels, side, spec.patch))
                .collect(),
            None => {
                let mut rest = pixels;
                let grids = expected.i64("image.grid_thw").chunks_exact(3);
                let of_grid = |grid: &[i64]| {
                    let grid = [0, 1, 2].map(|i| grid[i] as usize);
                    let (width, count) = (spec.stem.pixels, grid.iter().product::<usize>());
                    let (values, others) = rest.split_at(count * width);
                    rest = others;
                    StoredPatches { grid, width, block: spec.merge, values: values.to_vec() }
                };
                grids.map(of_grid).collect::<Vec<_>>()
            }
        };
        let pictures = pictures.into_iter().map(Arc::new).collect();
        Some(Fixture { checkpoint, spec, expected, pictures })
    }

    fn tower(&self, device: Box<dyn Device>, plan: TowerPlan) -> Tower {
        Tower::load(device, &self.checkpoint, self.spec.clone(), plan).unwrap()
    }

    /// Room for every picture, in pieces of some patches.
    fn plan(&self, rows: usize) -> TowerPlan {
        let patches = self.pictures.iter().map(|picture| picture.values.len() / picture.width);
        TowerPlan { patches: patches.max().unwrap(), rows, quantize: None }
    }

    /// The tensor that has a stage.
    fn tensor(&self, stage: VisionStage) -> Option<String> {
        let names: &[&str] = match stage {
            VisionStage::PatchEmbedding if !self.spec.stem.class_row => &["patch_embed"],
            VisionStage::PatchEmbedding => &[],
            VisionStage::Hidden(0) => &["patch_embedding", "embeddings"],
            VisionStage::Hidden(layer) => return Some(format!("vision.hidden.{layer}")),
            VisionStage::LastNorm => &["last_hidden_state"],
            VisionStage::Merged => &["conv", "downsample"],
        };
        let mut names = names.iter().map(|name| format!("vision.{name}"));
        names.find(|name| self.expected.has(name))
    }
}

/// Values of a tower, whole.
fn all(tower: &mut Tower, picture: &Arc<StoredPatches>) -> Features {
    tower.features(Arc::clone(picture) as Arc<dyn Patches>).unwrap()
}

fn bits(features: &Features) -> Vec<u32> {
    features.values.iter().map(|value| value.to_bits()).collect()
}

/// Rows of blocks of 2 x 2, from the order of blocks to that along rows; or columns `[channels, places]` to rows.
fn as_stored(stage: VisionStage, values: &[f32], fixture: &Fixture) -> Vec<f32> {
    let Some(side) = fixture.spec.image_side().map(|side| side / fixture.spec.patch) else {
        return values.to_vec();
    };
    match stage {
        VisionStage::LastNorm => {
            let width = fixture.spec.width;
            let row = |place: usize| {
                let [y, x] = [place / side, place % side];
                let block = y / 2 * (side / 2) + x / 2;
                let at = block * 4 + y % 2 * 2 + x % 2;
                &values[at * width..(at + 1) * width]
            };
            (0..side * side).flat_map(row).copied().collect()
        }
        VisionStage::Merged => {
            let (width, places) = (fixture.spec.hidden, side * side / 4);
            (0..width * places).map(|i| values[i % places * width + i / places]).collect()
        }
        _ => values.to_vec(),
    }
}

/// All stages of all pictures, in pieces of 7 patches.
fn stages(on: &'static str) {
    for name in FIXTURES {
        let Some(fixture) = Fixture::open(name) else { continue };
        let mut tower = fixture.tower(device(on), fixture.plan(7));
        let mut stages: HashMap<String, Vec<f32>> = HashMap::new();
        let mut features = Vec::new();
        let has_all = fixture.expected.has("image.grid_thw");
        for picture in &fixture.pictures[..if has_all { fixture.pictures.len() } else { 1 }] {
            let mut seen: Vec<(VisionStage, Vec<f32>)> = Vec::new();
            let patches = Arc::clone(picture) as Arc<dyn Patches>;
            let found = tower.features_observed(patches, &mut |stage, values| match seen
                .iter_mut()
                .find(|(other, _)| *other == stage)
            {
                Some((_, all)) => all.extend_from_slice(values),
                None => seen.push((stage, values.to_vec())),
            });
            features.extend(found.unwrap().values);
            for (stage, values) in seen {
                if let Some(tensor) = fixture.tensor(stage) {
                    let values = as_stored(stage, &values, &fixture);
                    stages.entry(tensor).or_default().extend(values);
                }
            }
        }
        stages.insert("vision.features".to_owned(), features);
        for (tensor, values) in &stages {
            let found = distance(values, fixture.expected.f32(tensor));
            assert!(found <= TOLERANCE, "{name} on {on}: {tensor} differs by {found}");
        }
        assert!(stages.len() >= 4, "{name}: {:?}", stages.keys());
    }
}

#[test]
fn stages_are_the_reference_s_on_the_reference_device() {
    stages("reference");
}

#[test]
fn stages_are_the_reference_s_on_the_processor() {
    stages("cpu-f32-1");
    stages("cpu-f32-2");
}

/// 8-bit activations meet quantized weights alone, so `Auto` of weights that are floats differs by nothing but their rounding.
#[test]
fn fast_arithmetic_stays_near() {
    for name in FIXTURES {
        let Some(fixture) = Fixture::open(name) else { continue };
        let exact = all(&mut fixture.tower(device("cpu-f32-2"), fixture.plan(256)), &fixture.pictures[0]);
        let size = exact.values.iter().fold(0f32, |most, value| most.max(value.abs()));
        let fast = all(&mut fixture.tower(device("cpu-auto-2"), fixture.plan(256)), &fixture.pictures[0]);
        assert!(distance(&fast.values, &exact.values) <= 1e-4 * size, "{name}");
        let quantize = Some(Quantize { to: Quantization::EightBit, threads: 2 });
        let plan = TowerPlan { quantize, ..fixture.plan(256) };
        let [rounded, both] = ["cpu-f32-2", "cpu-auto-2"]
            .map(|on| all(&mut fixture.tower(device(on), plan), &fixture.pictures[0]));
        for (what, found) in [("Q8_0", rounded), ("Q8_0 and activations of 8 bits", both)] {
            let off = distance(&found.values, &exact.values) / size;
            println!("{name}: {what}: {off}");
            assert!(off <= 0.05, "{name}: {what} differs by {off} of the largest value");
        }
    }
}

/// However many patches a piece has, how many threads there are, and whatever was seen before: the same bits.
#[test]
fn bits_depend_on_the_picture_alone() {
    for name in FIXTURES {
        let Some(fixture) = Fixture::open(name) else { continue };
        for mode in ["f32", "auto"] {
            let tower = |threads, rows| fixture.tower(device_of(mode, threads), fixture.plan(rows));
            let alone: Vec<_> = fixture.pictures.iter().map(|p| bits(&all(&mut tower(1, 256), p))).collect();
            for (threads, rows) in [(1, 1), (2, 5), (2, 9), (1, 16), (2, 256)] {
                let mut tower = tower(threads, rows);
                for (picture, alone) in fixture.pictures.iter().zip(&alone) {
                    assert!(bits(&all(&mut tower, picture)) == *alone, "{name}, {rows} rows");
                }
            }
            // What was begun and given up leaves no trace.
            let mut tower = tower(2, 5);
            let patches = Arc::clone(&fixture.pictures[0]) as Arc<dyn Patches>;
            let mut given_up = tower.begin(patches).unwrap();
            for _ in 0..given_up.pieces_left() / 2 {
                assert!(tower.advance(&mut given_up).unwrap().is_none());
            }
            let last = fixture.pictures.len() - 1;
            assert!(bits(&all(&mut tower, &fixture.pictures[last])) == alone[last], "{name}");
        }
    }
}

fn device_of(mode: &str, threads: usize) -> Box<dyn Device> {
    device(match (mode, threads) {
        ("f32", 1) => "cpu-f32-1",
        ("f32", _) => "cpu-f32-2",
        (_, 1) => "cpu-auto-1",
        (..) => "cpu-auto-2",
    })
}

/// A tower that was written as llama.cpp's file and read again: the same bits where its weights are the same, near in F16 and
/// Q8_0. Of GLM-Edge-V's adapter llama.cpp's form is another.
#[test]
fn towers_come_back_from_llamacpp_s_files() {
    for name in FIXTURES {
        let Some(fixture) = Fixture::open(name) else { continue };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mmproj.gguf");
        let colours = [[0.5; 3]; 2];
        for (dtype, allowed) in [(DType::F32, 0.0), (DType::F16, 0.01), (DType::Q8_0, 0.05)] {
            let options = Mmproj { dtype, threads: 2, colours };
            let written = options.write(&fixture.checkpoint, &fixture.spec, &path);
            if name == "glm-4v-9b" {
                assert!(written.unwrap_err().to_string().contains("llama.cpp has no form"));
                break;
            }
            written.unwrap();
            let mmproj = Checkpoint::open(&path).unwrap();
            let mut spec = VisionSpec::of(&mmproj).unwrap().unwrap();
            if name == "glm-edge-v-2b" {
                assert_ne!(spec.adapter, fixture.spec.adapter);
                spec.adapter = fixture.spec.adapter;
            }
            let naming = spec.naming;
            assert_eq!(VisionSpec { naming: fixture.spec.naming, ..spec.clone() }, fixture.spec, "{name}");
            assert_ne!(naming, fixture.spec.naming);
            let (on, plan) = ("cpu-f32-2", fixture.plan(256));
            let mut read = Tower::load(device(on), &mmproj, spec, plan).unwrap();
            let found = all(&mut read, &fixture.pictures[0]);
            let expected = all(&mut fixture.tower(device(on), plan), &fixture.pictures[0]);
            let size = expected.values.iter().fold(0f32, |most, value| most.max(value.abs()));
            let off = distance(&found.values, &expected.values) / size;
            println!("{name} {dtype}: {off}");
            assert!(off <= allowed, "{name} {dtype}: {off}");
        }
    }
}
