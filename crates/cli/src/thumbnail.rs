//! Pictures in terminals that can show them, small: Kitty's graphics protocol, iTerm2's inline images, Sixel.
//!
//! Sources: <https://sw.kovidgoyal.net/kitty/graphics-protocol/>, <https://iterm2.com/documentation-images.html>, and for Sixel
//! DEC's VT330/VT340 Programmer Reference Manual, volume 2, chapter 14.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use glimmer::{Picture, View};

use crate::terminal::Terminal;

/// Pixels of the largest thumbnail: some forty columns and a dozen lines.
const MOST: (usize, usize) = (320, 240);

/// Bytes of base64 that one of Kitty's sequences may have.
const KITTY_CHUNK: usize = 4096;

/// How a terminal is told of a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Kitty,
    Iterm2,
    Sixel,
}

/// Shows what a model is going to see, a video by its first frame, where somebody watches and the terminal can.
pub(crate) fn show(view: &View, terminal: &Terminal) {
    let protocol = Protocol::of(|name| std::env::var(name).ok());
    if let (Some(protocol), Some(picture), true) = (protocol, view.first_frame(), terminal.shows_pictures()) {
        terminal.control(&format!("{}\n", protocol.sequence(&picture.within(MOST.0, MOST.1))));
    }
}

impl Protocol {
    /// That of the terminal by the variables that it sets; `GLIMMER_GRAPHICS` knows better. Within a multiplexer, which keeps
    /// the outer terminal's variables and passes no pictures on, there is none.
    fn of(variable: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let value = |name: &str| variable(name).filter(|value| !value.is_empty());
        if let Some(wanted) = value("GLIMMER_GRAPHICS") {
            return match wanted.as_str() {
                "kitty" => Some(Protocol::Kitty),
                "iterm2" => Some(Protocol::Iterm2),
                "sixel" => Some(Protocol::Sixel),
                _ => None,
            };
        }
        let term = value("TERM").unwrap_or_default();
        if value("TMUX").is_some() || ["screen", "tmux", "dumb"].iter().any(|name| term.starts_with(name)) {
            return None;
        }
        let program = value("TERM_PROGRAM").unwrap_or_default();
        match (term.as_str(), program.as_str()) {
            ("xterm-kitty" | "xterm-ghostty", _) | (_, "ghostty") => Some(Protocol::Kitty),
            (_, "iTerm.app" | "WezTerm" | "mintty") => Some(Protocol::Iterm2),
            _ if value("KITTY_WINDOW_ID").or_else(|| value("KONSOLE_VERSION")).is_some() => {
                Some(Protocol::Kitty)
            }
            _ if value("LC_TERMINAL").is_some_and(|name| name == "iTerm2") => Some(Protocol::Iterm2),
            ("foot" | "foot-extra" | "mlterm" | "contour" | "yaft-256color", _) => Some(Protocol::Sixel),
            _ if term.ends_with("-sixel") => Some(Protocol::Sixel),
            _ => None,
        }
    }

    fn sequence(self, picture: &Picture) -> String {
        match self {
            Protocol::Kitty => kitty(picture),
            Protocol::Iterm2 => iterm2(picture),
            Protocol::Sixel => sixel(picture),
        }
    }
}

/// Transmits and shows RGB; no answer is wanted, which would be taken for typed text.
fn kitty(picture: &Picture) -> String {
    let (width, height) = (picture.width(), picture.height());
    let data = STANDARD.encode(picture.pixels());
    let mut sequence = String::new();
    let mut chunks = data.as_bytes().chunks(KITTY_CHUNK).peekable();
    let mut head = format!("a=T,f=24,s={width},v={height},q=2,");
    while let Some(chunk) = chunks.next() {
        let more = u8::from(chunks.peek().is_some());
        sequence.push_str(&format!("\x1b_G{head}m={more};{}\x1b\\", String::from_utf8_lossy(chunk)));
        head.clear();
    }
    sequence
}

fn iterm2(picture: &Picture) -> String {
    let (width, height, png) = (picture.width(), picture.height(), picture.to_png());
    let size = format!("size={};width={width}px;height={height}px", png.len());
    format!("\x1b]1337;File=inline=1;{size}:{}\x07", STANDARD.encode(png))
}

