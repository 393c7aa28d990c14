//! SETTINGS (RFC 9114 section 7.2.4): what we offer to every client of today, and what the peer offers.

use crate::{error::Error, error_code, field_section, frame, varint};

/// The largest SETTINGS payload that we read. Browsers send less than 100 bytes.
pub(crate) const MAX_LEN: usize = 1024;
/// The most settings in it.
const MAX_ENTRIES: usize = 64;

const MAX_FIELD_SECTION_SIZE: u64 = 0x06;
/// RFC 9220 section 3.
const ENABLE_CONNECT_PROTOCOL: u64 = 0x08;
/// RFC 9297 section 2.1.1, and its draft 04, which draft-02 of WebTransport goes with.
const H3_DATAGRAM: u64 = 0x33;
const H3_DATAGRAM_DRAFT_04: u64 = 0x00ff_d277;
/// ENABLE_WEBTRANSPORT of the drafts 02 to 06 of draft-ietf-webtrans-http3: Chrome and Firefox.
const ENABLE_WEBTRANSPORT: u64 = 0x2b60_3742;
/// WEBTRANSPORT_MAX_SESSIONS of the drafts 07 to 12. We do not send it: Chrome would change to draft 07.
const MAX_SESSIONS_DRAFT_07: u64 = 0xc671_706a;
/// WT_MAX_SESSIONS of the drafts 13 and 14: Safari.
const WT_MAX_SESSIONS: u64 = 0x14e9_cd29;
/// WT_ENABLED since draft 15: go-libp2p.
const WT_ENABLED: u64 = 0x2c7c_f000;

/// Append our SETTINGS frame.
///
/// QPACK's table capacity and blocked streams are left at their default of 0. One session is offered:
/// beyond one, the drafts require the limits of WebTransport's own flow control.
pub(crate) fn write(out: &mut Vec<u8>) {
    let mut payload = Vec::new();
    for (id, value) in [
        (MAX_FIELD_SECTION_SIZE, field_section::MAX_SIZE as u64),
        (ENABLE_CONNECT_PROTOCOL, 1),
        (H3_DATAGRAM, 1),
        (H3_DATAGRAM_DRAFT_04, 1),
        (ENABLE_WEBTRANSPORT, 1),
        (WT_MAX_SESSIONS, 1),
        (WT_ENABLED, 1),
    ] {
        varint::write(&mut payload, id);
        varint::write(&mut payload, value);
    }
    frame::write(out, frame::SETTINGS, &payload);
}

/// What the peer's SETTINGS say, as far as it matters here.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    has_extended_connect: bool,
    has_draft_02: bool,
    has_sessions: bool,
    has_draft_15: bool,
}

impl Settings {
    /// Read the payload of a SETTINGS frame.
    pub(crate) fn read(mut payload: &[u8]) -> Result<Self, Error> {
        let mut settings = Self::default();
        let mut seen = Vec::new();
        while !payload.is_empty() {
            let (id, rest) = varint::read(payload).ok_or(CUT_OFF)?;
            let (value, rest) = varint::read(rest).ok_or(CUT_OFF)?;
            payload = rest;
            if seen.contains(&id) {
                return Err(wrong("a setting occurs twice"));
            }
            if seen.len() == MAX_ENTRIES {
                return Err(Error::Connection(
                    error_code::H3_EXCESSIVE_LOAD,
                    "SETTINGS has more than 64 entries",
                ));
            }
            seen.push(id);
            match id {
                // RFC 9114 sections 7.2.4.1 and 11.2.2.
                0x00 | 0x02..=0x05 => return Err(wrong("a setting is one of HTTP/2")),
                ENABLE_CONNECT_PROTOCOL => settings.has_extended_connect = flag(value)?,
                H3_DATAGRAM => {
                    flag(value)?;
                }
                ENABLE_WEBTRANSPORT => settings.has_draft_02 = value != 0,
                MAX_SESSIONS_DRAFT_07 | WT_MAX_SESSIONS => settings.has_sessions |= value != 0,
                WT_ENABLED => settings.has_draft_15 = value != 0,
                _ => {}
            }
        }
        Ok(settings)
    }

    /// Whether a server with these settings takes sessions. In draft 02 extended CONNECT goes without saying.
    /// Datagrams, which the drafts require too, are not asked for, as libp2p sends none.
    pub(crate) fn allows_sessions(&self) -> bool {
        self.has_draft_02 || self.has_extended_connect && (self.has_sessions || self.has_draft_15)
    }

