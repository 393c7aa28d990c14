//! The peer's QPACK streams (RFC 9204 section 4.2). Without a dynamic table hardly an instruction is valid,
//! and nothing is kept of those that are.

use crate::{error::Error, error_code};

/// Check the instructions of the peer's encoder (RFC 9204 section 4.3). As we allow a capacity of 0, the only
/// valid one sets the capacity to 0.
pub(crate) fn check_encoder(instructions: &[u8]) -> Result<(), Error> {
    const CAPACITY_0: u8 = 0b0010_0000;
    if instructions.iter().all(|byte| *byte == CAPACITY_0) {
        return Ok(());
    }
    Err(Error::Connection(
        error_code::QPACK_ENCODER_STREAM_ERROR,
        "QPACK's dynamic table has a capacity of 0",
    ))
}

/// The peer's decoder stream (RFC 9204 section 4.4). We insert nothing into its table, so it may only
/// cancel streams, which means nothing to us.
#[derive(Debug, Default)]
pub(crate) struct DecoderStream {
    /// Bytes of a stream id that have arrived, if it is not complete.
    id_len: Option<u8>,
}

/// The bytes of a stream id of 62 bits after the first one.
const MAX_ID_LEN: u8 = 9;

impl DecoderStream {
    pub(crate) fn receive(&mut self, instructions: &[u8]) -> Result<(), Error> {
        const CANCELLATION: u8 = 0b0100_0000;
        for byte in instructions {
            self.id_len = match self.id_len {
                None if byte & 0b1100_0000 != CANCELLATION => {
                    return Err(Error::Connection(
                        error_code::QPACK_DECODER_STREAM_ERROR,
                        "QPACK's decoder acknowledges what was not sent",
                    ));
                }
                None => (byte & 0b0011_1111 == 0b0011_1111).then_some(0),
                Some(MAX_ID_LEN) => {
                    return Err(Error::Connection(
                        error_code::QPACK_DECODER_STREAM_ERROR,
                        "QPACK's decoder cancels a stream with an id that is too large",
                    ));
                }
                Some(len) => (byte & 0x80 != 0).then_some(len + 1),
            };
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_capacity_of_0_is_set() {
        assert_eq!(check_encoder(&[]), Ok(()));
        assert_eq!(check_encoder(&[0x20, 0x20]), Ok(()));
        // RFC 9204 appendix B.2: a capacity of 220, and an insertion. Then a duplicate.
        for instructions in [
            &b"\x3f\xbd\x01"[..],
            b"\xc0\x0fwww.example.com",
            b"\x02",
            b"\x20\x21",
        ] {
            let error = check_encoder(instructions).expect_err("a table");
            assert_eq!(error.code(), error_code::QPACK_ENCODER_STREAM_ERROR);
        }
    }

    #[test]
    fn only_cancellations_come_from_the_decoder() {
        // RFC 9204 appendix B: acknowledgment of stream 4, increment by 1, cancellation of stream 8.
        for (instructions, is_valid) in [
            (&[0x84][..], false),
            (&[0x01], false),
            (&[0x00], false),
            (&[0x48], true),
            (&[0x48, 0x7f, 0xff, 0x01, 0x40], true),
            (&[0x7f, 0x00, 0x84], false),
            (
                &[
                    0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f, 0x48,
                ],
                true,
            ),
            (
                &[
                    0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x48,
                ],
                false,
            ),
        ] {
            let whole = DecoderStream::default().receive(instructions);
            assert_eq!(whole.is_ok(), is_valid, "{instructions:x?}");
            let mut stream = DecoderStream::default();
            let pieces: Result<(), Error> = instructions
                .chunks(1)
                .try_for_each(|byte| stream.receive(byte));
            assert_eq!(pieces, whole);
        }
    }
}
