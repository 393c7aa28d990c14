//! The peer's part of a request stream (RFC 9114 section 4): fields, and after CONNECT the capsules of a session.

use crate::{
    capsule::{Capsule, Capsules},
    error::Error,
    error_code,
    field_section::{self, Field, Unreadable},
    frame,
    stream_id::Side,
    type_length::{Step, TypeLength},
};

/// What the peer sent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// The fields of a request or a response.
    Fields(Vec<Field>),
    /// There are more fields than we accept. Nothing else may be read.
    TooLarge,
    Capsule(Capsule),
}

#[derive(Debug)]
pub(crate) struct RequestStream {
    /// The side that reads.
    side: Side,
    frames: TypeLength,
    kind: u64,
    /// The payload of a HEADERS frame.
    section: Vec<u8>,
    /// DATA frames carry capsules, and there are no more fields (RFC 9114 section 4.4).
    is_tunnel: bool,
    capsules: Capsules,
}

impl RequestStream {
    /// A request that begins with a frame of this type, which has been read.
    pub(crate) fn request(kind: u64) -> Self {
        Self::new(Side::Server, TypeLength::after_type(kind))
    }

    /// The response to a request.
    pub(crate) fn response() -> Self {
        Self::new(Side::Client, TypeLength::default())
    }

    fn new(side: Side, frames: TypeLength) -> Self {
        Self {
            side,
            frames,
            kind: 0,
            section: Vec::new(),
            is_tunnel: false,
            capsules: Capsules::default(),
        }
    }

    /// The fields that were read last are those of a session: capsules follow.
    pub(crate) fn begin_tunnel(&mut self) {
        self.is_tunnel = true;
    }

    /// The next thing that the peer sent. It takes bytes from the front of `input`; `None` if all are taken.
    pub(crate) fn next(&mut self, input: &mut &[u8]) -> Result<Option<Part>, Error> {
        loop {
            let before = *input;
            let Some(step) = self.frames.next(input) else {
                return Ok(None);
            };
            match step {
                Step::Start { kind, len } => {
                    self.start(kind)?;
                    // The encoding is hardly ever longer than the fields, which have the same limit.
                    if kind == frame::HEADERS && len > field_section::MAX_SIZE as u64 {
                        return Ok(Some(Part::TooLarge));
                    }
                }
                Step::Value(part) if self.kind == frame::HEADERS => {
                    self.section.extend_from_slice(part);
                }
                Step::Value(part) if self.kind == frame::DATA => {
                    let mut rest = part;
                    let capsule = self.capsules.next(&mut rest)?;
                    self.frames.put_back(rest.len());
                    *input = &before[part.len() - rest.len()..];
                    if let Some(capsule) = capsule {
                        return Ok(Some(Part::Capsule(capsule)));
                    }
                }
                Step::End if self.kind == frame::HEADERS => {
                    return match field_section::read(&std::mem::take(&mut self.section)) {
                        Ok(fields) => Ok(Some(Part::Fields(fields))),
                        Err(Unreadable::TooLarge) => Ok(Some(Part::TooLarge)),
                        Err(Unreadable::Invalid(reason)) => Err(Error::Connection(
                            error_code::QPACK_DECOMPRESSION_FAILED,
                            reason,
                        )),
                    };
                }
                Step::Value(_) | Step::End => {}
            }
        }
    }

    /// Check the type of a frame, before anything of it is stored.
    fn start(&mut self, kind: u64) -> Result<(), Error> {
        self.kind = kind;
        frame::check(kind)?;
        let reason = match kind {
            frame::HEADERS if self.is_tunnel => "HEADERS came after those of a session",
            frame::DATA if !self.is_tunnel => "DATA came before HEADERS",
            frame::PUSH_PROMISE if self.side == Side::Client => {
                // We allow no push id (RFC 9114 section 7.2.5).
                return Err(Error::Connection(
                    error_code::H3_ID_ERROR,
                    "a push was promised, and none is allowed",
                ));
            }
            frame::CANCEL_PUSH
            | frame::SETTINGS
            | frame::PUSH_PROMISE
            | frame::GOAWAY
            | frame::MAX_PUSH_ID => "a frame of another stream is on a request stream",
            _ => return Ok(()),
        };
        Err(Error::Connection(error_code::H3_FRAME_UNEXPECTED, reason))
    }

