//! The Markdown of many pages, in which each stands after a comment that names it: what was read before is not read again.

use std::fs::{File, TryLockError};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use glimmer::file;

use crate::output;

/// Bytes that a file of finished pages may have to be gone on with.
const MOST: u64 = 256 << 20;

/// What the comment says of a page whose text has no end.
const CUT: &str = ", cut off after ";

/// A page, as people know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PageName {
    pub(super) file: String,
    /// Counted from 1.
    pub(super) number: usize,
}

/// A page that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Page {
    name: PageName,
    text: String,
    /// After how many tokens its text was cut off.
    cut: Option<usize>,
}

/// The pages that were read. In a file they all stand as they are here, whenever somebody looks.
pub(super) struct Book {
    path: Option<PathBuf>,
    asked: Vec<PageName>,
    pages: Vec<Page>,
    /// The file as it was last written, locked.
    held: Option<File>,
}

impl Book {
    /// The pages of a file, which need not be there yet, or none for standard output. `asked` is the order in which pages are
    /// to stand.
    pub(super) fn open(path: Option<&Path>, asked: Vec<PageName>) -> anyhow::Result<Self> {
        let mut book = Book { path: None, asked, pages: Vec::new(), held: None };
        let Some(path) = path else { return Ok(book) };
        let name = || path.display().to_string();
        // A link stays one.
        book.path = Some(path.canonicalize().unwrap_or_else(|_| path.to_owned()));
        if path.exists() {
            let file = File::open(path).with_context(name)?;
            lock(&file, path)?;
            book.held = Some(file);
        }
        if let Some(bytes) = file::read_bytes(path, MOST)? {
            let pages = String::from_utf8(bytes).ok().and_then(|text| pages(&text));
            book.pages =
                pages.with_context(|| format!("{}: it has more than pages; name another file", name()))?;
        }
        // That nothing can be written is known before anything is read.
        book.save()?;
        Ok(book)
    }

    /// Whether it has the page, and so much of it as `tokens` tokens.
    pub(super) fn has(&self, page: &PageName, tokens: usize) -> bool {
        self.pages.iter().any(|read| read.name == *page && read.cut.is_none_or(|cut| cut >= tokens))
    }

    /// Adds a page where it belongs, behind those that nobody asked for now, in place of one that was cut off. `cut` is after how many
    /// tokens its text was.
    pub(super) fn put(&mut self, page: &PageName, text: &str, cut: Option<usize>) -> anyhow::Result<()> {
        let page = Page { name: page.clone(), text: text.trim_end().to_owned(), cut };
        if self.path.is_none() {
            let mark = if self.asked.len() > 1 { mark(&page)? } else { String::new() };
            return output::model_text(&format!("{mark}{}\n\n", page.text));
        }
        let rank = |page: &PageName| self.asked.iter().position(|asked| asked == page);
        self.pages.retain(|other| other.name != page.name);
        let place = self.pages.iter().position(|other| rank(&other.name) > rank(&page.name));
        self.pages.insert(place.unwrap_or(self.pages.len()), page);
        self.save()
    }

    /// Writes a new file and gives it the name. Whoever holds the lock of the file of that name is the one that writes.
    fn save(&mut self) -> anyhow::Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        let name = || path.display().to_string();
        ensure!(path.file_name().is_some(), "{}: that is no file's name", name());
        let mut part = path.clone().into_os_string();
        part.push(".part");
        let mut file =
            File::options().write(true).create(true).truncate(false).open(&part).with_context(name)?;
        lock(&file, path)?;
        let is_ours = self.held.as_ref().map_or(Ok(!path.exists()), |held| is_named(held, path));
        ensure!(is_ours.with_context(name)?, "{}: another program has written it meanwhile", name());
        file.set_len(0).with_context(name)?;
        for page in &self.pages {
            write!(file, "{}{}\n\n", mark(page)?, page.text).with_context(name)?;
        }
        file.sync_all().with_context(name)?;
        std::fs::rename(&part, path).with_context(name)?;
        self.held = Some(file);
        Ok(())
    }
}

fn lock(file: &File, path: &Path) -> anyhow::Result<()> {
    match file.try_lock() {
        // Where a file system knows no locks, nobody is kept out.
        Ok(()) | Err(TryLockError::Error(_)) => Ok(()),
        Err(TryLockError::WouldBlock) => bail!("{}: another glimmer is writing it", path.display()),
    }
}

/// Whether this file has the name.
fn is_named(file: &File, path: &Path) -> std::io::Result<bool> {
    let (held, named) = (file.metadata()?, std::fs::metadata(path)?);
    Ok((held.dev(), held.ino()) == (named.dev(), named.ino()))
}

