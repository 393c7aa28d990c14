//! The certificates that browsers accept by their hash, derived from the host key and the time.
//!
//! Browsers take a certificate of no authority only if it is valid for at most 14 days and its key is on P-256
//! (W3C WebTransport, "custom certificate requirements"). The same host key gives the same certificates in every
//! process, so that an address with their hashes stays true after a restart. libp2p webtransport spec, "Certificates".

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use p256::ecdsa::signature::Signer;
use p256::ecdsa::{DerSignature, SigningKey};
use p256::pkcs8::EncodePrivateKey;
use parking_lot::Mutex;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, ExtendedKeyUsagePurpose, IsCa,
    KeyUsagePurpose, PublicKeyData,
};
use ring::digest::{SHA256, digest};
use rustls::crypto::aws_lc_rs::sign;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::time_provider::TimeProvider;

use crate::error::IdentityError;
use crate::identity::Identity;

/// How long a certificate is valid: the longest time that browsers take.
pub(super) const VALIDITY: u64 = 14 * 24 * 60 * 60;

/// How wrong a peer's clock may be: a certificate is presented from so long after its validity begins until so
/// long before it ends. go-libp2p allows the same.
const CLOCK_SKEW: u64 = 60 * 60;

/// How long a certificate is presented. Neighbors overlap by twice the skew.
const PERIOD: u64 = VALIDITY - 2 * CLOCK_SKEW;

/// Times after 9999-12-31T23:59:59Z cannot be written (RFC 5280 section 4.1.2.5): later than this, the next
/// certificate's end would be.
const LATEST: u64 = 253_402_300_799 - 2 * VALIDITY;

/// A machine without a clock begins in 1970. Earlier times than this would need certificates of before.
const EARLIEST: u64 = 2 * VALIDITY;

/// How many certificates are kept: the previous, the current and the next.
const KEPT: u64 = 3;

/// SHA-256 of 32 bytes, as a multihash begins. <https://multiformats.io/multihash/>
const SHA256_MULTIHASH: [u8; 2] = [0x12, 0x20];

/// The multihash of a certificate's DER, SHA-256: a multiaddr's `certhash` before its base is added.
pub type CertificateHash = [u8; 34];

/// The web certificates of one identity, and the time by which one of them is presented.
pub struct WebCertificates {
    identity: Identity,
    /// When the period 0 begins, in seconds since 1970. It differs among identities, so that the nodes of a network
    /// do not all renew their certificates at the same moment.
    offset: u64,
    now: Box<dyn Fn() -> UnixTime + Send + Sync>,
    made: Mutex<Vec<Arc<WebCertificate>>>,
}

/// A certificate of one period.
pub struct WebCertificate {
    period: u64,
    hash: CertificateHash,
    certified_key: Arc<CertifiedKey>,
}

impl WebCertificates {
    /// The certificates of `identity`, presented at the times that `now` returns. Nothing is made yet.
    pub fn new(identity: &Identity, now: impl Fn() -> UnixTime + Send + Sync + 'static) -> Self {
        let [a, b, c, d, ..] = identity.derive_secret("webtransport certificate offset");
        Self {
            identity: identity.clone(),
            offset: u64::from(u32::from_be_bytes([a, b, c, d])) % PERIOD,
            now: Box::new(now),
            made: Mutex::default(),
        }
    }

    /// The certificate that is presented at this time.
    ///
    /// # Errors
    ///
    /// [`IdentityError`] when the certificate cannot be made.
    pub fn current(&self, time: UnixTime) -> Result<Arc<WebCertificate>, IdentityError> {
        self.of(self.period(time))
    }

    /// The hashes for the node's addresses at this time: those of the current and the next certificate. An address
    /// with them is true for one period at least.
    ///
    /// # Errors
    ///
    /// [`IdentityError`] when a certificate cannot be made.
    pub fn advertised(&self, time: UnixTime) -> Result<[CertificateHash; 2], IdentityError> {
        let period = self.period(time);
        Ok([self.of(period)?.hash, self.of(period + 1)?.hash])
    }

    /// The hashes that the node confirms in Noise at this time: those of the previous, the current and the next
    /// certificate, because a dialer's address may be a period old.
    ///
    /// # Errors
    ///
    /// [`IdentityError`] when a certificate cannot be made.
    pub fn confirmed(&self, time: UnixTime) -> Result<[CertificateHash; 3], IdentityError> {
        let previous = self.of(self.period(time) - 1)?.hash;
        let [current, next] = self.advertised(time)?;
        Ok([previous, current, next])
    }

