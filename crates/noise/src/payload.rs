//! The payload of libp2p's Noise messages: the protobuf with the host key, its signature and the extensions.
//! Nothing is verified here.
//!
//! The input comes from peers that are not authenticated, so no input may cause a panic or a large allocation.

use crate::error::NoiseError;

/// Certificate hashes and stream muxers of a payload, at most of each. A server has three certificates.
pub const MOST_ENTRIES: usize = 16;

/// Wire types of protobuf. Groups (3 and 4) are obsolete.
const VARINT: u64 = 0;
const FIXED_64: u64 = 1;
const BYTES: u64 = 2;
const FIXED_32: u64 = 5;

/// `NoiseHandshakePayload` of libp2p's noise spec.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Payload {
    /// The host key's protobuf.
    pub identity_key: Vec<u8>,
    /// The host key's signature of the Noise key.
    pub identity_sig: Vec<u8>,
    /// What goes beyond the identity.
    pub extensions: Extensions,
}

/// `NoiseExtensions` of libp2p's noise spec.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extensions {
    /// The multihashes of the server's certificates.
    pub webtransport_certhashes: Vec<Vec<u8>>,
    /// Stream muxers, which WebTransport does not need.
    pub stream_muxers: Vec<String>,
}

impl Payload {
    /// Read a payload. As in protobuf, fields come in any order, unknown ones are skipped, the last of several counts,
    /// and the lists of several `extensions` are joined.
    ///
    /// # Errors
    /// [`NoiseError::Malformed`] if the bytes are no such protobuf, [`NoiseError::TooMany`] if a list is too long.
    pub fn read(mut bytes: &[u8]) -> Result<Self, NoiseError> {
        let mut payload = Self::default();
        while let Some((field, value)) = next(&mut bytes, "the payload")? {
            match (field, value) {
                (1, Value::Bytes(key)) => payload.identity_key = key.to_vec(),
                (2, Value::Bytes(signature)) => payload.identity_sig = signature.to_vec(),
                (4, Value::Bytes(extensions)) => payload.extensions.read(extensions)?,
                (1 | 2 | 4, Value::Other) => return Err(NoiseError::Malformed("the payload")),
                _ => {}
            }
        }
        Ok(payload)
    }

    /// The payload's protobuf.
    pub fn write(&self) -> Vec<u8> {
        let mut out = Vec::new();
        field(&mut out, 1, &self.identity_key);
        field(&mut out, 2, &self.identity_sig);
        let extensions = self.extensions.write();
        if !extensions.is_empty() {
            field(&mut out, 4, &extensions);
        }
        out
    }
}

impl Extensions {
    fn read(&mut self, mut bytes: &[u8]) -> Result<(), NoiseError> {
        let place = "the extensions";
        while let Some((field, value)) = next(&mut bytes, place)? {
            match (field, value) {
                (1, Value::Bytes(hash)) => push(
                    &mut self.webtransport_certhashes,
                    hash.to_vec(),
                    "certificate hashes",
                )?,
                (2, Value::Bytes(name)) => {
                    let name = str::from_utf8(name).map_err(|_| NoiseError::Malformed(place))?;
                    push(&mut self.stream_muxers, name.to_owned(), "stream muxers")?;
                }
                (1 | 2, Value::Other) => return Err(NoiseError::Malformed(place)),
                _ => {}
            }
        }
        Ok(())
    }

    fn write(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for hash in &self.webtransport_certhashes {
            field(&mut out, 1, hash);
        }
        for name in &self.stream_muxers {
            field(&mut out, 2, name.as_bytes());
        }
        out
    }
}

fn push<T>(list: &mut Vec<T>, entry: T, what: &'static str) -> Result<(), NoiseError> {
    if list.len() == MOST_ENTRIES {
        let most = MOST_ENTRIES;
        return Err(NoiseError::TooMany { what, most });
    }
    list.push(entry);
    Ok(())
}

/// A field's value; only bytes matter here.
enum Value<'a> {
    Bytes(&'a [u8]),
    Other,
}

