//! Models by their names in the catalogue or on a hub: which words are such names, where they are looked for, and what is said while they come.

use std::cell::{OnceCell, RefCell};
use std::path::Path;

use anyhow::{Context, bail};
use glimmer::{Error, Resolver, Source};
use glimmer_catalogue::{Format, Member, Published, Repository, renamed};
use glimmer_hub::{
    Hub, HubError, HubId, HubKind, HubOptions, Licence, Plan, Progress, Pulled, RepoId, Request, Select,
    Watch, fastest,
};
use indicatif::ProgressBar;

use crate::WrongUsage;
use crate::args::HubArgs;
use crate::catalogue;
use crate::interrupt::Interrupt;
use crate::output::size;
use crate::terminal::Terminal;

/// A model that is on a hub, or on both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// As it was asked for.
    word: String,
    /// Where it is, the repository as it was written first.
    places: Vec<(HubKind, RepoId)>,
    /// Of several in a repository, the one that is wanted.
    quantization: Option<String>,
}

/// Z.ai on each hub.
const SAME_OWNER: [(HubKind, &str); 2] =
    [(HubKind::HuggingFace, "zai-org"), (HubKind::ModelScope, "ZhipuAI")];

impl Wanted {
    /// The model that a word names: one of the catalogue's, or OWNER/NAME on a hub.
    ///
    /// # Errors
    /// When nothing is called that, or the catalogue does not know where it is.
    pub(crate) fn new(word: &Path) -> anyhow::Result<Self> {
        let word = word.to_string_lossy().into_owned();
        if word.contains('/') {
            return Ok(Wanted::of_id(word.parse()?, word));
        }
        let catalogue = catalogue::open(&[])?;
        let member = catalogue.member(&word).map_err(|error| WrongUsage(error.to_string()))?;
        let form = preferred(&member);
        let places = form.map_or_else(Vec::new, |(form, quantization)| places(form, quantization));
        if places.is_empty() {
            bail!(
                "nothing says where the files of {word} are; `glimmer show {word}` has what is known of it"
            );
        }
        let quantization = form.and_then(|(form, quantization)| {
            (form.format == Format::Ggufv2).then(|| quantization.map(str::to_owned)).flatten()
        });
        Ok(Wanted { word, places, quantization })
    }

    /// A repository, on each hub where its owner is known to have it. Whose account a name is on the other hub nobody
    /// knows, so that others' repositories are Hugging Face's.
    fn of_id(id: HubId, word: String) -> Self {
        let named_now = renamed(&id.repo.to_string());
        let own = SAME_OWNER.iter().find(|(_, owner)| named_now.split('/').next() == Some(owner));
        let places = match own {
            None => vec![(HubKind::HuggingFace, id.repo)],
            Some((own, _)) => {
                let on = |(hub, owner): &(HubKind, &str)| match hub == own {
                    true => Some((*hub, id.repo.clone())),
                    false => Some((*hub, format!("{owner}/{}", id.repo.name()).parse().ok()?)),
                };
                SAME_OWNER.iter().filter_map(on).collect()
            }
        };
        Wanted { word, places, quantization: id.quantization }
    }

    /// Of several in a repository, the one that is wanted.
    pub(crate) fn quantization(&self) -> Option<&str> {
        self.quantization.as_deref()
    }

    /// Whether it is a hub's repository.
    pub(crate) fn is(&self, hub: HubKind, id: &str) -> bool {
        [true, false]
            .into_iter()
            .filter_map(|is_named| self.on(hub, is_named))
            .any(|own| own.to_string() == id)
    }

    /// Where a hub has it; a hub that was named has an id under the very name.
    fn on(&self, hub: HubKind, is_named: bool) -> Option<RepoId> {
        let typed = || self.word.parse::<HubId>().ok().map(|id| id.repo);
        let known = || self.places.iter().find(|(kind, _)| *kind == hub).map(|(_, repo)| repo.clone());
        if is_named { typed().or_else(known) } else { known() }
    }
}

impl std::fmt::Display for Wanted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.word)
    }
}

/// Which of a model's files are fetched: those of the quantization that was named, or a GGUF of a good one, or the first
/// there are.
fn preferred<'c>(member: &Member<'c>) -> Option<(&'c Published, Option<&'c str>)> {
    const GOOD: &str = "Q4_K_M";
    if let (Some(form), Some(quantization)) = (member.published, member.quantization) {
        return Some((form, Some(quantization)));
    }
    let ggufs = member.forms().filter(|form| form.format == Format::Ggufv2 && !form.repositories.is_empty());
    let good = ggufs.filter_map(|form| Some((form, Some(form.quantization(GOOD)?)))).next();
    good.or_else(|| member.forms().find(|form| !form.repositories.is_empty()).map(|form| (form, None)))
}

