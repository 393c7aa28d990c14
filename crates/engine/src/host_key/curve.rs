//! The curves of ECDSA host keys, and how keys name them in DER.
//!
//! Points and scalars are not checked here.

use std::fmt::Write as _;

use aws_lc_rs::signature::{
    ECDSA_P384_SHA256_ASN1, ECDSA_P521_SHA256_ASN1, EcdsaVerificationAlgorithm,
};

use crate::der::{
    BIT_STRING, INTEGER, NotDer, OBJECT_IDENTIFIER, OCTET_STRING, Reader, SEQUENCE, write,
};

/// 1.2.840.10045.2.1, id-ecPublicKey. RFC 5480 section 2.1.1.
const EC_PUBLIC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
/// 1.2.840.10045.3.1.7. RFC 5480 section 2.1.1.1.
const SECP256R1: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
/// 1.3.132.0.34
const SECP384R1: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];
/// 1.3.132.0.35
const SECP521R1: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x23];

/// `[0] parameters` of an `ECPrivateKey`.
const PARAMETERS: u8 = 0xa0;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Curve {
    P256,
    P384,
    P521,
}

/// Why no supported curve was found in a DER key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CurveError {
    #[error("not a SubjectPublicKeyInfo (RFC 5480) with a named curve")]
    NotPublic,
    #[error("not an ECPrivateKey (RFC 5915) with a named curve")]
    NotPrivate,
    #[error("curve {0} is none of P-256, P-384 and P-521")]
    Unknown(String),
}

impl Curve {
    /// How a public key on this curve verifies: libp2p hashes with SHA-256 for every curve (libp2p
    /// peer-ids spec, "ECDSA"). `None` for P-256, which libp2p-identity verifies.
    pub(super) fn verification(self) -> Option<&'static EcdsaVerificationAlgorithm> {
        match self {
            Self::P256 => None,
            Self::P384 => Some(&ECDSA_P384_SHA256_ASN1),
            Self::P521 => Some(&ECDSA_P521_SHA256_ASN1),
        }
    }

    fn oid(self) -> &'static [u8] {
        match self {
            Self::P256 => SECP256R1,
            Self::P384 => SECP384R1,
            Self::P521 => SECP521R1,
        }
    }

    fn named(oid: &[u8]) -> Result<Self, CurveError> {
        [Self::P256, Self::P384, Self::P521]
            .into_iter()
            .find(|curve| curve.oid() == oid)
            .ok_or_else(|| CurveError::Unknown(dotted(oid)))
    }

    /// Bytes of a scalar or coordinate.
    const fn size(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
            Self::P521 => 66,
        }
    }
}

/// The curve and the point of a `SubjectPublicKeyInfo`.
pub(super) fn of_public(der: &[u8]) -> Result<(Curve, &[u8]), CurveError> {
    let read = || {
        let mut outer = Reader::new(der);
        let mut info = outer.sequence()?;
        outer.end()?;
        let mut algorithm = info.sequence()?;
        if algorithm.value(OBJECT_IDENTIFIER)?.contents != EC_PUBLIC_KEY {
            return Err(NotDer);
        }
        let curve = algorithm.value(OBJECT_IDENTIFIER)?.contents;
        algorithm.end()?;
        let point = info.bit_string()?;
        info.end()?;
        Ok((curve, point))
    };
    let (curve, point) = read().map_err(|NotDer| CurveError::NotPublic)?;
    Ok((Curve::named(curve)?, point))
}

/// The `SubjectPublicKeyInfo` of a point.
pub(super) fn public_info(curve: Curve, point: &[u8]) -> Vec<u8> {
    let algorithm = [EC_PUBLIC_KEY, curve.oid()].map(|oid| write(OBJECT_IDENTIFIER, oid));
    let bits = write(BIT_STRING, &[&[0], point].concat());
    write(
        SEQUENCE,
        &[write(SEQUENCE, &algorithm.concat()), bits].concat(),
    )
}

/// The curve of an `ECPrivateKey`: the named one, or else the one with the scalar's length.
pub(super) fn of_private(der: &[u8]) -> Result<Curve, CurveError> {
    let read = || {
        let mut fields = Reader::new(der).sequence()?;
        if fields.value(INTEGER)?.contents != [1] {
            return Err(NotDer);
        }
        let scalar = fields.value(OCTET_STRING)?.contents;
        let name = match fields.optional(PARAMETERS)? {
            None => None,
            Some(value) => Some(
                Reader::new(value.contents)
                    .value(OBJECT_IDENTIFIER)?
                    .contents,
            ),
        };
        Ok((scalar.len(), name))
    };
    match read().map_err(|NotDer| CurveError::NotPrivate)? {
        (_, Some(oid)) => Curve::named(oid),
        (length, None) => [Curve::P256, Curve::P384, Curve::P521]
            .into_iter()
            .find(|curve| curve.size() == length)
            .ok_or(CurveError::NotPrivate),
    }
}

/// An object identifier in dotted form. The input is the peer's and may be invalid.
fn dotted(oid: &[u8]) -> String {
    let mut text = String::new();
    let mut arc = 0_u64;
    for &byte in oid {
        arc = arc << 7 | u64::from(byte & 0x7f);
        if byte < 0x80 {
            if text.is_empty() {
                let first = (arc / 40).min(2);
                let _ = write!(text, "{first}.{}", arc - first * 40);
            } else {
                let _ = write!(text, ".{arc}");
            }
            arc = 0;
        }
    }
    text
}
