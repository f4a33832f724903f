//! What the hubs' caches hold: how large, what was broken off, whether it is still right.

pub(crate) mod huggingface;
pub(crate) mod modelscope;
mod shared;

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::digest::{self, Expected};
use crate::{HubError, HubKind, HubOptions, Listing, RepoFile};

/// The cache of a hub.
#[derive(Clone, Debug)]
pub struct Cache {
    hub: HubKind,
    root: PathBuf,
}

/// A repository in a cache.
#[derive(Clone, Debug)]
pub struct CachedRepo {
    /// Whose cache it is in.
    pub hub: HubKind,
    /// Its name, `owner/name`.
    pub id: String,
    /// Its folder.
    pub path: PathBuf,
    /// Bytes on this disk, what was broken off among them. What Hugging Face's tool shares between repositories counts for
    /// each.
    pub bytes: u64,
    /// Its revisions, by their names.
    pub revisions: Vec<CachedRevision>,
    /// Files that were broken off.
    pub incomplete: Vec<Incomplete>,
}

/// A revision in a cache.
#[derive(Clone, Debug)]
pub struct CachedRevision {
    /// The commit, or of ModelScope the revision's name.
    pub name: String,
    /// Branches and tags that lead there.
    pub refs: Vec<String>,
    /// Its folder.
    pub path: PathBuf,
    /// Its files, with their bytes.
    pub files: Vec<(String, u64)>,
}

/// A file that was broken off.
#[derive(Clone, Debug)]
pub struct Incomplete {
    /// Where it is.
    pub path: PathBuf,
    /// Bytes on this disk.
    pub bytes: u64,
}

/// Something that is not as it was fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The file.
    pub path: PathBuf,
    /// What is wrong.
    pub what: String,
}

impl Cache {
    /// The cache that these options name.
    pub fn new(options: &HubOptions) -> Self {
        Cache { hub: options.kind, root: options.cache.clone() }
    }

    /// Its repositories, by name.
    ///
    /// # Errors
    /// When a folder cannot be read.
    pub fn repos(&self) -> Result<Vec<CachedRepo>, HubError> {
        let mut repos = match self.hub {
            HubKind::HuggingFace => huggingface::repos(&self.root)?,
            HubKind::ModelScope => modelscope::repos(&self.root)?,
        };
        repos.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(repos)
    }

    /// Removes a repository, or of one with GGUFs a quantization. Returns the bytes that are free again.
    ///
    /// # Errors
    /// When it is being fetched, when there is no such quantization, or when a file cannot be removed.
    pub fn remove(&self, repo: &CachedRepo, quantization: Option<&str>) -> Result<u64, HubError> {
        match (quantization, self.hub) {
            (Some(quantization), _) => repo.remove_quantization(quantization),
            (None, HubKind::HuggingFace) => huggingface::remove(&self.root, repo),
            (None, HubKind::ModelScope) => {
                std::fs::remove_dir_all(&repo.path).map_err(HubError::io(&repo.path))?;
                Ok(repo.bytes)
            }
        }
    }
}

impl CachedRepo {
    /// The files that are not what their names (Hugging Face) or the listing (ModelScope) say, and how many were compared.
    /// `go_on` is asked now and then, with the bytes that were read.
    ///
    /// # Errors
    /// When a file cannot be read, or it was stopped.
    pub fn verify(
        &self,
        listing: Option<&Listing>,
        go_on: &dyn Fn(u64) -> bool,
    ) -> Result<(usize, Vec<Fault>), HubError> {
        let expected = match self.hub {
            HubKind::HuggingFace => huggingface::expected(self)?,
            HubKind::ModelScope => listing.map(|listing| self.listed(listing)).unwrap_or_default(),
        };
        let mut faults = self.dangling();
        for (path, expected) in &expected {
            if let Some(what) = wrong(path, expected, go_on)? {
                faults.push(Fault { path: path.clone(), what });
            }
        }
        Ok((expected.len(), faults))
    }

