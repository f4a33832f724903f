//! GPT-2's alphabet: every byte as one printable character, so that byte strings can live in JSON and GGUF.
//!
//! Printable Latin-1 characters stand for themselves; the 68 others are numbered from U+0100 upwards in the
//! order of the bytes (`bytes_to_unicode` in GPT-2's `encoder.py`).

/// The character that stands for `byte`.
pub(crate) fn byte_to_char(byte: u8) -> char {
    BYTE_TO_CHAR[byte as usize]
}

/// The bytes a token spelled in this alphabet stands for; `None` if a character is outside it.
pub(crate) fn to_bytes(spelling: &str, bytes: &mut Vec<u8>) -> Option<()> {
    bytes.clear();
    for c in spelling.chars() {
        let byte = *CHAR_TO_BYTE.get(c as usize)?;
        bytes.push(u8::try_from(byte).ok()?);
    }
    Some(())
}

/// A byte string in this alphabet.
pub(crate) fn to_spelling(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| byte_to_char(*byte)).collect()
}

const fn stands_for_itself(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF)
}

const BYTE_TO_CHAR: [char; 256] = {
    let mut table = ['\0'; 256];
    let mut byte = 0;
    let mut others = 0;
    while byte < 256 {
        table[byte] = if stands_for_itself(byte as u8) {
            byte as u8 as char
        } else {
            others += 1;
            match char::from_u32(0x100 + others - 1) {
                Some(c) => c,
                None => '\0',
            }
        };
        byte += 1;
    }
    table
};

const CHAR_TO_BYTE: [i16; 0x144] = {
    let mut table = [-1; 0x144];
    let mut byte = 0;
    while byte < 256 {
        table[BYTE_TO_CHAR[byte] as usize] = byte as i16;
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_characters() {
        assert_eq!(byte_to_char(b' '), 'Ġ');
        assert_eq!(byte_to_char(b'\n'), 'Ċ');
        assert_eq!(byte_to_char(0xAD), 'Ń');
        assert_eq!(to_spelling(" 好".as_bytes()), "Ġå¥½");
    }

    #[test]
    fn round_trip_of_every_byte() {
        let all: Vec<u8> = (0..=255).collect();
        let mut back = Vec::new();
        to_bytes(&to_spelling(&all), &mut back).unwrap();
        assert_eq!(back, all);
        assert_eq!(to_bytes("好", &mut back), None);
    }
}
