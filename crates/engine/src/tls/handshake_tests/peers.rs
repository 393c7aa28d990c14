//! Authentication of peers: certificates that are accepted, and each reason to refuse one.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::signature;
use libp2p_identity::Keypair;
use quinn_proto::Side;
use quinn_proto::transport_parameters::TransportParameters;
use rustls::AlertDescription;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};

use super::forge::{self, Forge, Key};
use super::{
    Failure, V1, connection_pair, foreign_client, foreign_server, our_provider, ours, presenting,
    run_sessions, tls,
};
use crate::identity::Identity;
use crate::tls::certificate::CertificateError;
use crate::tls::verifier::PeerVerifier;
use crate::tls::{Refusal, Verdict, peer_public_key};

#[test]
fn both_ends_learn_the_peer_id_for_all_host_key_types() {
    let rsa = forge::rsa_host_protobuf(aws_lc_rs::rsa::KeySize::Rsa2048);
    let long_rsa = forge::large_rsa_host_protobuf();
    let p384 = forge::ecdsa_host_protobuf(&signature::ECDSA_P384_SHA384_ASN1_SIGNING);
    let p521 = forge::ecdsa_host_protobuf(&signature::ECDSA_P521_SHA512_ASN1_SIGNING);
    let identities = [
        Keypair::generate_ed25519().to_protobuf_encoding(),
        Keypair::generate_secp256k1().to_protobuf_encoding(),
        Keypair::generate_ecdsa().to_protobuf_encoding(),
        Ok(rsa),
        Ok(long_rsa),
        Ok(p384),
        Ok(p521),
    ]
    .map(|key| Identity::from_protobuf(&key.expect("a key")).expect("an identity"));

    for (dialer, listener) in identities.iter().zip(identities.iter().cycle().skip(1)) {
        let (client, verdict) = tls(dialer).client(Some(listener.peer_id()));
        let parameters = TransportParameters::read(Side::Client, &mut &[][..]).expect("defaults");
        let mut client = client
            .start_session(V1, "libp2p", &parameters)
            .expect("a session");
        let mut server = tls(listener).server(false).start_session(V1, &parameters);
        assert_eq!(peer_public_key(&*client), None, "before the handshake");
        run_sessions(&mut *client, &mut *server);

        assert!(!client.is_handshaking() && !server.is_handshaking());
        assert_eq!(
            peer_public_key(&*client).as_ref(),
            Some(listener.public_key())
        );
        assert_eq!(
            peer_public_key(&*server).as_ref(),
            Some(dialer.public_key())
        );
        assert_eq!(verdict.refusal(), None);
    }
}

#[test]
fn another_peer_than_the_one_dialed_is_refused() {
    let listener = Identity::generate();
    let expected = Identity::generate().peer_id();
    let (client, verdict) = ours().rustls_client(Some(expected));
    let failure = connection_pair(client, Arc::clone(&tls(&listener).server)).failure();

    assert!(!failure.by_server);
    assert!(
        failure.text.contains("Peer ID mismatch"),
        "{}",
        failure.text
    );
    assert_eq!(failure.alert, Some(AlertDescription::CertificateUnknown));
    let actual = listener.peer_id();
    assert_eq!(
        verdict.refusal(),
        Some(&Refusal::PeerIdMismatch { expected, actual })
    );
}

#[test]
fn a_peer_that_connects_again_is_verified_as_at_first() {
    let (host, key) = (Keypair::generate_ed25519(), Key::p256());
    let peer = host.public().to_peer_id();
    let der = Forge::new(&key, &host).build();
    let server = foreign_server(our_provider(), presenting(vec![der.clone()], &key));
    let ours = ours();
    for _ in 0..2 {
        let (client, verdict) = ours.rustls_client(Some(peer));
        let outcome = connection_pair(client, Arc::clone(&server)).handshake();
        outcome.expect("a handshake");
        assert_eq!(verdict.refusal(), None);
    }
    // The id is compared in each dial.
    let expected = Identity::generate().peer_id();
    let (client, verdict) = ours.rustls_client(Some(expected));
    connection_pair(client, Arc::clone(&server)).failure();
    let actual = peer;
    assert_eq!(
        verdict.refusal(),
        Some(&Refusal::PeerIdMismatch { expected, actual })
    );
    // Another peer that presents the known certificate has not its private key.
    let thief = foreign_server(our_provider(), presenting(vec![der], &Key::p256()));
    let (client, _) = ours.rustls_client(Some(peer));
    let failure = connection_pair(client, thief).failure();
    assert!(!failure.by_server);
    assert_eq!(failure.alert, Some(AlertDescription::DecryptError));
}

