//! `glimmer fit`: what a model takes, how fast it will be, and in which quantization to have it.

mod speed;
mod subject;

use anyhow::{Context, Result};
use glimmer::{ContextLength, DecoderSpec, DeviceKind, Fit, KvType, Load};
use glimmer_catalogue::Card;
use glimmer_tensor::Compute;
use serde::Serialize;

use super::bench::floor::Costs;
use super::cards::{self, LEAST_CONTEXT, Runs};
use super::list::tokens;
use super::show::ON_CARDS;
use crate::args::{FitArgs, KV_TYPES};
use crate::catalogue;
use crate::output::{self, Lines, size};
use crate::page::{self, Column, Table, labelled, paragraph};
use speed::{MadeFrom, Predicted, Speed};
use subject::{Form, Subject};

/// Tokens of the prompt whose first token is waited for.
const PROMPT: usize = 512;
/// Tokens a second for each user below which fewer bits are recommended: a choice, about as fast as people read.
const FAST_ENOUGH: f64 = 5.0;
/// Of the memory that is free, the part that is left alone.
const SPARE: u64 = 32;

/// Prints what fits.
pub(crate) fn run(args: &FitArgs) -> Result<()> {
    let catalogue = catalogue::open(&args.catalogue.catalogue)?;
    let (subject, wanted) = Subject::of(args, &catalogue)?;
    let spec = &subject.understood()?.spec;
    let device = if args.cards || args.gpu.is_some() { DeviceKind::Cuda } else { DeviceKind::Cpu };
    let load = Load {
        context: args.ctx.unwrap_or_else(|| usual_context(spec)).max(1),
        users: args.users,
        kv_type: args.kv_type,
        device,
    };
    if args.cards {
        return on_cards(args, &subject, wanted.as_deref(), load);
    }
    let forms = subject.forms(wanted.as_deref())?;
    let place = Place::of(args, &forms)?;
    let report = Report::of(&subject, &forms, &place, load)?;
    if args.catalogue.json { output::json(&report) } else { report.lines(&place).print() }
}

/// What fits of a published model on this machine, as `--json` has it. The machine is measured once: a server is asked again.
pub(crate) fn json(name: &str) -> Result<String> {
    let catalogue = catalogue::open(&[])?;
    let subject = Subject::published(&catalogue, &catalogue.member(name)?)?;
    let spec = &subject.understood()?.spec;
    let load =
        Load { context: usual_context(spec).max(1), users: 1, kv_type: KvType::F16, device: DeviceKind::Cpu };
    let forms = subject.forms(None)?;
    output::json_text(&Report::of(&subject, &forms, &Place::here(None, Speed::measured_once()?)?, load)?)
}

/// Tokens of a conversation where nobody says.
fn usual_context(spec: &DecoderSpec) -> usize {
    ContextLength::Auto.of(spec).min(spec.context)
}

/// Where the model is to run.
struct Place {
    /// Bytes that it may take.
    room: u64,
    /// Whose, for people.
    whose: String,
    speed: Speed,
}

impl Place {
    fn of(args: &FitArgs, forms: &[Form]) -> Result<Self> {
        if let Some(name) = &args.gpu {
            let card = Card::named(name)?;
            let room = cards::room(card)
                .with_context(|| format!("{}: no card that this program computes on", card.name))?;
            let whose = format!("of a {}, a part is left to the driver", card.name);
            return Ok(Place { room, whose, speed: Speed::of_card(card) });
        }
        let largest = forms.iter().map(|form| form.bytes.all).max().unwrap_or(0);
        Place::here(args.ram, Speed::of_processor(largest)?)
    }

    /// This machine, with so much memory or what is free.
    fn here(ram: Option<u64>, speed: Speed) -> Result<Self> {
        let (room, whose) = match (ram, glimmer_cpu::free_memory()) {
            (Some(ram), _) => (ram, "as --ram says".to_owned()),
            (None, Some(memory)) => {
                let (free, total) = (memory.free as u64, memory.total as u64);
                (free - free / SPARE, format!("free here, of {} in all, but a {SPARE}nd", size(total)))
            }
            (None, None) => anyhow::bail!("this system does not tell how much memory is free; --ram says it"),
        };
        Ok(Place { room, whose, speed })
    }
}

/// What is told.
#[derive(Serialize)]
struct Report {
    model: String,
    parameters: Option<u64>,
    context: usize,
    trained_context: usize,
    users: usize,
    kv_type: &'static str,
    /// Bytes of keys and values, and of what an engine computes in: exact.
    cache: u64,
    scratch: u64,
    /// Bytes that there are for the model.
    room: u64,
    /// Tokens of the prompt that the first token is predicted for.
    prompt: usize,
    predicted_from: MadeFrom,
    quantizations: Vec<Row>,
    recommended: Recommended,
}

/// The model in one quantization.
#[derive(Serialize)]
struct Row {
    quantization: String,
    /// Exact.
    bytes: u64,
    bits_per_weight: Option<f64>,
    /// With cache and scratch.
    total: u64,
    fits: bool,
    /// The longest context that fits for each user, at most what the model was trained for.
    longest_context: usize,
    predicted: Predicted,
}

