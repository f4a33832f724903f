//! What can be seen of a process from outside: how long it takes to its first token, how much memory it has had.

use std::fs;
use std::io::Read;
use std::process::{Command, Output, Stdio};
use std::time::Instant;

use anyhow::{Context, ensure};
use glimmer_models::DecoderSpec;

use super::case::ended;
use crate::args::BenchArgs;
use crate::random::Random;

/// Tokens of the prompt.
const PROMPT: usize = 20;

/// Seconds from the start of `glimmer run` with a prompt of 20 tokens to the first byte that it prints.
pub(super) fn first_token(args: &BenchArgs, spec: &DecoderSpec) -> anyhow::Result<f64> {
    let mut random = Random::new(&[PROMPT as u64]);
    let ids = ended(spec, (0..PROMPT).map(|_| random.below(spec.vocab as u32)).collect());
    let ids: Vec<String> = ids.iter().map(u32::to_string).collect();
    let mut command = Command::new(std::env::current_exe()?);
    command.args([
        "run",
        "--quiet",
        "--print-ids",
        "--ignore-eos",
        "--max-tokens",
        "1",
        "--temperature",
        "0",
    ]);
    command.arg("--ids").arg(ids.join(",")).args(args.device.as_flags());
    if let Some(family) = args.model.family {
        command.args(["--family", family.name()]);
    }
    command.arg("--").arg(&args.model.path);
    let begun = Instant::now();
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut stdout = child.stdout.take().context("standard output is a pipe")?;
    let printed = stdout.read(&mut [0]);
    let seconds = begun.elapsed().as_secs_f64();
    std::io::copy(&mut stdout, &mut std::io::sink())?;
    let Output { status, stderr, .. } = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&stderr);
    let error =
        said.lines().rev().find_map(|line| line.strip_prefix("error: ")).unwrap_or("no error was told");
    ensure!(
        status.success() && printed? == 1,
        "`glimmer run` of the same model has failed ({status}): {error}"
    );
    Ok(seconds)
}

/// The most memory that this process has had at once, in bytes. `None` where the system does not tell.
pub(super) fn peak_memory() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

/// Forgets the peak so far. Says whether the system agreed.
pub(super) fn forget_peak() -> bool {
    fs::write("/proc/self/clear_refs", "5").is_ok()
}
