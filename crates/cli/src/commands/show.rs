//! `glimmer show`: a model's page of the catalogue.

use std::collections::BTreeMap;

use glimmer::{DeviceKind, Fit, KvType, Load, PublishedModel};
use glimmer_catalogue::{Catalogue, Entry, Format, Licence, Member, Model, Origin, Published};
use serde::Serialize;

use super::cards::{self, LEAST_CONTEXT, Runs, fastest_of_each_size};
use crate::args::ShowArgs;
use crate::catalogue::{self, runs_as};
use crate::output::{self, Lines, size};
use crate::page::{self, Column, Table, paragraph};

/// The quantizations whose memory is shown, of those that `convert` writes.
pub(super) const QUANTIZATIONS: [&str; 13] = [
    "F16", "Q8_0", "Q6_K", "Q5_K_M", "Q5_K_S", "Q5_1", "Q5_0", "Q4_K_M", "Q4_K_S", "Q4_1", "Q4_0", "Q3_K_M",
    "Q2_K_M",
];
/// The one that cards are asked about.
pub(super) const ON_CARDS: &str = "Q4_K_M";

/// Prints the page.
pub(crate) fn run(args: &ShowArgs) -> anyhow::Result<()> {
    let catalogue = catalogue::open(&args.catalogue.catalogue)?;
    let member = catalogue.member(&args.name)?;
    let entry = member.entry;
    let models = models(&member);
    let here: Vec<Here> =
        models.iter().filter_map(|model| Here::of(&catalogue, entry, model, args.ctx)).collect();
    if args.catalogue.json {
        return output::json(&Report::of(&catalogue, entry, &here));
    }
    let mut page = Page {
        catalogue: &catalogue,
        entry,
        width: page::width(),
        lines: Lines::default(),
        notes: Vec::new(),
    };
    page.head();
    page.specifications();
    page.models(&models);
    page.files(&models);
    page.benchmarks(&models);
    for here in &here {
        page.memory(here);
        page.cards(here, args.all_cards);
    }
    if here.is_empty() {
        page.section("Memory");
        page.prose("This program has no decoder of this model yet.");
    }
    page.sources();
    page.lines.print()
}

/// The page as `--json` has it.
pub(crate) fn json(name: &str) -> anyhow::Result<String> {
    let catalogue = catalogue::open(&[])?;
    let member = catalogue.member(name)?;
    let here =
        models(&member).into_iter().filter_map(|model| Here::of(&catalogue, member.entry, model, None));
    output::json_text(&Report::of(&catalogue, member.entry, &here.collect::<Vec<_>>()))
}

/// The models that a name means: one, or all of its entry.
fn models<'a>(member: &Member<'a>) -> Vec<&'a Model> {
    let all = member.entry.models.iter();
    all.filter(|model| member.model.is_none_or(|only| only.name == model.name)).collect()
}

/// All of it, for programs.
#[derive(Serialize)]
struct Report<'a> {
    #[serde(flatten)]
    entry: &'a Entry,
    licence_terms: Option<&'a Licence>,
    here: &'a [Here<'a>],
    /// What the keys of sources stand for.
    origins: BTreeMap<&'a str, &'a Origin>,
}

impl<'a> Report<'a> {
    fn of(catalogue: &'a Catalogue, entry: &'a Entry, here: &'a [Here<'a>]) -> Self {
        let licence_terms = catalogue.licence(entry);
        let keys =
            entry.source_keys().into_iter().chain(licence_terms.map(|licence| licence.source.as_str()));
        let origins = keys.filter_map(|key| Some((key, catalogue.source(key)?))).collect();
        Report { entry, licence_terms, here, origins }
    }
}

/// A model as it runs here.
#[derive(Serialize)]
struct Here<'a> {
    model: &'a str,
    parameters: u64,
    /// Tokens that the figures are for.
    context: usize,
    /// Bytes of keys and values in f16.
    cache: u64,
    /// Bytes of activations.
    scratch: u64,
    weights: Vec<Weights<'a>>,
    /// Cards that run it in Q4_K_M, the smallest first.
    cards: Vec<Runs>,
}

