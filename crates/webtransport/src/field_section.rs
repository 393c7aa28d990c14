//! QPACK without a dynamic table (RFC 9204 section 4.5): reads and writes the fields of a HEADERS frame.

use std::borrow::Cow;

use crate::{huffman, static_table};

/// A field line. Neither name nor value is checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Field {
    pub(crate) name: Cow<'static, [u8]>,
    pub(crate) value: Cow<'static, [u8]>,
}

/// Why a field section yields no fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// QPACK_DECOMPRESSION_FAILED (RFC 9204 section 2.2).
    Invalid(&'static str),
    /// Larger than we accept (RFC 9114 section 4.2.2).
    TooLarge,
}

/// The largest field section, by RFC 9114 section 4.2.2: names and values, and 32 for each field. Browsers send 300 bytes.
pub(crate) const MAX_SIZE: usize = 16 * 1024;

/// What each field counts besides its name and value.
const FIELD_OVERHEAD: usize = 32;

/// Append the encoding of these fields, by references to the static table where it has them.
pub(crate) fn write(out: &mut Vec<u8>, fields: &[(&str, &str)]) {
    // The Required Insert Count and the Base (RFC 9204 section 4.5.1).
    out.extend_from_slice(&[0, 0]);
    for (name, value) in fields {
        match static_table::find(name, value) {
            Some((index, true)) => write_integer(out, 0b1100_0000, 6, index),
            Some((index, false)) => {
                write_integer(out, 0b0101_0000, 4, index);
                write_string(out, 0, 7, value);
            }
            None => {
                write_string(out, 0b0010_0000, 3, name);
                write_string(out, 0, 7, value);
            }
        }
    }
}

fn write_string(out: &mut Vec<u8>, pattern: u8, prefix: u32, text: &str) {
    write_integer(out, pattern, prefix, text.len());
    out.extend_from_slice(text.as_bytes());
}

/// RFC 7541 section 5.1.
fn write_integer(out: &mut Vec<u8>, pattern: u8, prefix: u32, value: usize) {
    let most = (1 << prefix) - 1;
    if value < most {
        out.push(pattern | value as u8);
        return;
    }
    out.push(pattern | most as u8);
    let mut left = value - most;
    while left >= 0x80 {
        out.push(left as u8 | 0x80);
        left >>= 7;
    }
    out.push(left as u8);
}

/// Decode a field section.
pub(crate) fn read(section: &[u8]) -> Result<Vec<Field>, Unreadable> {
    let mut input = Input(section);
    let (_, required) = input.integer(8)?;
    let (pattern, _) = input.integer(7)?;
    // With a Required Insert Count of 0 the Base would be negative (RFC 9204 section 4.5.1.2).
    if required != 0 || pattern & 0x80 != 0 {
        return Err(Unreadable::Invalid("the dynamic table has no entry"));
    }
    let mut fields = Vec::new();
    let mut left = MAX_SIZE;
    while let Some(&first) = input.0.first() {
        left = left
            .checked_sub(FIELD_OVERHEAD)
            .ok_or(Unreadable::TooLarge)?;
        let (name, value) = if first & 0x80 != 0 {
            let (name, value) = input.entry(6, 0x40)?;
            (
                Cow::Borrowed(name.as_bytes()),
                Cow::Borrowed(value.as_bytes()),
            )
        } else if first & 0x40 != 0 {
            let (name, _) = input.entry(4, 0x10)?;
            (
                Cow::Borrowed(name.as_bytes()),
                Cow::Owned(input.string(7, left)?),
            )
        } else if first & 0x20 != 0 {
            (
                Cow::Owned(input.string(3, left)?),
                Cow::Owned(input.string(7, left)?),
            )
        } else {
            return Err(Unreadable::Invalid("a field refers to the dynamic table"));
        };
        left = left
            .checked_sub(name.len() + value.len())
            .ok_or(Unreadable::TooLarge)?;
        fields.push(Field { name, value });
    }
    Ok(fields)
}

struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> Result<u8, Unreadable> {
        let (&byte, rest) = self
            .0
            .split_first()
            .ok_or(Unreadable::Invalid("a field section is cut off"))?;
        self.0 = rest;
        Ok(byte)
    }

    /// The bits before an integer, and its value (RFC 7541 section 5.1).
    fn integer(&mut self, prefix: u32) -> Result<(u8, u64), Unreadable> {
        let first = self.byte()?;
        let most = ((1_u16 << prefix) - 1) as u8;
        let mut value = u64::from(first & most);
        if value == u64::from(most) {
            let mut shift = 0;
            loop {
                let byte = self.byte()?;
                // 62 bits must be decoded (RFC 9204 section 4.1.1); no valid integer here needs more.
                if shift > 55 {
                    return Err(Unreadable::Invalid("an integer is too large"));
                }
                value += u64::from(byte & 0x7f) << shift;
                if byte & 0x80 == 0 {
                    break;
                }
                shift += 7;
            }
        }
        Ok((first & !most, value))
    }

    /// An entry of the static table, which `is_static` in the bits before the index chooses.
    fn entry(&mut self, prefix: u32, is_static: u8) -> Result<static_table::Entry, Unreadable> {
        let (pattern, index) = self.integer(prefix)?;
        if pattern & is_static == 0 {
            return Err(Unreadable::Invalid("a field refers to the dynamic table"));
        }
        static_table::entry(index).ok_or(Unreadable::Invalid("the static table has no such index"))
    }

    /// A string of at most `limit` bytes; the bit before its length says whether it is encoded by Huffman's
    /// code (RFC 9204 section 4.1.2).
    fn string(&mut self, prefix: u32, limit: usize) -> Result<Vec<u8>, Unreadable> {
        let (pattern, len) = self.integer(prefix)?;
        let (string, rest) = usize::try_from(len)
            .ok()
            .and_then(|len| self.0.split_at_checked(len))
            .ok_or(Unreadable::Invalid("a string is cut off"))?;
        self.0 = rest;
        if pattern & 1 << prefix != 0 {
            // No code is shorter than 5 bits, so a section within our limit decodes to no more than this.
            let decoded = huffman::decode(string, MAX_SIZE * 8 / 5)
                .ok_or(Unreadable::Invalid("a string is not in Huffman's code"))?;
            return if decoded.len() > limit {
                Err(Unreadable::TooLarge)
            } else {
                Ok(decoded)
            };
        }
        if len as usize > limit {
            Err(Unreadable::TooLarge)
        } else {
            Ok(string.to_vec())
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(fields: &[(&str, &str)]) -> Vec<u8> {
        let mut out = Vec::new();
        write(&mut out, fields);
        out
    }

    fn texts(fields: &[Field]) -> Vec<(String, String)> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
        fields
            .iter()
            .map(|field| (text(&field.name), text(&field.value)))
            .collect()
    }

    fn is_invalid(section: &[u8]) -> bool {
        matches!(read(section), Err(Unreadable::Invalid(_)))
    }

    /// RFC 9204 appendix B.1: a literal field line with a name from the static table.
    #[test]
    fn the_static_example_of_the_rfc() {
        let section = b"\x00\x00\x51\x0b/index.html";
        let fields = read(section).expect("the RFC's own");
        assert_eq!(
            texts(&fields),
            [(":path".to_owned(), "/index.html".to_owned())]
        );
        assert_eq!(written(&[(":path", "/index.html")]), section);
    }

    /// RFC 9204 appendices B.2 and B.4: sections that refer to the dynamic table.
    #[test]
    fn dynamic_examples_of_the_rfc_are_refused() {
        assert!(is_invalid(&[0x03, 0x81, 0x10, 0x11]));
        assert!(is_invalid(&[0x05, 0x00, 0x80, 0xc1, 0x81]));
    }

    #[test]
    fn every_dynamic_representation_is_refused() {
        for line in [
            &[0x80][..],         // indexed
            &[0x10],             // indexed, post-base
            &[0x40, 0x01, b'x'], // literal, name by index
            &[0x00, 0x01, b'x'], // literal, name by index, post-base
        ] {
            assert!(is_invalid(&[&[0, 0], line].concat()), "{line:?}");
        }
        // A negative base, and a base that nothing refers to.
        assert!(is_invalid(&[0, 0x80, 0xc1]));
        assert!(read(&[0, 5, 0xc1]).is_ok());
    }

    #[test]
    fn indices_beyond_the_static_table_are_refused() {
        assert_eq!(texts(&read(&[0, 0, 0xff, 35]).expect("the last")).len(), 1);
        assert!(is_invalid(&[0, 0, 0xff, 36]));
        assert!(is_invalid(&[0, 0, 0x5f, 84, 0]));
    }

    /// RFC 7541 appendix C.1: 10 and 1337 with a prefix of 5 bits, 42 with one of 8.
    #[test]
    fn integers_of_the_rfc() {
        for (bytes, prefix, value) in [
            (&[0x0a][..], 5, 10),
            (&[0x1f, 0x9a, 0x0a], 5, 1337),
            (&[0x2a], 8, 42),
        ] {
            assert_eq!(Input(bytes).integer(prefix), Ok((0, value)));
            let mut out = Vec::new();
            write_integer(&mut out, 0, prefix, value as usize);
            assert_eq!(out, bytes);
        }
        let longest = [0xff, 0x80, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f];
        assert!(matches!(
            Input(&longest).integer(8),
            Err(Unreadable::Invalid(_))
        ));
        let largest = [0xff, 0x80, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
        assert!(Input(&largest).integer(8).is_ok());
    }

    #[test]
    fn strings_are_read_in_both_forms() {
        let huffman = b"\x00\x00\x51\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff";
        assert_eq!(
            texts(&read(huffman).expect("valid")),
            [(":path".to_owned(), "www.example.com".to_owned())]
        );
        // A name with more than 7 bytes has its length in two.
        let named = [
            b"\x00\x00\x2f\x01\xa8\xeb\x10\x64\x9c\xbf\xff\xff".as_slice(),
            &[1, b'v'],
        ]
        .concat();
        assert!(
            is_invalid(&named),
            "8 bytes, with more padding than allowed"
        );
        let named = b"\x00\x00\x2e\xa8\xeb\x10\x64\x9c\xbf\x01v";
        assert_eq!(
            texts(&read(named).expect("valid")),
            [("no-cache".to_owned(), "v".to_owned())]
        );
    }

    #[test]
    fn sections_are_limited() {
        // An indexed field takes one byte, and counts as 42.
        let most = MAX_SIZE / (32 + ":method".len() + "GET".len());
        let repeated = |count: usize| [vec![0, 0], vec![0xd1; count]].concat();
        assert_eq!(read(&repeated(most)).expect("within the limit").len(), most);
        assert_eq!(read(&repeated(most + 1)), Err(Unreadable::TooLarge));
        let long = "v".repeat(MAX_SIZE);
        assert_eq!(read(&written(&[("n", &long)])), Err(Unreadable::TooLarge));
        let fits = &long[..MAX_SIZE - 33];
        assert_eq!(read(&written(&[("n", fits)])).expect("fits").len(), 1);
        // Zeros by Huffman's code are 8/5 of their encoding.
        let mut expanding = b"\x00\x00\x21n".to_vec();
        write_integer(&mut expanding, 0x80, 7, 12_000);
        expanding.resize(expanding.len() + 12_000, 0);
        assert_eq!(read(&expanding), Err(Unreadable::TooLarge));
    }

    proptest! {
        #[test]
        fn fields_come_back(fields in prop::collection::vec(("[a-z:-]{0,200}", "[ -~]{0,300}"), 0..8)) {
            let borrowed: Vec<_> = fields.iter().map(|(name, value)| (&name[..], &value[..])).collect();
            let section = written(&borrowed);
            prop_assert_eq!(texts(&read(&section).expect("our own")), fields);
            // A section may only end between two fields, which is rarely a prefix of the same section.
            for cut in 0..section.len().min(2) {
                prop_assert!(is_invalid(&section[..cut]));
            }
        }

        #[test]
        fn any_bytes_are_read_within_bounds(section in prop::collection::vec(any::<u8>(), 0..2000)) {
            if let Ok(fields) = read(&section) {
                let size: usize = fields.iter().map(|each| each.name.len() + each.value.len() + 32).sum();
                prop_assert!(size <= MAX_SIZE);
            }
        }
    }
}
