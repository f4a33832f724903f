//! A batch's output: the answers that are there, and those that are added. Nothing but what an earlier run wrote is ever
//! changed, and one process at a time writes.

use std::collections::{HashMap, HashSet};
use std::fs::{File, Metadata, OpenOptions, TryLockError};
use std::io::{BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use glimmer::json_line;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::input::Name;
use crate::error::{ServerError, shown};

/// A line of the output. Its fields stand in this order, by which a line that was cut off is recognized.
#[derive(Serialize)]
pub(super) struct OutputLine {
    id: String,
    custom_id: Option<String>,
    response: Option<Response>,
    error: Option<Fault>,
}

/// What the server said.
#[derive(Serialize)]
pub(super) struct Response {
    pub(super) status_code: u16,
    pub(super) request_id: Option<String>,
    pub(super) body: Value,
}

/// Why a line was not asked.
#[derive(Serialize)]
struct Fault {
    code: &'static str,
    message: String,
    line: Option<usize>,
}

/// How every line begins; 16 digits follow.
const BEGINNING: &str = "{\"id\":\"batch_req_";

/// What stands between the digits and the value of `custom_id`.
const MIDDLE: &str = "\",\"custom_id\":";

impl OutputLine {
    /// The answer to a line: what the server said, or why it was not asked.
    pub(super) fn new(number: u64, name: Name, said: Result<Response, String>) -> Self {
        let (custom_id, line) = match name {
            Name::Request(id) => (Some(id), None),
            Name::Line(line) => (None, Some(line)),
        };
        let (response, error) = match said {
            Ok(response) => (Some(response), None),
            Err(message) => (None, Some(Fault { code: "invalid_request", message, line })),
        };
        OutputLine { id: format!("batch_req_{number:016x}"), custom_id, response, error }
    }

    /// Whether the request has what it asked for.
    pub(super) fn is_good(&self) -> bool {
        self.response.as_ref().is_some_and(|response| is_success(response.status_code.into()))
    }
}

fn is_success(status: u64) -> bool {
    (200..300).contains(&status)
}

/// A file of answers, locked.
pub(super) struct Output {
    file: File,
    path: PathBuf,
    /// Whether the file goes when nothing is written.
    is_provisional: bool,
}

impl Output {
    /// Opens the file, which need not exist, and returns it with the names that it has answers to, and whether these are
    /// good: the last answer counts. The end of an answer that was cut off is removed.
    ///
    /// # Errors
    /// [`ServerError::File`] when it is anything else than answers to these names, or the input itself; when another
    /// process writes to it.
    pub(super) fn open(
        path: &Path,
        input: &Path,
        names: &HashSet<&Name>,
        longest: usize,
    ) -> Result<(Self, HashMap<Name, bool>), ServerError> {
        let fault = |what: String| ServerError::File { path: path.display().to_string(), what };
        let io = |error: std::io::Error| fault(error.to_string());
        let mut output = loop {
            let before = match std::fs::metadata(path) {
                Ok(metadata) => Some(metadata),
                Err(error) if error.kind() == ErrorKind::NotFound => None,
                Err(error) => return Err(io(error)),
            };
            if before.as_ref().is_some_and(|metadata| !metadata.is_file()) {
                return Err(fault("not a regular file; name a new file".to_owned()));
            }
            if let (Some(before), Ok(input)) = (&before, std::fs::metadata(input))
                && is_same(before, &input)
            {
                return Err(fault("this is the input; name a new file for the answers".to_owned()));
            }
            let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
            let file = file.map_err(io)?;
            match file.try_lock() {
                Err(TryLockError::WouldBlock) => {
                    return Err(fault("another process is writing to it".to_owned()));
                }
                // Some file systems have no locks.
                Err(TryLockError::Error(error)) if error.kind() != ErrorKind::Unsupported => {
                    return Err(io(error));
                }
                _ => {}
            }
            // Whoever had the lock may have taken the file away meanwhile.
            let there = std::fs::metadata(path).ok();
            if there.is_some_and(|there| file.metadata().is_ok_and(|opened| is_same(&there, &opened))) {
                let path = path.canonicalize().map_err(io)?;
                break Output { file, path, is_provisional: before.is_none() };
            }
        };
        let answers =
            output.read(names, longest).map_err(|what| fault(format!("{what}; name a new file")))?;
        Ok((output, answers))
    }

    /// Reads the answers. Where all are of this batch, the file ends after them and is ready for more.
    fn read(&mut self, names: &HashSet<&Name>, longest: usize) -> Result<HashMap<Name, bool>, String> {
        let mut answers = HashMap::new();
        let mut whole = 0;
        let mut reader = BufReader::new(&self.file);
        let mut line = Vec::new();
        // An answer may be longer than its request, but not without bound.
        let limit = (longest as u64).saturating_mul(16).max(1 << 26);
        for number in 1.. {
            line.clear();
            let read = reader.by_ref().take(limit).read_until(b'\n', &mut line).map_err(|e| e.to_string())?;
            let not_ours = |what: &str| format!("line {number} is no answer of this batch: {what}");
            if line.last() != Some(&b'\n') {
                if !is_cut_off(&line, names) {
                    return Err(not_ours("it was not written by one"));
                }
                break;
            }
            whole += read as u64;
            let (name, good) = answered(&line).ok_or_else(|| not_ours("it has no custom_id and response"))?;
            if let Name::Request(id) = &name
                && !names.contains(&name)
            {
                return Err(not_ours(&format!("the input has no custom_id {:?}", shown(id))));
            }
            answers.insert(name, good);
        }
        let ready = self.file.set_len(whole).and_then(|()| self.file.seek(SeekFrom::Start(whole)));
        ready.map_err(|e| e.to_string())?;
        Ok(answers)
    }

    /// Adds an answer, a whole line at once.
    pub(super) fn write(&mut self, answer: &OutputLine) -> Result<(), ServerError> {
        let line = serde_json::to_string(answer).map(json_line).map_err(std::io::Error::other);
        let written = line.and_then(|line| self.file.write_all(format!("{line}\n").as_bytes()));
        written.map_err(|e| ServerError::File { path: self.path.display().to_string(), what: e.to_string() })
    }

    /// The file stays, whether or not there was anything to write.
    pub(super) fn keep(&mut self) {
        self.is_provisional = false;
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if self.is_provisional && self.file.metadata().is_ok_and(|metadata| metadata.len() == 0) {
            // There is nobody left to tell if this fails; an empty file says nothing wrong.
            drop(std::fs::remove_file(&self.path));
        }
    }
}

fn is_same(a: &Metadata, b: &Metadata) -> bool {
    (a.dev(), a.ino()) == (b.dev(), b.ino())
}

/// What a line answers, and whether the answer is good; none where it is no line of a batch's output.
fn answered(line: &[u8]) -> Option<(Name, bool)> {
    #[derive(Deserialize)]
    struct Told {
        // Fields that must be there, and may be null.
        #[serde(deserialize_with = "Option::deserialize")]
        custom_id: Option<String>,
        #[serde(deserialize_with = "Option::deserialize")]
        response: Option<Status>,
        error: Option<Place>,
    }
    #[derive(Deserialize)]
    struct Status {
        status_code: u64,
    }
    #[derive(Deserialize)]
    struct Place {
        line: Option<usize>,
    }
    let told: Told = serde_json::from_slice(line).ok()?;
    match told.custom_id {
        Some(id) => Some((Name::Request(id), told.response.is_some_and(|told| is_success(told.status_code)))),
        None => Some((Name::Line(told.error?.line?), false)),
    }
}

/// Whether this is the beginning of an answer to one of the names, of which a run could not write the end.
fn is_cut_off(line: &[u8], names: &HashSet<&Name>) -> bool {
    fn is_beginning(line: &[u8], of: &str) -> bool {
        line.iter().zip(of.as_bytes()).all(|(a, b)| a == b)
    }
    let (beginning, rest) = line.split_at(line.len().min(BEGINNING.len()));
    let (digits, rest) = rest.split_at(rest.len().min(16));
    let (middle, rest) = rest.split_at(rest.len().min(MIDDLE.len()));
    if !is_beginning(beginning, BEGINNING)
        || !digits.iter().all(u8::is_ascii_hexdigit)
        || !is_beginning(middle, MIDDLE)
    {
        return false;
    }
    match serde_json::Deserializer::from_slice(rest).into_iter::<Option<String>>().next() {
        None | Some(Ok(None)) => true,
        Some(Ok(Some(id))) => names.contains(&Name::Request(id)),
        Some(Err(error)) => error.is_eof(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beginning_of_an_answer_is_known_wherever_it_ends() {
        let name = Name::Request("a \"quoted\" 名".to_owned());
        let names = HashSet::from([&name]);
        let response = Response { status_code: 200, request_id: None, body: Value::Null };
        let said = [(name.clone(), Ok(response)), (Name::Line(7), Err("why".to_owned()))];
        for (name, said) in said {
            let line = serde_json::to_vec(&OutputLine::new(u64::MAX, name.clone(), said)).unwrap();
            assert_eq!(answered(&line).unwrap().0, name);
            for end in 0..=line.len() {
                assert!(is_cut_off(&line[..end], &names), "{}", String::from_utf8_lossy(&line[..end]));
            }
        }
        let other = Name::Request("other".to_owned());
        let line = serde_json::to_vec(&OutputLine::new(0, other, Err(String::new()))).unwrap();
        assert!(!is_cut_off(&line, &names));
        for line in [&b"\x7fELF"[..], b"{\"custom_id\":\"a\"", b"[", b"{\"id\":\"batch_req_zz"] {
            assert!(!is_cut_off(line, &names), "{}", String::from_utf8_lossy(line));
        }
    }
}
