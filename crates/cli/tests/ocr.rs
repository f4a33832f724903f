//! `glimmer ocr`: pages in order, gone on with after a kill, in memory that does not grow.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that cannot go on has failed")]

mod support;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use support::seeing::seeing;
use support::{Ran, run};

const PAGES: usize = 20;

fn words<'a>(model: &'a Path, more: &[&'a str]) -> Vec<&'a str> {
    // One thread: a page takes long enough to be killed in.
    [&["ocr", "-m", model.to_str().unwrap(), "-n", "24", "-t", "1"], more].concat()
}

fn ocr(model: &Path, more: &[&str]) -> Ran {
    run(words(model, more).into_iter().map(Into::into))
}

/// A program that reads PDFs: this one with feature `pdf`, or that which GLIMMER_WITH_PDF names.
fn with_pdf() -> Option<PathBuf> {
    let own = cfg!(feature = "pdf").then(|| env!("CARGO_BIN_EXE_glimmer").into());
    let program = std::env::var_os("GLIMMER_WITH_PDF").map(PathBuf::from).or(own);
    if program.is_none() {
        println!("SKIPPED: no program with feature pdf (GLIMMER_WITH_PDF names one)");
    }
    program
}

/// What was printed, where it went well.
fn printed(ran: Ran) -> String {
    assert_eq!(ran.status, 0, "{}", ran.stderr);
    ran.stdout
}

fn start(program: &Path, model: &Path, more: &[&str]) -> Child {
    let mut command = Command::new(program);
    command.args(words(model, more)).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap()
}

/// A grey TIFF of as many pages, each with a bar of its own.
fn tiff(pages: usize, width: u32, height: u32) -> Vec<u8> {
    let mut bytes = b"II*\0".to_vec();
    for page in 0..pages {
        // Where the page's directory is: behind the head, or behind the directory before.
        bytes.extend((bytes.len() as u32 + 4 + width * height).to_le_bytes());
        let strip = bytes.len() as u32;
        let is_bar = |at: u32| at / width * pages as u32 / height == page as u32;
        bytes.extend(
            (0..width * height).map(|at| if is_bar(at) { (at % width * 5 % 200) as u8 } else { 255 }),
        );
        let size = [(256, width), (257, height), (278, height), (279, width * height)];
        let fields = [&size[..2], &[(258, 8), (259, 1), (262, 1), (273, strip)], &size[2..]].concat();
        bytes.extend((fields.len() as u16).to_le_bytes());
        for (tag, value) in fields {
            bytes.extend([(tag as u16).to_le_bytes(), 4_u16.to_le_bytes()].concat());
            bytes.extend([1_u32.to_le_bytes(), value.to_le_bytes()].concat());
        }
    }
    bytes.extend([0; 4]);
    bytes
}

/// Resident memory in KiB.
fn resident(child: &Child) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

/// How many pages a file has, all of them whole.
fn finished(path: &Path) -> usize {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let mut rest = text.as_str();
    let mut count = 0;
    while let Some((_, after)) = rest.split_once(", ") {
        // `24 bytes`, and where the text was cut off, after how many tokens.
        let (told, after) = after.split_once(" -->\n").unwrap();
        let (bytes, _) = told.split_once(" bytes").unwrap();
        rest = after[bytes.parse::<usize>().unwrap()..].strip_prefix("\n\n").unwrap();
        count += 1;
    }
    assert_eq!(rest, "");
    count
}

/// A document of [`PAGES`] pages: whole, killed twice on the way, and its memory between the fifth page and the last.
fn read(program: &Path, model: &Path, folder: &Path, document: &str) {
    let [whole, broken] = ["whole.md", "broken.md"].map(|name| folder.join(name));
    let document = folder.join(document);
    let document = document.to_str().unwrap();
    let of = |output: &'static str| folder.join(output).display().to_string();
    let (whole_name, broken_name) = (of("whole.md"), of("broken.md"));

    let mut child = start(program, model, &[document, "-o", &whole_name]);
    let mut memory = [None; 2];
    while child.try_wait().unwrap().is_none() {
        match finished(&whole) {
            5 => memory[0] = memory[0].max(resident(&child)),
            n if n > 15 => memory[1] = memory[1].max(resident(&child)),
            _ => {}
        }
        sleep(Duration::from_millis(2));
    }
    assert!(child.wait().unwrap().success());
    assert_eq!(finished(&whole), PAGES);
    let text = std::fs::read_to_string(&whole).unwrap();
    let places: Vec<_> =
        (1..=PAGES).map(|page| text.find(&format!("<!-- page {page} of ")).unwrap()).collect();
    assert!(places.is_sorted(), "in order: {places:?}");
    let texts: BTreeSet<&str> =
        text.split("<!-- page ").filter_map(|page| page.split_once('\n')).map(|(_, text)| text).collect();
    assert!(texts.len() > 2, "pages are not all the same: {texts:?}");
    println!("{document}: KiB after five pages and at the end: {memory:?}");
    if let [Some(before), Some(after)] = memory {
        assert!(after < before + (16 << 10), "{before} KiB after five pages, {after} KiB at the end");
    }

    for wanted in [3, 9] {
        let mut child = start(program, model, &[document, "-o", &broken_name]);
        let began = Instant::now();
        while finished(&broken) < wanted {
            assert!(child.try_wait().unwrap().is_none() && began.elapsed() < Duration::from_secs(120));
            sleep(Duration::from_millis(1));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!((wanted..PAGES).contains(&finished(&broken)));
    }
    let already = finished(&broken);
    let output = Command::new(program).args(words(model, &[document, "-o", &broken_name])).output();
    let Ran { status, stderr, .. } = output.unwrap().into();
    assert_eq!(status, 0, "{stderr}");
    assert!(stderr.contains(&format!("{already} pages are finished already")), "{stderr}");
    assert_eq!(stderr.matches(" tokens in ").count(), PAGES - already, "{stderr}");
    assert_eq!(std::fs::read_to_string(&broken).unwrap(), text);
}

#[test]
fn a_tiff_of_twenty_pages() {
    let model = tempfile::tempdir().unwrap();
    if !seeing(model.path(), "glm-ocr") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("pages.tiff"), tiff(PAGES, 1240, 1754)).unwrap();
    read(Path::new(env!("CARGO_BIN_EXE_glimmer")), model.path(), folder.path(), "pages.tiff");
}

#[test]
fn pages_by_the_models_own_prompts() {
    let model = tempfile::tempdir().unwrap();
    if !seeing(model.path(), "glm-ocr") {
        return;
    }
    let picture = support::root().join("crates/picture/tests/data/files/rgb.png");
    let picture = picture.to_str().unwrap();
    let text = printed(ocr(model.path(), &[picture, "-q"]));
    // As `run` has it when it is told to choose like that.
    for (flags, prompt) in [
        (&[][..], "Text Recognition:"),
        (&["--task", "table"], "Table Recognition:"),
        (&["--task", "formula"], "Formula Recognition:"),
    ] {
        let read = printed(ocr(model.path(), &[&[picture, "-q"], flags].concat()));
        let model = model.path().to_str().unwrap();
        let words = ["-q", "run", model, "-i", picture, prompt, "-n", "24", "-t", "1", "--temperature", "0"];
        let ran = run([&words[..], &["--repetition-penalty", "1.1"]].concat().into_iter().map(Into::into));
        assert_eq!(read.trim_end(), printed(ran).trim_end(), "{prompt}");
        assert!(prompt.starts_with("Text") == (read == text), "{prompt} is another question");
    }
    let two = printed(ocr(model.path(), &[picture, picture, "-q"]));
    assert_eq!(two.matches("<!-- page 1 of ").count(), 2, "{two}");
}

#[test]
fn what_cannot_be_read_is_said_and_the_rest_is_read() {
    let model = tempfile::tempdir().unwrap();
    if !seeing(model.path(), "glm-ocr") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name).display().to_string();
    let mut bytes = tiff(3, 60, 80);
    // The second page is compressed in a way that there is none of.
    let at = bytes.windows(4).enumerate().filter(|(_, window)| *window == [3, 1, 4, 0]).nth(1).unwrap().0;
    bytes[at + 8] = 77;
    std::fs::write(place("three.tiff"), bytes).unwrap();
    std::fs::write(place("notes.txt"), "no page").unwrap();
    std::fs::write(place("letter.md"), "Dear Sir").unwrap();
    let [three, notes, letter, out] = ["three.tiff", "notes.txt", "letter.md", "out.md"].map(place);

    let ran = ocr(model.path(), &[&three, "-o", &out, "-q"]);
    assert!(ran.status == 1 && ran.stderr.contains("warning: page 2 of "), "{}", ran.stderr);
    assert!(ran.stderr.contains("error: 1 of 3 pages could not be read"), "{}", ran.stderr);
    assert_eq!(finished(Path::new(&out)), 2);
    ocr(model.path(), &[&three, &notes]).fails_saying(&["notes.txt", "this is text"]);
    ocr(model.path(), &[&three, "-o", &letter]).fails_saying(&["letter.md", "name another file"]);
    assert_eq!(std::fs::read_to_string(letter).unwrap(), "Dear Sir");
    ocr(model.path(), &[&place("none.png")]).fails_saying(&["none.png", "no such file"]);
    run(["ocr", &three, "-m", "demo"].map(Into::into)).fails_saying(&["demo"]);
}

