//! The device's own part of NVIDIA's driver (`src/card.rs`) over a stand-in for that driver (`libcuda.cpp`): what a card
//! computes is what the emulation computes, and what is said where there is none, where it is too old, too small or lost.
//!
//! The driver is opened once in a process, so each case is a test of this file in a process of its own: the tests that are
//! ignored here.
#![cfg(all(feature = "cuda", feature = "emulate"))]
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that cannot go on has failed")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use glimmer_cuda::{CudaDevice, CudaOptions};
use glimmer_tensor::{
    Batch, BufferId, Capacity, Compute, DType, Device, DeviceError, Epilogue, Heads, KvType, MatrixId,
    MatrixUse, MatrixView, Place, Plan, Role,
};

/// The folder of the stand-in, which is compiled with the emulated kernels inside.
static STAND_IN: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("stand-in");
    std::fs::create_dir_all(&folder).unwrap();
    let compiler = std::env::var_os("CXX").unwrap_or_else(|| "g++".into());
    let mut command = Command::new(compiler);
    command.args(["-O2", "-std=c++17", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]);
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/driver/libcuda.cpp"));
    command.arg("-Wl,--whole-archive").arg(Path::new(env!("OUT_DIR")).join("libglimmer_emulation.a"));
    command.arg("-Wl,--no-whole-archive").arg("-o").arg(folder.join("libcuda.so.1"));
    let output = command.output().expect("the compiler that has compiled the kernels");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    folder
});

/// What a case prints, in a process whose driver is the stand-in with these variables; behind it what it and the stand-in say
/// on standard error.
fn on_the_stand_in(case: &str, variables: &[(&str, &str)]) -> String {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--ignored", "--nocapture", "--exact", case]).envs(variables.iter().copied());
    let output = command.env("LD_LIBRARY_PATH", &*STAND_IN).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(output.status.success() && text.contains(" 1 passed"), "{text}");
    text
}

#[test]
fn a_driver_that_cannot_be_used_is_named() {
    let case = |variables: &[(&str, &str)]| on_the_stand_in("opened", variables);
    assert!(case(&[]).contains("NVIDIA Stand-in, 4 GB, driver 13.0"));
    for (variable, value, said) in [
        (
            "STAND_IN_VERSION",
            "12080",
            "the driver is for CUDA 12.8; this program needs 13.0, driver 580 or later",
        ),
        (
            "STAND_IN_CARDS",
            "0",
            "the NVIDIA driver does not start: no CUDA-capable device is detected (CUDA error 100)",
        ),
        (
            "STAND_IN_CAPABILITY",
            "70",
            "NVIDIA Stand-in has compute capability 7.0, the oldest that works is 7.5",
        ),
    ] {
        let text = case(&[(variable, value)]).replace("the NVIDIA driver is", "the driver is");
        assert!(text.contains("no NVIDIA card can be used: ") && text.contains(said), "{text}");
    }
}

/// Where a machine has a driver of its own, there is nothing to be seen.
#[test]
fn without_a_driver_that_is_said() {
    if let Err(error) = CudaDevice::new(CudaOptions::default())
        && !error.to_string().contains("driver does not start")
    {
        let said = "no NVIDIA card can be used: the NVIDIA driver (libcuda) is not installed on this machine";
        assert_eq!(error.to_string(), said);
    }
}

#[test]
fn a_card_computes_what_the_emulation_does() {
    on_the_stand_in("computed", &[]);
}

