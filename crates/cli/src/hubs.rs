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
        match form.and_then(|(form, quantization)| Wanted::of_forms(&word, &[form], quantization)) {
            Some(wanted) => Ok(wanted),
            None => bail!(
                "nothing says where the files of {word} are; `glimmer show {word}` has what is known of it"
            ),
        }
    }

    /// The files of a quantization, which are the same in each of these forms; `None` where no hub has them.
    pub(crate) fn of_forms(word: &str, forms: &[&Published], quantization: Option<&str>) -> Option<Self> {
        let places: Vec<_> = forms.iter().flat_map(|form| places(form, quantization)).collect();
        let is_one_of_several = forms.iter().any(|form| form.format == Format::Ggufv2);
        let quantization = quantization.filter(|_| is_one_of_several).map(str::to_owned);
        (!places.is_empty()).then(|| Wanted { word: word.to_owned(), places, quantization })
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
    /// How somebody accepts a licence who cannot be asked.
    how_to_accept: &'static str,
    terminal: Terminal,
}

/// The licence was not accepted: what it is, and how it is accepted.
#[derive(Debug)]
pub(crate) struct NotAccepted(String);

impl std::fmt::Display for NotAccepted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NotAccepted {}

/// Whoever waits for files: somebody at a terminal, or a client of a server.
pub(crate) trait Onlooker {
    /// Something good to know.
    fn note(&self, text: &str);

    /// Whether a licence is accepted; `None` where nobody can be asked.
    fn accepts(&self, licence: &str) -> Option<bool>;

    /// So many bytes are going to be there.
    fn begins(&self, bytes: u64);

    /// So many of them are.
    fn progress(&self, done: u64);

    /// Whether to stop.
    fn cancelled(&self) -> bool;
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
            how_to_accept: "--accept-licence",
            terminal: terminal.clone(),
        })
    }

    /// Those that variables name.
    pub(crate) fn of_environment(terminal: &Terminal) -> anyhow::Result<Self> {
        let args = HubArgs::of_environment().context("the environment")?;
        Ok(Hubs::new(&args, terminal)?.accepting_by("GLIMMER_ACCEPT_LICENCE=1, or `glimmer pull`,"))
    }

    /// The same, where a licence is accepted in another way.
    pub(crate) fn accepting_by(self, how_to_accept: &'static str) -> Self {
        Hubs { how_to_accept, ..self }
    }

    fn candidates(&self, wanted: &Wanted) -> Vec<(&Hub, RepoId)> {
        let place = |hub| Some((hub, wanted.on(Hub::kind(hub), self.is_named)?));
        self.hubs.iter().filter_map(place).collect()
    }

    /// The files where they are all on this machine, without asking anybody.
    pub(crate) fn cached(&self, wanted: &Wanted, revision: Option<&str>) -> Option<Pulled> {
        let all = |repo: RepoId| request(repo, wanted, revision, None);
        self.candidates(wanted).into_iter().find_map(|(hub, repo)| hub.cached(&all(repo)))
    }

    /// Brings the files.
    pub(crate) fn pull(
        &self,
        wanted: &Wanted,
        revision: Option<&str>,
        into: Option<&Path>,
        onlooker: &dyn Onlooker,
    ) -> anyhow::Result<Pulled> {
        let watcher = Watcher { hubs: self, wanted, onlooker, refusal: RefCell::default() };
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
                    onlooker.note(&format!("{repo} is called {new} today"));
                }
                hub.fetch(listing, &request(repo.clone(), wanted, revision, into), &watcher)
            }),
        };
        match result {
            Err(HubError::NotAccepted) => {
                let why = watcher.refusal.take().unwrap_or_else(|| HubError::NotAccepted.to_string());
                bail!(NotAccepted(why))
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
        let pulled = match self.cached(&wanted, None) {
            Some(pulled) => pulled,
            // Whoever stops it now stops the program; what was fetched is kept either way.
            None => {
                let onlooker = AtTerminal::new(&self.terminal, None);
                self.pull(&wanted, None, None, &onlooker).map_err(unresolved)?
            }
        };
        Ok(Source::Named { path: pulled.model, name: Source::from(name).name() })
    }
}

/// Somebody at a terminal, or a script.
pub(crate) struct AtTerminal<'a> {
    terminal: &'a Terminal,
    interrupt: Option<Interrupt>,
    bar: OnceCell<ProgressBar>,
}

impl<'a> AtTerminal<'a> {
    /// Who may stop what is waited for, where somebody listens to that; else they stop the program.
    pub(crate) fn new(terminal: &'a Terminal, interrupt: Option<Interrupt>) -> Self {
        AtTerminal { terminal, interrupt, bar: OnceCell::new() }
    }
}

impl Onlooker for AtTerminal<'_> {
    fn note(&self, text: &str) {
        self.terminal.note(text);
    }

    fn accepts(&self, licence: &str) -> Option<bool> {
        self.terminal.ask(&format!("{licence}. Accept and fetch it?"))
    }

    fn begins(&self, bytes: u64) {
        self.bar.get_or_init(|| self.terminal.bytes_bar("fetching", bytes));
    }

    fn progress(&self, done: u64) {
        let Some(bar) = self.bar.get() else { return };
        let is_first = bar.position() == 0;
        bar.set_position(done);
        if is_first {
            // What was here before says nothing about speed.
            bar.reset_eta();
        }
    }

    fn cancelled(&self) -> bool {
        self.interrupt.as_ref().is_some_and(|interrupt| interrupt.check().is_err())
    }
}

impl Drop for AtTerminal<'_> {
    fn drop(&mut self) {
        if let Some(bar) = self.bar.get() {
            bar.finish_and_clear();
        }
    }
}

/// What stands between a download and whoever waits for it.
struct Watcher<'a> {
    hubs: &'a Hubs,
    wanted: &'a Wanted,
    onlooker: &'a dyn Onlooker,
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
        if self.hubs.accepts {
            self.onlooker.note(&licence);
            return true;
        }
        self.onlooker.accepts(&licence).unwrap_or_else(|| {
            let how = self.hubs.how_to_accept;
            *self.refusal.borrow_mut() = Some(format!("{licence}; {how} accepts it"));
            false
        })
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
        self.onlooker.note(&format!("{repo} from {hub}: {} files, {}{before}", plan.files, size(plan.bytes)));
        self.onlooker.begins(plan.bytes);
        true
    }

    fn progress(&self, progress: Progress) {
        self.onlooker.progress(progress.done);
    }

    fn cancelled(&self) -> bool {
        self.onlooker.cancelled()
    }
}
