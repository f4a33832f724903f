//! Fetching: pieces of files over a few connections, each going on where it was broken off, checked as they come.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use hyper::{Method, StatusCode};
use tokio::sync::Semaphore;
use tokio::task::{JoinSet, block_in_place};

use crate::api::{Api, Located};
use crate::digest::{self, Expected};
use crate::http::{Follow, Reply};
use crate::lock::Lock;
use crate::partial::Partial;
use crate::place::{Destination, Place};
use crate::url::Url;
use crate::{HubError, HubKind, Listing, RepoFile};

/// Bytes of a piece. Small enough that every connection has one of a model of 1.5 billion parameters, and that little is read
/// again for the digest; large enough that a request costs nothing beside it.
const PIECE: u64 = 16 << 20;

/// What is done, for whoever watches.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    /// Bytes that are there.
    pub(crate) done: AtomicU64,
    /// Bytes that came over the network.
    pub(crate) fetched: AtomicU64,
}

/// What fetches the files of one repository.
pub(crate) struct Transfer {
    pub(crate) api: Arc<Api>,
    pub(crate) listing: Listing,
    pub(crate) destination: Destination,
    /// One for each connection.
    pub(crate) connections: Semaphore,
    pub(crate) meter: Arc<Meter>,
}

/// Where a file comes from.
struct Source {
    /// The hub's address of it.
    url: Url,
    /// Where that leads, until it expires.
    direct: Mutex<Option<Url>>,
    path: String,
}

/// How one request for bytes ended.
enum Stretch {
    Done,
    /// The host sends whole files only.
    Whole,
}

impl Transfer {
    /// Fetches all of these, as far as they are not there.
    pub(crate) async fn fetch(self: &Arc<Self>, files: Vec<RepoFile>) -> Result<(), HubError> {
        let mut tasks = JoinSet::new();
        for file in files {
            let transfer = Arc::clone(self);
            tasks.spawn(async move { transfer.file(&file).await });
        }
        all(&mut tasks).await
    }

    /// One file, from the question where it is to its name in the end.
    async fn file(self: &Arc<Self>, file: &RepoFile) -> Result<(), HubError> {
        let located = {
            let _connection = self.connection().await;
            self.api.locate(&self.listing, file).await?
        };
        let place = self.destination.place(&self.listing, file, located.etag.as_deref())?;
        let _lock = match &place.lock {
            Some(path) => Some(Lock::acquire(path).await?),
            None => None,
        };
        let expected = Expected::of(file);
        if !self.is_there(&place, file, expected.as_ref())? {
            self.bytes(file, &place, located, expected.as_ref()).await?;
        }
        place.link()
    }

    /// Whether somebody else has fetched it meanwhile. The name of a blob says which bytes it has; other files are read.
    fn is_there(
        &self,
        place: &Place,
        file: &RepoFile,
        expected: Option<&Expected>,
    ) -> Result<bool, HubError> {
        if matches!(self.destination, Destination::Folder(_)) || !place.is_filled(file.size) {
            return Ok(false);
        }
        let is_same = match expected {
            Some(expected) if self.listing.hub == HubKind::ModelScope => block_in_place(|| {
                let open = std::fs::File::open(&place.whole);
                let found = open.and_then(|whole| digest::of_file(whole, expected, &|| true));
                found.map(|found| found == expected.text()).map_err(HubError::io(&place.whole))
            })?,
            _ => true,
        };
        if is_same {
            self.meter.done.fetch_add(file.size, Ordering::Relaxed);
        }
        Ok(is_same)
    }

