//! The error codes of applications on the wire: varints, and for WebTransport those that HTTP/3 gives them.

use libp2p_quic_webtransport::error_code;
use quinn_proto::VarInt;

/// Converts an error code to a varint. The public methods document the 62-bit range; larger codes
/// become the largest one.
pub(super) fn varint(code: u64) -> VarInt {
    VarInt::from_u64(code).unwrap_or(VarInt::MAX)
}

/// How an application's codes of resets and stops are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Codes {
    /// As they are (RFC 9000 section 20.2).
    Plain,
    /// In the range that HTTP/3 gives them, of 32 bits (draft-ietf-webtrans-http3 section 4.4).
    OfSession,
}

impl Codes {
    pub(super) fn to_wire(self, code: u64) -> VarInt {
        match self {
            Self::Plain => varint(code),
            Self::OfSession => {
                let code = u32::try_from(code).unwrap_or(u32::MAX);
                varint(error_code::from_application(code))
            }
        }
    }

    /// A code outside of the range, such as the one of a session that is over, is read as 0.
    pub(super) fn of_wire(self, code: VarInt) -> u64 {
        match self {
            Self::Plain => code.into_inner(),
            Self::OfSession => error_code::to_application(code.into_inner()).map_or(0, u64::from),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_a_session_are_in_the_range_of_http_3() {
        let codes = Codes::OfSession;
        for code in [0, 1, 0x1d, 0x1e, 0x1001, u64::from(u32::MAX)] {
            let wire = codes.to_wire(code);
            assert!(wire.into_inner() > 0x52e4_a40f_a8da);
            assert_eq!(codes.of_wire(wire), code);
            assert_eq!(Codes::Plain.of_wire(Codes::Plain.to_wire(code)), code);
        }
        assert_eq!(codes.of_wire(codes.to_wire(u64::MAX)), u64::from(u32::MAX));
        assert_eq!(codes.of_wire(varint(0x100)), 0);
    }
}