/// Its weights in one quantization.
#[derive(Serialize)]
struct Weights<'a> {
    quantization: &'static str,
    bytes: u64,
    bits_per_weight: f64,
    /// With cache and scratch.
    total: u64,
    /// Who publishes it as a GGUF.
    published_by: Vec<&'a str>,
    /// What was measured of it, and the source's key.
    quality: Option<(String, &'a str)>,
}

impl<'a> Here<'a> {
    fn of(
        catalogue: &'a Catalogue,
        entry: &'a Entry,
        model: &'a Model,
        asked: Option<usize>,
    ) -> Option<Self> {
        let known = PublishedModel::named(runs_as(catalogue, entry, model)?)?;
        let trained = entry.context.map_or(known.spec().context, |context| context as usize);
        let context = asked.unwrap_or(trained);
        let load = Load { context, users: 1, kv_type: KvType::F16, device: DeviceKind::Cpu };
        let Fit { cache, scratch, .. } = load.needs(known.spec());
        let weights = QUANTIZATIONS.iter().filter_map(|quantization| {
            let written = known.weights(quantization)?;
            Some(Weights {
                quantization,
                bytes: written.bytes,
                bits_per_weight: 8.0 * written.bytes as f64 / written.parameters as f64,
                total: written.bytes + cache + scratch,
                published_by: publishers(entry, model, quantization),
                quality: quality(entry, model, quantization),
            })
        });
        let on_cards = known.weights(ON_CARDS)?;
        let most = Load { context: trained, device: DeviceKind::Cuda, ..load };
        Some(Here {
            model: &model.name,
            parameters: on_cards.parameters,
            context,
            cache,
            scratch,
            weights: weights.collect(),
            cards: cards::that_run(known.spec(), on_cards.into(), most, LEAST_CONTEXT),
        })
    }
}

/// Who publishes a size in a quantization as a GGUF: the owners of the repositories, on Hugging Face where it is there.
fn publishers<'a>(entry: &'a Entry, model: &Model, quantization: &str) -> Vec<&'a str> {
    let ggufs = entry.formats.iter().filter(|form| form.format == Format::Ggufv2 && form.size == model.size);
    let with = ggufs.filter(|form| form.quantization(quantization).is_some());
    let first =
        |form: &'a Published| Some(form.repositories.first()?.id.split('/').next().unwrap_or_default());
    let mut owners: Vec<&str> = with.filter_map(first).collect();
    owners.dedup();
    owners
}

fn quality<'a>(entry: &'a Entry, model: &Model, quantization: &str) -> Option<(String, &'a str)> {
    let measured = entry.quality.iter().filter(|quality| quality.model == model.name);
    let found =
        measured.into_iter().find(|quality| quality.quantization.eq_ignore_ascii_case(quantization))?;
    Some((format!("{} {}", found.measure, found.value), &found.source))
}

/// The page as it grows.
struct Page<'a> {
    catalogue: &'a Catalogue,
    entry: &'a Entry,
    width: usize,
    lines: Lines,
    /// Keys of sources in the order in which they were first named: their numbers.
    notes: Vec<String>,
}

