//! Reads what HTTP/3 frames (RFC 9114 section 7.1) and capsules (RFC 9297 section 3.2) share: a sequence of
//! type, length and value, which arrives in pieces of any size. Values are passed on, not stored.

use crate::varint::Partial;

/// What comes next in the sequence.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step<'a> {
    /// A type and the length of its value.
    Start { kind: u64, len: u64 },
    /// A part of the value, not empty.
    Value(&'a [u8]),
    /// The value is complete.
    End,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Type,
    Length(u64),
    /// Bytes of the value that are missing.
    Value(u64),
}

#[derive(Debug, Default)]
pub(crate) struct TypeLength {
    state: State,
    partial: Partial,
}

impl TypeLength {
    /// The type has been read already.
    pub(crate) fn after_type(kind: u64) -> Self {
        Self {
            state: State::Length(kind),
            partial: Partial::default(),
        }
    }

    /// Take back the last `len` bytes of the value that was just returned: the caller reads them again.
    pub(crate) fn put_back(&mut self, len: usize) {
        if let State::Value(missing) = &mut self.state {
            *missing += len as u64;
        }
    }

    /// The next step. It takes bytes from the front of `input`; `None` if all are taken.
    pub(crate) fn next<'a>(&mut self, input: &mut &'a [u8]) -> Option<Step<'a>> {
        loop {
            match self.state {
                State::Type => self.state = State::Length(self.partial.read(input)?),
                State::Length(kind) => {
                    let len = self.partial.read(input)?;
                    self.state = State::Value(len);
                    return Some(Step::Start { kind, len });
                }
                State::Value(0) => {
                    self.state = State::Type;
                    return Some(Step::End);
                }
                State::Value(missing) => {
                    if input.is_empty() {
                        return None;
                    }
                    let taken = usize::try_from(missing)
                        .map_or(input.len(), |missing| missing.min(input.len()));
                    let (value, rest) = input.split_at(taken);
                    *input = rest;
                    self.state = State::Value(missing - taken as u64);
                    return Some(Step::Value(value));
                }
            }
        }
    }

    /// Whether nothing of a next type has arrived: here the sequence may end.
    pub(crate) fn is_between(&self) -> bool {
        matches!(self.state, State::Type) && self.partial.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::varint;

    /// The types with their values, from pieces of this size.
    fn collected(bytes: &[u8], size: usize) -> (Vec<(u64, Vec<u8>)>, TypeLength) {
        let mut reader = TypeLength::default();
        let mut found = Vec::new();
        let mut value = Vec::new();
        let mut current = (0, 0);
        for mut piece in bytes.chunks(size) {
            while let Some(step) = reader.next(&mut piece) {
                match step {
                    Step::Start { kind, len } => current = (kind, len),
                    Step::Value(part) => value.extend_from_slice(part),
                    Step::End => {
                        assert_eq!(value.len() as u64, current.1);
                        found.push((current.0, std::mem::take(&mut value)));
                    }
                }
            }
            assert!(piece.is_empty());
        }
        (found, reader)
    }

    #[test]
    fn a_sequence_may_end_only_between_values() {
        for (bytes, is_between) in [
            (&[][..], true),
            (&[0x40], false),
            (&[0x00], false),
            (&[0x00, 0x01], false),
            (&[0x00, 0x01, 0xff], true),
            (&[0x00, 0x00], true),
        ] {
            assert_eq!(collected(bytes, 1).1.is_between(), is_between, "{bytes:?}");
        }
    }

    #[test]
    fn the_longest_length_is_not_reserved() {
        let mut input = &[0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2][..];
        let mut reader = TypeLength::default();
        assert_eq!(
            reader.next(&mut input),
            Some(Step::Start {
                kind: 0,
                len: varint::MAX
            })
        );
        assert_eq!(reader.next(&mut input), Some(Step::Value(&[1, 2])));
        assert_eq!(reader.next(&mut input), None);
    }

    proptest! {
        #[test]
        fn pieces_are_read_as_the_whole(
            items in prop::collection::vec((0..=varint::MAX, any::<Vec<u8>>()), 0..5),
            size in 1..20_usize,
        ) {
            let mut bytes = Vec::new();
            for (kind, value) in &items {
                varint::write(&mut bytes, *kind);
                varint::write(&mut bytes, value.len() as u64);
                bytes.extend_from_slice(value);
            }
            let (found, reader) = collected(&bytes, size);
            prop_assert!(reader.is_between());
            prop_assert_eq!(found, items);
        }
    }
}
