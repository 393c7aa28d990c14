//! A reader and a writer for the part of DER that certificates and host keys need.
//!
//! The reader is strict (definite, shortest lengths; single-byte tags), borrows its input,
//! allocates nothing and cannot panic: its input comes from unauthenticated peers. The meaning
//! of the values is left to `certificate` and `host_key`.

pub(super) const BOOLEAN: u8 = 0x01;
pub(super) const INTEGER: u8 = 0x02;
pub(super) const BIT_STRING: u8 = 0x03;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const OBJECT_IDENTIFIER: u8 = 0x06;
pub(super) const UTC_TIME: u8 = 0x17;
pub(super) const GENERALIZED_TIME: u8 = 0x18;
pub(super) const SEQUENCE: u8 = 0x30;

/// The bytes are not the expected DER.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NotDer;

/// One encoded value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Value<'a> {
    pub(super) tag: u8,
    /// Tag, length and contents.
    pub(super) whole: &'a [u8],
    pub(super) contents: &'a [u8],
}

/// The unread rest of a sequence of values.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The next value, with any tag.
    pub(super) fn any(&mut self) -> Result<Value<'a>, NotDer> {
        let (&tag, rest) = self.0.split_first().ok_or(NotDer)?;
        if tag & 0x1f == 0x1f {
            // Tag numbers above 30 take more bytes. No certificate field has one.
            return Err(NotDer);
        }
        let (&first, mut rest) = rest.split_first().ok_or(NotDer)?;
        let length = match first {
            0..=0x7f => usize::from(first),
            // No certificate that fits a handshake message needs more than three bytes here.
            0x81..=0x83 => {
                let (bytes, after) = rest
                    .split_at_checked(usize::from(first & 0x7f))
                    .ok_or(NotDer)?;
                rest = after;
                let length = bytes
                    .iter()
                    .fold(0, |length, &byte| length << 8 | usize::from(byte));
                let shortest = match bytes.len() {
                    1 => 0x80,
                    2 => 0x100,
                    _ => 0x1_0000,
                };
                if length < shortest {
                    return Err(NotDer);
                }
                length
            }
            _ => return Err(NotDer),
        };
        let (contents, after) = rest.split_at_checked(length).ok_or(NotDer)?;
        let (whole, _) = self
            .0
            .split_at_checked(self.0.len() - after.len())
            .ok_or(NotDer)?;
        self.0 = after;
        Ok(Value {
            tag,
            whole,
            contents,
        })
    }

    /// The next value, which must have this tag.
    pub(super) fn value(&mut self, tag: u8) -> Result<Value<'a>, NotDer> {
        match self.any()? {
            value if value.tag == tag => Ok(value),
            _ => Err(NotDer),
        }
    }

    /// The next value if it has this tag; otherwise nothing is read.
    pub(super) fn optional(&mut self, tag: u8) -> Result<Option<Value<'a>>, NotDer> {
        match self.0.first() {
            Some(&next) if next == tag => self.any().map(Some),
            _ => Ok(None),
        }
    }

    /// The contents of the next value, which must be a SEQUENCE.
    pub(super) fn sequence(&mut self) -> Result<Self, NotDer> {
        Ok(Self(self.value(SEQUENCE)?.contents))
    }

    /// The bytes of the next value, which must be a BIT STRING of whole bytes.
    pub(super) fn bit_string(&mut self) -> Result<&'a [u8], NotDer> {
        match self.value(BIT_STRING)?.contents.split_first() {
            Some((0, bytes)) => Ok(bytes),
            _ => Err(NotDer),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// An error unless everything has been read.
    pub(super) fn end(self) -> Result<(), NotDer> {
        if self.is_empty() { Ok(()) } else { Err(NotDer) }
    }
}

/// Seconds since 1970-01-01T00:00:00Z of a UTCTime or GeneralizedTime, in the one form that
/// RFC 5280 section 4.1.2.5 allows: with seconds, without fractions, ending in `Z`.
pub(super) fn unix_seconds(value: Value<'_>) -> Result<i64, NotDer> {
    let Some((b'Z', digits)) = value.contents.split_last() else {
        return Err(NotDer);
    };
    if !digits.iter().all(u8::is_ascii_digit) {
        return Err(NotDer);
    }
    let number = |digits: &[u8]| {
        digits.iter().fold(0_i64, |number, &digit| {
            number * 10 + i64::from(digit - b'0')
        })
    };
    let (year, rest) = match (value.tag, digits.len()) {
        (UTC_TIME, 12) => {
            let (year, rest) = digits.split_at(2);
            // RFC 5280 section 4.1.2.5.1: two digits mean the years 1950 to 2049.
            match number(year) {
                year @ 50.. => (1900 + year, rest),
                year => (2000 + year, rest),
            }
        }
        (GENERALIZED_TIME, 14) => {
            let (year, rest) = digits.split_at(4);
            (number(year), rest)
        }
        _ => return Err(NotDer),
    };
    let mut fields = rest.chunks_exact(2).map(number);
    let mut field = || fields.next().ok_or(NotDer);
    let (month, day, hour, minute, second) = (field()?, field()?, field()?, field()?, field()?);

    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        _ => return Err(NotDer),
    };
    if !(1..=days).contains(&day) || hour > 23 || minute > 59 || second > 59 {
        return Err(NotDer);
    }
    Ok(((days_since_1970(year, month, day) * 24 + hour) * 60 + minute) * 60 + second)
}

