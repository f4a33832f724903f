//! The Markdown of many pages, in which each stands after a comment that names it: what was read before is not read again.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use glimmer::file;

use crate::output;

/// Bytes that a file of finished pages may have to be gone on with.
const MOST: u64 = 256 << 20;

/// A page, as people know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PageName {
    pub(super) file: String,
    /// Counted from 1.
    pub(super) number: usize,
}

/// The pages that are finished. In a file they are all whole, whenever somebody looks.
pub(super) struct Book {
    path: Option<PathBuf>,
    asked: Vec<PageName>,
    pages: Vec<(PageName, String)>,
}

impl Book {
    /// The pages of a file, which need not be there yet, or none for standard output. `asked` is the order in which pages are
    /// to stand.
    pub(super) fn open(path: Option<&Path>, asked: Vec<PageName>) -> anyhow::Result<Self> {
        let mut book = Book { path: None, asked, pages: Vec::new() };
        let Some(path) = path else { return Ok(book) };
        let name = || path.display().to_string();
        if let Some(bytes) = file::read_bytes(path, MOST)? {
            let pages = String::from_utf8(bytes).ok().and_then(|text| pages(&text));
            book.pages =
                pages.with_context(|| format!("{}: it has more than pages; name another file", name()))?;
        }
        // A link stays one.
        book.path = Some(path.canonicalize().unwrap_or_else(|_| path.to_owned()));
        // That nothing can be written is known before anything is read.
        book.save()?;
        Ok(book)
    }

    pub(super) fn has(&self, page: &PageName) -> bool {
        self.pages.iter().any(|(finished, _)| finished == page)
    }

    /// Adds a page where it belongs, behind those that nobody asked for now.
    pub(super) fn put(&mut self, page: &PageName, text: &str) -> anyhow::Result<()> {
        let text = text.trim_end();
        if self.path.is_none() {
            let mark = if self.asked.len() > 1 { mark(page, text)? } else { String::new() };
            return output::model_text(&format!("{mark}{text}\n\n"));
        }
        let rank = |page: &PageName| self.asked.iter().position(|asked| asked == page);
        let place = self.pages.iter().position(|(other, _)| rank(other) > rank(page));
        self.pages.insert(place.unwrap_or(self.pages.len()), (page.clone(), text.to_owned()));
        self.save()
    }

    /// Writes a new file and gives it the name.
    fn save(&self) -> anyhow::Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        let name = || path.display().to_string();
        ensure!(path.file_name().is_some(), "{}: that is no file's name", name());
        let mut part = path.clone().into_os_string();
        part.push(".part");
        let mut file = File::create(&part).with_context(name)?;
        for (page, text) in &self.pages {
            write!(file, "{}{text}\n\n", mark(page, text)?).with_context(name)?;
        }
        file.sync_all().with_context(name)?;
        std::fs::rename(&part, path).with_context(name)
    }
}

/// The comment before a page. Its bytes are counted, so that no text is taken for one.
fn mark(page: &PageName, text: &str) -> anyhow::Result<String> {
    // Two dashes would end the comment.
    let file = serde_json::to_string(&page.file)?.replace("--", "-\\u002d");
    Ok(format!("<!-- page {} of {file}, {} bytes -->\n", page.number, text.len()))
}

/// What [`mark`] and the texts after it came from; `None` where something else stands there.
fn pages(mut rest: &str) -> Option<Vec<(PageName, String)>> {
    let mut pages = Vec::new();
    while !rest.is_empty() {
        let (number, after) = rest.strip_prefix("<!-- page ")?.split_once(" of ")?;
        let mut names = serde_json::Deserializer::from_str(after).into_iter::<String>();
        let file = names.next()?.ok()?;
        let (bytes, after) = after[names.byte_offset()..].strip_prefix(", ")?.split_once(" bytes -->\n")?;
        let bytes: usize = bytes.parse().ok()?;
        pages.push((PageName { file, number: number.parse().ok()? }, after.get(..bytes)?.to_owned()));
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
        book.put(&page("old.png", 1), "").unwrap();
        let mut book = Book::open(Some(&path), asked.clone()).unwrap();
        let forged = "# Two\n<!-- page 1 of \"b.pdf\", 3 bytes -->\nabc\n\n";
        for (page, text) in [(&asked[1], forged), (&asked[2], "三\n"), (&asked[0], "One")] {
            assert!(!book.has(page));
            book.put(page, text).unwrap();
            book = Book::open(Some(&path), asked.clone()).unwrap();
            assert!(book.has(page));
        }
        let order: Vec<_> =
            book.pages.iter().map(|(page, text)| (page.file.as_str(), text.as_str())).collect();
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
        book.put(&page("a.png", 1), "a\u{e9}").unwrap();
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
