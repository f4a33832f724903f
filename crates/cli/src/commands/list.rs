//! `glimmer list`: the models of the catalogue.

use glimmer::PublishedModel;
use glimmer_catalogue::{Catalogue, Entry, Format, Model, Size};
use serde::Serialize;

use super::running;
use crate::args::ListArgs;
use crate::catalogue::{self, runs_as};
use crate::output::{self, Lines, size};
use crate::page::{self, Column, Table};

/// Prints the models.
pub(crate) fn run(args: &ListArgs) -> anyhow::Result<()> {
    if args.running {
        return running::list(&args.server, args.catalogue.json);
    }
    let catalogue = catalogue::open(&args.catalogue.catalogue)?;
    let models: Vec<Row> = catalogue
        .models()
        .map(|(entry, model)| Row::of(&catalogue, entry, model))
        .filter(|row| row.fits(args))
        .collect();
    if args.catalogue.json {
        return output::json(&models);
    }
    let mut lines = Lines::default();
    if models.is_empty() {
        lines.add("no model fits");
    } else {
        table(&models).lines(page::width()).iter().for_each(|line| lines.add(line));
    }
    lines.print()
}

/// All models as `--json` has them.
pub(crate) fn json() -> anyhow::Result<String> {
    let catalogue = catalogue::open(&[])?;
    let models: Vec<Row> =
        catalogue.models().map(|(entry, model)| Row::of(&catalogue, entry, model)).collect();
    output::json_text(&models)
}

/// A model, as it is listed.
#[derive(Serialize)]
struct Row<'a> {
    name: &'a str,
    /// The page that it is on.
    entry: &'a str,
    size: &'a Size,
    activated: Option<&'a Size>,
    context: Option<u64>,
    abilities: &'a [String],
    languages: &'a [String],
    family: &'a str,
    released: Option<&'a str>,
    licence: Option<&'a str>,
    formats: Vec<Format>,
    /// Bytes of its weights in Q4_K_M, where it runs here.
    q4_k_m: Option<u64>,
    #[serde(skip)]
    description: &'a str,
}

impl<'a> Row<'a> {
    fn of(catalogue: &'a Catalogue, entry: &'a Entry, model: &'a Model) -> Self {
        let mut formats = Vec::new();
        for form in entry.formats.iter().filter(|form| form.size == model.size) {
            if !formats.contains(&form.format) {
                formats.push(form.format);
            }
        }
        let weights = || PublishedModel::named(runs_as(catalogue, entry, model)?)?.weights("Q4_K_M");
        Row {
            name: &model.name,
            entry: &entry.name,
            size: &model.size,
            activated: model.activated.as_ref(),
            context: entry.context,
            abilities: &entry.abilities,
            languages: &entry.languages,
            family: &entry.family,
            released: entry.released.as_deref(),
            licence: catalogue.licence(entry).map(|licence| licence.name.as_str()),
            formats,
            q4_k_m: weights().map(|weights| weights.bytes),
            description: &entry.description,
        }
    }

    fn fits(&self, args: &ListArgs) -> bool {
        let same = |wanted: &Option<String>, given: &str| {
            wanted.as_ref().is_none_or(|wanted| wanted.eq_ignore_ascii_case(given))
        };
        let has = |text: &str| {
            let text = text.to_lowercase();
            [self.name, self.entry, self.family, self.description]
                .iter()
                .any(|own| own.to_lowercase().contains(&text))
        };
        (args.ability.is_none() || self.abilities.iter().any(|ability| same(&args.ability, ability)))
            && same(&args.family, self.family)
            && args.text.as_deref().is_none_or(has)
            && (!args.runs || self.q4_k_m.is_some())
    }
}

fn table(models: &[Row<'_>]) -> Table {
    let mut table = Table::new(&[
        Column::text("NAME"),
        Column::text("SIZE"),
        Column::number("CONTEXT").goes(2),
        Column::number("Q4_K_M").goes(1),
        Column::text("ABILITIES").goes(3),
        Column::text("FILES").goes(4),
        Column::text("RELEASED").goes(6),
        Column::text("LICENCE").goes(5),
    ]);
    for model in models {
        let formats: Vec<String> = model.formats.iter().map(Format::to_string).collect();
        table.add([
            model.name.to_owned(),
            model
                .activated
                .map_or(model.size.to_string(), |activated| format!("{}-A{activated}", model.size)),
            model.context.map_or(String::new(), tokens),
            model.q4_k_m.map_or("-".to_owned(), size),
            model.abilities.join(" "),
            formats.join(" "),
            model.released.unwrap_or_default().to_owned(),
            model.licence.unwrap_or_default().trim_end_matches(" licence").to_owned(),
        ]);
    }
    table
}

/// A context as people write it: 128K.
pub(super) fn tokens(tokens: u64) -> String {
    match tokens {
        _ if tokens >= 1 << 20 && tokens.is_multiple_of(1 << 20) => format!("{}M", tokens >> 20),
        _ if tokens.is_multiple_of(1 << 10) => format!("{}K", tokens >> 10),
        _ => tokens.to_string(),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn contexts_for_people() {
        for (tokens, shown) in
            [(2048, "2K"), (131_072, "128K"), (1_048_576, "1M"), (202_752, "198K"), (1000, "1000")]
        {
            assert_eq!(super::tokens(tokens), shown);
        }
    }
}
