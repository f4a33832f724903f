//! Flags of `ocr`.

use std::path::PathBuf;

use clap::Args;
use glimmer::ContextLength;

use super::values::{above_zero, context_length, one_of};
use super::{DeviceArgs, SamplingArgs};

/// What is on a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Task {
    Text,
    Table,
    Formula,
}

const TASKS: [(Task, &str); 3] = [(Task::Text, "text"), (Task::Table, "table"), (Task::Formula, "formula")];

impl Task {
    /// What GLM-OCR is told (glmocr 0.1.5, `task_prompt_mapping`).
    pub(crate) fn prompt(self) -> &'static str {
        match self {
            Task::Text => "Text Recognition:",
            Task::Table => "Table Recognition:",
            Task::Formula => "Formula Recognition:",
        }
    }
}

/// Read pages into Markdown with GLM-OCR
#[derive(Debug, Args)]
#[command(after_help = "\
Pages are PNG, JPEG, TIFF (all of its pages), WebP, GIF, BMP, and in builds with feature `pdf`, as in release archives, PDF. With -o the file has, after each page, all pages that are finished, \
whole and in order, each after a comment with its file and number. The same command again goes on with those that it does not have, \
and with those whose text was cut off where more tokens are allowed now; a page that was changed since is read again when its part of \
the file, or all of it, is deleted.

Examples:
  glimmer ocr page-*.png -o book.md
  glimmer ocr scan.pdf -o scan.md
  glimmer ocr --task table prices.jpg
  glimmer ocr letter.tiff --model ./GLM-OCR | less")]
pub(crate) struct OcrArgs {
    /// Files of pages, in order
    #[arg(value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,

    /// The file of Markdown [default: standard output]
    #[arg(long, short = 'o', value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,

    /// The model: a directory in Hugging Face layout, or a name as `glimmer pull` takes it
    #[arg(long, short = 'm', value_name = "MODEL", default_value = "glm-ocr")]
    pub(crate) model: PathBuf,

    /// What is on the pages, in which the model is asked for it
    #[arg(long, value_name = "WHAT", default_value = "text", value_parser = one_of(TASKS))]
    pub(crate) task: Task,

    /// Dots per inch at which a PDF's pages are drawn. Fewer are read sooner; an A4 page at 144 is a picture of 2 million pixels
    #[arg(long, value_name = "N", default_value = "144", value_parser = above_zero)]
    pub(crate) dpi: f32,

    /// Tokens that a page and its text may have together, or `max` [default: what the model was trained for, at most 16384]
    #[arg(long, value_name = "N", value_parser = context_length)]
    pub(crate) ctx: Option<ContextLength>,

    #[command(flatten)]
    pub(crate) sampling: SamplingArgs,

    #[command(flatten)]
    pub(crate) device: DeviceArgs,
}