/// Levels of each colour: 216 colours, of the 256 that such terminals have.
const LEVELS: usize = 6;

/// Rows of a Sixel's band: a character has a bit for each.
const BAND: usize = 6;

fn sixel(picture: &Picture) -> String {
    let (width, height) = (picture.width(), picture.height());
    let level = |value: u8| (usize::from(value) * (LEVELS - 1) + 127) / 255;
    let colours: Vec<usize> = picture
        .pixels()
        .chunks_exact(3)
        .map(|rgb| rgb.iter().fold(0, |colour, value| colour * LEVELS + level(*value)))
        .collect();
    let mut sequence = format!("\x1bPq\"1;1;{width};{height}");
    for colour in 0..LEVELS * LEVELS * LEVELS {
        let percent = |divisor: usize| colour / divisor % LEVELS * 100 / (LEVELS - 1);
        let [red, green, blue] = [percent(LEVELS * LEVELS), percent(LEVELS), percent(1)];
        sequence.push_str(&format!("#{colour};2;{red};{green};{blue}"));
    }
    for band in colours.chunks(BAND * width) {
        let mut used: Vec<usize> = band.to_vec();
        used.sort_unstable();
        used.dedup();
        for colour in used {
            sequence.push_str(&format!("#{colour}"));
            let bits = |column: usize| {
                let rows = band.iter().skip(column).step_by(width).enumerate();
                rows.fold(0u8, |bits, (row, other)| bits | u8::from(*other == colour) << row)
            };
            push_runs(&mut sequence, (0..width).map(bits));
            // Back to the band's beginning.
            sequence.push('$');
        }
        sequence.push('-');
    }
    sequence.push_str("\x1b\\");
    sequence
}

