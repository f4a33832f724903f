//! Models by their names on a hub: which words are such names, where they are looked for, and what is said while they come.

use std::cell::{OnceCell, RefCell};
use std::path::Path;

use anyhow::{Context, bail};
use glimmer::{Error, Resolver, Source};
use glimmer_hub::{
    Hub, HubError, HubId, HubKind, HubOptions, Licence, Plan, Progress, Pulled, RepoId, Request, Select,
    Watch, fastest,
};
use indicatif::ProgressBar;

use crate::WrongUsage;
use crate::args::HubArgs;
use crate::interrupt::Interrupt;
use crate::output::size;
use crate::terminal::Terminal;

/// The model on a hub that a word names. A catalogue of names belongs here.
pub(crate) fn id(word: &Path) -> anyhow::Result<HubId> {
    word.to_string_lossy().parse().map_err(|e: HubError| WrongUsage(e.to_string()).into())
}

/// The same of a word that may as well be a path.
pub(crate) fn named(word: &Path) -> Option<HubId> {
    let id = id(word).ok()?;
    // A misspelt path to a file, or below a directory that there is, is no name.
    let is_file = [".gguf", ".safetensors", ".bin"].iter().any(|end| id.repo.name().ends_with(end));
    (!is_file && !Path::new(id.repo.owner()).exists()).then_some(id)
}

/// The name under which a hub has a repository: Z.ai is called otherwise on each, and was on one of them.
fn on_hub(kind: HubKind, repo: &RepoId) -> RepoId {
    let owner = match (kind, repo.owner()) {
        (HubKind::HuggingFace, "ZhipuAI") => "zai-org",
        (HubKind::ModelScope, "zai-org" | "THUDM") => "ZhipuAI",
        (_, owner) => owner,
    };
    format!("{owner}/{}", repo.name()).parse().unwrap_or_else(|_| repo.clone())
}

/// The hubs that may be asked.
pub(crate) struct Hubs {
    hubs: Vec<Hub>,
    /// Whether a hub was named, which then has the repository under the very name.
    is_named: bool,
    accepts: bool,
    /// Whether there is a flag to accept with.
    has_flags: bool,
    terminal: Terminal,
}

impl Hubs {
    /// Those that flags name.
    pub(crate) fn new(args: &HubArgs, terminal: &Terminal) -> anyhow::Result<Self> {
        let kinds = args.hub.map_or(HubKind::ALL.to_vec(), |kind| vec![kind]);
        let open = |kind| {
            let mut options = HubOptions::from_env(kind)?;
            options.offline |= args.offline;
            Hub::new(options)
        };
        Ok(Hubs {
            hubs: kinds.into_iter().map(open).collect::<Result<_, HubError>>()?,
            is_named: args.hub.is_some(),
            accepts: args.accept_licence,
            has_flags: true,
            terminal: terminal.clone(),
        })
    }

    /// Those that variables name.
    pub(crate) fn of_environment(terminal: &Terminal) -> anyhow::Result<Self> {
        let args = HubArgs::of_environment().context("the environment")?;
        Ok(Hubs { has_flags: false, ..Hubs::new(&args, terminal)? })
    }

    fn candidates(&self, repo: &RepoId) -> Vec<(&Hub, RepoId)> {
        let name = |hub: &Hub| if self.is_named { repo.clone() } else { on_hub(hub.kind(), repo) };
        self.hubs.iter().map(|hub| (hub, name(hub))).collect()
    }

    /// The files where they are all on this machine, without asking anybody.
    fn cached(&self, id: &HubId) -> Option<Pulled> {
        let wanted = |repo: RepoId| request(repo, id, None, None);
        self.candidates(&id.repo).into_iter().find_map(|(hub, repo)| hub.cached(&wanted(repo)))
    }

