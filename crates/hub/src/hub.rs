//! A hub: from a repository's name to its files on this disk.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use crate::api::Api;
use crate::lock::Lock;
use crate::place::Destination;
use crate::select::{Selected, shards};
use crate::transfer::{Meter, Transfer};
use crate::{HubError, HubKind, HubOptions, Listing, RepoFile, RepoId, Select};

/// How often whoever watches is told, and asked whether to go on.
const TICK: Duration = Duration::from_millis(100);

/// A hub, with its cache.
#[derive(Clone)]
pub struct Hub {
    options: HubOptions,
    api: Arc<Api>,
}

/// What is wanted of a repository.
#[derive(Clone, Debug)]
pub struct Request {
    /// The repository.
    pub repo: RepoId,
    /// A branch, a tag or a commit; without it the hub's usual branch.
    pub revision: Option<String>,
    /// Which of its files.
    pub files: Select,
    /// A folder to complete, instead of the cache.
    pub into: Option<PathBuf>,
}

/// What is going to be fetched.
#[derive(Debug)]
pub struct Plan<'a> {
    /// The repository.
    pub listing: &'a Listing,
    /// Where its files will be found.
    pub directory: &'a Path,
    /// Files that are wanted.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
    /// The bytes that are not there yet.
    pub missing: u64,
    /// Whether nothing of the repository is there yet.
    pub is_first: bool,
}

/// How far it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Progress {
    /// Bytes that are there, of those that are wanted.
    pub done: u64,
    /// Bytes that came over the network this time.
    pub fetched: u64,
}

/// Whoever waits for files. All of it is called on the thread that waits.
pub trait Watch {
    /// What is going to be fetched, before anything is; whether to.
    fn begins(&self, _plan: &Plan<'_>) -> bool {
        true
    }

    /// How far it is, ten times a second.
    fn progress(&self, _progress: Progress) {}

    /// Whether to stop. What was fetched is kept.
    fn cancelled(&self) -> bool {
        false
    }
}

/// Nobody.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unwatched;

impl Watch for Unwatched {}

/// Files that are there.
#[derive(Clone, Debug)]
pub struct Pulled {
    /// The hub that they are from.
    pub hub: HubKind,
    /// The folder that they are in.
    pub directory: PathBuf,
    /// The model: that folder, or a GGUF in it.
    pub model: PathBuf,
    /// Their paths in it.
    pub files: Vec<String>,
    /// Their bytes.
    pub bytes: u64,
    /// The bytes that came over the network.
    pub fetched: u64,
}

impl Hub {
    /// A hub that is used as these options say. Nothing is asked of it yet.
    ///
    /// # Errors
    /// When an address or a token makes no sense.
    pub fn new(options: HubOptions) -> Result<Self, HubError> {
        let api = Arc::new(Api::new(&options)?);
        Ok(Hub { options, api })
    }

    /// Which hub it is.
    pub fn kind(&self) -> HubKind {
        self.options.kind
    }

    /// Whether nothing may be asked of the network.
    pub fn is_offline(&self) -> bool {
        self.options.offline
    }

    /// The files of a repository.
    ///
    /// # Errors
    /// When there is no such repository or revision, when it is not shown to us, when the hub cannot be reached.
    pub fn list(
        &self,
        repo: &RepoId,
        revision: Option<&str>,
        watch: &dyn Watch,
    ) -> Result<Listing, HubError> {
        Ok(fastest(&[(self, repo.clone())], revision, watch)?.1)
    }

    /// Brings the files of a repository, or those of them that are missing.
    ///
    /// # Errors
    /// As [`Hub::list`], and when bytes are damaged, when there is too little space, when it is stopped.
    pub fn pull(&self, request: &Request, watch: &dyn Watch) -> Result<Pulled, HubError> {
        if self.options.offline {
            return self.offline(request);
        }
        let listing = self.list(&request.repo, request.revision.as_deref(), watch)?;
        self.fetch(listing, request, watch)
    }

