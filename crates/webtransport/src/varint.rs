//! QUIC's variable-length integers (RFC 9000 section 16), whole or in pieces.

/// The largest value that the encoding has.
pub const MAX: u64 = (1 << 62) - 1;

/// The longest encoding in bytes.
pub const MAX_LEN: usize = 8;

/// Append `value`, which is at most [`MAX`], in its shortest encoding. A larger value loses its two
/// highest bits.
pub fn write(out: &mut Vec<u8>, value: u64) {
    debug_assert!(value <= MAX, "{value} is no varint");
    let bytes = value.to_be_bytes();
    match value {
        0..=0x3f => out.push(bytes[7]),
        0x40..=0x3fff => out.extend_from_slice(&[bytes[6] | 0x40, bytes[7]]),
        0x4000..=0x3fff_ffff => {
            out.push(bytes[4] | 0x80);
            out.extend_from_slice(&bytes[5..]);
        }
        _ => {
            out.push(bytes[0] | 0xc0);
            out.extend_from_slice(&bytes[1..]);
        }
    }
}

/// The integer at the start of `input`, and the bytes after it. `None` if it is not complete.
#[must_use]
pub fn read(input: &[u8]) -> Option<(u64, &[u8])> {
    let len = 1 << (input.first()? >> 6);
    let (bytes, rest) = input.split_at_checked(len)?;
    Some((decode(bytes), rest))
}

/// The value of a complete encoding.
fn decode(bytes: &[u8]) -> u64 {
    let first = u64::from(bytes[0] & 0x3f);
    bytes[1..]
        .iter()
        .fold(first, |value, &byte| value << 8 | u64::from(byte))
}

/// An integer that arrives in pieces.
#[derive(Debug, Default, Clone)]
pub(crate) struct Partial {
    bytes: [u8; MAX_LEN],
    len: usize,
}

impl Partial {
    /// Take bytes from the front of `input` until the integer is complete. After it, the next one begins.
    pub(crate) fn read(&mut self, input: &mut &[u8]) -> Option<u64> {
        while let Some((&byte, rest)) = input.split_first() {
            *input = rest;
            self.bytes[self.len] = byte;
            self.len += 1;
            if self.len == 1 << (self.bytes[0] >> 6) {
                let value = decode(&self.bytes[..self.len]);
                self.len = 0;
                return Some(value);
            }
        }
        None
    }

    /// Whether no byte of an integer has arrived.
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(value: u64) -> Vec<u8> {
        let mut out = Vec::new();
        write(&mut out, value);
        out
    }

    /// RFC 9000 appendix A.1.
    #[test]
    fn examples_of_the_rfc() {
        for (bytes, value) in [
            (
                &[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c][..],
                151_288_809_941_952_652,
            ),
            (&[0x9d, 0x7f, 0x3e, 0x7d], 494_878_333),
            (&[0x7b, 0xbd], 15_293),
            (&[0x25], 37),
        ] {
            assert_eq!(read(bytes), Some((value, &[][..])));
            assert_eq!(written(value), bytes);
        }
        assert_eq!(read(&[0x40, 0x25]), Some((37, &[][..])));
    }

    #[test]
    fn the_limits_of_each_length() {
        for (value, len) in [
            (0, 1),
            (0x3f, 1),
            (0x40, 2),
            (0x3fff, 2),
            (0x4000, 4),
            (0x3fff_ffff, 4),
            (0x4000_0000, 8),
            (MAX, 8),
        ] {
            assert_eq!(written(value).len(), len, "{value:#x}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(value in 0..=MAX, rest: Vec<u8>) {
            let mut bytes = written(value);
            for cut in 0..bytes.len() {
                prop_assert_eq!(read(&bytes[..cut]), None);
            }
            bytes.extend_from_slice(&rest);
            prop_assert_eq!(read(&bytes), Some((value, &rest[..])));
        }

        #[test]
        fn pieces_are_read_as_the_whole(values in prop::collection::vec(0..=MAX, 1..8), size in 1..9_usize) {
            let mut bytes = Vec::new();
            for &value in &values {
                write(&mut bytes, value);
            }
            let mut partial = Partial::default();
            let mut found = Vec::new();
            for mut piece in bytes.chunks(size) {
                while let Some(value) = partial.read(&mut piece) {
                    found.push(value);
                }
                prop_assert!(piece.is_empty());
            }
            prop_assert!(partial.is_empty());
            prop_assert_eq!(found, values);
        }
    }
}