    /// Brings the files.
    pub(crate) fn pull(
        &self,
        id: &HubId,
        revision: Option<&str>,
        into: Option<&Path>,
        interrupt: Option<Interrupt>,
    ) -> anyhow::Result<Pulled> {
        let watcher = Watcher {
            terminal: &self.terminal,
            id,
            accepts: self.accepts,
            has_flags: self.has_flags,
            interrupt,
            bar: OnceCell::new(),
            refusal: RefCell::default(),
        };
        let candidates = self.candidates(&id.repo);
        let result = match candidates.as_slice() {
            [] => bail!("there is no hub to ask"),
            [(hub, _), ..] if hub.is_offline() => {
                let attempts = candidates
                    .iter()
                    .map(|(hub, repo)| hub.pull(&request(repo.clone(), id, revision, into), &watcher));
                let mut attempts: Vec<_> = attempts.collect();
                let found = attempts.iter().position(Result::is_ok).unwrap_or(0);
                attempts.swap_remove(found)
            }
            _ => fastest(&candidates, revision, &watcher).and_then(|(number, listing)| {
                let (hub, repo) = &candidates[number];
                if let Some(new) = &listing.moved_to {
                    self.terminal.note(&format!("{repo} is called {new} today"));
                }
                hub.fetch(listing, &request(repo.clone(), id, revision, into), &watcher)
            }),
        };
        if let Some(bar) = watcher.bar.get() {
            bar.finish_and_clear();
        }
        match result {
            Err(HubError::NotAccepted) => {
                let why = watcher.refusal.take().unwrap_or_else(|| HubError::NotAccepted.to_string());
                bail!(why)
            }
            result => Ok(result?),
        }
    }
}

fn request(repo: RepoId, id: &HubId, revision: Option<&str>, into: Option<&Path>) -> Request {
    Request {
        repo,
        revision: revision.map(str::to_owned),
        files: Select { quantization: id.quantization.clone() },
        into: into.map(Path::to_owned),
    }
}

impl Resolver for Hubs {
    /// What is on this machine is used as it is; only `pull` asks whether there is something newer.
    fn resolve(&self, name: &Path) -> Result<Source, Error> {
        let Some(id) = named(name) else { return Ok(Source::from(name)) };
        let pulled = match self.cached(&id) {
            Some(pulled) => pulled,
            // Whoever stops it now stops the program; what was fetched is kept either way.
            None => self.pull(&id, None, None, None).map_err(|error| Error::Unresolved(error.into()))?,
        };
        Ok(Source::Named { path: pulled.model, name: Source::from(name).name() })
    }
}

/// A person, or a script, that waits for files.
struct Watcher<'a> {
    terminal: &'a Terminal,
    id: &'a HubId,
    accepts: bool,
    has_flags: bool,
    interrupt: Option<Interrupt>,
    bar: OnceCell<ProgressBar>,
    /// Why nothing was fetched.
    refusal: RefCell<Option<String>>,
}

impl Watcher<'_> {
    /// Whether the licence is accepted, which is asked before the first file of a repository.
    fn accepts(&self, licence: Option<&Licence>) -> bool {
        let id = self.id;
        let licence = match licence {
            Some(Licence { name, page }) => {
                format!("{id} is published under the licence {name:.60}, {page:.120}")
            }
            None => format!("nothing says under what licence {id} is published"),
        };
        if self.accepts {
            self.terminal.note(&licence);
            return true;
        }
        match self.terminal.ask(&format!("{licence}. Accept and fetch it?")) {
            Some(answer) => answer,
            None => {
                let how = if self.has_flags {
                    "--accept-licence"
                } else {
                    "GLIMMER_ACCEPT_LICENCE=1, or `glimmer pull`,"
                };
                *self.refusal.borrow_mut() = Some(format!("{licence}; {how} accepts it"));
                false
            }
        }
    }
}

impl Watch for Watcher<'_> {
    fn begins(&self, plan: &Plan<'_>) -> bool {
        if plan.is_first && !self.accepts(plan.listing.licence.as_ref()) {
            return false;
        }
        let before = plan.bytes - plan.missing.min(plan.bytes);
        let before = if before > 0 { format!(", {} are here", size(before)) } else { String::new() };
        let (repo, hub) = (&plan.listing.repo, plan.listing.hub);
        self.terminal.note(&format!("{repo} from {hub}: {} files, {}{before}", plan.files, size(plan.bytes)));
        self.bar.get_or_init(|| self.terminal.bytes_bar("fetching", plan.bytes));
        true
    }

    fn progress(&self, progress: Progress) {
        let Some(bar) = self.bar.get() else { return };
        let is_first = bar.position() == 0;
        bar.set_position(progress.done);
        if is_first {
            // What was here before says nothing about speed.
            bar.reset_eta();
        }
    }

    fn cancelled(&self) -> bool {
        self.interrupt.as_ref().is_some_and(|interrupt| interrupt.check().is_err())
    }
}