    /// The time by which certificates are presented.
    pub(crate) fn time(&self) -> UnixTime {
        (self.now)()
    }

    /// When the certificate that is presented at this time is replaced, in seconds since 1970.
    pub fn renewal(&self, time: UnixTime) -> u64 {
        self.not_before(self.period(time) + 1) + CLOCK_SKEW
    }

    fn period(&self, time: UnixTime) -> u64 {
        let seconds = time.as_secs().clamp(EARLIEST, LATEST);
        (seconds - CLOCK_SKEW - self.offset) / PERIOD
    }

    fn not_before(&self, period: u64) -> u64 {
        self.offset + period * PERIOD
    }

    fn of(&self, period: u64) -> Result<Arc<WebCertificate>, IdentityError> {
        let mut made = self.made.lock();
        if let Some(known) = made.iter().find(|known| known.period == period) {
            return Ok(Arc::clone(known));
        }
        let new = Arc::new(self.make(period)?);
        made.retain(|old| old.period.abs_diff(period) < KEPT);
        made.push(Arc::clone(&new));
        Ok(new)
    }

    fn make(&self, period: u64) -> Result<WebCertificate, IdentityError> {
        let key = self.key(period);
        let mut params = CertificateParams::default();
        let begins = Duration::from_secs(self.not_before(period));
        params.not_before = rcgen::date_time_ymd(1970, 1, 1) + begins;
        params.not_after = params.not_before + Duration::from_secs(VALIDITY);
        // Chromium wants the form of an authority's certificate. The serial number is rcgen's, a hash of the key.
        params.distinguished_name = DistinguishedName::new();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyCertSign,
        ];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let certificate = params.self_signed(&key).map_err(failed)?;
        let pkcs8 = key.secret.to_pkcs8_der().map_err(failed)?;
        let signing = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(pkcs8.as_bytes()));
        let signing = sign::any_supported_type(&signing).map_err(failed)?;
        Ok(WebCertificate {
            period,
            hash: hash_of(certificate.der()),
            certified_key: Arc::new(CertifiedKey::new(vec![certificate.into()], signing)),
        })
    }

    /// The key of one period. Keys of different periods have nothing in common that can be seen.
    fn key(&self, period: u64) -> CertificateKey {
        // One secret in 2^32 is not below the group's order.
        for attempt in 0_u32.. {
            let label = format!("webtransport certificate key {period} {attempt}");
            if let Ok(secret) = SigningKey::from_slice(&self.identity.derive_secret(&label)) {
                let point = secret.verifying_key().to_sec1_point(false);
                return CertificateKey {
                    point: point.as_bytes().to_vec(),
                    secret,
                };
            }
        }
        unreachable!("4 294 967 296 secrets above the order of P-256")
    }
}

impl fmt::Debug for WebCertificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WebCertificates")
            .field(&self.identity.peer_id())
            .finish()
    }
}

/// Dials use the same clock.
impl TimeProvider for WebCertificates {
    fn current_time(&self) -> Option<UnixTime> {
        Some(self.time())
    }
}

/// A handshake gets the certificate of its time. Connections that exist keep theirs.
impl ResolvesServerCert for WebCertificates {
    fn resolve(&self, _client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        match self.current(self.time()) {
            Ok(certificate) => Some(Arc::clone(&certificate.certified_key)),
            Err(error) => {
                tracing::warn!("a browser is refused: {error}");
                None
            }
        }
    }
}

impl WebCertificate {
    /// The certificate's DER.
    pub fn der(&self) -> &[u8] {
        self.certified_key.cert.first().map_or(&[], |der| der)
    }

    /// The multihash of the DER.
    pub fn hash(&self) -> CertificateHash {
        self.hash
    }
}

impl fmt::Debug for WebCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebCertificate")
            .field("period", &self.period)
            .finish_non_exhaustive()
    }
}

/// The multihash of a certificate's DER.
pub(super) fn hash_of(der: &[u8]) -> CertificateHash {
    let mut hash = [0; 34];
    let (prefix, value) = hash.split_at_mut(SHA256_MULTIHASH.len());
    prefix.copy_from_slice(&SHA256_MULTIHASH);
    value.copy_from_slice(digest(&SHA256, der).as_ref());
    hash
}

fn failed(error: impl Error + Send + Sync + 'static) -> IdentityError {
    IdentityError::new("cannot make a WebTransport certificate", error)
}

/// A key on P-256 whose signature of the same bytes is the same each time (RFC 6979), unlike that of AWS-LC and ring.
struct CertificateKey {
    secret: SigningKey,
    /// Uncompressed.
    point: Vec<u8>,
}

