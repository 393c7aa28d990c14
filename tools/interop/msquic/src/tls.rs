//! libp2p's part of TLS 1.3: the certificate with a host key, and its verification
//! (https://github.com/libp2p/specs/blob/master/tls/tls.md), both by libp2p-tls.

use std::{fs, path::PathBuf};

use libp2p_identity::{Keypair, PeerId};
use libp2p_tls::certificate;
use rustls_pki_types::CertificateDer;

use crate::Failure;

/// A certificate and its key as files, because msquic accepts only files. They are deleted with this
/// object.
pub struct Certificate {
    folder: PathBuf,
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Certificate {
    pub fn new(host: &Keypair) -> Result<Self, Failure> {
        let folder = std::env::temp_dir().join(format!("msquic-peer-{}", std::process::id()));
        fs::create_dir(&folder)?;
        let made = Certificate {
            certificate: folder.join("certificate.pem"),
            key: folder.join("key.pem"),
            folder,
        };
        let (der, key) = certificate::generate(host)?;
        fs::write(
            &made.certificate,
            pem::encode(&pem::Pem::new("CERTIFICATE", &*der)),
        )?;
        fs::write(
            &made.key,
            pem::encode(&pem::Pem::new("PRIVATE KEY", key.secret_der())),
        )?;
        Ok(made)
    }
}

impl Drop for Certificate {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.folder) {
            eprintln!("{}: {error}", self.folder.display());
        }
    }
}

/// The peer id of this certificate. An error if it is invalid, or has another peer id than `expected`.
pub fn peer_of(der: &[u8], expected: Option<PeerId>) -> Result<PeerId, Failure> {
    let peer = certificate::parse(&CertificateDer::from(der))?.peer_id();
    match expected {
        Some(expected) if expected != peer => {
            Err(format!("the peer is {peer}, not {expected}").into())
        }
        _ => Ok(peer),
    }
}
