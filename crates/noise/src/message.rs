//! Messages with their length before them, as Noise's travel in a stream: two bytes, big-endian. The content is
//! not read here.

use crate::error::NoiseError;

/// The longest message that is read or sent. The longest payload, with an RSA key of 8192 bits and 16 certificate
/// hashes, has 2.8 KiB.
pub const LONGEST_MESSAGE: usize = 4096;

/// How many bytes the length takes.
const PREFIX: usize = 2;

/// Collects received bytes until a message is whole.
#[derive(Debug, Default)]
pub(crate) struct Inbox(Vec<u8>);

impl Inbox {
    /// Take bytes of `input` until a message is whole, and return it. Bytes after it stay in `input`. `number` is
    /// the message's in the handshake, for errors.
    pub(crate) fn take(
        &mut self,
        input: &mut &[u8],
        number: u8,
    ) -> Result<Option<Vec<u8>>, NoiseError> {
        self.fill(input, PREFIX);
        let &[high, low] = self.0.get(..PREFIX).unwrap_or_default() else {
            return Ok(None);
        };
        let length = usize::from(u16::from_be_bytes([high, low]));
        if length > LONGEST_MESSAGE {
            return Err(NoiseError::TooLong {
                message: number,
                length,
            });
        }
        self.fill(input, PREFIX + length);
        if self.0.len() < PREFIX + length {
            return Ok(None);
        }
        let message = self.0.split_off(PREFIX);
        self.0.clear();
        Ok(Some(message))
    }

    /// Take bytes until `length` are there.
    fn fill(&mut self, input: &mut &[u8], length: usize) {
        let missing = length.saturating_sub(self.0.len()).min(input.len());
        let (taken, rest) = input.split_at(missing);
        self.0.extend_from_slice(taken);
        *input = rest;
    }
}

/// Write a message with its length, which is at most [`LONGEST_MESSAGE`].
pub(crate) fn framed(message: &[u8]) -> Vec<u8> {
    let length = u16::try_from(message.len()).unwrap_or(u16::MAX);
    [&length.to_be_bytes()[..], message].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_may_be_divided_anywhere() {
        let bytes = [framed(b"one"), framed(b""), framed(&[7; LONGEST_MESSAGE])].concat();
        for size in [1, 2, 3, 5, 1000, bytes.len()] {
            let mut inbox = Inbox::default();
            let mut messages = vec![];
            for mut part in bytes.chunks(size) {
                while !part.is_empty() {
                    messages.extend(inbox.take(&mut part, 1).expect("a good message"));
                }
            }
            assert_eq!(
                messages,
                [b"one".to_vec(), vec![], vec![7; LONGEST_MESSAGE]]
            );
        }
    }

    #[test]
    fn a_message_that_is_too_long_is_refused_before_it_arrives() {
        let mut input = &[0x10, 0x01][..];
        let error = Inbox::default().take(&mut input, 2).expect_err("too long");
        assert_eq!(
            error.to_string(),
            "the peer's Noise message 2 has 4097 bytes, and at most 4096 are read"
        );
    }
}
