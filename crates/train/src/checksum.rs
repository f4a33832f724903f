//! CRC-32C (Castagnoli; RFC 3720, appendix B.4): what TensorBoard's files carry, and what tells a damaged state.

const TABLES: [[u32; 256]; 8] = tables();

/// Eight tables, so that eight bytes go at once.
const fn tables() -> [[u32; 256]; 8] {
    const REVERSED: u32 = 0x82f6_3b78;
    let mut tables = [[0; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ REVERSED } else { crc >> 1 };
            bit += 1;
        }
        tables[0][byte] = crc;
        byte += 1;
    }
    let mut table = 1;
    while table < 8 {
        let mut byte = 0;
        while byte < 256 {
            let before = tables[table - 1][byte];
            tables[table][byte] = before >> 8 ^ tables[0][(before & 0xff) as usize];
            byte += 1;
        }
        table += 1;
    }
    tables
}

/// The sum of some bytes.
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    let mut sum = Checksum::default();
    sum.add(bytes);
    sum.value()
}

/// The sum of bytes that come in pieces.
pub(crate) struct Checksum(u32);

impl Default for Checksum {
    fn default() -> Self {
        Checksum(u32::MAX)
    }
}

impl Checksum {
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        let (groups, rest) = bytes.as_chunks::<8>();
        let mut crc = self.0;
        for group in groups {
            let mut word = u64::from_le_bytes(*group) ^ u64::from(crc);
            crc = 0;
            for table in TABLES.iter().rev() {
                crc ^= table[(word & 0xff) as usize];
                word >>= 8;
            }
        }
        self.0 = rest
            .iter()
            .fold(crc, |crc, byte| crc >> 8 ^ TABLES[0][((crc ^ u32::from(*byte)) & 0xff) as usize]);
    }

    pub(crate) fn value(&self) -> u32 {
        !self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 3720, appendix B.4, and the check value of the CRC catalogues.
    #[test]
    fn sums_are_the_published_ones() {
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(crc32c(&std::array::from_fn::<u8, 32, _>(|at| at as u8)), 0x46dd_794e);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }
}
