//! Translates the checked configuration into quinn-proto's configurations for a core.
//!
//! The keys of stateless reset tokens, connection ids and Retry tokens are derived from the
//! identity, so that a restarted node can reset its predecessor's connections and accept its tokens.

#[cfg(feature = "simulation")]
use std::time::UNIX_EPOCH;
use std::{net::SocketAddr, sync::Arc, time::Duration};

use quinn_proto::{EndpointConfig, Incoming, ServerConfig, crypto, crypto::HmacKey};
use ring::{hkdf, hmac, rand};
use rustls::pki_types::UnixTime;

use crate::{
    budget::Budget,
    config::Config,
    congestion::CongestionSignals,
    dial_mode::DialMode,
    driver::{connection_ids::ConnectionIds, webtransport::Setup},
    error::{EndpointError, IdentityError},
    identity::{Identity, PeerId},
    qlog::{ConnectionLog, LatestLog, Qlog},
    receive_credit::ReceiveCredit,
    shared::ConnectionMemory,
    tls::{CertificateHash, DRAFT_29, Tls, Verdict, WebCertificates},
};

pub(crate) struct Settings {
    pub(crate) config: Config,
    pub(super) endpoint: Arc<EndpointConfig>,
    server: Arc<ServerConfig>,
    /// The cryptography of connections to listeners that offer HTTP/3 too.
    server_of_both: Arc<dyn crypto::ServerConfig>,
    /// What such connections need if HTTP/3 is agreed on.
    setup_of_listeners: Arc<Setup>,
    identity: Identity,
    tls: Tls,
    receive_credit: Arc<Budget>,
    unacked: Arc<Budget>,
    qlog: Option<Qlog>,
    #[cfg(feature = "simulation")]
    first_ids: Option<FirstIds>,
    #[cfg(feature = "simulation")]
    crypto_override: Option<CryptoOverride>,
}

/// The configuration of one dial.
pub(crate) struct DialConfig {
    pub(crate) client: quinn_proto::ClientConfig,
    /// The log of the attempt that began last; `None` if nothing is logged.
    pub(crate) log: Option<LatestLog>,
    /// Of a dial over WebTransport.
    pub(crate) setup: Option<Arc<Setup>>,
}

/// Which peer a dial wants, and how that is proven.
pub(crate) enum Wanted {
    /// By its certificate of libp2p; `None` for any peer.
    Libp2p(Option<PeerId>),
    /// Over WebTransport: by a certificate with one of these hashes, and Noise.
    WebTransport(Option<PeerId>, Vec<CertificateHash>),
}

/// Generates the original destination connection id of a dial.
#[cfg(feature = "simulation")]
pub(crate) type FirstIds = Arc<dyn Fn() -> quinn_proto::ConnectionId + Send + Sync>;

/// Wraps the cryptography of both roles.
#[cfg(feature = "simulation")]
#[derive(Clone, Copy)]
pub(crate) struct CryptoOverride {
    pub(crate) client: fn(
        Arc<dyn quinn_proto::crypto::ClientConfig>,
    ) -> Arc<dyn quinn_proto::crypto::ClientConfig>,
    pub(crate) server: fn(
        Arc<dyn quinn_proto::crypto::ServerConfig>,
    ) -> Arc<dyn quinn_proto::crypto::ServerConfig>,
}

/// Inbound handshakes that may wait for a decision. Each is decided at once, so one is enough, and
/// no datagrams are buffered for it.
const MAX_INCOMING: usize = 1;

/// The largest max_udp_payload_size (RFC 9000 section 18.2).
const LARGEST_PAYLOAD: u16 = 65_527;

/// How long a Retry token is valid: a generous bound for the round trip that a Retry costs.
const RETRY_TOKEN_LIFETIME: Duration = Duration::from_secs(15);

/// The shortest estimate for a dial for which a hole is punched: its first probe follows after three
/// times this.
const SHORTEST_INITIAL_RTT: Duration = Duration::from_millis(10);

/// The longest one: the peer has a part in its measure, and a dial with a long one sends its lost first packet too late.
const LONGEST_PUNCHED_RTT: Duration = Duration::from_secs(1);

impl Settings {
    pub(crate) fn new(identity: &Identity, config: Config) -> Result<Arc<Self>, EndpointError> {
        let seed = rand::generate(&rand::SystemRandom::new())
            .map_err(|error| IdentityError::new("cannot draw connection ids", error))?;
        let endpoint = endpoint_config(identity, &seed.expose());
        let mut settings = Self::with_endpoint(identity, config, endpoint, UnixTime::now)?;
        let config = &settings.config;
        settings.qlog = Qlog::open(config.qlog_dir.clone(), config.qlog_file_limit);
        if let Some(qlog) = &settings.qlog {
            let server = Arc::make_mut(&mut settings.server);
            server.crypto = qlog.listener(server.crypto.clone());
        }
        Ok(Arc::new(settings))
    }

