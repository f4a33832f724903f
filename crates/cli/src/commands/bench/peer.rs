//! llama.cpp's `llama-bench` on the same file.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use serde::Deserialize;

use super::case::Case;

/// The program and what it is told besides the model and the cases.
pub(super) struct Peer<'a> {
    pub(super) program: &'a Path,
    pub(super) flags: &'a [String],
    pub(super) threads: usize,
}

/// A line of its answer, what of it matters here.
#[derive(Deserialize)]
struct Line {
    n_prompt: usize,
    n_gen: usize,
    #[serde(default)]
    n_depth: usize,
    avg_ts: f64,
    #[serde(default)]
    samples_ts: Vec<f64>,
}

impl Peer<'_> {
    /// Whether it can measure this.
    pub(super) fn knows(case: &Case) -> bool {
        case.parallel == 1
    }

    /// Measures every case once: tokens per second of those that it knows.
    pub(super) fn run(&self, model: &Path, cases: &[Case]) -> anyhow::Result<Vec<(Case, f64)>> {
        let known: Vec<Case> = cases.iter().copied().filter(Self::knows).collect();
        let list = |of: &dyn Fn(&Case) -> usize| {
            let values: BTreeSet<usize> = known.iter().map(of).filter(|&n| n > 0).collect();
            let values: Vec<String> = values.iter().map(usize::to_string).collect();
            if values.is_empty() { "0".to_owned() } else { values.join(",") }
        };
        let depths: BTreeSet<String> = known.iter().map(|case| case.depth.to_string()).collect();
        let depths = depths.into_iter().collect::<Vec<_>>().join(",");
        // A llama-bench that knows no depths (ik_llama.cpp's) can be compared without.
        let depths = if depths == "0" { vec![] } else { vec!["-d", depths.as_str()] };
        let shown = self.program.display();
        let output = Command::new(self.program)
            .arg("-m")
            .arg(model)
            .args(["-p", &list(&|case| case.prompt), "-n", &list(&|case| case.generate)])
            .args(depths)
            .args(["-t", &self.threads.to_string(), "-r", "1", "-o", "json"])
            .args(self.flags)
            .stdin(Stdio::null())
            .output()
            .with_context(|| shown.to_string())?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        let complaint = complaint.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it says nothing");
        ensure!(output.status.success(), "{shown}: {}; {complaint}", output.status);
        let lines: Vec<Line> = serde_json::from_slice(&output.stdout)
            .with_context(|| format!("{shown}: the answer is not what `llama-bench -o json` prints"))?;
        let sample = |case: Case| {
            let is = |line: &&Line| {
                (line.n_prompt, line.n_gen, line.n_depth) == (case.prompt, case.generate, case.depth)
            };
            let line = lines.iter().find(is);
            let line = line.with_context(|| format!("{shown}: the answer has no {}", case.name()))?;
            Ok((case, line.samples_ts.first().copied().unwrap_or(line.avg_ts)))
        };
        known.into_iter().map(sample).collect()
    }
}
