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
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value};

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

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

/// `2026-01-31T12:00:00Z`.
fn timestamp(seconds: u64) -> String {
    let (date, time) = date_and_time(seconds);
    format!("{date}T{time}Z")
}

/// Date and time of day in UTC, as `2026-01-31` and `12:00:00`. The date follows Howard Hinnant's `civil_from_days`.
pub(crate) fn date_and_time(seconds: u64) -> (String, String) {
    let days = (seconds / 86_400) as i64 + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let second = seconds % 86_400;
    (
        format!("{year:04}-{month:02}-{day:02}"),
        format!("{:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60),
    )
}

#[cfg(test)]
mod tests {
    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(super::timestamp(0), "1970-01-01T00:00:00Z");
        assert_eq!(super::timestamp(951_827_696), "2000-02-29T12:34:56Z");
        assert_eq!(super::timestamp(1_798_761_599), "2026-12-31T23:59:59Z");
    }
}
