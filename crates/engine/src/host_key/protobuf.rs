//! The protobuf of libp2p's keys: `{ KeyType Type = 1; bytes Data = 2; }`, read and written.
//!
//! Private and public keys have the same two fields. `Data` is not interpreted here.

/// libp2p peer-ids spec, "Keys": `KeyType`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyType {
    Rsa,
    Ed25519,
    Secp256k1,
    Ecdsa,
}

/// Why the bytes are not a key's protobuf.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ProtobufError {
    #[error("not a protobuf with a key type and data")]
    Malformed,
    #[error("key type {0} is none of RSA (0), Ed25519 (1), secp256k1 (2) and ECDSA (3)")]
    UnknownType(u64),
}

/// Wire types. Groups (3 and 4) are obsolete.
const VARINT: u64 = 0;
const FIXED_64: u64 = 1;
const BYTES: u64 = 2;
const FIXED_32: u64 = 5;

/// Type and data of a key. As in protobuf, fields come in any order, unknown ones are skipped, and
/// the last of several counts; proto3 encoders omit type 0.
pub(super) fn read(mut bytes: &[u8]) -> Result<(KeyType, &[u8]), ProtobufError> {
    let mut kind = 0;
    let mut data = None;
    while !bytes.is_empty() {
        let tag = varint(&mut bytes)?;
        match (tag >> 3, tag & 7) {
            (1, VARINT) => kind = varint(&mut bytes)?,
            (2, BYTES) => data = Some(length_delimited(&mut bytes)?),
            (1 | 2, _) => return Err(ProtobufError::Malformed),
            (_, VARINT) => {
                varint(&mut bytes)?;
            }
            (_, FIXED_64) => {
                take(&mut bytes, 8)?;
            }
            (_, BYTES) => {
                length_delimited(&mut bytes)?;
            }
            (_, FIXED_32) => {
                take(&mut bytes, 4)?;
            }
            _ => return Err(ProtobufError::Malformed),
        }
    }
    let kind = match kind {
        0 => KeyType::Rsa,
        1 => KeyType::Ed25519,
        2 => KeyType::Secp256k1,
        3 => KeyType::Ecdsa,
        other => return Err(ProtobufError::UnknownType(other)),
    };
    Ok((kind, data.ok_or(ProtobufError::Malformed)?))
}

/// The one encoding that peer ids are hashes of: type first, both fields present.
pub(super) fn write(kind: KeyType, data: &[u8]) -> Vec<u8> {
    let mut out = vec![1 << 3 | VARINT as u8, kind as u8, 2 << 3 | BYTES as u8];
    let mut length = data.len();
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(data);
    out
}

fn varint(bytes: &mut &[u8]) -> Result<u64, ProtobufError> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let [byte] = *take(bytes, 1)? else {
            return Err(ProtobufError::Malformed);
        };
        // The tenth byte has room for one bit.
        if shift == 63 && byte > 1 {
            return Err(ProtobufError::Malformed);
        }
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(ProtobufError::Malformed)
}

fn length_delimited<'a>(bytes: &mut &'a [u8]) -> Result<&'a [u8], ProtobufError> {
    let length = usize::try_from(varint(bytes)?).map_err(|_| ProtobufError::Malformed)?;
    take(bytes, length)
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Result<&'a [u8], ProtobufError> {
    let (taken, rest) = bytes
        .split_at_checked(length)
        .ok_or(ProtobufError::Malformed)?;
    *bytes = rest;
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_can_be_read() {
        for length in [0, 1, 0x7f, 0x80, 0x3fff, 0x4000] {
            let data = vec![7; length];
            for kind in [
                KeyType::Rsa,
                KeyType::Ed25519,
                KeyType::Secp256k1,
                KeyType::Ecdsa,
            ] {
                assert_eq!(read(&write(kind, &data)), Ok((kind, &data[..])));
            }
        }
    }

    #[test]
    fn forms_of_other_encoders_are_read() {
        let key = Ok((KeyType::Rsa, &b"k"[..]));
        for bytes in [
            &b"\x08\x00\x12\x01k"[..],
            b"\x12\x01k",                          // proto3 leaves out a zero
            b"\x12\x01k\x08\x00",                  // the other order
            b"\x08\x03\x08\x00\x12\x01x\x12\x01k", // the last one counts
            b"\x08\x80\x00\x12\x81\x00k",          // longer than needed
            b"\x18\x05\x22\x02ab\x29abcdefgh\x35abcd\x12\x01k", // unknown fields
        ] {
            assert_eq!(read(bytes), key, "{bytes:02x?}");
        }
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for bytes in [
            &b""[..],
            b"\x08",
            b"\x08\x01",
            b"\x08\x01\x12",
            b"\x08\x01\x12\x02k",
            b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01k", // a length beyond any memory
            b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02k", // more than 64 bits
            b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01",
            b"\x0a\x01\x01\x12\x01k", // the type as bytes
            b"\x08\x01\x10\x01",      // the data as a number
            b"\x12\x01k\x1b",         // a group
        ] {
            assert_eq!(read(bytes), Err(ProtobufError::Malformed), "{bytes:02x?}");
        }
        assert_eq!(
            read(b"\x08\x04\x12\x01k"),
            Err(ProtobufError::UnknownType(4))
        );
    }
}