#[test]
fn a_known_certificate_expires() {
    let (host, key) = (Keypair::generate_ed25519(), Key::p256());
    let der = CertificateDer::from(Forge::new(&key, &host).build());
    let verifier = PeerVerifier::any_peer(Arc::default());
    let name = ServerName::try_from("libp2p.invalid").expect("a name");
    let verify = |now| {
        let verifier: &dyn ServerCertVerifier = &verifier;
        verifier.verify_server_cert(&der, &[], &name, &[], now)
    };
    verify(UnixTime::now()).expect("it is valid");
    let late = UnixTime::since_unix_epoch(Duration::from_secs(1 << 40));
    assert_eq!(
        verify(late).expect_err("it has expired"),
        rustls::Error::InvalidCertificate(rustls::CertificateError::Expired)
    );
}

/// What happens when a listener presents this chain.
fn listener_presents(chain: Vec<Vec<u8>>, key: &Key) -> (Result<(), Failure>, Verdict) {
    let (client, verdict) = ours().rustls_client(None);
    let server = foreign_server(our_provider(), presenting(chain, key));
    (connection_pair(client, server).handshake(), verdict)
}

/// What happens when a dialer presents this chain.
fn dialer_presents(chain: Vec<Vec<u8>>, key: &Key) -> Result<(), Failure> {
    let client = foreign_client(our_provider(), Some(presenting(chain, key)));
    connection_pair(client, Arc::clone(&ours().server)).handshake()
}

#[test]
fn certificates_of_every_kind_are_taken_from_both_roles() {
    let host = Keypair::generate_ed25519();
    for key in [
        Key::p256(),
        Key::p384(),
        Key::p521(),
        Key::ed25519(),
        Key::rsa(),
    ] {
        let der = Forge::new(&key, &host).build();
        let (outcome, verdict) = listener_presents(vec![der.clone()], &key);
        outcome.expect("a handshake");
        assert_eq!(verdict.refusal(), None);
        dialer_presents(vec![der], &key).expect("a handshake");
    }
}

/// rust-libp2p marks it so, and webpki's own parser would refuse that.
#[test]
fn a_critical_libp2p_extension_is_taken_from_both_roles() {
    let host = Keypair::generate_ed25519();
    let key = Key::p256();
    let mut forge = Forge::new(&key, &host);
    let value = forge::signed_key(&host, &key.info);
    forge.extensions = vec![forge::extension(forge::LIBP2P_OID, true, &value)];
    let der = forge.build();
    listener_presents(vec![der.clone()], &key)
        .0
        .expect("a handshake");
    dialer_presents(vec![der], &key).expect("a handshake");
}

