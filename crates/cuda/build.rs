//! Compiles the kernels: with nvcc to one fatbin per file for cards (feature `cuda`), with a C++ compiler to a library
//! that emulates a card (feature `emulate`).
//!
//! `GLIMMER_CUDA_ARCHS` names the compute capabilities, separated by semicolons; the last one is added as PTX, for cards
//! that are newer. nvcc is `NVCC`, or `bin/nvcc` below `CUDA_HOME` or `CUDA_PATH`, or on `PATH`. The C++ compiler is
//! `CXX`, or `g++`.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "cargo reads what a build script prints")]

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, exit};
use std::sync::Mutex;
use std::time::SystemTime;
use std::{env, fs};

/// From Turing to Hopper.
const ARCHS: &str = "75;80;86;89;90";

fn main() {
    println!("cargo::rerun-if-changed=kernels");
    let depends_on = |names: &[&str]| {
        names.iter().for_each(|name| println!("cargo::rerun-if-env-changed={name}"));
    };
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    if env::var_os("CARGO_FEATURE_EMULATE").is_some() {
        depends_on(&["CXX", "AR"]);
        emulation(&out);
    }
    if env::var_os("CARGO_FEATURE_CUDA").is_some() {
        depends_on(&["GLIMMER_CUDA_ARCHS", "NVCC", "CUDA_HOME", "CUDA_PATH"]);
        fatbins(&out);
    }
}

/// Says what is missing and ends.
fn give_up(message: &str) -> ! {
    println!("cargo::error={}", message.replace('\n', " "));
    exit(1);
}

/// The files of `kernels/` with this ending, in order.
fn sources(ending: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir("kernels").unwrap_or_else(|e| give_up(&format!("kernels/: {e}")));
    let mut found: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension() == Some(OsStr::new(ending)))
        .collect();
    found.sort();
    found
}

fn changed(path: &Path) -> SystemTime {
    fs::metadata(path).and_then(|m| m.modified()).unwrap_or(SystemTime::UNIX_EPOCH)
}

