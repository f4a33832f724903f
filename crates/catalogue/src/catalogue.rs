//! All entries, and what a name means.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::custom;
use crate::names::{nearest, plain, renamed};
use crate::{CatalogueError, Entry, Licence, Model, NameError, Origin, Published, Shape, Size};

/// The published models, oldest generation first, those that see last; a family each.
const FILES: [&str; 8] = [
    include_str!("../data/chatglm.json"),
    include_str!("../data/glm-4.json"),
    include_str!("../data/glm-edge.json"),
    include_str!("../data/glm-4-0414.json"),
    include_str!("../data/codegeex.json"),
    include_str!("../data/glm-4.5.json"),
    include_str!("../data/glm-5.json"),
    include_str!("../data/glm-v.json"),
];

/// The models that are known: the published ones, and a user's own.
#[derive(Clone, Debug)]
pub struct Catalogue {
    entries: Vec<Entry>,
    licences: BTreeMap<String, Licence>,
    sources: BTreeMap<String, Origin>,
}

/// What a name leads to.
#[derive(Clone, Copy, Debug)]
pub struct Member<'a> {
    /// The page that it is on.
    pub entry: &'a Entry,
    /// The size, where the name says it or there is only one.
    pub model: Option<&'a Model>,
    /// The files, where there are any that fit what the name says: of those that do, the first listed.
    pub published: Option<&'a Published>,
    /// The quantization that the name says, as its files spell it.
    pub quantization: Option<&'a str>,
}