impl PublicKeyData for CertificateKey {
    fn der_bytes(&self) -> &[u8] {
        &self.point
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

impl rcgen::SigningKey for CertificateKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let signature: DerSignature = self
            .secret
            .try_sign(message)
            .map_err(|_| rcgen::Error::RemoteKeyError)?;
        Ok(signature.as_bytes().to_vec())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use libp2p_identity::Keypair;
    use rustls::quic::{ClientConnection, ServerConnection, Version};
    use x509_parser::prelude::{FromDer, X509Certificate};

    use super::*;
    use crate::tls::{Tls, browser};

    /// 2026-11-29T00:00:00Z.
    const NOW: u64 = 1_795_910_400;

    fn at(seconds: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(seconds))
    }

    fn seeded(seed: u8) -> Identity {
        let keypair = Keypair::ed25519_from_bytes([seed; 32]).expect("a key");
        let bytes = keypair.to_protobuf_encoding().expect("an encoding");
        Identity::from_protobuf(&bytes).expect("an identity")
    }

    fn certificates(seed: u8) -> WebCertificates {
        WebCertificates::new(&seeded(seed), || at(NOW))
    }

    fn validity(certificate: &WebCertificate) -> (u64, u64) {
        let (rest, parsed) = X509Certificate::from_der(certificate.der()).expect("a certificate");
        assert!(rest.is_empty());
        let seconds = |time: x509_parser::time::ASN1Time| time.timestamp() as u64;
        let validity = parsed.validity();
        (seconds(validity.not_before), seconds(validity.not_after))
    }

    #[test]
    fn the_form_is_what_browsers_want() {
        let certificate = certificates(1).current(at(NOW)).expect("a certificate");
        let (_, parsed) = X509Certificate::from_der(certificate.der()).expect("a certificate");
        assert_eq!(parsed.version(), x509_parser::x509::X509Version::V3);
        assert_eq!(parsed.subject().iter().count(), 0);
        assert_eq!(parsed.issuer().iter().count(), 0);

        let basic = parsed.basic_constraints().expect("one").expect("one");
        assert!(basic.critical && basic.value.ca);
        assert_eq!(basic.value.path_len_constraint, None);
        let usage = parsed.key_usage().expect("one").expect("one").value;
        assert_eq!(usage.flags, 1 | 1 << 5, "digitalSignature and keyCertSign");
        let extended = parsed
            .extended_key_usage()
            .expect("one")
            .expect("one")
            .value;
        assert!(extended.server_auth && extended.client_auth && extended.other.is_empty());

        let key = &parsed.public_key().algorithm;
        assert_eq!(key.algorithm.to_id_string(), "1.2.840.10045.2.1");
        let curve = key.parameters.as_ref().expect("a curve").as_oid();
        assert_eq!(curve.expect("a name").to_id_string(), "1.2.840.10045.3.1.7");
        let signature = parsed.signature_algorithm.algorithm.to_id_string();
        assert_eq!(signature, "1.2.840.10045.4.3.2", "ecdsa-with-SHA256");
    }

    #[test]
    fn the_certificate_is_signed_by_its_key_and_its_hash_is_of_all_of_it() {
        let certificate = certificates(1).current(at(NOW)).expect("a certificate");
        let (_, parsed) = X509Certificate::from_der(certificate.der()).expect("a certificate");
        let signed = parsed.tbs_certificate.as_ref();
        let key = ring::signature::UnparsedPublicKey::new(
            &ring::signature::ECDSA_P256_SHA256_ASN1,
            parsed.public_key().subject_public_key.data.as_ref(),
        );
        key.verify(signed, &parsed.signature_value.data)
            .expect("its own signature");
        let expected = digest(&SHA256, certificate.der());
        assert_eq!(certificate.hash()[..2], [0x12, 0x20]);
        assert_eq!(&certificate.hash()[2..], expected.as_ref());
    }

    /// An address that was published before an update must be true after it.
    #[test]
    fn a_restarted_or_updated_node_has_the_same_certificates() {
        let first = certificates(1);
        let der = |made: &WebCertificates| {
            let current = made.current(at(NOW)).expect("a certificate");
            current.der().to_vec()
        };
        assert_eq!(der(&first), der(&certificates(1)));
        let again = first.confirmed(at(NOW)).expect("hashes");
        assert_eq!(certificates(1).confirmed(at(NOW)).expect("hashes"), again);
        let expected = "1220cd3456ee7bb68a3357b37075145aecfe7d7d23b803ec25a99c97083d0813af60";
        assert_eq!(hex::encode(again[1]), expected);
    }