/// While a card takes a piece of the weights from one pinned buffer, the next one is packed, which goes through the other.
#[test]
fn weights_are_packed_while_others_are_copied() {
    let text = on_the_stand_in("loaded", &[("STAND_IN_TRACE", "1")]);
    // The buffer of each large copy, the copies that are done, and how many were asked for before something was packed.
    let (mut copies, mut done, mut taken) = (Vec::new(), 0, 0);
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["copy", from, bytes] if is_large(bytes) => {
                copies.push(from);
                assert!(copies.len() - done <= 2, "each buffer waits for its own copy");
            }
            ["done", from, bytes] if is_large(bytes) => {
                assert_eq!(from, copies[done], "in order");
                done += 1;
            }
            ["taken"] => {
                assert!(done < copies.len(), "the next piece is packed before this one's copy is waited for");
                taken += 1;
            }
            _ => {}
        }
    }
    assert!(taken == PIECES && copies.len() >= PIECES && done == copies.len(), "{taken} {done}");
    assert!(copies.windows(2).all(|pair| pair[0] != pair[1]), "two buffers");
    assert!(copies.windows(3).all(|three| three[0] == three[2]), "in turns");
}

fn is_large(bytes: &str) -> bool {
    bytes.parse::<usize>().is_ok_and(|bytes| bytes >= 1 << 20)
}

#[test]
fn memory_that_is_not_there_is_an_error_and_no_end() {
    on_the_stand_in("filled", &[("STAND_IN_MEMORY", "100000000")]);
}

#[test]
fn a_lost_card_is_lost_for_good() {
    on_the_stand_in("lost", &[("STAND_IN_KERNELS", "20")]);
}

#[test]
#[ignore = "a case"]
fn opened() {
    match CudaDevice::new(CudaOptions::default()) {
        Ok(device) => println!("{}", device.describe()),
        Err(error) => println!("{error}"),
    }
}

const ROWS: usize = 40;
const WIDTH: usize = 64;

/// A device that looks rows up and multiplies them.
struct Machine {
    device: CudaDevice,
    table: MatrixId,
    matrix: MatrixId,
    hidden: BufferId,
    logits: BufferId,
}

impl Machine {
    fn of(mut device: CudaDevice) -> Self {
        let numbers = |n: usize| (0..n).flat_map(|i| ((i * i % 257) as f32 / 64.0 - 2.0).to_le_bytes());
        let [table, matrix]: [Vec<u8>; 2] = [ROWS, 48].map(|rows| numbers(rows * WIDTH).collect());
        let mut load = |data: &[u8], rows, used_for| {
            let view = MatrixView::new(DType::F32, rows, WIDTH, data, None).unwrap();
            device.load_matrix(&[view], None, used_for, &|_| ()).unwrap()
        };
        let (table, matrix) = (load(&table, ROWS, MatrixUse::Rows), load(&matrix, 48, MatrixUse::Linear));
        let capacity = Capacity { rows: ROWS, logits_rows: ROWS, pages: 2 };
        let layers = vec![Heads::new(1, 1, 16)];
        device.plan(&Plan { capacity, vocab: ROWS, layers, kv_type: KvType::F16, axes: 1 }).unwrap();
        let hidden = device.buffer(0, Role::Hidden, WIDTH).unwrap();
        let logits = device.buffer(1, Role::Logits, 48).unwrap();
        Machine { device, table, matrix, hidden, logits }
    }

    fn step(&mut self, tokens: &[u32]) -> Result<Vec<f32>, DeviceError> {
        let (mut batch, rows, device) = (Batch::default(), tokens.len(), &mut self.device);
        batch.push(tokens, 0..rows, &vec![0.0; rows], 0, vec![0, 1], 0..rows);
        let batch = device.upload(&batch)?;
        device.embed(batch, self.table, self.hidden);
        device.linear(batch, self.hidden, self.matrix, Epilogue::None, self.logits);
        device.check_finite(batch, self.logits, Place::Logits);
        let mut out = Vec::new();
        device.read(batch, self.logits, 0..rows, &mut out)?;
        Ok(out)
    }
}

fn card(compute: Compute) -> CudaDevice {
    CudaDevice::new(CudaOptions { card: 0, compute }).unwrap()
}

