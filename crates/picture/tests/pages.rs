//! Files of several pages.

use glimmer_picture::{Limits, Pages};

/// A TIFF with its least byte first, or last.
#[derive(Clone, Copy)]
struct Tiff {
    is_little: bool,
}

const KINDS: [Tiff; 2] = [Tiff { is_little: true }, Tiff { is_little: false }];

/// Bytes before the first page's pixel.
const HEAD: u64 = 8;

impl Tiff {
    fn number(self, value: u64, size: usize) -> Vec<u8> {
        let mut bytes = value.to_le_bytes()[..size].to_vec();
        if !self.is_little {
            bytes.reverse();
        }
        bytes
    }

    /// Pages of one grey pixel each, the last of which names `last` as the next.
    fn file(self, greys: &[u8], last: u64) -> Vec<u8> {
        let order = if self.is_little { b"II" } else { b"MM" };
        let first = HEAD + greys.len() as u64;
        let mut bytes = [order.to_vec(), self.number(42, 2), self.number(first, 4), greys.to_vec()].concat();
        let count = greys.len() as u64;
        for page in 0..count {
            // Width, height, bits, no compression, black is zero, where the strip is, its bytes.
            let fields = [(256, 1), (257, 1), (258, 8), (259, 1), (262, 1), (273, HEAD + page), (279, 1)];
            let room = 2 + 12 * fields.len() as u64 + 4;
            bytes.extend(self.number(fields.len() as u64, 2));
            for (tag, value) in fields {
                let field =
                    [self.number(tag, 2), self.number(4, 2), self.number(1, 4), self.number(value, 4)];
                bytes.extend(field.concat());
            }
            let next = if page + 1 == count { last } else { first + (page + 1) * room };
            bytes.extend(self.number(next, 4));
        }
        bytes
    }
}

#[test]
fn a_tiff_has_pages_in_the_order_in_which_they_name_each_other() {
    let limits = Limits::default();
    for tiff in KINDS {
        let mut pages = Pages::open(tiff.file(&[10, 20, 30], 0), &limits).unwrap();
        assert_eq!(pages.count(), 3);
        for (index, grey) in [(2, 30), (0, 10), (1, 20), (2, 30)] {
            assert_eq!(pages.page(index, 72.0, &limits).unwrap().pixels(), [grey; 3]);
        }
    }
}

#[test]
fn pages_that_name_each_other_for_ever_end() {
    for tiff in KINDS {
        for last in [HEAD + 2, u64::from(u32::MAX), 3, 0] {
            let pages = Pages::open(tiff.file(&[1, 2], last), &Limits::default()).unwrap();
            assert!((2..5).contains(&pages.count()), "{}", pages.count());
        }
        let whole = tiff.file(&[1, 2], 0);
        for length in 4..whole.len() {
            let mut pages = Pages::open(whole[..length].to_vec(), &Limits::default()).unwrap();
            for page in 0..pages.count() {
                // Whatever comes of it, it comes.
                let _ = pages.page(page, 72.0, &Limits::default());
            }
        }
    }
}

#[test]
fn other_pictures_are_one_page() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/files/rgb.png");
    let mut pages = Pages::open(std::fs::read(file).unwrap(), &Limits::default()).unwrap();
    assert_eq!(pages.count(), 1);
    assert!(pages.page(0, 72.0, &Limits::default()).is_ok());
    let error = Pages::open(b"%PDF-1.7".to_vec(), &Limits::default()).err().unwrap().to_string();
    assert!(error.contains("PDF"), "{error}");
}

/// Half a page of blue, A6, turned by a quarter.
#[cfg(feature = "pdf")]
#[test]
fn a_pdf_is_drawn() {
    let objects = [
        "<</Type/Catalog/Pages 2 0 R>>",
        "<</Type/Pages/Count 1/Kids[3 0 R]>>",
        "<</Type/Page/Parent 2 0 R/MediaBox[0 0 300 420]/Rotate 90/Contents 4 0 R>>",
        "<</Length 29>>stream\n0.2 0.4 0.8 rg 0 0 150 420 re f\nendstream",
    ];
    let mut file = "%PDF-1.4\n".to_owned();
    for (index, object) in objects.iter().enumerate() {
        file.push_str(&format!("{} 0 obj\n{object}\nendobj\n", index + 1));
    }
    file.push_str("trailer\n<</Size 5/Root 1 0 R>>\n%%EOF\n");
    let limits = Limits::default();
    let mut pages = Pages::open(file.into_bytes(), &limits).unwrap();
    assert_eq!(pages.count(), 1);
    let page = pages.page(0, 144.0, &limits).unwrap();
    assert_eq!((page.width(), page.height()), (840, 600));
    let pixel = |x: usize, y: usize| &page.pixels()[3 * (y * 840 + x)..][..3];
    // The left half is the upper one.
    assert_eq!((pixel(400, 20), pixel(400, 580)), (&[51, 102, 204][..], &[255; 3][..]));
    let small = pages.page(0, 144.0, &Limits { pixels: 5_000, ..limits }).unwrap();
    assert!(small.width() * small.height() <= 5_000 && small.width() > 80);
}