impl Page<'_> {
    /// Columns of what stands before a text.
    const LABEL: usize = 14;

    fn section(&mut self, name: &str) {
        self.lines.add("");
        paragraph(name, self.width).iter().for_each(|line| self.lines.add(line));
    }

    /// A text behind its label, in as many lines as it takes.
    fn text(&mut self, label: &str, text: &str) {
        page::labelled(label, Self::LABEL, text, self.width).iter().for_each(|line| self.lines.add(line));
    }

    /// A text under a section's name.
    fn prose(&mut self, text: &str) {
        paragraph(text, self.width - 2).iter().for_each(|line| self.lines.add(format_args!("  {line}")));
    }

    fn table(&mut self, table: &Table) {
        table.lines(self.width - 2).iter().for_each(|line| self.lines.add(format_args!("  {line}")));
    }

    /// The numbers of sources: ` [1,2]`.
    fn note<'k>(&mut self, keys: impl IntoIterator<Item = &'k String>) -> String {
        let numbers: Vec<String> = keys
            .into_iter()
            .map(|key| {
                let known = self.notes.iter().position(|other| other == key);
                let at = known.unwrap_or_else(|| {
                    self.notes.push(key.clone());
                    self.notes.len() - 1
                });
                (at + 1).to_string()
            })
            .collect();
        if numbers.is_empty() { String::new() } else { format!(" [{}]", numbers.join(",")) }
    }

    fn head(&mut self) {
        let sizes: Vec<String> = self.entry.models.iter().map(|model| model.size.to_string()).collect();
        self.lines.add(format_args!("{}  {}", self.entry.name, sizes.join(", ")));
        paragraph(&self.entry.description, self.width).iter().for_each(|line| self.lines.add(line));
    }

    fn specifications(&mut self) {
        self.section("Specifications");
        let entry = self.entry;
        let stop_ids: Vec<String> = entry.stop_ids.iter().map(u32::to_string).collect();
        let licence = self.catalogue.licence(entry);
        let facts: [(&str, &str, Option<String>); 8] = [
            ("abilities", "abilities", Some(entry.abilities.join(", "))),
            ("languages", "languages", Some(entry.languages.join(", "))),
            ("context", "context", entry.context.map(|context| format!("{context} tokens"))),
            ("released", "released", entry.released.clone()),
            ("licence", "licence", licence.map(|l| format!("{}; commercial use: {}", l.name, l.commercial))),
            ("class", "architecture", entry.architecture.clone()),
            ("chat format", "chat_format", entry.chat_format.clone()),
            ("stop ids", "stop_ids", Some(stop_ids.join(", "))),
        ];
        self.text("family", &entry.family);
        if !entry.aliases.is_empty() {
            self.text("also called", &entry.aliases.join(", "));
        }
        for (label, field, fact) in facts {
            if let Some(fact) = fact.filter(|fact| !fact.is_empty()) {
                let note = self.note(entry.sources.get(field).into_iter().flatten());
                self.text(label, &format!("{fact}{note}"));
            }
        }
    }

    fn models(&mut self, models: &[&Model]) {
        self.section("Models");
        let mut table = Table::new(&[
            Column::text("name"),
            Column::text("size"),
            Column::number("layers").goes(1),
            Column::number("hidden").goes(2),
            Column::number("heads").goes(5),
            Column::number("kv heads").goes(3),
            Column::number("head").goes(6),
            Column::number("inner").goes(7),
            Column::number("vocabulary").goes(8),
            Column::number("experts").goes(9),
            Column::text("sources").goes(4),
        ]);
        let catalogue = self.catalogue;
        for model in models {
            let shape = catalogue.shape(model).map(|(_, shape)| shape);
            let number = |of: &dyn Fn(&glimmer_catalogue::Shape) -> Option<usize>| {
                shape.and_then(of).map_or(String::new(), |number| number.to_string())
            };
            let experts = shape.and_then(|shape| shape.experts.as_ref());
            table.add([
                model.name.clone(),
                model.activated.as_ref().map_or(model.size.to_string(), |a| format!("{}-A{a}", model.size)),
                number(&|shape| Some(shape.layers)),
                number(&|shape| Some(shape.hidden)),
                number(&|shape| Some(shape.heads)),
                number(&|shape| Some(shape.kv_heads)),
                number(&|shape| shape.head_dim),
                number(&|shape| Some(shape.ffn)),
                number(&|shape| Some(shape.vocab)),
                experts.map_or(String::new(), |e| {
                    format!("{} of {}, {} shared", e.per_token, e.count, e.shared)
                }),
                self.note(shape.into_iter().flat_map(|shape| &shape.sources)).trim_start().to_owned(),
            ]);
        }
        self.table(&table);
    }

    fn files(&mut self, models: &[&Model]) {
        self.section("Files");
        let entry = self.entry;
        for form in entry.formats.iter().filter(|form| models.iter().any(|model| model.size == form.size)) {
            let note = self.note(&form.sources);
            let quantizations = match form.quantizations.join(" ") {
                none if none.is_empty() => "quantizations are not listed anywhere".to_owned(),
                some if some == "none" => "as trained".to_owned(),
                some => some,
            };
            self.text(&format!("{} {}", form.format, form.size), &format!("{quantizations}{note}"));
            let places = form.repositories.iter().map(|r| format!("{} ({})", r.id, r.hub));
            let places: Vec<String> = places.chain(form.uri.clone()).collect();
            self.text("", &places.join(", "));
            let patterns = form.file_pattern.iter().chain(&form.split_pattern);
            patterns.for_each(|pattern| self.text("", pattern));
        }
        if entry.formats.is_empty() {
            self.prose("None that a source names.");
        }
    }

    fn benchmarks(&mut self, models: &[&Model]) {
        let entry = self.entry;
        let mut table = Table::new(&[
            Column::text("benchmark"),
            Column::number("score"),
            Column::text("model").goes(2),
            Column::text("source").goes(1),
            Column::text("protocol"),
        ]);
        for benchmark in entry.benchmarks.iter().filter(|b| models.iter().any(|model| model.name == b.model))
        {
            table.add([
                benchmark.name.clone(),
                benchmark.score.to_string(),
                if models.len() > 1 { benchmark.model.clone() } else { String::new() },
                self.note([&benchmark.source]).trim_start().to_owned(),
                benchmark.protocol.clone().unwrap_or_else(|| "not named".to_owned()),
            ]);
        }
        if !table.is_empty() {
            self.section("Benchmarks, as published");
            self.table(&table);
        }
    }

    fn memory(&mut self, here: &Here<'_>) {
        self.section(&format!("Memory of {} by quantization", here.model));
        let billions = here.parameters as f64 / 1e9;
        let text = format!(
            "{billions:.2} billion parameters. A cache of {} tokens in f16 takes {}, activations {}.",
            here.context,
            size(here.cache),
            size(here.scratch)
        );
        self.prose(&text);
        let mut table = Table::new(&[
            Column::text("type"),
            Column::number("bits"),
            Column::number("weights"),
            Column::number("with cache"),
            Column::text("published by").goes(2),
            Column::text("quality").goes(1),
        ]);
        for weights in &here.weights {
            let quality = weights.quality.as_ref().map_or(String::new(), |(figure, source)| {
                format!("{figure}{}", self.note([&(*source).to_owned()]))
            });
            table.add([
                weights.quantization.to_owned(),
                format!("{:.2}", weights.bits_per_weight),
                size(weights.bytes),
                size(weights.total),
                weights.published_by.join(", "),
                quality,
            ]);
        }
        self.table(&table);
        let protocol = self.entry.quality.iter().find(|quality| quality.model == here.model);
        if let Some(quality) = protocol {
            self.prose(&format!("Quality: {}.", quality.protocol));
        }
    }

    fn cards(&mut self, here: &Here<'_>, all: bool) {
        self.section(&format!("NVIDIA cards that run {} in {ON_CARDS}, alone on the card", here.model));
        let shown: Vec<&Runs> =
            if all { here.cards.iter().collect() } else { fastest_of_each_size(&here.cards) };
        if shown.is_empty() {
            self.prose("None of the catalogue's cards has room for it.");
            return;
        }
        let note = self.note([&"techpowerup".to_owned()]);
        let which = match here.cards.len() {
            count if count > shown.len() => {
                format!("The fastest card of each size{note}; --all-cards shows {count}.")
            }
            _ => format!("All cards of the catalogue{note} that do."),
        };
        self.prose(&format!("{which} {}", cards::explained()));
        self.table(&cards::table(&shown));
    }

    fn sources(&mut self) {
        self.section("Sources");
        for (number, key) in std::mem::take(&mut self.notes).iter().enumerate() {
            let Some(Origin { title, url }) = self.catalogue.source(key) else { continue };
            let url = url.as_ref().map_or(String::new(), |url| format!(", {url}"));
            let text = paragraph(&format!("{title}{url}"), self.width.saturating_sub(7).max(16));
            for (at, line) in text.iter().enumerate() {
                let label = if at == 0 { format!("[{}]", number + 1) } else { String::new() };
                self.lines.add(format_args!("  {label:<5}{line}"));
            }
        }
    }
}