    /// Whether the server may be one of draft-02 and so wants its header.
    pub(crate) fn is_draft_02(&self) -> bool {
        self.has_draft_02
    }

    /// Whether the server knows the `:protocol` of draft-15, `webtransport-h3`.
    pub(crate) fn is_draft_15(&self) -> bool {
        self.has_draft_15
    }
}

const CUT_OFF: Error = Error::Connection(error_code::H3_FRAME_ERROR, "SETTINGS is cut off");

fn wrong(reason: &'static str) -> Error {
    Error::Connection(error_code::H3_SETTINGS_ERROR, reason)
}

/// A setting that RFC 8441 section 3 or RFC 9297 section 2.1.1 allows to be 0 or 1 only.
fn flag(value: u64) -> Result<bool, Error> {
    match value {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(wrong("a setting that is 0 or 1 has another value")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn payload(settings: &[(u64, u64)]) -> Vec<u8> {
        let mut out = Vec::new();
        for (id, value) in settings {
            varint::write(&mut out, *id);
            varint::write(&mut out, *value);
        }
        out
    }

    fn code_of(settings: &[(u64, u64)]) -> Option<u64> {
        Settings::read(&payload(settings)).err().map(Error::code)
    }

    #[test]
    fn our_own_settings_suffice_for_ourselves() {
        let mut out = Vec::new();
        write(&mut out);
        assert_eq!(out[0], 0x04);
        assert_eq!(usize::from(out[1]), out.len() - 2);
        let settings = Settings::read(&out[2..]).expect("our own");
        assert!(settings.allows_sessions() && settings.is_draft_02() && settings.is_draft_15());
    }

    /// What the listeners of other implementations offer, and what of it a session needs.
    #[test]
    fn servers_of_every_draft_are_told_from_others() {
        for (name, settings, allows) in [
            ("draft-02", &[(0x00ff_d277, 1), (0x2b60_3742, 1)][..], true),
            ("draft-07", &[(0x08, 1), (0x33, 1), (0xc671_706a, 1)], true),
            (
                "draft-13",
                &[(0x08, 1), (0x33, 1), (0x14e9_cd29, 100)],
                true,
            ),
            ("draft-15", &[(0x08, 1), (0x33, 1), (0x2c7c_f000, 1)], true),
            (
                "grease",
                &[(0x08, 1), (0x21, 7), (0x1f * 9 + 0x21, 3), (0x2c7c_f000, 1)],
                true,
            ),
            ("no extended CONNECT", &[(0x33, 1), (0x2c7c_f000, 1)], false),
            (
                "no sessions",
                &[(0x08, 1), (0x33, 1), (0x14e9_cd29, 0)],
                false,
            ),
            ("plain HTTP/3", &[(0x01, 4096), (0x07, 100)], false),
            ("nothing", &[], false),
        ] {
            let read = Settings::read(&payload(settings)).expect("valid");
            assert_eq!(read.allows_sessions(), allows, "{name}");
        }
    }

    #[test]
    fn wrong_settings_close_the_connection() {
        assert_eq!(
            code_of(&[(0x21, 1), (0x21, 1)]),
            Some(error_code::H3_SETTINGS_ERROR)
        );
        for id in [0x00, 0x02, 0x03, 0x04, 0x05] {
            assert_eq!(
                code_of(&[(id, 0)]),
                Some(error_code::H3_SETTINGS_ERROR),
                "{id}"
            );
        }
        assert_eq!(code_of(&[(0x08, 2)]), Some(error_code::H3_SETTINGS_ERROR));
        assert_eq!(code_of(&[(0x33, 2)]), Some(error_code::H3_SETTINGS_ERROR));
        let many: Vec<_> = (0x40..0x40 + 65).map(|id| (id, 0)).collect();
        assert_eq!(code_of(&many[..64]), None);
        assert_eq!(code_of(&many), Some(error_code::H3_EXCESSIVE_LOAD));
        let cut = payload(&[(0x08, 1), (0x2b60_3742, 1)]);
        for len in [1, 3, 6] {
            assert_eq!(
                Settings::read(&cut[..len]).map_err(Error::code),
                Err(error_code::H3_FRAME_ERROR)
            );
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes in prop::collection::vec(any::<u8>(), 0..MAX_LEN)) {
            let _ = Settings::read(&bytes);
        }
    }
}
