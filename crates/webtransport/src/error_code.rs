//! Error codes of HTTP/3, QPACK and WebTransport, and the place that HTTP/3 gives to an application's codes.

/// No error (RFC 9114 section 8.1, as the codes that follow).
pub const H3_NO_ERROR: u64 = 0x100;
/// The peer violated the protocol in a way that no other code names.
pub const H3_GENERAL_PROTOCOL_ERROR: u64 = 0x101;
/// The peer opened a stream that it must not open.
pub const H3_STREAM_CREATION_ERROR: u64 = 0x103;
/// A stream that the connection requires was closed or reset.
pub const H3_CLOSED_CRITICAL_STREAM: u64 = 0x104;
/// A frame came where its type is not allowed.
pub const H3_FRAME_UNEXPECTED: u64 = 0x105;
/// A frame has a wrong layout or length.
pub const H3_FRAME_ERROR: u64 = 0x106;
/// The peer causes more work than this side accepts.
pub const H3_EXCESSIVE_LOAD: u64 = 0x107;
/// A stream id or push id is used wrongly.
pub const H3_ID_ERROR: u64 = 0x108;
/// A SETTINGS frame is wrong.
pub const H3_SETTINGS_ERROR: u64 = 0x109;
/// The control stream does not begin with SETTINGS.
pub const H3_MISSING_SETTINGS: u64 = 0x10a;
/// The server did not process the request.
pub const H3_REQUEST_REJECTED: u64 = 0x10b;
/// The request or its response is no longer needed.
pub const H3_REQUEST_CANCELLED: u64 = 0x10c;
/// The client's stream ended before its request.
pub const H3_REQUEST_INCOMPLETE: u64 = 0x10d;
/// A message is malformed.
pub const H3_MESSAGE_ERROR: u64 = 0x10e;

/// A field section cannot be decoded (RFC 9204 section 6, as the two that follow).
pub const QPACK_DECOMPRESSION_FAILED: u64 = 0x200;
/// An instruction of the peer's encoder cannot be followed.
pub const QPACK_ENCODER_STREAM_ERROR: u64 = 0x201;
/// An instruction of the peer's decoder cannot be followed.
pub const QPACK_DECODER_STREAM_ERROR: u64 = 0x202;

/// A datagram has no valid Quarter Stream ID (RFC 9297 section 2.1).
pub const H3_DATAGRAM_ERROR: u64 = 0x33;

/// A stream came before its session, and too many wait already (draft-ietf-webtrans-http3 section 9.5, as
/// the two that follow).
pub const WT_BUFFERED_STREAM_REJECTED: u64 = 0x3994_bd84;
/// The session of a stream is over.
pub const WT_SESSION_GONE: u64 = 0x170d_7b68;
/// The peer's SETTINGS do not offer what WebTransport requires.
pub const WT_REQUIREMENTS_NOT_MET: u64 = 0x212c_0d48;

/// The code that HTTP/3 uses for application code 0 (draft-ietf-webtrans-http3 section 4.4).
const FIRST: u64 = 0x52e4_a40f_a8db;
/// The code that HTTP/3 uses for application code 2³² - 1.
const LAST: u64 = 0x52e5_ac98_3162;

/// The code with which QUIC resets or stops a session's stream for this application code. Codes of the form
/// 0x1f * n + 0x21 are reserved and skipped.
#[must_use]
pub fn from_application(code: u32) -> u64 {
    let code = u64::from(code);
    FIRST + code + code / 0x1e
}

/// The application code for which a session's stream was reset or stopped. `None` if the code is none of an
/// application.
#[must_use]
pub fn to_application(code: u64) -> Option<u32> {
    if !(FIRST..=LAST).contains(&code) || (code - 0x21).is_multiple_of(0x1f) {
        return None;
    }
    let shifted = code - FIRST;
    u32::try_from(shifted - shifted / 0x1f).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_range_of_application_codes_is_the_drafts() {
        assert_eq!(from_application(0), FIRST);
        assert_eq!(from_application(0x1d), FIRST + 0x1d);
        assert_eq!(from_application(0x1e), FIRST + 0x1f);
        assert_eq!(from_application(u32::MAX), LAST);
        assert_eq!(to_application(FIRST), Some(0));
        assert_eq!(to_application(LAST), Some(u32::MAX));
        assert_eq!(to_application(FIRST - 1), None);
        assert_eq!(to_application(LAST + 1), None);
        assert_eq!(to_application(0), None);
        assert_eq!(to_application(u64::MAX), None);
    }

    #[test]
    fn reserved_codes_are_no_application_codes() {
        let reserved: Vec<u64> = (FIRST..FIRST + 100)
            .filter(|code| to_application(*code).is_none())
            .collect();
        assert_eq!(reserved, [FIRST + 0x1e, FIRST + 0x3d, FIRST + 0x5c]);
        assert!(reserved.iter().all(|code| (code - 0x21) % 0x1f == 0));
    }

    proptest! {
        #[test]
        fn codes_come_back(code: u32) {
            let mapped = from_application(code);
            prop_assert!(!(mapped - 0x21).is_multiple_of(0x1f));
            prop_assert_eq!(to_application(mapped), Some(code));
        }

        #[test]
        fn different_codes_stay_different(code in FIRST..=LAST) {
            if let Some(application) = to_application(code) {
                prop_assert_eq!(from_application(application), code);
            }
        }
    }
}