fn places(form: &Published, quantization: Option<&str>) -> Vec<(HubKind, RepoId)> {
    let place = |repository: &Repository| {
        let hub = match repository.hub {
            glimmer_catalogue::HubKind::HuggingFace => HubKind::HuggingFace,
            glimmer_catalogue::HubKind::ModelScope => HubKind::ModelScope,
        };
        let id = repository.id.replace("{quantization}", quantization.unwrap_or_default());
        Some((hub, id.parse().ok()?))
    };
    form.repositories.iter().filter_map(place).collect()
}

/// What a word names on a hub, where it may as well be a path. `None` for a path.
///
/// # Errors
/// When it is no path, and no model is called that.
pub(crate) fn named(word: &Path) -> anyhow::Result<Option<Wanted>> {
    let text = word.to_string_lossy();
    // A misspelt path to a file, or below a directory that there is, is no name.
    let is_file = [".gguf", ".safetensors", ".bin"].iter().any(|end| text.ends_with(end));
    match text.split_once('/') {
        _ if is_file => Ok(None),
        Some((owner, _)) => {
            let id = text.parse::<HubId>().ok().filter(|_| !Path::new(owner).exists());
            Ok(id.map(|id| Wanted::of_id(id, text.clone().into_owned())))
        }
        None => Wanted::new(word).map(Some),
    }
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

    fn candidates(&self, wanted: &Wanted) -> Vec<(&Hub, RepoId)> {
        let place = |hub| Some((hub, wanted.on(Hub::kind(hub), self.is_named)?));
        self.hubs.iter().filter_map(place).collect()
    }

    /// The files where they are all on this machine, without asking anybody.
    fn cached(&self, wanted: &Wanted) -> Option<Pulled> {
        let all = |repo: RepoId| request(repo, wanted, None, None);
        self.candidates(wanted).into_iter().find_map(|(hub, repo)| hub.cached(&all(repo)))
    }

    /// Brings the files.
    pub(crate) fn pull(
        &self,
        wanted: &Wanted,
        revision: Option<&str>,
        into: Option<&Path>,
        interrupt: Option<Interrupt>,
    ) -> anyhow::Result<Pulled> {
        let watcher = Watcher {
            terminal: &self.terminal,
            wanted,
            accepts: self.accepts,
            has_flags: self.has_flags,
            interrupt,
            bar: OnceCell::new(),
            refusal: RefCell::default(),
        };
        let candidates = self.candidates(wanted);
        let result = match candidates.as_slice() {
            [] => bail!("{wanted} is not on that hub"),
            [(hub, _), ..] if hub.is_offline() => {
                let attempts = candidates
                    .iter()
                    .map(|(hub, repo)| hub.pull(&request(repo.clone(), wanted, revision, into), &watcher));
                let mut attempts: Vec<_> = attempts.collect();
                let found = attempts.iter().position(Result::is_ok).unwrap_or(0);
                attempts.swap_remove(found)
            }
            _ => fastest(&candidates, revision, &watcher).and_then(|(number, listing)| {
                let (hub, repo) = &candidates[number];
                if let Some(new) = &listing.moved_to {
                    self.terminal.note(&format!("{repo} is called {new} today"));
                }
                hub.fetch(listing, &request(repo.clone(), wanted, revision, into), &watcher)
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

fn request(repo: RepoId, wanted: &Wanted, revision: Option<&str>, into: Option<&Path>) -> Request {
    Request {
        repo,
        revision: revision.map(str::to_owned),
        files: Select { quantization: wanted.quantization.clone() },
        into: into.map(Path::to_owned),
    }
}

impl Resolver for Hubs {
    /// What is on this machine is used as it is; only `pull` asks whether there is something newer.
    fn resolve(&self, name: &Path) -> Result<Source, Error> {
        let unresolved = |error: anyhow::Error| Error::Unresolved(error.into());
        let Some(wanted) = named(name).map_err(unresolved)? else { return Ok(Source::from(name)) };
        let pulled = match self.cached(&wanted) {
            Some(pulled) => pulled,
            // Whoever stops it now stops the program; what was fetched is kept either way.
            None => self.pull(&wanted, None, None, None).map_err(unresolved)?,
        };
        Ok(Source::Named { path: pulled.model, name: Source::from(name).name() })
    }
}

/// A person, or a script, that waits for files.
struct Watcher<'a> {
    terminal: &'a Terminal,
    wanted: &'a Wanted,
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
        let id = self.wanted;
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
