//! Data that cannot be learned from: each is named with file and line, and nothing panics or hangs.
#![allow(clippy::unwrap_used, reason = "test code")]

use std::path::PathBuf;
use std::sync::OnceLock;

use glimmer::{Local, ModelFiles, ModelText, Overrides, Resolver};
use glimmer_train::Example;
use glimmer_train::data::{
    BatchLimits, Batches, Columns, DataError, DataFile, Dataset, Limits, Position, Renderer, Survey,
};
use proptest::prelude::*;

fn demo() -> &'static ModelText {
    static DEMO: OnceLock<ModelText> = OnceLock::new();
    DEMO.get_or_init(|| {
        let source = Local.resolve("demo".as_ref()).unwrap();
        ModelText::read(&ModelFiles::new(source, Overrides::default())).unwrap()
    })
}

fn renderer() -> Renderer<'static> {
    let limits = Limits::of_conversations(200, 200);
    Renderer::new(demo().chat().unwrap(), demo().tokenizer().unwrap(), limits).unwrap()
}

struct Written {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

fn written(name: &str, bytes: &[u8]) -> Written {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    Written { _folder: folder, path }
}

fn open(file: &Written) -> Result<Dataset<'static>, DataError> {
    Ok(Dataset::new(DataFile::open(&file.path, Columns::default())?, renderer()))
}

/// Everything that is wrong with a file, without its folder.
fn wrongs(name: &str, bytes: &[u8]) -> Vec<String> {
    let file = written(name, bytes);
    let folder = format!("{}/", file.path.parent().unwrap().display());
    let errors = match open(&file) {
        Err(error) => vec![error],
        Ok(data) => {
            Survey::of(&data, |_| {}).unwrap().refused.into_iter().map(|refused| refused.why).collect()
        }
    };
    let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
    for error in &errors {
        assert!(error.chars().count() < 300 && !error.contains(['\n', '\u{1b}']), "{error:?}");
    }
    errors.iter().map(|error| error.replace(&folder, "")).collect()
}

const GOOD: &str =
    r#"{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}"#;

#[test]
fn files_that_are_none() {
    let cases: [(&str, &[u8], &str); 10] = [
        ("a.jsonl", b"", "a.jsonl: the file is empty; each row should be"),
        ("a.jsonl", b" \n\n\t\n", "a.jsonl: there are no rows in it"),
        ("a.jsonl", b"\xff\xfe{\0", "a.jsonl: the file is UTF-16; save it as UTF-8"),
        ("a.jsonl", b"\x1f\x8b\x08", "a.jsonl: the file is compressed; unpack it first"),
        ("a.json", b"[\n {\"a\": 1},\n", "a.json: the file ends without the bracket that closes the list"),
        ("a.json", b"[]\n{\"a\": 1}", "a.json: line 2: something follows the end of the list"),
        ("a.json", b"[]", "a.json: there are no rows in it"),
        ("a.csv", b"prompt,response\n", "a.csv: there are no rows in it"),
        (
            "a.csv",
            b"question,answer\na,b\n",
            "a.csv, line 1: neither `messages`, `text` nor known columns, but question, answer",
        ),
        (
            "a.csv",
            b"prompt,response\na,b\n\"c,d\ne,f\n",
            "a.csv: the file ends without a quotation mark that closes the last field; what is open begins on line 3",
        ),
    ];
    for (name, bytes, expected) in cases {
        let [error] = wrongs(name, bytes).try_into().unwrap();
        assert!(error.starts_with(expected), "{error}");
    }
    let folder = tempfile::tempdir().unwrap();
    for path in [folder.path().join("none.jsonl"), folder.path().to_owned()] {
        assert!(matches!(DataFile::open(&path, Columns::default()), Err(DataError::File(_))));
    }
}