    /// As [`Hub::pull`], with a listing that was made before.
    ///
    /// # Errors
    /// As [`Hub::pull`].
    pub fn fetch(&self, listing: Listing, request: &Request, watch: &dyn Watch) -> Result<Pulled, HubError> {
        let before = listing.files.clone();
        let error = match self.fetch_listed(listing, request, watch) {
            Err(error @ (HubError::Changed { .. } | HubError::Checksum { .. })) => error,
            result => return result,
        };
        // Maybe somebody published while we fetched. What did not change is kept.
        let listing = self.list(&request.repo, request.revision.as_deref(), watch)?;
        if listing.files == before { Err(error) } else { self.fetch_listed(listing, request, watch) }
    }

    /// The files of a repository where they are all here, without asking the hub.
    pub fn cached(&self, request: &Request) -> Option<Pulled> {
        self.offline(request).ok()
    }

    fn fetch_listed(
        &self,
        listing: Listing,
        request: &Request,
        watch: &dyn Watch,
    ) -> Result<Pulled, HubError> {
        let destination = Destination::new(&self.options, &request.repo, request.into.as_deref());
        let selected = request.files.of(&listing)?;
        let pulled = self.pulled(&destination, &listing, &selected);
        let (missing, left) = missing(&destination, &listing, &selected)?;
        let plan = Plan {
            listing: &listing,
            directory: &pulled.directory,
            files: selected.files.len(),
            bytes: pulled.bytes,
            missing: left,
            is_first: !destination.exists(),
        };
        if left > 0 {
            self.check_space(&pulled.directory, left)?;
            if !watch.begins(&plan) {
                return Err(HubError::NotAccepted);
            }
        }
        destination.record(&listing)?;
        let meter = Arc::new(Meter::default());
        let there: u64 = pulled.bytes - missing.iter().map(|file| file.size).sum::<u64>();
        meter.done.store(there, Ordering::Relaxed);
        let connections = Semaphore::new(self.options.connections.max(1));
        let api = Arc::clone(&self.api);
        let transfer =
            Arc::new(Transfer { api, listing, destination, connections, meter: Arc::clone(&meter) });
        let tell = || {
            watch.progress(Progress {
                done: meter.done.load(Ordering::Relaxed),
                fetched: meter.fetched.load(Ordering::Relaxed),
            });
        };
        run(watch, &tell, async {
            let _lock = match &transfer.destination {
                Destination::Folder(folder) => Some(Lock::acquire(&folder.lock()).await?),
                _ => None,
            };
            transfer.fetch(missing).await?;
            if let Destination::Folder(folder) = &transfer.destination {
                // Held until here; whoever waits for it looks whether it is still there.
                std::fs::remove_file(folder.lock()).map_err(HubError::io(&folder.lock()))?;
            }
            Ok(())
        })?;
        Ok(Pulled { fetched: meter.fetched.load(Ordering::Relaxed), ..pulled })
    }

    fn offline(&self, request: &Request) -> Result<Pulled, HubError> {
        let destination = Destination::new(&self.options, &request.repo, request.into.as_deref());
        let revision = request.revision.as_deref().unwrap_or(self.kind().default_revision());
        let absent =
            |missing: &str| HubError::Offline { repo: request.repo.clone(), missing: missing.to_owned() };
        let listing =
            destination.listing(&request.repo, revision).ok_or_else(|| absent("its list of files"))?;
        let selected = request.files.of(&listing)?;
        for file in &selected.files {
            if !destination.has(&listing, file)? {
                return Err(absent(&file.path));
            }
        }
        let pulled = self.pulled(&destination, &listing, &selected);
        match missing_shard(&pulled) {
            Some(shard) => Err(absent(&shard)),
            None => Ok(pulled),
        }
    }

    fn pulled(&self, destination: &Destination, listing: &Listing, selected: &Selected<'_>) -> Pulled {
        let directory = destination.directory(listing);
        let model = selected.gguf.map_or_else(|| directory.clone(), |gguf| directory.join(&gguf.path));
        let files = selected.files.iter();
        Pulled {
            hub: self.kind(),
            model,
            files: files.clone().map(|file| file.path.clone()).collect(),
            bytes: files.map(|file: &&RepoFile| file.size).sum(),
            directory,
            fetched: 0,
        }
    }

