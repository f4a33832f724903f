//! A stand-in of Hugging Face and ModelScope on this machine: one address for both hubs, another for the store that large
//! files are redirected to. It does what they do, and what goes wrong with them when it is told to.
#![allow(dead_code, unreachable_pub, missing_docs, reason = "each user has its part of it")]

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;
use sha1::{Digest, Sha1};
use sha2::Sha256;

/// Files of this size are large: they lie in the store.
pub const LARGE: usize = 1000;

/// Both hubs and their store.
#[derive(Clone)]
pub struct StandIn {
    /// The hubs' address.
    pub endpoint: String,
    /// The store's.
    pub store: String,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    repos: Mutex<BTreeMap<String, Repo>>,
    moved: Mutex<BTreeMap<String, String>>,
    faults: Mutex<Vec<Fault>>,
    seen: Mutex<Vec<Seen>>,
    /// Answers that are being sent: they are seen when they have ended.
    sending: AtomicU64,
    /// Part of every link to the store; links with another have expired.
    signature: AtomicU64,
    /// Bytes a second, of each connection; 0 is no limit.
    pace: AtomicU64,
    /// Files of one page of a tree.
    page: AtomicU64,
    store: Mutex<String>,
}

/// A file, with the names that hubs give to its bytes.
#[derive(Clone)]
pub struct File {
    pub bytes: Arc<Vec<u8>>,
    pub sha256: String,
    pub git: String,
}

/// A repository.
#[derive(Clone, Default)]
pub struct Repo {
    pub files: BTreeMap<String, File>,
    pub gated: bool,
    pub licence: String,
    /// The token that is asked for.
    pub token: Option<String>,
    /// Names that are listed and lead nowhere.
    pub hostile: Vec<String>,
    /// The size of a file of weights that is listed and not there.
    pub huge: Option<u64>,
}

/// What goes wrong.
#[derive(Clone, Debug)]
pub enum Wrong {
    /// This status, with these lines of header.
    Status(u16, &'static str),
    /// The connection ends after so many bytes of the body.
    Cut(usize),
    /// A byte of the body is another.
    Corrupt,
    /// Nothing comes after so many bytes of the body.
    Stall(usize),
    /// The reply begins only after so long.
    Late(Duration),
    /// Ranges are ignored.
    Whole,
    /// More bytes than were said.
    More,
    /// A redirect to there.
    Redirect(String),
    /// The connection ends at once.
    Hang,
    /// The repository gets other files, and the request is answered then.
    Publish(String, Repo),
}

/// Something that goes wrong so many times, with requests whose address has a word.
#[derive(Clone, Debug)]
pub struct Fault {
    pub word: &'static str,
    pub times: usize,
    pub wrong: Wrong,
}

/// A request that was made.
#[derive(Clone, Debug)]
pub struct Seen {
    pub in_store: bool,
    pub method: String,
    pub target: String,
    pub range: Option<(u64, u64)>,
    pub authorization: Option<String>,
    pub status: u16,
    pub sent: u64,
}

struct Asked {
    in_store: bool,
    method: String,
    target: String,
    headers: BTreeMap<String, String>,
}

struct Answer {
    status: u16,
    headers: Vec<String>,
    body: Arc<Vec<u8>>,
    from: usize,
    to: usize,
}

impl std::fmt::Debug for Repo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.files.keys()).finish()
    }
}

impl File {
    pub fn new(bytes: Vec<u8>) -> Self {
        File { sha256: sha256(&bytes), git: git_name(&bytes), bytes: Arc::new(bytes) }
    }

    pub fn is_large(&self) -> bool {
        self.bytes.len() >= LARGE
    }
}

impl Repo {
    pub fn new(files: &[(&str, &[u8])]) -> Self {
        let files = files.iter().map(|(path, bytes)| ((*path).to_owned(), File::new(bytes.to_vec())));
        Repo { files: files.collect(), licence: "mit".to_owned(), ..Repo::default() }
    }

