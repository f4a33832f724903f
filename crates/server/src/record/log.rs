//! The log: a line for each request and for what befalls the server. No text of prompts or answers ever reaches it.
//!
//! A thread of its own writes, so that a full disk or a stuck pipe delays nobody; what it cannot write is counted.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use serde_json::{Map, Value};

use crate::clock::{now, timestamp};
use crate::error::ServerError;
use crate::options::Options;

/// Lines that may wait to be written.
const WAITING: usize = 4096;

/// A log that is open.
pub(crate) struct Log {
    lines: Mutex<Option<SyncSender<String>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
    lost: Arc<AtomicU64>,
    json: bool,
}

impl Log {
    /// Opens a file to append to, or standard error.
    pub(crate) fn open(options: &Options) -> Result<Self, ServerError> {
        let mut out: Box<dyn Write + Send> = match &options.log_file {
            None if options.is_silent => Box::new(io::sink()),
            None => Box::new(io::stderr()),
            Some(path) => {
                Box::new(OpenOptions::new().create(true).append(true).open(path).map_err(|e| {
                    ServerError::File { path: path.display().to_string(), what: e.to_string() }
                })?)
            }
        };
        let (lines, inbox) = sync_channel::<String>(WAITING);
        let lost = Arc::new(AtomicU64::new(0));
        let counter = lost.clone();
        let writer = std::thread::Builder::new().name("log".to_owned()).spawn(move || {
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

    /// Writes what waits and closes the log.
    pub(crate) fn close(&self) {
        drop(self.lines.lock().unwrap_or_else(PoisonError::into_inner).take());
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer {
            let _ = writer.join();
        }
    }
}