    /// Settings without randomness of their own and without files, so that a run can be repeated.
    #[cfg(feature = "simulation")]
    pub(crate) fn repeatable(
        identity: &Identity,
        config: Config,
        endpoint: EndpointConfig,
        time: Arc<dyn quinn_proto::TimeSource>,
        first_ids: FirstIds,
        crypto_override: Option<CryptoOverride>,
    ) -> Result<Arc<Self>, EndpointError> {
        let wall_clock = time.clone();
        let now = move || {
            let time = wall_clock.now().duration_since(UNIX_EPOCH);
            UnixTime::since_unix_epoch(time.unwrap_or_default())
        };
        let mut settings = Self::with_endpoint(identity, config, endpoint, now)?;
        let server = Arc::make_mut(&mut settings.server);
        server.time_source(time);
        if let Some(crypto_override) = &crypto_override {
            server.crypto = (crypto_override.server)(server.crypto.clone());
            settings.server_of_both = (crypto_override.server)(settings.server_of_both);
        }
        settings.first_ids = Some(first_ids);
        settings.crypto_override = crypto_override;
        Ok(Arc::new(settings))
    }

    fn with_endpoint(
        identity: &Identity,
        config: Config,
        mut endpoint: EndpointConfig,
        now: impl Fn() -> UnixTime + Send + Sync + 'static,
    ) -> Result<Self, EndpointError> {
        config.check()?;
        let tls = Tls::new(identity, now)?;
        let mut versions = vec![QUIC_V1];
        if config.accept_draft_29 {
            versions.push(DRAFT_29);
        }
        endpoint.supported_versions(versions);
        // Our receive buffers hold any datagram, so peers may probe for the largest that the path
        // carries; quinn-proto's default allows 1472 bytes only.
        let _ = endpoint.max_udp_payload_size(LARGEST_PAYLOAD);
        let token_key = hkdf::Salt::new(hkdf::HKDF_SHA256, b"libp2p-quic retry token")
            .extract(&identity.derive_secret("retry token"));
        let mut server = ServerConfig::new(tls.server(config.accept_draft_29), Arc::new(token_key));
        server
            .migration(config.migration)
            .max_incoming(MAX_INCOMING)
            .incoming_buffer_size(0)
            .incoming_buffer_size_total(0)
            .retry_token_lifetime(RETRY_TOKEN_LIFETIME);
        let server_of_both = tls.server_of_both(config.accept_draft_29);
        Ok(Self {
            receive_credit: Budget::new(config.receive_budget),
            unacked: Budget::new(config.send_budget),
            config,
            endpoint: Arc::new(endpoint),
            server: Arc::new(server),
            server_of_both,
            setup_of_listeners: Arc::new(Setup::Listener {
                identity: identity.clone(),
                certificates: tls.certificates().clone(),
            }),
            identity: identity.clone(),
            tls,
            qlog: None,
            #[cfg(feature = "simulation")]
            first_ids: None,
            #[cfg(feature = "simulation")]
            crypto_override: None,
        })
    }

    /// A seed for random numbers that need not be secret.
    pub(super) fn seed(&self) -> u64 {
        #[cfg(feature = "simulation")]
        if let Some(first_ids) = &self.first_ids {
            let id = first_ids();
            return id.iter().fold(0, |seed, byte| seed << 8 | u64::from(*byte));
        }
        rand::generate::<[u8; 8]>(&rand::SystemRandom::new())
            .map_or(0, |seed| u64::from_le_bytes(seed.expose()))
    }

    /// A new connection's receive credit and the endpoint's budget for unacknowledged bytes.
    pub(crate) fn memory(&self) -> ConnectionMemory {
        ConnectionMemory {
            receive_credit: ReceiveCredit::new(
                self.receive_credit.clone(),
                self.config.connection_receive_window,
            ),
            unacked: self.unacked.clone(),
        }
    }

    /// The bytes charged to the budget of receive credit.
    pub(crate) fn receive_charged(&self) -> u64 {
        self.receive_credit.charged()
    }

    /// The bytes charged to the budget of unacknowledged data.
    pub(crate) fn unacked_charged(&self) -> u64 {
        self.unacked.charged()
    }