    /// Its commit: it says what the files are.
    pub fn commit(&self) -> String {
        let mut digest = Sha1::new();
        for (path, file) in &self.files {
            digest.update(path);
            digest.update(&file.sha256);
        }
        hex(&digest.finalize())
    }
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// The name that git gives to bytes.
pub fn git_name(bytes: &[u8]) -> String {
    let mut digest = Sha1::new_with_prefix(format!("blob {}\0", bytes.len()));
    digest.update(bytes);
    hex(&digest.finalize())
}

/// Bytes without order, always the same.
pub fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        // xorshift64*
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        bytes.extend_from_slice(&state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

impl StandIn {
    /// Listens on two free ports of this machine.
    pub fn start() -> io::Result<Self> {
        let state = Arc::new(State::default());
        state.page.store(1000, Ordering::Relaxed);
        let listen = |in_store: bool| -> io::Result<String> {
            let listener = TcpListener::bind("127.0.0.1:0")?;
            let address = format!("http://{}", listener.local_addr()?);
            let state = Arc::clone(&state);
            std::thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let state = Arc::clone(&state);
                    // A client that goes away is its own affair.
                    std::thread::spawn(move || drop(serve(&state, stream, in_store)));
                }
            });
            Ok(address)
        };
        let (endpoint, store) = (listen(false)?, listen(true)?);
        state.store.lock().expect("no holder panics").clone_from(&store);
        Ok(StandIn { endpoint, store, state })
    }

    pub fn publish(&self, id: &str, repo: Repo) {
        self.state.repos.lock().expect("no holder panics").insert(id.to_owned(), repo);
    }

    pub fn rename(&self, old: &str, new: &str) {
        self.state.moved.lock().expect("no holder panics").insert(old.to_owned(), new.to_owned());
    }

    pub fn goes_wrong(&self, word: &'static str, times: usize, wrong: Wrong) {
        self.state.faults.lock().expect("no holder panics").push(Fault { word, times, wrong });
    }

    /// All links to the store that were given expire.
    pub fn expire(&self) {
        self.state.signature.fetch_add(1, Ordering::Relaxed);
    }

    pub fn pace(&self, bytes: u64) {
        self.state.pace.store(bytes, Ordering::Relaxed);
    }

    pub fn pages_of(&self, files: u64) {
        self.state.page.store(files, Ordering::Relaxed);
    }

    /// The requests since this was asked last. Whoever has an answer's last byte may ask before the answer's thread has noted
    /// it, which it has a moment for.
    pub fn seen(&self) -> Vec<Seen> {
        for _ in 0..50 {
            if self.state.sending.load(Ordering::SeqCst) == 0 {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        std::mem::take(&mut self.state.seen.lock().expect("no holder panics"))
    }
}

fn serve(state: &State, stream: TcpStream, in_store: bool) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut writer = stream;
    let store = state.store.lock().expect("no holder panics").clone();
    while let Some(asked) = read(&mut reader, in_store, &store)? {
        let wrong = take_fault(state, &asked);
        match &wrong {
            Some(Wrong::Hang) => return Ok(()),
            Some(Wrong::Late(time)) => std::thread::sleep(*time),
            Some(Wrong::Publish(id, repo)) => {
                state.repos.lock().expect("no holder panics").insert(id.clone(), repo.clone());
            }
            _ => {}
        }
        let answer = match &wrong {
            Some(Wrong::Status(status, lines)) => refusal(*status, lines),
            Some(Wrong::Redirect(to)) => refusal(302, &format!("Location: {to}\r\n")),
            _ => answer(state, &asked, matches!(wrong, Some(Wrong::Whole))),
        };
        let sent = AtomicU64::new(0);
        state.sending.fetch_add(1, Ordering::SeqCst);
        let result = send(state, &mut writer, &asked, &answer, wrong.as_ref(), &sent);
        let mut range = None;
        if let Some(text) = asked.headers.get("range") {
            let text = text.trim_start_matches("bytes=");
            let (from, to) = text.split_once('-').unwrap_or((text, ""));
            range = Some((from.parse().unwrap_or(0), to.parse().unwrap_or(u64::MAX)));
        }
        state.seen.lock().expect("no holder panics").push(Seen {
            in_store,
            method: asked.method.clone(),
            target: asked.target.clone(),
            range,
            authorization: asked.headers.get("authorization").cloned(),
            status: answer.status,
            sent: sent.into_inner(),
        });
        state.sending.fetch_sub(1, Ordering::SeqCst);
        if !result? {
            return Ok(());
        }
    }
    Ok(())
}

fn read(reader: &mut impl BufRead, in_store: bool, store: &str) -> io::Result<Option<Asked>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    // As a proxy it is asked for whole addresses.
    let in_store = in_store || !store.is_empty() && target.starts_with(store);
    let target = match target.strip_prefix("http://") {
        Some(rest) => rest.find('/').map_or("/".to_owned(), |at| rest[at..].to_owned()),
        None => target,
    };
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        match line.trim_end().split_once(':') {
            Some((name, value)) => headers.insert(name.to_ascii_lowercase(), value.trim().to_owned()),
            None => return Ok(Some(Asked { in_store, method, target, headers })),
        };
    }
}

