//! `glimmer ocr`: pages of documents to Markdown.

mod book;

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use glimmer::{
    Completion, Compute, ContextLength, Conversation, Engine, Escaped, FinishReason, GenerationParams,
    Limits, Message, ModelText, Pages, Picture, PictureLimits, Role, file,
};

use self::book::{Book, PageName};
use crate::args::{ModelArgs, OcrArgs};
use crate::model::{context, device, files, load, spec};
use crate::sampling::set_by_flags;
use crate::terminal::Terminal;

/// Tokens of a page and its text, where nobody says otherwise and the model was trained for as many.
const CONTEXT: usize = 16_384;
/// Tokens of a page's text (glmocr 0.1.5, `max_tokens`).
const MAX_TOKENS: usize = 8192;
/// Bytes of a file of pages.
const FILE: u64 = 1 << 30;

/// Reads the pages that are not read yet, in order.
pub(crate) fn run(args: &OcrArgs, terminal: &Terminal) -> anyhow::Result<()> {
    let mut asked = Vec::new();
    for path in &args.files {
        let count = open(path)?.count();
        asked.extend((1..=count).map(|number| PageName { file: path.display().to_string(), number }));
    }
    let mut book = Book::open(args.output.as_deref(), asked.clone())?;
    let (finished, left): (Vec<_>, Vec<_>) =
        asked.into_iter().partition(|page| book.has(page, most_tokens(args)));
    if !finished.is_empty() {
        terminal.note(&format!("{} pages are finished already", finished.len()));
    }
    if left.is_empty() {
        return Ok(());
    }
    let engine = engine(args, terminal)?;
    let bar = terminal.steps_bar("reading", left.len() as u64);
    let mut reader = Reader { args, engine: &engine, opened: None };
    let mut failed = 0;
    for (index, page) in left.iter().enumerate() {
        let read = reader.read(page);
        let shown = format!("page {} of {}", page.number, Escaped(&page.file));
        bar.suspend(|| match &read {
            Ok(Completion { finish, usage, timings, .. }) => {
                let (tokens, seconds) = (usage.completion, timings.total.as_secs_f64());
                let of = format!("{} of {}", index + 1, left.len());
                terminal.note(&format!("{of}: {shown}, {tokens} tokens in {seconds:.1} s"));
                if !is_whole(finish) {
                    terminal.warn(&format!("{shown}: its text {}", broken_off(finish)));
                }
            }
            Err(error) => terminal.warn(&format!("{shown}: {error:#}")),
        });
        match read {
            Ok(completion) => book.put(page, &completion.reply.text, cut(&completion))?,
            Err(error) if error.downcast_ref().is_some_and(glimmer::Error::is_end) => return Err(error),
            Err(_) => failed += 1,
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    ensure!(
        failed == 0,
        "{failed} of {} pages could not be read; the same command tries them again",
        left.len()
    );
    Ok(())
}

/// Whether a page's text has an end of its own.
fn is_whole(finish: &FinishReason) -> bool {
    matches!(finish, FinishReason::Stop | FinishReason::StopString(_))
}

/// After how many tokens a page's text was cut off.
fn cut(completion: &Completion) -> Option<usize> {
    (!is_whole(&completion.finish)).then_some(completion.usage.completion)
}

/// Tokens that a page's text may have.
fn most_tokens(args: &OcrArgs) -> usize {
    args.sampling.max_tokens.unwrap_or(MAX_TOKENS)
}

/// Why the text of a page ends before its end.
fn broken_off(finish: &FinishReason) -> &'static str {
    match finish {
        FinishReason::MaxTokens => "has more tokens than --max-tokens allows",
        FinishReason::ContextFull => "has more tokens than --ctx has room for",
        FinishReason::Repetition { .. } => "repeats itself and was ended",
        _ => "was ended",
    }
}

fn open(path: &Path) -> anyhow::Result<Pages> {
    let name = || Escaped(&path.display().to_string()).to_string();
    let bytes =
        file::read_bytes(path, FILE)?.with_context(|| format!("{}: there is no such file", name()))?;
    Pages::open(bytes, &limits()).with_context(name)
}

fn limits() -> PictureLimits {
    PictureLimits { bytes: FILE as usize, ..PictureLimits::default() }
}

fn engine(args: &OcrArgs, terminal: &Terminal) -> anyhow::Result<Engine> {
    let model = ModelArgs { path: args.model.clone(), family: None };
    let files = files(&model, None, terminal)?;
    // Whether it sees is known before any weight is read.
    ModelText::read(&files)?.vision()?;
    let spec = spec(&files, terminal)?;
    let tokens = args.ctx.unwrap_or(ContextLength::Tokens(CONTEXT.min(spec.context)));
    let limits =
        Limits { context: ContextLength::Tokens(context(Some(tokens), spec, terminal)), ..Limits::default() };
    let device = device(&args.device, Compute::Auto, terminal)?;
    let capacity = limits.capacity(spec, device.kind);
    let model = load(&files, device, capacity, terminal)?;
    Ok(model.start(&limits)?)
}

/// Reads pages with a model; the file that the last one was in stays open.
struct Reader<'a> {
    args: &'a OcrArgs,
    engine: &'a Engine,
    opened: Option<(String, Pages)>,
}

impl Reader<'_> {
    fn read(&mut self, page: &PageName) -> anyhow::Result<Completion> {
        let text = self.engine.text();
        let view = text.vision()?.look_at_picture(&self.picture(page)?)?;
        let mut question = Message::new(Role::User, "");
        question.show(&*page.file);
        question.say(self.args.task.prompt());
        let prompt = text.prompt_seeing(&Conversation::new(vec![question]), &[view])?;
        let flags = &self.args.sampling;
        let mut params = GenerationParams {
            max_tokens: Some(most_tokens(self.args)),
            stop: flags.stop.clone(),
            repetition_detection: flags.repetition_detection,
            ..self.engine.defaults(&prompt)
        };
        // What Z.ai's own tool sets for this model (glmocr 0.1.5).
        (params.sampling.temperature, params.sampling.repetition_penalty) = (0.0, 1.1);
        set_by_flags(&mut params.sampling, flags);
        Ok(self.engine.generate(&prompt, params)?.complete()?)
    }

    fn picture(&mut self, page: &PageName) -> anyhow::Result<Picture> {
        if self.opened.as_ref().is_none_or(|(file, _)| *file != page.file) {
            // The other file's pages go first.
            self.opened = None;
            let path = self.args.files.iter().find(|path| path.display().to_string() == page.file);
            let pages = open(path.map_or(Path::new(&page.file), PathBuf::as_path))?;
            self.opened = Some((page.file.clone(), pages));
        }
        let pages = self.opened.as_mut().map(|(_, pages)| pages).filter(|pages| page.number <= pages.count());
        Ok(pages.context("the file was changed; it has fewer pages now")?.page(
            page.number - 1,
            self.args.dpi,
            &limits(),
        )?)
    }
}