#[test]
fn rows_are_named_by_their_lines() {
    let row = |messages: &str| format!("{{\"messages\": [{messages}]}}");
    let user = r#"{"role": "user", "content": "a"}"#;
    let assistant = r#"{"role": "assistant", "content": "b"}"#;
    let cases = [
        (r#"{"messages": [{"role": "user", "#.to_owned(), "broken JSON at column "),
        ("{\"messages\": \"\u{1b}[2J\"}".to_owned(), "broken JSON at column 15"),
        (row(r#"{"role": "wizard", "content": "a"}"#), "not a conversation: message 0: unknown role"),
        (row(user), "no message is the assistant's: there is nothing to learn"),
        ("{\"messages\": []}".to_owned(), "no message is the assistant's"),
        (
            row(&format!("{user}, {{\"role\": \"system\", \"content\": \"s\"}}, {assistant}")),
            "message 1 (system): a system message comes first",
        ),
        (
            row(&format!("{{\"role\": \"observation\", \"content\": \"s\"}}, {assistant}")),
            "message 0 (observation): an observation follows",
        ),
        (
            row(&format!("{user}, {{\"role\": \"assistant\", \"content\": \"\"}}")),
            "message 1 (assistant): the assistant says nothing",
        ),
        (
            row(&format!("{{\"role\": \"user\", \"content\": \"a\", \"tools\": []}}, {assistant}")),
            "message 0 (user): `tools` belongs",
        ),
        (
            row(&format!("{{\"role\": \"user\", \"content\": 5}}, {assistant}")),
            "not a conversation: message 0: `content`",
        ),
        (r#"{"content": "a", "summary": ""}"#.to_owned(), "\"summary\" is empty; there is nothing to learn"),
        (
            r#"{"content": "a"}"#.to_owned(),
            "neither `messages`, `text` nor known columns, but content; name two",
        ),
        (
            r#"{"prompt": "a", "response": "b", "history": [["a"]]}"#.to_owned(),
            "history 0: a round is a pair of strings",
        ),
        (r#"{"prompt": {}, "response": "b"}"#.to_owned(), "\"prompt\" is a string"),
        ("5".to_owned(), "a row is a JSON object"),
        (
            row(&format!("{{\"role\": \"user\", \"content\": \"{}\"}}, {assistant}", "word ".repeat(2000))),
            "nothing is left to learn: the first 401 tokens hold no answer",
        ),
        (
            format!("{{\"text\": \"{}\"}}", "x".repeat(5 << 20)),
            "the row has more than 4194304 bytes; split it",
        ),
        ("[".repeat(100_000), "broken JSON"),
    ];
    for (bad, expected) in cases {
        let text = format!("\u{feff}{GOOD}\r\n\r\n{bad}\n{GOOD}\n");
        let [error] =
            wrongs("a.jsonl", text.as_bytes()).try_into().unwrap_or_else(|all| panic!("{expected}: {all:?}"));
        let place = "a.jsonl, line 3: ";
        assert!(error.starts_with(place), "{expected}: {error}");
        let why = error[place.len()..].trim_start_matches("not a conversation: ");
        assert!(why.starts_with(expected.trim_start_matches("not a conversation: ")), "{expected}: {error}");
    }
    let [error] = wrongs("a.jsonl", &[GOOD.as_bytes(), b"\n\"\xff\xfe\"\n"].concat()).try_into().unwrap();
    assert_eq!(error, "a.jsonl, line 2: byte 1 of the row is not UTF-8; save the file as UTF-8");
    let [error] = wrongs("a.json", format!("[\n{GOOD},\n{{\n  \"messages\":\n oops\n}}]").as_bytes())
        .try_into()
        .unwrap();
    assert!(error.starts_with("a.json, line 5: broken JSON at column "), "{error}");
    let errors = wrongs("a.csv", b"prompt,response\na,b\nc\n\"d\"x,e\nf,\n\"g\nh\",i,j\n");
    let lines: Vec<&str> = errors.iter().map(|error| &error[..13]).collect();
    assert_eq!(lines, ["a.csv, line 3", "a.csv, line 4", "a.csv, line 5", "a.csv, line 6"], "{errors:?}");
}

/// The examples of some batches.
fn walk(batches: &mut Batches<'_>, count: usize) -> Vec<Vec<Example>> {
    (0..count).map(|_| batches.next_batch().unwrap()).collect()
}

#[test]
fn batches_go_on_from_anywhere() {
    let rows: Vec<String> = (0..17)
        .map(|n| {
            if n % 5 == 3 {
                "{".to_owned()
            } else {
                GOOD.replace("\"a\"", &format!("\"{}\"", "word ".repeat(n)))
            }
        })
        .collect();
    let file = written("a.jsonl", rows.join("\n").as_bytes());
    let data = open(&file).unwrap();
    let limits = BatchLimits { examples: 3, tokens: 120 };
    for seed in [None, Some(1)] {
        let mut batches = Batches::new(&data, seed, limits, Position::default());
        let mut positions = Vec::new();
        let mut all = Vec::new();
        for _ in 0..25 {
            positions.push(batches.position());
            all.push(batches.next_batch().unwrap());
        }
        assert!(all.iter().all(|batch| batch.len() <= 3));
        assert!(all.iter().all(|b| b.len() == 1 || b.iter().map(|e| e.ids.len()).sum::<usize>() <= 120));
        assert!(positions.last().unwrap().epoch > 0);
        for (at, position) in positions.iter().enumerate() {
            let mut again = Batches::new(&data, seed, limits, *position);
            assert_eq!(walk(&mut again, all.len() - at), all[at..]);
        }
    }
    let file = written("a.jsonl", b"{\n{\n");
    let data = open(&file).unwrap();
    let error = Batches::new(&data, Some(1), limits, Position::default()).next_batch().unwrap_err();
    assert!(error.to_string().ends_with("no row can be learned from; --dry-run says why"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Any bytes under any name: an error with its place, or examples with something to learn.
    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200), name in 0usize..4) {
        wrongs(["a.jsonl", "a.json", "a.csv", "a.txt"][name], &bytes);
    }

    /// The same of bytes that look like data.
    #[test]
    fn any_pieces(pieces in prop::collection::vec(0usize..20, 0..40), name in 0usize..4) {
        const PIECES: [&str; 20] = [
            "{", "}", "[", "]", "\"", "\"messages\":", "\"role\":\"user\",", "\"role\":\"assistant\",", "\"content\":\"x\"",
            ",", "\n", "\r\n", "\\", "\u{feff}", "prompt", "response", "\"text\":", "5", " ", GOOD,
        ];
        let text: String = pieces.iter().map(|piece| PIECES[*piece]).collect();
        wrongs(["a.jsonl", "a.json", "a.csv", "a.txt"][name], text.as_bytes());
    }

    /// Rows survive being written in any of the layouts.
    #[test]
    fn every_layout_says_the_same(rows in prop::collection::vec(("[a-z,\"\n 你]{1,12}", "[a-z,\"\n]{1,12}"), 1..6)) {
        let objects: Vec<String> =
            rows.iter().map(|(q, a)| serde_json::json!({"prompt": q, "response": a}).to_string()).collect();
        let quote = |text: &String| format!("\"{}\"", text.replace('"', "\"\""));
        let table: Vec<String> = rows.iter().map(|(q, a)| format!("{},{}", quote(q), quote(a))).collect();
        let files = [
            written("a.jsonl", objects.join("\n").as_bytes()),
            written("a.json", format!("[{}]", objects.join(",\n")).as_bytes()),
            written("a.csv", format!("prompt,response\n{}\n", table.join("\n")).as_bytes()),
        ];
        let read = |file: &Written| {
            let data = DataFile::open(&file.path, Columns::default()).unwrap();
            (0..data.len()).map(|row| data.row(row).unwrap()).collect::<Vec<_>>()
        };
        let [lines, list, table] = files.each_ref().map(read);
        prop_assert_eq!(&lines, &list);
        prop_assert_eq!(&lines, &table);
    }
}
