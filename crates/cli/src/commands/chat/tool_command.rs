//! Programs of this machine that tools are: run for a call, without a shell, in bounded time and with bounded output.

use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use glimmer::ToolCall;
use rustix::process::{Pid, Signal, kill_process_group};

use super::PATIENCE;

/// How long a program may take.
pub(super) const TIME: Duration = Duration::from_secs(60);

/// Bytes of a result; what a program prints beyond is dropped.
const RESULT: usize = 64 << 10;

/// Bytes of what a program says about its failure.
const COMPLAINT: usize = 1 << 10;

/// The programs, and which of them may run.
#[derive(Default)]
pub(super) struct ToolCommands {
    programs: Vec<(String, PathBuf)>,
    /// Tools that may always run.
    allowed: Vec<String>,
    /// Whether the program of the call that waits may run now.
    decision: Option<bool>,
}

/// Where the result of a call comes from.
#[derive(Debug, PartialEq)]
pub(super) enum NextResult<'a> {
    /// No call waits for one.
    None,
    /// It is typed.
    Typed(&'a str),
    /// From this program, if somebody agrees.
    Asked(&'a Path),
    /// From this program.
    Run(&'a Path),
}

impl ToolCommands {
    pub(super) fn new(programs: Vec<(String, PathBuf)>) -> Self {
        ToolCommands { programs, ..ToolCommands::default() }
    }

    pub(super) fn of<'a>(&'a self, call: &'a ToolCall) -> NextResult<'a> {
        let program = self.programs.iter().rev().find(|(name, _)| *name == call.name);
        match (program, self.decision) {
            (Some((name, program)), None) if self.allowed.contains(name) => NextResult::Run(program),
            (Some((_, program)), None) => NextResult::Asked(program),
            (Some((_, program)), Some(true)) => NextResult::Run(program),
            (None, _) | (_, Some(false)) => NextResult::Typed(&call.name),
        }
    }

    /// The next call waits.
    pub(super) fn begin(&mut self) {
        self.decision = None;
    }

    /// The result of the call that waits is typed.
    pub(super) fn decline(&mut self) {
        self.decision = Some(false);
    }

    /// What somebody says to the question whether a call's program may run; false for what is no answer.
    pub(super) fn decide(&mut self, call: &ToolCall, answer: &str) -> bool {
        self.decision = match answer.trim().to_lowercase().as_str() {
            "y" | "yes" => Some(true),
            "n" | "no" => Some(false),
            "a" | "always" => {
                self.allowed.push(call.name.clone());
                Some(true)
            }
            _ => return false,
        };
        true
    }
}

/// Runs a program with a call's arguments on its standard input, and returns what it prints; for one that fails, how.
/// It ends after `time`, and when `interrupt` is set.
///
/// # Errors
/// When there is no result: the program cannot be started, was interrupted or took too long.
pub(super) fn run(
    program: &Path,
    arguments: &str,
    time: Duration,
    interrupt: &AtomicBool,
) -> Result<String, String> {
    let mut command = Command::new(program);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut child = command.spawn().map_err(|error| error.to_string())?;
    let output = child.stdout.take().map(|stdout| bounded(stdout, RESULT));
    let complaint = child.stderr.take().map(|stderr| bounded(stderr, COMPLAINT));
    if let Some(mut stdin) = child.stdin.take() {
        let arguments = arguments.to_owned();
        // A program need not read them.
        std::thread::spawn(move || drop(stdin.write_all(arguments.as_bytes())));
    }
    let status = match wait(&mut child, time, interrupt) {
        Ok(status) => status,
        Err(why) => {
            // Whatever it has started ends with it.
            if let Some(group) = Pid::from_raw(child.id() as i32) {
                let _ = kill_process_group(group, Signal::KILL);
            }
            let _ = child.wait();
            return Err(why);
        }
    };
    let text = |pipe: Option<Receiver<Vec<u8>>>| {
        let bytes = pipe?.recv_timeout(Duration::from_secs(1)).ok()?;
        Some(String::from_utf8_lossy(&bytes).trim_end_matches(['\r', '\n']).to_owned())
    };
    let output = text(output).ok_or("something that it started keeps its output open")?;
    if status.success() {
        return Ok(output);
    }
    Ok(format!("{output}\n{status}: {}", text(complaint).unwrap_or_default()).trim().to_owned())
}

/// Waits for a program's end, which may come too late.
fn wait(child: &mut Child, time: Duration, interrupt: &AtomicBool) -> Result<ExitStatus, String> {
    let start = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Ok(status),
            Ok(None) if interrupt.load(Ordering::Relaxed) => return Err("interrupted".to_owned()),
            Ok(None) if start.elapsed() > time => return Err(format!("not done after {time:?}")),
            Ok(None) => std::thread::sleep(PATIENCE),
            Err(error) => return Err(error.to_string()),
        }
    }
}

/// Reads a pipe to its end on a thread of its own, and keeps the beginning.
fn bounded(mut pipe: impl Read + Send + 'static, most: usize) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        // A pipe that cannot be read any more has ended.
        let _ = pipe.by_ref().take(most as u64).read_to_end(&mut kept);
        let _ = std::io::copy(&mut pipe, &mut std::io::sink());
        // Nobody may want it any more.
        let _ = sender.send(kept);
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(name: &str) -> ToolCall {
        ToolCall { id: None, name: name.to_owned(), arguments: "{}".into() }
    }

    #[test]
    fn programs_are_bounded() {
        fn run(program: &str, arguments: &str, interrupt: &AtomicBool) -> Result<String, String> {
            super::run(Path::new(program), arguments, Duration::from_millis(500), interrupt)
        }
        let no = AtomicBool::new(false);
        assert_eq!(run("cat", "{\"city\": \"北京\"}", &no).unwrap(), "{\"city\": \"北京\"}");
        assert_eq!(run("cat", &"x".repeat(3 * RESULT), &no).unwrap().len(), RESULT);
        // It reads nothing.
        assert_eq!(run("true", &"x".repeat(3 * RESULT), &no).unwrap(), "");
        assert!(run("false", "{}", &no).unwrap().contains("exit status: 1"));
        assert!(run("yes", "{}", &no).unwrap_err().contains("not done after 500ms"));
        assert_eq!(run("yes", "{}", &AtomicBool::new(true)).unwrap_err(), "interrupted");
        assert!(run("./no-such-program", "{}", &no).is_err());
    }

    #[test]
    fn a_program_runs_when_somebody_agrees() {
        let mut tools =
            ToolCommands::new(vec![("a".to_owned(), "/bin/a".into()), ("b".to_owned(), "/bin/b".into())]);
        let (a, b, other) = (call("a"), call("b"), call("other"));
        assert_eq!(tools.of(&other), NextResult::Typed("other"));
        assert_eq!(tools.of(&a), NextResult::Asked(Path::new("/bin/a")));
        assert!(!tools.decide(&a, "what?"));
        assert!(tools.decide(&a, "n\n"));
        assert_eq!(tools.of(&a), NextResult::Typed("a"));
        tools.begin();
        assert!(tools.decide(&a, "always"));
        assert_eq!(tools.of(&a), NextResult::Run(Path::new("/bin/a")));
        tools.begin();
        assert_eq!(tools.of(&a), NextResult::Run(Path::new("/bin/a")));
        assert_eq!(tools.of(&b), NextResult::Asked(Path::new("/bin/b")));
        // Also an allowed one not after an answer that was stopped.
        tools.decline();
        assert_eq!(tools.of(&a), NextResult::Typed("a"));
    }
}
