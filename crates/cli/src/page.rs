//! Text laid out for a terminal: tables whose least columns go where there is no room, and paragraphs. Widths are those of
//! a terminal, where a Chinese character takes two columns.

use glimmer::Escaped;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Columns of standard output: those of the terminal, of `COLUMNS` where that is set, or enough for a file.
pub(crate) fn width() -> usize {
    const FILE: usize = 120;
    const LEAST: usize = 40;
    let asked = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    let terminal = || rustix::termios::tcgetwinsize(std::io::stdout()).ok().map(|size| size.ws_col.into());
    asked.or_else(terminal).filter(|columns| *columns > 0).unwrap_or(FILE).max(LEAST)
}

/// How a column is laid out.
#[derive(Clone, Copy)]
pub(crate) struct Column {
    head: &'static str,
    right: bool,
    /// The higher, the sooner it goes; 0 stays.
    order: u8,
}

impl Column {
    /// A column of text that stays.
    pub(crate) const fn text(head: &'static str) -> Self {
        Column { head, right: false, order: 0 }
    }

    /// A column of numbers that stays.
    pub(crate) const fn number(head: &'static str) -> Self {
        Column { head, right: true, order: 0 }
    }

    /// The column goes where there is no room, those of a higher order first.
    pub(crate) const fn goes(self, order: u8) -> Self {
        Column { order, ..self }
    }
}

/// A table.
pub(crate) struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// One without rows.
    pub(crate) fn new(columns: &[Column]) -> Self {
        Table { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// One more row. Text of a file can do nothing in it.
    pub(crate) fn add<const N: usize>(&mut self, cells: [String; N]) {
        debug_assert_eq!(N, self.columns.len());
        self.rows.push(cells.iter().map(|cell| Escaped(cell).to_string()).collect());
    }

    /// Whether nothing was added.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Its lines, none wider than `width`: columns that may go do, and the last one is cut where enough of it is left.
    pub(crate) fn lines(&self, width: usize) -> Vec<String> {
        const GAP: usize = 2;
        // Less than this of a column tells nobody anything.
        const LEAST: usize = 12;
        let natural = |column: usize| {
            let cells = self.rows.iter().map(|row| row[column].width());
            cells.chain([self.columns[column].head.width()]).max().unwrap_or(0)
        };
        // A column that says nothing is not shown.
        let says = |column: &usize| {
            self.columns[*column].order == 0 || self.rows.iter().any(|row| !row[*column].is_empty())
        };
        let mut shown: Vec<(usize, usize)> =
            (0..self.columns.len()).filter(says).map(|column| (column, natural(column))).collect();
        let total = |shown: &[(usize, usize)]| shown.iter().map(|(_, wide)| wide + GAP).sum::<usize>() - GAP;
        while let Some(over) = total(&shown).checked_sub(width).filter(|over| *over > 0) {
            let least = shown.iter().enumerate().max_by_key(|(_, (column, _))| self.columns[*column].order);
            let Some((at, &(column, wide))) = least else { break };
            let may_be_cut = at + 1 == shown.len() && wide >= over + LEAST;
            if self.columns[column].order == 0 || may_be_cut {
                break;
            }
            shown.remove(at);
        }
        let head = self.columns.iter().map(|column| column.head.to_owned()).collect();
        let line = |row: &Vec<String>| {
            let cells: Vec<String> =
                shown.iter().map(|(column, wide)| self.padded(*column, &row[*column], *wide)).collect();
            cut(cells.join("  ").trim_end(), width)
        };
        std::iter::once(&head).chain(&self.rows).map(line).collect()
    }

    fn padded(&self, column: usize, cell: &str, wide: usize) -> String {
        let blanks = " ".repeat(wide.saturating_sub(cell.width()));
        if self.columns[column].right { blanks + cell } else { cell.to_owned() + &blanks }
    }
}

/// The beginning of a text that fits, with a mark where something is left out.
fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut left = width.saturating_sub(1);
    let fits = |c: &char| match left.checked_sub(c.width().unwrap_or(0)) {
        Some(rest) => {
            left = rest;
            true
        }
        None => false,
    };
    text.chars().take_while(fits).chain(['\u{2026}']).collect()
}