impl Catalogue {
    /// The published models. They are parsed when this is called for the first time.
    pub fn published() -> &'static Catalogue {
        static PUBLISHED: OnceLock<Catalogue> = OnceLock::new();
        PUBLISHED.get_or_init(|| {
            #[derive(Deserialize)]
            struct Entries {
                entries: Vec<Entry>,
            }
            #[derive(Deserialize)]
            struct Licences {
                licences: BTreeMap<String, Licence>,
            }
            #[derive(Deserialize)]
            struct Sources {
                sources: BTreeMap<String, Origin>,
            }
            Catalogue {
                entries: FILES.into_iter().flat_map(|text| embedded::<Entries>(text).entries).collect(),
                licences: embedded::<Licences>(include_str!("../data/licences.json")).licences,
                sources: embedded::<Sources>(include_str!("../data/sources.json")).sources,
            }
        })
    }

    /// The published models and those of a user's files, in the form of Xinference's custom models: an object or an array
    /// of them in a file, or a directory of such files that end in `.json`.
    ///
    /// # Errors
    /// When nothing lies at a path, a file cannot be read or holds something else, or a name is taken.
    pub fn with(paths: &[PathBuf]) -> Result<Catalogue, CatalogueError> {
        let mut catalogue = Catalogue::published().clone();
        for path in paths {
            custom::add(&mut catalogue.entries, path)?;
        }
        Ok(catalogue)
    }

    /// Adds the models of a text in the same form, and returns the first one's name. Errors name `path` as its place.
    ///
    /// # Errors
    /// As [`Catalogue::with`]; then nothing is added.
    pub fn add(&mut self, path: &Path, text: &str) -> Result<&str, CatalogueError> {
        let before = self.entries.len();
        if let Err(error) = custom::add_text(&mut self.entries, path, text) {
            self.entries.truncate(before);
            return Err(error);
        }
        Ok(self.entries.get(before).map_or("", |entry| &entry.name))
    }

    /// All entries, the oldest generation first and a user's own last.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// All models with their entries.
    pub fn models(&self) -> impl Iterator<Item = (&Entry, &Model)> {
        self.entries.iter().flat_map(|entry| entry.models.iter().map(move |model| (entry, model)))
    }

    /// The licence of an entry.
    pub fn licence(&self, entry: &Entry) -> Option<&Licence> {
        self.licences.get(entry.licence.as_ref()?)
    }

    /// Where a figure is from, by the key that stands beside it.
    pub fn source(&self, key: &str) -> Option<&Origin> {
        self.sources.get(key)
    }

    /// All sources with their keys.
    pub fn sources(&self) -> impl Iterator<Item = (&str, &Origin)> {
        self.sources.iter().map(|(key, origin)| (key.as_str(), origin))
    }

    /// The model whose shape this one has, which may be itself, and that shape.
    pub fn shape<'a>(&'a self, model: &'a Model) -> Option<(&'a str, &'a Shape)> {
        if let Some(shape) = &model.shape {
            return Some((&model.name, shape));
        }
        let like = model.like.as_ref()?;
        let (_, other) = self.models().find(|(_, other)| other.name == *like)?;
        Some((&other.name, other.shape.as_ref()?))
    }

    /// The entry that a name leads to: its own name, that of one of its models, an alias, or the id of a repository, in
    /// upper or lower case.
    pub fn find(&self, name: &str) -> Option<&Entry> {
        self.named(name).map(|member| member.entry)
    }

    /// What a name leads to. Behind a colon may stand a size or a quantization or both: `glm-edge-chat:1.5b:Q4_K_M`.
    ///
    /// # Errors
    /// When nothing is called that, or has no such size or quantization.
    pub fn member(&self, name: &str) -> Result<Member<'_>, NameError> {
        let mut parts = name.split(':');
        let base = parts.next().unwrap_or_default();
        let mut member = self.named(base).ok_or_else(|| self.unknown(base))?;
        for part in parts {
            let size = Size::parse(part).and_then(|size| member.entry.models.iter().find(|m| m.size == size));
            match size {
                Some(model) if member.model.is_none_or(|known| known.name == model.name) => {
                    member.model = Some(model);
                }
                _ => member = self.quantized(member, base, part)?,
            }
        }
        if member.published.is_none() {
            member.published = member.forms().next();
        }
        Ok(member)
    }

    fn named(&self, name: &str) -> Option<Member<'_>> {
        let wanted = plain(name);
        let member = |entry, model, published| Member { entry, model, published, quantization: None };
        let by_model = || {
            let mut models = self.models();
            models
                .find(|(_, model)| plain(&model.name) == wanted)
                .map(|(e, model)| member(e, Some(model), None))
        };
        let by_entry = || {
            let is = |other: &String| plain(other) == wanted;
            let entry = self.entries.iter().find(|entry| is(&entry.name) || entry.aliases.iter().any(is))?;
            Some(member(entry, if let [only] = &entry.models[..] { Some(only) } else { None }, None))
        };
        let by_repository = || {
            let id = renamed(name.trim());
            let holds = |form: &&Published| form.repositories.iter().any(|r| r.id.eq_ignore_ascii_case(&id));
            self.entries.iter().find_map(|entry| {
                let form = entry.formats.iter().find(holds)?;
                let model = entry.models.iter().find(|model| model.size == form.size);
                Some(member(entry, model, Some(form)))
            })
        };
        by_model().or_else(by_entry).or_else(by_repository)
    }

    /// The member's files of a quantization; where the name was a repository's, that repository's.
    fn quantized<'a>(&self, member: Member<'a>, name: &str, wanted: &str) -> Result<Member<'a>, NameError> {
        let same = |form: &&Published| member.published.is_none_or(|p| p.repositories == form.repositories);
        let found = member.forms().filter(same).find_map(|form| Some((form, form.quantization(wanted)?)));
        let (published, quantization) = found.ok_or_else(|| {
            let sizes = member.entry.models.iter().filter(|_| member.model.is_none());
            let mut known: Vec<String> = sizes.map(|model| model.size.to_string()).collect();
            for quantization in member.forms().filter(same).flat_map(|form| &form.quantizations) {
                if !known.contains(quantization) {
                    known.push(quantization.clone());
                }
            }
            NameError::NoSuchForm { name: name.to_owned(), wanted: wanted.to_owned(), known }
        })?;
        Ok(Member { published: Some(published), quantization: Some(quantization), ..member })
    }

    fn unknown(&self, name: &str) -> NameError {
        let entries = self.entries.iter().flat_map(|entry| entry.aliases.iter().chain([&entry.name]));
        let names = entries.chain(self.models().map(|(_, model)| &model.name)).map(String::as_str);
        let last = name.rsplit('/').next().unwrap_or_default();
        NameError::Unknown { name: name.to_owned(), nearest: nearest(last, names) }
    }
}

impl<'a> Member<'a> {
    /// The forms of its size, or of all sizes where the name says none.
    pub fn forms(&self) -> impl Iterator<Item = &'a Published> + use<'a> {
        let model = self.model;
        self.entry.formats.iter().filter(move |form| model.is_none_or(|model| model.size == form.size))
    }
}

fn embedded<T: DeserializeOwned>(text: &str) -> T {
    serde_json::from_str(text).expect("a test reads every file of data/")
}