    /// The peer has ended its part.
    pub(crate) fn end(&self) -> Result<(), Error> {
        if !self.frames.is_between() {
            return Err(Error::Connection(
                error_code::H3_FRAME_ERROR,
                "a stream ends within a frame",
            ));
        }
        match (self.is_tunnel, self.side) {
            (true, _) => self.capsules.end(),
            (false, Side::Server) => Err(Error::Stream(
                error_code::H3_REQUEST_INCOMPLETE,
                "a request ends before its fields",
            )),
            (false, Side::Client) => Err(Error::Stream(
                error_code::H3_MESSAGE_ERROR,
                "a response ends before its fields",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::capsule;

    fn headers() -> Vec<u8> {
        let mut out = Vec::new();
        let mut section = Vec::new();
        field_section::write(&mut section, &[(":status", "200")]);
        frame::write(&mut out, frame::HEADERS, &section);
        out
    }

    /// The parts of a response of a session, from pieces of this size, and the error that ended it.
    fn read(bytes: &[u8], size: usize) -> (Vec<Part>, Result<(), Error>) {
        let mut stream = RequestStream::response();
        let mut found = Vec::new();
        for mut piece in bytes.chunks(size) {
            loop {
                match stream.next(&mut piece) {
                    Ok(Some(Part::TooLarge)) => {
                        found.push(Part::TooLarge);
                        return (found, Ok(()));
                    }
                    Ok(Some(part)) => {
                        stream.begin_tunnel();
                        found.push(part);
                    }
                    Ok(None) => break,
                    Err(error) => return (found, Err(error)),
                }
            }
        }
        (found, stream.end())
    }

    fn code_of(bytes: &[u8]) -> Option<u64> {
        let whole = read(bytes, bytes.len().max(1));
        assert_eq!(whole, read(bytes, 1));
        whole.1.err().map(Error::code)
    }

    #[test]
    fn capsules_are_found_within_and_across_data_frames() {
        let mut capsules = Vec::new();
        capsule::write_drain(&mut capsules);
        capsule::write_close(&mut capsules, 9, "over");
        let closed = Capsule::Close {
            code: 9,
            reason: "over".to_owned(),
        };
        for size in 1..=capsules.len() {
            let mut bytes = headers();
            for piece in capsules.chunks(size) {
                frame::write(&mut bytes, frame::DATA, piece);
                frame::write(&mut bytes, 0x21, b"grease");
            }
            for pieces in [1, 3, bytes.len()] {
                let (found, end) = read(&bytes, pieces);
                assert_eq!(end, Ok(()));
                assert_eq!(
                    found[1..],
                    [Part::Capsule(Capsule::Drain), Part::Capsule(closed.clone())]
                );
            }
        }
    }

    #[test]
    fn frames_out_of_place_close_the_connection() {
        for (kind, code) in [
            (0x00, error_code::H3_FRAME_UNEXPECTED),
            (0x02, error_code::H3_FRAME_UNEXPECTED),
            (0x03, error_code::H3_FRAME_UNEXPECTED),
            (0x04, error_code::H3_FRAME_UNEXPECTED),
            (0x05, error_code::H3_ID_ERROR),
            (0x07, error_code::H3_FRAME_UNEXPECTED),
            (0x0d, error_code::H3_FRAME_UNEXPECTED),
        ] {
            assert_eq!(code_of(&[kind, 0]), Some(code), "{kind}");
        }
        let twice = [headers(), headers()].concat();
        assert_eq!(code_of(&twice), Some(error_code::H3_FRAME_UNEXPECTED));
        assert_eq!(code_of(&[0x40, 0x41, 0]), Some(error_code::H3_FRAME_ERROR));
        assert_eq!(
            code_of(&[1, 2, 0x80, 0]),
            Some(error_code::QPACK_DECOMPRESSION_FAILED)
        );
    }

    #[test]
    fn ends_are_judged_by_where_they_fall() {
        assert_eq!(code_of(&[]), Some(error_code::H3_MESSAGE_ERROR));
        assert_eq!(code_of(&headers()), None);
        let cut = &headers()[..4];
        assert_eq!(code_of(cut), Some(error_code::H3_FRAME_ERROR));
        let mut within_capsule = headers();
        frame::write(&mut within_capsule, frame::DATA, &[0x68]);
        assert_eq!(code_of(&within_capsule), Some(error_code::H3_MESSAGE_ERROR));
        assert_eq!(
            RequestStream::request(frame::HEADERS)
                .end()
                .map_err(Error::code),
            Err(error_code::H3_FRAME_ERROR)
        );
    }

    #[test]
    fn fields_are_limited_before_they_are_stored() {
        let mut bytes = Vec::new();
        frame::write(
            &mut bytes,
            frame::HEADERS,
            &[0; field_section::MAX_SIZE + 1],
        );
        let mut stream = RequestStream::response();
        assert_eq!(stream.next(&mut &bytes[..]), Ok(Some(Part::TooLarge)));
        assert_eq!(stream.section.capacity(), 0);
    }

    proptest! {
        #[test]
        fn any_frames_are_read_alike_in_pieces(
            frames in prop::collection::vec((0..0x10_u64, any::<Vec<u8>>()), 0..6),
            size in 1..20_usize,
        ) {
            let mut bytes = headers();
            for (kind, payload) in &frames {
                frame::write(&mut bytes, *kind, payload);
            }
            prop_assert_eq!(read(&bytes, size), read(&bytes, bytes.len()));
        }
    }
}