#[test]
fn every_refusal_has_its_alert_in_both_roles() {
    use AlertDescription::{BadCertificate, CertificateExpired, CertificateUnknown, DecryptError};

    let host = Keypair::generate_ed25519();
    let key = Key::p256();
    let good = Forge::new(&key, &host).build();
    let forged = |change: fn(&mut Forge<'_>)| {
        let mut forge = Forge::new(&key, &host);
        change(&mut forge);
        vec![forge.build()]
    };
    let cases = [
        (
            vec![good.clone(), good.clone()],
            CertificateUnknown,
            "sent 2 certificates",
        ),
        (
            forged(|forge| forge.extensions.clear()),
            CertificateUnknown,
            "lacks the libp2p extension",
        ),
        (
            forged(|forge| forge.trailing = vec![0]),
            BadCertificate,
            "malformed",
        ),
        (
            forged(|forge| {
                let unknown = forge::extension(forge::UNKNOWN_OID, true, b"?");
                forge.extensions.push(unknown);
            }),
            BadCertificate,
            "critical extension",
        ),
        (
            forged(|forge| forge.not_after = forge::time("210101000000Z")),
            CertificateExpired,
            "expired",
        ),
        (
            forged(|forge| forge.not_before = forge::time("20990101000000Z")),
            CertificateExpired,
            "valid from",
        ),
        (
            forged(|forge| forge.break_signature = true),
            DecryptError,
            "not signed by its own key",
        ),
        (
            forged(|forge| {
                let value = forge::signed_key(&Keypair::generate_ed25519(), b"another key");
                forge.extensions = vec![forge::extension(forge::LIBP2P_OID, false, &value)];
            }),
            DecryptError,
            "not signed by the host key",
        ),
    ];
    for (chain, alert, reason) in cases {
        let (outcome, verdict) = listener_presents(chain.clone(), &key);
        let failure = outcome.expect_err(reason);
        assert_eq!(
            (failure.by_server, failure.alert),
            (false, Some(alert)),
            "{reason}"
        );
        let refusal = verdict.refusal().expect("a refusal");
        assert!(refusal.to_string().contains(reason), "{refusal}");

        let failure = dialer_presents(chain, &key).expect_err(reason);
        assert_eq!(
            (failure.by_server, failure.alert),
            (true, Some(alert)),
            "{reason}"
        );
    }
}

/// The certificate is public: it must be useless without its key.
#[test]
fn a_stolen_certificate_is_refused() {
    let host = Keypair::generate_ed25519();
    let (owner, thief) = (Key::p256(), Key::p256());
    let der = Forge::new(&owner, &host).build();
    let (outcome, _) = listener_presents(vec![der.clone()], &thief);
    let failure = outcome.expect_err("a refusal");
    assert_eq!(
        (failure.by_server, failure.alert),
        (false, Some(AlertDescription::DecryptError))
    );
    let failure = dialer_presents(vec![der], &thief).expect_err("a refusal");
    assert_eq!(
        (failure.by_server, failure.alert),
        (true, Some(AlertDescription::DecryptError))
    );
}

#[test]
fn a_dialer_without_a_certificate_is_refused() {
    let client = foreign_client(our_provider(), None);
    let failure = connection_pair(client, Arc::clone(&ours().server)).failure();
    assert!(failure.by_server);
    assert_eq!(failure.alert, Some(AlertDescription::CertificateRequired));
}

#[test]
fn parallel_first_uses_of_an_identity_share_one_certificate() {
    let identity = Identity::generate();
    let certificates = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| identity.certified_key().expect("a certificate")))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("no panic").cert.clone())
            .collect::<Vec<_>>()
    });
    assert!(certificates.iter().all(|one| *one == certificates[0]));
    assert_ne!(
        certificates[0],
        Identity::generate()
            .certified_key()
            .expect("a certificate")
            .cert
    );
}

/// The other certificate errors are tested where they are made.
#[test]
fn refusals_say_what_was_wrong() {
    let error = CertificateError::ChainLength { count: 3 };
    assert_eq!(
        Refusal::from(error).to_string(),
        "the peer sent 3 certificates instead of one"
    );
}

#[test]
fn identities_of_the_long_keys_derive_lasting_secrets_too() {
    let rsa = || forge::rsa_host_protobuf(aws_lc_rs::rsa::KeySize::Rsa2048);
    let p384 = || forge::ecdsa_host_protobuf(&signature::ECDSA_P384_SHA384_ASN1_SIGNING);
    let p521 = || forge::ecdsa_host_protobuf(&signature::ECDSA_P521_SHA512_ASN1_SIGNING);
    for [key, another] in [[rsa(), rsa()], [p384(), p384()], [p521(), p521()]] {
        let identity = Identity::from_protobuf(&key).expect("an identity");
        let again = Identity::from_protobuf(&key).expect("an identity");
        let other = Identity::from_protobuf(&another).expect("an identity");
        assert_eq!(identity.derive_secret("a"), again.derive_secret("a"));
        assert_ne!(identity.derive_secret("a"), identity.derive_secret("b"));
        assert_ne!(identity.derive_secret("a"), other.derive_secret("a"));
    }
}
