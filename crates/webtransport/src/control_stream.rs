//! The peer's control stream (RFC 9114 section 6.2.1): SETTINGS first, then what concerns the whole connection.

use crate::{
    error::Error,
    error_code, frame,
    settings::{self, Settings},
    stream_id::Side,
    type_length::{Step, TypeLength},
    varint,
};

/// What the peer said.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Control {
    Settings(Settings),
    /// The peer processes no request of this id or a higher one; if we are the server, no push.
    GoAway(u64),
}

#[derive(Debug)]
pub(crate) struct ControlStream {
    /// The side that reads the stream.
    side: Side,
    frames: TypeLength,
    kind: u64,
    /// The payload of a frame that we know.
    payload: Vec<u8>,
    has_settings: bool,
    go_away: Option<u64>,
    max_push_id: Option<u64>,
}

impl ControlStream {
    pub(crate) fn new(side: Side) -> Self {
        Self {
            side,
            frames: TypeLength::default(),
            kind: 0,
            payload: Vec::new(),
            has_settings: false,
            go_away: None,
            max_push_id: None,
        }
    }

    /// The next thing that the peer said. It takes bytes from the front of `input`; `None` if all are taken.
    pub(crate) fn next(&mut self, input: &mut &[u8]) -> Result<Option<Control>, Error> {
        while let Some(step) = self.frames.next(input) {
            match step {
                Step::Start { kind, len } => self.start(kind, len)?,
                Step::Value(part) if is_known(self.kind) => self.payload.extend_from_slice(part),
                Step::Value(_) => {}
                Step::End => {
                    let payload = std::mem::take(&mut self.payload);
                    if let Some(control) = self.end(&payload)? {
                        return Ok(Some(control));
                    }
                }
            }
        }
        Ok(None)
    }

    /// Check a frame by its type and length, before anything of it is stored.
    fn start(&mut self, kind: u64, len: u64) -> Result<(), Error> {
        self.kind = kind;
        if !self.has_settings && kind != frame::SETTINGS {
            return Err(Error::Connection(
                error_code::H3_MISSING_SETTINGS,
                "the control stream does not begin with SETTINGS",
            ));
        }
        frame::check(kind)?;
        match kind {
            frame::SETTINGS if self.has_settings => Err(unexpected("SETTINGS came twice")),
            frame::SETTINGS if len > settings::MAX_LEN as u64 => Err(Error::Connection(
                error_code::H3_EXCESSIVE_LOAD,
                "SETTINGS is longer than 1024 bytes",
            )),
            frame::DATA | frame::HEADERS | frame::PUSH_PROMISE => {
                Err(unexpected("a frame of a request is on the control stream"))
            }
            frame::MAX_PUSH_ID if self.side == Side::Client => {
                Err(unexpected("a server limits pushes"))
            }
            frame::GOAWAY | frame::MAX_PUSH_ID | frame::CANCEL_PUSH
                if len > varint::MAX_LEN as u64 =>
            {
                Err(FRAME_ERROR)
            }
            _ => Ok(()),
        }
    }

    /// A frame is complete.
    fn end(&mut self, payload: &[u8]) -> Result<Option<Control>, Error> {
        match self.kind {
            frame::SETTINGS => {
                self.has_settings = true;
                Settings::read(payload).map(|settings| Some(Control::Settings(settings)))
            }
            frame::GOAWAY => {
                let id = id(payload)?;
                // A server names a request (RFC 9114 section 5.2), and the id must not grow.
                let is_request = self.side == Side::Server || id % 4 == 0;
                if !is_request || self.go_away.is_some_and(|before| id > before) {
                    return Err(id_error("GOAWAY has a wrong id"));
                }
                self.go_away = Some(id);
                Ok(Some(Control::GoAway(id)))
            }
            frame::MAX_PUSH_ID => {
                let id = id(payload)?;
                if self.max_push_id.is_some_and(|before| id < before) {
                    return Err(id_error("MAX_PUSH_ID shrinks"));
                }
                self.max_push_id = Some(id);
                Ok(None)
            }
            // Neither side of ours ever promises or allows a push.
            frame::CANCEL_PUSH => {
                id(payload)?;
                Err(id_error("CANCEL_PUSH names a push that was never promised"))
            }
            _ => Ok(None),
        }
    }
}

fn is_known(kind: u64) -> bool {
    matches!(
        kind,
        frame::SETTINGS | frame::GOAWAY | frame::MAX_PUSH_ID | frame::CANCEL_PUSH
    )
}