    /// Whether so many bytes fit where a folder is or will be.
    fn check_space(&self, directory: &Path, needed: u64) -> Result<(), HubError> {
        let there = directory.ancestors().find(|path| path.exists()).unwrap_or(Path::new("."));
        // Where a file system does not tell, writing will.
        let free = fs4::available_space(there).unwrap_or(u64::MAX);
        if needed <= free {
            Ok(())
        } else {
            Err(HubError::NoSpace { directory: there.to_owned(), needed, free })
        }
    }
}

/// The files to look after, and the bytes that are still to come.
fn missing(
    destination: &Destination,
    listing: &Listing,
    selected: &Selected<'_>,
) -> Result<(Vec<RepoFile>, u64), HubError> {
    let (mut missing, mut left) = (Vec::new(), 0);
    for file in &selected.files {
        let is_there = destination.has(listing, file)?;
        // What ModelScope has under a name may change; its files are read again.
        if !is_there || matches!(destination, Destination::ModelScope(_)) {
            missing.push((*file).clone());
        }
        if !is_there {
            left += file.size.saturating_sub(destination.begun(listing, file));
        }
    }
    Ok((missing, left))
}

/// A part of the weights that the index beside them names and that is not there. Where nothing else lists what there should be,
/// this tells a repository that was broken off.
fn missing_shard(pulled: &Pulled) -> Option<String> {
    if pulled.model != pulled.directory {
        return None;
    }
    let is_safe = pulled.files.iter().any(|file| file.ends_with(".safetensors"));
    let index = if is_safe { "model.safetensors.index.json" } else { "pytorch_model.bin.index.json" };
    let text = std::fs::read_to_string(pulled.directory.join(index)).unwrap_or_default();
    shards(&text).into_iter().find(|shard| !pulled.directory.join(shard).is_file())
}

/// Asks several hubs for a repository, each by the name that it has there, and returns the number of the first that lists it,
/// with its listing.
///
/// # Errors
/// When none does: what the first one said, or the first of those that were reached.
pub fn fastest(
    candidates: &[(&Hub, RepoId)],
    revision: Option<&str>,
    watch: &dyn Watch,
) -> Result<(usize, Listing), HubError> {
    run(watch, &|| {}, async {
        let mut tasks = JoinSet::new();
        for (number, (hub, repo)) in candidates.iter().enumerate() {
            let (api, repo) = (Arc::clone(&hub.api), repo.clone());
            let revision = revision.unwrap_or(hub.kind().default_revision()).to_owned();
            tasks.spawn(async move { (number, api.list(&repo, &revision).await) });
        }
        let mut failures = Vec::new();
        while let Some(ended) = tasks.join_next().await {
            match ended {
                Ok((number, Ok(listing))) => return Ok((number, listing)),
                Ok((number, Err(error))) => failures.push((number, error)),
                Err(error) => crate::transfer::resume(error),
            }
        }
        failures.sort_by_key(|(number, error)| (error.is_unreachable(), *number));
        let first = failures.into_iter().next().map(|(_, error)| error);
        Err(first.unwrap_or_else(|| HubError::Network {
            host: "no hub".to_owned(),
            what: "none was named".to_owned(),
        }))
    })
}

/// Does something over the network on a few threads, and meanwhile asks whether to go on.
fn run<T>(
    watch: &dyn Watch,
    tell: &dyn Fn(),
    work: impl Future<Output = Result<T, HubError>>,
) -> Result<T, HubError> {
    let threads = std::thread::available_parallelism().map_or(2, |threads| threads.get().clamp(2, 4));
    let runtime = Builder::new_multi_thread().worker_threads(threads).enable_io().enable_time().build();
    let runtime = runtime.map_err(HubError::io(Path::new("threads")))?;
    let result = runtime.block_on(async {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                result = &mut work => return result,
                _ = tick.tick() => {
                    if watch.cancelled() {
                        return Err(HubError::Cancelled);
                    }
                    tell();
                }
            }
        }
    });
    tell();
    // A name that is being looked up cannot be broken off.
    runtime.shutdown_background();
    result
}
