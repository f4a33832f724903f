//! Figures of a training, as they come: lines of JSON, and TensorBoard's event files beside them.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};

use crate::events;

/// The file of lines.
pub const METRICS: &str = "metrics.jsonl";

/// The longest file of lines that is read again.
const MOST: u64 = 1 << 30;

/// Figures of a step, by name.
#[derive(Clone, Debug, PartialEq)]
pub struct Figures {
    /// Steps that were done.
    pub step: u64,
    /// Whether they are of an evaluation.
    pub is_evaluation: bool,
    /// Names as `loss`, and their figures.
    pub figures: Vec<(&'static str, f64)>,
}

impl Figures {
    fn line(&self) -> String {
        let prefix = if self.is_evaluation { "eval_" } else { "" };
        let figures = self.figures.iter().map(|(name, figure)| (format!("{prefix}{name}"), json!(figure)));
        let line: Map<_, _> = [("step".to_owned(), json!(self.step))].into_iter().chain(figures).collect();
        format!("{}\n", Value::Object(line))
    }
}

/// Where figures go.
pub struct Metrics {
    lines: File,
    events: File,
}

impl Metrics {
    /// Begins or goes on in a directory after `step`; lines of later steps, which a training that was broken off has left
    /// behind its last state, are removed.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn open(directory: &Path, step: u64) -> io::Result<Self> {
        let path = directory.join(METRICS);
        let kept = match step {
            0 => 0,
            _ => kept(&path, step)?,
        };
        let lines = OpenOptions::new().create(true).append(true).open(&path)?;
        lines.set_len(kept)?;
        let mut events = new_events(directory)?;
        events.write_all(&events::version(now()))?;
        if step > 0 {
            events.write_all(&events::restart(now(), step + 1))?;
        }
        Ok(Metrics { lines, events })
    }

    /// Adds figures.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn add(&mut self, figures: &Figures) -> io::Result<()> {
        self.lines.write_all(figures.line().as_bytes())?;
        let group = if figures.is_evaluation { "eval" } else { "train" };
        let tagged: Vec<_> =
            figures.figures.iter().map(|(name, f)| (format!("{group}/{name}"), *f as f32)).collect();
        let tagged = tagged.iter().map(|(tag, figure)| (tag.as_str(), *figure));
        self.events.write_all(&events::scalars(now(), figures.step, tagged))
    }
}

/// Bytes of the lines up to a step; a line that was cut off ends them.
fn kept(path: &Path, step: u64) -> io::Result<u64> {
    let mut kept = 0;
    for line in read(path)?.split_inclusive('\n') {
        if !line.ends_with('\n') || step_of(line).is_none_or(|at| at > step) {
            break;
        }
        kept += line.len() as u64;
    }
    Ok(kept)
}

fn read(path: &Path) -> io::Result<String> {
    match glimmer_config::file::read_bytes(path, MOST) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned()),
        Err(error) => Err(io::Error::other(error)),
    }
}

fn step_of(line: &str) -> Option<u64> {
    serde_json::from_str::<Value>(line).ok()?.get("step")?.as_u64()
}

/// A figure by step, as the lines of a directory have it; what is no such line is passed over.
///
/// # Errors
/// When the lines cannot be read.
pub fn curve(directory: &Path, name: &str) -> io::Result<Vec<(u64, f64)>> {
    let point = |line: &str| {
        let line: Value = serde_json::from_str(line).ok()?;
        Some((line.get("step")?.as_u64()?, line.get(name)?.as_f64()?))
    };
    Ok(read(&directory.join(METRICS))?.lines().filter_map(point).collect())
}

/// A new file, whose name has the time as TensorBoard's writers give it, and a number where there is one already.
fn new_events(directory: &Path) -> io::Result<File> {
    let seconds = now() as u64;
    for number in 0..1000u32 {
        let path: PathBuf = directory.join(format!("events.out.tfevents.{seconds:010}.glimmer.{number}"));
        match File::create_new(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            other => return other,
        }
    }
    Err(io::Error::other("a thousand event files of one second"))
}

/// Seconds since 1970.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(step: u64, loss: f64) -> Figures {
        Figures { step, is_evaluation: false, figures: vec![("loss", loss)] }
    }

    #[test]
    fn what_follows_the_last_state_is_told_anew() {
        let directory = tempfile::tempdir().unwrap();
        let mut metrics = Metrics::open(directory.path(), 0).unwrap();
        for step in 1..=5 {
            metrics.add(&figures(step, step as f64)).unwrap();
        }
        std::fs::OpenOptions::new()
            .append(true)
            .open(directory.path().join(METRICS))
            .and_then(|mut file| file.write_all(b"{\"step\": 6, \"lo"))
            .unwrap();
        let mut metrics = Metrics::open(directory.path(), 3).unwrap();
        metrics.add(&figures(4, 0.25)).unwrap();
        let evaluation = Figures { is_evaluation: true, ..figures(4, 0.75) };
        metrics.add(&evaluation).unwrap();
        assert_eq!(curve(directory.path(), "loss").unwrap(), [(1, 1.0), (2, 2.0), (3, 3.0), (4, 0.25)]);
        assert_eq!(curve(directory.path(), "eval_loss").unwrap(), [(4, 0.75)]);
    }
}
