//! Where typed lines come from: an editor in a terminal, or a pipe.

use std::borrow::Cow;
use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, BufRead, IsTerminal, StdinLock};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;

use anyhow::{Context, ensure};
use reedline::{
    FileBackedHistory, Prompt, PromptEditMode, PromptHistorySearch, PromptHistorySearchStatus, Reedline,
    Signal,
};

use crate::directories;

/// Lines that are kept for the next run.
const HISTORY: usize = 1000;

/// The longest line that is read from a pipe, in bytes.
const MAX_LINE: u64 = 16 << 20;

/// The lines that a person types or a pipe brings.
pub(crate) enum Lines {
    Typed(Box<Reedline>),
    Piped(StdinLock<'static>),
}

/// What came.
pub(crate) enum Line {
    Text(String),
    /// Ctrl-C.
    Interrupted,
    /// Ctrl-D, or the end of the pipe.
    End,
}

impl Lines {
    /// An editor where standard input is a terminal.
    pub(crate) fn open(coloured: bool, keep_history: bool) -> Self {
        if !io::stdin().is_terminal() {
            return Lines::Piped(io::stdin().lock());
        }
        let mut editor = Reedline::create().use_bracketed_paste(true).with_ansi_colors(coloured);
        // Without a place for it there is no history, which is no reason not to talk.
        if keep_history
            && let Some(path) = history_file()
            && let Ok(history) = FileBackedHistory::with_file(HISTORY, path)
        {
            editor = editor.with_history(Box::new(history));
        }
        Lines::Typed(Box::new(editor))
    }

    pub(crate) fn are_typed(&self) -> bool {
        matches!(self, Lines::Typed(_))
    }

    /// The next line; `prompt` stands before it where somebody sees it.
    pub(crate) fn next(&mut self, prompt: &str) -> anyhow::Result<Line> {
        match self {
            Lines::Typed(editor) => Ok(match editor.read_line(&Before(prompt)).context("the terminal")? {
                Signal::Success(text) => Line::Text(text),
                Signal::CtrlC => Line::Interrupted,
                _ => Line::End,
            }),
            Lines::Piped(stdin) => {
                let mut line = String::new();
                let read = io::Read::take(stdin, MAX_LINE).read_line(&mut line).context("standard input")?;
                ensure!((read as u64) < MAX_LINE, "standard input: a line of more than {MAX_LINE} bytes");
                Ok(if read == 0 { Line::End } else { Line::Text(line) })
            }
        }
    }
}

/// Where the history is kept: readable by its owner alone.
fn history_file() -> Option<PathBuf> {
    let directory = directories::state()?;
    DirBuilder::new().recursive(true).mode(0o700).create(&directory).ok()?;
    let file = directory.join("chat_history");
    OpenOptions::new().create(true).append(true).mode(0o600).open(&file).ok()?;
    Some(file)
}

/// What stands before the line that is being typed.
struct Before<'a>(&'a str);

impl Prompt for Before<'_> {
    fn render_prompt_left(&self) -> Cow<'_, str> {
        Cow::Borrowed(self.0)
    }

    fn render_prompt_right(&self) -> Cow<'_, str> {
        Cow::Borrowed("")
    }

    fn render_prompt_indicator(&self, _: PromptEditMode) -> Cow<'_, str> {
        Cow::Borrowed("> ")
    }

    fn render_prompt_multiline_indicator(&self) -> Cow<'_, str> {
        Cow::Borrowed(". ")
    }

    fn render_prompt_history_search_indicator(&self, search: PromptHistorySearch) -> Cow<'_, str> {
        let failing = match search.status {
            PromptHistorySearchStatus::Passing => "",
            PromptHistorySearchStatus::Failing => "nothing ",
        };
        Cow::Owned(format!("({failing}found for {:?}) ", search.term))
    }
}