/// Runs `compile(source, target)` where the target is older than its source or any header, several at a time. `how` is
/// what the compiler is told; when it changes everything is compiled again.
fn compile_all(
    out: &Path,
    sources: &[PathBuf],
    ending: &str,
    how: &str,
    compile: impl Fn(&Path, &Path) -> Command + Sync,
) -> Vec<PathBuf> {
    let told = out.join(format!("{ending}.how"));
    let same = fs::read_to_string(&told).is_ok_and(|before| before == how);
    let headers = headers().iter().map(|path| changed(path)).max();
    let target = |source: &Path| out.join(source.file_name().expect("a file")).with_extension(ending);
    let stale: Vec<&PathBuf> = sources
        .iter()
        .filter(|source| !same || Some(changed(&target(source))) < headers.max(Some(changed(source))))
        .collect();
    let left = Mutex::new(stale);
    let failures = Mutex::new(Vec::new());
    let jobs = env::var("NUM_JOBS").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                loop {
                    let Some(source) = left.lock().expect("no thread panics").pop() else { return };
                    let target = target(source);
                    let mut command = compile(source, &target);
                    let failure = match command.output() {
                        Err(error) => Some(format!("{command:?}: {error}")),
                        Ok(output) if !output.status.success() => Some(format!(
                            "{command:?} failed:\n{}{}",
                            String::from_utf8_lossy(&output.stdout),
                            String::from_utf8_lossy(&output.stderr)
                        )),
                        Ok(_) => None,
                    };
                    if let Some(failure) = failure {
                        // What a compiler has left behind must not look finished.
                        let _ = fs::remove_file(&target);
                        failures.lock().expect("no thread panics").push(failure);
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().expect("no thread panics");
    if !failures.is_empty() {
        eprintln!("{}", failures.join("\n"));
        give_up("kernels do not compile; the compiler's words are above");
    }
    if let Err(error) = fs::write(&told, how) {
        give_up(&format!("{}: {error}", told.display()));
    }
    sources.iter().map(|source| target(source)).collect()
}

fn headers() -> Vec<PathBuf> {
    ["cuh", "h"].into_iter().flat_map(sources).collect()
}

fn run(command: &mut Command) {
    match command.output() {
        Ok(output) if output.status.success() => {}
        Ok(output) => {
            give_up(&format!("{command:?} failed: {}", String::from_utf8_lossy(&output.stderr)));
        }
        Err(error) => give_up(&format!("{command:?}: {error}")),
    }
}

/// One object of all kernels, so that those that only their names lead to are linked, too; as a library.
fn emulation(out: &Path) {
    let compiler = env::var_os("CXX").unwrap_or_else(|| "g++".into());
    let sources: Vec<PathBuf> = ["cu", "cpp"].into_iter().flat_map(sources).collect();
    let flags = [
        "-c",
        "-O2",
        "-std=c++17",
        "-DEMULATED",
        "-fPIC",
        "-ftls-model=initial-exec",
        "-ffp-contract=off",
        "-Wall",
        "-Wextra",
        "-Wno-unknown-pragmas",
        "-x",
        "c++",
    ];
    let how = format!("{} {}", compiler.display(), flags.join(" "));
    let objects = compile_all(out, &sources, "o", &how, |source, target| {
        let mut command = Command::new(&compiler);
        command.args(flags).arg(source).arg("-o").arg(target);
        command
    });
    let (whole, library) = (out.join("emulation_whole.o"), out.join("libglimmer_emulation.a"));
    run(Command::new(&compiler).args(["-r", "-nostdlib", "-o"]).arg(&whole).args(&objects));
    let _ = fs::remove_file(&library);
    run(Command::new(env::var_os("AR").unwrap_or_else(|| "ar".into())).arg("crs").arg(&library).arg(&whole));
    println!("cargo::rustc-link-search=native={}", out.display());
    println!("cargo::rustc-link-lib=static=glimmer_emulation");
    println!("cargo::rustc-link-lib=dylib=stdc++");
}

/// A fatbin per file, and `fatbins.rs` that embeds them.
fn fatbins(out: &Path) {
    let compiler = nvcc();
    let archs = env::var("GLIMMER_CUDA_ARCHS").unwrap_or_else(|_| ARCHS.to_owned());
    let archs: Vec<&str> = archs.split(';').map(str::trim).filter(|arch| !arch.is_empty()).collect();
    let well_formed = |arch: &&str| arch.bytes().all(|b| b.is_ascii_alphanumeric());
    let Some(last) = archs.last().filter(|_| archs.iter().all(well_formed)) else {
        give_up("GLIMMER_CUDA_ARCHS names compute capabilities, such as 80;90");
    };
    let mut flags: Vec<String> = ["-fatbin", "-O3", "-std=c++17", "-fmad=false"].map(String::from).to_vec();
    flags.extend(archs.iter().map(|arch| format!("-gencode=arch=compute_{arch},code=sm_{arch}")));
    flags.push(format!("-gencode=arch=compute_{last},code=compute_{last}"));
    let sources = sources("cu");
    let how = format!("{} {}", compiler.display(), flags.join(" "));
    let fatbins = compile_all(out, &sources, "fatbin", &how, |source, target| {
        let mut command = Command::new(&compiler);
        command.args(&flags).arg(source).arg("-o").arg(target);
        command
    });
    let entries: String = fatbins.iter().map(|path| format!("    include_bytes!({path:?}),\n")).collect();
    let code = format!(
        "/// The kernels of each file, for all cards that were asked for.\npub(crate) static FATBINS: [&[u8]; {}] = [\n{entries}];\n",
        fatbins.len()
    );
    if let Err(error) = fs::write(out.join("fatbins.rs"), code) {
        give_up(&format!("fatbins.rs: {error}"));
    }
}

/// The CUDA compiler.
fn nvcc() -> PathBuf {
    if let Some(named) = env::var_os("NVCC") {
        return PathBuf::from(named);
    }
    let name = format!("nvcc{}", env::consts::EXE_SUFFIX);
    let homes = ["CUDA_HOME", "CUDA_PATH"].into_iter().filter_map(env::var_os);
    let in_homes = homes.map(|home| Path::new(&home).join("bin").join(&name));
    let path = env::var_os("PATH").unwrap_or_default();
    let on_path = env::split_paths(&path).map(|folder| folder.join(&name));
    in_homes.chain(on_path).find(|path| path.is_file()).unwrap_or_else(|| {
        give_up(
            "the feature `cuda` needs nvcc, which was not found: install the CUDA toolkit 13.0 (or PyPI's \
             nvidia-cuda-nvcc, nvidia-cuda-crt, nvidia-cuda-cccl, nvidia-nvvm and nvidia-cuda-runtime) and name it by NVCC, CUDA_HOME or PATH",
        )
    })
}