    /// What a listing says of the files of its revision.
    fn listed(&self, listing: &Listing) -> Vec<(PathBuf, Expected)> {
        let is_there = |file: &&RepoFile, revision: &CachedRevision| {
            revision.files.iter().any(|(path, _)| *path == file.path)
        };
        let of = |revision: &'_ CachedRevision| {
            let files = listing.files.iter().filter(|file| is_there(file, revision));
            let files = files.filter_map(|file| Some((revision.path.join(&file.path), Expected::of(file)?)));
            files.collect::<Vec<_>>()
        };
        self.revisions.iter().filter(|revision| revision.name == listing.revision).flat_map(of).collect()
    }

    /// Links that lead nowhere.
    fn dangling(&self) -> Vec<Fault> {
        let files = self
            .revisions
            .iter()
            .flat_map(|revision| revision.files.iter().map(|(path, _)| revision.path.join(path)));
        let what = || "the link leads nowhere".to_owned();
        files.filter(|path| !path.exists()).map(|path| Fault { path, what: what() }).collect()
    }

    fn remove_quantization(&self, quantization: &str) -> Result<u64, HubError> {
        let is_it = |path: &str| path.ends_with(".gguf") && crate::select::names(path, quantization);
        let all = || {
            self.revisions
                .iter()
                .flat_map(|r| r.files.iter().map(|(path, size)| (r.path.join(path), path, *size)))
        };
        // A blob goes with the last link to it.
        let mut blobs: BTreeMap<PathBuf, (u64, bool)> = BTreeMap::new();
        for (full, path, size) in all() {
            let Ok(blob) = full.canonicalize() else { continue };
            let entry = blobs.entry(blob).or_insert((size, true));
            entry.1 &= is_it(path);
        }
        let removed: Vec<PathBuf> = all().filter(|(_, path, _)| is_it(path)).map(|(full, ..)| full).collect();
        if removed.is_empty() {
            let what = format!("{quantization} of {} is not here", self.id);
            return Err(HubError::Io { path: self.path.clone(), source: std::io::Error::other(what) });
        }
        let mut freed = 0;
        blobs.retain(|_, (_, only)| *only);
        for path in removed.iter().chain(blobs.keys().filter(|blob| !removed.contains(blob))) {
            std::fs::remove_file(path).map_err(HubError::io(path))?;
            freed += blobs.get(path).map_or(0, |(size, _)| *size);
        }
        Ok(freed)
    }
}

/// What is wrong with a file, if anything is.
fn wrong(path: &Path, expected: &Expected, go_on: &dyn Fn(u64) -> bool) -> Result<Option<String>, HubError> {
    let Ok(file) = std::fs::File::open(path) else { return Ok(Some("it is missing".to_owned())) };
    let step = std::cell::Cell::new(0);
    let counted = || go_on(step.replace(digest::STEP));
    match digest::of_file(file, expected, &counted) {
        Ok(found) if found == expected.text() => Ok(None),
        Ok(found) => Ok(Some(format!("its digest is {found}, not {}", expected.text()))),
        Err(error) if error.kind() == std::io::ErrorKind::Interrupted => Err(HubError::Cancelled),
        Err(error) => Err(HubError::io(path)(error)),
    }
}

/// The folders in a folder; none where there is no folder. Links are not followed.
fn folders(path: &Path) -> Result<Vec<(String, PathBuf)>, HubError> {
    let entries = match std::fs::read_dir(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        result => result.map_err(HubError::io(path))?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(HubError::io(path))?;
        if entry.file_type().is_ok_and(|kind| kind.is_dir())
            && let Ok(name) = entry.file_name().into_string()
        {
            found.push((name, entry.path()));
        }
    }
    found.sort();
    Ok(found)
}

/// The files below a folder by their paths from it, with their bytes; links to files are files. Hidden ones belong to tools.
fn files_below(root: &Path) -> Vec<(String, u64)> {
    let mut found = Vec::new();
    let mut left = vec![root.to_owned()];
    while let Some(folder) = left.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let Some(name) = path.strip_prefix(root).ok().and_then(Path::to_str).map(str::to_owned) else {
                continue;
            };
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => left.push(path),
                Ok(_) if !entry.file_name().to_string_lossy().starts_with('.') => {
                    found.push((name, path.metadata().map_or(0, |metadata| metadata.len())));
                }
                _ => {}
            }
        }
    }
    found.sort();
    found
}

/// The unfinished files below a folder, of whichever tool, and the bytes of everything below it.
fn weigh(root: &Path) -> (Vec<Incomplete>, u64) {
    let (mut incomplete, mut bytes) = (Vec::new(), 0);
    let mut left = vec![root.to_owned()];
    while let Some(folder) = left.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            let path = entry.path();
            if metadata.is_dir() {
                left.push(path);
            } else if path.extension().is_some_and(|extension| extension == "incomplete") {
                // Most of it may be a hole.
                let held = metadata.len().min(metadata.blocks() * 512);
                bytes += held;
                incomplete.push(Incomplete { path, bytes: held });
            } else if metadata.is_symlink() {
                // A blob that repositories share; links of snapshots lead to what is counted already.
                let is_blob = folder.file_name().is_some_and(|name| name == "blobs");
                bytes += path.metadata().ok().filter(|_| is_blob).map_or(0, |blob| blob.len());
            } else {
                bytes += metadata.len();
            }
        }
    }
    incomplete.sort_by(|a, b| a.path.cmp(&b.path));
    (incomplete, bytes)
}
