//! The log: a line for each request and for what befalls the server. No text of prompts or answers ever reaches it.
//!
//! A thread of its own writes, so that a full disk or a stuck pipe delays nobody; what it cannot write is counted.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Map, Value};

use crate::clock::{now, timestamp};
use crate::error::ServerError;
use crate::options::Options;

/// Lines that may wait to be written.
const WAITING: usize = 4096;

/// How long the end of the program waits for lines to be written.
const PATIENCE: Duration = Duration::from_secs(1);

/// A log that is open.
pub(crate) struct Log {
    lines: Mutex<Option<SyncSender<String>>>,
    writer: Mutex<Option<Receiver<()>>>,
    lost: Arc<AtomicU64>,
    json: bool,
}

impl Log {
    /// Opens a file to append to, or standard error.
    pub(crate) fn open(options: &Options) -> Result<Self, ServerError> {
        let mut out: Box<dyn Write + Send> = match &options.log_file {
            None if options.is_silent => Box::new(io::sink()),
            None => standard_error()?,
            Some(path) => {
                Box::new(OpenOptions::new().create(true).append(true).open(path).map_err(|e| {
                    ServerError::File { path: path.display().to_string(), what: e.to_string() }
                })?)
            }
        };
        let (lines, inbox) = sync_channel::<String>(WAITING);
        let lost = Arc::new(AtomicU64::new(0));
        let counter = lost.clone();
        let (end, writer) = channel::<()>();
        std::thread::Builder::new().name("log".to_owned()).spawn(move || {
            let _end = end;
            for line in inbox {
                if out.write_all(line.as_bytes()).and_then(|()| out.flush()).is_err() {
                    counter.fetch_add(1, Ordering::Relaxed);
                }
            }
        })?;
        Ok(Log {
            lines: Mutex::new(Some(lines)),
            writer: Mutex::new(Some(writer)),
            lost,
            json: options.json_log,
        })
    }

    /// Writes a line: what happened and its particulars.
    pub(crate) fn line(&self, event: &str, particulars: Map<String, Value>) {
        let line = if self.json {
            let mut object = Map::new();
            object.insert("time".to_owned(), timestamp(now()).into());
            object.insert("event".to_owned(), event.into());
            object.extend(particulars);
            format!("{}\n", Value::Object(object))
        } else {
            let mut line = format!("{} {event}", timestamp(now()));
            for (name, value) in particulars {
                match value {
                    Value::String(text) if text.chars().all(|c| c.is_ascii_graphic() && c != '"') => {
                        let _ = write!(line, " {name}={text}");
                    }
                    value => {
                        let _ = write!(line, " {name}={value}");
                    }
                }
            }
            line.push('\n');
            line
        };
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.as_ref().is_none_or(|lines| lines.try_send(line).is_err()) {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Lines that could not be written.
    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Writes what waits and closes the log. A log that nobody takes is not waited for: its last lines are lost.
    pub(crate) fn close(&self) {
        drop(self.lines.lock().unwrap_or_else(PoisonError::into_inner).take());
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer {
            // The thread sends nothing; it is at its end when the channel is.
            let _ = writer.recv_timeout(PATIENCE);
        }
    }
}

/// Standard error without the lock that all of the program takes to write there: a pipe that nobody reads must hold up
/// this thread alone.
#[cfg(unix)]
fn standard_error() -> io::Result<Box<dyn Write + Send>> {
    use std::os::fd::AsFd;
    Ok(Box::new(std::fs::File::from(io::stderr().as_fd().try_clone_to_owned()?)))
}

#[cfg(not(unix))]
fn standard_error() -> io::Result<Box<dyn Write + Send>> {
    Ok(Box::new(io::stderr()))
}