/// Steps of two sizes in turn, so that they are recorded, repeated and told apart.
#[test]
#[ignore = "a case"]
fn computed() {
    for compute in [Compute::F32, Compute::Auto] {
        let mut card = Machine::of(card(compute));
        let mut emulated = Machine::of(CudaDevice::emulated(CudaOptions { card: 0, compute }));
        assert_eq!(card.device.memory(), emulated.device.memory());
        for step in 0..12 {
            let rows = if step % 3 == 2 { 33 } else { 2 };
            let tokens: Vec<u32> = (0..rows).map(|row| (7 * step + row) % ROWS as u32).collect();
            let [found, expected] = [&mut card, &mut emulated].map(|machine| machine.step(&tokens).unwrap());
            assert!(found == expected && found.iter().any(|&v| v != 0.0), "{compute:?}, step {step}");
        }
    }
}

/// Pieces that threads pack together, and what each thread packs of one.
const PIECES: usize = 5;
const PIECE: usize = 4 << 20;

#[test]
#[ignore = "a case"]
#[allow(clippy::print_stderr, reason = "in the order of what the stand-in says")]
fn loaded() {
    const COLS: usize = 2048;
    let threads = std::thread::available_parallelism().unwrap().get().min(8);
    let rows = PIECES * threads * PIECE / (2 * COLS);
    let value = |row: usize, col: usize| half::f16::from_f32(((row * 31 + col * 7) % 2039) as f32);
    let data: Vec<u8> =
        (0..rows).flat_map(|r| (0..COLS).flat_map(move |c| value(r, c).to_le_bytes())).collect();
    let view = MatrixView::new(DType::F16, rows, COLS, &data, None).unwrap();
    let mut device = card(Compute::Auto);
    let table = device.load_matrix(&[view], None, MatrixUse::Linear, &|_| eprintln!("taken")).unwrap();
    let capacity = Capacity { rows: 64, logits_rows: 1, pages: 2 };
    let layers = vec![Heads::new(1, 1, 16)];
    device.plan(&Plan { capacity, vocab: rows, layers, kv_type: KvType::F16, axes: 1 }).unwrap();
    let out = device.buffer(0, Role::Hidden, COLS).unwrap();
    let ids: Vec<u32> = (0..64).map(|i| (i * (rows - 1) / 63) as u32).collect();
    let mut batch = Batch::default();
    batch.push(&ids, 0..64, &[0.0; 64], 0, vec![0, 1], []);
    let batch = device.upload(&batch).unwrap();
    device.embed(batch, table, out);
    let mut found = Vec::new();
    device.read(batch, out, 0..64, &mut found).unwrap();
    let expected = ids.iter().flat_map(|&id| (0..COLS).map(move |c| value(id as usize, c).to_f32()));
    assert!(found.into_iter().eq(expected), "each row is where it belongs");
}

/// Of a card of 100 MB a device takes its buffers, and what it gives back another has.
#[test]
#[ignore = "a case"]
fn filled() {
    for _ in 0..3 {
        let mut machine = Machine::of(card(Compute::Auto));
        let error = machine.device.buffer(0, Role::Branch, 1 << 20).unwrap_err();
        assert!(matches!(error, DeviceError::OutOfMemory { bytes, .. } if bytes == (ROWS << 22)), "{error}");
        machine.device.buffer(0, Role::Branch, 1 << 18).unwrap();
        machine.step(&[1, 2, 3]).unwrap();
    }
}

#[test]
#[ignore = "a case"]
fn lost() {
    let mut machine = Machine::of(card(Compute::Auto));
    let mut steps = 0;
    let error = loop {
        match machine.step(&[1, 2]) {
            Ok(_) => steps += 1,
            Err(error) => break error,
        }
    };
    assert!((2..20).contains(&steps), "{steps}");
    let DeviceError::Lost(why) = &error else { panic!("{error}") };
    assert!(why.contains("an illegal memory access was encountered (CUDA error 700)"), "{error}");
    // Every call says why, and dropping it calls nothing.
    assert_eq!(machine.step(&[1]).unwrap_err(), error);
    assert_eq!(machine.device.buffer(0, Role::Inner, 16).unwrap_err(), error);
}
