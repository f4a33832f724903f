//! Resampling to the bit as the references do it: two passes, along rows and then along columns, each over bytes and with
//! weights in fixed point.

use crate::Picture;

/// What weighs the pixels around a point, by their distance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// A triangle over 2 pixels.
    Bilinear,
    /// Keys' cubic with a = -0.5 over 4 pixels.
    Bicubic,
    /// A windowed sinc over 6 pixels.
    Lanczos,
}

impl Filter {
    fn support(self) -> f64 {
        match self {
            Filter::Bilinear => 1.0,
            Filter::Bicubic => 2.0,
            Filter::Lanczos => 3.0,
        }
    }

    fn weight(self, x: f64) -> f64 {
        const A: f64 = -0.5;
        let sinc = |x: f64| {
            if x == 0.0 { 1.0 } else { (x * std::f64::consts::PI).sin() / (x * std::f64::consts::PI) }
        };
        let distance = x.abs();
        match self {
            Filter::Bilinear if distance < 1.0 => 1.0 - distance,
            Filter::Bicubic if distance < 1.0 => {
                ((A + 2.0) * distance - (A + 3.0)) * distance * distance + 1.0
            }
            Filter::Bicubic if distance < 2.0 => (((distance - 5.0) * distance + 8.0) * distance - 4.0) * A,
            Filter::Lanczos if (-3.0..3.0).contains(&x) => sinc(x) * sinc(x / 3.0),
            _ => 0.0,
        }
    }
}

/// Whose arithmetic: the references agree on a picture but for single levels, which a comparison sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arithmetic {
    /// Pillow: weights of 22 bits behind the point. NumPy normalises: `(value * scale - mean) / std`.
    Pillow,
    /// PyTorch: weights of 16 bits, as many behind the point as the largest allows. Torchvision normalises:
    /// `(value - mean / scale) / (std / scale)`.
    Torch,
}

/// Where the pixels of one place begin, and their weights.
struct Window {
    start: usize,
    weights: Vec<i32>,
}

struct Windows {
    /// Pixels that they are over.
    from: usize,
    all: Vec<Window>,
    /// Bits of a weight behind the point.
    bits: u32,
}

/// The weights of `to` places over `from` pixels: when there are fewer places than pixels, the filter is as much wider.
fn windows(from: usize, to: usize, filter: Filter, arithmetic: Arithmetic) -> Windows {
    let scale = from as f64 / to as f64;
    let stretch = scale.max(1.0);
    let support = filter.support() * stretch;
    let exact: Vec<(usize, Vec<f64>)> = (0..to)
        .map(|place| {
            let center = (place as f64 + 0.5) * scale;
            // A cast to an integer stops at zero, as the references' first bound does.
            let start = (center - support + 0.5) as usize;
            let end = ((center + support + 0.5) as usize).min(from);
            let weight = |at: usize| filter.weight((at as f64 - center + 0.5) * (1.0 / stretch));
            let weights: Vec<f64> = (start..end).map(weight).collect();
            let sum: f64 = weights.iter().sum();
            (start, weights.into_iter().map(|weight| weight / sum).collect())
        })
        .collect();
    let bits = match arithmetic {
        Arithmetic::Pillow => 22,
        Arithmetic::Torch => {
            let largest = exact.iter().flat_map(|(_, weights)| weights).fold(0.0_f64, |a, b| a.max(*b));
            let fits = |bits: &u32| 0.5 + largest * f64::from(1 << (bits + 1)) < f64::from(1 << 15);
            (0..22).take_while(fits).count() as u32
        }
    };
    let fixed = |weight: f64| (weight * f64::from(1 << bits)).round() as i32;
    let windows = exact
        .into_iter()
        .map(|(start, weights)| Window { start, weights: weights.into_iter().map(fixed).collect() });
    Windows { from, all: windows.collect(), bits }
}

/// Columns of the result that are made at once: what lies between the passes is then at most 12 MB of a picture of 65,535
/// rows.
const STRIP: usize = 64;

/// Resamples to `width` x `height`, neither of them zero.
pub fn resize(
    picture: &Picture,
    width: usize,
    height: usize,
    filter: Filter,
    arithmetic: Arithmetic,
) -> Picture {
    let (from_width, from_height) = (picture.width(), picture.height());
    if (width, height) == (from_width, from_height) {
        return picture.clone();
    }
    let columns = windows(from_width, width, filter, arithmetic);
    let rows = windows(from_height, height, filter, arithmetic);
    // Since 13.0 Pillow begins with the columns where that saves much (its pull request 9549).
    let lost = |from: usize, to: usize| from as i64 - to as i64;
    let is_down_first = arithmetic == Arithmetic::Pillow
        && height < from_height
        && lost(from_height, height) > 2 * lost(from_width, width);
    let mut pixels = vec![0; width * height * 3];
    if is_down_first {
        down_and_across(picture.pixels(), &rows, &columns, &mut pixels);
    } else {
        across_and_down(picture.pixels(), &columns, &rows, &mut pixels);
    }
    Picture::new(width, height, pixels).unwrap_or_else(|| picture.clone())
}

fn across_and_down(from: &[u8], columns: &Windows, rows: &Windows, out: &mut [u8]) {
    let width = columns.all.len();
    let (mut between, mut sums) = (Vec::new(), Vec::new());
    for (number, strip) in columns.all.chunks(STRIP).enumerate() {
        between.clear();
        for row in from.chunks_exact(columns.from * 3) {
            across(row, strip, columns.bits, &mut between);
        }
        let values = strip.len() * 3;
        for (place, window) in rows.all.iter().enumerate() {
            let start = (place * width + number * STRIP) * 3;
            down(&between, window, rows.bits, &mut sums, &mut out[start..start + values]);
        }
    }
}

fn down_and_across(from: &[u8], rows: &Windows, columns: &Windows, out: &mut [u8]) {
    let (mut row, mut sums, mut result) = (vec![0; columns.from * 3], Vec::new(), Vec::new());
    for window in &rows.all {
        down(from, window, rows.bits, &mut sums, &mut row);
        across(&row, &columns.all, columns.bits, &mut result);
    }
    out.copy_from_slice(&result);
}

/// Appends one row at these places.
fn across(row: &[u8], places: &[Window], bits: u32, out: &mut Vec<u8>) {
    for window in places {
        let mut sums = [1_i32 << (bits - 1); 3];
        for (pixel, weight) in row[window.start * 3..].chunks_exact(3).zip(&window.weights) {
            sums.iter_mut().zip(pixel).for_each(|(sum, value)| *sum += i32::from(*value) * weight);
        }
        out.extend(sums.map(|sum| level(sum, bits)));
    }
}

/// One row at this place, of rows that are as long as it.
fn down(rows: &[u8], window: &Window, bits: u32, sums: &mut Vec<i32>, out: &mut [u8]) {
    sums.clear();
    sums.resize(out.len(), 1 << (bits - 1));
    for (row, weight) in rows[window.start * out.len()..].chunks_exact(out.len()).zip(&window.weights) {
        sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += i32::from(*value) * weight);
    }
    out.iter_mut().zip(sums).for_each(|(out, sum)| *out = level(*sum, bits));
}

fn level(sum: i32, bits: u32) -> u8 {
    (sum >> bits).clamp(0, 255) as u8
}