    #[test]
    fn identities_and_periods_have_different_keys() {
        let mut keys = vec![];
        for seed in 1..=3 {
            let made = certificates(seed);
            for period in 0..3 {
                let certificate = made.current(at(NOW + period * PERIOD)).expect("one");
                let (_, parsed) = X509Certificate::from_der(certificate.der()).expect("one");
                keys.push(parsed.public_key().raw.to_vec());
            }
        }
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), 9);
        assert_ne!(certificates(1).offset, certificates(2).offset);
    }

    #[test]
    fn clocks_may_be_wrong_by_an_hour_at_any_time() {
        for seed in 1..=3 {
            let made = certificates(seed);
            for hour in 0..=2 * VALIDITY / 3600 {
                let now = NOW + hour * 3600 + hour;
                let certificate = made.current(at(now)).expect("a certificate");
                let (begin, end) = validity(&certificate);
                assert_eq!(end - begin, 14 * 24 * 3600);
                assert!(begin + 3600 <= now && now <= end - 3600, "hour {hour}");
            }
        }
    }

    #[test]
    fn the_next_certificate_follows_to_the_second() {
        let made = certificates(1);
        let current = made.current(at(NOW)).expect("a certificate");
        let renewal = made.renewal(at(NOW));
        assert!((NOW + 1..=NOW + PERIOD).contains(&renewal));
        let last = made.current(at(renewal - 1)).expect("a certificate");
        assert_eq!(last.hash(), current.hash());
        let next = made.current(at(renewal)).expect("a certificate");
        assert_ne!(next.hash(), current.hash());
        assert_eq!(made.renewal(at(renewal)), renewal + PERIOD);

        let (begin, end) = validity(&current);
        assert_eq!(end - 3600, renewal);
        assert_eq!(validity(&next), (begin + PERIOD, end + PERIOD));
        assert_eq!(
            made.advertised(at(NOW)).expect("hashes"),
            [current.hash(), next.hash()]
        );
        // An address from the last second of a period is confirmed until the next one's end.
        let confirmed = made.confirmed(at(renewal + PERIOD - 1)).expect("hashes");
        assert_eq!(confirmed[..2], [current.hash(), next.hash()]);
    }

    #[test]
    fn a_clock_that_is_far_off_does_no_harm() {
        for seconds in [0, 1, EARLIEST, LATEST, LATEST + 1, u64::MAX] {
            let made = certificates(1);
            let hashes = made.confirmed(at(seconds)).expect("hashes");
            assert_ne!(hashes[0], hashes[1]);
            let (begin, end) = validity(&made.current(at(seconds)).expect("one"));
            assert_eq!(end - begin, VALIDITY);
        }
    }

    #[test]
    fn few_certificates_are_kept() {
        let made = certificates(1);
        for period in 0..20 {
            made.confirmed(at(NOW + period * PERIOD)).expect("hashes");
            assert!(made.made.lock().len() <= 5);
        }
    }

    #[test]
    fn the_clock_chooses_what_a_handshake_gets() {
        let time = Arc::new(AtomicU64::new(NOW));
        let clock = Arc::clone(&time);
        let now = move || at(clock.load(Ordering::Relaxed));
        let tls = Tls::new(&seeded(1), now).expect("a configuration");
        let made = certificates(1);
        let presented = || {
            let mut server =
                ServerConnection::new(Arc::clone(&tls.h3), Version::V1, vec![]).expect("a server");
            let name = "localhost".try_into().expect("a name");
            let mut client = ClientConnection::new(browser::config(), Version::V1, name, vec![])
                .expect("a client");
            let mut bytes = vec![];
            client.write_hs(&mut bytes);
            server.read_hs(&bytes).expect("an offer of h3");
            loop {
                let mut bytes = vec![];
                let keys_changed = server.write_hs(&mut bytes).is_some();
                client.read_hs(&bytes).expect("a good answer");
                if bytes.is_empty() && !keys_changed {
                    break;
                }
            }
            let chain = client.peer_certificates().expect("a certificate");
            chain.iter().map(|one| one.to_vec()).collect::<Vec<_>>()
        };
        let current = made.current(at(NOW)).expect("a certificate");
        assert_eq!(presented(), [current.der()]);
        time.store(made.renewal(at(NOW)), Ordering::Relaxed);
        let next = made.current(at(NOW + PERIOD)).expect("a certificate");
        assert_eq!(presented(), [next.der()]);
        assert_ne!(next.der(), current.der());
    }
}