/// A PDF of A4 pages, each with a line of text and a bar of its own.
fn pdf(pages: usize) -> Vec<u8> {
    let kids: Vec<String> = (0..pages).map(|page| format!("{} 0 R", 4 + 2 * page)).collect();
    let mut objects = vec![
        "<</Type/Catalog/Pages 2 0 R>>".to_owned(),
        format!("<</Type/Pages/Count {pages}/Kids[{}]>>", kids.join(" ")),
        "<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>".to_owned(),
    ];
    for page in 0..pages {
        let (bar, number) = (30 * page + 20, page + 1);
        let content =
            format!("BT /F 60 Tf 72 700 Td (Page {number}) Tj ET 0.2 0.4 0.8 rg 40 {bar} 500 25 re f");
        let contents = 5 + 2 * page;
        objects.push(format!(
            "<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]/Resources<</Font<</F 3 0 R>>>>/Contents {contents} 0 R>>"
        ));
        objects.push(format!("<</Length {}>>stream\n{content}\nendstream", content.len()));
    }
    let mut file = "%PDF-1.4\n".to_owned();
    let mut places = vec!["0000000000 65535 f \n".to_owned()];
    for (index, object) in objects.iter().enumerate() {
        places.push(format!("{:010} 00000 n \n", file.len()));
        file.push_str(&format!("{} 0 obj\n{object}\nendobj\n", index + 1));
    }
    let (table, size) = (file.len(), places.len());
    let places = places.concat();
    file.push_str(&format!(
        "xref\n0 {size}\n{places}trailer\n<</Size {size}/Root 1 0 R>>\nstartxref\n{table}\n%%EOF\n"
    ));
    file.into_bytes()
}