/// Six rows a character; what repeats is counted.
fn push_runs(sequence: &mut String, bits: impl Iterator<Item = u8>) {
    let mut bits = bits.peekable();
    while let Some(first) = bits.next() {
        let mut count = 1;
        while bits.next_if_eq(&first).is_some() {
            count += 1;
        }
        let character = char::from(b'?' + first);
        match count {
            1..=3 => (0..count).for_each(|_| sequence.push(character)),
            _ => sequence.push_str(&format!("!{count}{character}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(width: usize, height: usize) -> Picture {
        let pixel = |at: usize| [at * 7 % 256, at * 13 % 256, at / width * 50 % 256].map(|value| value as u8);
        Picture::new(width, height, (0..width * height).flat_map(pixel).collect()).unwrap()
    }

    #[test]
    fn terminals_are_known_by_their_variables() {
        let of = |variables: &[(&str, &str)]| {
            let find = |name: &str| variables.iter().find(|(other, _)| *other == name);
            Protocol::of(|name| find(name).map(|(_, value)| (*value).to_owned()))
        };
        assert_eq!(of(&[("TERM", "xterm-kitty")]), Some(Protocol::Kitty));
        assert_eq!(of(&[("TERM", "xterm-256color"), ("TERM_PROGRAM", "ghostty")]), Some(Protocol::Kitty));
        assert_eq!(of(&[("TERM", "xterm-256color"), ("KONSOLE_VERSION", "230804")]), Some(Protocol::Kitty));
        assert_eq!(of(&[("TERM", "xterm-256color"), ("TERM_PROGRAM", "iTerm.app")]), Some(Protocol::Iterm2));
        assert_eq!(of(&[("TERM", "xterm-256color"), ("LC_TERMINAL", "iTerm2")]), Some(Protocol::Iterm2));
        assert_eq!(of(&[("TERM", "foot")]), Some(Protocol::Sixel));
        for none in [&[("TERM", "xterm-256color")][..], &[("TERM", "linux")], &[("TERM", "dumb")], &[]] {
            assert_eq!(of(none), None);
        }
        assert_eq!(of(&[("TERM", "tmux-256color"), ("KITTY_WINDOW_ID", "1")]), None);
        assert_eq!(of(&[("TERM", "xterm-kitty"), ("GLIMMER_GRAPHICS", "none")]), None);
        assert_eq!(of(&[("TERM", "screen"), ("GLIMMER_GRAPHICS", "sixel")]), Some(Protocol::Sixel));
    }

    #[test]
    fn kitty_has_the_pixels_in_pieces() {
        let picture = picture(60, 40);
        let sequence = kitty(&picture);
        let (mut data, mut pieces) = (String::new(), 0);
        let mut rest = sequence.as_str();
        while let Some(after) = rest.strip_prefix("\x1b_G") {
            let (piece, after) = after.split_once("\x1b\\").unwrap();
            let (keys, base64) = piece.split_once(';').unwrap();
            let is_last = after.is_empty();
            let head = if pieces == 0 { "a=T,f=24,s=60,v=40,q=2," } else { "" };
            assert_eq!(keys, format!("{head}m={}", u8::from(!is_last)));
            assert!(base64.len() <= 4096 && (is_last || base64.len() % 4 == 0));
            data.push_str(base64);
            (rest, pieces) = (after, pieces + 1);
        }
        assert_eq!((rest, pieces), ("", 3));
        assert_eq!(STANDARD.decode(data).unwrap(), picture.pixels());
    }

    #[test]
    fn iterm2_has_a_file() {
        let picture = picture(9, 5);
        let sequence = iterm2(&picture);
        let inner = sequence.strip_prefix("\x1b]1337;File=inline=1;").unwrap().strip_suffix('\x07').unwrap();
        let (keys, base64) = inner.split_once(':').unwrap();
        let file = STANDARD.decode(base64).unwrap();
        assert_eq!(keys, format!("size={};width=9px;height=5px", file.len()));
        let limits = glimmer::PictureLimits::default();
        assert_eq!(glimmer::Pages::open(file, &limits).unwrap().page(0, 72.0, &limits).unwrap(), picture);
    }

    /// What a terminal makes of a Sixel.
    fn drawn(sequence: &str, width: usize, height: usize) -> Vec<[usize; 3]> {
        let mut pixels = vec![[0; 3]; width * height];
        let mut palette = std::collections::BTreeMap::new();
        let (mut column, mut top, mut colour, mut count) = (0, 0, 0, 1);
        let mut rest = sequence;
        while let Some(first) = rest.chars().next() {
            rest = &rest[1..];
            let end = rest.find(|c: char| !c.is_ascii_digit() && c != ';').unwrap_or(rest.len());
            match first {
                '#' | '!' => {
                    let numbers: Vec<usize> = rest[..end].split(';').map(|n| n.parse().unwrap()).collect();
                    rest = &rest[end..];
                    match (first, numbers.as_slice()) {
                        ('!', [n]) => count = *n,
                        (_, [register]) => colour = *register,
                        (_, [register, 2, rgb @ ..]) => drop(palette.insert(*register, rgb.to_vec())),
                        other => panic!("{other:?}"),
                    }
                }
                '$' => column = 0,
                '-' => (column, top) = (0, top + 6),
                bits => {
                    let bits = u32::from(bits) - 63;
                    for at in column..column + count {
                        for row in (0..6).filter(|row| bits >> row & 1 == 1) {
                            pixels[(top + row) * width + at].copy_from_slice(&palette[&colour]);
                        }
                    }
                    (column, count) = (column + count, 1);
                }
            }
        }
        pixels
    }

    #[test]
    fn sixel_has_the_nearest_of_its_colours() {
        // The last band is not full.
        let picture = picture(23, 16);
        let sequence = sixel(&picture);
        let body = sequence.strip_prefix("\x1bPq\"1;1;23;16").unwrap().strip_suffix("\x1b\\").unwrap();
        assert!(body.bytes().all(|byte| (b' '..0x7f).contains(&byte)));
        for (drawn, rgb) in drawn(body, 23, 16).iter().zip(picture.pixels().chunks_exact(3)) {
            for (percent, value) in drawn.iter().zip(rgb) {
                assert!((*percent as f32 * 2.55 - f32::from(*value)).abs() < 26.0, "{drawn:?} for {rgb:?}");
            }
        }
    }

    #[test]
    fn thumbnails_are_small_and_keep_their_shape() {
        for (size, expected) in [
            ((320, 240), (320, 240)),
            ((640, 240), (320, 120)),
            ((100, 2400), (10, 240)),
            ((5, 3), (5, 3)),
            ((9000, 1), (320, 1)),
        ] {
            let small = picture(size.0, size.1).within(MOST.0, MOST.1);
            assert_eq!((small.width(), small.height()), expected);
        }
    }
}
