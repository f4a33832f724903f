//! A file of rows: an index of where each begins, made in one pass, and rows read when they are wanted. Of a file of any size
//! 16 bytes a row are held.

use std::fmt;
use std::io::{BufRead, BufReader, Cursor, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use glimmer_config::file::{open_regular, refuse_lfs_pointer};

use super::csv;
use super::error::DataError;
use super::row::{Columns, Row};
use super::split::{Layout, Place, Splitter};

/// The most bytes that a row may have: a million tokens, more than any context holds.
const MAX_ROW: u64 = 4 << 20;

/// The most rows of a file: what a `u32` counts, and 64 GiB of index.
const MAX_ROWS: usize = u32::MAX as usize;

/// What rows are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// JSON objects, one a line or in one list.
    Json,
    /// Comma-separated values with a line of names.
    Csv,
    /// Texts, with a blank line between two.
    Text,
}

/// What rows are read from.
trait Source: Read + Seek + Send {}

impl<T: Read + Seek + Send> Source for T {}

/// A file of rows.
pub struct DataFile {
    path: PathBuf,
    format: Format,
    file: Mutex<Box<dyn Source>>,
    rows: Vec<Span>,
    /// Names of the columns of a CSV file.
    header: Vec<String>,
    columns: Columns,
}

/// Where a row lies.
#[derive(Clone, Copy, Debug)]
struct Span {
    offset: u64,
    /// Bytes; one more than [`MAX_ROW`] for all that have more.
    len: u32,
    /// The line on which it begins, from 1; the last that can be counted for those behind it.
    line: u32,
}

impl DataFile {
    /// Finds the rows of a file. Its name tells the format: `.csv`, `.txt`, anything else is JSON.
    ///
    /// # Errors
    /// When it cannot be read, has no rows, or ends in the middle of one.
    pub fn open(path: &Path, columns: Columns) -> Result<DataFile, DataError> {
        let (file, _) = open_regular(path)?;
        Self::indexed(path, Box::new(file), columns)
    }

    /// The same of bytes in memory, which are called `path`.
    ///
    /// # Errors
    /// Those of [`DataFile::open`].
    pub fn of_bytes(path: &Path, bytes: Vec<u8>, columns: Columns) -> Result<DataFile, DataError> {
        Self::indexed(path, Box::new(Cursor::new(bytes)), columns)
    }

    fn indexed(path: &Path, mut file: Box<dyn Source>, columns: Columns) -> Result<DataFile, DataError> {
        let extension = path.extension().and_then(|name| name.to_str()).unwrap_or("").to_ascii_lowercase();
        let format = match extension.as_str() {
            "csv" => Format::Csv,
            "txt" => Format::Text,
            _ => Format::Json,
        };
        let whole = |why: &str| DataError::Whole { path: path.to_owned(), why: why.to_owned() };
        let read = |source| DataError::File(glimmer_config::FileError::Io { path: path.to_owned(), source });
        let mut head = [0; 1024];
        let known = read_up_to(file.as_mut(), &mut head).map_err(read)?;
        refuse_lfs_pointer(path, &head[..known])?;
        let start = beginning(&head[..known]).map_err(whole)?;
        file.seek(SeekFrom::Start(start)).map_err(read)?;
        let (rows, problem) =
            index(BufReader::with_capacity(1 << 16, &mut file), start, format).map_err(read)?;
        if let Some(why) = problem {
            return Err(DataError::Whole { path: path.to_owned(), why });
        }
        let mut data = DataFile {
            path: path.to_owned(),
            format,
            file: Mutex::new(file),
            rows,
            header: Vec::new(),
            columns,
        };
        if format == Format::Csv && !data.rows.is_empty() {
            data.header = data.read_header()?;
        }
        if data.rows.is_empty() {
            return Err(whole(
                "there are no rows in it; each should be a conversation, such as {\"messages\": [...]} on a line",
            ));
        }
        Ok(data)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What its rows are.
    pub fn format(&self) -> Format {
        self.format
    }

    /// How many rows there are; never none.
    #[allow(clippy::len_without_is_empty, reason = "a file without rows is not opened")]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Leaves out all but the first rows.
    pub fn truncate(&mut self, rows: usize) {
        self.rows.truncate(rows.max(1));
    }

    /// The line on which a row begins, from 1.
    pub fn line(&self, row: usize) -> u64 {
        self.rows.get(row).map_or(0, |span| u64::from(span.line))
    }

    /// Reads a row.
    ///
    /// # Errors
    /// When it is not what it should be, with its line; or the file cannot be read any more.
    pub fn row(&self, row: usize) -> Result<Row, DataError> {
        let text = self.text(row)?;
        let read = match self.format {
            Format::Json => Row::from_json(&text, &self.columns),
            Format::Csv => Row::from_csv(&text, &self.header, &self.columns),
            Format::Text => Ok(Row::Text(text.trim().to_owned())),
        };
        read.map_err(|wrong| self.refuse(row, wrong.line, wrong.why))
    }

    /// The error of a row that something is wrong with.
    pub fn refusal(&self, row: usize, why: String) -> DataError {
        self.refuse(row, 0, why)
    }

    /// The error of a row; `inside` counts lines from the one on which it begins.
    fn refuse(&self, row: usize, inside: u64, why: String) -> DataError {
        DataError::Row { path: self.path.clone(), line: self.line(row) + inside, why }
    }

    fn text(&self, row: usize) -> Result<String, DataError> {
        let span = self.rows[row];
        if u64::from(span.len) > MAX_ROW {
            return Err(self.refuse(row, 0, format!("the row has more than {MAX_ROW} bytes; split it")));
        }
        let mut bytes = vec![0; span.len as usize];
        let mut file = self.file.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let read = file.seek(SeekFrom::Start(span.offset)).and_then(|_| file.read_exact(&mut bytes));
        read.map_err(|source| glimmer_config::FileError::Io { path: self.path.clone(), source })?;
        String::from_utf8(bytes).map_err(|error| {
            let at = error.utf8_error().valid_up_to();
            self.refuse(row, 0, format!("byte {at} of the row is not UTF-8; save the file as UTF-8"))
        })
    }

    /// Takes the first row for names of columns.
    fn read_header(&mut self) -> Result<Vec<String>, DataError> {
        let text = self.text(0)?;
        let header = csv::fields(&text).map_err(|why| self.refuse(0, 0, why.to_owned()))?;
        self.columns.check(&header).map_err(|why| self.refuse(0, 0, why))?;
        self.rows.remove(0);
        Ok(header)
    }
}

impl fmt::Debug for DataFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DataFile")
            .field("path", &self.path)
            .field("rows", &self.rows.len())
            .finish_non_exhaustive()
    }
}