/// The next field's number and value, `None` at the end.
fn next<'a>(
    bytes: &mut &'a [u8],
    place: &'static str,
) -> Result<Option<(u64, Value<'a>)>, NoiseError> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let read = |bytes: &mut &'a [u8]| {
        let tag = varint(bytes)?;
        let value = match tag & 7 {
            VARINT => varint(bytes).map(|_| Value::Other),
            FIXED_64 => take(bytes, 8).map(|_| Value::Other),
            FIXED_32 => take(bytes, 4).map(|_| Value::Other),
            BYTES => {
                let length = usize::try_from(varint(bytes)?).ok()?;
                take(bytes, length).map(Value::Bytes)
            }
            _ => None,
        };
        Some((tag >> 3, value?))
    };
    read(bytes).map(Some).ok_or(NoiseError::Malformed(place))
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let &[byte] = take(bytes, 1)? else {
            return None;
        };
        // The tenth byte has room for one bit.
        if shift == 63 && byte > 1 {
            return None;
        }
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}

fn field(out: &mut Vec<u8>, number: u8, contents: &[u8]) {
    out.push(number << 3 | BYTES as u8);
    let mut length = contents.len();
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(contents);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn full() -> Payload {
        Payload {
            identity_key: vec![1; 36],
            identity_sig: vec![2; 200],
            extensions: Extensions {
                webtransport_certhashes: vec![vec![3; 34]; 3],
                stream_muxers: vec!["/yamux/1.0.0".into()],
            },
        }
    }

    #[test]
    fn a_payload_survives_the_wire() {
        for payload in [full(), Payload::default()] {
            assert_eq!(Payload::read(&payload.write()).expect("a payload"), payload);
        }
    }

    /// Made by py-libp2p 0.8.1, whose `early_data` is field 3 of the extensions.
    #[test]
    fn the_payload_of_another_implementation_is_read() {
        let key = "0801122003a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8";
        let bytes = [
            &[0x0a, 36][..],
            &hex::decode(key).expect("hex"),
            &[0x12, 64],
            &[0; 64],
            &[0x22, 93, 0x0a, 34, 0x12, 32],
            &[1; 32],
            &[0x0a, 34, 0x12, 32],
            &[2; 32],
            b"\x12\x0c/yamux/1.0.0\x1a\x05early",
        ]
        .concat();
        let payload = Payload::read(&bytes).expect("a payload");
        assert_eq!(hex::encode(payload.identity_key), key);
        assert_eq!(payload.identity_sig, [0; 64]);
        let hashes = payload.extensions.webtransport_certhashes;
        let hash = |value| [&[0x12, 32][..], &[value; 32]].concat();
        assert_eq!(hashes, [hash(1), hash(2)]);
        assert_eq!(payload.extensions.stream_muxers, ["/yamux/1.0.0"]);
    }

    #[test]
    fn unknown_fields_are_skipped_and_extensions_are_joined() {
        let bytes = [
            // Fields 3, 5, 6 and 7, which nobody knows, of every wire type.
            &[0x18, 0x96, 0x01][..],
            &[0x29, 1, 2, 3, 4, 5, 6, 7, 8],
            &[0x32, 2, 0xff, 0xff],
            &[0x3d, 1, 2, 3, 4],
            &full().write(),
            &[0x22, 6, 0x0a, 1, 9, 0x1a, 1, 0],
            &[0x12, 1, 7],
        ]
        .concat();
        let mut expected = full();
        expected.identity_sig = vec![7];
        expected.extensions.webtransport_certhashes.push(vec![9]);
        assert_eq!(Payload::read(&bytes).expect("a payload"), expected);
    }

    #[test]
    fn what_is_no_payload_is_refused() {
        for bytes in [
            &[0x0a][..],
            &[0x0a, 2, 0],
            &[0x08, 1],
            &[0x22, 2, 0x08, 1],
            &[0x22, 3, 0x12, 1, 0xff],
            &[0x0b, 0],
            &[
                0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2,
            ],
            &[0xff; 11],
        ] {
            let error = Payload::read(bytes).expect_err("no payload");
            assert!(matches!(error, NoiseError::Malformed(_)), "{bytes:02x?}");
        }
    }

    #[test]
    fn lists_have_a_limit() {
        let mut payload = full();
        payload.extensions.webtransport_certhashes = vec![vec![3; 34]; MOST_ENTRIES];
        Payload::read(&payload.write()).expect("the limit");
        payload.extensions.webtransport_certhashes.push(vec![]);
        let error = Payload::read(&payload.write()).expect_err("too many");
        assert_eq!(
            error.to_string(),
            "the peer's Noise payload has more than 16 certificate hashes"
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_payload_or_an_error(bytes: Vec<u8>) {
            if let Ok(payload) = Payload::read(&bytes) {
                let again = Payload::read(&payload.write()).expect("what was written");
                prop_assert_eq!(again, payload);
            }
        }
    }
}