    /// The server's configuration. If `is_full`, quinn-proto drops Initial packets of new
    /// connections before it derives keys for them.
    pub(super) fn server(&self, is_full: bool) -> Arc<ServerConfig> {
        let mut server = self.server.clone();
        if is_full {
            Arc::make_mut(&mut server).max_incoming(0);
        }
        server
    }

    /// Begin the log of an inbound connection, if connections are logged.
    pub(super) fn log_of(&self, incoming: &Incoming) -> Option<Arc<ConnectionLog>> {
        self.qlog.as_ref()?.accept(incoming.orig_dst_cid())
    }

    /// Wait a moment until all logs are written.
    pub(super) fn finish_logs(&self) {
        if let Some(qlog) = &self.qlog {
            qlog.finish();
        }
    }

    /// The configuration of one accepted connection with this log, of a listener that offers HTTP/3 beside libp2p
    /// or only the latter.
    pub(super) fn server_for_connection(
        &self,
        congestion_signals: CongestionSignals,
        log: Option<&Arc<ConnectionLog>>,
        offers_h3: bool,
    ) -> Arc<ServerConfig> {
        let mut server = self.server.clone();
        let changed = Arc::make_mut(&mut server);
        let latest = log.map(|log| LatestLog::of(log.clone()));
        let transport = self.config.transport(congestion_signals, latest, offers_h3);
        changed.transport_config(transport);
        if offers_h3 {
            changed.crypto = self.server_of_both.clone();
        }
        if let (Some(qlog), Some(log)) = (&self.qlog, log) {
            changed.crypto = qlog.server(changed.crypto.clone(), log.clone());
        }
        server
    }

    /// What a connection needs that agrees on HTTP/3 with a listener which offers that.
    pub(super) fn setup_of_listeners(&self) -> &Arc<Setup> {
        &self.setup_of_listeners
    }

    /// The certificates that browsers see.
    pub(crate) fn certificates(&self) -> &WebCertificates {
        self.tls.certificates()
    }

    /// The configuration of one dial to `remote`, and the place for TLS's verdict on the peer.
    pub(crate) fn client(
        &self,
        remote: SocketAddr,
        wanted: Wanted,
        congestion_signals: CongestionSignals,
        mode: DialMode,
    ) -> (DialConfig, Verdict) {
        let ((tls, verdict), setup) = match wanted {
            Wanted::Libp2p(expected) => (self.tls.client(expected), None),
            Wanted::WebTransport(expected, hashes) => {
                let setup = Arc::new(Setup::Dialer {
                    identity: self.identity.clone(),
                    expected,
                    hashes: hashes.clone(),
                    authority: remote.to_string(),
                });
                (self.tls.h3_client(hashes), Some(setup))
            }
        };
        #[cfg(feature = "simulation")]
        let tls = match &self.crypto_override {
            Some(crypto_override) => (crypto_override.client)(tls),
            None => tls,
        };
        let log = self.qlog.as_ref().map(|_| LatestLog::default());
        let tls = match (&self.qlog, &log) {
            (Some(qlog), Some(log)) => qlog.client(tls, log.clone()),
            _ => tls,
        };
        let mut client = quinn_proto::ClientConfig::new(tls);
        let initial_rtt = match mode {
            DialMode::Punched { rtt } => rtt.clamp(SHORTEST_INITIAL_RTT, LONGEST_PUNCHED_RTT),
            _ => self.config.initial_rtt,
        };
        let config = Config {
            initial_rtt,
            ..self.config.clone()
        };
        let transport = config.transport(congestion_signals, log.clone(), setup.is_some());
        client.transport_config(transport);
        client.version(QUIC_V1);
        #[cfg(feature = "simulation")]
        if let Some(first_ids) = &self.first_ids {
            client.initial_dst_cid_provider(first_ids.clone());
        }
        (DialConfig { client, log, setup }, verdict)
    }
}

/// quinn-proto's endpoint configuration for an identity; `id_seed` as for [`ConnectionIds::new`].
pub(crate) fn endpoint_config(identity: &Identity, id_seed: &[u8; 32]) -> EndpointConfig {
    let secret = identity.derive_secret("stateless reset");
    let reset_key = hmac::Key::new(hmac::HMAC_SHA256, &secret);
    let mut endpoint = EndpointConfig::new(Arc::new(reset_key) as Arc<dyn HmacKey>);
    let ids = ConnectionIds::new(identity, id_seed);
    endpoint.cid_generator(move || Box::new(ids.clone()));
    // `reset_limit` limits the stateless resets instead.
    endpoint.min_reset_interval(Duration::ZERO);
    endpoint
}

/// QUIC version 1 (RFC 9000), libp2p's `/quic-v1`.
pub(crate) const QUIC_V1: u32 = 1;