    /// The bytes of a file. What was damaged on the way is fetched once more.
    async fn bytes(
        self: &Arc<Self>,
        file: &RepoFile,
        place: &Place,
        located: Located,
        expected: Option<&Expected>,
    ) -> Result<(), HubError> {
        let source = Arc::new(Source {
            url: located.url,
            direct: Mutex::new(located.direct),
            path: file.path.clone(),
        });
        let mut is_second = false;
        loop {
            let mut partial =
                self.pieces(Partial::open(&place.partial, file.size, PIECE)?, &source, expected).await?;
            if partial.0.bytes() < file.size {
                // The host sends whole files only: one piece, from wherever it is.
                partial.0.discard()?;
                let one = Partial::open(&place.partial, file.size, file.size)?;
                partial = self.pieces(one, &source, expected).await?;
            }
            let (partial, found) = partial;
            match (expected, found) {
                (Some(expected), found) if found.as_deref() != Some(expected.text()) => {
                    self.meter.done.fetch_sub(file.size, Ordering::Relaxed);
                    partial.discard()?;
                    if is_second {
                        return Err(HubError::Checksum {
                            path: file.path.clone(),
                            expected: expected.text().to_owned(),
                            found: found.unwrap_or_default(),
                        });
                    }
                    is_second = true;
                }
                _ => return partial.finish(&place.whole),
            }
        }
    }

    /// The missing pieces, and meanwhile the digest of those that are there. The file comes back with bytes missing when the
    /// host sends whole files only.
    async fn pieces(
        self: &Arc<Self>,
        partial: Partial,
        source: &Arc<Source>,
        expected: Option<&Expected>,
    ) -> Result<(Partial, Option<String>), HubError> {
        let before = partial.bytes();
        self.meter.done.fetch_add(before, Ordering::Relaxed);
        let partial = Arc::new(partial);
        let mut tasks = JoinSet::new();
        for piece in (0..partial.pieces()).filter(|piece| !partial.is_whole(*piece)) {
            let (transfer, partial, source) = (Arc::clone(self), Arc::clone(&partial), Arc::clone(source));
            tasks.spawn(async move { transfer.piece(&partial, piece, &source).await });
        }
        let mut digest = expected.map(Expected::start);
        let mut digested = 0;
        let mut is_whole_only = false;
        loop {
            while digested < partial.pieces() && partial.is_whole(digested) && !is_whole_only {
                if let Some(digest) = &mut digest {
                    block_in_place(|| partial.digest(digested, digest))?;
                }
                digested += 1;
            }
            match tasks.join_next().await {
                None => break,
                Some(Ok(Ok(Stretch::Done))) => {}
                Some(Ok(Ok(Stretch::Whole))) => {
                    is_whole_only = true;
                    tasks.shutdown().await;
                }
                Some(Ok(Err(error))) => return Err(error),
                Some(Err(error)) => resume(error),
            }
        }
        let Some(partial) = Arc::into_inner(partial) else {
            unreachable!("all tasks that had it have ended")
        };
        if is_whole_only {
            self.meter.done.fetch_sub(partial.bytes(), Ordering::Relaxed);
        }
        Ok((partial, digest.map(digest::Growing::text)))
    }

    /// One piece, however often its connection breaks. Bytes that arrive are a reason to go on.
    async fn piece(&self, partial: &Partial, piece: usize, source: &Source) -> Result<Stretch, HubError> {
        let _connection = self.connection().await;
        let client = &self.api.client;
        let mut failures = 0;
        loop {
            let (before, _) = partial.missing(piece);
            match self.stretch(partial, piece, source).await {
                Err(error) if error.is_transient() => {
                    if partial.missing(piece).0 > before {
                        failures = 0;
                    }
                    if failures >= client.patience.attempts {
                        return Err(error);
                    }
                    client.pause(failures, &error).await;
                    failures += 1;
                }
                result => return result,
            }
        }
    }

