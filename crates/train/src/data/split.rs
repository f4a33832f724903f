//! Where rows begin and end in a stream of bytes, without a look at what they say.

/// The kinds of files, by how rows lie in them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// A row a line.
    Lines,
    /// The elements of one JSON list.
    List,
    /// A row a line, but for line breaks between quotes.
    Csv,
    /// Rows with a blank line between them.
    Paragraphs,
}

/// A state machine that is told every byte.
#[derive(Debug)]
pub(super) struct Splitter {
    layout: Layout,
    depth: u32,
    quoted: bool,
    escaped: bool,
    line_has_text: bool,
    closed: bool,
}

/// What a byte is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Part of a row.
    Inside,
    /// Between two rows.
    Between,
    /// Behind the end of a JSON list, where nothing belongs.
    Behind,
}

impl Splitter {
    pub(super) fn new(layout: Layout) -> Self {
        Splitter { layout, depth: 0, quoted: false, escaped: false, line_has_text: false, closed: false }
    }

    /// Where the next byte lies.
    pub(super) fn place(&mut self, byte: u8) -> Place {
        match self.layout {
            Layout::Lines if byte == b'\n' => Place::Between,
            Layout::Lines => Place::Inside,
            Layout::Csv => self.in_csv(byte),
            Layout::Paragraphs => self.in_paragraphs(byte),
            Layout::List => self.in_list(byte),
        }
    }

    /// What is missing at the end of the file, if something is.
    pub(super) fn missing(&self) -> Option<&'static str> {
        match self.layout {
            Layout::Csv if self.quoted => Some("a quotation mark that closes the last field"),
            Layout::List if !self.closed => Some("the bracket that closes the list"),
            _ => None,
        }
    }

    fn in_csv(&mut self, byte: u8) -> Place {
        self.quoted ^= byte == b'"';
        if byte == b'\n' && !self.quoted { Place::Between } else { Place::Inside }
    }

    fn in_paragraphs(&mut self, byte: u8) -> Place {
        if byte == b'\n' {
            return if std::mem::take(&mut self.line_has_text) { Place::Inside } else { Place::Between };
        }
        self.line_has_text |= !byte.is_ascii_whitespace();
        Place::Inside
    }

    fn in_list(&mut self, byte: u8) -> Place {
        if self.quoted {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.quoted = false,
                _ => {}
            }
            return Place::Inside;
        }
        let blank = byte.is_ascii_whitespace();
        match (byte, self.depth) {
            (_, 0) if self.closed => return if blank { Place::Between } else { Place::Behind },
            (b']', 1) => {
                self.depth = 0;
                self.closed = true;
                return Place::Between;
            }
            (b'[' | b'{', _) => {
                self.depth = self.depth.saturating_add(1);
                return if self.depth == 1 { Place::Between } else { Place::Inside };
            }
            (b']' | b'}', _) => self.depth = self.depth.saturating_sub(1).max(1),
            (b'"', _) => self.quoted = true,
            _ => {}
        }
        if self.depth <= 1 && (blank || byte == b',') { Place::Between } else { Place::Inside }
    }
}