#[derive(Serialize)]
struct Recommended {
    quantization: Option<String>,
    reason: String,
}

impl Report {
    fn of(subject: &Subject, forms: &[Form], place: &Place, load: Load) -> Result<Self> {
        let (spec, trained) = (&subject.understood()?.spec, subject.trained()?);
        let (parameters, needs) = (subject.parameters()?, load.needs(spec));
        let prompt = PROMPT.min(load.context);
        let row = |form: &Form| {
            let total = form.bytes.all.saturating_add(needs.total());
            let costs = Costs::with(spec, &form.weights, Compute::Auto, load.kv_type);
            Row {
                quantization: form.name.clone(),
                bytes: form.bytes.all,
                bits_per_weight: parameters.map(|all| 8.0 * form.bytes.all as f64 / all as f64),
                total,
                fits: total <= place.room,
                longest_context: longest(spec, load, trained, place.room.checked_sub(form.bytes.all)),
                predicted: place.speed.predict(&costs, spec, load, prompt),
            }
        };
        let quantizations: Vec<Row> = forms.iter().map(row).collect();
        let Fit { cache, scratch, .. } = needs;
        Ok(Report {
            model: subject.name(),
            parameters,
            context: load.context,
            trained_context: trained,
            users: load.users,
            kv_type: KV_TYPES.iter().find(|(kv, _)| *kv == load.kv_type).map_or("", |(_, name)| name),
            cache,
            scratch,
            room: place.room,
            prompt,
            predicted_from: place.speed.made_from(),
            recommended: Recommended::among(&quantizations, place.room, load.users),
            quantizations,
        })
    }

    fn lines(&self, place: &Place) -> Lines {
        const LABEL: usize = 13;
        let (width, mut lines) = (page::width(), Lines::default());
        let parameters = self.parameters.map(|all| match all as f64 {
            few if few < 1e8 => format!(", {:.1} million parameters", few / 1e6),
            all => format!(", {:.2} billion parameters", all / 1e9),
        });
        let trained = tokens(self.trained_context as u64);
        let head = format!(
            "{}{}, trained for {trained} tokens of context",
            self.model,
            parameters.unwrap_or_default()
        );
        paragraph(&head, width).iter().for_each(|line| lines.add(line));
        let users =
            if self.users == 1 { String::new() } else { format!(" for each of {} users", self.users) };
        let exact = format!(
            "{} tokens of context{users} take {} of cache in {} and {} to compute in; weights as below",
            self.context,
            size(self.cache),
            self.kv_type,
            size(self.scratch)
        );
        let recommended = match &self.recommended.quantization {
            Some(name) => format!("{name}: {}", self.recommended.reason),
            None => self.recommended.reason.clone(),
        };
        let mut text = |label, text: &str| {
            labelled(label, LABEL, text, width).iter().for_each(|line| lines.add(line));
        };
        text("exact", &exact);
        text("memory", &format!("{} {}", size(self.room), place.whose));
        text("predicted", &place.speed.described());
        text("recommended", &recommended);
        lines.add("");
        self.table().lines(width - 2).iter().for_each(|line| lines.add(format_args!("  {line}")));
        lines
    }

    fn table(&self) -> Table {
        let mut table = Table::new(&[
            Column::text("type"),
            Column::number("bits").goes(3),
            Column::number("weights"),
            Column::number("in all"),
            Column::text("fits"),
            Column::number("longest").goes(2),
            Column::number("tokens/s"),
            Column::number("first token").goes(1),
        ]);
        for row in &self.quantizations {
            table.add([
                row.quantization.clone(),
                row.bits_per_weight.map_or(String::new(), |bits| format!("{bits:.2}")),
                size(row.bytes),
                size(row.total),
                if row.fits { "yes" } else { "no" }.to_owned(),
                tokens(row.longest_context as u64),
                format!("{:.1}", row.predicted.tokens_per_second),
                row.predicted.first_token_seconds.map_or(String::new(), |seconds| format!("{seconds:.1} s")),
            ]);
        }
        table
    }
}

/// The longest context for so many users that room beside the weights has.
fn longest(spec: &DecoderSpec, load: Load, trained: usize, room: Option<u64>) -> usize {
    let most = Load { context: trained.max(load.context), ..load };
    room.map_or(0, |room| most.longest(spec, room))
}