/// The comment before a page. Its bytes are counted, so that no text is taken for one.
fn mark(page: &Page) -> anyhow::Result<String> {
    let Page { name: PageName { file, number }, text, cut } = page;
    // Two dashes would end the comment.
    let file = serde_json::to_string(file)?.replace("--", "-\\u002d");
    let cut = cut.map_or(String::new(), |tokens| format!("{CUT}{tokens} tokens"));
    Ok(format!("<!-- page {number} of {file}, {} bytes{cut} -->\n", text.len()))
}

/// What [`mark`] and the texts after it came from; `None` where something else stands there.
fn pages(mut rest: &str) -> Option<Vec<Page>> {
    let mut pages = Vec::new();
    while !rest.is_empty() {
        let (number, after) = rest.strip_prefix("<!-- page ")?.split_once(" of ")?;
        let mut names = serde_json::Deserializer::from_str(after).into_iter::<String>();
        let file = names.next()?.ok()?;
        let (bytes, after) = after[names.byte_offset()..].strip_prefix(", ")?.split_once(" bytes")?;
        let (cut, after) = match after.strip_prefix(CUT) {
            Some(after) => {
                let (tokens, after) = after.split_once(" tokens")?;
                (Some(tokens.parse().ok()?), after)
            }
            None => (None, after),
        };
        let (bytes, after): (usize, _) = (bytes.parse().ok()?, after.strip_prefix(" -->\n")?);
        let name = PageName { file, number: number.parse().ok()? };
        pages.push(Page { name, text: after.get(..bytes)?.to_owned(), cut });
        rest = after[bytes..].strip_prefix("\n\n")?;
    }
    Some(pages)
}

#[cfg(test)]
mod tests {
    use super::{Book, PageName};

    fn page(file: &str, number: usize) -> PageName {
        PageName { file: file.to_owned(), number }
    }

    #[test]
    fn pages_stand_in_order_and_are_known_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("book.md");
        let odd = "a -- b\n-->\u{1b}.png";
        let asked = vec![page("b.pdf", 1), page("b.pdf", 2), page(odd, 1)];
        let mut book = Book::open(Some(&path), vec![page("old.png", 1)]).unwrap();
        book.put(&page("old.png", 1), "", None).unwrap();
        let error = Book::open(Some(&path), asked.clone()).err().unwrap().to_string();
        assert!(error.contains("another glimmer"), "{error}");
        drop(book);
        let mut book = Book::open(Some(&path), asked.clone()).unwrap();
        let forged = "# Two\n<!-- page 1 of \"b.pdf\", 3 bytes -->\nabc\n\n";
        for (page, text) in [(&asked[1], forged), (&asked[2], "三\n"), (&asked[0], "One")] {
            assert!(!book.has(page, 1));
            book.put(page, "cut", Some(8)).unwrap();
            drop(book);
            book = Book::open(Some(&path), asked.clone()).unwrap();
            assert!(book.has(page, 8) && !book.has(page, 9), "it was cut off");
            book.put(page, text, None).unwrap();
            drop(book);
            book = Book::open(Some(&path), asked.clone()).unwrap();
            assert!(book.has(page, 9));
        }
        let order: Vec<_> =
            book.pages.iter().map(|page| (page.name.file.as_str(), page.text.as_str())).collect();
        assert_eq!(order, [("old.png", ""), ("b.pdf", "One"), ("b.pdf", forged.trim_end()), (odd, "三")]);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with(
            "<!-- page 1 of \"old.png\", 0 bytes -->\n\n\n<!-- page 1 of \"b.pdf\", 3 bytes -->\nOne\n\n"
        ));
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1, "nothing else is left");
    }

    #[test]
    fn a_file_of_something_else_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("book.md");
        let mut book = Book::open(Some(&path), Vec::new()).unwrap();
        book.put(&page("a.png", 1), "a\u{e9}", None).unwrap();
        drop(book);
        let whole = std::fs::read(&path).unwrap();
        let damaged = (1..whole.len()).map(|length| whole[..length].to_vec());
        // The last cuts a character in two.
        let miscounted = String::from_utf8(whole.clone()).unwrap().replace("3 bytes", "2 bytes");
        let edited = [b"A letter.\n".to_vec(), [&whole[..], b"more"].concat(), miscounted.into_bytes()];
        for other in damaged.chain(edited) {
            std::fs::write(&path, &other).unwrap();
            assert!(Book::open(Some(&path), Vec::new()).is_err(), "{:?}", String::from_utf8_lossy(&other));
            assert_eq!(std::fs::read(&path).unwrap(), other);
        }
    }
}