    /// One request for what is missing of a piece.
    async fn stretch(&self, partial: &Partial, piece: usize, source: &Source) -> Result<Stretch, HubError> {
        let (from, to) = partial.missing(piece);
        if from == to {
            return Ok(Stretch::Done);
        }
        let mut reply = self.ask(source, (from, to)).await?;
        // Bytes before the first that is missing, which a host sends that cannot begin in the middle.
        let mut skip = match reply.status {
            StatusCode::PARTIAL_CONTENT => {
                check_range(&reply, (from, to), partial.size(), &source.path)?;
                0
            }
            StatusCode::OK if partial.pieces() > 1 => return Ok(Stretch::Whole),
            StatusCode::OK => {
                let length =
                    reply.header("content-length").and_then(|length| length.trim().parse::<u64>().ok());
                if length.is_some_and(|length| length != partial.size()) {
                    return Err(HubError::Changed { path: source.path.clone() });
                }
                from
            }
            _ => return Err(reply.nonsense(format!("status {} for a part of a file", reply.status.as_u16()))),
        };
        if reply.is_encoded() {
            return Err(reply.nonsense("it compresses what was to come as it is".to_owned()));
        }
        while let Some(mut bytes) = reply.chunk().await? {
            let skipped = skip.min(bytes.len() as u64);
            skip -= skipped;
            let bytes = bytes.split_off(skipped as usize);
            let (from, to) = partial.missing(piece);
            if bytes.len() as u64 > to - from {
                return Err(reply.nonsense(format!("it sends more of {:.100} than it said", source.path)));
            }
            partial.write(piece, &bytes)?;
            self.meter.done.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            self.meter.fetched.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        }
        if partial.is_whole(piece) {
            return Ok(Stretch::Done);
        }
        let what = "the connection ended before the bytes that were promised".to_owned();
        Err(HubError::Network { host: reply.url.origin.authority(), what })
    }

    /// A reply with bytes, from where the hub's address led the last time, or from there again.
    async fn ask(&self, source: &Source, range: (u64, u64)) -> Result<Reply, HubError> {
        let direct = source.direct.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let url = direct.as_ref().unwrap_or(&source.url);
        let reply = self.api.client.send(&Method::GET, url, Some(range), Follow::Everywhere).await?;
        let mut known = source.direct.lock().unwrap_or_else(PoisonError::into_inner);
        if reply.status.is_success() {
            *known = Some(reply.url.clone()).filter(|url| *url != source.url);
            return Ok(reply);
        }
        *known = None;
        let error = reply.refusal("", self.api.token());
        match reply.status.as_u16() {
            // Addresses of stores expire; the hub gives another.
            400 | 401 | 403 | 404 | 410 if direct.is_some() => {
                Err(HubError::Network { host: url.origin.authority(), what: error.to_string() })
            }
            404 | 416 => Err(HubError::Changed { path: source.path.clone() }),
            _ => Err(error),
        }
    }

    async fn connection(&self) -> tokio::sync::SemaphorePermit<'_> {
        self.connections.acquire().await.unwrap_or_else(|_| unreachable!("it is never closed"))
    }
}

/// Holds a part of a file to what was asked for.
fn check_range(reply: &Reply, (from, to): (u64, u64), size: u64, path: &str) -> Result<(), HubError> {
    let said = reply.header("content-range").unwrap_or_default();
    let numbers = said.trim().strip_prefix("bytes ").and_then(|rest| {
        let (range, all) = rest.split_once('/')?;
        let (first, last) = range.split_once('-')?;
        Some((first.parse::<u64>().ok()?, last.parse::<u64>().ok()?, all))
    });
    match numbers {
        Some((_, _, all)) if all != "*" && all.parse() != Ok(size) => {
            Err(HubError::Changed { path: path.to_owned() })
        }
        Some((first, last, _)) if first == from && last < to => Ok(()),
        _ => Err(reply.nonsense(format!("asked for bytes {from} to {to}, it sends {said:.60}"))),
    }
}

/// Waits for all; the first failure ends the others.
async fn all(tasks: &mut JoinSet<Result<(), HubError>>) -> Result<(), HubError> {
    while let Some(ended) = tasks.join_next().await {
        match ended {
            Ok(result) => result?,
            Err(error) => resume(error),
        }
    }
    Ok(())
}

/// Carries a panic on.
pub(crate) fn resume(error: tokio::task::JoinError) {
    if let Ok(panic) = error.try_into_panic() {
        std::panic::resume_unwind(panic);
    }
}