fn take_fault(state: &State, asked: &Asked) -> Option<Wrong> {
    let mut faults = state.faults.lock().expect("no holder panics");
    let place = if asked.in_store { "store" } else { "hub" };
    let line = format!("{place} {} {}", asked.method, asked.target);
    let fault = faults.iter_mut().find(|fault| fault.times > 0 && line.contains(fault.word))?;
    fault.times -= 1;
    Some(fault.wrong.clone())
}

/// Writes an answer, and says whether the connection may be used again.
fn send(
    state: &State,
    out: &mut TcpStream,
    asked: &Asked,
    answer: &Answer,
    wrong: Option<&Wrong>,
    sent: &AtomicU64,
) -> io::Result<bool> {
    let mut body = Cow::Borrowed(&answer.body[answer.from..answer.to]);
    let length = body.len();
    match wrong {
        Some(Wrong::Corrupt) if length > 0 => body.to_mut()[length / 2] ^= 1,
        Some(Wrong::More) => body.to_mut().extend_from_slice(b"more"),
        _ => {}
    }
    let said = match wrong {
        Some(Wrong::More) => "Transfer-Encoding: chunked\r\n".to_owned(),
        _ => format!("Content-Length: {length}\r\n"),
    };
    let head = format!("HTTP/1.1 {} X\r\n{said}{}\r\n", answer.status, answer.headers.concat());
    out.write_all(head.as_bytes())?;
    if asked.method == "HEAD" {
        return Ok(true);
    }
    if let Some(Wrong::More) = wrong {
        write!(out, "{:x}\r\n", body.len())?;
        out.write_all(&body)?;
        out.write_all(b"\r\n0\r\n\r\n")?;
        return Ok(true);
    }
    let until = match wrong {
        Some(Wrong::Cut(bytes) | Wrong::Stall(bytes)) => (*bytes).min(length),
        _ => length,
    };
    let pace = state.pace.load(Ordering::Relaxed);
    for part in body[..until].chunks(64 << 10) {
        out.write_all(part)?;
        sent.fetch_add(part.len() as u64, Ordering::Relaxed);
        if pace > 0 {
            std::thread::sleep(Duration::from_secs_f64(part.len() as f64 / pace as f64));
        }
    }
    match wrong {
        Some(Wrong::Stall(_)) => {
            out.flush()?;
            std::thread::sleep(Duration::from_secs(20));
            Ok(false)
        }
        Some(Wrong::Cut(_)) => Ok(false),
        _ => Ok(true),
    }
}

fn refusal(status: u16, lines: &str) -> Answer {
    Answer { status, headers: vec![lines.to_owned()], body: Arc::default(), from: 0, to: 0 }
}

fn json_of(value: &serde_json::Value, lines: &str) -> Answer {
    let body = value.to_string().into_bytes();
    let headers = vec!["Content-Type: application/json\r\n".to_owned(), lines.to_owned()];
    Answer { status: 200, headers, from: 0, to: body.len(), body: Arc::new(body) }
}

/// Bytes, or the range of them that was asked for.
fn bytes_of(asked: &Asked, body: &Arc<Vec<u8>>, lines: &str, is_whole: bool) -> Answer {
    let all = body.len();
    let mut answer =
        Answer { status: 200, headers: vec![lines.to_owned()], body: Arc::clone(body), from: 0, to: all };
    let range = asked.headers.get("range").and_then(|range| range.strip_prefix("bytes=")?.split_once('-'));
    let Some((from, to)) = range.filter(|_| !is_whole) else { return answer };
    let from: usize = from.parse().unwrap_or(0);
    let to = to.parse::<usize>().map_or(all, |last| (last + 1).min(all));
    if from >= all {
        return refusal(416, &format!("Content-Range: bytes */{all}\r\n"));
    }
    answer.headers.push(format!("Content-Range: bytes {from}-{}/{all}\r\n", to - 1));
    Answer { status: 206, from, to, ..answer }
}

