//! What a connection needs to prove identities over WebTransport.

use std::sync::Arc;

use crate::{
    identity::{Identity, PeerId},
    tls::{CertificateHash, WebCertificates},
};

/// Who this side is, and whom it wants at the other end.
pub(crate) enum Setup {
    Listener {
        identity: Identity,
        certificates: Arc<WebCertificates>,
    },
    Dialer {
        identity: Identity,
        /// The peer that must answer; `None` for any.
        expected: Option<PeerId>,
        /// Those of the dialed address.
        hashes: Vec<CertificateHash>,
        /// The host and port of the request.
        authority: String,
    },
}
