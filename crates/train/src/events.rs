//! TensorBoard's event files: records of TensorFlow's TFRecord framing, each a protobuf message `Event`.
//!
//! Sources: `tensorboard/summary/writer/record_writer.py` (framing) and `tensorboard/compat/proto/{event,summary}.proto`
//! (numbers of fields) of tensorboard 2.21.0.

use crate::checksum::crc32c;

/// The first record of a file.
pub(crate) fn version(wall_time: f64) -> Vec<u8> {
    const FILE_VERSION: u32 = 3;
    let mut event = head(wall_time, None);
    bytes_field(&mut event, FILE_VERSION, b"brain.Event:2");
    framed(&event)
}

/// Says that what was told of this step and later ones counts no more: a training goes on from an earlier state.
pub(crate) fn restart(wall_time: f64, step: u64) -> Vec<u8> {
    const SESSION_LOG: u32 = 7;
    const START: [u8; 2] = [1 << 3, 1];
    let mut event = head(wall_time, Some(step));
    bytes_field(&mut event, SESSION_LOG, &START);
    framed(&event)
}

/// Figures of a step.
pub(crate) fn scalars<'a>(
    wall_time: f64,
    step: u64,
    figures: impl IntoIterator<Item = (&'a str, f32)>,
) -> Vec<u8> {
    const SUMMARY: u32 = 5;
    const VALUE: u32 = 1;
    const TAG: u32 = 1;
    const SIMPLE_VALUE: u8 = 2 << 3 | 5;
    let mut summary = Vec::new();
    for (tag, figure) in figures {
        let mut value = Vec::new();
        bytes_field(&mut value, TAG, tag.as_bytes());
        value.push(SIMPLE_VALUE);
        value.extend(figure.to_le_bytes());
        bytes_field(&mut summary, VALUE, &value);
    }
    let mut event = head(wall_time, Some(step));
    bytes_field(&mut event, SUMMARY, &summary);
    framed(&event)
}

/// The beginning of an event: `wall_time` (1, double) and `step` (2, int64).
fn head(wall_time: f64, step: Option<u64>) -> Vec<u8> {
    let mut event = vec![1 << 3 | 1];
    event.extend(wall_time.to_le_bytes());
    if let Some(step) = step {
        event.push(2 << 3);
        varint(&mut event, step);
    }
    event
}

/// A field of bytes, text or a message.
fn bytes_field(out: &mut Vec<u8>, field: u32, bytes: &[u8]) {
    varint(out, u64::from(field << 3 | 2));
    varint(out, bytes.len() as u64);
    out.extend(bytes);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A record: its length, the length's sum, the bytes, their sum.
fn framed(event: &[u8]) -> Vec<u8> {
    let masked = |bytes: &[u8]| crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes();
    let length = (event.len() as u64).to_le_bytes();
    [&length, &masked(&length)[..], event, &masked(event)].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What tensorboard 2.21.0's `RecordWriter` writes of the same events (`tools/make_event_file.py`).
    #[test]
    fn records_are_those_of_tensorboard() {
        let records = [
            version(1.5),
            restart(2.5, 300),
            scalars(3.25, 1_000_000, [("train/loss", 0.5), ("train/learning_rate", 2e-5)]),
        ];
        assert_eq!(records.concat(), include_bytes!("../tests/data/events.tfevents"));
    }
}