impl Recommended {
    /// Of those that fit the most bits that are fast enough; else Q4_K_M, or where that does not fit the most bits that do.
    fn among(rows: &[Row], room: u64, users: usize) -> Self {
        let bits = |row: &Row| row.bits_per_weight.unwrap_or(0.0);
        let most_bits = |a: &&Row, b: &&Row| bits(a).total_cmp(&bits(b));
        let fitting = || rows.iter().filter(|row| row.fits);
        let is_fast = |row: &&Row| row.predicted.tokens_per_second / users as f64 >= FAST_ENOUGH;
        let fast = format!("{FAST_ENOUGH} tokens a second for each user");
        let found = match rows {
            [only] if only.fits => Some((only, format!("it fits, and {} are left", size(room - only.total)))),
            _ => None,
        };
        let found = found.or_else(|| {
            let row = fitting().filter(is_fast).max_by(most_bits)?;
            Some((row, format!("of those that fit with {fast}, the one with the most bits a weight")))
        });
        let found = found.or_else(|| {
            let row = fitting().find(|row| row.quantization == ON_CARDS)?;
            Some((
                row,
                format!("none that fits reaches {fast}; those with fewer bits are not worth their speed"),
            ))
        });
        let found = found.or_else(|| {
            let row = fitting().max_by(most_bits)?;
            Some((row, format!("{ON_CARDS} does not fit; of those that do it has the most bits a weight")))
        });
        if let Some((row, reason)) = found {
            return Recommended { quantization: Some(row.quantization.clone()), reason };
        }
        let nothing = |row: &Row| format!("nothing fits: {} needs {}", row.quantization, size(row.total));
        let smallest = rows.iter().min_by_key(|row| row.total).map_or(String::new(), nothing);
        let shorter = rows.iter().filter(|row| row.longest_context >= LEAST_CONTEXT).max_by(most_bits);
        let shorter = shorter.map_or(String::new(), |row| {
            format!("; with --ctx {} {} does", row.longest_context, row.quantization)
        });
        Recommended { quantization: None, reason: format!("{smallest}, there are {}{shorter}", size(room)) }
    }
}

/// Cards that run a model.
#[derive(Serialize)]
struct OnCards {
    model: String,
    quantization: String,
    users: usize,
    bytes: u64,
    cards: Vec<Runs>,
}

/// Lists the cards that run it.
fn on_cards(args: &FitArgs, subject: &Subject, wanted: Option<&str>, load: Load) -> Result<()> {
    let published = matches!(subject, Subject::Published { .. });
    let form = subject.forms(wanted.or(published.then_some(ON_CARDS)))?.swap_remove(0);
    let (spec, trained) = (&subject.understood()?.spec, subject.trained()?);
    let most = Load { context: trained.max(args.ctx.unwrap_or(0)), ..load };
    let least = args.ctx.unwrap_or(LEAST_CONTEXT);
    let report = OnCards {
        model: subject.name(),
        quantization: form.name,
        users: load.users,
        bytes: form.bytes.all,
        cards: cards::that_run(spec, form.bytes, most, least),
    };
    if args.catalogue.json {
        return output::json(&report);
    }
    let (width, mut lines) = (page::width(), Lines::default());
    let OnCards { model, quantization, users, bytes, cards } = &report;
    let users = if *users == 1 { String::new() } else { format!(" for each of {users} users") };
    let head = match cards.is_empty() {
        true => format!("No card of the catalogue has room for {model}, {quantization}, {}.", size(*bytes)),
        false => format!(
            "Cards with room for {model}, {quantization}, {}, and {least} tokens of context or more{users}. {}",
            size(*bytes),
            cards::explained()
        ),
    };
    paragraph(&head, width).iter().for_each(|line| lines.add(line));
    if !cards.is_empty() {
        cards::table(&cards.iter().collect::<Vec<_>>()).lines(width).iter().for_each(|line| lines.add(line));
    }
    lines.print()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(quantization: &str, bits: f64, total: u64, fits: bool, speed: f64, longest_context: usize) -> Row {
        Row {
            quantization: quantization.to_owned(),
            bytes: total,
            bits_per_weight: Some(bits),
            total,
            fits,
            longest_context,
            predicted: Predicted { tokens_per_second: speed, first_token_seconds: None },
        }
    }

    #[test]
    fn what_is_recommended_and_why() {
        let among = |fits: [bool; 4], speeds: [f64; 4], users| {
            let [a, b, c, d] = fits;
            let rows = [
                row("F16", 16.0, 160, a, speeds[0], 0),
                row("Q8_0", 8.5, 85, b, speeds[1], 0),
                row("Q4_K_M", 4.8, 48, c, speeds[2], 600),
                row("Q2_K_M", 2.6, 26, d, speeds[3], 1000),
            ];
            Recommended::among(&rows, 20, users)
        };
        let name = |fits, speeds, users| among(fits, speeds, users).quantization;
        let fast = [20.0, 40.0, 80.0, 100.0];
        let slow = [1.0, 2.0, 4.0, 4.5];
        assert_eq!(name([true; 4], fast, 1).as_deref(), Some("F16"));
        assert_eq!(name([true; 4], fast, 8).as_deref(), Some("Q8_0"));
        assert_eq!(name([false, true, true, true], slow, 1).as_deref(), Some("Q4_K_M"));
        assert_eq!(name([false, false, false, true], slow, 1).as_deref(), Some("Q2_K_M"));
        let only = Recommended::among(&[row("as stored", 16.0, 160, true, 1.0, 0)], 1184, 1);
        assert_eq!(only.reason, "it fits, and 1.0 KiB are left");
        let none = among([false; 4], fast, 1);
        assert_eq!(none.quantization, None);
        assert_eq!(
            none.reason,
            "nothing fits: Q2_K_M needs 26 B, there are 20 B; with --ctx 600 Q4_K_M does"
        );
    }
}
