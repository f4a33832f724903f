//! `glimmer cache` and `glimmer rm`: what was fetched, in the hubs' own caches.

use std::path::PathBuf;

use anyhow::bail;
use glimmer_hub::{
    Cache, CachedRepo, Fault, Hub, HubError, HubId, HubKind, HubOptions, Listing, Progress, Watch,
};
use serde::Serialize;

use crate::args::{CacheArgs, RmArgs};
use crate::hubs::Wanted;
use crate::interrupt::Interrupt;
use crate::output::{self, Lines, size};
use crate::terminal::Terminal;

/// What `--json` answers.
#[derive(Serialize)]
struct Report {
    bytes: u64,
    repositories: Vec<Repository>,
}

#[derive(Serialize)]
struct Repository {
    hub: &'static str,
    id: String,
    path: PathBuf,
    bytes: u64,
    revisions: Vec<Revision>,
    incomplete: Vec<File>,
    #[serde(skip_serializing_if = "Option::is_none")]
    verified: Option<Verified>,
}

#[derive(Serialize)]
struct Revision {
    name: String,
    refs: Vec<String>,
    path: PathBuf,
    files: Vec<File>,
}

#[derive(Serialize)]
struct File {
    path: PathBuf,
    bytes: u64,
}

#[derive(Serialize)]
struct Verified {
    /// Files that were compared.
    files: usize,
    faults: Vec<Wrong>,
}

#[derive(Serialize)]
struct Wrong {
    path: PathBuf,
    what: String,
}

/// Shows what is there.
pub(crate) fn run(args: &CacheArgs, terminal: &Terminal) -> anyhow::Result<()> {
    let wanted = args.name.as_deref().map(Wanted::new).transpose()?;
    let interrupt = if args.verify { Some(Interrupt::listen()?) } else { None };
    let mut repositories = Vec::new();
    for options in options(args.hub)? {
        for repo in Cache::new(&options).repos()? {
            if wanted.as_ref().is_some_and(|wanted| !wanted.is(repo.hub, &repo.id)) {
                continue;
            }
            let verified = match &interrupt {
                Some(interrupt) => Some(verified(&repo, &options, interrupt, terminal)?),
                None => None,
            };
            repositories.push(Repository::new(repo, verified));
        }
    }
    if let Some(wanted) = wanted.filter(|_| repositories.is_empty()) {
        bail!("{wanted} is in no cache; `glimmer cache` lists what is");
    }
    let report = Report { bytes: repositories.iter().map(|repo| repo.bytes).sum(), repositories };
    if args.json {
        output::json(&report)?
    } else {
        report.lines().print()?
    }
    let verified = report.repositories.iter().filter_map(|repo| repo.verified.as_ref());
    match verified.map(|verified| verified.faults.len()).sum() {
        0 => Ok(()),
        1 => bail!("a file is not what it should be; `glimmer rm` and `glimmer pull` mend it"),
        faults => {
            bail!("{faults} files are not what they should be; `glimmer rm` and `glimmer pull` mend them")
        }
    }
}

/// Removes models.
pub(crate) fn remove(args: &RmArgs, terminal: &Terminal) -> anyhow::Result<()> {
    args.names.iter().try_for_each(|name| remove_one(&Wanted::new(name)?, args.hub, terminal))
}

/// Removes a model from the caches of the hubs, or of one.
pub(crate) fn remove_one(wanted: &Wanted, hub: Option<HubKind>, terminal: &Terminal) -> anyhow::Result<()> {
    let (mut freed, mut faults) = (None, Vec::new());
    for options in options(hub)? {
        let cache = Cache::new(&options);
        for repo in cache.repos()?.iter().filter(|repo| wanted.is(repo.hub, &repo.id)) {
            match cache.remove(repo, wanted.quantization()) {
                Ok(bytes) => freed = Some(freed.unwrap_or(0) + bytes),
                Err(fault) => {
                    if !is_absence(&fault) {
                        terminal.warn(&fault.to_string());
                    }
                    faults.push(fault);
                }
            }
        }
    }
    // A hub's cache may have some of a model, and the other's the rest.
    match (freed, faults.pop()) {
        (Some(bytes), _) => terminal.note(&format!("{wanted} is removed; {} are free again", size(bytes))),
        (None, Some(fault)) => return Err(fault.into()),
        (None, None) => bail!("{wanted} is in no cache; `glimmer cache` lists what is"),
    }
    Ok(())
}

/// Whether there was nothing to remove.
fn is_absence(fault: &HubError) -> bool {
    matches!(fault, HubError::Io { source, .. } if source.kind() == std::io::ErrorKind::Other)
}

