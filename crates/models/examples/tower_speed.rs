//! Seconds for a picture, multiplications and peak memory of full-size vision towers with random weights:
//! `cargo run --release --example tower_speed -- [TOWER] [f16|q8_0] [ROWS]`, with as many rows in a piece, where TOWER is `glm-ocr` (1,120 pixels), `glm-edge-v` (672) or
//! `glm-4v` (1,120; 4 of its 63 layers).
#![allow(clippy::print_stdout, reason = "an example shows what it finds")]

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use glimmer_checkpoint::Checkpoint;
use glimmer_checkpoint::NewTensor;
use glimmer_checkpoint::safetensors::SafetensorsFile;
use glimmer_cpu::{CpuDevice, CpuOptions, Rates};
use glimmer_models::export::Quantization;
use glimmer_models::vision::{PIECE_ROWS, Patches, Tower, TowerPartKind, TowerPlan, VisionSpec};
use glimmer_models::{ModelError, Quantize};
use glimmer_tensor::DType;
use half::f16;
use serde_json::{Value, json};

/// A picture without meaning.
struct Noise {
    grid: [usize; 3],
    width: usize,
    block: usize,
}

impl Patches for Noise {
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
        let first = patches.start * self.width;
        out.iter_mut().enumerate().for_each(|(i, out)| *out = noise(first + i) * 2.0);
    }
}

/// Between -1 and 1.
fn noise(i: usize) -> f32 {
    let mixed = (i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((mixed ^ (mixed >> 29)) & 0xffff) as f32 / 32768.0 - 1.0
}

fn config(tower: &str) -> Option<Value> {
    Some(match tower {
        "glm-ocr" => json!({ "model_type": "glm_ocr", "vision_config": {
            "depth": 24, "hidden_size": 1024, "num_heads": 16, "patch_size": 14, "temporal_patch_size": 2,
            "out_hidden_size": 1536, "intermediate_size": 4096 } }),
        "glm-edge-v" => {
            json!({ "model_type": "glm", "hidden_size": 2048, "intermediate_size": 6144, "vision_config": {
            "model_type": "siglip_vision_model", "hidden_size": 1152, "image_size": 672, "intermediate_size": 4304,
            "num_attention_heads": 16, "num_hidden_layers": 27, "patch_size": 14 } })
        }
        "glm-4v" => {
            json!({ "model_type": "chatglm", "hidden_size": 4096, "ffn_hidden_size": 13696, "vision_config": {
            "num_hidden_layers": 4, "hidden_size": 1792, "patch_size": 14, "num_heads": 16,
            "intermediate_size": 15360, "num_positions": 6401, "image_size": 1120, "scaling_factor": 8 } })
        }
        _ => return None,
    })
}

/// Writes a tower of random halves.
fn write(spec: &VisionSpec, config: &Value, folder: &Path) -> Result<(), Box<dyn std::error::Error>> {
    std::fs::write(folder.join("config.json"), config.to_string())?;
    let mut tensors = Vec::new();
    let mut add = |name: String, shape: &[usize]| {
        tensors.push(NewTensor { name, dtype: DType::F16, shape: shape.to_vec() });
    };
    for part in spec.parts() {
        let names = spec.naming.names(part.layer, part.role);
        match part.kind {
            TowerPartKind::Norm(norm, width) => {
                norm.vectors()
                    .iter()
                    .for_each(|vector| add(format!("{}.{vector}", names.concat()), &[width]));
            }
            TowerPartKind::Values(len) => add(names.concat(), &[len]),
            TowerPartKind::Matrix(matrix) => {
                let fused = [matrix.sections.iter().sum()];
                let rows = if names.len() == 1 { &fused[..] } else { &matrix.sections };
                for (name, &rows) in names.iter().zip(rows) {
                    add(format!("{name}.weight"), &[rows, matrix.cols]);
                    if matrix.bias {
                        add(format!("{name}.bias"), &[rows]);
                    }
                }
            }
        }
    }
    let halves: Vec<u8> = (0..1 << 20).flat_map(|i| f16::from_f32(noise(i) * 0.05).to_le_bytes()).collect();
    let mut file = SafetensorsFile::create(&folder.join("model.safetensors"), &tensors, &[])?;
    for tensor in &tensors {
        let mut left = 2 * tensor.shape.iter().product::<usize>();
        while left > 0 {
            let some = left.min(halves.len());
            file.write(&tensor.name, &halves[..some])?;
            left -= some;
        }
    }
    Ok(file.finish()?)
}

/// The most memory that the process has had, in MiB.
fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<usize>().ok()).unwrap_or(0) >> 10
}

fn measure(tower: &str, quantize: Option<Quantize>, rows: usize) -> Result<(), Box<dyn std::error::Error>> {
    let config = config(tower).ok_or("glm-ocr, glm-edge-v or glm-4v")?;
    let folder = tempfile::tempdir()?;
    let of = |config: &Value| -> Result<VisionSpec, ModelError> {
        let checkpoint = Checkpoint::without_weights(folder.path(), config.clone());
        Ok(VisionSpec::of(&checkpoint)?.expect("there is a tower"))
    };
    let spec = of(&config)?;
    write(&spec, &config, folder.path())?;
    let checkpoint = Checkpoint::open(folder.path())?;
    let side = spec.image_side().unwrap_or(1120) / spec.patch;
    let plan = TowerPlan { quantize, rows, patches: side * side };
    let device = Box::new(CpuDevice::new(CpuOptions::default())?);
    let mut loaded = Tower::load(device, &checkpoint, spec.clone(), plan)?;
    let grid = [1, side, side];
    let picture = Arc::new(Noise { grid, width: spec.stem.pixels, block: 1 });
    let (start, mut longest) = (Instant::now(), 0f64);
    let mut look = loaded.begin(picture)?;
    loop {
        let before = Instant::now();
        let features = loaded.advance(&mut look)?;
        longest = longest.max(before.elapsed().as_secs_f64());
        if features.is_some() {
            break;
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    let operations = spec.multiplications(grid).map(|multiplied| 2.0 * multiplied as f64);
    let rates = Rates::measure(CpuOptions::default(), 0)?;
    let of_weights = if quantize.is_some() { rates.int8 } else { rates.f32 };
    let floor = operations[0] / of_weights + operations[1] / rates.f32;
    let weights = if quantize.is_some() { "Q8_0" } else { "F16" };
    println!(
        "{tower} {weights}: {seconds:.2} s, {:.0} GFLOP of weights and {:.0} of attention; {:.0} % of the floor \
         (f32 {:.0} GFLOP/s, int8 {:.0}), longest piece {:.0} ms, holds {} MiB, peak {} MiB",
        operations[0] / 1e9,
        operations[1] / 1e9,
        floor / seconds * 100.0,
        rates.f32 / 1e9,
        rates.int8 / 1e9,
        longest * 1e3,
        loaded.memory().total() >> 20,
        peak()
    );
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut words = std::env::args().skip(1);
    let tower = words.next().unwrap_or_else(|| "glm-ocr".to_owned());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let eight_bit = words.next().as_deref() == Some("q8_0");
    let rows = words.next().map_or(Ok(PIECE_ROWS), |rows| rows.parse())?;
    measure(&tower, eight_bit.then_some(Quantize { to: Quantization::EightBit, threads }), rows)
}