#[test]
fn a_pdf_of_twenty_pages() {
    let (Some(program), model) = (with_pdf(), tempfile::tempdir().unwrap()) else { return };
    if !seeing(model.path(), "glm-ocr") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("pages.pdf"), pdf(PAGES)).unwrap();
    read(&program, model.path(), folder.path(), "pages.pdf");
    // What no page can be made of is said in a line.
    let whole = pdf(2);
    let mut wrong = vec![b"%PDF-1.4\n".to_vec(), whole[..whole.len() / 3].to_vec()];
    wrong.push(whole.iter().map(|byte| if *byte == b'/' { b'(' } else { *byte }).collect());
    for bytes in wrong {
        std::fs::write(folder.path().join("wrong.pdf"), bytes).unwrap();
        let file = folder.path().join("wrong.pdf");
        let output = Command::new(&program).args(words(model.path(), &[file.to_str().unwrap()])).output();
        let ran: Ran = output.unwrap().into();
        assert!(
            ran.status == 0 || ran.stderr.lines().last().unwrap().starts_with("error: "),
            "{}",
            ran.stderr
        );
        assert!(!ran.stderr.contains("panicked"), "{}", ran.stderr);
    }
}

#[test]
#[cfg(not(feature = "pdf"))]
fn without_a_reader_of_pdfs_it_says_how_to_get_one() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pages.pdf");
    std::fs::write(&file, pdf(1)).unwrap();
    ocr(folder.path(), &[file.to_str().unwrap()]).fails_saying(&["pages.pdf", "--features pdf", "pdftoppm"]);
}