/// Days from 1970-01-01 to a Gregorian date. The year is counted from March,
/// so that the leap day comes last and months have a regular length.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let month = (month + 9) % 12;
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    // 719 468 days lie between 0000-03-01 and 1970-01-01.
    year * 365 + leap_days + day_of_year - 719_468
}

/// Write one value.
pub(super) fn write(tag: u8, contents: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match contents.len() {
        length @ 0..=0x7f => out.push(length as u8),
        length => {
            let bytes = length.to_be_bytes();
            let leading_zeros = bytes.iter().take_while(|&&byte| byte == 0).count();
            out.push(0x80 | (bytes.len() - leading_zeros) as u8);
            out.extend_from_slice(&bytes[leading_zeros..]);
        }
    }
    out.extend_from_slice(contents);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(tag: u8, text: &str) -> Result<i64, NotDer> {
        let whole = write(tag, text.as_bytes());
        unix_seconds(Reader::new(&whole).any()?)
    }

    #[test]
    fn times_of_both_kinds() {
        assert_eq!(seconds(UTC_TIME, "700101000000Z"), Ok(0));
        assert_eq!(seconds(UTC_TIME, "750101130000Z"), Ok(157_813_200));
        assert_eq!(seconds(UTC_TIME, "491231235959Z"), Ok(2_524_607_999));
        assert_eq!(seconds(UTC_TIME, "500101000000Z"), Ok(-631_152_000));
        assert_eq!(
            seconds(GENERALIZED_TIME, "20500101000000Z"),
            Ok(2_524_608_000)
        );
        assert_eq!(
            seconds(GENERALIZED_TIME, "40960101130000Z"),
            Ok(67_090_165_200)
        );
        assert_eq!(
            seconds(GENERALIZED_TIME, "99991231235959Z"),
            Ok(253_402_300_799)
        );
        assert_eq!(
            seconds(GENERALIZED_TIME, "20240229000000Z"),
            Ok(1_709_164_800)
        );
    }

    #[test]
    fn times_that_are_none() {
        for (tag, text) in [
            (UTC_TIME, ""),
            (UTC_TIME, "Z"),
            (UTC_TIME, "7001010000Z"),
            (UTC_TIME, "700101000000"),
            (UTC_TIME, "700101000000+0000"),
            (UTC_TIME, "701301000000Z"),
            (UTC_TIME, "700100000000Z"),
            (UTC_TIME, "700101240000Z"),
            (UTC_TIME, "70010100000\u{b2}Z"),
            (UTC_TIME, "20500101000000Z"),
            (GENERALIZED_TIME, "20230229000000Z"),
            (GENERALIZED_TIME, "20240101000000.5Z"),
            (OCTET_STRING, "700101000000Z"),
        ] {
            assert_eq!(seconds(tag, text), Err(NotDer), "{text}");
        }
    }

    #[test]
    fn lengths_have_one_form() {
        for length in [0, 1, 0x7f, 0x80, 0xff, 0x100, 0xffff, 0x1_0000] {
            let written = write(OCTET_STRING, &vec![7; length]);
            let mut reader = Reader::new(&written);
            let value = reader.value(OCTET_STRING).expect("was written");
            assert_eq!(value.contents.len(), length);
            assert_eq!(value.whole, written);
            assert_eq!(reader.end(), Ok(()));
            assert_eq!(
                Reader::new(&written[..written.len() - 1]).any(),
                Err(NotDer)
            );
        }
        for not_der in [
            &[0x04, 0x81, 0x01, 0x00][..], // longer than needed
            &[0x04, 0x82, 0x00, 0x80],     // longer than needed
            &[0x04, 0x80, 0x00, 0x00],     // indefinite
            &[0x04, 0x84, 0, 0, 0, 1, 0],  // absurd
            &[0x1f, 0x01, 0x00],           // long tag
            &[0x04],                       // no length
            &[0x04, 0x82, 0x01],           // half a length
        ] {
            assert_eq!(Reader::new(not_der).any(), Err(NotDer), "{not_der:02x?}");
        }
    }
}