fn answer(state: &State, asked: &Asked, is_whole: bool) -> Answer {
    let (path, query) = asked.target.split_once('?').unwrap_or((&asked.target, ""));
    if asked.in_store {
        return in_store(state, asked, path, query, is_whole);
    }
    let parts: Vec<String> = path.trim_start_matches('/').split('/').map(unescaped).collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    match parts.as_slice() {
        ["api", "v1", "models", owner, name, rest @ ..] => {
            modelscope(state, asked, &format!("{owner}/{name}"), rest, query, is_whole)
        }
        ["api", "models", owner, name, rest @ ..] => {
            huggingface_api(state, asked, &format!("{owner}/{name}"), rest, query)
        }
        [owner, name, "resolve", revision, file @ ..] => {
            resolve(state, asked, &format!("{owner}/{name}"), revision, &file.join("/"), is_whole)
        }
        _ => refusal(404, ""),
    }
}

fn unescaped(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let hex = after.get(..2).filter(|_| byte == b'%').and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(if byte == b'+' { b' ' } else { byte });
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn parameter(query: &str, name: &str) -> Option<String> {
    query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=')).map(unescaped)
}

fn in_store(state: &State, asked: &Asked, path: &str, query: &str, is_whole: bool) -> Answer {
    let signature = state.signature.load(Ordering::Relaxed).to_string();
    if parameter(query, "Signature") != Some(signature) {
        return refusal(403, "");
    }
    let wanted = path.trim_start_matches('/');
    let repos = state.repos.lock().expect("no holder panics");
    let found = repos.values().flat_map(|repo| repo.files.values()).find(|file| file.sha256 == wanted);
    let found = found.map(|file| Arc::clone(&file.bytes));
    drop(repos);
    match found {
        // A store has names of its own for versions.
        Some(bytes) => bytes_of(asked, &bytes, "ETag: \"of-the-store\"\r\n", is_whole),
        None => refusal(404, ""),
    }
}

/// The repository, or why it is not shown.
fn shown(state: &State, asked: &Asked, id: &str) -> Result<Repo, Answer> {
    let repos = state.repos.lock().expect("no holder panics");
    let repo = repos.get(id).ok_or_else(|| {
        refusal(404, "X-Error-Code: RepoNotFound\r\nX-Error-Message: Repository not found\r\n")
    })?;
    if let Some(token) = &repo.token {
        let shown = asked.headers.get("authorization");
        match shown.and_then(|value| value.strip_prefix("Bearer ")) {
            Some(found) if found == token => {}
            Some(_) => {
                return Err(refusal(401, "X-Error-Message: Invalid credentials in Authorization header\r\n"));
            }
            None => return Err(refusal(401, "X-Error-Code: RepoNotFound\r\n")),
        }
    }
    if repo.gated {
        return Err(refusal(
            403,
            "X-Error-Code: GatedRepo\r\nX-Error-Message: Access to model is restricted\r\n",
        ));
    }
    Ok(repo.clone())
}

fn huggingface_api(state: &State, asked: &Asked, id: &str, rest: &[&str], query: &str) -> Answer {
    if let Some(new) = state.moved.lock().expect("no holder panics").get(id) {
        let target = asked.target.replacen(id, new, 1);
        return refusal(307, &format!("Location: {target}\r\n"));
    }
    let repo = match shown(state, asked, id) {
        Ok(repo) => repo,
        Err(answer) => return answer,
    };
    let commit = repo.commit();
    let is_known = |revision: &str| revision == "main" || revision == commit;
    match rest {
        [] => json_of(&info(id, &repo), ""),
        ["revision", revision] if is_known(revision) => json_of(&info(id, &repo), ""),
        ["tree", revision] | ["tree", revision, ""] if is_known(revision) => {
            let page = state.page.load(Ordering::Relaxed) as usize;
            let from: usize = parameter(query, "cursor").and_then(|cursor| cursor.parse().ok()).unwrap_or(0);
            let all = tree(&repo);
            let mut lines = String::new();
            if from + page < all.len() {
                // The hub names itself, not the mirror that was asked.
                let next = format!(
                    "https://huggingface.co/api/models/{id}/tree/{revision}?recursive=true&cursor={}",
                    from + page
                );
                lines = format!("Link: <{next}>; rel=\"next\"\r\n");
            }
            let entries: Vec<_> = all.into_iter().skip(from).take(page).collect();
            json_of(&json!(entries), &lines)
        }
        _ => refusal(404, "X-Error-Code: RevisionNotFound\r\n"),
    }
}

fn info(id: &str, repo: &Repo) -> serde_json::Value {
    let siblings: Vec<_> = repo.files.keys().map(|path| json!({ "rfilename": path })).collect();
    json!({
        "id": id, "modelId": id, "sha": repo.commit(), "private": false, "gated": false, "tags": [],
        "cardData": { "license": repo.licence }, "siblings": siblings,
    })
}

fn tree(repo: &Repo) -> Vec<serde_json::Value> {
    let entry = |path: &str, file: &File| {
        let size = file.bytes.len();
        let mut entry = json!({ "type": "file", "oid": file.git, "size": size, "path": path });
        if file.is_large() {
            entry["oid"] = json!(git_name(b"a pointer"));
            entry["lfs"] = json!({ "oid": file.sha256, "size": size, "pointerSize": 134 });
        }
        entry
    };
    let hostile =
        repo.hostile.iter().map(|path| json!({ "type": "file", "oid": "0", "size": 1, "path": path }));
    let folder = json!({ "type": "directory", "oid": "0", "size": 0, "path": "a folder" });
    let huge =
        repo.huge.map(|size| json!({ "type": "file", "oid": "0", "size": size, "path": "huge.safetensors" }));
    repo.files
        .iter()
        .map(|(path, file)| entry(path, file))
        .chain(hostile)
        .chain(huge)
        .chain([folder])
        .collect()
}

fn resolve(state: &State, asked: &Asked, id: &str, revision: &str, path: &str, is_whole: bool) -> Answer {
    if let Some(new) = state.moved.lock().expect("no holder panics").get(id) {
        let target = asked.target.replacen(id, new, 1);
        return refusal(307, &format!("Location: {target}\r\n"));
    }
    let repo = match shown(state, asked, id) {
        Ok(repo) => repo,
        Err(answer) => return answer,
    };
    let commit = repo.commit();
    if revision != "main" && revision != commit {
        return refusal(404, "X-Error-Code: RevisionNotFound\r\n");
    }
    let Some(file) = repo.files.get(path) else {
        return refusal(404, &format!("X-Error-Code: EntryNotFound\r\nX-Repo-Commit: {commit}\r\n"));
    };
    if !file.is_large() {
        // A name that a proxy on the way has made weak.
        let lines = format!("X-Repo-Commit: {commit}\r\nETag: W/\"{}\"\r\n", file.git);
        return bytes_of(asked, &file.bytes, &lines, is_whole);
    }
    let (sha256, size) = (&file.sha256, file.bytes.len());
    let link = link(state, sha256);
    refusal(
        302,
        &format!(
            "X-Repo-Commit: {commit}\r\nX-Linked-Etag: \"{sha256}\"\r\nX-Linked-Size: {size}\r\nLocation: {link}\r\n"
        ),
    )
}

fn link(state: &State, sha256: &str) -> String {
    let store = state.store.lock().expect("no holder panics").clone();
    format!("{store}/{sha256}?Signature={}", state.signature.load(Ordering::Relaxed))
}

fn modelscope(state: &State, asked: &Asked, id: &str, rest: &[&str], query: &str, is_whole: bool) -> Answer {
    let repo = match shown(state, asked, id) {
        Ok(repo) => repo,
        Err(answer) => return answer,
    };
    let wrapped = |data: serde_json::Value| {
        json_of(&json!({ "Code": 200, "Data": data, "Message": "", "Success": true }), "")
    };
    match rest {
        [] => wrapped(json!({ "Name": id, "License": repo.licence, "Id": 1, "Path": id })),
        ["revisions"] => wrapped(json!({ "RevisionMap": {
            "Branches": [{ "Revision": "master", "CreatedAt": 1 }], "Tags": [],
        }})),
        ["repo", "files"] => {
            let commit = repo.commit();
            let entry = |(path, file): (&String, &File)| {
                let (name, size) = (path.rsplit('/').next(), file.bytes.len());
                json!({ "Path": path, "Name": name, "Type": "blob", "Size": size, "Sha256": file.sha256, "Revision": commit })
            };
            let mut files: Vec<_> = repo.files.iter().map(entry).collect();
            files.extend(repo.hostile.iter().map(|path| json!({ "Path": path, "Type": "blob", "Size": 1 })));
            files.extend(
                repo.huge.map(|size| json!({ "Path": "huge.safetensors", "Type": "blob", "Size": size })),
            );
            files.push(json!({ "Path": "a folder", "Name": "a folder", "Type": "tree", "Size": 0 }));
            wrapped(json!({ "Files": files }))
        }
        ["repo"] => match parameter(query, "FilePath").and_then(|path| repo.files.get(&path).cloned()) {
            Some(file) if file.is_large() => {
                refusal(302, &format!("Location: {}\r\n", link(state, &file.sha256)))
            }
            Some(file) => bytes_of(asked, &file.bytes, "", is_whole),
            None => refusal(404, ""),
        },
        _ => refusal(404, ""),
    }
}