/// A text in lines of at most `width` columns, broken between words, and inside of those that are longer or Chinese.
pub(crate) fn paragraph(text: &str, width: usize) -> Vec<String> {
    let (mut lines, mut line) = (Vec::new(), String::new());
    for word in Escaped(text).to_string().split_whitespace() {
        let gap = usize::from(!line.is_empty());
        if line.width() + gap + word.width() <= width {
            line.extend((gap > 0).then_some(' '));
            line.push_str(word);
            continue;
        }
        // What is wide goes on in this line; a word of letters begins the next one.
        let wide = word.chars().any(|c| c.width() == Some(2));
        if wide && line.width() + gap + 2 <= width {
            line.extend((gap > 0).then_some(' '));
        } else if !line.is_empty() {
            lines.push(std::mem::take(&mut line));
        }
        for c in word.chars() {
            if line.width() + c.width().unwrap_or(0) > width {
                lines.push(std::mem::take(&mut line));
            }
            line.push(c);
        }
    }
    lines.extend((!line.is_empty()).then_some(line));
    lines
}

/// A text behind its label, which takes `wide` columns, in as many lines as it takes.
pub(crate) fn labelled(label: &str, wide: usize, text: &str, width: usize) -> Vec<String> {
    let lines = paragraph(text, width.saturating_sub(wide + 2).max(16));
    let label = |number: usize| if number == 0 { label } else { "" };
    lines.iter().enumerate().map(|(number, line)| format!("  {:<wide$}{line}", label(number))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn least_columns_go_first_and_the_last_is_cut() {
        let columns = [
            Column::text("name"),
            Column::number("size").goes(1),
            Column::text("what").goes(2),
            Column::text("of"),
        ];
        let mut table = Table::new(&columns);
        table.add(["模型".into(), "9".into(), "chat".into(), "everything".into()]);
        table.add(["a".into(), "10".into(), "x\n".into(), String::new()]);
        assert_eq!(
            table.lines(80),
            ["name  size  what  of", "模型     9  chat  everything", "a       10  x\\n"]
        );
        assert_eq!(table.lines(22), ["name  size  of", "模型     9  everything", "a       10"]);
        assert_eq!(table.lines(16), ["name  of", "模型  everything", "a"]);
        assert_eq!(table.lines(10), ["name  of", "模型  eve\u{2026}", "a"]);
        assert_eq!(table.lines(4), ["nam\u{2026}", "模\u{2026}", "a"]);
        let mut table = Table::new(&[Column::text("name"), Column::text("what").goes(1)]);
        table.add(["model".into(), "chat reasoning hybrid tools".into()]);
        assert_eq!(table.lines(20), ["name   what", "model  chat reasoni\u{2026}"]);
        assert_eq!(table.lines(15), ["name", "model"]);
    }

    #[test]
    fn columns_that_say_nothing_are_left_out() {
        let mut table = Table::new(&[Column::text("name"), Column::text("price").goes(1)]);
        table.add(["a".into(), String::new()]);
        assert_eq!(table.lines(80), ["name", "a"]);
    }

    #[test]
    fn paragraphs_are_broken_where_they_may_be() {
        assert_eq!(paragraph("one two  three", 8), ["one two", "three"]);
        assert_eq!(paragraph("abcdefghij", 4), ["abcd", "efgh", "ij"]);
        assert_eq!(paragraph("用 模型的说明文字", 8), ["用 模型", "的说明文", "字"]);
        assert_eq!(paragraph("a\u{1b}b", 80), ["a\\u{1b}b"]);
        assert_eq!(paragraph("", 80), [""; 0]);
        for width in 2..20 {
            let lines = paragraph("GLM-4 是智谱的模型, with 128K of context 和工具", width);
            assert!(lines.iter().all(|line| line.width() <= width), "{lines:?}");
        }
    }
}
