//! The model that is asked about: a published one, or files.

use std::path::Path;

use anyhow::{Context, Result, bail};
use glimmer::{DEMO, Local, ModelFiles, Overrides, PublishedModel, Resolver, Written, converted};
use glimmer_catalogue::{Catalogue, Member};
use glimmer_models::export::WeightTypes;
use glimmer_models::{Understood, WeightRole};

use crate::args::FitArgs;
use crate::catalogue::runs_as;
use crate::commands::bench::floor::Weights;
use crate::commands::cards::Bytes;
use crate::commands::show::QUANTIZATIONS;

/// A model.
pub(super) enum Subject {
    Published { name: String, trained: Option<usize>, model: Box<PublishedModel> },
    Files(Box<ModelFiles>),
}

/// Its weights in one form.
pub(super) struct Form {
    /// The quantization; of files as they are `as stored`.
    pub(super) name: String,
    pub(super) bytes: Bytes,
    pub(super) weights: Weights,
}

/// What files are called that are taken as they are.
const STORED: &str = "as stored";

impl Subject {
    /// The model that a name leads to, and the quantization that it says.
    pub(super) fn of(args: &FitArgs, catalogue: &Catalogue) -> Result<(Self, Option<String>)> {
        let path = Path::new(&args.name);
        if args.name == DEMO || path.exists() {
            let files = ModelFiles::new(Local.resolve(path)?, Overrides::default());
            return Ok((Subject::Files(Box::new(files)), args.quant.clone()));
        }
        let is_gguf = path.extension().is_some_and(|end| end.eq_ignore_ascii_case("gguf"));
        if is_gguf || path.is_absolute() {
            bail!("{}: no such file or directory", path.display());
        }
        let member = catalogue.member(&args.name)?;
        let said = member.quantization.filter(|quantization| *quantization != "none");
        Ok((Subject::published(catalogue, &member)?, args.quant.clone().or(said.map(str::to_owned))))
    }

    /// A model of the catalogue.
    pub(super) fn published(catalogue: &Catalogue, member: &Member<'_>) -> Result<Self> {
        let entry = member.entry;
        let Some(model) = member.model else {
            let names: Vec<&str> = entry.models.iter().map(|model| model.name.as_str()).collect();
            bail!("{} has several sizes; name one: {}", entry.name, names.join(", "));
        };
        let known = runs_as(catalogue, entry, model).and_then(PublishedModel::named);
        let known = known.with_context(|| format!("this program has no decoder of {} yet", model.name))?;
        let trained = entry.context.map(|context| context as usize);
        Ok(Subject::Published { name: model.name.clone(), trained, model: Box::new(known) })
    }

    pub(super) fn name(&self) -> String {
        match self {
            Subject::Published { name, .. } => name.clone(),
            Subject::Files(files) => files.source().name(),
        }
    }

    pub(super) fn understood(&self) -> Result<&Understood> {
        match self {
            Subject::Published { model, .. } => Ok(model.understood()),
            Subject::Files(files) => Ok(files.understood()?),
        }
    }

    /// Tokens of context that it was trained for.
    pub(super) fn trained(&self) -> Result<usize> {
        let own = self.understood()?.spec.context;
        Ok(match self {
            Subject::Published { trained, .. } => trained.unwrap_or(own),
            Subject::Files(_) => own,
        })
    }

    /// The forms that are shown: the one that is wanted, those that `convert` writes, or the files as they are.
    pub(super) fn forms(&self, wanted: Option<&str>) -> Result<Vec<Form>> {
        let understood = self.understood()?;
        let form = |name: &str, written: Written| Form {
            name: name.to_owned(),
            bytes: written.into(),
            weights: Weights::written(&written, &understood.spec),
        };
        match (wanted, self) {
            (Some(name), _) => {
                let written = converted(understood, name).with_context(|| {
                    let known: Vec<_> = WeightTypes::names().collect();
                    format!("--quant: `convert` writes {}", known.join(", "))
                })?;
                Ok(vec![form(&name.to_ascii_uppercase(), written)])
            }
            (None, Subject::Published { .. }) => {
                let all = QUANTIZATIONS.iter();
                Ok(all.filter_map(|name| Some(form(name, converted(understood, name)?))).collect())
            }
            (None, Subject::Files(files)) => {
                let checkpoint = files.checkpoint()?;
                let all = checkpoint.tensors().iter().map(|tensor| tensor.bytes as u64).sum();
                let of = |role| understood.stored(checkpoint, role).map_or(0, |info| info.bytes as u64);
                let head = of(WeightRole::Head);
                let unread = if head == 0 { 0 } else { of(WeightRole::Embedding) };
                let weights = Weights::stored(checkpoint, understood);
                Ok(vec![Form { name: STORED.to_owned(), bytes: Bytes { all, read: all - unread }, weights }])
            }
        }
    }

    /// Elements of its weights; `None` where a GGUF has no place for some of them.
    pub(super) fn parameters(&self) -> Result<Option<u64>> {
        Ok(converted(self.understood()?, "F16").map(|written| written.parameters))
    }
}
