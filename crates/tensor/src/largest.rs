//! The largest of many values.

/// The largest value; minus infinity where none is a number.
pub fn largest(values: &[f32]) -> f32 {
    const LANES: usize = 16;
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let (chunks, rest) = values.as_chunks::<LANES>();
    let mut lanes = [f32::NEG_INFINITY; LANES];
    for chunk in chunks {
        lanes.iter_mut().zip(chunk).for_each(|(lane, &value)| *lane = larger(*lane, value));
    }
    lanes.iter().chain(rest).copied().fold(f32::NEG_INFINITY, larger)
}

/// Where the first of the largest values is; 0 where none is a number.
pub fn first_largest(values: &[f32]) -> u32 {
    let best = largest(values);
    values.iter().position(|&value| value == best).unwrap_or(0) as u32
}