/// Where text begins: behind a byte order mark. Other encodings are refused by name.
fn beginning(head: &[u8]) -> Result<u64, &'static str> {
    match head {
        [0xef, 0xbb, 0xbf, ..] => Ok(3),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Err("the file is UTF-16; save it as UTF-8"),
        [0x1f, 0x8b, ..] | [b'P', b'K', 3, 4, ..] | [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            Err("the file is compressed; unpack it first")
        }
        [b'P', b'A', b'R', b'1', ..] => Err("the file is Parquet; write it as JSON lines"),
        [] => Err(
            "the file is empty; each row should be a conversation, such as {\"messages\": [...]} on a line",
        ),
        _ => Ok(0),
    }
}

fn read_up_to(file: &mut dyn Source, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut known = 0;
    while known < buffer.len() {
        match file.read(&mut buffer[known..])? {
            0 => break,
            n => known += n,
        }
    }
    Ok(known)
}

/// The rows of a stream, and what is wrong with the file as a whole.
fn index(
    mut stream: impl BufRead,
    start: u64,
    format: Format,
) -> std::io::Result<(Vec<Span>, Option<String>)> {
    let mut rows = Rows { found: Vec::new(), open: None };
    let mut splitter = None;
    let (mut offset, mut line) = (start, 1u64);
    loop {
        let bytes = stream.fill_buf()?;
        if bytes.is_empty() {
            break;
        }
        for &byte in bytes {
            if splitter.is_none() && !byte.is_ascii_whitespace() {
                splitter = Some(Splitter::new(layout(format, byte)));
            }
            let place = splitter.as_mut().map_or(Place::Between, |splitter| splitter.place(byte));
            if place == Place::Behind {
                let why = format!(
                    "line {line}: something follows the end of the list; remove it, or write a row a line"
                );
                return Ok((Vec::new(), Some(why)));
            }
            rows.take(place == Place::Inside, byte, offset, line);
            if rows.found.len() >= MAX_ROWS {
                return Ok((Vec::new(), Some(format!("more than {MAX_ROWS} rows; split the file"))));
            }
            offset += 1;
            line += u64::from(byte == b'\n');
        }
        let taken = bytes.len();
        stream.consume(taken);
    }
    let begun = rows.open.map_or(line, |span| u64::from(span.line));
    rows.close();
    let missing = splitter.as_ref().and_then(Splitter::missing);
    let problem =
        missing.map(|what| format!("the file ends without {what}; what is open begins on line {begun}"));
    Ok((rows.found, problem))
}

fn layout(format: Format, first: u8) -> Layout {
    match (format, first) {
        (Format::Csv, _) => Layout::Csv,
        (Format::Text, _) => Layout::Paragraphs,
        (Format::Json, b'[') => Layout::List,
        (Format::Json, _) => Layout::Lines,
    }
}

/// Rows as they are found, each from its first byte that is not blank to its last.
struct Rows {
    found: Vec<Span>,
    open: Option<Span>,
}

impl Rows {
    fn take(&mut self, inside: bool, byte: u8, offset: u64, line: u64) {
        match &mut self.open {
            _ if !inside => self.close(),
            Some(_) | None if byte.is_ascii_whitespace() => {}
            Some(span) => span.len = (offset + 1 - span.offset).min(MAX_ROW + 1) as u32,
            None => self.open = Some(Span { offset, len: 1, line: u32::try_from(line).unwrap_or(u32::MAX) }),
        }
    }

    fn close(&mut self) {
        self.found.extend(self.open.take());
    }
}