/// A payload that is one id.
fn id(payload: &[u8]) -> Result<u64, Error> {
    match varint::read(payload) {
        Some((id, [])) => Ok(id),
        _ => Err(FRAME_ERROR),
    }
}

const FRAME_ERROR: Error = Error::Connection(
    error_code::H3_FRAME_ERROR,
    "a frame with an id has another length",
);

fn unexpected(reason: &'static str) -> Error {
    Error::Connection(error_code::H3_FRAME_UNEXPECTED, reason)
}

fn id_error(reason: &'static str) -> Error {
    Error::Connection(error_code::H3_ID_ERROR, reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An empty SETTINGS frame.
    const SETTINGS: [u8; 2] = [4, 0];

    fn read(side: Side, bytes: &[u8], size: usize) -> Result<Vec<Control>, Error> {
        let mut stream = ControlStream::new(side);
        let mut found = Vec::new();
        for mut piece in bytes.chunks(size) {
            while let Some(control) = stream.next(&mut piece)? {
                found.push(control);
            }
        }
        Ok(found)
    }

    /// The code for frames after SETTINGS.
    fn code_of(side: Side, frames: &[u8]) -> Option<u64> {
        let bytes = [&SETTINGS[..], frames].concat();
        let whole = read(side, &bytes, bytes.len());
        assert_eq!(whole, read(side, &bytes, 1));
        whole.err().map(Error::code)
    }

    #[test]
    fn settings_come_first_and_once() {
        assert_eq!(
            read(Side::Server, &SETTINGS, 1),
            Ok(vec![Control::Settings(Settings::default())])
        );
        for frames in [&[7, 1, 0][..], &[0x21, 0], &[0, 0]] {
            let error = read(Side::Server, frames, 9).expect_err("no SETTINGS");
            assert_eq!(error.code(), error_code::H3_MISSING_SETTINGS);
        }
        assert_eq!(
            code_of(Side::Client, &SETTINGS),
            Some(error_code::H3_FRAME_UNEXPECTED)
        );
        let mut long = vec![4];
        varint::write(&mut long, 1025);
        let error = read(Side::Client, &long, 9).expect_err("too long");
        assert_eq!(error.code(), error_code::H3_EXCESSIVE_LOAD);
    }

    #[test]
    fn frames_of_requests_and_of_http2_are_refused() {
        for kind in [0, 1, 2, 5, 6, 8, 9] {
            for side in [Side::Client, Side::Server] {
                assert_eq!(
                    code_of(side, &[kind, 0]),
                    Some(error_code::H3_FRAME_UNEXPECTED),
                    "{kind}"
                );
            }
        }
        assert_eq!(
            code_of(Side::Server, &[0x40, 0x41, 0]),
            Some(error_code::H3_FRAME_ERROR)
        );
    }

    #[test]
    fn ids_must_fill_their_frame_and_keep_their_order() {
        let refused = Some(error_code::H3_ID_ERROR);
        assert_eq!(code_of(Side::Client, &[7, 1, 8, 7, 1, 8, 7, 1, 4]), None);
        assert_eq!(code_of(Side::Client, &[7, 1, 8, 7, 1, 12]), refused);
        assert_eq!(code_of(Side::Client, &[7, 1, 7]), refused);
        assert_eq!(code_of(Side::Server, &[7, 1, 7]), None);
        assert_eq!(code_of(Side::Server, &[0x0d, 1, 7, 0x0d, 1, 7]), None);
        assert_eq!(code_of(Side::Server, &[0x0d, 1, 7, 0x0d, 1, 6]), refused);
        assert_eq!(
            code_of(Side::Client, &[0x0d, 1, 7]),
            Some(error_code::H3_FRAME_UNEXPECTED)
        );
        assert_eq!(code_of(Side::Client, &[3, 1, 0]), refused);
        for frame in [&[7, 0][..], &[7, 2, 0, 0], &[7, 1, 0x40], &[7, 9]] {
            assert_eq!(
                code_of(Side::Client, frame),
                Some(error_code::H3_FRAME_ERROR),
                "{frame:?}"
            );
        }
    }

    #[test]
    fn unknown_frames_are_skipped() {
        // PRIORITY_UPDATE (RFC 9218 section 7.2), which Chrome sends.
        let frames = [
            0x80, 0x0f, 0x07, 0x00, 5, 0, b'u', b'=', b'3', b',', 7, 1, 0,
        ];
        let bytes = [&SETTINGS[..], &frames].concat();
        let found = read(Side::Client, &bytes, 1).expect("valid");
        assert_eq!(found[1..], [Control::GoAway(0)]);
    }
}