fn options(hub: Option<HubKind>) -> Result<Vec<HubOptions>, HubError> {
    let kinds = HubKind::ALL.into_iter().filter(|kind| hub.is_none_or(|hub| hub == *kind));
    kinds.map(HubOptions::from_env).collect()
}

/// Reads a repository's files. What they should be, Hugging Face's cache says itself; of ModelScope it is asked.
fn verified(
    repo: &CachedRepo,
    options: &HubOptions,
    interrupt: &Interrupt,
    terminal: &Terminal,
) -> anyhow::Result<Verified> {
    let listings = match repo.hub {
        HubKind::HuggingFace => vec![None],
        HubKind::ModelScope => listings(repo, options, interrupt, terminal)?,
    };
    let bar = terminal.bytes_bar("reading", repo.bytes);
    let go_on = |bytes| {
        bar.inc(bytes);
        interrupt.check().is_ok()
    };
    let (mut files, mut faults) = (0, Vec::<Fault>::new());
    for listing in &listings {
        let (compared, found) = repo.verify(listing.as_ref(), &go_on)?;
        files += compared;
        faults.extend(found.into_iter().filter(|fault| !faults.contains(fault)).collect::<Vec<_>>());
    }
    bar.finish_and_clear();
    let faults = faults.into_iter().map(|Fault { path, what }| Wrong { path, what });
    Ok(Verified { files, faults: faults.collect() })
}

/// What the hub lists of each revision.
fn listings(
    repo: &CachedRepo,
    options: &HubOptions,
    interrupt: &Interrupt,
    terminal: &Terminal,
) -> anyhow::Result<Vec<Option<Listing>>> {
    struct Stoppable<'a>(&'a Interrupt);
    impl Watch for Stoppable<'_> {
        fn progress(&self, _: Progress) {}
        fn cancelled(&self) -> bool {
            self.0.check().is_err()
        }
    }
    if options.offline {
        terminal.warn(&format!("{}: what its files should be, only {} can say", repo.id, repo.hub));
        return Ok(vec![None]);
    }
    let hub = Hub::new(options.clone())?;
    let id: HubId = repo.id.parse()?;
    let list = |revision: &glimmer_hub::CachedRevision| {
        Ok(Some(hub.list(&id.repo, Some(&revision.name), &Stoppable(interrupt))?))
    };
    repo.revisions.iter().map(list).collect()
}

impl Repository {
    fn new(repo: CachedRepo, verified: Option<Verified>) -> Self {
        let file = |path: PathBuf, bytes| File { path, bytes };
        let revisions = repo.revisions.into_iter().map(|revision| Revision {
            files: revision.files.into_iter().map(|(path, bytes)| file(path.into(), bytes)).collect(),
            name: revision.name,
            refs: revision.refs,
            path: revision.path,
        });
        Repository {
            hub: repo.hub.name(),
            id: repo.id,
            path: repo.path,
            bytes: repo.bytes,
            revisions: revisions.collect(),
            incomplete: repo.incomplete.into_iter().map(|part| file(part.path, part.bytes)).collect(),
            verified,
        }
    }
}

impl Report {
    fn lines(&self) -> Lines {
        let mut lines = Lines::default();
        for repo in &self.repositories {
            lines.add(format_args!("{}  {}  {}", repo.id, size(repo.bytes), repo.hub));
            for revision in &repo.revisions {
                let refs = match revision.refs.as_slice() {
                    [] => String::new(),
                    refs => format!(" ({})", refs.join(", ")),
                };
                let bytes = revision.files.iter().map(|file| file.bytes).sum();
                lines.add(format_args!(
                    "  {}{refs}  {} files, {}",
                    revision.name,
                    revision.files.len(),
                    size(bytes)
                ));
            }
            if !repo.incomplete.is_empty() {
                let bytes = repo.incomplete.iter().map(|file| file.bytes).sum();
                lines.add(format_args!(
                    "  incomplete: {} files, {} of them here",
                    repo.incomplete.len(),
                    size(bytes)
                ));
            }
            if let Some(verified) = &repo.verified {
                lines.add(format_args!(
                    "  verified: {} files, {} faults",
                    verified.files,
                    verified.faults.len()
                ));
                for Wrong { path, what } in &verified.faults {
                    lines.add(format_args!("  {}: {what}", path.display()));
                }
            }
        }
        lines.add(format_args!("{} repositories, {}", self.repositories.len(), size(self.bytes)));
        lines
    }
}
